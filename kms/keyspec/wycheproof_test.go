// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"filippo.io/mldsa"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/kms/kmsapi"
)

// The vectors are no dependency of the module: they are 100 MB. The version is
// the one whose counts are below.
const wycheproof = "github.com/c2sp/wycheproof@v0.0.0-20260105152342-fca0d3ba9f12"

// A vector holds what some file has for a case; Result is valid, invalid or
// acceptable.
type vector struct {
	TcID                                  int
	Comment, Result                       string
	Flags                                 []string
	Key, Msg, Ct, Iv, Tag, Label, Sig     string
	Public, Private, Shared, PublicKey    string
	PrivateSeed, PrivateKeyPkcs8, Mu, Ctx string
}

type group struct {
	PublicKey        json.RawMessage
	PublicKeyDer     string
	PrivateKeyPkcs8  string
	PrivateSeed      string
	KeySize, TagSize int
	Tests            []vector
}

// eachVector calls f for all cases of a file of project Wycheproof, from the
// module cache or the network, and compares their number.
func eachVector(t *testing.T, name string, cases int, f func(g *group, v *vector)) {
	t.Helper()
	// Outside of the module, so that its go.mod is left alone.
	command := exec.Command(need.Program(t, "go"), "mod", "download", "-json", wycheproof)
	command.Dir = t.TempDir()
	out, err := command.Output()
	var module struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &module); err != nil || jsonErr != nil || module.Dir == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("missing component: %s (CI=true: no skip): %v %s", wycheproof, err, module.Error)
		}
		t.Skipf("SKIPPED, missing component: %s: %v %s", wycheproof, err, module.Error)
	}
	data, err := os.ReadFile(filepath.Join(module.Dir, "testvectors_v1", name))
	if err != nil {
		t.Fatal(err)
	}
	var content struct{ TestGroups []*group }
	if err := json.Unmarshal(data, &content); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range content.TestGroups {
		for i := range g.Tests {
			f(g, &g.Tests[i])
			n++
		}
	}
	if n != cases {
		t.Errorf("%s has %d cases, want %d", name, n, cases)
	}
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWycheproofKeyWrap(t *testing.T) {
	eachVector(t, "aes_kwp_test.json", 254, func(_ *group, v *vector) {
		got, err := unwrapPadded(unhex(t, v.Key), unhex(t, v.Ct))
		// "acceptable" are keys shorter than a purpose would have.
		if valid := v.Result != "invalid"; (err == nil) != valid || valid && !bytes.Equal(got, unhex(t, v.Msg)) {
			t.Errorf("%d %s (%s): %x, %v", v.TcID, v.Comment, v.Result, got, err)
		}
	})
}

func TestWycheproofOAEP(t *testing.T) {
	for name, c := range map[string]struct {
		spec, algorithm string
		cases           int
	}{
		"rsa_oaep_2048_sha1_mgf1sha1_test.json":     {"RSA_2048", "RSAES_OAEP_SHA_1", 36},
		"rsa_oaep_2048_sha256_mgf1sha256_test.json": {"RSA_2048", "RSAES_OAEP_SHA_256", 37},
		"rsa_oaep_3072_sha256_mgf1sha256_test.json": {"RSA_3072", "RSAES_OAEP_SHA_256", 37},
		"rsa_oaep_4096_sha256_mgf1sha256_test.json": {"RSA_4096", "RSAES_OAEP_SHA_256", 37},
	} {
		eachVector(t, name, c.cases, func(g *group, v *vector) {
			if v.Label != "" {
				return // KMS has none
			}
			got, err := Lookup(c.spec).Decrypt(unhex(t, g.PrivateKeyPkcs8), c.algorithm, unhex(t, v.Ct))
			if v.Result == "valid" {
				if err != nil || !bytes.Equal(got, unhex(t, v.Msg)) {
					t.Errorf("%s %d %s: %x, %v", name, v.TcID, v.Comment, got, err)
				}
				return
			}
			wantError(t, name+" "+v.Comment, err, kmsapi.InvalidCiphertext, "")
		})
	}
}

