// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsserver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore/postgres"
	"github.com/cretula/cretula/kms/ledger"
)

// newPostgres puts a service over a database of its own, whose name it returns.
func newPostgres(t *testing.T, change ...func(*kms.Config)) (s *service, database string) {
	t.Helper()
	server := pgtest.Shared(t)
	database = server.Database(t)
	return newPostgresAt(t, server.URL(database), change...), database
}

func newPostgresAt(t *testing.T, url string, change ...func(*kms.Config)) *service {
	t.Helper()
	store, err := postgres.Create(t.Context(), url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return newService(t, append([]func(*kms.Config){over(t, store)}, change...)...)
}

// TestRecordedOverPostgres replays every case over a database.
func TestRecordedOverPostgres(t *testing.T) {
	replayRecorded(t, func(t *testing.T) *service {
		s, _ := newPostgres(t)
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { s.kms.Run(ctx, func(err error) { t.Error(err) }) })
		t.Cleanup(func() {
			stop()
			running.Wait()
		})
		return s
	})
}

// A sqlFixture is a service over a database that a test changes by SQL, as somebody
// can who may write to the database but has not the root key.
type sqlFixture struct {
	*service
	database string
	clock    *time.Time
	// victim and other are ids of two keys that alice may use in the same way: if
	// the encryption context says so.
	victim, other string
	alice         kms.Credentials
}

const aliceCondition = `,"Condition":{"StringEquals":{"kms:EncryptionContext:purpose":"test"}}`

func newSQLFixture(t *testing.T) *sqlFixture {
	t.Helper()
	clock := time.Now()
	f := &sqlFixture{clock: &clock}
	f.service, f.database = newPostgres(t, func(c *kms.Config) { c.Ledger.SetClock(func() time.Time { return clock }) })
	f.alice = f.principal(kms.User, "alice")
	f.principal(kms.User, "bob")
	policy := strings.Replace(adminPolicy, `"Statement":{`, `"Statement":[{`, 1)
	policy = strings.TrimSuffix(policy, "}") + `,{"Effect":"Allow","Principal":{"AWS":"` + userARN("alice") +
		`"},"Action":"kms:Encrypt","Resource":"*"` + aliceCondition + `}]}`
	id := func(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
	f.victim, f.other = id(f.key(policy)), id(f.key(policy))
	return f
}

// sql runs a statement, which must change rows. KEY and OTHER in it are the ids of
// the two keys.
func (f *sqlFixture) sql(statement string) {
	f.t.Helper()
	statement = strings.NewReplacer("KEY", f.victim, "OTHER", f.other, "ALICE", f.alice.AccessKeyID).Replace(statement)
	pgtest.Shared(f.t).Exec(f.t, f.database,
		fmt.Sprintf("do $do$ begin %s; if not found then raise exception 'no row was changed'; end if; end $do$", statement))
}

// restore puts all rows back as they were when the function was made.
func (f *sqlFixture) restore() func() {
	f.t.Helper()
	f.sql("create table saved as table cretula.rows; perform 1")
	return func() {
		f.t.Helper()
		f.sql("delete from cretula.rows; insert into cretula.rows select * from saved; drop table saved; perform 1")
		f.pass()
	}
}

// pass lets what was confirmed be old.
func (f *sqlFixture) pass() { *f.clock = f.clock.Add(ledger.Recent + 1) }

// use uses a key as alice may.
func (f *sqlFixture) use(key string) error {
	_, err := f.client(f.alice, region).Encrypt(f.t.Context(), &awskms.EncryptInput{
		KeyId: aws.String("arn:aws:kms:" + region + ":" + account + ":key/" + key), Plaintext: []byte("x"),
		EncryptionContext: map[string]string{"purpose": "test"},
	})
	return err
}

// wantRefused wants the use of a key to be refused for a row, which the record of
// the request names, and its answer does not.
func (f *sqlFixture) wantRefused(key, table, what string) {
	f.t.Helper()
	err := f.use(key)
	if err == nil {
		f.t.Errorf("a key was used whose %s", what)
		return
	}
	code, message, status, decision := refused(f.t, err)
	if code != "KMSInternalException" || status != 500 || strings.Contains(message, "row") {
		f.t.Errorf("%d %s %s", status, code, message)
	}
	event, err := f.kms.Explain(f.t.Context(), decision)
	if err != nil {
		f.t.Error(err)
		return
	}
	if !strings.Contains(event.Cause, fmt.Sprintf("of table %q", table)) || !strings.Contains(event.Cause, what) {
		f.t.Errorf("cause %q, want a row of table %s: %s", event.Cause, table, what)
	}
}

// Who can write to the database, and has not the root key, gains nothing: the key
// whose rows were changed is refused, whoever asks, and the record names the row.
// Other keys go on.
func TestSQLWithoutRootKey(t *testing.T) {
	f := newSQLFixture(t)
	for _, c := range []struct{ name, sql, table, what string }{
		{"a condition is dropped", `update cretula.rows set content = convert_to(replace(convert_from(content, 'UTF8'), '` + aliceCondition + `', ''), 'UTF8')
			where tbl = 'key-policy' and id like '%KEY' and strpos(convert_from(content, 'UTF8'), '` + aliceCondition + `') > 0`, "key-policy", "changed"},
		{"a version is raised", `update cretula.rows set version = version + 1 where tbl = 'key-policy' and id like '%KEY'`, "key-policy", "changed"},
		{"a policy is moved", `update cretula.rows v set content = o.content, mac = o.mac, version = o.version from cretula.rows o
			where v.tbl = 'key-policy' and v.id like '%KEY' and o.tbl = v.tbl and o.id like '%OTHER'`, "key-policy", "moved"},
		{"a record is moved", `update cretula.rows v set content = o.content, mac = o.mac from cretula.rows o
			where v.tbl = 'key' and v.id like '%KEY' and o.tbl = v.tbl and o.id like '%OTHER'`, "key", "moved"},
		{"a state is changed", `update cretula.rows set content = convert_to(replace(convert_from(content, 'UTF8'), 'Enabled', 'Disabled'), 'UTF8')
			where tbl = 'key' and id like '%KEY'`, "key", "changed"},
		{"a policy is deleted", `delete from cretula.rows where tbl = 'key-policy' and id like '%KEY'`, "key-policy", "removed"},
		{"a record is deleted", `delete from cretula.rows where tbl = 'key' and id like '%KEY'`, "key", "removed"},
		{"material is deleted", `delete from cretula.rows where tbl = 'key-material' and id like '%KEY%'`, "key-material", "removed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := *f
			f.t = t
			restore := f.restore()
			wantNil(t, f.use(f.victim))
			f.sql(c.sql)
			wantNil(t, f.use(f.victim)) // as it was a moment ago
			f.pass()
			for range 2 {
				f.wantRefused(f.victim, c.table, c.what)
			}
			wantNil(t, f.use(f.other))
			restore()
			wantNil(t, f.use(f.victim))
		})
	}
}

