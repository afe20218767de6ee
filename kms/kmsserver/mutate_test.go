// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/kms"
)

const (
	mutants      = 10000
	mutantBatch  = 2000 // with the same keys, before the script is played anew
	mutantPart   = 1000 // between which something valid is asked for
	mutantWorker = 16
	// How far the heap may grow between the mutants of warmUp and the last one, beside
	// what each row of the store may add. What the service keeps is bounded, but not yet
	// full with what some hundred keys leave: verified rows and parsed policies. A leak
	// of 1 KiB per request, or of one body in five, is more than that.
	warmUp     = 2000
	heapGrowth = 4 << 20
	rowGrowth  = 2 << 10
)

// However a request is damaged, by whomever it is sent: the fault is the client's.
// There is no internal error, no panic, no secret in an answer, nothing that stays
// in memory, and what is valid is answered as before.
func TestMutatedRequests(t *testing.T) {
	start := seed(t)
	s := newService(t)
	goroutines := runtime.NumGoroutine()
	var tap recorder
	log, stop := s.listen(tap.wrap)
	credentials := [callers]kms.Credentials{
		administrator: s.admin, enclaveRole: s.principal(kms.Role, "data-processing", randomPolicy), stranger: s.principal(kms.User, "mallory"),
	}
	var secrets [][]byte
	for _, c := range credentials {
		secrets = append(secrets, []byte(c.SecretAccessKey))
	}
	played := tap.records(func() { playRecorded(t, s) })
	count := &tally{byCode: map[string]int{}}
	var before uint64
	var rowsBefore int
	for first := 0; first < mutants && !t.Failed(); first += mutantBatch {
		g := newStage(s, credentials[enclaveRole], first)
		requests := tap.records(g.play)
		secrets = append(append(secrets, forms(g.secret)...), forms(g.material)...)
		if first == warmUp {
			before, rowsBefore = heap(), s.countRows()
		}
		c := newCorpus(g, slices.Concat(requests, requests, played))
		for part := first; part < first+mutantBatch && !t.Failed(); part += mutantPart {
			flood(t, c, start, part, strings.TrimPrefix(s.url, "http://"), credentials, secrets, count)
			g.key(&awskms.CreateKeyInput{}) // something valid
		}
	}
	newStage(s, credentials[enclaveRole], mutants).play()
	after, rows := heap(), s.countRows()
	t.Logf("codes: %v", count.byCode)
	t.Logf("%d of %d requests reached an operation, %d got no answer; heap %d KiB, then %d KiB; %d rows, then %d", count.reached, mutants, count.unheard, before>>10, after>>10, rowsBefore, rows)
	if limit := before + heapGrowth + uint64(max(rows-rowsBefore, 0))*rowGrowth; after > limit {
		t.Errorf("the heap grew from %d to %d bytes, the limit is %d", before, after, limit)
	}
	if len(count.byCode) < 20 {
		t.Errorf("only %d different codes", len(count.byCode))
	}
	if count.reached < mutants*15/100 {
		t.Errorf("only %d requests reached an operation", count.reached)
	}
	stop()
	s.kms.Close()
	if stacks := settled(goroutines); stacks != "" {
		t.Errorf("goroutines are left:\n%s", stacks)
	}
	if text := log.String(); text != "" {
		t.Errorf("log:\n%s", text)
	}
	events := []byte(auditText(t, s.dir))
	for _, secret := range secrets {
		if bytes.Contains(events, secret) {
			t.Error("a secret is in the audit log")
		}
	}
	if _, findings, err := s.files.Ledger.Verify(t.Context()); err != nil || len(findings) > 0 {
		t.Errorf("the store: %v, %v", findings, err)
	}
}

// playRecorded plays the recorded cases, for what they send only.
func playRecorded(t *testing.T, s *service) {
	data, err := os.ReadFile(recordedCases)
	if errors.Is(err, fs.ErrNotExist) {
		t.Log("shared test data not present")
		return
	}
	fatal(t, err)
	var file struct{ Cases []recordedCase }
	fatal(t, json.Unmarshal(data, &file))
	for _, c := range file.Cases {
		if text, _ := json.Marshal(c.Steps); bytes.Contains(text, []byte("RSA_3072")) || bytes.Contains(text, []byte("RSA_4096")) {
			continue // keys that take seconds to make
		}
		for i := range c.Steps {
			c.Steps[i].RetrySeconds = 0
		}
		p := player{t: t, service: s, vars: map[string]any{
			"env.partition": "aws", "env.region": region, "env.secondary_region": secondRegion, "env.account": account,
		}}
		if err := p.play(c); err != nil {
			t.Logf("%s: %v", c.Name, err)
		}
	}
}

// flood sends a batch of mutants by several workers.
func flood(t *testing.T, c *corpus, start uint64, first int, address string, credentials [callers]kms.Credentials, secrets [][]byte, count *tally) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range mutantWorker {
		wg.Go(func() {
			l := &line{address: address}
			defer l.close()
			for i := int(next.Add(1)) - 1; i < mutantPart && !t.Failed(); i = int(next.Add(1)) - 1 {
				x := newMutant(c, start, uint64(first+i), address, credentials)
				sendMutant(t, l, x, start, first+i, secrets, count)
			}
		})
	}
	wg.Wait()
}

func sendMutant(t *testing.T, l *line, x *mutant, start uint64, number int, secrets [][]byte, count *tally) {
	answers, bodies, err := l.exchange(x)
	if err != nil {
		t.Errorf("CRETULA_SEED=%d, mutant %d of %s (%s): %v\n%s", start, number, x.request.operation, x.what, err, printable(x.wire))
		return
	}
	if len(answers) == 0 {
		count.mu.Lock()
		count.unheard++
		count.mu.Unlock()
	}
	for i, answer := range answers {
		code, reached, wrong := judge(x, answer, bodies[i], secrets)
		if wrong != "" {
			t.Errorf("CRETULA_SEED=%d, mutant %d of %s (%s): %s: %d %v\n%s\n\nThe request:\n%s", start, number, x.request.operation, x.what, wrong,
				answer.StatusCode, answer.Header, printable(bodies[i]), printable(x.wire))
			return
		}
		count.add(code, reached && i == 0)
	}
}

// countRows returns how many rows the store has.
func (s *service) countRows() (n int) {
	for _, table := range tables {
		for range s.rows(table) {
			n++
		}
	}
	return n
}

// tables are those that requests make rows in.
var tables = []string{"key", "key-policy", "key-material", "alias", "grant", "grant-grantee", "grant-request", "grant-retiring", "document-used", "due", "key-use"}
