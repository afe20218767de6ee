// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"strings"
	"testing"

	"github.com/cretula/cretula/policy"
)

// A scene is a request with what decides it.
type scene struct {
	key, identity, boundary, session string
	grants                           []policy.Grant
	caller                           *policy.Principal
	action                           string
	context                          policy.Context
	encryption                       map[string]string
}

func (s scene) decide(t *testing.T) *policy.Decision {
	t.Helper()
	parse := func(doc string, kind policy.Kind) *policy.Policy {
		p, err := policy.Parse([]byte(doc), kind)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	action := "Decrypt"
	if s.action != "" {
		action = s.action
	}
	in := policy.Input{KeyPolicy: parse(s.key, policy.KindKey), Grants: s.grants, Request: policy.Request{
		Principal: session, Action: "kms:" + action, Resource: keyARN, ResourceAccount: account, Context: s.context,
		EncryptionContext: s.encryption, TakesRecipient: action == "Decrypt",
	}}
	if s.caller != nil {
		in.Request.Principal = *s.caller
	}
	if s.identity != "" {
		in.Identity = []policy.Named{{Name: "mine", Policy: parse(s.identity, policy.KindIdentity)}}
	}
	if s.boundary != "" {
		in.Boundary = &policy.Named{Name: "edge", Policy: parse(s.boundary, policy.KindIdentity)}
	}
	if s.session != "" {
		in.Session = []policy.Named{{Name: "short", Policy: parse(s.session, policy.KindIdentity)}}
	}
	d := policy.Evaluate(in)
	return &d
}

const (
	everything = `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	describe   = `{"Statement":{"Sid":"Look","Effect":"Allow","Action":"kms:DescribeKey","Resource":"*"}}`
	never      = `{"Statement":{"Sid":"Never","Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}}`
	toRole     = `{"Statement":{"Sid":"Role","Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:*","Resource":"*"}}`
	toAccount  = `{"Statement":{"Sid":"Account","Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"}}`
	toOther    = `{"Statement":{"Sid":"Other","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/other"},"Action":"kms:*","Resource":"*"}}`
)

func until(op, date string) string {
	return `{"Statement":{"Sid":"Lent","Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*","Condition":{"` + op + `":{"aws:CurrentTime":"` + date + `"}}}}`
}

func TestLimitsAndGrants(t *testing.T) {
	grant := func(grantee string, operations ...string) policy.Grant {
		return policy.Grant{ID: "g1", Name: "nightly", Grantee: grantee, Operations: operations}
	}
	tenant := grant(role, "Decrypt")
	tenant.EncryptionContextEquals = map[string]string{"tenant": "a"}
	federated := policy.Principal{Type: policy.CallerFederated, ARN: "arn:aws:sts::000000000000:federated-user/f", AccountID: account, UserARN: "arn:aws:iam::000000000000:user/f"}
	imageOnly := `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:RecipientAttestation:PCR0":"` + pcr0 + `"}}}}`
	now := policy.Context{"aws:currenttime": {"2026-11-20T18:00:00Z"}}
	for _, test := range []struct {
		name    string
		s       scene
		ids     string
		because string
		text    string // a part of it
	}{
		{"boundary", scene{key: toRole, boundary: describe}, "boundary", "the key policy allows it, and the caller's permissions boundary does not", `1 other statement`},
		{"boundary with a condition", scene{key: toRole, boundary: `{"Statement":{"Sid":"Edge","Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}}}`,
			context: policy.Context{"aws:RequestedRegion": {"us-east-1"}}}, "boundary,condition", "the key policy allows it, and the caller's permissions boundary does not", `"Edge" of permissions boundary "edge" (Allow) does not apply`},
		{"session policy", scene{key: toRole, session: describe}, "session-policy", "the key policy allows it, and no session policy does", ""},
		{"session policy for another image", scene{key: toRole, session: imageOnly, context: image(pcr1)}, "session-policy,other-image", "the key policy allows it, and no session policy does",
			"under conditions only, and they do not hold.\nto do:  make the request as that policy wants it, or assume the role with another.\nlikely: Another build or another image than the policy names.\nto do:  add this image's PCRs to the policy of the session if"},
		{"boundary for another image", scene{key: toRole, boundary: imageOnly, context: image(pcr1)}, "boundary,other-image", "the key policy allows it, and the caller's permissions boundary does not",
			"to do:  add this image's PCRs to the caller's permissions boundary if"},
		{"identity policy for another image", scene{key: toAccount, identity: imageOnly, context: image(pcr1)}, "other-image,delegated-only", "the key policy leaves it to the account, and no identity policy allows it",
			"to do:  add this image's PCRs to the identity policy if"},
		{"identity and boundary", scene{key: toAccount, identity: everything, boundary: describe}, "boundary", "the key policy allows it, and the caller's permissions boundary does not", `"Account" (Allow) applies to the account`},
		{"grant and boundary", scene{key: toOther, grants: []policy.Grant{grant(role, "Decrypt")}, boundary: describe}, "boundary", `grant "nightly" (g1) allows it, and the caller's permissions boundary does not`, `grant "nightly" (g1) applies`},
		{"federated user", scene{key: toAccount, identity: everything, caller: &federated}, "federated-without-session-policy", "the key policy allows it, and no session policy does", ""},
		{"boundary denies", scene{key: toRole, boundary: never}, "", "a statement of the caller's permissions boundary forbids it, whatever others allow", `"Never" of permissions boundary "edge" (Deny) applies`},
		{"session policy denies", scene{key: toOther, session: never}, "", "no statement allows it, and one of a session policy forbids it", `"Never" of session policy "short" (Deny) applies`},
		{"grant against a deny", scene{key: toOther, session: never, grants: []policy.Grant{grant(role, "Decrypt")}}, "", "a statement of a session policy forbids it, whatever others allow", ""},
		{"NotPrincipal", scene{key: `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"},{"Sid":"AllBut","Effect":"Deny","NotPrincipal":{"AWS":["` + session.ARN + `","` + role + `","` + account + `"]},"Action":"*","Resource":"*"}]}`, boundary: everything},
			"not-principal-and-boundary", "a statement of the key policy forbids it, whatever others allow", ""},

		{"grant for another operation", scene{key: toOther, grants: []policy.Grant{grant(role, "Encrypt")}}, "grant-operation", "no statement of the key policy allows it, and no grant", `grant "nightly" (g1) does not apply: operation`},
		{"grant with another constraint", scene{key: toOther, grants: []policy.Grant{tenant}, encryption: map[string]string{"tenant": "b"}}, "grant-constraint", "no statement of the key policy allows it, and no grant", `does not apply: constraint`},
		{"grant to another", scene{key: toOther, grants: []policy.Grant{grant(role+"2", "Decrypt")}}, "not-named", "no statement of the key policy allows it, and no grant", ""},
		{"grant to the account", scene{key: toOther, grants: []policy.Grant{grant("arn:aws:iam::000000000000:root", "Decrypt")}}, "delegated-only", "a grant leaves it to the account, and no identity policy allows it", `applies to the account`},

		{"no delegation", scene{key: toOther, identity: everything}, "not-named,not-delegated", "no statement of the key policy allows it", ""},
		{"expired delegation", scene{key: until("DateLessThan", "2026-11-01T00:00:00Z"), identity: everything, context: now}, "expired,not-delegated", "no statement of the key policy allows it", `wanted 2026-11-01T00:00:00Z   got 2026-11-20T18:00:00Z`},
		{"delegation to come", scene{key: until("DateGreaterThan", "2026-12-01T00:00:00Z"), identity: everything, context: now}, "not-the-time,not-delegated", "no statement of the key policy allows it", ""},
		{"root delegation and another image", scene{key: `{"Statement":[` + inner(toAccount) + `,` + inner(one("Allow", "Decrypt", `{"StringEquals":{"kms:RecipientAttestation:PCR0":"`+pcr0+`"}}`)) + `]}`, context: image(pcr1)},
			"other-image,delegated-only", "the key policy leaves it to the account, and no identity policy allows it", ""},

		{"grant", scene{key: toOther, grants: []policy.Grant{grant(role, "Decrypt")}}, "grant-without-attestation", `grant "nightly" (g1) allows it`, "attestation: No attestation condition was part of it"},
		{"grant to encrypt", scene{key: toOther, action: "Encrypt", grants: []policy.Grant{grant(role, "Encrypt")}}, "", `grant "nightly" (g1) allows it`, ""},
		{"grant to make grants", scene{key: toOther, action: "CreateGrant", grants: []policy.Grant{grant(role, "CreateGrant")}}, "grant-without-attestation", `grant "nightly" (g1) allows it`, "beware: A grant"},
		{"grant under a Deny", scene{key: guarded, grants: []policy.Grant{grant(role, "Decrypt")}, context: image(pcr0, pcr2, pcr1)}, "", `grant "nightly" (g1) allows it`,
			`attestation: Statement "NoKeyWithoutThisImage" denies it without the right PCR0, and the request had it.`},
	} {
		e := Of(test.s.decide(t))
		ids := make([]string, len(e.Findings))
		for i, f := range e.Findings {
			ids[i] = f.ID
		}
		if got := strings.Join(ids, ","); got != test.ids || e.Because != test.because {
			t.Errorf("%s: %s, want %s; because %s", test.name, got, test.ids, e.Because)
		}
		if text := e.Text(About{}); !strings.Contains(text, test.text) || strings.Contains(text, "%!") {
			t.Errorf("%s: no %q in\n%s", test.name, test.text, text)
		}
		if p := e.Paragraph(); strings.Contains(p, "\n") || strings.Contains(p, "%!") || !strings.HasPrefix(p, e.Verdict) {
			t.Errorf("%s: %q", test.name, p)
		}
	}
}

func inner(doc string) string {
	_, s, _ := strings.Cut(doc, `"Statement":`)
	return strings.TrimSuffix(s, "}")
}

// What is said about an attestation condition in what was allowed.
func TestAttestationOfAllowed(t *testing.T) {
	const outside = "No attestation condition was part of it: it is allowed outside of an enclave too."
	allow := func(conditions string) string {
		return one("Allow", "Decrypt", conditions)
	}
	denies := func(conditions ...string) string {
		doc := `{"Version":"2012-10-17","Statement":[` + inner(toRole)
		for _, c := range conditions {
			doc += `,` + inner(one("Deny", "Decrypt", c))
		}
		return doc + `]}`
	}
	const key = `"kms:RecipientAttestation:ImageSha384"`
	for _, test := range []struct{ name, key, action, want string }{
		{"Allow", allow(`{"StringEquals":{` + key + `:"` + pcr0 + `"}}`), "", "The document's PCR0 had to match for it."},
		{"Allow by two", allow(`{"StringEquals":{"kms:RecipientAttestation:PCR1":"` + pcr1 + `"},"StringLike":{"kms:RecipientAttestation:PCR0":"6be4*"}}`), "", "The document's PCR1 and PCR0 had to match for it."},
		{"Allow, absent would do", allow(`{"StringEqualsIfExists":{` + key + `:"` + pcr0 + `"}}`), "", outside},
		{"Allow, none would do", allow(`{"ForAllValues:StringEquals":{` + key + `:"` + pcr0 + `"}}`), "", outside},
		{"Allow, negated", allow(`{"StringNotEquals":{` + key + `:"` + pcr1 + `"}}`), "", outside},
		{"Allow, other condition", allow(`{"Null":{"kms:ViaService":"true"}}`), "", outside},
		{"role alone", toRole, "", outside},
		{"no document possible", toRole, "Encrypt", "None was part of it: kms:Encrypt takes no attestation document."},
		{"Deny", denies(`{"StringNotEquals":{` + key + `:"` + pcr0 + `"}}`), "", `Statement "S" denies it without the right PCR0, and the request had it.`},
		{"Deny of another image", denies(`{"StringEquals":{` + key + `:"` + pcr1 + `"}}`), "", outside},
		{"Deny held back by something else", denies(`{"StringNotEquals":{` + key + `:"` + pcr0 + `","kms:ViaService":"x"},"Null":{"kms:ViaService":"false"}}`), "", outside},
		{"Deny of any value", denies(`{"ForAnyValue:StringNotEquals":{` + key + `:"` + pcr0 + `"}}`), "", outside},
		{"Deny without a document", denies(`{"Null":{` + key + `:"true"}}`), "", "A document was needed for it, but one of any image."},
	} {
		d := scene{key: test.key, action: test.action, context: image(pcr0, pcr1, pcr2)}.decide(t)
		if e := Of(d); !d.Allowed || e.Attestation != test.want || !strings.HasSuffix(e.Paragraph(), test.want) {
			t.Errorf("%s: %s, %q", test.name, d.Cause, e.Attestation)
		}
	}
}
