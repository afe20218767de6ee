// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/ledger"
)

// Nothing changes that is not on record.
func TestAuditBeforeChange(t *testing.T) {
	s := newService(t)
	keyARN := s.key("")
	s.audit.set(errors.New("the disk is gone"))
	for target, body := range map[string]string{
		"CreateKey":    `{}`,
		"PutKeyPolicy": `{"KeyId":"` + keyARN + `","Policy":` + quoteJSON(adminPolicy) + `}`,
	} {
		if status, answer, _ := s.send(raw{target: "TrentService." + target, body: body}); status != 500 {
			t.Errorf("%s: %d %s", target, status, answer)
		}
	}
	if _, err := s.kms.AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: "unrecorded"}); err == nil {
		t.Error("a principal was added")
	}
	if _, err := s.kms.RemovePrincipal(t.Context(), kms.AdminName, ""); err == nil {
		t.Error("a principal was removed")
	}
	s.audit.set(nil)
	keys, err := s.adminClient().ListKeys(t.Context(), &awskms.ListKeysInput{})
	if err != nil {
		t.Fatal(err)
	}
	if len(keys.Keys) != 1 {
		t.Errorf("%d keys, want 1", len(keys.Keys))
	}
	policy, err := s.adminClient().GetKeyPolicy(t.Context(), &awskms.GetKeyPolicyInput{KeyId: &keyARN})
	if err != nil || strings.Contains(*policy.Policy, "user/admin") {
		t.Errorf("the policy was replaced: %v", err)
	}
	all, err := s.kms.ListPrincipals(t.Context())
	if err != nil || len(all) != 1 || all[0].Name != kms.AdminName {
		t.Errorf("principals: %+v, %v", all, err)
	}
	if events := s.events("CreateKey"); len(events) != 1 {
		t.Errorf("%d events of CreateKey, want 1", len(events))
	}
}

// events returns the lines of the audit log about an operation.
func (s *service) events(name string) []string {
	lines := strings.Split(strings.TrimSpace(auditText(s.t, s.dir)), "\n")
	return slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(line, `"eventName":"`+name+`"`) })
}

// A failingStore undoes every transaction when it is told to.
type failingStore struct {
	keystore.Store
	fail error
}

func (f *failingStore) Update(ctx context.Context, fn func(keystore.Tx) error) error {
	return f.Store.Update(ctx, func(tx keystore.Tx) error { return errors.Join(fn(tx), f.fail) })
}

// A change that is on record and then fails is corrected by a second record.
func TestFailedChangeIsCorrected(t *testing.T) {
	failing := &failingStore{Store: newStore(t)}
	s := newService(t, over(t, failing))
	failing.fail = errors.New("the disk is gone")
	if status, answer, _ := s.send(raw{target: "TrentService.CreateKey", body: `{}`}); status != 500 {
		t.Errorf("%d %s", status, answer)
	}
	if _, err := s.kms.AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: "alice"}); !errors.Is(err, failing.fail) {
		t.Errorf("got %v", err)
	}
	for name, count := range map[string]int{"CreateKey": 2, "AddPrincipal": 3} { // the administrator was the first
		events := s.events(name)
		if len(events) != count || !strings.Contains(events[count-2], `"outcome":"allowed"`) || !strings.Contains(events[count-1], `"outcome":"failed"`) {
			t.Errorf("events:\n%s", strings.Join(events, "\n"))
		}
	}
}

// A cancelingLog has the client hang up while its event is written.
type cancelingLog struct {
	kms.AuditLog
	cancel func()
}

func (l *cancelingLog) Append(ctx context.Context, event any) error {
	if l.cancel != nil {
		l.cancel()
	}
	return l.AuditLog.Append(ctx, event)
}

// What is on record is done, though the client has gone meanwhile.
func TestClientGone(t *testing.T) {
	canceling := &cancelingLog{}
	s := newService(t, func(c *kms.Config) {
		canceling.AuditLog = c.Audit
		c.Audit = canceling
	})
	ctx, cancel := context.WithCancel(t.Context())
	canceling.cancel = cancel
	if _, err := s.kms.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: "alice"}); err != nil {
		t.Error(err)
	}
	// One that was gone before is not served.
	canceling.cancel = nil
	if _, err := s.kms.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: "bob"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if events := s.events("AddPrincipal"); len(events) != 2 {
		t.Errorf("events:\n%s", strings.Join(events, "\n"))
	}
}

// A leavingStore has the client hang up before something is read.
type leavingStore struct {
	keystore.Store
	leave func()
}

