// SPDX-License-Identifier: Apache-2.0

//go:build unix

package signkey

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestPipeWithoutWriter: a key that never comes can be given up.
func TestPipeWithoutWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	must(t, syscall.Mkfifo(path, 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, _, err := Open(ctx, Spec{Key: path}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
