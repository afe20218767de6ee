// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/policy"
)

const (
	account = "000000000000"
	keyARN  = "arn:aws:kms:us-east-1:000000000000:key/4c0e1111-2222-3333-4444-555566667777"
	role    = "arn:aws:iam::000000000000:role/data-processing"
)

var (
	session = policy.Principal{
		Type: policy.CallerRoleSession, AccountID: account, RoleARN: role,
		ARN: "arn:aws:sts::000000000000:assumed-role/data-processing/cretula",
	}
	pcr0, pcr1, pcr2 = digest("6be47f83", "a7"), digest("0343b056", "aa"), digest("dd61366a", "d7")
	zeros            = strings.Repeat("0", 96)
)

func digest(first, last string) string { return first + strings.Repeat("5", 86) + last }

// guarded is the policy of the demo, cut to what matters here.
var guarded = `{"Version": "2012-10-17", "Statement": [
 {"Sid": "EnclaveMayDecrypt", "Effect": "Allow", "Principal": {"AWS": "` + role + `"}, "Action": "kms:Decrypt", "Resource": "*",
  "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "` + pcr0 + `",
   "kms:RecipientAttestation:PCR1": "` + pcr1 + `", "kms:RecipientAttestation:PCR2": "` + pcr2 + `"}}},
 {"Sid": "NoKeyWithoutThisImage", "Effect": "Deny", "Principal": "*", "Action": ["kms:Decrypt", "kms:CreateGrant"], "Resource": "*",
  "Condition": {"StringNotEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "` + pcr0 + `"}}},
 {"Sid": "Admin", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/admin"}, "Action": "kms:PutKeyPolicy", "Resource": "*"}]}`

func image(values ...string) policy.Context {
	c := policy.Context{}
	for i, v := range values {
		if i == 0 {
			c.Add("kms:RecipientAttestation:ImageSha384", v)
		}
		c.Add("kms:RecipientAttestation:PCR"+string(rune('0'+i)), v)
	}
	return c
}

func decide(t *testing.T, text, action string, c policy.Context) *policy.Decision {
	t.Helper()
	in := policy.Input{Request: policy.Request{
		Principal: session, Action: "kms:" + action, Resource: keyARN, ResourceAccount: account, Context: c,
		TakesRecipient: slices.Contains([]string{"Decrypt", "GenerateDataKey", "GenerateRandom"}, action),
	}}
	if text == "" {
		in.NoKey, in.Request.Resource = true, "*"
	} else {
		p, err := policy.Parse([]byte(text), policy.KindKey)
		if err != nil {
			t.Fatal(err)
		}
		in.KeyPolicy = p
	}
	d := policy.Evaluate(in)
	return &d
}

func one(effect, action, condition string) string {
	return `{"Version":"2012-10-17","Statement":{"Sid":"S","Effect":"` + effect + `","Principal":"*","Action":"kms:` + action + `","Resource":"*","Condition":` + condition + `}}`
}

