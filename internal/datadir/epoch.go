// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/reason"
)

// An epoch is how far a store has come: its epoch, which a restore raises, and
// within it the generation of its roster. What rows cannot show, that all of them
// were put back together, shows in a store that has come less far than one that was
// seen before. The newest that was seen is kept with the root key, in the epoch
// file: five lines, each ended by a line feed,
//
//	cretula epoch 1
//	store: 32 hexadecimal digits
//	epoch: a number
//	generation: a number
//	check: base64 of the HMAC-SHA256 of the four lines before it
//
// under a key derived from the root key.
type epoch struct {
	store             string
	epoch, generation uint64
}

const (
	epochHeader = "cretula epoch 1"
	maxEpoch    = 512
	epochLabel  = "datadir/1/epoch"

	// The row of the store that has its epoch in decimal; without it that is 0.
	epochTable = "store"
	epochRow   = "epoch"

	// epochInterval is the longest that a generation is not noted.
	epochInterval = time.Minute
)

func (e epoch) compare(other epoch) int {
	return cmp.Or(cmp.Compare(e.epoch, other.epoch), cmp.Compare(e.generation, other.generation))
}

func (e epoch) encode(key []byte) []byte {
	text := fmt.Appendf(nil, "%s\nstore: %s\nepoch: %d\ngeneration: %d\n", epochHeader, e.store, e.epoch, e.generation)
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	return fmt.Appendf(text, "check: %s\n", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// decodeEpoch accepts exactly what encode writes.
func decodeEpoch(text, key []byte) (epoch, bool) {
	lines := strings.Split(string(text), "\n")
	if len(text) > maxEpoch || len(lines) != 6 {
		return epoch{}, false
	}
	e := epoch{store: strings.TrimPrefix(lines[1], "store: ")}
	var err, err2 error
	e.epoch, err = strconv.ParseUint(strings.TrimPrefix(lines[2], "epoch: "), 10, 64)
	e.generation, err2 = strconv.ParseUint(strings.TrimPrefix(lines[3], "generation: "), 10, 64)
	if err != nil || err2 != nil || !hmac.Equal(e.encode(key), text) {
		return epoch{}, false
	}
	return e, true
}

// readEpoch reads the epoch file; false if there is none.
func readEpoch(path string, key []byte) (epoch, bool, error) {
	f, err := durable.OpenPrivate(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return epoch{}, false, nil
	}
	if err != nil {
		return epoch{}, false, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEpoch+1))
	if err != nil {
		return epoch{}, false, err
	}
	e, ok := decodeEpoch(text, key)
	if !ok {
		return epoch{}, false, cli.WithHint(reason.New(reason.BadSignature, "epoch.file", "%s is not what this root key has written", path),
			"put back a copy of it; if there is none, and 'cretula kms verify-store' and the audit log show that the store is the newest, remove it")
	}
	return e, true, nil
}

// storeEpoch returns how far the store has come.
func storeEpoch(ctx context.Context, l *ledger.Ledger) (epoch, error) {
	e := epoch{store: l.StoreID()}
	err := l.View(ctx, func(tx *ledger.Tx) error {
		content, _, err := tx.Get(epochTable, epochRow)
		if errors.Is(err, keystore.ErrNotFound) {
			return nil
		}
		if err == nil {
			e.epoch, err = strconv.ParseUint(string(content), 10, 64)
		}
		return err
	})
	e.generation = l.Generation()
	return e, err
}

// raiseEpoch writes a higher epoch than any that is known into the store.
func raiseEpoch(ctx context.Context, l *ledger.Ledger, known epoch) (uint64, error) {
	e, err := storeEpoch(ctx, l)
	if err != nil {
		return 0, err
	}
	next := max(e.epoch, known.epoch) + 1
	return next, l.Update(ctx, func(tx *ledger.Tx) error {
		_, err := tx.Put(epochTable, epochRow, strconv.AppendUint(nil, next, 10))
		return err
	})
}

// epochs keeps the epoch file of an open store.
type epochs struct {
	path   string
	key    []byte
	ledger *ledger.Ledger
	epoch  uint64
	// file says that the store is one: what is read of it may not be on the disk yet.
	file bool

	mu      sync.Mutex
	written epoch
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

func newEpochs(c *Config, l *ledger.Ledger, root rootkey.Key) (*epochs, error) {
	key, err := root.Derive(epochLabel)
	return &epochs{path: c.RootKey.EpochPath(), key: key, ledger: l, file: !c.database()}, err
}

// openEpochs compares the store with the epoch file, notes how far it has come, and
// goes on to do so.
func openEpochs(ctx context.Context, c *Config, l *ledger.Ledger, root rootkey.Key) (*epochs, error) {
	e, err := newEpochs(c, l, root)
	if err != nil {
		return nil, err
	}
	now, err := storeEpoch(ctx, l)
	if err != nil {
		return nil, err
	}
	known, found, err := readEpoch(e.path, e.key)
	if err != nil {
		return nil, err
	}
	if found {
		if err := checkEpoch(now, known, e.path, c.StoreName()); err != nil {
			return nil, err
		}
	}
	e.epoch, e.written = now.epoch, known
	if err := e.note(); err != nil {
		return nil, cli.WithHint(fmt.Errorf("the epoch file cannot be written: %w", err),
			"name a file that this user can write with epoch_file of the root key")
	}
	running, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.ended.Go(func() { e.run(running, c) })
	return e, nil
}

// checkEpoch refuses a store that is another one, or is older than what was seen.
func checkEpoch(now, known epoch, path, name string) error {
	switch {
	case now.store != known.store:
		return cli.WithHint(reason.New(reason.Mismatch, "epoch.store", "%s is of store %s, this one is %s", path, known.store, now.store),
			"one epoch file serves one store: name another with epoch_file of the root key")
	case now.compare(known) < 0:
		return cli.WithHint(reason.New(reason.Stale, "store.rolled-back", "the store %s was rolled back: it is at epoch %d, generation %d, and epoch %d, generation %d was seen",
			name, now.epoch, now.generation, known.epoch, known.generation),
			"put back the newest copy; of an older one that is wanted make a 'cretula kms backup' with another epoch_file of the root key, and with this one 'cretula kms restore --replace', which is on record")
	}
	return nil
}

func (e *epochs) run(ctx context.Context, c *Config) {
	ticker := time.NewTicker(epochInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := e.note(); err != nil && c.Logger != nil {
				c.Logger.Error("the epoch file cannot be written", "cause", err.Error())
			}
		}
	}
}

// note writes how far the store has come, unless that or more is noted. Servers of
// one machine can share the file: between their looking and writing one may take
// back what another has just written, until its next note.
//
// Of a file only what is on the disk is noted, or it would be refused after a power
// cut: a change can be seen before its last sync. One that changes nothing comes after
// it, and syncs what a process has left that was ended in between.
func (e *epochs) note() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := epoch{store: e.ledger.StoreID(), epoch: e.epoch, generation: e.ledger.Generation()}
	if e.written.store == now.store && now.compare(e.written) <= 0 {
		return nil
	}
	if known, found, err := readEpoch(e.path, e.key); err != nil {
		return err
	} else if found && known.store == now.store && now.compare(known) <= 0 {
		e.written = known
		return nil
	}
	if e.file {
		if err := e.ledger.Update(context.Background(), func(*ledger.Tx) error { return nil }); err != nil {
			return err
		}
	}
	if err := durable.MkdirAll(filepath.Dir(e.path)); err != nil {
		return err
	}
	if err := durable.WriteFile(e.path, now.encode(e.key)); err != nil {
		return err
	}
	e.written = now
	return nil
}

func (e *epochs) close() error {
	e.stop()
	e.ended.Wait()
	return e.note()
}
