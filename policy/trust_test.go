// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/reason"
)

const (
	github   = "token.actions.githubusercontent.com"
	branch   = "repo:cretula/cretula:ref:refs/heads/main"
	assumed  = "arn:aws:iam::111122223333:role/path/assumed"
	claimSub = github + ":sub"
)

var webIdentity = Principal{Type: CallerWebIdentity, ARN: "arn:aws:iam::111122223333:oidc-provider/" + github}

// trust is a trust policy with one statement.
func trust(effect, principal, action, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"` + action + `"` + condition + `}]}`
}

// federatedBy is the principal that is a provider of our own account.
func federatedBy(provider string) string {
	return `{"Federated":"arn:aws:iam::111122223333:oidc-provider/` + provider + `"}`
}

func TestTrustRefuses(t *testing.T) {
	const head = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"`
	with := func(members string) string { return head + "\n" + members + "}]}" }
	by := func(condition string) string {
		return trust("Allow", federatedBy(github), "sts:AssumeRoleWithWebIdentity", condition)
	}
	for _, test := range []struct{ name, doc, at, rule string }{
		{"Resource", with(`,"Resource":"*"`), "line 2, column 2", "policy.member"},
		{"NotResource", with(`,"NotResource":"*"`), "line 2, column 2", "policy.member"},
		{"NotAction", with(`,"NotAction":"sts:TagSession"`), "line 2, column 2", "policy.member"},
		{"NotPrincipal", `{"Statement":{"Effect":"Deny","NotPrincipal":"*","Action":"sts:AssumeRole"}}`, "line 1, column 31", "policy.member"},
		{"no principal", `{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole"}}`, "line 1, column 14", "policy.statement"},
		{"no action", `{"Statement":{"Effect":"Allow","Principal":"*"}}`, "line 1, column 14", "policy.statement"},
		{"same Sid", `{"Statement":[{"Sid":"a","Effect":"Allow","Principal":"*","Action":"sts:*"},{"Sid":"a","Effect":"Allow","Principal":"*","Action":"sts:*"}]}`, "line 1, column 77", "policy.sid"},
		{"Sid with a space", with(`,"Sid":"a b"`), "line 2, column 8", "policy.sid"},
		{"every action", trust("Allow", `"*"`, "*", ""), "", "policy.action"},
		{"action of KMS", trust("Allow", `"*"`, "kms:Decrypt", ""), "", "policy.action"},
		{"other action of STS", trust("Allow", `"*"`, "sts:GetCallerIdentity", ""), "", "policy.action"},
		{"SAML", trust("Allow", `"*"`, "sts:AssumeRoleWithSAML", ""), "", "policy.action"},
		{"pattern that covers none", trust("Deny", `"*"`, "sts:Get*", ""), "", "policy.action"},
		{"one of two actions", `{"Statement":{"Effect":"Allow","Principal":"*","Action":["sts:AssumeRole","iam:PassRole"]}}`, "line 1, column 75", "policy.action"},
		{"too long", with(strings.Repeat(" ", MaxTrustSize)), "line 2, column ", "policy.size"},
		{"too long, not in bytes alone", `{"Id":"` + strings.Repeat("é", MaxTrustSize) + `"}`, "line 1, column 4097", "policy.size"},

		{"SAML provider", trust("Allow", `{"Federated":"arn:aws:iam::111122223333:saml-provider/x"}`, "sts:AssumeRole", ""), "line 1, column 81", "policy.principal"},
		{"provider by its name", trust("Allow", `{"Federated":"accounts.google.com"}`, "sts:AssumeRole", ""), "", "policy.principal"},
		{"provider with its scheme", trust("Allow", federatedBy("https://x.example"), "sts:AssumeRole", ""), "", "policy.principal"},
		{"provider with a wildcard", trust("Allow", federatedBy("*.example"), "sts:AssumeRole", ""), "", "policy.principal"},
		{"provider with capitals in its host", trust("Allow", federatedBy("X.example"), "sts:AssumeRole", ""), "", "policy.principal"},
		{"provider with a query", trust("Allow", federatedBy("x.example/?a=b"), "sts:AssumeRole", ""), "", "policy.principal"},
		{"provider without a host", trust("Allow", federatedBy(""), "sts:AssumeRole", ""), "", "policy.principal"},
		{"provider called as a vendor of keys", trust("Allow", federatedBy("aws"), "sts:*", `{"StringEquals":{"aws:username":"x"}}`), "", "policy.principal"},
		{"every provider", trust("Allow", `{"Federated":"*"}`, "sts:AssumeRole", ""), "", "policy.principal"},
		{"canonical user", trust("Allow", `{"CanonicalUser":"x"}`, "sts:AssumeRole", ""), "", "policy.principal"},

		{"no claim", by(""), "line 1, column 38", "policy.claims"},
		{"empty condition", by(`{}`), "", "policy.claims"},
		{"audience alone", by(`{"StringEquals":{"` + github + `:aud":"sts.amazonaws.com","` + github + `:oaud":"x","` + github + `:azp":"x"}}`), "", "policy.claims"},
		{"every subject", by(`{"StringLike":{"` + claimSub + `":"*"}}`), "", "policy.claims"},
		{"every subject among others", by(`{"StringLike":{"` + claimSub + `":["repo:x","?*"]}}`), "", "policy.claims"},
		{"subject by itself", by(`{"StringEquals":{"` + claimSub + `":"${` + claimSub + `}"}}`), "", "policy.claims"},
		{"subject by itself among others", by(`{"StringLike":{"` + claimSub + `":["repo:x","${` + claimSub + `}"]}}`), "", "policy.claims"},
		{"all subjects but one", by(`{"StringNotEquals":{"` + claimSub + `":"x"}}`), "", "policy.claims"},
		{"subject if there is one", by(`{"StringEqualsIfExists":{"` + claimSub + `":"x"}}`), "", "policy.claims"},
		{"all of no subjects", by(`{"ForAllValues:StringEquals":{"` + claimSub + `":"x"}}`), "", "policy.claims"},
		{"some subject", by(`{"Null":{"` + claimSub + `":"false"}}`), "", "policy.claims"},
		{"subject of another provider", by(`{"StringEquals":{"accounts.google.com:sub":"x"}}`), "", "policy.claims"},
		{"subject of a longer name", by(`{"StringEquals":{"x.` + claimSub + `":"x"}}`), "", "policy.claims"},
		{"condition that is of no claim", by(`{"StringEquals":{"aws:SourceIp":"x"}}`), "", "policy.claims"},
		{"second provider without", trust("Allow", `{"Federated":["arn:aws:iam::111122223333:oidc-provider/a.example","arn:aws:iam::111122223333:oidc-provider/b.example"]}`, "sts:AssumeRole", `{"StringEquals":{"a.example:sub":"x"}}`), "", "policy.claims"},
	} {
		p, err := Parse([]byte(test.doc), KindTrust)
		if err == nil || p != nil {
			t.Errorf("%s: taken", test.name)
			continue
		}
		e, ok := err.(*reason.Error)
		if !ok || e.Problems[0].Rule != test.rule || !strings.HasPrefix(err.Error(), cmp.Or(test.at, "line ")) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	for kind, doc := range map[Kind]string{
		KindKey:      trust("Allow", federatedBy(github), "sts:*", `{"StringEquals":{"`+claimSub+`":"x"}}`),
		KindIdentity: trust("Allow", `"*"`, "sts:*", ""),
	} {
		if _, err := Parse([]byte(doc), kind); err == nil {
			t.Errorf("a trust policy was taken as one of kind %s", kind)
		}
	}
}

