// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/cretula/cretula/reason"
)

// statement wraps the members of a key policy's statement.
func statement(members string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"` + members + `}}`
}

func TestParseRefuses(t *testing.T) {
	const key, identity = KindKey, KindIdentity
	cond := func(s string) string { return statement(`,"Condition":` + s) }
	for _, test := range []struct {
		name string
		kind Kind
		doc  string
		at   string // position
		rule string
	}{
		{"nothing", key, ``, "line 1, column 1", "policy.json.syntax"},
		{"space", key, " \n ", "line 2, column 2", "policy.json.syntax"},
		{"a scalar", key, `"x"`, "line 1, column 1", "policy.type"},
		{"an array", key, `[]`, "line 1, column 1", "policy.type"},
		{"null", key, `null`, "line 1, column 1", "policy.type"},
		{"text after it", key, statement("") + " {}", "", "policy.json.syntax"},
		{"two commas", key, `{"Id":"a",,"Version":"2012-10-17"}`, "line 1, column 11", "policy.json.syntax"},
		{"comma at the end", key, `{"Id":"a",}`, "line 1, column 11", "policy.json.syntax"},
		{"comma at the end of an array", key, `{"Statement":[1,]}`, "line 1, column 17", "policy.json.syntax"},
		{"no colon", key, `{"Id" "a"}`, "line 1, column 7", "policy.json.syntax"},
		{"no comma", key, `{"Id":"a" "Version":""}`, "line 1, column 11", "policy.json.syntax"},
		{"name without quotes", key, `{Id:"a"}`, "line 1, column 2", "policy.json.syntax"},
		{"comment", key, "// x\n{}", "line 1, column 1", "policy.json.syntax"},
		{"single quotes", key, `{'Id':1}`, "line 1, column 2", "policy.json.syntax"},
		{"open object", key, `{"Id":"a"`, "line 1, column 10", "policy.json.syntax"},
		{"open string", key, `{"Id":"a`, "line 1, column 7", "policy.json.syntax"},
		{"open escape", key, `{"Id":"a\`, "line 1, column 10", "policy.json.syntax"},
		{"line break in a string", key, "{\"Id\":\"a\nb\"}", "line 1, column 9", "policy.json.syntax"},
		{"unknown escape", key, `{"Id":"\x41"}`, "line 1, column 8", "policy.json.syntax"},
		{"short escape", key, `{"Id":"\u12"}`, "line 1, column 8", "policy.json.escape"},
		{"half a surrogate", key, `{"Id":"\ud800"}`, "line 1, column 8", "policy.json.escape"},
		{"surrogates turned", key, `{"Id":"\udc00\ud800"}`, "line 1, column 8", "policy.json.escape"},
		{"surrogate and letter", key, `{"Id":"\ud800\u0041"}`, "line 1, column 8", "policy.json.escape"},
		{"bad UTF-8", key, "{\"Id\":\"é\xff\"}", "line 1, column 9", "policy.json.character"},
		{"beyond Latin-1", key, `{"Id":"é€"}`, "line 1, column 9", "policy.json.character"},
		{"byte order mark", key, "\ufeff{}", "line 1, column 1", "policy.json.character"},
		{"NUL", key, "{\"Id\":\n\"\x00\"}", "line 2, column 2", "policy.json.character"},
		{"leading zero", key, cond(`{"NumericEquals":{"aws:x":01}}`), "", "policy.json.syntax"},
		{"lone minus", key, cond(`{"NumericEquals":{"aws:x":-}}`), "", "policy.json.syntax"},
		{"point without digit", key, cond(`{"NumericEquals":{"aws:x":1.}}`), "", "policy.json.syntax"},
		{"exponent without digit", key, cond(`{"NumericEquals":{"aws:x":1e}}`), "", "policy.json.syntax"},
		{"exponent", key, cond(`{"NumericEquals":{"aws:x":1e3}}`), "", "policy.value"},
		{"too deep", key, strings.Repeat("[", 11) + strings.Repeat("]", 11), "line 1, column 11", "policy.json.depth"},
		{"far too deep", key, strings.Repeat(`{"a":`, 5000), "", "policy.json.depth"},
		{"too large", key, "\n" + strings.Repeat(" ", MaxSize), "line 2, column 32768", "policy.size"},

		{"Version twice", key, `{"Version":"2012-10-17","Version":"2012-10-17"}`, "line 1, column 25", "policy.json.duplicate"},
		{"Version twice by escape", key, `{"Version":"2012-10-17","\u0056ersion":"2008-10-17"}`, "line 1, column 25", "policy.json.duplicate"},
		{"Effect twice", key, "{\"Statement\":{\"Effect\":\"Deny\",\n  \"Effect\":\"Allow\"}}", "line 2, column 3", "policy.json.duplicate"},
		{"key twice", key, cond(`{"StringEquals":{"aws:x":"a","aws:x":"b"}}`), "", "policy.json.duplicate"},
		{"operator twice", key, cond(`{"StringEquals":{"aws:x":"a"},"StringEquals":{"aws:y":"b"}}`), "", "policy.json.duplicate"},

		{"other version", key, `{"Version":"2015-01-01","Statement":[]}`, "line 1, column 12", "policy.version"},
		{"Version a number", key, `{"Version":2012,"Statement":[]}`, "line 1, column 12", "policy.type"},
		{"Id a number", key, `{"Id":1}`, "line 1, column 7", "policy.type"},
		{"unknown member", key, `{"Comment":"x"}`, "line 1, column 2", "policy.member"},
		{"lower case", key, `{"version":"2012-10-17"}`, "line 1, column 2", "policy.member"},
		{"unknown member of a statement", key, statement(`,"Comment":"x"`), "line 1, column 103", "policy.member"},
		{"no statement", key, `{}`, "line 1, column 1", "policy.statement"},
		{"empty statement list", key, `{"Statement":[]}`, "line 1, column 14", "policy.statement"},
		{"a statement that is text", key, `{"Statement":["x"]}`, "line 1, column 15", "policy.type"},
		{"no effect", key, `{"Statement":{"Principal":"*","Action":"*","Resource":"*"}}`, "line 1, column 14", "policy.statement"},
		{"lower-case effect", key, `{"Statement":{"Effect":"allow"}}`, "line 1, column 24", "policy.effect"},
		{"effect null", key, `{"Statement":{"Effect":null}}`, "line 1, column 24", "policy.type"},
		{"Sid a boolean", key, `{"Statement":{"Sid":true}}`, "line 1, column 21", "policy.type"},
		{"Sid with a control character", key, `{"Statement":{"Sid":"a\nb"}}`, "line 1, column 21", "policy.sid"},
		{"Sid with a space", identity, `{"Statement":{"Sid":"a b"}}`, "line 1, column 21", "policy.sid"},
		{"same Sid", identity, `{"Statement":[{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},
			{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}]}`, "line 2, column 4", "policy.sid"},

		{"no principal", key, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`, "", "policy.statement"},
		{"principal in identity policy", identity, statement(""), "", "policy.statement"},
		{"NotPrincipal in identity policy", identity, `{"Statement":{"Effect":"Deny","NotPrincipal":"*","Action":"*","Resource":"*"}}`, "", "policy.statement"},
		{"no action in identity policy", identity, `{"Statement":{"Effect":"Allow","Resource":"*"}}`, "", "policy.statement"},
		{"no resource in identity policy", identity, `{"Statement":{"Effect":"Allow","Action":"*"}}`, "", "policy.statement"},
		{"both principals", key, statement(`,"NotPrincipal":"*"`), "", "policy.statement"},
		{"both actions", key, statement(`,"NotAction":"*"`), "", "policy.statement"},
		{"both resources", key, statement(`,"NotResource":"*"`), "", "policy.statement"},
		{"NotPrincipal with Allow", key, `{"Statement":{"Effect":"Allow","NotPrincipal":"*","Action":"*","Resource":"*"}}`, "", "policy.statement"},

		{"principal a name", key, `{"Statement":{"Principal":"anna"}}`, "line 1, column 27", "policy.principal"},
		{"principal a list", key, `{"Statement":{"Principal":["*"]}}`, "line 1, column 27", "policy.type"},
		{"principal empty", key, `{"Statement":{"Principal":{}}}`, "line 1, column 27", "policy.principal"},
		{"principal list empty", key, `{"Statement":{"Principal":{"AWS":[]}}}`, "line 1, column 34", "policy.empty"},
		{"principal with a wildcard", key, `{"Statement":{"Principal":{"AWS":"arn:aws:iam::000000000000:role/*"}}}`, "line 1, column 34", "policy.principal"},
		{"account too short", key, `{"Statement":{"Principal":{"AWS":["*","12345"]}}}`, "line 1, column 39", "policy.principal"},
		{"unique id", key, `{"Statement":{"Principal":{"AWS":"AROAEXAMPLE"}}}`, "line 1, column 34", "policy.principal"},
		{"group", key, `{"Statement":{"Principal":{"AWS":"arn:aws:iam::000000000000:group/x"}}}`, "line 1, column 34", "policy.principal"},
		{"session without name", key, `{"Statement":{"Principal":{"AWS":"arn:aws:sts::000000000000:assumed-role/x"}}}`, "line 1, column 34", "policy.principal"},
		{"principal a number", key, `{"Statement":{"Principal":{"AWS":12345678901}}}`, "line 1, column 34", "policy.type"},
		{"federated", key, `{"Statement":{"Principal":{"Federated":"x"}}}`, "line 1, column 28", "policy.principal"},
		{"canonical user", key, `{"Statement":{"Principal":{"CanonicalUser":"x"}}}`, "line 1, column 28", "policy.principal"},
		{"no service", key, `{"Statement":{"Principal":{"Service":"ec2"}}}`, "line 1, column 38", "policy.principal"},

		{"action without vendor", key, `{"Statement":{"Action":"Decrypt"}}`, "line 1, column 24", "policy.action"},
		{"action without name", key, `{"Statement":{"Action":"kms:"}}`, "line 1, column 24", "policy.action"},
		{"vendor with a wildcard", key, `{"Statement":{"Action":["kms:*","k*:Decrypt"]}}`, "line 1, column 33", "policy.action"},
		{"action with a space", key, `{"Statement":{"Action":"kms:De crypt"}}`, "line 1, column 24", "policy.action"},
		{"action list empty", key, `{"Statement":{"Action":[]}}`, "line 1, column 24", "policy.empty"},
		{"action an object", key, `{"Statement":{"Action":{}}}`, "line 1, column 24", "policy.type"},
		{"resource no ARN", key, `{"Statement":{"Resource":"key"}}`, "line 1, column 26", "policy.resource"},
		{"resource half an ARN", key, `{"Statement":{"Resource":["*","arn:aws:kms:*"]}}`, "line 1, column 31", "policy.resource"},
		{"open variable", identity, `{"Version":"2012-10-17","Statement":{"Resource":"arn:aws:kms:::${x"}}`, "line 1, column 49", "policy.resource"},
		{"variable no key", identity, `{"Version":"2012-10-17","Statement":{"Resource":"arn:aws:kms:::${x}"}}`, "line 1, column 49", "policy.resource"},
		{"default without quotes", identity, `{"Version":"2012-10-17","Statement":{"Resource":"arn:aws:kms:::${aws:x, y}"}}`, "line 1, column 49", "policy.resource"},
		{"default without end", identity, `{"Version":"2012-10-17","Statement":{"Resource":"arn:aws:kms:::${aws:x, 'y}"}}`, "line 1, column 49", "policy.resource"},

		{"condition a list", key, cond(`[]`), "line 1, column 115", "policy.type"},
		{"unknown operator", key, cond(`{"StringMatches":{"aws:x":"y"}}`), "line 1, column 116", "policy.operator"},
		{"lower-case operator", key, cond(`{"stringequals":{"aws:x":"y"}}`), "line 1, column 116", "policy.operator"},
		{"unknown prefix", key, cond(`{"ForSome:StringEquals":{"aws:x":"y"}}`), "line 1, column 116", "policy.operator"},
		{"prefix alone", key, cond(`{"ForAnyValue:":{"aws:x":"y"}}`), "line 1, column 116", "policy.operator"},
		{"IfExists alone", key, cond(`{"IfExists":{"aws:x":"y"}}`), "line 1, column 116", "policy.operator"},
		{"IfExists twice", key, cond(`{"BoolIfExistsIfExists":{"aws:x":"true"}}`), "line 1, column 116", "policy.operator"},
		{"NullIfExists", key, cond(`{"NullIfExists":{"aws:x":"true"}}`), "line 1, column 116", "policy.operator"},
		{"Null with a prefix", key, cond(`{"ForAnyValue:Null":{"aws:x":"true"}}`), "line 1, column 116", "policy.operator"},
		{"operator without keys", key, cond(`{"StringEquals":{}}`), "line 1, column 131", "policy.empty"},
		{"operator a list", key, cond(`{"StringEquals":[]}`), "line 1, column 131", "policy.type"},
		{"key without vendor", key, cond(`{"StringEquals":{"x":"y"}}`), "line 1, column 132", "policy.key"},
		{"key without name", key, cond(`{"StringEquals":{"kms:":"y"}}`), "line 1, column 132", "policy.key"},
		{"key with a control character", key, cond(`{"StringEquals":{"kms:\u001b":"y"}}`), "line 1, column 132", "policy.key"},
		{"key with a variable", key, cond(`{"StringEquals":{"kms:${aws:x}":"y"}}`), "line 1, column 132", "policy.key"},
		{"no values", key, cond(`{"StringEquals":{"aws:x":[]}}`), "line 1, column 140", "policy.empty"},
		{"value null", key, cond(`{"StringEquals":{"aws:x":null}}`), "line 1, column 140", "policy.type"},
		{"value an object", key, cond(`{"StringEquals":{"aws:x":["a",{}]}}`), "line 1, column 145", "policy.type"},
		{"Bool no boolean", key, cond(`{"Bool":{"aws:x":"yes"}}`), "line 1, column 132", "policy.value"},
		{"Null no boolean", key, cond(`{"Null":{"aws:x":"${aws:y}"}}`), "line 1, column 132", "policy.value"},
		{"no number", key, cond(`{"NumericEquals":{"aws:x":"ten"}}`), "line 1, column 141", "policy.value"},
		{"no date", key, cond(`{"DateEquals":{"aws:x":"tomorrow"}}`), "line 1, column 138", "policy.value"},
		{"no address", key, cond(`{"IpAddress":{"aws:x":"10.0.0.0/33"}}`), "line 1, column 137", "policy.value"},
		{"address with a zone", key, cond(`{"IpAddress":{"aws:x":"fe80::1%eth0"}}`), "line 1, column 137", "policy.value"},
		{"no base64", key, cond(`{"BinaryEquals":{"aws:x":"!"}}`), "line 1, column 140", "policy.value"},
		{"no ARN", key, cond(`{"ArnLike":{"aws:x":"arn"}}`), "line 1, column 135", "policy.value"},
		{"open variable in a value", key, cond(`{"StringLike":{"aws:x":"${"}}`), "line 1, column 138", "policy.value"},
		{"overly permissive", key, cond(`{"ForAllValues:StringEquals":{"KMS:encryptioncontext:App":"y"}}`), "line 1, column 145", "policy.overly-permissive"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := Parse([]byte(test.doc), test.kind)
			e, ok := err.(*reason.Error)
			if !ok || p != nil {
				t.Fatalf("got %v, %v", p, err)
			}
			at := cmp.Or(test.at, "line 1, column ")
			if e.Rule() != test.rule || e.Reason() != reason.Malformed || !strings.HasPrefix(e.Problems[0].Message, at) {
				t.Errorf("got %v, want %s at %s", err, test.rule, test.at)
			}
			if len(err.Error()) > 500 {
				t.Errorf("a message of %d bytes", len(err.Error()))
			}
		})
	}
	if _, err := Parse([]byte(statement("")), 0); err == nil {
		t.Error("the zero kind was taken")
	}
}

