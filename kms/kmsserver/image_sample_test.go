// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
)

// sampleKeyPolicy is the one of AWS's Nitro Enclaves User Guide, "Using
// cryptographic attestation with AWS KMS", "KMS key preparation", as it is
// printed there.
const sampleKeyPolicy = `{
 "Version":"2012-10-17",
 "Statement": [{
 "Sid" : "Enable enclave data processing",
 "Effect" : "Allow",
 "Principal" : {
 "AWS" : "arn:aws:iam::123456789012:role/data-processing"
 },
 "Action": [
 "kms:Decrypt",
 "kms:GenerateDataKey",
 "kms:GenerateRandom"
 ],
 "Resource": "*",
 "Condition": {
 "StringEqualsIgnoreCase": {
 "kms:RecipientAttestation:ImageSha384":"EXAMPLE8abcdef7abcdef6abcdef5abcdef4abcdef3abcdef2abcdef1abcdef1abcdef0abcdef1abcdEXAMPLE",
 "kms:RecipientAttestation:PCR0":"EXAMPLE8abcdef7abcdef6abcdef5abcdef4abcdef3abcdef2abcdef1abcdef1abcdef0abcdef1abcdEXAMPLE",
 "kms:RecipientAttestation:PCR1":"EXAMPLE050abf6b993c915505f3220e2d82b51aff830ad14cbecc2eec1bf0b4ae749d311c663f464cde9f718aEXAMPLE",
 "kms:RecipientAttestation:PCR2":"EXAMPLEc300289e872e6ac4d19b0b5ac4a9b020c98295643ff3978610750ce6a86f7edff24e3c0a4a445f2ff8EXAMPLE",
 "kms:RecipientAttestation:PCR3":"EXAMPLE11de9baee597508183477f097ae385d4a2c885aa655432365b53b812694e230bbe8e1bb1b8de748fe1EXAMPLE",
 "kms:RecipientAttestation:PCR4":"EXAMPLE6b9b3d89a53b13f5dfd14a1049ec0b80a9ae4b159adde479e9f7f512f33e835a0b9023ca51ada02160EXAMPLE",
 "kms:RecipientAttestation:PCR8":"EXAMPLE34a884328944cd806127c7784677ab60a154249fd21546a217299ccfa1ebfe4fa96a163bf41d3bcfaeEXAMPLE"
 }
 }
 }]
}`

// sampleKeys are the condition keys of the sample, and the registers that they
// are about.
var sampleKeys = []struct {
	name  string
	index pcr.Index
}{{"ImageSha384", 0}, {"PCR0", 0}, {"PCR1", 1}, {"PCR2", 2}, {"PCR3", 3}, {"PCR4", 4}, {"PCR8", 8}}

// withValues puts registers into the sample in place of its examples, and nothing
// else; the key named other gets a value that is none of them.
func withValues(t testing.TB, set pcr.Set, other string) string {
	t.Helper()
	policy := sampleKeyPolicy
	for _, k := range sampleKeys {
		value, ok := set.Get(k.index)
		if !ok {
			t.Fatalf("no %v", k.index)
		}
		if k.name == other {
			value[len(value)-1] ^= 1
		}
		pattern := regexp.MustCompile(`(:` + k.name + `":")EXAMPLE[0-9a-f]+EXAMPLE"`)
		if n := len(pattern.FindAllString(policy, -1)); n != 1 {
			t.Fatalf("%d places for %s", n, k.name)
		}
		policy = pattern.ReplaceAllString(policy, `${1}`+value.String()+`"`)
	}
	if strings.Contains(policy, "EXAMPLE") {
		t.Fatal("an example is left in the policy")
	}
	return policy
}

// A sample is a key with AWS's sample policy for a signed image.
type sample struct {
	*service
	recipe recipe
	image  []byte
	policy string
	role   kms.Credentials
	keyARN string
	sealed []byte
}

