// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"
)

// An Operator is a condition operator with what may stand around its name.
type Operator struct {
	// Set is "", "ForAllValues" or "ForAnyValue".
	Set string
	// Name is the operator's name alone, such as "StringEquals".
	Name string
	// IfExists makes the condition match where the key is absent.
	IfExists bool
}

// The two set prefixes of an operator.
const (
	ForAllValues = "ForAllValues"
	ForAnyValue  = "ForAnyValue"
)

// String returns the operator as policies write it.
func (o Operator) String() string {
	s := o.Name
	if o.Set != "" {
		s = o.Set + ":" + s
	}
	if o.IfExists {
		s += "IfExists"
	}
	return s
}

// Negated tells whether the operator matches when none of its values does, and
// therefore also where the key is absent.
func (o Operator) Negated() bool { return operators[o.Name].negated }

// A test tells whether one value of the request is the one wanted value that it
// was compiled from. Negation is not its matter.
type test func(got string, env *environment) bool

type operator struct {
	negated bool
	// compile makes the test for one wanted value, or says what is wrong with it.
	compile func(want string, vars bool) (t test, complaint string)
}

const nullOperator = "Null"

// operators has every operator of the language. Their names are matched exactly:
// AWS documents no other spelling.
var operators = map[string]operator{
	"StringEquals":              {false, compileString},
	"StringNotEquals":           {true, compileString},
	"StringEqualsIgnoreCase":    {false, compileFold},
	"StringNotEqualsIgnoreCase": {true, compileFold},
	"StringLike":                {false, compileLike},
	"StringNotLike":             {true, compileLike},

	"NumericEquals":            {false, compileNumeric(func(c int) bool { return c == 0 })},
	"NumericNotEquals":         {true, compileNumeric(func(c int) bool { return c == 0 })},
	"NumericLessThan":          {false, compileNumeric(func(c int) bool { return c < 0 })},
	"NumericLessThanEquals":    {false, compileNumeric(func(c int) bool { return c <= 0 })},
	"NumericGreaterThan":       {false, compileNumeric(func(c int) bool { return c > 0 })},
	"NumericGreaterThanEquals": {false, compileNumeric(func(c int) bool { return c >= 0 })},

	"DateEquals":            {false, compileDate(func(c int) bool { return c == 0 })},
	"DateNotEquals":         {true, compileDate(func(c int) bool { return c == 0 })},
	"DateLessThan":          {false, compileDate(func(c int) bool { return c < 0 })},
	"DateLessThanEquals":    {false, compileDate(func(c int) bool { return c <= 0 })},
	"DateGreaterThan":       {false, compileDate(func(c int) bool { return c > 0 })},
	"DateGreaterThanEquals": {false, compileDate(func(c int) bool { return c >= 0 })},

	"Bool":         {false, compileBool},
	"BinaryEquals": {false, compileBinary},
	"IpAddress":    {false, compileIP},
	"NotIpAddress": {true, compileIP},

	"ArnEquals":    {false, compileARN},
	"ArnLike":      {false, compileARN},
	"ArnNotEquals": {true, compileARN},
	"ArnNotLike":   {true, compileARN},

	nullOperator: {false, compileNull},
}

// multivalued has the condition keys of AWS KMS and AWS STS, and those of all services that a
// request to it can have, whose value is a list however many items it has. They
// need a set operator and are no policy variables. Source: IAM User Guide,
// "Single-valued vs. multivalued context keys"; Service Authorization Reference,
// keys of type ArrayOfString.
var multivalued = map[string]bool{
	"kms:encryptioncontextkeys": true, "kms:grantoperations": true, "kms:resourcealiases": true,
	"aws:tagkeys": true, "aws:principalorgpaths": true, "aws:calledvia": true, "aws:principalservicenameslist": true,
	"sts:transitivetagkeys": true,
}

// isMultivalued takes the key in lower case. Of claims of a token it is amr. Source:
// IAM User Guide, "IAM and AWS STS condition context keys", under amr.
func isMultivalued(key string) bool {
	if multivalued[key] {
		return true
	}
	vendor, name, _ := strings.Cut(key, ":")
	return strings.Contains(vendor, ".") && (name == "amr" || strings.HasSuffix(name, ":amr"))
}

