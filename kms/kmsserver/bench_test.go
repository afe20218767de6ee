// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/kms"
)

// BenchmarkDecrypt is a Decrypt over loopback, client, signature and durable
// audit event included.
func BenchmarkDecrypt(b *testing.B) {
	s := newService(b)
	keyARN := s.key("")
	c := s.adminClient()
	sealed, err := c.Encrypt(b.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("x")})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.Decrypt(b.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAttestedDecrypt is the same with a Recipient, one document again and
// again.
func BenchmarkAttestedDecrypt(b *testing.B) {
	s := newService(b)
	role := s.principal(kms.Role, "data-processing")
	keyARN := s.key(attested("arn:aws:iam::"+account+":role/data-processing", registers(1)))
	sealed, err := s.adminClient().Encrypt(b.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("x")})
	if err != nil {
		b.Fatal(err)
	}
	c, doc := s.client(role, region), document(b)
	for b.Loop() {
		if _, err := c.Decrypt(b.Context(), &awskms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, Recipient: recipient(doc)}); err != nil {
			b.Fatal(err)
		}
	}
}

// Many clients at once, while keys and principals are made and policies change:
// every answer is right, and every answer has its event.
func TestConcurrentClients(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	doc := document(t)
	var wg sync.WaitGroup
	fail := make(chan error, 100)
	const clients, rounds = 16, 6
	for i := range clients {
		wg.Go(func() {
			c, admin := s.client(role, region), s.adminClient()
			for round := range rounds {
				out, err := c.Decrypt(context.Background(), &awskms.DecryptInput{CiphertextBlob: sealed, Recipient: recipient(doc)})
				if err != nil || len(out.Plaintext) != 0 {
					fail <- fmt.Errorf("Decrypt: %w", errors.Join(err, errors.New("plaintext")))
				}
				switch (i + round) % 4 {
				case 0:
					_, err = admin.CreateKey(context.Background(), &awskms.CreateKeyInput{})
				case 1:
					_, err = s.kms.AddPrincipal(context.Background(), kms.Principal{Type: kms.User, Name: fmt.Sprintf("u%d-%d", i, round)})
				case 2:
					_, err = admin.PutKeyPolicy(context.Background(), &awskms.PutKeyPolicyInput{KeyId: &keyARN,
						Policy: aws.String(attested("arn:aws:iam::"+account+":role/data-processing", registers(1)))})
				default:
					_, err = admin.ListKeys(context.Background(), &awskms.ListKeysInput{})
				}
				if err != nil {
					fail <- err
				}
			}
		})
	}
	wg.Wait()
	close(fail)
	for err := range fail {
		t.Error(err)
	}
	decrypts := 0
	for line := range strings.Lines(auditText(t, s.dir)) {
		var record struct{ Event kms.Event }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if record.Event.EventName == "Decrypt" {
			decrypts++
		}
	}
	if decrypts != clients*rounds {
		t.Errorf("%d events of Decrypt, want %d", decrypts, clients*rounds)
	}
}
