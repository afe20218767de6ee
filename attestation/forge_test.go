// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cretula/cretula/attestation"
)

// forgeTime is the time of every forged document.
var forgeTime = time.Date(2026, 11, 20, 14, 0, 7, 0, time.UTC)

// A field is one pair of a payload, its value encoded.
type field struct {
	name  string
	value []byte
}

// A forge makes a document that is good but for what its functions change. They
// run in the order in which they stand here.
type forge struct {
	// key replaces the key of certificate i, 0 being the root and 4 the leaf.
	key func(i int) crypto.Signer
	// certificate edits the template of certificate i.
	certificate func(i int, c *x509.Certificate)
	// parent edits the template whose name and key identifier become those of
	// the issuer of certificate i.
	parent func(i int, c *x509.Certificate)
	// signer replaces the key that signs certificate i.
	signer func(i int) crypto.Signer
	// chain changes the certificates, root to leaf.
	chain func(ders [][]byte) [][]byte
	// fields changes the payload's pairs.
	fields func([]field) []field
	// payload changes the encoded payload before it is signed.
	payload func([]byte) []byte
	// protected replaces the content of the protected header before signing.
	protected []byte
	// parts changes the four encoded parts after signing.
	parts func(p *[4][]byte)
	// document changes the whole.
	document func([]byte) []byte
}

var forgeKeys = sync.OnceValue(func() (keys [6]*ecdsa.PrivateKey) {
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
			panic(err)
		}
	}
	return keys
})

// strayKey is the key of no certificate.
func strayKey() *ecdsa.PrivateKey { return forgeKeys()[5] }

func encode(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func forgeTemplate(i int) *x509.Certificate {
	life := []time.Duration{30 * 365 * 24 * time.Hour, 480 * time.Hour, 140 * time.Hour, 24 * time.Hour, 3 * time.Hour}[i]
	c := &x509.Certificate{
		SerialNumber:          big.NewInt(int64(1000 + i)),
		Subject:               pkix.Name{CommonName: fmt.Sprintf("forged %d", i), Organization: []string{"Cretula tests"}},
		NotBefore:             forgeTime.Add(-time.Duration(5-i) * time.Minute),
		NotAfter:              forgeTime.Add(life),
		SignatureAlgorithm:    x509.ECDSAWithSHA384,
		BasicConstraintsValid: true,
		IsCA:                  i < 4,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	switch i {
	case 0:
		c.MaxPathLen = -1
	case 4:
		c.KeyUsage = x509.KeyUsageDigitalSignature
	default:
		c.MaxPathLen, c.MaxPathLenZero = 3-i, i == 3
	}
	return c
}

// certificates makes the chain of five, root first.
func (f *forge) certificates(t testing.TB) [][]byte {
	t.Helper()
	var ders [][]byte
	var signers [5]crypto.Signer
	var templates [5]*x509.Certificate
	for i := range 5 {
		signers[i] = forgeKeys()[i]
		if f.key != nil {
			if k := f.key(i); k != nil {
				signers[i] = k
			}
		}
		templates[i] = forgeTemplate(i)
		if f.certificate != nil {
			f.certificate(i, templates[i])
		}
		issuer := max(i-1, 0)
		parent, signer := *templates[issuer], signers[issuer]
		if f.parent != nil {
			f.parent(i, &parent)
		}
		if f.signer != nil {
			if s := f.signer(i); s != nil {
				signer = s
			}
		}
		parent.PublicKey = signer.Public()
		der, err := x509.CreateCertificate(rand.Reader, templates[i], &parent, signers[i].Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		ders = append(ders, der)
		// The next one is issued under what this one really says.
		made, err := x509.ParseCertificate(der)
		if err == nil {
			templates[i].SubjectKeyId = made.SubjectKeyId
		}
	}
	if f.chain != nil {
		ders = f.chain(ders)
	}
	return ders
}

// forgeRegisters has 16 registers, none of PCR0 to PCR2 zero.
func forgeRegisters() map[uint64][]byte {
	m := map[uint64][]byte{}
	for i := range uint64(16) {
		m[i] = make([]byte, 48)
		m[i][0] = byte(i + 1)
	}
	return m
}

func (f *forge) encodedPayload(ders [][]byte) []byte {
	list := []field{
		{"module_id", encode("i-0123456789abcdef0-enc0199aabbccddeeff")},
		{"digest", encode("SHA384")},
		{"timestamp", encode(uint64(forgeTime.UnixMilli()))},
		{"pcrs", encode(forgeRegisters())},
		{"certificate", encode(ders[len(ders)-1])},
		{"cabundle", encode(ders[:len(ders)-1])},
		{"public_key", encode(nil)},
		{"user_data", encode([]byte("user data"))},
		{"nonce", encode([]byte("nonce"))},
	}
	if f.fields != nil {
		list = f.fields(list)
	}
	payload := []byte{0xa0 | byte(len(list))}
	for _, pair := range list {
		payload = append(append(payload, encode(pair.name)...), pair.value...)
	}
	if f.payload != nil {
		payload = f.payload(payload)
	}
	return payload
}

// make returns the document and the root of its chain.
func (f forge) make(t testing.TB) (document []byte, root *x509.Certificate) {
	t.Helper()
	ders := f.certificates(t)
	root, err := x509.ParseCertificate(ders[0])
	if err != nil {
		t.Fatal(err)
	}
	payload := f.encodedPayload(ders)
	protected := []byte{0xa1, 0x01, 0x38, 0x22}
	if f.protected != nil {
		protected = f.protected
	}
	signed := encode([]any{"Signature1", protected, []byte{}, payload})
	sum := sha512.Sum384(signed)
	r, s, err := ecdsa.Sign(rand.Reader, forgeKeys()[4], sum[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 96)
	r.FillBytes(signature[:48])
	s.FillBytes(signature[48:])
	parts := [4][]byte{encode(protected), {0xa0}, encode(payload), encode(signature)}
	if f.parts != nil {
		f.parts(&parts)
	}
	document = []byte{0x84}
	for _, part := range parts {
		document = append(document, part...)
	}
	if f.document != nil {
		document = f.document(document)
	}
	return document, root
}

// set replaces the value of a field.
func set(name string, value []byte) func([]field) []field {
	return func(list []field) []field {
		for i := range list {
			if list[i].name == name {
				list[i].value = value
			}
		}
		return list
	}
}

// without removes a field.
func without(name string) func([]field) []field {
	return func(list []field) []field {
		var kept []field
		for _, pair := range list {
			if pair.name != name {
				kept = append(kept, pair)
			}
		}
		return kept
	}
}

// and adds a field.
func and(name string, value []byte) func([]field) []field {
	return func(list []field) []field { return append(list, field{name, value}) }
}

// unknown adds a field that no one knows, with that value.
func unknown(value ...byte) forge { return forge{fields: and("future", value)} }

func editCertificate(at int, edit func(c *x509.Certificate)) func(int, *x509.Certificate) {
	return func(i int, c *x509.Certificate) {
		if i == at {
			edit(c)
		}
	}
}

func extension(critical bool, value []byte, id ...int) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
}

func bigEndian(head byte, n uint64, size int) []byte {
	var wide [8]byte
	binary.BigEndian.PutUint64(wide[:], n)
	return append([]byte{head}, wide[8-size:]...)
}

// expectation is one that every unchanged forgery meets.
func forgeExpectation() attestation.Expectation {
	return attestation.Expectation{AllowAnyImage: true, Time: forgeTime}
}
