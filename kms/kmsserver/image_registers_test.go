// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
)

const attestationKey = "kms:RecipientAttestation:"

// numbered are the names of the registers from first to last.
func numbered(prefix string, first, last int) (names []string) {
	for i := first; i <= last; i++ {
		names = append(names, fmt.Sprint(prefix, i))
	}
	return names
}

// attestationKeys are all 57 names (Service Authorization Reference).
var attestationKeys = slices.Concat([]string{"ImageSha384"}, numbered("PCR", 0, 31), numbered("NitroTPMPCR", 0, 23))

// exactly is a condition under which a request has those attestation keys and no
// other.
func exactly(present ...string) string {
	keys := map[string]string{}
	for _, name := range attestationKeys {
		keys[attestationKey+name] = fmt.Sprint(!slices.Contains(present, name))
	}
	text, err := json.Marshal(map[string]any{"Null": keys})
	if err != nil {
		panic(err)
	}
	return string(text)
}

var conditionUsers atomic.Int64

// randomUnder asks for a random number as a new user whose only statement has the
// condition.
func (s *service) randomUnder(condition string, r *types.RecipientInfo) error {
	s.t.Helper()
	user := s.principal(kms.User, fmt.Sprintf("condition%d", conditionUsers.Add(1)),
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*","Condition":`+condition+`}}`)
	_, err := s.client(user, region).GenerateRandom(s.t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(1), Recipient: r})
	return err
}

// decryptUnder lets the administrator decrypt with a key whose policy has the
// statements, each with an Effect and a Condition.
func (s *service) decryptUnder(r *types.RecipientInfo, statements ...string) (*awskms.DecryptOutput, error) {
	s.t.Helper()
	var list []string
	for _, statement := range statements {
		effect, condition, _ := strings.Cut(statement, " ")
		list = append(list, fmt.Sprintf(`{"Effect":"%s","Principal":{"AWS":"arn:aws:iam::%s:user/admin"},"Action":"kms:Decrypt","Resource":"*","Condition":%s}`, effect, account, condition))
	}
	keyARN, sealed := s.guardedKey(`{"Version":"2012-10-17","Statement":[` + strings.Join(list, ",") + `]}`)
	return s.adminClient().Decrypt(s.t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed, KeyId: &keyARN, Recipient: r})
}

// condition is one key under one operator.
func condition(operator, name, value string) string {
	return fmt.Sprintf(`{"%s":{"%s%s":"%s"}}`, operator, attestationKey, name, value)
}

func tpmDocument(t testing.TB) []byte {
	t.Helper()
	return document(t, func(c *issuer.Content) {
		c.Kind = attestation.KindNitroTPM
		c.ModuleID = strings.Replace(c.ModuleID, "-enc", "-tpm", 1)
		c.PCRs = pcr.Set{}
		// Those of the EC2 User Guide, "NitroTPM Attestation Document contents".
		for i := range pcr.Index(17) {
			c.PCRs.Put(i, fill(0x40+byte(i)))
		}
		c.PCRs.Put(23, fill(0x57))
	})
}

