// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto/rand"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/cretula/cretula/kms/kmsapi"
)

// Signatures have the low s that Bitcoin (BIP 62) and Ethereum (EIP-2) ask for;
// those with the high one, of which AWS makes half, are valid as well.
func TestLowS(t *testing.T) {
	s, secret := Lookup("ECC_SECG_P256K1"), secretOf(t, "ECC_SECG_P256K1")
	order := secp256k1.Params().N
	half := new(big.Int).Rsh(order, 1)
	for range 64 {
		message := make([]byte, 32)
		rand.Read(message)
		signature, err := s.Sign(rand.Reader, secret, "ECDSA_SHA_256", "DIGEST", message)
		if err != nil {
			t.Fatal(err)
		}
		var parts struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(signature, &parts); err != nil || len(rest) != 0 {
			t.Fatalf("no Ecdsa-Sig-Value: %v", err)
		}
		if parts.S.Cmp(half) > 0 {
			t.Errorf("a high s: %x", parts.S)
		}
		for what, c := range map[string]struct {
			r, s  *big.Int
			valid bool
		}{
			"high s":        {parts.R, new(big.Int).Sub(order, parts.S), true},
			"s plus order":  {parts.R, new(big.Int).Add(order, parts.S), false},
			"r plus order":  {new(big.Int).Add(order, parts.R), parts.S, false},
			"negative s":    {parts.R, new(big.Int).Neg(parts.S), false},
			"s is zero":     {parts.R, new(big.Int), false},
			"r is zero":     {new(big.Int), parts.S, false},
			"both are zero": {new(big.Int), new(big.Int), false},
			"exchanged":     {parts.S, parts.R, false},
		} {
			changed, err := asn1.Marshal(struct{ R, S *big.Int }{c.r, c.s})
			if err != nil {
				t.Fatal(err)
			}
			err = s.Verify(secret, "ECDSA_SHA_256", "DIGEST", message, changed)
			if c.valid {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
				continue
			}
			wantError(t, what, err, kmsapi.KMSInvalidSignature, "")
		}
	}
}
