// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/durable/crashtest"
)

// TestEIFSignPowerCut: whenever the power goes, there is the image as it was, or
// the signed one, and the signed one once the command has said so.
func TestEIFSignPowerCut(t *testing.T) {
	s := newSignable(t, eif.Bytes(bytes.Repeat([]byte("kernel"), 5000)))
	before, err := os.ReadFile(s.image)
	mustDo(t, err)
	trace := crashtest.Run(t, exec.Command("cretula", s.signArgs()...), s.dir)
	after, err := os.ReadFile(s.image)
	mustDo(t, err)
	if bytes.Equal(before, after) || len(trace.Output(trace.Len())) == 0 {
		t.Fatal("nothing was signed")
	}
	old := 0
	for cut := range trace.Len() + 1 {
		for _, seed := range []uint64{crashtest.Strict, 1, 2, 3} {
			got, err := os.ReadFile(filepath.Join(trace.Restore(t, cut, seed), filepath.Base(s.image)))
			switch said := len(trace.Output(cut)) > 0; {
			case err != nil:
				t.Fatalf("cut %d, seed %d: %v", cut, seed, err)
			case bytes.Equal(got, before) && !said:
				old++
			case !bytes.Equal(got, after):
				t.Errorf("cut %d, seed %d: neither the one nor the other image", cut, seed)
			}
		}
	}
	if old < 8 {
		t.Errorf("only %d times the old image: nothing was cut", old)
	}
}

// TestEIFSignFullDisk: no room for the copy, at one place and another.
func TestEIFSignFullDisk(t *testing.T) {
	s := newSignable(t, eif.Bytes(bytes.Repeat([]byte("kernel"), 5000)))
	before, err := os.ReadFile(s.image)
	mustDo(t, err)
	for _, blocks := range []int{0, 1, 8, 60} { // of 512 bytes
		script := fmt.Sprintf(`ulimit -f %d; exec cretula "$@"`, blocks)
		var stderr bytes.Buffer
		cmd := exec.Command("sh", append([]string{"-c", script, "sh"}, s.signArgs()...)...)
		cmd.Stderr = &stderr
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "file too large") {
			t.Errorf("%d blocks: %v: %s", blocks, err, &stderr)
		}
		wantOnly(t, s.dir, s.image, before)
	}
}

// TestEIFSignInterrupted: a command that is asked to end takes its copy with it.
func TestEIFSignInterrupted(t *testing.T) {
	const size = 96 << 20
	s := newSignable(t, eif.Source{Reader: io.LimitReader(zeroReader{}, size), Size: size})
	info, err := os.Stat(s.image)
	mustDo(t, err)
	for range 20 {
		cmd := exec.Command("cretula", s.signArgs()...)
		mustDo(t, cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		for waiting := true; waiting; {
			entries, err := os.ReadDir(s.dir)
			mustDo(t, err)
			select {
			case err := <-ended:
				t.Fatalf("it ended before its copy was seen: %v", err)
			default:
			}
			if waiting = len(entries) == 1; waiting {
				time.Sleep(time.Millisecond)
			}
		}
		mustDo(t, cmd.Process.Signal(syscall.SIGTERM))
		<-ended
		entries, err := os.ReadDir(s.dir)
		mustDo(t, err)
		if len(entries) != 1 {
			t.Fatalf("it left %v", entries)
		}
		if cmd.ProcessState.ExitCode() == 130 {
			if again, err := os.Stat(s.image); err != nil || !os.SameFile(info, again) || again.Size() != info.Size() {
				t.Errorf("the image is another one: %v", err)
			}
			return
		}
	}
	t.Error("it was never interrupted")
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
