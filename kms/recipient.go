// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"sync"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// A recipient is a verified document, the key in it, and what the event of the request
// says of it.
type recipient struct {
	document  attestation.Document
	key       *cms.Recipient
	described AdditionalData
	// digests are those that described refers to.
	digests [6]pcr.Digest
}

// recipients has the memory of those of calls that were answered.
var recipients = sync.Pool{New: func() any { return new(recipient) }}

// recycle gives back the memory of a recipient, nil for none. Nothing may refer to it
// any more: see [call.recycle].
func (r *recipient) recycle() {
	if r != nil {
		*r = recipient{}
		recipients.Put(r)
	}
}

// verifyRecipient judges the Recipient of a request, if there is one. The
// document must be genuine, recent and carry an RSA key; which image it is from
// is for policies to judge. Every fault is a ValidationException, before any
// policy is looked at: AWS models no other exception that would fit.
// k is the key of the request, nil if there is none.
func (c *call) verifyRecipient(k *key) error {
	in := c.common.Recipient
	switch {
	case c.recipient != nil:
		return nil // verified before the request was decided anew
	case c.extended(k):
		return c.verifyExtension(k)
	case in == nil || !c.op.TakesRecipient():
		return nil
	}
	switch {
	case in.KeyEncryptionAlgorithm == nil:
		return c.reject(reason.New(reason.Malformed, "kms.recipient.member", "Recipient has no KeyEncryptionAlgorithm"))
	case *in.KeyEncryptionAlgorithm != kmsapi.RSAESOAEPSHA256:
		return c.reject(reason.New(reason.Unsupported, "kms.recipient.algorithm", "KeyEncryptionAlgorithm is not RSAES_OAEP_SHA_256"))
	case in.AttestationDocument == nil:
		return c.reject(reason.New(reason.Malformed, "kms.recipient.member", "Recipient has no AttestationDocument"))
	}
	r, err := c.verifyDocument(in.AttestationDocument)
	if err != nil {
		return err
	}
	if r.key, err = recipientKey(r.document.PublicKey); err != nil {
		return c.reject(err)
	}
	c.recipient = r
	return nil
}

// verifyDocument returns what a document says once it is proven.
func (c *call) verifyDocument(data []byte) (*recipient, error) {
	r := recipients.Get().(*recipient)
	err := c.server.verifier.VerifyLimited(&r.document, data, attestation.Expectation{
		AllowAnyImage: true,
		AllowAnyKind:  true,
		AllowDebug:    true, // judged after the policies: see refuseDebug
		Time:          c.now,
	}, c.allowUnknown)
	if err != nil {
		r.recycle()
		return nil, c.reject(err)
	}
	r.describe()
	c.proven, c.event.Additional = r, &r.described
	c.event.Emulated = c.event.Emulated || r.document.Emulated
	return r, nil
}

// allowUnknown asks whether the caller may have as many signatures checked as a
// document needs whose chain was not seen before: each costs as much as a thousand
// requests without a document.
func (c *call) allowUnknown(signatures int) error {
	if allow := c.server.allowCertificates; allow != nil && !allow(c.caller, signatures) {
		return kmsapi.Throttled()
	}
	return nil
}

// reject records why a document was refused and returns what the client sees, which
// may be err itself.
func (c *call) reject(err error) error {
	if answer, ok := err.(*kmsapi.Error); ok {
		return answer
	}
	refused, ok := err.(*reason.Error)
	if !ok {
		return kmsapi.Internal(err)
	}
	c.event.Problems = refused.Problems
	c.event.Outcome = Rejected
	answer := kmsapi.Errorf(kmsapi.Validation, "The attestation document in the request is not valid: %v (%s).", refused.Reason(), refused.Rule())
	answer.Reason = refused.Reason().String()
	return answer
}

// recipientKey reads the SubjectPublicKeyInfo of a document. Package cms says
// which RSA keys an envelope can be sealed to.
func recipientKey(spki []byte) (*cms.Recipient, error) {
	if key := cms.ParseRecipient(spki); key != nil {
		return key, nil
	}
	// All others are refused, and what follows says why.
	if spki == nil {
		return nil, reason.New(reason.Malformed, "kms.recipient.key.absent", "the document carries no public key")
	}
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		// The parser's message is not passed on: it quotes the input.
		return nil, reason.New(reason.Malformed, "kms.recipient.key.form", "the public key of the document is no SubjectPublicKeyInfo")
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, reason.New(reason.Unsupported, "kms.recipient.key.type", "the public key of the document is not RSA")
	}
	// Another encoding of the same key would give another key identifier.
	canonical, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(canonical, spki) {
		return nil, reason.New(reason.Malformed, "kms.recipient.key.form", "the public key of the document is not in DER")
	}
	return cms.NewRecipient(key)
}

// seal encrypts an answer to the recipient.
func (r *recipient) seal(content []byte) ([]byte, error) {
	sealed, err := r.key.Seal(content)
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	return sealed, nil
}