func TestOverlyPermissiveText(t *testing.T) {
	_, err := Parse([]byte(statement(`,"Condition":{"ForAllValues:StringEquals":{"kms:EncryptionContext:App":"y"}}`)), KindKey)
	if err == nil || !strings.Contains(err.Error(), "OverlyPermissiveCondition:EncryptionContext:App") {
		t.Errorf("got %v", err)
	}
}

// samples are policies that Parse takes: forms of AWS's documentation.
var samples = map[Kind][]string{
	KindKey: {
		statement(""),
		`{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`,
		`{"Version":"2008-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":["ec2.amazonaws.com","logs.us-east-1.amazonaws.com"],"AWS":["111122223333","arn:aws-us-gov:iam::111122223333:role/path/x","arn:aws:sts::111122223333:assumed-role/x/y","arn:aws:sts::111122223333:federated-user/z"]},"Action":["kms:De*","kms:?ncrypt"],"Resource":"*"}]}`,
		`{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::111122223333:user/a"},"NotAction":"kms:Describe*","NotResource":"arn:aws:kms:us-east-1:111122223333:key/*"}}`,
		`{"Statement":{"Effect":"Allow","Principal":"*"}}`,
		`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:Decrypt"},{"Sid":"A b","Effect":"Deny","Principal":"*","Resource":"*"}]}`,
		statement(`,"Condition":{}`),
		statement(`,"Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"ab","kms:RecipientAttestation:PCR3":["1","2"]},"Null":{"kms:RecipientAttestation:ImageSha384":false},"NumericLessThan":{"kms:x":-1.50},"ForAnyValue:StringLike":{"kms:EncryptionContextKeys":"a*"},"BoolIfExists":{"aws:SecureTransport":true},"IpAddress":{"aws:SourceIp":["10.0.0.0/8","::1"]},"DateLessThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"},"BinaryEquals":{"aws:b":"AAE="},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/${aws:username, 'x:y'}"}}`),
		"{\t\"Id\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20ac\\ud83d\\ude00é\",\r\n\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\"}}",
	},
	KindIdentity: {
		`{"Version":"2012-10-17","Statement":{"Sid":"A1","Effect":"Allow","Action":"*","Resource":"*"}}`,
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Decrypt","s3:Get*","*:*"],"Resource":["arn:aws:kms:*:111122223333:alias/${aws:username}","arn:aws:s3:::b/${*}","${aws:PrincipalTag/key}"]}]}`,
		`{"Statement":{"Effect":"Allow","NotAction":"iam:*","NotResource":"arn:aws:kms:::${x"}}`,
	},
	KindTrust: {
		trust("Allow", aws(rootARN), "sts:AssumeRole", ""),
		`{"Version":"2012-10-17","Statement":[{"Sid":"A1","Effect":"Allow","Principal":{"AWS":["111122223333","arn:aws:iam::999999999999:role/x"],"Service":"ec2.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"],"Condition":{"StringEquals":{"sts:ExternalId":"a b"},"StringLike":{"sts:RoleSessionName":"${aws:username}"}}},{"Sid":"A2","Effect":"Deny","Principal":"*","Action":"sts:*"}]}`,
		trust("Allow", federatedBy(github), "sts:AssumeRoleWithWebIdentity", `{"StringEquals":{"token.actions.githubusercontent.com:aud":"sts.amazonaws.com"},"StringLike":{"token.actions.githubusercontent.com:sub":"repo:cretula/*"}}`),
		trust("Allow", federatedBy("127.0.0.1:8080/realms/A"), "sts:AssumeRoleWith*", `{"ForAnyValue:StringEquals":{"127.0.0.1:8080/realms/a:amr":["mfa","hwk"]}}`),
		trust("Deny", federatedBy("issuer.example/"), "sts:AssumeRole*", `{"StringNotLike":{"issuer.example/:sub":"x*"}}`),
	},
}

