// SPDX-License-Identifier: Apache-2.0

package awskms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
)

var secret = []byte("0123456789abcdefghijklmnopqrstuv")

func newHolderT(t testing.TB, config aws.Config, keyARN string) *Holder {
	t.Helper()
	h, err := New(config, keyARN)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHolder(t *testing.T) {
	rootkeytest.Run(t, rootkeytest.Case{Kind: "awskms", New: func(t testing.TB) (rootkey.Holder, rootkey.Holder) {
		k := rootkeytest.StartKMS(t)
		return newHolderT(t, k.Config, k.CreateKey(t, "")), newHolderT(t, k.Config, k.CreateKey(t, ""))
	}})
}

// An enclaveKMS trusts the documents of an authority, whose modules it makes.
type enclaveKMS struct {
	*rootkeytest.KMS
	t         testing.TB
	authority *issuer.Authority
	role      aws.Config
}

func startEnclaveKMS(t testing.TB) *enclaveKMS {
	t.Helper()
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := &enclaveKMS{KMS: rootkeytest.StartKMS(t, authority.Root()), t: t, authority: authority}
	role, err := k.Server.AddPrincipal(t.Context(), kms.Principal{Type: kms.Role, Name: "key-service"})
	if err != nil {
		t.Fatal(err)
	}
	k.role = k.As(role)
	return k
}

func digest(image byte) pcr.Digest { return pcr.Digest(bytes.Repeat([]byte{image}, pcr.Size)) }

// module is that of an enclave whose image is n.
func (k *enclaveKMS) module(image byte) nsm.Device {
	k.t.Helper()
	var set pcr.Set
	for i := range pcr.Index(3) { // all zero is what an enclave in debug mode has
		set.Put(i, digest(image+byte(i)))
	}
	m, err := softnsm.New(softnsm.Config{Authority: k.authority, PCRs: set})
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { m.Close() })
	return m
}

