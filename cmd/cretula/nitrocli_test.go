// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/internal/nitrocli"
)

// TestNitroCommands: every command of the tongue does something.
func TestNitroCommands(t *testing.T) {
	for i := range nitrocli.Commands {
		if name := nitrocli.Commands[i].Name; nitroCommands[name] == nil {
			t.Errorf("%s does nothing", name)
		}
	}
	if len(nitroCommands) != len(nitrocli.Commands) {
		t.Errorf("%d commands do something, there are %d", len(nitroCommands), len(nitrocli.Commands))
	}
	if got := arguments(nil); len(got) != 0 {
		t.Errorf("without a name: %q", got)
	}
	if got := arguments([]string{"/x/nitro-cli", "pcr"}); !slices.Equal(got, []string{"nitro-cli", "pcr"}) {
		t.Errorf("as nitro-cli: %q", got)
	}
}

// validityClock is the time of the shared images' verdicts.
func validityClock() time.Time { return time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC) }

// nitro runs nitro-cli in this process.
func nitro(now func() time.Time, blobs string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	env := &cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: now,
		Getenv: func(name string) string { return map[string]string{"NITRO_CLI_BLOBS": blobs}[name] }}
	code = run(append([]string{nitrocli.Name}, args...), env)
	return code, out.String(), errs.String()
}

// A sharedImage is an entry of the shared images' manifest.
type sharedImage struct {
	File, Verdict, Reason string
	PCRs                  map[string]string
	Header                struct {
		Version int `json:"eif_version"`
	}
	Signature *struct {
		Alg    string
		Valid  bool `json:"signature_valid"`
		PCR0   bool `json:"pcr0_match"`
		InDate bool `json:"cert_in_validity"`
	}
	Build *struct{ Metadata string }
}

func sharedImages(t *testing.T) (dir string, images []sharedImage) {
	t.Helper()
	dir = need.SharedData(t, "eif")
	data, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Files []sharedImage }
	if err := json.Unmarshal(data, &manifest); err != nil || len(manifest.Files) < 20 {
		t.Fatalf("%d images, %v", len(manifest.Files), err)
	}
	return dir, manifest.Files
}

// TestNitroDescribeEIF: what the manifest says of every shared image, in nitro-cli's
// form; E35 and nothing on standard output for what has no measurements.
func TestNitroDescribeEIF(t *testing.T) {
	dir, images := sharedImages(t)
	described := 0
	for _, image := range images {
		name := filepath.Join(dir, filepath.FromSlash(image.File))
		code, stdout, stderr := nitro(validityClock, "", "describe-eif", "--eif-path", name)
		want := 0
		switch s := image.Signature; {
		case image.PCRs == nil, s != nil && !s.Valid:
			want = 35
		case s != nil && (!s.PCR0 || !s.InDate):
			want = 59
		}
		if code != want || (code == 35) != (stdout == "") {
			t.Errorf("%s: exit status %d, want %d\n%s%s", image.File, code, want, stdout, stderr)
			continue
		}
		if begin := fmt.Sprintf("[ E%d ] ", code); code != 0 && (!strings.HasPrefix(stderr, begin) ||
			!strings.HasSuffix(stderr, fmt.Sprintf("\n\nFor more details, please visit https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#E%d\n", code))) ||
			code == 0 && stderr != "" {
			t.Errorf("%s: %s", image.File, stderr)
		}
		if stdout != "" {
			described++
			checkDescription(t, dir, image, stdout)
		}
	}
	if described < 11 {
		t.Errorf("only %d images were described", described)
	}
}

