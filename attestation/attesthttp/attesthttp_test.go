// SPDX-License-Identifier: Apache-2.0

package attesthttp_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/attesthttp"
	"github.com/cretula/cretula/attestation/challenge"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/attestation/reference"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
)

// A world is a service over TLS and what makes documents for it.
type world struct {
	authority  *issuer.Authority
	module     nsm.Client
	guard      *attesthttp.Guard
	server     *httptest.Server
	challenges *challenge.Challenges
	offset     atomic.Int64 // of the service's clock
	verified   atomic.Int64 // documents that were verified
	closed     atomic.Int64 // connections that were closed
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

func image(name string) (set pcr.Set) {
	for i := range pcr.Index(3) {
		set.Put(i, pcr.Sum([]byte{byte(i), name[0]}))
	}
	return set
}

func newModule(t testing.TB, a *issuer.Authority, set pcr.Set, debug bool) nsm.Client {
	t.Helper()
	m, err := softnsm.New(softnsm.Config{Authority: a, PCRs: set, Debug: debug})
	if err != nil {
		t.Fatal(err)
	}
	return nsm.Client{Device: m}
}

func newWorld(t testing.TB, binding attesthttp.Binding, change ...func(*attesthttp.Options)) *world {
	t.Helper()
	a, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{authority: a, module: newModule(t, a, image("good"), false)}
	good := image("good")
	zero, _ := good.Get(0)
	w.server = httptest.NewUnstartedServer(nil)
	o := attesthttp.Options{Binding: binding, Now: w.now, Authorities: []string{w.server.Listener.Addr().String()}}
	if o.Releases, err = reference.Parse([]byte(`{"schema": "cretula.reference.v1", "releases": [{"name": "good", "pcrs": {"PCR0": "` + zero.String() + `"}}]}`)); err != nil {
		t.Fatal(err)
	}
	if o.Verifier, err = attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{a.Root()}, Now: func() time.Time { w.verified.Add(1); return w.now() }}); err != nil {
		t.Fatal(err)
	}
	if w.challenges, err = challenge.New(challenge.Options{Key: make([]byte, 32), Now: w.now}); err != nil {
		t.Fatal(err)
	}
	o.Challenges = w.challenges
	for _, c := range change {
		c(&o)
	}
	guard, err := attesthttp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.guard = guard
	mux := http.NewServeMux()
	mux.HandleFunc("/attestation/challenge", guard.ServeChallenge)
	mux.HandleFunc("/attestation/document", guard.ServeDocument)
	protected := guard.Middleware(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		attested, ok := attesthttp.FromContext(r.Context())
		body, err := io.ReadAll(r.Body)
		if !ok || err != nil || attested.Document == nil || attested.Binding != binding || !attested.Until.After(w.now()) {
			t.Errorf("in the handler: %+v, %v, %v", attested, ok, err)
		}
		rw.Header().Set("X-Module", attested.Document.ModuleID)
		fmt.Fprintf(rw, "%s %s", attested.Release, body)
	}))
	mux.Handle("/", protected)
	mux.Handle("/prefix/", http.StripPrefix("/prefix", protected))
	w.server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		guard.ConnState(conn, state)
		if state == http.StateClosed {
			w.closed.Add(1)
		}
	}
	w.server.Config.Handler = mux
	w.server.EnableHTTP2 = true
	w.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) tls() *tls.Config {
	return w.server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}

func attestBy(m nsm.Client) func(context.Context, attesthttp.Request) ([]byte, error) {
	return func(ctx context.Context, r attesthttp.Request) ([]byte, error) {
		return m.Attest(ctx, nsm.AttestationRequest(r))
	}
}

func (w *world) client(t testing.TB, change ...func(*attesthttp.TransportOptions)) (*http.Client, *attesthttp.Transport) {
	t.Helper()
	o := attesthttp.TransportOptions{Server: w.server.URL, TLS: w.tls(), Attest: attestBy(w.module), Now: w.now}
	for _, c := range change {
		c(&o)
	}
	transport, err := attesthttp.NewTransport(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, transport
}

// plain is a client with a connection of its own that attests nothing.
func (w *world) plain(t testing.TB, config *tls.Config) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, MaxConnsPerHost: 1}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func body(t testing.TB, answer *http.Response, err error) (int, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(data)
}

