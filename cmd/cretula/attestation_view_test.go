// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/pcr"
)

func TestOutputWidth(t *testing.T) {
	for columns, want := range map[string]int{"": 80, "x": 80, "0": 80, "79": 80, "80": 80, "133": 133, "200": 200, "100000": 200, "-5": 80} {
		env := &cli.Env{Stdout: &bytes.Buffer{}, Getenv: func(string) string { return columns }}
		if got := outputWidth(env); got != want {
			t.Errorf("COLUMNS=%s: %d, want %d", columns, got, want)
		}
	}
	if got := outputWidth(&cli.Env{Stdout: &bytes.Buffer{}}); got != 80 {
		t.Errorf("without an environment: %d", got)
	}
}

func TestRanges(t *testing.T) {
	for _, c := range []struct {
		list []pcr.Index
		want string
	}{
		{[]pcr.Index{5}, "PCR5"},
		{[]pcr.Index{5, 6}, "PCR5, PCR6"},
		{[]pcr.Index{5, 6, 7, 9, 11, 12, 13}, "PCR5 to PCR7, PCR9, PCR11 to PCR13"},
		{nil, ""},
	} {
		if got := ranges(c.list); got != c.want {
			t.Errorf("%v: %s, want %s", c.list, got, c.want)
		}
	}
}

// TestInspectionFits: at no width is a line of a genuine document wider, and none
// can do anything to a terminal.
func TestInspectionFits(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(need.SharedData(t, "attestation"), "*.cbor"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		u, err := attestation.ParseLenient(data)
		if err != nil {
			continue // one of the known bad ones
		}
		for _, width := range []int{80, 100, 120, 140, 200} {
			var out bytes.Buffer
			env := &cli.Env{Stdout: &out, Getenv: func(string) string { return strconv.Itoa(width) }}
			if err := printInspection(env, u, inspect(u, len(data))); err != nil {
				t.Fatal(err)
			}
			for _, line := range strings.Split(out.String(), "\n") {
				if n := utf8.RuneCountInString(line); n > width {
					t.Errorf("%s: %d columns of %d: %s", filepath.Base(file), n, width, line)
				}
				if strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 }) {
					t.Errorf("%s: control characters in %q", filepath.Base(file), line)
				}
			}
		}
	}
}
