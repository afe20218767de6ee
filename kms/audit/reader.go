// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A DamagedError says where a log stops being one.
type DamagedError struct {
	// Offset is that of the first byte of the bad line; Seq the number of
	// the record that should be there.
	Offset int64
	Seq    uint64
	// Why says what is wrong with the line.
	Why string
}

// Error names the record and its place.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("audit log is damaged at record %d (byte %d): %s", e.Seq, e.Offset, e.Why)
}

// A Reader reads the records of a log in their order.
type Reader struct {
	lines  *bufio.Reader
	offset int64 // of the next line
	seq    uint64
	err    error
}

// NewReader returns a reader of the first size bytes of a log. It needs no
// lock: what another process has acknowledged is there, and what it is still
// writing shows as damage at the end.
func NewReader(log io.ReaderAt, size int64) *Reader {
	return &Reader{lines: bufio.NewReaderSize(io.NewSectionReader(log, 0, size), maxLine)}
}

// Next returns the next record, [io.EOF] after the last one. A [DamagedError]
// ends the reading.
func (r *Reader) Next() (Entry, error) {
	l, err := r.next()
	if err != nil {
		return Entry{}, err
	}
	return Entry{Seq: l.seq, Event: json.RawMessage(bytes.Clone(l.event))}, nil
}

// next returns the next line, whose event is valid until the next call.
func (r *Reader) next() (line, error) {
	if r.err != nil {
		return line{}, r.err
	}
	l, n, err := readLine(r.lines)
	if err == nil && l.seq != r.seq+1 {
		err = fmt.Errorf("its number is %d", l.seq)
	}
	switch {
	case err == nil:
	case err == io.EOF:
		r.err = io.EOF
		return line{}, r.err
	default:
		if e, ok := errors.AsType[*readError](err); ok {
			r.err = e.err
		} else {
			r.err = &DamagedError{Offset: r.offset, Seq: r.seq + 1, Why: err.Error()}
		}
		return line{}, r.err
	}
	r.offset += int64(n)
	r.seq = l.seq
	return l, nil
}

// readError tells an error of the disk from one of the content.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }

// readLine reads one line of at most maxLine bytes and returns its length.
func readLine(r *bufio.Reader) (l line, n int, err error) {
	text, err := r.ReadSlice('\n')
	switch {
	case err == io.EOF && len(text) == 0:
		return line{}, 0, io.EOF
	case err == io.EOF:
		return line{}, len(text), errors.New("the line has no end")
	case errors.Is(err, bufio.ErrBufferFull):
		return line{}, len(text), fmt.Errorf("the line is longer than %d bytes", maxLine)
	case err != nil:
		return line{}, len(text), &readError{err}
	}
	l, err = parseLine(text[:len(text)-1])
	return l, len(text), err
}

// scanLog reads a log and returns where it ends and the number of its last
// record. A tail that a crash may have left is not part of it.
func scanLog(log io.ReaderAt, size int64) (end int64, last uint64, err error) {
	r := NewReader(log, size)
	for {
		_, err := r.next()
		if err == io.EOF {
			return r.offset, r.seq, nil
		}
		damage, ok := errors.AsType[*DamagedError](err)
		if err != nil && !ok {
			return 0, 0, err
		}
		if err == nil {
			continue
		}
		settled, err := settledBehind(log, size, damage)
		if err != nil {
			return 0, 0, err
		}
		if settled {
			return 0, 0, damage
		}
		return r.offset, r.seq, nil
	}
}

// settledBehind reports whether a line behind the damage says that the damaged
// record had been durable: then no crash can have done it.
func settledBehind(log io.ReaderAt, size int64, damage *DamagedError) (bool, error) {
	r := bufio.NewReaderSize(io.NewSectionReader(log, damage.Offset, size-damage.Offset), maxLine)
	for {
		l, _, err := readLine(r)
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

// findBlock is how much Find reads at a time.
const findBlock = 1 << 18

// Find returns the last record among the first size bytes of a log whose event
// has the given decision id; [ErrNotFound] if there is none. Lines that are no
// records are passed over.
func Find(ctx context.Context, log io.ReaderAt, size int64, decision string) (Entry, error) {
	if decision == "" {
		return Entry{}, ErrNotFound
	}
	needle, err := json.Marshal(decision)
	if err != nil {
		return Entry{}, err
	}
	// rest is the beginning of a line whose end is behind the block.
	var rest []byte
	for end := size; end > 0; {
		if err := ctx.Err(); err != nil {
			return Entry{}, err
		}
		start := max(end-findBlock, 0)
		block := make([]byte, end-start, int(end-start)+len(rest))
		if _, err := log.ReadAt(block, start); err != nil {
			return Entry{}, err
		}
		block = append(block, rest...)
		first := 0
		if start > 0 {
			first = bytes.IndexByte(block, '\n') + 1
		}
		if entry, ok := findIn(block[first:], needle, decision); ok {
			return entry, nil
		}
		rest = block[:first]
		if start > 0 && first == 0 {
			rest = block
		}
		if len(rest) > maxLine+findBlock {
			rest = nil // no record is that long
		}
		end = start
	}
	return Entry{}, ErrNotFound
}

// findIn looks in whole lines, last one first.
func findIn(lines, needle []byte, decision string) (Entry, bool) {
	for len(lines) > 0 {
		lines = bytes.TrimSuffix(lines, []byte("\n"))
		begin := bytes.LastIndexByte(lines, '\n') + 1
		text := lines[begin:]
		lines = lines[:begin]
		if !bytes.Contains(text, needle) {
			continue
		}
		l, err := parseLine(text)
		if err == nil && decisionOf(l.event) == decision {
			return Entry{Seq: l.seq, Event: json.RawMessage(bytes.Clone(l.event))}, true
		}
	}
	return Entry{}, false
}
