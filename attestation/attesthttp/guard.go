// SPDX-License-Identifier: Apache-2.0

package attesthttp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/challenge"
	"github.com/cretula/cretula/internal/httpsig"
)

// ServeChallenge answers a POST with a challenge, {"challenge": base64}.
func (g *Guard) ServeChallenge(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		g.refuseRequest(w, refuse(RuleMethod, "want POST"))
		return
	}
	nonce, err := g.o.Challenges.Issue(r.Context())
	if err != nil {
		g.refuseRequest(w, err)
		return
	}
	writeJSON(w, challengeAnswer{Challenge: nonce})
}

type challengeAnswer struct {
	Challenge []byte `json:"challenge"`
}

type documentAnswer struct {
	Until time.Time `json:"until"`
	// KeyID is the keyid of signatures, for BindKey: that of keySession.
	KeyID string `json:"keyid,omitempty"`
}

func writeJSON(w http.ResponseWriter, v any) {
	body, _ := json.Marshal(v) // of types of this file, which all can be written
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body)
}

// ServeDocument takes a document, as the body of a POST, and begins a session.
// Signatures are looked at last, after everything that costs little.
func (g *Guard) ServeDocument(w http.ResponseWriter, r *http.Request) {
	answer, err := g.present(w, r)
	if err != nil {
		g.refuseRequest(w, err)
		return
	}
	writeJSON(w, answer)
}

func (g *Guard) present(w http.ResponseWriter, r *http.Request) (documentAnswer, error) {
	if r.Method != http.MethodPost {
		return documentAnswer{}, refuse(RuleMethod, "want POST")
	}
	raw, err := readBody(w, r, maxDocument)
	if err != nil {
		return documentAnswer{}, err
	}
	claimed, err := attestation.Parse(raw)
	if err != nil {
		return documentAnswer{}, err
	}
	nonce := claimed.UnverifiedNonce()
	if err := g.o.Challenges.Check(r.Context(), nonce); err != nil {
		return documentAnswer{}, err
	}
	expectation := attestation.Expectation{AllowAnyImage: true, AllowAnyKind: true, Nonce: nonce}
	s := &session{Attested: Attested{Binding: g.o.Binding}}
	var id sessionKey
	if g.o.Binding == BindTLS {
		if expectation.UserData, err = ChannelBinding(r.TLS, nonce); err != nil {
			return documentAnswer{}, err
		}
		if subtle.ConstantTimeCompare(claimed.UnverifiedUserData(), expectation.UserData) != 1 {
			return documentAnswer{}, refuse(RuleChannel, "the document is not bound to this connection")
		}
		id, err = connectionKey(r.TLS)
	} else {
		id, err = s.takeKey(claimed.UnverifiedPublicKey(), nonce)
	}
	if err != nil {
		return documentAnswer{}, err
	}
	// An image is judged right below, by the releases, as is the kind.
	if s.Document, err = g.o.Verifier.Verify(raw, expectation); err != nil {
		return documentAnswer{}, err
	}
	return g.begin(r, id, s)
}

// maxChallengeLife bounds how long any [challenge.Nonces] is taken to remember
// one: the longest life of the package's own, to the next full minute.
const maxChallengeLife = challenge.MaxLifetime + time.Minute

// begin matches the release, uses the challenge and begins the session. Without
// room for the session the challenge is not used.
func (g *Guard) begin(r *http.Request, id sessionKey, s *session) (documentAnswer, error) {
	now := g.o.Now()
	match, err := g.o.Releases.Match(s.Document, now)
	if err != nil {
		return documentAnswer{}, err
	}
	s.Release = match.Release
	s.Until = now.Add(g.o.SessionAge)
	leaf := s.Document.Chain[len(s.Document.Chain)-1]
	for _, end := range []time.Time{leaf.NotAfter, match.NotAfter} {
		if !end.IsZero() && end.Before(s.Until) {
			s.Until = end
		}
	}
	if err := g.redeem(r, id, s.Document.Nonce, now); err != nil {
		return documentAnswer{}, err
	}
	g.sessions.begin(id, s)
	// A connection that was closed meanwhile cancelled the request before
	// ConnState was told: one of the two ends the session.
	if err := r.Context().Err(); err != nil && g.o.Binding == BindTLS {
		g.sessions.end(id)
		return documentAnswer{}, err
	}
	answer := documentAnswer{Until: s.Until.UTC()}
	if s.key != nil {
		answer.KeyID = keyID(id)
	}
	return answer, nil
}

