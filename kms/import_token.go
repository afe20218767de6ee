// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/json"
	"time"

	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/kmsapi"
)

// importValidity is how long an import token and its wrapping key can be used.
const importValidity = 24 * time.Hour

// An importToken is what ImportToken holds, wrapped by the root key and bound to
// the key that the material is for. The service keeps nothing: whoever has the
// token and the rights on the key can import.
type importToken struct {
	Algorithm string    `json:"algorithm"`
	Expires   time.Time `json:"expires"`
	// Key is the private wrapping key, PKCS #8.
	Key []byte `json:"key"`
}

// importBinding is what the import tokens of a key are bound to.
func importBinding(k *keyRecord) []byte { return []byte("cretula.kms.import\x00" + k.ARN()) }

// getParametersForImport makes a wrapping key for material of a key.
func (c *call) getParametersForImport(k *key, in *kmsapi.GetParametersForImportInput) (*kmsapi.GetParametersForImportOutput, error) {
	if err := keyspec.Lookup(k.Spec).CheckWrapping(*in.WrappingAlgorithm, *in.WrappingKeySpec); err != nil {
		return nil, err
	}
	wrapping := keyspec.Lookup(*in.WrappingKeySpec)
	private, err := c.server.newSecret(c.ctx, wrapping)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	public, err := wrapping.PublicKey(private)
	if err != nil {
		return nil, err
	}
	expires := c.now.UTC().Add(importValidity).Truncate(time.Millisecond)
	content, err := json.Marshal(importToken{*in.WrappingAlgorithm, expires, private})
	if err != nil {
		return nil, err
	}
	defer clear(content)
	token, err := c.server.rootKey.Wrap(content, importBinding(&k.keyRecord))
	if err != nil {
		return nil, err
	}
	return &kmsapi.GetParametersForImportOutput{
		KeyId: k.ARN(), ImportToken: token, PublicKey: public, ParametersValidTo: kmsapi.Timestamp(expires),
	}, nil
}

// openImport opens what comes in under an import token of the key.
func (c *call) openImport(k *key, sealed, encrypted []byte) ([]byte, error) {
	content, err := c.server.rootKey.Unwrap(sealed, importBinding(&k.keyRecord))
	if err != nil {
		return nil, &kmsapi.Error{Code: kmsapi.InvalidImportToken, Err: err,
			Message: "The import token is invalid or is associated with a different KMS key."}
	}
	defer clear(content)
	var token importToken
	if err := json.Unmarshal(content, &token); err != nil {
		return nil, err
	}
	defer clear(token.Key)
	if !token.Expires.After(c.now) {
		return nil, kmsapi.Errorf(kmsapi.ExpiredImportToken, "The import token is expired. Use GetParametersForImport to get a new import token and public key.")
	}
	wrapping, err := keyspec.ParseWrappingKey(token.Key)
	if err != nil {
		return nil, err
	}
	return wrapping.Unwrap(token.Algorithm, encrypted)
}
