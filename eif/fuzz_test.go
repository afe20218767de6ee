// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/cretula/cretula/internal/memfile"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// sharedSeeds returns files of other people, where they are.
func sharedSeeds(f *testing.F, patterns ...string) [][]byte {
	f.Helper()
	var seeds [][]byte
	for _, p := range patterns {
		names, err := filepath.Glob(filepath.Join(sharedDir, p))
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			seeds = append(seeds, data)
		}
	}
	if _, err := os.Stat(sharedDir); err == nil && len(seeds) == 0 {
		f.Fatalf("no seeds in %q", patterns)
	} else if errors.Is(err, fs.ErrNotExist) {
		f.Log("shared test data not present")
	}
	return seeds
}

// FuzzParse: what is accepted has the measurements that the definition gives,
// and its sections cover the file; everything else has a reason.
func FuzzParse(f *testing.F) {
	good := assemble(4, 0, usual(f)...)
	seeds := append(sharedSeeds(f, "valid/*", "signature/*", "corrupt/*"), good, signedFile(f, newSigner(f, elliptic.P256())))
	for _, e := range edits {
		seeds = append(seeds, fixCRC(e.change(bytes.Clone(good))))
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, file []byte) { checkFile(t, file) })
}

// FuzzEdit overwrites a part of a good file: small inputs reach what a random
// file does not.
func FuzzEdit(f *testing.F) {
	bases := [][]byte{assemble(4, 0, usual(f)...), signedFile(f, newSigner(f, elliptic.P256()))}
	f.Add(uint8(0), uint16(offCount), []byte{0, 4})
	f.Add(uint8(1), uint16(third), []byte{0, 5, 0, 0})
	f.Add(uint8(1), uint16(len(bases[1])-100), []byte{0x18, 0xff})
	f.Fuzz(func(t *testing.T, base uint8, at uint16, patch []byte) {
		file := bytes.Clone(bases[int(base)%len(bases)])
		copy(file[int(at)%len(file):], patch)
		checkFile(t, file)
	})
}

// checkFile judges a file as it is and with its checksum put right.
func checkFile(t *testing.T, file []byte) {
	for _, file := range [][]byte{file, fixCRC(file)} {
		im, err := Parse(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			if _, ok := reason.Of(err); !ok || im != nil {
				t.Fatalf("refused without a reason: %v", err)
			}
			continue
		}
		m, err := im.Measure(context.Background())
		if err != nil {
			if r, ok := reason.Of(err); !ok || r != reason.Mismatch || m.Len() != 0 {
				t.Fatalf("not measured: %v", err)
			}
			continue
		}
		if _, signed := m.Get(8); signed != (im.Signature() != nil) {
			t.Fatal("PCR8 and signature do not go together")
		}
		if s := im.Signature(); s != nil {
			pcr0, _ := m.Get(0)
			_ = s.Verify(pcr0, signatureClock)
		}
		if _, err := im.Describe(m).Metadata.marshal(); err != nil {
			t.Fatal(err)
		}
		m.Remove(8)
		if m.Set != naive(file) {
			t.Fatal("other measurements than by the definition")
		}
	}
}

func (d *MetadataDescription) marshal() ([]byte, error) {
	if d == nil {
		return nil, nil
	}
	return d.MarshalJSON()
}

