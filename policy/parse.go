// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"unicode"

	"github.com/cretula/cretula/reason"
)

// MaxSize is the size in bytes of the largest policy that Parse reads, which is
// the limit of AWS KMS.
const MaxSize = 32768

// Parse reads a policy of the given kind. It refuses what is not in the grammar
// of the language, members named twice, unknown operators, values that their
// operator cannot compare, and principals that can be no caller. In a key policy
// a statement without Action or Resource is taken and has no effect, as AWS does.
//
// In a trust policy statements have a Principal and an Action, of those that
// assume a role; NotPrincipal, NotAction, Resource and NotResource cannot stand
// there. An Allow for an OIDC provider must ask for the value of a claim that says
// whose the token is, such as the provider's sub: without it, whoever gets a token of
// the provider could assume the role.
//
// The error is a [*reason.Error] of [reason.Malformed]; its message begins with
// the line and column, unless it is the kind that does not exist. It is what AWS reports as MalformedPolicyDocument.
//
// Source: IAM User Guide, "Grammar of the IAM JSON policy language",
// "Identity-provider controls for shared OIDC providers"; AWS KMS Developer Guide,
// "Key policies".
func Parse(doc []byte, kind Kind) (*Policy, error) {
	if kind != KindKey && kind != KindIdentity && kind != KindTrust {
		return nil, reason.New(reason.Malformed, "policy.kind", "no kind of policy has the number %d", kind)
	}
	if len(doc) > MaxSize {
		return nil, fault(doc, MaxSize, "policy.size", "the policy has %d bytes; the limit of %d is here", len(doc), MaxSize)
	}
	r := reader{doc: doc}
	root, err := r.document()
	if err != nil {
		return nil, err
	}
	d := decoder{doc: doc, kind: kind}
	if err := d.length(); err != nil {
		return nil, err
	}
	p, err := d.policy(root)
	if err != nil {
		return nil, err
	}
	return p, nil
}

type decoder struct {
	doc  []byte
	kind Kind
	vars bool
	keys []string // see Policy
}

func (d *decoder) fault(n *node, rule, format string, args ...any) error {
	return fault(d.doc, n.off, rule, format, args...)
}

func (d *decoder) want(n *node, kind nodeKind, what string) error {
	if n.kind != kind {
		return d.fault(n, "policy.type", "%s must be %s, not %s", what, nodeNames[kind], nodeNames[n.kind])
	}
	return nil
}

func (d *decoder) policy(root *node) (*Policy, error) {
	if err := d.want(root, object, "a policy"); err != nil {
		return nil, err
	}
	p := &Policy{Kind: d.kind, parsed: true}
	var statements *node
	for _, m := range root.members {
		var err error
		switch m.name {
		case "Version":
			p.Version, err = d.version(m.value)
		case "Id":
			p.ID, err = d.text(m.value, "Id")
		case "Statement":
			statements = m.value
		default:
			err = fault(d.doc, m.off, "policy.member", "a policy has no member %s", quote(m.name))
		}
		if err != nil {
			return nil, err
		}
	}
	if statements == nil {
		return nil, d.fault(root, "policy.statement", "a policy must have a Statement")
	}
	d.vars = p.Version == Version2012
	items := []*node{statements}
	if statements.kind == array {
		items = statements.items
	}
	if len(items) == 0 {
		return nil, d.fault(statements, "policy.statement", "a policy must have at least one statement")
	}
	sids := map[string]bool{}
	for _, n := range items {
		s, err := d.statement(n)
		if err != nil {
			return nil, err
		}
		if s.Sid != "" && d.kind != KindKey && sids[s.Sid] {
			return nil, d.fault(n, "policy.sid", "Statement IDs (SID) in a single policy must be unique: %s", quote(s.Sid))
		}
		sids[s.Sid] = true
		p.Statements = append(p.Statements, s)
	}
	slices.Sort(d.keys)
	p.keys = slices.Clone(slices.Compact(d.keys))
	return p, nil
}

func (d *decoder) text(n *node, what string) (string, error) {
	return n.text, d.want(n, text, what)
}

func (d *decoder) version(n *node) (string, error) {
	v, err := d.text(n, "Version")
	if err == nil && v != Version2008 && v != Version2012 {
		err = d.fault(n, "policy.version", "the version must be %s or %s", Version2008, Version2012)
	}
	return v, err
}

func (d *decoder) statement(n *node) (Statement, error) {
	if err := d.want(n, object, "a statement"); err != nil {
		return Statement{}, err
	}
	s := Statement{onRole: d.kind == KindTrust}
	s.Line, _ = position(d.doc, n.off)
	for _, m := range n.members {
		if s.onRole && slices.Contains(notOfTrust, m.name) {
			return Statement{}, fault(d.doc, m.off, "policy.member", "a statement of a trust policy cannot have %s", m.name)
		}
		if err := d.element(&s, m); err != nil {
			return Statement{}, err
		}
	}
	if err := d.check(&s, n); err != nil || !s.onRole {
		return s, err
	}
	return s, d.claims(&s, n)
}

