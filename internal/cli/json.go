// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// PrintJSON writes v to stdout, indented by two spaces, with a final newline. What
// does not print, as [Printable] has it, is escaped: the text is the same JSON, and
// nothing in it that a terminal would obey.
func (e *Env) PrintJSON(v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	return indent(e.Stdout, text)
}

// JSON returns v in one line, without a final newline, escaped as [Env.PrintJSON]
// does it.
func JSON(v any) ([]byte, error) {
	text, err := encode(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	// Outside of strings everything prints.
	writeString(w, bytes.TrimSuffix(text, []byte("\n")))
	err = w.Flush()
	return b.Bytes(), err
}

// encode returns compact JSON and a newline.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// indent writes a compact JSON text, indented as [json.Indent] does it, as it goes:
// the white space of deep lists can be a hundred times the text.
func indent(to io.Writer, text []byte) error {
	w := bufio.NewWriterSize(to, 64<<10)
	depth := 0
	line := func() {
		w.WriteByte('\n')
		for range depth {
			w.WriteString("  ")
		}
	}
	for at := 0; at < len(text); at++ {
		switch c := text[at]; c {
		case '{', '[':
			w.WriteByte(c)
			if next := text[at+1]; next == '}' || next == ']' {
				at++
				w.WriteByte(next)
				continue
			}
			depth++
			line()
		case '}', ']':
			depth--
			line()
			w.WriteByte(c)
		case ',':
			w.WriteByte(c)
			line()
		case ':':
			w.WriteString(": ")
		case '"':
			end := stringEnd(text, at)
			writeString(w, text[at:end])
			at = end - 1
		default:
			w.WriteByte(c)
		}
	}
	return w.Flush() // has the first error
}

// stringEnd returns the place behind the string that begins at a place.
func stringEnd(text []byte, at int) int {
	for at++; text[at] != '"'; at++ {
		if text[at] == '\\' {
			at++
		}
	}
	return at + 1
}

func writeString(w *bufio.Writer, s []byte) {
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		if strconv.IsPrint(r) {
			w.Write(s[:size])
		} else {
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(w, `\u%04x`, unit)
			}
		}
		s = s[size:]
	}
}
