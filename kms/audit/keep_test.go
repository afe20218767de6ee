// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// headsIn returns the heads of a folder.
func headsIn(t testing.TB, dir string) (all []Head) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, headsFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		h, err := ParseHead(line)
		if err != nil || !h.Verify(testKeys.public()) {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, h)
	}
	return all
}

// Heads are written at intervals, after so many records and at the end, each time
// only if there is something new.
func TestHeads(t *testing.T) {
	dir, known := newPath(t), &memoryHeads{}
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		o.Heads, o.HeadInterval, o.HeadRecords = known, time.Minute, 5
		l, err := Open(ctx, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		counts := func(want ...uint64) {
			t.Helper()
			synctest.Wait()
			var got []uint64
			for _, h := range headsIn(t, dir) {
				got = append(got, h.Count)
			}
			if !slices.Equal(got, want) {
				t.Errorf("heads of %d records, want %d", got, want)
			}
			if n := len(want); n > 0 && known.known(t)[0].Count != want[n-1] {
				t.Errorf("the store has a head of %d", known.known(t)[0].Count)
			}
		}
		time.Sleep(5 * time.Minute)
		counts()
		l.mustAppend(t, event{})
		counts()
		time.Sleep(5 * time.Minute)
		counts(1)
		for range 5 {
			l.mustAppend(t, event{})
		}
		counts(1, 6)
		l.mustAppend(t, event{})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		counts(1, 6, 7)
		if l, err = Open(ctx, dir, o); err != nil {
			t.Fatal(err)
		}
		l.Close()
		counts(1, 6, 7)
	})
}

