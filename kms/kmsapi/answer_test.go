// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
	"testing"
)

func TestAppendJSON(t *testing.T) {
	for _, out := range []DecryptOutput{
		{},
		{KeyId: "arn:aws:kms:us-east-1:000000000000:key/mrk-0f", Plaintext: []byte{0, 0xff, 1}, EncryptionAlgorithm: SymmetricDefault, KeyMaterialId: "00ff"},
		{KeyId: "k", EncryptionAlgorithm: "RSAES_OAEP_SHA_256", CiphertextForRecipient: make([]byte, 1000)},
		{KeyId: "k", Plaintext: []byte{}, EncryptionAlgorithm: "x"},
		{KeyId: `"`}, {EncryptionAlgorithm: "<&>"}, {KeyMaterialId: "é\u2028\xff\n\\"},
	} {
		want, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		got, err := out.AppendJSON([]byte("before"))
		if err != nil || string(got) != "before"+string(want) {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
}
