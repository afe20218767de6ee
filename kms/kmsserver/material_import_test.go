// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

const (
	oaep1, oaep256 = types.AlgorithmSpecRsaesOaepSha1, types.AlgorithmSpecRsaesOaepSha256
	wrap1, wrap256 = types.AlgorithmSpecRsaAesKeyWrapSha1, types.AlgorithmSpecRsaAesKeyWrapSha256
)

// genpkey makes a private key with OpenSSL, PKCS #8.
func (o openssl) genpkey(algorithm string, options ...string) []byte {
	o.t.Helper()
	args := []string{"genpkey", "-algorithm", algorithm, "-out", "pem"}
	for _, option := range options {
		args = append(args, "-pkeyopt", option)
	}
	o.must(args...)
	o.must("pkcs8", "-topk8", "-nocrypt", "-in", "pem", "-outform", "DER", "-out", "made")
	return o.read("made")
}

func randomOf(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Key pairs that OpenSSL made and wrapped come in by every way, and OpenSSL
// verifies what they sign here.
func TestImportPairs(t *testing.T) {
	o, s := newOpenSSL(t), newService(t)
	for _, c := range []struct {
		spec      types.KeySpec
		secret    []byte
		algorithm types.SigningAlgorithmSpec
		with      types.AlgorithmSpec
		wrapping  types.WrappingKeySpec
	}{
		{"RSA_2048", o.genpkey("RSA", "rsa_keygen_bits:2048"), "RSASSA_PSS_SHA_256", wrap1, "RSA_2048"},
		{"RSA_3072", o.genpkey("RSA", "rsa_keygen_bits:3072"), "RSASSA_PKCS1_V1_5_SHA_384", wrap256, "RSA_3072"},
		{"ECC_NIST_P256", o.genpkey("EC", "ec_paramgen_curve:P-256"), "ECDSA_SHA_256", oaep1, "RSA_2048"},
		{"ECC_NIST_P384", o.genpkey("EC", "ec_paramgen_curve:P-384"), "ECDSA_SHA_384", wrap256, "RSA_2048"},
		{"ECC_NIST_P521", o.genpkey("EC", "ec_paramgen_curve:P-521"), "ECDSA_SHA_512", oaep256, "RSA_4096"},
		{"ECC_SECG_P256K1", o.genpkey("EC", "ec_paramgen_curve:secp256k1"), "ECDSA_SHA_256", oaep256, "RSA_3072"},
		{"ECC_NIST_EDWARDS25519", o.genpkey("ED25519"), "ED25519_SHA_512", wrap1, "RSA_2048"},
	} {
		key := s.externalKey(c.spec, "SIGN_VERIFY")
		out, err := s.adminClient().ImportKeyMaterial(t.Context(), s.prepare(key, c.with, c.wrapping).input(c.secret))
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		if out.KeyMaterialId != nil || *out.KeyId != key || s.shown(key).CurrentKeyMaterialId != nil {
			t.Errorf("%s: %+v", c.spec, out)
		}
		signed, err := s.adminClient().Sign(t.Context(), &awskms.SignInput{KeyId: &key, Message: []byte("the message"), SigningAlgorithm: c.algorithm})
		fatal(t, err)
		o.file("private", c.secret)
		o.file("message", []byte("the message"))
		o.file("signature", signed.Signature)
		o.must("pkey", "-inform", "DER", "-in", "private", "-pubout", "-outform", "DER", "-out", "public")
		o.must(append([]string{"pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "public", "-sigfile", "signature", "-in", "message"},
			verifyArgs(string(c.algorithm))...)...)
		if !bytes.Equal(s.material(key), c.secret) {
			t.Errorf("%s: other material came in", c.spec)
		}
	}
}

// OpenSSL and an imported key agree on MACs and on what is encrypted.
func TestImportSecrets(t *testing.T) {
	o, s := newOpenSSL(t), newService(t)
	for spec, size := range map[types.KeySpec]int{"HMAC_224": 28, "HMAC_256": 32, "HMAC_384": 48, "HMAC_512": 64} {
		key, secret := s.externalKey(spec, "GENERATE_VERIFY_MAC"), randomOf(size)
		_, err := s.adminClient().ImportKeyMaterial(t.Context(), s.prepare(key, oaep1, "RSA_2048").input(secret))
		fatal(t, err)
		hash := strings.TrimPrefix(string(spec), "HMAC_")
		mac, err := s.adminClient().GenerateMac(t.Context(), &awskms.GenerateMacInput{KeyId: &key, Message: []byte("x"),
			MacAlgorithm: types.MacAlgorithmSpec("HMAC_SHA_" + hash)})
		fatal(t, err)
		o.file("message", []byte("x"))
		o.must("mac", "-digest", "SHA"+hash, "-macopt", "hexkey:"+hex.EncodeToString(secret), "-in", "message", "-binary", "-out", "mac", "HMAC")
		if !bytes.Equal(o.read("mac"), mac.Mac) {
			t.Errorf("%s: openssl makes another MAC", spec)
		}
	}
	pair := o.genpkey("RSA", "rsa_keygen_bits:2048")
	key := s.externalKey("RSA_2048", "ENCRYPT_DECRYPT")
	_, err := s.adminClient().ImportKeyMaterial(t.Context(), s.prepare(key, wrap256, "RSA_2048").input(pair))
	fatal(t, err)
	sealed, err := s.adminClient().Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("hello"), EncryptionAlgorithm: "RSAES_OAEP_SHA_256"})
	fatal(t, err)
	o.file("private", pair)
	o.file("sealed", sealed.CiphertextBlob)
	o.must("pkeyutl", "-decrypt", "-keyform", "DER", "-inkey", "private", "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256",
		"-in", "sealed", "-out", "opened")
	if string(o.read("opened")) != "hello" {
		t.Errorf("openssl opened %q", o.read("opened"))
	}
}

