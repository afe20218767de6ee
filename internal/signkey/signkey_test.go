// SPDX-License-Identifier: Apache-2.0

package signkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
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
	"github.com/cretula/cretula/reason"
)

var curves = map[elliptic.Curve]crypto.Hash{
	elliptic.P256(): crypto.SHA256, elliptic.P384(): crypto.SHA384, elliptic.P521(): crypto.SHA512,
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	must(t, err)
	return key
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// file writes a file of mode 0600.
func file(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, content, 0o600))
	return path
}

// wantRefusal wants an error of that rule, in which none of the secrets is.
func wantRefusal(t testing.TB, what string, err error, r reason.Reason, rule string, secrets ...string) {
	t.Helper()
	refusal, ok := errors.AsType[*reason.Error](err)
	if !ok || refusal.Reason() != r || refusal.Rule() != rule {
		t.Errorf("%s: %v, want %v (%s)", what, err, r, rule)
		return
	}
	for _, s := range secrets {
		if strings.Contains(err.Error(), s) {
			t.Errorf("%s: the error has the secret: %v", what, err)
		}
	}
}

func wantUsage(t testing.TB, what string, err error, secrets ...string) {
	t.Helper()
	if _, ok := errors.AsType[*cli.UsageError](err); !ok {
		t.Errorf("%s: %v, want a usage error", what, err)
		return
	}
	for _, s := range secrets {
		if strings.Contains(err.Error(), s) {
			t.Errorf("%s: the error has the secret: %v", what, err)
		}
	}
}

// checkSigner signs with it and wants the signature to be of the public key, if
// one is given.
func checkSigner(t testing.TB, signer crypto.Signer, want *ecdsa.PublicKey) {
	t.Helper()
	public := signer.Public().(*ecdsa.PublicKey)
	if want != nil && !public.Equal(want) {
		t.Fatal("the signer has another public key")
	}
	hash := curves[public.Curve]
	h := hash.New()
	h.Write([]byte("what is signed"))
	digest := h.Sum(nil)
	signature, err := signer.Sign(rand.Reader, digest, hash)
	if err != nil || !ecdsa.VerifyASN1(public, digest, signature) {
		t.Errorf("%s: %v, or the signature does not verify", public.Curve.Params().Name, err)
	}
	checkSection(t, signer)
}

// checkSection signs an image's PCR0 with it, under a certificate for its key.
func checkSection(t testing.TB, signer crypto.Signer) {
	t.Helper()
	issuer := newKey(t, elliptic.P256())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), issuer)
	must(t, err)
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pcr0 := pcr.Sum([]byte("an image"))
	if section, err := eif.SignSection(t.Context(), certificate, pcr0, signer, nil); err != nil || !bytes.Contains(section, []byte("signing_certificate")) {
		t.Errorf("%v", err) // SignSection has verified it
	}
}

func TestKeyFile(t *testing.T) {
	for curve := range curves {
		key := newKey(t, curve)
		sec1, err := x509.MarshalECPrivateKey(key)
		must(t, err)
		ec := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})
		params := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 1, 1}})
		for name, content := range map[string][]byte{
			"SEC1": ec, "PKCS #8": pkcs8(t, key), "EC PARAMETERS": slices.Concat(params, ec),
			"text and more blocks": slices.Concat([]byte("my key\n"), ec, params),
		} {
			signer, closer, err := Open(t.Context(), Spec{Key: file(t, content), Warn: func(m string) { t.Errorf("warned: %s", m) }})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			checkSigner(t, signer, &key.PublicKey)
			must(t, closer.Close())
		}
	}
}

func TestKeyFileWarns(t *testing.T) {
	path := file(t, pkcs8(t, newKey(t, elliptic.P384())))
	must(t, os.Chmod(path, 0o644))
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o644 {
		t.Skip("permissions mean nothing here")
	}
	var warned []string
	_, _, err = Open(t.Context(), Spec{Key: path, Warn: func(m string) { warned = append(warned, m) }})
	if err != nil || len(warned) != 1 || !strings.Contains(warned[0], "0644") {
		t.Errorf("%v, warned %q", err, warned)
	}
	if _, _, err := Open(t.Context(), Spec{Key: path}); err != nil {
		t.Errorf("nobody to warn: %v", err)
	}
}

