// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var (
	fedARN    = "arn:aws:sts::111122223333:federated-user/anna"
	federated = Principal{Type: CallerFederated, ARN: fedARN, AccountID: own, UserARN: userARN}
	otherRole = Principal{
		Type: CallerRoleSession, ARN: "arn:aws:sts::999999999999:assumed-role/w/s", AccountID: foreign, RoleARN: "arn:aws:iam::999999999999:role/w",
	}
	allowOther = `{"Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}}`
)

// What a permissions boundary and session policies cut, and what they do not: the
// table of the IAM User Guide, "How AWS enforcement code logic evaluates requests".
func TestLimits(t *testing.T) {
	const none = ""
	yes, no := allowAll, allowOther
	for _, test := range []struct {
		name              string
		caller            Principal
		key               string
		identity          string
		boundary, session string
		want              Cause
	}{
		{"user", user, named("Allow", aws(userARN)), none, no, none, CauseKeyPolicy},
		{"user, everyone", user, named("Allow", `"*"`), none, no, none, CauseKeyPolicy},
		{"session", session, named("Allow", aws(sessARN)), none, no, no, CauseKeyPolicy},
		{"session, everyone", session, named("Allow", `"*"`), none, no, no, CauseKeyPolicy},
		{"federated user", federated, named("Allow", aws(fedARN)), none, no, no, CauseKeyPolicy},
		{"federated user without session policy", federated, named("Allow", aws(fedARN)), none, none, none, CauseKeyPolicy},

		{"role", session, named("Allow", aws(roleARN)), none, yes, yes, CauseKeyPolicy},
		{"role, boundary", session, named("Allow", aws(roleARN)), yes, no, none, CauseNoBoundaryAllow},
		{"role, session policy", session, named("Allow", aws(roleARN)), yes, none, no, CauseNoSessionAllow},
		{"role, both", session, named("Allow", aws(roleARN)), yes, no, no, CauseNoBoundaryAllow},
		{"role and session", session, `{"Statement":[` + inner(named("Allow", aws(roleARN))) + `,` + inner(named("Allow", aws(sessARN))) + `]}`, none, no, no, CauseKeyPolicy},
		{"user behind a federated user", federated, named("Allow", aws(userARN)), none, none, yes, CauseKeyPolicy},
		{"user behind a federated user, session policy", federated, named("Allow", aws(userARN)), yes, none, no, CauseNoSessionAllow},
		{"user behind a federated user, no session policy", federated, named("Allow", aws(userARN)), yes, none, none, CauseNoSessionAllow},
		{"user behind a federated user, boundary", federated, named("Allow", aws(userARN)), yes, no, yes, CauseNoBoundaryAllow},
		{"other user than the federated one", federated, named("Allow", aws(userARN+"2")), yes, none, yes, CauseNoKeyAllow},
		{"user ARN in a session's data", Principal{Type: CallerRoleSession, ARN: sessARN, AccountID: own, UserARN: userARN}, named("Allow", aws(userARN)), none, none, none, CauseNoKeyAllow},
		{"root user", root, named("Allow", aws(own)), none, none, no, CauseNoSessionAllow},

		{"delegated", user, named("Allow", aws(own)), yes, yes, none, CauseDelegated},
		{"delegated, no identity policy", user, named("Allow", aws(own)), none, yes, none, CauseNoIdentityAllow},
		{"delegated, boundary alone", user, named("Allow", aws(own)), no, yes, none, CauseNoIdentityAllow},
		{"delegated, boundary", user, named("Allow", aws(own)), yes, no, none, CauseNoBoundaryAllow},
		{"delegated, session", session, named("Allow", aws(own)), yes, yes, no, CauseNoSessionAllow},
		{"delegated, session alone", session, named("Allow", aws(own)), none, none, yes, CauseNoIdentityAllow},
		{"delegated, federated", federated, named("Allow", aws(own)), yes, none, yes, CauseDelegated},
		{"role and account", session, `{"Statement":[` + inner(named("Allow", aws(roleARN))) + `,` + inner(named("Allow", aws(own))) + `]}`, none, no, none, CauseNoBoundaryAllow},

		{"cross account", otherUser, named("Allow", aws(otherUser.ARN)), yes, yes, none, CauseBoth},
		{"cross account, user and boundary", otherUser, named("Allow", aws(otherUser.ARN)), yes, no, none, CauseNoBoundaryAllow},
		{"cross account, session and session policy", otherRole, named("Allow", aws(otherRole.ARN)), yes, none, no, CauseNoSessionAllow},
		{"cross account, everyone and boundary", otherRole, named("Allow", `"*"`), yes, no, none, CauseNoBoundaryAllow},

		{"boundary denies", user, named("Allow", aws(userARN)), yes, denyDecrypt, none, CauseBoundaryDeny},
		{"session policy denies", session, named("Allow", aws(sessARN)), yes, none, denyDecrypt, CauseSessionDeny},
		{"all deny", session, named("Deny", `"*"`), denyDecrypt, denyDecrypt, denyDecrypt, CauseKeyDeny},
		{"all of the caller's deny", session, named("Allow", `"*"`), denyDecrypt, denyDecrypt, denyDecrypt, CauseIdentityDeny},
		{"deny without any allow", session, named("Allow", aws(userARN)), none, none, denyDecrypt, CauseSessionDeny},
		{"boundary alone", user, named("Allow", aws(roleARN)), none, yes, none, CauseNoKeyAllow},

		{"NotPrincipal and a boundary", user, `{"Statement":[` + inner(named("Allow", `"*"`)) + `,` + inner(notPrincipal(userARN, own, "*")) + `]}`, none, yes, none, CauseKeyDeny},
		{"NotPrincipal without", user, `{"Statement":[` + inner(named("Allow", `"*"`)) + `,` + inner(notPrincipal(userARN, own)) + `]}`, none, none, none, CauseKeyPolicy},
	} {
		var identity []string
		if test.identity != none {
			identity = append(identity, test.identity)
		}
		in := input(t, test.caller, test.key, identity...)
		if test.boundary != none {
			in.Boundary = &Named{"limit", parse(t, test.boundary, KindIdentity)}
		}
		if test.session != none {
			in.Session = []Named{{"one", parse(t, allowOther, KindIdentity)}, {"two", parse(t, test.session, KindIdentity)}}
		}
		d := Evaluate(in)
		allows := slices.Contains([]Cause{CauseKeyPolicy, CauseDelegated, CauseBoth}, test.want)
		if d.Cause != test.want || d.Allowed != allows || (d.Tail() == "") != allows {
			t.Errorf("%s: %s, %v, want %s", test.name, d.Cause, d.Allowed, test.want)
		}
		if strings.HasPrefix(string(test.want), "no-") != (len(d.By) == 0) {
			t.Errorf("%s: by %v", test.name, d.By)
		}
		kinds := map[string]int{}
		for _, p := range d.Trace.Policies {
			kinds[p.Kind]++
		}
		if kinds["boundary"] != min(1, len(test.boundary)) || kinds["session"] != 2*min(1, len(test.session)) {
			t.Errorf("%s: traced %v", test.name, kinds)
		}
	}
}

