// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestStoreCheckTables sees to it that no table is forgotten.
func TestStoreCheckTables(t *testing.T) {
	checked := map[string]bool{}
	for _, table := range new(storeCheck).tables() {
		checked[table.name] = true
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:const)?\s+table[A-Z]\w*\s*= "([a-z-]+)"`).FindAllSubmatch(text, -1) {
			found++
			if !checked[string(m[1])] {
				t.Errorf("%s: the check of the store does not know table %q", file, m[1])
			}
		}
	}
	if found < len(checked) {
		t.Errorf("%d tables found in the source, %d are checked", found, len(checked))
	}
}
