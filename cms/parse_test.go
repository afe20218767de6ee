// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/reason"
)

// A shape builds envelopes that differ from AWS's in one respect. Every field
// that is nil is as AWS has it.
type shape struct {
	contentType, version, recipients, recipientVersion  []byte
	identifier, keyEncryption, encryptedKey             []byte
	dataType, contentEncryption, content, after, behind []byte
	definite                                            bool
	between                                             []byte // before the recipients
}

func or(given, usual []byte) []byte {
	if given != nil {
		return given
	}
	return usual
}

func (s shape) outer(tag byte, parts ...[]byte) []byte {
	if s.definite {
		return tlv(tag, parts...)
	}
	return unbounded(tag, parts...)
}

var (
	sha256NULL = tlv(tagSequence, tlv(tagOID, oidSHA256), tlv(tagNull))
	sha256Bare = tlv(tagSequence, tlv(tagOID, oidSHA256))
	mgfNULL    = tlv(tagSequence, tlv(tagOID, oidMGF1), sha256NULL)
	cbcIV      = tlv(tagSequence, tlv(tagOID, oidAES256CBC), tlv(tagOctetString, make([]byte, 16)))
)

func oaep(params ...[]byte) []byte {
	return tlv(tagSequence, tlv(tagOID, oidRSAESOAEP), tlv(tagSequence, params...))
}

func (s shape) recipient() []byte {
	return tlv(tagSequence,
		or(s.recipientVersion, tlv(tagInteger, []byte{2})),
		or(s.identifier, tlv(tagPrimitive0, make([]byte, 32))),
		or(s.keyEncryption, oaep(tlv(tagContext0, sha256NULL), tlv(tagContext1, mgfNULL))),
		or(s.encryptedKey, tlv(tagOctetString, make([]byte, 256))))
}

func (s shape) bytes() []byte {
	inner := s.outer(tagSequence,
		or(s.dataType, tlv(tagOID, oidData)),
		or(s.contentEncryption, cbcIV),
		or(s.content, s.outer(tagContext0, tlv(tagOctetString, make([]byte, 16)))))
	enveloped := s.outer(tagSequence,
		or(s.version, tlv(tagInteger, []byte{2})),
		s.between,
		or(s.recipients, tlv(tagSet, s.recipient())),
		inner, s.after)
	whole := s.outer(tagSequence,
		or(s.contentType, tlv(tagOID, oidEnvelopedData)),
		s.outer(tagContext0, enveloped))
	return append(whole, s.behind...)
}

