// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/vectors"
)

// TestReproducible: the generator makes the corpus that is there, byte for byte.
func TestReproducible(t *testing.T) {
	made, err := corpus()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range made {
		got, err := fs.ReadFile(vectors.Files(), name)
		if err != nil {
			t.Errorf("%v: run go run ./vectors/gen", err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator makes: run go run ./vectors/gen", name)
		}
	}
	if len(made) < 150 {
		t.Errorf("%d files only", len(made))
	}
}

func TestGenerateReplaces(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "documents", "stale.cbor")
	if err := os.MkdirAll(filepath.Dir(stale), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := generate(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("a document that is no longer part of the corpus is still there")
	}
	if data, err := os.ReadFile(filepath.Join(dir, "documents", "form", "empty.cbor")); err != nil || len(data) != 0 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
