// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func indexOf(dir string, first uint64) string {
	return filepath.Join(dir, segment{first: first}.indexName())
}

// Every record is found in closed segments and the open one, with its index, without
// it, and with one that is wrong: that is made anew.
func TestIndex(t *testing.T) {
	dir, _ := newSample(t, 45)
	good, err := os.ReadFile(indexOf(dir, 11))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(indexOf(dir, 21))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(good)
	changed[indexHeader+3] ^= 1
	forged := encodeIndex(nil, segment{first: 11, size: 10 * int64(len(good))}, nil)
	pointing := bytes.Clone(good) // the entries lead to other records
	copy(pointing[indexHeader+8:], good[indexHeader+entrySize+8:indexHeader+2*entrySize])
	for name, text := range map[string][]byte{
		"there": good, "missing": nil, "empty": {}, "short": good[:len(good)-5], "longer": append(bytes.Clone(good), 0), "another segment's": other,
		"a bit changed": changed, "forged": forged, "of text": []byte(strings.Repeat("x", len(good))), "leading elsewhere": pointing,
		"long": make([]byte, 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			if text == nil {
				os.Remove(indexOf(dir, 11))
			} else if err := os.WriteFile(indexOf(dir, 11), text, 0o600); err != nil {
				t.Fatal(err)
			}
			l := mustOpen(t, dir)
			for i := 1; i <= 45; i++ {
				id := fmt.Sprintf("d-%03d", i)
				if e, err := l.Find(ctx, id); err != nil || e.Seq != uint64(i) || decisionOf(e.Event) != id {
					t.Errorf("%s: record %d, %v", id, e.Seq, err)
				}
			}
			if _, err := l.Find(ctx, "d-046"); !errors.Is(err, ErrNotFound) {
				t.Errorf("unknown: %v", err)
			}
			l.Close()
			if again, err := os.ReadFile(indexOf(dir, 11)); err != nil || !bytes.Equal(again, good) {
				t.Errorf("the index is not as it was (%v)", err)
			}
		})
	}
}

// What an index leads to is checked: a record that was edited is not handed out.
func TestFindChecks(t *testing.T) {
	dir, _ := newSample(t, 45)
	for record, place := range map[int]int{11: -4, 14: -4, 16: len(`{"seq":16,"synced":15,"event":{"decision":"d-01`), 18: 0} {
		rewrite(t, dir, record, func(lines [][]byte, i int) [][]byte {
			if place < 0 {
				place += len(lines[i])
			}
			lines[i][place] ^= 1
			return lines
		})
	}
	l := mustOpen(t, dir)
	for _, id := range []string{"d-011", "d-014", "d-016", "d-018"} {
		damage := new(DamagedError)
		if e, err := l.Find(ctx, id); !errors.As(err, &damage) || e.Event != nil {
			t.Errorf("%s: %s, %v", id, e.Event, err)
		}
	}
	if e, err := l.Find(ctx, "d-013"); err != nil || e.Seq != 13 {
		t.Errorf("its neighbour: %v", err)
	}
}