// FuzzMetadata: what is accepted can be written and read again.
func FuzzMetadata(f *testing.F) {
	seeds := append(sharedSeeds(f, "inputs/metadata-*.json"), testMetadataBytes(f),
		[]byte(`{"ImageName":"a","ImageVersion":"b","BuildMetadata":{},"DockerInfo":null,"CustomMetadata":[1,{"a":2}]}`))
	good := seeds[len(seeds)-2]
	for _, custom := range []string{`[{"a":1,"b":[{"a":"\ud83d\ude00"}]}]`, `{"a":1,"\u0061":2}`, `"\ud800"`, `{"a\"":["\\",{}],"a":[[[]]]}`} {
		seed := bytes.Replace(good, []byte(`"CustomMetadata":null`), []byte(`"CustomMetadata":`+custom), 1)
		if bytes.Equal(seed, good) {
			f.Fatal("the seed lacks what it is for")
		}
		seeds = append(seeds, seed)
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMetadata(data)
		if err != nil {
			if r, ok := reason.Of(err); !ok || r != reason.Malformed || m != nil {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		if problem := jsonProblem(data); problem != "" {
			t.Fatalf("accepted with %s", problem)
		}
		encoded, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseMetadata(encoded)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := again.Encode()
		if err != nil || !bytes.Equal(twice, encoded) {
			t.Fatalf("%s became %s: %v", encoded, twice, err)
		}
		if m.ImageName != again.ImageName || !reflect.DeepEqual(m.BuildMetadata, again.BuildMetadata) {
			t.Fatal("read again, it differs")
		}
		if _, err := (MetadataDescription{m}).MarshalJSON(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzSignature: nothing in a signature section leads to a panic or to
// allocation beyond its size.
func FuzzSignature(f *testing.F) {
	s := newSigner(f, elliptic.P384())
	pcr0 := usualPCR0(f)
	good := section(s.pem, s.envelope(f, protectedFor(elliptic.P384()), payloadFor(0, pcr0)))
	for _, seed := range [][]byte{good, good[:len(good)/2], {0x81, 0xa2}, {0x9b, 255, 255, 255, 255, 255, 255, 255, 255}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		sig, err := parseSignature(data, 0)
		if err != nil {
			if r, ok := reason.Of(err); !ok || r != reason.Malformed || sig != nil {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		err = sig.Verify(pcr0, signatureClock)
		if sig.Matches(pcr0) != (sig.checkValue() == nil && sig.checkRegister(pcr0) == nil) || (err == nil && !sig.Matches(pcr0)) {
			t.Fatalf("findings disagree: %v", err)
		}
	})
}

// FuzzCertificate: of a certificate file that is accepted, what was told before is
// what a reader of the section finds.
func FuzzCertificate(f *testing.F) {
	s := newSigner(f, elliptic.P256())
	for _, seed := range append(sharedSeeds(f, "keys/*.pem"), s.pem, append([]byte("text\n"), s.pem...), append(bytes.Clone(s.pem), "-----BEGIN X509 CERTIFICATE-----"...)) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		l, err := LintCertificate(file, signatureClock)
		if got, _ := reason.Of(err); err != nil && (got != reason.Malformed || l != nil) {
			t.Fatalf("refused as %v", err)
		}
		r, err := ToBeSigned(file, pcr.Digest{})
		if err != nil {
			if got, ok := reason.Of(err); !ok || got != reason.Malformed && got != reason.Unsupported || r != nil {
				t.Fatalf("refused as %v", err)
			}
			return
		}
		sig, err := parseSignature(r.section(make([]byte, 2*algorithmOf(r.Certificate).half())), 0)
		if err != nil || sig.PCR8() != l.PCR8 || !bytes.Equal(sig.CertificateFile, file) {
			t.Fatalf("a reader finds something else: %v", err)
		}
	})
}

// FuzzAttach: what is attached verifies under the certificate when it is read
// again, in whatever form it came; everything else is a bad signature.
func FuzzAttach(f *testing.F) {
	s := newSigner(f, elliptic.P256())
	pcr0 := usualPCR0(f)
	r, err := ToBeSigned(s.pem, pcr0)
	if err != nil {
		f.Fatal(err)
	}
	der, err := s.key.Sign(nil, r.Sum(), r.Digest)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{der, rawSignature(der, 32), der[:40], {0x30, 0x84, 255, 255, 255, 255}, nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, signature []byte) {
		data, err := r.Attach(signature)
		if err != nil {
			if got, _ := reason.Of(err); got != reason.BadSignature || data != nil {
				t.Fatalf("refused as %v", err)
			}
			return
		}
		sig, err := parseSignature(data, 0)
		if err != nil || !sig.Matches(pcr0) {
			t.Fatalf("attached, and %v", err)
		}
	})
}

// FuzzRepair: what a repair writes is accepted, and has the measurements that the
// original has by its section headers as well as by its table.
func FuzzRepair(f *testing.F) {
	s := newSigner(f, elliptic.P256())
	data := section(s.pem, s.envelope(f, protectedFor(elliptic.P256()), payloadFor(0, usualPCR0(f))))
	bases := [][]byte{
		staleFile(signed(f, data), 5, 7),
		staleFile(assemble(4, 0, slices.Insert(usual(f), 2, rawSection{4, 0, data})...), 2, 5000),
	}
	for i, b := range bases {
		if !repairable(bytes.NewReader(b), int64(len(b))) {
			f.Fatalf("seed %d is not repairable", i)
		}
	}
	f.Add(uint8(0), uint16(offSizes), []byte{0})
	f.Add(uint8(1), uint16(offSizes+8*4), []byte{0, 0, 0, 0, 0, 0, 0, 3})
	f.Add(uint8(1), uint16(offOffsets), []byte{1})
	f.Add(uint8(0), uint16(third), []byte{0, 4})
	f.Fuzz(func(t *testing.T, base uint8, at uint16, patch []byte) {
		file := bytes.Clone(bases[int(base)%len(bases)])
		copy(file[int(at)%len(file):], patch)
		file = fixCRC(file)
		var out memfile.File
		got, err := Repair(t.Context(), &out, bytes.NewReader(file), int64(len(file)))
		if _, ok := reason.Of(err); err != nil && !ok || got != nil && err != nil {
			t.Fatalf("%v, %v", got, err)
		}
		if got == nil {
			return
		}
		_, m, err := judge(out.Data, signatureClock)
		if m.Set != got.Measurements.Set {
			t.Fatalf("repaired, it has other measurements: %v", err)
		}
		m.Remove(8)
		if m.Set != naive(file) || m.Set != byTable(file) {
			t.Fatal("table and section headers of the original differ, and it was repaired")
		}
	})
}

// byTable measures what the table of a file lists.
func byTable(file []byte) pcr.Set {
	var sections []rawSection
	for i := range int(binary.BigEndian.Uint16(file[offCount:])) {
		at := int(binary.BigEndian.Uint64(file[offOffsets+8*i:]))
		if t := binary.BigEndian.Uint16(file[at:]); SectionType(t).measured() {
			size := int(binary.BigEndian.Uint64(file[offSizes+8*i:]))
			sections = append(sections, rawSection{t, 0, file[at+12 : at+12+size]})
		}
	}
	return naive(assemble(4, 0, sections...))
}

// jsonProblem finds with the decoder of the standard library what metadata must
// not have.
func jsonProblem(data []byte) string {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var value func(depth int) string
	value = func(depth int) string {
		token, err := dec.Token()
		if err != nil {
			return err.Error()
		}
		open, composite := token.(json.Delim)
		if !composite {
			return ""
		}
		if depth++; depth > maxDepth {
			return "too many levels"
		}
		seen := map[string]bool{}
		for dec.More() {
			if open == '{' {
				key, err := dec.Token()
				if err != nil {
					return err.Error()
				}
				if seen[key.(string)] {
					return "a key twice"
				}
				seen[key.(string)] = true
			}
			if problem := value(depth); problem != "" {
				return problem
			}
		}
		if _, err := dec.Token(); err != nil {
			return err.Error()
		}
		return ""
	}
	return value(0)
}
