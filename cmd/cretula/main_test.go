// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"os"
	"os/signal"
	"runtime"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/cli"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestInterruptedWhileReading: a command that waits for its input ends by the
// first signal, with 130 and without a word.
func TestInterruptedWhileReading(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot send itself an interrupt on Windows")
	}
	// Without this a signal outside run would end the test.
	mine := make(chan os.Signal, 1)
	signal.Notify(mine, os.Interrupt)
	defer signal.Stop(mine)
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"attestation", "verify", "-", "--any-image"},
		{"attestation", "inspect", "-"},
		{"attestation", "verify", os.Args[0], "--any-image", "--nonce", "@-"},
		{"pcr", "certificate", "-"},
	} {
		stdin, hold := io.Pipe()
		var stdout, stderr bytes.Buffer
		env := &cli.Env{Stdin: stdin, Stdout: &stdout, Stderr: &stderr, Getenv: os.Getenv, Now: time.Now}
		code := make(chan int, 1)
		go func() { code <- run(args, env) }()
		interval, deadline := time.NewTicker(20*time.Millisecond), time.After(20*time.Second)
		for ended := false; !ended; {
			select {
			case got := <-code:
				if ended = true; got != 130 || stdout.Len() > 0 || stderr.Len() > 0 {
					t.Errorf("%q: exit status %d, %q, %q", args, got, &stdout, &stderr)
				}
			case <-interval.C:
				if err := self.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
			case <-deadline:
				t.Fatalf("%q: still waiting", args)
			}
		}
		interval.Stop()
		hold.Close()
	}
}