// identityOnly has the condition keys that are absent for key policies. Source: AWS
// KMS Developer Guide, "AWS KMS condition keys", kms:ResourceAliases, under policy
// type.
var identityOnly = map[string]bool{"kms:resourcealiases": true}

// parseOperator reads the name of an operator with its prefix and suffix.
func parseOperator(s string) (Operator, bool) {
	var o Operator
	o.Name = s
	if set, name, ok := strings.Cut(s, ":"); ok {
		if set != ForAllValues && set != ForAnyValue {
			return Operator{}, false
		}
		o.Set, o.Name = set, name
	}
	o.Name, o.IfExists = strings.CutSuffix(o.Name, "IfExists")
	_, known := operators[o.Name]
	if o.Name == nullOperator && (o.Set != "" || o.IfExists) {
		return Operator{}, false
	}
	return o, known
}

func compileString(want string, vars bool) (test, string) {
	t, complaint := parseTemplate(want, false, vars)
	return func(got string, env *environment) bool {
		w, ok := t.expand(env)
		return ok && w == got
	}, complaint
}

func compileFold(want string, vars bool) (test, string) {
	t, complaint := parseTemplate(want, false, vars)
	return func(got string, env *environment) bool {
		w, ok := t.expand(env)
		return ok && strings.EqualFold(w, got)
	}, complaint
}

func compileLike(want string, vars bool) (test, string) {
	t, complaint := parseTemplate(want, true, vars)
	return t.match, complaint
}

func compileARN(want string, vars bool) (test, string) {
	p, complaint := parsePattern(want, vars)
	return p.match, complaint
}

func compileBool(want string, vars bool) (test, string) {
	if vars && strings.Contains(want, "${") {
		return compileFold(want, vars)
	}
	if !strings.EqualFold(want, "true") && !strings.EqualFold(want, "false") {
		return nil, `want "true" or "false"`
	}
	return func(got string, _ *environment) bool { return strings.EqualFold(want, got) }, ""
}

// compileNull checks the value; what Null looks at is no value of the request.
func compileNull(want string, _ bool) (test, string) { return compileBool(want, false) }

func compileBinary(want string, _ bool) (test, string) {
	w, err := base64.StdEncoding.Strict().DecodeString(want)
	if err != nil {
		return nil, "want base64"
	}
	return func(got string, _ *environment) bool {
		g, err := base64.StdEncoding.Strict().DecodeString(got)
		return err == nil && bytes.Equal(w, g)
	}, ""
}

func compileIP(want string, _ bool) (test, string) {
	prefix, err := netip.ParsePrefix(want)
	if err != nil {
		addr, err := netip.ParseAddr(want)
		if err != nil || addr.Zone() != "" {
			return nil, "want an IP address or a CIDR block"
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	prefix = prefix.Masked()
	return func(got string, _ *environment) bool {
		addr, err := netip.ParseAddr(got)
		return err == nil && prefix.Contains(addr.Unmap())
	}, ""
}

func compileNumeric(holds func(int) bool) func(string, bool) (test, string) {
	return func(want string, _ bool) (test, string) {
		w, ok := parseDecimal(want)
		if !ok {
			return nil, "want a whole or decimal number"
		}
		return func(got string, _ *environment) bool {
			g, ok := parseDecimal(got)
			return ok && holds(g.compare(w))
		}, ""
	}
}

func compileDate(holds func(int) bool) func(string, bool) (test, string) {
	return func(want string, _ bool) (test, string) {
		w, ok := parseDate(want)
		if !ok {
			return nil, "want an ISO 8601 date or epoch seconds"
		}
		return func(got string, _ *environment) bool {
			g, ok := parseDate(got)
			return ok && holds(g.Compare(w))
		}, ""
	}
}

var dateLayouts = []string{
	"2006-01-02T15:04:05Z07:00", // takes a fraction of a second too
	"2006-01-02T15:04Z07:00", "2006-01-02", "2006-01",
}

// parseDate reads the W3C profile of ISO 8601 or epoch seconds. Four digits are
// a year, as a point in time of 1970 is no use to anyone.
func parseDate(s string) (time.Time, bool) {
	if len(s) == len("2006") && digits(s) {
		t, err := time.Parse("2006", s)
		return t, err == nil
	}
	if d, ok := parseDecimal(s); ok {
		return d.time()
	}
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}
