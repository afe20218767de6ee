// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRulesDocument: docs/rules.md lists each rule of this package, with its
// reasons, and no other.
func TestRulesDocument(t *testing.T) {
	page, err := os.ReadFile("../../docs/rules.md")
	must(t, err)
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`rootfs\\.[^|]*) \\| ([a-z, ]*) \\|").FindAllStringSubmatch(string(page), -1) {
		for _, rule := range regexp.MustCompile("`rootfs\\.([a-z.-]+)`").FindAllStringSubmatch(row[1], -1) {
			for _, why := range strings.Split(row[2], ", ") {
				listed[why+" "+rule[1]] = true
			}
		}
	}
	used := map[string]bool{}
	files, err := filepath.Glob("*.go")
	must(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		code, err := os.ReadFile(file)
		must(t, err)
		for _, m := range regexp.MustCompile(`\b(malformed|unsupported|mismatch|number)\("([a-z.-]+)"`).FindAllStringSubmatch(string(code), -1) {
			used[strings.Replace(m[1], "number", "malformed", 1)+" "+m[2]] = true
		}
	}
	if len(used) < 30 {
		t.Fatalf("only %d rules are used", len(used))
	}
	for rule := range used {
		if !listed[rule] {
			t.Errorf("docs/rules.md lacks %s", rule)
		}
	}
	for rule := range listed {
		if !used[rule] {
			t.Errorf("docs/rules.md has %s, the code has not", rule)
		}
	}
}
