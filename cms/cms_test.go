// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/cretula/cretula/reason"
)

var keys = struct {
	sync.Mutex
	made map[int]*rsa.PrivateKey
}{made: map[int]*rsa.PrivateKey{}}

// testKey returns the one key of that size in this run.
func testKey(tb testing.TB, bits int) *rsa.PrivateKey {
	tb.Helper()
	keys.Lock()
	defer keys.Unlock()
	if keys.made[bits] == nil {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			tb.Fatal(err)
		}
		keys.made[bits] = key
	}
	return keys.made[bits]
}

func otherKey(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	data, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// wantRefused checks reason, rule and, unless at is negative, the offset that
// the message names.
func wantRefused(tb testing.TB, err error, why reason.Reason, rule string, at string) {
	tb.Helper()
	e, ok := errors.AsType[*reason.Error](err)
	if !ok {
		tb.Fatalf("error %v has no reason, want %v (%s)", err, why, rule)
	}
	if e.Reason() != why || e.Rule() != rule {
		tb.Errorf("refused as %v (%s), want %v (%s): %v", e.Reason(), e.Rule(), why, rule, err)
	}
	if at != "" && !strings.Contains(err.Error(), "at offset "+at+" (") {
		tb.Errorf("%v: want the offset %s", err, at)
	}
}

func TestSealOpen(t *testing.T) {
	for _, bits := range []int{2048, 3072, 4096} {
		key := testKey(t, bits)
		for _, n := range []int{0, 1, 15, 16, 17, 32, 999, 1000, 4096, MaxContent} {
			content := make([]byte, n)
			rand.Read(content)
			sealed, err := Seal(&key.PublicKey, content)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := Open(key, sealed)
			if err != nil {
				t.Fatalf("%d bits, %d bytes: %v", bits, n, err)
			}
			if opened == nil || !bytes.Equal(opened, content) {
				t.Errorf("%d bits, %d bytes: other content", bits, n)
			}
		}
	}
}

// TestSizes holds the whole lengths to those of genuine answers.
func TestSizes(t *testing.T) {
	for content, want := range map[int]int{0: 461, 15: 461, 16: 477, 31: 477, 32: 493, 4096: 4573} {
		sealed, err := Seal(&testKey(t, 2048).PublicKey, make([]byte, content))
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) != want {
			t.Errorf("%d bytes of content give an envelope of %d bytes, want %d", content, len(sealed), want)
		}
	}
}

// template is the layout for a key of 2048 bits; ?N stands for N bytes that
// vary.
const template = `
	30 80 06 09 2a864886f70d010703
	a0 80 30 80 02 01 02
	31 82016b 30 820167 02 01 02
	80 20 ?32
	30 3c 06 09 2a864886f70d010107
	30 2f a0 0f 30 0d 06 09 608648016503040201 05 00
	a1 1c 30 1a 06 09 2a864886f70d010108 30 0d 06 09 608648016503040201 05 00
	04 820100 ?256
	30 80 06 09 2a864886f70d010701
	30 1d 06 09 60864801650304012a 04 10 ?16
	a0 80`

var templates = []struct {
	content int
	layout  string
}{
	{10, template + "04 10 ?16 0000 0000 0000 0000 0000"},
	{16, template + "04 20 ?32 0000 0000 0000 0000 0000"},
	{32, template + "04 30 ?48 0000 0000 0000 0000 0000"},
	{127, template + "04 8180 ?128 0000 0000 0000 0000 0000"},
	{991, template + "04 8203e0 ?992 0000 0000 0000 0000 0000"},
	{992, template + "04 8203e8 ?1000 04 08 ?8 0000 0000 0000 0000 0000"},
	{4096, template + "04 8203e8 ?1000 04 8203e8 ?1000 04 8203e8 ?1000 04 8203e8 ?1000 04 70 ?112 0000 0000 0000 0000 0000"},
}

// matchTemplate compares the fixed bytes and returns the varying ones.
func matchTemplate(tb testing.TB, layout string, data []byte) (fields [][]byte) {
	tb.Helper()
	at := 0
	take := func(n int) []byte {
		if len(data)-at < n {
			tb.Fatalf("%d bytes are too few", len(data))
		}
		at += n
		return data[at-n : at]
	}
	for _, token := range strings.Fields(layout) {
		if n, varies := strings.CutPrefix(token, "?"); varies {
			size := 0
			for _, d := range n {
				size = size*10 + int(d-'0')
			}
			fields = append(fields, take(size))
			continue
		}
		want := unhex(tb, token)
		if got := take(len(want)); !bytes.Equal(got, want) {
			tb.Fatalf("offset %d: %x, want %x", at-len(want), got, want)
		}
	}
	if at != len(data) {
		tb.Fatalf("%d bytes more than the layout has", len(data)-at)
	}
	return fields
}

