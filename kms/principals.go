// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// Limits of a principal: IAM's for names, and as many policies as a managed
// principal can have.
const (
	maxPrincipalName   = 64
	maxIdentityPolicy  = 10
	maxIdentityPolicyB = 32768
	accessKeyPrefix    = "AKIA"
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
	// ErrAccessKey: no principal has the access key.
	ErrAccessKey = errors.New("kms: unknown access key")
)

// A principalRecord is the content of a row of the table "principal".
type principalRecord struct {
	Principal
	Created time.Time `json:"created"`
	// Secret is the secret access key, wrapped: HMAC needs it in the clear.
	Secret []byte `json:"secret"`
}

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
}

// AddPrincipal makes a principal with one access key. An empty account is that
// of the store. The error matches [ErrPrincipal] or [ErrPrincipalExists].
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
	err = s.changePrincipals(ctx, "AddPrincipal", func(tx *ledger.Tx) (Principal, string, error) {
		existing, err := scanPrincipals(tx)
		if err != nil {
			return p, "", err
		}
		for _, other := range existing {
			if other.Tampered == "" && other.IdentityARN() == p.IdentityARN() {
				return p, "", fmt.Errorf("%w: %s", ErrPrincipalExists, p.IdentityARN())
			}
		}
		return p, credentials.AccessKeyID, s.putPrincipal(tx, p, credentials)
	})
	if err != nil {
		return Credentials{}, err
	}
	return credentials, nil
}

// changePrincipals makes a change for the operator, with an event of the principal
// and the access key that fn returns.
func (s *Server) changePrincipals(ctx context.Context, name string, fn func(*ledger.Tx) (Principal, string, error)) error {
	event, err := s.ownEvent(name, "Operator")
	if err != nil {
		return err
	}
	recorded, err := s.change(ctx, event, func(tx *ledger.Tx) error {
		p, accessKeyID, err := fn(tx)
		event.RequestParameters = map[string]any{"principal": p.IdentityARN(), "accessKeyId": accessKeyID, "policies": len(p.Policies)}
		return err
	})
	if err != nil && recorded {
		event.Outcome, event.Cause = Failed, clip(err.Error())
		err = errors.Join(err, s.record(context.WithoutCancel(ctx), event))
	}
	return err
}

func (s *Server) putPrincipal(tx *ledger.Tx, p Principal, c Credentials) error {
	secret, err := s.rootKey.Wrap([]byte(c.SecretAccessKey), secretBinding(c.AccessKeyID))
	if err != nil {
		return err
	}
	content, err := json.Marshal(principalRecord{Principal: p, Created: s.now().UTC(), Secret: secret})
	if err != nil {
		return err
	}
	_, err = tx.Put(tablePrincipal, c.AccessKeyID, content)
	return err
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

// checkPrincipal holds a principal to IAM's rules for names and to the policy
// language.
func checkPrincipal(p *Principal) error {
	switch {
	case p.Type != User && p.Type != Role:
		return fmt.Errorf("%w: type %q is neither user nor role", ErrPrincipal, p.Type)
	case !isAccount(p.Account):
		return fmt.Errorf("%w: account %q is not twelve digits", ErrPrincipal, p.Account)
	case !isPrincipalName(p.Name):
		return fmt.Errorf("%w: name %q is not 1 to %d characters of A-Z, a-z, 0-9 and +=,.@_-", ErrPrincipal, p.Name, maxPrincipalName)
	case len(p.Policies) > maxIdentityPolicy:
		return fmt.Errorf("%w: %d policies, more than %d", ErrPrincipal, len(p.Policies), maxIdentityPolicy)
	}
	for i, text := range p.Policies {
		if err := checkIdentityPolicy(fmt.Sprintf("policy %d", i+1), text); err != nil {
			return err
		}
	}
	if p.Boundary != "" {
		return checkIdentityPolicy("permissions boundary", p.Boundary)
	}
	return nil
}

func checkIdentityPolicy(what, text string) error {
	if len(text) > maxIdentityPolicyB {
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrPrincipal, what, maxIdentityPolicyB)
	}
	if _, err := policy.Parse([]byte(text), policy.KindIdentity); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPrincipal, what, err)
	}
	return nil
}

// isPrincipalName follows the IAM API Reference, CreateUser and CreateRole.
func isPrincipalName(name string) bool {
	if name == "" || len(name) > maxPrincipalName {
		return false
	}
	for _, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("+=,.@_-", c) {
			return false
		}
	}
	return true
}

// RemovePrincipal removes a principal and its access key, which is refused from
// then on. name is the name of a user or role of the account (empty: the
// store's), or an access key id, which also reaches a row that was tampered
// with. The error matches [ErrNoPrincipal], or [ErrPrincipal] if a user and a
// role have that name.
func (s *Server) RemovePrincipal(ctx context.Context, name, account string) (PrincipalInfo, error) {
	var removed PrincipalInfo
	account = cmp.Or(account, s.account)
	err := s.changePrincipals(ctx, "RemovePrincipal", func(tx *ledger.Tx) (Principal, string, error) {
		all, err := scanPrincipals(tx)
		if err != nil {
			return Principal{}, "", err
		}
		found := slices.DeleteFunc(all, func(p PrincipalInfo) bool {
			named := p.Tampered == "" && p.Account == account && p.Name == name
			return !named && p.AccessKeyID != name
		})
		switch len(found) {
		case 0:
			return Principal{}, "", fmt.Errorf("%w: %q", ErrNoPrincipal, name)
		case 1:
			removed = found[0]
			return removed.Principal, removed.AccessKeyID, tx.Delete(tablePrincipal, removed.AccessKeyID)
		}
		return Principal{}, "", fmt.Errorf("%w: a user and a role are called %q: name the access key", ErrPrincipal, name)
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
		var record principalRecord
		info := PrincipalInfo{AccessKeyID: row.ID}
		switch {
		case IsTampered(row.Err):
			info.Tampered = row.Err.Error()
		case row.Err != nil:
			bad = row.Err
			return false
		default:
			if bad = json.Unmarshal(row.Content, &record); bad != nil {
				return false
			}
			info.Principal, info.Created = record.Principal, record.Created
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

// AccessKey returns whose an access key is, and its secret, with which the
// caller must verify a signature before it believes anything. The error matches
// [ErrAccessKey], or a [ledger.TamperedError] names the row.
func (s *Server) AccessKey(ctx context.Context, id string) (Principal, string, error) {
	if keystore.CheckName(tablePrincipal, id) != nil {
		return Principal{}, "", ErrAccessKey
	}
	var record principalRecord
	err := s.ledger.View(ctx, func(tx *ledger.Tx) error {
		content, _, err := tx.Get(tablePrincipal, id)
		if errors.Is(err, keystore.ErrNotFound) {
			return ErrAccessKey
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(content, &record)
	})
	if err != nil {
		return Principal{}, "", err
	}
	secret, err := s.rootKey.Unwrap(record.Secret, secretBinding(id))
	if err != nil {
		return Principal{}, "", fmt.Errorf("kms: secret of access key %s: %w", id, err)
	}
	return record.Principal, string(secret), nil
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
	all, err := s.ListPrincipals(ctx)
	if err != nil {
		return Credentials{}, err
	}
	for _, p := range all {
		if p.Tampered == "" && p.IdentityARN() == admin.IdentityARN() {
			_, secret, err := s.AccessKey(ctx, p.AccessKeyID)
			return Credentials{p.AccessKeyID, secret}, err
		}
	}
	return Credentials{}, ErrNoPrincipal
}
