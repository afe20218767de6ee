// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cretula/cretula/kms/ledger"
)

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
	// ErrAccessKey: no principal has the access key, or it may not use it.
	ErrAccessKey = errors.New("kms: unknown access key")
)

// A PrincipalInfo is a principal as it is listed.
type PrincipalInfo struct {
	Principal
	ARN        string          `json:"arn"`
	AccessKeys []AccessKeyInfo `json:"access_keys"`
	Created    time.Time       `json:"created"`
	Disabled   bool            `json:"disabled"`
	// RevokedBefore ends the sessions that were issued before it.
	RevokedBefore time.Time `json:"revoked_before,omitzero"`
	// Tampered says what is wrong with the row, and that all else of the
	// principal is unknown; empty if nothing is. Such a principal is refused.
	Tampered string `json:"tampered,omitempty"`

	trusted    map[string]string
	revocation string
}

// An AccessKeyInfo is an access key as it is listed.
type AccessKeyInfo struct {
	ID      string    `json:"id"`
	Active  bool      `json:"active"`
	Created time.Time `json:"created"`
	// LastUsed is the day of the last use, such as "2026-11-21", as far as it is
	// written down; empty if there was none.
	LastUsed string `json:"last_used,omitempty"`
	// Tampered says what is wrong with the row of the key; empty if nothing is.
	Tampered string `json:"tampered,omitempty"`
}

// AddPrincipal makes a principal with a new unique id, whatever p has for one, and
// one access key. A role with a trust policy, which is there to be assumed, gets no
// access key. An empty account is that of the store. The error matches
// [ErrPrincipal] or [ErrPrincipalExists]: names are unique without regard to case
// and path.
func (s *Server) AddPrincipal(ctx context.Context, p Principal) (Credentials, error) {
	p.Account = cmp.Or(p.Account, s.account)
	if p.Policies == nil {
		p.Policies = []string{}
	}
	if err := checkPrincipal(&p); err != nil {
		return Credentials{}, err
	}
	credentials, err := s.newCredentials(accessKeyPrefix)
	if err != nil {
		return Credentials{}, err
	}
	if p.TrustPolicy != "" {
		credentials = Credentials{}
	}
	if p.ID, err = s.newUniqueID(p.Type); err != nil {
		return Credentials{}, err
	}
	err = s.changePrincipals(ctx, "AddPrincipal", func(tx *ledger.Tx) (*PrincipalInfo, error) {
		existing, err := findPrincipal(tx, p.nameRow())
		if err != nil {
			return nil, err
		}
		if existing != nil {
			return nil, fmt.Errorf("%w: %s", ErrPrincipalExists, existing.ARN)
		}
		r := &principalRecord{Principal: p, Created: s.now().UTC()}
		if err := putJSON(tx, tablePrincipalName, p.nameRow(), principalEntry{p.IdentityARN(), p.ID}); err != nil {
			return nil, err
		}
		if r.Trusted, err = s.trusted(tx, &p); err != nil {
			return nil, err
		}
		if credentials.AccessKeyID != "" {
			if err := s.putAccessKey(tx, r, credentials); err != nil {
				return nil, err
			}
		}
		return infoOf(r), putPrincipal(tx, r)
	})
	if err != nil {
		return Credentials{}, err
	}
	return credentials, nil
}

// changePrincipals makes a change for the operator. The event has all of the
// principal that fn returns but its secrets: it must say what the principal may do
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
	m := map[string]any{}
	if len(p.AccessKeys) > 0 {
		keys := make([]string, len(p.AccessKeys))
		for i, k := range p.AccessKeys {
			keys[i] = k.ID
		}
		m["accessKeyIds"] = keys
	}
	if p.Tampered != "" {
		m["principalId"], m["tampered"] = p.ID, clip(p.Tampered)
		return m
	}
	m["principal"], m["principalId"], m["policies"] = p.IdentityARN(), p.ID, p.Policies
	if p.Boundary != "" {
		m["permissionsBoundary"] = p.Boundary
	}
	if p.TrustPolicy != "" {
		m["assumeRolePolicyDocument"] = p.TrustPolicy
	}
	if p.MaxSession != 0 {
		m["maxSessionDuration"] = p.MaxSession
	}
	if len(p.Tags) > 0 {
		m["tags"] = p.Tags
	}
	if p.Disabled {
		m["disabled"] = true
	}
	if !p.RevokedBefore.IsZero() {
		m["revokedBefore"] = p.RevokedBefore.Format(time.RFC3339)
	}
	return m
}