func TestKeyFileRefuses(t *testing.T) {
	key := pkcs8(t, newKey(t, elliptic.P384()))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block := func(name string, headers map[string]string, content string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: name, Headers: headers, Bytes: []byte(content)})
	}
	for _, c := range []struct {
		name    string
		content []byte
		r       reason.Reason
		rule    string
	}{
		{"nothing", nil, reason.Malformed, "eif.key.form"},
		{"text", []byte("key"), reason.Malformed, "eif.key.form"},
		{"DER", []byte{0x30, 0x03, 2, 1, 1}, reason.Malformed, "eif.key.form"},
		{"certificate", block("CERTIFICATE", nil, "x"), reason.Malformed, "eif.key.form"},
		{"public key", block("PUBLIC KEY", nil, "x"), reason.Malformed, "eif.key.form"},
		{"damaged block", []byte(strings.Replace(string(key), "\n", "\n!", 1)), reason.Malformed, "eif.key.form"},
		{"garbage", block("PRIVATE KEY", nil, "SECRET"), reason.Malformed, "eif.key.form"},
		{"garbage, SEC1", block("EC PRIVATE KEY", nil, "SECRET"), reason.Malformed, "eif.key.form"},
		{"OpenSSH", block("OPENSSH PRIVATE KEY", nil, "SECRET"), reason.Malformed, "eif.key.form"},
		{"two keys", slices.Concat(key, key), reason.Malformed, "eif.key.form"},
		{"too large", make([]byte, maxKeyFile+1), reason.Malformed, "eif.key.form"},
		{"encrypted PKCS #8", block("ENCRYPTED PRIVATE KEY", nil, "SECRET"), reason.Unsupported, "eif.key.encrypted"},
		{"encrypted SEC1", block("EC PRIVATE KEY", map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, "SECRET"), reason.Unsupported, "eif.key.encrypted"},
		{"RSA", pkcs8(t, rsaKey), reason.Unsupported, "eif.key.curve"},
		{"RSA, PKCS #1", block("RSA PRIVATE KEY", nil, string(x509.MarshalPKCS1PrivateKey(rsaKey))), reason.Unsupported, "eif.key.curve"},
		{"Ed25519", pkcs8(t, ed), reason.Unsupported, "eif.key.curve"},
		{"P-224", pkcs8(t, newKey(t, elliptic.P224())), reason.Unsupported, "eif.key.curve"},
	} {
		signer, closer, err := Open(t.Context(), Spec{Key: file(t, c.content)})
		if signer != nil || closer != nil {
			t.Errorf("%s: opened", c.name)
		}
		wantRefusal(t, c.name, err, c.r, c.rule, "SECRET")
	}
	if _, _, err := Open(t.Context(), Spec{Key: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, _, err := Open(t.Context(), Spec{Key: t.TempDir()}); err == nil {
		t.Error("a folder was opened")
	}
	_, _, err = Open(t.Context(), Spec{})
	wantUsage(t, "no key", err)
}

// TestOpenSSLKeys takes what OpenSSL writes.
func TestOpenSSLKeys(t *testing.T) {
	openssl := need.Program(t, "openssl")
	made := func(args ...string) string {
		path := filepath.Join(t.TempDir(), "key.pem")
		if out, err := exec.Command(openssl, append(args, "-out", path)...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
		must(t, os.Chmod(path, 0o600))
		return path
	}
	for _, name := range []string{"prime256v1", "secp384r1", "secp521r1"} {
		path := made("ecparam", "-name", name, "-genkey")
		signer, _, err := Open(t.Context(), Spec{Key: path})
		must(t, err)
		checkSigner(t, signer, nil)
		for _, args := range [][]string{{"pkcs8", "-topk8", "-nocrypt", "-in", path}, {"ec", "-in", path}} {
			again, _, err := Open(t.Context(), Spec{Key: made(args...)})
			must(t, err)
			checkSigner(t, again, signer.Public().(*ecdsa.PublicKey))
		}
		for _, args := range [][]string{
			{"pkcs8", "-topk8", "-passout", "pass:x", "-in", path}, {"ec", "-aes256", "-passout", "pass:x", "-in", path},
		} {
			_, _, err := Open(t.Context(), Spec{Key: made(args...)})
			wantRefusal(t, strings.Join(args[:2], " "), err, reason.Unsupported, "eif.key.encrypted")
		}
		for _, args := range [][]string{
			{"ec", "-param_enc", "explicit", "-in", path}, {"pkcs8", "-topk8", "-nocrypt", "-in", made("ec", "-param_enc", "explicit", "-in", path)},
		} {
			_, _, err := Open(t.Context(), Spec{Key: made(args...)})
			wantRefusal(t, "explicit parameters, "+args[0], err, reason.Unsupported, "eif.key.curve")
		}
	}
	for _, name := range []string{"secp256k1", "secp224r1", "brainpoolP384r1"} {
		path := made("ecparam", "-name", name, "-genkey")
		_, _, err := Open(t.Context(), Spec{Key: path})
		wantRefusal(t, name, err, reason.Unsupported, "eif.key.curve")
		_, _, err = Open(t.Context(), Spec{Key: made("pkcs8", "-topk8", "-nocrypt", "-in", path)})
		wantRefusal(t, name+", PKCS #8", err, reason.Unsupported, "eif.key.curve")
	}
}

func TestParseURI(t *testing.T) {
	got, err := parseURI("pkcs11:token=My%20token;serial=0a;manufacturer=m;model=o;object=%C3%A4%3B;id=%00%ff;type=private?module-path=/lib/x%26y.so&pin-source=file:/run/pin")
	must(t, err)
	want := tokenKey{"/lib/x&y.so", "My token", "0a", "m", "o", "ä;", nil, "file:/run/pin"}
	if id := got.id; string(id) != "\x00\xff" {
		t.Errorf("id %x", id)
	}
	if got.id = nil; got.String() == "" || got.module != want.module || got.token != want.token || got.serial != want.serial ||
		got.manufacturer != want.manufacturer || got.model != want.model || got.object != want.object || got.pinFile != want.pinFile {
		t.Errorf("%+v", got)
	}
	for _, uri := range []string{
		"pkcs11:", "pkcs11:token=a", "pkcs11:object=a", "pkcs11:token=a;object=", "pkcs11:token=a;object", "pkcs11:token=a;object=b;",
		"pkcs11:token=a;object=b;object=c", "pkcs11:token=a;object=b;type=public", "pkcs11:token=a;object=b;slot-id=1",
		"pkcs11:token=a;object=b;x-vendor=1", "pkcs11:token=a;object=%zz", "pkcs11:token=a;object=b?module-name=x", "pkcs11:token=a;object=b?pin-source=a&pin-source=b",
		"pkcs11:token=a;object=b?pin-value=SECRET", "pkcs11:pin-value=SECRET", "pkcs11:token=a;object=b?pin-value=SECRET%zz", "pkcs11:token=a;object=b?SECRET",
		"pkcs11:token=a;object=b?pin-value=SECRET&pin-value=SECRET",
	} {
		_, err := parseURI(uri)
		wantUsage(t, uri, err, "SECRET")
	}
}

func TestPIN(t *testing.T) {
	for _, content := range []string{"1234", "1234\n", "1234\r\n"} {
		k := tokenKey{pinFile: "file:" + file(t, []byte(content))}
		if pin, err := k.readPIN(""); err != nil || string(pin) != "1234" {
			t.Errorf("%q: %q, %v", content, pin, err)
		}
	}
	plain := file(t, []byte("1234"))
	if pin, err := (&tokenKey{}).readPIN(plain); err != nil || string(pin) != "1234" {
		t.Errorf("%q, %v", pin, err)
	}
	_, err := (&tokenKey{pinFile: plain}).readPIN(plain)
	wantUsage(t, "named twice", err)
	_, err = (&tokenKey{}).readPIN("")
	wantUsage(t, "not named", err)
	_, err = (&tokenKey{pinFile: "|cat /etc/passwd"}).readPIN("")
	wantUsage(t, "a program", err)
	for name, content := range map[string]string{"empty": "", "a line end": "\n", "too long": strings.Repeat("SECRET", 50)} {
		_, err := (&tokenKey{}).readPIN(file(t, []byte(content)))
		wantRefusal(t, name, err, reason.Malformed, "eif.key.pin", "SECRET")
	}
	must(t, os.Chmod(plain, 0o644))
	if info, err := os.Stat(plain); err == nil && info.Mode().Perm() == 0o644 {
		_, err := (&tokenKey{}).readPIN(plain)
		wantRefusal(t, "readable for others", err, reason.Unsupported, "eif.key.pin", "1234")
	}
	_, err = (&tokenKey{}).readPIN(plain + ".none")
	wantRefusal(t, "no file", err, reason.Unsupported, "eif.key.pin")
}

func TestNotBuilt(t *testing.T) {
	if built {
		t.Skip("built with PKCS#11")
	}
	_, _, err := Open(t.Context(), Spec{Key: "pkcs11:token=a;object=b?module-path=/x.so&pin-source=/none"})
	wantRefusal(t, "not built", err, reason.Unsupported, "eif.key.pkcs11")
}
