// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"hash/crc32"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/pcr"
)

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// signable is an image in a folder of its own, with a key and a certificate in
// another, valid from 2026 to 2030.
type signable struct{ dir, image, key, certificate string }

var signableAt = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

func newSignable(t testing.TB, kernel eif.Source) signable {
	t.Helper()
	dir, keys := t.TempDir(), t.TempDir()
	s := signable{dir, filepath.Join(dir, "app.eif"), filepath.Join(keys, "key.pem"), filepath.Join(keys, "cert.pem")}
	metadata, err := (&eif.Metadata{ImageName: "a", ImageVersion: "1"}).Encode()
	mustDo(t, err)
	f, err := os.Create(s.image)
	mustDo(t, err)
	_, err = eif.Write(t.Context(), f, eif.Spec{Kernel: kernel, Cmdline: "quiet", Metadata: metadata, Ramdisks: []eif.Source{eif.Bytes([]byte("r"))}})
	mustDo(t, err)
	mustDo(t, f.Close())
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	mustDo(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	mustDo(t, err)
	mustDo(t, os.WriteFile(s.key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "release"},
		NotBefore: signableAt.AddDate(-1, 0, 0), NotAfter: signableAt.AddDate(3, 0, 0),
	}
	der, err = x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	mustDo(t, err)
	mustDo(t, os.WriteFile(s.certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return s
}

func (s signable) signArgs(more ...string) []string {
	return append([]string{"eif", "sign", s.image, "--key", s.key, "--certificate", s.certificate, "--at", signableAt.Format(time.RFC3339)}, more...)
}

// wantOnly wants the folder to have this one file, with this content.
func wantOnly(t testing.TB, dir, path string, content []byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	mustDo(t, err)
	if len(entries) != 1 || entries[0].Name() != filepath.Base(path) {
		t.Errorf("the folder has %v", entries)
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the image is another: %d bytes, %v", len(got), err)
	}
}

// TestEIFVerifyManifest: the findings about other people's images.
func TestEIFVerifyManifest(t *testing.T) {
	dir, m := loadEIFManifest(t)
	signed := 0
	for _, f := range m.Files {
		path := filepath.Join(dir, filepath.FromSlash(f.File))
		want := 0
		if f.Verdict != "accept" {
			want = f.Reason.ExitCode()
		}
		code, stdout, _ := cretulaAt(m.ValidityClock, "eif", "verify", "--json", path)
		if f.Signature == nil {
			if want == 0 {
				if code != 7 || !strings.Contains(stdout, "eif.signature.absent") {
					t.Errorf("%s: unsigned: %d %s", f.File, code, stdout)
				}
				code, stdout, _ = cretulaAt(m.ValidityClock, "eif", "verify", "--json", "--allow-unsigned", path)
			}
			if code != want || f.PCRs == nil && stdout != "" {
				t.Errorf("%s: ended with %d, want %d: %s", f.File, code, want, stdout)
			}
			continue
		}
		signed++
		var got struct {
			Good         bool
			Algorithm    string
			Problems     []struct{ Rule string }
			Measurements pcr.Measurements
		}
		mustDo(t, json.Unmarshal([]byte(stdout), &got))
		if code != want || got.Good != (want == 0) || got.Measurements.Set != *f.PCRs {
			t.Errorf("%s: ended with %d, want %d: %s", f.File, code, want, stdout)
		}
		var rules []string
		for _, p := range got.Problems {
			rules = append(rules, p.Rule)
		}
		for rule, bad := range map[string]bool{
			"eif.signature.value": !f.Signature.SignatureValid, "eif.signature.register": !f.Signature.PCR0Match, "eif.signature.validity": f.File == "signature/s1-expired-certificate.eif",
		} {
			if slices.Contains(rules, rule) != bad {
				t.Errorf("%s: %v, %s: want %v", f.File, rules, rule, bad)
			}
		}
		pcr8, _ := f.PCRs.Get(8)
		if code, stdout, _ := cretulaAt(m.ValidityClock, "eif", "verify", "--pcr8", pcr8.String(), path); code != want {
			t.Errorf("%s: with its PCR8: %d %s", f.File, code, stdout)
		}
		pcr8[0] ^= 1
		if code, stdout, _ := cretulaAt(m.ValidityClock, "eif", "verify", "--pcr8", pcr8.String(), path); code == 0 || !strings.Contains(stdout, "eif.signature.other") {
			t.Errorf("%s: with another PCR8: %d %s", f.File, code, stdout)
		}
	}
	if signed < 8 {
		t.Errorf("only %d signed files", signed)
	}
}

// awsKey makes key and certificate by the commands of AWS's instructions (AWS Nitro
// Enclaves User Guide, "Signing an enclave image").
func awsKey(t *testing.T, openssl string) (key, certificate string) {
	t.Helper()
	dir := t.TempDir()
	for _, line := range []string{
		"ecparam -name secp384r1 -genkey -out key_name.pem",
		"req -new -key key_name.pem -sha384 -nodes -subj /CN=AWS/C=US/ST=WA/L=Seattle/O=Amazon/OU=AWS -out csr.pem",
		"x509 -req -days 20 -in csr.pem -out certificate.pem -sha384 -signkey key_name.pem",
	} {
		cmd := exec.Command(openssl, strings.Fields(line)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v: %s", line, err, out)
		}
	}
	return filepath.Join(dir, "key_name.pem"), filepath.Join(dir, "certificate.pem")
}

// TestEIFSignOpenSSL signs with what AWS's commands make, here and with OpenSSL,
// and lets OpenSSL verify.
func TestEIFSignOpenSSL(t *testing.T) {
	openssl := need.Program(t, "openssl")
	key, certificate := awsKey(t, openssl)
	s := newSignable(t, eif.Bytes([]byte("kernel")))
	ok := func(args ...string) string {
		t.Helper()
		code, stdout, stderr := cretula(nil, args...)
		if code != 0 {
			t.Fatalf("%q: %d %s", args, code, stderr)
		}
		return stdout
	}
	if text, err := os.ReadFile(key); err != nil || !bytes.HasPrefix(text, []byte("-----BEGIN EC PARAMETERS-----")) {
		t.Errorf("the key file begins otherwise: %v", err)
	}
	if out := ok("eif", "certificate", certificate); !strings.Contains(out, "19 days left") || !strings.Contains(out, "X.509 version 1") ||
		!strings.Contains(out, "self-signed") || !strings.Contains(out, "P-384, signs with ES384") {
		t.Errorf("certificate: %s", out)
	}
	unsigned, err := os.ReadFile(s.image)
	mustDo(t, err)
	ok("eif", "sign", s.image, "--key", key, "--certificate", certificate)
	if out := ok("eif", "verify", s.image, "--certificate", certificate); !strings.HasPrefix(out, "good ") || strings.Contains(out, "note") {
		t.Errorf("verify: %s", out)
	}

	dir := t.TempDir()
	path := func(name, content string) string {
		path := filepath.Join(dir, name)
		mustDo(t, os.WriteFile(path, []byte(content), 0o600))
		return path
	}
	tbs := path("tbs", ok("eif", "signing-payload", s.image, "--certificate", certificate))
	digest := path("digest", ok("eif", "signing-payload", s.image, "--certificate", certificate, "--digest"))
	im, f, err := openImage(cli.System(), s.image)
	mustDo(t, err)
	mustDo(t, f.Close())
	mustDo(t, exec.Command(openssl, "x509", "-in", certificate, "-noout", "-pubkey", "-out", path("public", "")).Run())
	verifies := func(signature string) bool {
		return exec.Command(openssl, "dgst", "-sha384", "-verify", filepath.Join(dir, "public"), "-signature", signature, tbs).Run() == nil
	}
	if im.Signature().Algorithm() != "ES384" {
		t.Error(im.Signature().Algorithm())
	}

	for name, args := range map[string][]string{
		"of the bytes":  {"dgst", "-sha384", "-sign", key, "-out", path("sig", ""), tbs},
		"of the digest": {"pkeyutl", "-sign", "-inkey", key, "-in", digest, "-out", path("sig", "")},
	} {
		if out, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		signature := filepath.Join(dir, "sig")
		if !verifies(signature) {
			t.Fatalf("%s: OpenSSL does not verify its own signature: the test is wrong", name)
		}
		ok("eif", "strip", s.image)
		wantOnly(t, s.dir, s.image, unsigned)
		ok("eif", "attach-signature", s.image, "--certificate", certificate, "--signature", signature)
		ok("eif", "verify", s.image, "--certificate", certificate)
		der, err := os.ReadFile(signature)
		mustDo(t, err)
		ok("eif", "attach-signature", s.image, "--certificate", certificate, "--signature", path("b64", base64.StdEncoding.EncodeToString(der)+"\n"))
		attached, err := os.ReadFile(s.image)
		mustDo(t, err)
		mustDo(t, os.WriteFile(signature, append(der[:len(der)-1:len(der)-1], der[len(der)-1]^1), 0o600))
		code, _, stderr := cretula(nil, "eif", "attach-signature", s.image, "--certificate", certificate, "--signature", signature)
		if code != 5 || !strings.Contains(stderr, "eif.signature.value") || !strings.Contains(stderr, "hint: ") {
			t.Errorf("%s: a wrong one: %d %s", name, code, stderr)
		}
		wantOnly(t, s.dir, s.image, attached)
	}
}

// TestEIFRepair repairs what nitro-cli sign-eif leaves.
func TestEIFRepair(t *testing.T) {
	s := newSignable(t, eif.Bytes([]byte("kernel")))
	if code, _, stderr := cretula(nil, s.signArgs()...); code != 0 {
		t.Fatal(stderr)
	}
	good, err := os.ReadFile(s.image)
	mustDo(t, err)
	if code, stdout, _ := cretula(nil, "eif", "repair", s.image); code != 0 || stdout != "nothing to repair\n" {
		t.Errorf("a sound image: %d %q", code, stdout)
	}
	code, stdout, _ := cretula(nil, "eif", "repair", "--json", s.image, "-o", s.image+".repaired")
	if code != 0 || !strings.Contains(stdout, `"repaired": []`) || strings.Contains(stdout, `.repaired"`) {
		t.Errorf("a sound image, to another file: %d %q", code, stdout)
	}
	wantOnly(t, s.dir, s.image, good)
	stale := slices.Clone(good)
	const sizes, signature = 284, 4
	stale[sizes+8*signature+6] ^= 3
	mustDo(t, os.WriteFile(s.image, stale, 0o600))
	code, _, stderr := cretula(nil, "eif", "repair", s.image) // its checksum is not the one that sign-eif would leave
	if code != 7 || !strings.Contains(stderr, "eif.crc") {
		t.Errorf("a wrong checksum: %d %s", code, stderr)
	}
	wantOnly(t, s.dir, s.image, stale)
	setChecksum(stale)
	mustDo(t, os.WriteFile(s.image, stale, 0o600))
	for _, verb := range []string{"verify", "describe", "strip"} {
		if code, _, stderr := cretula(nil, "eif", verb, s.image); code != 3 || !strings.Contains(stderr, "cretula eif repair") {
			t.Errorf("%s of a stale table: %d %s", verb, code, stderr)
		}
	}
	code, stdout, stderr = cretula(nil, "eif", "repair", s.image)
	if code != 0 || !strings.Contains(stdout, "offset 316: the table said that the signature (section 4) has ") {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	wantOnly(t, s.dir, s.image, good)
}

// TestEIFVerifyPrivateKey: somebody else's tool has put the whole file in, with the
// key in it.
func TestEIFVerifyPrivateKey(t *testing.T) {
	s := newSignable(t, eif.Bytes([]byte("kernel")))
	if code, _, stderr := cretula(nil, s.signArgs()...); code != 0 {
		t.Fatal(stderr)
	}
	im, f, err := openImage(cli.System(), s.image)
	mustDo(t, err)
	defer f.Close()
	section, err := io.ReadAll(im.Section(len(im.Sections) - 1))
	mustDo(t, err)
	// Two lines of text behind the certificate, as CBOR integers, the count with them.
	const begin = "-----BEGIN EC PRIVATE KEY-----\nMA==\n"
	head := len("\x81\xa2\x73signing_certificate")
	count := int(binary.BigEndian.Uint16(section[head+1:]))
	end := head + 3
	for range count {
		if section[end] == 0x18 {
			end++
		}
		end++
	}
	var more []byte
	for _, c := range []byte(begin) {
		if c >= 24 {
			more = append(more, 0x18)
		}
		more = append(more, c)
	}
	section = slices.Insert(section, end, more...)
	binary.BigEndian.PutUint16(section[head+1:], uint16(count+len(begin)))
	out, err := os.Create(filepath.Join(s.dir, "leaky.eif"))
	mustDo(t, err)
	_, err = im.WriteSigned(t.Context(), out, section)
	mustDo(t, err)
	mustDo(t, out.Close())
	if code, stdout, _ := cretulaAt(signableAt, "eif", "verify", out.Name()); code != 3 || !strings.Contains(stdout, "eif.certificate.private-key") {
		t.Errorf("%d %s", code, stdout)
	}
}

// TestEIFSignRefuses: what is refused leaves the image as it was, and nothing
// beside it.
func TestEIFSignRefuses(t *testing.T) {
	s, other := newSignable(t, eif.Bytes([]byte("kernel"))), newSignable(t, eif.Bytes([]byte("kernel")))
	image, err := os.ReadFile(s.image)
	mustDo(t, err)
	key, err := os.ReadFile(s.key)
	mustDo(t, err)
	certificate, err := os.ReadFile(s.certificate)
	mustDo(t, err)
	both := filepath.Join(t.TempDir(), "both.pem")
	mustDo(t, os.WriteFile(both, slices.Concat(certificate, key), 0o600))
	at := func(t time.Time) string { return t.Format(time.RFC3339) }
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"expired", s.signArgs("--at", at(signableAt.AddDate(3, 0, 3))), 4, "the certificate expired 3 days ago (notAfter 2030-01-01T00:00:00Z) (eif.signature.validity)\nhint: an enclave with this image would not start (AWS: E59; without nitro-cli's check E36, E39, E11); make a new certificate, or --allow-expired to sign anyway\n"},
		{"not yet valid", s.signArgs("--at", at(signableAt.AddDate(-1, 0, -1))), 4, "the certificate is not valid for another 1 day (notBefore 2026-01-01T00:00:00Z)"},
		{"another certificate", s.signArgs("--certificate", other.certificate), 7, "eif.sign.key)\nhint: use the certificate that was made for this key"},
		{"a key in the certificate file", s.signArgs("--certificate", both), 3, "eif.certificate.private-key)\nhint: take the key out of the file"},
		{"no certificate", s.signArgs("--certificate", s.key), 3, "eif.certificate.form"},
		{"no key", s.signArgs("--key", s.certificate), 3, "eif.key.form"},
		{"no such key", s.signArgs("--key", s.key+".none"), 1, "no such file"},
		{"no such certificate", s.signArgs("--certificate", s.key+".none"), 1, "no such file"},
		{"no time", s.signArgs("--at", "tomorrow"), 2, "--at \"tomorrow\" is no time\nhint: as in 2026-"},
		{"an offset that is none", s.signArgs("--at", "2027-01-01T00:00:00+99:00"), 2, "is no time"},
		{"to standard output", s.signArgs("-o", "-"), 2, "standard output"},
		{"to a device", s.signArgs("-o", os.DevNull), 1, "not a regular file"},
		{"to a folder", s.signArgs("-o", s.dir), 1, "not a regular file"},
		{"to no folder", s.signArgs("-o", filepath.Join(s.dir, "none", "x")), 1, "no such file"},
		{"not named", []string{"eif", "sign", s.image, "--key", s.key}, 2, "--certificate is missing"},
		{"key not named", []string{"eif", "sign", s.image, "--certificate", s.certificate, "--at", at(signableAt)}, 2, "no key is named"},
		{"a PIN on the command line", s.signArgs("--key", "pkcs11:token=a;object=b?pin-value=SECRET"), 2, "pin-value"},
		{"attach nothing", []string{"eif", "attach-signature", s.image, "--certificate", s.certificate, "--at", at(signableAt)}, 2, "--signature is missing"},
		{"attach a key", []string{"eif", "attach-signature", s.image, "--certificate", s.certificate, "--at", at(signableAt), "--signature", s.key}, 5, "eif.signature.value"},
		{"two expectations", []string{"eif", "verify", s.image, "--certificate", s.certificate, "--pcr8", "00"}, 2, "pcr8"},
		{"a PCR8 that is none", []string{"eif", "verify", s.image, "--pcr8", "00"}, 2, "--pcr8"},
	} {
		code, stdout, stderr := cretula(nil, c.args...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.stderr) || strings.Contains(stderr, "SECRET") {
			t.Errorf("%s: %d %q %s, want %d %s", c.name, code, stdout, stderr, c.code, c.stderr)
		}
		wantOnly(t, s.dir, s.image, image)
	}
	// What was to be refused can be had.
	out := filepath.Join(t.TempDir(), "signed.eif")
	args := s.signArgs("--at", at(signableAt.AddDate(9, 0, 0)), "--allow-expired", "--json", "-o", out)
	code, stdout, stderr := cretula(nil, args...)
	if code != 0 || stderr != "" || !strings.Contains(stdout, `"schema": "cretula.eif.signed.v1"`) {
		t.Errorf("%d %s %s", code, stdout, stderr)
	}
	wantOnly(t, s.dir, s.image, image)
	if code, stdout, _ := cretula(nil, slices.DeleteFunc(args, func(arg string) bool { return arg == "--json" })...); code != 0 ||
		!strings.Contains(stdout, "valid until 2030-01-01T00:00:00Z, expired 2191 days ago\n") {
		t.Errorf("%d %s", code, stdout)
	}
	if code, stdout, _ := cretulaAt(signableAt.AddDate(9, 0, 0), "eif", "verify", out); code != 4 || !strings.Contains(stdout, "E36, then E39, then E11") {
		t.Errorf("%d %s", code, stdout)
	}
	if code, stdout, _ := cretulaAt(signableAt, "eif", "verify", out); code != 0 || !strings.HasPrefix(stdout, "good ") {
		t.Errorf("%d %s", code, stdout)
	}
}

// setChecksum puts the checksum of an image right.
func setChecksum(file []byte) {
	sum := crc32.Update(crc32.ChecksumIEEE(file[:544]), crc32.IEEETable, file[548:])
	binary.BigEndian.PutUint32(file[544:], sum)
}

// TestCertificateDates: text and JSON tell the same, at both ends of the validity and
// far away from them.
func TestCertificateDates(t *testing.T) {
	s := newSignable(t, eif.Bytes([]byte("kernel")))
	begin, end := signableAt.AddDate(-1, 0, 0), signableAt.AddDate(3, 0, 0)
	for _, c := range []struct {
		at   string
		code int
		days int
		text string
	}{
		{begin.Format(time.RFC3339), 0, 1461, "1461 days left"},
		{begin.Add(-time.Nanosecond).Format(time.RFC3339Nano), 4, 1461, "not for another 0 seconds"},
		{end.Format(time.RFC3339), 0, 0, "0 seconds left"},
		{end.Add(-90 * time.Minute).Format(time.RFC3339), 0, 0, "1 hour left"},
		{end.Add(-24 * time.Hour).Add(time.Millisecond).Format(time.RFC3339Nano), 0, 0, "23 hours left"},
		{end.Add(time.Second).Format(time.RFC3339), 4, -1, "expired 1 second ago"},
		{"9999-12-31T23:59:59Z", 4, -2910982, "expired 2910981 days ago"},
		{"0001-01-01T00:00:00Z", 4, 741077, "not for another 739616 days"},
	} {
		code, text, _ := cretula(nil, "eif", "certificate", s.certificate, "--at", c.at)
		if code != c.code || !strings.Contains(text, ", "+c.text+"\n") {
			t.Errorf("%s: %d %s", c.at, code, text)
		}
		var view struct {
			DaysLeft int `json:"days_left"`
		}
		code, text, _ = cretula(nil, "eif", "certificate", "--json", s.certificate, "--at", c.at)
		mustDo(t, json.Unmarshal([]byte(text), &view))
		if code != c.code || view.DaysLeft != c.days {
			t.Errorf("%s: %d, %d days left, want %d", c.at, code, view.DaysLeft, c.days)
		}
	}
}
