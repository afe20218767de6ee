// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"
)

// holds evaluates one condition, in an Allow and in a Deny.
func holds(t *testing.T, condition string, c Context) bool {
	t.Helper()
	results := map[string]bool{}
	for _, effect := range []string{"Allow", "Deny"} {
		key := `{"Version":"2012-10-17","Statement":{"Effect":"` + effect + `","Principal":"*","Action":"*","Resource":"*","Condition":` + condition + `}}`
		in := input(t, user, key)
		in.Request.Context = c
		d := Evaluate(in)
		s := d.Trace.Policies[0].Statements[0]
		all := true
		for _, c := range s.Conditions {
			all = all && c.Matched
		}
		if s.Applied != all || d.Allowed != (all && effect == "Allow") {
			t.Errorf("%s: applied %v, conditions %v, allowed %v", key, s.Applied, all, d.Allowed)
		}
		results[effect] = all
	}
	if results["Allow"] != results["Deny"] {
		t.Errorf("%s: holds in an Allow %v, in a Deny %v", condition, results["Allow"], results["Deny"])
	}
	return results["Allow"]
}

// valid is, for each operator, a wanted value, a value of a request that equals
// it, and one that the operator tells apart.
var valid = map[string][3]string{
	"StringEquals": {"a", "a", "A"}, "StringNotEquals": {"a", "A", "a"},
	"StringEqualsIgnoreCase": {"a", "A", "b"}, "StringNotEqualsIgnoreCase": {"a", "b", "A"},
	"StringLike": {"a*", "abc", "b"}, "StringNotLike": {"a*", "b", "abc"},
	"NumericEquals": {"10", "10.0", "9"}, "NumericNotEquals": {"10", "9", "10.0"},
	"NumericLessThan": {"10", "9", "10"}, "NumericLessThanEquals": {"10", "10", "10.5"},
	"NumericGreaterThan": {"10", "11", "10"}, "NumericGreaterThanEquals": {"10", "10", "-11"},
	"DateEquals": {"2026-11-20T18:00:00Z", "1795197600", "1795197601"}, "DateNotEquals": {"2026-11-20T18:00:00Z", "1795197601", "1795197600"},
	"DateLessThan": {"2026-11-20T18:00:00Z", "2026-11-20T17:59:59Z", "2026-11-20T18:00:00Z"}, "DateLessThanEquals": {"2026", "2026-01-01T01:00:00+01:00", "2026-01-01T00:00:01Z"},
	"DateGreaterThan": {"2026-11", "2026-11-01T00:01Z", "2026-10-31"}, "DateGreaterThanEquals": {"2026-11-20", "2026-11-20T00:00:00.000Z", "2026-11-19T23:59:59Z"},
	"Bool": {"true", "TRUE", "false"}, "BinaryEquals": {"AAE=", "AAE=", "AAI="},
	"IpAddress": {"10.1.2.3/8", "10.255.0.1", "11.0.0.1"}, "NotIpAddress": {"::1", "::2", "::1"},
	"ArnEquals": {"arn:aws:iam::*:role/x", "arn:aws:iam::1:role/x", "arn:aws:iam::1:2:role/x"}, "ArnNotEquals": {"arn:aws:iam::1:role/*", "arn:aws:sts::1:role/x", "arn:aws:iam::1:role/a:b"},
	"ArnLike": {"arn:aws:s3:::b/*", "arn:aws:s3:::b/c:d", "b/c"}, "ArnNotLike": {"arn:aws:s3:::b/?", "arn:aws:s3:::b/cc", "arn:aws:s3:::b/c"},
}

