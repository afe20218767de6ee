// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// start is the time at which the clocks of tests begin.
var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// Keys of the tests: they are slow to make.
var (
	rsaKey    = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	otherRSA  = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	p256Key   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384Key   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	eddsaKey  = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) })
	allOfThem = []string{"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// An idp is the server of an issuer.
type idp struct {
	*httptest.Server
	ca       string
	mu       sync.Mutex
	requests map[string]int
	handle   map[string]http.HandlerFunc // by path, in place of what is usual
	keys     []any                       // what the JWK set has: jose.JSONWebKey, or other JSON
}

func startIDP(t testing.TB, keys ...any) *idp {
	p := &idp{requests: map[string]int{}, handle: map[string]http.HandlerFunc{}, keys: keys}
	p.Server = httptest.NewTLSServer(p)
	t.Cleanup(p.Close)
	p.ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *idp) issuer() Issuer {
	return Issuer{URL: p.URL + "/realm", Audiences: []string{"cretula", "other"}, Algorithms: allOfThem, CAFile: p.ca}
}

func (p *idp) count(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[path]
}

func (p *idp) set(keys ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
}

const discovery, keySet = "/realm/.well-known/openid-configuration", "/realm/keys"

func (p *idp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests[r.URL.Path]++
	other, keys := p.handle[r.URL.Path], p.keys
	p.mu.Unlock()
	switch {
	case other != nil:
		other(w, r)
	case r.URL.Path == discovery:
		json.NewEncoder(w).Encode(map[string]any{"issuer": p.URL + "/realm", "jwks_uri": p.URL + keySet})
	case r.URL.Path == keySet:
		json.NewEncoder(w).Encode(map[string]any{"keys": keys})
	default:
		http.NotFound(w, r)
	}
}

// public is the public half of a key in a JWK set.
func public(kid string, key crypto.Signer) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"}
}

type fields = map[string]any

// usual are the claims of a token that is taken; changes are made to it, and nil takes
// a claim away.
func (p *idp) usual(changes fields) fields {
	claims := fields{
		"iss": p.URL + "/realm", "sub": "build", "aud": "cretula", "iat": start.Unix() - 10, "nbf": start.Unix() - 10, "exp": start.Unix() + 600,
	}
	return change(claims, changes)
}

func change(m, changes fields) fields {
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

func segment(v any) string {
	if s, ok := v.(string); ok {
		return base64.RawURLEncoding.EncodeToString([]byte(s))
	}
	return base64.RawURLEncoding.EncodeToString(must(json.Marshal(v)))
}

// sign makes a token of a header and claims, which are JSON text or values.
func sign(header, claims any, alg string, key crypto.Signer) string {
	input := segment(header) + "." + segment(claims)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature(input, alg, key))
}

func signature(input, alg string, key crypto.Signer) []byte {
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	if hash == 0 {
		return must(key.Sign(rand.Reader, []byte(input), crypto.Hash(0)))
	}
	h := hash.New()
	h.Write([]byte(input))
	digest := h.Sum(nil)
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			panic(err)
		}
		size := (k.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		if alg[:2] == "PS" {
			return must(rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(rand.Reader, k, hash, digest))
	}
	panic("no such key")
}

// A clock is set by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newVerifier(t testing.TB, issuers ...Issuer) (*Verifier, *clock) {
	t.Helper()
	c := &clock{now: start}
	v, err := New(issuers, c.time)
	if err != nil {
		t.Fatal(err)
	}
	return v, c
}

// refused checks that the token is refused with the code.
func refused(t *testing.T, v *Verifier, name, token, code string) *Error {
	t.Helper()
	claims, err := v.Verify(t.Context(), token)
	var e *Error
	if claims != nil || !errors.As(err, &e) || e.Code != code {
		t.Errorf("%s: %+v, %v; want %s", name, claims, err, code)
		return &Error{}
	}
	return e
}

func taken(t *testing.T, v *Verifier, name, token string) *Claims {
	t.Helper()
	claims, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return &Claims{}
	}
	return claims
}
