// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/policy"
)

// attestation says whether attestation conditions were part of what was allowed,
// and what should give pause where they were not.
func attestation(d *policy.Decision) (string, []Finding) {
	s, registers := binding(d)
	switch {
	case s != nil && s.Effect == policy.Deny:
		return fmt.Sprintf("Statement %s denies it without the right %s, and the request had it.", statementName(s.Sid, s.Index), join(registers)), nil
	case s != nil:
		return fmt.Sprintf("The document's %s had to match for it.", join(registers)), nil
	case !d.Trace.TakesRecipient && d.Cause != policy.CauseGrant:
		return fmt.Sprintf("None was part of it: %s takes no attestation document.", d.Trace.Action), nil
	}
	text := "A document was needed for it, but one of any image."
	if !needsDocument(d) {
		text = "No attestation condition was part of it: it is allowed outside of an enclave too."
	}
	if d.Cause != policy.CauseGrant {
		return text, nil
	}
	return text, grantUnbound(d)
}

// unattestable has operations that take no document and yet give out what is under
// the key, in lower case.
var unattestable = []string{"kms:creategrant", "kms:reencryptfrom"}

// grantUnbound warns of a grant for what gives out plaintext.
func grantUnbound(d *policy.Decision) []Finding {
	if !d.Trace.TakesRecipient && !slices.Contains(unattestable, strings.ToLower(d.Trace.Action)) {
		return nil
	}
	return []Finding{{
		"grant-without-attestation", "A grant allowed it. A grant cannot hold an attestation condition, and those of Allow statements do not bind it.",
		fmt.Sprintf("deny %s without the image in the key policy, which binds grants too; or revoke the grant.", d.Trace.Action),
	}}
}

// binding returns a statement whose attestation conditions had a say in what was
// allowed, and the registers in them: an Allow that decided and wanted values, or
// a Deny that only its wanted values held back.
func binding(d *policy.Decision) (*policy.StatementTrace, []string) {
	for i := range d.Trace.Policies {
		p := &d.Trace.Policies[i]
		for j := range p.Statements {
			s := &p.Statements[j]
			decided := slices.ContainsFunc(d.By, func(r policy.StatementRef) bool {
				return r.Kind == p.Kind && r.Policy == p.Name && r.Index == s.Index
			})
			held := s.Effect == policy.Deny && len(s.Failed) == 1 && s.Failed[0] == policy.ElementCondition
			if !decided && !held {
				continue
			}
			if registers := asked(s); registers != nil {
				return s, registers
			}
		}
	}
	return nil, nil
}

// asked returns the registers whose values a statement needed: in an Allow those
// that matched, in a Deny those that alone kept it from applying. What an absent
// key would have passed as well is no need.
func asked(s *policy.StatementTrace) []string {
	deny := s.Effect == policy.Deny
	var names []string
	for _, c := range s.Conditions {
		if c.Matched == deny {
			continue
		}
		name, _ := registerName(c.Key)
		passes := strings.HasSuffix(c.Operator, "IfExists") || strings.HasPrefix(c.Operator, policy.ForAllValues)
		if deny {
			passes = strings.HasPrefix(c.Operator, policy.ForAnyValue)
		}
		needed := name != "" && c.Present && c.Negated == deny && c.Operator != "Null" && !passes
		switch {
		case needed && !slices.Contains(names, name):
			names = append(names, name)
		case !needed && deny:
			return nil
		}
	}
	return names
}

// needsDocument tells whether a Deny that asks for a document, whatever is in it,
// was held back by one.
func needsDocument(d *policy.Decision) bool {
	for s := range statements(d) {
		if s.Effect != policy.Deny || s.Applied {
			continue
		}
		for _, c := range s.Conditions {
			_, attestation := registerName(c.Key)
			if attestation && c.Present && c.Operator == "Null" && !c.Matched && len(s.Failed) == 1 && len(s.Conditions) == 1 {
				return true
			}
		}
	}
	return false
}
