// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestRulesDocument: docs/rules.md has every rule about ramdisks.
func TestRulesDocument(t *testing.T) {
	page, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, pattern := range []string{"*.go", "../eifbuild/read*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, names...)
	}
	rules := map[string]bool{}
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"((?:contents|cpio)\.[a-z-]+)"`).FindAllSubmatch(code, -1) {
			rules[string(m[1])] = true
		}
	}
	if len(rules) < 20 {
		t.Fatalf("only %d rules found", len(rules))
	}
	for rule := range rules {
		if !strings.Contains(string(page), "`"+rule+"`") {
			t.Errorf("docs/rules.md lacks %s", rule)
		}
	}
}