func TestMarshalReadsBack(t *testing.T) {
	for kind, docs := range samples {
		for _, doc := range docs {
			p, err := Parse([]byte(doc), kind)
			if err != nil {
				t.Errorf("%s: %v", doc, err)
				continue
			}
			roundTrip(t, p)
		}
	}
	if _, err := json.Marshal(&Policy{}); err == nil {
		t.Error("a policy not made by Parse was written")
	}
}

func roundTrip(t *testing.T, p *Policy) {
	t.Helper()
	data, err := p.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(data) {
		t.Fatalf("no JSON: %s", data)
	}
	if len(data) > MaxSize {
		return // unquoted numbers become longer by their quotes
	}
	back, err := Parse(data, p.Kind)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	if !reflect.DeepEqual(bare(p), bare(back)) {
		t.Fatalf("read back differently:\n%+v\n%+v", bare(p), bare(back))
	}
}

// bare returns a policy without what is compiled and without lines.
func bare(p *Policy) Policy {
	b := Policy{Kind: p.Kind, Version: p.Version, ID: p.ID}
	for _, s := range p.Statements {
		s.actions, s.resources, s.Line = nil, nil, 0
		var conditions []Condition
		for _, c := range s.Condition {
			conditions = append(conditions, Condition{Operator: c.Operator, Key: c.Key, Values: c.Values})
		}
		s.Condition = conditions
		b.Statements = append(b.Statements, s)
	}
	return b
}

