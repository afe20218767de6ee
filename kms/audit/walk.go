// SPDX-License-Identifier: Apache-2.0

package audit

import "fmt"

// A walk goes from record to record and says of each that does not fit what was done
// to it. It can be sure only of what fits: a record that does is genuine and at its
// place. The rest is the simplest explanation.
type walk struct {
	v      *verifier
	at     segment
	expect uint64 // the number that comes next
	// before has what the MAC before the next record may be; none if nobody knows.
	before []mac

	// goodSeq and good are of the last record that fitted, findings how many there
	// were then: what was found behind it is inserted if its successor comes yet.
	goodSeq  uint64
	good     mac
	findings int

	// stray is a record with too high a number, of which the next one tells whether
	// it was moved here or those before it are missing.
	stray *stray
	// gap are records that are missing so far.
	gap gap

	first, records uint64
	synced         uint64 // what records say had been durable
}

type stray struct {
	seq    uint64
	synced uint64
	mac    mac
	offset int64
	file   string
}

type gap struct {
	from, to uint64
	before   mac
	known    bool // before is
	finding  int  // its place in the report
}

// begin goes on with a segment.
func (w *walk) begin(s segment) {
	w.settleStray()
	w.at = s
	if s.first > w.expect {
		w.missing(w.expect, s.first-1, 0, "a segment, or more, is missing before this one")
		w.expect, w.before = s.first, nil
	}
}

func (w *walk) find(p Problem, from, to uint64, offset int64, detail string) {
	w.v.find(Finding{Problem: p, From: from, To: to, File: w.at.name(), Offset: offset, Detail: detail})
}

func (w *walk) missing(from, to uint64, offset int64, detail string) {
	w.gap = gap{from: from, to: to, finding: len(w.v.report.Findings)}
	if w.gap.known = w.goodSeq == from-1; w.gap.known {
		w.gap.before = w.good
	}
	w.find(Missing, from, to, offset, detail)
}

// settleStray takes a stray record for what came after a gap.
func (w *walk) settleStray() {
	s := w.stray
	if s == nil {
		return
	}
	w.stray = nil
	w.missing(w.expect, s.seq-1, s.offset, fmt.Sprintf("record %d comes next; it cannot be checked", s.seq))
	w.expect, w.before = s.seq+1, []mac{s.mac}
	w.synced = max(w.synced, s.synced)
	w.v.compare(s.seq, s.mac)
}

// unreadable goes past a line that is no record.
func (w *walk) unreadable(offset int64, text []byte, why error) {
	w.settleStray()
	w.find(Unreadable, w.expect, w.expect, offset, why.Error())
	w.expect++
	w.before = nil
	if m, ok := macOf(text); ok {
		w.before = []mac{m}
	}
}

// fits tells whether a record stands behind one of those with the MACs.
func (w *walk) fits(l *line, before ...mac) bool {
	if w.v.keys == nil {
		return len(before) > 0
	}
	for _, m := range before {
		if w.v.keys.fits(l, m) {
			return true
		}
	}
	return false
}

// line looks at a record.
func (w *walk) line(offset int64, l *line) {
	w.records++
	if w.first == 0 {
		w.first = l.seq
	}
	if s := w.stray; s != nil && l.seq == s.seq+1 && w.fits(l, s.mac) {
		w.settleStray()
	} else if s != nil && (l.seq != w.expect || !w.fits(l, w.before...)) {
		w.settleStray()
	}
	switch {
	case l.seq == w.expect && w.fits(l, w.before...):
		w.fitting(l)
	case l.seq <= w.expect && l.seq == w.goodSeq+1 && w.fits(l, w.good) && w.v.keys != nil:
		w.inserted()
		w.fitting(l)
	case l.seq == w.expect:
		w.edited(offset, l)
	case l.seq < w.expect:
		w.late(offset, l)
	default:
		w.stray = &stray{l.seq, l.synced, l.mac, offset, w.at.name()}
	}
}

// fitting goes past a record that is as it was written.
func (w *walk) fitting(l *line) {
	if s := w.stray; s != nil {
		// This record is the one that was expected, so that one was not.
		w.stray = nil
		w.v.find(Finding{Problem: Moved, From: s.seq, To: s.seq, File: s.file, Offset: s.offset,
			Detail: fmt.Sprintf("it stands before record %d", l.seq)})
		if s.seq == l.seq+1 { // the two were exchanged
			w.accept(l)
			w.expect, w.before = s.seq+1, []mac{s.mac}
			return
		}
	}
	w.accept(l)
	w.expect, w.before = l.seq+1, []mac{l.mac}
}

func (w *walk) accept(l *line) {
	w.goodSeq, w.good, w.findings = l.seq, l.mac, len(w.v.report.Findings)
	w.synced = max(w.synced, l.synced)
	w.v.compare(l.seq, l.mac)
}

// edited goes past a record that does not fit its MAC, or that nobody can check.
func (w *walk) edited(offset int64, l *line) {
	if len(w.before) == 0 {
		// What is wrong before it has been said.
		w.goodSeq, w.good, w.findings = l.seq, l.mac, len(w.v.report.Findings)
		w.synced = max(w.synced, l.synced)
	} else {
		w.find(Edited, l.seq, l.seq, offset, "it does not fit its MAC")
	}
	// Either the content is another, or the MAC is.
	after := []mac{l.mac}
	if w.v.keys != nil {
		for _, m := range w.before {
			after = append(after, w.v.keys.mac(m, l.body))
		}
	}
	const most = 4 // of a run of edited records
	w.expect, w.before = l.seq+1, after[:min(len(after), most)]
	w.v.compare(l.seq, l.mac)
}

// inserted says of what was found since the last good record that it is not of the
// chain.
func (w *walk) inserted() {
	found := w.v.report.Findings
	for i := w.findings; i < len(found); i++ {
		if found[i].Problem == Edited || found[i].Problem == Unreadable {
			found[i].Problem = Inserted
			found[i].Detail = fmt.Sprintf("the record that follows %d stands behind it", w.goodSeq)
		}
	}
}

// late looks at a record whose place was before.
func (w *walk) late(offset int64, l *line) {
	g := &w.gap
	if l.seq != g.from || g.from > g.to || !g.known || !w.fits(l, g.before) {
		w.find(Inserted, l.seq, l.seq, offset, fmt.Sprintf("it stands behind record %d", w.expect-1))
		return
	}
	// It is one of those that were missing.
	found := w.v.report.Findings
	if g.finding < len(found) && found[g.finding].Problem == Missing {
		f := &found[g.finding]
		if g.from == g.to {
			*f = Finding{Problem: Moved, From: l.seq, To: l.seq, File: w.at.name(), Offset: offset, Detail: fmt.Sprintf("it stands behind record %d", w.expect-1)}
		} else {
			f.From = g.from + 1
			w.find(Moved, l.seq, l.seq, offset, fmt.Sprintf("it stands behind record %d", w.expect-1))
		}
	}
	g.from, g.before = g.from+1, l.mac
}
