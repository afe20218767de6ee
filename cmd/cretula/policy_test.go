// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
)

const (
	policyAccount = "000000000000"
	policyAdmin   = "arn:aws:iam::000000000000:user/admin"
	policyRole    = "arn:aws:iam::000000000000:role/orders"
	policyKey     = "arn:aws:kms:us-east-1:000000000000:key/4c0e0000-0000-0000-0000-000000000000"
)

// policyArgs are those that nearly every call needs.
func policyArgs(more ...string) []string {
	return append([]string{"policy", "generate", "--administrator", policyAdmin, "--role", policyRole}, more...)
}

// generatedPolicy runs "policy generate" and returns what it printed.
func generatedPolicy(t *testing.T, at time.Time, more ...string) (document, remarks string) {
	t.Helper()
	code, stdout, stderr := cretulaAt(at, policyArgs(more...)...)
	if code != 0 {
		t.Fatalf("%q: %d %s", more, code, stderr)
	}
	return stdout, stderr
}

// decides asks a key policy. Registers of nil are a request without a document.
func decides(t *testing.T, document string, caller policy.Principal, action string, registers *pcr.Set, at time.Time) bool {
	t.Helper()
	p, err := policy.Parse([]byte(document), policy.KindKey)
	if err != nil {
		t.Fatalf("%v: %s", err, document)
	}
	context := policy.Context{}
	context.Add("aws:CurrentTime", at.UTC().Format(time.RFC3339))
	if registers != nil {
		for i, d := range registers.All() {
			context.Add("kms:RecipientAttestation:"+i.String(), d.String())
		}
		d, _ := registers.Get(0)
		context.Add("kms:RecipientAttestation:ImageSha384", d.String())
	}
	// An identity policy that allows everything changes nothing.
	all, err := policy.Parse([]byte(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`), policy.KindIdentity)
	mustDo(t, err)
	return policy.Evaluate(policy.Input{KeyPolicy: p, Identity: []policy.Named{{Name: "all", Policy: all}}, Request: policy.Request{
		Principal: caller, Action: "kms:" + action, Resource: policyKey, ResourceAccount: policyAccount, Context: context,
	}}).Allowed
}

func sessionOf(role string) policy.Principal {
	return policy.Principal{
		Type: policy.CallerRoleSession, ARN: "arn:aws:sts::000000000000:assumed-role/" + role + "/i-1",
		AccountID: policyAccount, RoleARN: "arn:aws:iam::000000000000:role/" + role,
	}
}

// running are the registers of an enclave with an image: those that no image decides
// are there, too.
func running(m pcr.Measurements) *pcr.Set {
	set := m.Set
	for i := range pcr.Index(16) {
		if _, there := set.Get(i); !there {
			set.Put(i, pcr.Digest{})
		}
	}
	return &set
}

// with are the registers, but for one.
func with(set *pcr.Set, i pcr.Index, d pcr.Digest) *pcr.Set {
	out := *set
	out.Put(i, d)
	return &out
}

// releaseImages are two images in this folder, signed by one certificate, a third
// that nobody signed, and the registers of enclaves with them.
func releaseImages(t *testing.T) (one, two, other *pcr.Set) {
	t.Helper()
	t.Chdir(t.TempDir())
	keys := newSignable(t, eif.Bytes([]byte("kernel")))
	measure := func(name, what string, sign bool) *pcr.Set {
		testImage(t, name, what)
		if sign {
			keys.image = name
			if code, _, stderr := cretula(nil, keys.signArgs()...); code != 0 {
				t.Fatal(stderr)
			}
		}
		code, stdout, stderr := cretulaAt(signableAt, "eif", "measure", "--json", name)
		if code != 0 {
			t.Fatal(stderr)
		}
		m, err := pcr.ParseMeasurements([]byte(stdout))
		mustDo(t, err)
		return running(m)
	}
	return measure("one.eif", "1", true), measure("two.eif", "2", true), measure("other.eif", "3", false)
}

// TestPolicyGenerate: what the key policy of two images lets in, and what it does not.
func TestPolicyGenerate(t *testing.T) {
	one, two, other := releaseImages(t)
	mustDo(t, os.Rename("two.eif", "x\u202e.eif"))
	document, remarks := generatedPolicy(t, signableAt, "one.eif", "x\u202e.eif", "--role", policyRole+"-2")
	if remarks != "EnclaveMayDecrypt    one.eif\nEnclaveMayDecrypt2   x\\u202e.eif\n" {
		t.Errorf("said: %q", remarks)
	}
	pcrOf := func(set *pcr.Set, i pcr.Index) pcr.Digest {
		d, _ := set.Get(i)
		return d
	}
	debug := &pcr.Set{}
	for i := range pcr.Index(16) {
		debug.Put(i, pcr.Digest{})
	}
	role, admin := sessionOf("orders"), policy.Principal{Type: policy.CallerUser, ARN: policyAdmin, AccountID: policyAccount}
	for _, c := range []struct {
		name      string
		caller    policy.Principal
		action    string
		registers *pcr.Set
		want      bool
	}{
		{"the first", role, "Decrypt", one, true},
		{"the second", role, "Decrypt", two, true},
		{"a data key", role, "GenerateDataKey", two, true},
		{"the other role", sessionOf("orders-2"), "Decrypt", one, true},
		{"PCR0 of one, PCR2 of the other", role, "Decrypt", with(one, 2, pcrOf(two, 2)), false},
		{"PCR0 of the other", role, "Decrypt", with(one, 0, pcrOf(two, 0)), false},
		{"another kernel", role, "Decrypt", with(one, 1, pcr.Sum(nil)), false},
		{"another signer", role, "Decrypt", with(one, 8, pcr.Sum(nil)), false},
		{"no signer", role, "Decrypt", with(one, 8, pcr.Digest{}), false},
		{"another image", role, "Decrypt", other, false},
		{"another image by the signer", role, "Decrypt", with(other, 8, pcrOf(one, 8)), false},
		{"debug", role, "Decrypt", debug, false},
		{"no document", role, "Decrypt", nil, false},
		{"no document for a data key", role, "GenerateDataKey", nil, false},
		{"a data key pair", role, "GenerateDataKeyPair", one, false},
		{"a grant", role, "CreateGrant", one, false},
		{"moved under another key", role, "ReEncryptFrom", one, false},
		{"a third role", sessionOf("orders-3"), "Decrypt", one, false},
		{"the administrator in the image", admin, "Decrypt", one, false},
		{"the administrator's grant", admin, "CreateGrant", nil, false},
		{"the administrator seals", admin, "Encrypt", nil, true},
		{"the administrator changes the policy", admin, "PutKeyPolicy", nil, true},
		{"the role changes the policy", role, "PutKeyPolicy", one, false},
	} {
		if got := decides(t, document, c.caller, c.action, c.registers, signableAt); got != c.want {
			t.Errorf("%s: allowed %v", c.name, got)
		}
	}
	if again, _ := generatedPolicy(t, signableAt.AddDate(0, 1, 0), "one.eif", "x\u202e.eif", "--role", policyRole+"-2"); again != document {
		t.Errorf("later it is another: %s", again)
	}
	unsigned, _ := generatedPolicy(t, signableAt, "other.eif", "--action", "GenerateDataKeyPair", "--action", "DeriveSharedSecret")
	for action, want := range map[string]bool{"GenerateDataKeyPair": true, "DeriveSharedSecret": true, "Decrypt": false, "GenerateDataKey": false} {
		if got := decides(t, unsigned, role, action, other, signableAt); got != want {
			t.Errorf("%s of the unsigned image: allowed %v", action, got)
		}
	}
}

// TestPolicyPin: only the registers that are pinned count, and each image has them.
func TestPolicyPin(t *testing.T) {
	one, _, other := releaseImages(t)
	document, _ := generatedPolicy(t, signableAt, "one.eif", "--pin", "PCR0,8")
	role := sessionOf("orders")
	for i, want := range map[pcr.Index]bool{0: false, 1: true, 2: true, 3: true, 8: false} {
		if got := decides(t, document, role, "Decrypt", with(one, i, pcr.Sum(nil)), signableAt); got != want {
			t.Errorf("another %v: allowed %v", i, got)
		}
	}
	if !decides(t, document, role, "Decrypt", one, signableAt) || decides(t, document, role, "Decrypt", other, signableAt) {
		t.Error("the image is not what is pinned")
	}
	for _, c := range []struct {
		pin, stderr string
		code        int
	}{
		{"PCR8", "--pin without PCR0", 2},
		{"PCR0,PCR32", `--pin: pcr: "PCR32" is no register`, 2},
		{"PCR0,", `--pin: pcr: "" is no register`, 2},
		{"PCR0,PCR8", "other.eif: PCR8 is not known", 1},
		{"PCR0,PCR3", "one.eif: PCR3 is not known", 1},
	} {
		code, stdout, stderr := cretulaAt(signableAt, policyArgs("one.eif", "other.eif", "--pin", c.pin)...)
		if code != c.code || stdout != "" || !strings.HasPrefix(stderr, "cretula: "+c.stderr) || !strings.Contains(stderr, "\nhint: ") {
			t.Errorf("--pin %s: %d %q %s", c.pin, code, stdout, stderr)
		}
	}
}

// TestPolicyOfReleases: the releases of a file get in as long as they are accepted.
func TestPolicyOfReleases(t *testing.T) {
	one, two, other := releaseImages(t)
	reference := func(args ...string) {
		t.Helper()
		code, stdout, stderr := cretulaAt(signableAt, append([]string{"eif", "reference", "--add-to", "releases.json"}, args...)...)
		if code != 0 || stdout+stderr != "" {
			t.Fatalf("%q: %d %s%s", args, code, stdout, stderr)
		}
	}
	role := sessionOf("orders")
	allowed := func(document string, at time.Time) (names []string) {
		for name, set := range map[string]*pcr.Set{"one": one, "two": two, "other": other} {
			if decides(t, document, role, "Decrypt", set, at) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	reference("--name", "both", "one.eif", "two.eif")
	document, remarks := generatedPolicy(t, signableAt, "--reference", "releases.json")
	if got := allowed(document, signableAt); !slices.Equal(got, []string{"one", "two"}) || remarks != "EnclaveMayDecrypt    both\nEnclaveMayDecrypt2   both\n" {
		t.Errorf("both: %v, %q", got, remarks)
	}
	ofTwo, _ := two.Get(2)
	if decides(t, document, role, "Decrypt", with(one, 2, ofTwo), signableAt) {
		t.Error("a mixture gets in")
	}
	// An image beside the file, and a release that is to end.
	tomorrow := signableAt.AddDate(0, 0, 1)
	reference("--end", "both", "--at", tomorrow.Format(time.RFC3339))
	document, _ = generatedPolicy(t, signableAt, "--reference", "releases.json", "other.eif")
	if got := allowed(document, tomorrow); len(got) != 3 {
		t.Errorf("in its last second: %v", got)
	}
	if got := allowed(document, tomorrow.Add(time.Second)); !slices.Equal(got, []string{"other"}) {
		t.Errorf("after its end: %v", got)
	}
	document, remarks = generatedPolicy(t, tomorrow.Add(time.Second), "--reference", "releases.json", "other.eif")
	if got := allowed(document, signableAt); !slices.Equal(got, []string{"other"}) || !strings.HasPrefix(remarks, "left out             both: it ended at 2027-01-02T00:00:00Z\n") {
		t.Errorf("made after its end: %v, %q", got, remarks)
	}
	code, stdout, stderr := cretulaAt(tomorrow.Add(time.Second), policyArgs("--reference", "releases.json")...)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "\ncretula: releases.json: no release is left for the policy\nhint: ") {
		t.Errorf("nothing is left: %d %q %s", code, stdout, stderr)
	}
}

// TestPolicyGenerateRefuses: nothing is printed then.
func TestPolicyGenerateRefuses(t *testing.T) {
	releaseImages(t)
	d := strings.Repeat("ab", 48)
	mustDo(t, os.WriteFile("short.eif", []byte(".eif"), 0o600))
	image, err := os.ReadFile("one.eif")
	mustDo(t, err)
	image[len(image)-1] ^= 1
	mustDo(t, os.WriteFile("changed.eif", image, 0o600))
	for name, release := range map[string]string{
		"signer.json":   `"certificates":["` + d + `"],"role_arns":["` + policyRole + `"]`,
		"debug.json":    `"pcrs":{"PCR0":"` + strings.Repeat("0", 96) + `"}`,
		"unsigned.json": `"pcrs":{"PCR0":"` + d + `","PCR8":"` + strings.Repeat("0", 96) + `"}`,
		"tpm.json":      `"kind":"nitrotpm","pcrs":{"PCR4":"` + d + `"}`,
	} {
		mustDo(t, os.WriteFile(name, []byte(`{"schema":"cretula.reference.v1","releases":[{"name":"a",`+release+`}]}`), 0o600))
	}
	var many []map[string]any
	for i := range 100 {
		many = append(many, map[string]any{"name": fmt.Sprint(i), "pcrs": map[string]string{"PCR0": pcr.Sum([]byte{byte(i)}).String()}})
	}
	file, err := json.Marshal(map[string]any{"schema": "cretula.reference.v1", "releases": many})
	mustDo(t, err)
	mustDo(t, os.WriteFile("many.json", file, 0o600))
	for _, c := range []struct {
		name, stderr string
		code         int
		args         []string
	}{
		{"no image", "IMAGE or --reference is missing", 2, policyArgs()},
		{"no administrator", "--administrator is missing", 2, []string{"policy", "generate", "one.eif", "--role", policyRole}},
		{"no role", "--role is missing", 2, []string{"policy", "generate", "one.eif", "--administrator", policyAdmin}},
		{"the account", "no user or role of account", 2, policyArgs("one.eif", "--administrator", "arn:aws:iam::000000000000:root")},
		{"everyone", "no role of account", 2, policyArgs("one.eif", "--role", "*")},
		{"roles by a pattern", "no role of account", 2, policyArgs("one.eif", "--role", policyRole+"*")},
		{"a role of another account", "no role of account", 2, policyArgs("one.eif", "--role", "arn:aws:iam::111111111111:role/orders")},
		{"the role administrates", "who can change the policy", 2, policyArgs("one.eif", "--administrator", policyRole)},
		{"another action", "want each once of Decrypt, ", 2, policyArgs("one.eif", "--action", "Encrypt")},
		{"an absent image", "absent.eif", 1, policyArgs("one.eif", "absent.eif")},
		{"a malformed image", "eif.header.size", 3, policyArgs("one.eif", "short.eif")},
		{"a changed image", "eif.crc", 7, policyArgs("changed.eif")},
		{"no PCR0", "a: PCR0 is not among its registers", 1, policyArgs("--reference", "signer.json")},
		{"debug", "reference.zero", 3, policyArgs("--reference", "debug.json")},
		{"zero of another register", "PCR8 is zero", 1, policyArgs("--reference", "unsigned.json")},
		{"a NitroTPM", "no release is left", 1, policyArgs("--reference", "tpm.json")},
		{"too many for 32 KiB", "(policy.size)\nhint: end releases", 3, policyArgs("--reference", "many.json")},
		{"no file of releases", "short.eif", 3, policyArgs("--reference", "short.eif")},
	} {
		code, stdout, stderr := cretulaAt(signableAt, c.args...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%s: %d %q %s", c.name, code, stdout, stderr)
		}
	}
	expired := signableAt.AddDate(10, 0, 0)
	if code, stdout, stderr := cretulaAt(expired, policyArgs("one.eif")...); code != 4 || stdout != "" {
		t.Errorf("signed by a certificate that has expired: %d %q %s", code, stdout, stderr)
	}
}
