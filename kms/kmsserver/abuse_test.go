// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore"
)

// ownKey is a key of which c alone may do everything.
func ownKey(t *testing.T, s *service, c kms.Credentials, user, more string) string {
	t.Helper()
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + userARN(user) + `"},"Action":"kms:*","Resource":"*"}` + more + `]}`
	out, err := s.client(c, region).CreateKey(t.Context(), &awskms.CreateKeyInput{Policy: &policy})
	wantNil(t, err)
	return *out.KeyMetadata.Arn
}

// last returns the newest event of an operation and how long its line is.
func (s *service) last(name string) (event kms.Event, size int) {
	s.t.Helper()
	lines := s.events(name)
	if len(lines) == 0 {
		s.t.Fatalf("no event of %s", name)
	}
	line := lines[len(lines)-1]
	var entry struct{ Event kms.Event }
	if err := json.Unmarshal([]byte(line), &entry); err != nil {
		s.t.Fatal(err)
	}
	return entry.Event, len(line)
}

// What a request costs is of the order of its size: also for whoever may do nothing.
func TestLargeListsCostLittle(t *testing.T) {
	s := newService(t)
	nobody := s.principal(kms.User, "nobody")
	for name, c := range map[string]struct{ operation, body string }{
		"tags":       {"CreateKey", `{"Tags":[` + strings.Repeat("{},", 340000) + `{}]}`},
		"operations": {"CreateGrant", `{"KeyId":"x","Operations":["Decrypt"` + strings.Repeat(`,"Decrypt"`, 100000) + `]}`},
		"tag keys":   {"UntagResource", `{"KeyId":"x","TagKeys":["x"` + strings.Repeat(`,"<"`, 250000) + `]}`},
		"context":    {"Encrypt", `{"KeyId":"x","Plaintext":"AAAA","EncryptionContext":{"x":"` + strings.Repeat("<", 1000000) + `"}}`},
		"modifiers":  {"Decrypt", `{"DryRun":true,"DryRunModifiers":["IGNORE_CIPHERTEXT"` + strings.Repeat(`,"IGNORE_CIPHERTEXT"`, 50000) + `]}`},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		status, answer, _ := s.send(raw{target: "TrentService." + c.operation, body: c.body, credentials: nobody})
		runtime.ReadMemStats(&after)
		if status != 400 || !strings.Contains(answer, "ValidationException") || len(answer) > 4*len(c.body) {
			t.Errorf("%s: %d, %d bytes: %.200s", name, status, len(answer), answer)
		}
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 200<<20 {
			t.Errorf("%s: %d bytes of memory", name, spent)
		}
		if _, size := s.last(c.operation); size > 200<<10 {
			t.Errorf("%s: an event of %d bytes", name, size)
		}
	}
}

// Nothing in a request that is allowed keeps from the log what it asked for.
func TestParametersCannotBeHidden(t *testing.T) {
	s := newService(t)
	owner := s.principal(kms.User, "owner", allowAll(`"kms:*"`))
	s.principal(kms.User, "grantee")
	key := ownKey(t, s, owner, "owner", "")
	grant := func(operations string) int {
		status, _, _ := s.send(raw{target: "TrentService.CreateGrant", credentials: owner,
			body: `{"KeyId":"` + key + `","GranteePrincipal":"` + userARN("grantee") + `","Operations":["Decrypt"` + operations + `]}`})
		return status
	}
	untag := func(keys string) int {
		status, _, _ := s.send(raw{target: "TrentService.UntagResource", body: `{"KeyId":"` + key + `","TagKeys":["team"` + keys + `]}`, credentials: owner})
		return status
	}
	for name, c := range map[string]struct {
		operation, member string
		send              func(string) int
		many              string
	}{
		"a grant": {"CreateGrant", "granteePrincipal", grant, strings.Repeat(`,"Decrypt"`, 104000)},
		"tags":    {"UntagResource", "tagKeys", untag, strings.Repeat(`,"`+strings.Repeat("<", 120)+`"`, 8000)},
	} {
		if status := c.send(c.many); status != 400 {
			t.Errorf("%s: %d", name, status)
		}
		if status := c.send(""); status != 200 {
			t.Errorf("%s: %d", name, status)
		}
		if event, _ := s.last(c.operation); event.Outcome != kms.Allowed || event.RequestParameters[c.member] == nil {
			t.Errorf("%s: %+v", name, event)
		}
	}
}

// A smallLog takes events of 8 KiB at most.
type smallLog struct{ kms.AuditLog }

