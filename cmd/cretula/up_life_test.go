// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"golang.org/x/sys/unix"
)

// Of several that start on the same new folder one runs; the others say why not
// and leave it alone.
func TestUpStartedTogether(t *testing.T) {
	dir := newDataDir(t)
	type end struct {
		status int
		output string
	}
	const together = 6
	ends := make(chan end, together)
	var processes []*os.Process
	for range together {
		cmd := upCommand(dir)
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = &output, &output
		must(t, cmd.Start())
		processes = append(processes, cmd.Process)
		go func() {
			cmd.Wait()
			ends <- end{cmd.ProcessState.ExitCode(), output.String()}
		}()
	}
	t.Cleanup(func() {
		for _, p := range processes {
			p.Kill()
		}
	})
	for range together - 1 {
		select {
		case e := <-ends:
			if e.status != 1 || !strings.Contains(e.output, "kms.db: store is in use by another process\nhint: ") {
				t.Errorf("ended with %d: %s", e.status, e.output)
			}
		case <-time.After(readyWithin):
			t.Fatal("more than one runs")
		}
	}
	up := &upProcess{dir: dir, ended: make(chan struct{}), output: &syncBuffer{}}
	up.waitReady(t)
	if _, err := up.client().CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Error(err)
	}
	for _, p := range processes {
		p.Signal(syscall.SIGTERM) // only one is there
	}
	if e := <-ends; e.status != 0 {
		t.Errorf("the one that ran ended with %d: %s", e.status, e.output)
	}
}

// SIGTERM in the middle of calls: those under way are answered, and what was
// answered holds.
func TestUpStopsWell(t *testing.T) {
	dir := newDataDir(t)
	up := startUp(t, dir)
	seen := newJournal()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	seen.load(ctx, up.client(oneTry), 50, &running)
	seen.waitFor(t, 100)
	seen.stop()
	code := up.signal(t, syscall.SIGTERM)
	cancel()
	running.Wait()
	if code != 0 {
		t.Errorf("exit status %d\n%s", code, up.output)
	}
	if strings.Contains(up.output.String(), "level=ERROR") {
		t.Errorf("log:\n%s", up.output)
	}
	for _, err := range seen.failed {
		t.Error(err)
	}
	seen.check(t, t.Context(), startUp(t, dir).client(), dir, time.Now())
}

// The demo can be interrupted at any time; it leaves no file and no process.
func TestDemoInterrupted(t *testing.T) {
	// What the demo leaves behind becomes a child of the test.
	must(t, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for range 4 {
			tmp, err := os.MkdirTemp("", "demo")
			must(t, err)
			t.Cleanup(func() { os.RemoveAll(tmp) })
			cmd := exec.Command("cretula", "demo", "--keep", filepath.Join(tmp, "kept"))
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
			var output bytes.Buffer
			cmd.Stdout, cmd.Stderr = &output, &output
			must(t, cmd.Start())
			time.Sleep(time.Duration(20+rand.IntN(400)) * time.Millisecond)
			cmd.Process.Signal(sig)
			cmd.Wait()
			status := cmd.ProcessState.ExitCode()
			finished := strings.Contains(output.String(), "kept in ")
			if status != 130 && (status != 0 || !finished) && !(status == -1 && output.Len() == 0) {
				t.Errorf("%v: exit status %d\n%s", sig, status, output.String())
			}
			left, err := filepath.Glob(filepath.Join(tmp, "cretula-demo-*"))
			must(t, err)
			if len(left) > 0 {
				t.Errorf("%v: %v is left\n%s", sig, left, output.String())
			}
			noOrphans(t)
		}
	}
}

// noOrphans fails unless all children of the test end.
func noOrphans(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(10 * time.Millisecond) {
		_, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.ECHILD) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a process is left: %v", err)
		}
	}
}
