// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
)

// What stands at the end of a line, around the MAC in hex.
const (
	macMember = `,"mac":"`
	lineEnd   = "\"}\n"
	// trailer is the length of both and the MAC, without the line feed.
	trailer = len(macMember) + 2*len(mac{}) + len(lineEnd) - 1
)

// maxLine bounds a line, its line feed included.
const maxLine = MaxEvent + 192

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

// appendBody appends the line of a record up to its MAC.
func appendBody(dst []byte, seq, synced uint64, event []byte) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, `,"synced":`...)
	dst = strconv.AppendUint(dst, synced, 10)
	dst = append(dst, `,"event":`...)
	return append(dst, event...)
}

// A line is a record as it stands in the file.
type line struct {
	seq, synced uint64
	event       []byte
	body        []byte // what the MAC is over, with that of the record before
	mac         mac
}

// parseLine reads a line, given without its line feed. It accepts exactly what
// appendLine writes, except that the event need only be a JSON object, and that the
// MAC may be any.
func parseLine(text []byte) (line, error) {
	m, ok := macOf(text)
	if !ok {
		return line{}, errors.New("it has no MAC at its end")
	}
	l := line{body: text[:len(text)-trailer], mac: m}
	rest := l.body
	if l.seq, rest, ok = cutNumber(rest, `{"seq":`); !ok {
		return line{}, errors.New("it has no sequence number")
	}
	if l.synced, rest, ok = cutNumber(rest, `,"synced":`); !ok || l.synced >= l.seq {
		return line{}, errors.New("it has no number of the last durable record")
	}
	if l.event, ok = bytes.CutPrefix(rest, []byte(`,"event":`)); !ok {
		return line{}, errors.New("it has no event")
	}
	if len(l.event) == 0 || l.event[0] != '{' || len(l.event) > MaxEvent || !json.Valid(l.event) {
		return line{}, errors.New("its event is no JSON object")
	}
	return l, nil
}

// macOf returns the MAC at the end of a line, whatever stands before it.
func macOf(text []byte) (m mac, ok bool) {
	if len(text) < trailer {
		return mac{}, false
	}
	end := text[len(text)-trailer:]
	digits, ok := bytes.CutPrefix(end, []byte(macMember))
	if !ok || string(digits[2*len(m):]) != lineEnd[:len(lineEnd)-1] {
		return mac{}, false
	}
	return parseMAC(string(digits[:2*len(m)]))
}

// parseMAC reads lower-case hex.
func parseMAC(digits string) (m mac, ok bool) {
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(m) || hex.EncodeToString(b) != digits {
		return mac{}, false
	}
	return mac(b), true
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

// decisionOf returns the last member "decision" of an event, "" if it has none that
// is a string. It looks at no more of the JSON than it must: each record goes through
// here when an index is made.
func decisionOf(event []byte) (id string) {
	depth, name := 0, false // whether a string here is the name of a member
	for i := 0; i < len(event); i++ {
		switch event[i] {
		case '{', '[':
			depth++
			name = depth == 1
		case '}', ']':
			depth--
		case ',':
			name = depth == 1
		case '"':
			end := i + stringLength(event[i:])
			if name && string(event[i:end]) == `"decision"` {
				id = stringValue(event[end:])
			}
			name = false
			i = end - 1
		}
	}
	return id
}

// stringLength returns the length of the JSON string that text begins with.
func stringLength(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// stringValue reads the string behind a member's name.
func stringValue(text []byte) (s string) {
	text = bytes.TrimLeft(text, " \t\r:")
	if len(text) == 0 || text[0] != '"' || json.Unmarshal(text[:stringLength(text)], &s) != nil {
		return ""
	}
	return s
}