func TestParseAccepts(t *testing.T) {
	long := make([]byte, 4112)
	rand.Read(long)
	var bytewise [][]byte
	for _, b := range long {
		bytewise = append(bytewise, tlv(tagOctetString, []byte{b}))
	}
	empty := tlv(tagContext2, tlv(tagSequence, tlv(tagOID, oidPSpecified), tlv(tagOctetString)))
	for name, tt := range map[string]struct {
		shape  shape
		form   Form
		chunks []int
		size   int
	}{
		"as AWS":                {shape{}, Chunked, []int{16}, 16},
		"definite, chunked":     {shape{definite: true}, Chunked, []int{16}, 16},
		"DER":                   {shape{definite: true, content: tlv(tagPrimitive0, long)}, Primitive, []int{4112}, 4112},
		"primitive":             {shape{content: tlv(tagPrimitive0, long[:48])}, Primitive, []int{48}, 48},
		"definite content only": {shape{content: tlv(tagContext0, tlv(tagOctetString, long[:32]))}, Chunked, []int{32}, 32},
		"two chunks":            {shape{content: unbounded(tagContext0, tlv(tagOctetString, long[:32]), tlv(tagOctetString, long[:16]))}, Chunked, []int{32, 16}, 48},
		"uneven chunks":         {shape{content: unbounded(tagContext0, tlv(tagOctetString, long[:1]), tlv(tagOctetString, long[:31]))}, Chunked, []int{1, 31}, 32},
		"one big chunk":         {shape{content: unbounded(tagContext0, tlv(tagOctetString, long))}, Chunked, []int{4112}, 4112},
		"bytewise":              {shape{content: unbounded(tagContext0, bytewise...)}, Chunked, slices.Repeat([]int{1}, 4112), 4112},
		"hash without NULL":     {shape{keyEncryption: oaep(tlv(tagContext0, sha256Bare), tlv(tagContext1, tlv(tagSequence, tlv(tagOID, oidMGF1), sha256Bare)))}, Chunked, []int{16}, 16},
		"empty label said":      {shape{keyEncryption: oaep(tlv(tagContext0, sha256NULL), tlv(tagContext1, mgfNULL), empty)}, Chunked, []int{16}, 16},
		"3072 bits":             {shape{encryptedKey: tlv(tagOctetString, make([]byte, 384))}, Chunked, []int{16}, 16},
		"4096 bits":             {shape{encryptedKey: tlv(tagOctetString, make([]byte, 512))}, Chunked, []int{16}, 16},
		"SHA-1 identifier":      {shape{identifier: tlv(tagPrimitive0, make([]byte, 20))}, Chunked, []int{16}, 16},
	} {
		e, err := Parse(tt.shape.bytes())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if e.Form != tt.form || !slices.Equal(e.ChunkSizes, tt.chunks) || len(e.Content) != tt.size {
			t.Errorf("%s: %v %v %d, want %v %v %d", name, e.Form, e.ChunkSizes, len(e.Content), tt.form, tt.chunks, tt.size)
		}
		if name == "bytewise" && !bytes.Equal(e.Content, long) {
			t.Error("the chunks were not joined in their order")
		}
	}
}

// An issuerAndSerialNumber of CN=recipient, 1, as other emulators write it.
func issuerAndSerial() []byte {
	name := tlv(tagSequence, tlv(tagSet, tlv(tagSequence, tlv(tagOID, []byte{0x55, 4, 3}), tlv(0x0c, []byte("recipient")))))
	return tlv(tagSequence, name, tlv(tagInteger, []byte{1}))
}

