// SPDX-License-Identifier: Apache-2.0

//go:build unix

package imagebuild

import (
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

// keepsModes tells whether files have the mode that they are given.
const keepsModes = true

func setUmask(mask int) { unix.Umask(mask) }

// limitFiles lets no file of this process grow beyond a size for the rest of the
// test: writing fails then as it does on a full disk.
func limitFiles(t *testing.T, size uint64) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	limit := old
	limit.Cur = size
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
			t.Error(err)
		}
	})
}