func TestLimitsWithoutKey(t *testing.T) {
	for _, test := range []struct {
		boundary, session string
		want              Cause
	}{
		{"", "", CauseIdentity},
		{allowAll, allowAll, CauseIdentity},
		{allowOther, allowAll, CauseNoBoundaryAllow},
		{allowAll, allowOther, CauseNoSessionAllow},
	} {
		in := input(t, session, "", allowAll)
		in.NoKey, in.Request.Action, in.Request.Resource = true, "kms:GenerateRandom", "*"
		if test.boundary != "" {
			in.Boundary = &Named{"b", parse(t, test.boundary, KindIdentity)}
			in.Session = []Named{{"s", parse(t, test.session, KindIdentity)}}
		}
		// Grants are of a key.
		in.Grants = []Grant{{ID: "g", Grantee: sessARN, Operations: []string{"GenerateRandom"}}}
		if d := Evaluate(in); d.Cause != test.want || d.Trace.Grants != nil {
			t.Errorf("%s, %s: %s, want %s", test.boundary, test.session, d.Cause, test.want)
		}
	}
}

// A grant allows what the policies do not, by the same rules for who is meant, and
// never against a Deny.
func TestGrants(t *testing.T) {
	nobody := named("Allow", aws("arn:aws:iam::111122223333:user/nobody"))
	pairs := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	decrypt := func(grantee string) Grant {
		return Grant{ID: "g1", Name: "n", Grantee: grantee, Operations: []string{"Encrypt", "Decrypt"}}
	}
	constrained := func(equals, subset map[string]string) Grant {
		g := decrypt(userARN)
		g.EncryptionContextEquals, g.EncryptionContextSubset = equals, subset
		g.Operations = append(g.Operations, "DescribeKey", "RetireGrant", "Sign")
		return g
	}
	sourced := decrypt("ec2.amazonaws.com")
	sourced.SourceArn = "arn:aws:ec2:us-east-1:111122223333:volume/v"
	source := func(arns ...string) func(*Input) {
		return func(in *Input) { in.Request.Context = Context{"AWS:SourceArn": arns} }
	}
	sent := func(c map[string]string) func(*Input) { return func(in *Input) { in.Request.EncryptionContext = c } }
	action := func(a string) func(*Input) { return func(in *Input) { in.Request.Action = a } }
	limits := func(boundary, session string) func(*Input) {
		return func(in *Input) {
			in.Boundary = &Named{"b", parse(t, boundary, KindIdentity)}
			in.Session = []Named{{"s", parse(t, session, KindIdentity)}}
		}
	}
	identity := func(docs ...string) func(*Input) {
		return func(in *Input) {
			for _, doc := range docs {
				in.Identity = append(in.Identity, Named{"i", parse(t, doc, KindIdentity)})
			}
		}
	}
	for _, test := range []struct {
		name   string
		caller Principal
		grant  Grant
		set    func(*Input)
		want   Cause
		failed string
	}{
		{"user", user, decrypt(userARN), nil, CauseGrant, ""},
		{"other user", user, decrypt(userARN + "2"), nil, CauseNoKeyAllow, "grantee"},
		{"user in other case", user, decrypt(strings.ToUpper(userARN)), nil, CauseNoKeyAllow, "grantee"},
		{"no grantee", Principal{Type: CallerUser}, decrypt(""), nil, CauseNoKeyAllow, "grantee"},
		{"everyone is no grantee", user, decrypt("*"), nil, CauseNoKeyAllow, "grantee"},
		{"role", session, decrypt(roleARN), nil, CauseGrant, ""},
		{"session", session, decrypt(sessARN), nil, CauseGrant, ""},
		{"federated user", federated, decrypt(fedARN), nil, CauseGrant, ""},
		{"user behind a federated user", federated, decrypt(userARN), nil, CauseNoSessionAllow, ""},
		{"service", service, decrypt("ec2.amazonaws.com"), nil, CauseGrant, ""},
		{"other service", service, decrypt("s3.amazonaws.com"), nil, CauseNoKeyAllow, "grantee"},
		{"service name of a user", Principal{Type: CallerUser, ARN: userARN, AccountID: own}, decrypt("ec2.amazonaws.com"), nil, CauseNoKeyAllow, "grantee"},
		{"root user", root, decrypt(rootARN), nil, CauseGrant, ""},
		{"account, no identity policy", user, decrypt(rootARN), nil, CauseNoIdentityAllow, ""},
		{"account and identity policy", user, decrypt(rootARN), identity(allowAll), CauseGrant, ""},
		{"other account", user, decrypt("arn:aws:iam::999999999999:root"), identity(allowAll), CauseNoKeyAllow, "grantee"},
		{"account of a service", service, decrypt("arn:aws:iam:::root"), nil, CauseNoKeyAllow, "grantee"},
		{"user of another account", otherUser, decrypt(otherUser.ARN), nil, CauseGrant, ""},
		{"another account's root", otherRoot, decrypt(otherRoot.ARN), nil, CauseGrant, ""},
		{"another account", otherUser, decrypt(otherRoot.ARN), nil, CauseNoIdentityAllow, ""},

		{"other operation", user, decrypt(userARN), action("kms:GenerateDataKey"), CauseNoKeyAllow, "operation"},
		{"operation with a vendor", user, decrypt(userARN), action("s3:Decrypt"), CauseNoKeyAllow, "operation"},
		{"wildcard is no operation", user, Grant{ID: "g1", Grantee: userARN, Operations: []string{"*", "kms:Decrypt"}}, nil, CauseNoKeyAllow, "operation"},
		{"no operations", user, Grant{ID: "g1", Grantee: userARN}, nil, CauseNoKeyAllow, "operation"},
		{"other user, other operation", user, decrypt(roleARN), action("kms:Sign"), CauseNoKeyAllow, "grantee operation"},

		{"equals", user, constrained(pairs("a", "1", "b", "2"), nil), sent(pairs("b", "2", "a", "1")), CauseGrant, ""},
		{"equals, one more", user, constrained(pairs("a", "1"), nil), sent(pairs("a", "1", "b", "2")), CauseNoKeyAllow, "constraint"},
		{"equals, one less", user, constrained(pairs("a", "1", "b", "2"), nil), sent(pairs("a", "1")), CauseNoKeyAllow, "constraint"},
		{"equals, other value", user, constrained(pairs("a", "1"), nil), sent(pairs("a", "2")), CauseNoKeyAllow, "constraint"},
		{"equals, value in other case", user, constrained(pairs("a", "x"), nil), sent(pairs("a", "X")), CauseNoKeyAllow, "constraint"},
		{"equals, key in other case", user, constrained(pairs("a", "x"), nil), sent(pairs("A", "x")), CauseNoKeyAllow, "constraint"},
		{"equals, empty value for none", user, constrained(pairs("a", ""), nil), sent(pairs("b", "")), CauseNoKeyAllow, "constraint"},
		{"equals nothing", user, constrained(pairs(), nil), sent(pairs("a", "1")), CauseNoKeyAllow, "constraint"},
		{"equals nothing, sent nothing", user, constrained(pairs(), nil), sent(pairs()), CauseGrant, ""},
		{"subset", user, constrained(nil, pairs("a", "1")), sent(pairs("a", "1", "b", "2")), CauseGrant, ""},
		{"subset, same", user, constrained(nil, pairs("a", "1")), sent(pairs("a", "1")), CauseGrant, ""},
		{"subset, other case", user, constrained(nil, pairs("a", "x")), sent(pairs("A", "x", "a", "X")), CauseNoKeyAllow, "constraint"},
		{"subset, missing", user, constrained(nil, pairs("a", "1", "b", "2")), sent(pairs("a", "1")), CauseNoKeyAllow, "constraint"},
		{"subset, sent nothing", user, constrained(nil, pairs("a", "1")), sent(pairs()), CauseNoKeyAllow, "constraint"},
		{"both", user, constrained(pairs("a", "1"), pairs("b", "2")), sent(pairs("a", "1")), CauseNoKeyAllow, "constraint"},
		{"no context for the operation", user, constrained(nil, pairs()), action("kms:Sign"), CauseNoKeyAllow, "constraint"},
		{"DescribeKey", user, constrained(pairs("a", "1"), nil), action("kms:DescribeKey"), CauseGrant, ""},
		{"RetireGrant", user, constrained(nil, pairs("a", "1")), action("kms:RetireGrant"), CauseGrant, ""},
		{"source", service, sourced, source(sourced.SourceArn), CauseGrant, ""},
		{"no source", service, sourced, nil, CauseNoKeyAllow, "constraint"},
		{"other source", service, sourced, source(sourced.SourceArn + "2"), CauseNoKeyAllow, "constraint"},
		{"two sources", service, sourced, source(sourced.SourceArn, "arn:aws:ec2:::x"), CauseNoKeyAllow, "constraint"},

		{"user and limits", user, decrypt(userARN), limits(allowOther, allowOther), CauseGrant, ""},
		{"session and limits", session, decrypt(sessARN), limits(allowOther, allowOther), CauseGrant, ""},
		{"role within limits", session, decrypt(roleARN), limits(allowAll, allowAll), CauseGrant, ""},
		{"role and boundary", session, decrypt(roleARN), limits(allowOther, allowAll), CauseNoBoundaryAllow, ""},
		{"role and session policy", session, decrypt(roleARN), limits(allowAll, allowOther), CauseNoSessionAllow, ""},
		{"identity policy denies", user, decrypt(userARN), identity(denyDecrypt), CauseIdentityDeny, ""},
		{"boundary denies", user, decrypt(userARN), limits(denyDecrypt, allowAll), CauseBoundaryDeny, ""},
		{"session policy denies", session, decrypt(sessARN), limits(allowAll, denyDecrypt), CauseSessionDeny, ""},
		{"key policy denies", user, decrypt(userARN), func(in *Input) { in.KeyPolicy = parse(t, named("Deny", `"*"`), KindKey) }, CauseKeyDeny, ""},
		{"key policy allows", user, decrypt(userARN), func(in *Input) { in.KeyPolicy = parse(t, named("Allow", `"*"`), KindKey) }, CauseKeyPolicy, ""},
		{"key policy delegates in vain", user, decrypt(userARN), func(in *Input) { in.KeyPolicy = parse(t, named("Allow", aws(own)), KindKey) }, CauseGrant, ""},
	} {
		in := input(t, test.caller, nobody)
		in.Grants = []Grant{{ID: "g0", Grantee: "arn:aws:iam::111122223333:user/other", Operations: []string{"Decrypt"}}, test.grant}
		if test.set != nil {
			test.set(&in)
		}
		d := Evaluate(in)
		allows := test.want == CauseGrant || test.want == CauseKeyPolicy
		if d.Cause != test.want || d.Allowed != allows {
			t.Errorf("%s: %s, %v, want %s", test.name, d.Cause, d.Allowed, test.want)
		}
		if want := map[bool]string{true: "g1"}[test.want == CauseGrant]; d.Grant != want {
			t.Errorf("%s: by grant %q, want %q", test.name, d.Grant, want)
		}
		if len(d.Trace.Grants) != 2 {
			t.Fatalf("%s: traced %v", test.name, d.Trace.Grants)
		}
		got := d.Trace.Grants[1]
		if failed := strings.Trim(fmt.Sprint(got.Failed), "[]"); failed != test.failed || got.Matched != (failed == "") || got.ID != "g1" {
			t.Errorf("%s: traced %+v, want failed %q", test.name, got, test.failed)
		}
	}
}

