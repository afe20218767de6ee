// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cretula/cretula/kms/ledger"
)

// Token keys seal the tokens of sessions. The newest one is used; older ones stay
// until the last session that they sealed has ended.
const (
	tableTokenKey  = "token-key" // id: 16 hexadecimal digits, the first 8 of them Unix time
	tokenKeyIDSize = 8
	tokenKeySize   = 32
	// tokenKeyLife is how long a token key is used for new sessions.
	tokenKeyLife = 24 * time.Hour
	// tokenKeyRest is how long it stays after that: the longest session, and an hour
	// for servers whose clocks differ.
	tokenKeyRest = longestSession + time.Hour
)

// A tokenKeyRecord is the content of a row of the table "token-key".
type tokenKeyRecord struct {
	Created time.Time `json:"created"`
	// Key is wrapped.
	Key []byte `json:"key"`
}

// A tokenKey is a token key as it is used.
type tokenKey struct {
	id     string
	secret []byte
}

// A TokenKeyInfo is a token key as it is listed.
type TokenKeyInfo struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
}

func parseTokenKey(content []byte) (*tokenKeyRecord, error) {
	r := new(tokenKeyRecord)
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("kms: row of a token key: %w", err)
	}
	return r, nil
}

func tokenKeyBinding(id string) []byte { return []byte("cretula.kms.token-key\x00" + id) }

func (s *Server) readTokenKey(tx *ledger.Tx, id string) (tokenKey, error) {
	r, _, err := ledger.GetCached(tx, tableTokenKey, id, parseTokenKey)
	if err != nil {
		return tokenKey{}, err
	}
	secret, err := s.rootKey.Unwrap(r.Key, tokenKeyBinding(id))
	if err != nil {
		return tokenKey{}, fmt.Errorf("kms: token key %s: %w", id, err)
	}
	return tokenKey{id, secret}, nil
}

// scanTokenKeys returns the token keys, the oldest first, and those that cannot be
// believed.
func scanTokenKeys(tx *ledger.Tx) (keys []TokenKeyInfo, tampered []string, err error) {
	var bad error
	err = tx.Scan(tableTokenKey, "", func(row ledger.Row) bool {
		if IsTampered(row.Err) {
			tampered = append(tampered, row.ID)
			return true
		}
		if bad = row.Err; bad != nil {
			return false
		}
		var r *tokenKeyRecord
		if r, bad = parseTokenKey(row.Content); bad != nil {
			return false
		}
		keys = append(keys, TokenKeyInfo{row.ID, r.Created})
		return true
	})
	return keys, tampered, errors.Join(bad, err)
}

// newestTokenKey returns the token key for new sessions. The first one is made here.
func (s *Server) newestTokenKey(ctx context.Context) (tokenKey, error) {
	for {
		var key tokenKey
		err := s.ledger.View(ctx, func(tx *ledger.Tx) error {
			keys, _, err := scanTokenKeys(tx)
			if err != nil || len(keys) == 0 {
				return err
			}
			key, err = s.readTokenKey(tx, keys[len(keys)-1].ID)
			return err
		})
		if err != nil || key.id != "" {
			return key, err
		}
		if err := s.rotateTokenKeys(ctx, "Service", true, false); err != nil {
			return tokenKey{}, err
		}
	}
}

// ListTokenKeys returns the token keys, the oldest first. The last one seals the
// tokens of new sessions.
func (s *Server) ListTokenKeys(ctx context.Context) (keys []TokenKeyInfo, err error) {
	err = s.ledger.View(ctx, func(tx *ledger.Tx) error {
		keys, _, err = scanTokenKeys(tx)
		return err
	})
	return keys, err
}

// RotateTokenKey makes a new token key. With retire it deletes all others, which
// ends every session there is.
func (s *Server) RotateTokenKey(ctx context.Context, retire bool) error {
	return s.rotateTokenKeys(ctx, "Operator", false, retire)
}

