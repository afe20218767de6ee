// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/kmsserver"
)

// codes are all that an answer may say in __type.
var codes = []kmsapi.Code{
	kmsapi.AlreadyExists, kmsapi.Conflict, kmsapi.CustomKeyStoreNotFound, kmsapi.CustomKeyStoreInvalidState, kmsapi.DependencyTimeout, kmsapi.Disabled,
	kmsapi.DryRunOperation, kmsapi.ExpiredImportToken, kmsapi.IncorrectKey, kmsapi.IncorrectKeyMaterial, kmsapi.InvalidAliasName, kmsapi.InvalidArn,
	kmsapi.InvalidCiphertext, kmsapi.InvalidGrantId, kmsapi.InvalidGrantToken, kmsapi.InvalidImportToken, kmsapi.InvalidKeyUsage, kmsapi.InvalidMarker,
	kmsapi.KMSInternal, kmsapi.KMSInvalidMac, kmsapi.KMSInvalidSignature, kmsapi.KMSInvalidState, kmsapi.KeyUnavailable, kmsapi.LimitExceeded,
	kmsapi.MalformedPolicyDocument, kmsapi.NotFound, kmsapi.TagRefused, kmsapi.UnsupportedOperation, kmsapi.AccessDenied, kmsapi.ExpiredToken,
	kmsapi.IncompleteSignature, kmsapi.InvalidSignature, kmsapi.MissingAuthenticationToken, kmsapi.RequestEntityTooLarge, kmsapi.Serialization,
	kmsapi.Throttling, kmsapi.UnknownOperation, kmsapi.UnrecognizedClient, kmsapi.Validation,
}

// faults is a log that keeps what must not be in it.
type faults struct {
	mu   sync.Mutex
	text bytes.Buffer
}

var faultLine = regexp.MustCompile(`panic|level=ERROR|superfluous|stack=`)

func (f *faults) Write(line []byte) (int, error) {
	if faultLine.Match(line) {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.text.Len() < 1<<20 {
			f.text.Write(line)
		}
	}
	return len(line), nil
}

func (f *faults) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

// listen serves the service as the program does, with all its limits, and has
// every client use that address. stop ends it.
func (s *service) listen(wrap func(http.Handler) http.Handler) (log *faults, stop func()) {
	s.t.Helper()
	log = new(faults)
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	handler, err := kmsserver.New(kmsserver.Config{KMS: s.kms, Logger: logger})
	fatal(s.t, err)
	listener, err := kmsserver.Listen(s.t.Context(), "127.0.0.1:0")
	fatal(s.t, err)
	s.url = "http://" + listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- kmsserver.Serve(ctx, listener, wrap(handler), logger) }()
	stop = sync.OnceFunc(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(stop)
	return log, stop
}

// A recorder keeps the requests that pass through it while it is on.
type recorder struct {
	mu       sync.Mutex
	on       bool
	requests []recordedRequest
}

func (r *recorder) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		if r.on {
			r.record(request)
		}
		r.mu.Unlock()
		next.ServeHTTP(w, request)
	})
}

var credentialRegion = regexp.MustCompile(`/[0-9]{8}/([a-z0-9-]+)/kms/`)

func (r *recorder) record(request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		panic(err)
	}
	request.Body = io.NopCloser(bytes.NewReader(body))
	out := recordedRequest{operation: strings.TrimPrefix(request.Header.Get("X-Amz-Target"), kmsapi.TargetPrefix), region: region, header: request.Header.Clone(), body: body}
	if found := credentialRegion.FindStringSubmatch(request.Header.Get("Authorization")); found != nil {
		out.region = found[1]
	}
	for _, name := range []string{"Authorization", "X-Amz-Date", "Content-Length"} {
		out.header.Del(name)
	}
	r.requests = append(r.requests, out)
}

// records returns what fn sends.
func (r *recorder) records(fn func()) []recordedRequest {
	r.mu.Lock()
	r.on, r.requests = true, nil
	r.mu.Unlock()
	fn()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.on = false
	return r.requests
}

// newCorpus makes a corpus of recorded requests and of a run's own values.
func newCorpus(g *stage, requests []recordedRequest) *corpus {
	c := &corpus{requests: requests, byName: map[string][]int{}}
	arns := []string{g.symmetric, g.signing, g.macs, g.agreement, g.external, g.multi, g.doomed, g.attested}
	for _, arn := range arns {
		c.strings = append(c.strings, arn, arn[strings.LastIndexByte(arn, '/')+1:])
	}
	c.strings = append(c.strings, *g.alias("orders"), "arn:aws:kms:us-east-1:"+account+":"+*g.alias("orders"), "alias/aws/ebs", "alias/", "alias/x/../y", "alias/none",
		strings.Replace(g.symmetric, account, foreignAccount, 1), strings.Replace(g.symmetric, region, secondRegion, 1), strings.Replace(g.symmetric, "arn:aws:", "arn:aws-cn:", 1),
		strings.Replace(g.symmetric, ":key/", ":alias/", 1), g.symmetric+"/", "arn:aws:kms:::key/", "arn:aws:iam::"+account+":user/"+kms.AdminName, "arn:aws:iam::"+foreignAccount+":root",
		"arn:aws:sts::"+account+":assumed-role/data-processing/x", "12345678-1234-1234-1234-123456789012", "mrk-"+strings.Repeat("0", 32), "mrk-"+strings.Repeat("F", 32),
		*g.grant.GrantId, *g.grant.GrantToken, strings.Repeat("0", 64), "MTIzNGFiY2Q=", "", "../../etc", "key/x", strings.Repeat("x", 2049), "aws:reserved", "cretula:attested")
	c.blobs = [][]byte{g.sealed, g.ciphertext, g.signature, g.mac, g.document, g.parameters.ImportToken, g.parameters.PublicKey, spki(g.t, recipientKey().Public()), nil, make([]byte, 6144), make([]byte, 4097)}
	for i, r := range requests {
		if c.byName[r.operation] == nil {
			c.names = append(c.names, r.operation)
		}
		c.byName[r.operation] = append(c.byName[r.operation], i)
		if token, err := base64.StdEncoding.DecodeString(*g.grant.GrantToken); err == nil && i == 0 {
			c.blobs = append(c.blobs, token)
		}
	}
	slices.Sort(c.names)
	return c
}

