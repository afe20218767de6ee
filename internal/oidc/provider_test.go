// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// A new key is found at once, and an unknown one makes no more than one request in
// three minutes.
func TestRotation(t *testing.T) {
	idp := startIDP(t, public("one", rsaKey()))
	v, clock := newVerifier(t, idp.issuer())
	one := sign(rs256("one"), idp.usual(fields{"exp": start.Add(5 * time.Hour).Unix()}), "RS256", rsaKey())
	two := sign(rs256("two"), idp.usual(fields{"exp": start.Add(5 * time.Hour).Unix()}), "RS256", otherRSA())
	requests := func(want int) {
		t.Helper()
		if n := idp.count(keySet); n != want {
			t.Errorf("%d requests for keys, want %d", n, want)
		}
	}
	taken(t, v, "first", one)
	requests(1)
	for range 20 {
		refused(t, v, "unknown key", two, InvalidIdentityToken)
	}
	requests(1)
	clock.pass(interval - time.Second)
	refused(t, v, "unknown key", two, InvalidIdentityToken)
	requests(1)
	idp.set(public("one", rsaKey()), public("two", otherRSA()))
	clock.pass(time.Second)
	taken(t, v, "new key", two)
	taken(t, v, "old key", one)
	requests(2)
	idp.set(public("two", otherRSA()))
	clock.pass(refreshAfter)
	refused(t, v, "key that was withdrawn", one, InvalidIdentityToken)
	requests(3)
	taken(t, v, "its successor", two)
	requests(3)
}

// Keys of a server that is away are used for an hour, and not longer.
func TestServerAway(t *testing.T) {
	idp := startIDP(t, public("one", rsaKey()))
	v, clock := newVerifier(t, idp.issuer())
	token := sign(rs256("one"), idp.usual(fields{"exp": start.Add(9 * time.Hour).Unix()}), "RS256", rsaKey())
	taken(t, v, "before", token)
	away := func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "secret of the server", http.StatusBadGateway)
	}
	idp.mu.Lock()
	idp.handle[keySet] = away
	idp.mu.Unlock()
	clock.pass(maxAge - time.Second)
	taken(t, v, "keys of 59 minutes", token)
	if n := idp.count(keySet); n != 2 {
		t.Errorf("%d requests", n)
	}
	clock.pass(time.Second)
	e := refused(t, v, "keys of an hour, within the interval", token, IDPCommunication)
	if strings.Contains(e.Message, "502") || !strings.Contains(e.Error(), "502") || strings.Contains(e.Error(), "secret") {
		t.Errorf("message %q, error %q", e.Message, e)
	}
	before := idp.count(keySet)
	clock.pass(retry)
	for range 5 {
		refused(t, v, "away", token, IDPCommunication)
	}
	if n := idp.count(keySet); n != before+1 {
		t.Errorf("%d requests", n-before)
	}
	idp.mu.Lock()
	delete(idp.handle, keySet)
	idp.mu.Unlock()
	clock.pass(retry)
	taken(t, v, "back", token)
	clock.pass(-2 * time.Hour)
	token = sign(rs256("one"), idp.usual(fields{"iat": 1, "nbf": nil}), "RS256", rsaKey())
	taken(t, v, "the clock was put back", token)
}

