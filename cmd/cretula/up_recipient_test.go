// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/cms"
)

// authority is the root of trust of the server's folder, to make documents that
// its module would not.
func (up *upProcess) authority(t testing.TB) *issuer.Authority {
	t.Helper()
	a, err := issuer.Load(readTestFile(t, filepath.Join(up.dir, "emulator-root.pem")), issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// document makes one of the server's image with the public key; nil: without.
func (up *upProcess) document(t testing.TB, public any) []byte {
	t.Helper()
	content := issuer.Content{
		Kind:     attestation.KindEnclave,
		ModuleID: issuer.NewModuleID("i-0123456789abcdef0", time.Now(), nil),
		PCRs:     up.measurements(t).Set,
	}
	switch public := public.(type) {
	case nil:
	case []byte:
		content.PublicKey = public
	default:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		content.PublicKey = der
	}
	document, err := up.authority(t).Issue(content)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func recipientOf(document []byte) *types.RecipientInfo {
	return &types.RecipientInfo{KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256, AttestationDocument: document}
}

// attestedCalls are the operations with a Recipient, as functions of it. They
// return the envelope.
func attestedCalls(t testing.TB, c *kms.Client, key string, ciphertext []byte) map[string]func(*types.RecipientInfo) ([]byte, error) {
	ctx := t.Context()
	return map[string]func(*types.RecipientInfo) ([]byte, error){
		"Decrypt": func(r *types.RecipientInfo) ([]byte, error) {
			out, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: ciphertext, Recipient: r})
			if err != nil {
				return nil, err
			}
			return out.CiphertextForRecipient, nil
		},
		"GenerateDataKey": func(r *types.RecipientInfo) ([]byte, error) {
			out, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, Recipient: r})
			if err != nil {
				return nil, err
			}
			return out.CiphertextForRecipient, nil
		},
		"GenerateRandom": func(r *types.RecipientInfo) ([]byte, error) {
			out, err := c.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32), Recipient: r})
			if err != nil {
				return nil, err
			}
			return out.CiphertextForRecipient, nil
		},
	}
}

// A Recipient that is incomplete, or whose document cannot be answered to, is a
// ValidationException, for who may do everything too: no answer without an
// envelope.
func TestUpBadRecipients(t *testing.T) {
	up := startUp(t, newDataDir(t))
	admin := up.client()
	created, err := admin.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := admin.Encrypt(t.Context(), &kms.EncryptInput{KeyId: created.KeyMetadata.Arn, Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	good := up.document(t, key.Public())
	changed := bytes.Clone(good)
	changed[len(changed)/2] ^= 1
	stranger, err := foreign.Issue(issuer.Content{Kind: attestation.KindEnclave, ModuleID: issuer.NewModuleID("i-0123456789abcdef0", time.Now(), nil),
		PCRs: up.measurements(t).Set})
	if err != nil {
		t.Fatal(err)
	}
	calls := attestedCalls(t, admin, *created.KeyMetadata.Arn, sealed.CiphertextBlob)
	for name, call := range calls {
		envelope, err := call(recipientOf(good))
		if err != nil {
			t.Errorf("%s, good: %v", name, err)
		} else if _, err := cms.Open(key, envelope); err != nil {
			t.Errorf("%s, good: %v", name, err)
		}
		for what, r := range map[string]*types.RecipientInfo{
			"{}":                 {},
			"no algorithm":       {AttestationDocument: good},
			"no document":        {KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256},
			"unknown algorithm":  {KeyEncryptionAlgorithm: "RSAES_OAEP_SHA_1", AttestationDocument: good},
			"empty document":     recipientOf([]byte{}),
			"no document at all": recipientOf([]byte("hello")),
			"cut":                recipientOf(good[:len(good)-1]),
			"changed":            recipientOf(changed),
			"foreign root":       recipientOf(stranger),
			"no public key":      recipientOf(up.document(t, nil)),
			"no SPKI":            recipientOf(up.document(t, []byte("no key"))),
			"EC key":             recipientOf(up.document(t, ec.Public())),
			"RSA-1024":           recipientOf(up.document(t, short.Public())),
		} {
			envelope, err := call(r)
			wantAWSError(t, name+", "+what, err, "ValidationException")
			if envelope != nil {
				t.Errorf("%s, %s: an envelope", name, what)
			}
		}
	}
}