// wantRefusal checks an answer's status, rule and that it tells nothing else.
func wantRefusal(t testing.TB, answer *http.Response, err error, status int, rule string) {
	t.Helper()
	code, text := body(t, answer, err)
	var p map[string]any
	if json.Unmarshal([]byte(text), &p); code != status || p["rule"] != rule || answer.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s, want %d %s", code, text, status, rule)
	}
	if p["detail"] != nil || p["problems"] != nil {
		t.Errorf("tells %s", text)
	}
}

func getChallenge(t testing.TB, c *http.Client, url string) ([]byte, *tls.ConnectionState) {
	t.Helper()
	answer, err := c.Post(url+"/attestation/challenge", "", nil)
	code, text := body(t, answer, err)
	var issued struct{ Challenge []byte }
	if err := json.Unmarshal([]byte(text), &issued); err != nil || code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	return issued.Challenge, answer.TLS
}

func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"P-256": p256, "P-384": p384, "Ed25519": ed, "RSA": rsaKey}
}

func TestBoundToTLS(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS)
	c, _ := w.client(t)
	for i := range 3 {
		answer, err := c.Post(w.server.URL+"/x?y=1", "text/plain", strings.NewReader("body"))
		if code, text := body(t, answer, err); code != 200 || text != "good body" {
			t.Fatalf("%d: %d %s", i, code, text)
		}
	}
	if n := w.verified.Load(); n != 1 {
		t.Errorf("%d documents verified, want one for the connection", n)
	}
	// Another connection of the same machine is another session.
	other := w.plain(t, w.tls())
	answer, err := other.Get(w.server.URL)
	wantRefusal(t, answer, err, 401, attesthttp.RuleSession)
}

func TestSessionEnds(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS, func(o *attesthttp.Options) { o.SessionAge = 10 * time.Second })
	c, _ := w.client(t)
	for i := range 2 {
		answer, err := c.Post(w.server.URL, "", strings.NewReader("again"))
		if code, text := body(t, answer, err); code != 200 || text != "good again" {
			t.Fatalf("%d %s", code, text)
		}
		if n := w.verified.Load(); n != int64(i+1) {
			t.Errorf("%d documents verified", n)
		}
		w.offset.Add(int64(11 * time.Second))
	}
}

func TestOlderTLSIsRefused(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS)
	config := w.tls()
	config.MaxVersion = tls.VersionTLS12
	c := w.plain(t, config)
	answer, err := c.Get(w.server.URL)
	wantRefusal(t, answer, err, 401, attesthttp.RuleTLS)
	nonce, state := getChallenge(t, c, w.server.URL)
	if _, err := attesthttp.ChannelBinding(state, nonce); err == nil {
		t.Error("TLS 1.2 has a channel binding")
	}
	if _, err := attesthttp.ChannelBinding(nil, nonce); err == nil {
		t.Error("no connection has a channel binding")
	}
	document, err := w.module.Attest(t.Context(), nsm.AttestationRequest{Nonce: nonce})
	if err != nil {
		t.Fatal(err)
	}
	answer, err = c.Post(w.server.URL+"/attestation/document", "", bytes.NewReader(document))
	wantRefusal(t, answer, err, 401, attesthttp.RuleTLS)
}

// TestManInTheMiddle: an enclave talks to who has a certificate it trusts; he
// relays the challenge and the document, byte for byte, to the service.
func TestManInTheMiddle(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS)
	upstream := w.plain(t, w.tls())
	var relayed atomic.Int32
	middle := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		answer, err := upstream.Post(w.server.URL+r.URL.Path, "", bytes.NewReader(data))
		if err != nil {
			t.Error(err)
			return
		}
		defer answer.Body.Close()
		relayed.Add(1)
		for k, v := range answer.Header {
			rw.Header()[k] = v
		}
		rw.WriteHeader(answer.StatusCode)
		io.Copy(rw, answer.Body)
	}))
	defer middle.Close()
	c, _ := w.client(t, func(o *attesthttp.TransportOptions) {
		o.Server = middle.URL
		o.TLS = middle.Client().Transport.(*http.Transport).TLSClientConfig
	})
	_, err := c.Get(middle.URL)
	if err == nil || !strings.Contains(err.Error(), attesthttp.RuleChannel) {
		t.Errorf("relayed: %v", err)
	}
	if relayed.Load() != 2 {
		t.Errorf("%d requests relayed, want challenge and document", relayed.Load())
	}
	if w.verified.Load() != 0 {
		t.Error("a signature was looked at for a relayed document")
	}
	answer, err := upstream.Get(w.server.URL)
	wantRefusal(t, answer, err, 401, attesthttp.RuleSession)
}

