// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
)

// lastEvent is the newest record about an operation, as it is in the file.
func (s *service) lastEvent(t *testing.T, operation string) (event map[string]any) {
	t.Helper()
	lines := s.events(operation)
	if len(lines) == 0 {
		t.Fatalf("no event of %s", operation)
	}
	var line struct{ Event map[string]any }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		t.Fatal(err)
	}
	return line.Event
}

// recipientOf returns the member of an event that tells of the document, nil if
// there is none.
func recipientOf(event map[string]any) map[string]any {
	additional, _ := event["additionalEventData"].(map[string]any)
	r, _ := additional["recipient"].(map[string]any)
	return r
}

// cloudTrail keeps the members whose names CloudTrail has.
func cloudTrail(recipient map[string]any) map[string]any {
	out := maps.Clone(recipient)
	maps.DeleteFunc(out, func(name string, _ any) bool { return !strings.HasPrefix(name, "attestationDocument") })
	return out
}

// The record of an enclave's request has the members of CloudTrail's (AWS KMS
// Developer Guide, "Monitoring requests for Nitro enclaves"), whether it was
// allowed or denied.
func TestAuditOfEnclave(t *testing.T) {
	s := newSample(t, randomPolicy)
	enclave := boot(t, s.image, samplePlace)
	set := enclave.module.PCRs()
	want := map[string]any{"attestationDocumentModuleId": enclave.module.ModuleID()}
	for member, i := range map[string]pcr.Index{"ImageDigest": 0, "PCR1": 1, "PCR2": 2, "PCR3": 3, "PCR4": 4, "PCR8": 8} {
		digest, _ := set.Get(i)
		want["attestationDocumentEnclave"+member] = digest.String()
	}
	for operation, call := range s.calls() {
		if _, _, _, err := call(recipient(enclave.document())); err != nil {
			t.Fatalf("%s: %v", operation, err)
		}
		event := s.lastEvent(t, operation)
		if got := cloudTrail(recipientOf(event)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s:\n got %v\nwant %v", operation, got, want)
		}
		r := recipientOf(event)
		if registers, _ := r["registers"].(map[string]any); len(registers) != 16 || r["kind"] != attestation.KindEnclave.String() || r["debug"] != false || r["emulated"] != true {
			t.Errorf("%s: %v", operation, r)
		}
		if event["outcome"] != kms.Allowed || event["eventSource"] != "kms.amazonaws.com" {
			t.Errorf("%s: %v", operation, event)
		}
		text, _ := json.Marshal(event)
		if regexp.MustCompile(`(?i)"(plaintext|ciphertext|ciphertextblob|ciphertextforrecipient|attestationdocument)"`).Match(text) {
			t.Errorf("%s: contents in the event: %s", operation, text)
		}
	}
	// Denied and in debug mode: what the document says, not what was wanted.
	debug := boot(t, s.image, place{role: sampleRole, instance: "i-0fedcba9876543210", debug: true})
	_, _, _, err := s.calls()["Decrypt"](recipient(debug.document()))
	wantCode(t, err, "AccessDeniedException")
	zeros := strings.Repeat("0", 96)
	r := recipientOf(s.lastEvent(t, "Decrypt"))
	for member, want := range map[string]any{
		"attestationDocumentModuleId": debug.module.ModuleID(), "attestationDocumentEnclaveImageDigest": zeros,
		"attestationDocumentEnclavePCR1": zeros, "attestationDocumentEnclavePCR2": zeros, "attestationDocumentEnclavePCR8": zeros,
		"attestationDocumentEnclavePCR3": want["attestationDocumentEnclavePCR3"], "debug": true,
	} {
		if r[member] != want {
			t.Errorf("debug mode, %s: %v, want %v", member, r[member], want)
		}
	}
	if r["attestationDocumentEnclavePCR4"] == want["attestationDocumentEnclavePCR4"] || !strings.HasPrefix(debug.module.ModuleID(), "i-0fedcba9876543210-enc") {
		t.Errorf("another instance has the same PCR4: %v", r)
	}
	// No document, no recipient; nor from one that is not genuine.
	for _, bad := range []*types.RecipientInfo{nil, recipient([]byte("hello")), badRecipients(t)["foreign root"]} {
		if _, _, _, err := s.calls()["Decrypt"](bad); err == nil {
			t.Fatal("allowed")
		}
		if event := s.lastEvent(t, "Decrypt"); recipientOf(event) != nil {
			t.Errorf("recipient of no document: %v", event)
		}
	}
}

// A register that is locked above 15 is on record with the others.
func TestAuditOfLockedRegister(t *testing.T) {
	s := newSample(t, randomPolicy)
	if _, _, _, err := s.calls()["GenerateRandom"](recipient(lockedEnclave(t).document())); err != nil {
		t.Fatal(err)
	}
	registers, _ := recipientOf(s.lastEvent(t, "GenerateRandom"))["registers"].(map[string]any)
	zero := pcr.Digest{}
	if len(registers) != 18 || registers["PCR16"] != zero.Extend([]byte("configuration")).String() || registers["PCR20"] != zero.String() {
		t.Errorf("%v", registers)
	}
}

// The record of a NitroTPM's request has its own members, never an enclave's, and
// all its registers.
func TestAuditOfNitroTPM(t *testing.T) {
	s := newService(t)
	user := s.principal(kms.User, "tpm", randomPolicy)
	var moduleID string
	doc := document(t, func(c *issuer.Content) {
		moduleID = strings.Replace(c.ModuleID, "-enc", "-tpm", 1)
		c.Kind, c.ModuleID, c.PCRs = attestation.KindNitroTPM, moduleID, pcr.Set{}
		for _, i := range []pcr.Index{0, 1, 4, 7, 8, 9, 16, 23} {
			c.PCRs.Put(i, fill(0x40+byte(i)))
		}
	})
	if _, _, _, err := recipients(s, s.client(user, region), "", nil)["GenerateRandom"](recipient(doc)); err != nil {
		t.Fatal(err)
	}
	r := recipientOf(s.lastEvent(t, "GenerateRandom"))
	if r["attestationDocumentModuleId"] != moduleID || r["kind"] != attestation.KindNitroTPM.String() || r["debug"] != false {
		t.Errorf("%v", r)
	}
	// The members of AWS's sample (AWS KMS Developer Guide, "Monitoring requests for
	// NitroTPM").
	want := map[string]any{"attestationDocumentModuleId": moduleID}
	for _, i := range []byte{4, 7, 8, 9, 16, 23} {
		want[fmt.Sprint("attestationDocumentNitroTPMPCR", i)] = fill(0x40 + i).String()
	}
	if got := cloudTrail(r); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("\n got %v\nwant %v", got, want)
	}
	registers, _ := r["registers"].(map[string]any)
	if len(registers) != 8 {
		t.Errorf("%d registers", len(registers))
	}
	for _, i := range []byte{0, 1, 4, 7, 8, 9, 16, 23} {
		if want := fill(0x40 + i); registers[fmt.Sprint("PCR", i)] != want.String() {
			t.Errorf("PCR%d: %v", i, registers[fmt.Sprint("PCR", i)])
		}
	}
}