func (l smallLog) Append(ctx context.Context, event any) error {
	if encoded, err := json.Marshal(event); err != nil || len(encoded) > 8<<10 {
		return fmt.Errorf("%w: too large", audit.ErrEvent)
	}
	return l.AuditLog.Append(ctx, event)
}

// An event that is too large loses its trace first: what was asked for stays, if
// that alone is not too large.
func TestLargeTraceLeavesParameters(t *testing.T) {
	s := newService(t, func(c *kms.Config) { c.Audit = smallLog{c.Audit} })
	owner := s.principal(kms.User, "owner", allowAll(`"kms:*"`))
	key := ownKey(t, s, owner, "owner", strings.Repeat(`,{"Sid":"`+strings.Repeat("<", 900)+`","Effect":"Deny","Principal":"*","Action":"a:b","Resource":"*"}`, 30))
	if event, _ := s.last("CreateKey"); event.RequestParameters != nil || event.Outcome != kms.Allowed {
		t.Errorf("%+v", event) // its policy is too large
	}
	_, err := s.client(owner, region).TagResource(t.Context(), &awskms.TagResourceInput{KeyId: &key, Tags: []types.Tag{{TagKey: new("team"), TagValue: new("a")}}})
	wantNil(t, err)
	event, _ := s.last("TagResource")
	if event.RequestParameters["keyId"] != key || event.RequestParameters["tags"] == nil || event.Decision != nil || event.Outcome != kms.Allowed {
		t.Errorf("%+v", event)
	}
}

// A large encryption context is refused before policies match patterns against it,
// which costs the product of both.
func TestLargeContextBeforePolicies(t *testing.T) {
	s := newService(t)
	owner := s.principal(kms.User, "owner", allowAll(`"kms:*"`))
	key := ownKey(t, s, owner, "owner", `,{"Effect":"Deny","Principal":"*","Action":"a:b","Resource":"*","Condition":{"StringLike":{"kms:EncryptionContext:x":"*`+strings.Repeat("a", 30000)+`b"}}}`)
	large := `{"x":"` + strings.Repeat("a", 1000000) + `"}`
	for operation, body := range map[string]string{
		"CreateGrant": `"Operations":["Decrypt"],"GranteePrincipal":"` + userARN("owner") + `","Constraints":{"EncryptionContextSubset":` + large + `}`,
		"Encrypt":     `"Plaintext":"AAAA","EncryptionContext":` + large,
		"ReEncrypt":   `"CiphertextBlob":"AAAA","DestinationKeyId":"` + key + `","DestinationEncryptionContext":` + large,
	} {
		status, answer, header := s.send(raw{target: "TrentService." + operation, body: `{"KeyId":"` + key + `",` + body + `}`, credentials: owner})
		if status != 400 || !strings.Contains(answer, "larger than 8192 bytes") {
			t.Errorf("%s: %d %.200s", operation, status, answer)
		}
		event, err := s.kms.Explain(t.Context(), header.Get("x-cretula-decision"))
		if err != nil || event.Decision != nil {
			t.Errorf("%s: decided before: %+v, %v", operation, event, err)
		}
	}
}

// Neither the explanation of a hidden refusal nor a bad document tells whether the
// key of a ciphertext exists in another account, and of one that is gone nobody
// there is shown the policy.
func TestForeignKeysStayHidden(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	admin := s.adminClient()
	key := s.key(`{"Version":"2012-10-17","Statement":[{"Sid":"Inner","Effect":"Allow","Principal":{"AWS":["` + userARN("admin") + `"]},"Action":"kms:*","Resource":"*"}]}`)
	sealed, err := admin.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
	wantNil(t, err)
	none := bytes.Clone(sealed.CiphertextBlob)
	none[15] = "0123456789abcdef0"[strings.IndexByte("0123456789abcdef", none[15])+1] // the first digit of the key's id
	stranger := s.stranger("erin", allowAll(`"kms:*"`))
	decrypt := func(blob []byte, recipient string) (answer, decision string) {
		status, answer, header := s.send(raw{target: "TrentService.Decrypt", body: `{"CiphertextBlob":"` + base64Of(blob) + `"` + recipient + `}`, credentials: stranger})
		if status != 400 {
			t.Errorf("%d %s", status, answer)
		}
		return answer, header.Get("x-cretula-decision")
	}
	explained := func(decision string) string {
		_, answer, _ := s.send(raw{target: "CretulaService.ExplainDecision", body: `{"DecisionId":"` + decision + `"}`, credentials: stranger})
		return answer
	}
	for _, recipient := range []string{"", `,"Recipient":{}`, `,"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"AAAA"}`} {
		there, one := decrypt(sealed.CiphertextBlob, recipient)
		gone, two := decrypt(none, recipient)
		if there != gone {
			t.Errorf("%s\n%s", there, gone)
		}
		if recipient == "" && (!strings.Contains(explained(one), "AccessDeniedException") || explained(one) != explained(two)) {
			t.Errorf("%s\n%s", explained(one), explained(two))
		}
	}
	_, decision := decrypt(sealed.CiphertextBlob, "")
	_, err = admin.ScheduleKeyDeletion(t.Context(), &awskms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: new(int32(7))})
	wantNil(t, err)
	c.move(8 * 24 * time.Hour)
	wantNil(t, s.kms.DoDue(t.Context()))
	if answer := explained(decision); strings.Contains(answer, "Inner") || !strings.Contains(answer, "AccessDeniedException") {
		t.Error(answer)
	}
}