// A tally is what came back.
type tally struct {
	mu      sync.Mutex
	byCode  map[string]int
	reached int // answers of an operation
	unheard int // no answer
}

func (y *tally) add(code string, reached bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.byCode[code]++
	if reached {
		y.reached++
	}
}

// A line is a connection of one worker.
type line struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

func (l *line) close() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// exchange sends a mutant and returns its answers. One that is damaged below HTTP
// has a connection of its own, and gets what the server says within a short time.
func (l *line) exchange(x *mutant) (answers []*http.Response, bodies [][]byte, err error) {
	if x.raw {
		l.close()
	}
	if l.conn == nil {
		if l.conn, err = net.Dial("tcp", l.address); err != nil {
			return nil, nil, err
		}
		l.reader = bufio.NewReader(l.conn)
	}
	wait := time.Minute
	if x.raw {
		wait = 150 * time.Millisecond
		defer l.close()
	}
	l.conn.SetDeadline(time.Now().Add(wait))
	_, writeErr := l.conn.Write(x.wire) // fails where the server has closed: its answer tells
	for {
		answer, err := http.ReadResponse(l.reader, nil)
		var body []byte
		if err == nil {
			body, err = io.ReadAll(answer.Body)
		}
		switch {
		case err != nil && (x.raw || x.cutOff() && !errors.Is(err, os.ErrDeadlineExceeded)):
			l.close()
			return answers, bodies, nil
		case err != nil:
			return nil, nil, errors.Join(err, writeErr)
		case answer.StatusCode == http.StatusContinue:
			continue
		}
		answers, bodies = append(answers, answer), append(bodies, body)
		if !x.raw {
			if answer.Close {
				l.close()
			}
			return answers, bodies, nil
		}
		l.conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
	}
}

// cutOff tells whether the server may close the connection before it has read all of
// the request, which then takes the answer with it: net/http does where it refuses a
// head, and where the body is too large.
func (x *mutant) cutOff() bool { return x.unsigned || len(x.request.body) > 1<<20 }

// judge says what is wrong with an answer, "" if nothing is.
func judge(x *mutant, answer *http.Response, body []byte, secrets [][]byte) (code string, reached bool, wrong string) {
	status := answer.StatusCode
	if answer.Header.Get("X-Amzn-Requestid") == "" { // of net/http, which nobody gets past
		code = fmt.Sprint("HTTP ", status)
		protocol := status == http.StatusNotImplemented || status == http.StatusHTTPVersionNotSupported
		if !x.raw && !x.unsigned || (status < 400 || status >= 500) && !(x.raw && protocol) {
			return code, false, "an answer without a request id"
		}
		return code, false, ""
	}
	decision := answer.Header.Get(kmsserver.DecisionHeader)
	switch {
	case status == http.StatusOK:
		switch {
		case x.caller == stranger:
			wrong = "somebody without rights was served"
		case len(body) > 0 && !json.Valid(body):
			wrong = "the body is no JSON"
		}
		return "none", true, wrong
	case status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge:
		return fmt.Sprint(status), decision != "", "a wrong status"
	}
	var refusal struct {
		Type string `json:"__type"`
	}
	err := json.Unmarshal(body, &refusal)
	switch {
	case x.raw && strings.HasPrefix(string(x.wire), "HEAD "): // which has no body
		return "HEAD", false, ""
	case err != nil || !utf8.Valid(body):
		wrong = "the body is no JSON"
	case !slices.Contains(codes, kmsapi.Code(refusal.Type)):
		wrong = "an unknown code"
	case answer.Header.Get("Content-Type") != kmsapi.ContentType:
		wrong = "another content type"
	}
	for _, secret := range secrets {
		if bytes.Contains(body, secret) {
			wrong = "a secret is in an error"
		}
	}
	return refusal.Type, decision != "", wrong
}

// forms returns a secret as it might be written.
func forms(secret []byte) [][]byte {
	return [][]byte{secret, []byte(base64.StdEncoding.EncodeToString(secret)), []byte(base64.RawURLEncoding.EncodeToString(secret)),
		fmt.Appendf(nil, "%x", secret), fmt.Appendf(nil, "%X", secret)}
}

// printable is a text as it is, anything else in base64.
func printable(b []byte) string {
	if utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' && r != '\r' && r != '\n' && r != '\t' }) {
		return string(b)
	}
	return "base64: " + base64.StdEncoding.EncodeToString(b)
}

// seed is that of CRETULA_SEED, or a new one.
func seed(t *testing.T) uint64 {
	text := os.Getenv("CRETULA_SEED")
	if text == "" {
		n := rand.Uint64()
		t.Logf("CRETULA_SEED=%d repeats this", n)
		return n
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("CRETULA_SEED: %v", err)
	}
	return n
}

// heap returns what is in use once nothing is collected any more.
func heap() uint64 {
	var stats runtime.MemStats
	for range 3 { // finalizers and pools take more than one
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// settled waits until there are no more goroutines than before, and returns their
// stacks if there are.
func settled(before int) string {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return ""
		}
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			return string(stacks[:runtime.Stack(stacks, true)])
		}
	}
}
