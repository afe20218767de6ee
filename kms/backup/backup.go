// SPDX-License-Identifier: Apache-2.0

// Package backup is the file that the rows of a store are backed up in
// (docs/formats/backup.md). It is encrypted and authenticated under a key of its
// own that is derived from the root key, which it does not contain: with the file
// alone nothing can be read, nor a file be made that [Open] accepts.
package backup

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cretula/cretula/kms/rootkey"
)

var (
	// ErrFormat: the file is no backup, or one of a later form.
	ErrFormat = errors.New("backup: not a backup of a form that is known")
	// ErrRootKey: the backup was made under another root key.
	ErrRootKey = errors.New("backup: made under another root key")
	// ErrChanged: the file is cut off, or not what was written.
	ErrChanged = errors.New("backup: cut off or changed")
)

// A Header begins a backup. It is readable without the root key, and believed
// only once [Open] has read the frame behind it.
type Header struct {
	Schema string `json:"schema"`
	// ID names the backup: 32 random bytes in hexadecimal, of which its key is
	// derived.
	ID string `json:"id"`
	// RootKey is the fingerprint of the root key.
	RootKey string `json:"root_key"`
	// StoreID, Emulated and Account are those of the store.
	StoreID  string    `json:"store_id"`
	Emulated bool      `json:"emulated"`
	Account  string    `json:"account"`
	Created  time.Time `json:"created"`
}

const (
	magic  = "cretula backup 1\n"
	schema = "cretula.kms.backup.v1"

	idSize    = 32
	maxHeader = 4096
	// frameSize is the most plaintext of a frame.
	frameSize = 256 << 10
	tagSize   = 16
)

// aad of a frame is the hash of all before the first frame, and whether it is the
// last one: frames can be neither left out nor put in another place, since the
// nonce counts them, and the end cannot be cut off.
func aad(head []byte, last bool) []byte {
	sum := sha256.Sum256(head)
	if last {
		return append(sum[:], 1)
	}
	return append(sum[:], 0)
}

func nonce(frame uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), frame)
}

// aead returns the cipher of one backup. Its key serves no other, so that a
// counter can be the nonce (NIST SP 800-38D §8.2.1).
func aead(root rootkey.Key, id string) (cipher.AEAD, error) {
	key, err := root.Derive("backup/1/" + id)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// A Writer writes a backup. It must be closed.
type Writer struct {
	out   io.Writer
	aead  cipher.AEAD
	head  []byte
	frame uint64
	plain []byte
	rows  uint64
}

// Create begins a backup: of h, the members StoreID, Emulated, Account and Created
// count, the others are set.
func Create(out io.Writer, root rootkey.Key, h Header) (*Writer, error) {
	id := make([]byte, idSize)
	if _, err := rand.Read(id); err != nil {
		return nil, err
	}
	h.Schema, h.ID, h.RootKey = schema, hex.EncodeToString(id), root.ID()
	encoded, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(encoded) > maxHeader {
		return nil, fmt.Errorf("backup: header of %d bytes, at most %d", len(encoded), maxHeader)
	}
	head := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(encoded)))
	w := &Writer{out: out, head: append(head, encoded...), plain: make([]byte, 0, frameSize)}
	if w.aead, err = aead(root, h.ID); err != nil {
		return nil, err
	}
	_, err = out.Write(w.head)
	return w, err
}

// write adds plaintext.
func (w *Writer) write(data []byte) error {
	for len(data) > 0 {
		// A full frame waits until it is known not to be the last.
		if len(w.plain) == frameSize {
			if err := w.seal(false); err != nil {
				return err
			}
		}
		n := copy(w.plain[len(w.plain):frameSize], data)
		w.plain = w.plain[:len(w.plain)+n]
		data = data[n:]
	}
	return nil
}

// seal writes a frame: the length of its ciphertext in 4 bytes, and that.
func (w *Writer) seal(last bool) error {
	sealed := binary.BigEndian.AppendUint32(nil, uint32(len(w.plain)+tagSize))
	sealed = w.aead.Seal(sealed, nonce(w.frame), w.plain, aad(w.head, last))
	w.frame++
	w.plain = w.plain[:0]
	_, err := w.out.Write(sealed)
	return err
}