// redeem uses a challenge and leaves room reserved for the session.
func (g *Guard) redeem(r *http.Request, id sessionKey, nonce []byte, now time.Time) error {
	host := g.o.RemoteHost(r)
	if err := g.sessions.reserve(id, host, now); err != nil {
		return err
	}
	until := now.Truncate(time.Minute).Add(maxChallengeLife)
	if !g.documents.take(host, until, now) {
		g.sessions.cancel(id)
		return errFull
	}
	if err := g.o.Challenges.Redeem(r.Context(), nonce); err != nil {
		g.documents.giveBack(host, until)
		g.sessions.cancel(id)
		return err
	}
	return nil
}

// ConnState is for [http.Server].ConnState: with [BindTLS] it ends the session of
// a connection that is closed or hijacked. Without it that session keeps its place
// until its time is over.
func (g *Guard) ConnState(conn net.Conn, state http.ConnState) {
	if g.o.Binding != BindTLS || state != http.StateClosed && state != http.StateHijacked {
		return
	}
	if over, ok := conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		now := over.ConnectionState()
		if id, err := connectionKey(&now); err == nil {
			g.sessions.end(id)
		}
	}
}

// connectionKey names a TLS connection by a hash of its exporter value, which is
// itself a secret of both ends.
func connectionKey(state *tls.ConnectionState) (sessionKey, error) {
	exported, err := exporter(state)
	if err != nil {
		return sessionKey{}, err
	}
	return sha256.Sum256(append([]byte("cretula attesthttp session v1\x00"), exported...)), nil
}

// takeKey reads the key of a document and names the session.
func (s *session) takeKey(spki, challenge []byte) (sessionKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err == nil {
		_, err = httpsig.Algorithm(key)
	}
	if err != nil {
		return sessionKey{}, refuse(RuleKey, "public_key of the document cannot sign requests: %w", err)
	}
	s.key = key
	return keySession(spki, challenge), nil
}

// keySession names a session of a key by a hash of key and challenge, of which the
// keyid of its signatures is made. So a signature is one for a single session: it
// cannot be repeated in a later one of the key, after a restart in which its nonce
// was forgotten, nor be taken for one of another's document that names the key.
func keySession(spki, challenge []byte) sessionKey {
	key := sha256.Sum256(spki)
	h := sha256.New()
	h.Write([]byte("cretula attesthttp key session v1\x00"))
	h.Write(key[:])
	h.Write(challenge)
	return sessionKey(h.Sum(nil))
}

func keyID(id sessionKey) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, refuse(RuleSize, "the body has more than %d bytes", limit)
	}
	return body, err
}

// Middleware lets a request through to next only if it belongs to a session; the
// rest is answered with a refusal. A request that was let through may last longer
// than its session. With [BindKey] a signature covers Content-Type,
// Content-Encoding and Authorization where they are there; other header fields that
// it does not cover, and trailers, are the word of whoever stands between.
func (g *Guard) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := g.admit(w, r)
		if err != nil {
			g.refuseRequest(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, s.Attested)))
	})
}

func (g *Guard) admit(w http.ResponseWriter, r *http.Request) (*session, error) {
	if g.o.Binding == BindKey {
		return g.admitSigned(w, r)
	}
	id, err := connectionKey(r.TLS)
	if err != nil {
		return nil, err
	}
	return g.find(id)
}

func (g *Guard) find(id sessionKey) (*session, error) {
	s := g.sessions.get(id, g.o.Now())
	if s == nil {
		return nil, refuse(RuleSession, "no document was presented, or its session has ended")
	}
	return s, nil
}

