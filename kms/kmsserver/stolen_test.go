// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/rootkey"
)

// Who has a copy of all files but the root key has what policies, names and the audit
// log say. Key material and the secrets of access keys are not in them in any form, and
// with another root key the store does not open.
func TestStolenStore(t *testing.T) {
	s := newService(t)
	user := s.principal(kms.User, "eve")
	key, material := s.externalKey("SYMMETRIC_DEFAULT", ""), randomOf(32)
	s.mustImport(key, material)
	s.wantOpen(s.seal(key, "the plaintext"), "the plaintext")
	if err := s.files.Close(); err != nil {
		t.Fatal(err)
	}

	var stolen []byte
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == datadir.RootKeyFile {
			return err
		}
		data, err := os.ReadFile(path)
		stolen = append(stolen, data...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"name of a user": "eve", "access key id": user.AccessKeyID, "account": account} {
		if !bytes.Contains(stolen, []byte(text)) {
			t.Errorf("no %s: this is no copy of the store", what)
		}
	}
	for what, secret := range map[string][]byte{
		"imported material": material, "secret of the administrator": []byte(s.admin.SecretAccessKey), "secret of a user": []byte(user.SecretAccessKey), "plaintext": []byte("the plaintext"),
	} {
		for form, text := range map[string]string{
			"as it is": string(secret), "in base64": base64.RawStdEncoding.EncodeToString(secret)[:4*(len(secret)/3)], "in hex": hex.EncodeToString(secret),
		} {
			if bytes.Contains(stolen, []byte(text)) {
				t.Errorf("%s is in the files, %s", what, form)
			}
		}
	}

	root := filepath.Join(s.dir, datadir.RootKeyFile)
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	if _, err := rootkey.CreateFile(root); err != nil {
		t.Fatal(err)
	}
	files, err := datadir.Open(t.Context(), s.dir)
	if err == nil {
		files.Close()
		t.Fatal("the store opened with another root key")
	}
	if !strings.Contains(err.Error(), "store.rootkey") {
		t.Errorf("refused for something else: %v", err)
	}
}
