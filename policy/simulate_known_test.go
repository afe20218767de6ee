// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A simDifference is a known way in which the simulator decides differently from
// AWS as AWS documents it. change turns a pair, if it is of that kind at all, into
// one that our code must decide as the simulator decides the original; what it
// does not bring to agreement is not this difference.
type simDifference struct {
	name, source string
	change       func(p *simPair) bool
}

var simDifferences = []simDifference{
	{"the root user needs identity policies", "IAM User Guide, AWS JSON policy elements: Principal, AWS account principals; How AWS enforcement code logic evaluates requests: the root user has full access", func(p *simPair) bool {
		if p.Caller.Type != CallerRoot {
			return false
		}
		p.Caller.Type = CallerUser
		return true
	}},
	{"a statement without Resource applies", "AWS KMS Developer Guide, Key policies: a statement without Resource has no effect", func(p *simPair) bool {
		return p.everyStatement(func(_ *simPolicy, s *simStatement) bool {
			if s.Resource != nil || s.NotResource != nil {
				return false
			}
			s.Resource = simList{"*"}
			return true
		})
	}},
	{"a session policy cuts what names the session", "IAM User Guide, How AWS enforcement code logic evaluates requests, resource-based policies: permissions granted directly to a session are not limited by an implicit deny in a session policy", func(p *simPair) bool {
		p.sessionCutsAll = len(p.Session) > 0 && !p.NoKey && p.Caller.AccountID == own
		return p.sessionCutsAll
	}},
	{"every action works across accounts", "AWS KMS Developer Guide, AWS KMS permissions, column Cross-account use", func(p *simPair) bool {
		p.everyActionCrosses = !p.NoKey && p.Caller.AccountID == foreign && !CrossAccount(p.Action)
		return p.everyActionCrosses
	}},
	{"a federated user needs no session policy", "AWS STS API Reference, GetFederationToken: without a session policy the session has no permissions", func(p *simPair) bool {
		if p.Caller.Type != CallerFederated || len(p.Session) > 0 {
			return false
		}
		p.Session = []simPolicy{{Version2012, []simStatement{{Effect: "Allow", Action: simList{"*"}, Resource: simList{"*"}}}}}
		return true
	}},
	{"variables in every version", "IAM User Guide, IAM JSON policy elements: Version: in 2008-10-17 variables are literal text", func(p *simPair) bool {
		changed := false
		for _, doc := range p.policies() {
			if doc.Version != Version2012 && doc.anyValue(func(v string) bool { return strings.Contains(v, "${") }) {
				doc.Version, changed = Version2012, true
			}
		}
		return changed
	}},
	{"${*} is text where there are no wildcards", "IAM User Guide, Variables and tags, Special characters: in any string where variables can be used", func(p *simPair) bool {
		return p.everyCondition(func(_ *simStatement, o Operator, _ string, values simList) bool {
			i := slices.Index(values, "a${*}b")
			if i < 0 || !strings.HasPrefix(o.Name, "String") || strings.HasSuffix(o.Name, "Like") {
				return false
			}
			values[i] = "a${$}{*}b"
			return true
		})
	}},
	{"NotPrincipal leaves out by one name", "IAM User Guide, AWS JSON policy elements: NotPrincipal: the account, the role and the session must all be listed", func(p *simPair) bool {
		return p.everyStatement(func(_ *simPolicy, s *simStatement) bool {
			one := func(name string) bool {
				ref, ok := ParsePrincipal(name)
				return ok && ref.names(&p.Caller, nil) != notNamed
			}
			if len(p.Boundary) > 0 || !slices.ContainsFunc(s.NotPrincipal, one) {
				return false
			}
			s.NotPrincipal = simPrincipals{"*"}
			return true
		})
	}},
	{"epoch seconds are milliseconds", "IAM User Guide, Condition operators, Date: epoch (Unix) time, which counts seconds", func(p *simPair) bool {
		milli := func(s *string) bool {
			n, err := strconv.ParseInt(*s, 10, 64)
			if err == nil {
				*s = time.UnixMilli(n).UTC().Format("2006-01-02T15:04:05.000Z07:00")
			}
			return err == nil
		}
		changed := false
		for key, v := range p.Context {
			if strings.EqualFold(key, "aws:EpochTime") {
				changed = milli(&v.values[0]) || changed
			}
		}
		return p.everyCondition(func(_ *simStatement, o Operator, _ string, values simList) bool {
			if !strings.HasPrefix(o.Name, "Date") {
				return false
			}
			any := false
			for i := range values {
				any = milli(&values[i]) || any
			}
			return any
		}) || changed
	}},
	{"the block of all addresses holds one", "IAM User Guide, Condition operators, IP address: CIDR (RFC 4632), where /0 has no bit that must agree", func(p *simPair) bool {
		return p.everyCondition(func(_ *simStatement, o Operator, _ string, values simList) bool {
			i := slices.Index(values, "0.0.0.0/0")
			if i < 0 || !strings.HasSuffix(o.Name, "IpAddress") {
				return false
			}
			values[i] = "0.0.0.0/32"
			return true
		})
	}},
	{"an address of the other family is not another address", "IAM User Guide, Condition operators, IP address: NotIpAddress matches all but the given address", func(p *simPair) bool {
		return p.everyCondition(func(_ *simStatement, o Operator, key string, values simList) bool {
			got, ok := p.value(key)
			if o.Name != "NotIpAddress" || !ok {
				return false
			}
			changed := false
			for i, v := range values {
				if six := strings.Contains(got, ":"); !strings.Contains(v, "/") && strings.Contains(v, ":") != six {
					values[i], changed = map[bool]string{true: "::/0", false: "0.0.0.0/0"}[six], true
				}
			}
			return changed
		})
	}},
	{"a key of several values without a set operator denies nothing", "IAM User Guide, Single-valued vs. multivalued context keys: it needs a set operator; ours denies by one without and does not allow", func(p *simPair) bool {
		return p.never(func(s *simStatement, o Operator, key string, _ simList) bool {
			v, ok := p.lookup(key)
			return s.Effect == "Deny" && ok && v.multi && o.Set == "" && o.Name != nullOperator
		})
	}},
	{"nothing matches a variable without a value", "IAM User Guide, Variables and tags, Policy variables with no value: inverted operators do match", func(p *simPair) bool {
		return p.never(func(_ *simStatement, o Operator, key string, values simList) bool {
			v, present := p.lookup(key)
			return o.Negated() && present && len(v.values) > 0 && slices.ContainsFunc(values, p.unresolved)
		})
	}},
	{"nothing is outside NotResource with a variable without a value", "IAM User Guide, Variables and tags, Policy variables with no value: it equals no resource, so that all are outside; ours lets it deny and not allow", func(p *simPair) bool {
		return p.everyStatement(func(doc *simPolicy, s *simStatement) bool {
			if s.Effect != "Deny" || p.Resource == "*" || doc.Version != Version2012 || !slices.ContainsFunc(s.NotResource, p.unresolved) {
				return false
			}
			s.NotResource = simList{"*"}
			return true
		})
	}},
	{"ForAnyValue leaves IfExists unread", "IAM User Guide, Condition operators, IfExists: the condition is true where the key is absent; Set operators for multivalued context keys: ForAnyValue is false there; ours denies by it and does not allow", func(p *simPair) bool {
		return p.everyStatement(func(_ *simPolicy, s *simStatement) bool {
			changed := false
			for op, keys := range maps.Clone(s.Condition) {
				o, _ := parseOperator(op)
				if s.Effect != "Deny" || o.Set != ForAnyValue || !o.IfExists {
					continue
				}
				for key, values := range maps.Clone(keys) {
					if _, present := p.lookup(key); !present {
						s.drop(op, key)
						s.want(strings.TrimSuffix(op, "IfExists"), key, values...)
						changed = true
					}
				}
			}
			return changed
		})
	}},
}

