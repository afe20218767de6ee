// SPDX-License-Identifier: Apache-2.0

package attesthttp

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/cretula/cretula/internal/httpsig"
)

// A Request is what a document is asked to carry. It has the fields of an
// nsm.AttestationRequest and can be converted to one.
type Request struct {
	PublicKey []byte
	UserData  []byte
	Nonce     []byte
}

// TransportOptions are what [NewTransport] makes a Transport of. Server and
// Attest are required.
type TransportOptions struct {
	// Server is the https URL of the service, without a path. Requests to others
	// are refused: they would learn of, or get, documents made for this one.
	Server string
	// Attest gets a document from the security module.
	Attest func(ctx context.Context, request Request) (document []byte, err error)
	// Key, if given, chooses [BindKey]: an ECDSA key on P-256 or P-384, an
	// Ed25519 or an RSA key, that never leaves the enclave. Nil: [BindTLS].
	Key crypto.Signer
	// TLS configures the connection, as of [http.Transport]. Nil: the defaults.
	TLS *tls.Config
	// ChallengePath and DocumentPath are where the service has ServeChallenge
	// and ServeDocument. Empty: /attestation/challenge, /attestation/document.
	ChallengePath, DocumentPath string
	// Now is the clock of signatures. Nil: time.Now.
	Now func() time.Time
}

// A Transport is the client's side: an [http.RoundTripper] that presents a
// document whenever the service wants one. It is safe for concurrent use.
type Transport struct {
	o      TransportOptions
	server *url.URL
	base   *http.Transport
	spki   []byte

	// turn holds one value while a document is presented. It is no Mutex, which
	// would not let those who wait be cancelled.
	turn chan struct{}
	// session is the latest one, nil before the first.
	session atomic.Pointer[clientSession]
}

// A clientSession is what began with one document.
type clientSession struct {
	// keyID is that of its signatures, for BindKey.
	keyID string
}

// maxSigned is the greatest size of a body to be signed, and maxAnswer that of
// an answer to a challenge or document.
const (
	maxSigned = 16 << 20
	maxAnswer = 64 << 10
)

// NewTransport makes a Transport. It uses no proxy and keeps a single connection, over which with
// HTTP/1.1 one request goes at a time: with [BindTLS], the session is that
// connection.
func NewTransport(o TransportOptions) (*Transport, error) {
	server, err := url.Parse(o.Server)
	if err != nil || server.Scheme != "https" || server.Host == "" || server.Path != "" || server.RawQuery != "" || server.User != nil {
		return nil, errors.New("attesthttp: Server must be an https URL without a path")
	}
	if o.Attest == nil {
		return nil, errors.New("attesthttp: Attest is required")
	}
	if o.ChallengePath == "" {
		o.ChallengePath = "/attestation/challenge"
	}
	if o.DocumentPath == "" {
		o.DocumentPath = "/attestation/document"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Transport{o: o, server: server, turn: make(chan struct{}, 1)}
	if o.Key != nil {
		if _, err := httpsig.Algorithm(o.Key.Public()); err != nil {
			return nil, fmt.Errorf("attesthttp: Key: %w", err)
		}
		if t.spki, err = x509.MarshalPKIXPublicKey(o.Key.Public()); err != nil {
			return nil, fmt.Errorf("attesthttp: Key: %w", err)
		}
	}
	config := &tls.Config{}
	if o.TLS != nil {
		config = o.TLS.Clone()
	}
	config.MinVersion = tls.VersionTLS13
	t.base = &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, MaxConnsPerHost: 1}
	return t, nil
}

// CloseIdleConnections closes the connection if no request is under way, which
// ends the session of [BindTLS].
func (t *Transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// RoundTrip implements [http.RoundTripper]. If the service says that there is no
// session, a document is presented and the request sent once more, provided its
// body can be (GetBody).
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" || r.URL.Host != t.server.Host || r.Host != "" && r.Host != t.server.Host {
		closeBody(r.Body)
		return nil, fmt.Errorf("attesthttp: the request is not to %s", t.o.Server)
	}
	session, err := t.present(r.Context(), nil)
	if err != nil {
		closeBody(r.Body)
		return nil, err
	}
	answer, err := t.send(r, r.Body, session)
	if err != nil || !wantsDocument(answer) || r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		return answer, err
	}
	discard(answer.Body)
	if session, err = t.present(r.Context(), session); err != nil {
		return nil, err
	}
	var body io.ReadCloser
	if r.GetBody != nil {
		if body, err = r.GetBody(); err != nil {
			return nil, err
		}
	}
	return t.send(r, body, session)
}

