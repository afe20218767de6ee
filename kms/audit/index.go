// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"github.com/cretula/cretula/internal/durable"
)

// An indexEntry says where a record with a decision id is.
type indexEntry struct {
	hash   uint64 // of the decision id
	offset int64
}

// hashOf returns the first eight bytes of the SHA-256 of a decision id.
func hashOf(decision string) uint64 {
	sum := sha256.Sum256([]byte(decision))
	return binary.BigEndian.Uint64(sum[:])
}

// The index of a closed segment is a file beside it, in big-endian order: the magic
// and four numbers of eight bytes, the number of the first record, the size of the
// segment, and the count of the entries behind them, sixteen bytes each, in
// ascending order; then a MAC over all before it. It is made anew when it is missing
// or wrong. Nothing rests on it but how fast a record is found.
const (
	indexMagic  = "CRTLIDX1"
	indexHeader = len(indexMagic) + 3*8
	entrySize   = 16
)

// sortByHash sorts entries by their hashes, byte by byte from the last one, and leaves
// those with one hash in their order. Requests wait while a segment is closed, and this
// takes a tenth of the time of comparing.
func sortByHash(entries []indexEntry) {
	from, to := entries, make([]indexEntry, len(entries))
	for shift := 0; shift < 64; shift += 8 {
		var next [256]int // where the next entry with this byte goes
		for _, e := range from {
			next[byte(e.hash>>shift)]++
		}
		start := 0
		for b, n := range next {
			next[b] = start
			start += n
		}
		for _, e := range from {
			b := byte(e.hash >> shift)
			to[next[b]] = e
			next[b]++
		}
		from, to = to, from
	}
}

// encodeIndex returns the file's content; it sorts the entries, which are in the order of
// their offsets.
func encodeIndex(k *keys, s segment, entries []indexEntry) []byte {
	sortByHash(entries)
	text := make([]byte, 0, indexHeader+len(entries)*entrySize+len(mac{}))
	text = append(text, indexMagic...)
	text = binary.BigEndian.AppendUint64(text, s.first)
	text = binary.BigEndian.AppendUint64(text, uint64(s.size))
	text = binary.BigEndian.AppendUint64(text, uint64(len(entries)))
	for _, e := range entries {
		text = binary.BigEndian.AppendUint64(text, e.hash)
		text = binary.BigEndian.AppendUint64(text, uint64(e.offset))
	}
	var m mac
	if k != nil {
		m = k.indexMAC(text)
	}
	return append(text, m[:]...)
}

