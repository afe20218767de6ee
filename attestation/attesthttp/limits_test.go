// SPDX-License-Identifier: Apache-2.0

package attesthttp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation/attesthttp"
	"github.com/cretula/cretula/attestation/challenge"
	"github.com/cretula/cretula/nsm"
)

// wantStatus checks the status of an answer.
func wantStatus(t testing.TB, what string, answer *http.Response, err error, status int) {
	t.Helper()
	if code, text := body(t, answer, err); code != status {
		t.Errorf("%s: %d %s, want %d", what, code, text, status)
	}
}

// eventually waits for what another goroutine does.
func eventually(t testing.TB, what string, good func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !good(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestClosedConnection: a session ends with its connection, with HTTP/1.1 and 2.
func TestClosedConnection(t *testing.T) {
	for _, two := range []bool{false, true} {
		w := newWorld(t, attesthttp.BindTLS, func(o *attesthttp.Options) { o.Sessions = 1 })
		transport := &http.Transport{TLSClientConfig: w.tls(), ForceAttemptHTTP2: two, MaxConnsPerHost: 1}
		answer, err := w.present(t, &http.Client{Transport: transport}, w.module, nil)
		if err == nil && (answer.ProtoMajor == 2) != two {
			t.Fatalf("HTTP/%d", answer.ProtoMajor)
		}
		wantStatus(t, "the first", answer, err, 200)
		second := w.plain(t, w.tls())
		answer, err = w.present(t, second, w.module, nil)
		wantStatus(t, "while the first is there", answer, err, 503)
		transport.CloseIdleConnections()
		eventually(t, "the slot is free", func() bool { return w.guard.Slots() == 0 })
		answer, err = w.present(t, second, w.module, nil)
		wantStatus(t, "after the first", answer, err, 200)
	}
}

// slow are challenges that are used when the test says so.
type slow struct {
	challenge.Nonces
	redeeming, closed chan struct{}
}

func (s *slow) Redeem(ctx context.Context, nonce []byte) error {
	close(s.redeeming)
	<-s.closed
	return s.Nonces.Redeem(context.WithoutCancel(ctx), nonce)
}

// TestClosedWhilePresenting: no session begins on a connection that is closed
// already.
func TestClosedWhilePresenting(t *testing.T) {
	for _, two := range []bool{false, true} {
		s := &slow{redeeming: make(chan struct{}), closed: make(chan struct{})}
		w := newWorld(t, attesthttp.BindTLS, func(o *attesthttp.Options) { s.Nonces, o.Challenges = o.Challenges, s })
		ended := make(chan struct{}, 1)
		var conn net.Conn
		transport := &http.Transport{TLSClientConfig: w.tls(), ForceAttemptHTTP2: two, MaxConnsPerHost: 1}
		transport.DialContext = func(ctx context.Context, network, address string) (c net.Conn, err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return conn, err
		}
		client := &http.Client{Transport: transport}
		nonce, state := getChallenge(t, client, w.server.URL)
		userData, err := attesthttp.ChannelBinding(state, nonce)
		if err != nil {
			t.Fatal(err)
		}
		document, err := w.module.Attest(t.Context(), nsm.AttestationRequest{Nonce: nonce, UserData: userData})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if answer, err := client.Post(w.server.URL+"/attestation/document", "", bytes.NewReader(document)); err == nil {
				answer.Body.Close()
			}
			ended <- struct{}{}
		}()
		<-s.redeeming
		conn.Close()
		<-ended
		if two { // in HTTP/2 handlers outlive their connection
			eventually(t, "the connection is closed", func() bool { return w.closed.Load() == 1 })
		}
		close(s.closed)
		eventually(t, fmt.Sprintf("the slot is free, HTTP/2 %v", two), func() bool { return w.guard.Slots() == 0 && w.closed.Load() == 1 })
	}
}

// TestFullTable: a document that there is no room for keeps its challenge.
func TestFullTable(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS, func(o *attesthttp.Options) { o.Sessions, o.SessionAge = 1, 20*time.Second })
	first, second := w.plain(t, w.tls()), w.plain(t, w.tls())
	answer, err := w.present(t, first, w.module, nil)
	wantStatus(t, "the first", answer, err, 200)
	document, post := w.document(t, second)
	for range 2 {
		answer, err = post(document)
		wantStatus(t, "without room", answer, err, 503)
	}
	w.offset.Store(int64(21 * time.Second))
	answer, err = post(document)
	wantStatus(t, "with room", answer, err, 200)
	answer, err = post(document)
	wantRefusal(t, answer, err, 401, challenge.RuleUsed)
	answer, err = second.Get(w.server.URL)
	wantStatus(t, "the session", answer, err, 200)
}

// document has one made for a connection, and returns what presents it there.
func (w *world) document(t testing.TB, c *http.Client) ([]byte, func([]byte) (*http.Response, error)) {
	t.Helper()
	nonce, state := getChallenge(t, c, w.server.URL)
	userData, err := attesthttp.ChannelBinding(state, nonce)
	if err != nil {
		t.Fatal(err)
	}
	document, err := w.module.Attest(t.Context(), nsm.AttestationRequest{Nonce: nonce, UserData: userData})
	if err != nil {
		t.Fatal(err)
	}
	return document, func(document []byte) (*http.Response, error) {
		return c.Post(w.server.URL+"/attestation/document", "", bytes.NewReader(document))
	}
}

// from makes the requests of a client those of a host, for byHeader.
type from struct {
	http.RoundTripper
	host string
}

func (f from) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Host", f.host)
	return f.RoundTripper.RoundTrip(r)
}

func byHeader(o *attesthttp.Options) {
	o.RemoteHost = func(r *http.Request) string { return r.Header.Get("X-Host") }
}

