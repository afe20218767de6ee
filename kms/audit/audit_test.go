// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/durable"
)

var ctx = context.Background()

type event struct {
	Decision string `json:"decision,omitempty"`
	Text     string `json:"text,omitempty"`
}

// testKey is a root key for tests.
type testKey string

func (k testKey) Derive(label string) ([]byte, error) {
	sum := sha256.Sum256([]byte(string(k) + label))
	return sum[:], nil
}

const testStore = "0123456789abcdef0123456789abcdef"

func testOptions() Options {
	return Options{Key: testKey("root"), StoreID: testStore, Server: "one", Emulated: true, HeadInterval: time.Hour}
}

func openLog(path string) (*Log, error) { return Open(ctx, path, testOptions()) }

func mustOpen(t testing.TB, path string) *Log {
	t.Helper()
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "d", "audit") }

// firstSegment is the path of the oldest segment of a new log.
func firstSegment(path string) string { return filepath.Join(path, segment{first: 1}.name()) }

func (l *Log) mustAppend(t testing.TB, e any) {
	t.Helper()
	if err := l.Append(ctx, e); err != nil {
		t.Error(err)
	}
}

// decisions returns the decision ids of the log, in order.
func decisions(t testing.TB, l *Log) []string {
	t.Helper()
	r, err := l.Reader()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for seq := uint64(1); ; seq++ {
		e, err := r.Next()
		if err == io.EOF {
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("Next after the end: %v", err)
			}
			return got
		}
		if err != nil || e.Seq != seq {
			t.Fatalf("Next = %d, %v, want %d", e.Seq, err, seq)
		}
		got = append(got, decisionOf(e.Event))
	}
}