// What AWS does not wrap with, this service does not either.
func TestWrappingRefused(t *testing.T) {
	s := newService(t)
	symmetric, pair, p521 := s.externalKey("SYMMETRIC_DEFAULT", ""), s.externalKey("RSA_2048", "SIGN_VERIFY"), s.externalKey("ECC_NIST_P521", "SIGN_VERIFY")
	own := s.key("")
	for _, c := range []struct {
		key, with, wrapping, code string
	}{
		{symmetric, "RSAES_PKCS1_V1_5", "RSA_2048", "UnsupportedOperationException"},
		{symmetric, "SM2PKE", "SM2", "UnsupportedOperationException"},
		{symmetric, "RSAES_OAEP_SHA_256", "SM2", "UnsupportedOperationException"},
		{symmetric, "SM2PKE", "RSA_2048", "UnsupportedOperationException"},
		{symmetric, "RSA_AES_KEY_WRAP_SHA_256", "RSA_2048", "UnsupportedOperationException"},
		{pair, "RSAES_OAEP_SHA_256", "RSA_4096", "UnsupportedOperationException"},
		{p521, "RSAES_OAEP_SHA_1", "RSA_2048", "UnsupportedOperationException"},
		{own, "RSAES_OAEP_SHA_1", "RSA_2048", "UnsupportedOperationException"},
		{symmetric, "RSAES_OAEP_SHA_512", "RSA_2048", "ValidationException"},
		{symmetric, "RSAES_OAEP_SHA_1", "RSA_1024", "ValidationException"},
		{"alias/x", "RSAES_OAEP_SHA_1", "RSA_2048", "NotFoundException"},
	} {
		_, err := s.adminClient().GetParametersForImport(t.Context(), &awskms.GetParametersForImportInput{KeyId: &c.key,
			WrappingAlgorithm: types.AlgorithmSpec(c.with), WrappingKeySpec: types.WrappingKeySpec(c.wrapping)})
		t.Run(c.with+" "+c.wrapping, func(t *testing.T) { wantCode(t, err, c.code) })
	}
}

