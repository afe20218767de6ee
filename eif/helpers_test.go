// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"hash/crc32"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/memfile"
	"github.com/cretula/cretula/pcr"
)

func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

var testMetadata = Metadata{
	ImageName:    "test",
	ImageVersion: "1",
	BuildMetadata: BuildMetadata{
		BuildTime: "2026-01-02T03:04:05Z", BuildTool: "test", BuildToolVersion: "0",
		OperatingSystem: "none", KernelVersion: "none",
	},
}

func testMetadataBytes(t testing.TB) []byte {
	t.Helper()
	data, err := testMetadata.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A rawSection is a section of a hand-made file, all fields free.
type rawSection struct {
	t     uint16
	flags uint16
	data  []byte
}

// assemble makes a file of sections whatever they are; its checksum is right.
func assemble(version, flags uint16, sections ...rawSection) []byte {
	file := make([]byte, HeaderSize)
	copy(file, magic)
	binary.BigEndian.PutUint16(file[offVersion:], version)
	binary.BigEndian.PutUint16(file[offFlags:], flags)
	binary.BigEndian.PutUint64(file[offMemory:], DefaultMemory)
	binary.BigEndian.PutUint64(file[offCPUs:], DefaultCPUs)
	binary.BigEndian.PutUint16(file[offCount:], uint16(len(sections)))
	for i, s := range sections {
		if i < MaxSections {
			binary.BigEndian.PutUint64(file[offOffsets+8*i:], uint64(len(file)))
			binary.BigEndian.PutUint64(file[offSizes+8*i:], uint64(len(s.data)))
		}
		file = binary.BigEndian.AppendUint16(file, s.t)
		file = binary.BigEndian.AppendUint16(file, s.flags)
		file = binary.BigEndian.AppendUint64(file, uint64(len(s.data)))
		file = append(file, s.data...)
	}
	return fixCRC(file)
}

// fixCRC returns a copy with the right checksum.
func fixCRC(file []byte) []byte {
	file = slices.Clone(file)
	if len(file) >= HeaderSize {
		crc := crc32.Update(crc32.ChecksumIEEE(file[:offCRC]), crc32.IEEETable, file[HeaderSize:])
		binary.BigEndian.PutUint32(file[offCRC:], crc)
	}
	return file
}

// usual returns the sections of an ordinary image.
func usual(t testing.TB) []rawSection {
	return []rawSection{
		{1, 0, []byte("a kernel")},
		{2, 0, []byte("console=ttyS0")},
		{5, 0, testMetadataBytes(t)},
		{3, 0, []byte("the first ramdisk")},
		{3, 0, []byte("the second ramdisk")},
	}
}

// naive measures by the definition, over the whole file in memory, walking the
// section headers.
func naive(file []byte) pcr.Set {
	h0, h1, h2 := sha512.New384(), sha512.New384(), sha512.New384()
	ramdisks := 0
	for pos := HeaderSize; pos < len(file); {
		size := int(binary.BigEndian.Uint64(file[pos+4:]))
		data := file[pos+12 : pos+12+size]
		switch binary.BigEndian.Uint16(file[pos:]) {
		case 1, 2:
			h0.Write(data)
			h1.Write(data)
		case 3:
			h0.Write(data)
			if ramdisks++; ramdisks == 1 {
				h1.Write(data)
			} else {
				h2.Write(data)
			}
		}
		pos += 12 + size
	}
	var set pcr.Set
	for i, h := range []interface{ Sum([]byte) []byte }{h0, h1, h2} {
		set.Put(pcr.Index(i), pcr.Measured(pcr.Digest(h.Sum(nil))))
	}
	return set
}

// write builds an image by Write.
func write(t testing.TB, spec Spec) []byte {
	t.Helper()
	var out memfile.File
	if _, err := Write(context.Background(), &out, spec); err != nil {
		t.Fatal(err)
	}
	return out.Data
}

// A signer makes signature sections.
type signer struct {
	key *ecdsa.PrivateKey
	pem []byte
}

func newSigner(t testing.TB, curve elliptic.Curve) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7),
		Subject:      pkix.Name{CommonName: "signer", Country: []string{"CH"}},
		NotBefore:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		NotAfter:     time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer{key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// cborOctets writes bytes as an array of integers.
func cborOctets(data []byte) []byte {
	out := binary.BigEndian.AppendUint16([]byte{0x99}, uint16(len(data)))
	switch n := len(data); {
	case n < 24:
		out = []byte{0x80 | byte(n)}
	case n < 256:
		out = []byte{0x98, byte(n)}
	}
	for _, b := range data {
		if b >= 24 {
			out = append(out, 0x18)
		}
		out = append(out, b)
	}
	return out
}

func cborText(s string) []byte { return append([]byte{0x60 | byte(len(s))}, s...) }

func payloadFor(index byte, pcr0 pcr.Digest) []byte {
	payload := append([]byte{0xa2}, cborText("register_index")...)
	payload = append(append(payload, index), cborText("register_value")...)
	return append(payload, cborOctets(pcr0[:])...)
}

// envelope makes a COSE_Sign1.
func (s signer) envelope(t testing.TB, protected, payload []byte) []byte {
	t.Helper()
	i := slices.IndexFunc(algorithms, func(a algorithm) bool { return a.curve == s.key.Curve })
	digest := algorithms[i].sum(toBeSigned(protected, payload))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, digest)
	if err != nil {
		t.Fatal(err)
	}
	half := (s.key.Curve.Params().BitSize + 7) / 8
	value := make([]byte, 2*half)
	r.FillBytes(value[:half])
	v.FillBytes(value[half:])
	return s.envelopeOf(protected, payload, value)
}

// envelopeOf makes a COSE_Sign1 with that signature. Its byte strings are at most
// 255 bytes long.
func (s signer) envelopeOf(protected, payload, value []byte) []byte {
	out := []byte{0x84}
	str := func(b []byte) {
		if len(b) < 24 {
			out = append(out, 0x40|byte(len(b)))
		} else {
			out = append(out, 0x58, byte(len(b)))
		}
		out = append(out, b...)
	}
	str(protected)
	out = append(out, 0xa0)
	str(payload)
	str(value)
	return out
}

func section(certificate, envelope []byte) []byte {
	out := append([]byte{0x81, 0xa2}, cborText("signing_certificate")...)
	out = append(out, cborOctets(certificate)...)
	out = append(out, cborText("signature")...)
	return append(out, cborOctets(envelope)...)
}