func TestParseRefuses(t *testing.T) {
	octets := func(n int) []byte { return tlv(tagOctetString, make([]byte, n)) }
	version := func(n ...byte) []byte { return tlv(tagInteger, n) }
	recipient := shape{}.recipient()
	signedData := bytes.Clone(oidEnvelopedData)
	signedData[8] = 2
	sha1 := tlv(tagSequence, tlv(tagOID, []byte{0x2b, 0x0e, 3, 2, 0x1a}), tlv(tagNull))
	sha384 := tlv(tagSequence, tlv(tagOID, append(bytes.Clone(oidSHA256[:8]), 2)), tlv(tagNull))
	pkcs1 := bytes.Clone(oidRSAESOAEP)
	pkcs1[8] = 1
	aes128 := bytes.Clone(oidAES256CBC)
	aes128[8] = 2
	hash0, mask1 := tlv(tagContext0, sha256NULL), tlv(tagContext1, mgfNULL)
	label := func(oid []byte, value string) []byte {
		return tlv(tagContext2, tlv(tagSequence, tlv(tagOID, oid), tlv(tagOctetString, []byte(value))))
	}
	const malformed, unsupported = reason.Malformed, reason.Unsupported

	for name, tt := range map[string]struct {
		shape shape
		why   reason.Reason
		rule  string
		at    string // where it matters
	}{
		"signed-data":            {shape{contentType: tlv(tagOID, signedData)}, malformed, "cms.content-type", "2"},
		"short OID":              {shape{contentType: tlv(tagOID, oidEnvelopedData[:8])}, malformed, "cms.content-type", "2"},
		"no content type":        {shape{contentType: []byte{}}, malformed, "cms.ber.tag", "2"},
		"trailing zero":          {shape{behind: []byte{0}}, malformed, "cms.trailing", "461"},
		"trailing EOC":           {shape{behind: []byte{0, 0}}, malformed, "cms.trailing", "461"},
		"trailing after DER":     {shape{definite: true, behind: []byte{5, 0}}, malformed, "cms.trailing", ""},
		"two envelopes":          {shape{behind: shape{}.bytes()}, malformed, "cms.trailing", "461"},
		"version 0":              {shape{version: version(0)}, unsupported, "cms.version", "17"},
		"version 3":              {shape{version: version(3)}, unsupported, "cms.version", "17"},
		"version 258":            {shape{version: version(1, 2)}, malformed, "cms.version", "17"},
		"version -1":             {shape{version: version(0xff)}, malformed, "cms.version", "17"},
		"version without octets": {shape{version: version()}, malformed, "cms.version", "17"},
		"originator info":        {shape{between: tlv(tagContext0)}, malformed, "cms.ber.tag", "20"},
		"unprotected attributes": {shape{after: tlv(tagContext1)}, malformed, "cms.ber.extra", ""},
		"attributes in DER":      {shape{definite: true, after: tlv(tagContext1)}, malformed, "cms.ber.extra", ""},

		"no recipient":           {shape{recipients: tlv(tagSet)}, malformed, "cms.recipient.count", "22"},
		"two recipients":         {shape{recipients: tlv(tagSet, recipient, recipient)}, malformed, "cms.recipient.count", "387"},
		"recipients indefinite":  {shape{recipients: unbounded(tagSet, recipient)}, malformed, "cms.ber.length", "20"},
		"recipient indefinite":   {shape{recipients: tlv(tagSet, unbounded(tagSequence, version(2)))}, malformed, "cms.ber.length", "22"},
		"key agreement":          {shape{recipients: tlv(tagSet, tlv(0xa1))}, unsupported, "cms.recipient.kind", "22"},
		"password":               {shape{recipients: tlv(tagSet, tlv(0xa3))}, unsupported, "cms.recipient.kind", "22"},
		"a number as recipient":  {shape{recipients: tlv(tagSet, version(2))}, malformed, "cms.ber.tag", "22"},
		"issuer and serial":      {shape{version: version(0), recipientVersion: version(0), identifier: issuerAndSerial()}, unsupported, "cms.recipient.kind", "28"},
		"issuer, version 2":      {shape{identifier: issuerAndSerial()}, unsupported, "cms.recipient.kind", "28"},
		"identifier, version 0":  {shape{recipientVersion: version(0)}, unsupported, "cms.recipient.kind", "28"},
		"recipient version 3":    {shape{recipientVersion: version(3)}, unsupported, "cms.version", "28"},
		"empty identifier":       {shape{identifier: tlv(tagPrimitive0)}, malformed, "cms.recipient.identifier", "31"},
		"identifier of 65 bytes": {shape{identifier: tlv(tagPrimitive0, make([]byte, 65))}, malformed, "cms.recipient.identifier", "31"},
		"identifier explicit":    {shape{identifier: tlv(tagContext0, octets(32))}, malformed, "cms.ber.tag", "31"},

		"PKCS #1 v1.5":           {shape{keyEncryption: tlv(tagSequence, tlv(tagOID, pkcs1), tlv(tagNull))}, unsupported, "cms.key-encryption", "67"},
		"OAEP by default":        {shape{keyEncryption: oaep()}, unsupported, "cms.key-encryption", ""},
		"OAEP without params":    {shape{keyEncryption: tlv(tagSequence, tlv(tagOID, oidRSAESOAEP))}, malformed, "cms.ber.cut", ""},
		"OAEP with NULL":         {shape{keyEncryption: tlv(tagSequence, tlv(tagOID, oidRSAESOAEP), tlv(tagNull))}, malformed, "cms.ber.tag", ""},
		"SHA-1":                  {shape{keyEncryption: oaep(tlv(tagContext0, sha1), mask1)}, unsupported, "cms.key-encryption", "84"},
		"SHA-384":                {shape{keyEncryption: oaep(tlv(tagContext0, sha384), mask1)}, unsupported, "cms.key-encryption", "84"},
		"SHA-1 in MGF1":          {shape{keyEncryption: oaep(hash0, tlv(tagContext1, tlv(tagSequence, tlv(tagOID, oidMGF1), sha1)))}, unsupported, "cms.key-encryption", ""},
		"no MGF1":                {shape{keyEncryption: oaep(hash0)}, unsupported, "cms.key-encryption", ""},
		"MGF1 without hash":      {shape{keyEncryption: oaep(hash0, tlv(tagContext1, tlv(tagSequence, tlv(tagOID, oidMGF1))))}, malformed, "cms.ber.cut", ""},
		"other mask":             {shape{keyEncryption: oaep(hash0, tlv(tagContext1, tlv(tagSequence, tlv(tagOID, pkcs1), sha256NULL)))}, unsupported, "cms.key-encryption", ""},
		"only MGF1":              {shape{keyEncryption: oaep(mask1)}, unsupported, "cms.key-encryption", ""},
		"label":                  {shape{keyEncryption: oaep(hash0, mask1, label(oidPSpecified, "x"))}, unsupported, "cms.key-encryption", ""},
		"label, other source":    {shape{keyEncryption: oaep(hash0, mask1, label(pkcs1, ""))}, unsupported, "cms.key-encryption", ""},
		"label twice":            {shape{keyEncryption: oaep(hash0, mask1, label(oidPSpecified, ""), label(oidPSpecified, ""))}, malformed, "cms.ber.extra", ""},
		"fourth parameter":       {shape{keyEncryption: oaep(hash0, mask1, tlv(0xa3))}, malformed, "cms.ber.extra", ""},
		"NULL of one byte":       {shape{keyEncryption: oaep(tlv(tagContext0, tlv(tagSequence, tlv(tagOID, oidSHA256), tlv(tagNull, []byte{0}))), mask1)}, malformed, "cms.ber.length", "95"},
		"NULL twice":             {shape{keyEncryption: oaep(tlv(tagContext0, tlv(tagSequence, tlv(tagOID, oidSHA256), tlv(tagNull), tlv(tagNull))), mask1)}, malformed, "cms.ber.extra", "97"},
		"hash with other params": {shape{keyEncryption: oaep(tlv(tagContext0, tlv(tagSequence, tlv(tagOID, oidSHA256), octets(0))), mask1)}, malformed, "cms.ber.extra", "95"},
		"params indefinite":      {shape{keyEncryption: tlv(tagSequence, tlv(tagOID, oidRSAESOAEP), unbounded(tagSequence, hash0, mask1))}, malformed, "cms.ber.length", "78"},
		"encrypted key empty":    {shape{encryptedKey: octets(0)}, malformed, "cms.encrypted-key", "123"},
		"encrypted key 255":      {shape{encryptedKey: octets(255)}, malformed, "cms.encrypted-key", "127"},
		"encrypted key 128":      {shape{encryptedKey: octets(128)}, malformed, "cms.encrypted-key", "125"},
		"encrypted key split":    {shape{encryptedKey: tlv(0x24, octets(256))}, malformed, "cms.ber.tag", "127"},
		"encrypted key endless":  {shape{encryptedKey: []byte{tagOctetString, 0x80, 0, 0}}, malformed, "cms.ber.length", "123"},
		"no encrypted key":       {shape{encryptedKey: []byte{}}, malformed, "cms.ber.cut", "123"},
		"after encrypted key":    {shape{encryptedKey: append(octets(256), octets(1)...)}, malformed, "cms.ber.extra", "387"},

		"signed data inside":    {shape{dataType: tlv(tagOID, signedData)}, unsupported, "cms.content-type", "389"},
		"AES-128-CBC":           {shape{contentEncryption: tlv(tagSequence, tlv(tagOID, aes128), octets(16))}, unsupported, "cms.content-encryption", "402"},
		"no IV":                 {shape{contentEncryption: tlv(tagSequence, tlv(tagOID, oidAES256CBC))}, malformed, "cms.ber.cut", "413"},
		"NULL for an IV":        {shape{contentEncryption: tlv(tagSequence, tlv(tagOID, oidAES256CBC), tlv(tagNull))}, malformed, "cms.ber.tag", "413"},
		"IV of 12 bytes":        {shape{contentEncryption: tlv(tagSequence, tlv(tagOID, oidAES256CBC), octets(12))}, malformed, "cms.content-encryption", "413"},
		"IV of 17 bytes":        {shape{contentEncryption: tlv(tagSequence, tlv(tagOID, oidAES256CBC), octets(17))}, malformed, "cms.content-encryption", "413"},
		"no content":            {shape{content: []byte{}}, malformed, "cms.ber.tag", "431"},
		"no content in DER":     {shape{definite: true, content: []byte{}}, malformed, "cms.ber.cut", ""},
		"no chunks":             {shape{content: unbounded(tagContext0)}, malformed, "cms.content", "431"},
		"no chunks in DER":      {shape{content: tlv(tagContext0)}, malformed, "cms.content", "431"},
		"empty primitive":       {shape{content: tlv(tagPrimitive0)}, malformed, "cms.content", "431"},
		"empty chunk":           {shape{content: unbounded(tagContext0, octets(16), octets(0))}, malformed, "cms.content", "451"},
		"15 bytes":              {shape{content: tlv(tagPrimitive0, make([]byte, 15))}, malformed, "cms.content", "431"},
		"17 bytes in chunks":    {shape{content: unbounded(tagContext0, octets(16), octets(1))}, malformed, "cms.content", "431"},
		"nested chunks":         {shape{content: unbounded(tagContext0, unbounded(0x24, octets(16)))}, malformed, "cms.ber.tag", "433"},
		"number as chunk":       {shape{content: unbounded(tagContext0, version(2))}, malformed, "cms.ber.tag", "433"},
		"primitive, indefinite": {shape{content: []byte{tagPrimitive0, 0x80, 0, 0}}, malformed, "cms.ber.length", "431"},
		"half an end":           {shape{content: []byte{tagContext0, 0x80, 0, 1}}, malformed, "cms.ber.extra", "433"},
		"content twice":         {shape{content: append(tlv(tagPrimitive0, make([]byte, 16)), tlv(tagPrimitive0, make([]byte, 16))...)}, malformed, "cms.ber.extra", "449"},

		"length not minimal, 1": {shape{dataType: append([]byte{tagOID, 0x81, 9}, oidData...)}, malformed, "cms.ber.length", "389"},
		"length not minimal, 2": {shape{dataType: append([]byte{tagOID, 0x82, 0, 9}, oidData...)}, malformed, "cms.ber.length", "389"},
		"length of 3 octets":    {shape{encryptedKey: append([]byte{tagOctetString, 0x83, 0, 1, 0}, make([]byte, 256)...)}, malformed, "cms.ber.length", "127"},
		"length of 8 octets":    {shape{content: append([]byte{tagPrimitive0, 0x88}, bytes.Repeat([]byte{0xff}, 8)...)}, malformed, "cms.ber.length", "431"},
		"reserved length":       {shape{content: []byte{tagPrimitive0, 0xff}}, malformed, "cms.ber.length", "431"},
		"length beyond the end": {shape{content: []byte{tagPrimitive0, 0x82, 0xff, 0xf0}}, malformed, "cms.ber.cut", "431"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := Parse(tt.shape.bytes())
			if e != nil {
				t.Error("a result in spite of the error")
			}
			wantRefused(t, err, tt.why, tt.rule, tt.at)
		})
	}
}