func newSample(t testing.TB, identityPolicies ...string) *sample {
	t.Helper()
	s := &sample{service: newAccountService(t, sampleAccount), recipe: recipe{application: "release 1", signer: goSigner(t, "signer", nil)}}
	s.image = s.recipe.build(t)
	s.role = s.principal(kms.Role, "data-processing", identityPolicies...)
	s.policy = withValues(t, placed(t, measured(t, s.image), samplePlace), "")
	s.keyARN, s.sealed = s.guardedKey(s.policy)
	return s
}

// calls are those of the role on the sample's key, as functions of Recipient.
func (s *sample) calls() map[string]func(*types.RecipientInfo) ([]byte, []byte, *string, error) {
	return recipients(s.service, s.client(s.role, region), s.keyARN, s.sealed)
}

// allDenied fails unless both operations on the key are denied with that finding.
func (s *sample) allDenied(t *testing.T, r *types.RecipientInfo, finding string) {
	t.Helper()
	calls := s.calls()
	for _, name := range []string{"Decrypt", "GenerateDataKey"} {
		_, _, _, err := calls[name](r)
		s.wantDenied(t, err, finding)
	}
}

// The sample, whole: what it allows, out of an image that was built, signed and
// measured.
func TestSampleKeyPolicy(t *testing.T) {
	s := newSample(t)
	enclave := boot(t, s.image, samplePlace)
	c := s.client(s.role, region)
	opened, err := c.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: s.sealed, Recipient: recipient(enclave.document())})
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := cms.Open(recipientKey(), opened.CiphertextForRecipient); err != nil || string(secret) != "the secret" || opened.Plaintext != nil {
		t.Errorf("Decrypt: %q, plaintext %q, %v", secret, opened.Plaintext, err)
	}
	made, err := c.GenerateDataKey(t.Context(), &awskms.GenerateDataKeyInput{KeyId: &s.keyARN, KeySpec: types.DataKeySpecAes256, Recipient: recipient(enclave.document())})
	if err != nil {
		t.Fatal(err)
	}
	dataKey, err := cms.Open(recipientKey(), made.CiphertextForRecipient)
	if err != nil || len(dataKey) != 32 || made.Plaintext != nil {
		t.Errorf("GenerateDataKey: %d bytes, %v", len(dataKey), err)
	}
	// The data key comes back in another document of the same image.
	again, err := c.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: made.CiphertextBlob, Recipient: recipient(boot(t, s.image, samplePlace).document())})
	if err != nil {
		t.Fatal(err)
	}
	if content, err := cms.Open(recipientKey(), again.CiphertextForRecipient); err != nil || !bytes.Equal(content, dataKey) {
		t.Errorf("another data key came back: %v", err)
	}
	// It shuts out everybody else, the administrator included, which is why KMS
	// takes it only from who says so.
	keyARN := s.key("")
	_, err = s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: &s.policy})
	if code, message, _, _ := refused(t, err); code != "MalformedPolicyDocumentException" ||
		message != "The new key policy will not allow you to update the key policy in the future." {
		t.Errorf("without bypass: %s %s", code, message)
	}
	_, err = s.adminClient().GetKeyPolicy(t.Context(), &awskms.GetKeyPolicyInput{KeyId: &s.keyARN})
	s.wantDenied(t, err, "not-named")
}