// wantsDocument tells whether an answer is the refusal for want of a session. It
// gives the body back.
func wantsDocument(answer *http.Response) bool {
	if answer.StatusCode != http.StatusUnauthorized || answer.Header.Get("Content-Type") != "application/problem+json" {
		return false
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	discard(answer.Body)
	answer.Body = io.NopCloser(bytes.NewReader(data))
	var p problem
	return err == nil && json.Unmarshal(data, &p) == nil && p.Rule == RuleSession
}

// send sends a copy of r, signed if there is a key.
func (t *Transport) send(r *http.Request, body io.ReadCloser, session *clientSession) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.Body = body
	if t.o.Key == nil {
		return t.base.RoundTrip(out)
	}
	in := httpsig.Input{
		Components: []string{"@method", "@authority", "@path", "@query"},
		Created:    t.o.Now().Unix(), Nonce: rand.Text(), KeyID: session.keyID,
	}
	for _, name := range coveredFields {
		if len(out.Header.Values(name)) > 0 {
			in.Components = append(in.Components, name)
		}
	}
	if body != nil && body != http.NoBody {
		data, err := io.ReadAll(io.LimitReader(body, maxSigned+1))
		body.Close()
		if err != nil {
			return nil, err
		}
		if len(data) > maxSigned {
			return nil, fmt.Errorf("attesthttp: the body has more than %d bytes", maxSigned)
		}
		out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
		out.Header.Set("Content-Digest", httpsig.ContentDigest(data))
		in.Components = append(in.Components, "content-digest")
	}
	if err := httpsig.Sign(out, in, t.o.Key); err != nil {
		closeBody(out.Body)
		return nil, err
	}
	return t.base.RoundTrip(out)
}

// present returns the latest session. If that is the one that was seen to be over,
// or nil, it first gets a challenge and presents a document.
func (t *Transport) present(ctx context.Context, over *clientSession) (*clientSession, error) {
	if latest := t.session.Load(); latest != over {
		return latest, nil
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if latest := t.session.Load(); latest != over {
		return latest, nil
	}
	var issued challengeAnswer
	state, err := t.post(ctx, t.o.ChallengePath, nil, &issued)
	if err != nil {
		return nil, fmt.Errorf("attesthttp: asking for a challenge: %w", err)
	}
	want := Request{Nonce: issued.Challenge, PublicKey: t.spki}
	if t.o.Key == nil {
		if want.UserData, err = ChannelBinding(state, issued.Challenge); err != nil {
			return nil, err
		}
	}
	document, err := t.o.Attest(ctx, want)
	if err != nil {
		return nil, fmt.Errorf("attesthttp: %w", err)
	}
	var accepted documentAnswer
	if _, err := t.post(ctx, t.o.DocumentPath, document, &accepted); err != nil {
		return nil, fmt.Errorf("attesthttp: presenting a document: %w", err)
	}
	began := &clientSession{}
	if t.o.Key != nil {
		began.keyID = keyID(keySession(t.spki, issued.Challenge))
	}
	t.session.Store(began)
	return began, nil
}

// post sends a POST and reads a JSON answer.
func (t *Transport) post(ctx context.Context, path string, body []byte, answer any) (*tls.ConnectionState, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.o.Server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/octet-stream")
	got, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	data, err := io.ReadAll(io.LimitReader(got.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if got.StatusCode != http.StatusOK {
		var p problem
		_ = json.Unmarshal(data, &p) // what it is not is left empty
		return nil, fmt.Errorf("the service answered %d %q %q", got.StatusCode, p.Rule, p.Detail)
	}
	return got.TLS, json.Unmarshal(data, answer)
}

func closeBody(body io.ReadCloser) {
	if body != nil {
		body.Close()
	}
}

// discard reads the rest of an answer, so that its connection is used again.
func discard(body io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(body, maxAnswer))
	body.Close()
}
