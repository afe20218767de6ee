// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// sharedTestdata returns the folder of other people's test data beside the
// checkout, where there is one.
func sharedTestdata() (string, error) {
	dir, err := filepath.Abs("../../../shared/testdata")
	if err != nil {
		return "", err
	}
	_, err = os.Stat(dir)
	return dir, err
}

// scriptExits is the script command "exits N PROGRAM ARG...": the program must
// end with exactly that status. Its output can be matched afterwards.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with %d, want %d", args[1], got, want)
	}
}