// Each register alone decides, in the document and in the policy.
func TestSampleRegisters(t *testing.T) {
	s := newSample(t)
	set := placed(t, measured(t, s.image), samplePlace)
	for _, c := range []struct {
		index   pcr.Index
		finding string
	}{{0, "other-image"}, {1, "base-changed"}, {2, "application-changed"}, {3, "other-pcr3"}, {4, "other-pcr4"}, {8, "other-pcr8"}} {
		t.Run(c.index.String(), func(t *testing.T) {
			changed := set
			value, _ := changed.Get(c.index)
			value[0] ^= 0x80
			changed.Put(c.index, value)
			s.allDenied(t, recipient(bootRegisters(t, changed, samplePlace).document()), c.finding)
		})
	}
	// ImageSha384 and PCR0 are one register under two keys: one that is wrong in
	// the policy is enough.
	doc := recipient(boot(t, s.image, samplePlace).document())
	findings := map[string]string{
		"ImageSha384": "two-values", "PCR0": "two-values", "PCR1": "base-changed", "PCR2": "application-changed",
		"PCR3": "other-pcr3", "PCR4": "other-pcr4", "PCR8": "other-pcr8",
	}
	for _, k := range sampleKeys {
		t.Run("policy/"+k.name, func(t *testing.T) {
			keyARN, sealed := s.guardedKey(withValues(t, set, k.name))
			calls := recipients(s.service, s.client(s.role, region), keyARN, sealed)
			for _, name := range []string{"Decrypt", "GenerateDataKey"} {
				_, _, _, err := calls[name](doc)
				s.wantDenied(t, err, findings[k.name])
				_, _, _, decision := refused(t, err)
				event, err := s.kms.Explain(t.Context(), decision)
				if err != nil {
					t.Fatal(err)
				}
				no := regexp.MustCompile(`(?m)kms:RecipientAttestation:` + k.name + ` +wanted \S+ +got \S+ +no$`)
				if text := event.Text(); !no.MatchString(text) || strings.Count(text, " no\n") != 1 {
					t.Errorf("%s: not only %s is said not to match:\n%s", name, k.name, text)
				}
			}
		})
	}
}

// What really happens to an image and where it runs.
func TestSampleDenials(t *testing.T) {
	s := newSample(t)
	changed := func(change func(*recipe, *place)) *types.RecipientInfo {
		r, at := s.recipe, samplePlace
		change(&r, &at)
		return recipient(boot(t, r.build(t), at).document())
	}
	for _, c := range []struct {
		name, finding string
		recipient     *types.RecipientInfo
	}{
		{"another release", "application-changed", changed(func(r *recipe, _ *place) { r.application = "release 2" })},
		{"another kernel", "base-changed", changed(func(r *recipe, _ *place) { r.kernel = "2" })},
		{"another image", "other-image", changed(func(r *recipe, _ *place) { r.application, r.kernel = "release 2", "2" })},
		{"another role", "other-pcr3", changed(func(_ *recipe, at *place) { at.role += "2" })},
		{"another instance", "other-pcr4", changed(func(_ *recipe, at *place) { at.instance = "i-1234567890abcdef1" })},
		{"another certificate", "other-pcr8", changed(func(r *recipe, _ *place) { r.signer = goSigner(t, "other", nil) })},
		{"unsigned", "other-pcr8", changed(func(r *recipe, _ *place) { r.signer = nil })},
		{"debug mode", "debug-document", changed(func(_ *recipe, at *place) { at.debug = true })},
		{"no Recipient", "no-recipient", nil},
	} {
		t.Run(c.name, func(t *testing.T) { s.allDenied(t, c.recipient, c.finding) })
	}
	doc := recipient(boot(t, s.image, samplePlace).document())
	for name, who := range map[string]kms.Credentials{
		"another role":            s.principal(kms.Role, "other", allowAll(`"kms:*"`)),
		"a user":                  s.principal(kms.User, "data-processing", allowAll(`"kms:*"`)),
		"a longer name":           s.principal(kms.Role, "data-processing2", allowAll(`"kms:*"`)),
		"the administrator":       s.admin,
		"another role, no rights": s.principal(kms.Role, "nobody"),
	} {
		t.Run("principal/"+name, func(t *testing.T) {
			calls := recipients(s.service, s.client(who, region), s.keyARN, s.sealed)
			for _, operation := range []string{"Decrypt", "GenerateDataKey"} {
				_, _, _, err := calls[operation](doc)
				s.wantDenied(t, err, "not-named")
			}
		})
	}
	t.Run("account", func(t *testing.T) {
		stranger, err := s.kms.AddPrincipal(t.Context(), kms.Principal{Type: kms.Role, Name: "data-processing", Account: "111122223333", Policies: []string{kms.AdminPolicy}})
		if err != nil {
			t.Fatal(err)
		}
		// A key of another account that is not shared is not even shown to exist.
		_, err = s.client(stranger, region).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: s.sealed, KeyId: &s.keyARN, Recipient: doc})
		wantCode(t, err, "AccessDeniedException")
	})
}