// lockedEnclave is one whose registers 16 and 31 are extended, 16 and 20 locked.
func lockedEnclave(t testing.TB) *runningEnclave {
	t.Helper()
	e := boot(t, recipe{application: "locks"}.build(t), samplePlace)
	for _, i := range []pcr.Index{16, 31} {
		if _, err := e.nsm.ExtendPCR(t.Context(), i, []byte("configuration")); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []pcr.Index{16, 20} {
		if err := e.nsm.LockPCR(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// Which of the 57 keys a request has: those of its kind of document, registers
// above 15 only when they are locked, ImageSha384 for an enclave only.
func TestAttestationKeys(t *testing.T) {
	s := newService(t)
	enclaveKeys := append(numbered("PCR", 0, 15), "ImageSha384")
	for _, c := range []struct {
		name string
		doc  *types.RecipientInfo
		keys []string
	}{
		{"enclave", recipient(boot(t, recipe{application: "a"}.build(t), samplePlace).document()), enclaveKeys},
		{"signed enclave", recipient(boot(t, recipe{application: "a", signer: goSigner(t, "signer", nil)}.build(t), samplePlace).document()), enclaveKeys},
		{"locked registers", recipient(lockedEnclave(t).document()), append([]string{"PCR16", "PCR20"}, enclaveKeys...)},
		{"NitroTPM", recipient(tpmDocument(t)), append(numbered("NitroTPMPCR", 0, 16), "NitroTPMPCR23")},
		{"none", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := s.randomUnder(exactly(c.keys...), c.doc); err != nil {
				t.Fatal(err)
			}
			// The test would see one key more or less.
			for _, name := range attestationKeys {
				var other []string
				if i := slices.Index(c.keys, name); i >= 0 {
					other = slices.Delete(slices.Clone(c.keys), i, i+1)
				} else {
					other = append(slices.Clone(c.keys), name)
				}
				if slices.Contains([]string{"ImageSha384", "PCR0", "PCR15", "PCR16", "PCR31", "NitroTPMPCR0", "NitroTPMPCR23"}, name) {
					wantCode(t, s.randomUnder(exactly(other...), c.doc), "AccessDeniedException")
				}
			}
		})
	}
}

func TestLockedRegister(t *testing.T) {
	s := newService(t)
	e := boot(t, recipe{application: "locks"}.build(t), samplePlace)
	zero := pcr.Digest{}
	value := zero.Extend([]byte("configuration"))
	set := e.module.PCRs()
	pcr0, _ := set.Get(0)
	wanted := fmt.Sprintf(`Allow {"StringEquals":{"%[1]sPCR0":"%[2]s","%[1]sPCR16":"%[3]s"}}`, attestationKey, pcr0, value)
	_, err := s.decryptUnder(recipient(e.document()), wanted)
	s.wantDenied(t, err, "register-not-locked")
	if _, err := e.nsm.ExtendPCR(t.Context(), 16, []byte("configuration")); err != nil {
		t.Fatal(err)
	}
	// What can still change is in no document.
	_, err = s.decryptUnder(recipient(e.document()), wanted)
	s.wantDenied(t, err, "register-not-locked")
	if err := e.nsm.LockPCR(t.Context(), 16); err != nil {
		t.Fatal(err)
	}
	if _, err = s.decryptUnder(recipient(e.document()), wanted); err != nil {
		t.Errorf("locked: %v", err)
	}
	_, err = s.decryptUnder(recipient(e.document()), "Allow "+condition("StringEquals", "PCR16", zero.String()))
	s.wantDenied(t, err, "other-pcr16")
	_, err = s.decryptUnder(recipient(e.document()), "Allow "+condition("StringEquals", "PCR17", zero.String()))
	s.wantDenied(t, err, "register-not-locked")
}

// ImageSha384 and PCR0 are the same value under two keys, each enough alone.
func TestImageSha384IsPCR0(t *testing.T) {
	s := newService(t)
	e := boot(t, recipe{application: "a"}.build(t), samplePlace)
	set := e.module.PCRs()
	pcr0, _ := set.Get(0)
	other := recipient(boot(t, recipe{application: "b"}.build(t), samplePlace).document())
	for _, name := range []string{"ImageSha384", "PCR0", "imagesha384", "pcr0"} {
		wanted := "Allow " + condition("StringEquals", name, pcr0.String())
		if out, err := s.decryptUnder(recipient(e.document()), wanted); err != nil || out.Plaintext != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, err := s.decryptUnder(other, wanted)
		s.wantDenied(t, err, "other-image")
		_, err = s.decryptUnder(nil, wanted)
		s.wantDenied(t, err, "no-recipient")
		// A NitroTPM's PCR0 is no image.
		tpm := fill(0x40)
		_, err = s.decryptUnder(recipient(tpmDocument(t)), "Allow "+condition("StringEquals", name, tpm.String()))
		s.wantDenied(t, err, "document-of-another-kind")
	}
	_, err := s.decryptUnder(recipient(e.document()), "Allow "+condition("StringEquals", "NitroTPMPCR0", pcr0.String()))
	s.wantDenied(t, err, "document-of-another-kind")
	tpm4 := fill(0x44)
	if out, err := s.decryptUnder(recipient(tpmDocument(t)), "Allow "+condition("StringEqualsIgnoreCase", "NitroTPMPCR4", tpm4.String())); err != nil || out.Plaintext != nil {
		t.Errorf("NitroTPM: %v", err)
	}
	_, err = s.decryptUnder(recipient(tpmDocument(t)), "Allow "+condition("StringEqualsIgnoreCase", "NitroTPMPCR4", pcr0.String()))
	s.wantDenied(t, err, "other-nitrotpmpcr4")
	_, err = s.decryptUnder(nil, "Allow "+condition("StringEqualsIgnoreCase", "NitroTPMPCR4", tpm4.String()))
	s.wantDenied(t, err, "no-recipient")
}

// An absent key makes positive operators false and negated ones true (IAM User
// Guide, "IAM JSON policy elements: Condition operators"). So a policy that only
// says which image may not is open to everyone without a document, who even gets
// the plaintext; Null closes it.
func TestAbsentRegister(t *testing.T) {
	s := newService(t)
	e := boot(t, recipe{application: "a"}.build(t), samplePlace)
	set := e.module.PCRs()
	pcr0, _ := set.Get(0)
	this, other := pcr0.String(), fill(9).String()
	doc := recipient(e.document())
	const open, shut, sealed = "plaintext", "", "sealed"
	for _, c := range []struct {
		statements   []string
		without      string // what comes of a request without a Recipient
		withDocument string
		finding      string // of the request without, if denied
		withFinding  string // of the one with, if denied
	}{
		{[]string{"Allow " + condition("StringEquals", "PCR0", this)}, shut, sealed, "no-recipient", ""},
		{[]string{"Allow " + condition("StringEqualsIgnoreCase", "PCR0", this)}, shut, sealed, "no-recipient", ""},
		{[]string{"Allow " + condition("StringLike", "PCR0", "*")}, shut, sealed, "no-recipient", ""},
		{[]string{"Allow " + condition("ForAnyValue:StringEquals", "PCR0", this)}, shut, sealed, "no-recipient", ""},
		{[]string{"Allow " + condition("Null", "PCR0", "false")}, shut, sealed, "no-recipient", ""},
		{[]string{"Allow " + condition("StringEquals", "PCR16", this)}, shut, shut, "no-recipient", "register-not-locked"},

		{[]string{"Allow " + condition("StringNotEquals", "PCR0", other)}, open, sealed, "", ""},
		{[]string{"Allow " + condition("StringNotEqualsIgnoreCase", "PCR0", other)}, open, sealed, "", ""},
		{[]string{"Allow " + condition("StringNotLike", "PCR0", other[:8]+"*")}, open, sealed, "", ""},
		{[]string{"Allow " + condition("StringNotEquals", "PCR0", this)}, open, shut, "", "value-excluded"},
		{[]string{"Allow " + condition("StringNotEquals", "PCR16", this)}, open, sealed, "", ""},
		{[]string{"Allow " + condition("StringEqualsIfExists", "PCR0", this)}, open, sealed, "", ""},
		{[]string{"Allow " + condition("StringEqualsIfExists", "PCR0", other)}, open, shut, "", "other-image"},
		{[]string{"Allow " + condition("ForAllValues:StringEquals", "PCR0", this)}, open, sealed, "", ""},
		{[]string{"Allow " + condition("Null", "PCR0", "true")}, open, shut, "", "document-unwanted"},
		{[]string{"Allow {}", "Deny " + condition("StringEquals", "PCR0", other)}, open, sealed, "", ""},

		// Closed by Null, in the same statement or in one of its own.
		{[]string{fmt.Sprintf(`Allow {"StringNotEquals":{"%[1]sPCR0":"%[2]s"},"Null":{"%[1]sPCR0":"false"}}`, attestationKey, other)}, shut, sealed, "no-recipient", ""},
		{[]string{"Allow " + condition("StringNotEquals", "PCR0", other), "Deny " + condition("Null", "PCR0", "true")}, shut, sealed, "no-recipient", ""},
		{[]string{"Allow " + condition("StringNotEquals", "PCR0", other), "Deny " + condition("Null", "ImageSha384", "true")}, shut, sealed, "no-recipient", ""},
		// A negated operator in a Deny needs no Null.
		{[]string{"Allow {}", "Deny " + condition("StringNotEqualsIgnoreCase", "PCR0", this)}, shut, sealed, "no-recipient", ""},
		{[]string{"Allow {}", "Deny " + condition("StringNotEqualsIgnoreCase", "PCR0", other)}, shut, shut, "no-recipient", "other-image"},
	} {
		t.Run(strings.Join(c.statements, "; "), func(t *testing.T) {
			out, err := s.decryptUnder(nil, c.statements...)
			if c.without == shut {
				s.wantDenied(t, err, c.finding)
			} else if err != nil || string(out.Plaintext) != "the secret" || out.CiphertextForRecipient != nil {
				t.Errorf("without a Recipient: %v", err)
			}
			out, err = s.decryptUnder(doc, c.statements...)
			if c.withDocument == shut {
				s.wantDenied(t, err, c.withFinding)
			} else if err != nil || out.Plaintext != nil || out.CiphertextForRecipient == nil {
				t.Errorf("with a document: %v", err)
			}
		})
	}
}

// Values are 96 lower-case hexadecimal digits: an operator that regards case wants
// them so.
func TestLetterCase(t *testing.T) {
	s := newService(t)
	e := boot(t, recipe{application: "a"}.build(t), samplePlace)
	set := e.module.PCRs()
	doc := recipient(e.document())
	for _, k := range []struct {
		name  string
		index pcr.Index
	}{{"ImageSha384", 0}, {"PCR0", 0}, {"PCR2", 2}, {"PCR3", 3}} {
		digest, _ := set.Get(k.index)
		lower := digest.String()
		upper := strings.ToUpper(lower)
		mixed := strings.ToUpper(lower[:48]) + lower[48:]
		for _, c := range []struct{ operator, value, finding string }{
			{"StringEquals", lower, ""},
			{"StringEquals", upper, "letter-case"},
			{"StringEquals", mixed, "letter-case"},
			{"StringLike", lower[:40] + "*", ""},
			{"StringLike", upper, "letter-case"},
			{"StringEqualsIgnoreCase", lower, ""},
			{"StringEqualsIgnoreCase", upper, ""},
			{"StringEqualsIgnoreCase", mixed, ""},
		} {
			_, err := s.decryptUnder(doc, "Allow "+condition(c.operator, k.name, c.value))
			if c.finding != "" {
				s.wantDenied(t, err, c.finding)
			} else if err != nil {
				t.Errorf("%s %s %s: %v", c.operator, k.name, c.value, err)
			}
		}
		// In a Deny it is the other way round: the wrong case shuts nobody out.
		if _, err := s.decryptUnder(doc, "Allow {}", "Deny "+condition("StringEquals", k.name, upper)); err != nil {
			t.Errorf("%s, Deny: %v", k.name, err)
		}
	}
}