func TestAppend(t *testing.T) {
	path := newPath(t)
	var want []string
	for round := range 3 {
		l := mustOpen(t, path)
		if cut, ok := l.Cut(); ok {
			t.Errorf("something was cut: %+v", cut)
		}
		if got := decisions(t, l); !slices.Equal(got, want) {
			t.Errorf("records %q, want %q", got, want)
		}
		for i := range 5 {
			id := fmt.Sprintf("d-%d-%d", round, i)
			want = append(want, id)
			l.mustAppend(t, event{Decision: id})
			if e, err := l.Find(ctx, id); err != nil || e.Seq != uint64(len(want)) {
				t.Errorf("Find(%s) = %+v, %v", id, e, err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(firstSegment(path))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if want := `{"seq":1,"synced":0,"event":{"decision":"d-0-0"},"mac":"` + first[len(first)-66:]; first != want {
		t.Errorf("first line %s, want %s", first, want)
	}
	for text := range bytes.Lines(text) {
		var any map[string]any
		if err := json.Unmarshal(text, &any); err != nil || len(any) != 4 {
			t.Errorf("line %s: %v", text, err)
		}
	}
}

func TestPermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permission bits mean nothing on Windows")
	}
	path := newPath(t)
	mustOpen(t, path).Close()
	files := []string{chainFile, headsFile, segment{first: 1}.name()}
	for _, name := range files {
		if info, err := os.Stat(filepath.Join(path, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v (%v)", name, info.Mode(), err)
		}
	}
	for name, want := range map[string]fs.FileMode{path: fs.ModeDir | 0o700, filepath.Dir(path): fs.ModeDir | 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
	for _, name := range files {
		os.Chmod(filepath.Join(path, name), 0o644)
		if _, err := openLog(path); !errors.Is(err, durable.ErrNotPrivate) {
			t.Errorf("%s of mode 0644: %v, want ErrNotPrivate", name, err)
		}
		os.Chmod(filepath.Join(path, name), 0o600)
	}
	os.Chmod(path, 0o750)
	if _, err := openLog(path); !errors.Is(err, durable.ErrNotPrivate) {
		t.Errorf("folder 0750: %v, want ErrNotPrivate", err)
	}
}

func TestInUse(t *testing.T) {
	path := newPath(t)
	l := mustOpen(t, path)
	if _, err := openLog(path); !errors.Is(err, ErrInUse) {
		t.Errorf("second Open: %v, want ErrInUse", err)
	}
	l.Close()
	mustOpen(t, path)
}

func TestBadEvents(t *testing.T) {
	l := mustOpen(t, newPath(t))
	for name, e := range map[string]any{
		"nil": nil, "string": "x", "array": []int{1}, "number": 1, "channel": make(chan int),
		"bad raw": json.RawMessage(`{"a":`), "too long": event{Text: strings.Repeat("x", MaxEvent)},
	} {
		if err := l.Append(ctx, e); !errors.Is(err, ErrEvent) {
			t.Errorf("%s: %v, want ErrEvent", name, err)
		}
	}
	l.mustAppend(t, json.RawMessage("{\n \"decision\": \"a\",\n \"text\": \"<\u2028\\n>\"\n}"))
	l.mustAppend(t, event{Text: strings.Repeat("x", MaxEvent-len(`{"text":""}`))})
	l.mustAppend(t, struct{}{})
	if got := decisions(t, l); !slices.Equal(got, []string{"a", "", ""}) {
		t.Errorf("records %q", got)
	}
}

func TestFind(t *testing.T) {
	l := mustOpen(t, newPath(t))
	large := strings.Repeat("y", 3<<18)
	ids := []string{"a", "b", `quoted "c"`, "<d>", "ü", "b"}
	for i, id := range ids {
		l.mustAppend(t, event{Decision: id, Text: large[:i<<17]})
		l.mustAppend(t, map[string]any{"text": fmt.Sprintf(`"decision":"no-%d"`, i), "inner": map[string]string{"decision": "inner"}})
		l.mustAppend(t, map[string]any{"decision": 5})
	}
	for i, id := range ids {
		want := uint64(3*i + 1)
		if id == "b" {
			want = 16 // the newest
		}
		e, err := l.Find(ctx, id)
		if err != nil || e.Seq != want || decisionOf(e.Event) != id {
			t.Errorf("Find(%q) = record %d, %v, want %d", id, e.Seq, err, want)
		}
	}
	for _, id := range []string{"", "none", "no-1", "inner", "decision", "5"} {
		if e, err := l.Find(ctx, id); !errors.Is(err, ErrNotFound) || e.Event != nil {
			t.Errorf("Find(%q) = %v, %v, want ErrNotFound", id, e, err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.Find(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Find: %v", err)
	}
	if err := l.Append(ended, event{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v", err)
	}
}

// testKeys are those of the chain that logOf and writeLog make.
var testKeys = func() *keys {
	k, err := deriveKeys(testKey("root"), testStore, "00112233445566778899aabbccddeeff")
	if err != nil {
		panic(err)
	}
	return &k
}()

// logOf returns a log of batches of the given sizes.
func logOf(batches ...int) []byte {
	var text []byte
	var seq uint64
	var m mac
	for _, n := range batches {
		synced := seq
		for range n {
			seq++
			text, m = testKeys.appendLine(text, seq, synced, fmt.Appendf(nil, `{"decision":"d%d"}`, seq), m)
		}
	}
	return text
}

// writeLog makes a folder with one segment and returns it and the segment.
func writeLog(t testing.TB, text []byte) (dir, file string) {
	t.Helper()
	dir = newPath(t)
	chain := Head{Kind: KindChain, Store: testStore, Chain: testKeys.chain, Server: "one", Time: time.Unix(1e9, 0)}
	chain.sign(testKeys.signer)
	if err := errors.Join(durable.MkdirAll(dir), os.WriteFile(filepath.Join(dir, chainFile), append(chain.Text(), '\n'), 0o600),
		os.WriteFile(firstSegment(dir), text, 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir, firstSegment(dir)
}

// forget removes the heads, which a later content of the segment need not fit.
func forget(dir string) { os.Remove(filepath.Join(dir, headsFile)) }

// TestTornTail cuts a log at every byte: Open keeps the whole lines before.
func TestTornTail(t *testing.T) {
	text := logOf(1, 2, 1, 2)
	path, file := writeLog(t, nil)
	for n := range len(text) + 1 {
		forget(path)
		if err := os.WriteFile(file, text[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := openLog(path)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		whole := bytes.LastIndexByte(text[:n], '\n') + 1
		cut, was := l.Cut()
		if was != (whole < n) || was && cut != (Cut{Segment: filepath.Base(file), Offset: int64(whole), Bytes: int64(n - whole)}) {
			t.Errorf("%d bytes: cut %+v, %t, want at %d", n, cut, was, whole)
		}
		l.mustAppend(t, event{Decision: "new"})
		if got, want := len(decisions(t, l)), bytes.Count(text[:n], []byte("\n"))+1; got != want {
			t.Errorf("%d bytes: %d records, want %d", n, got, want)
		}
		l.Close()
	}
}

// TestDamage zeroes each byte of a log. In the last batch it is a crash's
// doing; before it is damage, which is named and left as it is.
func TestDamage(t *testing.T) {
	text := logOf(2, 3, 3)
	settled := len(logOf(2, 3))
	path, file := writeLog(t, nil)
	for i := range text {
		forget(path)
		changed := bytes.Clone(text)
		changed[i] = 0
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		start := int64(bytes.LastIndexByte(text[:i], '\n') + 1)
		l, err := openLog(path)
		if i >= settled {
			if err != nil {
				t.Errorf("byte %d of the last batch: %v", i, err)
				continue
			}
			if cut, _ := l.Cut(); cut.Offset != start {
				t.Errorf("byte %d: cut at %d, want %d", i, cut.Offset, start)
			}
			l.Close()
			continue
		}
		wantDamage(t, file, err, start, uint64(bytes.Count(text[:i], []byte("\n"))+1), changed)
	}
}

func wantDamage(t *testing.T, path string, err error, offset int64, seq uint64, content []byte) {
	t.Helper()
	damage, ok := errors.AsType[*DamagedError](err)
	if !ok || damage.Offset != offset || damage.Seq != seq || damage.Why == "" {
		t.Errorf("error %v, want damage at record %d, byte %d", err, seq, offset)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, content) {
		t.Errorf("a damaged log was changed (%v)", err)
	}
}

func TestOtherDamage(t *testing.T) {
	lines := bytes.SplitAfter(logOf(1, 1, 1, 1), []byte("\n"))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for name, test := range map[string]struct {
		text []byte
		seq  uint64
	}{
		"a record removed":      {join(lines[0], lines[2], lines[3]), 2},
		"the first one removed": {join(lines[1], lines[2]), 1},
		"exchanged":             {join(lines[0], lines[2], lines[1], lines[3]), 2},
		"twice":                 {join(lines[0], lines[1], lines[1], lines[2], lines[3]), 3},
		"an empty line":         {join(lines[0], []byte("\n"), lines[1], lines[2]), 2},
		"no log":                {join([]byte("#!/bin/sh\n"), lines[0], lines[1]), 1},
		"a long line":           {join(lines[0], bytes.Repeat([]byte("x"), 3*maxLine), []byte("\n"), lines[1], lines[2]), 2},
	} {
		t.Run(name, func(t *testing.T) {
			path, file := writeLog(t, test.text)
			l, err := openLog(path)
			if err == nil {
				l.Close()
				t.Fatal("opened")
			}
			damage, ok := errors.AsType[*DamagedError](err)
			if !ok || damage.Seq != test.seq {
				t.Errorf("error %v, want damage at record %d", err, test.seq)
			}
			if after, _ := os.ReadFile(file); !bytes.Equal(after, test.text) {
				t.Error("a damaged log was changed")
			}
		})
	}
}

func TestParseLine(t *testing.T) {
	text, m := testKeys.appendLine(nil, 12, 3, []byte(`{"a":1}`), mac{1})
	good := strings.TrimSuffix(string(text), "\n")
	l, err := parseLine([]byte(good))
	if err != nil || l.seq != 12 || l.synced != 3 || string(l.event) != `{"a":1}` || l.mac != m || !testKeys.fits(&l, mac{1}) {
		t.Errorf("parseLine = %+v, %v", l, err)
	}
	if testKeys.fits(&l, mac{2}) {
		t.Error("fits behind another record")
	}
	for i := range good {
		changed := []byte(good)
		changed[i] ^= 1
		if l, err := parseLine(changed); err == nil && testKeys.fits(&l, mac{1}) || err != nil && l.event != nil {
			t.Errorf("byte %d changed: %+v, %v", i, l, err)
		}
		if _, err := parseLine([]byte(good[:i])); err == nil {
			t.Errorf("the first %d bytes are accepted", i)
		}
	}
	for _, test := range []struct {
		seq, synced uint64
		event       string
	}{
		{0, 0, "{}"}, {1, 1, "{}"}, {1, 2, "{}"}, {1, 0, ""}, {1, 0, "1"}, {1, 0, "{"}, {1, 0, "{}{}"}, {1, 0, "[]"},
		{1, 0, `{"a":"` + strings.Repeat("x", MaxEvent) + `"}`},
	} {
		text, _ := testKeys.appendLine(nil, test.seq, test.synced, []byte(test.event), mac{})
		if l, err := parseLine(text[:len(text)-1]); err == nil {
			t.Errorf("accepted: %+v", l)
		}
	}
}

// faulty is a file whose calls can be made to fail or to take time.
type faulty struct {
	file
	writeErr, syncErr, truncateErr atomic.Pointer[error]
	syncTime                       time.Duration
	syncs                          atomic.Int64
}

func failing(p *atomic.Pointer[error]) error {
	if err := p.Load(); err != nil {
		return *err
	}
	return nil
}

func (f *faulty) WriteAt(p []byte, off int64) (int, error) {
	if err := failing(&f.writeErr); err != nil {
		// A full disk takes a part.
		n, _ := f.file.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.file.WriteAt(p, off)
}

func (f *faulty) Sync() error {
	f.syncs.Add(1)
	time.Sleep(f.syncTime)
	if err := failing(&f.syncErr); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *faulty) Truncate(size int64) error {
	if err := failing(&f.truncateErr); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

var errDisk = errors.New("no space left on device")

func openFaulty(t testing.TB) (*Log, *faulty, string) {
	t.Helper()
	path := newPath(t)
	l := mustOpen(t, path)
	f := &faulty{file: l.open.file}
	l.open.file = f
	l.mustAppend(t, event{Decision: "first"})
	return l, f, path
}

func wantUnavailable(t *testing.T, l *Log) {
	t.Helper()
	err := l.Append(ctx, event{Decision: "lost"})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, errDisk) {
		t.Errorf("Append: %v, want ErrUnavailable", err)
	}
}

func TestFullDisk(t *testing.T) {
	l, f, path := openFaulty(t)
	f.writeErr.Store(&errDisk)
	wantUnavailable(t, l)
	wantUnavailable(t, l)
	if got := decisions(t, l); !slices.Equal(got, []string{"first"}) {
		t.Errorf("records %q", got)
	}
	f.writeErr.Store(nil)
	l.mustAppend(t, event{Decision: "second"})
	l.Close()
	if got := decisions(t, mustOpen(t, path)); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("records %q", got)
	}
}

func TestFailedSync(t *testing.T) {
	l, f, path := openFaulty(t)
	f.syncErr.Store(&errDisk)
	wantUnavailable(t, l)
	f.syncErr.Store(nil)
	wantUnavailable(t, l) // until it is opened again
	if got := decisions(t, l); !slices.Equal(got, []string{"first"}) {
		t.Errorf("records %q", got)
	}
	l.Close()
	again := mustOpen(t, path)
	again.mustAppend(t, event{Decision: "second"})
	if got := decisions(t, again); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("records %q", got)
	}
}

func TestFailedCut(t *testing.T) {
	l, f, path := openFaulty(t)
	f.writeErr.Store(&errDisk)
	f.truncateErr.Store(&errDisk)
	wantUnavailable(t, l)
	f.writeErr.Store(nil)
	f.truncateErr.Store(nil)
	wantUnavailable(t, l)
	l.Close()
	again := mustOpen(t, path)
	if _, was := again.Cut(); !was {
		t.Error("the half record was not cut off")
	}
	if got := decisions(t, again); !slices.Equal(got, []string{"first"}) {
		t.Errorf("records %q", got)
	}
}

func TestClose(t *testing.T) {
	l, f, path := openFaulty(t)
	f.syncTime = 20 * time.Millisecond
	var wg sync.WaitGroup
	var acknowledged atomic.Int64
	for range 8 {
		wg.Go(func() {
			switch err := l.Append(ctx, event{Decision: "d"}); {
			case err == nil:
				acknowledged.Add(1)
			case !errors.Is(err, ErrClosed):
				t.Error(err)
			}
		})
	}
	time.Sleep(5 * time.Millisecond)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := l.Append(ctx, event{}); !errors.Is(err, ErrClosed) {
		t.Errorf("Append: %v, want ErrClosed", err)
	}
	if _, err := l.Find(ctx, "d"); !errors.Is(err, ErrClosed) {
		t.Errorf("Find: %v, want ErrClosed", err)
	}
	if _, err := l.Reader(); !errors.Is(err, ErrClosed) {
		t.Errorf("Reader: %v, want ErrClosed", err)
	}
	if got := len(decisions(t, mustOpen(t, path))); int64(got) != acknowledged.Load()+1 {
		t.Errorf("%d records, %d were acknowledged", got, acknowledged.Load()+1)
	}
}

func TestContextEnds(t *testing.T) {
	l, f, _ := openFaulty(t)
	f.syncTime = 50 * time.Millisecond
	waiting, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if err := l.Append(waiting, event{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Append: %v", err)
	}
	l.mustAppend(t, event{Decision: "later"})
}

// TestGroupCommit counts: many waiters share a sync.
func TestGroupCommit(t *testing.T) {
	l, f, _ := openFaulty(t)
	f.syncTime = 5 * time.Millisecond
	before := f.syncs.Load()
	const clients, rounds = 64, 10
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range rounds {
				l.mustAppend(t, event{Decision: fmt.Sprintf("%d-%d", c, i)})
			}
		})
	}
	wg.Wait()
	if syncs := f.syncs.Load() - before; syncs*16 > clients*rounds {
		t.Errorf("%d syncs for %d records, want at most one for 16", syncs, clients*rounds)
	}
	got := decisions(t, l)
	slices.Sort(got)
	if got := slices.Compact(got); len(got) != clients*rounds+1 {
		t.Errorf("%d records, want %d", len(got), clients*rounds+1)
	}
}

func FuzzParseLine(f *testing.F) {
	seeds := uint64(0)
	for text := range bytes.Lines(logOf(1, 2, 3)) {
		if l, err := parseLine(text[:len(text)-1]); err == nil && l.seq == seeds+1 {
			seeds++
		}
		f.Add(text[:len(text)-1])
	}
	if seeds != 6 {
		f.Fatalf("%d of 6 seeds are lines", seeds)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := parseLine(text)
		if err != nil {
			if l.event != nil || l.seq != 0 || l.synced != 0 {
				t.Error("a line with the error")
			}
			return
		}
		again := append(appendBody(nil, l.seq, l.synced, l.event), macMember...)
		again = append(hex.AppendEncode(again, l.mac[:]), lineEnd...)
		if string(again) != string(text)+"\n" {
			t.Errorf("encoded again: %s, was %s", again, text)
		}
	})
}

// FuzzScan opens any content: no panic, and what is accepted can be read.
func FuzzScan(f *testing.F) {
	seeds := [][]byte{logOf(), logOf(1, 3), logOf(1, 3)[:60], append(logOf(2), logOf(3)...), logOf(1, 3)[1:]}
	for i, want := range []uint64{0, 4, 0, 2, 0} { // the last one is refused
		found, err := scanSegment(bytes.NewReader(seeds[i]), int64(len(seeds[i])), testKeys, 1, mac{}, nil)
		if found.last != want || (err == nil) != (i < 4) {
			f.Fatalf("seed %d: %d records, %v", i, found.last, err)
		}
		f.Add(seeds[i])
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		log := bytes.NewReader(text)
		found, err := scanSegment(log, int64(len(text)), testKeys, 1, mac{}, nil)
		if err != nil {
			if found.end != 0 || found.last != 0 || found.index != nil {
				t.Error("a result with the error")
			}
			return
		}
		if uint64(len(found.index)) != found.last {
			t.Errorf("%d entries for %d records", len(found.index), found.last)
		}
		for i, at := range found.index {
			id := fmt.Sprintf("d%d", i+1)
			e, err := readIndexed(log, found.end, at.offset, mac{}, testKeys, id)
			if err != nil || e.Seq != uint64(i+1) || hashOf(id) != at.hash {
				t.Fatalf("record %d: %d, %v", i+1, e.Seq, err)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			l := mustOpen(b, newPath(b))
			e := event{Decision: "d-1234567890", Text: strings.Repeat("x", 1000)}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						l.mustAppend(b, e)
					}
				})
			}
			wg.Wait()
		})
	}
}

// An ownWriter is an event that writes its JSON itself.
type ownWriter struct {
	text string
	err  error
}

func (w ownWriter) AppendJSON(dst []byte) ([]byte, error) { return append(dst, w.text...), w.err }

func TestAppendJSON(t *testing.T) {
	l, err := openLog(newPath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, refused := range []ownWriter{
		{text: ""}, {text: "[]"}, {text: "{\n}"}, {text: "{}\n"}, {text: "{}", err: errors.New("no")},
		{text: `{"x":"` + strings.Repeat("x", MaxEvent) + `"}`},
	} {
		if err := l.Append(t.Context(), refused); !errors.Is(err, ErrEvent) {
			t.Errorf("%.20q: %v, want ErrEvent", refused.text, err)
		}
	}
	long := `{"decision":"d-1","x":"` + strings.Repeat("x", 100_000) + `"}`
	if err := l.Append(t.Context(), ownWriter{text: long}); err != nil {
		t.Fatal(err)
	}
	entry, err := l.Find(t.Context(), "d-1")
	if err != nil || entry.Seq != 1 || string(entry.Event) != long {
		t.Errorf("%v, %d, %d bytes", err, entry.Seq, len(entry.Event))
	}
}