// infoOf is the principal of a record, with no more of its access keys than their ids.
func infoOf(r *principalRecord) *PrincipalInfo {
	info := &PrincipalInfo{
		Principal: r.Principal, ARN: r.ARN(), Created: r.Created, Disabled: r.Disabled, RevokedBefore: r.RevokedBefore,
		AccessKeys: make([]AccessKeyInfo, len(r.AccessKeys)), trusted: r.Trusted, revocation: r.Revocation,
	}
	for i, id := range r.AccessKeys {
		info.AccessKeys[i] = AccessKeyInfo{ID: id, Active: true}
	}
	return info
}

// record is what infoOf was made of.
func (p *PrincipalInfo) record() *principalRecord {
	r := &principalRecord{
		Principal: p.Principal, Created: p.Created, Disabled: p.Disabled, RevokedBefore: p.RevokedBefore,
		Revocation: p.revocation, Trusted: p.trusted,
	}
	for _, k := range p.AccessKeys {
		r.AccessKeys = append(r.AccessKeys, k.ID)
	}
	return r
}

// find returns the one principal that is meant: by the name of a user or role of
// the account, with its path or without, by its unique id or by one of its access
// key ids, which also reach a row that was tampered with.
func find(all []PrincipalInfo, name, account string) (*PrincipalInfo, error) {
	found := slices.DeleteFunc(all, func(p PrincipalInfo) bool {
		named := p.Tampered == "" && p.Account == account && (p.Name == name || p.baseName() == name)
		return !named && (p.ID != name || name == "") && !p.hasKey(name)
	})
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: %q", ErrNoPrincipal, name)
	case 1:
		return &found[0], nil
	}
	return nil, fmt.Errorf("%w: a user and a role are called %q: name the unique id or an access key", ErrPrincipal, name)
}

// RemovePrincipal removes a principal with its access keys, which are refused from
// then on, as are its sessions. name and account are as for [Server.FindPrincipal].
// The error matches [ErrNoPrincipal], or [ErrPrincipal] if a user and a role have
// that name.
func (s *Server) RemovePrincipal(ctx context.Context, name, account string) (PrincipalInfo, error) {
	var removed PrincipalInfo
	err := s.changePrincipals(ctx, "RemovePrincipal", func(tx *ledger.Tx) (*PrincipalInfo, error) {
		p, err := s.findInfo(tx, name, account)
		if err != nil {
			return nil, err
		}
		removed = *p
		return p, deletePrincipal(tx, p)
	})
	if err != nil {
		return PrincipalInfo{}, err
	}
	return removed, nil
}

func (s *Server) findInfo(tx *ledger.Tx, name, account string) (*PrincipalInfo, error) {
	all, err := s.scanPrincipals(tx)
	if err != nil {
		return nil, err
	}
	return find(all, name, cmp.Or(account, s.account))
}

// FindPrincipal returns a principal. name is the name of a user or role of the
// account (empty: the store's), with its path or without, its unique id, or the id
// of one of its access keys; the latter two also reach a row that was tampered with.
// The error matches [ErrNoPrincipal], or [ErrPrincipal] if a user and a role have
// that name.
func (s *Server) FindPrincipal(ctx context.Context, name, account string) (PrincipalInfo, error) {
	var found PrincipalInfo
	err := s.ledger.View(ctx, func(tx *ledger.Tx) error {
		p, err := s.findInfo(tx, name, account)
		if err == nil {
			found = *p
		}
		return err
	})
	return found, err
}