// The absent-key rules, and one value each way, for every operator there is.
func TestEveryOperator(t *testing.T) {
	for name, op := range operators {
		if name == nullOperator {
			continue
		}
		v, ok := valid[name]
		if !ok {
			t.Errorf("no test values for %s", name)
			continue
		}
		cond := func(operator string) string { return `{"` + operator + `":{"kms:K":"` + v[0] + `"}}` }
		match, differ, absent, empty := Context{"kms:k": {v[1]}}, Context{"kms:k": {v[2]}}, Context(nil), Context{"kms:k": {}}
		for _, test := range []struct {
			operator string
			context  Context
			what     string
			want     bool
		}{
			{name, match, "match", true}, {name, differ, "differ", false},
			{name, absent, "absent", op.negated}, {name, empty, "empty", op.negated},
			{name + "IfExists", match, "match", true}, {name + "IfExists", differ, "differ", false},
			{name + "IfExists", absent, "absent", true}, {name + "IfExists", empty, "empty", op.negated},
			{"ForAllValues:" + name, match, "match", true}, {"ForAllValues:" + name, differ, "differ", false},
			{"ForAllValues:" + name, absent, "absent", true}, {"ForAllValues:" + name, empty, "empty", true},
			{"ForAnyValue:" + name, match, "match", true}, {"ForAnyValue:" + name, differ, "differ", false},
			{"ForAnyValue:" + name, absent, "absent", false}, {"ForAnyValue:" + name, empty, "empty", false},
			{"ForAllValues:" + name, Context{"kms:k": {v[1], v[2]}}, "mixed", false},
			{"ForAnyValue:" + name, Context{"kms:k": {v[1], v[2]}}, "mixed", true},
		} {
			if got := holds(t, cond(test.operator), test.context); got != test.want {
				t.Errorf("%s with %s %v: %v", cond(test.operator), test.what, test.context, got)
			}
		}
	}
}