func TestLayout(t *testing.T) {
	key := testKey(t, 2048)
	ski, err := KeyIdentifier(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range templates {
		sealed, err := Seal(&key.PublicKey, make([]byte, tt.content))
		if err != nil {
			t.Fatal(err)
		}
		fields := matchTemplate(t, tt.layout, sealed)
		if !bytes.Equal(fields[0], ski) {
			t.Errorf("%d bytes: key identifier %x, want %x", tt.content, fields[0], ski)
		}
		cek, err := rsa.DecryptOAEP(sha256.New(), nil, key, fields[1], nil)
		if err != nil || len(cek) != 32 {
			t.Fatalf("%d bytes: content key of %d bytes, %v", tt.content, len(cek), err)
		}
	}
}

func TestSealIsFresh(t *testing.T) {
	key := &testKey(t, 2048).PublicKey
	first, _ := Seal(key, []byte("same"))
	second, _ := Seal(key, []byte("same"))
	a := matchTemplate(t, templates[0].layout, first)
	b := matchTemplate(t, templates[0].layout, second)
	for i, name := range []string{"key identifier", "encrypted key", "IV", "content"} {
		if same := bytes.Equal(a[i], b[i]); same != (i == 0) {
			t.Errorf("%s: same twice is %v", name, same)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	good := testKey(t, 2048).PublicKey
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	sized := func(bits uint) *big.Int {
		n := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return n.SetBit(n, 0, 1)
	}
	large := math.MaxInt32 // 2^31 - 1, on machines of 32 bits the greatest int
	large += 2
	even := new(big.Int).SetBit(new(big.Int).Set(good.N), 0, 0)
	for name, key := range map[string]*rsa.PublicKey{
		"nil":              nil,
		"no modulus":       {E: 65537},
		"zero":             {N: new(big.Int), E: 65537},
		"negative modulus": {N: new(big.Int).Neg(good.N), E: 65537},
		"1024 bits":        &small.PublicKey,
		"2047 bits":        {N: sized(2047), E: 65537},
		"2049 bits":        {N: sized(2049), E: 65537},
		"8192 bits":        {N: sized(8192), E: 65537},
		"even modulus":     {N: even, E: 65537},
		"no exponent":      {N: good.N},
		"negative":         {N: good.N, E: -65537},
		"exponent 3":       {N: good.N, E: 3},
		"exponent 65535":   {N: good.N, E: 65535},
		"exponent 65538":   {N: good.N, E: 65538},
		"exponent 2^31+1":  {N: good.N, E: large},
	} {
		sealed, err := Seal(key, []byte("content"))
		if sealed != nil {
			t.Errorf("%s: an envelope in spite of the error", name)
		}
		t.Run(name, func(t *testing.T) { wantRefused(t, err, reason.Unsupported, "cms.key", "") })
	}
	sealed, err := Seal(&good, make([]byte, MaxContent+1))
	wantRefused(t, err, reason.Malformed, "cms.size", "")
	if sealed != nil {
		t.Error("an envelope in spite of the error")
	}
}

func TestOtherExponents(t *testing.T) {
	key := testKey(t, 2048).PublicKey
	key.E = 65539
	if _, err := Seal(&key, []byte("content")); err != nil {
		t.Error(err)
	}
}

// sealRaw makes an envelope for key around any padded content and content key.
func sealRaw(tb testing.TB, key *rsa.PublicKey, cek, padded []byte) []byte {
	tb.Helper()
	ski, err := KeyIdentifier(key)
	if err != nil {
		tb.Fatal(err)
	}
	e := &EnvelopedData{SubjectKeyIdentifier: ski, Content: bytes.Clone(padded)}
	if e.EncryptedKey, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, key, cek, nil); err != nil {
		tb.Fatal(err)
	}
	full := make([]byte, 32)
	copy(full, cek)
	block, err := aes.NewCipher(full)
	if err != nil {
		tb.Fatal(err)
	}
	cipher.NewCBCEncrypter(block, e.IV[:]).CryptBlocks(e.Content, e.Content)
	return e.encode()
}

// TestFailuresLookTheSame: a wrong padding, a changed or foreign encrypted
// key, and a content key of another length give one and the same error.
func TestFailuresLookTheSame(t *testing.T) {
	key := testKey(t, 2048)
	cek := make([]byte, 32)
	good := bytes.Repeat([]byte{16}, 32)
	if opened, err := Open(key, sealRaw(t, &key.PublicKey, cek, good)); err != nil || len(opened) != 16 {
		t.Fatalf("the good one: %x, %v", opened, err)
	}
	bad := map[string][]byte{
		"short content key": sealRaw(t, &key.PublicKey, cek[:31], good),
		"empty content key": sealRaw(t, &key.PublicKey, nil, good),
		"long content key":  sealRaw(t, &key.PublicKey, append(cek[:32:32], 0), good),
	}
	for name, end := range map[string]string{
		"padding 0":           "00000000000000000000000000000000",
		"padding 17":          "11111111111111111111111111111111",
		"padding 255":         "ffffffffffffffffffffffffffffffff",
		"padding 2, wrong":    "00000000000000000000000000000302",
		"padding 16, wrong":   "0f101010101010101010101010101010",
		"padding 15, wrong":   "0f0e0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
		"padding 3, one less": "00000000000000000000000000020303",
	} {
		bad[name] = sealRaw(t, &key.PublicKey, cek, append(make([]byte, 16), unhex(t, end)...))
	}
	changed := sealRaw(t, &key.PublicKey, cek, good)
	changed[131+200] ^= 1
	bad["changed encrypted key"] = changed
	// A number that is not below the modulus.
	over := sealRaw(t, &key.PublicKey, cek, good)
	copy(over[131:131+256], bytes.Repeat([]byte{0xff}, 256))
	bad["encrypted key over the modulus"] = over

	for name, envelope := range bad {
		opened, err := Open(key, envelope)
		if opened != nil {
			t.Errorf("%s: content in spite of the error", name)
		}
		if err != errOpen {
			t.Errorf("%s: %v, want the one error", name, err)
		}
	}
	wantRefused(t, errOpen, reason.Malformed, "cms.open", "")
}

// TestUnpad compares the constant-time check with the plain one for every last
// byte and every position of a fault.
func TestUnpad(t *testing.T) {
	plain := func(data []byte) (int, bool) {
		n := int(data[len(data)-1])
		if n < 1 || n > 16 {
			return 0, false
		}
		for _, b := range data[len(data)-n:] {
			if int(b) != n {
				return 0, false
			}
		}
		return len(data) - n, true
	}
	for n := range 256 {
		for fault := -1; fault < 16; fault++ {
			data := bytes.Repeat([]byte{byte(n)}, 32)
			if fault >= 0 {
				data[16+fault] ^= 0x80
			}
			length, good := unpad(data)
			wantLength, want := plain(data)
			if (good == 1) != want || want && length != wantLength {
				t.Fatalf("%x: %d %d, want %d %v", data, length, good, wantLength, want)
			}
		}
	}
}

func TestOpenForAnotherKey(t *testing.T) {
	key := testKey(t, 2048)
	sealed, err := Seal(&key.PublicKey, []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := Open(otherKey(t), sealed)
	wantRefused(t, err, reason.Mismatch, "cms.recipient", "")
	if opened != nil {
		t.Error("content in spite of the error")
	}
	// The same identifier, but an encrypted key of another length.
	ski, _ := KeyIdentifier(&key.PublicKey)
	e := &EnvelopedData{SubjectKeyIdentifier: ski, EncryptedKey: make([]byte, 384), Content: make([]byte, 16)}
	_, err = Open(key, e.encode())
	wantRefused(t, err, reason.Malformed, "cms.encrypted-key", "")
	// A shorter identifier, such as the SHA-1 one of RFC 5280 §4.2.1.2.
	e = &EnvelopedData{SubjectKeyIdentifier: ski[:20], EncryptedKey: make([]byte, 256), Content: make([]byte, 16)}
	_, err = Open(key, e.encode())
	wantRefused(t, err, reason.Mismatch, "cms.recipient", "")
}

func TestOpenRefusesKeys(t *testing.T) {
	key := testKey(t, 2048)
	sealed, _ := Seal(&key.PublicKey, []byte("content"))
	_, err := Open(nil, sealed)
	wantRefused(t, err, reason.Unsupported, "cms.key", "")
	_, err = Open(&rsa.PrivateKey{}, sealed)
	wantRefused(t, err, reason.Unsupported, "cms.key", "")
	// A private half that does not belong to the public one, or is missing.
	_, err = Open(&rsa.PrivateKey{PublicKey: key.PublicKey}, sealed)
	if err != errOpen {
		t.Errorf("no private half: %v", err)
	}
}

func TestFormString(t *testing.T) {
	for form, want := range map[Form]string{Chunked: "chunked", Primitive: "primitive", 0: "invalid", 9: "invalid"} {
		if form.String() != want {
			t.Errorf("%d: %q, want %q", form, form, want)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	key := &testKey(b, 2048).PublicKey
	content := make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Seal(key, content); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	key := testKey(b, 2048)
	sealed, err := Seal(&key.PublicKey, make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(key, sealed); err != nil {
			b.Fatal(err)
		}
	}
}
