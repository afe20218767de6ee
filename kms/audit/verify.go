// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/reason"
)

// VerifyOptions say what a log is compared with.
type VerifyOptions struct {
	// Key is the root key, StoreID the store; empty: the one that the log says it is
	// of. Without a key the MACs of records are not checked, but for those that heads
	// name.
	Key     Deriver
	StoreID string
	// Public verifies heads where there is no Key; see [PublicKey].
	Public ed25519.PublicKey
	// Server is the name of the server that the log should be of: another's would be
	// whole, too. Empty: the one that the log says it is of.
	Server string
	// Known are heads that were kept elsewhere. Those of this chain must agree with
	// the log. One of another chain of the same server, as the log or Server names it,
	// says that the folder was replaced, unless Folders has that chain too.
	Known []Head
	// Folders are the chains that are in other folders.
	Folders []string
	// Progress is told how many of the log's bytes have been read, now and then.
	Progress func(read, total int64)
}

// A Problem is a kind of [Finding].
type Problem string

// The problems, with the reason that each stands for.
const (
	// Unreadable: a line is no record; malformed.
	Unreadable Problem = "unreadable"
	// Edited: a record does not fit its MAC; bad-signature.
	Edited Problem = "edited"
	// Inserted: a record stands there that is not of this chain, or once more;
	// bad-signature.
	Inserted Problem = "inserted"
	// BadHead: a line of the file of heads, or the chain file, is not a head that
	// was signed for this chain; bad-signature.
	BadHead Problem = "bad head"
	// Missing: records that there were are not there; mismatch.
	Missing Problem = "missing"
	// Moved: a record stands at another place than its own; mismatch.
	Moved Problem = "moved"
	// CutTail: a head says that there were more records; mismatch.
	CutTail Problem = "cut off"
	// OtherRecord: a head says that the record was another; mismatch.
	OtherRecord Problem = "other record"
	// Replaced: a chain that is known is not in the folder; mismatch.
	Replaced Problem = "replaced"
)

// Reason returns the class of the refusal.
func (p Problem) Reason() reason.Reason {
	switch p {
	case Unreadable:
		return reason.Malformed
	case Edited, Inserted, BadHead:
		return reason.BadSignature
	}
	return reason.Mismatch
}

// A Finding is one thing that is not as the log was written.
type Finding struct {
	Problem Problem `json:"problem"`
	// From and To are the numbers of the first and last record that it is about; 0
	// if it is about none.
	From uint64 `json:"from,omitempty"`
	To   uint64 `json:"to,omitempty"`
	// File is the name in the folder, Offset where in it.
	File   string `json:"file,omitempty"`
	Offset int64  `json:"offset,omitempty"`
	// Detail says more in plain words. It holds nothing of a record.
	Detail string `json:"detail,omitempty"`
}

// String returns the finding on one line.
func (f Finding) String() string {
	text := string(f.Problem)
	switch {
	case f.From != f.To:
		text = fmt.Sprintf("records %d to %d: %s", f.From, f.To, text)
	case f.From > 0:
		text = fmt.Sprintf("record %d: %s", f.From, text)
	}
	if f.File != "" {
		text += fmt.Sprintf(" (%s, byte %d)", f.File, f.Offset)
	}
	if f.Detail != "" {
		text += ": " + f.Detail
	}
	return text
}

// maxFindings bounds a report.
const maxFindings = 1000

// A Report is what Verify has found.
type Report struct {
	// Chain is what the chain file says.
	Chain Head
	// Removed is the anchor of the last retention; its Count is 0 if there was none.
	Removed Head
	// Newest is the head with the highest count, of the folder and of those known;
	// that of the chain file if there is none.
	Newest Head
	// Heads is how many signed heads the log was compared with, Records how many
	// records there are, First and Last their numbers.
	Heads, Records uint64
	First, Last    uint64
	// MACs says whether the records' MACs were checked.
	MACs bool
	// Torn is how many bytes at the end a crash has left, or are being written.
	Torn int64
	// Findings are in the order of the log; there are no more than 1000, and More
	// counts the rest.
	Findings []Finding
	More     int
}

