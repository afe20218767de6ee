// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"errors"
)

// MarshalJSON writes the policy in one form for every way of writing it: members
// in AWS's order, lists of one as scalars, condition values as strings. Parse
// reads it back to an equal Policy, line numbers aside. What a key answers as its
// policy should be the text it was given, not this.
func (p *Policy) MarshalJSON() ([]byte, error) {
	if !p.parsed {
		return nil, errors.New("policy: not made by Parse")
	}
	b := []byte{'{'}
	if p.Version != "" {
		b = appendString(append(b, `"Version":`...), p.Version)
		b = append(b, ',')
	}
	if p.ID != "" {
		b = appendString(append(b, `"Id":`...), p.ID)
		b = append(b, ',')
	}
	b = append(b, `"Statement":[`...)
	for i := range p.Statements {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.Statements[i].appendJSON(b)
	}
	return append(b, "]}"...), nil
}

func (s *Statement) appendJSON(b []byte) []byte {
	b = append(b, '{')
	if s.Sid != "" {
		b = appendString(append(b, `"Sid":`...), s.Sid)
		b = append(b, ',')
	}
	b = appendString(append(b, `"Effect":`...), string(s.Effect))
	b = appendPrincipals(b, "Principal", s.Principal)
	b = appendPrincipals(b, "NotPrincipal", s.NotPrincipal)
	for _, e := range []struct {
		name string
		list []string
	}{{"Action", s.Action}, {"NotAction", s.NotAction}, {"Resource", s.Resource}, {"NotResource", s.NotResource}} {
		if e.list != nil {
			b = appendList(append(appendString(append(b, ','), e.name), ':'), e.list)
		}
	}
	return append(appendConditions(b, s.Condition), '}')
}

func appendPrincipals(b []byte, name string, refs []PrincipalRef) []byte {
	if refs == nil {
		return b
	}
	b = append(appendString(append(b, ','), name), ':')
	if len(refs) == 1 && refs[0].Kind == PrincipalEveryone {
		return appendString(b, "*")
	}
	types := map[PrincipalKind]string{PrincipalService: "Service", PrincipalProvider: "Federated"}
	lists := map[string][]string{}
	for _, r := range refs {
		t := cmp.Or(types[r.Kind], "AWS")
		lists[t] = append(lists[t], r.Value)
	}
	open := byte('{')
	for _, t := range []string{"AWS", "Service", "Federated"} {
		if lists[t] != nil {
			b = appendList(append(appendString(append(b, open), t), ':'), lists[t])
			open = ','
		}
	}
	return append(b, '}')
}

// appendConditions writes the keys of one operator under one name. Parse leaves
// them side by side, since it refuses an operator that is there twice.
func appendConditions(b []byte, conditions []Condition) []byte {
	if conditions == nil {
		return b
	}
	b = append(b, `,"Condition":{`...)
	for i, c := range conditions {
		first := i == 0 || c.Operator != conditions[i-1].Operator
		if first && i > 0 {
			b = append(b, '}')
		}
		if i > 0 {
			b = append(b, ',')
		}
		if first {
			b = append(appendString(b, c.Operator.String()), ":{"...)
		}
		b = appendList(append(appendString(b, c.Key), ':'), c.Values)
	}
	return append(b, "}}"...)
}

func appendList(b []byte, list []string) []byte {
	if len(list) == 1 {
		return appendString(b, list[0])
	}
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}
