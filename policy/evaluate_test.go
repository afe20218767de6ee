// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

const (
	own     = "111122223333"
	foreign = "999999999999"
	keyARN  = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	userARN = "arn:aws:iam::111122223333:user/anna"
	roleARN = "arn:aws:iam::111122223333:role/team/worker"
	sessARN = "arn:aws:sts::111122223333:assumed-role/worker/s1"
	rootARN = "arn:aws:iam::111122223333:root"
	image   = "kms:RecipientAttestation:ImageSha384"
)

var (
	user        = Principal{Type: CallerUser, ARN: userARN, AccountID: own}
	session     = Principal{Type: CallerRoleSession, ARN: sessARN, AccountID: own, RoleARN: roleARN}
	root        = Principal{Type: CallerRoot, ARN: rootARN, AccountID: own}
	service     = Principal{Type: CallerService, ARN: "ec2.amazonaws.com"}
	otherUser   = Principal{Type: CallerUser, ARN: "arn:aws:iam::999999999999:user/eve", AccountID: foreign}
	otherRoot   = Principal{Type: CallerRoot, ARN: "arn:aws:iam::999999999999:root", AccountID: foreign}
	allowAll    = `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	allowMany   = `{"Statement":{"Effect":"Allow","Action":"kms:De*","Resource":"arn:aws:kms:*:111122223333:key/*"}}`
	denyDecrypt = `{"Statement":{"Sid":"No","Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}}`
)

func parse(t testing.TB, doc string, kind Kind) *Policy {
	t.Helper()
	p, err := Parse([]byte(doc), kind)
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	return p
}

// named is a key policy with one statement for the principal, in JSON.
func named(effect, principal string) string {
	return `{"Statement":{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"kms:Decrypt","Resource":"*"}}`
}

func aws(arn string) string { return `{"AWS":"` + arn + `"}` }

func input(t testing.TB, p Principal, key string, identity ...string) Input {
	in := Input{Request: Request{Principal: p, Action: "kms:Decrypt", Resource: keyARN, ResourceAccount: own}}
	if key != "" {
		in.KeyPolicy = parse(t, key, KindKey)
	}
	for i, doc := range identity {
		in.Identity = append(in.Identity, Named{Name: fmt.Sprint(i), Policy: parse(t, doc, KindIdentity)})
	}
	return in
}

func TestEvaluate(t *testing.T) {
	both := func(a, b string) string { return `{"Statement":[` + inner(a) + `,` + inner(b) + `]}` }
	for _, test := range []struct {
		name     string
		caller   Principal
		key      string
		identity []string
		want     Cause
	}{
		{"nothing says anything", user, named("Allow", aws(roleARN)), nil, CauseNoKeyAllow},
		{"identity alone", user, named("Allow", aws(roleARN)), []string{allowAll}, CauseNoKeyAllow},
		{"user named", user, named("Allow", aws(userARN)), nil, CauseKeyPolicy},
		{"user named in other case", user, named("Allow", aws("arn:aws:iam::111122223333:user/Anna")), nil, CauseNoKeyAllow},
		{"everyone", user, named("Allow", `"*"`), nil, CauseKeyPolicy},
		{"AWS everyone", user, named("Allow", aws("*")), nil, CauseKeyPolicy},
		{"role named", session, named("Allow", aws(roleARN)), nil, CauseKeyPolicy},
		{"role without its path", session, named("Allow", aws("arn:aws:iam::111122223333:role/worker")), nil, CauseNoKeyAllow},
		{"session named", session, named("Allow", aws(sessARN)), nil, CauseKeyPolicy},
		{"other session named", session, named("Allow", aws(sessARN+"2")), nil, CauseNoKeyAllow},
		{"service named", service, named("Allow", `{"Service":"ec2.amazonaws.com"}`), nil, CauseKeyPolicy},
		{"other service named", service, named("Allow", `{"Service":"s3.amazonaws.com"}`), nil, CauseNoKeyAllow},
		{"service name as a user", Principal{Type: CallerUser, ARN: "ec2.amazonaws.com", AccountID: own}, named("Allow", `{"Service":"ec2.amazonaws.com"}`), nil, CauseNoKeyAllow},
		{"account delegated, no identity policy", user, named("Allow", aws(own)), nil, CauseNoIdentityAllow},
		{"root delegated, no identity policy", user, named("Allow", aws(rootARN)), nil, CauseNoIdentityAllow},
		{"delegated and allowed", user, named("Allow", aws(rootARN)), []string{allowMany}, CauseDelegated},
		{"delegated and allowed elsewhere", user, named("Allow", aws(own)), []string{`{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"arn:aws:kms:us-west-2:*:key/*"}}`}, CauseNoIdentityAllow},
		{"other account delegated", user, named("Allow", aws(foreign)), []string{allowAll}, CauseNoKeyAllow},
		{"root user, delegated", root, named("Allow", aws(own)), nil, CauseKeyPolicy},
		{"root user, not named", root, named("Allow", aws(userARN)), nil, CauseNoKeyAllow},
		{"service, account delegated", service, named("Allow", aws(own)), nil, CauseNoKeyAllow},
		{"directly named and delegated", user, both(named("Allow", aws(own)), named("Allow", aws(userARN))), nil, CauseKeyPolicy},

		{"key denies", user, both(named("Allow", aws(userARN)), named("Deny", `"*"`)), []string{allowAll}, CauseKeyDeny},
		{"key denies first", user, both(named("Deny", `"*"`), named("Allow", aws(userARN))), nil, CauseKeyDeny},
		{"key denies the account", session, both(named("Allow", aws(roleARN)), named("Deny", aws(own))), nil, CauseKeyDeny},
		{"key denies the role", session, both(named("Allow", aws(sessARN)), named("Deny", aws(roleARN))), nil, CauseKeyDeny},
		{"key denies another", user, both(named("Allow", aws(userARN)), named("Deny", aws(roleARN))), nil, CauseKeyPolicy},
		{"identity denies", user, named("Allow", aws(userARN)), []string{allowAll, denyDecrypt}, CauseIdentityDeny},
		{"both deny", user, named("Deny", `"*"`), []string{denyDecrypt}, CauseKeyDeny},
		{"deny without an allow", user, named("Deny", `"*"`), nil, CauseKeyDeny},

		{"NotPrincipal, not listed", user, both(named("Allow", `"*"`), notPrincipal(rootARN)), nil, CauseKeyDeny},
		{"NotPrincipal, the user alone", user, both(named("Allow", `"*"`), notPrincipal(userARN)), nil, CauseKeyDeny},
		{"NotPrincipal, user and account", user, both(named("Allow", `"*"`), notPrincipal(userARN, own)), nil, CauseKeyPolicy},
		{"NotPrincipal, role and account", session, both(named("Allow", `"*"`), notPrincipal(roleARN, own)), nil, CauseKeyDeny},
		{"NotPrincipal, all three", session, both(named("Allow", `"*"`), notPrincipal(sessARN, roleARN, own)), nil, CauseKeyPolicy},
		{"NotPrincipal, root user", root, both(named("Allow", `"*"`), notPrincipal(own)), nil, CauseKeyPolicy},
		{"NotPrincipal, everyone", user, both(named("Allow", `"*"`), notPrincipal("*")), nil, CauseKeyPolicy},
		{"NotPrincipal, the service", service, both(named("Allow", `"*"`), `{"Statement":{"Effect":"Deny","NotPrincipal":{"Service":"ec2.amazonaws.com"},"Action":"*","Resource":"*"}}`), nil, CauseKeyPolicy},
		{"NotPrincipal, another service", service, both(named("Allow", `"*"`), `{"Statement":{"Effect":"Deny","NotPrincipal":{"Service":"s3.amazonaws.com"},"Action":"*","Resource":"*"}}`), nil, CauseKeyDeny},

		{"cross account, key alone", otherUser, named("Allow", aws(foreign)), nil, CauseNoIdentityAllow},
		{"cross account, named alone", otherUser, named("Allow", aws(otherUser.ARN)), nil, CauseNoIdentityAllow},
		{"cross account, identity alone", otherUser, named("Allow", aws(own)), []string{allowAll}, CauseNoKeyAllow},
		{"cross account, both", otherUser, named("Allow", aws(foreign)), []string{allowAll}, CauseBoth},
		{"cross account, everyone and identity", otherUser, named("Allow", `"*"`), []string{allowMany}, CauseBoth},
		{"cross account, root", otherRoot, named("Allow", aws(foreign)), nil, CauseBoth},
		{"cross account, identity denies", otherUser, named("Allow", aws(foreign)), []string{allowAll, denyDecrypt}, CauseIdentityDeny},
		{"caller without account", Principal{Type: CallerUser, ARN: userARN}, named("Allow", aws(userARN)), nil, CauseNoIdentityAllow},

		{"no action, no resource", user, `{"Statement":{"Effect":"Allow","Principal":"*"}}`, []string{allowAll}, CauseNoKeyAllow},
		{"no resource", user, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*"}}`, []string{allowAll}, CauseNoKeyAllow},
		{"deny without action", user, both(named("Allow", `"*"`), `{"Statement":{"Effect":"Deny","Principal":"*","Resource":"*"}}`), nil, CauseKeyPolicy},
		{"no key policy", user, "", []string{allowAll}, CauseNoKeyAllow},
	} {
		d := Evaluate(input(t, test.caller, test.key, test.identity...))
		allows := test.want == CauseKeyPolicy || test.want == CauseDelegated || test.want == CauseBoth
		if d.Cause != test.want || d.Allowed != allows {
			t.Errorf("%s: %s, %v, want %s", test.name, d.Cause, d.Allowed, test.want)
		}
		if (len(d.By) == 0) != (strings.HasPrefix(string(test.want), "no-")) {
			t.Errorf("%s: by %v", test.name, d.By)
		}
	}
}

func inner(doc string) string {
	return strings.TrimSuffix(strings.TrimPrefix(doc, `{"Statement":`), "}")
}

func notPrincipal(arns ...string) string {
	list, _ := json.Marshal(arns)
	return `{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":` + string(list) + `},"Action":"*","Resource":"*"}}`
}

func TestCrossAccountActions(t *testing.T) {
	for action, want := range map[string]Cause{
		"kms:Decrypt": CauseBoth, "KMS:decrypt": CauseBoth, "kms:DescribeKey": CauseBoth, "kms:RevokeGrant": CauseBoth,
		"kms:PutKeyPolicy": CauseCrossAccount, "kms:ScheduleKeyDeletion": CauseCrossAccount, "kms:TagResource": CauseCrossAccount,
	} {
		in := input(t, otherUser, strings.Replace(named("Allow", aws(foreign)), "kms:Decrypt", "*", 1), allowAll)
		in.Request.Action = action
		if d := Evaluate(in); d.Cause != want {
			t.Errorf("%s: %s, want %s", action, d.Cause, want)
		}
	}
}

func TestNoKey(t *testing.T) {
	random := func(caller Principal, identity ...string) Input {
		in := input(t, caller, "", identity...)
		in.NoKey, in.Request.Action, in.Request.Resource = true, "kms:GenerateRandom", "*"
		return in
	}
	deny := `{"Statement":{"Effect":"Deny","Action":"kms:Generate*","Resource":"*"}}`
	oneKey := `{"Statement":{"Effect":"Allow","Action":"*","Resource":"` + keyARN + `"}}`
	for _, test := range []struct {
		name string
		in   Input
		want Cause
	}{
		{"allowed", random(user, allowAll), CauseIdentity},
		{"not allowed", random(user), CauseNoIdentityAllow},
		{"denied", random(user, allowAll, deny), CauseIdentityDeny},
		{"allowed on a key only", random(user, oneKey), CauseNoIdentityAllow},
		{"root user", random(root), CauseIdentity},
	} {
		if d := Evaluate(test.in); d.Cause != test.want {
			t.Errorf("%s: %s, want %s", test.name, d.Cause, test.want)
		}
	}
	// A key policy that is there always counts.
	in := input(t, user, named("Allow", aws(roleARN)), allowAll)
	in.NoKey = true
	if d := Evaluate(in); d.Allowed {
		t.Error("NoKey switched the key policy off")
	}
}

func TestEvaluateRefusesForeignPolicies(t *testing.T) {
	identity, key := parse(t, allowAll, KindIdentity), parse(t, named("Allow", `"*"`), KindKey)
	for name, in := range map[string]Input{
		"zero":                {},
		"hand-made":           {KeyPolicy: &Policy{Kind: KindKey, Statements: key.Statements}},
		"identity on a key":   {KeyPolicy: identity},
		"key on an identity":  {KeyPolicy: key, Identity: []Named{{Policy: key}}},
		"nil identity policy": {KeyPolicy: key, Identity: []Named{{Name: "x"}}},
	} {
		in.Request = input(t, user, "").Request
		want := CauseInvalid
		if name == "zero" {
			want = CauseNoKeyAllow
		}
		if d := Evaluate(in); d.Allowed || d.Cause != want {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestActionsAndResources(t *testing.T) {
	for _, test := range []struct {
		member, action, resource string
		want                     bool
	}{
		{`"Action":"kms:decrypt","Resource":"*"`, "kms:Decrypt", keyARN, true},
		{`"Action":"KMS:DECRYPT","Resource":"*"`, "kms:Decrypt", keyARN, true},
		{`"Action":"kms:De*","Resource":"*"`, "kms:Decrypt", keyARN, true},
		{`"Action":"kms:*crypt","Resource":"*"`, "kms:Decrypt", keyARN, true},
		{`"Action":"kms:?ecrypt","Resource":"*"`, "kms:Decrypt", keyARN, true},
		{`"Action":"kms:??ecrypt","Resource":"*"`, "kms:Decrypt", keyARN, false},
		{`"Action":"kms:Decrypt?","Resource":"*"`, "kms:Decrypt", keyARN, false},
		{`"Action":"*","Resource":"*"`, "kms:Decrypt", keyARN, true},
		{`"Action":"s3:*","Resource":"*"`, "kms:Decrypt", keyARN, false},
		{`"Action":["s3:*","kms:D*t"],"Resource":"*"`, "kms:Decrypt", keyARN, true},
		{`"NotAction":"kms:Encrypt","Resource":"*"`, "kms:Decrypt", keyARN, true},
		{`"NotAction":["kms:Encrypt","kms:D*"],"Resource":"*"`, "kms:Decrypt", keyARN, false},
		{`"Action":"*","Resource":"` + keyARN + `"`, "kms:Decrypt", keyARN, true},
		{`"Action":"*","Resource":"` + strings.ToUpper(keyARN) + `"`, "kms:Decrypt", keyARN, false},
		{`"Action":"*","Resource":"arn:aws:kms:*:*:key/*"`, "kms:Decrypt", keyARN, true},
		{`"Action":"*","Resource":"arn:aws:kms:*:key/*:"`, "kms:Decrypt", keyARN, false},
		{`"Action":"*","Resource":"arn:aws:kms:us*:111122223333:alias/*"`, "kms:Decrypt", keyARN, false},
		{`"Action":"*","Resource":"arn:aws:kms:us-????-1:111122223333:key/1234*"`, "kms:Decrypt", keyARN, true},
		{`"Action":"*","NotResource":"arn:aws:kms:*:*:alias/*"`, "kms:Decrypt", keyARN, true},
		{`"Action":"*","NotResource":["arn:aws:s3:::b","*"]`, "kms:Decrypt", keyARN, false},
		{`"Action":"*","Resource":"arn:aws:kms:*:*:alias/a:*"`, "kms:CreateAlias", "arn:aws:kms:us-east-1:111122223333:alias/a:b", true},
	} {
		in := input(t, user, "", `{"Statement":{"Effect":"Allow",`+test.member+`}}`)
		in.NoKey, in.Request.Action, in.Request.Resource = true, test.action, test.resource
		if d := Evaluate(in); d.Allowed != test.want {
			t.Errorf("%s: %s on %s: %v, want %v", test.member, test.action, test.resource, d.Allowed, test.want)
		}
	}
}

func TestTails(t *testing.T) {
	for cause, want := range map[Cause]string{
		CauseKeyDeny:         "with an explicit deny in a resource-based policy",
		CauseIdentityDeny:    "with an explicit deny in an identity-based policy",
		CauseNoKeyAllow:      "because no resource-based policy allows the kms:Decrypt action",
		CauseCrossAccount:    "because no resource-based policy allows the kms:Decrypt action",
		CauseInvalid:         "because no resource-based policy allows the kms:Decrypt action",
		CauseNoIdentityAllow: "because no identity-based policy allows the kms:Decrypt action",
		CauseBoundaryDeny:    "with an explicit deny in a permissions boundary",
		CauseSessionDeny:     "with an explicit deny in a session policy",
		CauseNoBoundaryAllow: "because no permissions boundary allows the kms:Decrypt action",
		CauseNoSessionAllow:  "because no session policy allows the kms:Decrypt action",
		CauseKeyPolicy:       "", CauseDelegated: "", CauseIdentity: "", CauseBoth: "", CauseGrant: "",
	} {
		d := Decision{Cause: cause, Trace: Trace{Action: "kms:Decrypt", Resource: keyARN, Principal: session}}
		if got := d.Tail(); got != want {
			t.Errorf("%s: %q", cause, got)
		}
		if got := d.Message(); (got == "") != (want == "") || !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q", cause, got)
		}
	}
	d := Evaluate(input(t, session, named("Allow", aws(userARN))))
	want := "User: " + sessARN + " is not authorized to perform: kms:Decrypt on resource: " + keyARN +
		" because no resource-based policy allows the kms:Decrypt action"
	if got := d.Message(); got != want {
		t.Errorf("got %s", got)
	}
}

func TestTrace(t *testing.T) {
	key := `{"Version":"2012-10-17","Statement":[
	 {"Sid":"Mine","Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*","Condition":{
	  "StringEquals":{"kms:A":"1","kms:B":["2","3"]},"Null":{"kms:C":"true"}}},
	 {"Effect":"Deny","Principal":{"AWS":"` + roleARN + `"},"Action":"kms:Encrypt","Resource":"arn:aws:s3:::b","Condition":{"StringNotEquals":{"kms:A":"1"}}},
	 {"Sid":"Account","Effect":"Allow","Principal":{"AWS":"` + own + `"},"Action":"*","Resource":"*"},
	 {"Sid":"Inert","Effect":"Allow","Principal":"*"}]}`
	in := input(t, user, key, denyDecrypt)
	in.Request.Context = Context{"KMS:a": {"1"}, "kms:b": {}}
	d := Evaluate(in)
	want := Decision{
		Cause: CauseIdentityDeny, By: []StatementRef{{Kind: "identity", Policy: "0", Sid: "No"}},
		Trace: Trace{
			Principal: user, Action: "kms:Decrypt", Resource: keyARN,
			Policies: []PolicyTrace{
				{Kind: "key", Statements: []StatementTrace{
					{Sid: "Mine", Effect: Allow, Failed: []Element{ElementCondition}, Conditions: []ConditionTrace{
						{Operator: "StringEquals", Key: "kms:A", Wanted: []string{"1"}, Present: true, Got: []string{"1"}, Matched: true},
						{Operator: "StringEquals", Key: "kms:B", Wanted: []string{"2", "3"}, Present: true},
						{Operator: "Null", Key: "kms:C", Wanted: []string{"true"}, Matched: true},
					}},
					{Index: 1, Effect: Deny, Failed: []Element{ElementPrincipal, ElementAction, ElementResource, ElementCondition}, Conditions: []ConditionTrace{
						{Operator: "StringNotEquals", Negated: true, Key: "kms:A", Wanted: []string{"1"}, Present: true, Got: []string{"1"}},
					}},
					{Index: 2, Sid: "Account", Effect: Allow, Applied: true, Delegates: true},
					{Index: 3, Sid: "Inert", Effect: Allow, Failed: []Element{ElementAction, ElementResource}, Inert: true},
				}},
				{Kind: "identity", Name: "0", Statements: []StatementTrace{{Sid: "No", Effect: Deny, Applied: true}}},
			},
		},
	}
	got, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	wanted, _ := json.Marshal(want)
	if string(got) != string(wanted) {
		t.Errorf("got  %s\nwant %s", got, wanted)
	}
	var back Decision
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(back); string(again) != string(got) {
		t.Errorf("read back as %s", again)
	}
}

func TestTraceIsBounded(t *testing.T) {
	long := strings.Repeat("ü", 9000)
	var statements []string
	for i := range 250 {
		statements = append(statements, fmt.Sprintf(`{"Sid":"s%d","Effect":"Deny","Principal":"*","Action":"kms:x","Resource":"*"}`, i))
	}
	statements = append(statements, `{"Sid":"last","Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"kms:a":["`+long[:3000]+`","b"]}}}`)
	in := input(t, user, `{"Statement":[`+strings.Join(statements, ",")+`]}`)
	for i := range 500 {
		in.Identity = append(in.Identity, Named{Name: fmt.Sprint(i, long), Policy: parse(t, denyDecrypt[:len(denyDecrypt)-2]+`,"Condition":{"StringEquals":{"kms:a":"x"}}}}`, KindIdentity)})
	}
	in.Request.Resource = keyARN + long
	in.Request.Context = Context{"kms:a": {long}}
	before := reflect.ValueOf(in.Request.Context["kms:a"][0]).Len()
	d := Evaluate(in)
	if !d.Allowed || !d.Trace.Truncated || d.By[0].Sid != "last" {
		t.Errorf("%s by %v, truncated %v", d.Cause, d.By, d.Trace.Truncated)
	}
	data, _ := json.Marshal(d)
	if len(data) > 100<<10 {
		t.Errorf("a trace of %d bytes", len(data))
	}
	if !strings.Contains(string(data), `"sid":"last"`) || strings.Contains(string(data), `\ufffd`) {
		t.Error("the statement that decided is not in the trace, or a character is cut")
	}
	if len(in.Request.Context["kms:a"][0]) != before || in.KeyPolicy.Statements[250].Condition[0].Values[0] != long[:3000] {
		t.Error("the trace has changed its input")
	}
}

func TestContextAdd(t *testing.T) {
	c := Context{}
	c.Add("kms:ViaService", "a")
	c.Add("KMS:viaservice", "b", "c")
	if want := (Context{"kms:viaservice": {"a", "b", "c"}}); !reflect.DeepEqual(c, want) {
		t.Errorf("got %v", c)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	value := strings.Repeat("6b", 48)
	in := input(b, session, `{"Version":"2012-10-17","Statement":[
	 {"Sid":"Admin","Effect":"Allow","Principal":{"AWS":"`+userARN+`"},"Action":["kms:Put*","kms:Describe*","kms:Encrypt"],"Resource":"*"},
	 {"Sid":"Enclave","Effect":"Allow","Principal":{"AWS":"`+roleARN+`"},"Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"*","Condition":{
	  "StringEqualsIgnoreCase":{"`+image+`":"`+value+`","kms:RecipientAttestation:PCR1":"`+value+`","kms:RecipientAttestation:PCR2":"`+value+`"}}},
	 {"Sid":"Guard","Effect":"Deny","Principal":"*","Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"*","Condition":{"StringNotEqualsIgnoreCase":{"`+image+`":"`+value+`"}}}]}`,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*"}}`)
	c := Context{}
	c.Add(image, value)
	for i := range 32 {
		c.Add(fmt.Sprint("kms:RecipientAttestation:PCR", i), value)
	}
	in.Request.Context = c
	b.ReportAllocs()
	for b.Loop() {
		if d := Evaluate(in); !d.Allowed {
			b.Fatal(d.Cause)
		}
	}
}

// Folded saves only the look at keys that are folded.
func TestFolded(t *testing.T) {
	in := input(t, user, `{"Statement":{"Effect":"Allow","Principal":`+aws(userARN)+`,"Action":"kms:Decrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:A":"b"}}}}`)
	for _, c := range []struct {
		key             string
		folded, allowed bool
	}{
		{"kms:encryptioncontext:a", true, true}, {"kms:encryptioncontext:a", false, true},
		{"kms:EncryptionContext:A", false, true}, {"kms:EncryptionContext:A", true, false},
	} {
		in.Request.Context, in.Request.Folded = Context{c.key: {"b"}}, c.folded
		if d := Evaluate(in); d.Allowed != c.allowed {
			t.Errorf("%s, folded %v: allowed %v", c.key, c.folded, d.Allowed)
		}
	}
}
