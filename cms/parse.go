// SPDX-License-Identifier: Apache-2.0

package cms

import (
	"bytes"

	"github.com/cretula/cretula/reason"
)

// Parse reads an envelope without opening it: the layout of AWS KMS, with the
// content in chunks or as one primitive string, and the same with definite
// lengths at any of the five outer levels (DER). Hash parameters may be NULL
// or absent (RFC 4055 §2.1). It keeps no reference to envelope.
//
// What is cut, too long (MaxEnvelope), badly encoded or has anything before,
// between or after what belongs there is refused with [reason.Malformed]; a
// recipient that is not named by its key identifier, versions other than AWS's
// and other algorithms with [reason.Unsupported]. The message holds the offset
// of the fault. The rules are cms.size, cms.ber.cut, cms.ber.tag,
// cms.ber.length, cms.ber.extra, cms.content-type, cms.version,
// cms.recipient.count, cms.recipient.kind, cms.recipient.identifier,
// cms.key-encryption, cms.encrypted-key, cms.content-encryption, cms.content
// and cms.trailing.
func Parse(envelope []byte) (*EnvelopedData, error) {
	if len(envelope) == 0 || len(envelope) > MaxEnvelope {
		return nil, reason.New(reason.Malformed, "cms.size", "envelope has %d bytes, not 1 to %d", len(envelope), MaxEnvelope)
	}
	r := &reader{data: envelope, end: len(envelope)}
	e := &EnvelopedData{}

	info := r.enter(tagSequence, "ContentInfo")
	r.oid(oidEnvelopedData, reason.Malformed, "cms.content-type", "the content type", "enveloped-data")
	explicit := r.enter(tagContext0, "content [0]")
	r.envelopedData(e)
	r.leave(explicit)
	r.leave(info)
	if r.err == nil && r.pos != len(envelope) {
		r.fail(r.pos, reason.Malformed, "cms.trailing", "%d bytes follow its end", len(envelope)-r.pos)
	}
	if r.err != nil {
		return nil, r.err
	}
	return e, nil
}

// envelopedData reads the type of that name, RFC 5652 §6.1, without
// originatorInfo and unprotectedAttrs. Its version is 2 because that of its
// recipient is.
func (r *reader) envelopedData(e *EnvelopedData) {
	data := r.enter(tagSequence, "EnvelopedData")
	at := r.pos
	version := r.integer("the version of EnvelopedData")
	set := r.enterDefinite(tagSet, "recipientInfos")
	r.recipient(e)
	if r.more(set) {
		r.fail(r.pos, reason.Malformed, "cms.recipient.count", "there is more than one recipient")
	}
	r.leave(set)
	// Only now: a recipient of another kind, which explains the other
	// version, is the better thing to say.
	if version != 2 {
		r.fail(at, reason.Unsupported, "cms.version", "the version of EnvelopedData is %d, not 2", version)
	}
	r.encryptedContent(e)
	r.leave(data)
}

// recipient reads KeyTransRecipientInfo, RFC 5652 §6.2.1, in its version 2,
// whose recipient is a subjectKeyIdentifier.
func (r *reader) recipient(e *EnvelopedData) {
	switch tag := r.peek(); {
	case r.err != nil:
		return
	case tag == 0:
		r.fail(r.pos, reason.Malformed, "cms.recipient.count", "there is no recipient")
	case tag >= 0xa1 && tag <= 0xa4:
		r.fail(r.pos, reason.Unsupported, "cms.recipient.kind", "the recipient is of kind [%d], not one that key transport serves", tag&0x1f)
	}
	info := r.enterDefinite(tagSequence, "KeyTransRecipientInfo")
	at := r.pos
	switch version := r.integer("the version of KeyTransRecipientInfo"); {
	case r.err != nil:
		return
	case version == 0 || r.peek() == tagSequence:
		r.fail(at, reason.Unsupported, "cms.recipient.kind", "the recipient is named by issuer and serial number, not by its key identifier")
	case version != 2:
		r.fail(at, reason.Unsupported, "cms.version", "the version of KeyTransRecipientInfo is %d, not 2", version)
	}
	at = r.pos
	ski := r.primitive(tagPrimitive0, "subjectKeyIdentifier")
	if r.err == nil && (len(ski) == 0 || len(ski) > maxSKI) {
		r.fail(at, reason.Malformed, "cms.recipient.identifier", "the key identifier has %d bytes, not 1 to %d", len(ski), maxSKI)
	}
	e.SubjectKeyIdentifier = bytes.Clone(ski)
	r.keyEncryption()
	at = r.pos
	key := r.primitive(tagOctetString, "encryptedKey")
	if n := len(key); r.err == nil && n != 256 && n != 384 && n != 512 {
		r.fail(at, reason.Malformed, "cms.encrypted-key", "the encrypted key has %d bytes, not 256, 384 or 512", n)
	}
	e.EncryptedKey = bytes.Clone(key)
	r.leave(info)
}

