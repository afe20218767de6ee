// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cretula/cretula/policy"
)

// About is what a headline says of a request beyond the decision; zero fields are
// left out.
type About struct {
	Time time.Time
	// Alias of the key, such as "alias/orders".
	Alias string
}

// Text returns the whole explanation as lines for a terminal: the verdict and the
// request; why; each statement that bears on it with its conditions; the likely
// causes; what to do.
func (e Explanation) Text(a About) string {
	d := e.decision
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s%s by %s", e.Verdict, d.Trace.Action, onResource(d.Trace.Resource, a.Alias), caller(&d.Trace.Principal))
	if !a.Time.IsZero() {
		fmt.Fprintf(&b, ", %s", a.Time.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "\n\nbecause %s", e.Because)
	rest := 0
	var shown strings.Builder
	for i := range d.Trace.Policies {
		p := &d.Trace.Policies[i]
		for j := range p.Statements {
			if s := &p.Statements[j]; relevant(d, s) {
				writeStatement(&shown, p, s)
			} else {
				rest++
			}
		}
	}
	writeGrants(&shown, d)
	if shown.Len() > 0 {
		b.WriteString(":\n" + shown.String())
	} else {
		b.WriteString(".\n")
	}
	if rest > 0 {
		fmt.Fprintf(&b, "  %s on it\n", count(rest, "other statement has no bearing", "other statements have no bearing"))
	}
	if d.Trace.Truncated {
		b.WriteString("  the record of this decision was too long and is cut; the decision took account of everything\n")
	}
	if e.Attestation != "" || len(e.Findings) > 0 {
		b.WriteByte('\n')
	}
	if e.Attestation != "" {
		fmt.Fprintf(&b, "attestation: %s\n", e.Attestation)
	}
	label := "likely: "
	if d.Allowed {
		label = "beware: "
	}
	for _, f := range e.Findings {
		fmt.Fprintf(&b, "%s%s\nto do:  %s\n", label, f.Likely, f.ToDo)
	}
	return b.String()
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func onResource(arn, alias string) string {
	if arn == "" || arn == "*" {
		return ""
	}
	name := arn[strings.LastIndexByte(arn, ':')+1:]
	if id, ok := strings.CutPrefix(name, "key/"); ok {
		name = "key " + id
	}
	if alias != "" {
		return fmt.Sprintf(" on %s (%s)", Short(name), alias)
	}
	return " on " + Short(name)
}

func caller(p *policy.Principal) string {
	name := p.ARN[strings.LastIndexByte(p.ARN, ':')+1:]
	switch p.Type {
	case policy.CallerRoleSession:
		if role := p.RoleARN[strings.LastIndexByte(p.RoleARN, '/')+1:]; role != "" {
			return "role " + Short(role)
		}
	case policy.CallerUser:
		return "user " + Short(strings.TrimPrefix(name, "user/"))
	case policy.CallerWebIdentity:
		_, provider, _ := strings.Cut(p.ARN, ":oidc-provider/")
		return "a token of " + Short(provider)
	case policy.CallerRoot:
		return "the root user of account " + p.AccountID
	}
	return Short(p.ARN)
}

var kindNames = map[string]string{
	"identity": "identity policy", "boundary": "permissions boundary", "session": "session policy",
}

func writeStatement(b *strings.Builder, p *policy.PolicyTrace, s *policy.StatementTrace) {
	how := "does not apply"
	if s.Applied {
		how = "applies"
		if s.Delegates {
			how = "applies to the account, not to the caller"
		}
	}
	where := ""
	if name, ok := kindNames[p.Kind]; ok {
		where = fmt.Sprintf(" of %s %q", name, p.Name)
	}
	fmt.Fprintf(b, "  %s%s (%s) %s\n", statementName(s.Sid, s.Index), where, s.Effect, how)
	w := tabwriter.NewWriter(b, 0, 0, 3, ' ', 0)
	for i, c := range s.Conditions {
		if i == 0 || c.Operator != s.Conditions[i-1].Operator {
			fmt.Fprintf(w, "      %s\n", c.Operator)
		}
		fmt.Fprintf(w, "          %s\t%s\t%s\t%s\n", Short(c.Key), wantedText(c), gotText(c), matched(c, s))
	}
	w.Flush()
}

func matched(c policy.ConditionTrace, s *policy.StatementTrace) string {
	switch {
	case !c.Matched:
		return "no"
	case s.Applied:
		return "matched"
	}
	return "yes"
}

func wantedText(c policy.ConditionTrace) string {
	switch {
	case c.Operator == "Null" && len(c.Wanted) == 1 && strings.EqualFold(c.Wanted[0], "true"):
		return "wanted absent"
	case c.Operator == "Null":
		return "wanted present"
	case c.Negated:
		return "wanted not " + shortList(c.Wanted)
	}
	return "wanted " + shortList(c.Wanted)
}

func gotText(c policy.ConditionTrace) string {
	switch {
	case !c.Present:
		return "absent"
	case len(c.Got) == 0:
		return "got no value"
	}
	return "got " + strings.ReplaceAll(shortList(c.Got), " or ", " and ")
}

// Paragraph returns the explanation in one paragraph without line breaks: the
// statement that decided, the condition key with both values, the likely cause.
func (e Explanation) Paragraph() string {
	d := e.decision
	s := e.deciding()
	if s == nil {
		return e.closing(fmt.Sprintf("%s: %s.", e.Verdict, e.Because), "")
	}
	head := fmt.Sprintf("%s by statement %s", e.Verdict, statementName(s.Sid, s.Index))
	if !s.Applied {
		head = fmt.Sprintf("%s, as statement %s does not apply", e.Verdict, statementName(s.Sid, s.Index))
	}
	for _, c := range s.Conditions {
		if c.Matched == s.Applied && !d.Allowed {
			return e.closing(fmt.Sprintf("%s: %s %s.", head, Short(c.Key), neededText(c, s.Effect)), c.Key)
		}
	}
	return e.closing(head+".", "")
}

// neededText says what a request must have to pass, and what this one had: a Deny
// turns what its condition wants around.
func neededText(c policy.ConditionTrace, effect policy.Effect) string {
	wanted, got := wantedText(c), gotText(c)
	if effect == policy.Deny {
		if rest, ok := strings.CutPrefix(wanted, "wanted not "); ok {
			wanted = "wanted " + rest
		} else if wanted == "wanted absent" {
			wanted = "wanted present"
		} else if wanted == "wanted present" {
			wanted = "wanted absent"
		} else {
			wanted = "wanted not " + strings.TrimPrefix(wanted, "wanted ")
		}
	}
	if !c.Present {
		got = "got nothing"
	}
	return wanted + ", " + got
}

// closing adds the likely cause and what to do about it. What the paragraph has
// said of a condition that no finding explains is not said twice.
func (e Explanation) closing(text, said string) string {
	if e.Attestation != "" {
		text += " " + e.Attestation
	}
	for _, f := range e.Findings {
		if f.ID == "condition" && said != "" {
			continue
		}
		likely := f.Likely
		if f.ID == "application-changed" {
			likely = strings.TrimPrefix(likely, "Another build of the same base. ")
		}
		return text + " " + likely + " To do: " + f.ToDo
	}
	return text
}

// deciding returns the statement to speak of: the first that decided, else the
// first Allow that its conditions alone kept from applying.
func (e Explanation) deciding() *policy.StatementTrace {
	d := e.decision
	if len(d.By) > 0 {
		by := d.By[0]
		for i := range d.Trace.Policies {
			p := &d.Trace.Policies[i]
			for j := range p.Statements {
				if s := &p.Statements[j]; p.Kind == by.Kind && p.Name == by.Policy && s.Index == by.Index {
					return s
				}
			}
		}
		return nil
	}
	for s := range statements(d, lacking[d.Cause]...) {
		if !d.Allowed && !s.Applied && relevant(d, s) {
			return s
		}
	}
	return nil
}
