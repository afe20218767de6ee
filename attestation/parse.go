// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/cretula/cretula/pcr"
)

// An Unverified is a document that was read and not verified: whatever it says
// may be anyone's invention. Each accessor says so by its name. Slices that
// accessors return belong to the Unverified and must not be changed.
type Unverified struct {
	protected, payload, signature []byte

	kind                        Kind
	moduleID, digest            string
	timestamp                   time.Time
	pcrs                        pcr.Set
	publicKey, userData, nonce  []byte
	bundle                      [][]byte
	leaf                        []byte
	payloadIndefinite, tagged18 bool
	// complete says that the payload was read to its end.
	complete bool
	// at are the places of fields in the document.
	at places
	// maxField is the greatest length of public_key, user_data and nonce.
	maxField int
	info     []Information
}

// places are offsets in the document, nowhere for what was not found.
type places struct {
	timestamp, registers, publicKey, userData, nonce, signature, leaf int

	bundle   [maxBundle]int
	register [pcr.Count]int
}

// certificateAt returns the place of certificate i of a chain of that length.
func (u *Unverified) certificateAt(i, length int) int {
	if i == length-1 {
		return u.at.leaf
	}
	return u.at.bundle[i]
}

// Information returns what is allowed in the document and not used.
func (u *Unverified) Information() []Information { return slices.Clone(u.info) }

// UnverifiedKind returns what the document claims to be evidence of.
func (u *Unverified) UnverifiedKind() Kind { return u.kind }

// UnverifiedModuleID returns the claimed module_id, such as
// i-0123456789abcdef0-enc0123456789abcdef.
func (u *Unverified) UnverifiedModuleID() string { return u.moduleID }

// UnverifiedDigest returns the name of the registers' hash, "SHA384".
func (u *Unverified) UnverifiedDigest() string { return u.digest }

// UnverifiedTimestamp returns the claimed time of making, in UTC with
// milliseconds.
func (u *Unverified) UnverifiedTimestamp() time.Time { return u.timestamp }

// UnverifiedPCRs returns the claimed registers.
func (u *Unverified) UnverifiedPCRs() pcr.Set { return u.pcrs }

// UnverifiedPublicKey returns public_key: nil if absent or null, not nil if
// present and empty.
func (u *Unverified) UnverifiedPublicKey() []byte { return u.publicKey }

// UnverifiedUserData returns user_data, nil as for UnverifiedPublicKey.
func (u *Unverified) UnverifiedUserData() []byte { return u.userData }

// UnverifiedNonce returns nonce, nil as for UnverifiedPublicKey.
func (u *Unverified) UnverifiedNonce() []byte { return u.nonce }

// UnverifiedCertificates returns the certificates as DER, perhaps: cabundle in
// its order, root first, then the leaf.
func (u *Unverified) UnverifiedCertificates() [][]byte {
	if len(u.bundle) == 0 || u.leaf == nil {
		return nil
	}
	return append(slices.Clip(u.bundle), u.leaf)
}

// UnverifiedPayloadHash returns the SHA-256 of the payload.
func (u *Unverified) UnverifiedPayloadHash() [32]byte { return sha256.Sum256(u.payload) }

// Tagged tells whether the document has COSE tag 18, which the NSM does not
// write.
func (u *Unverified) Tagged() bool { return u.tagged18 }

// IndefiniteMap tells whether the payload's top-level map has indefinite length,
// as AWS has written it since 2025.
func (u *Unverified) IndefiniteMap() bool { return u.payloadIndefinite }

// Parse reads a document without verifying anything: no signature, no
// certificate, no time. It is as strict as [LevelStrict] about its form. The error
// is a [*reason.Error] with every problem of form (rules doc.* and cose.*); the
// result is then nil. The result does not refer to document.
func Parse(document []byte) (*Unverified, error) {
	return parseAt(LevelStrict, document, MaxFieldSize)
}

// ParseLenient is [Parse] at [LevelLenient], with fields of up to
// [MaxLenientFieldSize] bytes.
func ParseLenient(document []byte) (*Unverified, error) {
	return parseAt(LevelLenient, document, MaxLenientFieldSize)
}

func parseAt(level Level, document []byte, maxField int) (*Unverified, error) {
	f := findings{level: level}
	u := new(Unverified)
	u.parse(bytes.Clone(document), &f, maxField)
	if err := f.err(); err != nil {
		return nil, err
	}
	u.info = f.info
	return u, nil
}

// parse reads as much of the document into u, which is zero, as can be read, and
// refers to document. What was not found stays zero, and then there are findings.
func (u *Unverified) parse(document []byte, f *findings, maxField int) {
	u.maxField = maxField
	if len(document) == 0 || len(document) > MaxDocumentSize {
		f.add(ruleSize, "the document has %d bytes, not 1 to %d", len(document), MaxDocumentSize)
		return
	}
	var payload walker
	f.addFault(u.readEnvelope(&walker{data: document, f: f}, &payload))
	if payload.data != nil {
		u.payload = payload.data
		f.addFault(u.readPayload(&payload))
	}
}

