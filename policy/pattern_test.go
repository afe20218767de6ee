// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// Wildcards match as a regular expression says, for texts that almost match, too.
func TestGlobRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(alphabet []string, n int) string {
		var b strings.Builder
		for range random.IntN(n) {
			b.WriteString(alphabet[random.IntN(len(alphabet))])
		}
		return b.String()
	}
	wild := strings.NewReplacer("\xff", "(?s:.*)", "\xfe", "(?s:.)")
	matches := 0
	for range 10_000 {
		p := text([]string{"a", "b", "é", "\U0001F511", "\xff", "\xff", "\xfe"}, 9)
		s := text([]string{"a", "b", "é", "\U0001F511", "\n"}, 12)
		want := regexp.MustCompile("^(?:" + wild.Replace(p) + ")$").MatchString(s)
		if got := glob(p, s); got != want {
			t.Fatalf("pattern %q, text %q: %v, want %v", p, s, got, want)
		}
		if want {
			matches++
		}
	}
	if matches < 1_000 {
		t.Errorf("only %d of the texts match", matches)
	}
}

// A pattern that is made to be slow is not: with a step for each pair of characters
// this would take minutes.
func TestGlobSlow(t *testing.T) {
	s := strings.Repeat("a", 1<<20)
	for _, p := range []string{
		"\xff" + strings.Repeat("a", 1<<19) + "b",
		"\xff" + strings.Repeat("a", 1<<19) + "b\xff",
		strings.Repeat("\xffa", 1<<19) + "b",
		"\xff" + strings.Repeat("a\xfe", 1<<20),
	} {
		if glob(p, s) {
			t.Errorf("matches a text without a b: %.8q...", p)
		}
	}
	if !glob(strings.Repeat("\xffa", 1<<20), s) {
		t.Error("as many as there are do not match")
	}
}
