// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cretula/cretula/reason"
)

// A memoryHeads keeps heads as the ledger does.
type memoryHeads struct {
	mu    sync.Mutex
	heads map[string][]byte
	fail  error
}

func (m *memoryHeads) PutHead(_ context.Context, chain string, head []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.heads == nil {
		m.heads = map[string][]byte{}
	}
	if m.fail == nil {
		m.heads[chain] = head
	}
	return m.fail
}

func (m *memoryHeads) Heads(context.Context) (all [][]byte, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, head := range m.heads {
		all = append(all, head)
	}
	return all, m.fail
}

func (m *memoryHeads) known(t testing.TB) (all []Head) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, text := range m.heads {
		h, err := ParseHead(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h)
	}
	return all
}

// perSegment is how many records of newSample a segment takes.
const perSegment = 10

// newSample makes a log of so many records, in segments of ten, closed well, and
// returns what the store knows of it. Every record has the same length.
func newSample(t testing.TB, count int) (dir string, known *memoryHeads) {
	t.Helper()
	dir, known = newPath(t), &memoryHeads{}
	o := testOptions()
	o.Heads = known
	o.SegmentBytes = perSegment * int64(len(`{"seq":001,"synced":000,"event":{"decision":"d-001"},"mac":""}`)+64+1-4)
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		l.mustAppend(t, event{Decision: fmt.Sprintf("d-%03d", i+1)})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, known
}

func sampleOptions(known ...Head) VerifyOptions {
	return VerifyOptions{Key: testKey("root"), StoreID: testStore, Known: known}
}