// element reads one member of a statement.
func (d *decoder) element(s *Statement, m member) (err error) {
	v := m.value
	switch m.name {
	case "Sid":
		if s.Sid, err = d.text(v, "Sid"); err == nil {
			err = d.sid(s.Sid, v)
		}
	case "Effect":
		var effect string
		effect, err = d.text(v, "Effect")
		s.Effect = Effect(effect)
		if err == nil && s.Effect != Allow && s.Effect != Deny {
			err = d.fault(v, "policy.effect", "the effect must be Allow or Deny, not %s", quote(effect))
		}
	case "Principal":
		s.Principal, err = d.principals(v)
	case "NotPrincipal":
		s.NotPrincipal, err = d.principals(v)
	case "Action":
		s.Action, err = d.actions(s, v)
	case "NotAction":
		s.NotAction, err = d.actions(s, v)
	case "Resource":
		s.Resource, err = d.resources(s, v)
	case "NotResource":
		s.NotResource, err = d.resources(s, v)
	case "Condition":
		s.Condition, err = d.conditions(v)
	default:
		err = fault(d.doc, m.off, "policy.member", "a statement has no member %s", quote(m.name))
	}
	return err
}

// check looks at what must and must not stand together in a statement.
func (d *decoder) check(s *Statement, n *node) error {
	named := s.Principal != nil || s.NotPrincipal != nil
	var complaint string
	switch {
	case s.Effect == "":
		complaint = "a statement must have an Effect"
	case s.Principal != nil && s.NotPrincipal != nil:
		complaint = "a statement cannot have both Principal and NotPrincipal"
	case s.Action != nil && s.NotAction != nil:
		complaint = "a statement cannot have both Action and NotAction"
	case s.Resource != nil && s.NotResource != nil:
		complaint = "a statement cannot have both Resource and NotResource"
	case named && d.kind == KindIdentity:
		complaint = "a statement of an identity policy cannot name a principal"
	case !named && d.kind == KindKey:
		complaint = "a statement of a key policy must have a Principal"
	case !named && d.kind == KindTrust:
		complaint = "a statement of a trust policy must have a Principal"
	case s.Action == nil && d.kind == KindTrust:
		complaint = "a statement of a trust policy must have an Action"
	case s.NotPrincipal != nil && s.Effect == Allow:
		complaint = "NotPrincipal can stand with Deny only"
	case s.Inert() && d.kind == KindIdentity:
		complaint = "a statement must have an Action and a Resource"
	default:
		return nil
	}
	return d.fault(n, "policy.statement", "%s", complaint)
}

func (d *decoder) sid(s string, n *node) error {
	for _, c := range s {
		alphanumeric := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !alphanumeric && d.kind != KindKey {
			return d.fault(n, "policy.sid", "Statement IDs (SID) must be alpha-numeric: %s", quote(s))
		}
		if c < ' ' {
			return d.fault(n, "policy.sid", "a control character in a Sid")
		}
	}
	return nil
}

// list returns the items of an array, or a scalar as its only one.
func (d *decoder) list(n *node, what string) ([]*node, error) {
	if n.kind != array {
		return []*node{n}, nil
	}
	if len(n.items) == 0 {
		return nil, d.fault(n, "policy.empty", "%s must not be empty", what)
	}
	return n.items, nil
}

func (d *decoder) strings(n *node, what string) ([]string, []*node, error) {
	items, err := d.list(n, what)
	if err != nil {
		return nil, nil, err
	}
	list := make([]string, len(items))
	for i, item := range items {
		if list[i], err = d.text(item, what); err != nil {
			return nil, nil, err
		}
	}
	return list, items, nil
}

func (d *decoder) actions(s *Statement, n *node) ([]string, error) {
	list, items, err := d.strings(n, "an action")
	if err != nil {
		return nil, err
	}
	s.actions = nil
	for i, a := range list {
		vendor, name, ok := strings.Cut(a, ":")
		if a == "*" {
			vendor, name, ok = "*", "*", true
		}
		if !ok || name == "" || !actionText(name, "*?_") || vendor != "*" && (vendor == "" || !actionText(vendor, "-")) {
			return nil, d.fault(items[i], "policy.action", "an action must be a vendor, a colon and a name: %s", quote(a))
		}
		t, _ := parseTemplate(strings.ToLower(a), true, false)
		if s.onRole && !assumes(a, t[0].literal) {
			return nil, d.fault(items[i], "policy.action", "AssumeRole policy may only specify STS AssumeRole actions: %s", quote(a))
		}
		s.actions = append(s.actions, t[0].literal)
	}
	return list, nil
}

func actionText(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}

