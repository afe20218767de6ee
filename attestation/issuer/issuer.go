// SPDX-License-Identifier: Apache-2.0

// Package issuer makes attestation documents under a private root, in the shape
// of AWS's: the five-certificate chain with its names, lifetimes, key usages and
// serial numbers, and the bytes of the document. The subject of the root says
// that it is an emulator's; nothing that is issued here is AWS's word.
//
// The shape is that of genuine documents of 2021 to 2026 and of AWS's nsm-api,
// docs/attestation_process.md.
package issuer

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
)

// DefaultRegion is the region in the names of certificates if none is given.
const DefaultRegion = "us-east-1"

// Options are the options of an [Authority].
type Options struct {
	// Now is the clock, time.Now if nil.
	Now func() time.Time
	// Region is the region in the names of certificates, [DefaultRegion] if
	// empty.
	Region string
}

// Content is what a document is to say.
type Content struct {
	// Kind is KindEnclave if zero.
	Kind attestation.Kind
	// ModuleID is i- and 17 hex digits, then -enc (for a NitroTPM -tpm) and 16
	// hex digits: see [NewModuleID].
	ModuleID string
	// PCRs are written as they are, at least one; a NitroTPM has no register
	// above 23. What debug mode makes zero is the caller's to make zero.
	PCRs pcr.Set
	// PublicKey, UserData and Nonce are written as null if nil and as an empty
	// byte string if empty. Each has at most 4096 bytes, more than a verifier
	// accepts, as the platform signs it.
	PublicKey, UserData, Nonce []byte
	// Time is the document's timestamp, cut to milliseconds, and the time at
	// which its leaf is made or still in use; now if zero.
	Time time.Time
	// IndefiniteMap chooses the form of the payload's map that AWS has written
	// since 2025, indefinite length.
	IndefiniteMap bool
}

// maxField is the size of the largest request that an NSM takes.
const maxField = 4096

var (
	enclaveID  = regexp.MustCompile(`^i-[0-9a-f]{17}-enc[0-9a-f]{16}$`)
	nitroTPMID = regexp.MustCompile(`^i-[0-9a-f]{17}-tpm[0-9a-f]{16}$`)
)

// instanceLength is the length of the instance id in a module id.
const instanceLength = len("i-0123456789abcdef0")

// NewModuleID returns the id of an enclave that was created on that instance at
// that time: the instance id, "-enc", the milliseconds since 1970 in 12 hex
// digits and 16 random bits. random is crypto/rand's if nil; NewModuleID panics
// if it cannot be read.
func NewModuleID(instanceID string, created time.Time, random io.Reader) string {
	if random == nil {
		random = rand.Reader
	}
	var tail [2]byte
	if _, err := io.ReadFull(random, tail[:]); err != nil {
		panic("issuer: the source of randomness fails: " + err.Error())
	}
	return fmt.Sprintf("%s-enc%012x%x", instanceID, uint64(created.UnixMilli())&(1<<48-1), tail)
}

// check refuses what no document could say, and fills in defaults.
func (c *Content) check(now func() time.Time) error {
	if c.Kind == 0 {
		c.Kind = attestation.KindEnclave
	}
	shape, registers := enclaveID, pcr.Index(pcr.Count)
	switch c.Kind {
	case attestation.KindEnclave:
	case attestation.KindNitroTPM:
		shape, registers = nitroTPMID, 24
	default:
		return fmt.Errorf("issuer: there is no document of %v", c.Kind)
	}
	if !shape.MatchString(c.ModuleID) {
		return fmt.Errorf("issuer: %q is no module id of a document of kind %v", c.ModuleID, c.Kind)
	}
	if c.PCRs.Len() == 0 {
		return errors.New("issuer: a document has at least one register")
	}
	for i := range c.PCRs.All() {
		if i >= registers {
			return fmt.Errorf("issuer: a document of kind %v has no %v", c.Kind, i)
		}
	}
	for _, field := range [][]byte{c.PublicKey, c.UserData, c.Nonce} {
		if len(field) > maxField {
			return fmt.Errorf("issuer: public key, user data and nonce have at most %d bytes, not %d", maxField, len(field))
		}
	}
	if c.Time.IsZero() {
		c.Time = now()
	}
	if c.Time.UnixMilli() <= 0 {
		return errors.New("issuer: the time of a document is after 1970")
	}
	return nil
}

