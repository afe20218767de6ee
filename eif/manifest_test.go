// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/memfile"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

const sharedDir = "../../shared/testdata/eif"

type manifest struct {
	ValidityClock time.Time `json:"validity_clock"`
	Files         []manifestFile
}

type manifestFile struct {
	File    string
	Verdict string
	Reason  *reason.Reason
	Header  struct {
		EIFVersion  uint16 `json:"eif_version"`
		Arch        string
		Flags       uint16
		DefaultMem  uint64 `json:"default_mem"`
		DefaultCPUs uint64 `json:"default_cpus"`
		CRC32       string `json:"crc32"`
	}
	Sections []struct {
		Type         string
		Offset, Size int64
	}
	PCRs      *pcr.Set
	Signature *struct {
		Alg            string
		SignatureValid bool `json:"signature_valid"`
		PCR0Match      bool `json:"pcr0_match"`
		CertInValidity bool `json:"cert_in_validity"`
	}
	Build *struct {
		Kernel, Cmdline, Metadata, Arch string
		Ramdisks                        []string
	}
}

// loadManifest skips the test where the test data are not there.
func loadManifest(t testing.TB) manifest {
	t.Helper()
	var m manifest
	loadJSON(t, "manifest.json", &m)
	if len(m.Files) == 0 {
		t.Fatal("the manifest lists no file")
	}
	return m
}

func loadJSON(t testing.TB, name string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(sharedDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("shared test data not present")
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sharedFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(sharedDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// judge does all that a describing command does.
func judge(data []byte, at time.Time) (*Image, pcr.Measurements, error) {
	im, err := Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, pcr.Measurements{}, err
	}
	m, err := im.Measure(context.Background())
	if err != nil {
		return im, m, err
	}
	if s := im.Signature(); s != nil {
		pcr0, _ := m.Get(0)
		err = s.Verify(pcr0, at)
	}
	return im, m, err
}

func TestManifest(t *testing.T) {
	m := loadManifest(t)
	for _, f := range m.Files {
		t.Run(f.File, func(t *testing.T) {
			im, got, err := judge(sharedFile(t, f.File), m.ValidityClock)
			if f.Verdict == "accept" && err != nil {
				t.Fatalf("refused: %v", err)
			}
			if f.Verdict == "reject" {
				if r, ok := reason.Of(err); !ok || r != *f.Reason {
					t.Fatalf("got %v (%v), want %v", err, r, *f.Reason)
				}
				t.Logf("%v", err)
			}
			if f.PCRs == nil {
				if got.Len() != 0 {
					t.Fatalf("measurements of a refused file: %v", got)
				}
				return
			}
			if got.Set != *f.PCRs {
				t.Fatalf("PCRs differ: %v", pcr.Compare(f.PCRs, &got.Set))
			}
			checkStructure(t, im, f)
			checkSignature(t, im, got, f, m.ValidityClock)
		})
	}
}

func checkStructure(t *testing.T, im *Image, f manifestFile) {
	h, want := im.Header, f.Header
	var crc [4]byte
	if _, err := hex.Decode(crc[:], []byte(want.CRC32)); err != nil {
		t.Fatal(err)
	}
	if h.Version != want.EIFVersion || h.Arch.String() != want.Arch || h.Flags != want.Flags ||
		h.DefaultMemory != want.DefaultMem || h.DefaultCPUs != want.DefaultCPUs || !bytes.Equal(u32(h.CRC32), crc[:]) {
		t.Errorf("header %+v, want %+v", h, want)
	}
	if len(im.Sections) != len(f.Sections) {
		t.Fatalf("%d sections, want %d", len(im.Sections), len(f.Sections))
	}
	for i, s := range im.Sections {
		if w := f.Sections[i]; s.Type.String() != w.Type || s.Offset != w.Offset || s.Size != w.Size {
			t.Errorf("section %d: %+v, want %+v", i, s, w)
		}
	}
}

func checkSignature(t *testing.T, im *Image, m pcr.Measurements, f manifestFile, at time.Time) {
	s := im.Signature()
	if (s != nil) != (f.Signature != nil) {
		t.Fatalf("signed: %v", s != nil)
	}
	if s == nil {
		return
	}
	pcr0, _ := m.Get(0)
	c := s.Certificate
	inValidity := !at.Before(c.NotBefore) && !at.After(c.NotAfter)
	if w := f.Signature; s.Algorithm() != w.Alg || (s.checkValue() == nil) != w.SignatureValid ||
		(s.checkRegister(pcr0) == nil) != w.PCR0Match || inValidity != w.CertInValidity {
		t.Errorf("signature findings differ from %+v: %v, %v", w, s.checkValue(), s.checkRegister(pcr0))
	}
}

// TestWriteManifest builds every file again out of its inputs. Unsigned files
// come out byte for byte, signed ones up to what the signature adds.
func TestWriteManifest(t *testing.T) {
	m := loadManifest(t)
	unsigned := 0
	for _, f := range m.Files {
		if f.Build == nil {
			continue
		}
		t.Run(f.File, func(t *testing.T) {
			arch, err := ParseArch(f.Build.Arch)
			if err != nil {
				t.Fatal(err)
			}
			spec := Spec{
				Arch:          arch,
				Kernel:        Bytes(sharedFile(t, f.Build.Kernel)),
				Cmdline:       string(sharedFile(t, f.Build.Cmdline)),
				Metadata:      sharedFile(t, f.Build.Metadata),
				DefaultMemory: f.Header.DefaultMem,
				DefaultCPUs:   f.Header.DefaultCPUs,
			}
			for _, r := range f.Build.Ramdisks {
				spec.Ramdisks = append(spec.Ramdisks, Bytes(sharedFile(t, r)))
			}
			var out memfile.File
			got, err := Write(context.Background(), &out, spec)
			if err != nil {
				t.Fatal(err)
			}
			want := sharedFile(t, f.File)
			if f.Signature == nil {
				unsigned++
				if sha256.Sum256(out.Data) != sha256.Sum256(want) {
					t.Error("the file differs")
				}
			} else if !bytes.Equal(out.Data[HeaderSize:], want[HeaderSize:len(out.Data)]) {
				t.Error("the sections differ")
			}
			f.PCRs.Remove(8)
			if got.Set != *f.PCRs {
				t.Errorf("measurements differ: %v", pcr.Compare(f.PCRs, &got.Set))
			}
		})
	}
	if unsigned == 0 {
		t.Error("no unsigned file in the manifest")
	}
}
