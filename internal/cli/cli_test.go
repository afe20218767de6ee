// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/reason"
)

func TestReport(t *testing.T) {
	refusal := reason.New(reason.Stale, "doc.age", "too old")
	for _, c := range []struct {
		name   string
		err    error
		code   int
		stderr string
	}{
		{"nothing", nil, 0, ""},
		{"plain", errors.New("broken"), 1, "cretula: broken\n"},
		{"usage", Usagef("no %s", "FILE"), 2, "cretula: no FILE\n"},
		{"usage with a hint", WithHint(Usagef("no FILE"), "give %d", 1), 2, "cretula: no FILE\nhint: give 1\n"},
		{"refusal", refusal, 6, "cretula: too old (doc.age)\n"},
		{"wrapped refusal with a hint", fmt.Errorf("x: %w", WithHint(refusal, "again")), 6, "cretula: x: too old (doc.age)\nhint: again\n"},
		{"usage for a refusal", fmt.Errorf("%w: %w", Usagef("bad"), refusal), 2, "cretula: bad: too old (doc.age)\n"},
		{"escape sequence", errors.New("open \x1b[2Ja\x07\r: none"), 1, "cretula: open \\x1b[2Ja\\a\\r: none\n"},
		{"C1 control characters", errors.New("a\u009b2J \x9b2J"), 1, "cretula: a\\u009b2J \\x9b2J\n"},
		{"direction", Usagef("a\u202eb\u2066"), 2, "cretula: a\\u202eb\\u2066\n"},
		{"delete", errors.New("a\x7fb\x00"), 1, "cretula: a\\x7fb\\x00\n"},
		{"what prints", errors.New(`"Ä" \ 'ß' 日本 …`), 1, "cretula: \"Ä\" \\ 'ß' 日本 …\n"},
		{"hint", WithHint(Usagef("a"), "b\x1b[m"), 2, "cretula: a\nhint: b\\x1b[m\n"},
		{"lines", errors.Join(errors.New("one"), errors.New("two\thalf\x1b"), refusal), 6, "cretula: one\n  two\thalf\\x1b\n  too old (doc.age)\n"},
		{"a hint that is none", errors.New("x\nhint: run this\ncretula: y\n"), 1, "cretula: x\n  hint: run this\n  cretula: y\n"},
		{"said already", fmt.Errorf("x: %w", &ExitError{7}), 7, ""},
	} {
		var stderr bytes.Buffer
		env := &Env{Stderr: &stderr}
		if code := env.Report(c.err); code != c.code || stderr.String() != c.stderr {
			t.Errorf("%s: exit status %d, %q, want %d, %q", c.name, code, &stderr, c.code, c.stderr)
		}
	}
	for _, r := range reason.All() {
		env := &Env{Stderr: io.Discard}
		if code := env.Report(reason.New(r, "x.y", "z")); code != r.ExitCode() || code < 3 {
			t.Errorf("%v: exit status %d", r, code)
		}
	}
}

type brokenStream struct{}

func (brokenStream) Read([]byte) (int, error)  { return 0, io.ErrUnexpectedEOF }
func (brokenStream) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestReadInput(t *testing.T) {
	name := filepath.Join(t.TempDir(), "five")
	if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := &Env{Stdin: strings.NewReader("stdin")}
	for _, file := range []string{name, "-"} {
		if data, err := env.ReadInput(file, 5); err != nil || len(data) != 5 {
			t.Errorf("%s: %q, %v", file, data, err)
		}
	}
	data, err := env.ReadInput(name, 4)
	if r, _ := reason.Of(err); r != reason.Malformed || data != nil {
		t.Errorf("a byte too many: %q, %v", data, err)
	}
	if data, err = env.ReadInput(filepath.Dir(name), 4); err == nil || data != nil {
		t.Errorf("a folder: %q, %v", data, err)
	}
	if data, err = env.ReadInput(name+"x", 4); !errors.Is(err, fs.ErrNotExist) || data != nil {
		t.Errorf("no file: %q, %v", data, err)
	}
	env.Stdin = brokenStream{}
	if data, err = env.ReadInput("-", 4); !errors.Is(err, io.ErrUnexpectedEOF) || data != nil {
		t.Errorf("broken: %q, %v", data, err)
	}
}

// TestNamesOfFiles: a name is on one line, whatever is in it.
func TestNamesOfFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a\nhint: b\x1b")
	env := &Env{}
	_, absent := env.ReadInput(name, 4)
	if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
		t.Skip(err) // not on every system
	}
	_, large := env.ReadInput(name, 4)
	if !errors.Is(absent, fs.ErrNotExist) {
		t.Errorf("absent: %v", absent)
	}
	for _, err := range []error{absent, large} {
		if err == nil || !strings.Contains(err.Error(), `a\nhint: b\x1b`) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q", err)
		}
	}
}

func TestReadInputInterrupted(t *testing.T) {
	stdin, hold := io.Pipe()
	defer hold.Close()
	interrupted := make(chan struct{})
	close(interrupted)
	env := &Env{Stdin: stdin, Interrupted: interrupted}
	if data, err := env.ReadInput("-", 4); !errors.Is(err, context.Canceled) || data != nil {
		t.Errorf("interrupted: %q, %v", data, err)
	}
}

func TestOutput(t *testing.T) {
	var stdout bytes.Buffer
	env := &Env{Stdout: &stdout}
	if err := env.PrintJSON(map[string]string{"a": "<&>"}); err != nil || stdout.String() != "{\n  \"a\": \"<&>\"\n}\n" {
		t.Errorf("%q, %v", &stdout, err)
	}
	stdout.Reset()
	if err := env.PrintJSON(func() {}); err == nil || stdout.Len() > 0 {
		t.Errorf("a function in JSON: %q, %v", &stdout, err)
	}
	if err := env.WriteBinary([]byte{0, 0xff}); err != nil || stdout.String() != "\x00\xff" {
		t.Errorf("%q, %v", &stdout, err)
	}
	env.Stdout = brokenStream{}
	if err := env.PrintJSON(1); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("JSON to a closed pipe: %v", err)
	}
	if err := env.WriteBinary(nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("bytes to a closed pipe: %v", err)
	}
}
