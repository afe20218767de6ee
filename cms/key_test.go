// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"math/rand/v2"
	"testing"
)

// marshalKey writes what crypto/x509 writes, for every size and exponent that
// there can be.
func TestMarshalKey(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, bits := range []int{2048, 3072, 4096} {
		for _, e := range []int{65537, 65539, 1<<23 - 1, 1<<23 + 1, 1<<24 - 1, 1<<24 + 1, 1<<31 - 1} {
			n := make([]byte, bits/8)
			for i := range n {
				n[i] = byte(r.Int())
			}
			n[0] |= 0x80
			n[len(n)-1] |= 1
			key := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: e}
			if err := checkKey(key); err != nil {
				t.Fatal(err)
			}
			want, err := x509.MarshalPKIXPublicKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if got := marshalKey(key); !bytes.Equal(got, want) {
				t.Errorf("%d bits, exponent %d: %x, want %x", bits, e, got, want)
			}
		}
	}
}