// EndSessions deletes all token keys of a store that no service has open, and with them
// every session. It is for a store that was put back to an earlier state, in which a
// session may be good that was ended since.
func EndSessions(ctx context.Context, l *ledger.Ledger) error {
	return l.Update(ctx, func(tx *ledger.Tx) error {
		keys, tampered, err := scanTokenKeys(tx)
		if err != nil {
			return err
		}
		for _, k := range keys {
			tampered = append(tampered, k.ID)
		}
		for _, id := range tampered {
			if err := tx.Delete(tableTokenKey, id); err != nil {
				return err
			}
		}
		return nil
	})
}

// rotateDueTokenKeys makes a new token key if it is time, and deletes those by which
// no session can be sealed any more. A service without sessions has none.
func (s *Server) rotateDueTokenKeys(ctx context.Context) error {
	var due bool
	err := s.ledger.View(ctx, func(tx *ledger.Tx) error {
		keys, _, err := scanTokenKeys(tx)
		due = len(keys) > 0 && (s.tokenKeyDue(keys) || len(s.restedTokenKeys(keys)) > 0)
		return err
	})
	if err != nil || !due {
		return err
	}
	return s.rotateTokenKeys(ctx, "Service", true, false)
}

// tokenKeyDue tells whether it is time for a new token key.
func (s *Server) tokenKeyDue(keys []TokenKeyInfo) bool {
	return len(keys) == 0 || !s.now().Before(keys[len(keys)-1].Created.Add(tokenKeyLife))
}

// restedTokenKeys are those whose successor is so old that no session of theirs lives.
func (s *Server) restedTokenKeys(keys []TokenKeyInfo) (ids []string) {
	for i := range len(keys) - 1 {
		if s.now().After(keys[i+1].Created.Add(tokenKeyRest)) {
			ids = append(ids, keys[i].ID)
		}
	}
	return ids
}

// errNothingDue: another server was first.
var errNothingDue = errors.New("kms: no token key is due")

// rotateTokenKeys makes a new token key, ifDue only if it is time, and deletes
// those that have rested, or all others.
func (s *Server) rotateTokenKeys(ctx context.Context, who string, ifDue, retire bool) error {
	event, err := s.ownEvent("RotateTokenKey", who)
	if err != nil {
		return err
	}
	err = s.changeOwn(ctx, event, func(tx *ledger.Tx) error {
		keys, tampered, err := scanTokenKeys(tx)
		if err != nil {
			return err
		}
		gone, made := s.restedTokenKeys(keys), ""
		if retire {
			gone = tampered
			for _, k := range keys {
				gone = append(gone, k.ID)
			}
		}
		for _, id := range gone {
			if err := tx.Delete(tableTokenKey, id); err != nil {
				return err
			}
		}
		if !ifDue || s.tokenKeyDue(keys) {
			if made, err = s.putTokenKey(tx, keys); err != nil {
				return err
			}
		} else if len(gone) == 0 {
			return errNothingDue
		}
		event.RequestParameters = map[string]any{"tokenKey": made, "deleted": gone}
		return nil
	})
	if errors.Is(err, errNothingDue) {
		return nil
	}
	return err
}

// putTokenKey writes a new token key, whose id is behind all others.
func (s *Server) putTokenKey(tx *ledger.Tx, keys []TokenKeyInfo) (string, error) {
	raw, err := s.randomBytes(tokenKeyIDSize)
	if err != nil {
		return "", err
	}
	now := s.now().UTC()
	binary.BigEndian.PutUint32(raw, uint32(now.Unix()))
	id := hex.EncodeToString(raw)
	if len(keys) > 0 && keys[len(keys)-1].ID >= id { // of a server whose clock is ahead, or of this second
		last, err := hex.DecodeString(keys[len(keys)-1].ID)
		if err != nil {
			return "", err
		}
		binary.BigEndian.PutUint32(raw, binary.BigEndian.Uint32(last)+1)
		id = hex.EncodeToString(raw)
	}
	secret, err := s.randomBytes(tokenKeySize)
	if err != nil {
		return "", err
	}
	defer clear(secret)
	wrapped, err := s.rootKey.Wrap(secret, tokenKeyBinding(id))
	if err != nil {
		return "", err
	}
	return id, putJSON(tx, tableTokenKey, id, tokenKeyRecord{now, wrapped})
}