func trustInput(t testing.TB, p Principal, doc string, identity ...string) Input {
	in := input(t, p, "", identity...)
	in.TrustPolicy = parse(t, doc, KindTrust)
	in.Request.Action, in.Request.Resource = "sts:AssumeRole", assumed
	return in
}

func TestTrust(t *testing.T) {
	const none = ""
	plain := func(effect, principal string) string { return trust(effect, principal, "sts:AssumeRole", "") }
	inner := func(doc string) string {
		_, s, _ := strings.Cut(doc, `"Statement":[`)
		return strings.TrimSuffix(s, "]}")
	}
	both := func(a, b string) string { return `{"Statement":[` + inner(a) + "," + inner(b) + `]}` }
	may := `{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"arn:aws:iam::111122223333:role/path/*"}}`
	otherRes := `{"Statement":{"Effect":"Allow","Action":"sts:*","Resource":"arn:aws:iam::111122223333:role/other"}}`
	deny := `{"Statement":{"Effect":"Deny","Action":"sts:Assume*","Resource":"*"}}`
	for _, test := range []struct {
		name              string
		caller            Principal
		trust, identity   string
		boundary, session string
		want              Cause
	}{
		{"user named", user, plain("Allow", aws(userARN)), none, none, none, CauseTrustPolicy},
		{"user named, boundary", user, plain("Allow", aws(userARN)), none, otherRes, none, CauseTrustPolicy},
		{"other user", user, plain("Allow", aws(userARN+"2")), may, none, none, CauseNoTrustAllow},
		{"everyone", user, plain("Allow", `"*"`), none, none, none, CauseTrustPolicy},
		{"role named", session, plain("Allow", aws(roleARN)), none, may, may, CauseTrustPolicy},
		{"role named, boundary", session, plain("Allow", aws(roleARN)), may, otherRes, none, CauseNoBoundaryAllow},
		{"role named, session policy", session, plain("Allow", aws(roleARN)), may, none, otherRes, CauseNoSessionAllow},
		{"session named", session, plain("Allow", aws(sessARN)), none, none, none, CauseTrustPolicy},
		{"role itself, unnamed", Principal{Type: CallerRoleSession, ARN: sessARN, AccountID: own, RoleARN: assumed}, plain("Allow", aws(roleARN)), may, none, none, CauseNoTrustAllow},
		{"service", service, plain("Allow", `{"Service":"ec2.amazonaws.com"}`), none, none, none, CauseTrustPolicy},
		{"other service", service, plain("Allow", `{"Service":"s3.amazonaws.com"}`), none, none, none, CauseNoTrustAllow},

		{"delegated", user, plain("Allow", aws(rootARN)), may, none, none, CauseTrustDelegated},
		{"delegated, no identity policy", user, plain("Allow", aws(own)), none, none, none, CauseNoIdentityAllow},
		{"delegated, other role", user, plain("Allow", aws(own)), otherRes, none, none, CauseNoIdentityAllow},
		{"delegated, boundary", user, plain("Allow", aws(own)), may, otherRes, none, CauseNoBoundaryAllow},
		{"delegated, session policy", session, plain("Allow", aws(own)), may, none, otherRes, CauseNoSessionAllow},
		{"root user", root, plain("Allow", aws(own)), none, none, none, CauseNoTrustAllow},
		{"root user, everyone", root, plain("Allow", `"*"`), none, none, none, CauseNoTrustAllow},

		{"other account, both", otherUser, plain("Allow", aws(otherUser.ARN)), may, none, none, CauseTrustAndIdentity},
		{"other account, its account", otherUser, plain("Allow", aws(foreign)), may, none, none, CauseTrustAndIdentity},
		{"other account, trust alone", otherUser, plain("Allow", aws(otherUser.ARN)), none, none, none, CauseNoIdentityAllow},
		{"other account, everyone", otherUser, plain("Allow", `"*"`), none, none, none, CauseNoIdentityAllow},
		{"other account, identity alone", otherUser, plain("Allow", aws(own)), may, none, none, CauseNoTrustAllow},
		{"other account, boundary", otherUser, plain("Allow", aws(foreign)), may, otherRes, none, CauseNoBoundaryAllow},
		{"other account, session policy", otherRole, plain("Allow", aws(otherRole.RoleARN)), may, none, otherRes, CauseNoSessionAllow},

		{"trust denies", user, both(plain("Allow", aws(userARN)), plain("Deny", `"*"`)), may, none, none, CauseTrustDeny},
		{"trust denies the account", user, both(plain("Allow", aws(userARN)), plain("Deny", aws(own))), may, none, none, CauseTrustDeny},
		{"identity policy denies", user, plain("Allow", aws(userARN)), deny, none, none, CauseIdentityDeny},
		{"boundary denies", user, plain("Allow", aws(userARN)), may, deny, none, CauseBoundaryDeny},
		{"session policy denies", session, plain("Allow", aws(sessARN)), may, none, deny, CauseSessionDeny},
		{"other action", user, trust("Allow", aws(userARN), "sts:TagSession", ""), may, none, none, CauseNoTrustAllow},
		{"pattern", user, trust("Allow", aws(userARN), "sts:*", ""), none, none, none, CauseTrustPolicy},
	} {
		var identity []string
		if test.identity != none {
			identity = []string{test.identity}
		}
		in := trustInput(t, test.caller, test.trust, identity...)
		if test.boundary != none {
			in.Boundary = &Named{"limit", parse(t, test.boundary, KindIdentity)}
		}
		if test.session != none {
			in.Session = []Named{{"one", parse(t, test.session, KindIdentity)}}
		}
		d := checkDecision(t, Evaluate(in))
		allows := slices.Contains([]Cause{CauseTrustPolicy, CauseTrustDelegated, CauseTrustAndIdentity}, test.want)
		if d.Cause != test.want || d.Allowed != allows {
			t.Errorf("%s: %s, %v, want %s", test.name, d.Cause, d.Allowed, test.want)
		}
		if p := d.Trace.Policies[0]; p.Kind != "trust" || p.Statements[0].Inert || slices.Contains(p.Statements[0].Failed, ElementResource) {
			t.Errorf("%s: traced %+v", test.name, p)
		}
	}
}

