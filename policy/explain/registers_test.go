// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cretula/cretula/policy"
)

// tpmImage has the condition keys of a NitroTPM's document.
func tpmImage(values map[int]string) policy.Context {
	c := policy.Context{}
	for i, v := range values {
		c.Add(fmt.Sprint("kms:RecipientAttestation:NitroTPMPCR", i), v)
	}
	return c
}

// What the request carried, and which condition it was that failed, decide what is
// likely.
func TestFindingsOfDocuments(t *testing.T) {
	const att = "kms:RecipientAttestation:"
	equals := func(pairs ...string) string {
		var b strings.Builder
		for i := 0; i < len(pairs); i += 2 {
			fmt.Fprintf(&b, `,"%s%s":"%s"`, att, pairs[i], pairs[i+1])
		}
		return `{"StringEquals":{` + b.String()[1:] + `}}`
	}
	other := digest("99999999", "99")
	for _, test := range []struct {
		name, effect, condition, document string
		c                                 policy.Context
		want                              string // ids, joined
	}{
		{"NitroTPM against an enclave's policy", "Allow", equals("PCR0", pcr0), "nitrotpm", tpmImage(map[int]string{4: pcr0}), "document-of-another-kind"},
		{"enclave against a NitroTPM's policy", "Allow", equals("NitroTPMPCR4", pcr0), "enclave", image(pcr0), "document-of-another-kind"},
		{"NitroTPM's policy without document", "Allow", equals("NitroTPMPCR4", pcr0), "none", nil, "no-recipient"},
		{"enclave's policy without document", "Allow", equals("PCR3", pcr0), "none", nil, "no-recipient"},
		{"PCR16 alone, without document", "Allow", equals("PCR16", pcr0), "none", nil, "no-recipient"},
		{"PCR16 alone, not locked", "Allow", equals("PCR16", pcr0), "enclave", image(pcr0), "register-not-locked"},
		{"PCR16 alone, of a NitroTPM", "Allow", equals("PCR16", pcr0), "nitrotpm", tpmImage(map[int]string{4: pcr0}), "document-of-another-kind"},
		{"NitroTPM without a register", "Allow", equals("NitroTPMPCR12", pcr0), "nitrotpm", tpmImage(map[int]string{4: pcr0}), "register-absent"},
		{"other boot image", "Allow", equals("NitroTPMPCR4", pcr0, "NitroTPMPCR9", pcr1), "nitrotpm", tpmImage(map[int]string{4: other, 9: other}), "other-nitrotpmpcr4"},
		{"other Secure Boot", "Allow", equals("NitroTPMPCR4", pcr0, "NitroTPMPCR7", pcr1), "nitrotpm", tpmImage(map[int]string{4: pcr0, 7: other}), "other-nitrotpmpcr7"},
		{"other NitroTPM register", "Allow", equals("NitroTPMPCR11", pcr0), "nitrotpm", tpmImage(map[int]string{11: other}), "other-nitrotpmpcr11"},
		{"other register of an enclave", "Allow", equals("PCR0", pcr0, "PCR5", pcr0), "enclave", image(pcr0, pcr1, pcr2, pcr0, pcr0, other), "other-pcr5"},
		{"role before other registers", "Allow", equals("PCR5", pcr0, "PCR3", pcr0), "enclave", image(pcr0, pcr1, pcr2, other, pcr0, other), "other-pcr3"},
		{"ImageSha384 wrong, PCR0 right", "Allow", equals("ImageSha384", other, "PCR0", pcr0), "enclave", image(pcr0), "two-values"},
		{"ImageSha384 right, PCR0 wrong", "Allow", equals("ImageSha384", pcr0, "PCR0", other), "enclave", image(pcr0), "two-values"},
		{"both wrong", "Allow", equals("ImageSha384", other, "PCR0", other), "enclave", image(pcr0), "other-image"},
		{"0x before the right digits", "Allow", equals("PCR0", "0X"+strings.ToUpper(pcr0)), "enclave", image(pcr0), "hex-prefix"},
		{"0x before other digits", "Allow", equals("PCR0", "0x"+other), "enclave", image(pcr0), "hex-prefix,other-image"},
		{"right digits, cut", "Allow", equals("PCR0", pcr0[:64]), "enclave", image(pcr0), "digest-length"},
		{"too few digits to tell", "Allow", equals("PCR0", pcr0[:8]), "enclave", image(pcr0), "digest-length,other-image"},
		{"debug, policy on PCR3 and PCR8", "Allow", equals("PCR3", pcr0, "PCR8", pcr1), "enclave-debug", image(zeros, zeros, zeros, pcr0, pcr1, pcr1, pcr1, pcr1, zeros), "debug-document"},
		{"debug, policy on PCR3", "Allow", equals("PCR3", pcr0), "enclave-debug", image(zeros, zeros, zeros, pcr1), "other-pcr3"},
		{"Allow excludes the image", "Allow", `{"StringNotEquals":{"` + att + `PCR0":"` + pcr0 + `"}}`, "enclave", image(pcr0), "value-excluded"},
		{"Deny of the image", "Deny", equals("PCR0", pcr0), "enclave", image(pcr0), "value-excluded"},
		{"Deny of the image's role", "Deny", `{"StringLike":{"` + att + `PCR3":"*"}}`, "enclave", image(pcr0, pcr1, pcr2, pcr0), "value-excluded"},
		{"Allow without document only", "Allow", `{"Null":{"` + att + `PCR0":"true"}}`, "enclave", image(pcr0), "document-unwanted"},
		{"Deny of documents", "Deny", `{"Null":{"` + att + `PCR0":"false"}}`, "enclave", image(pcr0), "document-unwanted"},
		{"Deny of no document", "Deny", `{"Null":{"` + att + `PCR0":"true"}}`, "none", nil, "no-recipient"},
		{"PCR2 alone", "Allow", equals("PCR1", pcr1, "PCR2", pcr2), "enclave", image(other, pcr1, other), "application-changed"},
	} {
		doc := one(test.effect, "*", test.condition)
		if test.effect == "Deny" {
			doc = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},` +
				strings.TrimSuffix(strings.TrimPrefix(doc, `{"Version":"2012-10-17","Statement":`), "}") + `]}`
		}
		p, err := policy.Parse([]byte(doc), policy.KindKey)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		d := policy.Evaluate(policy.Input{KeyPolicy: p, Request: policy.Request{
			Principal: session, Action: "kms:Decrypt", Resource: keyARN, ResourceAccount: account,
			Context: test.c, TakesRecipient: true, Document: test.document,
		}})
		if d.Allowed {
			t.Errorf("%s: allowed", test.name)
			continue
		}
		e := Of(&d)
		ids := make([]string, len(e.Findings))
		for i, f := range e.Findings {
			ids[i] = f.ID
			if f.Likely == "" || f.ToDo == "" || strings.Contains(f.Likely+f.ToDo, "%!") {
				t.Errorf("%s: %+v", test.name, f)
			}
		}
		if got := strings.Join(ids, ","); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		if test.name == "PCR2 alone" && strings.Contains(e.Findings[0].Likely, "too") {
			t.Errorf("%s", e.Findings[0].Likely)
		}
	}
}

// GenerateRandom is denied by what identity policies say of it, if they say
// anything.
func TestFindingsOfRandom(t *testing.T) {
	for text, want := range map[string]string{
		`{"Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*","Condition":{"StringEquals":{"kms:RecipientAttestation:PCR0":"` + pcr0 + `"}}}}`: "no-recipient",
		`{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}}`:                                        "condition",
		`{"Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"` + keyARN + `"}}`:                                                                  "not-named",
		`{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}`:                                                                                      "random-has-no-key",
	} {
		p, err := policy.Parse([]byte(text), policy.KindIdentity)
		if err != nil {
			t.Fatal(err)
		}
		d := policy.Evaluate(policy.Input{NoKey: true, Identity: []policy.Named{{Name: "mine", Policy: p}}, Request: policy.Request{
			Principal: session, Action: "kms:GenerateRandom", Resource: "*", ResourceAccount: account, TakesRecipient: true, Document: "none",
		}})
		if e := Of(&d); len(e.Findings) != 1 || e.Findings[0].ID != want {
			t.Errorf("%s: %+v, want %s", text, e.Findings, want)
		}
	}
}

// A statement for a predecessor of the caller is said to be one.
func TestFindingsOfReplacedPrincipal(t *testing.T) {
	p, err := policy.Parse([]byte(toRole), policy.KindKey)
	if err != nil {
		t.Fatal(err)
	}
	caller := session
	caller.UniqueID = "AROA22222222222222222"
	d := policy.Evaluate(policy.Input{KeyPolicy: p, UniqueIDs: map[string]string{role: "AROA33333333333333333"}, Request: policy.Request{
		Principal: caller, Action: "kms:Decrypt", Resource: keyARN, ResourceAccount: account, TakesRecipient: true, Document: "none",
	}})
	if e := Of(&d); len(e.Findings) != 1 || e.Findings[0].ID != "replaced-principal" {
		t.Errorf("%+v", e.Findings)
	}
}