// Of several grants the one that needs least decides.
func TestSeveralGrants(t *testing.T) {
	in := input(t, session, named("Allow", aws(userARN)))
	in.Boundary = &Named{"b", parse(t, allowOther, KindIdentity)}
	for i, grantee := range []string{rootARN, roleARN, sessARN, sessARN} {
		in.Grants = append(in.Grants, Grant{ID: fmt.Sprint("g", i), Grantee: grantee, Operations: []string{"Decrypt"}})
	}
	if d := Evaluate(in); d.Cause != CauseGrant || d.Grant != "g2" {
		t.Errorf("%s by %q", d.Cause, d.Grant)
	}
	in.Grants = in.Grants[:2]
	if d := Evaluate(in); d.Cause != CauseNoBoundaryAllow || d.Grant != "" {
		t.Errorf("%s by %q", d.Cause, d.Grant)
	}
}

func TestGrantsInTraceAreBounded(t *testing.T) {
	long := strings.Repeat("x", 4000)
	in := input(t, user, named("Allow", aws(roleARN)))
	for i := range 50000 {
		in.Grants = append(in.Grants, Grant{ID: fmt.Sprint(i), Name: long, Grantee: roleARN, Operations: []string{"Decrypt"}})
	}
	in.Grants = append(in.Grants, Grant{ID: "last", Grantee: userARN, Operations: []string{"Decrypt"}})
	d := Evaluate(in)
	data, err := json.Marshal(d)
	if err != nil || len(data) > 100<<10 || !d.Trace.Truncated {
		t.Errorf("%d bytes, %v, truncated %v", len(data), err, d.Trace.Truncated)
	}
	if last := d.Trace.Grants[len(d.Trace.Grants)-1]; d.Grant != "last" || last.ID != "last" || !last.Matched {
		t.Errorf("by %q, traced %+v", d.Grant, last)
	}
}

