// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"strings"
	"testing"

	mpl "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygenerated"
	mpltypes "github.com/aws/aws-cryptographic-material-providers-library/releases/go/mpl/awscryptographymaterialproviderssmithygeneratedtypes"
	esdk "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygenerated"
	esdktypes "github.com/aws/aws-encryption-sdk/releases/go/encryption-sdk/awscryptographyencryptionsdksmithygeneratedtypes"
)

// An encryptionSDK is AWS's Encryption SDK with its library of keyrings.
type encryptionSDK struct {
	*esdk.Client
	providers *mpl.Client
}

func newEncryptionSDK(t *testing.T) encryptionSDK {
	t.Helper()
	client, err := esdk.NewClient(esdktypes.AwsEncryptionSdkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	providers, err := mpl.NewClient(mpltypes.MaterialProvidersConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return encryptionSDK{client, providers}
}

// keyring generates and decrypts its data keys with a key of the service.
func (sdk encryptionSDK) keyring(t *testing.T, s *server, as accessKey, arn string) mpltypes.IKeyring {
	t.Helper()
	ring, err := sdk.providers.CreateAwsKmsKeyring(t.Context(), mpltypes.CreateAwsKmsKeyringInput{KmsClient: s.client(as), KmsKeyId: arn})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// discovery decrypts with whatever key of an account a message names.
func (sdk encryptionSDK) discovery(t *testing.T, s *server, account string) mpltypes.IKeyring {
	t.Helper()
	ring, err := sdk.providers.CreateAwsKmsDiscoveryKeyring(t.Context(), mpltypes.CreateAwsKmsDiscoveryKeyringInput{
		KmsClient: s.client(s.admin()), DiscoveryFilter: &mpltypes.DiscoveryFilter{Partition: "aws", AccountIds: []string{account}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// The keyring calls GenerateDataKey, then Decrypt, each in an encryption context
// that has the message's public key added to what the caller gave.
func TestEncryptionSDK(t *testing.T) {
	s, sdk := start(t), newEncryptionSDK(t)
	_, arn := s.createKey(t)
	_, otherARN := s.createKey(t)
	ring := sdk.keyring(t, s, s.admin(), arn)
	secret, context := bytes.Repeat([]byte("a secret "), 2000), map[string]string{"table": "orders", "row": "7"}
	sealed, err := sdk.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: secret, EncryptionContext: context, Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	message := sealed.Ciphertext
	decrypt := func(ring mpltypes.IKeyring, message []byte, context map[string]string) ([]byte, error) {
		out, err := sdk.Decrypt(t.Context(), esdktypes.DecryptInput{Ciphertext: message, EncryptionContext: context, Keyring: ring})
		if err != nil {
			return nil, err
		}
		return out.Plaintext, nil
	}
	for name, ring := range map[string]mpltypes.IKeyring{"its keyring": ring, "a discovery keyring": sdk.discovery(t, s, "000000000000")} {
		if opened, err := decrypt(ring, message, context); err != nil || !bytes.Equal(opened, secret) {
			t.Errorf("%s decrypted %d bytes, %v", name, len(opened), err)
		}
	}
	wantFailure := func(what string, ring mpltypes.IKeyring, message []byte, context map[string]string) {
		t.Helper()
		if opened, err := decrypt(ring, message, context); err == nil {
			t.Errorf("%s: opened to %d bytes", what, len(opened))
		}
	}
	wantFailure("another context", ring, message, map[string]string{"table": "orders", "row": "8"})
	wantFailure("another key", sdk.keyring(t, s, s.admin(), otherARN), message, context)
	wantFailure("another account", sdk.discovery(t, s, "111122223333"), message, context)
	wantFailure("the last byte altered", ring, altered(message, len(message)-1), context)
	// The context is in the message's header, and the service has bound it.
	row := bytes.Index(message, []byte("row"))
	if row < 0 {
		t.Fatal("the context is not in the message")
	}
	wantFailure("the context in the message altered", ring, altered(message, row), nil)
	wantFailure("a user without permission", sdk.keyring(t, s, s.addUser(t, "nobody", ""), arn), message, context)
}

// A keyring that may not generate data keys says why in the service's words.
func TestEncryptionSDKDenied(t *testing.T) {
	s, sdk := start(t), newEncryptionSDK(t)
	_, arn := s.createKey(t)
	ring := sdk.keyring(t, s, s.addUser(t, "nobody", ""), arn)
	_, err := sdk.Encrypt(t.Context(), esdktypes.EncryptInput{Plaintext: []byte("x"), Keyring: ring})
	if err == nil || !strings.Contains(err.Error(), "kms:GenerateDataKey") {
		t.Errorf("nobody encrypted: %v", err)
	}
}
