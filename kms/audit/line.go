// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"sync"
)

// maxLine bounds a line, its line feed included.
const maxLine = MaxEvent + 128

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// buffers are for events on their way.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// release gives a buffer of encodeEvent back.
func release(b *bytes.Buffer) {
	if b.Cap() <= maxKept {
		buffers.Put(b)
	}
}

// An appender is an event that writes its JSON itself.
type appender interface {
	AppendJSON(dst []byte) ([]byte, error)
}

// encodeEvent returns the event's JSON on one line, in a buffer to be released.
func encodeEvent(event any) (*bytes.Buffer, error) {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	if err := encodeTo(b, event); err != nil {
		release(b)
		return nil, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	switch n := b.Len(); {
	case n == 0, bytes.IndexByte(b.Bytes(), '\n') >= 0:
		release(b)
		return nil, fmt.Errorf("%w: it is not one line", ErrEvent)
	case n > MaxEvent:
		release(b)
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrEvent, n, MaxEvent)
	case b.Bytes()[0] != '{':
		release(b)
		return nil, fmt.Errorf("%w: it is not an object", ErrEvent)
	}
	return b, nil
}

func encodeTo(b *bytes.Buffer, event any) error {
	if a, ok := event.(appender); ok {
		text, err := a.AppendJSON(b.AvailableBuffer())
		b.Write(text)
		return err
	}
	if err := json.NewEncoder(b).Encode(event); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // the encoder's line feed
	return nil
}

// appendLine appends the line of a record.
func appendLine(dst []byte, seq, synced uint64, event []byte) []byte {
	start := len(dst)
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, `,"synced":`...)
	dst = strconv.AppendUint(dst, synced, 10)
	dst = append(dst, `,"event":`...)
	dst = append(dst, event...)
	sum := crc32.Checksum(dst[start:], castagnoli)
	dst = append(dst, `,"sum":"`...)
	dst = hex.AppendEncode(dst, binary.BigEndian.AppendUint32(nil, sum))
	return append(dst, "\"}\n"...)
}

// trailer is the length of `,"sum":"xxxxxxxx"}`.
const trailer = 18

// A line is a record as it stands in the file.
type line struct {
	seq, synced uint64
	event       []byte
}

// parseLine reads a line, given without its line feed. It accepts exactly what
// appendLine writes, except that the event need only be a JSON object.
func parseLine(text []byte) (line, error) {
	if len(text) < trailer {
		return line{}, fmt.Errorf("%d bytes are no record", len(text))
	}
	body, end := text[:len(text)-trailer], text[len(text)-trailer:]
	if want := fmt.Sprintf(`,"sum":"%08x"}`, crc32.Checksum(body, castagnoli)); string(end) != want {
		return line{}, fmt.Errorf("the checksum does not fit")
	}
	var l line
	var ok bool
	if l.seq, body, ok = cutNumber(body, `{"seq":`); !ok {
		return line{}, fmt.Errorf("no sequence number")
	}
	if l.synced, body, ok = cutNumber(body, `,"synced":`); !ok || l.synced >= l.seq {
		return line{}, fmt.Errorf("no number of the last durable record")
	}
	if l.event, ok = bytes.CutPrefix(body, []byte(`,"event":`)); !ok {
		return line{}, fmt.Errorf("no event")
	}
	if len(l.event) == 0 || l.event[0] != '{' || len(l.event) > MaxEvent || !json.Valid(l.event) {
		return line{}, fmt.Errorf("the event is no JSON object")
	}
	return l, nil
}

// cutNumber removes prefix and the decimal number behind it.
func cutNumber(text []byte, prefix string) (n uint64, rest []byte, ok bool) {
	text, ok = bytes.CutPrefix(text, []byte(prefix))
	if !ok {
		return 0, nil, false
	}
	digits := 0
	for digits < len(text) && digits < 20 && text[digits] >= '0' && text[digits] <= '9' {
		digits++
	}
	if digits > 1 && text[0] == '0' {
		return 0, nil, false
	}
	n, err := strconv.ParseUint(string(text[:digits]), 10, 64)
	return n, text[digits:], err == nil
}

// decisionOf returns the event's decision id, "" if it has none.
func decisionOf(event []byte) string {
	var e struct {
		Decision any `json:"decision"`
	}
	if json.Unmarshal(event, &e) != nil {
		return ""
	}
	id, _ := e.Decision.(string)
	return id
}