// A token is good for its key, its wrapping key and its time.
func TestImportTokens(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	client, key, other, secret := s.adminClient(), s.externalKey("", ""), s.externalKey("", ""), randomOf(32)
	a, b := s.prepare(key, oaep256, "RSA_2048"), s.prepare(key, oaep256, "RSA_3072")
	if validity := a.params.ParametersValidTo.Sub(c.now()); (validity - day).Abs() > time.Minute {
		t.Errorf("valid for %s", validity)
	}
	if bytes.Equal(a.params.PublicKey, b.params.PublicKey) || len(b.params.ImportToken) > 6144 {
		t.Error("two wrapping keys are one, or a token is too long")
	}
	public, err := x509.ParsePKIXPublicKey(b.params.PublicKey)
	if rsaKey, ok := public.(*rsa.PublicKey); err != nil || !ok || rsaKey.Size() != 384 {
		t.Errorf("wrapping key %T, %v", public, err)
	}
	try := func(code string, change func(in *awskms.ImportKeyMaterialInput)) {
		t.Helper()
		in := a.input(secret)
		change(in)
		_, err := client.ImportKeyMaterial(t.Context(), in)
		wantCode(t, err, code)
		s.wantState(key, types.KeyStatePendingImport)
	}
	flipped := bytes.Clone(a.params.ImportToken)
	flipped[len(flipped)/2] ^= 1
	try("InvalidImportTokenException", func(in *awskms.ImportKeyMaterialInput) { in.ImportToken = flipped })
	try("InvalidImportTokenException", func(in *awskms.ImportKeyMaterialInput) { in.ImportToken = in.ImportToken[:100] })
	try("InvalidImportTokenException", func(in *awskms.ImportKeyMaterialInput) { in.ImportToken = []byte{1} })
	try("InvalidImportTokenException", func(in *awskms.ImportKeyMaterialInput) { in.ImportToken = randomOf(6144) })
	try("InvalidImportTokenException", func(in *awskms.ImportKeyMaterialInput) { in.KeyId = &other })
	strange := newService(t)
	try("InvalidImportTokenException", func(in *awskms.ImportKeyMaterialInput) {
		in.ImportToken = strange.prepare(strange.externalKey("", ""), oaep256, "RSA_2048").params.ImportToken
	})
	try("InvalidCiphertextException", func(in *awskms.ImportKeyMaterialInput) {
		in.EncryptedKeyMaterial = b.input(secret).EncryptedKeyMaterial
	})
	try("InvalidCiphertextException", func(in *awskms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial[7] ^= 1 })
	try("InvalidCiphertextException", func(in *awskms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = in.EncryptedKeyMaterial[:255] })
	try("InvalidCiphertextException", func(in *awskms.ImportKeyMaterialInput) {
		in.EncryptedKeyMaterial = incoming{s, a.params, a.spec, oaep1}.input(secret).EncryptedKeyMaterial // with another hash
	})
	try("ValidationException", func(in *awskms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = randomOf(6145) })

	c.move(day - time.Minute)
	_, err = client.ImportKeyMaterial(t.Context(), b.input(secret)) // the later one
	fatal(t, err)
	_, err = client.ImportKeyMaterial(t.Context(), a.input(secret)) // and, the same again, the earlier one
	fatal(t, err)
	c.move(time.Minute + time.Second)
	_, err = client.ImportKeyMaterial(t.Context(), a.input(secret))
	wantCode(t, err, "ExpiredImportTokenException")
}

// Material must be what the key spec asks for.
func TestImportWrongMaterial(t *testing.T) {
	o, s := newOpenSSL(t), newService(t)
	symmetric, mac, pair := s.externalKey("", ""), s.externalKey("HMAC_384", "GENERATE_VERIFY_MAC"), s.externalKey("ECC_NIST_P256", "SIGN_VERIFY")
	big := s.externalKey("RSA_3072", "SIGN_VERIFY")
	for name, c := range map[string]struct {
		key    string
		with   types.AlgorithmSpec
		secret []byte
	}{
		"16 bytes":    {symmetric, oaep256, randomOf(16)},
		"31 bytes":    {symmetric, oaep256, randomOf(31)},
		"33 bytes":    {symmetric, oaep256, randomOf(33)},
		"64 bytes":    {symmetric, oaep256, randomOf(64)},
		"short MAC":   {mac, oaep256, randomOf(47)},
		"random pair": {pair, oaep256, randomOf(138)},
		"other curve": {pair, wrap256, o.genpkey("EC", "ec_paramgen_curve:P-384")},
		"RSA":         {pair, wrap256, o.genpkey("RSA", "rsa_keygen_bits:2048")},
		"RSA_2048":    {big, wrap256, o.genpkey("RSA", "rsa_keygen_bits:2048")},
	} {
		in := s.prepare(c.key, c.with, "RSA_2048").input(c.secret)
		_, err := s.adminClient().ImportKeyMaterial(t.Context(), in)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		code, message, _, _ := refused(t, err)
		if code != "IncorrectKeyMaterialException" || strings.Contains(message, hex.EncodeToString(c.secret[:4])) {
			t.Errorf("%s: %s %s", name, code, message)
		}
		s.wantState(c.key, types.KeyStatePendingImport)
	}
	own := s.key("")
	in := s.prepare(symmetric, oaep256, "RSA_2048").input(randomOf(32))
	in.KeyId = &own
	_, err := s.adminClient().ImportKeyMaterial(t.Context(), in)
	refusal(t, "own key", err, "UnsupportedOperationException", own+" origin is AWS_KMS which is not valid for this operation.")
}

