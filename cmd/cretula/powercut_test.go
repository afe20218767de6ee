// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/durable/crashtest"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/internal/stack"
)

// A run of `cretula up` under clients, whose writes are known.
type recordedRun struct {
	trace *crashtest.Trace
	seen  *journal
	up    *upProcess
	ready time.Time
}

// recordRun runs the server from the making of its folder until it was killed
// after so many answers.
func recordRun(t *testing.T, workers, answers int) *recordedRun {
	t.Helper()
	image := filepath.Join(t.TempDir(), "small.eif")
	if _, err := stack.BuildImage(t.Context(), image, eifbuild.Bytes([]byte("a program"))); err != nil {
		t.Fatal(err)
	}
	dir := newDataDir(t)
	cmd := upCommand(dir, "--eif", image)
	up := &upProcess{cmd: cmd, dir: dir, output: &syncBuffer{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = up.output, up.output
	recording := crashtest.Start(t, cmd, filepath.Dir(dir))
	up.waitReady(t)
	run := &recordedRun{seen: newJournal(), up: up, ready: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	run.seen.load(ctx, up.client(oneTry), workers, &running)
	run.seen.waitFor(t, answers)
	run.seen.stop()
	recording.Kill()
	cancel()
	running.Wait()
	run.trace = recording.Wait()
	for _, err := range run.seen.failed {
		t.Errorf("before the server was killed: %v", err)
	}
	return run
}

// checkCut starts the server on what a power cut leaves, and returns how many
// calls of those answered before were checked.
func (run *recordedRun) checkCut(t *testing.T, cut int, seed uint64, at time.Time) int {
	t.Helper()
	dir := filepath.Join(run.trace.Restore(t, cut, seed), filepath.Base(run.up.dir))
	up := startUp(t, dir, "--eif", run.image())
	defer up.kill(t)
	if !run.ready.After(at) && up.env["AWS_SECRET_ACCESS_KEY"] != run.up.env["AWS_SECRET_ACCESS_KEY"] {
		t.Error("the administrator has another key")
	}
	if _, err := up.client().CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Errorf("the folder takes no new key: %v", err)
	}
	return run.seen.check(t, t.Context(), up.client(), dir, at)
}

func (run *recordedRun) image() string {
	args := run.up.cmd.Args
	return args[slices.Index(args, "--eif")+1]
}

// powerCuts cuts a recorded run while the folder is made and while clients are
// served, and wants everything back that was answered by then.
func powerCuts(t *testing.T, run *recordedRun, making, serving int) {
	ready := run.trace.CutAt(run.ready)
	for range making {
		cut, seed := rand.IntN(ready+1), rand.Uint64N(2)*rand.Uint64()
		run.checkCut(t, cut, seed, time.Time{})
		if t.Failed() {
			t.Fatalf("cut %d of %d, before it was ready, seed %d", cut, run.trace.Len(), seed)
		}
	}
	checked := 0
	for i := range serving {
		// Just after an answer is when a promise is youngest.
		at := run.seen.calls[rand.IntN(len(run.seen.calls))].answered
		seed := uint64(crashtest.Strict)
		if i%2 == 1 {
			seed = rand.Uint64()
		}
		cut := run.trace.CutAt(at)
		checked += run.checkCut(t, cut, seed, at)
		if t.Failed() {
			t.Fatalf("cut %d of %d, seed %d", cut, run.trace.Len(), seed)
		}
	}
	t.Logf("%d events, %d answers; %d cuts while the folder was made, %d while it was used: %d promises kept",
		run.trace.Len(), len(run.seen.calls), making, serving, checked)
}

// A file layer that discards what was not fsynced loses nothing that a client was
// told.
func TestPowerCut(t *testing.T) {
	need.Program(t, "strace")
	powerCuts(t, recordRun(t, 24, 300), 8, 12)
}

func TestManyPowerCuts(t *testing.T) {
	need.Long(t)
	need.Program(t, "strace")
	powerCuts(t, recordRun(t, 100, 1500), 60, 100)
}
