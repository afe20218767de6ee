// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"strings"
)

// A PrincipalType is what an access key belongs to.
type PrincipalType string

const (
	// User acts as itself.
	User PrincipalType = "user"
	// Role acts as a session of itself: one that was assumed, or, with an access key
	// of the role, one that is called "cretula".
	Role PrincipalType = "role"
)

// sessionName is the session that the access key of a role acts as.
const sessionName = "cretula"

// A Principal is a user or a role.
type Principal struct {
	Type PrincipalType `json:"type"`
	// Name is the name, behind its path if it has one: "worker", "batch/worker".
	Name    string `json:"name"`
	Account string `json:"account"`
	// Policies are the identity policies, JSON texts.
	Policies []string `json:"policies"`
	// Boundary is the permissions boundary, a JSON text; empty if there is none.
	Boundary string `json:"boundary,omitempty"`
	// Tags are for the condition keys aws:PrincipalTag/….
	Tags map[string]string `json:"tags,omitempty"`
	// TrustPolicy says who may assume a role, a JSON text; empty: nobody. Users have
	// none.
	TrustPolicy string `json:"trust_policy,omitempty"`
	// MaxSession is how long a session of a role may last, in seconds: 3600 to 43200;
	// 0 is 3600. Users have none.
	MaxSession int `json:"max_session,omitempty"`
	// ID is the unique id, which no other principal ever had or gets: "AIDA" of a
	// user, "AROA" of a role, and 17 more characters.
	ID string `json:"id,omitempty"`

	// session is the name of the session that a role acts as; empty: sessionName.
	session string
	// named is what the methods below return of a principal that was read, as itself:
	// type, name, account and id never change.
	named *principalNames
}

type principalNames struct {
	identityARN, arn, userID string
	// policies are the identity policies as they were read.
	policies []keptPolicy
}

// kept returns an identity policy as it was read; nil if it was not.
func (p *Principal) kept(i int) *keptPolicy {
	if p.named == nil || i >= len(p.named.policies) {
		return nil
	}
	return &p.named.policies[i]
}

// IdentityARN returns the ARN of the user or role itself, which key policies
// name and which aws:PrincipalArn holds.
func (p *Principal) IdentityARN() string {
	if p.named != nil {
		return p.named.identityARN
	}
	return "arn:aws:iam::" + p.Account + ":" + string(p.Type) + "/" + p.Name
}

// ARN returns the ARN that the principal acts as: that of the user, or that of
// the role's session.
func (p *Principal) ARN() string {
	if p.named != nil && p.session == "" {
		return p.named.arn
	}
	if p.Type == Role {
		return "arn:aws:sts::" + p.Account + ":assumed-role/" + p.baseName() + "/" + cmp.Or(p.session, sessionName)
	}
	return p.IdentityARN()
}

// UserID returns the value of aws:userid: the unique id of a user, that of a role
// with the name of the session. Source: IAM User Guide, "IAM policy elements:
// Variables and tags", under information that you can use.
func (p *Principal) UserID() string {
	if p.named != nil && p.session == "" {
		return p.named.userID
	}
	if p.Type == Role {
		return p.ID + ":" + cmp.Or(p.session, sessionName)
	}
	return p.ID
}

// baseName is the name without its path: session ARNs leave a role's path out.
func (p *Principal) baseName() string { return p.Name[strings.LastIndexByte(p.Name, '/')+1:] }

// A Caller is an authenticated principal and what is known about its request.
type Caller struct {
	Principal Principal
	// AccessKeyID is the public half of the key that signed the request.
	AccessKeyID string
	// Session is the session of temporary credentials; nil: those of an access key.
	Session *Session
	// Region is that of the credential scope: keys belong to it.
	Region string
	// SourceIP, UserAgent and RequestID are those of the request, for policies
	// and the audit log.
	SourceIP, UserAgent, RequestID string
	// SecureTransport says that the request came over TLS.
	SecureTransport bool
	// TLS is of that connection; nil if it is not known.
	TLS *TLSDetails

	// rows are those by which the caller was authenticated, in the versions that they
	// had; nil for a caller that was put together by hand.
	rows []rowVersion
	// revocation is the last one of the principal; of a session its links count.
	revocation string
}
