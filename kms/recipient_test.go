// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
	"github.com/cretula/cretula/reason"
)

// TestRecipientKey: each key that is refused is refused by its rule.
func TestRecipientKey(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki := func(key any) []byte {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good := spki(&private.PublicKey)
	short := new(big.Int).SetBit(big.NewInt(1), 2046, 1)
	// The exponent is the last member. One byte more stands behind the pair, and all
	// that is around it is that byte longer.
	const inner = 4 + 15 + 4 // where the BIT STRING's contents begin
	behind := append(bytes.Clone(good), 0)
	behind[3]++
	behind[inner-1]++
	odd := bytes.Clone(good)
	odd[inner] = 1 // an unused bit in the BIT STRING
	for _, c := range []struct {
		name string
		spki []byte
		why  reason.Reason
		rule string
	}{
		{"absent", nil, reason.Malformed, "kms.recipient.key.absent"},
		{"empty", []byte{}, reason.Malformed, "kms.recipient.key.form"},
		{"text", []byte("a key"), reason.Malformed, "kms.recipient.key.form"},
		{"PKCS #1", x509.MarshalPKCS1PublicKey(&private.PublicKey), reason.Malformed, "kms.recipient.key.form"},
		{"cut", good[:len(good)-1], reason.Malformed, "kms.recipient.key.form"},
		{"a byte behind it", append(bytes.Clone(good), 0), reason.Malformed, "kms.recipient.key.form"},
		{"a byte behind the pair", behind, reason.Malformed, "kms.recipient.key.form"},
		{"an unused bit", odd, reason.Malformed, "kms.recipient.key.form"},
		{"on P-384", spki(&curve.PublicKey), reason.Unsupported, "kms.recipient.key.type"},
		{"exponent 3", spki(&rsa.PublicKey{N: private.N, E: 3}), reason.Unsupported, "cms.key"},
		{"even exponent", spki(&rsa.PublicKey{N: private.N, E: 65538}), reason.Unsupported, "cms.key"},
		{"2047 bits", spki(&rsa.PublicKey{N: short, E: 65537}), reason.Unsupported, "cms.key"},
	} {
		key, err := recipientKey(c.spki)
		refused, _ := err.(*reason.Error)
		if key != nil || refused == nil || refused.Reason() != c.why || refused.Rule() != c.rule {
			t.Errorf("%s: %v, %v; want %v by %s", c.name, key, err, c.why, c.rule)
		}
	}
	key, err := recipientKey(good)
	if err != nil {
		t.Fatal(err)
	}
	clear(good) // which the key does not refer to
	sealed, err := (&recipient{key: key}).seal([]byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := cms.Open(private, sealed); err != nil || string(opened) != "content" {
		t.Errorf("%q, %v", opened, err)
	}
}

// TestRegisterConditions: each register of a document is a condition, zero ones too,
// and no other is.
func TestRegisterConditions(t *testing.T) {
	sets := map[string]pcr.Set{"none": {}}
	for _, n := range []pcr.Index{16, 24, 32} {
		var mixed, zero, full pcr.Set
		for i := range n {
			full.Put(i, pcr.Sum([]byte{byte(i)}))
			zero.Put(i, pcr.Digest{})
			if i%3 != 1 {
				mixed.Put(i, pcr.Digest{})
			}
			if i%5 == 2 {
				mixed.Put(i, pcr.Sum([]byte{byte(i)}))
			}
		}
		sets[fmt.Sprint("mixed ", n)], sets[fmt.Sprint("zero ", n)], sets[fmt.Sprint("full ", n)] = mixed, zero, full
	}
	for name, set := range sets {
		for _, kind := range []attestation.Kind{attestation.KindEnclave, attestation.KindNitroTPM} {
			want := policy.Context{}
			for i, digest := range set.All() {
				key := "kms:recipientattestation:" + strings.ToLower(i.String())
				if kind == attestation.KindNitroTPM {
					key = "kms:recipientattestation:nitrotpm" + strings.ToLower(i.String())
				} else if i == 0 {
					want["kms:recipientattestation:imagesha384"] = policy.Values{digest.String()}
				}
				want[key] = policy.Values{digest.String()}
			}
			check := func(want policy.Context, wanted ...string) {
				m := conditionKeys{Context: policy.Context{}, values: new([]string), wanted: wanted, all: wanted == nil}
				m.attestation(&recipient{document: attestation.Document{Kind: kind, PCRs: set}})
				if !reflect.DeepEqual(m.Context, want) {
					t.Errorf("%s, %v, %v: %v, want %v", name, kind, wanted, m.Context, want)
				}
			}
			check(want)
			for key, values := range want { // alone, and with what is not there
				check(policy.Context{key: values}, "kms:recipientattestation:pcr99", key)
			}
			check(policy.Context{}, "aws:username")
		}
	}
}

// writtenLog has the events as they are written.
type writtenLog struct {
	nowhere
	mu     sync.Mutex
	events []string
}

func (l *writtenLog) Append(_ context.Context, event any) error {
	text, err := json.Marshal(event)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, string(text))
	return err
}

// TestEventsHaveTheirOwnDocument: of requests at once, and one after the other in the
// same memory, each has its own document in its event, and one without a document, or
// with one that is refused, has none.
func TestEventsHaveTheirOwnDocument(t *testing.T) {
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := new(writtenLog)
	s := newTestServer(t, log, authority.Root())
	admin := testCaller(t, s)(s.EnsureAdmin(t.Context()))
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	const documents = 4
	var requests [documents + 3]*kmsapi.RecipientInfo
	var modules [documents + 3]string
	algorithm := kmsapi.RSAESOAEPSHA256
	for i := range documents + 2 {
		var registers pcr.Set
		for j := range pcr.Index(4 + i) {
			registers.Put(j, pcr.Sum([]byte{byte(i), byte(j)}))
		}
		modules[i] = issuer.NewModuleID(fmt.Sprintf("i-%017x", i), time.Now().Add(-time.Minute), nil)
		content := issuer.Content{ModuleID: modules[i], PCRs: registers, PublicKey: public}
		if i == documents { // proven, but its key is no key
			content.PublicKey = []byte("key")
		}
		document, err := authority.Issue(content)
		if err != nil {
			t.Fatal(err)
		}
		if i == documents+1 {
			document[len(document)-1] ^= 1
		}
		requests[i] = &kmsapi.RecipientInfo{AttestationDocument: document, KeyEncryptionAlgorithm: &algorithm}
	}
	key, err := Do[kmsapi.CreateKeyOutput](t.Context(), s, admin, &kmsapi.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	log.events = nil
	const rounds = 5
	var group sync.WaitGroup
	for i, request := range requests {
		caller := *findCaller(t, s, admin.AccessKeyID)
		caller.UserAgent = strconv.Itoa(i)
		for range 2 {
			group.Go(func() {
				for range rounds {
					spec := "AES_256"
					_, err := Do[kmsapi.GenerateDataKeyOutput](t.Context(), s, &caller, &kmsapi.GenerateDataKeyInput{KeyId: &key.KeyMetadata.Arn, KeySpec: &spec, Recipient: request})
					if refused := i == documents || i == documents+1; refused != (err != nil) {
						t.Errorf("request %d: %v", i, err)
					}
				}
			})
		}
	}
	group.Wait()
	counts := map[int]int{}
	for _, text := range log.events {
		var event Event
		if err := json.Unmarshal([]byte(text), &event); err != nil {
			t.Fatal(err)
		}
		i, err := strconv.Atoi(event.UserAgent)
		if err != nil {
			t.Fatal(err)
		}
		counts[i]++
		if i > documents { // refused, and none at all
			if event.Additional != nil {
				t.Errorf("event %d has a document", i)
			}
			continue
		}
		if event.Additional == nil {
			t.Fatalf("event %d has no document", i)
		}
		r := &event.Additional.Recipient
		zero, _ := r.Registers.Get(0)
		if want := pcr.Sum([]byte{byte(i), 0}); r.ModuleID != modules[i] || r.Registers.Len() != 4+i || zero != want || *r.ImageDigest != want || r.PCR3 == nil || (r.PCR4 == nil) != (i == 0) {
			t.Errorf("event %d has the document %+v", i, r)
		}
	}
	for i := range requests {
		if counts[i] != 2*rounds {
			t.Errorf("%d events of request %d, want %d", counts[i], i, 2*rounds)
		}
	}
}
