// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json"
)

// Claims are what a verified token says.
type Claims struct {
	// Issuer is the claim iss, and Provider is it without its scheme: what stands
	// behind "oidc-provider/" in the ARN of the provider.
	Issuer, Provider string
	// Subject is the claim sub, not empty.
	Subject string
	// Audience is the claim aud, at least one value, all of them configured.
	Audience []string
	// IssuedAt and Expires are the claims iat and exp.
	IssuedAt, Expires time.Time
	// Values has the claims that are strings, numbers, booleans or lists of strings,
	// by names in lower case, as values of condition keys HOST/PATH:NAME. As AWS has
	// it, "aud" is the claim azp where there is one, and "oaud" the claim aud. Claims
	// with a colon in their name are left out.
	Values map[string][]string
	// Tags, TransitiveTagKeys and SourceIdentity are what the issuer gives the session:
	// the claims https://aws.amazon.com/tags and https://aws.amazon.com/source_identity.
	Tags              map[string]string
	TransitiveTagKeys []string
	SourceIdentity    string

	payload   string
	notBefore time.Time
	azp       string
}

const (
	maxToken  = 20000 // AssumeRoleWithWebIdentity, WebIdentityToken
	maxClaims = 100
	maxText   = 1024 // of iss, sub, aud and azp
	leeway    = 60 * time.Second

	tagsClaim   = "https://aws.amazon.com/tags"
	sourceClaim = "https://aws.amazon.com/source_identity"
)

// A header is what is used of the header of a token.
type header struct {
	alg, kid, typ string
}

var notJWT = &Error{Code: InvalidIdentityToken, Message: "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"}

// refusedHeaders change what is signed or bring keys along. Others that this package
// does not know are ignored, as RFC 7515, section 4, wants it; so are addresses of
// keys, which are never asked.
var refusedHeaders = []string{"crit", "b64", "zip", "enc", "jwk", "x5c"}

// parse reads header and claims of a token and believes neither.
func parse(token string) (header, *Claims, error) {
	parts := strings.SplitN(token, ".", 4)
	if len(token) > maxToken || len(parts) != 3 {
		return header{}, nil, notJWT
	}
	var texts [3]string
	for i, part := range parts {
		data, err := base64.RawURLEncoding.Strict().DecodeString(part)
		// The decoder passes over line breaks.
		if err != nil || len(data) == 0 || strings.ContainsAny(part, "\r\n") || i < 2 && !utf8.Valid(data) {
			return header{}, nil, notJWT
		}
		texts[i] = string(data)
	}
	h, err := parseHeader(texts[0])
	if err != nil {
		return header{}, nil, err
	}
	claims, err := parseClaims(texts[1])
	if err != nil {
		return header{}, nil, err
	}
	return h, claims, nil
}

// object reads a JSON object. Names that are there twice are refused by the decoder.
func object(text string) (map[string]json.RawMessage, bool) {
	var m map[string]json.RawMessage
	err := json.Unmarshal([]byte(text), &m)
	return m, err == nil && m != nil
}

func parseHeader(s string) (header, error) {
	m, ok := object(s)
	if !ok {
		return header{}, notJWT
	}
	for _, name := range refusedHeaders {
		if _, there := m[name]; there {
			return header{}, invalid("The header %s of the token is not supported", name)
		}
	}
	var h header
	for name, to := range map[string]*string{"alg": &h.alg, "kid": &h.kid, "typ": &h.typ} {
		raw, there := m[name]
		if there && (json.Unmarshal(raw, to) != nil || *to == "" || len(*to) > maxText) || !there && name == "alg" {
			return header{}, notJWT
		}
	}
	// Other types of an issuer's tokens, such as that of a logout, are no proof of who
	// has them. Source: RFC 8725, section 3.11.
	if typ := strings.TrimPrefix(strings.ToLower(h.typ), "application/"); typ != "" && typ != "jwt" {
		return header{}, notJWT
	}
	return h, nil
}

