// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"
)

// What a server answered must still be true after it was killed. A journal has
// every call, in the order of the answers.
type journal struct {
	mu    sync.Mutex
	calls []*call
	// open are calls without an answer, which may have happened.
	open   map[*call]bool
	failed []error // calls that failed while the server was up
	down   bool
}

// A call is one of CreateKey, PutKeyPolicy and Encrypt.
type call struct {
	began, answered time.Time
	requestID       string
	key             string // an ARN
	policy          string // given to PutKeyPolicy
	plaintext       []byte // given to Encrypt
	ciphertext      []byte
}

const crashPolicy = `{"Version":"2012-10-17","Id":%q,"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"}]}`

// load makes calls from many goroutines until the context ends or the server is
// gone, and writes down every answer. It returns at once.
func (j *journal) load(ctx context.Context, client *kms.Client, workers int, running *sync.WaitGroup) {
	for w := range workers {
		running.Go(func() {
			key := ""
			for i := 0; ctx.Err() == nil; i++ {
				c := &call{key: key}
				switch {
				case key == "" || i%10 == 9:
					c.key = ""
				case i%10 == 4:
					c.policy = fmt.Sprintf(crashPolicy, fmt.Sprintf("w%d-%d", w, i))
				default:
					c.plaintext = fmt.Appendf(nil, "worker %d call %d", w, i)
				}
				if !j.do(ctx, client, c) {
					return
				}
				key = c.key
			}
		})
	}
}

// do makes one call; it reports false when the server did not answer.
func (j *journal) do(ctx context.Context, client *kms.Client, c *call) bool {
	j.mu.Lock()
	j.open[c] = true
	j.mu.Unlock()
	c.began = time.Now()
	metadata, err := c.send(ctx, client)
	answered := time.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		if !j.down {
			j.failed = append(j.failed, err)
		}
		return false
	}
	c.answered = answered
	c.requestID, _ = awsmiddleware.GetRequestIDMetadata(metadata)
	delete(j.open, c)
	j.calls = append(j.calls, c)
	return true
}

// send leaves the call as it was if there is no answer.
func (c *call) send(ctx context.Context, client *kms.Client) (middleware.Metadata, error) {
	switch {
	case c.key == "":
		out, err := client.CreateKey(ctx, &kms.CreateKeyInput{})
		if err != nil {
			return middleware.Metadata{}, err
		}
		c.key = aws.ToString(out.KeyMetadata.Arn)
		return out.ResultMetadata, nil
	case c.policy != "":
		out, err := client.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &c.key, Policy: &c.policy})
		if err != nil {
			return middleware.Metadata{}, err
		}
		return out.ResultMetadata, nil
	default:
		out, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: &c.key, Plaintext: c.plaintext})
		if err != nil {
			return middleware.Metadata{}, err
		}
		c.ciphertext = out.CiphertextBlob
		return out.ResultMetadata, nil
	}
}

// stop says that from now on calls may fail.
func (j *journal) stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.down = true
}

// waitFor waits until so many calls more were answered.
func (j *journal) waitFor(t *testing.T, more int) {
	t.Helper()
	count := func() int {
		j.mu.Lock()
		defer j.mu.Unlock()
		return len(j.calls)
	}
	before, deadline := count(), time.Now().Add(2*readyWithin)
	for count() < before+more {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls answered in %v", count()-before, 2*readyWithin)
		}
		time.Sleep(time.Millisecond)
	}
}

// policiesAt returns the policies that each key may have at a moment: that of the
// last change that was answered, or any that had begun and was not.
func (j *journal) policiesAt(at time.Time) (answered map[string]string, possible map[string][]string) {
	answered, possible = map[string]string{}, map[string][]string{}
	for _, c := range j.calls {
		switch {
		case !c.answered.After(at):
			answered[c.key] = c.policy
		case c.began.Before(at):
			possible[c.key] = append(possible[c.key], c.policy)
		}
	}
	for c := range j.open {
		possible[c.key] = append(possible[c.key], c.policy)
	}
	return answered, possible
}

