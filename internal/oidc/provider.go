// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	// refreshAfter is the age at which keys are requested anew, and maxAge that from
	// which they are not used any more.
	refreshAfter = 15 * time.Minute
	maxAge       = time.Hour
	// interval is the least time between two requests for keys, and retry that while
	// there are none.
	interval = 3 * time.Minute
	retry    = 15 * time.Second

	requestTime = 5 * time.Second
	maxDocument = 64 << 10
	maxKeySet   = 256 << 10
	wellKnown   = "/.well-known/openid-configuration"
)

// A provider is an issuer with its keys.
type provider struct {
	issuer     Issuer
	name       string // the URL without its scheme
	url        *url.URL
	algorithms []jose.SignatureAlgorithm
	client     *http.Client
	now        func() time.Time

	fetching chan struct{} // held by whoever requests keys

	mu     sync.Mutex
	keys   []signingKey
	at     time.Time // when keys were requested that then came
	tried  time.Time // when keys were requested last
	failed error     // how that ended
}

func newProvider(issuer Issuer, now func() time.Time) (*provider, error) {
	if err := issuer.Check(); err != nil {
		return nil, err
	}
	u, err := url.Parse(issuer.URL)
	if err != nil {
		return nil, err
	}
	p := &provider{
		issuer: issuer, url: u, name: strings.TrimPrefix(issuer.URL, u.Scheme+"://"), algorithms: []jose.SignatureAlgorithm{jose.RS256},
		now: now, fetching: make(chan struct{}, 1),
	}
	if len(issuer.Algorithms) > 0 {
		p.algorithms = nil
	}
	for _, alg := range issuer.Algorithms {
		p.algorithms = append(p.algorithms, jose.SignatureAlgorithm(alg))
	}
	if issuer.JWKSFile != "" {
		_, err = readKeys(issuer.JWKSFile)
		return p, err
	}
	p.client, err = newClient(issuer.CAFile)
	return p, err
}

// newClient returns a client that follows no redirect, and whose answers are bounded
// but for their bodies.
func newClient(caFile string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate", caFile)
		}
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxDocument,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// find returns the keys that a token with the header can be signed by. It asks for
// them anew when they are old, and when none of them fits.
func (p *provider) find(ctx context.Context, h header) ([]any, error) {
	keys, age := p.current()
	found := match(keys, h)
	if len(found) > 0 && age < refreshAfter {
		return found, nil
	}
	// Whoever has a key does not wait for another's request.
	err := p.refresh(ctx, len(found) == 0)
	if keys, _ = p.current(); keys == nil {
		return nil, &Error{Code: IDPCommunication, Message: "Couldn't retrieve verification key from your identity provider", Err: err}
	}
	if found = match(keys, h); len(found) == 0 {
		return nil, invalid("The key that the token names is none of its issuer's")
	}
	return found, nil
}

// current returns the keys and their age; nil if there are none that may be used.
func (p *provider) current() ([]signingKey, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := p.now().Sub(p.at)
	if p.keys == nil || age < 0 || age >= maxAge {
		return nil, maxAge
	}
	return p.keys, age
}

// refresh requests the keys, unless that was done too short a time ago. It returns how
// the last request ended.
func (p *provider) refresh(ctx context.Context, wait bool) error {
	select {
	case p.fetching <- struct{}{}:
	default:
		if !wait {
			return nil
		}
		select {
		case p.fetching <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-p.fetching }()
	usable, _ := p.current()
	p.mu.Lock()
	now, least := p.now(), interval
	if usable == nil {
		least = retry
	}
	if since := now.Sub(p.tried); !p.tried.IsZero() && since >= 0 && since < least {
		defer p.mu.Unlock()
		return p.failed
	}
	p.tried = now
	p.mu.Unlock()
	// A caller who goes away must not keep the others from the keys.
	keys, err := p.fetch(context.WithoutCancel(ctx))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed = err; err == nil {
		p.keys, p.at = keys, now
	}
	return err
}

// fetch reads the keys from the file, or requests them.
func (p *provider) fetch(ctx context.Context) ([]signingKey, error) {
	if p.issuer.JWKSFile != "" {
		return readKeys(p.issuer.JWKSFile)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	address := p.issuer.JWKSURL
	if address == "" {
		var err error
		if address, err = p.discover(ctx); err != nil {
			return nil, err
		}
	}
	data, err := p.get(ctx, address, maxKeySet)
	if err != nil {
		return nil, err
	}
	return parseKeys(data)
}

// discover returns the address of the keys by the issuer's own document, which must be
// about this issuer. Source: OpenID Connect Discovery 1.0, section 4.3.
func (p *provider) discover(ctx context.Context) (string, error) {
	data, err := p.get(ctx, strings.TrimSuffix(p.issuer.URL, "/")+wellKnown, maxDocument)
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return "", errors.New("the discovery document is no JSON object")
	}
	if document.Issuer != p.issuer.URL {
		return "", fmt.Errorf("the discovery document is of the issuer %s", quote(document.Issuer))
	}
	u, err := url.Parse(document.JWKSURI)
	if err != nil || u.Scheme != p.url.Scheme || u.Host != p.url.Host || u.User != nil {
		return "", fmt.Errorf("the keys are at %s, which is not where the issuer is: configure the address", quote(document.JWKSURI))
	}
	return document.JWKSURI, nil
}

func (p *provider) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers with status %d", quote(address), resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s answers with more than %d bytes", quote(address), limit)
	}
	return data, err
}

func readKeys(file string) ([]signingKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// Who can write keys into it can be anybody.
	if open := info.Mode().Perm() & 0o022; open != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s has mode %04o: nobody but its owner must be able to write to it (chmod 0644)", file, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeySet+1))
	if err == nil && len(data) > maxKeySet {
		err = fmt.Errorf("more than %d bytes", maxKeySet)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return keys, nil
}
