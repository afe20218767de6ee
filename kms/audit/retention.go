// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cretula/cretula/internal/durable"
)

// A Retention says which segments are removed, whole and oldest first, never the
// newest. The zero value removes nothing.
type Retention struct {
	// Age removes those whose last record was written so long ago.
	Age time.Duration
	// Bytes removes so many that those that stay have no more together.
	Bytes int64
}

// A Removal says what retention removes.
type Removal struct {
	// First and Through are the numbers of the first and last record.
	First   uint64 `json:"first"`
	Through uint64 `json:"through"`
	// Segments and Bytes are what they take on the disk.
	Segments int   `json:"segments"`
	Bytes    int64 `json:"bytes"`
	// Cause is "age" or "size".
	Cause string `json:"cause"`
}

// segmentAge is how long records go to one segment at most where old ones are removed:
// there may be little to write.
func (r Retention) segmentAge() time.Duration { return min(24*time.Hour, r.Age/4) }

// due returns how many of the oldest segments go.
func (r Retention) due(closed []segment, openBytes int64, now time.Time) (n int, cause string) {
	total := openBytes
	for _, s := range closed {
		total += s.size
	}
	for _, s := range closed {
		switch {
		case r.Bytes > 0 && total > r.Bytes:
			cause = "size"
		case r.Age > 0 && now.Sub(s.written) >= r.Age:
			cause = "age"
		default:
			return n, cause
		}
		total -= s.size
		n++
	}
	return n, cause
}

// retain removes what is due: it reads the segments once more, so that a record that
// was tampered with does not vanish unseen, records what it removes, signs an anchor
// from which the rest can be verified, and only then removes the files.
func (k *keeper) retain(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.log
	l.mu.Lock()
	closed, openBytes := l.closed, l.open.size
	l.mu.Unlock()
	n, cause := l.options.Retention.due(closed, openBytes, l.options.Now())
	if n == 0 {
		return nil
	}
	going := closed[:n]
	m, err := l.verifySegments(ctx, going, k.anchor)
	if err != nil {
		return fmt.Errorf("audit: retention keeps what cannot be verified: %w", err)
	}
	removal := Removal{First: going[0].first, Through: going[n-1].last, Segments: n, Cause: cause}
	for _, s := range going {
		removal.Bytes += s.size
	}
	var event any = removal
	if l.options.RemovalEvent != nil {
		if event, err = l.options.RemovalEvent(removal); err != nil {
			return err
		}
	}
	if err := l.Append(ctx, event); err != nil {
		return err
	}
	if err := k.put(Head{Kind: KindAnchor, Count: removal.Through, MAC: m}); err != nil {
		return err
	}
	l.mu.Lock()
	l.closed = l.closed[n:]
	l.mu.Unlock()
	return removeSegments(l.dir, going)
}

// verifySegments returns the MAC of the last record of segments that follow an anchor.
func (l *Log) verifySegments(ctx context.Context, segments []segment, anchor Head) (mac, error) {
	if segments[0].first != anchor.Count+1 {
		return mac{}, &DamagedError{Segment: segments[0].name(), Seq: anchor.Count + 1, Why: "it is missing"}
	}
	m := anchor.MAC
	for _, s := range segments {
		if err := ctx.Err(); err != nil {
			return mac{}, err
		}
		found, err := l.verifySegment(s, m)
		if err != nil {
			return mac{}, err
		}
		m = found.mac
	}
	return m, nil
}

func (l *Log) verifySegment(s segment, start mac) (scanned, error) {
	f, err := durable.OpenPrivate(l.path(s), os.O_RDONLY)
	if err != nil {
		return scanned{}, err
	}
	defer f.Close()
	found, err := scanSegment(f, s.size, &l.keys, s.first, start, nil)
	if err == nil && (found.last != s.last || found.end != s.size) {
		err = &DamagedError{Segment: s.name(), Offset: found.end, Seq: found.last + 1, Why: "it cannot be read"}
	}
	return found, err
}

// removeSegments removes segments and their indexes, oldest first.
func removeSegments(dir string, segments []segment) error {
	for _, s := range segments {
		for _, name := range []string{s.indexName(), s.name()} {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return durable.SyncDir(dir)
}