func TestParseSize(t *testing.T) {
	for _, envelope := range [][]byte{nil, {}, make([]byte, MaxEnvelope+1)} {
		_, err := Parse(envelope)
		wantRefused(t, err, reason.Malformed, "cms.size", "")
	}
	whole := shape{content: tlv(tagPrimitive0, make([]byte, 64960))}.bytes()
	if _, err := Parse(whole); err != nil {
		t.Errorf("%d bytes: %v", len(whole), err)
	}
}

// TestEveryCut: no part of an envelope is an envelope, whichever its form.
func TestEveryCut(t *testing.T) {
	for name, s := range map[string]shape{
		"AWS":       {},
		"primitive": {content: tlv(tagPrimitive0, make([]byte, 16))},
		"DER":       {definite: true},
	} {
		whole := s.bytes()
		if _, err := Parse(whole); err != nil {
			t.Fatal(err)
		}
		for n := range whole {
			e, err := Parse(whole[:n])
			if why, _ := reason.Of(err); why != reason.Malformed || e != nil {
				t.Errorf("%s cut to %d of %d bytes: %v", name, n, len(whole), err)
			}
		}
	}
}

// TestEveryByte changes each fixed byte in every bit: each is looked at.
func TestEveryByte(t *testing.T) {
	whole := shape{}.bytes()
	varies := func(at int) bool {
		return at >= 33 && at < 65 || at >= 131 && at < 387 || at >= 415 && at < 431 || at >= 435 && at < 451
	}
	for at := range whole {
		for bit := range 8 {
			changed := bytes.Clone(whole)
			changed[at] ^= 1 << bit
			e, err := Parse(changed)
			if varies(at) {
				if err != nil {
					t.Errorf("byte %d, bit %d: %v", at, bit, err)
				}
			} else if err == nil || e != nil {
				t.Errorf("byte %d, bit %d: the change went unnoticed", at, bit)
			}
		}
	}
}