func (w *world) plainFrom(t testing.TB, host string) *http.Client {
	c := w.plain(t, w.tls())
	c.Transport = from{c.Transport, host}
	return c
}

// TestHostSessions: a host gets no more than its share of the table, and gets it
// back when its sessions end.
func TestHostSessions(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS, byHeader, func(o *attesthttp.Options) {
		o.Sessions, o.HostSessions, o.SessionAge = 4, 2, 20*time.Second
	})
	for i, test := range []struct {
		host   string
		status int
	}{{"a", 200}, {"a", 200}, {"a", 503}, {"b", 200}, {"a", 503}, {"b", 200}, {"c", 503}} {
		answer, err := w.present(t, w.plainFrom(t, test.host), w.module, nil)
		wantStatus(t, fmt.Sprint(i, " ", test.host), answer, err, test.status)
	}
	w.offset.Store(int64(21 * time.Second))
	c := w.plainFrom(t, "a")
	for range 3 { // on one connection it is one session
		answer, err := w.present(t, c, w.module, nil)
		wantStatus(t, "later", answer, err, 200)
	}
	// A tenth of the table, if nothing is said.
	w = newWorld(t, attesthttp.BindTLS, func(o *attesthttp.Options) { o.Sessions = 20 })
	for i, status := range []int{200, 200, 503} {
		answer, err := w.present(t, w.plain(t, w.tls()), w.module, nil)
		wantStatus(t, fmt.Sprint(i, " of one address"), answer, err, status)
	}
}

// TestHostNonces: a host can fill neither the set of signature nonces nor that of
// used challenges.
func TestHostNonces(t *testing.T) {
	w := newWorld(t, attesthttp.BindKey, byHeader, func(o *attesthttp.Options) { o.HostNonces = 3 })
	clients := map[string]*http.Client{}
	for _, host := range []string{"a", "b"} {
		c, transport := w.client(t, func(o *attesthttp.TransportOptions) { o.Key = keys(t)["Ed25519"] })
		c.Transport = from{transport, host}
		clients[host] = c
	}
	for i, test := range []struct {
		host   string
		status int
	}{{"a", 200}, {"a", 200}, {"a", 200}, {"a", 503}, {"b", 200}, {"a", 503}} {
		answer, err := clients[test.host].Get(w.server.URL)
		wantStatus(t, fmt.Sprint(i, " ", test.host), answer, err, test.status)
	}
	w.offset.Store(int64(2*attesthttp.SignatureWindow + 2*time.Second))
	answer, err := clients["a"].Get(w.server.URL)
	wantStatus(t, "later", answer, err, 200)

	w = newWorld(t, attesthttp.BindTLS, byHeader, func(o *attesthttp.Options) { o.HostNonces = 2 })
	c := w.plainFrom(t, "a")
	for i, status := range []int{200, 200, 503} {
		answer, err := w.present(t, c, w.module, nil)
		wantStatus(t, fmt.Sprint("document ", i), answer, err, status)
	}
	answer, err = w.present(t, w.plainFrom(t, "b"), w.module, nil)
	wantStatus(t, "another host's", answer, err, 200)
}

// broken are challenges that cannot be used.
type broken struct{ challenge.Nonces }

func (broken) Redeem(context.Context, []byte) error { return errors.New("broken") }

// TestNothingIsKeptOfFailures: who did not get in takes no room.
func TestNothingIsKeptOfFailures(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS, func(o *attesthttp.Options) { o.Challenges = broken{o.Challenges} })
	answer, err := w.present(t, w.plain(t, w.tls()), w.module, nil)
	wantStatus(t, "broken", answer, err, 503)
	if w.guard.Slots() != 0 || w.guard.Hosts() != 0 {
		t.Errorf("%d slots, %d hosts", w.guard.Slots(), w.guard.Hosts())
	}
}

func TestRemoteHost(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1", "192.0.2.1:2": "192.0.2.1", "[::ffff:192.0.2.1]:1": "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64", "[2001:db8:1:2::]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64",
		"@": "@", "": "",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = address
		if got := attesthttp.RemoteHostForTest(r); got != want {
			t.Errorf("%s is of %s, want %s", address, got, want)
		}
	}
}

// TestConnStateOfOthers: connections that have no session are nothing to it.
func TestConnStateOfOthers(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS)
	one, two := net.Pipe()
	defer one.Close()
	defer two.Close()
	for _, state := range []http.ConnState{http.StateNew, http.StateClosed, http.StateHijacked} {
		w.guard.ConnState(one, state)
		w.guard.ConnState(tls.Server(two, &tls.Config{}), state)
	}
}

// TestWaitersCanBeCancelled: who waits for another's document ends with its own
// context.
func TestWaitersCanBeCancelled(t *testing.T) {
	w := newWorld(t, attesthttp.BindTLS)
	attesting, release := make(chan struct{}), make(chan struct{})
	c, _ := w.client(t, func(o *attesthttp.TransportOptions) {
		attest := o.Attest
		o.Attest = func(ctx context.Context, r attesthttp.Request) ([]byte, error) {
			close(attesting)
			<-release
			return attest(ctx, r)
		}
	})
	first := make(chan error, 1)
	go func() {
		answer, err := c.Get(w.server.URL)
		if err == nil {
			answer.Body.Close()
		}
		first <- err
	}()
	<-attesting
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() {
		r, _ := http.NewRequestWithContext(ctx, "GET", w.server.URL, nil)
		_, err := c.Do(r)
		waiting <- err
	}()
	cancel()
	select {
	case err := <-waiting:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a cancelled request still waits")
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the one that was waited for: %v", err)
	}
}