// Close writes the end. Without it the backup is refused as cut off. What it is
// written to is the caller's to close.
func (w *Writer) Close() error {
	if err := w.write(binary.BigEndian.AppendUint64([]byte{recordEnd}, w.rows)); err != nil {
		return err
	}
	return w.seal(true)
}

// Rows returns how many rows were put.
func (w *Writer) Rows() uint64 { return w.rows }

// ReadHeader reads the header alone, which nothing proves.
func ReadHeader(in io.Reader) (Header, error) {
	h, _, err := readHead(in)
	return h, err
}

func readHead(in io.Reader) (Header, []byte, error) {
	head := make([]byte, len(magic)+4)
	if _, err := io.ReadFull(in, head); err != nil {
		return Header{}, nil, readError(err, ErrFormat)
	}
	size := binary.BigEndian.Uint32(head[len(magic):])
	if string(head[:len(magic)]) != magic || size == 0 || size > maxHeader {
		return Header{}, nil, ErrFormat
	}
	encoded := make([]byte, size)
	if _, err := io.ReadFull(in, encoded); err != nil {
		return Header{}, nil, readError(err, ErrChanged)
	}
	var h Header
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&h); err != nil {
		return Header{}, nil, fmt.Errorf("%w: its header is not what is written", ErrFormat)
	}
	id, err := hex.DecodeString(h.ID)
	if h.Schema != schema || err != nil || len(id) != idSize || hex.EncodeToString(id) != h.ID {
		return Header{}, nil, fmt.Errorf("%w: its header is not what is written", ErrFormat)
	}
	return h, append(head, encoded...), nil
}

// readError keeps what the system says, and gives the end of the file a name.
func readError(err, end error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return end
	}
	return err
}

// A Reader reads a backup.
type Reader struct {
	// Header is that of the backup, which the root key has confirmed.
	Header Header

	in    *bufio.Reader
	aead  cipher.AEAD
	head  []byte
	frame uint64
	plain []byte // what is left of the last frame that was read
	last  bool
	rows  uint64
}

// Open begins to read a backup. The error matches [ErrFormat], [ErrRootKey] or
// [ErrChanged].
func Open(in io.Reader, root rootkey.Key) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 1<<16)}
	var err error
	if r.Header, r.head, err = readHead(r.in); err != nil {
		return nil, err
	}
	if r.Header.RootKey != root.ID() {
		return nil, fmt.Errorf("%w: %.16q, this one is %s", ErrRootKey, r.Header.RootKey, root.ID())
	}
	if r.aead, err = aead(root, r.Header.ID); err != nil {
		return nil, err
	}
	return r, r.open()
}

// open reads the next frame.
func (r *Reader) open() error {
	var length [4]byte
	if _, err := io.ReadFull(r.in, length[:]); err != nil {
		return readError(err, ErrChanged)
	}
	size := binary.BigEndian.Uint32(length[:])
	if size <= tagSize || size > frameSize+tagSize {
		return ErrChanged
	}
	sealed := make([]byte, size)
	if _, err := io.ReadFull(r.in, sealed); err != nil {
		return readError(err, ErrChanged)
	}
	// The last one is followed by nothing.
	_, err := r.in.Peek(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	r.last = err != nil
	if r.plain, err = r.aead.Open(sealed[:0], nonce(r.frame), sealed, aad(r.head, r.last)); err != nil {
		return ErrChanged
	}
	r.frame++
	return nil
}

// read returns the next n bytes of plaintext.
func (r *Reader) read(n int) ([]byte, error) {
	out := make([]byte, 0, min(n, frameSize))
	for len(out) < n {
		if len(r.plain) == 0 {
			if r.last {
				return nil, ErrChanged
			}
			if err := r.open(); err != nil {
				return nil, err
			}
		}
		part := r.plain[:min(len(r.plain), n-len(out))]
		out, r.plain = append(out, part...), r.plain[len(part):]
	}
	return out, nil
}
