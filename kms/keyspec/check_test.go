// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"

	"github.com/cretula/cretula/kms/kmsapi"
)

// derTLV writes an element of less than 64 KiB.
func derTLV(tag byte, content []byte) []byte {
	n := len(content)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	}
	return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
}

func oidTLV(t testing.TB, oids ...asn1.ObjectIdentifier) []byte {
	t.Helper()
	var out []byte
	for _, oid := range oids {
		der, err := asn1.Marshal(oid)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, der...)
	}
	return out
}

// pkcs8 writes a private key without any check; tail follows the key.
func pkcs8(version byte, algorithm, key, tail []byte) []byte {
	return derTLV(0x30, slices.Concat([]byte{2, 1, version}, derTLV(0x30, algorithm), derTLV(4, key), tail))
}

func TestCheckAcceptsOwnKeys(t *testing.T) {
	for _, name := range names {
		if err := Lookup(name).Check(secretOf(t, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckLengths(t *testing.T) {
	for name, size := range map[string]int{"SYMMETRIC_DEFAULT": 32, "HMAC_224": 28, "HMAC_256": 32, "HMAC_384": 48, "HMAC_512": 64} {
		for _, n := range []int{0, 1, 16, 24, 27, 28, 29, 31, 32, 33, 47, 48, 49, 63, 64, 65, 128, 4096} {
			err := Lookup(name).Check(make([]byte, n))
			if n == size {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			wantError(t, name, err, kmsapi.IncorrectKeyMaterial, "The key material is not valid for key spec "+name+".")
		}
	}
}

// What can be wrong around the key, for each kind of pair.
func TestCheckEncodings(t *testing.T) {
	for _, name := range names {
		s, secret := Lookup(name), secretOf(t, name)
		if !s.Asymmetric() {
			continue
		}
		refuse := func(how string, secret []byte) {
			t.Helper()
			wantError(t, name+" "+how, s.Check(secret), kmsapi.IncorrectKeyMaterial, "*")
		}
		refuse("nil", nil)
		refuse("empty", []byte{})
		refuse("zeros", make([]byte, len(secret)))
		refuse("cut", secret[:len(secret)-1])
		refuse("trailing byte", append(slices.Clone(secret), 0))
		refuse("twice", append(slices.Clone(secret), secret...))
		refuse("in a SEQUENCE", derTLV(0x30, secret))
		refuse("long", append(slices.Clone(secret), make([]byte, 1<<16)...))
		indefinite := append([]byte{0x30, 0x80}, secret[len(secret)-bodyLength(secret):]...)
		refuse("BER", append(indefinite, 0, 0))
		for version := 1; version < 4; version++ {
			changed := slices.Clone(secret)
			changed[len(secret)-bodyLength(secret)+2] = byte(version)
			if version == 1 { // OneAsymmetricKey without its public key
				if err := s.Check(changed); err != nil {
					t.Errorf("%s, version 2: %v", name, err)
				}
				continue
			}
			refuse("version", changed)
		}
		for i := range 16 { // the frame of the shortest
			changed := slices.Clone(secret)
			changed[i] ^= 0x40
			refuse("byte changed", changed)
		}
	}
}

// bodyLength returns the length of the content of the outer SEQUENCE.
func bodyLength(der []byte) int {
	if der[1] < 0x80 {
		return len(der) - 2
	}
	return len(der) - 2 - int(der[1]&0x7f)
}

func TestCheckAttributesAndPublicKey(t *testing.T) {
	secret := secretOf(t, "ECC_NIST_EDWARDS25519")
	private, _, err := edwardsKeys{}.private(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, public := derTLV(4, private.Seed()), []byte(private.Public().(ed25519.PublicKey))
	other := slices.Clone(public)
	other[0] ^= 1
	id := oidTLV(t, oidEd25519)
	attributes := derTLV(0xa0, derTLV(0x30, nil))
	bits := func(b []byte) []byte { return derTLV(0x81, append([]byte{0}, b...)) }
	s := Lookup("ECC_NIST_EDWARDS25519")
	for what, good := range map[string][]byte{
		"plain":                     pkcs8(0, id, key, nil),
		"attributes":                pkcs8(0, id, key, attributes),
		"public key":                pkcs8(1, id, key, bits(public)),
		"attributes and public key": pkcs8(1, id, key, slices.Concat(attributes, bits(public))),
	} {
		if err := s.Check(good); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, bad := range map[string][]byte{
		"another public key":      pkcs8(1, id, key, bits(other)),
		"short public key":        pkcs8(1, id, key, bits(public[:31])),
		"empty public key":        pkcs8(1, id, key, bits(nil)),
		"public key without bits": pkcs8(1, id, key, derTLV(0x81, nil)),
		"unused bits":             pkcs8(1, id, key, derTLV(0x81, append([]byte{1}, public...))),
		"public key in version 1": pkcs8(0, id, key, bits(public)),
		"wrong order":             pkcs8(1, id, key, slices.Concat(bits(public), attributes)),
		"twice":                   pkcs8(1, id, key, slices.Concat(bits(public), bits(public))),
		"with parameters":         pkcs8(0, append(slices.Clone(id), 5, 0), key, nil),
		"X25519":                  pkcs8(0, []byte{6, 3, 0x2b, 0x65, 0x6e}, key, nil),
		"raw seed":                pkcs8(0, id, private.Seed(), nil),
		"64 bytes":                pkcs8(0, id, derTLV(4, private), nil),
		"long length":             pkcs8(0, id, append([]byte{4, 0x81, 32}, private.Seed()...), nil),
		"after the seed":          pkcs8(0, id, append(slices.Clone(key), 0), nil),
	} {
		wantError(t, what, s.Check(bad), kmsapi.IncorrectKeyMaterial, "*")
	}
}

func TestCheckECKeys(t *testing.T) {
	for name, c := range map[string]struct {
		oid   asn1.ObjectIdentifier
		order *big.Int
	}{
		"ECC_NIST_P256":   {oidP256, p256.curve.Params().N},
		"ECC_NIST_P384":   {oidP384, p384.curve.Params().N},
		"ECC_NIST_P521":   {oidP521, p521.curve.Params().N},
		"ECC_SECG_P256K1": {oidSecp256k1, new(big.Int).SetBytes(unhex(t, "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"))},
	} {
		s, size := Lookup(name), (c.order.BitLen()+7)/8
		key, err := parseEC(secretOf(t, name), c.oid, size)
		if err != nil {
			t.Fatal(err)
		}
		id := oidTLV(t, oidEC, c.oid)
		private := func(scalar []byte, rest ...[]byte) []byte {
			return pkcs8(0, id, derTLV(0x30, slices.Concat([]byte{2, 1, 1}, derTLV(4, scalar), slices.Concat(rest...))), nil)
		}
		point := func(p []byte) []byte { return derTLV(0xa1, derTLV(3, append([]byte{0}, p...))) }
		number := func(n *big.Int) []byte { return n.FillBytes(make([]byte, size)) }
		parameters := derTLV(0xa0, oidTLV(t, c.oid))
		otherPoint := slices.Clone(key.point)
		otherPoint[size] ^= 1
		negated := slices.Clone(key.point) // the point of n - d, with a wrong y for d
		field := fieldOf(name)
		copy(negated[1+size:], new(big.Int).Sub(field, new(big.Int).SetBytes(key.point[1+size:])).FillBytes(make([]byte, size)))
		for what, good := range map[string][]byte{
			"all":              private(key.scalar, parameters, point(key.point)),
			"without point":    private(key.scalar, parameters),
			"scalar only":      private(key.scalar),
			"one":              private(number(big.NewInt(1))),
			"the order less 1": private(number(new(big.Int).Sub(c.order, big.NewInt(1)))),
		} {
			if err := s.Check(good); err != nil {
				t.Errorf("%s %s: %v", name, what, err)
			}
			if _, err := s.PublicKey(good); err != nil {
				t.Errorf("%s %s: %v", name, what, err)
			}
		}
		for what, bad := range map[string][]byte{
			"zero":              private(make([]byte, size)),
			"the order":         private(number(c.order)),
			"above the order":   private(number(new(big.Int).Add(c.order, big.NewInt(1)))),
			"all ones":          private(slices.Repeat([]byte{0xff}, size)),
			"short scalar":      private(key.scalar[1:]),
			"long scalar":       private(append([]byte{0}, key.scalar...)),
			"no scalar":         private(nil),
			"another point":     private(key.scalar, point(otherPoint)),
			"negated point":     private(key.scalar, point(negated)),
			"short point":       private(key.scalar, point(key.point[:size])),
			"empty point":       private(key.scalar, point(nil)),
			"point at infinity": private(key.scalar, point([]byte{0})),
			"other parameters":  private(key.scalar, derTLV(0xa0, oidTLV(t, asn1.ObjectIdentifier{1, 3, 132, 0, 33}))),
			"two parameters":    private(key.scalar, derTLV(0xa0, oidTLV(t, c.oid, c.oid))),
			"wrong order":       private(key.scalar, point(key.point), parameters),
			"after the point":   private(key.scalar, point(key.point), []byte{5, 0}),
			"version 2":         pkcs8(0, id, derTLV(0x30, slices.Concat([]byte{2, 1, 2}, derTLV(4, key.scalar))), nil),
			"no curve":          pkcs8(0, oidTLV(t, oidEC), derTLV(0x30, slices.Concat([]byte{2, 1, 1}, derTLV(4, key.scalar), parameters)), nil),
			"curve twice":       pkcs8(0, oidTLV(t, oidEC, c.oid, c.oid), derTLV(0x30, slices.Concat([]byte{2, 1, 1}, derTLV(4, key.scalar))), nil),
			"id-ecDH":           pkcs8(0, oidTLV(t, asn1.ObjectIdentifier{1, 3, 132, 1, 12}, c.oid), derTLV(0x30, slices.Concat([]byte{2, 1, 1}, derTLV(4, key.scalar))), nil),
			"raw scalar":        pkcs8(0, id, key.scalar, nil),
			"two public keys":   pkcs8(1, id, derTLV(0x30, slices.Concat([]byte{2, 1, 1}, derTLV(4, key.scalar), point(key.point))), derTLV(0x81, append([]byte{0}, otherPoint...))),
			"wrong outer key":   pkcs8(1, id, derTLV(0x30, slices.Concat([]byte{2, 1, 1}, derTLV(4, key.scalar))), derTLV(0x81, append([]byte{0}, otherPoint...))),
		} {
			wantError(t, name+" "+what, s.Check(bad), kmsapi.IncorrectKeyMaterial, "*")
		}
	}
}

func fieldOf(name string) *big.Int {
	if k, ok := specs[name].material.(nistKeys); ok {
		return k.curve.Params().P
	}
	p, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f", 16)
	return p
}

// An RSA key is seven numbers of which each must fit the others.
func TestCheckRSAKeys(t *testing.T) {
	s := Lookup("RSA_2048")
	type numbers struct {
		Version                  int
		N, E, D, P, Q, DP, DQ, I *big.Int
	}
	der, err := rsaPrivateKey(secretOf(t, "RSA_2048"))
	if err != nil {
		t.Fatal(err)
	}
	id := append(oidTLV(t, oidRSA), 5, 0)
	encode := func(change func(k *numbers)) []byte {
		var k numbers
		if rest, err := asn1.Unmarshal(der, &k); err != nil || len(rest) != 0 {
			t.Fatal(err)
		}
		change(&k)
		out, err := asn1.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		return pkcs8(0, id, out, nil)
	}
	if err := s.Check(encode(func(*numbers) {})); err != nil {
		t.Fatal(err)
	}
	one := big.NewInt(1)
	composite := func(k *numbers, p, q *big.Int) { // a key whose numbers fit, but p
		k.P, k.Q = p, q
		k.N = new(big.Int).Mul(p, q)
		p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
		k.D = new(big.Int).ModInverse(k.E, new(big.Int).Mul(p1, q1))
		if k.D == nil {
			k.D = one
		}
		k.DP, k.DQ = new(big.Int).Mod(k.D, p1), new(big.Int).Mod(k.D, q1)
		if k.I = new(big.Int).ModInverse(q, p); k.I == nil {
			k.I = one
		}
	}
	for what, change := range map[string]func(k *numbers){
		"n":             func(k *numbers) { k.N.Add(k.N, big.NewInt(2)) },
		"e":             func(k *numbers) { k.E = big.NewInt(65539) },
		"e is 3":        func(k *numbers) { k.E = big.NewInt(3) },
		"e is 1":        func(k *numbers) { k.E = one },
		"e is even":     func(k *numbers) { k.E = big.NewInt(65538) },
		"e is negative": func(k *numbers) { k.E = big.NewInt(-65537) },
		"e is long":     func(k *numbers) { k.E = new(big.Int).Lsh(one, 100) },
		"d":             func(k *numbers) { k.D.Add(k.D, big.NewInt(2)) },
		"d is zero":     func(k *numbers) { k.D = new(big.Int) },
		"p":             func(k *numbers) { k.P.Add(k.P, big.NewInt(2)) },
		"p and q":       func(k *numbers) { k.P, k.Q = k.Q, k.P },
		"p is one":      func(k *numbers) { k.P, k.Q = one, k.N },
		"p is zero":     func(k *numbers) { k.P = new(big.Int) },
		"p is negative": func(k *numbers) { k.P.Neg(k.P) },
		"p is even":     func(k *numbers) { k.P.Add(k.P, one) },
		"p equals q":    func(k *numbers) { composite(k, k.P, k.P) },
		"dP":            func(k *numbers) { k.DP.Add(k.DP, big.NewInt(2)) },
		"dQ is zero":    func(k *numbers) { k.DQ = new(big.Int) },
		"qInv":          func(k *numbers) { k.I.Add(k.I, one) },
		"version":       func(k *numbers) { k.Version = 2 },
		"n is zero":     func(k *numbers) { k.N = new(big.Int) },
		"n is negative": func(k *numbers) { k.N.Neg(k.N) },
		"composite p": func(k *numbers) {
			a, _ := rand.Prime(rand.Reader, 512)
			b, _ := rand.Prime(rand.Reader, 512)
			composite(k, new(big.Int).Mul(a, b), k.Q)
		},
		"unbalanced primes": func(k *numbers) {
			p, _ := rand.Prime(rand.Reader, 900)
			q, _ := rand.Prime(rand.Reader, 1148)
			composite(k, p, q)
		},
	} {
		wantError(t, what, s.Check(encode(change)), kmsapi.IncorrectKeyMaterial, "*")
	}
	for what, bad := range map[string][]byte{
		"no NULL":           pkcs8(0, oidTLV(t, oidRSA), der, nil),
		"id-RSASSA-PSS":     pkcs8(0, append(oidTLV(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}), 5, 0), der, nil),
		"after the key":     pkcs8(0, id, append(slices.Clone(der), 0), nil),
		"a public key":      pkcs8(1, id, der, derTLV(0x81, []byte{0, 1, 2, 3})),
		"two NULLs":         pkcs8(0, append(slices.Clone(id), 5, 0), der, nil),
		"as the other bits": secretOf(t, "RSA_3072"),
	} {
		wantError(t, what, s.Check(bad), kmsapi.IncorrectKeyMaterial, "*")
	}
}

// The encodings of crypto/x509, whose keys come from the standard library.
func TestCheckAcceptsStandardKeys(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]any{"ECC_NIST_EDWARDS25519": edwards}
	if keys["RSA_2048"], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]nistKeys{"ECC_NIST_P256": p256, "ECC_NIST_P384": p384, "ECC_NIST_P521": p521} {
		if keys[name], err = ecdsa.GenerateKey(k.curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	for name, key := range keys {
		secret, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		if err := Lookup(name).Check(secret); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		parsed, err := x509.ParsePKCS8PrivateKey(secretOf(t, name))
		if err != nil {
			t.Fatal(err)
		}
		again, err := x509.MarshalPKCS8PrivateKey(parsed)
		if err != nil || !slices.Equal(again, secretOf(t, name)) {
			t.Errorf("%s: crypto/x509 writes our key in another form, %v", name, err)
		}
	}
}

func TestPublicKeyRefuses(t *testing.T) {
	for _, name := range []string{"SYMMETRIC_DEFAULT", "HMAC_256"} {
		_, err := Lookup(name).PublicKey(secretOf(t, name))
		wantError(t, name, err, kmsapi.UnsupportedOperation, "*")
	}
	for _, name := range names {
		if s := Lookup(name); s.Asymmetric() {
			_, err := s.PublicKey([]byte("no key"))
			wantError(t, name, err, kmsapi.KMSInternal, "*")
			_, err = s.Sign(rand.Reader, []byte("no key"), s.SigningAlgorithms("SIGN_VERIFY")[0], "RAW", nil)
			wantError(t, name, err, kmsapi.KMSInternal, "*")
			err = s.Verify([]byte("no key"), s.SigningAlgorithms("SIGN_VERIFY")[0], "RAW", nil, nil)
			wantError(t, name, err, kmsapi.KMSInternal, "*")
		}
	}
}

func TestDeriveRefuses(t *testing.T) {
	peers := map[string][]byte{"nothing": nil, "recorded": []byte("InvalidPublicKey"), "zeros": make([]byte, 91)}
	for _, name := range names {
		if s := Lookup(name); s.Asymmetric() {
			spki, err := s.PublicKey(secretOf(t, name))
			if err != nil {
				t.Fatal(err)
			}
			peers[name] = spki
		}
	}
	p := peers["ECC_NIST_P256"]
	offCurve := slices.Clone(p)
	offCurve[len(p)-1] ^= 1
	peers["off the curve"] = offCurve
	peers["trailing byte"] = append(slices.Clone(p), 0)
	peers["cut"] = p[:len(p)-1]
	peers["infinity"] = derTLV(0x30, slices.Concat(derTLV(0x30, oidTLV(t, oidEC, oidP256)), derTLV(3, []byte{0, 0})))
	peers["no point"] = derTLV(0x30, slices.Concat(derTLV(0x30, oidTLV(t, oidEC, oidP256)), derTLV(3, []byte{0})))
	peers["no bits"] = derTLV(0x30, slices.Concat(derTLV(0x30, oidTLV(t, oidEC, oidP256)), derTLV(3, nil)))
	peers["P-384 point as P-256"] = derTLV(0x30, slices.Concat(derTLV(0x30, oidTLV(t, oidEC, oidP256)), derTLV(3, append([]byte{0}, peers["ECC_NIST_P384"][23:]...))))
	for what, peer := range peers {
		if what == "ECC_NIST_P256" {
			continue
		}
		shared, err := Lookup("ECC_NIST_P256").Derive(secretOf(t, "ECC_NIST_P256"), peer)
		wantError(t, what, err, kmsapi.Validation, "")
		if shared != nil {
			t.Errorf("%s: a secret beside an error", what)
		}
	}
	for _, name := range names {
		if s := Lookup(name); !s.Allows("KEY_AGREEMENT") {
			_, err := s.Derive(secretOf(t, name), p)
			wantError(t, name, err, kmsapi.InvalidKeyUsage, incompatible("ECDH", name))
		}
	}
}
