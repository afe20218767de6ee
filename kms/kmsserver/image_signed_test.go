// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"fmt"
	"testing"

	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
)

// signedPolicy lets a role in out of every image that is signed with one
// certificate, on every instance of that role: PCR3 and PCR8 (AWS Nitro Enclaves
// User Guide, "Where to get an enclave's measurements").
func signedPolicy(pcr3, pcr8 pcr.Digest) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Sid":"SignedImages","Effect":"Allow","Principal":{"AWS":"%s"},"Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"*",
		 "Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:PCR3":"%s","kms:RecipientAttestation:PCR8":"%s"}}},
		{"Sid":"Administration","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::%s:user/admin"},"Action":["kms:PutKeyPolicy","kms:GetKeyPolicy"],"Resource":"*"}]}`,
		sampleRole, pcr3, pcr8, sampleAccount)
}

// A policy on role and certificate outlives images and instances, and no more
// than that.
func TestSignedImages(t *testing.T) {
	for name, newSigner := range map[string]func(*testing.T) *imageSigner{
		"openssl": func(t *testing.T) *imageSigner { return opensslSigner(t) },
		"Go":      func(t *testing.T) *imageSigner { return goSigner(t, "signer", nil) },
	} {
		t.Run(name, func(t *testing.T) { testSignedImages(t, newSigner(t)) })
	}
}

func testSignedImages(t *testing.T, signer *imageSigner) {
	// The values come from the ARN and the certificate file, before there is any
	// image.
	pcr3, err := pcr.Role(sampleRole)
	if err != nil {
		t.Fatal(err)
	}
	pcr8, err := pcr.CertificatePEM(signer.certificate)
	if err != nil {
		t.Fatal(err)
	}
	s := newAccountService(t, sampleAccount)
	role := s.principal(kms.Role, "data-processing")
	keyARN, sealed := s.guardedKey(signedPolicy(pcr3, pcr8))
	calls := recipients(s, s.client(role, region), keyARN, sealed)
	first := recipe{application: "release 1", signer: signer}
	rebuilt := recipe{application: "release 2", kernel: "2", signer: signer}
	otherInstance := place{role: sampleRole, instance: "i-0fedcba9876543210"}
	differFrom(t, boot(t, first.build(t), samplePlace), boot(t, rebuilt.build(t), otherInstance), 0, 1, 2, 4)
	for _, c := range []struct {
		name, finding string // no finding: allowed
		recipe        recipe
		at            place
	}{
		{"the image", "", first, samplePlace},
		{"rebuilt and signed again", "", rebuilt, samplePlace},
		{"on another instance", "", first, otherInstance},
		{"rebuilt, on another instance", "", rebuilt, otherInstance},
		{"another role", "other-pcr3", first, place{role: sampleRole + "-2", instance: sampleInstance}},
		{"another account's role", "other-pcr3", first, place{role: "arn:aws:iam::111122223333:role/data-processing", instance: sampleInstance}},
		{"another certificate", "other-pcr8", recipe{application: "release 1", signer: goSigner(t, "signer", nil)}, samplePlace},
		{"renewed certificate of the same key", "other-pcr8", recipe{application: "release 1", signer: goSigner(t, "signer", signer.key)}, samplePlace},
		{"unsigned", "other-pcr8", recipe{application: "release 1"}, samplePlace},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := recipient(boot(t, c.recipe.build(t), c.at).document())
			for _, operation := range []string{"Decrypt", "GenerateDataKey"} {
				envelope, plaintext, _, err := calls[operation](doc)
				if c.finding != "" {
					s.wantDenied(t, err, c.finding)
					continue
				}
				if err != nil || plaintext != nil {
					t.Errorf("%s: plaintext %x, %v", operation, plaintext, err)
					continue
				}
				if content, err := cms.Open(recipientKey(), envelope); err != nil || operation == "Decrypt" && string(content) != "the secret" {
					t.Errorf("%s: %q, %v", operation, content, err)
				}
			}
		})
	}
	t.Run("no Recipient", func(t *testing.T) {
		for _, operation := range []string{"Decrypt", "GenerateDataKey"} {
			_, _, _, err := calls[operation](nil)
			s.wantDenied(t, err, "no-recipient")
		}
	})
	// A debug enclave's PCR8 is zero, its PCR3 is not.
	t.Run("debug mode", func(t *testing.T) {
		doc := recipient(boot(t, first.build(t), place{role: sampleRole, instance: sampleInstance, debug: true}).document())
		for _, operation := range []string{"Decrypt", "GenerateDataKey"} {
			_, _, _, err := calls[operation](doc)
			s.wantDenied(t, err, "debug-document")
			_, _, _, decision := refused(t, err)
			event, err := s.kms.Explain(t.Context(), decision)
			if err != nil {
				t.Fatal(err)
			}
			if event.Decision == nil || event.Decision.Allowed || !event.Additional.Recipient.Debug {
				t.Errorf("%s: %+v", operation, event)
			}
		}
	})
}

// differFrom fails unless exactly those registers of two enclaves differ.
func differFrom(t *testing.T, a, b *runningEnclave, want ...pcr.Index) {
	t.Helper()
	setA, setB := a.module.PCRs(), b.module.PCRs()
	var got []pcr.Index
	for _, d := range pcr.Compare(&setA, &setB) {
		got = append(got, d.Index)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("%v differ, want %v", got, want)
	}
}

// A policy on the role alone is no policy on the image: it lets in whatever the
// role starts, and only this server's own rule keeps debug mode out.
func TestRoleAloneIsNoImage(t *testing.T) {
	s := newAccountService(t, sampleAccount)
	role := s.principal(kms.Role, "data-processing")
	pcr3, err := pcr.Role(sampleRole)
	if err != nil {
		t.Fatal(err)
	}
	keyARN, sealed := s.guardedKey(fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"%s"},
		"Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"*","Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:PCR3":"%s"}}}}`, sampleRole, pcr3))
	calls := recipients(s, s.client(role, region), keyARN, sealed)
	image := recipe{application: "anything"}.build(t)
	for _, operation := range []string{"Decrypt", "GenerateDataKey"} {
		if _, _, _, err := calls[operation](recipient(boot(t, image, samplePlace).document())); err != nil {
			t.Errorf("%s: %v", operation, err)
		}
		_, _, _, err := calls[operation](nil)
		s.wantDenied(t, err, "no-recipient")
		_, _, _, err = calls[operation](recipient(boot(t, image, place{role: sampleRole, instance: sampleInstance, debug: true}).document()))
		if err == nil {
			t.Errorf("%s: a debug document was served", operation)
			continue
		}
		_, _, _, decision := refused(t, err)
		event, err := s.kms.Explain(t.Context(), decision)
		if err != nil {
			t.Fatal(err)
		}
		if !event.Decision.Allowed || len(event.Problems) != 1 || event.Problems[0].Rule != "expect.debug" {
			t.Errorf("%s: %+v", operation, event)
		}
	}
}
