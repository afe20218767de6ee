// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// Prefixes of the ids of access keys, as at AWS: of those that last, and of those
// of sessions.
const (
	accessKeyPrefix  = "AKIA"
	sessionKeyPrefix = "ASIA"
)

// maxAccessKeys is how many access keys a principal can have, so that one can be
// exchanged for another (IAM User Guide, "IAM and AWS STS quotas").
const maxAccessKeys = 2

// Credentials are an access key. The secret is shown once, when it is made.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
}

// An accessKeyRecord is the content of a row of the table "access-key".
type accessKeyRecord struct {
	// Principal is the unique id of whom the key belongs to.
	Principal string    `json:"principal"`
	Created   time.Time `json:"created"`
	Inactive  bool      `json:"inactive,omitempty"`
	// Secret is the secret access key, wrapped: HMAC needs it in the clear.
	Secret []byte `json:"secret"`

	// version is the hash of Secret: every wrapping is another.
	version any
}

func parseAccessKey(content []byte) (*accessKeyRecord, error) {
	r := new(accessKeyRecord)
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("kms: row of an access key: %w", err)
	}
	r.version = sha256.Sum256(r.Secret)
	return r, nil
}

func secretBinding(accessKeyID string) []byte {
	return []byte("cretula.kms.access-key\x00" + accessKeyID)
}

// newCredentials makes an access key in AWS's shape: 20 characters and 40.
func (s *Server) newCredentials(prefix string) (Credentials, error) {
	var random [10 + 30]byte
	if _, err := io.ReadFull(s.random, random[:]); err != nil {
		return Credentials{}, err
	}
	return Credentials{
		AccessKeyID:     prefix + base32.StdEncoding.EncodeToString(random[:10]),
		SecretAccessKey: base64.StdEncoding.EncodeToString(random[10:]),
	}, nil
}

// putAccessKey writes a new access key, and notes it with its principal.
func (s *Server) putAccessKey(tx *ledger.Tx, p *principalRecord, c Credentials) error {
	secret, err := s.rootKey.Wrap([]byte(c.SecretAccessKey), secretBinding(c.AccessKeyID))
	if err != nil {
		return err
	}
	p.AccessKeys = append(slices.Clone(p.AccessKeys), c.AccessKeyID)
	return putJSON(tx, tableAccessKey, c.AccessKeyID, accessKeyRecord{Principal: p.ID, Created: s.now().UTC(), Secret: secret})
}

// An AccessKey is an access key of a principal. Its secret is wrapped until it is
// asked for.
type AccessKey struct {
	// Caller says whose the key is. Others that ask share its principal: policies and
	// tags may not be changed.
	Caller Caller
	// Version is comparable, and differs wherever the secret does.
	Version any

	server  *Server
	wrapped []byte
	secret  []byte // of a session
	// rows are those of Caller.
	rows [2]rowVersion
}

// Secret returns the secret access key.
func (k *AccessKey) Secret() ([]byte, error) {
	if k.secret != nil {
		return k.secret, nil
	}
	id := k.Caller.AccessKeyID
	secret, err := k.server.rootKey.Unwrap(k.wrapped, secretBinding(id))
	if err != nil {
		return nil, fmt.Errorf("kms: secret of access key %s: %w", id, err)
	}
	return secret, nil
}

// FindAccessKey returns whose an access key is. The caller must verify a signature
// with its secret before it believes anything. The error matches [ErrAccessKey],
// also if the key is inactive or its principal disabled, or a
// [ledger.TamperedError] names the row.
func (s *Server) FindAccessKey(ctx context.Context, id string) (*AccessKey, error) {
	found := &AccessKey{Caller: Caller{AccessKeyID: id}, server: s}
	if err := s.ledger.ReadRecent(ctx, (*accessKeyReader)(found)); err != nil {
		return nil, err
	}
	return found, nil
}

// An accessKeyReader fills in the rest of an access key by its id.
type accessKeyReader AccessKey

// Read implements [ledger.Reader].
func (r *accessKeyReader) Read(tx *ledger.Tx) error {
	return r.server.readAccessKey(tx, r.Caller.AccessKeyID, (*AccessKey)(r))
}

// readAccessKey fills found from an access key and its principal: two rows, which are
// kept.
func (s *Server) readAccessKey(tx *ledger.Tx, id string, found *AccessKey) error {
	if keystore.CheckName(tableAccessKey, id) != nil {
		return ErrAccessKey
	}
	key, keyVersion, err := ledger.GetCached(tx, tableAccessKey, id, parseAccessKey)
	if err != nil {
		return absentIsUnknown(err)
	}
	p, version, err := readPrincipal(tx, key.Principal)
	if err != nil {
		return absentIsUnknown(err)
	}
	if key.Inactive || p.Disabled {
		return ErrAccessKey
	}
	*found = AccessKey{
		Caller:  Caller{Principal: p.Principal, AccessKeyID: id, revocation: p.Revocation},
		Version: key.version, server: s, wrapped: key.Secret,
		rows: [2]rowVersion{{tableAccessKey, id, keyVersion}, {tablePrincipal, p.ID, version}},
	}
	found.Caller.rows = found.rows[:]
	return nil
}

