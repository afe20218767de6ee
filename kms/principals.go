// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"context"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/ledger"
)

// accessKeyPrefix begins the id of an access key, as at AWS.
const accessKeyPrefix = "AKIA"

// AdminName is the user that [Server.EnsureAdmin] makes.
const AdminName = "admin"

// AdminPolicy is the identity policy of that user.
const AdminPolicy = `{"Version":"2012-10-17","Statement":[{"Sid":"Everything","Effect":"Allow","Action":"kms:*","Resource":"*"}]}`

var (
	// ErrPrincipalExists: the account has a principal of that type and name.
	ErrPrincipalExists = errors.New("kms: there is such a principal already")
	// ErrNoPrincipal: there is no such principal.
	ErrNoPrincipal = errors.New("kms: there is no such principal")
	// ErrPrincipal: the description of a principal breaks a rule.
	ErrPrincipal = errors.New("kms: not a principal")
	// ErrAccessKey: no principal has the access key.
	ErrAccessKey = errors.New("kms: unknown access key")
)

// Credentials are an access key. The secret is shown once, when it is made.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
}

// A PrincipalInfo is a principal as it is listed.
type PrincipalInfo struct {
	Principal
	ARN         string    `json:"arn"`
	AccessKeyID string    `json:"access_key_id"`
	Created     time.Time `json:"created"`
	// Tampered says what is wrong with the row, and that all else of the
	// principal is unknown; empty if nothing is. Such a principal is refused.
	Tampered string `json:"tampered,omitempty"`

	unlisted bool // as in principalRecord
}

// AddPrincipal makes a principal with one access key and a new unique id, whatever
// p has for one. An empty account is that of the store. The error matches
// [ErrPrincipal] or [ErrPrincipalExists]: names are unique without regard to case
// and path.
func (s *Server) AddPrincipal(ctx context.Context, p Principal) (Credentials, error) {
	if p.Account == "" {
		p.Account = s.account
	}
	if p.Policies == nil {
		p.Policies = []string{}
	}
	if err := checkPrincipal(&p); err != nil {
		return Credentials{}, err
	}
	credentials, err := s.newCredentials()
	if err != nil {
		return Credentials{}, err
	}
	if p.ID, err = s.newUniqueID(p.Type); err != nil {
		return Credentials{}, err
	}
	err = s.changePrincipals(ctx, "AddPrincipal", func(tx *ledger.Tx) (*PrincipalInfo, error) {
		existing, err := s.findPrincipal(tx, tablePrincipalName, p.nameRow(), func(other *Principal) bool { return other.nameRow() == p.nameRow() })
		if err != nil {
			return nil, err
		}
		if existing != nil {
			return nil, fmt.Errorf("%w: %s", ErrPrincipalExists, existing.ARN)
		}
		return &PrincipalInfo{Principal: p, AccessKeyID: credentials.AccessKeyID}, s.putPrincipal(tx, &p, credentials)
	})
	if err != nil {
		return Credentials{}, err
	}
	return credentials, nil
}

// changePrincipals makes a change for the operator. The event has all of the
// principal that fn returns but its secret: it must say what the principal may do
// from then on, or could do till then.
func (s *Server) changePrincipals(ctx context.Context, name string, fn func(*ledger.Tx) (*PrincipalInfo, error)) error {
	event, err := s.ownEvent(name, "Operator")
	if err != nil {
		return err
	}
	return s.changeOwn(ctx, event, func(tx *ledger.Tx) error {
		p, err := fn(tx)
		if err == nil {
			event.RequestParameters = p.parameters()
		}
		return err
	})
}

// parameters is the principal in an event.
func (p *PrincipalInfo) parameters() map[string]any {
	m := map[string]any{"accessKeyId": p.AccessKeyID}
	if p.Tampered != "" {
		m["tampered"] = clip(p.Tampered)
		return m
	}
	m["principal"], m["principalId"], m["policies"] = p.IdentityARN(), p.ID, p.Policies
	if p.Boundary != "" {
		m["permissionsBoundary"] = p.Boundary
	}
	if len(p.Tags) > 0 {
		m["tags"] = p.Tags
	}
	return m
}

func secretBinding(accessKeyID string) []byte {
	return []byte("cretula.kms.access-key\x00" + accessKeyID)
}

// newCredentials makes an access key in AWS's shape: 20 characters and 40.
func (s *Server) newCredentials() (Credentials, error) {
	var random [10 + 30]byte
	if _, err := io.ReadFull(s.random, random[:]); err != nil {
		return Credentials{}, err
	}
	return Credentials{
		AccessKeyID:     accessKeyPrefix + base32.StdEncoding.EncodeToString(random[:10]),
		SecretAccessKey: base64.StdEncoding.EncodeToString(random[10:]),
	}, nil
}

