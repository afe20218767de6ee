// SPDX-License-Identifier: Apache-2.0

// Package attestationtest makes attestation documents that are wrong in chosen
// ways, for tests of code that verifies or uses them. [New] returns a document
// in parts that is right in all of them: certificates in the shape of AWS's,
// payload and COSE structure. Change what is to be wrong and call
// [Forgery.Build].
//
//	f := attestationtest.New(now)
//	f.SetField("nonce", []byte("another"))
//	document, root, err := f.Build()
//
// Everything is deterministic: the same parts give the same bytes. So is every
// key, which means that anyone can make documents under these roots. They are
// for tests only, and the subject of each root says EMULATED.
package attestationtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// A Field is one pair of the payload's map.
type Field struct {
	Name string
	// Value is the encoded value. In the fields "certificate" and "cabundle" nil
	// stands for what Forgery.Certificates makes.
	Value []byte
}

// A Forgery is a document before it is put together. The functions run in the
// order in which they stand here; each may be nil.
type Forgery struct {
	// Certificates is the chain, root first, leaf last.
	Certificates []Certificate
	// EditChain changes the certificates in DER, root first, leaf last.
	EditChain func(ders [][]byte) [][]byte
	// Fields are the pairs of the payload in their order.
	Fields []Field
	// IndefiniteMap writes the payload's map with indefinite length, as AWS has
	// done since 2025.
	IndefiniteMap bool
	// EditPayload changes the encoded payload before it is signed.
	EditPayload func(payload []byte) []byte
	// Protected is the content of the protected header.
	Protected []byte
	// EditSigned changes the Sig_structure (RFC 9052 §4.4) that is signed.
	EditSigned func(signed []byte) []byte
	// Signer signs the document, the leaf's key if nil. It must be on a curve of
	// NIST; the signature is r and s in the width of that curve.
	Signer crypto.Signer
	// Hash is the hash that is signed, SHA-384 if zero.
	Hash crypto.Hash
	// EditParts changes the four encoded parts: protected header, unprotected
	// header, payload, signature.
	EditParts func(parts *[4][]byte)
	// EditDocument changes the whole.
	EditDocument func(document []byte) []byte
}

// ModuleID is the module_id of a document that [New] returns.
const ModuleID = "i-0123456789abcdef0-enc0199aabbccddeeff"

// New returns a good document of an enclave, made at that time: sixteen
// registers, of which none of the first three is zero (see [Registers]), no
// public key, user data and a nonce.
func New(at time.Time) *Forgery {
	return &Forgery{
		Certificates: newChain(at),
		Fields: []Field{
			{"module_id", Encode(ModuleID)},
			{"digest", Encode("SHA384")},
			{"timestamp", Encode(uint64(at.UnixMilli()))},
			{"pcrs", Encode(Registers(16))},
			{"certificate", nil},
			{"cabundle", nil},
			{"public_key", Encode(nil)},
			{"user_data", Encode([]byte("user data"))},
			{"nonce", Encode([]byte("nonce"))},
		},
		Protected: []byte{0xa1, 0x01, 0x38, 0x22},
	}
}

// Registers returns the registers 0 to n-1, each with a value of its own that is
// not zero: its index plus one, then zeros.
func Registers(n int) map[int][]byte {
	m := make(map[int][]byte, n)
	for i := range n {
		m[i] = make([]byte, 48)
		m[i][0] = byte(i + 1)
	}
	return m
}

var encoding = func() cbor.EncMode {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// Encode returns v in CBOR, with sorted maps and shortest forms. It panics if v
// cannot be encoded.
func Encode(v any) []byte {
	b, err := encoding.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// SetField replaces the value of a field, or adds one, with [Encode] of v.
func (f *Forgery) SetField(name string, v any) { f.SetEncoded(name, Encode(v)) }

// SetEncoded is SetField with an encoded value.
func (f *Forgery) SetEncoded(name string, value []byte) {
	for i := range f.Fields {
		if f.Fields[i].Name == name {
			f.Fields[i].Value = value
			return
		}
	}
	f.AddEncoded(name, value)
}

// AddEncoded adds a field at the end, even if there is one of that name.
func (f *Forgery) AddEncoded(name string, value []byte) {
	f.Fields = append(f.Fields, Field{name, value})
}

// RemoveField removes every field of that name.
func (f *Forgery) RemoveField(name string) {
	kept := f.Fields[:0:0]
	for _, field := range f.Fields {
		if field.Name != name {
			kept = append(kept, field)
		}
	}
	f.Fields = kept
}

// Build puts the document together. It returns the first of f.Certificates as
// root, whatever EditChain did.
func (f *Forgery) Build() (document []byte, root *x509.Certificate, err error) {
	ders, err := f.chain()
	if err != nil {
		return nil, nil, err
	}
	if root, err = x509.ParseCertificate(ders[0]); err != nil {
		return nil, nil, fmt.Errorf("attestationtest: root: %w", err)
	}
	if f.EditChain != nil {
		ders = f.EditChain(ders)
	}
	payload := f.payload(ders)
	signature, err := f.sign(payload)
	if err != nil {
		return nil, nil, fmt.Errorf("attestationtest: signature: %w", err)
	}
	parts := [4][]byte{Encode(f.Protected), {0xa0}, Encode(payload), Encode(signature)}
	if f.EditParts != nil {
		f.EditParts(&parts)
	}
	document = []byte{0x84}
	for _, part := range parts {
		document = append(document, part...)
	}
	if f.EditDocument != nil {
		document = f.EditDocument(document)
	}
	return document, root, nil
}

func (f *Forgery) payload(ders [][]byte) []byte {
	payload := head(0xa0, len(f.Fields))
	if f.IndefiniteMap {
		payload = []byte{0xbf}
	}
	for _, field := range f.Fields {
		value := field.Value
		switch {
		case value == nil && field.Name == "certificate":
			value = Encode(ders[len(ders)-1])
		case value == nil && field.Name == "cabundle":
			value = Encode(ders[:len(ders)-1])
		}
		payload = append(append(payload, Encode(field.Name)...), value...)
	}
	if f.IndefiniteMap {
		payload = append(payload, 0xff)
	}
	if f.EditPayload != nil {
		payload = f.EditPayload(payload)
	}
	return payload
}

// head encodes the head of a map, RFC 8949 §3, of fewer than 256 members.
func head(major byte, n int) []byte {
	if n < 24 {
		return []byte{major | byte(n)}
	}
	return []byte{major | 24, byte(n)}
}

// sign makes the signature over the Sig_structure, r and s side by side.
func (f *Forgery) sign(payload []byte) ([]byte, error) {
	signed := Encode([]any{"Signature1", f.Protected, []byte{}, payload})
	if f.EditSigned != nil {
		signed = f.EditSigned(signed)
	}
	hash := f.Hash
	if hash == 0 {
		hash = crypto.SHA384
	}
	h := hash.New()
	h.Write(signed)
	signer := f.Signer
	if signer == nil {
		signer = f.Certificates[len(f.Certificates)-1].Key
	}
	public, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the signer's key is not on a curve of NIST")
	}
	der, err := signer.Sign(nil, h.Sum(nil), hash)
	if err != nil {
		return nil, err
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return nil, err
	}
	width := (public.Params().BitSize + 7) / 8
	signature := make([]byte, 2*width)
	pair.R.FillBytes(signature[:width])
	pair.S.FillBytes(signature[width:])
	return signature, nil
}
