// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
)

// A Deriver makes 32 secret bytes for a label, always the same; a root key of
// package rootkey is one.
type Deriver interface {
	Derive(label string) ([]byte, error)
}

// Labels of the keys: the first for each chain, followed by /STORE/CHAIN, the
// second for each store, followed by /STORE.
const (
	chainLabel = "cretula kms audit chain v1"
	headLabel  = "cretula kms audit head v1"
)

// indexLabel sets the MAC of an index apart from those of records.
const indexLabel = "cretula kms audit index v1\n"

// A mac is the MAC of a record; the zero value stands before the first one.
type mac [sha256.Size]byte

// keys are those of one chain.
type keys struct {
	store, chain string
	secret       []byte
	signer       ed25519.PrivateKey
	hashes       *sync.Pool // of *hasher
}

func deriveKeys(root Deriver, store, chain string) (keys, error) {
	if root == nil || store == "" || !isName(store) || !isChainID(chain) {
		return keys{}, fmt.Errorf("audit: Key, a StoreID and a chain are needed")
	}
	secret, err := root.Derive(chainLabel + "/" + store + "/" + chain)
	if err != nil {
		return keys{}, err
	}
	signer, err := deriveSigner(root, store)
	if err != nil {
		return keys{}, err
	}
	return keys{
		store: store, chain: chain, secret: secret, signer: signer,
		hashes: &sync.Pool{New: func() any { return &hasher{Hash: hmac.New(sha256.New, secret)} }},
	}, nil
}

func deriveSigner(root Deriver, store string) (ed25519.PrivateKey, error) {
	seed, err := root.Derive(headLabel + "/" + store)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// PublicKey returns the key that the heads of a store's chains are verified with.
func PublicKey(root Deriver, store string) (ed25519.PublicKey, error) {
	signer, err := deriveSigner(root, store)
	if err != nil {
		return nil, err
	}
	return signer.Public().(ed25519.PublicKey), nil
}

func (k *keys) public() ed25519.PublicKey { return k.signer.Public().(ed25519.PublicKey) }

// A hasher makes MACs. What its hash is given and returns would be put on the heap
// each time if it were not there already.
type hasher struct {
	hash.Hash
	mac mac
}

// mac returns the MAC of a record behind the one with the MAC before.
func (k *keys) mac(before mac, body []byte) mac {
	h := k.hashes.Get().(*hasher)
	defer k.hashes.Put(h)
	h.mac = before
	h.Reset()
	h.Write(h.mac[:])
	return h.sum(body)
}

// indexMAC returns the MAC of an index.
func (k *keys) indexMAC(text []byte) mac {
	h := k.hashes.Get().(*hasher)
	defer k.hashes.Put(h)
	h.Reset()
	io.WriteString(h, indexLabel)
	return h.sum(text)
}

// sum returns the MAC of what was written and of text behind it.
func (h *hasher) sum(text []byte) mac {
	h.Write(text)
	h.Sum(h.mac[:0])
	return h.mac
}

// appendLine appends the line of a record and returns its MAC.
func (k *keys) appendLine(dst []byte, seq, synced uint64, event []byte, before mac) ([]byte, mac) {
	start := len(dst)
	dst = appendBody(dst, seq, synced, event)
	m := k.mac(before, dst[start:])
	dst = append(dst, macMember...)
	dst = hex.AppendEncode(dst, m[:])
	return append(dst, lineEnd...), m
}

// fits tells whether the MAC of a line is that of its content behind a record with
// the MAC before.
func (k *keys) fits(l *line, before mac) bool {
	m := k.mac(before, l.body)
	return hmac.Equal(m[:], l.mac[:])
}