// checkDescription compares a description with the manifest, and its form, down to
// order and white space, with that of nitro-cli, which is written here by hand.
func checkDescription(t *testing.T, dir string, image sharedImage, stdout string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "{\n  \"EifVersion\": %d,\n  \"Measurements\": {\n    \"HashAlgorithm\": \"Sha384 { ... }\"", image.Header.Version)
	for _, register := range []string{"PCR0", "PCR1", "PCR2", "PCR8"} {
		if value, ok := image.PCRs[register]; ok {
			fmt.Fprintf(&b, ",\n    %q: %q", register, value)
		}
	}
	fmt.Fprintf(&b, "\n  },\n  \"IsSigned\": %v,\n", image.Signature != nil)
	rest, ok := strings.CutPrefix(stdout, b.String())
	if !ok {
		t.Errorf("%s:\n%s\nbegins not with\n%s", image.File, stdout, &b)
		return
	}
	if s := image.Signature; s != nil {
		rest = checkCertificate(t, image.File, rest)
	}
	rest, ok = strings.CutPrefix(rest, "  \"CheckCRC\": true,\n")
	if s := image.Signature; ok && s != nil {
		rest, ok = strings.CutPrefix(rest, fmt.Sprintf("  \"SignatureCheck\": %v,\n", s.Valid && s.PCR0))
	}
	if !ok {
		t.Errorf("%s: after the certificate: %s", image.File, rest)
	}
	if image.Build == nil {
		return
	}
	raw, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(image.Build.Metadata)))
	if err != nil {
		t.Fatal(err)
	}
	var metadata struct {
		ImageName, ImageVersion string
		BuildMetadata           map[string]string
		DockerInfo              json.RawMessage
	}
	if err := json.Unmarshal(raw, &metadata); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	fmt.Fprintf(&b, "  \"ImageName\": %q,\n  \"ImageVersion\": %q,\n  \"Metadata\": {\n", metadata.ImageName, metadata.ImageVersion)
	for _, key := range []string{"BuildTime", "BuildTool", "BuildToolVersion", "OperatingSystem", "KernelVersion"} {
		fmt.Fprintf(&b, "    %q: %q,\n", key, metadata.BuildMetadata[key])
	}
	b.WriteString(`    "DockerInfo": `)
	if !strings.HasPrefix(rest, b.String()) || !strings.HasSuffix(rest, "\n  }\n}\n") {
		t.Errorf("%s:\n%s\nbegins not with\n%s", image.File, rest, &b)
	}
}

// checkCertificate looks at the form of SigningCertificate and returns what follows.
func checkCertificate(t *testing.T, file, rest string) string {
	t.Helper()
	part, after, _ := strings.Cut(rest, "\n  },\n")
	keys := []string{}
	for line := range strings.Lines(part) {
		key, _, _ := strings.Cut(strings.TrimLeft(line, " "), ":")
		if strings.HasPrefix(line, "    \"") {
			keys = append(keys, strings.Trim(key, `"`))
		}
	}
	if !strings.HasPrefix(part, "  \"SigningCertificate\": {\n    \"IssuerName\": {\n      \"") ||
		!slices.Equal(keys, []string{"IssuerName", "Algorithm", "NotBefore", "NotAfter", "Signature"}) {
		t.Errorf("%s: %s", file, part)
	}
	return after
}

