// SPDX-License-Identifier: Apache-2.0

//go:build linux

package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/durable/crashtest"
)

// Variables that make the test binary the program that is to crash: the folder of
// the log, how many records it writes, and the bytes that retention leaves.
const (
	childDir    = "CRETULA_TEST_AUDIT_DIR"
	childCount  = "CRETULA_TEST_AUDIT_COUNT"
	childRetain = "CRETULA_TEST_AUDIT_RETAIN"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := writeRecords(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashOptions make segments and heads so often that crashes meet them.
func crashOptions() Options {
	o := testOptions()
	o.SegmentBytes, o.HeadRecords, o.HeadInterval = 4000, 7, 5*time.Millisecond
	return o
}

// writeRecords writes records and says of each on standard output when it is durable.
func writeRecords(dir string) error {
	count, countErr := strconv.Atoi(os.Getenv(childCount))
	retain, retainErr := strconv.ParseInt(os.Getenv(childRetain), 10, 64)
	o := crashOptions()
	o.Retention.Bytes = retain
	l, err := Open(ctx, dir, o)
	if err := errors.Join(countErr, retainErr, err); err != nil {
		return err
	}
	const workers = 8
	errs := make([]error, workers)
	var wg sync.WaitGroup
	run := rand.Uint64()
	for w := range workers {
		wg.Go(func() {
			for i := 0; i < count/workers && errs[w] == nil; i++ {
				id := fmt.Sprintf("%x-%d-%d", run, w, i)
				if errs[w] = l.Append(ctx, event{Decision: id, Text: strings.Repeat("x", i%300)}); errs[w] == nil {
					os.Stdout.WriteString("audit " + id + "\n")
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, l.Close())...)
}

func child(dir string, count, retain int) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childCount+"="+strconv.Itoa(count), childRetain+"="+strconv.Itoa(retain))
	cmd.Stderr = os.Stderr
	return cmd
}

// checkAcknowledged verifies the log as it was left, opens it, verifies it again and,
// where nothing was removed, looks for all that output says is durable.
func checkAcknowledged(t *testing.T, dir string, output []byte, removes bool) (done int) {
	t.Helper()
	// A crash before there was a log leaves none.
	if r, err := Verify(ctx, dir, sampleOptions()); err == nil && r.Err() != nil {
		t.Errorf("%s, as it was left: %v", dir, r.Findings)
	} else if err != nil && !errors.Is(err, ErrNone) && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
	l, err := Open(ctx, dir, crashOptions())
	if err != nil {
		t.Errorf("%s: %v", dir, err)
		return 0
	}
	l.mustAppend(t, event{Decision: "after"})
	for line := range strings.Lines(string(output)) {
		id, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "audit ")
		if !ok || !strings.HasSuffix(line, "\n") || removes {
			continue
		}
		done++
		if _, err := l.Find(ctx, id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if r := mustVerify(t, dir, sampleOptions()); r.Err() != nil || r.Torn != 0 {
		t.Errorf("%s, afterwards: %v", dir, r.Findings)
	}
	return done
}

// TestKill ends the program with SIGKILL at any moment, again and again, and lets it go
// on with what is left.
func TestKill(t *testing.T) {
	for _, retain := range []int{0, 20_000} {
		dir := filepath.Join(t.TempDir(), "log")
		var said []byte
		for range 8 {
			cmd := child(dir, 1<<30, retain)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			timer := time.AfterFunc(time.Duration(rand.IntN(150))*time.Millisecond, func() { cmd.Process.Kill() })
			var output bytes.Buffer
			bufio.NewReader(out).WriteTo(&output)
			cmd.Wait()
			timer.Stop()
			said = append(said, output.Bytes()[:bytes.LastIndexByte(output.Bytes(), '\n')+1]...)
			checkAcknowledged(t, dir, said, retain > 0)
		}
		if len(said) == 0 {
			t.Error("nothing was acknowledged")
		}
	}
}

// TestPowerCut loses what was not fsynced, at many moments.
func TestPowerCut(t *testing.T) {
	for _, retain := range []int{0, 6000} {
		dir := t.TempDir()
		trace := crashtest.Run(t, child(filepath.Join(dir, "log"), 240, retain), dir)
		if got := bytes.Count(trace.Output(trace.Len()), []byte("audit ")); got != 240 {
			t.Fatalf("the program wrote %d records, want 240", got)
		}
		cuts := 25
		if os.Getenv("CRETULA_LONG") == "1" {
			cuts = min(trace.Len(), 400)
		}
		done := 0
		for i := range cuts + 1 {
			cut := trace.Len() * i / cuts
			for _, seed := range []uint64{crashtest.Strict, uint64(cut) + 1} {
				restored := filepath.Join(trace.Restore(t, cut, seed), "log")
				done += checkAcknowledged(t, restored, trace.Output(cut), retain > 0)
				if t.Failed() {
					t.Fatalf("cut %d of %d, seed %d: %s", cut, trace.Len(), seed, restored)
				}
				os.RemoveAll(restored)
			}
		}
		t.Logf("%d events, %d cuts, %d acknowledgements", trace.Len(), cuts+1, done)
	}
}
