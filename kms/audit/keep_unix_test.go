// SPDX-License-Identifier: Apache-2.0

//go:build unix

package audit

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// limitFileSize has the system take no more bytes of a file, as a full disk does:
// of what is written a part.
func limitFileSize(t *testing.T, size int64) (restore func()) {
	t.Helper()
	// Without a handler the signal would end the process.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = uint64(size)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	restore = func() {
		syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before)
		signal.Stop(ignored)
	}
	t.Cleanup(restore)
	return restore
}

// fullDiskVariable tells a process of this test that it is the one with the limit.
const fullDiskVariable = "CRETULA_TEST_FULL_DISK"

// TestHeadsOnFullDisk has the disk take a part of a head, and of the anchor without
// which nothing may be removed: the file of heads stays whole, nothing is forgotten,
// and all is made up for when there is room. The limit is one of the process, so that
// another one must have it: this one has files of its own to write.
func TestHeadsOnFullDisk(t *testing.T) {
	if os.Getenv(fullDiskVariable) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHeadsOnFullDisk$", "-test.v")
		cmd.Env = append(os.Environ(), fullDiskVariable+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestHeadsOnFullDisk ")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	dir, known := newSample(t, 45)
	o := testOptions()
	o.Heads = known
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := filepath.Join(dir, headsFile)
	content := func() []byte {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	// The file of heads is to be the longest, so that it alone meets the limit.
	for len(content()) < 16<<10 {
		l.mustAppend(t, event{Decision: "more"})
		if err := l.keeper.writeHead(ctx); err != nil {
			t.Fatal(err)
		}
	}
	before, newest, stored := content(), l.keeper.newest, known.known(t)[0].Count
	restore := limitFileSize(t, int64(len(before)+40))
	l.mustAppend(t, event{Decision: "without a head"})
	for range 2 {
		if err := l.keeper.writeHead(ctx); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("a head: %v", err)
		}
	}
	l.options.Retention = Retention{Bytes: 1}
	if err := l.keeper.retain(ctx); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("an anchor: %v", err)
	}
	if !bytes.Equal(content(), before) {
		t.Errorf("the file of heads is of %d bytes, it was of %d", len(content()), len(before))
	}
	if l.keeper.newest != newest || l.keeper.anchor.Count != 0 || known.known(t)[0].Count != stored {
		t.Errorf("taken for written: %+v, %+v, in the store %d", l.keeper.newest, l.keeper.anchor, known.known(t)[0].Count)
	}
	r := mustVerify(t, dir, sampleOptions(known.known(t)...))
	if r.Err() != nil || r.First != 1 || r.Removed.Count != 0 {
		t.Errorf("on the full disk: %v, first %d, removed %d", r.Findings, r.First, r.Removed.Count)
	}
	restore()
	if err := errors.Join(l.keeper.writeHead(ctx), l.keeper.retain(ctx), l.keeper.writeHead(ctx)); err != nil {
		t.Fatal(err)
	}
	heads := headsIn(t, dir)
	if last := heads[len(heads)-1]; !bytes.HasPrefix(content(), before) || last.Kind != KindHead || known.known(t)[0].Count != last.Count {
		t.Errorf("%d heads, the last %+v", len(heads), last)
	}
	r = mustVerify(t, dir, sampleOptions(known.known(t)...))
	if r.Err() != nil || r.Removed.Count == 0 || r.First != r.Removed.Count+1 {
		t.Errorf("with room again: %v, first %d, removed %d", r.Findings, r.First, r.Removed.Count)
	}
}
