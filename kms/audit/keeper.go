// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cretula/cretula/internal/durable"
)

// Limits of the file of heads: it is made shorter when it has grown to maxHeads bytes,
// so that keptHeads lines stay.
const (
	maxHeads  = 1 << 20
	keptHeads = 1000
)

// headStoreTimeout bounds how long the end of a log waits for the HeadStore.
const headStoreTimeout = 10 * time.Second

// A keeper does what no caller waits for: it writes heads and removes segments.
type keeper struct {
	path   string
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{}
	log    *Log

	written atomic.Uint64 // the count of the newest head

	mu     sync.Mutex // one at work
	chain  Head
	newest Head // in the file
	anchor Head // in the file; of no records if there is none
	size   int64
	stored uint64 // the count of the head that the HeadStore has
}

// open reads the file of heads. What a crash has torn is cut off; lines that are not
// signed heads of this chain count for nothing here and are for [Verify] to name.
func (k *keeper) open(dir string, own keys, chain Head) error {
	k.path, k.chain = filepath.Join(dir, headsFile), chain
	k.newest, k.anchor = chain, chain
	f, err := durable.OpenPrivate(k.path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 2*maxHeads))
	if err != nil {
		return err
	}
	k.size = int64(wholeHeads(text))
	if k.size < int64(len(text)) {
		if err := errors.Join(f.Truncate(k.size), f.Sync()); err != nil {
			return err
		}
	}
	for text := range bytes.Lines(text[:k.size]) {
		h, err := ParseHead(text)
		if err != nil || h.Chain != own.chain || !h.signedBy(own.public()) {
			continue
		}
		if h.Kind == KindAnchor && h.Count > k.anchor.Count {
			k.anchor = h
		}
		if h.Kind == KindHead && h.Count >= k.newest.Count {
			k.newest = h
		}
	}
	k.written.Store(k.newest.Count)
	return nil
}

// wholeHeads returns how much of the file of heads a crash has left whole: all but a last
// line that is torn, as each line was durable before the next one.
func wholeHeads(text []byte) int {
	last := bytes.LastIndexByte(bytes.TrimSuffix(text, []byte{'\n'}), '\n') + 1
	if tornHead(text[last:]) {
		return last
	}
	return len(text)
}

// tornHead tells whether a line can be what a crash has left of one: its end may be
// missing, and any block of it may read as zeros.
func tornHead(line []byte) bool {
	return !bytes.HasSuffix(line, []byte{'\n'}) || bytes.IndexByte(line, 0) >= 0
}

// newestAnchor returns the anchor of a folder with the highest count, without a look
// at its signature; one of no records if there is none.
func newestAnchor(dir string) (anchor Head, err error) {
	text, err := os.ReadFile(filepath.Join(dir, headsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Head{}, nil
	}
	for text := range bytes.Lines(text) {
		if h, err := ParseHead(text); err == nil && h.Kind == KindAnchor && h.Count > anchor.Count {
			anchor = h
		}
	}
	return anchor, err
}

func (k *keeper) start(l *Log) {
	ctx, cancel := context.WithCancel(context.Background())
	k.log, k.cancel, k.done, k.wake = l, cancel, make(chan struct{}), make(chan struct{}, 1)
	go func() {
		defer close(k.done)
		ticker := time.NewTicker(l.options.HeadInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case <-k.wake:
			}
			if err := errors.Join(k.writeHead(ctx), k.retain(ctx)); err != nil && ctx.Err() == nil {
				l.options.Failed(err)
			}
		}
	}()
}

// stop ends the work and writes the last head.
func (k *keeper) stop() error {
	k.cancel()
	<-k.done
	ctx, cancel := context.WithTimeout(context.Background(), headStoreTimeout)
	defer cancel()
	return k.writeHead(ctx)
}

// appended notes how many records there are.
func (k *keeper) appended(count uint64) {
	if count-k.written.Load() < k.log.options.HeadRecords {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// writeHead writes a head of what is durable, if that is more than the newest has.
func (k *keeper) writeHead(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log.mu.Lock()
	count, m := k.log.open.last, k.log.open.mac
	k.log.mu.Unlock()
	if count > k.newest.Count {
		if err := k.put(Head{Kind: KindHead, Count: count, MAC: m}); err != nil {
			return err
		}
	}
	if k.log.options.Heads == nil || k.stored == k.newest.Count {
		return nil
	}
	if err := k.log.options.Heads.PutHead(ctx, k.newest.Chain, k.newest.Text()); err != nil {
		return fmt.Errorf("audit: the newest head could not be stored: %w", err)
	}
	k.stored = k.newest.Count
	return nil
}

// put signs a head or anchor and makes it durable in the file.
func (k *keeper) put(h Head) error {
	h.Store, h.Chain, h.Server, h.Emulated = k.chain.Store, k.chain.Chain, k.chain.Server, k.chain.Emulated
	h.Time = k.log.options.Now()
	h.sign(k.log.keys.signer)
	text := append(h.Text(), '\n')
	if k.size+int64(len(text)) > maxHeads {
		if err := k.shorten(); err != nil {
			return err
		}
	}
	f, err := durable.OpenPrivate(k.path, os.O_RDWR)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, k.size)
	if err = errors.Join(err, f.Sync()); err != nil {
		// A longer line must not stick out of the one that is written over it.
		return errors.Join(err, f.Truncate(k.size), f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	k.size += int64(len(text))
	if h.Kind == KindAnchor {
		k.anchor = h
		return nil
	}
	k.newest = h
	k.written.Store(h.Count)
	return nil
}

// shorten leaves the newest anchor and the newest heads.
func (k *keeper) shorten() error {
	text, err := os.ReadFile(k.path)
	if err != nil {
		return err
	}
	lines := bytes.SplitAfter(text[:min(int(k.size), len(text))], []byte("\n"))
	kept := lines[max(0, len(lines)-keptHeads):]
	if k.anchor.Count > 0 {
		kept = append([][]byte{append(k.anchor.Text(), '\n')}, kept...)
	}
	text = bytes.Join(kept, nil)
	if err := durable.WriteFile(k.path, text); err != nil {
		return err
	}
	k.size = int64(len(text))
	return nil
}
