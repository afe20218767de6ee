// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable returns s with everything that does not print, as [strconv.IsPrint]
// has it, written as an escape of Go: control characters, line breaks among them,
// what changes the direction of text, and bytes that are no UTF-8, some of which
// are control characters to a terminal (ECMA-48 §5.3). Names of files and what
// others wrote can have all of them.
func Printable(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		i += size
	}
	return b.String()
}

// lines is Printable for a message of our own, which may have lines and tabs. Lines
// after the first are indented, so that what is quoted in a message cannot pass for
// another one, or for a hint.
func lines(message string) string {
	split := strings.Split(strings.TrimRight(message, "\n"), "\n")
	for i, line := range split {
		cells := strings.Split(line, "\t")
		for n := range cells {
			cells[n] = Printable(cells[n])
		}
		split[i] = strings.Join(cells, "\t")
	}
	return strings.Join(split, "\n  ")
}
