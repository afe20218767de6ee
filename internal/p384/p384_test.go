// SPDX-License-Identifier: Apache-2.0

package p384

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"encoding/asn1"
	"math/big"
	"testing"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keyOf returns the key whose private scalar is d.
func keyOf(t testing.TB, d *big.Int) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), d.FillBytes(make([]byte, 48)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// compare checks that both implementations say the same, and returns it.
func compare(t testing.TB, what string, key *ecdsa.PublicKey, digest []byte, r, s *big.Int) bool {
	t.Helper()
	std, fast := Std.Verify(key, digest, r, s), Circl.Verify(key, digest, r, s)
	if std != fast {
		t.Fatalf("%s: crypto/ecdsa %v, circl %v: digest %x r %x s %x", what, std, fast, digest, r, s)
	}
	known := NewKey(key)
	for range 2 {
		if Std.VerifyKey(known, digest, r, s) != std || Circl.VerifyKey(known, digest, r, s) != std {
			t.Fatalf("%s: otherwise under a kept key: digest %x r %x s %x", what, digest, r, s)
		}
	}
	return std
}

func TestImplementations(t *testing.T) {
	if Std.String() != "std" || Fastest.String() != Circl.String() {
		t.Errorf("%v, %v, %v", Std, Fastest, Circl)
	}
	t.Logf("the fastest here is %v", Fastest)
}

func TestEdgesOfTheRange(t *testing.T) {
	key := newKey(t)
	digest := sha512.Sum384([]byte("message"))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if !compare(t, "good", &key.PublicKey, digest[:], r, s) {
		t.Fatal("a good signature is refused")
	}
	n, one := order, big.NewInt(1)
	edges := []*big.Int{
		big.NewInt(-1), new(big.Int), one, big.NewInt(2), new(big.Int).Rsh(n, 1), new(big.Int).Sub(n, one), n,
		new(big.Int).Add(n, one), elliptic.P384().Params().P, new(big.Int).Lsh(one, 384), new(big.Int).Lsh(one, 400), r, s,
		new(big.Int).Add(r, n), new(big.Int).Add(s, n), new(big.Int).Sub(n, r), new(big.Int).Sub(n, s),
	}
	for _, a := range edges {
		for _, b := range edges {
			for _, d := range [][]byte{nil, {0}, digest[:], digest[:20], append(digest[:], 1, 2, 3), n.Bytes(), new(big.Int).Sub(n, one).Bytes()} {
				if got := compare(t, "edge", &key.PublicKey, d, a, b); got && !InRange(a, b) {
					t.Errorf("accepted out of range: %x %x", a, b)
				}
			}
		}
	}
	if !compare(t, "twin", &key.PublicKey, digest[:], r, new(big.Int).Sub(n, s)) {
		t.Error("the twin of a good signature is refused")
	}
}

// TestExceptionalSums makes u1·G and u2·Q equal, opposite, or one of them zero:
// the cases in which formulas for adding points go wrong.
func TestExceptionalSums(t *testing.T) {
	n := order
	for _, d := range []*big.Int{big.NewInt(1), big.NewInt(2), big.NewInt(3), new(big.Int).Sub(n, big.NewInt(1)), new(big.Int).Sub(n, big.NewInt(2)), new(big.Int).Rsh(n, 1), new(big.Int).SetBytes(sha(7))} {
		key := &keyOf(t, d).PublicKey
		for _, u2 := range []*big.Int{big.NewInt(1), big.NewInt(2), big.NewInt(5), big.NewInt(31), new(big.Int).Sub(n, big.NewInt(1)), new(big.Int).SetBytes(sha(3)), new(big.Int).SetBytes(sha(4))} {
			u2 := new(big.Int).Mod(u2, n)
			same := new(big.Int).Mul(u2, d)
			same.Mod(same, n)
			opposite := new(big.Int).Sub(n, same)
			double := new(big.Int).Mod(new(big.Int).Lsh(same, 1), n)
			for name, u1 := range map[string]*big.Int{"equal": same, "opposite": opposite, "zero": new(big.Int), "double": double, "one": big.NewInt(1)} {
				// With any r there are s and e that give these two scalars. The r
				// that belongs to the sum makes the signature good.
				total := new(big.Int).Add(u1, same)
				total.Mod(total, n)
				r := big.NewInt(12345)
				if total.Sign() != 0 {
					point, err := keyOf(t, total).PublicKey.Bytes()
					if err != nil {
						t.Fatal(err)
					}
					r = new(big.Int).SetBytes(point[1:49])
					r.Mod(r, n)
				}
				s := new(big.Int).ModInverse(u2, n)
				s.Mul(s, r).Mod(s, n)
				e := new(big.Int).Mul(u1, s)
				e.Mod(e, n)
				digest := e.FillBytes(make([]byte, 48))
				if got := compare(t, name, key, digest, r, s); got != (total.Sign() != 0) {
					t.Errorf("%s: d %x, u2 %x: %v", name, d, u2, got)
				}
				compare(t, name+" and another r", key, digest, new(big.Int).Add(r, big.NewInt(1)), s)
			}
		}
	}
}

func sha(b byte) []byte {
	sum := sha512.Sum384([]byte{b})
	return sum[:]
}

func TestPaddedAndShortSignatures(t *testing.T) {
	key := newKey(t)
	digest := sha512.Sum384([]byte("message"))
	good, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	var value struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(good, &value); err != nil {
		t.Fatal(err)
	}
	integer := func(b ...byte) []byte { return append([]byte{2, byte(len(b))}, b...) }
	sequence := func(parts ...[]byte) []byte {
		var body []byte
		for _, p := range parts {
			body = append(body, p...)
		}
		return append([]byte{0x30, byte(len(body))}, body...)
	}
	rBytes, sBytes := value.R.FillBytes(make([]byte, 49)), value.S.FillBytes(make([]byte, 49))
	cases := [][]byte{
		good, nil, {0x30, 0}, good[:len(good)-1], append(good[:len(good):len(good)], 0), good[1:],
		sequence(integer(append([]byte{0}, rBytes...)...), integer(sBytes...)),
		sequence(integer(), integer(sBytes...)), sequence(integer(0), integer(0)), sequence(integer(rBytes...)),
		sequence(integer(rBytes[1:]...), integer(sBytes[1:]...)),
		sequence(integer(rBytes...), integer(sBytes...), integer(0)),
	}
	for bit := range len(good) * 8 {
		flipped := append([]byte(nil), good...)
		flipped[bit/8] ^= 1 << (bit % 8)
		if bit%8 == bit/8%8 || bit < 64 {
			cases = append(cases, flipped)
		}
	}
	for i, signature := range cases {
		std, fast := Std.VerifyASN1(&key.PublicKey, digest[:], signature), Circl.VerifyASN1(&key.PublicKey, digest[:], signature)
		// Half of all integers are the same without the byte before them.
		if std != fast || std != bytes.Equal(signature, good) {
			t.Errorf("case %d: crypto/ecdsa %v, circl %v: %x", i, std, fast, signature)
		}
	}
}

func TestOtherCurves(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha512.Sum384(nil)
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []Implementation{Fastest, Std, Circl} {
		if i.VerifyASN1(&key.PublicKey, digest[:], signature) || i.Verify(&key.PublicKey, digest[:], big.NewInt(1), big.NewInt(1)) {
			t.Errorf("%v takes a key on P-256", i)
		}
		if i.VerifyKey(nil, digest[:], big.NewInt(1), big.NewInt(1)) {
			t.Errorf("%v takes no key at all", i)
		}
	}
	if NewKey(&key.PublicKey) != nil {
		t.Error("a key on P-256 is made ready")
	}
}

// FuzzVerify compares the two implementations. Half of the inputs sign first.
func FuzzVerify(f *testing.F) {
	f.Add([]byte("message"), []byte{1}, []byte{1}, uint8(0))
	f.Add(order.Bytes(), order.Bytes(), order.Bytes(), uint8(1))
	f.Add([]byte{}, []byte{0}, sha(1), uint8(7))
	keys := []*ecdsa.PrivateKey{keyOf(f, big.NewInt(1)), keyOf(f, new(big.Int).Sub(order, big.NewInt(1))), newKey(f), newKey(f)}
	f.Fuzz(func(t *testing.T, digest, rBytes, sBytes []byte, choice uint8) {
		key := keys[choice%4]
		if len(rBytes) > 64 || len(sBytes) > 64 || len(digest) > 64 {
			return
		}
		r, s := new(big.Int).SetBytes(rBytes), new(big.Int).SetBytes(sBytes)
		compare(t, "given", &key.PublicKey, digest, r, s)
		compareASN1(t, &key.PublicKey, digest, rBytes)
		if choice&4 == 0 || len(digest) == 0 {
			return
		}
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil || !compare(t, "signed", &key.PublicKey, digest, r, s) {
			t.Fatalf("a good signature is refused: %v", err)
		}
	})
}

// compareASN1 compares the two on a signature in any encoding.
func compareASN1(t testing.TB, key *ecdsa.PublicKey, digest, signature []byte) {
	if Std.VerifyASN1(key, digest, signature) != Circl.VerifyASN1(key, digest, signature) {
		t.Fatalf("they differ on %x", signature)
	}
}

func BenchmarkVerify(b *testing.B) {
	key := newKey(b)
	digest := sha512.Sum384([]byte("message"))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for _, i := range []Implementation{Std, Circl} {
		b.Run(i.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !i.Verify(&key.PublicKey, digest[:], r, s) {
					b.Fatal("refused")
				}
			}
		})
	}
}