func TestGrantInJSON(t *testing.T) {
	for want, g := range map[string]Grant{
		`{"id":"g","grantee":"a","operations":null}`: {ID: "g", Grantee: "a"},
		`{"id":"g","name":"n","grantee":"a","operations":["Decrypt"],"encryption_context_equals":{},"encryption_context_subset":{"k":"v"},"source_arn":"s"}`: {
			ID: "g", Name: "n", Grantee: "a", Operations: []string{"Decrypt"},
			EncryptionContextEquals: map[string]string{}, EncryptionContextSubset: map[string]string{"k": "v"}, SourceArn: "s",
		},
	} {
		data, err := json.Marshal(g)
		if err != nil || string(data) != want {
			t.Errorf("%s, %v, want %s", data, err, want)
		}
		var back Grant
		if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, g) {
			t.Errorf("%+v, %v", back, err)
		}
	}
}

func TestInvalidLimits(t *testing.T) {
	key, hand := parse(t, named("Allow", `"*"`), KindKey), &Policy{Kind: KindIdentity}
	for name, set := range map[string]func(*Input){
		"boundary without policy": func(in *Input) { in.Boundary = &Named{Name: "b"} },
		"key policy as boundary":  func(in *Input) { in.Boundary = &Named{"b", key} },
		"hand-made boundary":      func(in *Input) { in.Boundary = &Named{"b", hand} },
		"key policy as session":   func(in *Input) { in.Session = []Named{{"s", key}} },
		"session without policy":  func(in *Input) { in.Session = []Named{{Name: "s"}} },
	} {
		in := input(t, user, named("Allow", `"*"`), allowAll)
		set(&in)
		if d := Evaluate(in); d.Allowed || d.Cause != CauseInvalid {
			t.Errorf("%s: %s", name, d.Cause)
		}
	}
}

