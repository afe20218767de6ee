// SPDX-License-Identifier: Apache-2.0

package vectors_test

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/reason"
	"github.com/cretula/cretula/vectors"
)

// judge returns the reason and the rules by which package attestation refuses a
// vector.
func judge(t *testing.T, v *vectors.Vector, lenient bool) (verdict string, rules []string) {
	t.Helper()
	err := v.Verify(lenient)
	if err == nil {
		return vectors.Verified, nil
	}
	refusal, ok := err.(*reason.Error)
	if !ok {
		t.Fatalf("%s: %v", v.Name, err)
	}
	for _, p := range refusal.Problems {
		if !slices.Contains(rules, p.Rule) {
			rules = append(rules, p.Rule)
		}
	}
	return refusal.Reason().String(), rules
}

// TestCorpus: each vector gets its verdict, by exactly its rules.
func TestCorpus(t *testing.T) {
	for _, v := range vectors.All() {
		verdict, rules := judge(t, &v, false)
		want := slices.Clone(v.Rules)
		slices.Sort(want)
		slices.Sort(rules)
		if verdict != v.Expect || !slices.Equal(rules, want) {
			t.Errorf("%s (%s)\n\t%s by %v, want %s by %v", v.Name, v.Sentence, verdict, rules, v.Expect, want)
		}
	}
}

// TestCorpusLeniently: at the lenient level a vector that is refused breaks its
// rules but those of encoding, and no others.
func TestCorpusLeniently(t *testing.T) {
	accepted := 0
	for _, v := range vectors.All() {
		verdict, rules := judge(t, &v, true)
		if verdict != v.Want(true) {
			t.Errorf("%s (%s)\n\t%s by %v, want %s", v.Name, v.Sentence, verdict, rules, v.Want(true))
		}
		for _, rule := range rules {
			if !slices.Contains(v.Rules, rule) {
				t.Errorf("%s breaks %s at the lenient level only", v.Name, rule)
			}
		}
		if v.Lenient != "" {
			accepted++
		}
	}
	if accepted < 10 {
		t.Errorf("the levels differ in %d vectors only", accepted)
	}
}

// TestEveryRuleHasAVector: each rule refuses a vector that nothing else refuses.
func TestEveryRuleHasAVector(t *testing.T) {
	alone := map[string]int{}
	for _, v := range vectors.All() {
		if len(v.Rules) == 1 {
			alone[v.Rules[0]]++
		}
	}
	for _, rule := range attestation.Rules() {
		if alone[rule.ID] == 0 {
			t.Errorf("no vector breaks %s alone", rule.ID)
		}
		delete(alone, rule.ID)
	}
	for rule := range alone {
		t.Errorf("vectors break %s, which is no rule", rule)
	}
}

func TestIndex(t *testing.T) {
	names, positive, negative := map[string]bool{}, 0, 0
	used := map[string]bool{"README.md": true, "index.json": true}
	for _, v := range vectors.All() {
		if names[v.Name] {
			t.Errorf("%s is there twice", v.Name)
		}
		names[v.Name], used[v.Document], used[v.Root], used[v.CRLs] = true, true, true, true
		if !strings.HasSuffix(v.Sentence, ".") || strings.Contains(v.Name, " ") || v.Document != "documents/"+v.Name+".cbor" {
			t.Errorf("%s: %q, %s", v.Name, v.Sentence, v.Document)
		}
		if v.Lenient != "" && (v.Lenient != vectors.Verified || v.Expect == vectors.Verified) {
			t.Errorf("%s: a lenient verifier is not %s where a strict one says %s", v.Name, v.Lenient, v.Expect)
		}
		if (v.Expect == vectors.Verified) != (len(v.Rules) == 0) {
			t.Errorf("%s: %s by %v", v.Name, v.Expect, v.Rules)
		}
		if v.Expect == vectors.Verified {
			positive++
		} else {
			negative++
		}
	}
	t.Logf("%d good and %d bad documents", positive, negative)
	if positive+negative < 150 || negative < 3*positive {
		t.Errorf("%d good and %d bad documents: too few", positive, negative)
	}
	total := 0
	err := fs.WalkDir(vectors.Files(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(vectors.Files(), path)
		total += len(data)
		if !used[path] {
			t.Errorf("%s belongs to no vector", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > 2<<20 {
		t.Errorf("the corpus has %d bytes, more than 2 MB", total)
	}
}

// TestReadme: the description names every member of the index.
func TestReadme(t *testing.T) {
	page, err := fs.ReadFile(vectors.Files(), "README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"name", "sentence", "document", "root", "crls", "clock", "expectation", "expect", "rules", "lenient",
		"pcrs", "any_image", "kind", "allow_debug", "nonce", "user_data", "max_age", "max_field", "document_time"} {
		if !bytes.Contains(page, []byte("`"+member+"`")) {
			t.Errorf("README.md does not describe %s", member)
		}
	}
}

// TestDocumentExample: the bytes in the description of the document are those of
// the vector that it names, in their order.
func TestDocumentExample(t *testing.T) {
	page, err := os.ReadFile("../docs/formats/document.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(page), "The beginning of `vectors/documents/form/definite-map.cbor`:")
	if !found {
		t.Fatal("there is no example")
	}
	document, err := fs.ReadFile(vectors.Files(), "documents/form/definite-map.cbor")
	if err != nil {
		t.Fatal(err)
	}
	lines := 0
	for line := range strings.Lines(example) {
		// The bytes end at two spaces, an ellipsis where some are left out.
		digits, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		digits, _, cut := strings.Cut(strings.ReplaceAll(digits, " ", ""), "…")
		want, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !bytes.HasPrefix(document, want) {
			t.Fatalf("%q: the document has %x", line, document[:len(want)])
		}
		document = document[len(want):]
		if lines++; cut {
			// What follows an ellipsis begins with a key.
			if at := bytes.Index(document, []byte("\x66digest")); at >= 0 {
				document = document[at:]
			}
		}
	}
	if lines < 13 {
		t.Errorf("%d lines of example", lines)
	}
}

func TestWant(t *testing.T) {
	v := vectors.Vector{Expect: "malformed"}
	if v.Want(false) != "malformed" || v.Want(true) != "malformed" {
		t.Error("without lenient")
	}
	v.Lenient = vectors.Verified
	if v.Want(false) != "malformed" || v.Want(true) != vectors.Verified {
		t.Error("with lenient")
	}
}
