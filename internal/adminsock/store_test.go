// SPDX-License-Identifier: Apache-2.0

//go:build linux

package adminsock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/backup"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// TestBackupWhileServing takes backups while principals are made: each is whole, and
// of one moment.
func TestBackupWhileServing(t *testing.T) {
	dir, server := start(t)
	ctx := t.Context()
	if _, err := server.EnsureAdmin(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	stop := make(chan struct{})
	writing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := server.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: fmt.Sprint("user", i)}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	root, err := rootkey.OpenFile(filepath.Join(dir, datadir.RootKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	var last []byte
	for range 5 {
		var file bytes.Buffer
		rows, err := c.Backup(ctx, &file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := backup.Open(bytes.NewReader(file.Bytes()), root)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.Check(); err != nil || n != rows {
			t.Errorf("%d rows of %d, %v", n, rows, err)
		}
		last = file.Bytes()
		if report, err := c.CheckStore(ctx); err != nil || len(report.Findings) > 0 || report.Rows == 0 {
			t.Errorf("report %+v, %v", report, err)
		}
	}
	close(stop)
	writing.Wait()
	// Restored, where every row is verified against the roster.
	to := datadir.Config{Dir: filepath.Join(folder(t), "to"), RootKey: rootkeys.Spec{
		Kind: rootkeys.KindFile, File: filepath.Join(dir, datadir.RootKeyFile), EpochFile: filepath.Join(folder(t), "epoch"),
	}}
	if _, err := to.Restore(ctx, bytes.NewReader(last), false); err != nil {
		t.Error(err)
	}
}

// TestBackupFails has the service fail when the answer has begun.
func TestBackupFails(t *testing.T) {
	dir, server := start(t)
	if _, err := server.EnsureAdmin(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no room")
	if _, err := c.Backup(t.Context(), &failing{full}); !errors.Is(err, full) {
		t.Errorf("a writer that fails: %v", err)
	}
	// One whose audit log takes nothing: the rows have been sent, the end has not.
	other := folder(t)
	files, err := datadir.Create(t.Context(), other, ledger.Meta{Emulated: true, Account: "000000000000"})
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	config := files.Config()
	config.Audit = noLog{}
	if server, err = kms.New(config); err != nil {
		t.Fatal(err)
	}
	listener, err := Listen(other)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, server, nil) }()
	defer func() {
		cancel()
		<-done
	}()
	if c, err = Dial(ctx, other); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if _, err = c.Backup(ctx, &file); err == nil || err.Error() != errNoLog.Error() {
		t.Errorf("no audit log: %v", err)
	}
	r, err := backup.Open(bytes.NewReader(file.Bytes()), files.RootKey)
	if err == nil {
		_, err = r.Check()
	}
	if err == nil {
		t.Error("a backup that is not on record is whole")
	}
}

var errNoLog = errors.New("the log\nis gone")

type noLog struct{}

func (noLog) Append(context.Context, any) error { return errNoLog }

func (noLog) Find(context.Context, string) (audit.Entry, error) {
	return audit.Entry{}, audit.ErrNotFound
}

type failing struct{ err error }

func (f *failing) Write([]byte) (int, error) { return 0, f.err }