func (l *leavingStore) View(ctx context.Context, fn func(keystore.Tx) error) error {
	if l.leave != nil {
		l.leave()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return l.Store.View(ctx, fn)
}

// A client that hangs up, or closes its side once it has asked, is no fault of the
// service, which goes on.
func TestClientGoneIsNoFault(t *testing.T) {
	leaving := &leavingStore{Store: newStore(t)}
	s := newService(t, over(t, leaving))
	client := s.adminClient()
	ctx, cancel := context.WithCancel(t.Context())
	leaving.leave = cancel
	if _, err := client.ListKeys(ctx, &awskms.ListKeysInput{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.log.String(), "operation=ListKeys"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the request is not logged")
		}
	}
	if log := s.log.String(); strings.Contains(log, "level=ERROR") || !strings.Contains(log, "status=200") {
		t.Error(log)
	}
}

// newStore makes an empty store.
func newStore(t *testing.T) keystore.Store {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := bolt.Create(filepath.Join(dir, "kms.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

// over puts the service over another store.
func over(t *testing.T, store keystore.Store) func(*kms.Config) {
	return func(c *kms.Config) {
		var err error
		if c.Ledger, err = ledger.Create(t.Context(), store, c.RootKey, ledger.Meta{Emulated: true, Account: account}); err != nil {
			t.Fatal(err)
		}
	}
}

// The record of a change says what the policy is from then on, however long it is;
// what was refused is cut.
func TestPolicyOnRecord(t *testing.T) {
	s := newService(t)
	long := strings.Replace(adminPolicy, `"Statement":`, `"Id":"`+strings.Repeat("x", 20000)+`","Statement":`, 1)
	keyARN := s.key(long)
	_, err := s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: &long})
	if err != nil {
		t.Fatal(err)
	}
	long = strings.Replace(long, "Allow", "Alow", 1)
	_, err = s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: &long})
	wantCode(t, err, "MalformedPolicyDocumentException")
	for name, want := range map[string][]bool{"CreateKey": {true}, "PutKeyPolicy": {true, false}} {
		events := s.events(name)
		for i, event := range events {
			if len(events) != len(want) || strings.Contains(event, strings.Repeat("x", 20000)) != want[i] {
				t.Errorf("%s: event %d of %d has the policy: %v", name, i+1, len(events), !want[i])
			}
		}
	}
}

// A racedStore lets something happen between a request's decision and its change.
type racedStore struct {
	keystore.Store
	before func()
}

func (r *racedStore) Update(ctx context.Context, fn func(keystore.Tx) error) error {
	if before := r.before; before != nil {
		r.before = nil
		before()
	}
	return r.Store.Update(ctx, fn)
}

// A right that was taken away while a request was under way is not used: the new
// policy decides, and is not overwritten by one that the old policy allowed.
func TestPolicyChangeRace(t *testing.T) {
	raced := &racedStore{Store: newStore(t)}
	s := newService(t, over(t, raced))
	mallory := s.client(s.principal(kms.User, "mallory"), region)
	both := strings.Replace(adminPolicy, `"arn:aws:iam::000000000000:user/admin"`,
		`["arn:aws:iam::000000000000:user/admin","arn:aws:iam::000000000000:user/mallory"]`, 1)
	keyARN := s.key(both)
	raced.before = func() {
		_, err := s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: aws.String(adminPolicy)})
		if err != nil {
			t.Error(err)
		}
	}
	_, err := mallory.PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: &both})
	wantCode(t, err, "AccessDeniedException")
	got, err := s.adminClient().GetKeyPolicy(t.Context(), &awskms.GetKeyPolicyInput{KeyId: &keyARN})
	if err != nil || *got.Policy != adminPolicy {
		t.Errorf("the policy is %v, %v", got, err)
	}
	// What may still be done is done, on the second try.
	raced.before = func() {
		_, err := s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: &both})
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: aws.String(adminPolicy)}); err != nil {
		t.Error(err)
	}
	if events := s.events("PutKeyPolicy"); len(events) != 4 || strings.Count(events[3], keyARN) != strings.Count(events[0], keyARN) {
		t.Errorf("events:\n%s", strings.Join(events, "\n"))
	}
}

// Policies may match patterns against what a client calls itself, which costs
// time and memory by its length.
func TestLongUserAgent(t *testing.T) {
	s := newService(t)
	keyARN := s.key(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Deny","Principal":"*","Action":"kms:DescribeKey","Resource":"*","Condition":{
			"StringLike":{"aws:UserAgent":"` + strings.Repeat("?", 1025) + `*"}}}]}`)
	status, answer, _ := s.send(raw{target: "TrentService.DescribeKey", body: `{"KeyId":"` + keyARN + `"}`,
		after: func(r *http.Request) { r.Header.Set("User-Agent", strings.Repeat("a", 60000)) }})
	if status != 200 {
		t.Errorf("a pattern saw more than 1024 bytes: %d %s", status, answer)
	}
}