// A store of heads that fails is told of, and tried again.
func TestHeadStoreFails(t *testing.T) {
	dir, known := newPath(t), &memoryHeads{}
	synctest.Test(t, func(t *testing.T) {
		var failures atomic.Int32
		o := testOptions()
		o.Heads, o.HeadInterval, o.Failed = known, time.Minute, func(error) { failures.Add(1) }
		l, err := Open(ctx, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		known.mu.Lock()
		known.fail = errDisk
		known.mu.Unlock()
		l.mustAppend(t, event{})
		time.Sleep(150 * time.Second)
		if failures.Load() != 2 || len(headsIn(t, dir)) != 1 {
			t.Errorf("%d failures", failures.Load())
		}
		known.mu.Lock()
		known.fail = nil
		known.mu.Unlock()
		time.Sleep(time.Minute)
		if failures.Load() != 2 || known.known(t)[0].Count != 1 {
			t.Errorf("%d failures", failures.Load())
		}
		known.mu.Lock()
		known.fail = errDisk
		known.mu.Unlock()
		l.mustAppend(t, event{})
		if err := l.Close(); !errors.Is(err, errDisk) {
			t.Errorf("Close: %v", err)
		}
	})
}

func TestHeadsFileStaysShort(t *testing.T) {
	l := mustOpen(t, newPath(t))
	for i := range 3000 {
		l.keeper.mu.Lock()
		if i == 10 {
			if err := l.keeper.put(Head{Kind: KindAnchor, Count: 1, MAC: mac{1}}); err != nil {
				t.Fatal(err)
			}
		}
		if l.keeper.size < maxHeads-2000 { // as if so many were there
			text := bytes.Repeat(append(l.keeper.chain.Text(), '\n'), 2000)
			if err := os.WriteFile(l.keeper.path, append(text, l.keeper.anchor.Text()...), 0o600); err != nil {
				t.Fatal(err)
			}
			l.keeper.size = int64(len(text))
		}
		err := l.keeper.put(Head{Kind: KindHead, Count: uint64(i + 1)})
		l.keeper.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if i == 100 {
			break
		}
	}
	if info, err := os.Stat(l.keeper.path); err != nil || info.Size() > maxHeads {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	heads := headsIn(t, l.dir)
	if last := heads[len(heads)-1]; last.Count != 101 {
		t.Errorf("the newest has %d", last.Count)
	}
	l.keeper.newest = l.keeper.chain
}

// Retention removes whole segments, by size and by age, never the newest, and what is
// left can still be verified.
func TestRetention(t *testing.T) {
	for name, test := range map[string]struct {
		retention Retention
		old       int // of so many segments the last record is a day old
		removed   uint64
		cause     string
	}{
		"nothing":         {Retention{Age: 48 * time.Hour, Bytes: 1 << 30}, 5, 0, ""},
		"of age":          {Retention{Age: 12 * time.Hour}, 3, 30, "age"},
		"all but one":     {Retention{Age: 12 * time.Hour}, 5, 40, "age"},
		"to one segment":  {Retention{Bytes: 1}, 0, 40, "size"},
		"to some of size": {Retention{Bytes: 4000}, 0, 20, "size"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, known := newSample(t, 45)
			for i := range test.old {
				day := time.Now().Add(-24 * time.Hour)
				if err := os.Chtimes(segmentOf(t, dir, uint64(10*i+1)), day, day); err != nil {
					t.Fatal(err)
				}
			}
			o := testOptions()
			o.Heads, o.Retention = known, test.retention
			l, err := Open(ctx, dir, o)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := l.keeper.retain(ctx); err != nil {
				t.Fatal(err)
			}
			o2 := sampleOptions(known.known(t)...)
			r := mustVerify(t, dir, o2)
			if r.Err() != nil || r.Removed.Count != test.removed || r.First != test.removed+1 {
				t.Errorf("%v: removed %d, first %d", r.Findings, r.Removed.Count, r.First)
			}
			if test.removed == 0 {
				return
			}
			if r.Last != 46 || r.Removed.Kind != KindAnchor {
				t.Errorf("last %d, %+v", r.Last, r.Removed)
			}
			// It is on record.
			var last Entry
			for reader := NewReader(dir); ; {
				e, err := reader.Next()
				if err != nil {
					reader.Close()
					break
				}
				last = e
			}
			var removal Removal
			if err := json.Unmarshal(last.Event, &removal); err != nil || removal.First != 1 || removal.Through != test.removed ||
				removal.Segments != int(test.removed/10) || removal.Cause != test.cause || removal.Bytes == 0 {
				t.Errorf("%s, %v", last.Event, err)
			}
			// Nothing is left to remove; what is gone is not found, the rest is.
			if err := l.keeper.retain(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Find(ctx, "d-001"); !errors.Is(err, ErrNotFound) {
				t.Errorf("d-001: %v", err)
			}
			if e, err := l.Find(ctx, "d-041"); err != nil || e.Seq != 41 {
				t.Errorf("d-041: %v", err)
			}
			if e, err := l.Find(ctx, fmt.Sprintf("d-%03d", test.removed+1)); err != nil || e.Seq != test.removed+1 {
				t.Errorf("the first that stays: %v", err)
			}
			l.Close()
			again := mustOpen(t, dir)
			again.mustAppend(t, event{Decision: "again"})
			again.Close()
			// Who removes more, or the anchor, is found out.
			segments, _ := listSegments(dir)
			if len(segments) > 1 {
				os.Remove(filepath.Join(dir, segments[0].name()))
				if r := mustVerify(t, dir, o2); len(r.Findings) != 1 || r.Findings[0].Problem != Missing || r.Findings[0].From != test.removed+1 {
					t.Errorf("more removed: %v", r.Findings)
				}
			}
			forget(dir)
			if r := mustVerify(t, dir, o2); len(r.Findings) == 0 || r.Findings[0].Problem != Missing || r.Findings[0].From != 1 {
				t.Errorf("without the anchor: %v", r.Findings)
			}
		})
	}
}

// A segment that was tampered with is not removed: it is the evidence.
func TestRetentionKeepsEvidence(t *testing.T) {
	dir, known := newSample(t, 45)
	rewrite(t, dir, 14, func(lines [][]byte, i int) [][]byte {
		lines[i] = bytes.Replace(lines[i], []byte("d-014"), []byte("d-999"), 1)
		return lines
	})
	o := testOptions()
	o.Heads, o.Retention = known, Retention{Bytes: 1}
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	damage := new(DamagedError)
	if err := l.keeper.retain(ctx); !errors.As(err, &damage) || damage.Seq != 14 {
		t.Errorf("retain: %v", err)
	}
	segmentOf(t, dir, 1)
	if r := mustVerify(t, dir, sampleOptions()); len(r.Findings) != 1 || r.Removed.Count != 0 {
		t.Errorf("%v", r.Findings)
	}
}

// A removal that a crash has interrupted is no damage, and is completed.
func TestInterruptedRemoval(t *testing.T) {
	dir, _ := newSample(t, 45)
	o := testOptions()
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := os.ReadFile(segmentOf(t, dir, 21))
	if err != nil {
		t.Fatal(err)
	}
	l.options.Retention = Retention{Bytes: 1}
	if err := l.keeper.retain(ctx); err != nil {
		t.Fatal(err)
	}
	l.Close()
	os.WriteFile(filepath.Join(dir, segment{first: 21}.name()), saved, 0o600)
	os.WriteFile(filepath.Join(dir, segment{first: 31}.name()), saved, 0o600)
	if r := mustVerify(t, dir, sampleOptions()); r.Err() != nil || r.First != 41 {
		t.Errorf("%v", r.Findings)
	}
	mustOpen(t, dir).Close()
	if segments, err := listSegments(dir); err != nil || len(segments) != 1 || segments[0].first != 41 {
		t.Errorf("%v, %v", segments, err)
	}
}

// Where the removal cannot be recorded nothing is removed.
func TestRetentionNeedsItsRecord(t *testing.T) {
	dir, _ := newSample(t, 45)
	o := testOptions()
	o.Retention, o.RemovalEvent = Retention{Bytes: 1}, func(Removal) (any, error) { return nil, errDisk }
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.keeper.retain(ctx); !errors.Is(err, errDisk) {
		t.Errorf("retain: %v", err)
	}
	l.options.RemovalEvent = nil
	f := &faulty{file: l.open.file}
	f.writeErr.Store(&errDisk)
	l.open.file = f
	if err := l.keeper.retain(ctx); !errors.Is(err, ErrUnavailable) {
		t.Errorf("retain: %v", err)
	}
	segmentOf(t, dir, 1)
	f.writeErr.Store(nil)
}

// TestGroupCommitRatio counts in time that stands still but for syncs of 5 ms: 64
// callers get at least 15 times as much done by each as one does.
func TestGroupCommitRatio(t *testing.T) {
	const rounds = 20
	syncs := func(clients int) (n int64) {
		dir := newPath(t)
		synctest.Test(t, func(t *testing.T) {
			l := mustOpen(t, dir)
			f := &faulty{file: l.open.file, syncTime: 5 * time.Millisecond}
			l.open.file = f
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for range rounds {
						l.mustAppend(t, event{Decision: "d"})
					}
				})
			}
			wg.Wait()
			n = f.syncs.Load()
			l.Close()
		})
		return n
	}
	if n := syncs(1); n != rounds {
		t.Errorf("one caller: %d syncs for %d records", n, rounds)
	}
	n := syncs(64)
	if perSync := float64(64*rounds) / float64(n); perSync < 16 {
		t.Errorf("%d syncs for %d records, %.1f each, want 16 or more", n, 64*rounds, perSync)
	}
	t.Logf("64 callers: %d syncs for %d records", n, 64*rounds)
}

