// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/reason"
)

func openssl(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %v: %v\n%s", args, err, &stderr)
	}
	return stdout.Bytes()
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func writeKey(t *testing.T, dir string, key *rsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// writeCertificate makes a certificate whose key identifier is the given one:
// OpenSSL takes the recipient's identifier from there.
func writeCertificate(t *testing.T, dir, name string, key *rsa.PrivateKey, ski []byte) string {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "recipient"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		SubjectKeyId: ski,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestOpenSSLOpensOurs(t *testing.T) {
	need.Program(t, "openssl")
	for _, bits := range []int{2048, 3072, 4096} {
		dir := t.TempDir()
		key := testKey(t, bits)
		keyFile := writeKey(t, dir, key)
		for _, n := range []int{1, 15, 16, 32, 1000, 4096} {
			content := make([]byte, n)
			rand.Read(content)
			sealed, err := Seal(&key.PublicKey, content)
			if err != nil {
				t.Fatal(err)
			}
			file := writeFile(t, dir, "envelope.ber", sealed)
			opened := openssl(t, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", file, "-inkey", keyFile)
			if !bytes.Equal(opened, content) {
				t.Errorf("%d bits, %d bytes: OpenSSL finds other content", bits, n)
			}
		}
	}
}

func TestOpenOpenSSLs(t *testing.T) {
	need.Program(t, "openssl")
	dir := t.TempDir()
	key := testKey(t, 2048)
	ski, err := KeyIdentifier(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	cert := writeCertificate(t, dir, "cert.pem", key, ski)
	content := make([]byte, 4096)
	rand.Read(content)
	in := writeFile(t, dir, "content", content)
	seal := func(args ...string) []byte {
		return openssl(t, append([]string{"cms", "-encrypt", "-binary", "-in", in, "-outform", "DER"}, args...)...)
	}
	oaep256 := []string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha256"}
	aws := append([]string{"-keyid", "-aes-256-cbc", "-recip", cert}, oaep256...)

	for name, envelope := range map[string][]byte{"DER": seal(aws...), "stream": seal(append(aws[:len(aws):len(aws)], "-stream")...)} {
		if envelope[1] == 0x80 != (name == "stream") {
			t.Errorf("%s: starts with %x", name, envelope[:2])
		}
		opened, err := Open(key, envelope)
		if err != nil || !bytes.Equal(opened, content) {
			t.Errorf("%s: other content, %v", name, err)
		}
	}

	sha1ID := writeCertificate(t, dir, "sha1.pem", key, make([]byte, 20))
	for name, tt := range map[string]struct {
		args []string
		why  reason.Reason
		rule string
	}{
		"issuer and serial": {append([]string{"-aes-256-cbc", "-recip", cert}, oaep256...), reason.Unsupported, "cms.recipient.kind"},
		"other identifier":  {append([]string{"-keyid", "-aes-256-cbc", "-recip", sha1ID}, oaep256...), reason.Mismatch, "cms.recipient"},
		"AES-128":           {append([]string{"-keyid", "-aes-128-cbc", "-recip", cert}, oaep256...), reason.Unsupported, "cms.content-encryption"},
		"PKCS #1 v1.5":      {[]string{"-keyid", "-aes-256-cbc", "-recip", cert}, reason.Unsupported, "cms.key-encryption"},
		"OAEP, SHA-1":       {[]string{"-keyid", "-aes-256-cbc", "-recip", cert, "-keyopt", "rsa_padding_mode:oaep"}, reason.Unsupported, "cms.key-encryption"},
		"OAEP, SHA-512":     {[]string{"-keyid", "-aes-256-cbc", "-recip", cert, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha512"}, reason.Unsupported, "cms.key-encryption"},
		"MGF1 with SHA-1":   {[]string{"-keyid", "-aes-256-cbc", "-recip", cert, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha1"}, reason.Unsupported, "cms.key-encryption"},
		"a label":           {append(aws[:len(aws):len(aws)], "-keyopt", "rsa_oaep_label:00ff"), reason.Unsupported, "cms.key-encryption"},
	} {
		opened, err := Open(key, seal(tt.args...))
		if opened != nil {
			t.Errorf("%s: content in spite of the error", name)
		}
		t.Run(name, func(t *testing.T) { wantRefused(t, err, tt.why, tt.rule, "") })
	}
	// The one place where recipients are not all alike: two of them.
	two := seal(append(aws[:len(aws):len(aws)], append([]string{"-recip", cert}, oaep256...)...)...)
	_, err = Open(key, two)
	wantRefused(t, err, reason.Malformed, "cms.recipient.count", "")
}