// Whoever has a token has nothing else: the trust policy decides about it alone.
func TestTrustWebIdentity(t *testing.T) {
	for _, test := range []struct {
		name, trust string
		sub         Values
		want        Cause
	}{
		{"subject", webTrust("StringEquals", branch), Values{branch}, CauseTrustPolicy},
		{"pattern of subjects", webTrust("StringLike", "repo:cretula/*"), Values{branch}, CauseTrustPolicy},
		{"other subject", webTrust("StringEquals", branch), Values{branch + "2"}, CauseNoTrustAllow},
		{"subject in other case", webTrust("StringEquals", branch), Values{strings.ToUpper(branch)}, CauseNoTrustAllow},
		{"no subject", webTrust("StringEquals", branch), nil, CauseNoTrustAllow},
		{"two subjects", webTrust("StringEquals", branch), Values{branch, "x"}, CauseNoTrustAllow},
		{"other provider", strings.ReplaceAll(webTrust("StringEquals", branch), github, "x.example"), Values{branch}, CauseNoTrustAllow},
		{"provider of another account", strings.ReplaceAll(webTrust("StringEquals", branch), own, foreign), Values{branch}, CauseNoTrustAllow},
		{"everyone", trust("Allow", `"*"`, "sts:*", ""), Values{branch}, CauseNoTrustAllow},
		{"AWS everyone", trust("Allow", aws("*"), "sts:*", ""), Values{branch}, CauseNoTrustAllow},
		{"the account", trust("Allow", aws(own), "sts:*", ""), Values{branch}, CauseNoTrustAllow},
		{"deny everyone", strings.TrimSuffix(webTrust("StringEquals", branch), "]}") + `,{"Effect":"Deny","Principal":"*","Action":"sts:*"}]}`, Values{branch}, CauseTrustDeny},
		{"other action", strings.ReplaceAll(webTrust("StringEquals", branch), "sts:AssumeRoleWithWebIdentity", "sts:AssumeRole"), Values{branch}, CauseNoTrustAllow},
	} {
		in := trustInput(t, webIdentity, test.trust)
		in.Request.Action = "sts:AssumeRoleWithWebIdentity"
		if test.sub != nil {
			in.Request.Context = Context{claimSub: test.sub}
		}
		if d := checkDecision(t, Evaluate(in)); d.Cause != test.want || d.Allowed != (test.want == CauseTrustPolicy) {
			t.Errorf("%s: %s", test.name, d.Cause)
		}
	}
	in := input(t, webIdentity, named("Allow", `"*"`), allowAll)
	if d := Evaluate(in); d.Allowed {
		t.Error("a web identity used a key")
	}
	if in = (Input{NoKey: true, Request: in.Request}); Evaluate(in).Allowed {
		t.Error("a web identity did something without a policy")
	}
}

