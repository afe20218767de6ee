// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"slices"

	"github.com/cretula/cretula/internal/hmac256"
	"github.com/cretula/cretula/kms/kmsapi"
)

// A ciphertext of a symmetric key (CiphertextBlob) is:
//
//	offset  bytes
//	0       1     0xC7
//	1       1     the format: 2 for multi-region keys, 1 for all others
//	2       12    the account of the key, ASCII digits
//	14      1     n, the length of the key id, 1 to 64
//	15      n     the key id, ASCII
//	15+n    32    the id of the key material
//	47+n    16    salt
//	63+n    12    nonce
//	75+n    m+16  AES-256-GCM of m bytes of plaintext, with its tag
//
// The AES key is the first block of the KDF in counter mode of NIST SP 800-108r1
// §4.1 with HMAC-SHA-256: HMAC(material, 00000001 ‖ "cretula.kms.ciphertext" ‖
// 00 ‖ salt ‖ 00000100). The additional data is what [additionalData] returns:
// everything before the AES-GCM part, the name of the key and the encryption
// context. The name is the key's ARN in format 1; in format 2 it is ACCOUNT/KEYID,
// so that the related keys of all regions open the ciphertext (developer guide,
// "How multi-Region keys work"). A key has one format only, by its id, and the
// format is part of the additional data: no ciphertext is one of the other format.
// A format of another number may follow; readers refuse what they do not know.
const (
	blobMagic    = 0xC7
	formatRegion = 1 // the key is in one region
	formatMulti  = 2 // the key is a multi-region key
	accountSize  = 12
	maxKeyID     = 64
	materialSize = 32 // of an id and of the material itself
	saltSize     = 16
	nonceSize    = 12
	tagSize      = 16
	kdfLabel     = "cretula.kms.ciphertext"
)

// A blob is a parsed ciphertext. Its slices refer to the input.
type blob struct {
	account  string
	keyID    string
	material [2 * materialSize]byte // hexadecimal digits
	header   []byte                 // all that precedes sealed
	salt     []byte
	nonce    []byte
	sealed   []byte
}

// errBlob is the one answer to everything that is wrong with a ciphertext.
var errBlob = &kmsapi.Error{Code: kmsapi.InvalidCiphertext, Err: errors.New("kms: not a ciphertext of this service")}

// parseBlob reads the form of a ciphertext. Nothing in it is proven before
// [blob.open].
func parseBlob(data []byte) (blob, error) {
	const fixed = 2 + accountSize + 1
	if len(data) < fixed || data[0] != blobMagic {
		return blob{}, errBlob
	}
	n := int(data[fixed-1])
	header := fixed + n + materialSize + saltSize + nonceSize
	if n == 0 || n > maxKeyID || len(data) < header+tagSize {
		return blob{}, errBlob
	}
	names := string(data[2 : fixed+n])
	b := blob{account: names[:accountSize], keyID: names[accountSize+1:], header: data[:header], sealed: data[header:]}
	if !isAccount(b.account) || !isKeyID(b.keyID) || data[1] != blobFormat(b.keyID) {
		return blob{}, errBlob
	}
	hex.Encode(b.material[:], data[fixed+n:fixed+n+materialSize])
	b.salt = data[header-nonceSize-saltSize : header-nonceSize]
	b.nonce = data[header-nonceSize : header]
	return b, nil
}

// blobFormat returns the format of the ciphertexts of a key.
func blobFormat(keyID string) byte {
	if isMultiRegionID(keyID) {
		return formatMulti
	}
	return formatRegion
}

// blobName returns the name of a key that its ciphertexts are bound to.
func blobName(k *keyRecord) string {
	if k.multiRegion() {
		return k.Account + "/" + k.ID
	}
	return k.ARN()
}

// sealBlob encrypts plaintext under a key's material.
func sealBlob(random io.Reader, key *keyRecord, material materialVersion, context map[string]string, plaintext []byte) ([]byte, error) {
	out := make([]byte, 0, 2+accountSize+1+len(key.ID)+materialSize+saltSize+nonceSize+len(plaintext)+tagSize)
	out = append(out, blobMagic, blobFormat(key.ID))
	out = append(out, key.Account...)
	out = append(out, byte(len(key.ID)))
	out = append(out, key.ID...)
	id, err := hex.DecodeString(material.id)
	if err != nil || len(id) != materialSize || len(key.Account) != accountSize || len(key.ID) > maxKeyID {
		return nil, errors.New("kms: a key whose ids do not fit into a ciphertext")
	}
	out = append(out, id...)
	salt := len(out)
	out = out[:salt+saltSize+nonceSize]
	if _, err := io.ReadFull(random, out[salt:]); err != nil {
		return nil, err
	}
	aead, err := messageCipher(material.secret, out[salt:salt+saltSize])
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, out[salt+saltSize:], plaintext, additionalData(out, blobName(key), context)), nil
}

// open decrypts a parsed ciphertext, which must be one of the key, with the
// material it names.
func (b blob) open(key *keyRecord, secret []byte, context map[string]string) ([]byte, error) {
	if b.account != key.Account || b.keyID != key.ID {
		return nil, errBlob
	}
	aead, err := messageCipher(secret, b.salt)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, b.nonce, b.sealed, additionalData(b.header, blobName(key), context))
	if err != nil {
		return nil, errBlob
	}
	return plaintext, nil
}

func messageCipher(secret, salt []byte) (cipher.AEAD, error) {
	if len(secret) != materialSize {
		return nil, errors.New("kms: key material of a wrong size")
	}
	key := hmac256.Sum(secret, []byte{0, 0, 0, 1}, []byte(kdfLabel), []byte{0}, salt, []byte{0, 0, 1, 0})
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// additionalData returns what a ciphertext is bound to: its header, the name of
// the key and the pairs of the encryption context, ordered by the bytes of their
// names. Each string follows its length in four bytes, so that no two different
// inputs give the same bytes.
func additionalData(header []byte, name string, context map[string]string) []byte {
	out := make([]byte, 0, 8+len(header)+len(name)) // enough without a context
	out = binary.BigEndian.AppendUint32(out, uint32(len(header)))
	out = append(out, header...)
	add := func(s string) {
		out = binary.BigEndian.AppendUint32(out, uint32(len(s)))
		out = append(out, s...)
	}
	add(name)
	if len(context) == 0 {
		return out
	}
	for _, member := range slices.Sorted(maps.Keys(context)) {
		add(member)
		add(context[member])
	}
	return out
}