// An id that nobody knows costs no look at the segments: they are gone.
func TestUnknownIDReadsNoSegment(t *testing.T) {
	dir, _ := newSample(t, 45)
	l := mustOpen(t, dir)
	for _, first := range []uint64{1, 11, 21, 31} {
		if err := os.WriteFile(segmentOf(t, dir, first), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		if _, err := l.Find(ctx, fmt.Sprintf("unknown-%d", i)); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	// Nor does it without the key.
	for i := range 100 {
		if _, err := Find(ctx, dir, fmt.Sprintf("unknown-%d", i)); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
}

// The newest of two records of one decision is found.
func TestFindNewest(t *testing.T) {
	dir := newPath(t)
	o := testOptions()
	o.SegmentBytes = 500
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i := range 40 {
		l.mustAppend(t, event{Decision: fmt.Sprintf("d-%d", i/2), Text: fmt.Sprint(i)})
		if e, err := l.Find(ctx, fmt.Sprintf("d-%d", i/2)); err != nil || e.Seq != uint64(i+1) {
			t.Errorf("d-%d: %d, %v", i/2, e.Seq, err)
		}
	}
	for i := range 20 {
		for name, find := range map[string]func() (Entry, error){
			"log":    func() (Entry, error) { return l.Find(ctx, fmt.Sprintf("d-%d", i)) },
			"folder": func() (Entry, error) { return Find(ctx, dir, fmt.Sprintf("d-%d", i)) },
		} {
			if e, err := find(); err != nil || e.Seq != uint64(2*i+2) {
				t.Errorf("%s, d-%d: %d, %v", name, i, e.Seq, err)
			}
		}
	}
	if _, err := Find(ctx, t.TempDir(), "d-1"); !errors.Is(err, ErrNone) {
		t.Errorf("no log: %v", err)
	}
}

// A reader goes on while records are written and segments begin, end and go.
func TestReaderFollows(t *testing.T) {
	dir := newPath(t)
	o := testOptions()
	o.SegmentBytes = 300
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := NewReader(dir)
	defer r.Close()
	for i := range 30 {
		if _, err := r.Next(); err != io.EOF {
			t.Fatalf("at the end: %v", err)
		}
		for range i%3 + 1 {
			l.mustAppend(t, event{Decision: fmt.Sprint(i)})
		}
		for range i%3 + 1 {
			if e, err := r.Next(); err != nil || decisionOf(e.Event) != fmt.Sprint(i) {
				t.Fatalf("%d: %s, %v", i, e.Event, err)
			}
		}
	}
	var back []string
	err = Backward(ctx, dir, func(e Entry, err error) bool {
		if err != nil {
			t.Error(err)
		}
		back = append(back, decisionOf(e.Event))
		return len(back) < 50
	})
	if err != nil || len(back) != 50 || back[0] != "29" || back[49] != "5" {
		t.Errorf("%v, %q", err, back)
	}
}

// A line that is not whole yet is none; one that never will be is damage, behind which
// reading goes on.
func TestReaderDamage(t *testing.T) {
	dir, file := writeLog(t, logOf(1, 1, 1, 1))
	lines := bytes.SplitAfter(logOf(1, 1, 1, 1), []byte("\n"))
	write := func(text ...[]byte) {
		t.Helper()
		if err := os.WriteFile(file, bytes.Join(text, nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(lines[0], lines[1][:30])
	r := NewReader(dir)
	defer r.Close()
	next := func(seq uint64, damaged bool) {
		t.Helper()
		e, err := r.Next()
		if seq > 0 && err == io.EOF { // of the time before the last write
			e, err = r.Next()
		}
		damage := new(DamagedError)
		switch {
		case seq == 0 && err != io.EOF:
			t.Errorf("%d, %v, want the end", e.Seq, err)
		case seq > 0 && damaged && (!errors.As(err, &damage) || damage.Seq != seq):
			t.Errorf("%d, %v, want damage at %d", e.Seq, err, seq)
		case seq > 0 && !damaged && (err != nil || e.Seq != seq):
			t.Errorf("%d, %v, want %d", e.Seq, err, seq)
		}
	}
	next(1, false)
	next(0, false)
	write(lines[0], lines[1])
	next(2, false)
	write(lines[0], lines[1], []byte("nonsense\n"), lines[3])
	next(3, true)
	next(4, false)
	next(0, false)
	if err := os.WriteFile(filepath.Join(dir, segment{first: 7}.name()), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next(5, true)
	next(0, false)
}

func TestDecisionOf(t *testing.T) {
	for event, want := range map[string]string{
		`{"decision":"d-1"}`: "d-1", `{"a":{"decision":"no"},"decision":"d-1"}`: "d-1", `{"a":["decision","x"]}`: "", `{"a":"decision","b":"x"}`: "",
		`{"decision":5}`: "", `{"decision":"a\"b"}`: `a"b`, `{"a\"":"decision","decision":"x"}`: "x", `{"decision":"\u0064"}`: "d", `{}`: "",
		`{"decision":["a"]}`: "", `{"x":"\\","decision":"y"}`: "y", `{ "decision" : "z" }`: "z", `{"Decision":"z"}`: "",
	} {
		if got := decisionOf([]byte(event)); got != want {
			t.Errorf("%s: %q, want %q", event, got, want)
		}
	}
}

// FuzzDecisionOf compares with encoding/json.
func FuzzDecisionOf(f *testing.F) {
	for _, seed := range []string{`{"decision":"d-1","b":[{"decision":"x"}],"c":"\"}"}`, `{"a":"\\","decision":""}`, `{"decision":"a","decision":"b"}`} {
		if !json.Valid([]byte(seed)) {
			f.Fatal("a seed is no JSON")
		}
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		got := decisionOf(event)
		var members map[string]any
		if json.Unmarshal(event, &members) != nil || bytes.IndexByte(event, '\\') >= 0 || !json.Valid(event) {
			return
		}
		if want, _ := members["decision"].(string); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// FuzzIndex looks things up in any bytes: no panic, and what is returned is bounded.
func FuzzIndex(f *testing.F) {
	s := segment{first: 1, size: 1000}
	seed := encodeIndex(testKeys, s, []indexEntry{{hashOf("a"), 0}, {hashOf("b"), 100}, {hashOf("b"), 200}})
	x, err := openIndex(bytes.NewReader(seed), int64(len(seed)), s)
	if err != nil || !x.authentic(testKeys) {
		f.Fatal("the seed is no index")
	}
	f.Add(seed)
	f.Add(encodeIndex(nil, s, nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := openIndex(bytes.NewReader(text), int64(len(text)), s)
		if err != nil {
			return
		}
		for _, id := range []string{"a", "b", ""} {
			offsets, err := x.offsets(hashOf(id), maxSameHash)
			if err != nil || len(offsets) > maxSameHash {
				t.Errorf("%d, %v", len(offsets), err)
			}
		}
		if x.authentic(testKeys) && !bytes.Equal(text, seed) {
			t.Error("authentic, but another one")
		}
	})
}

// FuzzVerify verifies any segment and any heads: no panic, and only the log that was
// written is free of findings.
func FuzzVerify(f *testing.F) {
	whole := logOf(2, 3)
	head := Head{Kind: KindHead, Store: testStore, Chain: testKeys.chain, Server: "one", Count: 5, Time: time.Unix(2e9, 0)}
	m, _ := macOf(bytes.TrimSuffix(whole, []byte("\n"))[len(whole)-1-trailer:])
	head.MAC = m
	head.sign(testKeys.signer)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	f.Add(whole, head.Text())
	f.Add(bytes.Join([][]byte{lines[0], lines[2], lines[1], lines[4]}, nil), append(head.Text(), '\n'))
	f.Add(bytes.Join([][]byte{lines[1], lines[1], []byte("x\n"), lines[3]}, nil), []byte("x\n"))
	dir, file := writeLog(f, whole)
	if r := mustVerify(f, dir, sampleOptions(head)); r.Err() != nil || r.Last != 5 {
		f.Fatalf("the seed does not verify: %v", r.Findings)
	}
	f.Fuzz(func(t *testing.T, text, heads []byte) {
		if err := errors.Join(os.WriteFile(file, text, 0o600), os.WriteFile(filepath.Join(dir, headsFile), heads, 0o600)); err != nil {
			t.Fatal(err)
		}
		r := mustVerify(t, dir, sampleOptions(head))
		if len(r.Findings) == 0 && (!bytes.HasPrefix(text, whole) || r.Last != 5) {
			t.Errorf("nothing found in %q", text)
		}
	})
}

func TestSortByHash(t *testing.T) {
	for _, n := range []int{0, 1, 2, 300, 5000} {
		entries := make([]indexEntry, n)
		for i := range entries {
			hash := rand.Uint64()
			switch i % 4 {
			case 1:
				hash %= 4 // many with one hash
			case 2:
				hash <<= 60
			}
			entries[i] = indexEntry{hash, int64(i)}
		}
		want := slices.Clone(entries)
		slices.SortFunc(want, func(a, b indexEntry) int {
			return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.offset, b.offset))
		})
		if sortByHash(entries); !slices.Equal(entries, want) {
			t.Errorf("%d entries: not sorted", n)
		}
	}
}
