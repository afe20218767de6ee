// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsserver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms/keystore/postgres"
	"github.com/cretula/cretula/kms/ledger"
)

// soon tries until there is no error, for a minute at most.
func soon(t testing.TB, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: still %v", what, err)
}

// A server that cannot ask the database decides nothing by what it knew a second
// before, and goes on when it can.
func TestClusterServerWithoutDatabase(t *testing.T) {
	t.Parallel() // it mostly waits
	c := startCluster(t)
	first, cut := c.peers[0], c.peers[2]
	admin := c.client(provider(c.admin, ""), first)
	alice := c.principal("alice")
	open, closed := c.key(admin, may("alice")), c.key(admin, may("alice"))
	client := c.single(provider(alice, ""), cut)
	for range 3 { // it is in memory, and allowed
		fatal(t, encrypts(open)(client))
		fatal(t, encrypts(closed)(client))
	}
	cut.proxy.set(false, true)
	_, err := admin.PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: closed, Policy: aws.String(adminPolicy)})
	fatal(t, err)
	time.Sleep(ledger.Recent)
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := client.Encrypt(ctx, &awskms.EncryptInput{KeyId: closed, Plaintext: []byte("x")})
			wantUnavailable(t, err, true)
		})
	}
	asking.Wait()
	cut.proxy.heal()
	soon(t, "the server is back", func() error { return encrypts(open)(client) })
	wantCode(t, encrypts(closed)(client), "AccessDeniedException")
}

// wantUnavailable wants the answer of a server that cannot reach its database, or,
// if it may wait for it, none.
func wantUnavailable(t testing.TB, err error, mayWait bool) {
	t.Helper()
	if mayWait && errors.Is(err, context.DeadlineExceeded) {
		return
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || !slices.Contains([]string{"KMSInternalException", "DependencyTimeoutException"}, api.ErrorCode()) {
		t.Errorf("without the database: %v", err)
		return
	}
	if _, _, status, _ := refused(t, err); status/100 != 5 {
		t.Errorf("%s has status %d", api.ErrorCode(), status)
	}
}

// The database is stopped as when its machine fails, while the servers are asked,
// and comes back.
func TestClusterDatabaseStops(t *testing.T) {
	t.Parallel() // it mostly waits
	c := startClusterOver(t, pgtest.New(t))
	admin := c.client(provider(c.admin, ""), c.peers...)
	key := c.key(admin, adminPolicy)
	clients := []*awskms.Client{}
	for _, p := range c.peers {
		clients = append(clients, c.single(provider(c.admin, ""), p))
		fatal(t, encrypts(key)(clients[len(clients)-1]))
	}
	operations := map[string]func(*awskms.Client) error{
		"Encrypt": encrypts(key),
		"CreateKey": func(c *awskms.Client) error {
			_, err := c.CreateKey(background, &awskms.CreateKeyInput{})
			return err
		},
		"ListKeys": func(c *awskms.Client) error {
			_, err := c.ListKeys(background, &awskms.ListKeysInput{})
			return err
		},
		"GenerateRandom": func(c *awskms.Client) error {
			_, err := c.GenerateRandom(background, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
			return err
		},
	}
	for range 2 {
		pgtest.Run(t, pgtest.Program(t, "pg_ctl"), "stop", "-D", c.database.Data, "-m", "immediate")
		c.database.Stop()
		time.Sleep(ledger.Recent)
		var asking sync.WaitGroup
		for _, client := range clients {
			for _, operation := range operations {
				asking.Go(func() { wantUnavailable(t, operation(client), false) })
			}
		}
		asking.Wait()
		c.database.Start(t)
		for _, client := range clients {
			for name, operation := range operations {
				soon(t, name, func() error { return operation(client) })
			}
		}
	}
	for i, p := range c.peers {
		if p.process.ProcessState != nil {
			t.Errorf("server %d has ended", i)
		}
	}
}

// A server whose clock is ten minutes off, to either side, does not start. One whose
// clock goes wrong while it serves refuses: clients with the right time by their
// signature, and those that believe its clock because the database does not.
func TestClusterWrongClock(t *testing.T) {
	t.Parallel() // it mostly waits
	c := startCluster(t)
	c.alice = c.principal("alice")
	admin := c.client(provider(c.admin, ""), c.peers[0])
	key := c.key(admin, adminPolicy)
	signing := attestedKey(t, c.service(c.peers[0]), types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
	for i, off := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		wrong := c.peers[i+1]
		config := c.config(fmt.Sprint("wrong", i), c.database.Port)
		config.Ahead = off
		if _, _, err := config.open(t.Context()); !errors.Is(err, postgres.ErrClock) {
			t.Errorf("a clock %v ahead: %v", off, err)
		}
		wrong.move(t, off)
		client := c.single(provider(c.admin, ""), wrong)
		soon(t, "the signature is refused", func() error {
			err := encrypts(key)(client)
			if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "InvalidSignatureException" {
				return nil
			}
			return fmt.Errorf("answered with %v", err)
		})
		time.Sleep(ledger.Recent)
		for name, document := range map[string]time.Time{"now": time.Now(), "of its time": time.Now().Add(off)} {
			if status, text := c.sign(wrong, off, signBody(t, signing, document)); status/100 != 5 {
				t.Errorf("%v ahead, a document %s: %d %s", off, name, status, text)
			}
		}
		wrong.move(t, 0)
		soon(t, "the clock is right", func() error { return encrypts(key)(client) })
	}
}

// service is a server for the tests of a single one.
func (c *cluster) service(p *peer) *service {
	return &service{t: c.t, url: "http://" + p.address.Load().(string), admin: c.admin}
}

// signBody is a request to sign with a document that was made at a time.
func signBody(t *testing.T, key string, made time.Time) string {
	t.Helper()
	return attestedBody(t, "Sign", key, `{"KeyId":"`+key+`","Message":"AQID","SigningAlgorithm":"ECDSA_SHA_256"}`,
		func(c *issuer.Content) { c.Time = made })
}

// sign sends a request to sign to a server whose clock is ahead.
func (c *cluster) sign(p *peer, ahead time.Duration, body string) (status int, text string) {
	status, text, _ = c.service(p).send(raw{target: "TrentService.Sign", body: body, credentials: c.alice, signedAt: time.Now().Add(ahead)})
	return status, text
}

// A document for one attested request is taken once, on whatever server.
func TestClusterDocumentWorksOnce(t *testing.T) {
	t.Parallel() // it mostly waits
	c := startCluster(t)
	c.alice = c.principal("alice")
	key := attestedKey(t, c.service(c.peers[0]), types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
	var body string
	for range 5 {
		body = signBody(t, key, time.Now())
		var sending sync.WaitGroup
		var signed atomic.Int32
		for i := range 12 {
			sending.Go(func() {
				status, text := c.sign(c.peers[i%len(c.peers)], 0, body)
				if status == 200 {
					signed.Add(1)
				} else if !strings.Contains(text, "used before") {
					t.Errorf("%d %s", status, text)
				}
			})
		}
		sending.Wait()
		if n := signed.Load(); n != 1 {
			t.Errorf("one document signed %d times", n)
		}
	}
	// Also when the server that took it is gone.
	c.peers[0].kill(t)
	c.peers[1].kill(t)
	if status, text := c.sign(c.peers[2], 0, body); status == 200 || !strings.Contains(text, "used before") {
		t.Errorf("%d %s", status, text)
	}
}
