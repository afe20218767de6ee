// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// tinkURI is the name that Tink gives to a key of AWS KMS.
func tinkURI(arn string) string { return "aws-kms://" + arn }

// tinkAEAD is the AEAD whose key is in the service.
func (s *server) tinkAEAD(t *testing.T, as accessKey, arn string, options ...awskms.ClientOption) tink.AEAD {
	t.Helper()
	client, err := awskms.NewClientWithOptions(t.Context(), "aws-kms://arn:aws:kms:", append(options, awskms.WithKMS(s.client(as)))...)
	if err != nil {
		t.Fatal(err)
	}
	remote, err := client.GetAEAD(tinkURI(arn))
	if err != nil {
		t.Fatal(err)
	}
	return remote
}

// Associated data is an encryption context: what was encrypted in one does not
// open in another, nor in none.
func TestTinkAssociatedData(t *testing.T) {
	s := start(t)
	_, arn := s.createKey(t)
	_, otherARN := s.createKey(t)
	remote := s.tinkAEAD(t, s.admin(), arn)
	secret, context := []byte("a secret"), []byte("row 7 \x00\xff")
	sealed, err := remote.Encrypt(secret, context)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := remote.Decrypt(sealed, context); err != nil || !bytes.Equal(opened, secret) {
		t.Errorf("decrypted %q, %v", opened, err)
	}
	for _, wrong := range [][]byte{nil, {}, []byte("row 8 \x00\xff"), context[:len(context)-1]} {
		_, err := remote.Decrypt(sealed, wrong)
		wantCode(t, "Decrypt with associated data "+string(wrong), err, "InvalidCiphertextException")
	}
	_, err = s.tinkAEAD(t, s.admin(), arn, awskms.WithEncryptionContextName(awskms.LegacyAdditionalData)).Decrypt(sealed, context)
	wantCode(t, "Decrypt with another name in the context", err, "InvalidCiphertextException")
	_, err = s.tinkAEAD(t, s.admin(), otherARN).Decrypt(sealed, context)
	wantCode(t, "Decrypt with another key", err, "IncorrectKeyException")
	_, err = s.tinkAEAD(t, s.admin(), arn[:len(arn)-len(absentKey)]+absentKey).Decrypt(sealed, context)
	wantCode(t, "Decrypt with an absent key", err, "NotFoundException")

	bare, err := remote.Encrypt(secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := remote.Decrypt(bare, []byte{}); err != nil || !bytes.Equal(opened, secret) {
		t.Errorf("decrypted %q, %v", opened, err)
	}
	_, err = remote.Decrypt(bare, context)
	wantCode(t, "Decrypt with associated data that was not encrypted", err, "InvalidCiphertextException")
}

// Every byte of a ciphertext counts.
func TestTinkTampered(t *testing.T) {
	s := start(t)
	_, arn := s.createKey(t)
	remote := s.tinkAEAD(t, s.admin(), arn)
	sealed, err := remote.Encrypt([]byte("a secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x80
		if opened, err := remote.Decrypt(bad, nil); err == nil {
			t.Errorf("opened with byte %d altered: %q", i, opened)
		}
	}
	for name, bad := range map[string][]byte{
		"cut": sealed[:len(sealed)-1], "one byte": sealed[:1], "longer": append(bytes.Clone(sealed), 0), "last byte altered": altered(sealed, len(sealed)-1),
	} {
		_, err := remote.Decrypt(bad, nil)
		wantCode(t, name, err, "InvalidCiphertextException")
	}
}

// altered returns a copy of data with one bit of one byte flipped.
func altered(data []byte, at int) []byte {
	bad := bytes.Clone(data)
	bad[at] ^= 1
	return bad
}

// An envelope carries the data key that the service has wrapped.
func TestTinkEnvelope(t *testing.T) {
	s := start(t)
	_, arn := s.createKey(t)
	remote := s.tinkAEAD(t, s.admin(), arn)
	envelope := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote)
	secret, context := bytes.Repeat([]byte("more than Encrypt takes "), 1000), []byte("context")
	sealed, err := envelope.Encrypt(secret, context)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := envelope.Decrypt(sealed, context); err != nil || !bytes.Equal(opened, secret) {
		t.Errorf("decrypted %d bytes, %v", len(opened), err)
	}
	if _, err := envelope.Decrypt(sealed, []byte("another")); err == nil {
		t.Error("opened with other associated data")
	}
	wrapped := int(binary.BigEndian.Uint32(sealed))
	_, err = envelope.Decrypt(altered(sealed, 4+wrapped-1), context)
	wantCode(t, "Decrypt with the wrapped data key altered", err, "InvalidCiphertextException")
	if _, err := envelope.Decrypt(altered(sealed, 4+wrapped), context); err == nil {
		t.Error("opened with the payload altered")
	}
	nobody := s.addUser(t, "nobody", "")
	_, err = aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), s.tinkAEAD(t, nobody, arn)).Decrypt(sealed, context)
	wantCode(t, "Decrypt as nobody", err, "AccessDeniedException")

	withContext, err := awskms.NewAEADWithContext(t.Context(), arn, awskms.WithKMS(s.client(s.admin())))
	if err != nil {
		t.Fatal(err)
	}
	second, err := aead.NewKMSEnvelopeAEADWithContext(aead.AES256GCMKeyTemplate(), withContext)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := second.DecryptWithContext(t.Context(), sealed, context); err != nil || !bytes.Equal(opened, secret) {
		t.Errorf("the other interface decrypted %d bytes, %v", len(opened), err)
	}
}

// A keyset is stored under a key of the service, bound to a name, by a client
// that takes everything from the environment.
func TestTinkKeyset(t *testing.T) {
	s := start(t)
	_, arn := s.createKey(t)
	s.exportEnv(t, s.admin())
	client, err := awskms.NewClientWithOptions(t.Context(), tinkURI(arn))
	if err != nil {
		t.Fatal(err)
	}
	remote, err := client.GetAEAD(tinkURI(arn))
	if err != nil {
		t.Fatal(err)
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var stored strings.Builder
	if err := handle.WriteWithAssociatedData(keyset.NewJSONWriter(&stored), remote, []byte("orders")); err != nil {
		t.Fatal(err)
	}
	read := func(name string) (*keyset.Handle, error) {
		return keyset.ReadWithAssociatedData(keyset.NewJSONReader(strings.NewReader(stored.String())), remote, []byte(name))
	}
	if _, err := read("customers"); err == nil {
		t.Error("the keyset opened under another name")
	}
	loaded, err := read("orders")
	if err != nil {
		t.Fatal(err)
	}
	before, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	after, err := aead.New(loaded)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := before.Encrypt([]byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := after.Decrypt(sealed, nil); err != nil || string(opened) != "x" {
		t.Errorf("decrypted %q, %v", opened, err)
	}
}
