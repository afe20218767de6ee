// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxTrustSize is the number of characters of the longest trust policy that Parse
// reads, white space counted. It is what IAM's quota can be raised to; without that,
// IAM takes 2,048. Source: IAM User Guide, "IAM and AWS STS quotas".
const MaxTrustSize = 4096

// trustCauses has the causes of decisions on a role for those on a key.
var trustCauses = map[Cause]Cause{
	CauseKeyPolicy:  CauseTrustPolicy,
	CauseDelegated:  CauseTrustDelegated,
	CauseBoth:       CauseTrustAndIdentity,
	CauseKeyDeny:    CauseTrustDeny,
	CauseNoKeyAllow: CauseNoTrustAllow,
}

// notOfTrust has the members of statements that trust policies cannot have.
// NotAction would make an Allow of actions that are yet to come. Source: IAM User
// Guide, "AWS JSON policy elements: NotPrincipal"; IAM's answer "Has prohibited
// field Resource".
var notOfTrust = []string{"NotPrincipal", "NotAction", "Resource", "NotResource"}

// trustActions are the actions of a trust policy, in lower case.
var trustActions = []string{"sts:assumerole", "sts:assumerolewithwebidentity", "sts:tagsession", "sts:setsourceidentity"}

// assumes tells whether an action of a policy covers one of a trust policy. It takes
// the action as it was written, and compiled.
func assumes(action, compiled string) bool {
	return action != "*" && slices.ContainsFunc(trustActions, func(a string) bool { return glob(compiled, a) })
}

// providerText is what the URL of a provider has beside letters and digits, without
// the colon before a port.
const providerText = "-._~%/"

const providerPrefix = ":oidc-provider/"

var providerForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):oidc-provider/(localhost|[a-z0-9-]+(\.[a-z0-9-]+)+)(:[0-9]{1,5})?(/[A-Za-z0-9._~%-]*)*$`)

// parseProvider reads the ARN of an OIDC provider: its URL without the scheme stands
// behind "oidc-provider/". A host has a dot or is localhost, so that no claim is
// called as the keys of a service are. Source: IAM User Guide, "Create a role for OpenID Connect
// federation".
func parseProvider(s string) (PrincipalRef, bool) {
	m := providerForm.FindStringSubmatch(s)
	if m == nil {
		return PrincipalRef{}, false
	}
	return PrincipalRef{Kind: PrincipalProvider, Value: s, Account: m[1]}, true
}

// length refuses a trust policy that is too long.
func (d *decoder) length() error {
	if d.kind != KindTrust || utf8.RuneCount(d.doc) <= MaxTrustSize {
		return nil
	}
	off := 0
	for range MaxTrustSize {
		_, n := utf8.DecodeRune(d.doc[off:])
		off += n
	}
	return fault(d.doc, off, "policy.size", "the trust policy has %d characters; the limit of %d is here", utf8.RuneCount(d.doc), MaxTrustSize)
}

// claims refuses an Allow for a provider that does not ask whose the token is. IAM
// refuses it for the providers that it knows to be shared by many customers; here
// nothing is known of a provider, so that each counts as one of them. The audience is
// not enough: it is pinned where the provider is configured, and says for whom a
// token is, not whose. Source: IAM User Guide, "Identity-provider controls for shared
// OIDC providers".
func (d *decoder) claims(s *Statement, n *node) error {
	if s.Effect != Allow {
		return nil
	}
	for _, p := range s.Principal {
		if p.Kind != PrincipalProvider {
			continue
		}
		_, url, _ := strings.Cut(p.Value, providerPrefix)
		if !slices.ContainsFunc(s.Condition, func(c Condition) bool { return c.asksWhose(strings.ToLower(url)) }) {
			return d.fault(n, "policy.claims", "an Allow for the provider %s must ask for a claim that says whose the token is: "+
				"StringEquals or StringLike on %s", quote(url), quote(url+":sub"))
		}
	}
	return nil
}

// asksWhose tells whether the condition holds for some tokens of the provider only,
// by a claim other than the audience, which is aud, oaud or azp.
func (c *Condition) asksWhose(provider string) bool {
	claim, ok := strings.CutPrefix(c.folded, provider+":")
	if !ok || slices.Contains([]string{"aud", "oaud", "azp"}, claim) || c.Operator.IfExists || c.Operator.Set == ForAllValues {
		return false
	}
	if slices.ContainsFunc(c.Values, func(v string) bool { return strings.Contains(v, "${") }) {
		return false // "${HOST:sub}" equals the claim of every token
	}
	switch c.Operator.Name {
	case "StringEquals", "StringEqualsIgnoreCase":
		return true
	case "StringLike":
		return !slices.ContainsFunc(c.Values, func(v string) bool { return strings.Trim(v, "*?") == "" })
	}
	return false
}
