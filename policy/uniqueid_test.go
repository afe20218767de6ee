// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

const (
	userID  = "AIDACKCEVSQ6C2EXAMPLE"
	roleID  = "AROADBQP57FF2AEXAMPLE"
	otherID = "AIDA22222222222222222"
)

// A principal that is named by ARN is the one that had it when the policy was put;
// one named by its unique id is that one under whatever name. Source: IAM User
// Guide, "AWS JSON policy elements: Principal".
func TestUniqueIDs(t *testing.T) {
	withID := func(p Principal, id string) Principal { p.UniqueID = id; return p }
	for name, c := range map[string]struct {
		caller Principal
		policy string
		ids    map[string]string
		want   bool
		// replaced is that of the last statement.
		replaced bool
	}{
		"user":                       {withID(user, userID), named("Allow", aws(userARN)), map[string]string{userARN: userID}, true, false},
		"user, made anew":            {withID(user, otherID), named("Allow", aws(userARN)), map[string]string{userARN: userID}, false, true},
		"user without id":            {user, named("Allow", aws(userARN)), map[string]string{userARN: userID}, false, true},
		"user, nothing known":        {withID(user, otherID), named("Allow", aws(userARN)), nil, true, false},
		"user, others known":         {withID(user, userID), named("Allow", aws(userARN)), map[string]string{roleARN: roleID}, true, false},
		"role":                       {withID(session, roleID), named("Allow", aws(roleARN)), map[string]string{roleARN: roleID}, true, false},
		"role, made anew":            {withID(session, "AROA22222222222222222"), named("Allow", aws(roleARN)), map[string]string{roleARN: roleID}, false, true},
		"session":                    {withID(session, roleID), named("Allow", aws(sessARN)), map[string]string{sessARN: roleID}, true, false},
		"session of a role made new": {withID(session, "AROA22222222222222222"), named("Allow", aws(sessARN)), map[string]string{sessARN: roleID}, false, true},
		"user's id":                  {withID(user, userID), named("Allow", aws(userID)), nil, true, false},
		"another user's id":          {withID(user, otherID), named("Allow", aws(userID)), nil, false, false},
		"id, caller without one":     {user, named("Allow", aws(userID)), nil, false, false},
		"role's id":                  {withID(session, roleID), named("Allow", aws(roleID)), nil, true, false},
		"id of a role for a user":    {withID(user, roleID), named("Allow", aws(roleID)), nil, false, false},
		"id of a user for a session": {withID(session, userID), named("Allow", aws(userID)), nil, false, false},
		"account, whoever":           {withID(user, otherID), named("Allow", aws(rootARN)), map[string]string{userARN: userID}, true, false},
		"Deny": {withID(user, userID), `{"Statement":[` + inner(named("Allow", `"*"`)) + `,` + inner(named("Deny", aws(userARN))) + `]}`,
			map[string]string{userARN: userID}, false, false},
		"Deny, made anew": {withID(user, otherID), `{"Statement":[` + inner(named("Allow", `"*"`)) + `,` + inner(named("Deny", aws(userARN))) + `]}`,
			map[string]string{userARN: userID}, true, true},
		"NotPrincipal": {withID(user, userID), `{"Statement":[` + inner(named("Allow", `"*"`)) + `,` + inner(notPrincipal(userARN, rootARN)) + `]}`,
			map[string]string{userARN: userID}, true, false},
		"NotPrincipal, made anew": {withID(user, otherID), `{"Statement":[` + inner(named("Allow", `"*"`)) + `,` + inner(notPrincipal(userARN, rootARN)) + `]}`,
			map[string]string{userARN: userID}, false, false},
	} {
		in := input(t, c.caller, c.policy, allowAll)
		in.UniqueIDs = c.ids
		if name != "account, whoever" {
			in.Identity = nil
		}
		d := Evaluate(in)
		if d.Allowed != c.want {
			t.Errorf("%s: allowed %v: %+v", name, d.Allowed, d.Trace)
		}
		statements := d.Trace.Policies[0].Statements
		if replaced := statements[len(statements)-1].Replaced; replaced != c.replaced {
			t.Errorf("%s: replaced %v", name, replaced)
		}
	}
	for _, bad := range []string{"AIDA", "AIDA2222", "aidackcevsq6c2example", "AKIACKCEVSQ6C2EXAMPLE", "AIDACKCEVSQ6C2EXAMPL*", "AIDA" + strings.Repeat("2", 125)} {
		if _, err := Parse([]byte(named("Allow", aws(bad))), KindKey); err == nil {
			t.Errorf("%q is a principal", bad)
		}
	}
}

func TestReplacePrincipals(t *testing.T) {
	replace := func(s string) string {
		if s == userARN {
			return userID
		}
		return s
	}
	for name, c := range map[string][2]string{
		"one":         {`{"Statement": {"Principal" :{ "AWS":"` + userARN + `" }}}`, `{"Statement": {"Principal" :{ "AWS":"` + userID + `" }}}`},
		"of several":  {`{"Statement":[{"NotPrincipal":{"AWS":["` + roleARN + `",` + "\n\t" + `"` + userARN + `"]}}]}`, `{"Statement":[{"NotPrincipal":{"AWS":["` + roleARN + `",` + "\n\t" + `"` + userID + `"]}}]}`},
		"escaped":     {`{"Statement":{"Principal":{"AWS":"` + strings.Replace(userARN, "arn", `\u0061rn`, 1) + `"}}}`, `{"Statement":{"Principal":{"AWS":"` + userID + `"}}}`},
		"elsewhere":   {`{"Id":"` + userARN + `","Statement":{"Sid":"` + userARN + `","Principal":{"Service":"` + userARN + `"},"Condition":{"ArnEquals":{"aws:PrincipalArn":"` + userARN + `"}}}}`, ""},
		"everyone":    {`{"Statement":{"Principal":"*"}}`, ""},
		"other types": {`{"Statement":[1,null,{"Principal":[{"AWS":1}]},{"Principal":{"AWS":[1,{}]}}]}`, ""},
		"no policy":   {`[]`, ""},
	} {
		want := c[1]
		if want == "" {
			want = c[0]
		}
		got, err := ReplacePrincipals([]byte(c[0]), replace)
		if err != nil || string(got) != want || !json.Valid(got) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if _, err := ReplacePrincipals([]byte(`{"Statement":`), replace); err == nil {
		t.Error("half a text is replaced")
	}
}

// Only identity policies see the aliases of a key. Source: AWS KMS Developer Guide,
// "AWS KMS condition keys", kms:ResourceAliases.
func TestAliasesForIdentityPolicies(t *testing.T) {
	const condition = `,"Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}}}}`
	cut := func(doc string) string { return strings.TrimSuffix(doc, "}}") }
	context := Context{"kms:resourcealiases": {"alias/a"}}
	in := input(t, user, named("Allow", aws(rootARN)), cut(allowAll)+condition)
	in.Request.Context = context
	if d := Evaluate(in); !d.Allowed {
		t.Errorf("identity policy: %+v", d)
	}
	in = input(t, user, cut(named("Allow", aws(userARN)))+condition)
	in.Request.Context = context
	d := Evaluate(in)
	if c := d.Trace.Policies[0].Statements[0].Conditions[0]; d.Allowed || c.Present || c.Key != "kms:ResourceAliases" {
		t.Errorf("key policy: %+v", d)
	}
}
