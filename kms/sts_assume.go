// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

const (
	// maxPacked bounds session policies and tags of one session together, in bytes of
	// JSON. AWS does not say what its own limit is.
	maxPacked = 4 << 10
	// maxChain bounds how many principals a session depends on.
	maxChain = 16
)

// A role is a role that somebody wants to assume, nil record if there is none.
type assumedRole struct {
	arn, account string
	record       *principalRecord
	rows         []rowVersion // those that were read
}

// AssumeRole returns credentials of a session of a role, if the trust policy of the
// role and the policies of the caller allow it. Source: AWS STS API Reference,
// "AssumeRole".
func (s *Server) AssumeRole(ctx context.Context, caller *Caller, in *AssumeRoleInput) (*AssumedRole, error) {
	return runSTS(ctx, s, caller, opAssumeRole, in, func(c *call) (*AssumedRole, error) { return c.assumeRole(in) })
}

func (c *call) assumeRole(in *AssumeRoleInput) (*AssumedRole, error) {
	switch {
	case len(in.PolicyArns) > 0:
		return nil, unsupportedSTS("managed policies: PolicyArns")
	case len(in.ProvidedContexts) > 0:
		return nil, unsupportedSTS("context providers: ProvidedContexts")
	case in.SerialNumber != nil || in.TokenCode != nil:
		return nil, errNoMFA()
	}
	session, err := c.roleSession(in)
	if err != nil {
		return nil, err
	}
	role, err := c.findRole(*in.RoleArn)
	if err != nil {
		return nil, err
	}
	chained := c.caller.Principal.Type == Role
	seconds := valueOr(in.DurationSeconds, defaultRoleSession)
	context := c.assumeConditions(role, session, seconds)
	if in.ExternalId != nil {
		context.set("sts:externalid", *in.ExternalId)
	}
	if err := c.decideSession("sts:AssumeRole", role, session, context.Context, c.policyPrincipal()); err != nil {
		return nil, err
	}
	if chained && seconds > maxChainedSession {
		return nil, kmsapi.Errorf(STSValidation, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	}
	session.Links = append([]sessionLink{role.link(c.now)}, c.links()...)
	if len(session.Links) > maxChain {
		return nil, kmsapi.Errorf(STSAccessDenied, "More than %d sessions were assumed one with the other.", maxChain)
	}
	return c.assume(role, session, seconds)
}

// links are those on whom what the caller does depends.
func (c *call) links() []sessionLink {
	if c.caller.Session != nil {
		return c.caller.Session.Links
	}
	return []sessionLink{{c.caller.Principal.ID, c.now.UTC(), c.caller.revocation}}
}

// link is that of a session of the role which begins now.
func (r *assumedRole) link(now time.Time) sessionLink {
	return sessionLink{r.record.ID, now.UTC(), r.record.Revocation}
}

func unsupportedSTS(what string) error {
	return kmsapi.Errorf(STSUnsupported, "This service does not have %s.", what)
}

// roleSession is the session that is asked for, but for its times.
func (c *call) roleSession(in *AssumeRoleInput) (*sealedSession, error) {
	session := &sealedSession{Session: Session{Name: *in.RoleSessionName, SourceIdentity: valueOr(in.SourceIdentity, ""), Tags: map[string]string{}}}
	if err := session.putTags(in.Tags, in.TransitiveTagKeys); err != nil {
		return nil, err
	}
	if strings.HasPrefix(strings.ToLower(session.SourceIdentity), "aws:") {
		return nil, kmsapi.Errorf(STSValidation, "The source identity cannot begin with aws:.")
	}
	if own := c.caller.Session; own != nil {
		if err := session.inherit(own); err != nil {
			return nil, err
		}
		if inherited := own.passedOn(); len(inherited) > 0 {
			c.parameter("incomingTransitiveTags", inherited)
		}
	}
	return session, c.putPolicy(session, in.Policy)
}

// putTags gives a new session its tags.
func (s *Session) putTags(tags []STSTag, transitive []string) error {
	for _, t := range tags {
		folded := strings.ToLower(*t.Key)
		if strings.HasPrefix(folded, "aws:") {
			return kmsapi.Errorf(STSInvalidParameter, "Tag keys cannot begin with aws:, which is reserved.")
		}
		if s.hasTag(*t.Key) {
			return kmsapi.Errorf(STSInvalidParameter, "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		s.Tags[*t.Key] = *t.Value
	}
	for _, key := range transitive {
		if !s.hasTag(key) {
			return kmsapi.Errorf(STSInvalidParameter, "The specified transitive tag key must be included in the requested tags.")
		}
		s.Transitive = append(s.Transitive, key)
	}
	return nil
}

// hasTag tells whether there is a tag of this key; case does not count.
func (s *Session) hasTag(key string) bool {
	for k := range s.Tags {
		if sameTag(k, key) {
			return true
		}
	}
	return false
}

// sameTag tells whether two keys of tags are one condition key. They are folded as
// those are: by strings.EqualFold "İ" and "i" would be two, and the one tag could
// be set in place of the other.
func sameTag(a, b string) bool {
	folded := strings.ToLower(a)
	return folded == strings.ToLower(b)
}

// passedOn returns the tags that sessions get which are assumed with this one.
func (s *Session) passedOn() map[string]string {
	tags := map[string]string{}
	for key, value := range s.Tags {
		if slices.ContainsFunc(s.Transitive, func(k string) bool { return sameTag(k, key) }) {
			tags[key] = value
		}
	}
	return tags
}

// inherit takes over what the session of the caller passes on.
func (s *Session) inherit(from *Session) error {
	for key, value := range from.passedOn() {
		if s.hasTag(key) {
			return kmsapi.Errorf(STSInvalidParameter, "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
		}
		s.Tags[key] = value
		s.Transitive = append(s.Transitive, key)
	}
	slices.Sort(s.Transitive)
	if len(s.Tags) > maxPrincipalTags {
		return kmsapi.Errorf(STSInvalidParameter, "A session has at most %d tags, with those that it inherits.", maxPrincipalTags)
	}
	if from.SourceIdentity != "" {
		if s.SourceIdentity != "" && s.SourceIdentity != from.SourceIdentity {
			return kmsapi.Errorf(STSAccessDenied, "The source identity of a session cannot be changed.")
		}
		s.SourceIdentity = from.SourceIdentity
	}
	return nil
}

// putPolicy gives a new session its policy, which the event then has as a whole.
func (c *call) putPolicy(s *sealedSession, text *string) error {
	if text != nil {
		if _, err := c.server.policies.parse(*text, policy.KindIdentity); err != nil {
			return malformedPolicy(err)
		}
		s.Policies = []string{*text}
		c.parameter("policy", *text)
	}
	if percent := s.packed(); percent > 100 {
		return kmsapi.Errorf(STSPackedTooLarge, "Packed size of session tags and policies consumes %d%% of allotted space.", percent)
	}
	return nil
}

// packed is how much of their room the policies and tags take, in percent.
func (s *Session) packed() int {
	content, err := json.Marshal([]any{s.Policies, s.Tags, s.Transitive})
	if err != nil { // texts always marshal
		panic(err)
	}
	return (len(content)*100 + maxPacked - 1) / maxPacked
}

// findRole finds the role of an ARN. That there is none is for the decision to say,
// in the words for one that does not trust the caller.
func (c *call) findRole(arn string) (*assumedRole, error) {
	rest, ok := strings.CutPrefix(arn, "arn:aws:iam::")
	account, name, _ := strings.Cut(rest, ":role/")
	if !ok || !isAccount(account) || name == "" {
		return nil, kmsapi.Errorf(STSValidation, "%s is invalid", clip(arn))
	}
	role := &assumedRole{arn: arn, account: account}
	c.event.Resources = append(c.event.Resources, EventResource{AccountID: account, Type: "AWS::IAM::Role", ARN: clip(arn)})
	nameRow := principalNameRow(account, Role, name[strings.LastIndexByte(name, '/')+1:])
	if keystore.CheckName(tablePrincipalName, nameRow) != nil {
		return role, nil
	}
	err := c.server.ledger.View(c.ctx, func(tx *ledger.Tx) error {
		if err := c.asResolved(tx); err != nil {
			return err
		}
		e, err := findPrincipal(tx, nameRow)
		if err != nil || e == nil || e.ARN != arn {
			return err
		}
		var version uint64
		role.record, version, err = readPrincipal(tx, e.ID)
		role.rows = []rowVersion{{tablePrincipal, e.ID, version}}
		return absentIsNil(err)
	})
	return role, err
}

// assumeConditions are the condition keys of a session that is asked for.
func (c *call) assumeConditions(role *assumedRole, session *sealedSession, seconds int32) *conditionKeys {
	m := &conditionKeys{Context: policy.Context{}, values: &c.memory.values, all: true}
	if c.caller.Principal.ID != "" {
		c.globalConditions(m)
	} else {
		c.requestConditions(m)
	}
	m.set("aws:resourceaccount", role.account)
	m.set("sts:rolesessionname", session.Name)
	m.set("sts:durationseconds", strconv.Itoa(int(seconds)))
	if session.SourceIdentity != "" {
		m.set("sts:sourceidentity", session.SourceIdentity)
	}
	keys := slices.Sorted(maps.Keys(session.Tags))
	for _, key := range keys {
		m.Add("aws:requesttag/"+key, session.Tags[key])
	}
	if len(keys) > 0 {
		m.Context["aws:tagkeys"] = keys
	}
	if len(session.Transitive) > 0 {
		m.Context["sts:transitivetagkeys"] = session.Transitive
	}
	if role.record != nil {
		for key, value := range role.record.Tags {
			m.Add("aws:resourcetag/"+key, value)
			m.Add("iam:resourcetag/"+key, value)
		}
	}
	return m
}

// nobody trusts none of those that exist: the trust policy of a role that does not
// exist, or has none.
const nobody = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/nobody"},"Action":"sts:AssumeRole"}}`

// decideSession asks the policies whether the session may be: the action itself, and
// one more each for tags and for a source identity (IAM User Guide, "Pass session
// tags in AWS STS" and "Monitor and control actions taken with assumed roles").
func (c *call) decideSession(action string, role *assumedRole, session *sealedSession, context policy.Context, by policy.Principal) error {
	actions := []string{action}
	if len(session.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if session.SourceIdentity != "" {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	text, ids := nobody, map[string]string{"arn:aws:iam::000000000000:user/nobody": "nobody"}
	if role.record != nil && role.record.TrustPolicy != "" {
		text, ids = role.record.TrustPolicy, role.record.Trusted
	}
	trust, err := c.server.policies.parse(text, policy.KindTrust)
	if err != nil {
		return err
	}
	for _, action := range actions {
		in := policy.Input{TrustPolicy: trust, UniqueIDs: ids, Request: policy.Request{
			Principal: by, Action: action, Resource: role.arn, ResourceAccount: role.account, Context: context,
		}}
		if by.Type != policy.CallerWebIdentity {
			if err := c.identityPolicies(&in); err != nil {
				return err
			}
		}
		if err := c.judge(in); err != nil {
			return err
		}
	}
	if role.record == nil || role.record.Disabled {
		c.event.Outcome = Denied
		if by.Type == policy.CallerWebIdentity { // which learns nothing else from policies either
			return kmsapi.Errorf(STSAccessDenied, "Not authorized to perform %s", action)
		}
		return kmsapi.Errorf(STSAccessDenied, "User: %s is not authorized to perform: %s on resource: %s", by.ARN, action, role.arn)
	}
	return nil
}

// assume makes the credentials of a session that was decided on.
func (c *call) assume(role *assumedRole, session *sealedSession, seconds int32) (*AssumedRole, error) {
	if longest := cmp.Or(role.record.MaxSession, minMaxSession); int(seconds) > longest {
		return nil, kmsapi.Errorf(STSValidation, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	credentials, err := c.issue(role, session, seconds)
	if err != nil {
		return nil, err
	}
	p := role.record.Principal
	p.session = session.Name
	out := &AssumedRole{Credentials: *credentials, AssumedRoleID: p.UserID(), Arn: p.ARN(), SourceIdentity: session.SourceIdentity}
	if len(session.Policies)+len(session.Tags) > 0 {
		percent := session.packed()
		out.PackedPolicySize = &percent
	}
	c.event.respond("assumedRoleUser", map[string]string{"assumedRoleId": out.AssumedRoleID, "arn": out.Arn})
	return out, nil
}