// present has a document made and presents it.
func (w *world) present(t testing.TB, c *http.Client, m nsm.Client, change func(*nsm.AttestationRequest)) (*http.Response, error) {
	t.Helper()
	nonce, state := getChallenge(t, c, w.server.URL)
	userData, err := attesthttp.ChannelBinding(state, nonce)
	if err != nil {
		t.Fatal(err)
	}
	r := nsm.AttestationRequest{Nonce: nonce, UserData: userData}
	if change != nil {
		change(&r)
	}
	document, err := m.Attest(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return c.Post(w.server.URL+"/attestation/document", "", bytes.NewReader(document))
}

func TestRefusedDocuments(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS)
	c := w.plain(t, w.tls())
	foreign, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		module nsm.Client
		change func(*nsm.AttestationRequest)
		rule   string
	}{
		{"another image", newModule(t, w.authority, image("bad"), false), nil, reference.RuleRelease},
		{"debug", newModule(t, w.authority, image("good"), true), nil, "expect.debug"},
		{"another root", newModule(t, foreign, image("good"), false), nil, "chain.root"},
		{"no nonce", w.module, func(r *nsm.AttestationRequest) { r.Nonce = nil }, challenge.RuleForm},
		{"a forged challenge", w.module, func(r *nsm.AttestationRequest) { r.Nonce[20] ^= 1 }, challenge.RuleSeal},
		{"no user data", w.module, func(r *nsm.AttestationRequest) { r.UserData = nil }, attesthttp.RuleChannel},
		{"other user data", w.module, func(r *nsm.AttestationRequest) { r.UserData[0] ^= 1 }, attesthttp.RuleChannel},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, err := w.present(t, c, test.module, test.change)
			wantRefusal(t, answer, err, 401, test.rule)
			answer, err = c.Get(w.server.URL)
			wantRefusal(t, answer, err, 401, attesthttp.RuleSession)
		})
	}
	t.Run("stale", func(t *testing.T) {
		nonce, state := getChallenge(t, c, w.server.URL)
		userData, _ := attesthttp.ChannelBinding(state, nonce)
		document, err := w.module.Attest(t.Context(), nsm.AttestationRequest{Nonce: nonce, UserData: userData})
		if err != nil {
			t.Fatal(err)
		}
		w.offset.Store(int64(challenge.DefaultLifetime))
		defer w.offset.Store(0)
		answer, err := c.Post(w.server.URL+"/attestation/document", "", bytes.NewReader(document))
		wantRefusal(t, answer, err, 401, challenge.RuleExpired)
	})
	t.Run("twice", func(t *testing.T) {
		nonce, state := getChallenge(t, c, w.server.URL)
		userData, _ := attesthttp.ChannelBinding(state, nonce)
		document, err := w.module.Attest(t.Context(), nsm.AttestationRequest{Nonce: nonce, UserData: userData})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.Post(w.server.URL+"/attestation/document", "", bytes.NewReader(document))
		if code, text := body(t, answer, err); code != 200 {
			t.Fatalf("%d %s", code, text)
		}
		before := w.verified.Load()
		answer, err = c.Post(w.server.URL+"/attestation/document", "", bytes.NewReader(document))
		wantRefusal(t, answer, err, 401, challenge.RuleUsed)
		if w.verified.Load() != before {
			t.Error("a signature was looked at for a used challenge")
		}
	})
	answer, err := c.Post(w.server.URL+"/attestation/document", "", strings.NewReader("no document"))
	code, text := body(t, answer, err)
	if code != 401 || !strings.Contains(text, `"reason":"malformed"`) {
		t.Errorf("%d %s", code, text)
	}
	answer, err = c.Post(w.server.URL+"/attestation/document", "", bytes.NewReader(make([]byte, 20481)))
	wantRefusal(t, answer, err, 413, attesthttp.RuleSize)
	for _, path := range []string{"challenge", "document"} {
		answer, err = c.Get(w.server.URL + "/attestation/" + path)
		wantRefusal(t, answer, err, 405, attesthttp.RuleMethod)
	}
}

