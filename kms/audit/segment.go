// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cretula/cretula/internal/durable"
)

// A segment is one file of records. Its name is the number of its first record, in
// twenty digits.
type segment struct {
	first uint64
	last  uint64 // first-1 if it is empty
	size  int64
	start mac // of the record before the first; not known of those that were listed
	// written is when the last record was, by the file system.
	written time.Time
}

const (
	segmentSuffix = ".jsonl"
	indexSuffix   = ".idx"
	segmentDigits = 20
)

func (s segment) name() string      { return fmt.Sprintf("%0*d%s", segmentDigits, s.first, segmentSuffix) }
func (s segment) indexName() string { return strings.TrimSuffix(s.name(), segmentSuffix) + indexSuffix }

// parseSegmentName returns the number of a segment's first record.
func parseSegmentName(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != segmentDigits {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && first > 0 && segment{first: first}.name() == name
}

// listSegments returns the segments of a folder, oldest first. The last record of
// the newest is not known.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []segment
	for _, entry := range entries {
		first, ok := parseSegmentName(entry.Name())
		if !ok {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // removed just now
		}
		if err != nil {
			return nil, err
		}
		all = append(all, segment{first: first, size: info.Size(), written: info.ModTime()})
	}
	slices.SortFunc(all, func(a, b segment) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
	for i := range all[:max(len(all)-1, 0)] {
		all[i].last = all[i+1].first - 1
	}
	return all, nil
}

// A DamagedError says where a log stops being one.
type DamagedError struct {
	// Segment is the name of the file, Offset that of the first byte of the bad
	// line; Seq the number of the record that should be there.
	Segment string
	Offset  int64
	Seq     uint64
	// Why says what is wrong with the line.
	Why string
}

// Error names the record and its place.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("audit log is damaged at record %d (%s, byte %d): %s", e.Seq, e.Segment, e.Offset, e.Why)
}

// readError tells an error of the disk from one of the content.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

// A lineReader reads the lines of a segment.
type lineReader struct {
	lines  *bufio.Reader
	offset int64 // of the next line
	text   []byte
}

func newLineReader(r io.ReaderAt, size int64) *lineReader {
	return &lineReader{lines: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), maxLine)}
}

// errNoEnd: the last line has no line feed.
var errNoEnd = errors.New("the line has no end")

// next returns the next line and where it begins; it is valid until the next call.
// The error is [io.EOF], a readError, or says what is wrong with this line alone.
func (r *lineReader) next() (l line, offset int64, err error) {
	offset = r.offset
	text, err := r.lines.ReadSlice('\n')
	r.offset += int64(len(text))
	r.text = bytes.TrimSuffix(text, []byte("\n"))
	switch {
	case err == nil:
		l, err = parseLine(r.text)
		return l, offset, err
	case err == io.EOF && len(text) == 0:
		return line{}, offset, io.EOF
	case err == io.EOF:
		return line{}, offset, errNoEnd
	case !errors.Is(err, bufio.ErrBufferFull):
		return line{}, offset, &readError{err}
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		text, err = r.lines.ReadSlice('\n')
		r.offset += int64(len(text))
	}
	r.text = nil
	if err != nil && err != io.EOF {
		return line{}, offset, &readError{err}
	}
	return line{}, offset, fmt.Errorf("the line is longer than %d bytes", maxLine)
}

// scanned is what scanSegment has found.
type scanned struct {
	end   int64
	last  uint64
	mac   mac
	index []indexEntry
}

// scanSegment reads a segment whose first record stands behind one with the MAC
// start, and compares it with the heads. A tail that a crash may have left is not
// part of it: what cannot be read, and all behind it, unless a later line says that
// it had been durable. A line that can be read but does not fit its MAC is no crash's.
func scanSegment(f io.ReaderAt, size int64, k *keys, first uint64, start mac, heads []Head) (scanned, error) {
	s := scanned{last: first - 1, mac: start}
	name := segment{first: first}.name()
	r := newLineReader(f, size)
	for {
		l, offset, err := r.next()
		if err == io.EOF {
			return s, nil
		}
		if e, ok := errors.AsType[*readError](err); ok {
			return scanned{}, e.err
		}
		damage := &DamagedError{Segment: name, Offset: offset, Seq: s.last + 1}
		switch {
		case err != nil:
			damage.Why = err.Error()
		case l.seq != s.last+1:
			damage.Why = fmt.Sprintf("its number is %d", l.seq)
		case !k.fits(&l, s.mac):
			damage.Why = "its MAC does not fit"
			return scanned{}, damage
		}
		if damage.Why != "" {
			settled, err := settledBehind(f, size, damage)
			if err != nil {
				return scanned{}, err
			}
			if settled {
				return scanned{}, damage
			}
			return s, nil
		}
		s.last, s.mac, s.end = l.seq, l.mac, r.offset
		s.index = append(s.index, indexEntry{hashOf(decisionOf(l.event)), offset})
		for _, head := range heads {
			if head.Count == s.last && head.MAC != s.mac {
				damage.Why = "a signed head says that its MAC was another"
				return scanned{}, damage
			}
		}
	}
}

// settledBehind reports whether a line behind the damage says that the damaged
// record had been durable: then no crash can have done it.
func settledBehind(f io.ReaderAt, size int64, damage *DamagedError) (bool, error) {
	r := newLineReader(io.NewSectionReader(f, damage.Offset, size-damage.Offset), size-damage.Offset)
	for {
		l, _, err := r.next()
		if err == io.EOF {
			return false, nil
		}
		if e, ok := errors.AsType[*readError](err); ok {
			return false, e.err
		}
		if err == nil && l.synced >= damage.Seq {
			return true, nil
		}
	}
}

// lastMAC returns the MAC at the end of a segment.
func lastMAC(path string) (mac, error) {
	f, err := durable.OpenPrivate(path, os.O_RDONLY)
	if err != nil {
		return mac{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return mac{}, err
	}
	return macBefore(f, info.Size(), filepath.Base(path))
}

// macBefore returns the MAC of the line that ends at the offset.
func macBefore(f io.ReaderAt, offset int64, name string) (mac, error) {
	damage := &DamagedError{Segment: name, Offset: offset, Why: "the line before has no MAC at its end"}
	if offset < int64(trailer)+1 {
		return mac{}, damage
	}
	end := make([]byte, trailer+1)
	if _, err := f.ReadAt(end, offset-int64(len(end))); err != nil && err != io.EOF {
		return mac{}, err
	}
	m, ok := macOf(end[:trailer])
	if !ok || end[trailer] != '\n' {
		return mac{}, damage
	}
	return m, nil
}
