// SPDX-License-Identifier: Apache-2.0

// Package nsmtest is the conformance suite for modules: what the Nitro Security
// Module does, asked through an [nsm.Device]. Every implementation of that
// interface in this module passes it.
package nsmtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/pcr"
)

// bootPCRs is the number of registers that are locked at boot.
const bootPCRs = 16

// Options say what is known of the module under test.
type Options struct {
	// Verifier verifies the documents. Nil: they are only parsed.
	Verifier *attestation.Verifier
	// PCRs are values of registers 0 to 15 at boot. Those absent are not compared.
	PCRs pcr.Set
}

// TestDevice runs the suite. For each part newDevice returns a device of a
// module that has just booted; the suite closes it. As registers cannot be
// unlocked, a module in hardware passes only part by part (go test -run), each
// after a boot.
func TestDevice(t *testing.T, newDevice func(t *testing.T) nsm.Device, options Options) {
	parts := []struct {
		name string
		run  func(s *suite, t *testing.T)
	}{
		{"DescribeNSM", (*suite).describeNSM},
		{"Boot", (*suite).boot},
		{"Extend", (*suite).extend},
		{"Lock", (*suite).lock},
		{"LockBelow", (*suite).lockBelow},
		{"Random", (*suite).random},
		{"Bytes", (*suite).bytes},
		{"Wild", (*suite).wild},
		{"Hostile", (*suite).hostile},
		{"Attestation", (*suite).attestation},
		{"AttestationRegisters", (*suite).attestationRegisters},
		{"Concurrent", (*suite).concurrent},
		{"Context", (*suite).context},
		{"Close", (*suite).close},
	}
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) {
			device := newDevice(t)
			part.run(&suite{Client: nsm.Client{Device: device}, ctx: t.Context(), options: options}, t)
			if err := device.Close(); err != nil && part.name != "Close" {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

type suite struct {
	nsm.Client
	ctx     context.Context
	options Options
}

// send is a request by its bytes, given in hexadecimal.
func (s *suite) send(t *testing.T, request string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.Device.Send(s.ctx, raw)
	if err != nil {
		t.Fatalf("%.60s…: %v", request, err)
	}
	return response
}

// refuses fails unless err is the module's refusal with that code.
func refuses(t *testing.T, what string, err error, want nsm.ErrorCode) {
	t.Helper()
	if code, ok := errors.AsType[nsm.ErrorCode](err); !ok || code != want {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// value reads one register.
func (s *suite) value(t *testing.T, i pcr.Index) nsm.PCRState {
	t.Helper()
	state, err := s.DescribePCR(s.ctx, i)
	if err != nil {
		t.Fatalf("DescribePCR: %v", err)
	}
	return state
}

// all reads all registers.
func (s *suite) all(t *testing.T) (states [pcr.Count]nsm.PCRState) {
	t.Helper()
	for i := range states {
		states[i] = s.value(t, pcr.Index(i))
	}
	return states
}

func (s *suite) lockedNow(t *testing.T) int {
	t.Helper()
	d, err := s.DescribeNSM(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, index := range d.LockedPCRs {
		if !s.value(t, index).Locked {
			t.Errorf("locked_pcrs[%d] is %v, which is not locked", i, index)
		}
	}
	return len(d.LockedPCRs)
}

func (s *suite) describeNSM(t *testing.T) {
	d, err := s.DescribeNSM(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d.VersionMajor != 1 || d.VersionMinor != 0 || d.VersionPatch != 0 {
		t.Errorf("version %d.%d.%d, want 1.0.0", d.VersionMajor, d.VersionMinor, d.VersionPatch)
	}
	if d.MaxPCRs != pcr.Count || d.Digest != "SHA384" {
		t.Errorf("%d registers of %s, want 32 of SHA384", d.MaxPCRs, d.Digest)
	}
	if len(d.LockedPCRs) != bootPCRs || d.LockedPCRs[0] != 0 || d.LockedPCRs[bootPCRs-1] != bootPCRs-1 {
		t.Errorf("locked at boot: %v, want 0 to 15", d.LockedPCRs)
	}
	if !strings.HasPrefix(d.ModuleID, "i-") || !strings.Contains(d.ModuleID, "-enc") {
		t.Errorf("module_id %q, want i-…-enc…", d.ModuleID)
	}
	again, err := s.DescribeNSM(s.ctx)
	if err != nil || again.ModuleID != d.ModuleID {
		t.Errorf("module_id changes: %q, %v", again.ModuleID, err)
	}
}

func (s *suite) boot(t *testing.T) {
	for i, state := range s.all(t) {
		want, known := s.options.PCRs.Get(pcr.Index(i))
		switch {
		case state.Locked != (i < bootPCRs):
			t.Errorf("PCR%d: locked %v", i, state.Locked)
		case i >= bootPCRs && !state.Value.IsZero():
			t.Errorf("PCR%d is %v, want zero", i, state.Value)
		case known && state.Value != want:
			t.Errorf("PCR%d is %v, want %v", i, state.Value, want)
		}
	}
	for _, i := range []pcr.Index{32, 33, 128, 255} {
		_, err := s.DescribePCR(s.ctx, i)
		refuses(t, "DescribePCR of "+i.String(), err, nsm.InvalidIndex)
	}
}

func (s *suite) extend(t *testing.T) {
	before := s.all(t)
	want := pcr.Digest{}
	for _, length := range []int{48, 0, 1, 47, 49, 100, 1024, 4000} {
		data := bytes.Repeat([]byte{byte(length)}, length)
		want = want.Extend(data)
		got, err := s.ExtendPCR(s.ctx, 16, data)
		if err != nil || got != want {
			t.Errorf("extended by %d bytes: %v, %v, want %v", length, got, err, want)
		}
		if state := s.value(t, 16); state.Locked || state.Value != want {
			t.Errorf("described after %d bytes: %+v, want %v", length, state, want)
		}
	}
	if got, err := s.ExtendPCR(s.ctx, 31, []byte("x")); err != nil || got != (pcr.Digest{}).Extend([]byte("x")) {
		t.Errorf("the last register: %v, %v", got, err)
	}
	for i := range pcr.Index(bootPCRs) {
		_, err := s.ExtendPCR(s.ctx, i, []byte{1})
		refuses(t, "ExtendPCR of "+i.String(), err, nsm.ReadOnlyIndex)
	}
	for _, i := range []pcr.Index{32, 255} {
		_, err := s.ExtendPCR(s.ctx, i, []byte{1})
		refuses(t, "ExtendPCR of "+i.String(), err, nsm.InvalidIndex)
	}
	_, err := s.ExtendPCR(s.ctx, 17, make([]byte, nsm.MaxRequest))
	refuses(t, "ExtendPCR by 4096 bytes", err, nsm.InputTooLarge)
	after := s.all(t)
	before[16], before[31] = after[16], after[31]
	if after != before {
		t.Error("other registers have changed")
	}
}

func (s *suite) lock(t *testing.T) {
	value, err := s.ExtendPCR(s.ctx, 20, []byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.LockPCR(s.ctx, 20); err != nil {
		t.Fatalf("LockPCR: %v", err)
	}
	refuses(t, "LockPCR once more", s.LockPCR(s.ctx, 20), nsm.ReadOnlyIndex)
	_, err = s.ExtendPCR(s.ctx, 20, []byte("after"))
	refuses(t, "ExtendPCR of a locked register", err, nsm.ReadOnlyIndex)
	if state := s.value(t, 20); !state.Locked || state.Value != value {
		t.Errorf("after locking: %+v, want %v", state, value)
	}
	for _, i := range []pcr.Index{19, 21} {
		if s.value(t, i).Locked {
			t.Errorf("%v is locked too", i)
		}
	}
	for i := range pcr.Index(bootPCRs) {
		refuses(t, "LockPCR of "+i.String(), s.LockPCR(s.ctx, i), nsm.ReadOnlyIndex)
	}
	for _, i := range []pcr.Index{32, 255} {
		refuses(t, "LockPCR of "+i.String(), s.LockPCR(s.ctx, i), nsm.InvalidIndex)
	}
	if n := s.lockedNow(t); n != bootPCRs+1 {
		t.Errorf("%d registers are locked", n)
	}
}

func (s *suite) lockBelow(t *testing.T) {
	for _, n := range []uint16{33, 255, 65535} {
		refuses(t, "LockPCRs over the end", s.LockPCRs(s.ctx, n), nsm.InvalidIndex)
	}
	if n := s.lockedNow(t); n != bootPCRs {
		t.Errorf("a refused LockPCRs locked: %d", n)
	}
	for _, step := range []struct {
		below uint16
		want  int
	}{{0, 16}, {1, 16}, {16, 16}, {17, 17}, {20, 20}, {20, 20}, {5, 20}, {32, 32}, {32, 32}} {
		if err := s.LockPCRs(s.ctx, step.below); err != nil {
			t.Errorf("LockPCRs below %d: %v", step.below, err)
		}
		if n := s.lockedNow(t); n != step.want {
			t.Errorf("after LockPCRs below %d: %d locked, want %d", step.below, n, step.want)
		}
	}
	_, err := s.ExtendPCR(s.ctx, 31, []byte{1})
	refuses(t, "ExtendPCR after all is locked", err, nsm.ReadOnlyIndex)
}

func (s *suite) random(t *testing.T) {
	seen := make(map[string]bool)
	for range 10 {
		b, err := s.Random(s.ctx)
		if err != nil || len(b) != nsm.RandomSize {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if seen[string(b)] || bytes.Equal(b, make([]byte, len(b))) || bytes.Equal(b[:128], b[128:]) {
			t.Errorf("this is not random: %x", b)
		}
		seen[string(b)] = true
	}
}

func (s *suite) context(t *testing.T) {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if _, err := s.Client.Random(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	if _, err := s.Random(s.ctx); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func (s *suite) close(t *testing.T) {
	if err := s.Device.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := s.Random(s.ctx); err == nil {
		t.Error("a closed device answers")
	}
}
