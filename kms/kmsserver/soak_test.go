// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/kms/ledger"
)

const soakClients = 64

func TestSoak(t *testing.T) { runSoak(t, 3*time.Second) }

func TestLongSoak(t *testing.T) {
	need.Long(t)
	runSoak(t, time.Minute)
}

// A soak is a service that many clients use at once.
type soak struct {
	*service
	clock
	http      *http.Client
	answered  answers
	symmetric []string // which are disabled, scheduled, and moved aliases to and from
	steady    string   // a symmetric key that stays enabled and whose policy stays
	signing   []string
	public    map[string]*ecdsa.PublicKey
	macs      []string
	multi     string // id of a multi-region key
	enclave   kms.Credentials
	attested  string
	sealed    []byte
	document  []byte

	admin, alice, role, elsewhere *awskms.Client

	number atomic.Int64 // for names
	ageing atomic.Bool  // keys are being deleted
	mu     sync.Mutex
	texts  []sealedText
}

// A sealedText is a ciphertext and what must come out of it.
type sealedText struct {
	key       string
	blob      []byte
	plaintext []byte
	context   map[string]string
}

// answers has every answer by its request id.
type answers struct {
	mu sync.Mutex
	by map[string]bool // whether an operation gave it, or authentication refused
}

// RoundTrip implements [http.RoundTripper].
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	id := answer.Header.Get("X-Amzn-Requestid")
	if _, twice := a.by[id]; twice || id == "" {
		return nil, fmt.Errorf("the request id %q was there before", id)
	}
	a.by[id] = answer.StatusCode == http.StatusOK || answer.Header.Get(kmsserver.DecisionHeader) != ""
	return answer, nil
}

// as returns a client whose answers are counted.
func (s *soak) as(c kms.Credentials, inRegion string) *awskms.Client {
	return awskms.New(awskms.Options{
		Region: inRegion, BaseEndpoint: &s.url, Retryer: aws.NopRetryer{}, HTTPClient: s.http,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
	})
}

func newSoak(t *testing.T) *soak {
	s := &soak{answered: answers{by: map[string]bool{}}, public: map[string]*ecdsa.PublicKey{}}
	s.service = newService(t, s.into)
	s.http = &http.Client{Transport: &s.answered}
	for range 6 {
		s.symmetric = append(s.symmetric, s.make("", ""))
	}
	s.steady = s.make("", "")
	for range 2 {
		key := s.make("ECC_NIST_P256", "SIGN_VERIFY")
		out, err := s.adminClient().GetPublicKey(t.Context(), &awskms.GetPublicKeyInput{KeyId: &key})
		fatal(t, err)
		public, err := x509.ParsePKIXPublicKey(out.PublicKey)
		fatal(t, err)
		s.signing, s.public[key] = append(s.signing, key), public.(*ecdsa.PublicKey)
		s.macs = append(s.macs, s.make("HMAC_256", "GENERATE_VERIFY_MAC"))
	}
	s.multi = s.multiKey(secondRegion)
	s.enclave = s.principal(kms.Role, "data-processing")
	s.attested = s.key(attested("arn:aws:iam::"+account+":role/data-processing", registers(1)))
	s.sealed = s.service.sealed(s.attested, nil)
	s.document = document(t)
	return s
}