func TestCrossAccount(t *testing.T) {
	for action, want := range map[string]bool{
		"kms:Decrypt": true, "KMS:generatedatakey": true, "kms:GetPublicKey": true,
		"kms:PutKeyPolicy": false, "kms:GenerateRandom": false, "Decrypt": false, "s3:Decrypt": false, "": false,
	} {
		if got := CrossAccount(action); got != want {
			t.Errorf("%s: %v", action, got)
		}
	}
}

// Limits only take, grants only give, and neither gets past a Deny.
func TestLimitsTakeAndGrantsGive(t *testing.T) {
	const pairs = 1000
	m := &simMaker{Rand: rand.New(rand.NewPCG(1, 2))}
	took, gave := 0, 0
	for range pairs {
		p := m.pair()
		in, err := p.input()
		if err != nil {
			t.Fatal(err)
		}
		limited := Evaluate(in)
		in.Boundary, in.Session = nil, nil
		free := Evaluate(in)
		if limited.Allowed && !free.Allowed && p.Caller.Type != CallerFederated {
			t.Errorf("limits allow %s", p.json(t))
		}
		if free.Allowed && !limited.Allowed {
			took++
		}
		for _, grantee := range []string{p.Caller.ARN, p.Caller.RoleARN, p.Caller.UserARN, "arn:aws:iam::" + p.Caller.AccountID + ":root"} {
			in.Grants = append(in.Grants, Grant{ID: grantee, Grantee: grantee, Operations: []string{strings.TrimPrefix(p.Action, "kms:")}})
		}
		granted := Evaluate(in)
		denied := strings.HasSuffix(string(free.Cause), "deny")
		if free.Allowed && !granted.Allowed || denied && granted.Allowed || p.NoKey && granted.Allowed != free.Allowed {
			t.Errorf("%s with grants: %s", free.Cause, p.json(t))
		}
		if granted.Cause == CauseGrant {
			gave++
		}
	}
	if took < 10 || gave < 10 {
		t.Errorf("limits took %d, grants gave %d times", took, gave)
	}
}

