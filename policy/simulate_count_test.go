// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// simCounts says how often each part of the language had a say, so that a test that
// says nothing fails.
type simCounts struct {
	had     map[string]int
	known   []int // hits of simDifferences
	allowed int
}

func newSimCounts() *simCounts {
	c := &simCounts{had: map[string]int{}, known: make([]int, len(simDifferences))}
	for name := range operators {
		c.had["operator "+name+" met"] = 0
		c.had["operator "+name+" not met"] = 0
	}
	for _, name := range []string{
		"ForAnyValue met", "ForAnyValue not met", "ForAllValues met", "ForAllValues not met", "IfExists of nothing",
		"variable met", "variable not met", "default met", "literal ${ in 2008",
		"NotPrincipal met", "NotPrincipal not met", "NotAction met", "NotAction not met", "NotResource met", "NotResource not met",
		"attestation met", "attestation not met", "encryption context met", "encryption context not met",
		"wildcard action met", "wildcard action not met", "wildcard ARN met", "wildcard ARN not met",
		"principal everyone", "principal account", "principal user", "principal role", "principal session", "principal federated", "principal service",
	} {
		c.had[name] = 0
	}
	for _, caller := range simCallers {
		c.had["allowed "+string(caller.Type)] = 0
		c.had["denied "+string(caller.Type)] = 0
	}
	for _, cause := range []Cause{
		CauseKeyPolicy, CauseDelegated, CauseIdentity, CauseBoth, CauseKeyDeny, CauseIdentityDeny, CauseBoundaryDeny, CauseSessionDeny,
		CauseNoKeyAllow, CauseNoIdentityAllow, CauseNoBoundaryAllow, CauseNoSessionAllow, CauseCrossAccount,
	} {
		c.had["cause "+string(cause)] = 0
	}
	return c
}

// explain counts the differences that explain a pair and reports whether any do.
func (c *simCounts) explain(t *testing.T, p *simPair, theirs bool) bool {
	t.Helper()
	known := knownDifference(t, p, theirs)
	for _, i := range known {
		c.known[i]++
	}
	return known != nil
}

// add counts what decided whether a statement of the pair applied.
func (c *simCounts) add(p *simPair, d *Decision, theirs bool) {
	if d.Allowed == theirs {
		c.had["cause "+string(d.Cause)]++
	}
	verdict := "denied "
	if d.Allowed {
		verdict = "allowed "
		c.allowed++
	}
	c.had[verdict+string(p.Caller.Type)]++
	docs := p.policies()
	for i, trace := range d.Trace.Policies {
		for _, st := range trace.Statements {
			c.statement(p, docs[i], &docs[i].Statement[st.Index], &st)
		}
	}
}

func met(b bool) string {
	if b {
		return " met"
	}
	return " not met"
}

func (c *simCounts) statement(p *simPair, doc *simPolicy, s *simStatement, st *StatementTrace) {
	// alone: the statement applied, or only this element kept it from applying.
	alone := func(e Element) bool {
		return st.Applied || len(st.Failed) == 1 && st.Failed[0] == e
	}
	count := func(e Element, name string, there bool) {
		if there && alone(e) {
			c.had[name+met(st.Applied)]++
		}
	}
	star := func(list simList) bool {
		return slices.ContainsFunc(list, func(v string) bool { return v != "*" && strings.ContainsAny(v, "*?") })
	}
	count(ElementPrincipal, "NotPrincipal", s.NotPrincipal != nil)
	count(ElementAction, "NotAction", s.NotAction != nil)
	count(ElementResource, "NotResource", s.NotResource != nil)
	count(ElementAction, "wildcard action", star(s.Action))
	count(ElementResource, "wildcard ARN", star(s.Resource))
	if st.Applied && len(s.Principal) == 1 {
		ref, ok := ParsePrincipal(s.Principal[0])
		if !ok {
			ref.Kind = PrincipalService
		}
		names := []string{"", "everyone", "account", "user", "role", "session", "federated", "service"}
		c.had["principal "+names[ref.Kind]]++
	}
	if !alone(ElementCondition) {
		return
	}
	failing := 0
	for _, ct := range st.Conditions {
		if !ct.Matched {
			failing++
		}
	}
	for _, ct := range st.Conditions {
		if failing == 0 || failing == 1 && !ct.Matched {
			c.condition(p, doc, &ct)
		}
	}
}

func (c *simCounts) condition(p *simPair, doc *simPolicy, ct *ConditionTrace) {
	o, _ := parseOperator(ct.Operator)
	c.had["operator "+o.Name+met(ct.Matched)]++
	if o.Set != "" {
		c.had[o.Set+met(ct.Matched)]++
	}
	if o.IfExists && !ct.Present {
		c.had["IfExists of nothing"]++
	}
	key := strings.ToLower(ct.Key)
	if strings.HasPrefix(key, "kms:recipientattestation:") {
		c.had["attestation"+met(ct.Matched)]++
	}
	if strings.HasPrefix(key, contextPrefix) {
		c.had["encryption context"+met(ct.Matched)]++
	}
	if len(ct.Wanted) != 1 || !strings.Contains(ct.Wanted[0], "${") || !ct.Present {
		return
	}
	switch {
	case doc.Version != Version2012:
		c.had["literal ${ in 2008"]++
	case strings.Contains(ct.Wanted[0], "'"):
		c.had["default met"]++
	default:
		c.had["variable"+met(ct.Matched)]++
	}
}

func (c *simCounts) check(t *testing.T, pairs int) {
	t.Helper()
	t.Logf("%d pairs, %d allowed", pairs, c.allowed)
	if share := c.allowed * 100 / pairs; share < 35 || share > 65 {
		t.Errorf("%d%% of the pairs are allowed", share)
	}
	for _, name := range slices.Sorted(maps.Keys(c.had)) {
		t.Logf("%6d %s", c.had[name], name)
		if c.had[name] == 0 {
			t.Errorf("%s: never", name)
		}
	}
	for i, n := range c.known {
		t.Logf("%6d known difference: %s", n, simDifferences[i].name)
	}
}