// admitSigned checks the signature of a request; its body is read into memory
// and given back. That comes last: it takes memory, and who has neither the key nor
// a request that was not used yet gets none.
func (g *Guard) admitSigned(w http.ResponseWriter, r *http.Request) (*session, error) {
	if !g.authorities[authority(r.Host)] {
		return nil, refuse(RuleAuthority, "the request is to another host than this service")
	}
	signature, err := httpsig.Parse(r.Header)
	if err != nil {
		return nil, err
	}
	id, err := base64.RawURLEncoding.Strict().DecodeString(signature.KeyID)
	if err != nil || len(id) != len(sessionKey{}) {
		return nil, refuse(RuleSession, "keyid names no session")
	}
	s, err := g.find(sessionKey(id))
	if err != nil {
		return nil, err
	}
	until, err := g.checkTimes(&signature.Input)
	if err != nil {
		return nil, err
	}
	if n := len(signature.Nonce); n < minNonce || n > maxNonce {
		return nil, refuse(RuleNonce, "the signature's nonce has %d characters: want %d to %d", n, minNonce, maxNonce)
	}
	if err := checkCovered(&signature.Input, r); err != nil {
		return nil, err
	}
	if err := signature.Verify(r, s.key); err != nil {
		return nil, err
	}
	if err := g.useNonce(r, id, signature.Nonce, until); err != nil {
		return nil, err
	}
	body, err := readBody(w, r, g.o.Body)
	if err != nil {
		return nil, err
	}
	if len(body) > 0 || slices.Contains(signature.Components, "content-digest") {
		if err := httpsig.CheckContentDigest(r.Header, body); err != nil {
			return nil, err
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return s, nil
}

// useNonce uses the nonce of a signature that is good.
func (g *Guard) useNonce(r *http.Request, id []byte, nonce string, until time.Time) error {
	host := g.o.RemoteHost(r)
	if !g.signatures.take(host, until, g.o.Now()) {
		return errFull
	}
	key := challenge.KeyOf(append(append([]byte("signature\x00"), id...), nonce...))
	first, err := g.o.SignatureNonces.Use(r.Context(), key, until)
	if err == nil && !first {
		err = refuse(RuleNonce, "the signature's nonce was used already")
	}
	if err != nil {
		g.signatures.giveBack(host, until)
	}
	return err
}

// checkTimes returns until when the signature's nonce must be remembered.
func (g *Guard) checkTimes(in *httpsig.Input) (time.Time, error) {
	now := g.o.Now()
	created := time.Unix(in.Created, 0)
	if in.Created == 0 || created.Before(now.Add(-SignatureWindow)) || created.After(now.Add(SignatureWindow)) {
		return time.Time{}, refuse(RuleCreated, "the signature's time is absent or more than %v from now", SignatureWindow)
	}
	if in.Expires != 0 && !now.Before(time.Unix(in.Expires, 0)) {
		return time.Time{}, refuse(RuleCreated, "the signature expired")
	}
	return created.Add(SignatureWindow + time.Second), nil
}

// coveredFields say how a body is to be read and in whose name: where they are
// there, a signature covers them. [Transport] signs them.
var coveredFields = []string{"content-type", "content-encoding", "authorization"}

// checkCovered refuses a signature that leaves out what a handler acts on.
func checkCovered(in *httpsig.Input, r *http.Request) error {
	covers := func(names ...string) bool {
		for _, name := range names {
			if !slices.Contains(in.Components, name) {
				return false
			}
		}
		return true
	}
	switch {
	case !covers("@method"):
		return refuse(RuleCovered, "the signature does not cover @method")
	case !covers("@target-uri") && !covers("@authority", "@path", "@query"):
		return refuse(RuleCovered, "the signature covers neither @target-uri nor @authority, @path and @query")
	case r.ContentLength != 0 && !covers("content-digest"): // a length that is not known is -1
		return refuse(RuleCovered, "there is a body and the signature does not cover content-digest")
	}
	for _, name := range coveredFields {
		switch n := len(r.Header.Values(name)); {
		case n > 1: // as one or as several, they have one signature (RFC 9421 §2.1)
			return refuse(RuleCovered, "%s is there %d times", name, n)
		case n == 1 && !covers(name):
			return refuse(RuleCovered, "there is %s and the signature does not cover it", name)
		}
	}
	return nil
}
