// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/ledger"
)

// A keyLife is a key and what was answered about it. One worker at a time calls.
type keyLife struct {
	arn, alias, policy *string
	grant              *string
	revoked, rotated   bool
	deleted            bool
	sealed             [][]byte
	plain              []byte
}

// A mixedLoad makes calls of all sorts and writes down what was answered. A call
// that is not answered is tried again on another server, until it is.
type mixedLoad struct {
	t      testing.TB
	client *awskms.Client
	total  int32
	count  atomic.Int32  // answered calls
	repeat atomic.Int32  // attempts beyond the first
	reach  chan struct{} // closed when a third is answered

	mu   sync.Mutex
	keys []*keyLife
}

// call runs one call. A code that says that an attempt before has done it already
// is an answer, if there was one.
func (l *mixedLoad) call(done string, send func(context.Context) error) {
	a := &attempts{first: uint32(l.count.Load())}
	err := send(context.WithValue(l.t.Context(), attemptsKey{}, a))
	l.repeat.Add(int32(a.count) - 1)
	if api, ok := errors.AsType[smithy.APIError](err); ok && a.count > 1 && done != "" && api.ErrorCode() == done {
		err = nil
	}
	if err != nil {
		l.t.Errorf("after %d attempts: %v", a.count, err)
	}
	if l.count.Add(1) == l.total/3 {
		close(l.reach)
	}
}

func (l *mixedLoad) over() bool { return l.count.Load() >= l.total || l.t.Failed() }

// run makes calls until there were enough.
func (l *mixedLoad) run(worker int) {
	var before *keyLife
	for round := 0; !l.over(); round++ {
		k := &keyLife{plain: fmt.Appendf(nil, "worker %d round %d", worker, round)}
		l.call("", func(ctx context.Context) error {
			out, err := l.client.CreateKey(ctx, &awskms.CreateKeyInput{})
			if err == nil {
				k.arn = out.KeyMetadata.Arn
			}
			return err
		})
		if k.arn == nil {
			return
		}
		l.mu.Lock()
		l.keys = append(l.keys, k)
		l.mu.Unlock()
		for _, step := range l.steps(k, before, fmt.Sprintf("w%d-%d", worker, round)) {
			if l.over() {
				return
			}
			step()
		}
		before = k
	}
}

func (l *mixedLoad) steps(k, before *keyLife, name string) []func() {
	use := func() {
		l.call("", func(ctx context.Context) error {
			out, err := l.client.Encrypt(ctx, &awskms.EncryptInput{KeyId: k.arn, Plaintext: k.plain})
			if err == nil {
				k.sealed = append(k.sealed, out.CiphertextBlob)
			}
			return err
		})
		l.call("", func(ctx context.Context) error { return l.opens(ctx, k, k.sealed[len(k.sealed)-1]) })
	}
	put := func(version string) func() {
		return func() {
			policy := fmt.Sprintf(`{"Version":"2012-10-17","Id":%q,"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::%s:root"},"Action":"kms:*","Resource":"*"}]}`, name+version, account)
			l.call("", func(ctx context.Context) error {
				_, err := l.client.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: k.arn, Policy: &policy})
				return err
			})
			k.policy = &policy
		}
	}
	return []func(){
		use, put("a"), use,
		func() {
			alias := "alias/" + name
			l.call("AlreadyExistsException", func(ctx context.Context) error {
				_, err := l.client.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: &alias, TargetKeyId: k.arn})
				return err
			})
			k.alias = &alias
		},
		func() {
			l.call("", func(ctx context.Context) error {
				out, err := l.client.CreateGrant(ctx, &awskms.CreateGrantInput{
					KeyId: k.arn, Name: &name, GranteePrincipal: aws.String("arn:aws:iam::" + account + ":user/admin"),
					Operations: []types.GrantOperation{types.GrantOperationEncrypt},
				})
				if err == nil {
					k.grant = out.GrantId
				}
				return err
			})
		},
		use, put("b"),
		func() {
			l.call("ConflictException", func(ctx context.Context) error {
				_, err := l.client.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: k.arn})
				return err
			})
			k.rotated = true
		},
		use,
		func() {
			if before == nil || before.grant == nil {
				return
			}
			l.call("NotFoundException", func(ctx context.Context) error {
				_, err := l.client.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: before.arn, GrantId: before.grant})
				return err
			})
			before.revoked = true
		},
		func() {
			if before == nil {
				return
			}
			l.call("KMSInvalidStateException", func(ctx context.Context) error {
				_, err := l.client.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: before.arn})
				return err
			})
			before.deleted = true
		},
	}
}

func (l *mixedLoad) opens(ctx context.Context, k *keyLife, sealed []byte) error {
	out, err := l.client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: sealed})
	if err == nil && !bytes.Equal(out.Plaintext, k.plain) {
		return errors.New("a ciphertext opens to something else")
	}
	return err
}

// check asks for all that was answered.
func (l *mixedLoad) check(k *keyLife) error {
	ctx, c := l.t.Context(), l.client
	for _, sealed := range k.sealed {
		if err := l.opens(ctx, k, sealed); err != nil {
			return err
		}
	}
	if policy, err := c.GetKeyPolicy(ctx, &awskms.GetKeyPolicyInput{KeyId: k.arn}); err != nil || k.policy != nil && *policy.Policy != *k.policy {
		return fmt.Errorf("the policy is another one, %v", err)
	}
	if k.alias != nil {
		if by, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: k.alias}); err != nil || *by.KeyMetadata.Arn != *k.arn {
			return fmt.Errorf("%s names another key, %v", *k.alias, err)
		}
	}
	grants, err := c.ListGrants(ctx, &awskms.ListGrantsInput{KeyId: k.arn})
	if err != nil {
		return err
	}
	there := slices.ContainsFunc(grants.Grants, func(g types.GrantListEntry) bool { return k.grant != nil && *g.GrantId == *k.grant })
	if want := k.grant != nil && !k.revoked; there != want || len(grants.Grants) > 1 {
		return fmt.Errorf("%d grants; there: %t, want %t", len(grants.Grants), there, want)
	}
	rotations, err := c.ListKeyRotations(ctx, &awskms.ListKeyRotationsInput{KeyId: k.arn})
	if err == nil && (len(rotations.Rotations) > 0) != k.rotated {
		return fmt.Errorf("%d rotations, rotated: %t", len(rotations.Rotations), k.rotated)
	}
	return err
}

