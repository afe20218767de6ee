// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

// formsOf writes e in every way that Parse is said to read: each of the five
// outer levels definite or not, the content in chunks or primitive, the hash
// parameters NULL or absent, the label unsaid or said to be empty.
func formsOf(e *EnvelopedData) map[string][]byte {
	usual := oaep(tlv(tagContext0, sha256NULL), tlv(tagContext1, mgfNULL))
	bare := oaep(tlv(tagContext0, sha256Bare), tlv(tagContext1, tlv(tagSequence, tlv(tagOID, oidMGF1), sha256Bare)))
	label := tlv(tagContext2, tlv(tagSequence, tlv(tagOID, oidPSpecified), tlv(tagOctetString)))
	said := oaep(tlv(tagContext0, sha256NULL), tlv(tagContext1, mgfNULL), label)

	var uneven [][]byte
	for i, rest := 0, e.Content; len(rest) > 0; i++ {
		n := min(len(rest), []int{1, 128, 7, 300}[i%4])
		uneven = append(uneven, tlv(tagOctetString, rest[:n]))
		rest = rest[n:]
	}
	build := func(levels int, keyEncryption []byte, content ...[]byte) []byte {
		level := func(bit int, tag byte, parts ...[]byte) []byte {
			if levels&(1<<bit) != 0 {
				return tlv(tag, parts...)
			}
			return unbounded(tag, parts...)
		}
		inner := tlv(tagPrimitive0, e.Content)
		if content != nil {
			inner = level(4, tagContext0, content...)
		}
		recipient := shape{
			identifier:    tlv(tagPrimitive0, e.SubjectKeyIdentifier),
			keyEncryption: keyEncryption,
			encryptedKey:  tlv(tagOctetString, e.EncryptedKey),
		}.recipient()
		encryption := tlv(tagSequence, tlv(tagOID, oidAES256CBC), tlv(tagOctetString, e.IV[:]))
		return level(0, tagSequence, tlv(tagOID, oidEnvelopedData),
			level(1, tagContext0, level(2, tagSequence, tlv(tagInteger, []byte{2}), tlv(tagSet, recipient),
				level(3, tagSequence, tlv(tagOID, oidData), encryption, inner))))
	}
	forms := map[string][]byte{
		"bare":          build(0, bare, tlv(tagOctetString, e.Content)),
		"bare, DER":     build(31, bare),
		"empty label":   build(0, said, uneven...),
		"bytes, uneven": build(31, usual, uneven...),
	}
	for levels := range 32 {
		forms[fmt.Sprintf("chunks %05b", levels)] = build(levels, usual, uneven...)
		if levels < 16 {
			forms[fmt.Sprintf("primitive %05b", levels)] = build(levels, usual)
		}
	}
	return forms
}

func sealedParts(tb testing.TB, content []byte) *EnvelopedData {
	tb.Helper()
	sealed, err := Seal(&testKey(tb, 2048).PublicKey, content)
	if err != nil {
		tb.Fatal(err)
	}
	e, err := Parse(sealed)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestEveryFormOpens(t *testing.T) {
	for _, n := range []int{1, 32, 1500} {
		content := bytes.Repeat([]byte{0xa5}, n)
		e := sealedParts(t, content)
		for name, envelope := range formsOf(e) {
			opened, err := Open(testKey(t, 2048), envelope)
			if err != nil || !bytes.Equal(opened, content) {
				t.Errorf("%d bytes, %s: %v", n, name, err)
			}
			// Whatever it was written as, the writer gives AWS's layout.
			again, err := Parse(envelope)
			if err != nil || !bytes.Equal(again.encode(), e.encode()) {
				t.Errorf("%d bytes, %s: written back in another way, %v", n, name, err)
			}
			for cut := range envelope {
				if _, err := Parse(envelope[:cut]); err == nil {
					t.Errorf("%d bytes, %s: read when cut to %d bytes", n, name, cut)
				}
			}
		}
	}
}

// TestNotMorePermissive: what opens here, OpenSSL opens too, to the same
// content.
func TestNotMorePermissive(t *testing.T) {
	program := need.Program(t, "openssl")
	dir := t.TempDir()
	keyFile := writeKey(t, dir, testKey(t, 2048))
	content := []byte("the same for both")
	opens := func(envelope []byte) (string, bool) {
		file := filepath.Join(dir, "envelope")
		if err := os.WriteFile(file, envelope, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", file, "-inkey", keyFile).Output()
		return string(out), err == nil
	}
	e := sealedParts(t, content)
	for name, envelope := range formsOf(e) {
		if out, ok := opens(envelope); !ok || out != string(content) {
			t.Errorf("%s: OpenSSL says %q, %v", name, out, ok)
		}
	}
	// Changes of one byte of the structure, a sample of those that
	// TestEveryByte makes: the few that open must open there too.
	whole := e.encode()
	for _, at := range []int{0, 1, 2, 12, 13, 14, 16, 19, 20, 23, 30, 31, 32, 66, 95, 96, 129, 387, 388, 401, 412, 431, 432, 434, len(whole) - 10, len(whole) - 1} {
		changed := bytes.Clone(whole)
		changed[at] ^= 1
		opened, err := Open(testKey(t, 2048), changed)
		if err != nil {
			continue
		}
		if out, ok := opens(changed); !ok || out != string(opened) {
			t.Errorf("byte %d changed: %q here, %q, %v with OpenSSL", at, opened, out, ok)
		}
	}
}