// keyEncryption reads the AlgorithmIdentifier of RSAES-OAEP, RFC 4055 §4.1.
// What its parameters leave out is SHA-1 by default, so they must name SHA-256
// twice; the label may only be the empty one, said or left out.
func (r *reader) keyEncryption() {
	const rule = "cms.key-encryption"
	id := r.enterDefinite(tagSequence, "keyEncryptionAlgorithm")
	r.oid(oidRSAESOAEP, reason.Unsupported, rule, "the key encryption", "RSAES-OAEP")
	params := r.enterDefinite(tagSequence, "RSAES-OAEP-params")
	if r.err == nil && r.peek() != tagContext0 {
		r.fail(r.pos, reason.Unsupported, rule, "the hash of RSAES-OAEP is SHA-1 by default, not SHA-256")
	}
	hash := r.enterDefinite(tagContext0, "hashFunc [0]")
	r.hash("the hash of RSAES-OAEP")
	r.leave(hash)
	if r.err == nil && r.peek() != tagContext1 {
		r.fail(r.pos, reason.Unsupported, rule, "the hash of MGF1 is SHA-1 by default, not SHA-256")
	}
	mask := r.enterDefinite(tagContext1, "maskGenFunc [1]")
	maskID := r.enterDefinite(tagSequence, "the mask generation")
	r.oid(oidMGF1, reason.Unsupported, rule, "the mask generation", "MGF1")
	r.hash("the hash of MGF1")
	r.leave(maskID)
	r.leave(mask)
	if r.peek() == tagContext2 {
		r.emptyLabel()
	}
	r.leave(params)
	r.leave(id)
}

// emptyLabel reads a pSourceFunc that says what its absence means.
func (r *reader) emptyLabel() {
	source := r.enterDefinite(tagContext2, "pSourceFunc [2]")
	id := r.enterDefinite(tagSequence, "the label's source")
	r.oid(oidPSpecified, reason.Unsupported, "cms.key-encryption", "the label's source", "id-pSpecified")
	at := r.pos
	if label := r.primitive(tagOctetString, "the label"); len(label) > 0 {
		r.fail(at, reason.Unsupported, "cms.key-encryption", "the label of RSAES-OAEP has %d bytes, not 0", len(label))
	}
	r.leave(id)
	r.leave(source)
}

// hash reads an AlgorithmIdentifier of SHA-256, its parameters NULL or absent.
func (r *reader) hash(name string) {
	id := r.enterDefinite(tagSequence, name)
	r.oid(oidSHA256, reason.Unsupported, "cms.key-encryption", name, "SHA-256")
	if r.peek() == tagNull {
		at := r.pos
		if null := r.primitive(tagNull, "NULL"); len(null) > 0 {
			r.fail(at, reason.Malformed, "cms.ber.length", "NULL has %d bytes of contents", len(null))
		}
	}
	r.leave(id)
}

// encryptedContent reads EncryptedContentInfo, RFC 5652 §6.1, with the
// algorithm of RFC 3565 §2.
func (r *reader) encryptedContent(e *EnvelopedData) {
	info := r.enter(tagSequence, "EncryptedContentInfo")
	r.oid(oidData, reason.Unsupported, "cms.content-type", "the type of the encrypted content", "data")
	id := r.enterDefinite(tagSequence, "contentEncryptionAlgorithm")
	r.oid(oidAES256CBC, reason.Unsupported, "cms.content-encryption", "the content encryption", "AES-256-CBC")
	at := r.pos
	iv := r.primitive(tagOctetString, "the IV")
	if r.err == nil && len(iv) != blockSize {
		r.fail(at, reason.Malformed, "cms.content-encryption", "the IV has %d bytes, not %d", len(iv), blockSize)
	}
	copy(e.IV[:], iv)
	r.leave(id)
	at = r.pos
	r.content(e)
	if n := len(e.Content); r.err == nil && (n == 0 || n%blockSize != 0) {
		r.fail(at, reason.Malformed, "cms.content", "the encrypted content has %d bytes, not a positive multiple of %d", n, blockSize)
	}
	r.leave(info)
}

// content reads encryptedContent: an octet string under [0] IMPLICIT, whole or
// in segments (X.690 §8.7.3). Segments are not nested and not empty.
func (r *reader) content(e *EnvelopedData) {
	if r.peek() == tagPrimitive0 {
		e.Form = Primitive
		e.Content = bytes.Clone(r.primitive(tagPrimitive0, "encryptedContent"))
		e.ChunkSizes = []int{len(e.Content)}
		return
	}
	e.Form = Chunked
	chunks := r.enter(tagContext0, "encryptedContent")
	for r.more(chunks) {
		at := r.pos
		chunk := r.primitive(tagOctetString, "a chunk of the encrypted content")
		if r.err == nil && len(chunk) == 0 {
			r.fail(at, reason.Malformed, "cms.content", "a chunk of the encrypted content is empty")
		}
		e.Content = append(e.Content, chunk...)
		e.ChunkSizes = append(e.ChunkSizes, len(chunk))
	}
	r.leave(chunks)
}