func TestBoundToKey(t *testing.T) {
	w := newWorld(t, attesthttp.BindKey)
	for name, key := range keys(t) {
		c, _ := w.client(t, func(o *attesthttp.TransportOptions) { o.Key = key })
		for _, path := range []string{"", "/a%2Fb?q=1&r", "/a?"} {
			answer, err := c.Post(w.server.URL+path, "", strings.NewReader("body"))
			if code, text := body(t, answer, err); code != 200 || text != "good body" {
				t.Fatalf("%s: %d %s", name, code, text)
			}
			answer, err = c.Get(w.server.URL + path)
			if code, text := body(t, answer, err); code != 200 || text != "good " {
				t.Fatalf("%s: %d %s", name, code, text)
			}
		}
	}
	answer, err := w.plain(t, w.tls()).Get(w.server.URL)
	wantRefusal(t, answer, err, 401, "httpsig.absent")
}

// tamper changes requests below a Transport: it stands between.
type tamper struct {
	w      *world
	change func(*http.Request)
	// last is the latest request for the handler.
	last *http.Request
	body []byte
}

// proxyServer passes requests on to the service, ending TLS, as proxies do.
func (p *tamper) serve(t *testing.T) *httptest.Server {
	s := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		upstream := p.w.plain(t, p.w.tls())
		defer upstream.CloseIdleConnections()
		data, _ := io.ReadAll(r.Body)
		out, err := http.NewRequest(r.Method, p.w.server.URL+r.URL.RequestURI(), bytes.NewReader(data))
		if err != nil {
			t.Error(err)
			return
		}
		out.Header, out.Host = r.Header.Clone(), r.Host
		if !strings.HasPrefix(r.URL.Path, "/attestation/") {
			if p.change != nil {
				p.change(out)
			}
			p.last, p.body = out, data
		}
		answer, err := upstream.Do(out)
		if err != nil {
			t.Error(err)
			return
		}
		defer answer.Body.Close()
		for k, v := range answer.Header {
			rw.Header()[k] = v
		}
		rw.WriteHeader(answer.StatusCode)
		io.Copy(rw, answer.Body)
	}))
	t.Cleanup(s.Close)
	return s
}

// TestKeyBehindProxy: a proxy may end TLS, and can neither change nor repeat a
// request, nor use the document for one of its own.
func TestKeyBehindProxy(t *testing.T) {
	proxy := &tamper{}
	s := proxy.serve(t)
	w := newWorld(t, attesthttp.BindKey, func(o *attesthttp.Options) {
		o.Authorities = []string{strings.ToUpper(s.Listener.Addr().String())}
	})
	proxy.w = w
	key := keys(t)["P-256"]
	c, _ := w.client(t, func(o *attesthttp.TransportOptions) {
		o.Key, o.Server, o.TLS = key, s.URL, s.Client().Transport.(*http.Transport).TLSClientConfig
	})
	post := func() (*http.Response, error) {
		return c.Post(s.URL+"/pay?to=1", "", strings.NewReader("10 EUR"))
	}
	answer, err := post()
	if code, text := body(t, answer, err); code != 200 || text != "good 10 EUR" {
		t.Fatalf("%d %s", code, text)
	}
	// The same once more.
	again := proxy.last.Clone(t.Context())
	again.Body = io.NopCloser(bytes.NewReader(proxy.body))
	answer, err = w.plain(t, w.tls()).Do(again)
	wantRefusal(t, answer, err, 401, attesthttp.RuleNonce)

	attacker := keys(t)["P-256"]
	setBody := func(r *http.Request, text string) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	}
	replaceInput := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Signature-Input", strings.Replace(r.Header.Get("Signature-Input"), old, new, 1))
		}
	}
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		rule   string
	}{
		{"method", func(r *http.Request) { r.Method = "PUT" }, "httpsig.signature"},
		{"path", func(r *http.Request) { r.URL.Path = "/pay2" }, "httpsig.signature"},
		{"query", func(r *http.Request) { r.URL.RawQuery = "to=2" }, "httpsig.signature"},
		{"host", func(r *http.Request) { r.Host = "example.com" }, attesthttp.RuleAuthority},
		{"body", func(r *http.Request) { setBody(r, "99 EUR") }, "httpsig.digest"},
		{"body and digest", func(r *http.Request) {
			setBody(r, "99 EUR")
			r.Header.Set("Content-Digest", digest("99 EUR"))
		}, "httpsig.signature"},
		{"no body", func(r *http.Request) { setBody(r, ""); r.Body = http.NoBody }, "httpsig.digest"},
		{"digest not covered", replaceInput(` "content-digest"`, ""), attesthttp.RuleCovered},
		{"method not covered", replaceInput(`"@method" `, ""), attesthttp.RuleCovered},
		{"path not covered", replaceInput(` "@path"`, ""), attesthttp.RuleCovered},
		{"nothing covered", func(r *http.Request) {
			in := r.Header.Get("Signature-Input")
			r.Header.Set("Signature-Input", "sig1=()"+in[strings.Index(in, ")")+1:])
		}, attesthttp.RuleCovered},
		{"no time", replaceInput(";created=", ";expires="), attesthttp.RuleCreated},
		{"no nonce", func(r *http.Request) {
			in := r.Header.Get("Signature-Input")
			from := strings.Index(in, ";nonce=")
			to := strings.Index(in, ";keyid=")
			r.Header.Set("Signature-Input", in[:from]+in[to:])
		}, attesthttp.RuleNonce},
		{"another nonce", replaceInput(`;nonce="`, `;nonce="x`), "httpsig.signature"},
		{"another key", func(r *http.Request) {
			spki, _ := x509.MarshalPKIXPublicKey(attacker.Public())
			in := r.Header.Get("Signature-Input")
			r.Header.Set("Signature-Input", in[:strings.Index(in, ";keyid=")]+`;keyid="`+attesthttp.KeyIDForTest(spki, nil)+`"`)
		}, attesthttp.RuleSession},
		{"no keyid", replaceInput(`;keyid="`, `;keyid="x`), attesthttp.RuleSession},
		{"hmac", replaceInput(`;keyid=`, `;alg="hmac-sha256";keyid=`), "httpsig.algorithm"},
		{"another signature", func(r *http.Request) { r.Header.Set("Signature", "sig1=:AAAA:") }, "httpsig.signature"},
		{"two signatures", func(r *http.Request) { r.Header.Add("Signature", r.Header.Get("Signature")) }, "httpsig.form"},
		{"late", func(*http.Request) { w.offset.Store(int64(attesthttp.SignatureWindow + 2*time.Second)) }, attesthttp.RuleCreated},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy.change = test.change
			defer func() { proxy.change = nil; w.offset.Store(0) }()
			req, _ := http.NewRequest("POST", s.URL+"/pay?to=1", io.NopCloser(strings.NewReader("10 EUR"))) // no GetBody: not sent twice
			answer, err := c.Do(req)
			wantRefusal(t, answer, err, 401, test.rule)
		})
	}
}

