// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/vectors"
)

func TestNamedReason(t *testing.T) {
	for output, want := range map[string]string{
		"":                                "",
		"malformed\n":                     "malformed",
		"rejected  stale, mismatch\nmore": "stale",
		"\n bad-signature: r is zero":     "bad-signature",
		"error: malformed":                "",
		"rejected":                        "",
		"rejected, no reason":             "",
		"verified":                        "",
		"Malformed":                       "",
		"\xff\xfe":                        "",
	} {
		if got := namedReason(output); got != want {
			t.Errorf("%q: %q, want %q", output, got, want)
		}
	}
}

func TestLimitedBuffer(t *testing.T) {
	var b limitedBuffer
	for range 3 {
		if n, err := b.Write(bytes.Repeat([]byte{'x'}, 3000)); n != 3000 || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	// As os/exec does it.
	if n, err := io.Copy(&b, io.LimitReader(strings.NewReader(strings.Repeat("y", 9000)), 9000)); n != 9000 || err != nil {
		t.Fatalf("%d bytes copied, %v", n, err)
	}
	if got := len(b.String()); got != maxVerifierOutput {
		t.Errorf("%d bytes are kept, want %d", got, maxVerifierOutput)
	}
}

// TestVariables: whatever a vector expects is in the environment.
func TestVariables(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range vectors.All() {
		for _, variable := range variables(&v, "strict") {
			name, _, _ := strings.Cut(variable, "=")
			seen[name] = true
		}
		if v.Name == "expect/nonce-and-user-data" {
			got := variables(&v, "lenient")
			slices.Sort(got)
			want := []string{"VECTOR_ANY_IMAGE=1", "VECTOR_KIND=enclave", "VECTOR_LEVEL=lenient", "VECTOR_NAME=expect/nonce-and-user-data",
				"VECTOR_NONCE=6e6f6e6365", "VECTOR_USER_DATA=757365722064617461"}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
	for _, name := range []string{"NAME", "LEVEL", "PCRS", "ANY_IMAGE", "ALLOW_DEBUG", "DOCUMENT_TIME", "KIND", "NONCE", "USER_DATA", "MAX_AGE", "MAX_FIELD"} {
		if !seen["VECTOR_"+name] {
			t.Errorf("no vector sets VECTOR_%s", name)
		}
	}
}