// The first material is that of the key for ever, also after it was deleted.
func TestImportSameMaterial(t *testing.T) {
	o, s := newOpenSSL(t), newService(t)
	first := randomOf(32)
	key, other := s.externalKey("", ""), s.externalKey("", "")
	id := s.mustImport(key, first)
	if otherID := s.mustImport(other, first); id == otherID || len(id) != 64 {
		t.Errorf("ids %s and %s", id, otherID)
	}
	sealed := s.seal(key, "x")
	for range 2 {
		if again := s.mustImport(key, first); again != id {
			t.Errorf("id %s, was %s", again, id)
		}
		_, err := s.importInto(key, randomOf(32))
		wantCode(t, err, "IncorrectKeyMaterialException")
		out, err := s.adminClient().DeleteImportedKeyMaterial(t.Context(), &awskms.DeleteImportedKeyMaterialInput{KeyId: &key})
		fatal(t, err)
		if *out.KeyId != key || *out.KeyMaterialId != id {
			t.Errorf("%+v", out)
		}
		_, err = s.importInto(key, randomOf(32))
		wantCode(t, err, "IncorrectKeyMaterialException")
		s.wantState(key, types.KeyStatePendingImport)
	}
	s.mustImport(key, first)
	s.wantOpen(sealed, "x")

	// Of a pair, any encoding is the same material, any other pair is not.
	pair := s.externalKey("ECC_NIST_P256", "SIGN_VERIFY")
	full := o.genpkey("EC", "ec_paramgen_curve:P-256")
	o.file("full", full)
	o.must("ec", "-inform", "DER", "-in", "full", "-no_public", "-outform", "DER", "-out", "sec1")
	o.must("pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", "sec1", "-outform", "DER", "-out", "short")
	if len(o.read("short")) >= len(full) {
		t.Fatal("openssl wrote the public key too")
	}
	s.mustImport(pair, full)
	s.mustImport(pair, o.read("short"))
	_, err := s.importInto(pair, o.genpkey("EC", "ec_paramgen_curve:P-256"))
	wantCode(t, err, "IncorrectKeyMaterialException")
	_, err = s.adminClient().DeleteImportedKeyMaterial(t.Context(), &awskms.DeleteImportedKeyMaterialInput{KeyId: &pair})
	fatal(t, err)
	_, err = s.importInto(pair, o.genpkey("EC", "ec_paramgen_curve:P-256"))
	wantCode(t, err, "IncorrectKeyMaterialException")
	s.mustImport(pair, full)
	s.wantState(pair, types.KeyStateEnabled)
}

// Imports happen with their event or not at all, and their material stands nowhere
// in the open.
func TestImportIsWhole(t *testing.T) {
	failing := &failingStore{Store: newStore(t)}
	s := newService(t, over(t, failing))
	key, secret := s.externalKey("", ""), randomOf(32)
	in := s.prepare(key, oaep256, "RSA_2048").input(secret)
	broken := errors.New("the disk is gone")
	for _, set := range []func(error){func(err error) { failing.fail = err }, s.audit.set} {
		set(broken)
		_, err := s.adminClient().ImportKeyMaterial(t.Context(), in)
		if code, _, status, _ := refused(t, err); status != 500 || code != "KMSInternalException" {
			t.Errorf("%d %s", status, code)
		}
		set(nil)
		s.wantState(key, types.KeyStatePendingImport)
		if m := s.shown(key); m.CurrentKeyMaterialId != nil {
			t.Errorf("%+v", m)
		}
	}
	_, err := s.adminClient().ImportKeyMaterial(t.Context(), in)
	fatal(t, err)
	s.wantState(key, types.KeyStateEnabled)
}

