// SPDX-License-Identifier: Apache-2.0

// Package need lets a test say what it needs of the machine. What is missing
// skips the test with a line that says so, but fails it where CI=true is set:
// there, a check that does not run is no check.
package need

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Program returns the path of a program that the test runs.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "program "+name)
	}
	return path
}

// missing ends the test: nothing it would have shown is known.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing component: %s (CI=true: no skip)", what)
	}
	t.Skipf("SKIPPED, missing component: %s", what)
}

// SharedData returns the path of a file or folder of the test data that other
// projects published, which lies beside a checkout and is never part of it. The
// test is skipped where it is absent, under CI=true too.
func SharedData(t testing.TB, elem ...string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
	path := filepath.Join(append([]string{dir, "..", "shared", "testdata"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skip("shared test data not present")
	}
	return path
}

// Long skips the test unless CRETULA_LONG=1 asks for those that take minutes.
func Long(t testing.TB) {
	t.Helper()
	if os.Getenv("CRETULA_LONG") != "1" {
		t.Skip("long test: runs with CRETULA_LONG=1")
	}
}

// File returns the path of a file that the test reads; what says what it is and
// who brings it.
func File(t testing.TB, path, what string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		missing(t, path+" ("+what+")")
	}
	return path
}