func TestParagraph(t *testing.T) {
	for _, test := range []struct {
		name string
		c    policy.Context
		want string
	}{
		{"application changed", image(digest("51c2e00a", "19"), pcr1, digest("77aa10f2", "03")),
			`DENIED by statement "NoKeyWithoutThisImage": kms:RecipientAttestation:ImageSha384 wanted 6be47f83…a7, got 51c2e00a…19. ` +
				`PCR2 differs too, PCR1 is the same: the application changed, kernel and init did not. To do: add this image's PCRs to the key policy if it is yours, or run the image that the policy names.`},
		{"debug", image(zeros, zeros, zeros),
			`DENIED by statement "NoKeyWithoutThisImage": kms:RecipientAttestation:ImageSha384 wanted 6be47f83…a7, got 00000000…00. ` +
				`PCR0, PCR1 and PCR2 are zero. The enclave runs with --debug-mode; its memory can be read, and its document says nothing about the image. ` +
				`To do: start the enclave without --debug-mode. Never put zeros into a policy: they let every debug enclave in.`},
		{"no recipient", nil,
			`DENIED by statement "NoKeyWithoutThisImage": kms:RecipientAttestation:ImageSha384 wanted 6be47f83…a7, got nothing. ` +
				`The request carried no attestation document. To do: send Recipient with a fresh document: call from inside the enclave, through a client that attaches one.`},
		{"PCR1 only", image(pcr0, digest("11111111", "11"), pcr2),
			`DENIED, as statement "EnclaveMayDecrypt" does not apply: kms:RecipientAttestation:PCR1 wanted 0343b056…aa, got 11111111…11. ` +
				`PCR1 differs, PCR2 is the same: kernel, command line or init changed, the application did not. To do: add this image's PCRs to the key policy if it is yours, or run the image that the policy names.`},
		{"allowed", image(pcr0, pcr1, pcr2), `ALLOWED by statement "EnclaveMayDecrypt". The document's PCR0, PCR1 and PCR2 had to match for it.`},
	} {
		if got := Of(decide(t, guarded, "Decrypt", test.c)).Paragraph(); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

func TestText(t *testing.T) {
	d := decide(t, guarded, "Decrypt", image(digest("51c2e00a", "19"), pcr1, digest("77aa10f2", "03")))
	got := Of(d).Text(About{Time: time.Date(2026, 11, 20, 18, 3, 11, 0, time.UTC), Alias: "alias/orders"})
	want := `DENIED  kms:Decrypt on key 4c0e1111-2222-3333-4444-555566667777 (alias/orders) by role data-processing, 2026-11-20T18:03:11Z

because no statement allows it, and one of the key policy forbids it:
  "EnclaveMayDecrypt" (Allow) does not apply
      StringEqualsIgnoreCase
          kms:RecipientAttestation:ImageSha384   wanted 6be47f83…a7   got 51c2e00a…19   no
          kms:RecipientAttestation:PCR1          wanted 0343b056…aa   got 0343b056…aa   yes
          kms:RecipientAttestation:PCR2          wanted dd61366a…d7   got 77aa10f2…03   no
  "NoKeyWithoutThisImage" (Deny) applies
      StringNotEqualsIgnoreCase
          kms:RecipientAttestation:ImageSha384   wanted not 6be47f83…a7   got 51c2e00a…19   matched
  1 other statement has no bearing on it

likely: Another build of the same base. PCR2 differs too, PCR1 is the same: the application changed, kernel and init did not.
to do:  add this image's PCRs to the key policy if it is yours, or run the image that the policy names.
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFindings(t *testing.T) {
	att := "kms:RecipientAttestation:"
	equals := func(key, value string) string { return `{"StringEquals":{"` + key + `":"` + value + `"}}` }
	for _, test := range []struct {
		name, policy, action string
		c                    policy.Context
		want                 string // ids, joined
	}{
		{"application", guarded, "Decrypt", image(digest("51c2e00a", "19"), pcr1, pcr0), "application-changed"},
		{"base", guarded, "Decrypt", image(digest("51c2e00a", "19"), pcr0, pcr2), "base-changed"},
		{"all", guarded, "Decrypt", image(pcr1, pcr2, pcr0), "other-image"},
		{"image alone", one("Allow", "*", equals(att+"ImageSha384", pcr0)), "Decrypt", image(pcr1), "other-image"},
		{"debug", guarded, "Decrypt", image(zeros, zeros, zeros), "debug-document"},
		{"no recipient", guarded, "Decrypt", nil, "no-recipient"},
		{"no recipient, null", one("Deny", "*", `{"Null":{"`+att+`ImageSha384":"true"}}`), "Decrypt", nil, "no-recipient"},
		{"key typed wrongly", one("Allow", "*", equals("kms:RecipientAttestation", pcr0)), "Decrypt", image(pcr0), "unknown-attestation-key"},
		{"register 32", one("Allow", "*", equals(att+"PCR32", pcr0)), "Decrypt", image(pcr0), "unknown-attestation-key"},
		{"PCR07", one("Allow", "*", equals(att+"PCR07", pcr0)), "Decrypt", image(pcr0), "unknown-attestation-key"},
		{"0x", one("Allow", "*", equals(att+"PCR0", "0x"+pcr0)), "Decrypt", image(pcr0), "hex-prefix"},
		{"upper case", one("Allow", "*", equals(att+"PCR0", strings.ToUpper(pcr0))), "Decrypt", image(pcr0), "letter-case"},
		{"cut value", one("Allow", "*", equals(att+"PCR0", pcr0[:90])), "Decrypt", image(pcr0), "digest-length"},
		{"pattern matches", one("Allow", "*", `{"StringLike":{"`+att+`PCR0":"6be4*","`+att+`PCR1":"1*"}}`), "Decrypt", image(pcr0, pcr1), "other-image"},
		{"encrypt", one("Allow", "*", equals(att+"PCR0", pcr0)), "Encrypt", nil, "action-never-attested"},
		{"grant", guarded, "CreateGrant", nil, "action-never-attested"},
		{"random", "", "GenerateRandom", nil, "random-has-no-key"},
		{"role", one("Allow", "*", equals(att+"PCR3", pcr0)), "Decrypt", image(pcr0, pcr1, pcr2, pcr1), "other-pcr3"},
		{"not locked", one("Allow", "*", `{"StringEquals":{"`+att+`PCR16":"`+pcr0+`","`+att+`PCR0":"`+pcr0+`"}}`), "Decrypt", image(pcr0), "register-not-locked"},
		{"tpm keys", one("Allow", "*", equals(att+"NitroTPMPCR4", pcr0)), "Decrypt", image(pcr0), "document-of-another-kind"},
		{"encryption context", one("Allow", "*", equals("kms:EncryptionContext:tenant", "a")), "Decrypt", policy.Context{"kms:EncryptionContext:tenant": {"b"}}, "condition"},
		{"two spellings", one("Allow", "*", equals("kms:EncryptionContext:tenant", "a")), "Decrypt",
			policy.Context{"kms:EncryptionContext:tenant": {"a"}, "kms:EncryptionContext:Tenant": {"b"}}, "several-values,condition"},
		{"account", `{"Statement":{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"}}`, "Decrypt", nil, "delegated-only"},
		{"inert", `{"Statement":{"Sid":"Empty","Effect":"Allow","Principal":"*"}}`, "Decrypt", nil, "inert-statement,not-named"},
		{"not named", `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/other"},"Action":"kms:*","Resource":"*"}}`, "Decrypt", nil, "not-named"},
		{"other action", `{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"*"}}`, "Decrypt", nil, "not-named"},
		{"identity alone", "", "CreateKey", nil, "not-named"},
		{"allowed", guarded, "Decrypt", image(pcr0, pcr1, pcr2), ""},
	} {
		e := Of(decide(t, test.policy, test.action, test.c))
		ids := make([]string, len(e.Findings))
		for i, f := range e.Findings {
			ids[i] = f.ID
			if f.Likely == "" || f.ToDo == "" {
				t.Errorf("%s: empty text in %+v", test.name, f)
			}
		}
		if got := strings.Join(ids, ","); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
		for _, text := range []string{e.Paragraph(), e.Text(About{})} {
			if !strings.HasPrefix(text, e.Verdict) || strings.Contains(text, "%!") {
				t.Errorf("%s: %s", test.name, text)
			}
		}
		if strings.Contains(e.Paragraph(), "\n") {
			t.Errorf("%s: a paragraph of several lines", test.name)
		}
	}
}

// An explanation is made from the audit log as well as from the decision itself.
func TestOutOfJSON(t *testing.T) {
	for _, c := range []policy.Context{nil, image(zeros, zeros, zeros), image(pcr0, pcr1, pcr2)} {
		d := decide(t, guarded, "Decrypt", c)
		data, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var back policy.Decision
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(Of(&back).Findings, Of(d).Findings) || Of(&back).Text(About{}) != Of(d).Text(About{}) {
			t.Errorf("another explanation out of %s", data)
		}
	}
}

// A record of the audit log may be damaged or of a later version.
func TestOddDecisions(t *testing.T) {
	for _, d := range []policy.Decision{
		{}, {Cause: "later"}, {Cause: policy.CauseInvalid}, {Cause: policy.CauseCrossAccount},
		{Cause: policy.CauseKeyDeny, By: []policy.StatementRef{{Kind: "key", Index: 7}}},
		{Allowed: true, Cause: policy.CauseKeyPolicy}, {Allowed: true, Cause: policy.CauseIdentity},
		{Cause: policy.CauseNoBoundaryAllow}, {Cause: policy.CauseNoSessionAllow}, {Cause: policy.CauseBoundaryDeny}, {Cause: policy.CauseSessionDeny},
		{Allowed: true, Cause: policy.CauseGrant, Grant: "g"}, {Allowed: true, Cause: policy.CauseGrant}, {Cause: policy.CauseNoIdentityAllow},
		{Cause: policy.CauseIdentityDeny}, {Allowed: true, Cause: policy.CauseBoth}, {Allowed: true, Cause: policy.CauseDelegated},
	} {
		e := Of(&d)
		if e.Because == "" || e.Paragraph() == "" || e.Text(About{}) == "" {
			t.Errorf("nothing to say about %+v", d)
		}
	}
}

func TestShort(t *testing.T) {
	for in, want := range map[string]string{
		pcr0: "6be47f83…a7", "0x" + pcr0: "0x6be47f83…a7", strings.ToUpper(pcr0): "6BE47F83…A7",
		"abc": "abc", "": "", role: role, strings.Repeat("z", 200): strings.Repeat("z", 100) + "…",
	} {
		if got := Short(in); got != want {
			t.Errorf("Short(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestControlCharactersAreQuoted(t *testing.T) {
	for _, value := range []string{"\x1b[2J\nALLOWED", "\u202eDEWOLLA"} {
		d := decide(t, one("Allow", "*", `{"StringEquals":{"kms:EncryptionContext:a":"x"}}`), "Decrypt",
			policy.Context{"kms:EncryptionContext:a": {value}})
		for _, text := range []string{Of(d).Text(About{}), Of(d).Paragraph()} {
			if strings.ContainsAny(text, "\x1b\u202e") || strings.Contains(text, "\nALLOWED") {
				t.Errorf("a value writes to the terminal: %q", text)
			}
		}
	}
}