func TestImportedMaterialIsHidden(t *testing.T) {
	s := newService(t)
	key, secret := s.externalKey("", ""), randomOf(32)
	s.mustImport(key, secret)
	_, err := s.importInto(key, append(bytes.Clone(secret), 1))
	wantCode(t, err, "IncorrectKeyMaterialException")
	private := writtenForms(secret)
	fatal(t, filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content := readFile(t, path)
		for _, form := range private {
			if strings.Contains(content, form) {
				t.Errorf("%s holds the material", path)
			}
		}
		return nil
	}))
	for _, form := range private {
		if strings.Contains(s.log.String(), form) {
			t.Error("the log holds the material")
		}
	}
	if events := strings.Join(s.events("ImportKeyMaterial"), ""); !strings.Contains(events, `"keyMaterialId":"`) || strings.Contains(events, "importToken") {
		t.Error(events)
	}
}

// writtenForms are the forms in which bytes could be written.
func writtenForms(b []byte) []string {
	return []string{string(b), hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b)[:40]}
}

// What is asked for is a condition of policies.
func TestImportConditions(t *testing.T) {
	s := newService(t)
	deny := func(action, operator, key, value string) string {
		return `,{"Effect":"Deny","Principal":"*","Action":"kms:` + action + `","Resource":"*","Condition":{"` + operator + `":{"` + key + `":"` + value + `"}}}`
	}
	limit := time.Now().Add(10 * day)
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"}` +
		deny("GetParametersForImport", "StringEquals", "kms:WrappingAlgorithm", "RSAES_OAEP_SHA_1") +
		deny("GetParametersForImport", "StringEquals", "kms:WrappingKeySpec", "RSA_3072") +
		deny("ImportKeyMaterial", "StringEquals", "kms:ExpirationModel", "KEY_MATERIAL_DOES_NOT_EXPIRE") +
		deny("ImportKeyMaterial", "DateGreaterThan", "kms:ValidTo", limit.UTC().Format(time.RFC3339)) + `]}`
	key := s.make("", "", func(in *awskms.CreateKeyInput) { in.Origin, in.Policy = types.OriginTypeExternal, &policy })
	for _, c := range [][2]string{{"RSAES_OAEP_SHA_1", "RSA_2048"}, {"RSAES_OAEP_SHA_256", "RSA_3072"}} {
		_, err := s.adminClient().GetParametersForImport(t.Context(), &awskms.GetParametersForImportInput{KeyId: &key,
			WrappingAlgorithm: types.AlgorithmSpec(c[0]), WrappingKeySpec: types.WrappingKeySpec(c[1])})
		wantCode(t, err, "AccessDeniedException")
	}
	secret := randomOf(32)
	_, err := s.importInto(key, secret)
	wantCode(t, err, "AccessDeniedException")
	_, err = s.importInto(key, secret, until(limit.Add(day)))
	wantCode(t, err, "AccessDeniedException")
	s.mustImport(key, secret, until(limit.Add(-day)))
}

// Nobody imports or deletes the material of a key of another account, whatever the
// policies say.
func TestImportOfOtherAccount(t *testing.T) {
	s := newService(t)
	everybody := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`
	key := s.make("", "", func(in *awskms.CreateKeyInput) { in.Origin, in.Policy = types.OriginTypeExternal, &everybody })
	in := s.prepare(key, oaep256, "RSA_2048").input(randomOf(32))
	owner, _, err := s.kms.AccessKey(t.Context(), s.admin.AccessKeyID)
	fatal(t, err)
	owner.Account = "111122223333"
	stranger := &kms.Caller{Principal: owner, Region: region}
	for name, body := range map[string]string{
		"GetParametersForImport":    `{"KeyId":"` + key + `","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`,
		"DeleteImportedKeyMaterial": `{"KeyId":"` + key + `"}`,
		"ImportKeyMaterial": `{"KeyId":"` + key + `","ImportToken":"` + base64Of(in.ImportToken) + `","EncryptedKeyMaterial":"` + base64Of(in.EncryptedKeyMaterial) +
			`","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"}`,
	} {
		if _, err := s.kms.Call(t.Context(), stranger, name, []byte(body)); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.wantState(key, types.KeyStatePendingImport)
}