// A grant that somebody adds is none, and disables the key: on one without grants,
// and on one with grants to others.
func TestSQLGrant(t *testing.T) {
	f := newSQLFixture(t)
	arn := "arn:aws:kms:" + region + ":" + account + ":key/" + f.other
	f.grant(decrypting(arn, userARN("alice")))
	for _, prepare := range []func(){func() {}, func() {
		f.grant(decrypting("arn:aws:kms:"+region+":"+account+":key/"+f.victim, userARN("bob")))
	}} {
		prepare()
		restore := f.restore()
		wantNil(t, f.use(f.victim))
		f.sql(`insert into cretula.rows select tbl, convert_to(replace(convert_from(id, 'UTF8'), 'OTHER', 'KEY'), 'UTF8'), version, content, mac
			from cretula.rows where tbl in ('grant', 'grant-grantee') and id like '%OTHER%'`)
		f.pass()
		f.wantRefused(f.victim, "grant-grantee", "added")
		wantNil(t, f.use(f.other))
		restore()
		wantNil(t, f.use(f.victim))
	}
	// One that is taken away disables it, too.
	restore := f.restore()
	wantNil(t, f.use(f.other))
	f.sql(`delete from cretula.rows where tbl = 'grant-grantee' and id like '%OTHER%'`)
	f.pass()
	f.wantRefused(f.other, "grant-grantee", "removed")
	restore()
	wantNil(t, f.use(f.other))
}