// writeIndex writes the index of a segment. It is not synced: after a crash it is
// there, or made anew.
func writeIndex(dir string, k *keys, s segment, entries []indexEntry) error {
	f, err := os.CreateTemp(dir, "."+s.indexName()+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(encodeIndex(k, s, slices.Clone(entries)))
	if err = errors.Join(err, f.Chmod(durable.FileMode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, s.indexName()))
}

// An index is one that is open.
type index struct {
	r     io.ReaderAt
	count int64
}

var errIndex = errors.New("audit: not the index of the segment")

// openIndex checks that r, of size bytes, has the form of the segment's index. What
// the entries say is believed of nobody.
func openIndex(r io.ReaderAt, size int64, s segment) (index, error) {
	if size < int64(indexHeader+len(mac{})) {
		return index{}, errIndex
	}
	header := make([]byte, indexHeader)
	if _, err := r.ReadAt(header, 0); err != nil {
		return index{}, err
	}
	rest := header[len(indexMagic):]
	count := binary.BigEndian.Uint64(rest[16:])
	entries := uint64(size) - uint64(indexHeader+len(mac{}))
	if string(header[:len(indexMagic)]) != indexMagic || binary.BigEndian.Uint64(rest) != s.first ||
		binary.BigEndian.Uint64(rest[8:]) != uint64(s.size) || entries%entrySize != 0 || count != entries/entrySize {
		return index{}, errIndex
	}
	return index{r, int64(count)}, nil
}

// authentic tells whether the MAC of an index fits.
func (x index) authentic(k *keys) bool {
	body := make([]byte, int64(indexHeader)+x.count*entrySize+int64(len(mac{})))
	if _, err := x.r.ReadAt(body, 0); err != nil && err != io.EOF {
		return false
	}
	at := len(body) - len(mac{})
	m := k.indexMAC(body[:at])
	return hmac.Equal(m[:], body[at:])
}

// offsets returns where the records with the hash are, newest first, at most so many.
func (x index) offsets(hash uint64, most int) (offsets []int64, err error) {
	entry := make([]byte, entrySize)
	read := func(i int) indexEntry {
		if _, readErr := x.r.ReadAt(entry, int64(indexHeader)+int64(i)*entrySize); readErr != nil {
			err = readErr
		}
		return indexEntry{binary.BigEndian.Uint64(entry), int64(binary.BigEndian.Uint64(entry[8:]))}
	}
	// The first one behind those with the hash.
	end := sort.Search(int(x.count), func(i int) bool { return read(i).hash > hash })
	for i := end - 1; i >= 0 && len(offsets) < most && err == nil; i-- {
		e := read(i)
		if e.hash != hash {
			break
		}
		offsets = append(offsets, e.offset)
	}
	return offsets, err
}

// maxSameHash bounds how many records with the hash of one id are looked at: a
// decision has two at most.
const maxSameHash = 16

// A finder looks for records in closed segments. Without keys it checks neither MACs
// nor indexes, and writes none.
type finder struct {
	dir  string
	keys *keys
	// checked has the indexes whose MAC has been checked, by number of the segment.
	checked *sync.Map
}

// find looks for the newest record of a segment with the decision id.
func (d finder) find(ctx context.Context, s segment, decision string) (Entry, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, err
	}
	offsets, err := d.lookup(s, hashOf(decision))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(offsets) == 0 {
		return Entry{}, ErrNotFound // retention took it, or it is not there
	}
	if err != nil {
		return Entry{}, err
	}
	f, err := durable.OpenPrivate(filepath.Join(d.dir, s.name()), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	for _, offset := range offsets {
		var start mac
		if d.keys != nil && offset == 0 {
			if start, err = startOf(d.dir, s); err != nil {
				return Entry{}, err
			}
		}
		entry, err := readIndexed(f, s.size, offset, start, d.keys, decision)
		if d.keys != nil && errors.Is(err, ErrNotFound) {
			// The index is authentic, and two ids with one hash do not come up.
			err = &DamagedError{Segment: s.name(), Offset: offset, Why: "the record that was there is not"}
		}
		if !errors.Is(err, ErrNotFound) {
			return entry, err
		}
	}
	return Entry{}, ErrNotFound
}

// lookup asks the index of a segment, which it makes if it must.
func (d finder) lookup(s segment, hash uint64) ([]int64, error) {
	if f, err := durable.OpenPrivate(filepath.Join(d.dir, s.indexName()), os.O_RDONLY); err == nil {
		defer f.Close()
		if x, ok := d.usable(f, s); ok {
			return x.offsets(hash, maxSameHash)
		}
	}
	entries, err := buildIndex(d.dir, s)
	if err != nil {
		return nil, err
	}
	text := encodeIndex(d.keys, s, entries)
	if d.keys != nil {
		// Where it cannot be written it is made again next time.
		_ = writeIndex(d.dir, d.keys, s, entries)
	}
	return index{bytes.NewReader(text), int64(len(entries))}.offsets(hash, maxSameHash)
}

// usable tells whether an open file is the index of the segment.
func (d finder) usable(f *os.File, s segment) (index, bool) {
	info, err := f.Stat()
	if err != nil {
		return index{}, false
	}
	x, err := openIndex(f, info.Size(), s)
	if err != nil {
		return index{}, false
	}
	if d.keys == nil {
		return x, true
	}
	// A file that has not changed since need not be read whole again.
	stamp := fmt.Sprint(info.Size(), info.ModTime())
	if known, ok := d.checked.Load(s.first); ok && known == stamp {
		return x, true
	}
	if !x.authentic(d.keys) {
		return index{}, false
	}
	d.checked.Store(s.first, stamp)
	return x, true
}

// buildIndex reads a segment; lines that are no records are passed over.
func buildIndex(dir string, s segment) ([]indexEntry, error) {
	f, err := durable.OpenPrivate(filepath.Join(dir, s.name()), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var entries []indexEntry
	r := newLineReader(f, s.size)
	for {
		l, offset, err := r.next()
		if err == io.EOF {
			return entries, nil
		}
		if e, ok := errors.AsType[*readError](err); ok {
			return nil, e.err
		}
		if err == nil {
			entries = append(entries, indexEntry{hashOf(decisionOf(l.event)), offset})
		}
	}
}

// readIndexed reads the record at an offset of a segment of size bytes. It is
// [ErrNotFound] if the record is of another decision, and a [DamagedError] if the MAC
// does not fit; start is that before the segment.
func readIndexed(f io.ReaderAt, size, offset int64, start mac, k *keys, decision string) (Entry, error) {
	if decision == "" || offset < 0 || offset >= size {
		return Entry{}, ErrNotFound
	}
	length := min(size-offset, int64(maxLine))
	l, _, err := newLineReader(io.NewSectionReader(f, offset, length), length).next()
	if e, ok := errors.AsType[*readError](err); ok {
		return Entry{}, e.err
	}
	if err != nil || decisionOf(l.event) != decision {
		return Entry{}, ErrNotFound
	}
	if k != nil {
		if offset > 0 {
			if start, err = macBefore(f, offset, ""); err != nil {
				return Entry{}, err
			}
		}
		if !k.fits(&l, start) {
			return Entry{}, &DamagedError{Offset: offset, Seq: l.seq, Why: "its MAC does not fit"}
		}
	}
	return Entry{Seq: l.seq, Event: json.RawMessage(bytes.Clone(l.event))}, nil
}

// startOf returns the MAC before the first record of a closed segment.
func startOf(dir string, s segment) (mac, error) {
	segments, err := listSegments(dir)
	if err != nil {
		return mac{}, err
	}
	i := slices.IndexFunc(segments, func(other segment) bool { return other.first == s.first })
	if i > 0 {
		return lastMAC(filepath.Join(dir, segments[i-1].name()))
	}
	anchor, err := newestAnchor(dir)
	if err == nil && anchor.Count != s.first-1 {
		err = &DamagedError{Segment: s.name(), Seq: s.first, Why: "the records before it are missing"}
	}
	return anchor.MAC, err
}