func TestParsedData(t *testing.T) {
	p, err := Parse([]byte("{\"Version\":\"2012-10-17\",\n\"Id\":\"x\",\n\"Statement\":[\n{\"Sid\":\"a b\",\"Effect\":\"Deny\",\"Principal\":{\"Service\":\"ec2.amazonaws.com\",\"AWS\":\"111122223333\"},"+
		"\"Action\":\"kms:De*\",\"Resource\":\"*\",\"Condition\":{\"ForAnyValue:StringNotLikeIfExists\":{\"kms:X\":[\"a\",1,true]}}}]}"), KindKey)
	if err != nil {
		t.Fatal(err)
	}
	want := Policy{Kind: KindKey, Version: Version2012, ID: "x", Statements: []Statement{{
		Sid: "a b", Effect: Deny, Action: []string{"kms:De*"}, Resource: []string{"*"},
		Principal: []PrincipalRef{
			{Kind: PrincipalAccount, Value: "111122223333", Account: "111122223333"},
			{Kind: PrincipalService, Value: "ec2.amazonaws.com"},
		},
		Condition: []Condition{{
			Operator: Operator{Set: ForAnyValue, Name: "StringNotLike", IfExists: true}, Key: "kms:X", Values: []string{"a", "1", "true"},
		}},
	}}}
	if got := bare(p); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	s := &p.Statements[0]
	if s.Line != 4 || s.Inert() || !s.MayName("KMS:decrypt") || s.MayName("kms:Encrypt") {
		t.Errorf("statement %+v", s)
	}
	if got := s.Condition[0].Operator.String(); got != "ForAnyValue:StringNotLikeIfExists" {
		t.Errorf("operator %s", got)
	}
	if KindKey.String() != "key" || KindIdentity.String() != "identity" || KindTrust.String() != "trust" || Kind(0).String() != "invalid" {
		t.Error("names of kinds")
	}
}

