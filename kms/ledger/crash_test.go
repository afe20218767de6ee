// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
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
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/rootkey"
)

// Variables that make the test binary the program that is to crash: the folder
// it works in and the number of rows it writes.
const (
	childDir   = "CRETULA_TEST_LEDGER_DIR"
	childCount = "CRETULA_TEST_LEDGER_COUNT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		count, err := strconv.Atoi(os.Getenv(childCount))
		if err == nil {
			err = writeForever(dir, count)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// opened is all that a key service keeps in its folder.
type opened struct {
	ledger *Ledger
	log    *audit.Log
	close  func() error
}

// openOrCreate opens what is in dir and makes what is missing, in the order in
// which a crash cannot come between.
func openOrCreate(dir string) (*opened, error) {
	keyPath, storePath := filepath.Join(dir, "keys", "root.key"), filepath.Join(dir, "store", "store.db")
	root, err := rootkey.OpenFile(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		root, err = rootkey.CreateFile(keyPath)
	}
	if err != nil {
		return nil, err
	}
	store, err := bolt.Open(storePath)
	if errors.Is(err, fs.ErrNotExist) {
		store, err = bolt.Create(storePath)
	}
	if err != nil {
		return nil, err
	}
	l, err := Open(ctx, store, root)
	if errors.Is(err, ErrEmpty) {
		l, err = Create(ctx, store, root, Meta{})
	}
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	log, err := audit.Open(ctx, filepath.Join(dir, "audit"), audit.Options{Key: root, StoreID: l.StoreID()})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &opened{l, log, func() error { return errors.Join(log.Close(), store.Close()) }}, nil
}

func contentOf(id string) []byte {
	return bytes.Repeat([]byte(id+" "), 1+len(id)*int(id[len(id)-1]%16))
}

// writeForever writes rows, deletes some, writes an audit record for each, and
// says on standard output what is done.
func writeForever(dir string, count int) error {
	o, err := openOrCreate(dir)
	if err != nil {
		return err
	}
	fmt.Println("open")
	const workers = 8
	errs := make([]error, workers)
	var wg sync.WaitGroup
	run := rand.Uint64()
	for w := range workers {
		wg.Go(func() {
			for i := 0; i < count/workers && errs[w] == nil; i++ {
				errs[w] = o.writeOne(fmt.Sprintf("%x-%d-%d", run, w, i), i%5 == 4)
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, o.close())...)
}

func (o *opened) writeOne(id string, remove bool) error {
	err := o.ledger.Update(ctx, func(tx *Tx) error {
		if _, err := tx.Put("key", id, contentOf(id)); err != nil {
			return err
		}
		_, err := tx.Put("counter", "all", []byte(id))
		return err
	})
	if err != nil {
		return err
	}
	os.Stdout.WriteString("put " + id + "\n")
	if err := o.log.Append(ctx, map[string]string{"decision": id}); err != nil {
		return err
	}
	os.Stdout.WriteString("audit " + id + "\n")
	if !remove {
		return nil
	}
	// What is being deleted may be there or not until it is said to be gone.
	os.Stdout.WriteString("deleting " + id + "\n")
	if err := o.ledger.Update(ctx, func(tx *Tx) error { return tx.Delete("key", id) }); err != nil {
		return err
	}
	os.Stdout.WriteString("deleted " + id + "\n")
	return nil
}

// checkAcknowledged opens dir and looks for all that output says was done.
func checkAcknowledged(t *testing.T, dir string, output []byte) (done int) {
	t.Helper()
	o, err := openOrCreate(dir)
	if err != nil {
		t.Errorf("%s: %v", dir, err)
		return 0
	}
	defer func() {
		if err := o.close(); err != nil {
			t.Error(err)
		}
	}()
	_, findings, err := o.ledger.Verify(ctx)
	if err != nil || len(findings) > 0 {
		t.Errorf("Verify: %v, %v", findings, err)
	}
	records := readDecisions(t, o.log)
	want := make(map[string]bool)
	lines := strings.SplitAfter(string(output), "\n")
	for _, line := range lines {
		what, id, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case !strings.HasSuffix(line, "\n"):
		case what == "audit":
			done++
			if !records[id] {
				t.Errorf("the audit record of %s is lost", id)
			}
		case what == "put":
			done++
			want[id] = true
		case what == "deleting":
			delete(want, id)
		case what == "deleted":
			done++
			want[id] = false
		}
	}
	checkRows(t, o.ledger, want)
	return done
}

func readDecisions(t *testing.T, log *audit.Log) map[string]bool {
	t.Helper()
	r, err := log.Reader()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for {
		e, err := r.Next()
		if err != nil {
			return found
		}
		found[strings.Split(string(e.Event), `"`)[3]] = true
	}
}

func checkRows(t *testing.T, l *Ledger, want map[string]bool) {
	t.Helper()
	err := l.View(ctx, func(tx *Tx) error {
		for id, there := range want {
			content, _, err := tx.Get("key", id)
			if there && (err != nil || !bytes.Equal(content, contentOf(id))) {
				t.Errorf("row %s is lost: %v", id, err)
			}
			if !there && err == nil {
				t.Errorf("row %s is there again", id)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func child(dir string, count int) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, childCount+"="+strconv.Itoa(count))
	cmd.Stderr = os.Stderr
	return cmd
}

// TestKill ends the program with SIGKILL again and again, at any moment, and
// lets it go on with what is left.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	rounds := 12
	if os.Getenv("CRETULA_LONG") == "1" {
		rounds = 50
	}
	var said []byte // by all rounds, in whole lines
	for range rounds {
		cmd := child(dir, 1<<30)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(rand.IntN(120))*time.Millisecond, func() { cmd.Process.Kill() })
		var output bytes.Buffer
		bufio.NewReader(out).WriteTo(&output)
		cmd.Wait()
		timer.Stop()
		said = append(said, output.Bytes()[:bytes.LastIndexByte(output.Bytes(), '\n')+1]...)
		checkAcknowledged(t, dir, said)
	}
	done := checkAcknowledged(t, dir, said)
	t.Logf("%d acknowledgements in %d rounds", done, rounds)
	if done == 0 {
		t.Error("nothing was acknowledged")
	}
}

// TestPowerCut loses what was not fsynced, at many moments.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	cmd := child(filepath.Join(dir, "data"), 80)
	trace := crashtest.Run(t, cmd, dir)
	if got := bytes.Count(trace.Output(trace.Len()), []byte("put ")); got != 80 {
		t.Fatalf("the program wrote %d rows, want 80", got)
	}
	cuts := 60
	if os.Getenv("CRETULA_LONG") == "1" {
		cuts = min(trace.Len(), 400)
	}
	done := 0
	for i := range cuts + 1 {
		cut := trace.Len() * i / cuts
		for _, seed := range []uint64{crashtest.Strict, uint64(cut) + 1, uint64(cut) + 1e6} {
			restored := filepath.Join(trace.Restore(t, cut, seed), "data")
			done += checkAcknowledged(t, restored, trace.Output(cut))
			if t.Failed() {
				t.Fatalf("cut %d of %d, seed %d: %s", cut, trace.Len(), seed, restored)
			}
			os.RemoveAll(restored)
		}
	}
	t.Logf("%d events, %d cuts, %d acknowledgements", trace.Len(), cuts+1, done)
}

// TestPowerCutNotices makes sure that the test above would notice: without the
// last fsyncs, acknowledged rows are missing.
func TestPowerCutNotices(t *testing.T) {
	dir := t.TempDir()
	trace := crashtest.Run(t, child(filepath.Join(dir, "data"), 8), dir)
	// What was said at the end, with the folder of half-way.
	restored := filepath.Join(trace.Restore(t, trace.Len()/2, crashtest.Strict), "data")
	o, err := openOrCreate(restored)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	said := bytes.Count(trace.Output(trace.Len()), []byte("audit "))
	if got := len(readDecisions(t, o.log)); got >= said {
		t.Errorf("%d records half-way, %d at the end", got, said)
	}
}