// key makes one that the role may use out of an image only, with a condition
// more if it is not empty.
func (k *enclaveKMS) key(image byte, more string) string {
	return k.CreateKey(k.t, fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::%[1]s:user/admin"},
		 "Action":["kms:DescribeKey","kms:PutKeyPolicy","kms:ReplicateKey"],"Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::%[1]s:role/key-service"},
		 "Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"*",
		 "Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:PCR0":"%[2]s"}%[3]s}}]}`,
		rootkeytest.Account, digest(image), more))
}

func (k *enclaveKMS) holder(keyARN string, image byte) *Holder {
	k.t.Helper()
	h, err := NewAttested(k.role, keyARN, k.module(image))
	if err != nil {
		k.t.Fatal(err)
	}
	return h
}

func TestAttestedHolder(t *testing.T) {
	rootkeytest.Run(t, rootkeytest.Case{Kind: "awskms", New: func(t testing.TB) (rootkey.Holder, rootkey.Holder) {
		k := startEnclaveKMS(t)
		return k.holder(k.key(1, ""), 1), k.holder(k.key(1, ""), 1)
	}})
}

func mustSeal(t testing.TB, h *Holder) []byte {
	t.Helper()
	sealed, err := h.Seal(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func mustOpen(t testing.TB, h *Holder, sealed []byte) {
	t.Helper()
	if got, err := h.Open(t.Context(), sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("Open: %d bytes, %v", len(got), err)
	}
}

// wantErrors wants Open and, unless sealed alone is refused, Seal to fail.
func wantErrors(t testing.TB, h *Holder, sealed []byte, want ...error) {
	t.Helper()
	got, err := h.Open(t.Context(), sealed)
	again, err2 := h.Seal(t.Context(), secret)
	for _, w := range want {
		if !errors.Is(err, w) || !errors.Is(err2, w) || got != nil || again != nil {
			t.Errorf("Open: %v; Seal: %v; want %v", err, err2, w)
		}
	}
	for _, err := range []error{err, err2} {
		if errors.Is(err, rootkey.ErrNotOpened) {
			t.Errorf("%v: says that it is about what was sealed", err)
		}
	}
}

// Neither another image nor a program without a document gets at the key.
func TestOtherImage(t *testing.T) {
	k := startEnclaveKMS(t)
	key := k.key(1, "")
	sealed := mustSeal(t, k.holder(key, 1))
	mustOpen(t, k.holder(key, 1), sealed)
	wantErrors(t, k.holder(key, 2), sealed, ErrDenied, rootkey.ErrUnavailable)
	wantErrors(t, newHolderT(t, k.role, key), sealed, ErrDenied, rootkey.ErrUnavailable)
	wantErrors(t, newHolderT(t, k.Config, key), sealed, ErrDenied, rootkey.ErrUnavailable)
	// A document under another root.
	other := startEnclaveKMS(t)
	h, err := NewAttested(k.role, key, other.module(1))
	if err != nil {
		t.Fatal(err)
	}
	wantErrors(t, h, sealed, rootkey.ErrUnavailable)
	if _, err := NewAttested(k.role, key, nil); err == nil {
		t.Error("attested without a device")
	}
}

// A key policy can name the one root key that it is for.
func TestContextInPolicy(t *testing.T) {
	k := startEnclaveKMS(t)
	id, err := rootkey.IDOf(secret)
	if err != nil {
		t.Fatal(err)
	}
	key := k.key(1, `,"StringEquals":{"kms:EncryptionContext:`+ContextKey+`":"`+id+`"}`)
	h := k.holder(key, 1)
	sealed := mustSeal(t, h)
	mustOpen(t, h, sealed)
	if got, err := h.Seal(t.Context(), bytes.Repeat([]byte{1}, rootkey.SecretSize)); !errors.Is(err, ErrDenied) || got != nil {
		t.Errorf("another root key: %v", err)
	}
	sealed[1] ^= 1
	if got, err := h.Open(t.Context(), sealed); !errors.Is(err, ErrDenied) || got != nil {
		t.Errorf("the id of another root key: %v", err)
	}
}

// Who has the data key of one file cannot put it under the name of another.
func TestWrongContext(t *testing.T) {
	k := rootkeytest.StartKMS(t)
	key := k.CreateKey(t, "")
	client := awskms.NewFromConfig(k.Config)
	h := newHolderT(t, k.Config, key)
	for name, context := range map[string]map[string]string{
		"none": nil, "another id": {ContextKey: "0011223344556677"}, "another key": {"root-key": "0011223344556677"},
	} {
		out, err := client.GenerateDataKey(t.Context(), &awskms.GenerateDataKeyInput{
			KeyId: &key, KeySpec: types.DataKeySpecAes256, EncryptionContext: context,
		})
		if err != nil {
			t.Fatal(err)
		}
		sealed := mustSeal(t, h)
		_, _, box, err := decode(sealed)
		if err != nil {
			t.Fatal(err)
		}
		forged := append(bytes.Clone(sealed[:sizeAt]), byte(len(out.CiphertextBlob)>>8), byte(len(out.CiphertextBlob)))
		forged = append(append(forged, out.CiphertextBlob...), box...)
		if got, err := h.Open(t.Context(), forged); !errors.Is(err, rootkey.ErrNotOpened) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The replica of a multi-Region key opens what the primary sealed.
func TestReplica(t *testing.T) {
	k := rootkeytest.StartKMS(t)
	client := awskms.NewFromConfig(k.Config)
	primary, err := client.CreateKey(t.Context(), &awskms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	key := *primary.KeyMetadata.Arn
	replica, err := client.ReplicateKey(t.Context(), &awskms.ReplicateKeyInput{KeyId: &key, ReplicaRegion: aws.String("eu-west-1")})
	if err != nil {
		t.Fatal(err)
	}
	config := k.Config.Copy()
	config.Region = "eu-west-1"
	sealed := mustSeal(t, newHolderT(t, k.Config, key))
	mustOpen(t, newHolderT(t, config, *replica.ReplicaKeyMetadata.Arn), sealed)
}

// TestHeldFile changes what a root key file says, and the key that opens it.
func TestHeldFile(t *testing.T) {
	k := rootkeytest.StartKMS(t)
	key := k.CreateKey(t, "")
	h := newHolderT(t, k.Config, key)
	path := filepath.Join(t.TempDir(), "keys", "root.key")
	made, err := rootkey.CreateHeld(t.Context(), path, h)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := rootkey.ReadInfo(path); err != nil || info.Kind != "awskms" || info.ID != made.ID() {
		t.Errorf("%+v, %v", info, err)
	}
	client := awskms.NewFromConfig(k.Config)
	if _, err := client.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &key}); err != nil {
		t.Fatal(err)
	}
	if got, err := rootkey.OpenHeld(t.Context(), path, h); got != nil || !errors.Is(err, rootkey.ErrUnavailable) || errors.Is(err, rootkey.ErrNotOpened) ||
		!strings.Contains(err.Error(), "DisabledException") {
		t.Errorf("disabled: %v", err)
	}
	if _, err := client.EnableKey(t.Context(), &awskms.EnableKeyInput{KeyId: &key}); err != nil {
		t.Fatal(err)
	}
	again, err := rootkey.OpenHeld(t.Context(), path, h)
	if err != nil || again.ID() != made.ID() {
		t.Fatalf("enabled again: %v", err)
	}
	// What one seal made is under the check value of that file only.
	other := newHolderT(t, k.Config, k.CreateKey(t, ""))
	if err := rootkey.Rewrap(t.Context(), path, h, other); err != nil {
		t.Fatal(err)
	}
	if _, err := rootkey.OpenHeld(t.Context(), path, h); !errors.Is(err, rootkey.ErrNotOpened) {
		t.Errorf("by the key before: %v", err)
	}
}

func TestARNs(t *testing.T) {
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	k := aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}
	for _, good := range []string{
		"arn:aws:kms:us-east-1:111122223333:key/" + id,
		"arn:aws-us-gov:kms:us-east-1:111122223333:key/" + id,
		"arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
	} {
		if _, err := New(k, good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", id, "alias/root", "arn:aws:kms:us-east-1:111122223333:alias/root", "key/" + id,
		"arn:aws:kms:us-east-1:111122223333:key/", "arn:aws:kms:us-east-1:111122223333:key/alias/x",
		"arn:aws:kms:us-east-1:111122223333:key/" + id + "\n", " arn:aws:kms:us-east-1:111122223333:key/" + id,
		"arn:aws:kms::111122223333:key/" + id, "arn:aws:s3:us-east-1:111122223333:key/" + id,
		"arn:aws:kms:us-east-1:111122223333:key/" + strings.ToUpper(id), "arn:aws:kms:*:*:key/*",
		"arn:aws:kms:us-east-1:11112222333:key/" + id, "arn:aws:kms:us-east-1:111122223333:key/mrk-" + id,
	} {
		if h, err := New(k, bad); !errors.Is(err, ErrKeyARN) || h != nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
	arn := "arn:aws:kms:us-east-1:111122223333:key/" + id
	if h, err := New(aws.Config{Credentials: aws.AnonymousCredentials{}}, arn); err != nil || h.client.Options().Region != "us-east-1" {
		t.Errorf("the region of the ARN: %v", err)
	}
	for _, region := range []string{"eu-west-1", "us-east-1."} {
		if h, err := New(aws.Config{Region: region, Credentials: aws.AnonymousCredentials{}}, arn); err == nil || h != nil {
			t.Errorf("region %q taken", region)
		}
	}
	if h, err := New(aws.Config{Region: "us-east-1"}, arn); err == nil || h != nil {
		t.Error("no credentials taken")
	}
}

// FuzzDecode: what is decoded is the parts of what was given, in their order.
func FuzzDecode(f *testing.F) {
	blob := bytes.Repeat([]byte{7}, 184)
	good := append([]byte{version, 1, 2, 3, 4, 5, 6, 7, 8, 0, byte(len(blob))}, blob...)
	good = append(good, make([]byte, boxSize)...)
	if _, got, _, err := decode(good); err != nil || !bytes.Equal(got, blob) {
		f.Fatalf("the seed is not decoded: %v", err)
	}
	f.Add(good)
	f.Add(good[:headerSize+boxSize])
	f.Add([]byte{version})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		id, blob, box, err := decode(sealed)
		if err != nil {
			if !errors.Is(err, rootkey.ErrNotOpened) || id != nil || blob != nil || box != nil {
				t.Errorf("%v", err)
			}
			return
		}
		if len(id) != idSize || len(blob) == 0 || len(blob) > maxBlobSize || len(box) != boxSize {
			t.Errorf("%d, %d and %d bytes of %d", len(id), len(blob), len(box), len(sealed))
		}
		again := append([]byte{version}, id...)
		again = append(again, byte(len(blob)>>8), byte(len(blob)))
		if again = append(append(again, blob...), box...); !bytes.Equal(again, sealed) {
			t.Error("the parts are not the whole")
		}
	})
}

// A call ends with the context that it was given, as the SDK's error does.
func TestDeadline(t *testing.T) {
	k := rootkeytest.StartKMS(t)
	h := newHolderT(t, k.Config, k.CreateKey(t, ""))
	ctx, cancel := context.WithTimeout(t.Context(), -1)
	defer cancel()
	if got, err := h.Seal(ctx, secret); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, rootkey.ErrUnavailable) || got != nil {
		t.Errorf("%v", err)
	}
}