// The vectors of signatures have public keys only: what the specs do with them is
// called below Verify.
func TestWycheproofRSASignatures(t *testing.T) {
	for name, c := range map[string]struct {
		algorithm string
		hash      crypto.Hash
		cases     int
	}{
		"rsa_signature_2048_sha256_test.json":   {"RSASSA_PKCS1_V1_5_SHA_256", crypto.SHA256, 259},
		"rsa_signature_3072_sha384_test.json":   {"RSASSA_PKCS1_V1_5_SHA_384", crypto.SHA384, 259},
		"rsa_signature_4096_sha512_test.json":   {"RSASSA_PKCS1_V1_5_SHA_512", crypto.SHA512, 259},
		"rsa_pss_2048_sha256_mgf1_32_test.json": {"RSASSA_PSS_SHA_256", crypto.SHA256, 108},
		"rsa_pss_4096_sha384_mgf1_48_test.json": {"RSASSA_PSS_SHA_384", crypto.SHA384, 141},
		"rsa_pss_4096_sha512_mgf1_64_test.json": {"RSASSA_PSS_SHA_512", crypto.SHA512, 179},
		"rsa_pss_2048_sha256_mgf1_0_test.json":  {"RSASSA_PSS_SHA_256", crypto.SHA256, 103},
	} {
		eachVector(t, name, c.cases, func(g *group, v *vector) {
			var public struct{ Modulus, PublicExponent string }
			if err := json.Unmarshal(g.PublicKey, &public); err != nil {
				t.Fatal(err)
			}
			e := new(big.Int).SetBytes(unhex(t, public.PublicExponent))
			key := &rsa.PublicKey{N: new(big.Int).SetBytes(unhex(t, public.Modulus)), E: int(e.Int64())}
			m := message{algorithm: c.algorithm, hash: c.hash, data: unhex(t, v.Msg)}
			valid := v.Result == "valid"
			if name == "rsa_pss_2048_sha256_mgf1_0_test.json" { // AWS's salt is as long as the hash
				valid = v.Comment == "s_len changed to 32"
			}
			if got := verifyRSA(key, m, unhex(t, v.Sig)); got != valid {
				t.Errorf("%s %d: %v, want %s (%s)", name, v.TcID, got, v.Result, v.Comment)
			}
		})
	}
}

func TestWycheproofSecp256k1(t *testing.T) {
	eachVector(t, "ecdsa_secp256k1_sha256_test.json", 466, func(g *group, v *vector) {
		point, err := parseSPKI(unhex(t, g.PublicKeyDer), oidEC, curve(oidSecp256k1))
		if err != nil {
			t.Fatal(err)
		}
		key, err := secp256k1.ParsePubKey(point)
		if err != nil {
			t.Fatal(err)
		}
		m := message{hash: crypto.SHA256, data: unhex(t, v.Msg)}
		if got := verifyKoblitz(key, m, unhex(t, v.Sig)); got != (v.Result == "valid") {
			t.Errorf("%d: %v, want %s (%s)", v.TcID, got, v.Result, v.Comment)
		}
	})
}

func TestWycheproofEd25519(t *testing.T) {
	eachVector(t, "ed25519_test.json", 150, func(g *group, v *vector) {
		key, err := x509.ParsePKIXPublicKey(unhex(t, g.PublicKeyDer))
		if err != nil {
			t.Fatal(err)
		}
		if got := ed25519.Verify(key.(ed25519.PublicKey), unhex(t, v.Msg), unhex(t, v.Sig)); got != (v.Result == "valid") {
			t.Errorf("%d: %v, want %s (%s)", v.TcID, got, v.Result, v.Comment)
		}
	})
}

