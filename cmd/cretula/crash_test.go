// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// Everything a server answered must still be true after it was killed.
type answered struct {
	mu          sync.Mutex
	policies    map[string]string // key ARN → the last policy whose change was answered
	pending     map[string]string // key ARN → a policy whose change may have happened
	ciphertexts []sealed
	requestIDs  []string // of every use of a key that was answered
}

type sealed struct {
	key        string
	plaintext  []byte
	ciphertext []byte
}

const crashPolicy = `{"Version":"2012-10-17","Id":%q,"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}]}`

// load makes calls from many goroutines until the context ends or the server is
// gone, and writes down every answer. It returns when the first call was answered
// by every worker at least once or the server failed.
func (a *answered) load(ctx context.Context, client *kms.Client, workers int, calls *sync.WaitGroup) {
	for w := range workers {
		calls.Go(func() {
			key := ""
			for i := 0; ctx.Err() == nil; i++ {
				if !a.step(ctx, client, &key, w, i) {
					return
				}
			}
		})
	}
}

// step makes one call; it reports false when the server did not answer.
func (a *answered) step(ctx context.Context, client *kms.Client, key *string, worker, i int) bool {
	switch {
	case *key == "" || i%10 == 9:
		out, err := client.CreateKey(ctx, &kms.CreateKeyInput{})
		if err != nil {
			return false
		}
		*key = aws.ToString(out.KeyMetadata.Arn)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.policies[*key] = ""
	case i%10 == 4:
		policy := fmt.Sprintf(crashPolicy, fmt.Sprintf("w%d-%d", worker, i))
		a.mu.Lock()
		a.pending[*key] = policy
		a.mu.Unlock()
		_, err := client.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: key, Policy: aws.String(policy)})
		if err != nil {
			return false
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.policies[*key] = policy
		delete(a.pending, *key)
	default:
		plaintext := fmt.Appendf(nil, "worker %d call %d", worker, i)
		out, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: plaintext})
		if err != nil {
			return false
		}
		id, _ := middleware.GetRequestIDMetadata(out.ResultMetadata)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ciphertexts = append(a.ciphertexts, sealed{*key, plaintext, out.CiphertextBlob})
		a.requestIDs = append(a.requestIDs, id)
	}
	return true
}

// check asks a server for everything that was answered before.
func (a *answered) check(t *testing.T, ctx context.Context, client *kms.Client, dir string) {
	t.Helper()
	if len(a.policies) == 0 || len(a.ciphertexts) == 0 || len(a.requestIDs) == 0 {
		t.Fatalf("the server answered too little before it was killed: %d keys, %d ciphertexts", len(a.policies), len(a.ciphertexts))
	}
	for key, want := range a.policies {
		if _, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(key)}); err != nil {
			t.Errorf("key %s is lost: %v", key, err)
			continue
		}
		out, err := client.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: aws.String(key)})
		if err != nil {
			t.Errorf("policy of %s is lost: %v", key, err)
			continue
		}
		got := aws.ToString(out.Policy)
		if want != "" && got != want && got != a.pending[key] {
			t.Errorf("policy of %s is %s, want %s", key, got, want)
		}
	}
	for _, s := range a.ciphertexts {
		out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: s.ciphertext})
		if err != nil {
			t.Errorf("a ciphertext under %s is lost: %v", s.key, err)
		} else if !bytes.Equal(out.Plaintext, s.plaintext) {
			t.Errorf("a ciphertext under %s decrypts to something else", s.key)
		}
	}
	recorded := auditRequestIDs(t, filepath.Join(dir, "audit.jsonl"))
	for _, id := range a.requestIDs {
		if !recorded[id] {
			t.Errorf("request %s was answered and is not in the audit log", id)
		}
	}
	t.Logf("checked %d keys, %d ciphertexts, %d audit records", len(a.policies), len(a.ciphertexts), len(a.requestIDs))
}

func auditRequestIDs(t *testing.T, name string) map[string]bool {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ids := map[string]bool{}
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, 1<<22)
	for scan.Scan() {
		var line struct {
			Event struct {
				RequestID string `json:"requestID"`
			} `json:"event"`
		}
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
			t.Fatalf("audit log: %v", err)
		}
		ids[line.Event.RequestID] = true
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return ids
}

func newAnswered() *answered {
	return &answered{policies: map[string]string{}, pending: map[string]string{}}
}

// oneTry makes a client that does not repeat a call.
func oneTry(o *kms.Options) { o.Retryer = aws.NopRetryer{} }

func TestKillLosesNothing(t *testing.T) {
	dir := newDataDir(t)
	up := startUp(t, dir)
	seen := newAnswered()
	ctx, cancel := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	seen.load(ctx, up.client(oneTry), 200, &calls)
	time.Sleep(2 * time.Second)
	up.kill(t)
	cancel()
	calls.Wait()

	again := startUp(t, dir)
	seen.check(t, t.Context(), again.client(), dir)
}