// Once all have come that were there before, nobody is kept waiting any more: in time
// that stands still but for syncs and what callers do in between, a round takes as long
// as the slowest caller and one sync.
func TestGatherEndsWithLast(t *testing.T) {
	dir := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		const clients, warm, rounds, syncTime = 64, 4, 10, 5 * time.Millisecond
		l := mustOpen(t, dir)
		f := &faulty{file: l.open.file, syncTime: syncTime}
		l.open.file = f
		pause := func(client int) time.Duration { return time.Duration(client) * 7 * time.Microsecond }
		var wg sync.WaitGroup
		for client := range clients {
			wg.Go(func() {
				var began time.Time
				for round := range warm + rounds + warm {
					switch round {
					case warm:
						began = time.Now()
					case warm + rounds:
						if took, want := time.Since(began), rounds*(pause(clients-1)+syncTime); took != want {
							t.Errorf("caller %d: %v, want %v", client, took, want)
						}
					}
					time.Sleep(pause(client))
					l.mustAppend(t, event{})
				}
			})
		}
		wg.Wait()
		l.Close()
	})
}

// One caller alone is never kept waiting for others: in time that stands still its
// records take none.
func TestLoneCaller(t *testing.T) {
	dir := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, dir)
		began := time.Now()
		for range 100 {
			l.mustAppend(t, event{})
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("%v passed", took)
		}
		l.Close()
	})
}

