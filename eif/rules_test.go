// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRulesDocument: docs/rules.md has the rules of enclave images that are used, and no others.
func TestRulesDocument(t *testing.T) {
	page, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, line := range strings.Split(string(page), "\n") {
		if !strings.HasPrefix(line, "| `eif.") {
			continue
		}
		for _, id := range regexp.MustCompile("`(eif\\.[a-z.-]+)`").FindAllStringSubmatch(strings.SplitN(line, "|", 3)[1], -1) {
			if documented[id[1]] {
				t.Errorf("%s is there twice", id[1])
			}
			documented[id[1]] = true
		}
	}
	used := map[string]bool{}
	err = filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, id := range rulesOf(string(source)) {
			used[id] = true
			if !documented[id] {
				t.Errorf("%s uses %s, which docs/rules.md lacks", path, id)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for id := range documented {
		if !used[id] {
			t.Errorf("docs/rules.md has %s, which nothing uses", id)
		}
	}
}

// rulesOf finds ids in source, those that are put together among them.
func rulesOf(source string) []string {
	var ids []string
	for _, m := range regexp.MustCompile(`"(eif\.[a-z.-]*[a-z])"`).FindAllStringSubmatch(source, -1) {
		ids = append(ids, m[1])
	}
	if strings.Contains(source, `"eif.metadata."+rule`) {
		ids = append(ids, "eif.metadata.json", "eif.metadata.duplicate")
	}
	if strings.Contains(source, `"eif."+s.Type.String()+".count"`) {
		ids = append(ids, "eif.kernel.count", "eif.cmdline.count", "eif.metadata.count", "eif.signature.count")
	}
	if strings.Contains(source, `"eif."+s.Type.String()+".size"`) {
		ids = append(ids, "eif.cmdline.size", "eif.metadata.size", "eif.signature.size")
	}
	return ids
}
