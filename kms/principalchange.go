// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// A PrincipalChange says what of a principal becomes different; nil stays as it is.
type PrincipalChange struct {
	// Policies and Boundary replace the identity policies and the permissions
	// boundary; an empty boundary is none.
	Policies *[]string `json:"policies,omitempty"`
	Boundary *string   `json:"boundary,omitempty"`
	// Tags replace all tags.
	Tags *map[string]string `json:"tags,omitempty"`
	// TrustPolicy replaces the trust policy of a role; an empty one is none.
	TrustPolicy *string `json:"trust_policy,omitempty"`
	// MaxSession is how long a session of the role may last, in seconds.
	MaxSession *int `json:"max_session,omitempty"`
	// Disabled says that nothing is accepted of the principal, nor of its sessions.
	Disabled *bool `json:"disabled,omitempty"`
	// RevokedBefore ends the sessions that were issued before it, and those that
	// were assumed with them. It cannot be made earlier. As the clocks of servers
	// differ, of those that were issued before the change it also ends the ones of two
	// minutes after it.
	RevokedBefore *time.Time `json:"revoked_before,omitempty"`
}

// revocationSize is the length of the name of a revocation in bytes.
const revocationSize = 8

// ChangePrincipal changes a principal; every request after it sees the change. name
// and account are as for [Server.FindPrincipal]. The error matches [ErrNoPrincipal]
// or [ErrPrincipal].
func (s *Server) ChangePrincipal(ctx context.Context, name, account string, change PrincipalChange) (PrincipalInfo, error) {
	return s.changePrincipal(ctx, "ChangePrincipal", name, account, func(tx *ledger.Tx, r *principalRecord) error {
		set(&r.Policies, change.Policies)
		if r.Policies == nil {
			r.Policies = []string{}
		}
		set(&r.Boundary, change.Boundary)
		set(&r.Tags, change.Tags)
		set(&r.TrustPolicy, change.TrustPolicy)
		set(&r.MaxSession, change.MaxSession)
		set(&r.Disabled, change.Disabled)
		if t := change.RevokedBefore; t != nil {
			if t.Before(r.RevokedBefore) {
				return fmt.Errorf("%w: sessions before %s are revoked already", ErrPrincipal, r.RevokedBefore.Format(time.RFC3339))
			}
			if t.After(s.now()) {
				return fmt.Errorf("%w: %s is in the future: revoke what was issued until now", ErrPrincipal, t.Format(time.RFC3339))
			}
			var err error
			if r.Revocation, err = randomHex(s.random, "", revocationSize); err != nil {
				return err
			}
			r.RevokedBefore = t.UTC()
		}
		if err := checkPrincipal(&r.Principal); err != nil {
			return err
		}
		if change.TrustPolicy == nil {
			return nil
		}
		trusted, err := s.trusted(tx, &r.Principal)
		r.Trusted = trusted
		return err
	})
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// changePrincipal changes the principal that is called so.
func (s *Server) changePrincipal(ctx context.Context, event, name, account string, fn func(*ledger.Tx, *principalRecord) error) (changed PrincipalInfo, err error) {
	err = s.changePrincipals(ctx, event, func(tx *ledger.Tx) (*PrincipalInfo, error) {
		p, err := s.findInfo(tx, name, account)
		if err != nil {
			return nil, err
		}
		after, err := s.changeFound(tx, p, fn)
		if err == nil {
			changed = *after
		}
		return after, err
	})
	return changed, err
}

// changeFound changes a principal and returns it as it is then. Of one whose row was
// tampered with only access keys can be deleted.
func (s *Server) changeFound(tx *ledger.Tx, p *PrincipalInfo, fn func(*ledger.Tx, *principalRecord) error) (*PrincipalInfo, error) {
	r := p.record()
	if err := fn(tx, r); err != nil {
		return nil, err
	}
	if p.Tampered != "" {
		return p, nil
	}
	return infoOf(r), putPrincipal(tx, r)
}

// trusted returns which unique ids those have whom the trust policy names: see
// bindPrincipals.
func (s *Server) trusted(tx *ledger.Tx, p *Principal) (map[string]string, error) {
	if p.TrustPolicy == "" {
		return nil, nil
	}
	parsed, err := s.policies.parse(p.TrustPolicy, policy.KindTrust)
	if err != nil {
		return nil, err
	}
	ids := map[string]string{}
	for _, statement := range parsed.Statements {
		for _, ref := range slices.Concat(statement.Principal, statement.NotPrincipal) {
			id, err := s.uniqueID(tx, ref)
			if errors.Is(err, errPrincipalRef) {
				return nil, fmt.Errorf("%w: the trust policy names %s, which does not exist", ErrPrincipal, ref.Value)
			}
			if err != nil {
				return nil, err
			}
			if id != "" {
				ids[ref.Value] = id
			}
		}
	}
	return ids, nil
}
