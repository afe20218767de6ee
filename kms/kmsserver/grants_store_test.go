// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/keystore/bolt"
	"github.com/cretula/cretula/kms/ledger"
)

// A countingStore counts the rows that it is asked for.
type countingStore struct {
	keystore.Store
	reads atomic.Int64
}

func (c *countingStore) View(ctx context.Context, fn func(keystore.Tx) error) error {
	return c.Store.View(ctx, func(tx keystore.Tx) error { return fn(countingTx{tx, &c.reads}) })
}

type countingTx struct {
	keystore.Tx
	reads *atomic.Int64
}

func (c countingTx) Get(table, id string) (keystore.Row, error) {
	c.reads.Add(1)
	return c.Tx.Get(table, id)
}

func (c countingTx) Holds(row keystore.Row) (bool, error) {
	c.reads.Add(1)
	return c.Tx.Holds(row)
}

func (c countingTx) Scan(table, prefix string, yield func(keystore.Row) bool) error {
	return c.Tx.Scan(table, prefix, func(row keystore.Row) bool {
		c.reads.Add(1)
		return yield(row)
	})
}

// However many grants a key has, a decision reads those that can name the caller,
// and on a key without grants none.
func TestManyGrants(t *testing.T) {
	counting := &countingStore{Store: newStore(t)}
	clock := time.Now()
	s := newService(t, over(t, counting), func(c *kms.Config) { c.Ledger.SetClock(func() time.Time { return clock }) })
	ctx := t.Context()
	bare, keyARN := s.key(adminPolicy), s.key(adminPolicy)
	alice := s.client(s.principal(kms.User, "alice"), region)
	describe := func(c *awskms.Client, keyARN string, ok bool) int64 {
		t.Helper()
		clock = clock.Add(ledger.Recent + 1) // nothing is taken from memory
		before := counting.reads.Load()
		if _, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &keyARN}); (err == nil) != ok {
			t.Fatalf("allowed: %v, want %v", err == nil, ok)
		}
		return counting.reads.Load() - before
	}
	describe(s.adminClient(), bare, true) // the first one reads the roster
	describe(s.adminClient(), keyARN, true)
	without := describe(s.adminClient(), bare, true)
	in := decrypting(keyARN, userARN("alice"))
	in.Operations = append(in.Operations, "DescribeKey")
	for range 3 {
		s.grant(in)
	}
	many := 200 // each is a write to the disk
	if os.Getenv("CRETULA_LONG") == "1" {
		many = 2000
	}
	var last *awskms.CreateGrantOutput
	for i := range many {
		last = s.grant(decrypting(keyARN, fmt.Sprintf("arn:aws:iam::222222222222:role/r%d", i)))
	}
	for range 2 { // the first one makes the index
		describe(s.adminClient(), keyARN, true)
		describe(alice, keyARN, true)
	}
	if reads := describe(s.adminClient(), keyARN, true); reads > without+5 {
		t.Errorf("%d rows for a caller without a grant, %d on a key without grants", reads, without)
	}
	if reads := describe(alice, keyARN, true); reads > without+5+2*3 {
		t.Errorf("%d rows for a caller with three grants, %d on a key without grants", reads, without)
	}
	if reads := describe(s.adminClient(), bare, true); reads > without {
		t.Errorf("%d rows on a key without grants, before %d", reads, without)
	}
	before := counting.reads.Load()
	list, err := s.adminClient().ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN, GranteePrincipal: aws.String(userARN("alice"))})
	if reads := counting.reads.Load() - before; err != nil || len(list.Grants) != 3 || reads > without+20 {
		t.Errorf("%d rows to list the three, %v", reads, err)
	}
	if event := s.typedEvent("DescribeKey"); len(event.Decision.Trace.Grants) > 3 {
		t.Errorf("%d grants in the trace", len(event.Decision.Trace.Grants))
	}
	s.revoke(keyARN, last.GrantId)
}

var grantTables = []string{"grant", "grant-grantee", "grant-request", "grant-retiring"}

// A key takes 50,000 grants. A retry that makes none is still answered.
func TestGrantLimit(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	keyARN := s.key(adminPolicy)
	s.principal(kms.User, "alice")
	in := decrypting(keyARN, userARN("alice"))
	in.Name = aws.String("n")
	first := s.grant(in)
	count := func(n int) {
		t.Helper()
		wantNil(t, s.files.Ledger.Update(ctx, func(tx *ledger.Tx) error {
			id := account + "/" + region + "/" + keyARN[strings.LastIndexByte(keyARN, '/')+1:]
			content, _, err := tx.Get("key", id)
			if err != nil {
				return err
			}
			record := map[string]any{}
			if err := json.Unmarshal(content, &record); err != nil {
				return err
			}
			record["grants"] = n
			if content, err = json.Marshal(record); err != nil {
				return err
			}
			_, err = tx.Put("key", id, content)
			return err
		}))
	}
	more := decrypting(keyARN, userARN("alice"))
	count(49999)
	s.grant(more)
	for range 2 {
		_, err := admin.CreateGrant(ctx, more)
		wantCode(t, err, "LimitExceededException")
		more.DryRun = aws.Bool(true)
	}
	if again := s.grant(in); *again.GrantId != *first.GrantId {
		t.Error("another grant")
	}
	s.revoke(keyARN, first.GrantId)
	more.DryRun = nil
	s.grant(more)
}