func TestRotationFails(t *testing.T) {
	l := mustOpen(t, newPath(t))
	l.options.SegmentBytes = 100
	create := l.create
	l.create = func(string) (file, error) { return nil, errDisk }
	l.mustAppend(t, event{Decision: "first"})
	wantUnavailable(t, l)
	wantUnavailable(t, l)
	l.create = create
	l.mustAppend(t, event{Decision: "second"})
	if got := decisions(t, l); strings.Join(got, " ") != "first second" {
		t.Errorf("records %q", got)
	}
	if segments, err := listSegments(l.dir); err != nil || len(segments) != 2 {
		t.Errorf("%v, %v", segments, err)
	}
}

// A segment that could not be begun, but whose file was made, is in nobody's way: the
// record after it goes to the segment before, and the log is opened again as it was.
func TestRotationFailsHalfway(t *testing.T) {
	for _, removed := range []bool{true, false} {
		dir := newPath(t)
		l := mustOpen(t, dir)
		create := l.create
		l.create = func(path string) (file, error) {
			f, err := create(path)
			if err == nil && !removed {
				// A crash brings a name back whose removal was not yet durable.
				t.Cleanup(func() { f.Close() })
				err = os.Rename(path, path+".back")
			}
			return nil, errors.Join(err, errDisk)
		}
		l.mustAppend(t, event{Decision: "first"})
		l.options.SegmentBytes = l.open.size + 300
		if err := l.Append(ctx, event{Decision: "large", Text: strings.Repeat("x", 300)}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("no new segment: %v", err)
		}
		l.mustAppend(t, event{Decision: "second"})
		if !removed {
			path := filepath.Join(dir, segment{first: 2}.name())
			if err := os.Rename(path+".back", path); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, dir)
		l.mustAppend(t, event{Decision: "third"})
		if got := decisions(t, l); strings.Join(got, " ") != "first second third" {
			t.Errorf("records %q", got)
		}
		if segments, err := listSegments(dir); err != nil || len(segments) != 1 {
			t.Errorf("%v, %v", segments, err)
		}
		if r := mustVerify(t, dir, VerifyOptions{Key: testKey("root")}); r.Err() != nil {
			t.Error(r.Err())
		}
	}
}

// Where old records go a segment ends with time, however little is written.
func TestSegmentAge(t *testing.T) {
	dir := newPath(t)
	synctest.Test(t, func(t *testing.T) {
		o := testOptions()
		o.Retention = Retention{Age: 30 * 24 * time.Hour}
		l, err := Open(ctx, dir, o)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			l.mustAppend(t, event{})
			time.Sleep(25 * time.Hour)
		}
		l.Close()
	})
	if segments, err := listSegments(dir); err != nil || len(segments) != 5 {
		t.Errorf("%d segments, %v", len(segments), err)
	}
}

func TestReaderFrom(t *testing.T) {
	dir, _ := newSample(t, 45)
	for _, from := range []uint64{0, 1, 9, 10, 11, 41, 45, 46} {
		r := NewReaderFrom(dir, from)
		for want := max(from, 1); want <= 45; want++ {
			if e, err := r.Next(); err != nil || e.Seq != want {
				t.Errorf("from %d: %d, %v, want %d", from, e.Seq, err, want)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("from %d: %v", from, err)
		}
		r.Close()
	}
}
