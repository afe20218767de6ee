// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cretula/cretula/reason"
)

// shared holds genuine answers of AWS KMS, outside the repository.
const shared = "../../shared/testdata/cms"

// A sample is an entry of index.json there.
type sample struct {
	File                 string
	Size                 int
	SHA256               string
	Form                 string
	ChunkSizes           []int  `json:"chunk_sizes"`
	ContentLength        int    `json:"content_ciphertext_length"`
	ContentSHA256        string `json:"content_ciphertext_sha256"`
	ContentHex           string `json:"content_ciphertext"`
	SubjectKeyIdentifier string `json:"subject_key_identifier"`
	EncryptedKeyLength   int    `json:"encrypted_key_length"`
	IV                   string
	Key                  *string
	Plaintext            *string
	CEK                  string `json:"content_encryption_key"`

	data []byte
}

// samples returns the genuine answers, or nothing where they are not present.
func samples(tb testing.TB) []sample {
	tb.Helper()
	index, err := os.ReadFile(filepath.Join(shared, "index.json"))
	if errors.Is(err, fs.ErrNotExist) {
		tb.Log("shared test data not present")
		return nil
	}
	if err != nil {
		tb.Fatal(err)
	}
	var list struct{ Files []sample }
	if err := json.Unmarshal(index, &list); err != nil {
		tb.Fatal(err)
	}
	if len(list.Files) < 5 {
		tb.Fatalf("%d samples, want at least 5", len(list.Files))
	}
	for i := range list.Files {
		s := &list.Files[i]
		if s.data, err = os.ReadFile(filepath.Join(shared, s.File)); err != nil {
			tb.Fatal(err)
		}
		if sum := sha256.Sum256(s.data); hex.EncodeToString(sum[:]) != s.SHA256 {
			tb.Fatalf("%s is not the file that the index describes", s.File)
		}
	}
	return list.Files
}

func TestSamplesParse(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.File, func(t *testing.T) {
			e, err := Parse(s.data)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(e.Content)
			for name, pair := range map[string][2]string{
				"form":           {e.Form.String(), s.Form},
				"key identifier": {hex.EncodeToString(e.SubjectKeyIdentifier), s.SubjectKeyIdentifier},
				"IV":             {hex.EncodeToString(e.IV[:]), s.IV},
				"content hash":   {hex.EncodeToString(sum[:]), s.ContentSHA256},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s %s, want %s", name, pair[0], pair[1])
				}
			}
			if s.ContentHex != "" && hex.EncodeToString(e.Content) != s.ContentHex {
				t.Errorf("content %x, want %s", e.Content, s.ContentHex)
			}
			if len(e.Content) != s.ContentLength || len(e.EncryptedKey) != s.EncryptedKeyLength || len(s.data) != s.Size {
				t.Errorf("lengths %d, %d, %d; want %d, %d, %d", len(e.Content), len(e.EncryptedKey), len(s.data), s.ContentLength, s.EncryptedKeyLength, s.Size)
			}
			if !slices.Equal(e.ChunkSizes, s.ChunkSizes) {
				t.Errorf("chunks %v, want %v", e.ChunkSizes, s.ChunkSizes)
			}
		})
	}
}

// TestSamplesLayout: the writer gives every chunked sample back byte for byte,
// and an envelope of Seal around as much content differs from it only in the
// four fields that must vary.
func TestSamplesLayout(t *testing.T) {
	for _, s := range samples(t) {
		if s.Form != "chunked" {
			continue
		}
		e, err := Parse(s.data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(e.encode(), s.data) {
			t.Errorf("%s: written back, it has other bytes", s.File)
		}
		sealed, err := Seal(&testKey(t, 2048).PublicKey, make([]byte, s.ContentLength-1))
		if err != nil {
			t.Fatal(err)
		}
		own, err := Parse(sealed)
		if err != nil {
			t.Fatal(err)
		}
		own.SubjectKeyIdentifier, own.EncryptedKey, own.IV, own.Content = e.SubjectKeyIdentifier, e.EncryptedKey, e.IV, e.Content
		if !bytes.Equal(own.encode(), s.data) || !slices.Equal(own.ChunkSizes, e.ChunkSizes) || len(sealed) != len(s.data) {
			t.Errorf("%s: Seal lays it out in another way", s.File)
		}
		blank := func(data []byte) []byte {
			data = bytes.Clone(data)
			for _, field := range [][]byte{data[33:65], data[131:387], data[415:431]} {
				clear(field)
			}
			at := 433
			for _, n := range e.ChunkSizes {
				at += len(tlv(tagOctetString, make([]byte, n)))
				clear(data[at-n : at])
			}
			return data
		}
		if !bytes.Equal(blank(sealed), blank(s.data)) {
			t.Errorf("%s: the fixed parts differ", s.File)
		}
	}
}

func readKey(tb testing.TB, name string) *rsa.PrivateKey {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(shared, name))
	if err != nil {
		tb.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		tb.Fatalf("%s is not PEM", name)
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

func TestSamplesOpen(t *testing.T) {
	list := samples(t)
	var known *rsa.PrivateKey
	for _, s := range list {
		if s.Key == nil {
			continue
		}
		known = readKey(t, *s.Key)
		opened, err := Open(known, s.data)
		if err != nil || hex.EncodeToString(opened) != *s.Plaintext {
			t.Fatalf("%s: %x, %v", s.File, opened, err)
		}
		cek, err := rsa.DecryptOAEP(sha256.New(), nil, known, s.data[131:387], nil)
		if err != nil || hex.EncodeToString(cek) != s.CEK {
			t.Errorf("%s: another content key", s.File)
		}
		for _, at := range []int{131, 200, 386} {
			changed := bytes.Clone(s.data)
			changed[at] ^= 4
			if opened, err := Open(known, changed); err != errOpen || opened != nil {
				t.Errorf("%s with byte %d changed: %v", s.File, at, err)
			}
		}
		for _, changed := range [][]byte{append(bytes.Clone(s.data), 0), s.data[:len(s.data)-1], s.data[:len(s.data)-2]} {
			if opened, err := Open(known, changed); err == nil || opened != nil {
				t.Errorf("%s: opened at a length of %d", s.File, len(changed))
			}
		}
	}
	if list != nil && known == nil {
		t.Error("no sample has a key")
	}
	for _, s := range list {
		for _, key := range []*rsa.PrivateKey{known, testKey(t, 2048)} {
			if s.Key != nil && key == known {
				continue
			}
			opened, err := Open(key, s.data)
			if why, _ := reason.Of(err); why != reason.Mismatch || opened != nil {
				t.Errorf("%s with a foreign key: %v", s.File, err)
			}
		}
	}
}
