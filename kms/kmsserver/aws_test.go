// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
)

func TestWholeLife(t *testing.T) {
	s := newService(t)
	c := s.adminClient()
	ctx := t.Context()
	created, err := c.CreateKey(ctx, &awskms.CreateKeyInput{Description: aws.String("orders")})
	if err != nil {
		t.Fatal(err)
	}
	m := created.KeyMetadata
	if *m.AWSAccountId != account || m.KeyState != types.KeyStateEnabled || !m.Enabled || *m.Description != "orders" ||
		m.KeySpec != types.KeySpecSymmetricDefault || m.KeyUsage != types.KeyUsageTypeEncryptDecrypt || m.Origin != types.OriginTypeAwsKms ||
		m.KeyManager != types.KeyManagerTypeCustomer || len(*m.CurrentKeyMaterialId) != 64 || *m.MultiRegion ||
		*m.Arn != "arn:aws:kms:us-east-1:000000000000:key/"+*m.KeyId || time.Since(*m.CreationDate).Abs() > time.Minute {
		t.Errorf("metadata: %+v", m)
	}
	described, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: m.Arn})
	if err != nil || *described.KeyMetadata.KeyId != *m.KeyId {
		t.Errorf("DescribeKey: %v", err)
	}
	policy, err := c.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: m.KeyId})
	if err != nil || *policy.PolicyName != "default" || !strings.Contains(*policy.Policy, "arn:aws:iam::000000000000:root") {
		t.Errorf("GetKeyPolicy: %+v, %v", policy, err)
	}
	if _, err := c.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: m.KeyId, Policy: policy.Policy}); err != nil {
		t.Errorf("PutKeyPolicy: %v", err)
	}
	context := map[string]string{"tenant": "a", "": "empty"}
	sealed, err := c.Encrypt(ctx, &awskms.EncryptInput{KeyId: m.KeyId, Plaintext: bytes.Repeat([]byte{7}, 4096), EncryptionContext: context})
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed.CiphertextBlob) > 6144 || *sealed.KeyId != *m.Arn || sealed.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
		t.Errorf("Encrypt: %d bytes, %+v", len(sealed.CiphertextBlob), sealed)
	}
	for _, keyID := range []*string{nil, m.KeyId, m.Arn} {
		opened, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context, KeyId: keyID})
		if err != nil || !bytes.Equal(opened.Plaintext, bytes.Repeat([]byte{7}, 4096)) || *opened.KeyId != *m.Arn || *opened.KeyMaterialId != *m.CurrentKeyMaterialId {
			t.Errorf("Decrypt: %+v, %v", opened, err)
		}
	}
	dataKey, err := c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: m.KeyId, KeySpec: types.DataKeySpecAes256})
	if err != nil || len(dataKey.Plaintext) != 32 || *dataKey.KeyMaterialId != *m.CurrentKeyMaterialId {
		t.Fatalf("GenerateDataKey: %+v, %v", dataKey, err)
	}
	opened, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: dataKey.CiphertextBlob})
	if err != nil || !bytes.Equal(opened.Plaintext, dataKey.Plaintext) {
		t.Errorf("Decrypt of a data key: %v", err)
	}
	random, err := c.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(1024)})
	if err != nil || len(random.Plaintext) != 1024 {
		t.Errorf("GenerateRandom: %v", err)
	}
}

func TestListKeysPages(t *testing.T) {
	s := newService(t)
	want := map[string]bool{}
	for range 7 {
		want[s.key("")] = true
	}
	if _, err := s.client(s.admin, "eu-west-1").CreateKey(t.Context(), &awskms.CreateKeyInput{}); err != nil {
		t.Fatal(err)
	}
	pages := awskms.NewListKeysPaginator(s.adminClient(), &awskms.ListKeysInput{Limit: aws.Int32(3)})
	sizes := []int{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.Keys))
		for _, k := range page.Keys {
			if !want[*k.KeyArn] || !strings.HasSuffix(*k.KeyArn, *k.KeyId) {
				t.Errorf("listed %s", *k.KeyArn)
			}
			delete(want, *k.KeyArn)
		}
	}
	if fmt.Sprint(sizes) != "[3 3 1]" || len(want) != 0 {
		t.Errorf("pages of %v, %d not listed", sizes, len(want))
	}
	_, err := s.adminClient().ListKeys(t.Context(), &awskms.ListKeysInput{Marker: aws.String("!!")})
	wantCode(t, err, "InvalidMarkerException")
}