// TestUnsignedBodies: no body is read for who only knows a keyid, and one of
// unknown length that the signature does not cover is refused.
func TestUnsignedBodies(t *testing.T) {
	proxy := &tamper{}
	s := proxy.serve(t)
	proxy.w = newWorld(t, attesthttp.BindKey, func(o *attesthttp.Options) {
		o.Body, o.Authorities = 4, []string{s.Listener.Addr().String()}
	})
	c, _ := proxy.w.client(t, func(o *attesthttp.TransportOptions) {
		o.Key, o.Server, o.TLS = keys(t)["P-256"], s.URL, s.Client().Transport.(*http.Transport).TLSClientConfig
	})
	proxy.change = func(r *http.Request) { r.Header.Set("Signature", "sig1=:AAAA:") }
	answer, err := c.Post(s.URL, "", strings.NewReader("12345"))
	wantRefusal(t, answer, err, 401, "httpsig.signature")
	proxy.change = func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("1234")), -1
	}
	answer, err = c.Get(s.URL)
	wantRefusal(t, answer, err, 401, attesthttp.RuleCovered)
}

// TestKeyAtAnotherService: an enclave uses another service, which has the same
// challenges, and passes what it gets on to this one, byte for byte.
func TestKeyAtAnotherService(t *testing.T) {
	w := newWorld(t, attesthttp.BindKey)
	other := &tamper{w: w}
	s := other.serve(t)
	c, _ := w.client(t, func(o *attesthttp.TransportOptions) {
		o.Key, o.Server, o.TLS = keys(t)["P-256"], s.URL, s.Client().Transport.(*http.Transport).TLSClientConfig
	})
	answer, err := c.Get(s.URL + "/orders")
	wantRefusal(t, answer, err, 401, attesthttp.RuleAuthority)
	// By the name of this service it is not what the enclave signed.
	other.change = func(r *http.Request) { r.Host = "" }
	answer, err = c.Get(s.URL + "/orders")
	wantRefusal(t, answer, err, 401, "httpsig.signature")
}