// each runs a check of every key.
func (l *mixedLoad) each(which string, check func(k *keyLife) error) {
	l.t.Helper()
	var checking sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, k := range l.keys {
		slots <- struct{}{}
		checking.Go(func() {
			defer func() { <-slots }()
			if err := check(k); err != nil {
				l.t.Errorf("%s: key %s: %v", which, *k.arn, err)
			}
		})
	}
	checking.Wait()
}

// revive wants those keys to wait for their deletion for which it was asked, and
// undoes that. A server may refuse a second long by what it knew before.
func (l *mixedLoad) revive() {
	ctx, c := l.t.Context(), l.client
	l.each("state", func(k *keyLife) error {
		described, err := c.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: k.arn})
		if err != nil {
			return err
		}
		if got := described.KeyMetadata.KeyState == types.KeyStatePendingDeletion; got != k.deleted {
			return fmt.Errorf("state %s, deletion was asked for: %t", described.KeyMetadata.KeyState, k.deleted)
		}
		if k.deleted {
			_, err = c.CancelKeyDeletion(ctx, &awskms.CancelKeyDeletionInput{KeyId: k.arn})
		}
		return err
	})
	time.Sleep(ledger.Recent)
	l.each("enable", func(k *keyLife) error {
		_, err := c.EnableKey(ctx, &awskms.EnableKeyInput{KeyId: k.arn})
		return err
	})
	time.Sleep(ledger.Recent)
}

// startLoad begins calls by 16 workers; done waits for their end.
func (c *cluster) startLoad(calls int32) (load *mixedLoad, done func()) {
	load = &mixedLoad{t: c.t, client: c.client(provider(c.admin, ""), c.peers...), total: calls, reach: make(chan struct{})}
	var working sync.WaitGroup
	for w := range 16 {
		working.Go(func() { load.run(w) })
	}
	return load, func() {
		c.t.Helper()
		working.Wait()
		if n := load.count.Load(); n < calls || load.repeat.Load() == 0 {
			c.t.Errorf("%d calls, %d attempts more", n, load.repeat.Load())
		}
		c.t.Logf("%d calls with %d keys, %d attempts more", load.count.Load(), len(load.keys), load.repeat.Load())
		for i := range c.peers {
			c.checkAudit(i)
		}
	}
}

// One of three servers is killed in the middle of a thousand calls. Nothing that
// was answered is lost, whoever answered it.
func TestClusterKillLosesNothing(t *testing.T) {
	c := startCluster(t)
	load, done := c.startLoad(1000)
	<-load.reach
	victim := c.peers[1]
	victim.kill(t)
	done()
	victim.down.Store(true)
	load.revive()
	load.each("the others", load.check)
	// The one that was killed goes on where it was.
	victim.start(t)
	load.client = c.client(provider(c.admin, ""), victim)
	load.each("the killed one", load.check)
	c.checkAudit(1)
}

// Servers and the database are killed, one after the other, and start again.
func TestClusterKillsLoseNothing(t *testing.T) {
	need.Long(t)
	c := startClusterOver(t, pgtest.New(t))
	load, done := c.startLoad(10_000)
	<-load.reach
	for round := range 4 {
		for _, victim := range c.peers {
			victim.kill(t)
			time.Sleep(500 * time.Millisecond)
			victim.start(t)
		}
		if round%2 == 0 {
			c.database.Kill(t)
			c.database.Start(t)
		}
	}
	if load.over() {
		t.Errorf("the calls were over before the last kill")
	}
	done()
	load.revive()
	load.each("all", load.check)
}

// checkAudit wants the audit log of a server to be as the server wrote it, with a
// record of every request that it has answered.
func (c *cluster) checkAudit(server int) {
	t, p := c.t, c.peers[server]
	t.Helper()
	dir := filepath.Join(p.dir, datadir.AuditDir)
	options := audit.VerifyOptions{Key: c.files.RootKey, StoreID: c.files.Ledger.StoreID()}
	heads, err := kms.AuditHeads(c.files.Ledger).Heads(t.Context())
	fatal(t, err)
	for _, text := range heads {
		head, err := audit.ParseHead(text)
		fatal(t, err)
		options.Known = append(options.Known, head)
	}
	report, err := audit.Verify(t.Context(), dir, options)
	fatal(t, err)
	if err := report.Err(); err != nil {
		t.Errorf("server %d: %v", server, err)
	}
	log := audit.NewReader(dir)
	defer log.Close()
	recorded := map[string]bool{}
	for {
		entry, err := log.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("server %d: %v", server, err)
		}
		var event struct {
			RequestID string `json:"requestID"`
		}
		fatal(t, json.Unmarshal(entry.Event, &event))
		recorded[event.RequestID] = true
	}
	answered := 0
	p.answered.Range(func(id, _ any) bool {
		answered++
		if !recorded[id.(string)] {
			t.Errorf("server %d: request %s was answered and is not in the audit log", server, id)
		}
		return true
	})
	if answered < 50 {
		t.Errorf("server %d has answered %d requests", server, answered)
	}
}