// knownDifference returns the fewest differences, three at most, that explain the
// simulator's decision; nil if none do.
func knownDifference(t *testing.T, p *simPair, theirs bool) []int {
	t.Helper()
	var search func(p *simPair, from, more int) []int
	search = func(p *simPair, from, more int) []int {
		for i := from; i < len(simDifferences); i++ {
			c := p.clone()
			if !simDifferences[i].change(c) {
				continue
			}
			if more > 1 {
				if rest := search(c, i+1, more-1); rest != nil {
					return append([]int{i}, rest...)
				}
			} else if c.decide(t).Allowed == theirs {
				return []int{i}
			}
		}
		return nil
	}
	for most := 1; most <= 3; most++ {
		if found := search(p, 0, most); found != nil {
			return found
		}
	}
	return nil
}

func (p *simPair) everyStatement(f func(*simPolicy, *simStatement) bool) bool {
	changed := false
	for _, doc := range p.policies() {
		for i := range doc.Statement {
			changed = f(doc, &doc.Statement[i]) || changed
		}
	}
	return changed
}

func (p *simPair) everyCondition(f func(*simStatement, Operator, string, simList) bool) bool {
	return p.everyStatement(func(_ *simPolicy, s *simStatement) bool {
		changed := false
		for op, keys := range s.Condition {
			o, _ := parseOperator(op)
			for key, values := range keys {
				changed = f(s, o, key, values) || changed
			}
		}
		return changed
	})
}

// never puts a condition that nothing satisfies in the place of those chosen.
func (p *simPair) never(choose func(*simStatement, Operator, string, simList) bool) bool {
	return p.everyCondition(func(s *simStatement, o Operator, key string, values simList) bool {
		if !choose(s, o, key, values) {
			return false
		}
		s.drop(o.String(), key)
		s.want("StringEquals", "cretula:never", "x")
		return true
	})
}

func (doc *simPolicy) anyValue(f func(string) bool) bool {
	for _, s := range doc.Statement {
		if slices.ContainsFunc(s.Resource, f) || slices.ContainsFunc(s.NotResource, f) {
			return true
		}
		for _, keys := range s.Condition {
			for _, values := range keys {
				if slices.ContainsFunc(values, f) {
					return true
				}
			}
		}
	}
	return false
}

func (p *simPair) lookup(key string) (simValues, bool) {
	for name, v := range p.Context {
		if strings.EqualFold(name, key) {
			return v, true
		}
	}
	return simValues{}, false
}

// value returns the single value of a key.
func (p *simPair) value(key string) (string, bool) {
	v, ok := p.lookup(key)
	if !ok || v.multi {
		return "", false
	}
	return v.values[0], true
}

// unresolved tells whether a text has a variable without value and default.
func (p *simPair) unresolved(text string) bool {
	t, _ := parseTemplate(text, true, true)
	for _, part := range t {
		if part.key == "" {
			continue
		}
		v, present := p.lookup(part.key)
		if present && v.multi || !present && !part.hasFallback {
			return true
		}
	}
	return false
}