// Err returns nil if nothing was found, else a [*reason.Error] with a problem for
// each finding, the gravest first.
func (r *Report) Err() error {
	if len(r.Findings) == 0 {
		return nil
	}
	problems := make([]reason.Problem, 0, len(r.Findings))
	for _, f := range r.Findings {
		problems = append(problems, reason.Problem{Rule: "audit." + f.Problem.rule(), Reason: f.Problem.Reason(), Message: f.String()})
	}
	slices.SortStableFunc(problems, func(a, b reason.Problem) int { return int(a.Reason) - int(b.Reason) })
	return &reason.Error{Problems: problems}
}

func (p Problem) rule() string { return string(bytes.ReplaceAll([]byte(p), []byte(" "), []byte("-"))) }

// Verify reads the whole log in a folder, which may be in use, and compares it with
// its chain of MACs, with its heads and with those that are known. The error says why
// it could not be read; what is wrong with the log is in the report. It matches
// [ErrNone] or [ErrOtherKey] where there is no log of this store.
func Verify(ctx context.Context, dir string, o VerifyOptions) (*Report, error) {
	report, err := verify(ctx, dir, o)
	if errors.Is(err, os.ErrNotExist) || err == nil && report.outrun(dir) {
		// Retention has taken a segment just now.
		report, err = verify(ctx, dir, o)
	}
	return report, err
}

// outrun tells whether something was found in a log from which retention has removed
// records since its heads were read.
func (r *Report) outrun(dir string) bool {
	if len(r.Findings) == 0 {
		return false
	}
	anchor, err := newestAnchor(dir)
	return err == nil && anchor.Count > r.Removed.Count
}

func verify(ctx context.Context, dir string, o VerifyOptions) (*Report, error) {
	v := &verifier{dir: dir, options: o, report: &Report{MACs: o.Key != nil}}
	chain, err := readChain(dir)
	if err != nil {
		return nil, err
	}
	v.report.Chain, v.report.Newest = chain, chain
	v.public = o.Public
	if o.StoreID == "" {
		o.StoreID = chain.Store
	}
	if o.Key != nil {
		k, err := deriveKeys(o.Key, o.StoreID, chain.Chain)
		if err != nil {
			return nil, err
		}
		v.keys, v.public = &k, k.public()
		if chain.Store != o.StoreID {
			return nil, ErrOtherKey
		}
	}
	if !chain.Verify(v.public) {
		return nil, ErrOtherKey
	}
	// The heads are read first: the segments have all records that they are about.
	heads, err := v.readHeads()
	if err != nil {
		return nil, err
	}
	if err := v.readSegments(ctx); err != nil {
		return nil, err
	}
	v.finish(heads)
	return v.report, nil
}

type verifier struct {
	dir     string
	options VerifyOptions
	report  *Report
	keys    *keys
	public  ed25519.PublicKey

	heads []Head // ascending, those that are still to be compared
	walk  walk

	read, total int64
}

func (v *verifier) find(f Finding) {
	if len(v.report.Findings) == maxFindings {
		v.report.More++
		return
	}
	v.report.Findings = append(v.report.Findings, f)
}

