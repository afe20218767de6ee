// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// TestHelp: help of a command is output; of what is no command there is none.
func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"help", "pcr"}, {"help", "kms", "principal", "add"}, {"help", "help"}, {"kms", "--help"}} {
		code, stdout, stderr := cretula(nil, args...)
		if code != 0 || !strings.Contains(stdout, "Usage:") || stderr != "" {
			t.Errorf("%q: %d %q %q", args, code, stdout, stderr)
		}
	}
	if _, stdout, _ := cretula(nil, "help", "kms", "principal", "add"); !strings.Contains(stdout, "Adds a user") {
		t.Errorf("of a verb: %s", stdout)
	}
	for _, c := range []struct{ args, stderr string }{
		{"help nonsense", "cretula: unknown command \"nonsense\" for \"cretula\"\nhint: see 'cretula --help'\n"},
		{"help kms nonsense", "cretula: unknown command \"nonsense\" for \"cretula kms\"\nhint: see 'cretula kms --help'\n"},
		{"help pcrs", "cretula: unknown command \"pcrs\" for \"cretula\"\nhint: did you mean pcr?\n"},
		{"help attestation verify FILE", "cretula: unknown command \"FILE\" for \"cretula attestation verify\"\nhint: see 'cretula attestation verify --help'\n"},
		{"help a\x1bb", "cretula: unknown command \"a\\x1bb\" for \"cretula\"\nhint: see 'cretula --help'\n"},
	} {
		code, stdout, stderr := cretula(nil, strings.Split(c.args, " ")...)
		if code != 2 || stdout != "" || stderr != c.stderr {
			t.Errorf("%q: %d %q %q", c.args, code, stdout, stderr)
		}
	}
}

// TestNothingForTheTerminal: what others named does not reach it as they wrote it.
func TestNothingForTheTerminal(t *testing.T) {
	const name = "a\x1b]0;x\x07\nhint: b"
	for _, args := range [][]string{
		{"attestation", "inspect", name}, {"attestation", "verify", name, "--any-image"},
		{"attestation", "verify", "x", "--any-image", "--root", name}, {"attestation", "verify", "x", "--reference", name},
		{"kms", "principal", "list", "--data-dir", name}, {"pcr", "certificate", name}, {"pcr", "x\x1b"}, {"--x\x1b"},
	} {
		code, stdout, stderr := cretula(nil, args...)
		if code == 0 || stdout != "" || strings.ContainsAny(stderr, "\x1b\x07") || !strings.Contains(stderr, `\x1b`) ||
			strings.Contains(stderr, "\nhint: b") {
			t.Errorf("%q: %d %q %q", args, code, stdout, stderr)
		}
	}
}