// Issue makes a document: an untagged COSE_Sign1 (RFC 9052) signed with ES384.
// Certificates are made as they are needed and reused: with a leaf at hand
// that costs one ECDSA signature. Issue may be called by many goroutines.
func (a *Authority) Issue(c Content) ([]byte, error) {
	if err := c.check(a.now); err != nil {
		return nil, err
	}
	leaf, err := a.leaf(c.ModuleID, c.Time)
	if err != nil {
		return nil, err
	}
	return sign(leaf.key, encodePayload(&c, leaf))
}

// The protected header {1: -35} and the empty unprotected one; RFC 9052 §3.1,
// RFC 9053 §2.1.
const (
	documentHead  = "\x84\x44\xa1\x01\x38\x22\xa0"
	signatureHead = "\x84\x6aSignature1\x44\xa1\x01\x38\x22\x40"
)

// sign wraps the payload, of 256 to 65535 bytes, in a COSE_Sign1.
func sign(key *ecdsa.PrivateKey, payload []byte) ([]byte, error) {
	payloadString := appendBytes(nil, payload)
	h := sha512.New384()
	h.Write([]byte(signatureHead))
	h.Write(payloadString)
	r, s, err := ecdsa.Sign(rand.Reader, key, h.Sum(nil))
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	document := make([]byte, 0, len(documentHead)+len(payloadString)+2+96)
	document = append(document, documentHead...)
	document = append(document, payloadString...)
	document = append(document, 0x58, 96)
	var raw [96]byte
	r.FillBytes(raw[:48])
	s.FillBytes(raw[48:])
	return append(document, raw[:]...), nil
}

// encodePayload writes the nine keys in AWS's order.
func encodePayload(c *Content, leaf *issued) []byte {
	b := make([]byte, 0, 6<<10)
	if c.IndefiniteMap {
		b = append(b, 0xbf)
	} else {
		b = append(b, 0xa9)
	}
	b = appendText(appendText(b, "module_id"), c.ModuleID)
	b = appendText(appendText(b, "digest"), "SHA384")
	b = append(appendText(b, "timestamp"), 0x1b)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixMilli()))
	if c.Kind == attestation.KindNitroTPM {
		b = appendText(b, "nitrotpm_pcrs")
	} else {
		b = appendText(b, "pcrs")
	}
	b = appendHead(b, 0xa0, c.PCRs.Len())
	for i, value := range c.PCRs.All() {
		b = appendBytes(appendHead(b, 0x00, int(i)), value[:])
	}
	b = appendBytes(appendText(b, "certificate"), leaf.cert.Raw)
	chain := leaf.parents()
	b = appendHead(appendText(b, "cabundle"), 0x80, len(chain))
	for _, parent := range chain {
		b = appendBytes(b, parent.Raw)
	}
	b = appendOptional(appendText(b, "public_key"), c.PublicKey)
	b = appendOptional(appendText(b, "user_data"), c.UserData)
	b = appendOptional(appendText(b, "nonce"), c.Nonce)
	if c.IndefiniteMap {
		b = append(b, 0xff)
	}
	return b
}

// appendHead appends the preferred head of an item, RFC 8949 §3; n < 1<<16.
func appendHead(b []byte, major byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	}
	return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
}

func appendText(b []byte, s string) []byte { return append(appendHead(b, 0x60, len(s)), s...) }

func appendBytes(b, s []byte) []byte { return append(appendHead(b, 0x40, len(s)), s...) }

func appendOptional(b, s []byte) []byte {
	if s == nil {
		return append(b, 0xf6)
	}
	return appendBytes(b, s)
}

// leafSerial is the module's own 8 bytes (those of a NitroTPM are zero) and the
// seconds since 1970 in 8.
func leafSerial(moduleID string, at time.Time) []byte {
	serial := make([]byte, 8, 16)
	if _, err := hex.Decode(serial, []byte(moduleID[len(moduleID)-16:])); err != nil {
		return nil
	}
	return binary.BigEndian.AppendUint64(serial, uint64(at.Unix()))
}

// parents returns the certificates above a certificate, root first.
func (i *issued) parents() []*x509.Certificate {
	if i.parent == nil {
		return nil
	}
	return append(i.parent.parents(), i.parent.cert)
}
