// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/memfile"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

var curves = []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}

// parsed returns the image in data.
func parsed(t testing.TB, data []byte) *Image {
	t.Helper()
	im, err := Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// rewritten returns the copy of a file with that signature section.
func rewritten(t testing.TB, file, section []byte) ([]byte, pcr.Measurements) {
	t.Helper()
	var out memfile.File
	m, err := parsed(t, file).WriteSigned(context.Background(), &out, section)
	if err != nil {
		t.Fatal(err)
	}
	if out.Pos != len(out.Data) {
		t.Errorf("the writer is left at %d of %d", out.Pos, len(out.Data))
	}
	return out.Data, m
}

func wantRule(t testing.TB, what string, err error, r reason.Reason, rule string) {
	t.Helper()
	refusal, ok := errors.AsType[*reason.Error](err)
	if !ok || refusal.Reason() != r || refusal.Rule() != rule {
		t.Errorf("%s: %v, want %v (%s)", what, err, r, rule)
	}
}

func sharedKey(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(sharedFile(t, name))
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PrivateKey)
}

// TestSignManifest signs the images that others have signed, by RFC 6979: from the
// stripped file each comes out byte for byte, and also over another signature.
func TestSignManifest(t *testing.T) {
	m := loadManifest(t)
	var build struct {
		Files []struct {
			File  string
			Build *struct{ Key, Certificate string }
		}
	}
	loadJSON(t, "manifest.json", &build)
	done := 0
	for i, f := range m.Files {
		b := build.Files[i].Build
		if f.Signature == nil || b == nil || !f.Signature.SignatureValid {
			continue
		}
		done++
		t.Run(f.File, func(t *testing.T) {
			want := sharedFile(t, f.File)
			certificate, key := sharedFile(t, b.Certificate), sharedKey(t, b.Key)
			pcr0, _ := f.PCRs.Get(0)
			section, err := SignSection(t.Context(), certificate, pcr0, key, nil)
			if err != nil {
				t.Fatal(err)
			}
			stripped, measured := rewritten(t, want, nil)
			if im := parsed(t, stripped); im.Signature() != nil || len(im.Sections) != len(f.Sections)-1 {
				t.Errorf("stripped: %+v", im.Sections)
			}
			if _, ok := measured.Get(8); ok {
				t.Error("stripped, it has PCR8")
			}
			got, measured := rewritten(t, stripped, section)
			if !bytes.Equal(got, want) {
				t.Error("signed again, it differs")
			}
			if measured.Set != *f.PCRs {
				t.Errorf("measurements differ: %v", pcr.Compare(f.PCRs, &measured.Set))
			}
			other, err := SignSection(t.Context(), sharedFile(t, "keys/p521.crt.pem"), pcr0, sharedKey(t, "keys/p521.key.pem"), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			replaced, _ := rewritten(t, want, other)
			if back, _ := rewritten(t, replaced, section); !bytes.Equal(back, want) {
				t.Error("replaced and back, it differs")
			}
		})
	}
	if done < 5 {
		t.Errorf("only %d signed files", done)
	}
}

// TestAttach takes signatures in both forms, and nothing that does not verify.
func TestAttach(t *testing.T) {
	pcr0 := usualPCR0(t)
	for _, curve := range curves {
		s := newSigner(t, curve)
		r, err := ToBeSigned(s.pem, pcr0)
		if err != nil {
			t.Fatal(err)
		}
		der, err := s.key.Sign(nil, r.Sum(), r.Digest)
		if err != nil {
			t.Fatal(err)
		}
		half := algorithmOf(r.Certificate).half()
		raw := rawSignature(der, half)
		want := section(s.pem, s.envelopeOf(protectedFor(curve), payloadFor(0, pcr0), raw))
		for name, signature := range map[string][]byte{"DER": der, "raw": raw} {
			got, err := r.Attach(signature)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %s: %v, or the section differs", r.Algorithm, name, err)
			}
		}
		order := curve.Params().N
		for name, signature := range map[string][]byte{
			"nothing":          nil,
			"a byte less":      raw[1:],
			"a byte more":      append(slices.Clone(raw), 0),
			"DER, more behind": append(slices.Clone(der), 0),
			"DER, cut":         der[:len(der)-1],
			"zeros":            make([]byte, 2*half),
			"ones":             bytes.Repeat([]byte{255}, 2*half),
			"S before R":       append(slices.Clone(raw[half:]), raw[:half]...),
			"flipped":          flip(raw, len(raw)-1),
			"R only":           marshal(t, big.NewInt(1)),
			"negative R":       marshal(t, struct{ R, S *big.Int }{big.NewInt(-1), big.NewInt(1)}),
			"huge R":           marshal(t, struct{ R, S *big.Int }{new(big.Int).Lsh(order, 64), big.NewInt(1)}),
			"three integers":   marshal(t, struct{ R, S, T *big.Int }{big.NewInt(1), big.NewInt(1), big.NewInt(1)}),
			"little endian":    reversed(raw, half),
			"of the message":   signRaw(t, s.key, []byte("another message")),
			"of no hash":       signRaw(t, s.key, r.ToBeSigned),
			"another key's":    signRaw(t, newSigner(t, curve).key, r.Sum()),
			"long DER length":  slices.Concat([]byte{0x30, 0x82, 0, byte(len(der) - headLength(der))}, der[headLength(der):]),
		} {
			if name == "of no hash" && curve == elliptic.P521() {
				continue // the digest is cut to the curve's length: only for P-521 it is not
			}
			got, err := r.Attach(signature)
			if got != nil {
				t.Errorf("%s, %s: attached", r.Algorithm, name)
			}
			wantRule(t, r.Algorithm+", "+name, err, reason.BadSignature, "eif.signature.value")
		}
	}
}