// attested is the policy of a key that only one image may use.
func attested(role string, set pcr.Set) string {
	d0, _ := set.Get(0)
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[
		{"Sid":"Administration","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::%[1]s:user/admin"},
		 "Action":["kms:DescribeKey","kms:PutKeyPolicy","kms:GetKeyPolicy","kms:Encrypt"],"Resource":"*"},
		{"Sid":"EnclaveMayUse","Effect":"Allow","Principal":{"AWS":"%[2]s"},"Action":["kms:Decrypt","kms:GenerateDataKey"],"Resource":"*",
		 "Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"%[3]s","kms:RecipientAttestation:PCR0":"%[3]s"}}},
		{"Sid":"NoKeyWithoutThisImage","Effect":"Deny","Principal":"*","Action":["kms:Decrypt","kms:GenerateDataKey*"],"Resource":"*",
		 "Condition":{"StringNotEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"%[3]s"}}}]}`, account, role, d0)
}

const randomPolicy = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*"}}`

// recipients are the three operations with a Recipient, as functions of it.
func recipients(s *service, c *awskms.Client, keyARN string, sealed []byte) map[string]func(*types.RecipientInfo) (envelope, plaintext []byte, material *string, err error) {
	ctx := s.t.Context()
	return map[string]func(*types.RecipientInfo) ([]byte, []byte, *string, error){
		"Decrypt": func(r *types.RecipientInfo) ([]byte, []byte, *string, error) {
			out, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed, Recipient: r})
			if err != nil {
				return nil, nil, nil, err
			}
			return out.CiphertextForRecipient, out.Plaintext, out.KeyMaterialId, nil
		},
		"GenerateDataKey": func(r *types.RecipientInfo) ([]byte, []byte, *string, error) {
			out, err := c.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &keyARN, NumberOfBytes: aws.Int32(48), Recipient: r})
			if err != nil {
				return nil, nil, nil, err
			}
			return out.CiphertextForRecipient, out.Plaintext, out.KeyMaterialId, nil
		},
		"GenerateRandom": func(r *types.RecipientInfo) ([]byte, []byte, *string, error) {
			out, err := c.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(33), Recipient: r})
			if err != nil {
				return nil, nil, nil, err
			}
			return out.CiphertextForRecipient, out.Plaintext, nil, nil
		},
	}
}

func recipient(doc []byte) *types.RecipientInfo {
	return &types.RecipientInfo{KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256, AttestationDocument: doc}
}

// attestedService has a key that the role data-processing may use out of image 1.
func attestedService(t testing.TB, change ...func(*kms.Config)) (s *service, role kms.Credentials, keyARN string, sealed []byte) {
	s = newService(t, change...)
	role = s.principal(kms.Role, "data-processing", randomPolicy)
	keyARN = s.key(attested("arn:aws:iam::"+account+":role/data-processing", registers(1)))
	out, err := s.adminClient().Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("the secret")})
	if err != nil {
		t.Fatal(err)
	}
	return s, role, keyARN, out.CiphertextBlob
}