func (d *decoder) resources(s *Statement, n *node) ([]string, error) {
	list, items, err := d.strings(n, "a resource")
	if err != nil {
		return nil, err
	}
	s.resources = nil
	for i, r := range list {
		p, complaint := parsePattern(r, d.vars)
		if complaint != "" {
			return nil, d.fault(items[i], "policy.resource", "Resource %s: %s", quote(r), complaint)
		}
		s.resources = append(s.resources, p)
		d.keys = p.whole.variables(d.keys)
		for _, part := range p.parts {
			d.keys = part.variables(d.keys)
		}
	}
	return list, nil
}

const invalidPrincipals = "Policy contains a statement with one or more invalid principals"

func (d *decoder) principals(n *node) ([]PrincipalRef, error) {
	if n.kind == text {
		if n.text != "*" {
			return nil, d.fault(n, "policy.principal", "%s: %s", invalidPrincipals, quote(n.text))
		}
		return []PrincipalRef{{Kind: PrincipalEveryone, Value: "*"}}, nil
	}
	if err := d.want(n, object, "Principal"); err != nil {
		return nil, err
	}
	var aws, services, providers []PrincipalRef
	for _, m := range n.members {
		list, items, err := d.strings(m.value, "a principal")
		if err != nil {
			return nil, err
		}
		for i, value := range list {
			ref, ok := PrincipalRef{Kind: PrincipalService, Value: value}, serviceForm.MatchString(value)
			switch {
			case m.name == "AWS":
				ref, ok = ParsePrincipal(value)
				aws = append(aws, ref)
			case m.name == "Service":
				services = append(services, ref)
			case m.name == "Federated" && d.kind == KindTrust:
				ref, ok = parseProvider(value)
				providers = append(providers, ref)
			default:
				return nil, fault(d.doc, m.off, "policy.principal", "%s: the type %s names no caller of a key service", invalidPrincipals, quote(m.name))
			}
			if !ok {
				return nil, d.fault(items[i], "policy.principal", "%s: %s", invalidPrincipals, quote(value))
			}
		}
	}
	if all := slices.Concat(aws, services, providers); len(all) > 0 {
		return all, nil
	}
	return nil, d.fault(n, "policy.principal", "%s: none is named", invalidPrincipals)
}

func (d *decoder) conditions(n *node) ([]Condition, error) {
	if err := d.want(n, object, "Condition"); err != nil {
		return nil, err
	}
	var all []Condition
	for _, op := range n.members {
		o, ok := parseOperator(op.name)
		if !ok {
			return nil, fault(d.doc, op.off, "policy.operator", "there is no condition operator %s", quote(op.name))
		}
		if err := d.want(op.value, object, op.name); err != nil {
			return nil, err
		}
		if len(op.value.members) == 0 {
			return nil, d.fault(op.value, "policy.empty", "%s has no condition key", op.name)
		}
		for _, m := range op.value.members {
			c, err := d.condition(o, m)
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	return all, nil
}

const contextPrefix = "kms:encryptioncontext:"

func (d *decoder) condition(o Operator, m member) (Condition, error) {
	vendor, name, ok := strings.Cut(m.name, ":")
	if !ok || vendor == "" || name == "" || !actionText(vendor, providerText) || strings.ContainsFunc(name, unicode.IsControl) || d.vars && strings.Contains(m.name, "${") {
		return Condition{}, fault(d.doc, m.off, "policy.key", "a condition key must be a vendor, a colon and a name: %s", quote(m.name))
	}
	c := Condition{Operator: o, Key: m.name, operator: o.String(), negated: o.Negated(), folded: strings.ToLower(m.name)}
	c.multi = isMultivalued(c.folded)
	if d.kind == KindKey && identityOnly[c.folded] {
		c.folded = "" // no request has it
	}
	if d.kind == KindKey && o.Set == ForAllValues && strings.HasPrefix(c.folded, contextPrefix) {
		return Condition{}, fault(d.doc, m.off, "policy.overly-permissive",
			"OverlyPermissiveCondition:EncryptionContext:%s: ForAllValues matches a request without this key", name[len(contextPrefix)-len("kms:"):])
	}
	d.keys = append(d.keys, c.folded)
	items, err := d.list(m.value, "the values of "+quote(m.name))
	if err != nil {
		return Condition{}, err
	}
	for _, item := range items {
		if item.kind != text && item.kind != number && item.kind != boolean {
			return Condition{}, d.fault(item, "policy.type", "a condition value must be a string, a number or a boolean, not %s", nodeNames[item.kind])
		}
		t, complaint := operators[o.Name].compile(item.text, d.vars)
		if complaint != "" {
			return Condition{}, d.fault(item, "policy.value", "%s: %s: %s", o, quote(item.text), complaint)
		}
		if strings.Contains(item.text, "${") {
			t, _ := parseTemplate(item.text, false, d.vars) // of an operator that takes none it may be anything
			d.keys = t.variables(d.keys)
		}
		c.Values = append(c.Values, item.text)
		c.tests = append(c.tests, t)
	}
	return c, nil
}
