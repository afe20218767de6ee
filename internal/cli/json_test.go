// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// TestPrintJSON: what prints is indented as encoding/json does it.
func TestPrintJSON(t *testing.T) {
	for _, text := range []string{
		`null`, `{}`, `[]`, `""`, `-1.5e3`, `{"a":{}}`, `[[],{},[[]]]`, `{"a":[1,2,{"b":null}],"c":"d"}`,
		`["{","}",",",":","\"","\\","\\\"{","Ä 日本 <&> \u0000 é"]`, `{"{\":,}":{"[":true}}`,
	} {
		var stdout, want bytes.Buffer
		if err := (&Env{Stdout: &stdout}).PrintJSON(json.RawMessage(text)); err != nil {
			t.Fatal(err)
		}
		if err := json.Indent(&want, []byte(text), "", "  "); err != nil || stdout.String() != want.String()+"\n" {
			t.Errorf("%s: %q, want %q, %v", text, &stdout, &want, err)
		}
	}
}

// TestPrintJSONControl: nothing of what a terminal obeys is written, and the text
// says the same.
func TestPrintJSONControl(t *testing.T) {
	v := map[string]any{"C1 \u009b31m": "\u0080\u009f", "DEL \x7f": "\x1b[2J", "direction": "\u202e\u2066", "blanks": "\u00a0\u2028\u3000", "rare": "\U000e0001 😀"}
	var stdout bytes.Buffer
	if err := (&Env{Stdout: &stdout}).PrintJSON(v); err != nil {
		t.Fatal(err)
	}
	if text := strings.ReplaceAll(stdout.String(), "\n", ""); Printable(text) != text || !strings.Contains(text, "😀") {
		t.Errorf("%q", text)
	}
	line, err := JSON(v)
	if err != nil || Printable(string(line)) != string(line) {
		t.Errorf("%q, %v", line, err)
	}
	for _, text := range [][]byte{stdout.Bytes(), line} {
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil || !reflect.DeepEqual(got, v) {
			t.Errorf("%v, %v, want %v", got, err, v)
		}
	}
}

// TestPrintJSONDeep: white space takes no memory.
func TestPrintJSONDeep(t *testing.T) {
	const depth = 120
	text := json.RawMessage(strings.Repeat("[", depth) + strings.Repeat("1,", 1<<19) + "1" + strings.Repeat("]", depth))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := (&Env{Stdout: io.Discard}).PrintJSON(text); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes were allocated for %d", grown, len(text))
	}
}
