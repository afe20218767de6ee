// SPDX-License-Identifier: Apache-2.0

//go:build linux

package rootkeytest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/internal/durable/crashtest"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/passphrase"
)

// childPath makes the test binary the program that is to crash. It has the path
// of the file that it seals otherwise, twice.
const childPath = "CRETULA_TEST_ROOTKEY_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		if err := sealAgain(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const first, second = "the first passphrase", "the second passphrase"

func sealAgain(path string) error {
	one, err := passphrase.New([]byte(first))
	two, err2 := passphrase.New([]byte(second))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	ctx := context.Background()
	if err := rootkey.Hold(ctx, path, one); err != nil {
		return err
	}
	os.Stdout.WriteString("held\n")
	if err := rootkey.Rewrap(ctx, path, one, two); err != nil {
		return err
	}
	os.Stdout.WriteString("rewrapped\n")
	return nil
}

// TestPowerCut loses the power at every moment of Hold and Rewrap: the file must
// be whole, and no older than what was said to be done.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys", "root.key")
	made, err := rootkey.CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childPath+"="+path)
	cmd.Stderr = os.Stderr
	trace := crashtest.Run(t, cmd, dir)
	if got := string(trace.Output(trace.Len())); got != "held\nrewrapped\n" {
		t.Fatalf("the program said %q", got)
	}
	steps := map[string]int{string(plain): 0} // content to the step that wrote it
	one, two := newPassphrase(t, first), newPassphrase(t, second)
	stepOf := func(text []byte, file string) int {
		step, known := steps[string(text)]
		if known {
			return step
		}
		k, err := rootkey.OpenHeld(t.Context(), file, one)
		if step = 1; errors.Is(err, rootkey.ErrNotOpened) {
			step = 2
			k, err = rootkey.OpenHeld(t.Context(), file, two)
		}
		if err != nil || k.ID() != made.ID() {
			t.Fatalf("neither opens %s: %v", file, err)
		}
		steps[string(text)] = step
		return step
	}
	seen := make(map[int]int)
	for cut := range trace.Len() + 1 {
		done := bytes.Count(trace.Output(cut), []byte("\n"))
		for _, seed := range []uint64{crashtest.Strict, uint64(cut) + 1, uint64(cut) + 1e6} {
			file := filepath.Join(trace.Restore(t, cut, seed), "keys", "root.key")
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("cut %d of %d, seed %d: %v", cut, trace.Len(), seed, err)
			}
			step := stepOf(text, file)
			seen[step]++
			if step < done {
				t.Errorf("cut %d of %d, seed %d: %d steps were said to be done, the file is of step %d", cut, trace.Len(), seed, done, step)
			}
		}
	}
	if len(steps) != 3 || len(seen) != 3 {
		t.Errorf("%d contents, of steps %v", len(steps), seen)
	}
	t.Logf("%d events, files of steps %v", trace.Len(), seen)
}
