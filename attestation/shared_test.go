// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/reason"
)

const sharedDir = "../../shared/testdata/attestation"

// readShared reads a file of the test data that is kept beside the checkout.
// Without it the test is left, and one line says so.
func readShared(t testing.TB, name string) []byte {
	t.Helper()
	if _, err := os.Stat(sharedDir); err != nil {
		t.Skip("shared test data not present")
	}
	data, err := os.ReadFile(filepath.Join(sharedDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type genuineItem struct {
	File      string
	Evidence  string
	Debug     bool
	KnownBad  bool   `json:"known_bad"`
	ModuleID  string `json:"module_id"`
	Timestamp int64
	PCRs      map[string]string
	Payload   string `json:"payload_map"`
	PCRCount  int    `json:"pcr_count"`
	PublicKey *int   `json:"public_key_len"`
	UserData  *int   `json:"user_data_len"`
	Nonce     *int   `json:"nonce_len"`
}

func readIndex(t testing.TB) (genuine, bad []genuineItem) {
	t.Helper()
	var index struct{ Items []genuineItem }
	if err := json.Unmarshal(readShared(t, "index.json"), &index); err != nil {
		t.Fatal(err)
	}
	for _, item := range index.Items {
		if item.KnownBad {
			bad = append(bad, item)
		} else {
			genuine = append(genuine, item)
		}
	}
	if len(genuine) != 46 || len(bad) != 6 {
		t.Fatalf("%d genuine and %d bad documents, want 46 and 6", len(genuine), len(bad))
	}
	return genuine, bad
}

func newVerifier(t testing.TB, o attestation.VerifierOptions) *attestation.Verifier {
	t.Helper()
	v, err := attestation.NewVerifier(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var archive = attestation.Expectation{AllowAnyImage: true, AllowAnyKind: true, AllowDebug: true, AllowDocumentTime: true}

func TestGenuineDocuments(t *testing.T) {
	genuine, bad := readIndex(t)
	v := newVerifier(t, attestation.VerifierOptions{})
	debug, tpm := 0, 0
	for _, item := range genuine {
		document := readShared(t, item.File)
		d, err := v.Verify(document, archive)
		if err != nil {
			t.Errorf("%s: %v", item.File, err)
			continue
		}
		checkGenuine(t, item, d)
		strict := archive
		strict.AllowAnyKind, strict.AllowDebug = false, false
		_, err = v.Verify(document, strict)
		switch {
		case item.Debug:
			debug++
			wantRules(t, item.File, err, "expect.debug")
		case item.Evidence == "nitrotpm":
			tpm++
			wantRules(t, item.File, err, "expect.kind")
		case err != nil:
			t.Errorf("%s: refused without the flags it does not need: %v", item.File, err)
		}
		now := archive
		now.AllowDocumentTime = false
		if _, err := v.Verify(document, now); err == nil {
			t.Errorf("%s: accepted today", item.File)
		}
	}
	if debug != 18 || tpm != 1 {
		t.Errorf("%d debug and %d NitroTPM documents, want 18 and 1", debug, tpm)
	}
	for _, item := range bad {
		if d, err := v.Verify(readShared(t, item.File), archive); err == nil || d != nil {
			t.Errorf("%s: accepted", item.File)
		} else {
			t.Logf("%s: %v", item.File, err)
		}
	}
}

func checkGenuine(t *testing.T, item genuineItem, d *attestation.Document) {
	t.Helper()
	if d.Trust != attestation.TrustAWS || d.Emulated || len(d.Chain) != 5 || d.Digest != "SHA384" {
		t.Errorf("%s: trust %v, emulated %v, %d certificates", item.File, d.Trust, d.Emulated, len(d.Chain))
	}
	if d.Kind.String() != item.Evidence || d.Debug != item.Debug || d.ModuleID != item.ModuleID {
		t.Errorf("%s: kind %v, debug %v, module %s", item.File, d.Kind, d.Debug, d.ModuleID)
	}
	if !d.Timestamp.Equal(time.UnixMilli(item.Timestamp)) || d.PCRs.Len() != item.PCRCount {
		t.Errorf("%s: timestamp %v, %d registers", item.File, d.Timestamp, d.PCRs.Len())
	}
	for i, value := range d.PCRs.All() {
		want := item.PCRs[strings.TrimPrefix(i.String(), "PCR")]
		if got := value.String(); got != want && !(want == "" && value.IsZero()) {
			t.Errorf("%s: %v is %s, want %s", item.File, i, got, want)
		}
	}
	for name, field := range map[string]struct {
		got  []byte
		want *int
	}{"public_key": {d.PublicKey, item.PublicKey}, "user_data": {d.UserData, item.UserData}, "nonce": {d.Nonce, item.Nonce}} {
		if (field.got == nil) != (field.want == nil) || field.want != nil && len(field.got) != *field.want {
			t.Errorf("%s: %s has %d bytes, nil %v", item.File, name, len(field.got), field.got == nil)
		}
	}
}

// wantRules checks that err has problems of exactly these rules, each at least
// once.
func wantRules(t testing.TB, what string, err error, rules ...string) {
	t.Helper()
	got := map[string]bool{}
	if e, ok := err.(*reason.Error); ok {
		for _, p := range e.Problems {
			got[p.Rule] = true
		}
	}
	want := map[string]bool{}
	for _, rule := range rules {
		want[rule] = true
		if !got[rule] {
			t.Errorf("%s: no problem of rule %s in %v", what, rule, err)
		}
	}
	for rule := range got {
		if !want[rule] {
			t.Errorf("%s: rule %s was not expected: %v", what, rule, err)
		}
	}
}

func TestVectors(t *testing.T) {
	var index struct {
		Mutation  int64  `json:"mutation_clock_unix"`
		Synthetic int64  `json:"synthetic_clock_unix"`
		Root      string `json:"synthetic_root"`
		Items     []struct{ File, Kind, Expected, Why string }
	}
	if err := json.Unmarshal(readShared(t, "vectors/index.json"), &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Items) != 84 {
		t.Fatalf("%d vectors, want 84", len(index.Items))
	}
	roots, err := attestation.ParseRoots(readShared(t, "vectors/"+index.Root))
	if err != nil {
		t.Fatal(err)
	}
	aws, synthetic := newVerifier(t, attestation.VerifierOptions{}), newVerifier(t, attestation.VerifierOptions{Roots: roots})
	for _, item := range index.Items {
		v, at := aws, index.Mutation
		if item.Kind != "mutation" {
			v, at = synthetic, index.Synthetic
		}
		document := readShared(t, "vectors/"+item.File)
		e := attestation.Expectation{AllowAnyImage: true, Time: time.Unix(at, 0)}
		_, err := v.Verify(document, e)
		accepted := err == nil
		want := strings.HasPrefix(item.Expected, "accept")
		if accepted != want {
			t.Errorf("%s: accepted %v, wanted %s (%s): %v", item.File, accepted, item.Expected, item.Why, err)
		}
		if err != nil {
			t.Logf("%s: %v", item.File, err)
		}
		e.AllowDebug, e.AllowAnyKind = true, true
		_, err = v.Verify(document, e)
		if want := want || item.Expected == "flag" || item.Expected == "reject-for-enclave"; (err == nil) != want {
			t.Errorf("%s: with debug and any kind allowed: %v", item.File, err)
		}
	}
}