// parseClaims reads the claims that every token must have, and the others.
func parseClaims(payload string) (*Claims, error) {
	m, ok := object(payload)
	if !ok || len(m) > maxClaims {
		return nil, notJWT
	}
	c := &Claims{payload: payload, Values: make(map[string][]string, len(m)+1)}
	for name, raw := range m {
		key := strings.ToLower(name)
		if _, twice := c.Values[key]; twice || key == "oaud" {
			return nil, invalid("The claim %s of the token is there twice, case apart", quote(name))
		}
		c.Values[key] = values(raw)
	}
	for _, name := range []string{"iss", "sub", "aud", "exp", "iat"} {
		if m[name] == nil {
			return nil, invalid("Missing a required claim: %s", name)
		}
	}
	c.Audience = c.Values["aud"]
	texts := json.Unmarshal(m["iss"], &c.Issuer) == nil && json.Unmarshal(m["sub"], &c.Subject) == nil && plain(c.Issuer) && plain(c.Subject) &&
		len(c.Audience) > 0 && !slices.ContainsFunc(c.Audience, func(a string) bool { return !plain(a) })
	if raw := m["azp"]; raw != nil {
		texts = texts && json.Unmarshal(raw, &c.azp) == nil && plain(c.azp)
	}
	times := date(m["exp"], &c.Expires) && date(m["iat"], &c.IssuedAt) && (m["nbf"] == nil || date(m["nbf"], &c.notBefore))
	if !texts || !times || isNumber(m["aud"]) || !c.session(m) {
		return nil, invalid("A claim of the token is not of its type")
	}
	c.Values["oaud"] = c.Audience
	if c.azp != "" {
		c.Values["aud"] = []string{c.azp}
	}
	for key, list := range c.Values {
		// A colon would make "8080/x:sub" of host a claim of the issuer host:8080/x.
		if list == nil || !plain(key) || strings.Contains(key, ":") {
			delete(c.Values, key)
		}
	}
	return c, nil
}

// plain tells whether a text is neither empty nor too long nor has control characters.
func plain(s string) bool {
	return s != "" && len(s) <= maxText && !strings.ContainsFunc(s, unicode.IsControl)
}

// values are those of a claim as condition keys have them; nil for what has none.
func values(raw json.RawMessage) []string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil
	}
	switch v := v.(type) {
	case string:
		return []string{v}
	case bool:
		return []string{strconv.FormatBool(v)}
	case float64:
		return []string{string(raw)}
	case []any:
		list := make([]string, len(v))
		for i, item := range v {
			s, ok := item.(string)
			if !ok {
				return nil
			}
			list[i] = s
		}
		return list
	}
	return nil
}

// isNumber tells whether a claim is a number or boolean, which values takes.
func isNumber(raw json.RawMessage) bool { return raw[0] != '"' && raw[0] != '[' }

// date reads a NumericDate (RFC 7519, section 2) of the years 1970 to 9999.
func date(raw json.RawMessage, to *time.Time) bool {
	var f float64
	if json.Unmarshal(raw, &f) != nil || raw[0] == 'n' || math.IsNaN(f) || f < 0 || f > 253402300799 {
		return false
	}
	*to = time.Unix(int64(f), 0).UTC()
	return true
}

// session reads the claims that AWS has for sessions. Source: IAM User Guide,
// "Pass session tags in AWS STS" and "Monitor and control actions taken with assumed
// roles".
func (c *Claims) session(m map[string]json.RawMessage) bool {
	if raw := m[sourceClaim]; raw != nil && (json.Unmarshal(raw, &c.SourceIdentity) != nil || !plain(c.SourceIdentity)) {
		return false
	}
	raw := m[tagsClaim]
	if raw == nil {
		return true
	}
	var tags struct {
		PrincipalTags     map[string][]string `json:"principal_tags"`
		TransitiveTagKeys []string            `json:"transitive_tag_keys"`
	}
	if json.Unmarshal(raw, &tags) != nil {
		return false
	}
	c.Tags, c.TransitiveTagKeys = make(map[string]string, len(tags.PrincipalTags)), tags.TransitiveTagKeys
	for name, list := range tags.PrincipalTags {
		if len(list) != 1 {
			return false
		}
		c.Tags[name] = list[0]
	}
	return true
}

// check compares the claims with what is configured, and with the time. A token for
// others too is refused: each of them could pass it on. Source: OpenID Connect Core
// 1.0, section 3.1.3.7, items 3 to 5, 9 and 10.
func (c *Claims) check(audiences []string, now time.Time) error {
	for _, a := range c.Audience {
		if !slices.Contains(audiences, a) {
			return invalid("Incorrect token audience")
		}
	}
	if c.azp != "" && !slices.Contains(audiences, c.azp) {
		return invalid("Incorrect token audience")
	}
	switch {
	case !now.Add(-leeway).Before(c.Expires):
		return &Error{Code: ExpiredToken, Message: "Token expired: current date/time " + strconv.FormatInt(now.Unix(), 10) +
			" must be before the expiration date/time " + strconv.FormatInt(c.Expires.Unix(), 10)}
	case now.Add(leeway).Before(c.notBefore), now.Add(leeway).Before(c.IssuedAt):
		return invalid("The token is not valid yet")
	case c.Expires.Before(c.IssuedAt):
		return invalid("The token expires before it was issued")
	}
	return nil
}
