// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/base64"
	"encoding/json"
	"slices"
)

// AppendJSON appends what encoding/json makes of the answer, byte for byte. Decrypt is
// what nearly all requests are, so it goes without reflection.
func (o *DecryptOutput) AppendJSON(b []byte) ([]byte, error) {
	for _, s := range []string{o.KeyId, o.EncryptionAlgorithm, o.KeyMaterialId} {
		if !plainText(s) {
			encoded, err := json.Marshal(o)
			return append(b, encoded...), err
		}
	}
	const names = len(`{"KeyId":"","Plaintext":"","EncryptionAlgorithm":"","CiphertextForRecipient":"","KeyMaterialId":""}`)
	b = slices.Grow(b, names+len(o.KeyId)+len(o.EncryptionAlgorithm)+len(o.KeyMaterialId)+
		base64.StdEncoding.EncodedLen(len(o.Plaintext))+base64.StdEncoding.EncodedLen(len(o.CiphertextForRecipient)))
	b = append(append(append(b, `{"KeyId":"`...), o.KeyId...), '"')
	if len(o.Plaintext) > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, `,"Plaintext":"`...), o.Plaintext), '"')
	}
	b = append(append(append(b, `,"EncryptionAlgorithm":"`...), o.EncryptionAlgorithm...), '"')
	if len(o.CiphertextForRecipient) > 0 {
		b = append(base64.StdEncoding.AppendEncode(append(b, `,"CiphertextForRecipient":"`...), o.CiphertextForRecipient), '"')
	}
	if o.KeyMaterialId != "" {
		b = append(append(append(b, `,"KeyMaterialId":"`...), o.KeyMaterialId...), '"')
	}
	return append(b, '}'), nil
}

// plainText tells whether a text stands for itself in a JSON string: it has letters,
// digits and what ARNs and names of algorithms have.
func plainText(s string) bool {
	var found byte // no branch for each byte: nearly all texts are plain
	for i := range len(s) {
		found |= notPlain[s[i]]
	}
	return found == 0
}

// notPlain has 1 for the bytes that no plainText has.
var notPlain = func() (table [256]byte) {
	for i := range table {
		c := byte(i)
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && c != '-' && c != ':' && c != '/' && c != '_' {
			table[i] = 1
		}
	}
	return table
}()