// TestParseKeepsNothing: the result survives a change of the input.
func TestParseKeepsNothing(t *testing.T) {
	for _, s := range []shape{{}, {definite: true, content: tlv(tagPrimitive0, make([]byte, 16))}} {
		data := s.bytes()
		e, err := Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprint(*e)
		for i := range data {
			data[i] = 0xee
		}
		if fmt.Sprint(*e) != before {
			t.Error("the result refers to the input")
		}
	}
}

// TestBoundedAllocation: the worst input, chunks of one byte, costs a small
// multiple of its length.
func TestBoundedAllocation(t *testing.T) {
	chunk := tlv(tagOctetString, []byte{0})
	data := shape{content: unbounded(tagContext0, bytes.Repeat(chunk, 21680))}.bytes()
	if len(data) > MaxEnvelope {
		t.Fatalf("%d bytes are too many to show it", len(data))
	}
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			if _, err := Parse(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	if got := result.AllocedBytesPerOp(); got > 1<<20 {
		t.Errorf("%d bytes allocated for an input of %d", got, len(data))
	}
}

func TestMessagesHoldNoContent(t *testing.T) {
	secret := []byte("do not print me")
	_, err := Parse(shape{keyEncryption: oaep(tlv(tagContext0, sha256NULL), tlv(tagContext1, mgfNULL),
		tlv(tagContext2, tlv(tagSequence, tlv(tagOID, oidPSpecified), tlv(tagOctetString, secret))))}.bytes())
	if err == nil || strings.Contains(err.Error(), string(secret)) {
		t.Errorf("message: %v", err)
	}
}

// unbounded returns a constructed element of indefinite length.
func unbounded(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n+4)
	out = append(out, tag, 0x80)
	for _, p := range parts {
		out = append(out, p...)
	}
	return append(out, 0, 0)
}