// check asks a server, which runs on the folder, for everything that was answered
// until the moment, and returns how many calls that were.
func (j *journal) check(t *testing.T, ctx context.Context, client *kms.Client, dir string, at time.Time) int {
	t.Helper()
	recorded := auditRequestIDs(t, filepath.Join(dir, "audit", "00000000000000000001.jsonl"))
	checked := 0
	for _, c := range j.calls {
		if c.answered.After(at) {
			continue
		}
		checked++
		if !recorded[c.requestID] {
			t.Errorf("request %s was answered and is not in the audit log", c.requestID)
		}
		if c.ciphertext == nil {
			continue
		}
		out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: c.ciphertext})
		if err != nil {
			t.Errorf("a ciphertext under %s is lost: %v", c.key, err)
		} else if !bytes.Equal(out.Plaintext, c.plaintext) {
			t.Errorf("a ciphertext under %s decrypts to something else", c.key)
		}
	}
	policies, possible := j.policiesAt(at)
	for key, want := range policies {
		out, err := client.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &key})
		if err != nil {
			t.Errorf("key %s or its policy is lost: %v", key, err)
			continue
		}
		if got := *out.Policy; want != "" && got != want && !slices.Contains(possible[key], got) {
			t.Errorf("policy of %s is %s, want %s", key, got, want)
		}
	}
	return checked
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

func newJournal() *journal { return &journal{open: map[*call]bool{}} }

// oneTry makes a client that does not repeat a call.
func oneTry(o *kms.Options) { o.Retryer = aws.NopRetryer{} }

// The server is killed three times in the middle of 200 concurrent calls, always
// on the same folder.
func TestKillLosesNothing(t *testing.T) {
	dir := newDataDir(t)
	seen := newJournal()
	const rounds, workers = 3, 200
	for range rounds {
		up := startUp(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		seen.down = false
		seen.load(ctx, up.client(oneTry), workers, &running)
		seen.waitFor(t, workers+rand.IntN(3*workers))
		seen.stop()
		up.kill(t)
		cancel()
		running.Wait()
	}
	for _, err := range seen.failed {
		t.Errorf("before the server was killed: %v", err)
	}
	again := startUp(t, dir)
	n := seen.check(t, t.Context(), again.client(), dir, time.Now())
	t.Logf("%d answered calls hold, %d had no answer", n, len(seen.open))
}

// The server is killed while it makes its folder, at each stage and at random:
// the next one completes what there is.
func TestKillDuringFirstStart(t *testing.T) {
	stages := []string{"", ".", "root.key", "kms.db", "audit", "audit/chain.json", "audit/00000000000000000001.jsonl", "emulator-root.pem", "emulator-root.crt", "image.eif.new", "image.eif",
		"measurements.json", "nsm.sock", "admin.sock", "env"}
	for range 4 {
		stages = append(stages, "") // after a random time
	}
	for i, stage := range stages {
		dir := newDataDir(t)
		cmd := upCommand(dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if stage == "" {
			time.Sleep(time.Duration(rand.IntN(100_000)) * time.Microsecond)
		} else {
			waitForFile(t, filepath.Join(dir, stage))
		}
		cmd.Process.Kill()
		<-ended
		rootKey, _ := os.ReadFile(filepath.Join(dir, "root.key"))
		up := startUp(t, dir)
		created, err := up.client().CreateKey(t.Context(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatalf("%d, killed at %q: %v", i, stage, err)
		}
		if now := readTestFile(t, filepath.Join(dir, "root.key")); len(rootKey) > 0 && !bytes.Equal(now, rootKey) {
			t.Errorf("%d, killed at %q: the root key is another one", i, stage)
		}
		up.kill(t)
		up = startUp(t, dir)
		if _, err := up.client().DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: created.KeyMetadata.Arn}); err != nil {
			t.Errorf("%d, killed at %q: %v", i, stage, err)
		}
		up.kill(t)
	}
}

// waitForFile waits as closely as it can for a file, or for the end of the start:
// some are there for a moment only.
func waitForFile(t *testing.T, name string) {
	t.Helper()
	last := filepath.Join(filepath.Dir(name), "env")
	for deadline := time.Now().Add(readyWithin); ; {
		_, err := os.Lstat(name)
		_, errLast := os.Lstat(last)
		if err == nil || errLast == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not appear", name)
		}
	}
}