func headLength(der []byte) int {
	if der[1] == 0x81 {
		return 3
	}
	return 2
}

func flip(b []byte, i int) []byte {
	b = slices.Clone(b)
	b[i] ^= 1
	return b
}

func reversed(raw []byte, half int) []byte {
	raw = slices.Clone(raw)
	slices.Reverse(raw[:half])
	slices.Reverse(raw[half:])
	return raw
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func signRaw(t testing.TB, key *ecdsa.PrivateKey, digest []byte) []byte {
	t.Helper()
	der, err := ecdsa.SignASN1(rand.Reader, key, digest)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// badSigner answers with whatever it has.
type badSigner struct {
	public    crypto.PublicKey
	signature []byte
	err       error
}

func (s badSigner) Public() crypto.PublicKey { return s.public }
func (s badSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return s.signature, s.err
}

func TestSignSectionRefuses(t *testing.T) {
	pcr0 := usualPCR0(t)
	s, other := newSigner(t, elliptic.P384()), newSigner(t, elliptic.P384())
	small := newSigner(t, elliptic.P256())
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(certificate []byte, signer crypto.Signer) error {
		got, err := SignSection(t.Context(), certificate, pcr0, signer, nil)
		if got != nil {
			t.Error("a section with an error")
		}
		return err
	}
	for name, key := range map[string]crypto.Signer{"another key": other.key, "another curve": small.key, "RSA": rsaKey} {
		wantRule(t, name, sign(s.pem, key), reason.Mismatch, "eif.sign.key")
	}
	wantRule(t, "no signature", sign(s.pem, badSigner{public: &s.key.PublicKey}), reason.BadSignature, "eif.signature.value")
	wantRule(t, "a wrong signature", sign(s.pem, badSigner{public: &s.key.PublicKey, signature: signRaw(t, other.key, make([]byte, 48))}),
		reason.BadSignature, "eif.signature.value")
	if err := sign(s.pem, badSigner{public: &s.key.PublicKey, err: io.ErrClosedPipe}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the signer's error: %v", err)
	}
	if err := sign(s.pem, nil); err == nil {
		t.Error("signed by nobody")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := SignSection(ctx, s.pem, pcr0, s.key, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1}})
	old := bytes.ReplaceAll(s.pem, []byte("CERTIFICATE"), []byte("X509 CERTIFICATE"))
	for _, c := range []struct {
		name string
		file []byte
		r    reason.Reason
		rule string
	}{
		{"no file", nil, reason.Malformed, "eif.certificate.form"},
		{"text", []byte("a certificate"), reason.Malformed, "eif.certificate.form"},
		{"DER", decoded(s.pem), reason.Malformed, "eif.certificate.form"},
		{"a block that is none", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), reason.Malformed, "eif.certificate.form"},
		{"private key behind", append(slices.Clone(s.pem), private...), reason.Malformed, "eif.certificate.private-key"},
		{"private key before", append(slices.Clone(private), s.pem...), reason.Malformed, "eif.certificate.private-key"},
		{"damaged private key", append(slices.Clone(s.pem), "-----BEGIN ENCRYPTED PRIVATE KEY-----\nxx"...), reason.Malformed, "eif.certificate.private-key"},
		{"old block type first", append(slices.Clone(old), s.pem...), reason.Malformed, "eif.certificate.form"},
		{"damaged block first", append([]byte("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"), s.pem...), reason.Malformed, "eif.certificate.form"},
		{"block without an end first", append([]byte("-----BEGIN CERTIFICATE-----\n"), s.pem...), reason.Malformed, "eif.certificate.form"},
		{"a certificate in a line first", append([]byte("see -----BEGIN CERTIFICATE-----\n"), s.pem...), reason.Malformed, "eif.certificate.form"},
		{"another block first", append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS"}), s.pem...), reason.Malformed, "eif.certificate.first"},
		{"Ed25519", edCertificate(t), reason.Unsupported, "eif.signature.key"},
		{"too large", append(slices.Clone(s.pem), bytes.Repeat([]byte("x\n"), 16000)...), reason.Malformed, "eif.signature.size"},
	} {
		wantRule(t, c.name, sign(c.file, s.key), c.r, c.rule)
	}
}

func decoded(file []byte) []byte {
	block, _ := pem.Decode(file)
	return block.Bytes
}

// TestX509Block: OpenSSL takes such a block for the certificate, so that PCR8
// would be another than the one told here.
func TestX509Block(t *testing.T) {
	s, other := newSigner(t, elliptic.P384()), newSigner(t, elliptic.P384())
	old := bytes.ReplaceAll(other.pem, []byte("CERTIFICATE"), []byte("X509 CERTIFICATE"))
	file := append(old, s.pem...)
	data := section(file, s.envelope(t, protectedFor(elliptic.P384()), payloadFor(0, usualPCR0(t))))
	_, _, err := judge(signed(t, data), signatureClock)
	wantRule(t, "X509 CERTIFICATE before", err, reason.Malformed, "eif.signature.certificate")
}

// TestWriteSigned: the signature's place, and what is refused.
func TestWriteSigned(t *testing.T) {
	s := newSigner(t, elliptic.P256())
	long := newSigner(t, elliptic.P521())
	pcr0 := usualPCR0(t)
	first, second := signOver(t, s, pcr0), signOver(t, long, pcr0)
	parts := usual(t)
	// In the middle of the file, so that what follows moves.
	middle := assemble(4, FlagPCIe, slices.Insert(slices.Clone(parts), 2, rawSection{4, 0, first})...)
	want := assemble(4, FlagPCIe, slices.Insert(slices.Clone(parts), 2, rawSection{4, 0, second})...)
	got, m := rewritten(t, middle, second)
	if !bytes.Equal(got, want) {
		t.Error("replaced in the middle, it differs")
	}
	if d, _ := m.Get(0); d != pcr0 {
		t.Error("PCR0 changed")
	}
	if got, _ := rewritten(t, middle, nil); !bytes.Equal(got, assemble(4, FlagPCIe, parts...)) {
		t.Error("stripped, it differs")
	}
	if got, _ := rewritten(t, assemble(4, 0, parts...), nil); !bytes.Equal(got, assemble(4, 0, parts...)) {
		t.Error("an unsigned image is stripped to another one")
	}
	v3 := assemble(3, 0, parts[0], parts[1], parts[3], parts[4])
	got, _ = rewritten(t, v3, first)
	if !bytes.Equal(got, assemble(3, 0, parts[0], parts[1], parts[3], parts[4], rawSection{4, 0, first})) {
		t.Error("version 3 signed, it differs")
	}
	// Behind what is there already.
	behind := &memfile.File{Data: []byte("before"), Pos: 6}
	if _, err := parsed(t, middle).WriteSigned(t.Context(), behind, second); err != nil || string(behind.Data) != "before"+string(want) {
		t.Errorf("behind something: %v, or it differs", err)
	}
}

func signOver(t testing.TB, s signer, pcr0 pcr.Digest) []byte {
	t.Helper()
	data, err := SignSection(t.Context(), s.pem, pcr0, s.key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestWriteSignedChanged: what was judged is what is written, should the file change
// meanwhile, whose checksum can be made to fit.
func TestWriteSignedChanged(t *testing.T) {
	file := signed(t, signOver(t, newSigner(t, elliptic.P256()), usualPCR0(t)))
	want, _ := rewritten(t, file, nil)
	im := parsed(t, file)
	for _, s := range im.Sections {
		if s.Type.limit() > 0 {
			clear(file[s.DataOffset():s.end()])
		}
	}
	var out memfile.File
	if _, err := im.WriteSigned(t.Context(), &out, nil); err != nil || !bytes.Equal(out.Data, want) {
		t.Errorf("%v, or another image was written", err)
	}
}

func TestWriteSignedRefuses(t *testing.T) {
	s := newSigner(t, elliptic.P256())
	pcr0 := usualPCR0(t)
	foreign := pcr0
	foreign[47] ^= 1
	good := signOver(t, s, pcr0)
	file := assemble(4, 0, usual(t)...)
	parts := usual(t)
	full := slices.Clone(parts)
	for len(full) < MaxSections {
		full = append(full, rawSection{3, 0, nil})
	}
	badCRC := slices.Clone(file)
	badCRC[offCRC] ^= 1
	signedBadCRC := signed(t, good)
	signedBadCRC[len(signedBadCRC)-1] ^= 1 // in the signature that is left out
	other := newSigner(t, elliptic.P256())
	for _, c := range []struct {
		name    string
		file    []byte
		section []byte
		r       reason.Reason
		rule    string
	}{
		{"another PCR0", file, signOver(t, s, foreign), reason.Mismatch, "eif.signature.register"},
		{"a wrong signature", file, section(s.pem, other.envelope(t, protectedFor(elliptic.P256()), payloadFor(0, pcr0))), reason.BadSignature, "eif.signature.value"},
		{"no signature", file, []byte{}, reason.Malformed, "eif.signature.cbor"},
		{"something behind it", file, append(slices.Clone(good), 0), reason.Malformed, "eif.signature.cbor"},
		{"too large", file, make([]byte, MaxSignature+1), reason.Malformed, "eif.signature.size"},
		{"version 2", assemble(2, 0, parts[0], parts[1], parts[3], parts[4]), good, reason.Unsupported, "eif.sign.version"},
		{"no room", assemble(4, 0, full...), good, reason.Unsupported, "eif.sign.room"},
		{"wrong checksum", badCRC, good, reason.Mismatch, "eif.crc"},
		{"wrong checksum, stripped", badCRC, nil, reason.Mismatch, "eif.crc"},
		{"wrong checksum for the old signature", signedBadCRC, nil, reason.Mismatch, "eif.crc"},
	} {
		im, err := Parse(bytes.NewReader(c.file), int64(len(c.file)))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		m, err := im.WriteSigned(t.Context(), &memfile.File{}, c.section)
		wantRule(t, c.name, err, c.r, c.rule)
		if m.Len() != 0 {
			t.Errorf("%s: measurements", c.name)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := parsed(t, file).WriteSigned(ctx, &memfile.File{}, good); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	full4 := &fullDisk{room: 700}
	if _, err := parsed(t, file).WriteSigned(t.Context(), full4, good); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("full: %v", err)
	}
}

// A fullDisk takes room bytes.
type fullDisk struct {
	memfile.File
	room int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, io.ErrShortWrite
	}
	return d.File.Write(p)
}

// staleFile is what AWS's sign-eif leaves when it replaces a signature of size old
// by the one in the file: the old size in the table, under a right checksum.
func staleFile(file []byte, section int, old uint64) []byte {
	file = slices.Clone(file)
	binary.BigEndian.PutUint64(file[offSizes+8*section:], old)
	return fixCRC(file)
}

func TestRepair(t *testing.T) {
	data := signOver(t, newSigner(t, elliptic.P384()), usualPCR0(t))
	last := signed(t, data)
	middle := assemble(4, 0, slices.Insert(usual(t), 2, rawSection{4, 0, data})...)
	for _, c := range []struct {
		name    string
		file    []byte
		section int
		old     uint64
	}{
		{"larger", last, 5, uint64(len(data) + 228)},
		{"smaller", last, 5, uint64(len(data) - 228)},
		{"zero", last, 5, 0},
		{"absurd", last, 5, 1<<64 - 1},
		{"larger, in the middle", middle, 2, uint64(len(data) + 20)},
		{"smaller, in the middle", middle, 2, uint64(len(data) - 20)},
	} {
		stale := staleFile(c.file, c.section, c.old)
		if _, err := Parse(bytes.NewReader(stale), int64(len(stale))); err == nil {
			t.Fatalf("%s: the file has no fault", c.name)
		}
		if !repairable(bytes.NewReader(stale), int64(len(stale))) {
			t.Errorf("%s: not repairable", c.name)
		}
		var out memfile.File
		got, err := Repair(t.Context(), &out, bytes.NewReader(stale), int64(len(stale)))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !bytes.Equal(out.Data, c.file) {
			t.Errorf("%s: not the file as it was", c.name)
		}
		if got.Section != c.section || got.TableSize != c.old || got.Size != int64(len(data)) || got.Offset != int64(offSizes+8*c.section) {
			t.Errorf("%s: %+v", c.name, got)
		}
		_, want, err := judge(c.file, signatureClock)
		if err != nil || got.Measurements.Set != want.Set || !got.Signature.Matches(usualPCR0(t)) {
			t.Errorf("%s: %v, measurements %v", c.name, err, got.Measurements)
		}
	}
}

func TestRepairRefuses(t *testing.T) {
	data := signOver(t, newSigner(t, elliptic.P384()), usualPCR0(t))
	good := signed(t, data)
	edit := func(change func(file []byte) []byte) []byte { return fixCRC(change(slices.Clone(good))) }
	size := func(i int, v uint64) func([]byte) []byte {
		return func(f []byte) []byte { binary.BigEndian.PutUint64(f[offSizes+8*i:], v); return f }
	}
	badCRC := staleFile(good, 5, 7)
	badCRC[offCRC] ^= 1
	badSignature := staleFile(signed(t, append(slices.Clone(data), 0)), 5, 7)
	for name, file := range map[string][]byte{
		"the kernel's size":                   edit(size(0, 3)),
		"the command line's size":             edit(size(1, 3)),
		"the metadata's size":                 edit(size(2, 3)),
		"a ramdisk's size":                    edit(size(3, 3)),
		"the last ramdisk's size, larger":     edit(size(4, 2000)),
		"the signature's and another size":    edit(func(f []byte) []byte { return size(5, 7)(size(4, 3)(f)) }),
		"two signatures":                      staleFile(assemble(4, 0, append(usual(t), rawSection{4, 0, data}, rawSection{4, 0, data})...), 5, 7),
		"bytes behind":                        edit(func(f []byte) []byte { return append(size(5, uint64(len(data)+9))(f), make([]byte, 9)...) }),
		"cut":                                 edit(func(f []byte) []byte { return size(5, 7)(f)[:len(f)-1] }),
		"an offset":                           edit(func(f []byte) []byte { f[offOffsets+8*5+7]++; return size(5, 7)(f) }),
		"a gap":                               edit(func(f []byte) []byte { f[offOffsets+8*4+7]++; return f }),
		"magic":                               edit(func(f []byte) []byte { f[0] = 'E'; return size(5, 7)(f) }),
		"the header cut":                      good[:500],
		"nothing":                             {},
		"wrong checksum":                      badCRC,
		"a malformed signature":               badSignature,
		"no fault in the table, bad checksum": append(slices.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		"a size of the section header":        edit(func(f []byte) []byte { f[len(f)-len(data)-1]++; return f }),
	} {
		var out memfile.File
		got, err := Repair(t.Context(), &out, bytes.NewReader(file), int64(len(file)))
		if _, ok := reason.Of(err); !ok || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	var out memfile.File
	if got, err := Repair(t.Context(), &out, bytes.NewReader(good), int64(len(good))); got != nil || err != nil || len(out.Data) > 0 {
		t.Errorf("nothing to repair: %v, %v, %d bytes", got, err, len(out.Data))
	}
	if repairable(bytes.NewReader(good), int64(len(good))) {
		t.Error("a sound file is repairable")
	}
	for _, f := range loadManifest(t).Files {
		data := sharedFile(t, f.File)
		if repairable(bytes.NewReader(data), int64(len(data))) {
			t.Errorf("%s is repairable", f.File)
		}
	}
}

func TestLaunchVerdict(t *testing.T) {
	s, other := newSigner(t, elliptic.P384()), newSigner(t, elliptic.P384())
	pcr0 := usualPCR0(t)
	foreign := pcr0
	foreign[0] ^= 1
	protected := protectedFor(elliptic.P384())
	good := s.envelope(t, protected, payloadFor(0, pcr0))
	type want struct{ rule, preCheck, platform string }
	expired := want{"eif.signature.validity", "E59", "E36 E39 E11"}
	value := want{"eif.signature.value", "E59", ""}
	register := want{"eif.signature.register", "", ""}
	last := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		data []byte
		at   time.Time
		want []want
	}{
		{"good", section(s.pem, good), signatureClock, nil},
		{"last second", section(s.pem, good), last, nil},
		{"expired", section(s.pem, good), last.Add(1), []want{expired}},
		{"first second", section(s.pem, good), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), nil},
		{"not yet valid", section(s.pem, good), time.Date(2026, 1, 2, 3, 4, 4, 0, time.UTC), []want{expired}},
		{"another key's", section(s.pem, other.envelope(t, protected, payloadFor(0, pcr0))), signatureClock, []want{value}},
		{"another image's", section(s.pem, s.envelope(t, protected, payloadFor(0, foreign))), signatureClock, []want{register}},
		{"over PCR1", section(s.pem, s.envelope(t, protected, payloadFor(1, pcr0))), signatureClock, []want{register}},
		{"an unknown key", section(edCertificate(t), good), signatureClock, []want{{"eif.signature.key", "E59", ""}}},
		{"all", section(s.pem, other.envelope(t, protected, payloadFor(0, foreign))), last.Add(1), []want{expired, value, register}},
	} {
		file := signed(t, c.data)
		im := parsed(t, file)
		m, err := im.Measure(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		v := im.LaunchVerdict(m, c.at)
		var got []want
		for _, p := range v.Problems {
			got = append(got, want{p.Rule, p.PreCheck, strings.Join(p.Platform, " ")})
		}
		if !v.Signed || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		var text string
		if err := im.Signature().Verify(pcr0, c.at); err != nil {
			text = err.Error()
		}
		if err := v.Err(); (err != nil) != (text != "") || err != nil && err.Error() != text {
			t.Errorf("%s: Err %v, Verify %q", c.name, err, text)
		}
	}
	im := parsed(t, assemble(4, 0, usual(t)...))
	m, err := im.Measure(t.Context())
	if v := im.LaunchVerdict(m, signatureClock); err != nil || v.Signed || v.Problems != nil || v.Err() != nil {
		t.Errorf("unsigned: %+v, %v", v, err)
	}
}

// opensslVerifies has OpenSSL verify a signature over the Sig_structure.
func opensslVerifies(t *testing.T, openssl string, s *Signature, tbs []byte) bool {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	public, err := x509.MarshalPKIXPublicKey(s.Certificate.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	half := len(s.value) / 2
	der := marshal(t, struct{ R, S *big.Int }{new(big.Int).SetBytes(s.value[:half]), new(big.Int).SetBytes(s.value[half:])})
	digest := map[string]string{"ES256": "-sha256", "ES384": "-sha384", "ES512": "-sha512"}[s.Algorithm()]
	out, err := exec.Command(openssl, "dgst", digest, "-verify", file("key", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		"-signature", file("sig", der), file("tbs", tbs)).CombinedOutput()
	if text := string(out); !strings.Contains(text, "Verified OK") && !strings.Contains(strings.ToLower(text), "verification failure") {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	return err == nil
}

// TestOpenSSL verifies what was signed here with OpenSSL.
func TestOpenSSL(t *testing.T) {
	openssl := need.Program(t, "openssl")
	for _, curve := range curves {
		s := newSigner(t, curve)
		r, err := ToBeSigned(s.pem, usualPCR0(t))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := parseSignature(signOver(t, s, usualPCR0(t)), 0)
		if err != nil {
			t.Fatal(err)
		}
		if !opensslVerifies(t, openssl, sig, r.ToBeSigned) {
			t.Errorf("%s: OpenSSL does not verify it", r.Algorithm)
		}
		if opensslVerifies(t, openssl, sig, flip(r.ToBeSigned, 40)) {
			t.Errorf("%s: OpenSSL verifies it over another text", r.Algorithm)
		}
	}
}

// TestOpenSSLManifest: OpenSSL finds of other people's signatures what is found here.
func TestOpenSSLManifest(t *testing.T) {
	openssl := need.Program(t, "openssl")
	checked := 0
	for _, f := range loadManifest(t).Files {
		if f.Signature == nil {
			continue
		}
		checked++
		s := parsed(t, sharedFile(t, f.File)).Signature()
		tbs := toBeSigned(s.protected, SigningPayload(s.RegisterValue))
		if opensslVerifies(t, openssl, s, tbs) != f.Signature.SignatureValid {
			t.Errorf("%s: the manifest says %v, OpenSSL does not", f.File, f.Signature.SignatureValid)
		}
	}
	if checked < 8 {
		t.Errorf("only %d signed files", checked)
	}
}
