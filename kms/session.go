// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cretula/cretula/kms/ledger"
)

// ErrSessionExpired: the time of a session is over.
var ErrSessionExpired = errors.New("kms: the session has expired")

// A Session is what temporary credentials say beside whose they are. It was sealed
// into their token by this service, and is as it was then.
type Session struct {
	// Name is the name of a role's session; a user's has none.
	Name string `json:"name,omitempty"`
	// Policies are the session policies, JSON texts, beyond which it may do nothing.
	Policies []string `json:"policies,omitempty"`
	// Tags are the session's own, which come before those of the role. Transitive are
	// the keys of those that the sessions have which are assumed with this one.
	Tags       map[string]string `json:"tags,omitempty"`
	Transitive []string          `json:"transitive,omitempty"`
	// SourceIdentity is who began the chain of sessions, by its own words; it cannot
	// be changed in it.
	SourceIdentity string `json:"source_identity,omitempty"`
	// FederatedProvider is the ARN of the OIDC provider of a web identity.
	FederatedProvider string    `json:"federated_provider,omitempty"`
	Issued            time.Time `json:"issued"`
	Expires           time.Time `json:"expires"`

	// Links are whom the session depends on: first whose it is, then who assumed it,
	// and who assumed that.
	Links []sessionLink `json:"links"`
	// tokenKey is the row of the key that opened the token.
	tokenKey string
}

// A sessionLink is a principal on which a session depends.
type sessionLink struct {
	ID string `json:"id"`
	// At is when it got the session by which it acted, or, with an access key, when it
	// acted: what is revoked before that is of no matter.
	At time.Time `json:"at"`
	// Revocation is the last revocation of the principal that it knew of, see
	// principalRecord.
	Revocation string `json:"revocation,omitempty"`
}

// clockDifference is how far the clocks of two servers can be apart: each up to a
// minute from that of their database, see package postgres.
const clockDifference = 2 * time.Minute

// revoked tells whether a revocation of the principal ends what depends on the link.
// One that the link knew of does not, whatever the clocks of the servers say that
// wrote down the one and the other; any other does if the link may be older.
func (l *sessionLink) revoked(p *principalRecord) bool {
	return l.Revocation != p.Revocation && l.At.Before(p.RevokedBefore.Add(clockDifference))
}

// A sealedSession is what a token holds.
type sealedSession struct {
	Session
	AccessKeyID string `json:"access_key_id"`
	Secret      string `json:"secret"`
}

// A token is, in base64, a version, the id of its token key, a nonce, and the session
// in AES-256-GCM.
const (
	tokenVersion   = 1
	tokenNonceSize = 12
	tokenHeader    = 1 + tokenKeyIDSize + tokenNonceSize
	// maxToken bounds a token in characters. What issue seals is less: the limits of
	// STS, maxPacked and maxChain keep it below 12 KiB.
	maxToken = 16 << 10
)

// TokenUtilization is how much of the allowed size a session token takes, in percent.
func TokenUtilization(token string) int { return (len(token)*100 + maxToken - 1) / maxToken }

// tokenBinding is the additional data of a token: all that stands before the nonce.
func tokenBinding(head []byte) []byte {
	return append([]byte("cretula.kms.session-token\x00"), head...)
}