// The sample lists kms:GenerateRandom. That has no effect in a key policy, as the
// operation is on no key (Service Authorization Reference, "Actions defined by
// AWS Key Management Service"): it neither allows nor guards it.
func TestSampleGenerateRandom(t *testing.T) {
	without := newSample(t)
	doc := recipient(boot(t, without.image, samplePlace).document())
	_, _, _, err := without.calls()["GenerateRandom"](doc)
	without.wantDenied(t, err, "random-has-no-key")

	s := newSample(t, randomPolicy)
	call := s.calls()["GenerateRandom"]
	for name, image := range map[string][]byte{"the image": s.image, "any image": recipe{application: "anything"}.build(t)} {
		envelope, plaintext, _, err := call(recipient(boot(t, image, samplePlace).document()))
		if err != nil || plaintext != nil {
			t.Errorf("%s: plaintext %x, %v", name, plaintext, err)
			continue
		}
		if content, err := cms.Open(recipientKey(), envelope); err != nil || len(content) != 33 {
			t.Errorf("%s: %d bytes, %v", name, len(content), err)
		}
	}
	if envelope, plaintext, _, err := call(nil); err != nil || len(plaintext) != 33 || envelope != nil {
		t.Errorf("no Recipient: %d bytes, %v", len(plaintext), err)
	}

	// The same condition in an identity policy is what guards it.
	set := measured(t, s.image)
	pcr0, _ := set.Get(0)
	guarded := newSample(t, fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*",
		"Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"%s"}}}}`, pcr0))
	call = guarded.calls()["GenerateRandom"]
	if envelope, _, _, err := call(recipient(boot(t, s.image, samplePlace).document())); err != nil || envelope == nil {
		t.Errorf("guarded: %v", err)
	}
	_, _, _, err = call(nil)
	guarded.wantDenied(t, err, "no-recipient")
	_, _, _, err = call(recipient(boot(t, recipe{application: "anything"}.build(t), samplePlace).document()))
	guarded.wantDenied(t, err, "other-image")
}

// The key policy statement of the AWS KMS Developer Guide of 2023,
// "kms:RecipientAttestation:PCR<PCR_ID>", wrote the value with 0x, which no
// request has. (Its account is another one, its value has 128 digits.)
func TestSampleWithHexPrefix(t *testing.T) {
	const statement = `{
  "Sid" : "Enable enclave data processing",
  "Effect" : "Allow",
  "Principal" : {
    "AWS" : "arn:aws:iam::%s:role/data-processing"
  },
  "Action": "kms:Decrypt",
  "Resource" : "*",
  "Condition": {
    "StringEqualsIgnoreCase": {
      "kms:RecipientAttestation:PCR1": "%s"
    }
  }
}`
	s := newSample(t)
	set := measured(t, s.image)
	pcr1, _ := set.Get(1)
	doc := recipient(boot(t, s.image, samplePlace).document())
	decrypt := func(value string) error {
		keyARN, sealed := s.guardedKey(`{"Version":"2012-10-17","Statement":[` + fmt.Sprintf(statement, sampleAccount, value) + `]}`)
		_, err := s.client(s.role, region).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed, KeyId: aws.String(keyARN), Recipient: doc})
		return err
	}
	if err := decrypt(pcr1.String()); err != nil {
		t.Errorf("bare digits: %v", err)
	}
	s.wantDenied(t, decrypt("0x"+pcr1.String()), "hex-prefix")
	s.wantDenied(t, decrypt("0X"+strings.ToUpper(pcr1.String())), "hex-prefix")
	s.wantDenied(t, decrypt("0x1de4f2dcf774f6e3b679f62e5f120065b2e408dcea327bd1c9dddaea6664e7af7935581474844767453082c6f1586116376cede396a30a39a611b9aad7966c87"), "hex-prefix")
	s.wantDenied(t, decrypt("1de4f2dcf774f6e3b679f62e5f120065b2e408dcea327bd1c9dddaea6664e7af7935581474844767453082c6f1586116376cede396a30a39a611b9aad7966c87"), "digest-length")
}
