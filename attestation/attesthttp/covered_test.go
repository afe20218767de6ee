// SPDX-License-Identifier: Apache-2.0

package attesthttp_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation/attesthttp"
	"github.com/cretula/cretula/attestation/challenge"
	"github.com/cretula/cretula/nsm"
)

// signedWorld is a service behind a proxy, and a client of it with a key.
func signedWorld(t *testing.T, change ...func(*attesthttp.Options)) (*tamper, *httptest.Server, *http.Client) {
	t.Helper()
	proxy := &tamper{}
	s := proxy.serve(t)
	proxy.w = newWorld(t, attesthttp.BindKey, append(change, func(o *attesthttp.Options) {
		o.Authorities = []string{s.Listener.Addr().String()}
	})...)
	c, _ := proxy.w.client(t, func(o *attesthttp.TransportOptions) {
		o.Key, o.Server, o.TLS = keys(t)["P-256"], s.URL, s.Client().Transport.(*http.Transport).TLSClientConfig
	})
	return proxy, s, c
}

// TestPrefix: a request is one for the path that its sender signed, whatever a
// handler leaves of the path before the Guard sees it.
func TestPrefix(t *testing.T) {
	proxy, s, c := signedWorld(t)
	answer, err := c.Get(s.URL + "/prefix/x")
	if code, text := body(t, answer, err); code != 200 {
		t.Fatalf("signed for /prefix/x: %d %s", code, text)
	}
	proxy.change = func(r *http.Request) { r.URL.Path = "/prefix" + r.URL.Path }
	answer, err = c.Get(s.URL + "/x")
	wantRefusal(t, answer, err, 401, "httpsig.signature")
	proxy.change = func(r *http.Request) { r.URL.Path = strings.TrimPrefix(r.URL.Path, "/prefix") }
	answer, err = c.Get(s.URL + "/prefix/x")
	wantRefusal(t, answer, err, 401, "httpsig.signature")
}

// TestCoveredFields: a proxy can change no field that says how a body is read or
// in whose name a request is made.
func TestCoveredFields(t *testing.T) {
	proxy, s, c := signedWorld(t)
	post := func(fields map[string]string) (*http.Response, error) {
		r, err := http.NewRequest("POST", s.URL+"/x", io.NopCloser(strings.NewReader("body"))) // no GetBody: not sent twice
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range fields {
			r.Header.Set(name, value)
		}
		return c.Do(r)
	}
	all := map[string]string{"Content-Type": "text/plain; a=b, c", "Content-Encoding": "identity", "Authorization": "Bearer one"}
	for _, fields := range []map[string]string{nil, all, {"Content-Type": ""}} {
		answer, err := post(fields)
		if code, text := body(t, answer, err); code != 200 || text != "good body" {
			t.Fatalf("%v: %d %s", fields, code, text)
		}
	}
	for name, value := range all {
		for _, test := range []struct {
			what   string
			sent   map[string]string
			change func(*http.Request)
			rule   string
		}{
			{"added", nil, func(r *http.Request) { r.Header.Set(name, "other") }, attesthttp.RuleCovered},
			{"added, empty", nil, func(r *http.Request) { r.Header.Set(name, "") }, attesthttp.RuleCovered},
			{"changed", all, func(r *http.Request) { r.Header.Set(name, value+"x") }, "httpsig.signature"},
			{"removed", all, func(r *http.Request) { r.Header.Del(name) }, "httpsig.component"},
			{"twice", all, func(r *http.Request) { r.Header.Add(name, value) }, attesthttp.RuleCovered},
			{"in two", map[string]string{name: "a, b"}, func(r *http.Request) { r.Header[name] = []string{"a", "b"} }, attesthttp.RuleCovered},
			{"not covered", all, func(r *http.Request) {
				in := r.Header.Get("Signature-Input")
				r.Header.Set("Signature-Input", strings.Replace(in, ` "`+strings.ToLower(name)+`"`, "", 1))
			}, attesthttp.RuleCovered},
		} {
			proxy.change = test.change
			answer, err := post(test.sent)
			t.Log(name, test.what)
			wantRefusal(t, answer, err, 401, test.rule)
		}
	}
}

// A neverRead fails the test if it is read.
type neverRead struct{ t *testing.T }

func (n neverRead) Read([]byte) (int, error) {
	n.t.Error("the body was read")
	return 0, errors.New("read")
}

// TestBodyOfARepeatedRequest: a signed request buys the memory for one body, not
// for as many as it is repeated with.
func TestBodyOfARepeatedRequest(t *testing.T) {
	proxy, s, c := signedWorld(t)
	answer, err := c.Post(s.URL, "", strings.NewReader("body"))
	if code, text := body(t, answer, err); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	for _, length := range []int64{4, -1} {
		r := httptest.NewRequest("POST", "/", neverRead{t})
		r.Header, r.Host, r.ContentLength = proxy.last.Header, proxy.last.Host, length
		w := httptest.NewRecorder()
		proxy.w.guard.Middleware(http.NotFoundHandler()).ServeHTTP(w, r)
		wantRefusal(t, w.Result(), nil, 401, attesthttp.RuleNonce)
	}
}

// A forgetful set takes every nonce for new, as one does that was lost in a restart.
type forgetful struct{ challenge.UsedSet }

func (forgetful) Use(context.Context, challenge.Key, time.Time) (bool, error) { return true, nil }

// TestRepeatedInLaterSession: a signed request is one for its session, also where
// its nonce was forgotten and the key has another session.
func TestRepeatedInLaterSession(t *testing.T) {
	proxy, s, c := signedWorld(t, func(o *attesthttp.Options) {
		o.SessionAge, o.SignatureNonces = 10*time.Second, forgetful{}
	})
	get := func() {
		answer, err := c.Get(s.URL + "/pay")
		if code, text := body(t, answer, err); code != 200 {
			t.Fatalf("%d %s", code, text)
		}
	}
	get()
	first := proxy.last.Clone(t.Context())
	proxy.w.offset.Store(int64(11 * time.Second))
	get()
	if n := proxy.w.verified.Load(); n != 2 {
		t.Fatalf("%d documents", n)
	}
	answer, err := proxy.w.plain(t, proxy.w.tls()).Do(first)
	wantRefusal(t, answer, err, 401, attesthttp.RuleSession)
}

// TestAnothersKey: who names another's key in a document does not become the one
// whose requests the key signs.
func TestAnothersKey(t *testing.T) {
	w := newWorld(t, attesthttp.BindKey)
	key := keys(t)["P-384"]
	c, _ := w.client(t, func(o *attesthttp.TransportOptions) { o.Key = key })
	module := func() string {
		answer, err := c.Get(w.server.URL)
		if code, text := body(t, answer, err); code != 200 {
			t.Fatalf("%d %s", code, text)
		}
		return answer.Header.Get("X-Module")
	}
	before := module()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	other := newModule(t, w.authority, image("good"), false)
	answer, err := w.present(t, w.plain(t, w.tls()), other, func(r *nsm.AttestationRequest) { r.PublicKey = spki })
	wantStatus(t, "the other's", answer, err, 200)
	if after := module(); after != before || w.verified.Load() != 2 {
		t.Errorf("requests of %s are taken for %s's, %d documents", before, after, w.verified.Load())
	}
}
