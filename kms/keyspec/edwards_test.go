// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"testing"

	"github.com/cretula/cretula/kms/kmsapi"
)

// The vectors of RFC 8032 §7.1 and, for Ed25519ph, §7.3.
func TestEd25519RFC8032(t *testing.T) {
	s := Lookup("ECC_NIST_EDWARDS25519")
	abc := sha512.Sum512([]byte("abc"))
	for what, c := range map[string]struct {
		algorithm, messageType, seed, public string
		message                              []byte
		signature                            string
	}{
		"TEST 2": {"ED25519_SHA_512", "RAW", "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", []byte{0x72},
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
		"TEST 3": {"ED25519_SHA_512", "RAW", "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
			"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", []byte{0xaf, 0x82},
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
		"TEST abc": {"ED25519_PH_SHA_512", "DIGEST", "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
			"", abc[:],
			"98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"},
	} {
		secret := pkcs8(0, oidTLV(t, oidEd25519), derTLV(4, unhex(t, c.seed)), nil)
		if err := s.Check(secret); err != nil {
			t.Fatal(err)
		}
		got, err := s.Sign(rand.Reader, secret, c.algorithm, c.messageType, c.message)
		if err != nil || !bytes.Equal(got, unhex(t, c.signature)) {
			t.Errorf("%s: %x, %v", what, got, err)
		}
		if err := s.Verify(secret, c.algorithm, c.messageType, c.message, unhex(t, c.signature)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if c.messageType == "RAW" {
			spki, err := s.PublicKey(secret)
			if err != nil || !bytes.HasSuffix(spki, unhex(t, c.public)) {
				t.Errorf("%s: %x, %v", what, spki, err)
			}
			continue
		}
		// Ed25519 of the digest is not Ed25519ph of it.
		wantError(t, what, s.Verify(secret, "ED25519_SHA_512", "RAW", c.message, unhex(t, c.signature)), kmsapi.KMSInvalidSignature, "")
	}
}
