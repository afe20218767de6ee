// SPDX-License-Identifier: Apache-2.0

package nsmtest

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/pcr"
)

// content is what a document carries.
type content struct {
	moduleID                   string
	pcrs                       pcr.Set
	publicKey, userData, nonce []byte
}

// read verifies a document if the suite can, and returns its content.
func (s *suite) read(t *testing.T, document []byte) content {
	t.Helper()
	if s.options.Verifier == nil {
		u, err := attestation.Parse(document)
		if err != nil {
			t.Errorf("document: %v", err)
			return content{}
		}
		return content{u.UnverifiedModuleID(), u.UnverifiedPCRs(), u.UnverifiedPublicKey(), u.UnverifiedUserData(), u.UnverifiedNonce()}
	}
	d, err := s.options.Verifier.Verify(document, attestation.Expectation{AllowAnyImage: true, AllowDebug: true})
	if err != nil {
		t.Errorf("document: %v", err)
		return content{}
	}
	return content{d.ModuleID, d.PCRs, d.PublicKey, d.UserData, d.Nonce}
}

// same tells null, empty and other values apart.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// attestation asks for contents from nothing to all that a request has room for.
func (s *suite) attestation(t *testing.T) {
	d, err := s.DescribeNSM(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	fill := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	tests := []struct {
		name    string
		request nsm.AttestationRequest
	}{
		{"nothing", nsm.AttestationRequest{}},
		{"empty values", nsm.AttestationRequest{PublicKey: []byte{}, UserData: []byte{}, Nonce: []byte{}}},
		{"empty nonce only", nsm.AttestationRequest{Nonce: []byte{}}},
		{"each its own", nsm.AttestationRequest{PublicKey: []byte("key"), UserData: []byte("data"), Nonce: []byte("nonce")}},
		{"1024 each", nsm.AttestationRequest{PublicKey: fill(1, 1024), UserData: fill(2, 1024), Nonce: fill(3, 1024)}},
		{"nonce of 1025", nsm.AttestationRequest{Nonce: fill(3, 1025)}},
		{"user data of 4050", nsm.AttestationRequest{UserData: fill(2, 4050)}},
	}
	for _, test := range tests {
		document, err := s.Attest(s.ctx, test.request)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if start := hex.EncodeToString(document[:min(8, len(document))]); !strings.HasPrefix(start, "8444a1013822a059") {
			t.Errorf("%s: the document starts %s", test.name, start)
		}
		if len(test.request.Nonce) > 1024 || len(test.request.UserData) > 1024 {
			continue // the module must not refuse these, but a verifier may
		}
		got := s.read(t, document)
		if !same(got.publicKey, test.request.PublicKey) || !same(got.userData, test.request.UserData) || !same(got.nonce, test.request.Nonce) {
			t.Errorf("%s: the document carries %x, %x, %x", test.name, got.publicKey, got.userData, got.nonce)
		}
		if got.moduleID != d.ModuleID {
			t.Errorf("%s: module_id %q, want %q", test.name, got.moduleID, d.ModuleID)
		}
	}
	_, err = s.Attest(s.ctx, nsm.AttestationRequest{UserData: make([]byte, 4060)})
	refuses(t, "user data of 4060", err, nsm.InputTooLarge)
}

// attestationRegisters: a document carries the locked registers and no others.
func (s *suite) attestationRegisters(t *testing.T) {
	check := func(what string, want int) {
		t.Helper()
		document, err := s.Attest(s.ctx, nsm.AttestationRequest{})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		states, pcrs := s.all(t), s.read(t, document).pcrs
		if pcrs.Len() != want {
			t.Errorf("%s: %d registers, want %d", what, pcrs.Len(), want)
		}
		for i, state := range states {
			got, present := pcrs.Get(pcr.Index(i))
			if present != state.Locked || present && got != state.Value {
				t.Errorf("%s: PCR%d is %v (present %v) in the document, %+v in the module", what, i, got, present, state)
			}
		}
	}
	check("at boot", bootPCRs)
	if _, err := s.ExtendPCR(s.ctx, 16, []byte("x")); err != nil {
		t.Fatal(err)
	}
	check("PCR16 extended", bootPCRs)
	if err := s.LockPCR(s.ctx, 16); err != nil {
		t.Fatal(err)
	}
	check("PCR16 locked", bootPCRs+1)
	if err := s.LockPCR(s.ctx, 20); err != nil {
		t.Fatal(err)
	}
	check("PCR20 locked, 17 to 19 not", bootPCRs+2)
	if err := s.LockPCRs(s.ctx, pcr.Count); err != nil {
		t.Fatal(err)
	}
	check("all locked", pcr.Count)
}