// A principal that somebody adds, or gives the rights of another, is nobody.
func TestSQLPrincipal(t *testing.T) {
	f := newSQLFixture(t)
	const added = "AKIA22222222222222EV"
	list := func(c kms.Credentials) error {
		_, err := f.client(c, region).ListKeys(t.Context(), &awskms.ListKeysInput{})
		return err
	}
	for name, c := range map[string]struct {
		sql, id string
		as      kms.Credentials
	}{
		"an access key is added": {`insert into cretula.rows select tbl, '` + added + `', version, content, mac from cretula.rows
			where tbl = 'access-key' and id = 'ALICE'`, added, kms.Credentials{AccessKeyID: added, SecretAccessKey: f.alice.SecretAccessKey}},
		"an access key is another's": {`update cretula.rows v set content = o.content, mac = o.mac, version = o.version from cretula.rows o
			where v.tbl = 'access-key' and v.id = 'ALICE' and o.tbl = v.tbl and o.id = '` + f.admin.AccessKeyID + `'`, f.alice.AccessKeyID, f.alice},
		"an access key is deleted": {`delete from cretula.rows where tbl = 'access-key' and id = 'ALICE'`, f.alice.AccessKeyID, f.alice},
		"a policy is added": {`update cretula.rows set content = convert_to(replace(convert_from(content, 'UTF8'), '"policies":[]',
			'"policies":["{}"]'), 'UTF8') where tbl = 'principal' and strpos(convert_from(content, 'UTF8'), '"alice"') > 0`, "principal", f.alice},
	} {
		t.Run(name, func(t *testing.T) {
			f := *f
			f.t = t
			restore := f.restore()
			wantNil(t, f.use(f.victim))
			f.sql(c.sql)
			f.pass()
			wantCode(t, list(c.as), "UnrecognizedClientException")
			if !strings.Contains(f.log.String(), c.id) {
				t.Errorf("not logged: %s", f.log)
			}
			wantNil(t, list(f.admin))
			restore()
			wantNil(t, f.use(f.victim))
		})
	}
}

// Rows that are put back as they were, one of them or all, are noticed.
func TestSQLRollBack(t *testing.T) {
	f := newSQLFixture(t)
	arn := "arn:aws:kms:" + region + ":" + account + ":key/" + f.victim
	f.sql("create table old as table cretula.rows; perform 1")
	policy := strings.Replace(adminPolicy, `"kms:*"`, `["kms:*"]`, 1)
	_, err := f.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &arn, Policy: &policy})
	wantNil(t, err)
	wantCode(t, f.use(f.victim), "AccessDeniedException")
	restore := f.restore()
	f.sql(`update cretula.rows r set content = o.content, mac = o.mac, version = o.version from old o
		where r.tbl = 'key-policy' and r.id like '%KEY' and o.tbl = r.tbl and o.id = r.id`)
	f.pass()
	f.wantRefused(f.victim, "key-policy", "rolled back")
	wantNil(t, f.use(f.other))
	restore()
	wantCode(t, f.use(f.victim), "AccessDeniedException")
	// All of them: nothing can be believed any more, and nobody is let in.
	again := f.restore()
	f.sql("delete from cretula.rows; insert into cretula.rows select * from old; perform 1")
	f.pass()
	// That is no fault of the client's, nor of its access key.
	for _, key := range []string{f.victim, f.other} {
		wantCode(t, f.use(key), "KMSInternalException")
	}
	if !strings.Contains(f.log.String(), `row \"root\" of table \"_roster\" was tampered with: rolled back`) {
		t.Errorf("not logged: %s", f.log)
	}
	// What is there then may only seem to be right.
	again()
	f.pass()
	if err := f.use(f.other); err == nil {
		t.Error("a key was used over a store that had been put back")
	}
	if parts, err := f.kms.Ready(t.Context()); !slices.Contains(parts, "store rolled back") || !strings.Contains(fmt.Sprint(err), "opened anew") {
		t.Errorf("ready: %q, %v", parts, err)
	}
}

// A database that goes away is told from a fault of the request, and all goes on
// when it is back. Nothing is decided by what was once the second is over.
func TestDatabaseAway(t *testing.T) {
	server := pgtest.New(t)
	clock := time.Now()
	s := newPostgresAt(t, server.URL(server.Database(t)), func(c *kms.Config) { c.Ledger.SetClock(func() time.Time { return clock }) })
	keyARN, admin := s.key(""), s.adminClient()
	encrypt := func() error {
		_, err := admin.Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("x")})
		return err
	}
	wantNil(t, encrypt())
	server.Kill(t)
	wantNil(t, encrypt()) // all that it needs was confirmed a moment ago
	_, err := admin.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	wantCode(t, err, "DependencyTimeoutException")
	clock = clock.Add(ledger.Recent + 1)
	for range 2 {
		err := encrypt()
		wantCode(t, err, "DependencyTimeoutException")
		if _, _, status, _ := refused(t, err); status != 500 {
			t.Errorf("status %d", status)
		}
	}
	server.Start(t)
	wantNil(t, encrypt())
	_, err = admin.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	wantNil(t, err)
}