// clients makes the clients that are counted, once the service listens where it
// will be used.
func (s *soak) clients() {
	s.admin, s.elsewhere = s.as(s.service.admin, region), s.as(s.service.admin, secondRegion)
	s.alice = s.as(s.principal(kms.User, "alice", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`), region)
	s.role = s.as(s.enclave, region)
}

// A worker is one client.
type worker struct {
	*soak
	*rand.Rand
	ctx         context.Context
	grantee     *awskms.Client // whom grants alone let in
	granteeName string
	counts      map[string]int
}

// runSoak has many clients do everything at once, and then again while time passes
// and keys are deleted. Every answer must be right, or an error that the state of
// the key allows; and in the end everything must fit.
func runSoak(t *testing.T, length time.Duration) {
	start := seed(t)
	s := newSoak(t)
	goroutines := runtime.NumGoroutine()
	log, stop := s.listen(func(h http.Handler) http.Handler { return h })
	s.clients()
	workers := make([]*worker, soakClients)
	for i := range workers {
		name := fmt.Sprintf("grantee-%d", i)
		workers[i] = &worker{soak: s, Rand: rand.New(rand.NewPCG(start, uint64(i))), ctx: context.Background(),
			grantee: s.as(s.principal(kms.User, name), region), granteeName: userARN(name), counts: map[string]int{}}
	}
	ctx, cancel := context.WithCancel(context.Background())
	before := s.eventCounts()
	var due sync.WaitGroup
	due.Go(func() { s.kms.Run(ctx, func(err error) { t.Errorf("in the background: %v", err) }) })
	s.all(workers, length, acts)
	s.age(workers, length/4)
	cancel()
	due.Wait()
	total := map[string]int{}
	for _, w := range workers {
		for name, n := range w.counts {
			total[name] += n
		}
	}
	t.Logf("%d answers: %v", len(s.answered.by), total)
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	stop()
	s.kms.Close()
	if stacks := settled(goroutines); stacks != "" {
		t.Errorf("goroutines are left:\n%s", stacks)
	}
	if text := log.String(); text != "" {
		t.Errorf("log:\n%s", text)
	}
	s.checkAudit(before)
	s.checkRows()
	if _, findings, err := s.files.Ledger.Verify(t.Context()); err != nil || len(findings) > 0 {
		t.Errorf("the store: %v, %v", findings, err)
	}
}

// all has the workers do what is possible for a time.
func (s *soak) all(workers []*worker, length time.Duration, possible []act) {
	end := time.Now().Add(length)
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			for time.Now().Before(end) && !s.t.Failed() {
				a := possible[w.IntN(len(possible))]
				a.do(w)
				w.counts[a.name]++
			}
		})
	}
	wg.Wait()
}

// age has keys deleted while they are used.
func (s *soak) age(workers []*worker, length time.Duration) {
	doomed := slices.Clone(s.symmetric[:3])
	for _, key := range doomed {
		for _, alias := range []string{"a", "b"} {
			name := fmt.Sprintf("alias/doomed-%s-%d", alias, s.number.Add(1))
			_, err := s.admin.CreateAlias(background, &awskms.CreateAliasInput{AliasName: &name, TargetKeyId: &key})
			s.allow("CreateAlias", err, "KMSInvalidStateException")
		}
		_, err := s.admin.CreateGrant(background, &awskms.CreateGrantInput{KeyId: &key, Name: aws.String("doomed"), GranteePrincipal: aws.String(userARN("alice")),
			RetiringPrincipal: aws.String(userARN("alice")), Operations: []types.GrantOperation{"Encrypt"}})
		s.allow("CreateGrant", err, unusable...)
		_, err = s.admin.ScheduleKeyDeletion(background, &awskms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: aws.Int32(7)})
		s.allow("ScheduleKeyDeletion", err, "KMSInvalidStateException")
	}
	s.ageing.Store(true)
	possible := slices.DeleteFunc(slices.Clone(acts), func(a act) bool { return a.young })
	var wg sync.WaitGroup
	wg.Go(func() { s.all(workers, length, possible) })
	for range 8 {
		s.move(4 * 24 * time.Hour)
		if err := s.kms.DoDue(background); err != nil {
			s.t.Errorf("DoDue: %v", err)
		}
		time.Sleep(length / 10)
	}
	wg.Wait()
	if err := s.kms.DoDue(background); err != nil {
		s.t.Errorf("DoDue: %v", err)
	}
	for _, key := range doomed {
		_, err := s.admin.DescribeKey(background, &awskms.DescribeKeyInput{KeyId: &key})
		if err == nil {
			s.t.Errorf("%s is still there", key)
		} else {
			s.allow("DescribeKey", err)
		}
	}
}

// allow returns whether a request has succeeded. An error must have one of the
// codes or, while keys are deleted, be about one that is not there any more.
func (s *soak) allow(operation string, err error, codes ...string) bool {
	if err == nil {
		return true
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if ok && (slices.Contains(codes, api.ErrorCode()) || s.ageing.Load() && (api.ErrorCode() == "NotFoundException" || missingSource(api))) {
		return false
	}
	s.t.Errorf("%s: %v", operation, err)
	return false
}

// missingSource tells whether an error says that only a ciphertext names its key,
// which is not there.
func missingSource(api smithy.APIError) bool {
	return api.ErrorCode() == "AccessDeniedException" && strings.HasPrefix(api.ErrorMessage(), "The ciphertext refers to a customer master key that does not exist")
}

func (s *soak) errorf(format string, args ...any) { s.t.Errorf(format, args...) }

// keep remembers a ciphertext, in the place of another one if there are many.
func (w *worker) keep(text sealedText) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.texts) < 500 {
		w.texts = append(w.texts, text)
	} else {
		w.texts[w.IntN(len(w.texts))] = text
	}
}

// kept returns one of them, of the key if it is not empty.
func (w *worker) kept(key string) (sealedText, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for range 50 {
		if len(w.texts) == 0 {
			break
		}
		if text := w.texts[w.IntN(len(w.texts))]; key == "" || text.key == key {
			return text, true
		}
	}
	return sealedText{}, false
}

// any returns one of the keys whose state changes, or the steady one.
func (w *worker) any() string {
	if w.IntN(3) == 0 {
		return w.steady
	}
	return w.symmetric[w.IntN(len(w.symmetric))]
}

func (w *worker) alias() *string { return aws.String(fmt.Sprintf("alias/soak-%d", w.IntN(8))) }

// user returns a client and whether policies that are replaced can deny it anything.
func (w *worker) user() (client *awskms.Client, denied []string) {
	if w.IntN(2) == 0 {
		return w.admin, nil
	}
	return w.alice, []string{"AccessDeniedException"}
}

// unusable are the errors of a key that is disabled or about to be deleted.
var unusable = []string{"DisabledException", "KMSInvalidStateException"}

// eventCounts returns how many events each request has.
func (s *soak) eventCounts() map[string]int {
	s.t.Helper()
	reader, err := s.files.Audit.Reader()
	fatal(s.t, err)
	defer reader.Close()
	count := map[string]int{}
	for {
		entry, err := reader.Next()
		if err == io.EOF {
			return count
		}
		fatal(s.t, err)
		var event kms.Event
		fatal(s.t, json.Unmarshal(entry.Event, &event))
		// Else it is of no request, or a sample of those that authentication refused.
		if event.RequestID != "" && event.EventName != "UnauthenticatedRequests" {
			count[event.RequestID]++
		}
	}
}

// checkAudit wants one event of each answer that an operation gave, none of those
// that authentication refused, and none of requests that were not answered.
func (s *soak) checkAudit(before map[string]int) {
	s.t.Helper()
	events := s.eventCounts()
	for id, decided := range s.answered.by {
		if want := map[bool]int{true: 1}[decided]; events[id] != want {
			s.t.Errorf("an answer has %d events, want %d", events[id], want)
		}
	}
	for id := range events {
		if _, answered := s.answered.by[id]; !answered && before[id] == 0 {
			s.t.Error("an event is of a request that nobody got an answer to")
		}
	}
	if len(s.answered.by) < soakClients {
		s.t.Errorf("only %d answers", len(s.answered.by))
	}
}

// A storedKey is what checkRows looks at of a key's row.
type storedKey struct {
	ID      string   `json:"id"`
	State   string   `json:"state"`
	Aliases []string `json:"aliases"`
	Grants  int      `json:"grants"`
}

// contents returns the rows of a table.
func (s *soak) contents(table string) map[string][]byte {
	s.t.Helper()
	all := map[string][]byte{}
	err := s.files.Ledger.View(s.t.Context(), func(tx *ledger.Tx) error {
		return tx.Scan(table, "", func(row ledger.Row) bool {
			if row.Err != nil {
				s.t.Error(row.Err)
			}
			all[row.ID] = bytes.Clone(row.Content)
			return true
		})
	})
	fatal(s.t, err)
	return all
}

// checkRows wants the rows of the store to fit together.
func (s *soak) checkRows() {
	s.t.Helper()
	keys := map[string]*storedKey{}
	for id, content := range s.contents("key") {
		k := new(storedKey)
		fatal(s.t, json.Unmarshal(content, k))
		keys[id] = k
	}
	s.checkAliases(keys)
	grants := map[string]int{}
	for id := range s.contents("grant") {
		grants[id[:strings.LastIndexByte(id, '/')]]++
	}
	for id, k := range keys {
		if k.Grants != grants[id] {
			s.t.Errorf("%s has %d grants and says %d", id, grants[id], k.Grants)
		}
	}
	for table, first := range map[string]int{"key-policy": 0, "key-material": 0, "key-use": 0, "grant": 0, "grant-grantee": 0, "grant-request": 0, "grant-retiring": 1} {
		rows := s.contents(table)
		for id := range rows {
			part := strings.Split(id, "/")[first:]
			name := strings.Join(part[:3], "/")
			if first == 1 { // region and account are exchanged in it
				name = part[1] + "/" + part[0] + "/" + part[2]
			}
			if keys[name] == nil {
				s.t.Errorf("table %s: %s is of no key", table, id)
			}
		}
		if len(rows) == 0 && !strings.HasPrefix(table, "grant") {
			s.t.Errorf("table %s is empty", table)
		}
	}
	if len(keys) < 8 {
		s.t.Errorf("%d keys are left", len(keys))
	}
}

// checkAliases wants each alias to lead to a key that lists it, and the other way
// round.
func (s *soak) checkAliases(keys map[string]*storedKey) {
	s.t.Helper()
	target := map[string]string{} // key's row of an alias' row
	for id, content := range s.contents("alias") {
		var alias struct {
			Key string `json:"key"`
		}
		fatal(s.t, json.Unmarshal(content, &alias))
		place, name, _ := strings.Cut(id, "/alias/")
		target[id] = place + "/" + alias.Key
		if k := keys[target[id]]; k == nil || !slices.Contains(k.Aliases, "alias/"+name) {
			s.t.Errorf("alias %s leads to %q, which does not list it", id, alias.Key)
		}
	}
	for id, k := range keys {
		for _, name := range k.Aliases {
			if to := target[strings.TrimSuffix(id, k.ID)+name]; to != id {
				s.t.Errorf("%s lists %s, which leads to %q", id, name, to)
			}
		}
	}
}

// openEnvelope decrypts an envelope for the recipient of all tests.
func openEnvelope(envelope []byte) ([]byte, error) { return cms.Open(recipientKey(), envelope) }

func verifies(key *ecdsa.PublicKey, message string, signature []byte) bool {
	digest := sha256.Sum256([]byte(message))
	return ecdsa.VerifyASN1(key, digest[:], signature)
}

// tagged is a list of one tag.
func tagged(name, value string) []types.Tag { return []types.Tag{{TagKey: &name, TagValue: &value}} }