// RemovePrincipal removes a principal and its access key, which is refused from
// then on. name is the name of a user or role of the account (empty: the
// store's), with its path or without, or an access key id, which also reaches a
// row that was tampered with. The error matches [ErrNoPrincipal], or [ErrPrincipal] if a user and a
// role have that name.
func (s *Server) RemovePrincipal(ctx context.Context, name, account string) (PrincipalInfo, error) {
	var removed PrincipalInfo
	account = cmp.Or(account, s.account)
	err := s.changePrincipals(ctx, "RemovePrincipal", func(tx *ledger.Tx) (*PrincipalInfo, error) {
		all, err := scanPrincipals(tx)
		if err != nil {
			return nil, err
		}
		found := slices.DeleteFunc(all, func(p PrincipalInfo) bool {
			named := p.Tampered == "" && p.Account == account && (p.Name == name || p.baseName() == name)
			return !named && p.AccessKeyID != name
		})
		switch len(found) {
		case 0:
			return nil, fmt.Errorf("%w: %q", ErrNoPrincipal, name)
		case 1:
			removed = found[0]
			return &removed, deletePrincipal(tx, &removed)
		}
		return nil, fmt.Errorf("%w: a user and a role are called %q: name the access key", ErrPrincipal, name)
	})
	if err != nil {
		return PrincipalInfo{}, err
	}
	return removed, nil
}

// ListPrincipals returns all principals, ordered by account, name and type.
func (s *Server) ListPrincipals(ctx context.Context) ([]PrincipalInfo, error) {
	var all []PrincipalInfo
	err := s.ledger.View(ctx, func(tx *ledger.Tx) (err error) {
		all, err = scanPrincipals(tx)
		return err
	})
	return all, err
}

func scanPrincipals(tx *ledger.Tx) ([]PrincipalInfo, error) {
	all := []PrincipalInfo{}
	var bad error
	err := tx.Scan(tablePrincipal, "", func(row ledger.Row) bool {
		info := PrincipalInfo{AccessKeyID: row.ID}
		switch {
		case IsTampered(row.Err):
			info.Tampered = row.Err.Error()
		case row.Err != nil:
			bad = row.Err
			return false
		default:
			var record *principalRecord
			if record, bad = parsePrincipal(row.ID, row.Content); bad != nil {
				return false
			}
			info.Principal, info.Created, info.unlisted = record.Principal, record.Created, record.unlisted
			info.ARN = record.ARN()
		}
		all = append(all, info)
		return true
	})
	if err := errors.Join(bad, err); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b PrincipalInfo) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type),
			cmp.Compare(a.AccessKeyID, b.AccessKeyID))
	})
	return all, nil
}

// An AccessKey is an access key of a principal. Its secret is wrapped until it is
// asked for.
type AccessKey struct {
	// Principal is shared with others that ask: its policies and tags may not be
	// changed.
	Principal Principal
	// Version is comparable, and differs wherever the secret does.
	Version any

	server  *Server
	id      string
	wrapped []byte
}

// Secret returns the secret access key.
func (k *AccessKey) Secret() ([]byte, error) {
	secret, err := k.server.rootKey.Unwrap(k.wrapped, secretBinding(k.id))
	if err != nil {
		return nil, fmt.Errorf("kms: secret of access key %s: %w", k.id, err)
	}
	return secret, nil
}

// FindAccessKey returns whose an access key is. The caller must verify a signature
// with its secret before it believes anything. The error matches [ErrAccessKey],
// or a [ledger.TamperedError] names the row.
func (s *Server) FindAccessKey(ctx context.Context, id string) (AccessKey, error) {
	if keystore.CheckName(tablePrincipal, id) != nil {
		return AccessKey{}, ErrAccessKey
	}
	var record *principalRecord
	err := s.ledger.ViewRecent(ctx, func(tx *ledger.Tx) (err error) {
		record, _, err = ledger.GetCached(tx, tablePrincipal, id, func(content []byte) (*principalRecord, error) {
			return parsePrincipal(id, content)
		})
		return err
	})
	if errors.Is(err, keystore.ErrNotFound) {
		return AccessKey{}, ErrAccessKey
	}
	if err != nil {
		return AccessKey{}, err
	}
	return AccessKey{Principal: record.Principal, Version: record.version, server: s, id: id, wrapped: record.Secret}, nil
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
	return found.Principal, string(secret), nil
}

// EnsureAdmin makes the user admin of the store's account, who may do everything
// that identity policies can allow, unless there is one, and returns its access
// key in either case.
func (s *Server) EnsureAdmin(ctx context.Context) (Credentials, error) {
	admin := Principal{Type: User, Name: AdminName, Account: s.account, Policies: []string{AdminPolicy}}
	credentials, err := s.AddPrincipal(ctx, admin)
	if !errors.Is(err, ErrPrincipalExists) {
		return credentials, err
	}
	var existing *principalEntry
	err = s.ledger.View(ctx, func(tx *ledger.Tx) error {
		existing, err = s.findPrincipal(tx, tablePrincipalName, admin.nameRow(), func(p *Principal) bool { return p.nameRow() == admin.nameRow() })
		return err
	})
	if err != nil {
		return Credentials{}, err
	}
	if existing == nil || existing.ARN != admin.IdentityARN() {
		return Credentials{}, ErrNoPrincipal
	}
	_, secret, err := s.AccessKey(ctx, existing.AccessKeyID)
	return Credentials{existing.AccessKeyID, secret}, err
}