// What is not Conditional decides, and traces, the same without the condition keys;
// and what decides differently without them is Conditional.
func TestConditional(t *testing.T) {
	m := &simMaker{Rand: rand.New(rand.NewPCG(3, 4))}
	without, differ, left := 0, 0, 0
	for range 3000 {
		p := m.pair()
		for _, s := range p.policies() {
			for i := range s.Statement { // leave few of the conditions, else all have some
				if m.chance(90) {
					s.Statement[i].Condition = nil
				}
			}
		}
		in, err := p.input()
		if err != nil {
			t.Fatal(err)
		}
		if m.chance(30) {
			g := Grant{ID: "g", Grantee: p.Caller.ARN, Operations: []string{strings.TrimPrefix(p.Action, "kms:")}}
			if m.chance(50) {
				g.SourceArn = "arn:aws:s3:::b/c:d"
			}
			in.Grants = append(in.Grants, g)
		}
		bare := in
		bare.Request.Context = nil
		same := reflect.DeepEqual(Evaluate(in), Evaluate(bare))
		keys := in.ConditionKeys(nil)
		if in.Conditional() != (len(keys) > 0) {
			t.Errorf("conditional %v, with the keys %v: %s", in.Conditional(), keys, p.json(t))
		}
		only := in
		only.Request.Context = Context{}
		for key, values := range fold(in.Request.Context) {
			if slices.Contains(keys, key) {
				only.Request.Context[key] = values
			} else {
				left++
			}
		}
		if !reflect.DeepEqual(Evaluate(in), Evaluate(only)) {
			t.Errorf("decides by other keys than %v: %s", keys, p.json(t))
		}
		if !in.Conditional() {
			without++
			if !same {
				t.Errorf("not conditional, but decides by the context: %s", p.json(t))
			}
		} else if !same {
			differ++
		}
	}
	if without < 300 || differ < 300 || left < 300 {
		t.Errorf("%d are not conditional, %d differ, %d keys were left out: this test has lost its point", without, differ, left)
	}
}

// What decides one request does not change the decision before it, though the memory
// is used again.
func TestDecisionsApart(t *testing.T) {
	statement := func(effect, sid string) string {
		return `{"Statement":{"Sid":"` + sid + `","Effect":"` + effect + `","Principal":"*","Action":"kms:Decrypt","Resource":"*"}}`
	}
	for _, effect := range []string{"Allow", "Deny"} {
		first := Evaluate(input(t, user, statement(effect, "First")))
		for range 20 {
			Evaluate(input(t, user, statement(effect, "Second")))
			Evaluate(input(t, user, statement("Deny", "Third"), denyDecrypt))
		}
		if len(first.By) != 1 || first.By[0].Sid != "First" {
			t.Errorf("%s: by %v", effect, first.By)
		}
		if d := Evaluate(Input{}); d.Allowed || len(d.By) != 0 {
			t.Errorf("after others: %+v", d)
		}
	}
}
