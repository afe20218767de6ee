// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/reason"
)

// AttestedTag and AttestedValue are the tag by which a key asks for attested Sign,
// GenerateMac and PutKeyPolicy, an extension of this service.
//
// On such a key these operations need a Recipient with an attestation document,
// and policies see its registers as they do for Decrypt. The requests are no
// secret and their answers are not sealed, so the document must be made for the
// one request: its user_data is [RequestDigest], and it works once.
//
// A key that has had the tag never goes back: without the tag it refuses the three
// operations altogether, so that taking the tag off only ever denies more.
const (
	AttestedTag   = "cretula:attestation"
	AttestedValue = "required"
)

// Rules by which a document is refused beyond those of package attestation.
const (
	ruleRecipientRequired = "kms.recipient.required"
	ruleRecipientUserData = "kms.recipient.user-data"
	ruleRecipientUsed     = "kms.recipient.used"
	ruleRecipientTag      = "kms.recipient.tag"
)

// RequestDigest is what the user_data of a document for an attested Sign,
// GenerateMac or PutKeyPolicy must be: SHA-384(operation ‖ key ARN ‖ SHA-256 of the
// body). The body is that of the request without white space and without its
// member Recipient: see [kmsapi.WithoutRecipient].
func RequestDigest(operation, keyARN string, body []byte) [sha512.Size384]byte {
	sum := sha256.Sum256(body)
	return sha512.Sum384(slices.Concat([]byte(operation), []byte(keyARN), sum[:]))
}

func (k *keyRecord) tagged() bool {
	return slices.ContainsFunc(k.Tags, func(t keyTag) bool { return t.Key == AttestedTag })
}

// extended tells whether the operation of the call is attested on this key.
func (c *call) extended(k *key) bool { return c.op.Extension && k != nil && k.Attested }

// verifyExtension judges the Recipient of an operation that takes one on this key
// only. The document needs no public key: nothing is sealed to it.
func (c *call) verifyExtension(k *key) error {
	if !k.tagged() {
		return c.refuse(ruleRecipientTag, "the key had the tag "+AttestedTag+", and without it this operation is refused")
	}
	in := c.common.Recipient
	if in == nil || in.AttestationDocument == nil {
		return c.refuse(ruleRecipientRequired, "the key takes this operation with an attestation document in Recipient only")
	}
	r, err := c.verifyDocument(in.AttestationDocument)
	if err != nil {
		return err
	}
	body, err := kmsapi.WithoutRecipient(c.body)
	if err != nil {
		return kmsapi.Internal(err)
	}
	if want := RequestDigest(c.op.Name, k.ARN(), body); !bytes.Equal(r.document.UserData, want[:]) {
		return c.refuse(ruleRecipientUserData, "the document was not made for this request: its user_data is not SHA-384 of operation, key ARN and SHA-256 of the body")
	}
	c.recipient, c.attested = r, k
	return nil
}

// refuse denies a request by a rule of this service's own.
func (c *call) refuse(rule, message string) error {
	c.event.Outcome = Denied
	c.event.Problems = []reason.Problem{{Rule: rule, Reason: reason.Mismatch, Message: message}}
	return kmsapi.Errorf(kmsapi.AccessDenied, "User: %s is not authorized to perform: %s because %s", c.caller.Principal.ARN(), c.op.Action(), message)
}

// usedID is the row of a document that was used. It begins with the time from
// which on the document is too old, so that the rows can be cleared away in order.
func usedID(d *attestation.Document) string {
	until := d.Timestamp.Add(attestation.DefaultMaxAge + time.Minute)
	return until.UTC().Format(dueForm) + "/" + hex.EncodeToString(d.PayloadHash[:])
}

// useDocument marks the document of an attested request as used, within the
// transaction of the request: of two requests with it, on whatever servers, one
// fails.
func (c *call) useDocument(tx *ledger.Tx) error {
	if c.attested == nil {
		return nil
	}
	id := usedID(&c.recipient.document)
	_, _, err := tx.Get(tableUsed, id)
	switch {
	case err == nil:
		return c.refuse(ruleRecipientUsed, "the document was used before")
	case !errors.Is(err, keystore.ErrNotFound):
		return err
	}
	_, err = tx.Put(tableUsed, id, nil)
	return err
}

// spend marks the document of an attested operation that changes nothing else. The
// key must still be as it was when the request was decided.
func (c *call) spend() error {
	if c.attested == nil {
		return nil
	}
	return c.change(func(tx *ledger.Tx) error {
		if err := unchanged(tx, c.attested); err != nil {
			return err
		}
		return c.useDocument(tx)
	})
}

// usedLonger is how much longer the row of a used document stays than the document
// is accepted: a server whose clock is ahead by less must not make it work again on
// the others.
const usedLonger = time.Hour

// clearUsed removes the rows of documents that are too old to be accepted, whoever
// has the right time.
func (s *Server) clearUsed(ctx context.Context) error {
	limit := s.now().Add(-usedLonger).UTC().Format(dueForm)
	var old []string
	err := s.ledger.View(ctx, func(tx *ledger.Tx) error {
		return tx.Scan(tableUsed, "", func(row ledger.Row) bool {
			if stamp, _, _ := strings.Cut(row.ID, "/"); stamp >= limit {
				return false
			}
			old = append(old, row.ID)
			return true
		})
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return s.ledger.Update(ctx, func(tx *ledger.Tx) error {
		for _, id := range old {
			if err := tx.Delete(tableUsed, id); err != nil && !errors.Is(err, keystore.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}