func tokenCipher(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// sealSession makes the token of a session.
func (s *Server) sealSession(key tokenKey, session *sealedSession) (string, error) {
	content, err := json.Marshal(session)
	if err != nil {
		return "", err
	}
	defer clear(content)
	id, err := hex.DecodeString(key.id)
	if err != nil {
		return "", err
	}
	aead, err := tokenCipher(key.secret)
	if err != nil {
		return "", err
	}
	token := append([]byte{tokenVersion}, id...)
	binding := tokenBinding(token)
	nonce := make([]byte, tokenNonceSize)
	if _, err := io.ReadFull(s.random, nonce); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(aead.Seal(append(token, nonce...), nonce, content, binding)), nil
}

// openSession opens a token. The error matches ErrAccessKey for what is no token of
// this store, or of a token key that is gone.
func (s *Server) openSession(tx *ledger.Tx, token string) (*sealedSession, error) {
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") { // which the decoder passes over
		return nil, ErrAccessKey
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < tokenHeader || raw[0] != tokenVersion {
		return nil, ErrAccessKey
	}
	id := hex.EncodeToString(raw[1 : 1+tokenKeyIDSize])
	key, err := s.readTokenKey(tx, id)
	if err != nil {
		return nil, absentIsUnknown(err)
	}
	defer clear(key.secret)
	aead, err := tokenCipher(key.secret)
	if err != nil {
		return nil, err
	}
	content, err := aead.Open(nil, raw[tokenHeader-tokenNonceSize:tokenHeader], raw[tokenHeader:], tokenBinding(raw[:1+tokenKeyIDSize]))
	if err != nil {
		return nil, ErrAccessKey
	}
	defer clear(content)
	session := new(sealedSession)
	if err := json.Unmarshal(content, session); err != nil || len(session.Links) == 0 {
		return nil, fmt.Errorf("kms: a session token of ours cannot be read: %w", err)
	}
	session.tokenKey = id
	return session, nil
}

// FindSession is [Server.FindAccessKey] for temporary credentials: an access key id
// and the session token that goes with it. The error matches [ErrAccessKey] if the
// token is not that of the access key, or not of this service, or its token key is
// retired, or one of those on whom the session depends was removed, disabled or
// revoked; and [ErrSessionExpired] if its time is over.
func (s *Server) FindSession(ctx context.Context, id, token string) (found *AccessKey, err error) {
	err = s.ledger.ViewRecent(ctx, func(tx *ledger.Tx) error {
		sealed, err := s.openSession(tx, token)
		if err != nil {
			return err
		}
		if sealed.AccessKeyID != id {
			return ErrAccessKey
		}
		if !s.now().Before(sealed.Expires) {
			return ErrSessionExpired
		}
		caller, err := s.sessionCaller(tx, id, &sealed.Session)
		if err != nil {
			return err
		}
		// Nobody but this service makes a token, so that an access key id has one secret.
		found = &AccessKey{Caller: caller, Version: id, server: s, secret: []byte(sealed.Secret)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// sessionCaller looks at all that the session depends on, as it is now.
func (s *Server) sessionCaller(tx *ledger.Tx, id string, session *Session) (Caller, error) {
	caller := Caller{AccessKeyID: id, Session: session, rows: make([]rowVersion, 0, 1+len(session.Links))}
	_, version, err := ledger.GetCached(tx, tableTokenKey, session.tokenKey, parseTokenKey)
	if err != nil {
		return Caller{}, absentIsUnknown(err)
	}
	caller.rows = append(caller.rows, rowVersion{tableTokenKey, session.tokenKey, version})
	for i := range session.Links {
		link := &session.Links[i]
		p, version, err := readPrincipal(tx, link.ID)
		if err != nil {
			return Caller{}, absentIsUnknown(err)
		}
		if p.Disabled || link.revoked(p) {
			return Caller{}, ErrAccessKey
		}
		caller.rows = append(caller.rows, rowVersion{tablePrincipal, link.ID, version})
		if i == 0 {
			caller.Principal = p.Principal
			caller.Principal.session = session.Name
		}
	}
	return caller, nil
}

// current authenticates the caller anew.
func (s *Server) current(tx *ledger.Tx, caller *Caller) (Caller, error) {
	if caller.Session != nil {
		return s.sessionCaller(tx, caller.AccessKeyID, caller.Session)
	}
	var found AccessKey
	if err := s.readAccessKey(tx, caller.AccessKeyID, &found); err != nil {
		return Caller{}, err
	}
	return found.Caller, nil
}