func FuzzParsePolicy(f *testing.F) {
	n := 0
	for kind, docs := range samples {
		for _, doc := range docs {
			f.Add([]byte(doc), byte(kind))
			n++
		}
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	principal := Principal{Type: CallerRoleSession, ARN: "arn:aws:sts::111122223333:assumed-role/x/y", AccountID: "111122223333", RoleARN: "arn:aws:iam::111122223333:role/x"}
	f.Fuzz(func(t *testing.T, doc []byte, number byte) {
		kind := KindKey + Kind(number-byte(KindKey))%3
		p, err := Parse(doc, kind)
		if err != nil {
			if e, ok := err.(*reason.Error); !ok || p != nil || !strings.HasPrefix(e.Problems[0].Message, "line ") {
				t.Fatalf("%v with %v", p, err)
			}
			return
		}
		roundTrip(t, p)
		in := Input{Request: Request{
			Principal: principal, Action: "kms:Decrypt", Resource: "arn:aws:kms:us-east-1:111122223333:key/x", ResourceAccount: "111122223333",
			Context: Context{"aws:username": {"x"}, "kms:x": {"-1.5"}, "aws:sourceip": {"10.0.0.1"}, "kms:encryptioncontextkeys": {"a", "b"}},
		}}
		switch kind {
		case KindKey:
			in.KeyPolicy = p
		case KindTrust:
			fuzzTrust(t, in, p)
			return
		default:
			in.NoKey, in.Identity = true, []Named{{Name: "x", Policy: p}}
		}
		checkDecision(t, Evaluate(in))
		in.Grants = []Grant{{ID: "g", Grantee: principal.RoleARN, Operations: []string{"Decrypt"}, SourceArn: p.ID}}
		if kind == KindIdentity {
			in.Boundary, in.Session = &in.Identity[0], in.Identity
		}
		d := checkDecision(t, Evaluate(in))
		only := in
		only.Request.Context = Context{}
		for _, key := range in.ConditionKeys(nil) {
			if values, ok := in.Request.Context[key]; ok {
				only.Request.Context[key] = values
			}
		}
		if !reflect.DeepEqual(Evaluate(only), d) {
			t.Fatalf("decides by other keys than %v", in.ConditionKeys(nil))
		}
		if len(d.Trace.Grants) != 0 && kind == KindIdentity {
			t.Fatal("a grant without a key")
		}
	})
}

func checkDecision(t *testing.T, d Decision) Decision {
	t.Helper()
	if d.Cause == "" || d.Allowed != (d.Tail() == "") {
		t.Fatalf("decision %+v", d)
	}
	if data, err := json.Marshal(d); err != nil || len(data) > 6*traceBudget {
		t.Fatalf("trace of %d bytes, %v", len(data), err)
	}
	return d
}

// Whatever our reader takes, encoding/json takes too and reads as the same.
func FuzzJSON(f *testing.F) {
	seeds := append([]string{`[1,-0.5e+3,true,false,null,"",{}]`, `{"a":{"a":[[]]}}`, `"\ud83d\ude00"`, `01`, `{"a":1,"a":2}`}, samples[KindKey]...)
	if len(seeds) < 6 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		r := reader{doc: doc}
		n, err := r.document()
		if err != nil {
			if n != nil || !strings.HasPrefix(err.Error(), "line ") {
				t.Fatalf("%v with %v", n, err)
			}
			return
		}
		dec := json.NewDecoder(strings.NewReader(string(doc)))
		dec.UseNumber()
		var want any
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("%q: encoding/json: %v", doc, err)
		}
		if got := plainValue(n); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %v, encoding/json %v", doc, got, want)
		}
	})
}

func plainValue(n *node) any {
	switch n.kind {
	case object:
		m := map[string]any{}
		for _, e := range n.members {
			m[e.name] = plainValue(e.value)
		}
		return m
	case array:
		list := []any{}
		for _, item := range n.items {
			list = append(list, plainValue(item))
		}
		return list
	case number:
		return json.Number(n.text)
	case boolean:
		return n.text == "true"
	case null:
		return nil
	}
	return n.text
}