// TestNitroSignWithAWSsCommands signs with the files that the commands of AWS's
// manual make (User Guide, "Signing enclave image files"), as they are.
func TestNitroSignWithAWSsCommands(t *testing.T) {
	program := need.Program(t, "openssl")
	dir, images := sharedImages(t)
	work := t.TempDir()
	openssl := func(args ...string) {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %q: %v\n%s", args, err, out)
		}
	}
	openssl("ecparam", "-name", "secp384r1", "-genkey", "-out", "key.pem")
	openssl("req", "-new", "-key", "key.pem", "-sha384", "-nodes", "-subj", "/CN=AWS/C=US/ST=WA/L=Seattle/O=Amazon/OU=AWS", "-out", "csr.pem")
	openssl("x509", "-req", "-days", "20", "-in", "csr.pem", "-out", "certificate.pem", "-sha384", "-signkey", "key.pem")
	key, certificate := filepath.Join(work, "key.pem"), filepath.Join(work, "certificate.pem")
	code, pcr8, stderr := nitro(validityClock, "", "pcr", "--signing-certificate", certificate)
	if code != 0 || stderr != "" {
		t.Fatalf("pcr: %d %s", code, stderr)
	}
	var register map[string]string
	if err := json.Unmarshal([]byte(pcr8), &register); err != nil {
		t.Fatal(err)
	}
	signed := 0
	for _, image := range images {
		if image.Verdict != "accept" {
			continue
		}
		name := filepath.Join(work, filepath.Base(image.File))
		putFile(t, filepath.Join(dir, filepath.FromSlash(image.File)), name)
		code, stdout, stderr := nitro(time.Now, "", "sign-eif", "--eif-path", name, "--signing-certificate", certificate, "--private-key", key)
		if code != 0 || stderr != "Enclave Image successfully signed.\n" {
			t.Errorf("%s: %d %s", image.File, code, stderr)
			continue
		}
		want := fmt.Sprintf("{\n  \"Measurements\": {\n    \"HashAlgorithm\": \"Sha384 { ... }\",\n    \"PCR0\": %q,\n    \"PCR1\": %q,\n    \"PCR2\": %q,\n    \"PCR8\": %q\n  }\n}\n",
			image.PCRs["PCR0"], image.PCRs["PCR1"], image.PCRs["PCR2"], register["PCR8"])
		if stdout != want {
			t.Errorf("%s: %s, want %s", image.File, stdout, want)
		}
		code, stdout, stderr = nitro(time.Now, "", "describe-eif", "--eif-path", name)
		if code != 0 || !strings.Contains(stdout, `"SignatureCheck": true`) || !strings.Contains(stdout, register["PCR8"]) {
			t.Errorf("%s described: %d %s", image.File, code, stderr)
		}
		signed++
	}
	if signed < 8 {
		t.Errorf("only %d images were signed", signed)
	}
}

func putFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNitroSignRefused: the image is what it was.
func TestNitroSignRefused(t *testing.T) {
	dir, _ := sharedImages(t)
	keys := filepath.Join(dir, "keys")
	work := t.TempDir()
	good, bad, absent := filepath.Join(work, "good.eif"), filepath.Join(work, "bad.eif"), filepath.Join(work, "absent")
	putFile(t, filepath.Join(dir, "valid", "v2-p384.eif"), good)
	putFile(t, filepath.Join(dir, "corrupt", "c02-bad-crc.eif"), bad)
	before, _ := os.ReadFile(good)
	p384, p384key := filepath.Join(keys, "p384.crt.pem"), filepath.Join(keys, "p384.key.pem")
	for _, c := range []struct {
		image, certificate, key string
		code                    int
	}{
		{good, p384, filepath.Join(keys, "p384-other.key.pem"), 60},
		{good, p384, filepath.Join(keys, "p256.key.pem"), 60},
		{good, p384, p384, 60},
		{good, p384, absent, 60},
		{good, p384, dir, 60},
		{good, p384, "", 60},
		{good, absent, p384key, 60},
		{good, p384key, p384key, 60},
		{good, "", p384key, 60},
		{absent, p384, p384key, 19},
		{work, p384, p384key, 19},
		{bad, p384, p384key, 35},
		{p384, p384, p384key, 35},
	} {
		code, stdout, stderr := nitro(validityClock, "", "sign-eif", "--eif-path="+c.image, "--signing-certificate="+c.certificate, "--private-key="+c.key)
		if code != c.code || stdout != "" || !strings.Contains(stderr, fmt.Sprintf("[ E%d ] ", code)) || strings.Contains(stderr, "successfully") {
			t.Errorf("%+v: %d\n%s%s", c, code, stdout, stderr)
		}
	}
	if after, _ := os.ReadFile(good); len(before) == 0 || !bytes.Equal(before, after) {
		t.Error("the image is another one")
	}
	entries, err := os.ReadDir(work)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// TestNitroSignExpired: signed, as there, but not without a word, and what describes
// the image afterwards refuses it.
func TestNitroSignExpired(t *testing.T) {
	dir, _ := sharedImages(t)
	work := t.TempDir()
	name, key := filepath.Join(work, "a.eif"), filepath.Join(work, "key.pem")
	putFile(t, filepath.Join(dir, "valid", "v1-one-ramdisk.eif"), name)
	putFile(t, filepath.Join(dir, "keys", "p384.key.pem"), key)
	code, stdout, stderr := nitro(validityClock, "", "sign-eif", "--eif-path", name, "--private-key", key,
		"--signing-certificate", filepath.Join(dir, "keys", "p384-expired.crt.pem"))
	warning, done, _ := strings.Cut(stderr, "\n")
	if code != 0 || !strings.HasPrefix(warning, "cretula: warning: ") || done != "Enclave Image successfully signed.\n" || !strings.Contains(stdout, "PCR8") {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
	if code, _, stderr := nitro(validityClock, "", "describe-eif", "--eif-path", name); code != 59 || !strings.Contains(stderr, "eif.signature.validity") {
		t.Errorf("described: %d %s", code, stderr)
	}
}

// TestNitroMetadataIsNotForged: the keys of custom metadata do not stand beside
// those of the build.
func TestNitroMetadataIsNotForged(t *testing.T) {
	dir, _ := sharedImages(t)
	_, stdout, _ := nitro(validityClock, "", "describe-eif", "--eif-path", filepath.Join(dir, "valid", "v7-custom-metadata.eif"))
	if strings.Count(stdout, `"BuildTime": `) != 1 || strings.Contains(stdout, "not the real one") || !strings.Contains(stdout, `"list": [`) {
		t.Error(stdout)
	}
}

// TestNitroOutputFails: a full disk under standard output is no success.
func TestNitroOutputFails(t *testing.T) {
	dir, _ := sharedImages(t)
	for _, args := range [][]string{
		{"describe-eif", "--eif-path", filepath.Join(dir, "valid", "v1-one-ramdisk.eif")},
		{"pcr", "--input", filepath.Join(dir, "manifest.json")},
	} {
		var errs bytes.Buffer
		env := &cli.Env{Stdin: strings.NewReader(""), Stdout: fullDisk{}, Stderr: &errs, Getenv: func(string) string { return "" }, Now: time.Now}
		if code := run(append([]string{nitrocli.Name}, args...), env); code != 19 || !strings.HasPrefix(errs.String(), "[ E19 ] ") {
			t.Errorf("%q: %d %s", args, code, &errs)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestNitroStaleTable: what AWS's sign-eif leaves when it replaces a signature by one
// of another length is refused, and the message says how it is mended.
func TestNitroStaleTable(t *testing.T) {
	dir, _ := sharedImages(t)
	name := filepath.Join(t.TempDir(), "a.eif")
	putFile(t, filepath.Join(dir, "valid", "v2-p384.eif"), name)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	const sizes, signature, checksum = 284, 5, 544
	place := data[sizes+8*signature:]
	binary.BigEndian.PutUint64(place, binary.BigEndian.Uint64(place)+228)
	sum := crc32.Update(crc32.ChecksumIEEE(data[:checksum]), crc32.IEEETable, data[checksum+4:])
	binary.BigEndian.PutUint32(data[checksum:], sum)
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"describe-eif", "--eif-path", name}, {"sign-eif", "--eif-path", name,
		"--signing-certificate", filepath.Join(dir, "keys", "p384.crt.pem"), "--private-key", filepath.Join(dir, "keys", "p384.key.pem")}} {
		code, stdout, stderr := nitro(validityClock, "", args...)
		if code != 35 || stdout != "" || !strings.Contains(stderr, "eif.table.size") || !strings.Contains(stderr, "'cretula eif repair'") {
			t.Errorf("%s: %d %s%s", args[0], code, stdout, stderr)
		}
	}
	if code, _, stderr := cretula(nil, "eif", "repair", name); code != 0 {
		t.Fatalf("repair: %d %s", code, stderr)
	}
	if code, stdout, stderr := nitro(validityClock, "", "describe-eif", "--eif-path", name); code != 0 || !strings.Contains(stdout, `"SignatureCheck": true`) {
		t.Errorf("repaired: %d %s", code, stderr)
	}
}