func TestRecipient(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	sizes := map[string]int{"Decrypt": 10, "GenerateDataKey": 48, "GenerateRandom": 33}
	for name, call := range recipients(s, s.client(role, region), keyARN, sealed) {
		envelope, plaintext, material, err := call(recipient(document(t)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(plaintext) != 0 || material != nil {
			t.Errorf("%s: plaintext or material id beside the envelope", name)
		}
		content, err := cms.Open(recipientKey(), envelope)
		if err != nil || len(content) != sizes[name] {
			t.Errorf("%s: %d bytes in the envelope, %v", name, len(content), err)
		}
		if name == "Decrypt" && string(content) != "the secret" {
			t.Errorf("Decrypt: got %q", content)
		}
	}
}

func TestRecipientDenied(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	other := document(t, func(c *issuer.Content) { c.PCRs = registers(9) })
	calls := recipients(s, s.client(role, region), keyARN, sealed)
	delete(calls, "GenerateRandom") // identity policies alone decide about it
	for name, call := range calls {
		for what, r := range map[string]*types.RecipientInfo{"another image": recipient(other), "no recipient": nil} {
			_, _, _, err := call(r)
			code, message, status, decision := refused(t, err)
			want := "User: arn:aws:sts::000000000000:assumed-role/data-processing/cretula is not authorized to perform: kms:" + name +
				" on resource: " + keyARN + " with an explicit deny in a resource-based policy"
			if code != "AccessDeniedException" || message != want || status != 400 {
				t.Errorf("%s, %s: %d %s %s", name, what, status, code, message)
			}
			event, err := s.kms.Explain(t.Context(), decision)
			if err != nil {
				t.Fatalf("%s, %s: explain %q: %v", name, what, decision, err)
			}
			if event.Outcome != kms.Denied || !event.Emulated || event.Decision == nil || event.Decision.Allowed || event.EventName != name {
				t.Errorf("%s, %s: event %+v", name, what, event)
			}
			if (event.Additional != nil) != (r != nil) {
				t.Errorf("%s, %s: recipient in the event: %v", name, what, event.Additional)
			}
			if r != nil && *event.Additional.Recipient.ImageDigest != fill(9) {
				t.Errorf("%s: image digest %v", name, event.Additional.Recipient.ImageDigest)
			}
		}
	}
}

// badRecipients are documents that must be refused before any policy.
func badRecipients(t *testing.T) map[string]*types.RecipientInfo {
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	big1 := func(e int, shift uint) []byte {
		n := new(big.Int).Set(recipientKey().N)
		n.Lsh(n, shift).SetBit(n, 0, 1)
		return spki(t, &rsa.PublicKey{N: n, E: e})
	}
	withKey := func(key []byte) *types.RecipientInfo {
		return recipient(document(t, func(c *issuer.Content) { c.PublicKey = key }))
	}
	foreign, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	foreignDoc, err := foreign.Issue(issuer.Content{PCRs: registers(1), PublicKey: spki(t, recipientKey().Public()),
		ModuleID: issuer.NewModuleID("i-0123456789abcdef0", time.Now(), nil)})
	if err != nil {
		t.Fatal(err)
	}
	good := document(t)
	changed := bytes.Clone(good)
	changed[len(changed)-1] ^= 1
	inside := bytes.Replace(good, bytes.Repeat([]byte{1}, 48), bytes.Repeat([]byte{2}, 48), 1)
	wrong := recipient(good)
	wrong.KeyEncryptionAlgorithm = "RSAES_OAEP_SHA_1"
	bad := map[string]*types.RecipientInfo{
		"empty":             {},
		"no document":       {KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256},
		"no algorithm":      {AttestationDocument: good},
		"wrong algorithm":   wrong,
		"empty document":    recipient([]byte{}),
		"no CBOR":           recipient([]byte("hello")),
		"cut":               recipient(good[:len(good)-1]),
		"more":              recipient(append(bytes.Clone(good), 0)),
		"too large":         recipient(make([]byte, 262145)),
		"large":             recipient(make([]byte, 262144)),
		"changed signature": recipient(changed),
		"changed payload":   recipient(inside),
		"foreign root":      recipient(foreignDoc),
		"too old":           recipient(document(t, func(c *issuer.Content) { c.Time = time.Now().Add(-301 * time.Second) })),
		"of the future":     recipient(document(t, func(c *issuer.Content) { c.Time = time.Now().Add(62 * time.Second) })),
		"no key":            withKey(nil),
		"empty key":         withKey([]byte{}),
		"no DER":            withKey([]byte("key")),
		"EC key":            withKey(spki(t, ec.Public())),
		"1024 bits":         withKey(spki(t, short.Public())),
		"2047 bits":         withKey(spki(t, &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 2047), big.NewInt(1)), E: 65537})),
		"4097 bits":         withKey(big1(65537, 2049)),
		"exponent 3":        withKey(big1(3, 0)),
		"exponent even":     withKey(big1(65538, 0)),
		"trailing DER":      withKey(append(spki(t, recipientKey().Public()), 0)),
	}
	return bad
}

func TestBadRecipients(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	for what, r := range badRecipients(t) {
		for name, call := range recipients(s, s.client(role, region), keyARN, sealed) {
			_, _, _, err := call(r)
			if err == nil {
				t.Errorf("%s, %s: no error", name, what)
				continue
			}
			code, message, status, decision := refused(t, err)
			if code != "ValidationException" || status != 400 {
				t.Errorf("%s, %s: %d %s %s", name, what, status, code, message)
			}
			event, err := s.kms.Explain(t.Context(), decision)
			if err != nil {
				t.Errorf("%s, %s: %v", name, what, err)
				continue
			}
			if event.Decision != nil {
				t.Errorf("%s, %s: policies were asked", name, what)
			}
			if event.Outcome == kms.Rejected && len(event.Problems) == 0 || event.Outcome == kms.Allowed {
				t.Errorf("%s, %s: outcome %s, problems %v", name, what, event.Outcome, event.Problems)
			}
		}
	}
}

