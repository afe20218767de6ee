// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"regexp"
	"slices"
)

// A CallerType is what a caller is.
type CallerType string

// The types of callers.
const (
	CallerUser        CallerType = "user"
	CallerRoleSession CallerType = "role-session"
	CallerRoot        CallerType = "root"
	CallerFederated   CallerType = "federated-user"
	CallerService     CallerType = "service"
	// CallerWebIdentity has a token of an OIDC provider and no credentials yet.
	CallerWebIdentity CallerType = "web-identity"
)

// A Principal is the caller of a request, as data.
type Principal struct {
	Type CallerType `json:"type"`
	// ARN is the caller's own ARN: of the user, the session
	// (arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION), the root user or the
	// federated user. For a service it is the service's name, such as
	// "ec2.amazonaws.com", and for a web identity the ARN of the provider:
	// arn:aws:iam::ACCOUNT:oidc-provider/HOST/PATH, with the account of the role.
	ARN string `json:"arn"`
	// AccountID is the caller's account of twelve digits; empty for a service and a
	// web identity.
	AccountID string `json:"account,omitempty"`
	// RoleARN is the ARN, with its path, of the role whose session this is.
	RoleARN string `json:"role_arn,omitempty"`
	// UserARN is the ARN of the IAM user who got this federated user's session;
	// empty if that was the root user.
	UserARN string `json:"user_arn,omitempty"`
	// UniqueID is the unique id of the user, or of the role whose session this is,
	// such as "AIDACKCEVSQ6C2EXAMPLE"; empty if it is not known.
	UniqueID string `json:"unique_id,omitempty"`
}

var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	serviceForm = regexp.MustCompile(`^[a-z0-9-]+(\.[a-z0-9-]+)*\.amazonaws\.com(\.cn)?$`)
	rootForm    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):root$`)
	iamForm     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):(user|role)/[\w+=,.@/-]+$`)
	sessionForm = regexp.MustCompile(`^arn:aws[a-z-]*:sts::([0-9]{12}):assumed-role/[\w+=,.@-]+/[\w+=,.@-]+$`)
	idForm      = regexp.MustCompile(`^(AIDA|AROA)[A-Z0-9]{12,124}$`)
	fedForm     = regexp.MustCompile(`^arn:aws[a-z-]*:sts::([0-9]{12}):federated-user/[\w+=,.@-]+$`)
)

// ParsePrincipal reads a principal as it stands under "AWS" in a policy: "*", an
// account of twelve digits, the ARN of an account's root, a user, a role, a session
// of a role or a federated user, or the unique id of a user or role. It returns
// false for all else. Source: IAM User Guide, "AWS JSON policy elements: Principal"
// and "IAM identifiers".
func ParsePrincipal(s string) (PrincipalRef, bool) {
	if s == "*" {
		return PrincipalRef{Kind: PrincipalEveryone, Value: s}, true
	}
	if accountForm.MatchString(s) {
		return PrincipalRef{Kind: PrincipalAccount, Value: s, Account: s}, true
	}
	if m := idForm.FindStringSubmatch(s); m != nil {
		return PrincipalRef{Kind: map[string]PrincipalKind{"AIDA": PrincipalUser, "AROA": PrincipalRole}[m[1]], Value: s}, true
	}
	for _, form := range []struct {
		re   *regexp.Regexp
		kind PrincipalKind
	}{{rootForm, PrincipalAccount}, {iamForm, PrincipalUser}, {sessionForm, PrincipalSession}, {fedForm, PrincipalFederated}} {
		m := form.re.FindStringSubmatch(s)
		if m == nil {
			continue
		}
		if form.kind == PrincipalUser && m[2] == "role" {
			form.kind = PrincipalRole
		}
		return PrincipalRef{Kind: form.kind, Value: s, Account: m[1]}, true
	}
	return PrincipalRef{}, false
}

// A reach is how a statement of a key policy, or a grant, names the caller, the
// strongest last. Source: IAM User Guide, "How AWS enforcement code logic
// evaluates requests", under resource-based policies; for everyone, "AWS JSON
// policy elements: Principal", under IAM role principals.
type reach uint8

const (
	notNamed reach = iota
	// byAccount: an Allow delegates to the caller's account.
	byAccount
	// limited: an Allow needs no identity policy, but boundary and session policies
	// limit it.
	limited
	// directly: an Allow needs nothing else.
	directly
)

// names tells how the principal names the caller. ids has the unique ids of the
// principals that are named by ARN, as far as they are known: see [Input].
func (r PrincipalRef) names(p *Principal, ids map[string]string) reach {
	if id, known := ids[r.Value]; known && id != p.UniqueID {
		return notNamed
	}
	switch r.Kind {
	case PrincipalEveryone:
		return directly
	case PrincipalProvider:
		if p.Type == CallerWebIdentity && r.Value == p.ARN {
			return directly
		}
		return notNamed
	case PrincipalAccount:
		switch {
		case p.AccountID == "" || r.Account != p.AccountID:
			return notNamed
		case p.Type == CallerRoot:
			return limited
		}
		return byAccount
	case PrincipalRole:
		if p.RoleARN != "" && (r.Value == p.RoleARN || r.Value == p.UniqueID) {
			return limited
		}
		return notNamed
	case PrincipalService:
		if p.Type == CallerService && r.Value == p.ARN {
			return directly
		}
		return notNamed
	}
	switch {
	case p.Type == CallerService, p.Type == CallerWebIdentity:
		return notNamed
	case r.Value == p.ARN, r.Kind == PrincipalUser && p.Type == CallerUser && r.Value == p.UniqueID:
		return directly
	case r.Kind == PrincipalUser && p.Type == CallerFederated && r.Value == p.UserARN:
		return limited
	}
	return notNamed
}

// reach tells how the statement names the caller. NotPrincipal, which stands
// with Deny only, leaves a caller out only if it lists all that the caller is:
// the account, the role if there is one, and the caller itself. Whoever has a
// permissions boundary is never left out. Source: IAM User Guide, "AWS JSON policy
// elements: NotPrincipal".
func (s *Statement) reach(p *Principal, ids map[string]string, bounded bool) reach {
	if s.NotPrincipal == nil {
		best := notNamed
		for _, r := range s.Principal {
			if r.Kind == PrincipalEveryone && p.Type == CallerWebIdentity && s.Effect == Allow {
				continue // which says nothing about claims
			}
			best = max(best, r.names(p, ids))
		}
		return best
	}
	if bounded {
		return directly
	}
	lists := func(kinds ...PrincipalKind) bool {
		return slices.ContainsFunc(s.NotPrincipal, func(r PrincipalRef) bool {
			return slices.Contains(kinds, r.Kind) && r.names(p, ids) != notNamed
		})
	}
	if lists(PrincipalEveryone) || p.Type == CallerService && lists(PrincipalService) {
		return notNamed
	}
	account := lists(PrincipalAccount)
	role := p.RoleARN == "" || lists(PrincipalRole)
	self := p.Type == CallerRoot || lists(PrincipalUser, PrincipalSession, PrincipalFederated)
	if account && role && self {
		return notNamed
	}
	return directly
}
