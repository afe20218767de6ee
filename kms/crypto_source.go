// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
	"slices"

	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/kmsapi"
)

// A source is what Decrypt and ReEncrypt open.
type source struct {
	// keyID is the member keyMember of the request.
	keyID      *string
	keyMember  string
	algorithm  string
	ciphertext []byte
	context    map[string]string

	// blob is the ciphertext taken apart if the algorithm is SYMMETRIC_DEFAULT and
	// blobErr is nil.
	blob    blob
	blobErr error
}

// check tells what is wrong with the request as such, and whether the ciphertext
// is to be ignored, which only a dry run may ask for.
func (s *source) check(dryRun *bool, modifiers []string) (ignore bool, err error) {
	ignore = slices.Contains(modifiers, kmsapi.DryRunIgnoreCiphertext)
	switch {
	case len(modifiers) > 0 && !valueOr(dryRun, false):
		return false, kmsapi.Errorf(kmsapi.Validation, "DryRunModifiers is valid only if DryRun is true.")
	case ignore && s.keyID == nil, s.algorithm != kmsapi.SymmetricDefault && s.keyID == nil:
		return false, kmsapi.Errorf(kmsapi.Validation, "%s must not be null", s.keyMember)
	case ignore:
		s.ciphertext = nil
		return true, nil
	case s.ciphertext == nil:
		return false, kmsapi.Errorf(kmsapi.Validation, "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
	}
	if s.algorithm == kmsapi.SymmetricDefault {
		s.blob, s.blobErr = parseBlob(s.ciphertext)
	}
	return false, nil
}

// byID tells whether the request names its key by an id alone, and the ciphertext is
// of that key, which is in another account (API reference, Decrypt, cross-account
// use).
func (c *call) byID(s *source) bool {
	return s.keyID != nil && s.blob.keyID != "" && *s.keyID == s.blob.keyID && s.blob.account != c.caller.Principal.Account
}

// findSource finds the key of a source: the one that the request names or else the
// one that the ciphertext names, in the region of the request.
func (c *call) findSource(s *source) (*key, error) {
	if s.keyID != nil && !c.byID(s) {
		return c.resolve(*s.keyID)
	}
	if s.blobErr != nil {
		return nil, s.blobErr
	}
	k, err := c.resolveName(keyName{account: s.blob.account, region: c.caller.Region, id: s.blob.keyID})
	if err != nil {
		return nil, c.hideSource(s, err)
	}
	return k, nil
}

// hideSource keeps from a caller whether the key of a ciphertext exists, if only
// the ciphertext names it. Of keys of its own account it may know.
func (c *call) hideSource(s *source, err error) error {
	if s.keyID != nil && !c.byID(s) || c.event.Decision != nil && s.blob.account == c.caller.Principal.Account {
		return err
	}
	if len(c.event.Resources) == 0 {
		c.noteKey(keyName{account: s.blob.account, region: c.caller.Region, id: s.blob.keyID})
	}
	if e, ok := errors.AsType[*kmsapi.Error](err); ok && (e.Code == kmsapi.NotFound || e.Code == kmsapi.AccessDenied) {
		return kmsapi.Errorf(kmsapi.AccessDenied, "The ciphertext refers to a customer master key that does not exist, "+
			"does not exist in this region, or you are not allowed to access.")
	}
	return err
}

// admitSource checks, once the use of the key is allowed, that it can open the
// ciphertext. In the order of AWS, which takes a symmetric ciphertext apart before
// it looks at the key.
func (c *call) admitSource(s *source, k *key) error {
	switch {
	case s.blobErr != nil:
		return s.blobErr
	case s.blob.keyID != "" && (s.blob.account != k.Account || s.blob.keyID != k.ID):
		return kmsapi.Errorf(kmsapi.IncorrectKey, "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	if err := c.usable(k); err != nil {
		return err
	}
	return checkEncryption(k, s.algorithm, s.context)
}

// open decrypts a source that was admitted, and returns the id of the material it
// was encrypted under if the key is symmetric.
func (c *call) open(k *key, s *source) (plaintext []byte, materialID string, err error) {
	if !k.symmetric() {
		plaintext, err = use(c, k, func(spec *keyspec.Spec, secret []byte) ([]byte, error) {
			return spec.Decrypt(secret, s.algorithm, s.ciphertext)
		})
		return plaintext, "", err
	}
	id := k.Material
	if string(s.blob.material[:]) != id {
		id = string(s.blob.material[:])
	}
	version, err := c.server.material(c.ctx, k, id)
	if errors.Is(err, errNoKey) {
		return nil, "", &kmsapi.Error{Code: kmsapi.InvalidCiphertext, Err: err}
	}
	if err != nil {
		return nil, "", err
	}
	defer clear(version.secret)
	plaintext, err = s.blob.open(&k.keyRecord, version.secret, s.context)
	return plaintext, version.id, err
}