// Verification by μ, which is ours, and by message, which is the library's, must
// agree with the vectors.
func TestWycheproofMLDSA(t *testing.T) {
	for name, c := range map[string]struct {
		parameters mldsa.Parameters
		cases      int
	}{
		"mldsa_44_verify_test.json": {mldsa.MLDSA44(), 80},
		"mldsa_65_verify_test.json": {mldsa.MLDSA65(), 83},
		"mldsa_87_verify_test.json": {mldsa.MLDSA87(), 76},
	} {
		tried := 0
		eachVector(t, name, c.cases, func(g *group, v *vector) {
			var text string
			if err := json.Unmarshal(g.PublicKey, &text); err != nil {
				t.Fatal(err)
			}
			public, signature := unhex(t, text), unhex(t, v.Sig)
			context := string(unhex(t, v.Ctx))
			if len(context) > 255 {
				return // no μ of it
			}
			key, err := mldsa.NewPublicKey(c.parameters, public)
			if err != nil {
				if verifyMu(public, make([]byte, muSize), signature) {
					t.Errorf("%s %d: valid under a key that is none", name, v.TcID)
				}
				return
			}
			tried++
			wanted := v.Result == "valid"
			if got := verifyMu(public, messageRepresentative(public, context, unhex(t, v.Msg)), signature); got != wanted {
				t.Errorf("%s %d: by μ %v, want %s (%s)", name, v.TcID, got, v.Result, v.Comment)
			}
			if got := mldsa.Verify(key, unhex(t, v.Msg), signature, &mldsa.Options{Context: context}) == nil; got != wanted {
				t.Errorf("%s %d: %v, want %s (%s)", name, v.TcID, got, v.Result, v.Comment)
			}
		})
		if tried < c.cases-3 {
			t.Errorf("%s: only %d tried", name, tried)
		}
	}
}

func TestWycheproofMac(t *testing.T) {
	for bits, cases := range map[string]int{"224": 172, "256": 174, "384": 174, "512": 174} {
		s := Lookup("HMAC_" + bits)
		eachVector(t, "hmac_sha"+bits+"_test.json", cases, func(g *group, v *vector) {
			key := unhex(t, v.Key)
			mac, err := s.Mac(key, "HMAC_SHA_"+bits, unhex(t, v.Msg))
			if err != nil {
				t.Fatal(err)
			}
			tag := unhex(t, v.Tag)
			if got := bytes.HasPrefix(mac, tag); got != (v.Result == "valid") {
				t.Errorf("%s %d: %v, want %s (%s)", bits, v.TcID, got, v.Result, v.Comment)
			}
			if len(tag) < len(mac) { // truncated: valid in HMAC, not in KMS
				wantError(t, "truncated", s.VerifyMac(key, "HMAC_SHA_"+bits, unhex(t, v.Msg), tag), kmsapi.KMSInvalidMac, "")
			} else if err := s.VerifyMac(key, "HMAC_SHA_"+bits, unhex(t, v.Msg), tag); (err == nil) != (v.Result == "valid") {
				t.Errorf("%s %d: %v, want %s", bits, v.TcID, err, v.Result)
			}
		})
	}
}

// Public keys of the ECDH vectors are SubjectPublicKeyInfo, private ones numbers.
func TestWycheproofDerive(t *testing.T) {
	for name, c := range map[string]struct {
		spec  string
		keys  nistKeys
		cases int
	}{
		"ecdh_secp256r1_test.json": {"ECC_NIST_P256", p256, 612},
		"ecdh_secp384r1_test.json": {"ECC_NIST_P384", p384, 1047},
		"ecdh_secp521r1_test.json": {"ECC_NIST_P521", p521, 916},
	} {
		valid := 0
		eachVector(t, name, c.cases, func(_ *group, v *vector) {
			size := (c.keys.curve.Params().N.BitLen() + 7) / 8
			scalar := new(big.Int).SetBytes(unhex(t, v.Private)).FillBytes(make([]byte, size))
			private, err := c.keys.ecdh.NewPrivateKey(scalar)
			if err != nil {
				t.Fatal(err)
			}
			secret, err := marshalEC(c.keys.oid, scalar, private.PublicKey().Bytes())
			if err != nil {
				t.Fatal(err)
			}
			got, err := Lookup(c.spec).Derive(secret, unhex(t, v.Public))
			// Acceptable are compressed points and keys with explicit or odd
			// parameters, all of which are refused here.
			if v.Result == "valid" && !slices.Contains(v.Flags, "CompressedPoint") {
				valid++
				if err != nil || !bytes.Equal(got, unhex(t, v.Shared)) {
					t.Errorf("%s %d %s: %x, %v", name, v.TcID, v.Comment, got, err)
				}
				return
			}
			if err == nil {
				t.Errorf("%s %d: accepted (%s, %s, %v)", name, v.TcID, v.Result, v.Comment, v.Flags)
				return
			}
			wantError(t, v.Comment, err, kmsapi.Validation, "")
		})
		if valid < c.cases/2 {
			t.Errorf("%s: only %d valid", name, valid)
		}
	}
}
