// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
)

// An evaluation is one request on its way through the statements, and the memory of
// those before it.
type evaluation struct {
	course
	verdicts verdicts
	memory   memory
}

// A course is what begins anew with each request.
type course struct {
	request Request
	action  string            // lower case
	bounded bool              // the caller has a permissions boundary
	ids     map[string]string // Input.UniqueIDs
	env     environment
	trace   *Trace
	budget  int // bytes of trace still free

	decision Decision
}

// policy runs every statement of p and adds what it comes to.
func (e *evaluation) policy(p *Policy, kind, name string, sum *tally) {
	e.trace.clip(&name)
	t := PolicyTrace{Kind: kind, Name: name}
	m := &e.memory
	m.statements = atLeast(m.statements, min(len(p.Statements), 16))
	first := len(m.statements)
	for i := range p.Statements {
		s := &p.Statements[i]
		before := *m
		st, reach := e.statement(s, p.Kind)
		st.Index = i
		if st.Applied {
			sum.add(s.Effect, reach, StatementRef{Kind: t.Kind, Policy: name, Index: i, Sid: st.Sid})
		}
		if e.trace.admits(&st, &e.budget) {
			m.statements = append(m.statements, st)
		} else {
			clear(m.conditions[len(before.conditions):])
			*m = before
		}
	}
	t.Statements = slices.Clip(m.statements[first:])
	if cost := statementCost + len(name); cost <= e.budget {
		e.budget -= cost
		e.trace.Policies = append(e.trace.Policies, t)
	} else {
		e.trace.Truncated = true
	}
}

func (t *tally) add(effect Effect, how reach, ref StatementRef) {
	list := &t.direct
	switch {
	case effect == Deny:
		list = &t.denies
	case how == byAccount:
		list = &t.delegates
	case how == limited:
		list = &t.limited
	}
	if len(*list) < maxRefs {
		if len(ref.Sid) > maxValue {
			ref.Sid = ref.Sid[:maxValue]
		}
		*list = append(*list, ref)
	}
}

// statement matches every element, so that the trace is whole, and says how the
// statement names the caller.
func (e *evaluation) statement(s *Statement, kind Kind) (StatementTrace, reach) {
	t := StatementTrace{Sid: s.Sid, Effect: s.Effect, NotPrincipal: s.NotPrincipal != nil, Inert: s.Inert()}
	how := directly
	if kind != KindIdentity {
		how = s.reach(&e.request.Principal, e.ids, e.bounded)
		t.Replaced = how == notNamed && len(e.ids) > 0 && s.reach(&e.request.Principal, nil, e.bounded) != notNamed
		t.Delegates = how == byAccount && s.Effect == Allow
	}
	failed := len(e.memory.failed)
	fails := func(element Element) { e.memory.failed = append(e.memory.failed, element) }
	if how == notNamed {
		fails(ElementPrincipal)
	}
	if !s.matchAction(e.action) {
		fails(ElementAction)
	}
	if !s.onRole && !s.matchResource(e.request.Resource, &e.env) {
		fails(ElementResource)
	}
	if len(s.Condition) > 0 && !e.conditions(s, &t) {
		fails(ElementCondition)
	}
	if t.Applied = len(e.memory.failed) == failed; !t.Applied {
		t.Failed = slices.Clip(e.memory.failed[failed:])
	}
	return t, how
}

// conditions decides every condition of the statement and tells whether all match.
func (e *evaluation) conditions(s *Statement, t *StatementTrace) bool {
	m := &e.memory
	m.conditions = atLeast(m.conditions, len(s.Condition))
	first, all := len(m.conditions), true
	for i := range s.Condition {
		c := s.Condition[i].evaluate(&e.env, s.Effect)
		m.conditions = append(m.conditions, c)
		all = all && c.Matched
	}
	t.Conditions = slices.Clip(m.conditions[first:])
	return all
}

// matchAction takes the action in lower case.
func (s *Statement) matchAction(action string) bool {
	matches := func(p string) bool { return glob(p, action) }
	if s.NotAction != nil {
		return !slices.ContainsFunc(s.actions, matches)
	}
	return slices.ContainsFunc(s.actions, matches)
}

// matchResource lets a variable without a value stand for no resource. What an
// Allow leaves out by NotResource it could then allow, so that there such a
// variable stands for every resource.
func (s *Statement) matchResource(resource string, env *environment) bool {
	if s.NotResource != nil && s.Effect == Allow {
		env = &environment{context: env.context, loose: true}
	}
	matched := slices.ContainsFunc(s.resources, func(p pattern) bool { return p.match(resource, env) })
	return matched != (s.NotResource != nil)
}

// evaluate decides one condition. Source: IAM User Guide, "IAM JSON policy
// elements: Condition operators" and "Multivalued context keys".
func (c *Condition) evaluate(env *environment, effect Effect) ConditionTrace {
	got, present := env.context[c.folded]
	t := ConditionTrace{
		Operator: c.operator, Negated: c.negated,
		Key: c.Key, Wanted: c.Values, Present: present, Got: got,
	}
	holds := func(value string) bool {
		any := slices.ContainsFunc(c.tests, func(t test) bool { return t(value, env) })
		return any != t.Negated
	}
	switch {
	case c.Operator.Name == nullOperator:
		absent := "false"
		if !present {
			absent = "true"
		}
		t.Matched = slices.ContainsFunc(c.Values, func(want string) bool { return strings.EqualFold(want, absent) })
	case !present && c.Operator.IfExists:
		// With ForAnyValue, which wants a value, IfExists is not defined: an Allow must
		// not rest on it, and a Deny not be dodged by it.
		t.Matched = c.Operator.Set != ForAnyValue || effect == Deny
	case c.Operator.Set == ForAllValues:
		t.Matched = !slices.ContainsFunc(got, func(v string) bool { return !holds(v) })
	case c.Operator.Set == ForAnyValue:
		t.Matched = slices.ContainsFunc(got, holds)
	case c.multi && present, len(got) > 1:
		t.Ambiguous, t.Matched = true, effect == Deny
	case len(got) == 0:
		t.Matched = t.Negated
	default:
		t.Matched = holds(got[0])
	}
	return t
}
