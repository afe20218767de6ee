// SPDX-License-Identifier: Apache-2.0

package softnsm_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/nsmtest"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
)

func newAuthority(t testing.TB) *issuer.Authority {
	t.Helper()
	a, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func newVerifier(t testing.TB, a *issuer.Authority) *attestation.Verifier {
	t.Helper()
	v, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{a.Root()}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// bootValues are registers as an image, a role and an instance make them.
func bootValues(t testing.TB) pcr.Set {
	t.Helper()
	var set pcr.Set
	for _, i := range []pcr.Index{0, 1, 2, 8} {
		set.Put(i, pcr.Measured(pcr.Sum([]byte{byte(i)})))
	}
	role, err := pcr.Role("arn:aws:iam::123456789012:role/Webserver")
	if err != nil {
		t.Fatal(err)
	}
	instance, err := pcr.Instance("i-1234567890abcdef0")
	if err != nil {
		t.Fatal(err)
	}
	set.Put(3, role)
	set.Put(4, instance)
	return set
}

func newModule(t testing.TB, config softnsm.Config) *softnsm.Module {
	t.Helper()
	m, err := softnsm.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestConformance runs the suite on modules called directly, with both forms of
// documents, in debug mode and with every register given.
func TestConformance(t *testing.T) {
	authority := newAuthority(t)
	values := bootValues(t)
	for i := range pcr.Index(16) {
		if _, given := values.Get(i); !given {
			values.Put(i, pcr.Digest{})
		}
	}
	debug := values
	for _, i := range []pcr.Index{0, 1, 2, 8} {
		debug.Put(i, pcr.Digest{})
	}
	tests := []struct {
		name   string
		config softnsm.Config
		boot   pcr.Set
	}{
		{"definite", softnsm.Config{PCRs: values}, values},
		{"indefinite", softnsm.Config{PCRs: values, IndefiniteMap: true}, values},
		{"debug", softnsm.Config{PCRs: values, Debug: true}, debug},
		{"sparse", softnsm.Config{PCRs: bootValues(t)}, values},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := test.config
			config.Authority = authority
			nsmtest.TestDevice(t, func(t *testing.T) nsm.Device { return newModule(t, config) },
				nsmtest.Options{Verifier: newVerifier(t, authority), PCRs: test.boot})
		})
	}
}

// TestDocument looks at one document with everything in it.
func TestDocument(t *testing.T) {
	now := time.Date(2026, 11, 20, 18, 0, 0, 123_000_000, time.UTC)
	authority, err := issuer.New(issuer.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := attestation.NewVerifier(attestation.VerifierOptions{
		Roots: []*x509.Certificate{authority.Root()}, Now: func() time.Time { return now.Add(time.Minute) }})
	if err != nil {
		t.Fatal(err)
	}
	values := bootValues(t)
	for _, indefinite := range []bool{false, true} {
		id := issuer.NewModuleID("i-1234567890abcdef0", now, nil)
		m := newModule(t, softnsm.Config{Authority: authority, ModuleID: id, PCRs: values,
			IndefiniteMap: indefinite, Now: func() time.Time { return now }})
		document, err := nsm.Client{Device: m}.Attest(t.Context(), nsm.AttestationRequest{Nonce: []byte("n"), UserData: []byte{}})
		if err != nil {
			t.Fatal(err)
		}
		// 84 44 a1013822 a0 59 LLLL, then the payload's map.
		if wantByte := map[bool]byte{false: 0xa9, true: 0xbf}[indefinite]; document[10] != wantByte {
			t.Errorf("the payload starts %02x, want %02x", document[10], wantByte)
		}
		d, err := verifier.Verify(document, attestation.Expectation{PCRs: values, Nonce: []byte("n"), UserData: []byte{}})
		if err != nil {
			t.Fatal(err)
		}
		if d.ModuleID != id || !d.Timestamp.Equal(now) || !d.Emulated || d.Debug || d.PublicKey != nil ||
			d.Kind != attestation.KindEnclave || d.PCRs != m.PCRs() || len(d.Chain) != 5 {
			t.Errorf("got %+v", d)
		}
	}
}

// TestNotAWS: without the authority's root nothing verifies.
func TestNotAWS(t *testing.T) {
	m := newModule(t, softnsm.Config{Authority: newAuthority(t)})
	document, err := nsm.Client{Device: m}.Attest(t.Context(), nsm.AttestationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := attestation.NewVerifier(attestation.VerifierOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(document, attestation.Expectation{AllowAnyImage: true, AllowDebug: true}); err == nil {
		t.Error("verified under AWS's roots")
	}
}

// TestDebug: registers 0, 1, 2 and 8 are zero, the parent's are not.
func TestDebug(t *testing.T) {
	authority := newAuthority(t)
	values := bootValues(t)
	values.Put(5, pcr.Sum(nil))
	m := newModule(t, softnsm.Config{Authority: authority, PCRs: values, Debug: true})
	document, err := nsm.Client{Device: m}.Attest(t.Context(), nsm.AttestationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := newVerifier(t, authority).Verify(document, attestation.Expectation{AllowAnyImage: true, AllowDebug: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range d.PCRs.All() {
		want, _ := values.Get(i)
		if i <= 2 || i == 8 {
			want = pcr.Digest{}
		}
		if got != want {
			t.Errorf("%v is %v, want %v", i, got, want)
		}
	}
	if !d.Debug {
		t.Error("the document is not one of debug mode")
	}
}

func TestModuleID(t *testing.T) {
	authority := newAuthority(t)
	shape := regexp.MustCompile(`^i-[0-9a-f]{17}-enc[0-9a-f]{16}$`)
	a, b := newModule(t, softnsm.Config{Authority: authority}), newModule(t, softnsm.Config{Authority: authority})
	if !shape.MatchString(a.ModuleID()) || a.ModuleID() == b.ModuleID() {
		t.Errorf("made up %q and %q", a.ModuleID(), b.ModuleID())
	}
	id := issuer.NewModuleID("i-1234567890abcdef0", time.Now(), nil)
	m := newModule(t, softnsm.Config{Authority: authority, ModuleID: id})
	if d, err := (nsm.Client{Device: m}).DescribeNSM(t.Context()); err != nil || d.ModuleID != id {
		t.Errorf("got %+v, %v", d, err)
	}
}

// failing is a source of randomness that runs dry.
type failing struct{ left int }

func (f *failing) Read(p []byte) (int, error) {
	if f.left < len(p) {
		return 0, io.ErrUnexpectedEOF
	}
	f.left -= len(p)
	return len(p), nil
}

func TestNewRefuses(t *testing.T) {
	authority := newAuthority(t)
	var high pcr.Set
	high.Put(16, pcr.Digest{})
	tests := []struct {
		name   string
		config softnsm.Config
		want   string
	}{
		{"no authority", softnsm.Config{}, "no authority"},
		{"PCR16", softnsm.Config{Authority: authority, PCRs: high}, "PCR16"},
		{"module id", softnsm.Config{Authority: authority, ModuleID: "module"}, "module id"},
		{"no randomness", softnsm.Config{Authority: authority, Rand: &failing{}}, "randomness"},
		{"too little randomness", softnsm.Config{Authority: authority, Rand: &failing{left: 10}}, "randomness"},
		{"a clock before the root", softnsm.Config{Authority: authority, Now: func() time.Time { return time.Unix(1, 0) }}, "root"},
	}
	for _, test := range tests {
		if m, err := softnsm.New(test.config); m != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestRandomSource(t *testing.T) {
	m := newModule(t, softnsm.Config{Authority: newAuthority(t), Rand: &failing{left: 11 + 256}})
	client := nsm.Client{Device: m}
	if b, err := client.Random(t.Context()); err != nil || !bytes.Equal(b, make([]byte, 256)) {
		t.Errorf("got %x, %v", b, err)
	}
	if _, err := client.Random(t.Context()); !errors.Is(err, nsm.InternalError) {
		t.Errorf("dry: %v", err)
	}
	if _, err := client.DescribeNSM(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestClockFails: a clock outside the root's life is the module's failure, not
// the caller's.
func TestClockFails(t *testing.T) {
	now := time.Now()
	m := newModule(t, softnsm.Config{Authority: newAuthority(t), Now: func() time.Time { return now }})
	now = now.AddDate(40, 0, 0)
	if _, err := (nsm.Client{Device: m}).Attest(t.Context(), nsm.AttestationRequest{}); !errors.Is(err, nsm.InternalError) {
		t.Errorf("got %v", err)
	}
}

// TestPCRs: what the module says it would attest follows the locks.
func TestPCRs(t *testing.T) {
	m := newModule(t, softnsm.Config{Authority: newAuthority(t), PCRs: bootValues(t)})
	client := nsm.Client{Device: m}
	value, err := client.ExtendPCR(t.Context(), 17, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if set := m.PCRs(); set.Len() != 16 {
		t.Errorf("%d registers", set.Len())
	}
	if err := client.LockPCR(t.Context(), 17); err != nil {
		t.Fatal(err)
	}
	set := m.PCRs()
	if got, ok := set.Get(17); !ok || got != value || set.Len() != 17 {
		t.Errorf("PCR17 is %v, %v of %d", got, ok, set.Len())
	}
}

func TestClosed(t *testing.T) {
	m := newModule(t, softnsm.Config{Authority: newAuthority(t)})
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := m.Send(context.Background(), nsm.Request{Command: nsm.GetRandom}.Encode()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := m.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

func FuzzModule(f *testing.F) {
	authority := newAuthority(f)
	m := newModule(f, softnsm.Config{Authority: authority})
	for _, r := range []nsm.Request{
		{Command: nsm.DescribePCR, Index: 3}, {Command: nsm.ExtendPCR, Index: 20, Data: []byte{1}},
		{Command: nsm.LockPCR, Index: 31}, {Command: nsm.LockPCRs, Range: 17}, {Command: nsm.DescribeNSM},
		{Command: nsm.GetRandom}, {Command: nsm.Attestation},
	} {
		f.Add(r.Encode())
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		raw, err := m.Send(context.Background(), request)
		if err != nil {
			t.Fatal(err)
		}
		response, err := nsm.ParseResponse(raw)
		if err != nil || !bytes.Equal(response.Encode(), raw) {
			t.Fatalf("%x: %v", raw, err)
		}
		if state, err := (nsm.Client{Device: m}).DescribePCR(context.Background(), 0); err != nil || !state.Locked || !state.Value.IsZero() {
			t.Fatalf("PCR0 is %+v, %v", state, err)
		}
	})
}