func webTrust(operator, sub string) string {
	return trust("Allow", federatedBy(github), "sts:AssumeRoleWithWebIdentity", `{"`+operator+`":{"`+claimSub+`":"`+sub+`"}}`)
}

// A claim that can have several values needs a set operator however many there are.
func TestTrustSeveralValues(t *testing.T) {
	for key, several := range map[string]bool{
		"x.example/realm:amr": true, "127.0.0.1:8080:amr": true, "sts:TransitiveTagKeys": true, "aws:TagKeys": true,
		"kms:EncryptionContext:amr": false, "aws:PrincipalTag/x:amr": false, "x.example:sub": false,
	} {
		for operator, want := range map[string]bool{"StringEquals": !several, "ForAnyValue:StringEquals": true} {
			in := trustInput(t, user, trust("Allow", aws(userARN), "sts:AssumeRole", `{"`+operator+`":{"`+key+`":"a"}}`))
			in.Request.Context = Context{strings.ToLower(key): {"a"}}
			if d := Evaluate(in); d.Allowed != want {
				t.Errorf("%s %s: %v", operator, key, d.Allowed)
			}
		}
	}
}

func TestTrustConditions(t *testing.T) {
	doc := trust("Allow", aws(own), "sts:*", `{"StringEquals":{"sts:ExternalId":"a1","sts:RoleSessionName":"${aws:username}","sts:SourceIdentity":"anna"},
		"ForAllValues:StringEquals":{"aws:TagKeys":["team"]},"StringLike":{"aws:RequestTag/team":"r*"},"ArnEquals":{"aws:PrincipalArn":"`+userARN+`"}}`)
	full := func() Context {
		return Context{"sts:externalid": {"a1"}, "aws:username": {"anna"}, "sts:rolesessionname": {"anna"}, "sts:sourceidentity": {"anna"},
			"aws:tagkeys": {"team"}, "aws:requesttag/team": {"red"}, "aws:principalarn": {userARN}}
	}
	decide := func(c Context) Decision {
		in := trustInput(t, user, doc, allowAll)
		in.Request.Context = c
		return Evaluate(in)
	}
	if d := decide(full()); d.Cause != CauseTrustDelegated {
		t.Fatalf("%+v", d)
	}
	for key := range full() {
		c := full()
		if c[key] = (Values{"other"}); decide(c).Allowed {
			t.Errorf("another value of %s", key)
		}
		if delete(c, key); decide(c).Allowed && key != "aws:tagkeys" {
			t.Errorf("no %s", key)
		}
	}
}