func digest(text string) string { return attesthttp.ContentDigestForTest([]byte(text)) }

func TestKeysThatCannotSign(t *testing.T) {
	w := newWorld(t, attesthttp.BindKey)
	c := w.plain(t, w.tls())
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(p521.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string][]byte{"none": nil, "empty": {}, "no key": []byte("key"), "P-521": spki} {
		answer, err := w.present(t, c, w.module, func(r *nsm.AttestationRequest) { r.PublicKey = key })
		t.Log(name)
		wantRefusal(t, answer, err, 401, attesthttp.RuleKey)
	}
	if w.verified.Load() != 0 {
		t.Error("a signature was looked at")
	}
}

// TestBounds: more sessions than there is room for are refused until some end;
// challenges are when the set of used ones is full.
func TestBounds(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS, func(o *attesthttp.Options) {
		o.Sessions, o.SessionAge = 1, 20*time.Second
	})
	first, second := w.plain(t, w.tls()), w.plain(t, w.tls())
	for i, c := range []*http.Client{first, first, second} { // the same connection may attest again
		answer, err := w.present(t, c, w.module, nil)
		if code, text := body(t, answer, err); code != map[bool]int{true: 200, false: 503}[i < 2] {
			t.Errorf("%d: %d %s", i, code, text)
		}
	}
	w.offset.Store(int64(21 * time.Second))
	answer, err := w.present(t, second, w.module, nil)
	if code, text := body(t, answer, err); code != 200 {
		t.Errorf("%d %s", code, text)
	}

	full := newWorld(t, attesthttp.BindTLS, func(o *attesthttp.Options) {
		memory, _ := challenge.NewMemory(challenge.MemoryOptions{Capacity: 1})
		o.Challenges, _ = challenge.New(challenge.Options{Key: make([]byte, 32), Used: memory})
	})
	c := full.plain(t, full.tls())
	answer, err = full.present(t, c, full.module, nil)
	body(t, answer, err)
	answer, err = c.Post(full.server.URL+"/attestation/challenge", "", nil)
	if code, _ := body(t, answer, err); code != 503 {
		t.Errorf("a challenge when full: %d", code)
	}

	large := newWorld(t, attesthttp.BindKey, func(o *attesthttp.Options) { o.Body = 4 })
	client, _ := large.client(t, func(o *attesthttp.TransportOptions) { o.Key = keys(t)["Ed25519"] })
	answer, err = client.Post(large.server.URL, "", strings.NewReader("12345"))
	wantRefusal(t, answer, err, 413, attesthttp.RuleSize)
}

func TestExplain(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS, func(o *attesthttp.Options) { o.Explain = true })
	answer, err := w.present(t, w.plain(t, w.tls()), newModule(t, w.authority, image("bad"), false), nil)
	code, text := body(t, answer, err)
	if code != 401 || !strings.Contains(text, `closest is \"good\": PCR0 differs`) {
		t.Errorf("%d %s", code, text)
	}
}

func TestTransportOptions(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS)
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	for name, o := range map[string]attesthttp.TransportOptions{
		"no server": {Attest: attestBy(w.module)},
		"http":      {Server: "http://example.com", Attest: attestBy(w.module)},
		"path":      {Server: "https://example.com/x", Attest: attestBy(w.module)},
		"no Attest": {Server: "https://example.com"},
		"P-521":     {Server: "https://example.com", Attest: attestBy(w.module), Key: p521},
	} {
		if transport, err := attesthttp.NewTransport(o); err == nil || transport != nil {
			t.Errorf("%s: taken", name)
		}
	}
	c, _ := w.client(t)
	for _, url := range []string{"https://example.com/", strings.Replace(w.server.URL, "https", "http", 1)} {
		if _, err := c.Get(url); err == nil || !strings.Contains(err.Error(), "is not to") {
			t.Errorf("%s: %v", url, err)
		}
	}
	good := attesthttp.Options{Verifier: &attestation.Verifier{}, Releases: &reference.Set{}, Challenges: w.challenges, Binding: attesthttp.BindKey}
	for _, o := range []attesthttp.Options{{}, {Binding: attesthttp.BindTLS}, good} {
		if g, err := attesthttp.New(o); err == nil || g != nil {
			t.Errorf("%+v: taken", o)
		}
	}
	if _, ok := attesthttp.FromContext(t.Context()); ok {
		t.Error("any context is attested")
	}
}
