// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/cretula/cretula/internal/durable"
)

// HeadFormat is the member "format" of a head.
const HeadFormat = "cretula.kms.audit-head.v1"

// Kinds of a Head.
const (
	// KindChain begins a chain; it has no records.
	KindChain = "chain"
	// KindHead: so many records there were.
	KindHead = "head"
	// KindAnchor: so many records, from the first on, were removed by retention.
	KindAnchor = "anchor"
)

// MaxHead bounds a head's line.
const MaxHead = 1024

// A Head is a signed statement about a chain.
type Head struct {
	Kind string
	// Store is the id of the store that the chain is about, Chain the chain's
	// own: 32 lower-case hexadecimal digits, random.
	Store, Chain string
	// Server is the name that the server was given; it may be empty.
	Server   string
	Emulated bool
	// Count is the number of the last record that it is about, MAC its MAC.
	Count uint64
	MAC   [32]byte
	Time  time.Time
	// Signature is by the key of [PublicKey] over the line before it.
	Signature [ed25519.SignatureSize]byte
}

// A HeadStore keeps the newest head of each chain of a store, out of the reach of
// who can write the log's folder.
type HeadStore interface {
	// PutHead replaces the head of its chain.
	PutHead(ctx context.Context, chain string, head []byte) error
	// Heads returns those of all chains.
	Heads(ctx context.Context) ([][]byte, error)
}

// headJSON is a head's line.
type headJSON struct {
	Format    string    `json:"format"`
	Kind      string    `json:"kind"`
	Store     string    `json:"store"`
	Chain     string    `json:"chain"`
	Server    string    `json:"server"`
	Emulated  bool      `json:"emulated"`
	Count     uint64    `json:"count"`
	MAC       string    `json:"mac"`
	Time      time.Time `json:"time"`
	Signature string    `json:"signature,omitempty"`
}

