// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// An eifManifest lists the image files of the shared test data.
type eifManifest struct {
	ValidityClock time.Time `json:"validity_clock"`
	Files         []struct {
		File      string
		Verdict   string
		Reason    *reason.Reason
		PCRs      *pcr.Set
		Signature *struct {
			SignatureValid bool `json:"signature_valid"`
			PCR0Match      bool `json:"pcr0_match"`
		}
	}
}

func loadEIFManifest(t *testing.T) (string, eifManifest) {
	t.Helper()
	dir := need.SharedData(t, "eif")
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m eifManifest
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Files) < 20 {
		t.Fatalf("the manifest lists %d files", len(m.Files))
	}
	return dir, m
}

// cretulaAt runs the program at a time.
func cretulaAt(at time.Time, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Getenv: func(string) string { return "" }, Now: func() time.Time { return at }})
	return code, out.String(), errs.String()
}

// TestEIFManifest: describe, measure and reference end as the manifest says, with
// its registers or with none.
func TestEIFManifest(t *testing.T) {
	dir, m := loadEIFManifest(t)
	for _, f := range m.Files {
		want := 0
		if f.Verdict != "accept" {
			want = f.Reason.ExitCode()
		}
		path := filepath.Join(dir, filepath.FromSlash(f.File))
		for _, verb := range [][]string{{"describe"}, {"measure", "--json"}} {
			t.Run(f.File+"/"+verb[0], func(t *testing.T) {
				code, stdout, stderr := cretulaAt(m.ValidityClock, append(append([]string{"eif"}, verb...), path)...)
				if code != want || (stderr == "") != (want == 0) {
					t.Errorf("ended with %d, want %d: %s", code, want, stderr)
				}
				if f.PCRs == nil {
					if stdout != "" {
						t.Errorf("output about a refused file: %s", stdout)
					}
					return
				}
				got, err := pcr.ParseMeasurements([]byte(stdout))
				if err != nil || got.Set != *f.PCRs {
					t.Errorf("%v, registers differ: %v", err, pcr.Compare(f.PCRs, &got.Set))
				}
				if verb[0] == "describe" && f.Signature != nil {
					var d struct{ SignatureCheck *bool }
					if err := json.Unmarshal([]byte(stdout), &d); err != nil || d.SignatureCheck == nil ||
						*d.SignatureCheck != (f.Signature.SignatureValid && f.Signature.PCR0Match) {
						t.Errorf("SignatureCheck: %s", stdout)
					}
				}
			})
		}
		code, stdout, _ := cretulaAt(m.ValidityClock, "eif", "reference", path)
		if code != want || (stdout == "") != (want != 0) {
			t.Errorf("%s: reference ended with %d, want %d: %s", f.File, code, want, stdout)
		}
	}
}

// testImage writes a small image whose application is what, and returns its
// measurements.
func testImage(t *testing.T, name, what string) pcr.Measurements {
	t.Helper()
	metadata, err := (&eif.Metadata{ImageName: "test"}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := eif.Write(t.Context(), f, eif.Spec{
		Kernel: eif.Bytes([]byte("kernel")), Cmdline: "console=ttyS0", Metadata: metadata,
		Ramdisks: []eif.Source{eif.Bytes([]byte("init")), eif.Bytes([]byte(what))},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestReferenceRoundTrip: a document of an enclave with the image belongs to the
// release that "eif reference" wrote of it, and that of another one does not.
func TestReferenceRoundTrip(t *testing.T) {
	t.Chdir(t.TempDir())
	one, two, other := testImage(t, "one.eif", "1"), testImage(t, "two.eif", "2"), testImage(t, "other.eif", "3")
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Root().Raw})
	if err := os.WriteFile("root.pem", root, 0o600); err != nil {
		t.Fatal(err)
	}
	release := func(m pcr.Measurements) (int, string) {
		document, err := authority.Issue(issuer.Content{ModuleID: "i-0123456789abcdef0-enc0199aabbccddeeff", PCRs: m.Set})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("doc.cbor", document, 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := cretula(nil, "attestation", "verify", "doc.cbor", "--root", "root.pem", "--reference", "releases.json", "--json")
		var v struct{ Release *string }
		if err := json.Unmarshal([]byte(stdout), &v); err != nil {
			t.Fatalf("%v: %s%s", err, stdout, stderr)
		}
		if v.Release == nil {
			return code, ""
		}
		return code, *v.Release
	}
	add := func(want int, args ...string) {
		t.Helper()
		code, stdout, stderr := cretula(nil, append([]string{"eif", "reference", "--add-to", "releases.json"}, args...)...)
		if code != want || stdout != "" || (stderr == "") != (want == 0) {
			t.Fatalf("%q: %d %s%s", args, code, stdout, stderr)
		}
	}
	add(0, "one.eif")
	if code, name := release(one); code != 0 || name != "one" {
		t.Errorf("one: %d %q", code, name)
	}
	if code, name := release(two); code != reason.Mismatch.ExitCode() || name != "" {
		t.Errorf("two, not in the file: %d %q", code, name)
	}
	add(0, "--name", "both", "one.eif", "two.eif")
	if code, name := release(two); code != 0 || name != "both" {
		t.Errorf("two: %d %q", code, name)
	}
	// PCR0 of one image with PCR2 of another is neither.
	mixed := one
	pcr2, _ := two.Get(2)
	mixed.Remove(2)
	mixed.Put(2, pcr2)
	if code, name := release(mixed); code != reason.Mismatch.ExitCode() || name != "" {
		t.Errorf("mixed: %d %q", code, name)
	}
	if code, name := release(other); code != reason.Mismatch.ExitCode() || name != "" {
		t.Errorf("other: %d %q", code, name)
	}
	// The same again changes nothing, another of the same name is refused.
	before, err := os.ReadFile("releases.json")
	if err != nil {
		t.Fatal(err)
	}
	add(0, "one.eif")
	add(1, "--name", "one", "two.eif")
	if after, err := os.ReadFile("releases.json"); err != nil || !bytes.Equal(after, before) {
		t.Errorf("%v: the file has changed to %s", err, after)
	}
}
