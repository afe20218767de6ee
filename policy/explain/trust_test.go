// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strings"
	"testing"

	"github.com/cretula/cretula/policy"
)

func TestTrust(t *testing.T) {
	const provider = "arn:aws:iam::000000000000:oidc-provider/x.example/realm"
	user := policy.Principal{Type: policy.CallerUser, AccountID: account, ARN: "arn:aws:iam::000000000000:user/anna"}
	other := policy.Principal{Type: policy.CallerUser, AccountID: "999999999999", ARN: "arn:aws:iam::999999999999:user/eve"}
	web := policy.Principal{Type: policy.CallerWebIdentity, ARN: provider}
	byToken := `{"Effect":"Allow","Principal":{"Federated":"` + provider + `"},"Action":"sts:*","Condition":{"StringEquals":{"x.example/realm:sub":"build"}}}`
	one := func(effect, principal string) string {
		return `{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"sts:AssumeRole"}`
	}
	for _, test := range []struct {
		name, statements string
		caller           policy.Principal
		identity         bool
		because, finding string
	}{
		{"allowed", one("Allow", `{"AWS":"`+user.ARN+`"}`), user, false, "a statement of the trust policy allows it", ""},
		{"delegated", one("Allow", `{"AWS":"`+account+`"}`), user, true, "the trust policy leaves it to the account, and an identity policy allows it", ""},
		{"both", one("Allow", `{"AWS":"999999999999"}`), other, true, "the trust policy and the caller's own account both allow it", ""},
		{"delegated only", one("Allow", `{"AWS":"`+account+`"}`), user, false, "the trust policy leaves it to the account, and no identity policy allows it", "delegated-only"},
		{"not named", one("Allow", `{"AWS":"`+other.ARN+`"}`), user, false, "no statement of the trust policy allows it", "not-named"},
		{"identity policy in vain", one("Allow", `{"AWS":"`+other.ARN+`"}`), user, true, "no statement of the trust policy allows it", "not-named not-delegated"},
		{"denied", one("Allow", `"*"`) + "," + one("Deny", `"*"`), user, false, "a statement of the trust policy forbids it, whatever others allow", ""},
		{"root", one("Allow", `"*"`), policy.Principal{Type: policy.CallerRoot, AccountID: account, ARN: "arn:aws:iam::000000000000:root"}, false, "the root user of an account cannot assume a role", ""},
		{"subject", byToken, web, false, "no statement of the trust policy allows it", "condition"},
	} {
		trust, err := policy.Parse([]byte(`{"Statement":[`+test.statements+`]}`), policy.KindTrust)
		if err != nil {
			t.Fatal(err)
		}
		in := policy.Input{TrustPolicy: trust, Request: policy.Request{
			Principal: test.caller, Action: "sts:AssumeRole", Resource: role, ResourceAccount: account, Context: policy.Context{"x.example/realm:sub": {"eve"}},
		}}
		if test.identity {
			all, err := policy.Parse([]byte(`{"Statement":{"Effect":"Allow","Action":"sts:*","Resource":"*"}}`), policy.KindIdentity)
			if err != nil {
				t.Fatal(err)
			}
			in.Identity = []policy.Named{{Name: "all", Policy: all}}
		}
		d := policy.Evaluate(in)
		e := Of(&d)
		var ids []string
		for _, f := range e.Findings {
			ids = append(ids, f.ID)
		}
		text := e.Text(About{})
		if e.Because != test.because || strings.Join(ids, " ") != test.finding || strings.Contains(text+e.Paragraph(), "key policy") {
			t.Errorf("%s: %q, %v\n%s", test.name, e.Because, ids, text)
		}
		if test.caller == web && !strings.Contains(text, "by a token of x.example/realm") {
			t.Errorf("%s: %s", test.name, text)
		}
	}
}
