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
	// KeyID is the keyid of signatures, for BindKey.
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
		id, err = s.takeKey(claimed.UnverifiedPublicKey())
	}
	if err != nil {
		return documentAnswer{}, err
	}
	// An image is judged right below, by the releases, as is the kind.
	if s.Document, err = g.o.Verifier.Verify(raw, expectation); err != nil {
		return documentAnswer{}, err
	}
	return g.begin(r.Context(), id, s)
}

// begin matches the release, uses the challenge and begins the session.
func (g *Guard) begin(ctx context.Context, id sessionKey, s *session) (documentAnswer, error) {
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
	if err := g.o.Challenges.Redeem(ctx, s.Document.Nonce); err != nil {
		return documentAnswer{}, err
	}
	if err := g.sessions.put(id, s, now); err != nil {
		return documentAnswer{}, err
	}
	answer := documentAnswer{Until: s.Until.UTC()}
	if s.key != nil {
		answer.KeyID = keyID(id)
	}
	return answer, nil
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

// takeKey reads the key of a document; its hash names the session.
func (s *session) takeKey(spki []byte) (sessionKey, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err == nil {
		_, err = httpsig.Algorithm(key)
	}
	if err != nil {
		return sessionKey{}, refuse(RuleKey, "public_key of the document cannot sign requests: %w", err)
	}
	s.key = key
	return sha256.Sum256(spki), nil
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
// rest is answered with a refusal. With [BindKey], header fields that the
// signature does not cover are the word of whoever stands between.
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
// and given back.
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
	if err := checkCovered(&signature.Input, r.ContentLength > 0); err != nil {
		return nil, err
	}
	// Before the body: it takes memory, and a keyid is no secret.
	if err := signature.Verify(r, s.key); err != nil {
		return nil, err
	}
	body, err := readBody(w, r, g.o.Body)
	if err != nil {
		return nil, err
	}
	if err := checkCovered(&signature.Input, len(body) > 0); err != nil { // of a body of unknown length
		return nil, err
	}
	if len(body) > 0 || slices.Contains(signature.Components, "content-digest") {
		if err := httpsig.CheckContentDigest(r.Header, body); err != nil {
			return nil, err
		}
	}
	key := challenge.KeyOf(append(append([]byte("signature\x00"), id...), signature.Nonce...))
	if first, err := g.o.SignatureNonces.Use(r.Context(), key, until); err != nil {
		return nil, err
	} else if !first {
		return nil, refuse(RuleNonce, "the signature's nonce was used already")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return s, nil
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

func checkCovered(in *httpsig.Input, body bool) error {
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
	case body && !covers("content-digest"):
		return refuse(RuleCovered, "there is a body and the signature does not cover content-digest")
	}
	return nil
}