func mustVerify(t testing.TB, dir string, o VerifyOptions) *Report {
	t.Helper()
	r, err := Verify(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rewrite changes the lines of the segment that a record is in; i is the place of the
// record there.
func rewrite(t testing.TB, dir string, record int, change func(lines [][]byte, i int) [][]byte) {
	t.Helper()
	segments, err := listSegments(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(segments) - 1; i >= 0; i-- {
		if s := segments[i]; s.first <= uint64(record) {
			name := filepath.Join(dir, s.name())
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			lines := bytes.SplitAfter(text, []byte("\n"))
			lines = change(lines[:len(lines)-1], record-int(s.first))
			if err := os.WriteFile(name, bytes.Join(lines, nil), 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

func segmentOf(t testing.TB, dir string, first uint64) string {
	t.Helper()
	name := filepath.Join(dir, segment{first: first}.name())
	if _, err := os.Stat(name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestVerify(t *testing.T) {
	dir, known := newSample(t, 45)
	calls := 0
	o := sampleOptions(known.known(t)...)
	o.Progress = func(read, total int64) { calls++ }
	r := mustVerify(t, dir, o)
	if r.Err() != nil || len(r.Findings) != 0 || r.First != 1 || r.Last != 45 || r.Records != 45 || !r.MACs || r.Torn != 0 || r.Newest.Count != 45 || r.Heads != 2 || calls == 0 {
		t.Errorf("%+v", r)
	}
	if !r.Chain.Emulated || r.Chain.Server != "one" || r.Chain.Store != testStore || r.Newest.Kind != KindHead {
		t.Errorf("%+v", r)
	}
	public, err := PublicKey(testKey("root"), testStore)
	if err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir, VerifyOptions{Public: public}); r.Err() != nil || r.MACs || r.Last != 45 {
		t.Errorf("with the public key: %+v", r)
	}
	other, _ := PublicKey(testKey("other"), testStore)
	for name, o := range map[string]VerifyOptions{
		"another root key": {Key: testKey("other"), StoreID: testStore}, "another store": {Key: testKey("root"), StoreID: strings.Repeat("f", 32)},
		"another public key": {Public: other}, "no key": {}, "half a key": {Public: ed25519.PublicKey("x")},
	} {
		if _, err := Verify(ctx, dir, o); !errors.Is(err, ErrOtherKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Verify(ctx, t.TempDir(), sampleOptions()); !errors.Is(err, ErrNone) {
		t.Errorf("no log: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Verify(ended, dir, sampleOptions()); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

// What a person can do who can write the folder but has no root key is found, and
// named with the number of the record.
func TestVerifyFindings(t *testing.T) {
	edit := func(old, new string) func([][]byte, int) [][]byte {
		return func(lines [][]byte, i int) [][]byte {
			lines[i] = bytes.Replace(lines[i], []byte(old), []byte(new), 1)
			return lines
		}
	}
	forged := func(record int) []byte { // with a key of the forger's own
		k, _ := deriveKeys(testKey("forger"), testStore, testKeys.chain)
		text, _ := k.appendLine(nil, uint64(record), uint64(record-1), []byte(`{"decision":"forged"}`), mac{})
		return text
	}
	drop := func(n int) func([][]byte, int) [][]byte {
		return func(lines [][]byte, i int) [][]byte { return slices.Delete(lines, i, i+n) }
	}
	remove := func(first uint64) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(segmentOf(t, dir, first)); err != nil {
				t.Fatal(err)
			}
		}
	}
	at := func(record int, change func([][]byte, int) [][]byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) { rewrite(t, dir, record, change) }
	}
	for name, test := range map[string]struct {
		do   func(*testing.T, string)
		want []Finding // Problem, From, To
		exit int
	}{
		"edited":               {at(14, edit("d-014", "d-999")), []Finding{{Problem: Edited, From: 14, To: 14}}, 5},
		"the first edited":     {at(1, edit("d-001", "d-999")), []Finding{{Problem: Edited, From: 1, To: 1}}, 5},
		"the last edited":      {at(45, edit("d-045", "d-999")), []Finding{{Problem: Edited, From: 45, To: 45}}, 5},
		"last of its segment":  {at(20, edit("d-020", "d-999")), []Finding{{Problem: Edited, From: 20, To: 20}}, 5},
		"its synced edited":    {at(14, edit(`"synced":13`, `"synced":12`)), []Finding{{Problem: Edited, From: 14, To: 14}}, 5},
		"its MAC edited":       {at(14, edit(`"mac":"`, `"mac":"00`)), []Finding{{Problem: Unreadable, From: 14, To: 14}}, 3},
		"made unreadable":      {at(14, edit(`"event":{`, `"event":[`)), []Finding{{Problem: Unreadable, From: 14, To: 14}}, 3},
		"missing":              {at(14, drop(1)), []Finding{{Problem: Missing, From: 14, To: 14}}, 7},
		"three missing":        {at(14, drop(3)), []Finding{{Problem: Missing, From: 14, To: 16}}, 7},
		"the first missing":    {at(1, drop(1)), []Finding{{Problem: Missing, From: 1, To: 1}}, 7},
		"last of a segment":    {at(20, drop(1)), []Finding{{Problem: Missing, From: 20, To: 20}}, 7},
		"a segment missing":    {remove(11), []Finding{{Problem: Missing, From: 11, To: 20}}, 7},
		"the first segment":    {remove(1), []Finding{{Problem: Missing, From: 1, To: 10}}, 7},
		"the last segment":     {remove(41), []Finding{{Problem: CutTail, From: 41, To: 45}}, 7},
		"the end cut off":      {at(44, drop(2)), []Finding{{Problem: CutTail, From: 44, To: 45}}, 7},
		"the end made a crash": {at(45, func(l [][]byte, i int) [][]byte { l[i] = l[i][:20]; return l }), []Finding{{Problem: Unreadable, From: 45, To: 45}}, 3},
		"exchanged":            {at(14, func(l [][]byte, i int) [][]byte { l[i], l[i+1] = l[i+1], l[i]; return l }), []Finding{{Problem: Moved, From: 15, To: 15}}, 7},
		"moved far": {at(14, func(l [][]byte, i int) [][]byte {
			return slices.Insert(slices.Delete(slices.Clone(l), i, i+1), i+3, l[i])
		}), []Finding{{Problem: Moved, From: 14, To: 14}}, 7},
		"twice":               {at(14, func(l [][]byte, i int) [][]byte { return slices.Insert(l, i, l[i]) }), []Finding{{Problem: Inserted, From: 14, To: 14}}, 5},
		"inserted":            {at(14, func(l [][]byte, i int) [][]byte { return slices.Insert(l, i, forged(14)) }), []Finding{{Problem: Inserted, From: 14, To: 14}}, 5},
		"a stranger inserted": {at(14, func(l [][]byte, i int) [][]byte { return slices.Insert(l, i, forged(99)) }), []Finding{{Problem: Moved, From: 99, To: 99}}, 7},
		"appended":            {at(45, func(l [][]byte, i int) [][]byte { return append(l, forged(46)) }), []Finding{{Problem: Edited, From: 46, To: 46}}, 5},
		"edited and missing":  {func(t *testing.T, dir string) { at(14, edit("d-014", "d-999"))(t, dir); at(33, drop(1))(t, dir) }, []Finding{{Problem: Edited, From: 14, To: 14}, {Problem: Missing, From: 33, To: 33}}, 5},
		"two together edited": {func(t *testing.T, dir string) {
			at(14, edit("d-014", "d-999"))(t, dir)
			at(15, edit("d-015", "d-999"))(t, dir)
		}, []Finding{{Problem: Edited, From: 14, To: 14}, {Problem: Edited, From: 15, To: 15}}, 5},
		"the segments renamed": {func(t *testing.T, dir string) {
			os.Rename(segmentOf(t, dir, 11), filepath.Join(dir, segment{first: 12}.name()))
		}, []Finding{{Problem: Missing, From: 11, To: 11}}, 7},
		"everything taken away": {func(t *testing.T, dir string) {
			for _, first := range []uint64{1, 11, 21, 31, 41} {
				remove(first)(t, dir)
			}
		}, []Finding{{Problem: CutTail, From: 1, To: 45}}, 7},
	} {
		t.Run(name, func(t *testing.T) {
			dir, known := newSample(t, 45)
			test.do(t, dir)
			r := mustVerify(t, dir, sampleOptions(known.known(t)...))
			var got []Finding
			for _, f := range r.Findings {
				got = append(got, Finding{Problem: f.Problem, From: f.From, To: f.To})
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("found %v, want %v", r.Findings, test.want)
			}
			refusal, ok := errors.AsType[*reason.Error](r.Err())
			if !ok || refusal.Reason().ExitCode() != test.exit {
				t.Errorf("%v, want exit %d", r.Err(), test.exit)
			}
			if !strings.Contains(r.Err().Error(), fmt.Sprintf("%d", test.want[0].From)) {
				t.Errorf("the record is not named: %v", r.Err())
			}
		})
	}
}

// Without its own heads a cut tail shows by the one that the store has, and by one
// that somebody keeps.
func TestKnownHeads(t *testing.T) {
	dir, known := newSample(t, 45)
	for _, first := range []uint64{31, 41} {
		if err := os.Remove(segmentOf(t, dir, first)); err != nil {
			t.Fatal(err)
		}
	}
	forget(dir)
	if r := mustVerify(t, dir, sampleOptions()); r.Err() != nil {
		t.Errorf("nobody knows: %v", r.Err())
	}
	r := mustVerify(t, dir, sampleOptions(known.known(t)...))
	if len(r.Findings) != 1 || r.Findings[0].Problem != CutTail || r.Findings[0].From != 31 || r.Findings[0].To != 45 {
		t.Errorf("%v", r.Findings)
	}
	// Such a log is not opened, and not changed.
	o := testOptions()
	o.Heads = known
	if _, err := Open(ctx, dir, o); err == nil || !strings.Contains(err.Error(), "had 45 records") {
		t.Errorf("opened: %v", err)
	}
	// Nor is it where the heads cannot be asked for.
	known.fail = errDisk
	if _, err := Open(ctx, dir, o); !errors.Is(err, errDisk) {
		t.Errorf("opened: %v", err)
	}
	// A head that nobody has signed proves nothing.
	head := known.known(t)[0]
	head.Count, head.Signature[0] = 20, head.Signature[0]^1
	if r := mustVerify(t, dir, sampleOptions(head)); len(r.Findings) != 1 || r.Findings[0].Problem != BadHead {
		t.Errorf("%v", r.Findings)
	}
}

// Another log in the place of the one that the store knows.
func TestReplacedFolder(t *testing.T) {
	old, known := newSample(t, 15)
	heads := known.known(t)
	dir, _ := newSample(t, 20)
	r := mustVerify(t, dir, sampleOptions(heads...))
	if len(r.Findings) != 1 || r.Findings[0].Problem != Replaced || !strings.Contains(r.Findings[0].Detail, heads[0].Chain+" of this server, which had 15 records") {
		t.Errorf("%v", r.Findings)
	}
	// It is in another folder.
	o := sampleOptions(heads...)
	o.Folders = []string{heads[0].Chain}
	if r := mustVerify(t, dir, o); r.Err() != nil {
		t.Error(r.Err())
	}
	// Another server's is not expected here.
	heads[0].Server = "two"
	heads[0].sign(testKeys.signer)
	if r := mustVerify(t, dir, sampleOptions(heads...)); r.Err() != nil {
		t.Error(r.Err())
	}
	// But where the log should be that server's.
	o = sampleOptions(heads...)
	o.Server = "two"
	if r := mustVerify(t, dir, o); len(r.Findings) != 1 || r.Findings[0].Problem != Replaced {
		t.Errorf("another server's log: %v", r.Findings)
	}
	o.Server = "three"
	if r := mustVerify(t, dir, o); r.Err() != nil {
		t.Errorf("a server that was given another name: %v", r.Err())
	}
	// Records of one chain are none of another.
	text, err := os.ReadFile(segmentOf(t, old, 1))
	if err == nil {
		err = os.WriteFile(segmentOf(t, dir, 1), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir, sampleOptions()); len(r.Findings) == 0 || r.Findings[0].Problem != Edited || r.Findings[0].From != 1 {
		t.Errorf("%v", r.Findings)
	}
}

// An earlier state of the whole folder does not agree with what the store knows.
func TestRolledBackFolder(t *testing.T) {
	dir, known := newSample(t, 15)
	earlier := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(earlier, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	os.Chmod(earlier, 0o700)
	o := testOptions()
	o.Heads = known
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	l.mustAppend(t, event{Decision: "more"})
	l.Close()
	for _, name := range []string{chainFile, headsFile, segment{first: 1}.name(), segment{first: 11}.name()} {
		os.Chmod(filepath.Join(earlier, name), 0o600)
	}
	r := mustVerify(t, earlier, sampleOptions(known.known(t)...))
	if len(r.Findings) != 1 || r.Findings[0].Problem != CutTail || r.Findings[0].From != 16 {
		t.Errorf("%v", r.Findings)
	}
	if _, err := Open(ctx, earlier, o); err == nil {
		t.Error("opened")
	}
}

// A fork: records that fit the chain, but not a head that was signed before.
func TestOtherRecord(t *testing.T) {
	dir, file := writeLog(t, logOf(1, 1, 1))
	_ = file
	head := Head{Kind: KindHead, Store: testStore, Chain: testKeys.chain, Server: "one", Count: 2, MAC: mac{1}, Time: time.Unix(2e9, 0)}
	head.sign(testKeys.signer)
	for _, r := range []*Report{
		mustVerify(t, dir, sampleOptions(head)), mustVerify(t, dir, VerifyOptions{Public: testKeys.public(), Known: []Head{head}}),
	} {
		if len(r.Findings) != 1 || r.Findings[0].Problem != OtherRecord || r.Findings[0].From != 2 {
			t.Errorf("%v", r.Findings)
		}
	}
	o := testOptions()
	o.Heads = &memoryHeads{heads: map[string][]byte{head.Chain: head.Text()}}
	damage := new(DamagedError)
	if _, err := Open(ctx, dir, o); !errors.As(err, &damage) || damage.Seq != 2 {
		t.Errorf("opened: %v", err)
	}
}

// With the public key alone: what is gone is found, what was edited is not.
func TestVerifyPublic(t *testing.T) {
	public, _ := PublicKey(testKey("root"), testStore)
	for name, test := range map[string]struct {
		change func([][]byte, int) [][]byte
		want   Problem
	}{
		"missing": {func(l [][]byte, i int) [][]byte { return slices.Delete(l, i, i+1) }, Missing},
		"broken":  {func(l [][]byte, i int) [][]byte { l[i][0] = 'x'; return l }, Unreadable},
		"twice":   {func(l [][]byte, i int) [][]byte { return slices.Insert(l, i, l[i]) }, Inserted},
	} {
		dir, _ := newSample(t, 45)
		rewrite(t, dir, 14, test.change)
		if r := mustVerify(t, dir, VerifyOptions{Public: public}); len(r.Findings) == 0 || r.Findings[0].Problem != test.want || r.Findings[0].From != 14 {
			t.Errorf("%s: %v", name, r.Findings)
		}
	}
	dir, _ := newSample(t, 45)
	rewrite(t, dir, 44, func(l [][]byte, i int) [][]byte { return l[:i] })
	if r := mustVerify(t, dir, VerifyOptions{Public: public}); len(r.Findings) != 1 || r.Findings[0].Problem != CutTail {
		t.Errorf("cut: %v", r.Findings)
	}
}

func TestBadHeads(t *testing.T) {
	dir, _ := newSample(t, 15)
	name := filepath.Join(dir, headsFile)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	forged := Head{Kind: KindAnchor, Store: testStore, Chain: testKeys.chain, Count: 10, Time: time.Unix(2e9, 0)}
	forged.sign(ed25519.NewKeyFromSeed(make([]byte, 32)))
	for what, test := range map[string]struct {
		text string
		bad  int
	}{
		"torn at its end": {string(good) + string(good[:50]), 0},
		"torn before it":  {string(good) + strings.Repeat("\x00", 50) + string(good[50:]), 0},
		"zeros elsewhere": {strings.Repeat("\x00", 50) + string(good[50:]) + string(good), 1},
		"a line of text":  {"hello\n" + string(good), 1},
		"a last line":     {string(good) + "hello\n", 1},
		"its count":       {strings.Replace(string(good), `"count":15`, `"count":10`, 1), 1},
		"its kind":        {strings.Replace(string(good), `"kind":"head"`, `"kind":"anchor"`, 1), 1},
		"a forged anchor": {string(forged.Text()) + "\n" + string(good), 1},
		"of white space":  {strings.Replace(string(good), `:15`, `: 15`, 1), 1},
	} {
		if err := os.WriteFile(name, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := mustVerify(t, dir, sampleOptions())
		if len(r.Findings) != test.bad || test.bad > 0 && r.Findings[0].Problem != BadHead || r.Removed.Count != 0 {
			t.Errorf("%s: %v", what, r.Findings)
		}
	}
	os.WriteFile(name, good, 0o600)
	chain := filepath.Join(dir, chainFile)
	text, _ := os.ReadFile(chain)
	for what, changed := range map[string]string{
		"emulated": strings.Replace(string(text), `"emulated":true`, `"emulated":false`, 1), "nothing": "", "a head": string(good),
		"another server": strings.Replace(string(text), `"server":"one"`, `"server":"two"`, 1), "long": strings.Repeat("x", 1<<20),
	} {
		os.WriteFile(chain, []byte(changed), 0o600)
		if _, err := Verify(ctx, dir, sampleOptions()); !errors.Is(err, ErrOtherKey) {
			t.Errorf("chain file, %s: %v", what, err)
		}
		if _, err := openLog(dir); !errors.Is(err, ErrOtherKey) {
			t.Errorf("chain file, %s: opened: %v", what, err)
		}
	}
	os.Remove(chain)
	if _, err := openLog(dir); err == nil {
		t.Error("a new chain over old segments")
	}
}

func FuzzParseHead(f *testing.F) {
	seeds := 0
	for _, kind := range []string{KindChain, KindHead, KindAnchor} {
		h := Head{Kind: kind, Store: testStore, Chain: testKeys.chain, Server: "one", Emulated: true, Time: time.Unix(1e9, 0)}
		if kind != KindChain {
			h.Count, h.MAC = 12, mac{1}
		}
		h.sign(testKeys.signer)
		if _, err := ParseHead(h.Text()); err == nil {
			seeds++
		}
		f.Add(h.Text())
	}
	if seeds != 3 {
		f.Fatalf("%d of 3 seeds are heads", seeds)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := ParseHead(text)
		if err != nil {
			if h != (Head{}) {
				t.Error("a head with the error")
			}
			return
		}
		if !bytes.Equal(h.Text(), bytes.TrimSuffix(text, []byte("\n"))) {
			t.Errorf("encoded again: %s, was %s", h.Text(), text)
		}
		h.Verify(testKeys.public())
	})
}