// The caller of today is not the one that was named, if it was made anew.
func TestTrustReplaced(t *testing.T) {
	in := trustInput(t, user, trust("Allow", aws(userARN), "sts:AssumeRole", ""))
	in.Request.Principal.UniqueID, in.UniqueIDs = "AIDANEW", map[string]string{userARN: "AIDAOLD"}
	if d := Evaluate(in); d.Allowed || !d.Trace.Policies[0].Statements[0].Replaced {
		t.Errorf("%+v", d)
	}
}

func TestTrustInvalid(t *testing.T) {
	doc := trust("Allow", aws(userARN), "sts:AssumeRole", "")
	for name, change := range map[string]func(*Input){
		"key policy too":    func(in *Input) { in.KeyPolicy = parse(t, named("Allow", aws(userARN)), KindKey) },
		"not parsed":        func(in *Input) { in.TrustPolicy = &Policy{Kind: KindTrust} },
		"a key's":           func(in *Input) { in.TrustPolicy = parse(t, named("Allow", aws(userARN)), KindKey) },
		"as key policy":     func(in *Input) { in.KeyPolicy, in.TrustPolicy = in.TrustPolicy, nil },
		"as session policy": func(in *Input) { in.Session = []Named{{"x", in.TrustPolicy}} },
	} {
		in := trustInput(t, user, doc)
		change(&in)
		if d := Evaluate(in); d.Allowed || d.Cause != CauseInvalid {
			t.Errorf("%s: %s", name, d.Cause)
		}
	}
	in := trustInput(t, user, trust("Allow", aws(roleARN), "sts:AssumeRole", ""), allowAll)
	in.NoKey, in.Grants = true, []Grant{{ID: "g", Grantee: userARN, Operations: []string{"AssumeRole", "sts:AssumeRole"}}}
	if d := Evaluate(in); d.Allowed {
		t.Errorf("without the trust policy: %s", d.Cause)
	}
}

func TestTrustMessages(t *testing.T) {
	for _, test := range []struct{ doc, want string }{
		{trust("Allow", aws(roleARN), "sts:AssumeRole", ""), "because no role trust policy allows the sts:AssumeRole action"},
		{trust("Deny", aws(userARN), "sts:AssumeRole", ""), "with an explicit deny in the role trust policy"},
		{trust("Allow", aws(own), "sts:AssumeRole", ""), "because no identity-based policy allows the sts:AssumeRole action"},
	} {
		d := Evaluate(trustInput(t, user, test.doc))
		if want := "User: " + userARN + " is not authorized to perform: sts:AssumeRole on resource: " + assumed + " " + test.want; d.Message() != want {
			t.Errorf("got %s\nwant %s", d.Message(), want)
		}
	}
}

func TestTrustWebIdentityMessage(t *testing.T) {
	in := trustInput(t, webIdentity, webTrust("StringEquals", "x"))
	in.Request.Action = "sts:AssumeRoleWithWebIdentity"
	if d := Evaluate(in); d.Message() != "Not authorized to perform sts:AssumeRoleWithWebIdentity" {
		t.Errorf("got %s", d.Message())
	}
}

func fuzzTrust(t *testing.T, in Input, p *Policy) {
	in.TrustPolicy, in.Request.Action, in.Request.Resource = p, "sts:AssumeRole", assumed
	checkDecision(t, Evaluate(in))
	in.Request.Principal, in.Request.Action = webIdentity, "sts:AssumeRoleWithWebIdentity"
	if d := checkDecision(t, Evaluate(in)); d.Allowed {
		t.Fatal("a token without claims is enough")
	}
}
