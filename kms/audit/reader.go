// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cretula/cretula/internal/durable"
)

// A Reader reads the records of a folder in their order, without the key: it checks
// no MAC. It needs no lock, and what is written meanwhile it reads too. Lines at the
// very end that are not whole yet are left for later.
type Reader struct {
	dir  string
	file *os.File
	at   segment
	line *lineReader
	seq  uint64 // of the last record
	from uint64 // the first one to return
}

// NewReader returns a reader of the log in a folder, from the first record on. It
// should be closed.
func NewReader(dir string) *Reader { return &Reader{dir: dir} }

// NewReaderFrom returns a reader of the records with the number from and greater ones.
func NewReaderFrom(dir string, from uint64) *Reader { return &Reader{dir: dir, from: from} }

// Close closes the file that is open.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

// Next returns the next record. At the end of the log it is [io.EOF]; a later call
// returns what was written since. A line that is no record, and records that are
// missing, are a [DamagedError] each; a later call goes on behind them.
func (r *Reader) Next() (Entry, error) {
	for {
		if r.file == nil {
			if err := r.openNext(); err != nil {
				return Entry{}, err
			}
		}
		l, offset, err := r.line.next()
		switch _, broken := errors.AsType[*readError](err); {
		case err == nil && l.seq == r.seq+1:
			if r.seq++; r.seq < r.from {
				continue
			}
			return Entry{Seq: l.seq, Event: json.RawMessage(bytes.Clone(l.event))}, nil
		case err == nil:
			want := r.seq + 1
			r.seq = l.seq
			return Entry{}, r.damaged(offset, want, fmt.Sprintf("record %d stands there", l.seq))
		case broken:
			return Entry{}, err
		case err == io.EOF || errors.Is(err, errNoEnd):
			ended, endErr := r.ended()
			if endErr != nil {
				return Entry{}, endErr
			}
			if !ended {
				return Entry{}, r.reopen(offset)
			}
			if err := r.Close(); err != nil {
				return Entry{}, err
			}
			if errors.Is(err, errNoEnd) {
				return Entry{}, r.damaged(offset, r.seq+1, err.Error())
			}
		default:
			r.seq++
			return Entry{}, r.damaged(offset, r.seq, err.Error())
		}
	}
}

func (r *Reader) damaged(offset int64, seq uint64, why string) error {
	return &DamagedError{Segment: r.at.name(), Offset: offset, Seq: seq, Why: why}
}

// ended tells whether nothing more comes in this segment: there is a newer one, and
// all that this one has was read.
func (r *Reader) ended() (bool, error) {
	segments, err := listSegments(r.dir)
	if err != nil || len(segments) == 0 || segments[len(segments)-1].first <= r.at.first {
		return false, err
	}
	info, err := r.file.Stat()
	return err == nil && info.Size() <= r.line.offset, err
}

// reopen makes the next call read on at the offset; it returns [io.EOF].
func (r *Reader) reopen(offset int64) error {
	r.line = readFrom(r.file, offset)
	return io.EOF
}

// readFrom reads the lines of a file that may grow.
func readFrom(f *os.File, offset int64) *lineReader {
	const unlimited = 1 << 62
	r := newLineReader(io.NewSectionReader(f, offset, unlimited), unlimited)
	r.offset = offset
	return r
}

// openNext opens the segment after the one that was read; [io.EOF] if there is none.
func (r *Reader) openNext() error {
	segments, err := listSegments(r.dir)
	if err != nil {
		return err
	}
	for i, s := range segments {
		if s.first <= r.at.first || i+1 < len(segments) && segments[i+1].first <= r.from {
			continue
		}
		f, err := durable.OpenPrivate(filepath.Join(r.dir, s.name()), os.O_RDONLY)
		if errors.Is(err, os.ErrNotExist) {
			continue // retention has taken it
		}
		if err != nil {
			return err
		}
		began, want := r.at.first > 0, r.seq+1
		r.file, r.at, r.line, r.seq = f, s, readFrom(f, 0), s.first-1
		if began && s.first != want {
			return r.damaged(0, want, "the segments before are missing")
		}
		return nil
	}
	return io.EOF
}

// Backward calls yield with the records of a folder, newest first, until it returns
// false. Lines that are no records are given to it as the error; it says in which
// segment. Like a [Reader] it checks no MAC.
func Backward(ctx context.Context, dir string, yield func(Entry, error) bool) error {
	segments, err := listSegments(dir)
	if err != nil {
		return err
	}
	for i := len(segments) - 1; i >= 0; i-- {
		more, err := backward(ctx, dir, segments[i], yield)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func backward(ctx context.Context, dir string, s segment, yield func(Entry, error) bool) (more bool, err error) {
	f, err := durable.OpenPrivate(filepath.Join(dir, s.name()), os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	var offsets []int64 // of each line, and of the end
	r := newLineReader(f, s.size)
	for {
		offsets = append(offsets, r.offset)
		_, _, err := r.next()
		if err == io.EOF || errors.Is(err, errNoEnd) {
			break
		}
		if e, ok := errors.AsType[*readError](err); ok {
			return false, e.err
		}
	}
	var text []byte
	for i := len(offsets) - 2; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		// A line that is too long is no record, whatever it ends with.
		text = slices.Grow(text[:0], maxLine)[:min(offsets[i+1]-offsets[i], maxLine)]
		if _, err := f.ReadAt(text, offsets[i]); err != nil {
			return false, err
		}
		l, err := parseLine(bytes.TrimSuffix(text, []byte("\n")))
		if err != nil {
			err = &DamagedError{Segment: s.name(), Offset: offsets[i], Seq: s.first + uint64(i), Why: err.Error()}
		}
		if !yield(Entry{Seq: l.seq, Event: json.RawMessage(bytes.Clone(l.event))}, err) {
			return false, nil
		}
	}
	return true, nil
}

// Find returns the newest record of a folder whose event has the given decision id;
// [ErrNotFound] if there is none, [ErrNone] if there is no log. It works without the
// key, and while the log is in use: it believes the indexes of closed segments, and
// reads those that have none. [Log.Find] checks.
func Find(ctx context.Context, dir, decision string) (Entry, error) {
	if _, err := os.Stat(filepath.Join(dir, chainFile)); errors.Is(err, os.ErrNotExist) {
		return Entry{}, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	segments, err := listSegments(dir)
	if err != nil {
		return Entry{}, err
	}
	d := finder{dir: dir, checked: new(sync.Map)}
	for i := len(segments) - 1; i >= 0; i-- {
		entry, err := d.find(ctx, segments[i], decision)
		if !errors.Is(err, ErrNotFound) {
			return entry, err
		}
	}
	return Entry{}, ErrNotFound
}
