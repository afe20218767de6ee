// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/uuid"
	"github.com/cretula/cretula/kms/kmsapi"
)

const (
	testID      = "1234abcd-12ab-34cd-56ef-1234567890ab"
	testMultiID = "mrk-1234abcd12ab34cd56ef1234567890ab"
)

func testKey(id string) (*keyRecord, materialVersion) {
	key := keyRecord{ID: id, Account: "000000000000", Region: "us-east-1", Material: strings.Repeat("ab", materialSize)}
	return &key, materialVersion{key.Material, bytes.Repeat([]byte{7}, materialSize)}
}

// counter is a source of "randomness" for vectors.
type counter byte

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(*c)
		*c++
	}
	return len(p), nil
}

// The formats are stored by others for years: these bytes must never change. An
// implementation in another language gave the same.
func TestBlobVector(t *testing.T) {
	for id, c := range map[string]struct{ begin, sealed string }{
		testID:      {"c701", "ceb2fffd63208ae3e6007a934c859edf87bc6f0aad6304125d"},
		testMultiID: {"c702", "ceb2fffd63208ae3e67b04edf4cdfbf03c900515ed30c7f15f"},
	} {
		key, material := testKey(id)
		context := map[string]string{"b": "2", "a": "1"}
		sealed, err := sealBlob(new(counter), key, material, context, []byte("plaintext"))
		if err != nil {
			t.Fatal(err)
		}
		want := c.begin + hex.EncodeToString([]byte("000000000000")) + "24" + hex.EncodeToString([]byte(id)) +
			strings.Repeat("ab", 32) + "000102030405060708090a0b0c0d0e0f" + "101112131415161718191a1b" + c.sealed
		if got := hex.EncodeToString(sealed); got != want {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
		b, err := parseBlob(sealed)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := b.open(key, material.secret, context)
		if err != nil || string(opened) != "plaintext" {
			t.Errorf("%q, %v", opened, err)
		}
	}
}

// A ciphertext opens under its key alone: for a key of one region that is one key
// of one region, for a multi-region key the key of that id in any region.
func TestBlobIsBound(t *testing.T) {
	context := map[string]string{"a": "b"}
	for _, id := range []string{testID, testMultiID} {
		key, material := testKey(id)
		sealed, err := sealBlob(rand.Reader, key, material, context, []byte("plaintext"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := parseBlob(sealed)
		if err != nil {
			t.Fatal(err)
		}
		region, account, other := *key, *key, *key
		region.Region, account.Account = "eu-west-1", "111111111111"
		other.ID = id[:len(id)-1] + "c"
		if _, err := b.open(&region, material.secret, context); (err == nil) != (id == testMultiID) {
			t.Errorf("%s in another region: %v", id, err)
		}
		for name, open := range map[string]func() ([]byte, error){
			"account":  func() ([]byte, error) { return b.open(&account, material.secret, context) },
			"id":       func() ([]byte, error) { return b.open(&other, material.secret, context) },
			"material": func() ([]byte, error) { return b.open(key, bytes.Repeat([]byte{8}, 32), context) },
			"context":  func() ([]byte, error) { return b.open(key, material.secret, nil) },
			"size":     func() ([]byte, error) { return b.open(key, material.secret[1:], context) },
		} {
			if out, err := open(); err == nil || out != nil {
				t.Errorf("%s, %s: opened", id, name)
			}
		}
		for i := range sealed {
			changed := bytes.Clone(sealed)
			changed[i] ^= 1
			b, err := parseBlob(changed)
			if err != nil {
				continue
			}
			if _, err := b.open(key, material.secret, context); err == nil {
				t.Errorf("%s: byte %d does not count", id, i)
			}
		}
		for n := range len(sealed) {
			b, err := parseBlob(sealed[:n])
			if err != nil {
				continue
			}
			if _, err := b.open(key, material.secret, context); err == nil {
				t.Errorf("%s: opened when cut to %d bytes", id, n)
			}
		}
	}
}

// No ciphertext of one format can be made one of the other, not even where two
// keys have the same material: neither the parser takes it, nor does it open where
// the parser does not look.
func TestBlobFormatsAreApart(t *testing.T) {
	ids := []string{testID, testMultiID}
	for i, id := range ids {
		key, material := testKey(id)
		other, _ := testKey(ids[1-i])
		sealed, err := sealBlob(rand.Reader, key, material, nil, []byte("plaintext"))
		if err != nil {
			t.Fatal(err)
		}
		swapped := func(format byte, keyID string) []byte {
			out := bytes.Clone(sealed)
			out[1] = format
			copy(out[15:], keyID) // both ids are 36 bytes long
			return out
		}
		for name, data := range map[string][]byte{
			"format": swapped(3-sealed[1], id), "id": swapped(sealed[1], other.ID),
			"format 0": swapped(0, id), "format 3": swapped(3, id),
		} {
			if _, err := parseBlob(data); err == nil {
				t.Errorf("%s, %s: parsed", id, name)
			}
		}
		b, err := parseBlob(swapped(3-sealed[1], other.ID))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.open(other, material.secret, nil); err == nil {
			t.Errorf("%s: opened under a key of the other kind", id)
		}
		b.keyID = id
		if _, err := b.open(key, material.secret, nil); err == nil {
			t.Errorf("%s: opened with the header of the other format", id)
		}
		if b, err = parseBlob(sealed); err != nil {
			t.Fatal(err)
		}
		b.keyID = other.ID
		if _, err := b.open(other, material.secret, nil); err == nil {
			t.Errorf("%s: opened under the name of a key of the other kind", id)
		}
	}
}

// No two encryption contexts give the same bytes.
func TestAdditionalDataIsUnambiguous(t *testing.T) {
	seen := map[string]int{}
	for i, c := range []map[string]string{
		nil, {"": ""}, {"a": ""}, {"": "a"}, {"a": "b"}, {"ab": ""}, {"": "ab"}, {"a": "", "b": ""}, {"a": "b", "": ""},
		{"a": "\x00\x00\x00\x01b"}, {"a\x00\x00\x00\x01b": ""}, {"a": "b", "c": "d"}, {"a": "bcd"}, {"a": "d", "c": "b"},
	} {
		data := string(additionalData([]byte("h"), "arn", c))
		if j, ok := seen[data]; ok {
			t.Errorf("contexts %d and %d are the same", i, j)
		}
		seen[data] = i
	}
	if string(additionalData([]byte("h"), "arn", nil)) == string(additionalData([]byte("ha"), "rn", nil)) {
		t.Error("header and ARN run together")
	}
}

func TestBlobRefuses(t *testing.T) {
	key, material := testKey(testID)
	good, err := sealBlob(rand.Reader, key, material, nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, b ...byte) []byte {
		out := bytes.Clone(good)
		copy(out[at:], b)
		return out
	}
	for name, data := range map[string][]byte{
		"nothing": nil, "one byte": {blobMagic}, "AWS's": {1, 2, 2, 0, 0x78}, "magic": change(0, 0xC8), "format": change(1, 2), "format 0": change(1, 0),
		"account letter": change(2, 'x'), "account NUL": change(2, 0), "id of 0 bytes": change(14, 0), "id of 65 bytes": change(14, 65),
		"id of 255 bytes": change(14, 255), "id of 35 bytes": change(14, 35), "id in upper case": change(15, 'A'), "id with slash": change(15, '/'),
		"no tag": good[:15+36+32+16+12+15], "header only": good[:15+36],
	} {
		if b, err := parseBlob(data); err == nil || b.header != nil {
			t.Errorf("%s: parsed", name)
		}
	}
	key.Account = "1"
	if _, err := sealBlob(rand.Reader, key, material, nil, []byte("x")); err == nil {
		t.Error("sealed for a short account")
	}
}

// FuzzBlob: no panic, nothing beside an error, what is parsed is all of the input.
func FuzzBlob(f *testing.F) {
	seeds := 0
	for _, id := range []string{testID, testMultiID} {
		for _, n := range []int{0, 1, 4096} {
			key, material := testKey(id)
			sealed, err := sealBlob(new(counter), key, material, map[string]string{"a": "b"}, make([]byte, n))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(sealed)
			seeds++
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := parseBlob(data)
		if err != nil {
			if b.header != nil || b.keyID != "" {
				t.Fatal("a result beside an error")
			}
			return
		}
		if !bytes.Equal(append(bytes.Clone(b.header), b.sealed...), data) || !isKeyID(b.keyID) || !isAccount(b.account) || !isHex(string(b.material[:])) {
			t.Fatalf("parsed %+v", b)
		}
		key, material := testKey(b.keyID)
		if data[1] != blobFormat(b.keyID) {
			t.Fatal("a format that is not the key's")
		}
		if _, err := b.open(key, material.secret, nil); err == nil {
			t.Fatal("opened without its context")
		}
	})
}

func TestKeyNames(t *testing.T) {
	c := &Caller{Region: "us-east-1", Principal: Principal{Account: "000000000000"}}
	for in, want := range map[string]string{
		testID:                                 "000000000000/us-east-1/" + testID,
		"mrk-0123456789abcdef0123456789abcdef": "000000000000/us-east-1/mrk-0123456789abcdef0123456789abcdef",
		"arn:aws:kms:us-east-1:111111111111:key/" + testID:     "111111111111/us-east-1/" + testID,
		"arn:aws:kms:us-east-1:000000000000:key/mrk-" + testID: "NotFoundException: Invalid keyId 'arn:aws:kms:us-east-1:000000000000:key/mrk-" + testID + "'",
		"arn:aws:kms:us-west-2:000000000000:key/" + testID:     "NotFoundException: Invalid arn us-west-2",
		"arn:aws:kms:us-east-1:000000000000:alias/a":           "000000000000/us-east-1/alias/a",
		"arn:aws:kms:us-east-1:000000000000:alias/":            "NotFoundException: Alias arn:aws:kms:us-east-1:000000000000:alias/ is not found.",
		"arn:aws:s3:::x": "NotFoundException: Invalid arn arn:aws:s3:::x",
		"arn:aws:kms:us-east-1:0000:key/" + testID:           "NotFoundException: Invalid arn arn:aws:kms:us-east-1:0000:key/" + testID,
		"arn:aws:kms:us-east-1:000000000000:grant/" + testID: "NotFoundException: Invalid keyId 'arn:aws:kms:us-east-1:000000000000:grant/" + testID + "'",
		"alias/a":                    "000000000000/us-east-1/alias/a",
		"alias/a b":                  "NotFoundException: Alias arn:aws:kms:us-east-1:000000000000:alias/a b is not found.",
		strings.ToUpper(testID):      "NotFoundException: Invalid keyId '" + strings.ToUpper(testID) + "'",
		testID + "/x":                "NotFoundException: Invalid keyId '" + testID + "/x'",
		"../000000000000/us-east-1/": "NotFoundException: Invalid keyId '../000000000000/us-east-1/'",
	} {
		name, refused := parseKeyName(c, in)
		got := keyRowID(name) + name.alias
		if refused != nil {
			got = refused.Error()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	id, err := uuid.New(rand.Reader)
	if err != nil || !isKeyID(id) || id[14] != '4' {
		t.Errorf("%s, %v", id, err)
	}
	p := Principal{Type: Role, Name: "r", Account: "000000000000"}
	if p.ARN() != "arn:aws:sts::000000000000:assumed-role/r/cretula" || p.IdentityARN() != "arn:aws:iam::000000000000:role/r" {
		t.Error(p.ARN(), p.IdentityARN())
	}
	for _, content := range []string{
		`{"type":"role","name":"path/r","account":"000000000000","id":"AROAX"}`, `{"type":"user","name":"path/u","account":"000000000000","id":"AIDAX"}`,
	} {
		read, err := parsePrincipal([]byte(content))
		if err != nil {
			t.Fatal(err)
		}
		for _, session := range []string{"", "s"} {
			kept := read.Principal
			kept.session = session
			made := Principal{Type: kept.Type, Name: kept.Name, Account: kept.Account, ID: kept.ID, session: session}
			if kept.ARN() != made.ARN() || kept.IdentityARN() != made.IdentityARN() || kept.UserID() != made.UserID() {
				t.Errorf("%s, session %q: %s, %s, %s", content, session, kept.ARN(), kept.IdentityARN(), kept.UserID())
			}
		}
	}
	for name, ok := range map[string]bool{"a": true, "A.b-c_d@e+f=g,h": true, "": false, "a b": false, "a/b": false, "ä": false, strings.Repeat("a", 65): false} {
		if isPrincipalName(name) != ok {
			t.Errorf("%q: %v", name, !ok)
		}
	}
}

// The names that a record keeps are those that it would make, also once it has
// changed.
func TestKeptNames(t *testing.T) {
	fresh, material := testKey(testID)
	content, err := json.Marshal(fresh)
	if err != nil {
		t.Fatal(err)
	}
	read, err := parseRecord(content)
	if err != nil {
		t.Fatal(err)
	}
	changed := read.clone()
	changed.Material = strings.Repeat("cd", materialSize)
	for _, k := range []*keyRecord{read, &changed} {
		for _, id := range []string{material.id, changed.Material, ""} {
			if k.materialRow(id) != fresh.materialRow(id) || !bytes.Equal(materialBinding(k, id), materialBinding(fresh, id)) {
				t.Errorf("material %q: %s, %q", id, k.materialRow(id), materialBinding(k, id))
			}
		}
		if k.ARN() != fresh.ARN() || k.rowID() != fresh.rowID() || k.rowPrefix() != fresh.rowID()+"/" {
			t.Errorf("%s, %s, %s", k.ARN(), k.rowID(), k.rowPrefix())
		}
	}
}

// Every operation of the table has a function, and there is no other but the one
// of this service's own.
func TestHandlers(t *testing.T) {
	for _, op := range kmsapi.Operations() {
		if handlers[op.Name] == nil {
			t.Errorf("%s has no function", op.Name)
		}
	}
	if want := len(kmsapi.Operations()) + 1; len(handlers) != want {
		t.Errorf("%d functions, want %d", len(handlers), want)
	}
}