// A meddlingStore has something else done before a transaction that writes.
type meddlingStore struct {
	keystore.Store
	before func()
}

func (m *meddlingStore) Update(ctx context.Context, fn func(keystore.Tx) error) error {
	if before := m.before; before != nil {
		m.before = nil
		before()
	}
	return m.Store.Update(ctx, fn)
}

// Who is removed while a request of theirs is on its way changes nothing any more.
func TestRemovedMeanwhile(t *testing.T) {
	meddling := &meddlingStore{Store: newStore(t)}
	s := newService(t, over(t, meddling))
	alice := s.principal(kms.User, "alice", allowAll(`"kms:*"`))
	key := s.key("")
	meddling.before = func() {
		if _, err := s.kms.RemovePrincipal(t.Context(), "alice", ""); err != nil {
			t.Error(err)
		}
	}
	_, err := s.client(alice, region).DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &key})
	wantCode(t, err, "UnrecognizedClientException")
	out, err := s.adminClient().DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &key})
	if err != nil || !out.KeyMetadata.Enabled {
		t.Errorf("%+v, %v", out, err)
	}
	if event, _ := s.last("DisableKey"); event.Outcome != kms.Failed {
		t.Errorf("%+v", event)
	}
}

// What the service does by itself and fails is corrected on record too.
func TestFailedOwnChangeIsCorrected(t *testing.T) {
	var c clock
	failing := &failingStore{Store: newStore(t)}
	s := newService(t, over(t, failing), c.into)
	key := s.key("")
	_, err := s.adminClient().ScheduleKeyDeletion(t.Context(), &awskms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: new(int32(7))})
	wantNil(t, err)
	c.move(8 * 24 * time.Hour)
	failing.fail = errors.New("the disk is gone")
	if err := s.kms.DoDue(t.Context()); !errors.Is(err, failing.fail) {
		t.Errorf("got %v", err)
	}
	if event, _ := s.last("DeleteKey"); event.Outcome != kms.Failed || len(s.events("DeleteKey")) != 2 {
		t.Errorf("%+v", event)
	}
	failing.fail = nil
	wantNil(t, s.kms.DoDue(t.Context()))
	if event, _ := s.last("DeleteKey"); event.Outcome != kms.Allowed {
		t.Errorf("%+v", event)
	}
}

// A crowdedLog says how many look for an event at once.
type crowdedLog struct {
	kms.AuditLog
	now, most atomic.Int32
}

func (l *crowdedLog) Find(ctx context.Context, id string) (audit.Entry, error) {
	n := l.now.Add(1)
	defer l.now.Add(-1)
	for most := l.most.Load(); n > most && !l.most.CompareAndSwap(most, n); most = l.most.Load() {
	}
	time.Sleep(5 * time.Millisecond) // for the others to come
	return l.AuditLog.Find(ctx, id)
}

// Whoever asks for decisions that do not exist has one reader of the log at work,
// not one for each request.
func TestExplanationsQueue(t *testing.T) {
	log := &crowdedLog{}
	s := newService(t, func(c *kms.Config) { log.AuditLog, c.Audit = c.Audit, log })
	nobody := s.principal(kms.User, "nobody")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			status, answer, _ := s.send(raw{target: "CretulaService.ExplainDecision", body: `{"DecisionId":"d-` + strings.Repeat("0", 32) + `"}`, credentials: nobody})
			if status != 400 || !strings.Contains(answer, "AccessDeniedException") {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	wg.Wait()
	if most := log.most.Load(); most != 1 {
		t.Errorf("%d at once", most)
	}
}
