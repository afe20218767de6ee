// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"strconv"
	"time"

	"github.com/cretula/cretula/internal/p384"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/policy"
)

// coseCheck returns the verification of the document's signature, its hash
// included. The key is that of a known chain.
func coseCheck(document []byte) (func() error, error) {
	s, err := readSignature(document)
	if err != nil {
		return nil, err
	}
	key := p384.NewKey(s.key)
	return func() error {
		digest := sha512.Sum384(s.signed)
		if !p384.Fastest.VerifyKey(key, digest[:], s.r, s.s) {
			return errors.New("a good signature is refused")
		}
		return nil
	}, nil
}

// cryptography returns what the service does with keys in an attested Decrypt:
// the material is unwrapped, the ciphertext opened, the plaintext sealed.
func (j *benchJob) cryptography(root rootkey.Key, recipient *rsa.PublicKey) (func() error, error) {
	material, binding := make([]byte, 32), []byte("cretula.kms.material\x00"+j.KeyARN)
	wrapped, err := root.Wrap(material, binding)
	if err != nil {
		return nil, err
	}
	salt, nonce := make([]byte, 16), make([]byte, 12)
	aead, err := benchCipher(material, salt)
	if err != nil {
		return nil, err
	}
	sealed := aead.Seal(nil, nonce, j.Secret, binding)
	return func() error {
		material, err := root.Unwrap(wrapped, binding)
		if err != nil {
			return err
		}
		aead, err := benchCipher(material, salt)
		if err != nil {
			return err
		}
		plaintext, err := aead.Open(nil, nonce, sealed, binding)
		if err != nil {
			return err
		}
		return benchSeal(recipient, plaintext)
	}, nil
}

// benchCipher is AES-256-GCM under a key that HMAC-SHA-256 derives.
func benchCipher(material, salt []byte) (cipher.AEAD, error) {
	kdf := hmac.New(sha256.New, material)
	kdf.Write(salt)
	block, err := aes.NewCipher(kdf.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// benchSeal does what an envelope takes: AES-256-CBC under a new key, which is
// encrypted with RSAES-OAEP.
func benchSeal(recipient *rsa.PublicKey, plaintext []byte) error {
	var fresh [32 + aes.BlockSize]byte
	rand.Read(fresh[:])
	block, err := aes.NewCipher(fresh[:32])
	if err != nil {
		return err
	}
	padded := make([]byte, (len(plaintext)/aes.BlockSize+1)*aes.BlockSize)
	copy(padded, plaintext)
	cipher.NewCBCEncrypter(block, fresh[32:]).CryptBlocks(padded, padded)
	_, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, recipient, fresh[:32], nil)
	return err
}

// decision returns the evaluation of the attested key's policy for a request that
// it allows.
func (j *benchJob) decision() (func() error, error) {
	parsed, err := policy.Parse([]byte(j.Policy), policy.KindKey)
	if err != nil {
		return nil, err
	}
	role := "arn:aws:iam::" + j.Account + ":role/data-processing"
	in := policy.Input{KeyPolicy: parsed, Request: policy.Request{
		Principal: policy.Principal{
			Type: policy.CallerRoleSession, AccountID: j.Account, RoleARN: role,
			ARN: "arn:aws:sts::" + j.Account + ":assumed-role/data-processing/cretula",
		},
		Action: "kms:Decrypt", Resource: j.KeyARN, ResourceAccount: j.Account,
		Context: j.conditions(role),
	}}
	return func() error {
		if decision := policy.Evaluate(in); !decision.Allowed || len(decision.Trace.Policies) == 0 {
			return errors.New("the policy does not allow what it should: " + decision.Message())
		}
		return nil
	}, nil
}

// conditions are the condition keys of an attested Decrypt.
func (j *benchJob) conditions(role string) policy.Context {
	c := policy.Context{
		"aws:principalarn":        {role},
		"aws:principalaccount":    {j.Account},
		"aws:principaltype":       {"AssumedRole"},
		"aws:securetransport":     {"false"},
		"aws:currenttime":         {j.Now.UTC().Format(time.RFC3339)},
		"aws:epochtime":           {strconv.FormatInt(j.Now.Unix(), 10)},
		"aws:requestedregion":     {benchRegion},
		"aws:sourceip":            {"127.0.0.1"},
		"aws:useragent":           {"aws-sdk-go-v2"},
		"aws:resourceaccount":     {j.Account},
		"kms:calleraccount":       {j.Account},
		"kms:keyspec":             {"SYMMETRIC_DEFAULT"},
		"kms:keyusage":            {"ENCRYPT_DECRYPT"},
		"kms:keyorigin":           {"AWS_KMS"},
		"kms:multiregion":         {"false"},
		"kms:encryptionalgorithm": {"SYMMETRIC_DEFAULT"},
	}
	for i, digest := range j.Registers.All() {
		c["kms:recipientattestation:pcr"+strconv.Itoa(int(i))] = policy.Values{digest.String()}
		if i == 0 {
			c["kms:recipientattestation:imagesha384"] = policy.Values{digest.String()}
		}
	}
	return c
}