// readEnvelope reads the COSE_Sign1 array of RFC 9052 §4.2 and makes payload a
// walker of the payload, unless there is none.
func (u *Unverified) readEnvelope(w, payload *walker) error {
	h, err := w.next()
	for err == nil && h.major == majorTag {
		if h.arg != 18 || u.tagged18 {
			w.flag(ruleTag, h.at, "tag %d is not the one tag 18 that a COSE_Sign1 may have", h.arg)
		}
		if !u.tagged18 {
			w.f.note(infoTag, h.at, "the COSE array has tag %d", h.arg)
		}
		u.tagged18 = true
		h, err = w.next()
	}
	if err != nil {
		return err
	}
	if h.major != majorArray || !h.indefinite() && h.arg != 4 {
		return w.stop(ruleArray, h.at, "the document is %v, not an array of four", describeLength(h))
	}
	parts := 0
	err = w.elements(h, func(i int) error {
		parts++
		switch i {
		case 0:
			return u.readProtected(w)
		case 1:
			return readUnprotected(w)
		case 2:
			return readPayloadString(w, payload)
		case 3:
			return u.readSignature(w)
		}
		return w.stop(ruleArray, w.off, "the COSE array has more than four elements")
	})
	if err != nil {
		return err
	}
	if parts != 4 {
		return w.stop(ruleArray, h.at, "the COSE array has %d elements, not four", parts)
	}
	if left := len(w.data) - w.off; left > 0 {
		w.flag(ruleTrailing, w.off, "%d bytes follow the COSE array", left)
	}
	return nil
}

// readProtected reads the protected header and the map within it.
func (u *Unverified) readProtected(w *walker) error {
	h, err := w.next()
	if err != nil {
		return err
	}
	if h.major != majorBytes {
		w.flag(ruleProtected, h.at, "the protected header is %v, not a byte string", h)
		return w.rest(h, 0)
	}
	if u.protected, err = w.content(h); err != nil {
		return err
	}
	if len(u.protected) == 0 {
		w.flag(ruleAlgorithm, h.at, "the protected header is empty and names no algorithm")
		return nil
	}
	inner := w.inside(h, u.protected)
	w.f.addFault(readHeaderMap(&inner))
	return nil
}

// Labels and values of COSE headers in their only preferred encoding, RFC 9052
// §3.1 and RFC 9053 §2.1.
var (
	labelAlgorithm = []byte{0x01}
	labelCritical  = []byte{0x02}
)

const es384 = -35

func readHeaderMap(w *walker) error {
	h, err := w.next()
	if err != nil {
		return err
	}
	if h.major != majorMap {
		return w.stop(ruleProtected, h.at, "the protected header holds %v, not a map", h)
	}
	if h.indefinite() {
		w.flag(ruleIndefinite, h.at, "the protected header's map has indefinite length")
	}
	named := false
	err = w.entries(h, 0, func(key []byte, at int) error {
		switch {
		case bytes.Equal(key, labelAlgorithm):
			named = true
			value, err := w.next()
			if err != nil {
				return err
			}
			if value.major != majorNegative || value.arg != -1-es384 {
				w.flag(ruleAlgorithm, value.at, "the algorithm is not %d, ES384", es384)
			}
			return w.rest(value, 1)
		case bytes.Equal(key, labelCritical):
			w.flag(ruleCrit, at, "the protected header marks headers as critical, and none is understood")
		default:
			w.flag(ruleProtected, at, "the protected header has more than the algorithm")
		}
		return w.skip(1)
	})
	if err != nil {
		return err
	}
	if !named {
		w.flag(ruleAlgorithm, h.at, "the protected header names no algorithm")
	}
	if w.off < len(w.data) {
		w.flag(ruleProtected, w.off, "%d bytes follow the map in the protected header", len(w.data)-w.off)
	}
	return nil
}

func readUnprotected(w *walker) error {
	h, err := w.next()
	if err != nil {
		return err
	}
	from := w.off
	if err := w.rest(h, 0); err != nil {
		return err
	}
	if h.major != majorMap || !h.indefinite() && h.arg != 0 || h.indefinite() && w.off-from > 1 {
		w.flag(ruleUnprotected, h.at, "the unprotected header is %v, not an empty map", describeLength(h))
	}
	return nil
}

func readPayloadString(w, payload *walker) error {
	h, err := w.next()
	if err != nil {
		return err
	}
	if h.major != majorBytes {
		w.flag(rulePayload, h.at, "the payload is %v, not a byte string", h)
		return w.rest(h, 0)
	}
	content, err := w.content(h)
	if err != nil {
		return err
	}
	if len(content) == 0 || len(content) > MaxPayloadSize {
		w.flag(rulePayload, h.at, "the payload has %d bytes, not 1 to %d", len(content), MaxPayloadSize)
		return nil
	}
	*payload = w.inside(h, content)
	return nil
}

// signatureSize is the length of r and s of ES384, RFC 9053 §2.1.
const signatureSize = 96

func (u *Unverified) readSignature(w *walker) error {
	h, err := w.next()
	if err != nil {
		return err
	}
	if h.major != majorBytes {
		w.flag(ruleSignatureLength, h.at, "the signature is %v, not a byte string", h)
		return w.rest(h, 0)
	}
	signature, err := w.content(h)
	if err != nil {
		return err
	}
	if len(signature) != signatureSize {
		w.flag(ruleSignatureLength, h.at, "the signature has %d bytes, not %d", len(signature), signatureSize)
		return nil
	}
	u.signature, u.at.signature = signature, w.where(h.at)
	return nil
}