var (
	namePattern  = regexp.MustCompile(`^[A-Za-z0-9._-]{0,64}$`)
	chainPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

func isName(s string) bool    { return namePattern.MatchString(s) }
func isChainID(s string) bool { return chainPattern.MatchString(s) }

func (h *Head) json() headJSON {
	return headJSON{
		Format: HeadFormat, Kind: h.Kind, Store: h.Store, Chain: h.Chain, Server: h.Server, Emulated: h.Emulated,
		Count: h.Count, MAC: hex.EncodeToString(h.MAC[:]), Time: h.Time,
	}
}

// signed returns the bytes that the signature is over: the line without the member
// and all behind it.
func (h *Head) signed() []byte {
	text, err := json.Marshal(h.json())
	if err != nil {
		return nil // a year of five digits, which ParseHead does not take either
	}
	return text[:len(text)-1]
}

// Text returns the head as one line of JSON, without a line feed. [ParseHead]
// reads it.
func (h *Head) Text() []byte {
	return fmt.Appendf(h.signed(), `,"signature":"%x"}`, h.Signature[:])
}

// ParseHead reads a line of [Head.Text], with or without a line feed. It accepts
// exactly what Text writes. The signature is not verified.
func ParseHead(text []byte) (Head, error) {
	text = bytes.TrimSuffix(text, []byte("\n"))
	if len(text) > MaxHead {
		return Head{}, fmt.Errorf("audit: a head of %d bytes, at most %d", len(text), MaxHead)
	}
	var j headJSON
	if err := json.Unmarshal(text, &j); err != nil {
		return Head{}, fmt.Errorf("audit: not a head: %w", err)
	}
	h := Head{Kind: j.Kind, Store: j.Store, Chain: j.Chain, Server: j.Server, Emulated: j.Emulated, Count: j.Count, Time: j.Time}
	m, ok := parseMAC(j.MAC)
	signature, err := hex.DecodeString(j.Signature)
	if !ok || err != nil || len(signature) != len(h.Signature) {
		return Head{}, errors.New("audit: not a head: no MAC or no signature in hex")
	}
	h.MAC, h.Signature = m, [ed25519.SignatureSize]byte(signature)
	known := h.Kind == KindChain && h.Count == 0 && h.MAC == mac{} || h.Kind == KindHead || h.Kind == KindAnchor && h.Count > 0
	if j.Format != HeadFormat || !known || h.Store == "" || !isName(h.Store) || !isName(h.Server) || !isChainID(h.Chain) {
		return Head{}, errors.New("audit: not a head of a kind that is known")
	}
	if h.Count == 0 && h.MAC != (mac{}) || !bytes.Equal(h.Text(), text) {
		return Head{}, errors.New("audit: the head is not in the one form that it has")
	}
	return h, nil
}

// Verify tells whether the head was signed with the key, which may be any bytes.
func (h *Head) Verify(key ed25519.PublicKey) bool {
	return len(key) == ed25519.PublicKeySize && h.signedBy(key)
}

func (h *Head) signedBy(key ed25519.PublicKey) bool {
	return ed25519.Verify(key, h.signed(), h.Signature[:])
}

// sign makes the signature, with the time in whole milliseconds.
func (h *Head) sign(signer ed25519.PrivateKey) {
	h.Time = h.Time.UTC().Truncate(time.Millisecond)
	h.Signature = [ed25519.SignatureSize]byte(ed25519.Sign(signer, h.signed()))
}

// Names of the files beside the segments.
const (
	chainFile = "chain.json"
	headsFile = "heads.jsonl"
)

// createChain makes the chain file of a folder that has none.
func createChain(dir string, o *Options) error {
	path := filepath.Join(dir, chainFile)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !isName(o.Server) {
		return fmt.Errorf("audit: the server's name %q is not one", o.Server)
	}
	segments, err := listSegments(dir)
	if err != nil {
		return err
	}
	if len(segments) > 0 {
		return fmt.Errorf("%s: there are segments, but %s is missing", dir, chainFile)
	}
	var id [16]byte
	rand.Read(id[:])
	h := Head{Kind: KindChain, Store: o.StoreID, Chain: hex.EncodeToString(id[:]), Server: o.Server, Emulated: o.Emulated, Time: o.Now()}
	k, err := deriveKeys(o.Key, h.Store, h.Chain)
	if err != nil {
		return err
	}
	h.sign(k.signer)
	err = durable.CreateFile(path, append(h.Text(), '\n'))
	if errors.Is(err, fs.ErrExist) {
		return nil // by another process, just now
	}
	return err
}

// ReadChain returns what the chain file of a folder says; the signature is not
// verified. The error matches [ErrNone] if there is no log.
func ReadChain(dir string) (Head, error) { return readChain(dir) }

// NewestHead returns the newest head in a folder, that of the chain file if there is
// none yet. The signature is not verified.
func NewestHead(dir string) (Head, error) {
	newest, err := readChain(dir)
	if err != nil {
		return Head{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, headsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Head{}, err
	}
	for line := range bytes.Lines(text) {
		h, err := ParseHead(line)
		if err == nil && h.Kind == KindHead && h.Chain == newest.Chain && h.Count >= newest.Count {
			newest = h
		}
	}
	return newest, nil
}

// readChain reads the chain file; the signature is not verified. The error matches
// [ErrNone] if there is none.
func readChain(dir string) (Head, error) {
	f, err := durable.OpenPrivate(filepath.Join(dir, chainFile), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return Head{}, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	if err != nil {
		return Head{}, err
	}
	defer f.Close()
	text := make([]byte, MaxHead+2)
	n, _ := f.ReadAt(text, 0)
	h, err := ParseHead(text[:n])
	if err == nil && h.Kind != KindChain {
		err = fmt.Errorf("a head of kind %q", h.Kind)
	}
	if err != nil {
		return Head{}, fmt.Errorf("%s: %w: %w", chainFile, ErrOtherKey, err)
	}
	return h, nil
}