// ListPrincipals returns all principals, ordered by account, name and type.
func (s *Server) ListPrincipals(ctx context.Context) ([]PrincipalInfo, error) {
	var all []PrincipalInfo
	err := s.ledger.View(ctx, func(tx *ledger.Tx) (err error) {
		all, err = s.scanPrincipals(tx)
		return err
	})
	return all, err
}

func (s *Server) scanPrincipals(tx *ledger.Tx) ([]PrincipalInfo, error) {
	keys, err := s.scanAccessKeys(tx)
	if err != nil {
		return nil, err
	}
	all := []PrincipalInfo{}
	var bad error
	err = tx.Scan(tablePrincipal, "", func(row ledger.Row) bool {
		info := &PrincipalInfo{Principal: Principal{ID: row.ID}}
		switch {
		case IsTampered(row.Err):
			info.Tampered = row.Err.Error()
		case row.Err != nil:
			bad = row.Err
			return false
		default:
			var record *principalRecord
			if record, bad = parsePrincipal(row.Content); bad != nil {
				return false
			}
			info = infoOf(record)
		}
		for i := range info.AccessKeys {
			id := info.AccessKeys[i].ID
			if k, ok := keys[id]; ok {
				info.AccessKeys[i] = k
			}
			delete(keys, id)
		}
		all = append(all, *info)
		return true
	})
	if err := errors.Join(bad, err); err != nil {
		return nil, err
	}
	for _, k := range keys { // that no principal says it has: of one whose row is not readable, or added by hand
		all = append(all, PrincipalInfo{AccessKeys: []AccessKeyInfo{k}, Tampered: cmp.Or(k.Tampered, "kms: the principal of this access key cannot be read")})
	}
	slices.SortFunc(all, func(a, b PrincipalInfo) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type),
			cmp.Compare(a.ID, b.ID), cmp.Compare(a.firstKey(), b.firstKey()))
	})
	return all, nil
}

func (p *PrincipalInfo) firstKey() string {
	if len(p.AccessKeys) == 0 {
		return ""
	}
	return p.AccessKeys[0].ID
}

// scanAccessKeys returns all access keys by their ids.
func (s *Server) scanAccessKeys(tx *ledger.Tx) (map[string]AccessKeyInfo, error) {
	days, err := s.lastUsedDays(tx)
	if err != nil {
		return nil, err
	}
	keys := map[string]AccessKeyInfo{}
	var bad error
	err = tx.Scan(tableAccessKey, "", func(row ledger.Row) bool {
		info := AccessKeyInfo{ID: row.ID}
		switch {
		case IsTampered(row.Err):
			info.Tampered = row.Err.Error()
		case row.Err != nil:
			bad = row.Err
			return false
		default:
			var record *accessKeyRecord
			if record, bad = parseAccessKey(row.Content); bad != nil {
				return false
			}
			info.Active, info.Created, info.LastUsed = !record.Inactive, record.Created, days[row.ID]
		}
		keys[row.ID] = info
		return true
	})
	return keys, errors.Join(bad, err)
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
	var key string
	err = s.ledger.View(ctx, func(tx *ledger.Tx) error {
		existing, err := findPrincipal(tx, admin.nameRow())
		if err != nil {
			return err
		}
		if existing == nil || existing.ARN != admin.IdentityARN() {
			return ErrNoPrincipal
		}
		r, _, err := readPrincipal(tx, existing.ID)
		if err != nil {
			return err
		}
		if len(r.AccessKeys) == 0 {
			return fmt.Errorf("%w: %s has none", ErrAccessKey, existing.ARN)
		}
		key = r.AccessKeys[0]
		return nil
	})
	if err != nil {
		return Credentials{}, err
	}
	_, secret, err := s.AccessKey(ctx, key)
	return Credentials{key, secret}, err
}