func TestConditions(t *testing.T) {
	digest := strings.Repeat("6be47f83", 12)
	upper := strings.ToUpper(digest)
	att := Context{image: {digest}}
	for _, test := range []struct {
		condition string
		context   Context
		want      bool
	}{
		{`{}`, nil, true},
		// keys match in any case; values as the operator has it
		{`{"StringEquals":{"KMS:RECIPIENTATTESTATION:imagesha384":"` + digest + `"}}`, att, true},
		{`{"StringEquals":{"` + image + `":"` + upper + `"}}`, att, false},
		{`{"StringEqualsIgnoreCase":{"` + image + `":"` + upper + `"}}`, att, true},
		{`{"StringEqualsIgnoreCase":{"` + image + `":"0x` + digest + `"}}`, att, false},
		{`{"StringNotEqualsIgnoreCase":{"` + image + `":"0x` + digest + `"}}`, att, true},
		{`{"StringEqualsIgnoreCase":{"kms:RecipientAttestation":"` + digest + `"}}`, att, false},
		{`{"StringEquals":{"` + image + `":["a","` + digest + `"]}}`, att, true},
		{`{"StringNotEquals":{"` + image + `":["a","` + digest + `"]}}`, att, false},
		{`{"StringNotEquals":{"` + image + `":["a","b"]}}`, att, true},
		{`{"StringEquals":{"` + image + `":"` + digest[:8] + `*"}}`, att, false},
		{`{"StringLike":{"` + image + `":"` + digest[:8] + `*"}}`, att, true},
		{`{"StringLike":{"` + image + `":"*"}}`, nil, false},
		{`{"StringLike":{"` + image + `":"*"}}`, Context{image: {""}}, true},
		{`{"StringEquals":{"` + image + `":""}}`, Context{image: {""}}, true},
		// every key and every operator must match
		{`{"StringEquals":{"` + image + `":"` + digest + `","kms:RecipientAttestation:PCR3":"x"}}`, att, false},
		{`{"StringEquals":{"` + image + `":"` + digest + `"},"Bool":{"aws:SecureTransport":true}}`, att, false},
		{`{"StringEquals":{"` + image + `":"` + digest + `"},"BoolIfExists":{"aws:SecureTransport":true}}`, att, true},
		// Null
		{`{"Null":{"` + image + `":"true"}}`, att, false},
		{`{"Null":{"` + image + `":"False"}}`, att, true},
		{`{"Null":{"` + image + `":true}}`, nil, true},
		{`{"Null":{"` + image + `":false}}`, nil, false},
		{`{"Null":{"` + image + `":"true"}}`, Context{image: {}}, false},
		{`{"Null":{"` + image + `":["true","false"]}}`, att, true},
		// sets
		{`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}}`, Context{"kms:EncryptionContextKeys": {"x", "b"}}, true},
		{`{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}}`, Context{"kms:EncryptionContextKeys": {"x", "y"}}, false},
		{`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}}`, Context{"kms:EncryptionContextKeys": {"a", "b"}}, true},
		{`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["a","b"]}}`, Context{"kms:EncryptionContextKeys": {"a", "c"}}, false},
		{`{"ForAllValues:StringNotEquals":{"kms:K":["a","b"]}}`, Context{"kms:k": {"c", "d"}}, true},
		{`{"ForAllValues:StringNotEquals":{"kms:K":["a","b"]}}`, Context{"kms:k": {"c", "a"}}, false},
		{`{"ForAnyValue:StringNotEquals":{"kms:K":["a","b"]}}`, Context{"kms:k": {"c", "a"}}, true},
		// encryption context: the key's case does not count, the value's does
		{`{"StringEquals":{"kms:EncryptionContext:App":"x"}}`, Context{"kms:EncryptionContext:aPP": {"x"}}, true},
		{`{"StringEquals":{"kms:EncryptionContext:App":"x"}}`, Context{"kms:EncryptionContext:App": {"X"}}, false},
		{`{"StringEquals":{"kms:EncryptionContext:a b:c":"x"}}`, Context{"kms:EncryptionContext:a b:c": {"x"}}, true},
		// numbers compare exactly, whatever their size
		{`{"NumericEquals":{"kms:N":1}}`, Context{"kms:n": {"1.000"}}, true},
		{`{"NumericEquals":{"kms:N":"-0"}}`, Context{"kms:n": {"0.0"}}, true},
		{`{"NumericLessThan":{"kms:N":"9007199254740993"}}`, Context{"kms:n": {"9007199254740992"}}, true},
		{`{"NumericGreaterThan":{"kms:N":"-2"}}`, Context{"kms:n": {"-1.5"}}, true},
		{`{"NumericLessThan":{"kms:N":"-2"}}`, Context{"kms:n": {"-1.5"}}, false},
		{`{"NumericLessThan":{"kms:N":"1"}}`, Context{"kms:n": {"-1"}}, true},
		{`{"NumericGreaterThan":{"kms:N":"-1"}}`, Context{"kms:n": {"1"}}, true},
		{`{"NumericEquals":{"kms:N":1}}`, Context{"kms:n": {"one"}}, false},
		{`{"NumericNotEquals":{"kms:N":1}}`, Context{"kms:n": {"one"}}, true},
		{`{"DateLessThan":{"kms:D":"2026"}}`, Context{"kms:d": {"-5.5"}}, true},
		{`{"DateLessThan":{"kms:D":"2026"}}`, Context{"kms:d": {strings.Repeat("9", 40)}}, false},
		{`{"DateGreaterThan":{"kms:D":1.25}}`, Context{"kms:d": {"1.5"}}, true},
		// addresses
		{`{"IpAddress":{"aws:SourceIp":"192.0.2.7"}}`, Context{"aws:sourceip": {"192.0.2.7"}}, true},
		{`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, Context{"aws:sourceip": {"::ffff:192.0.2.9"}}, true},
		{`{"IpAddress":{"aws:SourceIp":"2001:db8::/32"}}`, Context{"aws:sourceip": {"2001:db8::1"}}, true},
		{`{"IpAddress":{"aws:SourceIp":"0.0.0.0/0"}}`, Context{"aws:sourceip": {"2001:db8::1"}}, false},
		{`{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`, Context{"aws:sourceip": {"not an address"}}, true},
		// ARNs part by part
		{`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:*"}}`, Context{"aws:principalarn": {roleARN}}, true},
		{`{"ArnLike":{"aws:PrincipalArn":"arn:*:role/*:::"}}`, Context{"aws:principalarn": {roleARN}}, false},
		{`{"ArnLike":{"aws:PrincipalArn":"*"}}`, Context{"aws:principalarn": {roleARN}}, true},
		// variables
		{`{"StringEquals":{"kms:EncryptionContext:user":"${aws:username}"}}`, Context{"kms:EncryptionContext:user": {"anna"}, "aws:UserName": {"anna"}}, true},
		{`{"StringEquals":{"kms:EncryptionContext:user":"${aws:username}"}}`, Context{"kms:EncryptionContext:user": {"${aws:username}"}}, false},
		{`{"StringEquals":{"kms:K":"${aws:t, 'none'}-x"}}`, Context{"kms:k": {"none-x"}}, true},
		{`{"StringEquals":{"kms:K":"${aws:t, 'none'}-x"}}`, Context{"kms:k": {"some-x"}, "aws:t": {"some"}}, true},
		{`{"StringEquals":{"kms:K":"${aws:t, '}'}"}}`, Context{"kms:k": {"}"}}, true},
		{`{"StringLike":{"kms:K":"${aws:t}"}}`, Context{"kms:k": {"anything"}, "aws:t": {"*"}}, false},
		{`{"StringLike":{"kms:K":"${aws:t}"}}`, Context{"kms:k": {"anything"}, "aws:t": {"\xff"}}, false},
		{`{"StringLike":{"kms:K":"${aws:t}*"}}`, Context{"kms:k": {"?b"}, "aws:t": {"?"}}, true},
		{`{"StringLike":{"kms:K":"a${*}${?}${$}*"}}`, Context{"kms:k": {"a*?$b"}}, true},
		{`{"StringLike":{"kms:K":"a${*}"}}`, Context{"kms:k": {"ab"}}, false},
		{`{"StringEquals":{"kms:K":"${aws:t}"}}`, Context{"kms:k": {"a"}, "aws:t": {"a", "b"}}, false},
		{`{"StringEquals":{"kms:K":"${aws:t, 'a'}"}}`, Context{"kms:k": {"a"}, "aws:t": {"a", "b"}}, false},

		{`{"StringEquals":{"kms:K":"${aws:TagKeys}"}}`, Context{"kms:k": {"a"}, "aws:TagKeys": {"a"}}, false},
		{`{"StringEquals":{"kms:K":"${aws:TagKeys, 'a'}"}}`, Context{"kms:k": {"a"}}, false},
		{`{"Bool":{"kms:K":"${aws:t}"}}`, Context{"kms:k": {"true"}, "aws:t": {"True"}}, true},
		{`{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::${aws:a}:role/x"}}`, Context{"aws:principalarn": {"arn:aws:iam::1:role/x:role/x"}, "aws:a": {"1:role/x"}}, false},
		{`{"ArnEquals":{"aws:SourceArn":"${aws:PrincipalArn}"}}`, Context{"aws:sourcearn": {roleARN}, "aws:principalarn": {roleARN}}, true},
		// wildcards over letters of more than one byte
		{`{"StringLike":{"kms:K":"?\u00fc?"}}`, Context{"kms:k": {"éüé"}}, true},
		{`{"StringLike":{"kms:K":"*a*b*c"}}`, Context{"kms:k": {"xaybzcabc"}}, true},
		{`{"StringLike":{"kms:K":"*a*b*c"}}`, Context{"kms:k": {"xaybzcabcd"}}, false},
	} {
		if got := holds(t, test.condition, test.context); got != test.want {
			t.Errorf("%s with %v: %v", test.condition, test.context, got)
		}
	}
}

// Several values under an operator that compares one: an Allow must not rest on
// one of them, a Deny not be dodged by one.
func TestSeveralValuesForOne(t *testing.T) {
	for _, c := range []Context{
		{"kms:EncryptionContext:tenant": {"a", "b"}},
		{"kms:EncryptionContext:tenant": {"a"}, "kms:EncryptionContext:Tenant": {"b"}},
		{"kms:EncryptionContextKeys": {"a"}},
		{"kms:EncryptionContextKeys": {}},
	} {
		key, values := "kms:EncryptionContext:tenant", 2
		if got, multi := c["kms:EncryptionContextKeys"]; multi {
			key, values = "KMS:EncryptionContextKeys", len(got)
		}
		for effect, want := range map[string]bool{"Allow": false, "Deny": true} {
			for _, operator := range []string{"StringEquals", "StringNotEquals", "StringEqualsIfExists"} {
				in := input(t, user, `{"Statement":{"Effect":"`+effect+`","Principal":"*","Action":"*","Resource":"*","Condition":{"`+operator+`":{"`+key+`":"a"}}}}`)
				in.Request.Context = c
				s := Evaluate(in).Trace.Policies[0].Statements[0]
				if s.Applied != want || !s.Conditions[0].Ambiguous || len(s.Conditions[0].Got) != values {
					t.Errorf("%s %s: %+v", effect, operator, s)
				}
			}
		}
	}
}

// ForAnyValue wants a value, IfExists none: no Allow rests on the pair of them and
// no Deny is dodged by it.
func TestForAnyValueIfExists(t *testing.T) {
	for effect, want := range map[string]bool{"Allow": false, "Deny": true} {
		for name := range operators {
			if name == nullOperator {
				continue
			}
			in := input(t, user, `{"Statement":{"Effect":"`+effect+`","Principal":"*","Action":"*","Resource":"*","Condition":{"ForAnyValue:`+name+`IfExists":{"kms:K":"`+valid[name][0]+`"}}}}`)
			if s := Evaluate(in).Trace.Policies[0].Statements[0]; s.Applied != want {
				t.Errorf("%s ForAnyValue:%sIfExists of nothing: %v", effect, name, s.Applied)
			}
		}
	}
}

// A variable without a value is no resource; in NotResource that must not widen
// what is allowed.
func TestResourceWithoutValue(t *testing.T) {
	for _, test := range []struct {
		effect, element string
		value           []string
		want            bool
	}{
		{"Allow", "Resource", nil, false}, {"Deny", "Resource", nil, false},
		{"Allow", "NotResource", nil, false}, {"Deny", "NotResource", nil, true},
		{"Allow", "NotResource", []string{"other"}, true}, {"Deny", "NotResource", []string{"other"}, true},
		{"Allow", "NotResource", []string{"*"}, true}, {"Allow", "NotResource", []string{"a", "b"}, false},
		{"Allow", "NotResource", []string{keyARN[strings.LastIndex(keyARN, "/")+1:]}, false},
	} {
		in := input(t, user, `{"Version":"2012-10-17","Statement":{"Effect":"`+test.effect+`","Principal":"*","Action":"*","`+test.element+`":"arn:aws:kms:us-east-1:111122223333:key/${aws:t}"}}`)
		if test.value != nil {
			in.Request.Context = Context{"aws:t": test.value}
		}
		if s := Evaluate(in).Trace.Policies[0].Statements[0]; s.Applied != test.want {
			t.Errorf("%s %s %v: %v", test.effect, test.element, test.value, s.Applied)
		}
	}
}

// What no value of the variable could match is left out by no NotResource.
func TestNotResourceOfAnotherKind(t *testing.T) {
	in := input(t, user, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"*","NotResource":"arn:aws:kms:us-east-1:111122223333:alias/${aws:t}"}}`)
	if d := Evaluate(in); !d.Allowed {
		t.Error(d.Cause)
	}
}

func TestVariablesNeedTheVersion(t *testing.T) {
	for version, want := range map[string]bool{`"Version":"2012-10-17",`: true, `"Version":"2008-10-17",`: false, ``: false} {
		in := input(t, user, `{`+version+`"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"StringEquals":{"kms:K":"${aws:username}"}}}}`)
		in.Request.Context = Context{"kms:k": {"anna"}, "aws:username": {"anna"}}
		if d := Evaluate(in); d.Allowed != want {
			t.Errorf("%q: %v", version, d.Allowed)
		}
		in.Request.Context = Context{"kms:k": {"${aws:username}"}, "aws:username": {"anna"}}
		if d := Evaluate(in); d.Allowed == want {
			t.Errorf("%q, literal: %v", version, d.Allowed)
		}
	}
}

func TestGlob(t *testing.T) {
	for _, test := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"?", "", false}, {"?", "é", true}, {"??", "é", false},
		{"a*", "a", true}, {"*a", "ba", true}, {"*a", "ab", false}, {"a*b*c", "abc", true}, {"a*b*c", "acb", false},
		{"**", "", true}, {"*?*", "", false}, {"*?*", "x", true}, {"a?c", "abc", true}, {"[a]", "a", false}, {`a\*`, "a*", false},
	} {
		p, _ := parseTemplate(test.pattern, true, false)
		if got := p.match(test.text, &environment{}); got != test.want {
			t.Errorf("%q on %q: %v", test.pattern, test.text, got)
		}
	}
	slow, _ := parseTemplate(strings.Repeat("*a", 1000)+"b", true, false)
	if slow.match(strings.Repeat("a", 5000), &environment{}) {
		t.Error("a pattern matches what it does not")
	}
}
