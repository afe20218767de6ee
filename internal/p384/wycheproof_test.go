// SPDX-License-Identifier: Apache-2.0

package p384

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

// The vectors are no dependency of the module: they are 100 MB. The version is
// the one whose counts are below.
const wycheproof = "github.com/c2sp/wycheproof@v0.0.0-20260105152342-fca0d3ba9f12"

// vectors returns a file of project Wycheproof, from the module cache or the
// network.
func vectors(t *testing.T, name string) []byte {
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
	return data
}

func TestWycheproof(t *testing.T) {
	for _, file := range []struct {
		name  string
		asn1  bool
		cases int
	}{{"ecdsa_secp384r1_sha384_test.json", true, 494}, {"ecdsa_secp384r1_sha384_p1363_test.json", false, 270}} {
		var content struct {
			TestGroups []struct {
				PublicKeyDer string
				Tests        []struct {
					TcID             int
					Comment          string
					Msg, Sig, Result string
				}
			}
		}
		if err := json.Unmarshal(vectors(t, file.name), &content); err != nil {
			t.Fatal(err)
		}
		right := 0
		for _, group := range content.TestGroups {
			parsed, err := x509.ParsePKIXPublicKey(decode(t, group.PublicKeyDer))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range group.Tests {
				digest := sha512.Sum384(decode(t, c.Msg))
				verify := verifyRaw
				if file.asn1 {
					verify = Implementation.VerifyASN1
				}
				wanted := c.Result == "valid"
				for _, i := range []Implementation{Std, Circl} {
					if got := verify(i, parsed.(*ecdsa.PublicKey), digest[:], decode(t, c.Sig)); got != wanted {
						t.Errorf("%s %d with %v: %v, wanted %s (%s)", file.name, c.TcID, i, got, c.Result, c.Comment)
					}
				}
				right++
			}
		}
		if right != file.cases {
			t.Errorf("%s has %d cases, want %d", file.name, right, file.cases)
		}
	}
}

// verifyRaw takes a signature as COSE has it.
func verifyRaw(i Implementation, key *ecdsa.PublicKey, digest, signature []byte) bool {
	if len(signature) != 96 {
		return false
	}
	return i.Verify(key, digest, new(big.Int).SetBytes(signature[:48]), new(big.Int).SetBytes(signature[48:]))
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
