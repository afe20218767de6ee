// SPDX-License-Identifier: Apache-2.0

// Package oidc verifies the tokens of OpenID Connect providers, as
// AssumeRoleWithWebIdentity takes them: JSON Web Tokens with a signature.
//
// Nothing of a token is believed that is not pinned: the issuer, the audiences and the
// algorithms come from the configuration, the keys from the issuer over TLS, or from a
// file. Addresses come from the configuration too: a token that names an unknown key
// makes this package request those of its issuer anew, at most every three minutes, or
// every fifteen seconds while there are none.
//
// Sources: RFC 7515, RFC 7517, RFC 7518, RFC 7519 and RFC 8725; OpenID Connect Core
// 1.0, section 3.1.3.7; OpenID Connect Discovery 1.0, section 4.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// An Issuer is a provider whose tokens are taken.
type Issuer struct {
	// URL is the issuer as its tokens name it in the claim iss, letter for letter:
	// https, a host in lower case, perhaps a port and a path.
	URL string
	// Audiences are what the claims aud and azp may be; at least one.
	Audiences []string
	// Algorithms are those that a token may be signed with: RS256, RS384, RS512,
	// PS256, ES256, ES384 and EdDSA. Empty: RS256.
	Algorithms []string
	// JWKSFile is a file with the keys of the issuer, which is then never asked for
	// them. It is read again as keys would be requested again. Nobody but its owner may
	// be able to write to it.
	JWKSFile string
	// JWKSURL is where the keys are, in place of what the issuer's discovery document
	// says; empty: what that says, which must have the scheme, host and port of URL.
	JWKSURL string
	// CAFile has the roots, in PEM, that the certificates of the issuer's server must
	// reach; empty: those of the system.
	CAFile string
	// InsecureLoopbackHTTP lets URL and JWKSURL be http, with an address of the
	// loopback network as the host.
	InsecureLoopbackHTTP bool
}

// Check tells what is wrong with an issuer, without a look at its files.
func (i *Issuer) Check() error {
	if err := checkURL(i.URL, i.InsecureLoopbackHTTP); err != nil {
		return err
	}
	if len(i.Audiences) == 0 || slices.Contains(i.Audiences, "") {
		return errors.New("an issuer must have audiences")
	}
	for _, alg := range i.Algorithms {
		if !slices.Contains(known, alg) {
			return fmt.Errorf("%s is none of %s", quote(alg), strings.Join(known, ", "))
		}
	}
	if i.JWKSFile != "" && (i.JWKSURL != "" || i.CAFile != "") {
		return errors.New("a file of keys has neither an address nor roots")
	}
	if i.JWKSURL != "" {
		return checkURL(i.JWKSURL, i.InsecureLoopbackHTTP)
	}
	return nil
}

// A Verifier verifies the tokens of its issuers. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]*provider
	now     func() time.Time
}

// New returns a verifier of the tokens of these issuers. now is the clock by which
// tokens begin and expire, and keys age. New reads files, and makes no request.
func New(issuers []Issuer, now func() time.Time) (*Verifier, error) {
	v := &Verifier{issuers: make(map[string]*provider, len(issuers)), now: now}
	seen := map[string]bool{}
	for i := range issuers {
		// Condition keys, which the names of claims become, ignore case.
		name := strings.ToLower(issuers[i].URL)
		if seen[name] {
			return nil, fmt.Errorf("oidc: issuer %s is there twice, case apart", issuers[i].URL)
		}
		seen[name] = true
		p, err := newProvider(issuers[i], now)
		if err != nil {
			return nil, fmt.Errorf("oidc: issuer %s: %w", issuers[i].URL, err)
		}
		v.issuers[p.issuer.URL] = p
	}
	return v, nil
}

// The codes of errors, which are those of AWS STS. Source: AWS STS API Reference,
// "AssumeRoleWithWebIdentity".
const (
	InvalidIdentityToken = "InvalidIdentityToken"
	ExpiredToken         = "ExpiredTokenException"
	IDPCommunication     = "IDPCommunicationError"
)

// An Error says why a token was not taken.
type Error struct {
	// Code is one of the codes of this package.
	Code string
	// Message is for whoever sent the token.
	Message string
	// Err is what happened on the way to the issuer's keys, for the operator; it can
	// be nil.
	Err error
}

// Error returns the message, and what happened behind it.
func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

func invalid(format string, args ...any) *Error {
	return &Error{Code: InvalidIdentityToken, Message: fmt.Sprintf(format, args...)}
}

// Verify returns the claims of a token that an issuer made for one of its audiences,
// that is signed by a key of the issuer, and that is not expired. The error is an
// [*Error].
//
// All that can be refused without the key is refused before it is looked for, so that
// what comes from nobody does not make requests.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	h, claims, err := parse(token)
	if err != nil {
		return nil, err
	}
	p := v.issuers[claims.Issuer]
	if p == nil {
		return nil, invalid("No OpenIDConnect provider found in your account for %s", quote(claims.Issuer))
	}
	if !slices.Contains(p.algorithms, jose.SignatureAlgorithm(h.alg)) {
		return nil, invalid("The token is signed with %s, which is not an algorithm of its issuer", quote(h.alg))
	}
	if err := claims.check(p.issuer.Audiences, v.now()); err != nil {
		return nil, err
	}
	keys, err := p.find(ctx, h)
	if err != nil {
		return nil, err
	}
	if !signedBy(token, h.alg, claims.payload, keys) {
		return nil, invalid("The signature of the token does not verify with the key of its issuer")
	}
	claims.Provider = p.name
	return claims, nil
}

// signedBy tells whether one of the keys, which are of the algorithm's type, signed
// this payload in the token.
func signedBy(token, alg, payload string, keys []any) bool {
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil {
		return false
	}
	return slices.ContainsFunc(keys, func(key any) bool {
		got, err := signed.Verify(key)
		return err == nil && string(got) == payload
	})
}

// known has the algorithms that an issuer may have. Those with a shared secret, and
// none, are not among them. Source: RFC 7518, section 3.1; RFC 8037, section 3.1.
var known = []string{"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"}

// urlForm is the address of an issuer: what stands behind the scheme is what the ARN of
// an OIDC provider can have.
var urlForm = regexp.MustCompile(`^https?://[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]{1,5})?(/[A-Za-z0-9._~%-]*)*$`)

// maxURL is IAM's limit for the URL of an OIDC provider.
const maxURL = 255

// checkURL refuses what is no plain address of a server. insecure permits http to the
// loopback network.
func checkURL(s string, insecure bool) error {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || !urlForm.MatchString(s) {
		return fmt.Errorf("%s must be https://HOST/PATH of at most %d characters: a host with a dot and without capitals, and only letters, digits and -._~%%/ behind it", quote(s), maxURL)
	}
	if u.Scheme == "https" {
		return nil
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if !insecure || err != nil || !ip.IsLoopback() {
		return fmt.Errorf("%s must be https", quote(s))
	}
	return nil
}

// quote returns s in quotes, cut to what fits into a message.
func quote(s string) string {
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return fmt.Sprintf("%q", s)
}