func TestHostileServers(t *testing.T) {
	inside := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request went to %s", r.Host+r.URL.Path)
	}))
	defer inside.Close()
	answer := func(v any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(v) }
	}
	for name, prepare := range map[string]func(*idp, *Issuer){
		"discovery of another issuer": func(p *idp, _ *Issuer) {
			p.handle[discovery] = answer(fields{"issuer": p.URL, "jwks_uri": p.URL + keySet})
		},
		"no issuer in it": func(p *idp, _ *Issuer) { p.handle[discovery] = answer(fields{"jwks_uri": p.URL + keySet}) },
		"two issuers in it": func(p *idp, _ *Issuer) {
			p.handle[discovery] = func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"issuer":"x","issuer":"%s/realm","jwks_uri":"%s"}`, p.URL, p.URL+keySet)
			}
		},
		"keys on another host": func(p *idp, _ *Issuer) {
			p.handle[discovery] = answer(fields{"issuer": p.URL + "/realm", "jwks_uri": inside.URL + "/latest/meta-data"})
		},
		"keys by http": func(p *idp, _ *Issuer) {
			p.handle[discovery] = answer(fields{"issuer": p.URL + "/realm", "jwks_uri": strings.Replace(p.URL, "https", "http", 1) + keySet})
		},
		"keys for a user": func(p *idp, _ *Issuer) {
			p.handle[discovery] = answer(fields{"issuer": p.URL + "/realm", "jwks_uri": strings.Replace(p.URL, "://", "://a:b@", 1) + keySet})
		},
		"keys nowhere": func(p *idp, _ *Issuer) { p.handle[discovery] = answer(fields{"issuer": p.URL + "/realm"}) },
		"redirected": func(p *idp, _ *Issuer) {
			p.handle[discovery] = http.RedirectHandler(inside.URL, http.StatusFound).ServeHTTP
		},
		"keys redirected": func(p *idp, _ *Issuer) {
			p.handle[keySet] = http.RedirectHandler(p.URL+"/elsewhere", http.StatusTemporaryRedirect).ServeHTTP
		},
		"no discovery":     func(p *idp, _ *Issuer) { p.handle[discovery] = http.NotFound },
		"discovery a list": func(p *idp, _ *Issuer) { p.handle[discovery] = answer([]int{1}) },
		"keys a page":      func(p *idp, _ *Issuer) { p.handle[keySet] = answer("<html>") },
		"created": func(p *idp, _ *Issuer) {
			p.handle[keySet] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }
		},
		"endless keys":      func(p *idp, _ *Issuer) { p.handle[keySet] = endless },
		"endless discovery": func(p *idp, _ *Issuer) { p.handle[discovery] = endless },
		"endless header": func(p *idp, _ *Issuer) {
			p.handle[keySet] = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("a", 2*maxDocument)) }
		},
		"certificate of all": func(_ *idp, i *Issuer) { i.CAFile = "" },
	} {
		t.Run(name, func(t *testing.T) {
			idp := startIDP(t, public("one", rsaKey()))
			idp.Config.ErrorLog = nil
			issuer := idp.issuer()
			prepare(idp, &issuer)
			v, _ := newVerifier(t, issuer)
			refused(t, v, name, sign(rs256("one"), idp.usual(nil), "RS256", rsaKey()), IDPCommunication)
			if idp.count("/elsewhere") != 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for chunk := bytes.Repeat([]byte(" "), 1<<16); r.Context().Err() == nil; {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

// A server that never answers holds up nobody for long, and no caller who goes away
// keeps the others from the keys.
func TestSlowServer(t *testing.T) {
	idp := startIDP(t, public("one", rsaKey()))
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	idp.handle[keySet] = func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-answer
		json.NewEncoder(w).Encode(fields{"keys": []any{public("one", rsaKey())}})
	}
	v, _ := newVerifier(t, idp.issuer())
	token := sign(rs256("one"), idp.usual(nil), "RS256", rsaKey())
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := v.Verify(ctx, token); err != nil {
			t.Errorf("who asked first: %v", err)
		}
	})
	<-asked
	cancel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Verify(gone, token); err == nil {
		t.Error("who went away while waiting got an answer")
	}
	for range 8 {
		all.Go(func() { taken(t, v, "who waited", token) })
	}
	close(answer)
	all.Wait()
	if n := idp.count(keySet); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestServerThatHangs(t *testing.T) {
	idp := startIDP(t, public("one", rsaKey()))
	idp.handle[discovery] = func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // no answer, not an empty one
	}
	v, _ := newVerifier(t, idp.issuer())
	e := refused(t, v, "hanging", sign(rs256("one"), idp.usual(nil), "RS256", rsaKey()), IDPCommunication)
	if !strings.Contains(e.Error(), "deadline") {
		t.Errorf("%v", e)
	}
}

func TestPinnedKeys(t *testing.T) {
	keys := startIDP(t, public("one", rsaKey()))
	issuer := Issuer{URL: "https://issuer.example", Audiences: []string{"a"}, JWKSURL: keys.URL + keySet, CAFile: keys.ca}
	v, _ := newVerifier(t, issuer)
	claims := keys.usual(fields{"iss": "https://issuer.example", "aud": "a"})
	taken(t, v, "keys of another host", sign(rs256("one"), claims, "RS256", rsaKey()))
	if keys.count(discovery) != 0 {
		t.Error("the issuer was discovered all the same")
	}

	plain := httptest.NewServer(keys)
	defer plain.Close()
	issuer.JWKSURL, issuer.CAFile, issuer.InsecureLoopbackHTTP = plain.URL+keySet, "", true
	v, _ = newVerifier(t, issuer)
	taken(t, v, "loopback", sign(rs256("one"), claims, "RS256", rsaKey()))
}

func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.json")
	write := func(keys ...jose.JSONWebKey) {
		if err := os.WriteFile(file, must(json.Marshal(jose.JSONWebKeySet{Keys: keys})), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(public("one", rsaKey()))
	issuer := Issuer{URL: "https://issuer.example", Audiences: []string{"a"}, JWKSFile: file}
	for _, mode := range []os.FileMode{0o620, 0o602, 0o644} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := New([]Issuer{issuer}, time.Now); (err == nil) != (mode == 0o644) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	v, clock := newVerifier(t, issuer)
	token := func(kid string) string {
		return sign(rs256(kid), fields{"iss": "https://issuer.example", "aud": "a", "sub": "s", "iat": start.Unix(), "exp": start.Add(time.Hour).Unix()}, "RS256", rsaKey())
	}
	taken(t, v, "first", token("one"))
	write(public("two", rsaKey()))
	refused(t, v, "too early", token("two"), InvalidIdentityToken)
	clock.pass(interval)
	taken(t, v, "second", token("two"))
	refused(t, v, "first, withdrawn", token("one"), InvalidIdentityToken)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	clock.pass(refreshAfter)
	taken(t, v, "while the file is away", token("two"))
}

// Tokens that are refused by what is in them make no request.
func TestNoRequests(t *testing.T) {
	idp := startIDP(t, public("one", rsaKey()))
	v, _ := newVerifier(t, idp.issuer())
	for name, claims := range map[string]fields{"expired": {"exp": 1}, "audience": {"aud": "eve"}, "issuer": {"iss": idp.URL}, "early": {"nbf": start.Add(time.Hour).Unix()}} {
		if _, err := v.Verify(t.Context(), sign(rs256("one"), idp.usual(claims), "RS256", rsaKey())); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if len(idp.requests) != 0 {
		t.Errorf("requests %v", idp.requests)
	}
}