// With a grant go all of its rows, and with a key all of its grants.
func TestGrantRowsEnd(t *testing.T) {
	var later clock
	s := newService(t, later.into)
	ctx, admin := t.Context(), s.adminClient()
	a, b := s.key(""), s.key("")
	s.principal(kms.User, "alice")
	make := func(keyARN, name string) *string {
		in := decrypting(keyARN, userARN("alice"))
		in.Name, in.RetiringPrincipal = &name, aws.String(userARN("alice"))
		return s.grant(in).GrantId
	}
	count := func(keyARN string) (n int) {
		id := keyARN[strings.LastIndexByte(keyARN, '/')+1:]
		for _, table := range grantTables {
			for row := range s.rows(table) {
				if strings.Contains(row, id) {
					n++
				}
			}
		}
		return n
	}
	make(a, "1")
	make(a, "2")
	first := make(b, "1")
	make(b, "2")
	if count(a) != 8 || count(b) != 8 {
		t.Fatalf("%d and %d rows", count(a), count(b))
	}
	s.revoke(b, first)
	if count(b) != 4 {
		t.Errorf("%d rows after a grant was revoked", count(b))
	}
	_, err := admin.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &a, PendingWindowInDays: aws.Int32(7)})
	wantNil(t, err)
	later.move(7*24*time.Hour + time.Second)
	wantNil(t, s.kms.DoDue(ctx))
	if count(a) != 0 || count(b) != 4 {
		t.Errorf("%d rows of a deleted key, %d of another", count(a), count(b))
	}
	list, err := admin.ListRetirableGrants(ctx, &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(userARN("alice"))})
	if err != nil || len(list.Grants) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A row of a grant that was changed, removed, added or put back keeps those from
// the key whom it could concern, and is named.
func TestTamperedGrants(t *testing.T) {
	type rows map[string]keystore.Row
	id := strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		change func(tx keystore.Tx, now, revoked rows) error
		table  string // that the finding names
		gone   string // what it says
	}{
		"grant changed": {func(tx keystore.Tx, now, _ rows) error {
			row := now["grant"]
			row.Content = []byte(strings.Replace(string(row.Content), "DescribeKey", "Decrypt", 1))
			return tx.Put(row)
		}, "grant", "changed"},
		"grant removed": {func(tx keystore.Tx, now, _ rows) error { return tx.Delete("grant", now["grant"].ID) }, "grant", "removed"},
		"index removed": {func(tx keystore.Tx, now, _ rows) error { return tx.Delete("grant-grantee", now["grant-grantee"].ID) }, "grant-grantee", "removed"},
		"index added": {func(tx keystore.Tx, now, _ rows) error {
			row := now["grant-grantee"]
			row.ID = row.ID[:len(row.ID)-64] + id
			return tx.Put(row)
		}, "grant-grantee", "added"},
		"revoked grant put back": {func(tx keystore.Tx, _, revoked rows) error {
			for _, table := range grantTables {
				if revoked[table].ID == "" {
					continue
				}
				if err := tx.Put(revoked[table]); err != nil {
					return err
				}
			}
			return nil
		}, "grant-grantee", "added"},
		"key put back": {func(tx keystore.Tx, _, revoked rows) error { return tx.Put(revoked["key"]) }, "key", "rolled back"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			alice, bob := s.principal(kms.User, "alice"), s.principal(kms.User, "bob")
			victim := s.key(statements(`{"Effect":"Allow","Principal":{"AWS":"` + userARN("bob") + `"},"Action":"kms:DescribeKey","Resource":"*"}`))
			other := s.key(adminPolicy)
			in := decrypting(victim, userARN("alice"))
			in.Operations = append(in.Operations, "DescribeKey")
			read := func() rows {
				found := rows{}
				tablesOf(t, s, append(grantTables, "key"), func(row keystore.Row) {
					if strings.Contains(row.ID, victim[strings.LastIndexByte(victim, '/')+1:]) {
						found[row.Table] = row
					}
				})
				return found
			}
			g := s.grant(in)
			revoked := read()
			s = reopen(t, s)
			s.revoke(victim, g.GrantId)
			s.grant(in)
			now := read()
			in.KeyId = &other
			edit(t, s.dir, func(tx keystore.Tx) error { return c.change(tx, now, revoked) })
			s = reopen(t, s)
			s.grant(in)
			for i, client := range []*awskms.Client{s.client(alice, region), s.client(bob, region)} {
				_, err := client.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &victim})
				if i == 1 && c.table != "key" { // whom no grant can name
					wantNil(t, err)
					continue
				}
				if err == nil {
					t.Fatal("the key was used")
				}
				code, message, status, decision := refused(t, err)
				if code != "KMSInternalException" || status != 500 || strings.Contains(message, "row") {
					t.Errorf("%d %s %s", status, code, message)
				}
				event, err := s.kms.Explain(t.Context(), decision)
				wantNil(t, err)
				if !strings.Contains(event.Cause, `"`+c.table+`"`) || !strings.Contains(event.Cause, c.gone) {
					t.Errorf("cause: %s", event.Cause)
				}
			}
			_, err := s.client(alice, region).DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &other})
			wantNil(t, err)
		})
	}
}

// tablesOf closes the files of the service and yields the rows of its store.
func tablesOf(t *testing.T, s *service, tables []string, yield func(keystore.Row)) {
	t.Helper()
	wantNil(t, s.files.Close())
	store, err := bolt.Open(filepath.Join(s.dir, datadir.StoreFile))
	wantNil(t, err)
	wantNil(t, store.View(t.Context(), func(tx keystore.Tx) error {
		for _, table := range tables {
			err := tx.Scan(table, "", func(row keystore.Row) bool {
				row.Content, row.MAC = slices.Clone(row.Content), slices.Clone(row.MAC)
				yield(row)
				return true
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	wantNil(t, store.Close())
}
