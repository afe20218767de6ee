// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsserver_test

import (
	"context"
	"errors"
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
	c := startCluster(t)
	first, cut := c.peers[0], c.peers[2]
	admin := c.client(c.admin, first)
	alice := c.principal("alice")
	open, closed := c.key(admin, may("alice")), c.key(admin, may("alice"))
	client := c.single(alice, cut)
	for _, key := range []*string{open, closed} {
		fatal(t, encrypts(key)(client))
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
	c := startClusterOver(t, pgtest.New(t))
	admin := c.client(c.admin, c.peers...)
	key := c.key(admin, adminPolicy)
	clients := []*awskms.Client{}
	for _, p := range c.peers {
		clients = append(clients, c.single(c.admin, p))
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

// A server whose clock is ten minutes off, to either side, and clients with the right
// time refuse each other.
func TestClusterWrongClock(t *testing.T) {
	const off = 10 * time.Minute
	c := startCluster(t, 0, off, -off)
	admin := c.client(c.admin, c.peers[0])
	key := c.key(admin, adminPolicy)
	for i, p := range c.peers {
		_, err := c.single(c.admin, p).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
		if i == 0 {
			fatal(t, err)
			continue
		}
		wantCode(t, err, "InvalidSignatureException")
	}
	// A client that believes the server's clock, as the SDK does when it tries
	// again, is answered. Documents are still judged by the server's own clock: one
	// that was made now is stale or of the future there.
	c.alice = c.principal("alice")
	signing := attestedKey(t, c.service(c.peers[0]), types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
	for i, p := range c.peers {
		status, text := c.sign(p, signBody(t, signing, time.Now()))
		if i == 0 && status != 200 || i > 0 && (status == 200 || !strings.Contains(text, "ValidationException")) {
			t.Errorf("server %d, a document of now: %d %s", i, status, text)
		}
		// One that was made for it works once there, and nowhere else.
		if i > 0 {
			body := signBody(t, signing, time.Now().Add(p.config.Ahead))
			if status, text := c.sign(p, body); status != 200 {
				t.Errorf("server %d, a document of its time: %d %s", i, status, text)
			}
			for j, other := range c.peers {
				if status, text := c.sign(other, body); status == 200 {
					t.Errorf("server %d takes a document of server %d: %s", j, i, text)
				}
			}
		}
	}
}

// service is a server for the tests of a single one.
func (c *cluster) service(p *peer) *service {
	return &service{t: c.t, url: "http://" + p.address, admin: c.admin}
}

// signBody is a request to sign with a document that was made at a time.
func signBody(t *testing.T, key string, made time.Time) string {
	t.Helper()
	return attestedBody(t, "Sign", key, `{"KeyId":"`+key+`","Message":"AQID","SigningAlgorithm":"ECDSA_SHA_256"}`,
		func(c *issuer.Content) { c.Time = made })
}

// sign sends a request to sign at the time that the server has.
func (c *cluster) sign(p *peer, body string) (status int, text string) {
	status, text, _ = c.service(p).send(raw{target: "TrentService.Sign", body: body, credentials: c.alice, signedAt: time.Now().Add(p.config.Ahead)})
	return status, text
}

// A document for one attested request is taken once, on whatever server.
func TestClusterDocumentWorksOnce(t *testing.T) {
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
				status, text := c.sign(c.peers[i%len(c.peers)], body)
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
	if status, text := c.sign(c.peers[2], body); status == 200 || !strings.Contains(text, "used before") {
		t.Errorf("%d %s", status, text)
	}
}

// What a server does when it is due must not undo that, if its clock is wrong.
func TestClusterDueAtWrongTime(t *testing.T) {
	c := startCluster(t, 0)
	c.alice = c.principal("alice")
	key := attestedKey(t, c.service(c.peers[0]), types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
	body := signBody(t, key, time.Now())
	if status, text := c.sign(c.peers[0], body); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	config := c.config("ahead", c.database.Port)
	config.Ahead = 10 * time.Minute
	ahead, files, err := config.open(t.Context())
	fatal(t, err)
	defer files.Close()
	defer ahead.Close()
	fatal(t, ahead.DoDue(t.Context()))
	if status, text := c.sign(c.peers[0], body); status == 200 || !strings.Contains(text, "used before") {
		t.Errorf("after a server ten minutes ahead has cleared up: %d %s", status, text)
	}
}