// absentIsUnknown makes ErrAccessKey of the error for a row that is not there.
func absentIsUnknown(err error) error {
	if errors.Is(err, keystore.ErrNotFound) {
		return ErrAccessKey
	}
	return err
}

// AccessKey returns whose an access key is, and its secret: see [Server.FindAccessKey].
func (s *Server) AccessKey(ctx context.Context, id string) (Principal, string, error) {
	found, err := s.FindAccessKey(ctx, id)
	if err != nil {
		return Principal{}, "", err
	}
	secret, err := found.Secret()
	if err != nil {
		return Principal{}, "", err
	}
	return found.Caller.Principal, string(secret), nil
}

// errInvalidToken is AWS's answer where access key or session token are not, or no
// longer, those of a caller.
func errInvalidToken() *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.UnrecognizedClient, "The security token included in the request is invalid.")
}

// stillThere looks at what the caller was authenticated by. Who was removed,
// disabled or revoked since changes nothing any more; where anything else is
// different, such as a policy, the request is decided anew.
func (c *call) stillThere(tx *ledger.Tx) error {
	if c.caller.AccessKeyID == "" {
		return nil // of this program itself
	}
	changed := c.caller.rows == nil
	for _, row := range c.caller.rows {
		version, err := tx.Version(row.table, row.id)
		if err != nil && !errors.Is(err, keystore.ErrNotFound) {
			return err
		}
		changed = changed || version != row.version
	}
	if !changed {
		return nil
	}
	found, err := c.server.current(tx, c.caller)
	if errors.Is(err, ErrAccessKey) || err == nil && found.Principal.ID != c.caller.Principal.ID {
		return errInvalidToken()
	}
	if err != nil || c.caller.rows == nil {
		return err
	}
	anew := *c.caller
	anew.Principal, anew.rows, anew.revocation = found.Principal, found.rows, found.revocation
	c.caller = &anew
	return errChanged
}

// CreateAccessKey makes another access key for a principal, of which it can have
// two. name and account are as for [Server.FindPrincipal]; the error matches
// [ErrNoPrincipal] or [ErrPrincipal].
func (s *Server) CreateAccessKey(ctx context.Context, name, account string) (Credentials, error) {
	credentials, err := s.newCredentials(accessKeyPrefix)
	if err != nil {
		return Credentials{}, err
	}
	_, err = s.changePrincipal(ctx, "CreateAccessKey", name, account, func(tx *ledger.Tx, r *principalRecord) error {
		if len(r.AccessKeys) >= maxAccessKeys {
			return fmt.Errorf("%w: %s has %d access keys already", ErrPrincipal, r.IdentityARN(), maxAccessKeys)
		}
		return s.putAccessKey(tx, r, credentials)
	})
	if err != nil {
		return Credentials{}, err
	}
	return credentials, nil
}

// DeleteAccessKey deletes an access key, which is refused from then on. The error
// matches [ErrAccessKey] if no principal has it. A row that was tampered with can be
// deleted too.
func (s *Server) DeleteAccessKey(ctx context.Context, id string) (PrincipalInfo, error) {
	return s.changeAccessKey(ctx, "DeleteAccessKey", id, func(tx *ledger.Tx, r *principalRecord) error {
		r.AccessKeys = slices.DeleteFunc(slices.Clone(r.AccessKeys), func(k string) bool { return k == id })
		if err := absentIsNil(tx.Delete(tableAccessKeyUse, id)); err != nil {
			return err
		}
		return absentIsNil(tx.Delete(tableAccessKey, id))
	})
}

// SetAccessKeyActive makes an access key active or inactive: inactive ones are
// refused. The error matches [ErrAccessKey] if no principal has it.
func (s *Server) SetAccessKeyActive(ctx context.Context, id string, active bool) (PrincipalInfo, error) {
	return s.changeAccessKey(ctx, "UpdateAccessKey", id, func(tx *ledger.Tx, _ *principalRecord) error {
		content, _, err := tx.Get(tableAccessKey, id)
		if err != nil {
			return absentIsUnknown(err)
		}
		record, err := parseAccessKey(content)
		if err != nil {
			return err
		}
		record.Inactive = !active
		return putJSON(tx, tableAccessKey, id, record)
	})
}

// changeAccessKey makes a change of an access key and of the principal that has it.
func (s *Server) changeAccessKey(ctx context.Context, event, id string, fn func(*ledger.Tx, *principalRecord) error) (changed PrincipalInfo, err error) {
	err = s.changePrincipals(ctx, event, func(tx *ledger.Tx) (*PrincipalInfo, error) {
		all, err := s.scanPrincipals(tx)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(all, func(p PrincipalInfo) bool { return p.hasKey(id) })
		if i < 0 {
			return nil, fmt.Errorf("%w: %q", ErrAccessKey, id)
		}
		changed = all[i]
		return s.changeFound(tx, &changed, fn)
	})
	return changed, err
}

// hasKey tells whether the principal has the access key.
func (p *PrincipalInfo) hasKey(id string) bool {
	return slices.ContainsFunc(p.AccessKeys, func(k AccessKeyInfo) bool { return k.ID == id })
}