// readHeads reads the heads of the folder and the known ones.
func (v *verifier) readHeads() ([]Head, error) {
	text, err := os.ReadFile(filepath.Join(v.dir, headsFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var heads []Head
	offset := int64(0)
	for line := range bytes.Lines(text) {
		at := offset
		offset += int64(len(line))
		h, err := ParseHead(line)
		switch {
		case err != nil && offset == int64(len(text)) && tornHead(line):
			// Being written, or torn by a crash.
		case err != nil:
			v.find(Finding{Problem: BadHead, File: headsFile, Offset: at, Detail: err.Error()})
		case h.Chain != v.report.Chain.Chain || !h.Verify(v.public):
			v.find(Finding{Problem: BadHead, File: headsFile, Offset: at, Detail: "it is not signed for this chain with the store's key"})
		default:
			heads = append(heads, h)
		}
	}
	for _, h := range v.options.Known {
		switch {
		case !h.Verify(v.public) || h.Store != v.report.Chain.Store:
			v.find(Finding{Problem: BadHead, Detail: fmt.Sprintf("a head of chain %s that was given is not signed with the store's key", h.Chain)})
		case h.Chain == v.report.Chain.Chain:
			heads = append(heads, h)
		case v.mine(h) && !slices.Contains(v.options.Folders, h.Chain):
			v.find(Finding{Problem: Replaced, Detail: fmt.Sprintf("chain %s of this server, which had %d records at %s, is not there",
				h.Chain, h.Count, h.Time.Format(time.RFC3339))})
		}
	}
	slices.SortStableFunc(heads, func(a, b Head) int {
		if a.Count < b.Count {
			return -1
		}
		return 1
	})
	for _, h := range heads {
		if h.Kind == KindAnchor {
			v.report.Removed = h
		}
		v.report.Newest = h
	}
	v.report.Heads, v.heads = uint64(len(heads)), heads
	return heads, nil
}

// mine tells whether the head is of the server whose log this is, or should be.
func (v *verifier) mine(h Head) bool {
	return h.Server == v.report.Chain.Server || v.options.Server != "" && h.Server == v.options.Server
}

// readSegments walks through all records behind the anchor.
func (v *verifier) readSegments(ctx context.Context) error {
	segments, err := listSegments(v.dir)
	if err != nil {
		return err
	}
	anchor := v.report.Removed
	// Those before the anchor are what a removal that was interrupted has left.
	for len(segments) > 1 && segments[1].first <= anchor.Count+1 {
		segments = segments[1:]
	}
	for _, s := range segments {
		v.total += s.size
	}
	v.walk = walk{v: v, expect: anchor.Count + 1, before: []mac{anchor.MAC}, good: anchor.MAC, goodSeq: anchor.Count}
	v.compare(anchor.Count, anchor.MAC)
	for _, s := range segments {
		if err := v.readSegment(ctx, s); err != nil {
			return err
		}
	}
	v.walk.settleStray()
	return nil
}

func (v *verifier) readSegment(ctx context.Context, s segment) error {
	f, err := durable.OpenPrivate(filepath.Join(v.dir, s.name()), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	v.walk.begin(s)
	r := newLineReader(f, s.size)
	for n := 0; ; n++ {
		l, offset, err := r.next()
		if err == io.EOF {
			v.read += s.size
			return nil
		}
		if e, ok := errors.AsType[*readError](err); ok {
			return e.err
		}
		if n%256 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if v.options.Progress != nil {
				v.options.Progress(v.read+offset, v.total)
			}
		}
		if err != nil {
			v.walk.unreadable(offset, r.text, err)
			continue
		}
		v.walk.line(offset, &l)
	}
}

// compare compares a record with the heads that name it.
func (v *verifier) compare(seq uint64, m mac) {
	for len(v.heads) > 0 && v.heads[0].Count <= seq {
		if h := v.heads[0]; h.Count == seq && h.MAC != m {
			v.find(Finding{Problem: OtherRecord, From: seq, To: seq,
				Detail: fmt.Sprintf("the head of %s says that its MAC was another", h.Time.Format(time.RFC3339))})
		}
		v.heads = v.heads[1:]
	}
}

// finish compares the end with the newest head, and takes back what a crash explains.
func (v *verifier) finish(heads []Head) {
	w, r := &v.walk, v.report
	settled := w.synced
	if n := len(heads); n > 0 {
		settled = max(settled, heads[n-1].Count)
	}
	r.Last = w.expect - 1
	torn := func(f Finding) bool {
		return f.File != "" && f.From > settled && (f.Problem == Unreadable || f.Problem == Missing)
	}
	if i := slices.IndexFunc(r.Findings, torn); i >= 0 && r.More == 0 && r.Findings[i].File == w.at.name() {
		r.Torn, r.Last = w.at.size-r.Findings[i].Offset, r.Findings[i].From-1
		r.Findings = slices.DeleteFunc(r.Findings, torn)
	}
	if settled > r.Last {
		v.find(Finding{Problem: CutTail, From: r.Last + 1, To: settled, Detail: fmt.Sprintf("the log ends with record %d; the head of %s has %d",
			r.Last, r.Newest.Time.Format(time.RFC3339), r.Newest.Count)})
	}
	if w.records > 0 {
		r.First, r.Records = w.first, w.records
	}
}