func TestRejectedDocumentNamesTheRoots(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	_, _, _, err := recipients(s, s.client(role, region), keyARN, sealed)["Decrypt"](badRecipients(t)["foreign root"])
	_, message, _, decision := refused(t, err)
	event, explainErr := s.kms.Explain(t.Context(), decision)
	if explainErr != nil {
		t.Fatal(explainErr)
	}
	if event.Outcome != kms.Rejected || len(event.Problems) == 0 || event.Problems[0].Rule != "chain.root" {
		t.Fatalf("got %s, %+v", event.Outcome, event.Problems)
	}
	if !strings.Contains(message, "chain.root") {
		t.Errorf("the message does not name the rule: %s", message)
	}
	t.Log(event.Problems[0].Message)
}

func TestDebugDocuments(t *testing.T) {
	debug := func(c *issuer.Content) {
		for i := range pcr.Index(3) {
			c.PCRs.Put(i, pcr.Digest{})
		}
	}
	for _, allow := range []bool{false, true} {
		s, role, keyARN, sealed := attestedService(t, func(c *kms.Config) { c.AllowDebug = allow })
		c := s.client(role, region)
		// Denied by the policy, with zeros for what was got.
		_, _, _, err := recipients(s, c, keyARN, sealed)["Decrypt"](recipient(document(t, debug)))
		code, _, _, decision := refused(t, err)
		event, explainErr := s.kms.Explain(t.Context(), decision)
		if explainErr != nil {
			t.Fatal(explainErr)
		}
		encoded, _ := json.Marshal(event.Decision)
		if code != "AccessDeniedException" || !bytes.Contains(encoded, []byte(strings.Repeat("0", 96))) || !event.Additional.Recipient.Debug {
			t.Errorf("allow %v: %s, %s", allow, code, encoded)
		}
		// Allowed by the policy, and by the server only where it is told so.
		var zero pcr.Set
		zero.Put(0, pcr.Digest{})
		if _, err := s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN,
			Policy: aws.String(attested("arn:aws:iam::"+account+":role/data-processing", zero))}); err != nil {
			t.Fatal(err)
		}
		for name, call := range recipients(s, c, keyARN, sealed) {
			_, _, _, err = call(recipient(document(t, debug)))
			if allow {
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			if err == nil {
				t.Fatalf("%s: a debug document was served", name)
			}
			code, _, _, decision := refused(t, err)
			event, explainErr := s.kms.Explain(t.Context(), decision)
			if explainErr != nil {
				t.Fatal(explainErr)
			}
			if code != "AccessDeniedException" || event.Outcome != kms.Denied || len(event.Problems) != 1 || event.Problems[0].Rule != "expect.debug" || !event.Decision.Allowed {
				t.Errorf("%s: %s, %+v", name, code, event)
			}
		}
	}
}

func TestNitroTPM(t *testing.T) {
	s := newService(t)
	tpm := document(t, func(c *issuer.Content) {
		c.Kind = attestation.KindNitroTPM
		c.ModuleID = strings.Replace(c.ModuleID, "-enc", "-tpm", 1)
		c.PCRs = registers(1)
	})
	policy := func(key string, digest pcr.Digest) string {
		return fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*",
			"Condition":{"StringEquals":{"kms:RecipientAttestation:%s":"%s"}}}}`, key, digest)
	}
	for i, c := range []struct {
		key   string
		value pcr.Digest
		doc   []byte
		ok    bool
	}{
		{"NitroTPMPCR4", fill(5), tpm, true},
		{"PCR4", fill(5), tpm, false},
		{"ImageSha384", fill(1), tpm, false},
		{"PCR0", fill(1), tpm, false},
		{"PCR4", fill(5), document(t), true},
		{"NitroTPMPCR4", fill(5), document(t), false},
		{"ImageSha384", fill(1), document(t), true},
	} {
		user := s.principal(kms.User, fmt.Sprintf("u%d", i), policy(c.key, c.value))
		_, err := s.client(user, region).GenerateRandom(t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(1), Recipient: recipient(c.doc)})
		if (err == nil) != c.ok {
			t.Errorf("%d %s: %v", i, c.key, err)
		}
	}
}
