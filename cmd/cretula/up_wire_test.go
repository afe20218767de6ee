// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// spilled is a text that no log and no refusal may repeat.
const spilled = "c3BpbGxlZCBzZWNyZXQ"

// A badRequest is sent to a live server by hand. It is signed unless sign says
// otherwise.
type badRequest struct {
	name, target, contentType, body string
	method, path                    string
	sign                            func(*http.Request, *aws.Credentials, *time.Time) // before it is signed; nil: nothing
	unsigned                        bool
	after                           func(*http.Request)
	status                          int
	code                            string
	message                         string // a part of it
}

func (up *upProcess) send(t testing.TB, r badRequest) (status int, header http.Header, body []byte) {
	t.Helper()
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	request, err := http.NewRequestWithContext(t.Context(), or(r.method, "POST"), up.env["AWS_ENDPOINT_URL_KMS"]+or(r.path, "/"), strings.NewReader(r.body))
	must(t, err)
	request.Header.Set("Content-Type", or(r.contentType, "application/x-amz-json-1.1"))
	request.Header.Set("X-Amz-Target", or(r.target, "TrentService.Decrypt"))
	credentials := aws.Credentials{AccessKeyID: up.env["AWS_ACCESS_KEY_ID"], SecretAccessKey: up.env["AWS_SECRET_ACCESS_KEY"]}
	at := time.Now()
	if r.sign != nil {
		r.sign(request, &credentials, &at)
	}
	if !r.unsigned {
		hash := sha256.Sum256([]byte(r.body))
		must(t, v4.NewSigner().SignHTTP(t.Context(), credentials, request, hex.EncodeToString(hash[:]), "kms", "us-east-1", at))
	}
	if r.after != nil {
		r.after(request)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
	return answer.StatusCode, answer.Header, body
}

func authorization(value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", value) }
}

func signedAt(offset time.Duration) func(*http.Request, *aws.Credentials, *time.Time) {
	return func(_ *http.Request, _ *aws.Credentials, at *time.Time) { *at = at.Add(offset) }
}

func badRequests() []badRequest {
	const (
		unknownOperation = "UnknownOperationException"
		serialization    = "SerializationException"
		badSignature     = "InvalidSignatureException"
		incomplete       = "IncompleteSignatureException"
		noToken          = "MissingAuthenticationTokenException"
		unknownClient    = "UnrecognizedClientException"
	)
	secret := `"` + spilled + `"`
	return []badRequest{
		{name: "over 1 MiB", body: `{"CiphertextBlob":"` + strings.Repeat("A", 1<<20) + `"}`, status: 413, code: "RequestEntityTooLargeException"},
		{name: "over 1 MiB, chunked", body: `{}`, after: func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("A", 2<<20))), -1
		}, status: 413, code: "RequestEntityTooLargeException"},
		{name: "a gigabyte announced", body: `{}`, after: func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(io.LimitReader(zeros{}, 1<<30)), 1<<30
		}, status: 413, code: "RequestEntityTooLargeException"},
		{name: "content type", contentType: "application/json", body: `{}`, status: 400, code: unknownOperation},
		{name: "JSON 1.0", contentType: "application/x-amz-json-1.0", body: `{}`, status: 400, code: unknownOperation},
		{name: "form", contentType: "application/x-www-form-urlencoded", body: "Action=Decrypt", status: 400, code: unknownOperation},
		{name: "unknown operation", target: "TrentService.Reveal", body: `{}`, status: 400, code: unknownOperation},
		{name: "another service", target: "DynamoDB_20120810.ListTables", body: `{}`, status: 400, code: unknownOperation},
		{name: "GET", method: "GET", status: 400, code: unknownOperation},
		{name: "another path", path: "/keys", body: `{}`, status: 400, code: unknownOperation},
		{name: "custom key store", target: "TrentService.CreateCustomKeyStore", body: `{"CustomKeyStoreName":"x"}`, status: 400, code: "UnsupportedOperationException"},

		{name: "no JSON", body: spilled, status: 400, code: serialization},
		{name: "empty", body: "", status: 400, code: serialization},
		{name: "list", body: `[` + secret + `]`, status: 400, code: serialization},
		{name: "cut", body: `{"Plaintext":"` + spilled, status: 400, code: serialization},
		{name: "more behind it", body: `{}` + spilled, status: 400, code: serialization},
		{name: "deep objects", body: strings.Repeat(`{"a":`, 150_000) + `1` + strings.Repeat(`}`, 150_000), status: 400, code: serialization},
		{name: "deep lists", body: `{"GrantTokens":` + strings.Repeat(`[`, 500_000) + strings.Repeat(`]`, 500_000) + `}`, status: 400, code: serialization},
		{name: "deep where nobody looks", body: `{"Extension":` + strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000) + `}`, status: 400, code: serialization},
		{name: "bad base64", body: `{"CiphertextBlob":"` + spilled + `*"}`, status: 400, code: serialization},
		{name: "base64 of URLs", body: `{"CiphertextBlob":"-_-_"}`, status: 400, code: serialization},
		{name: "wrong type", body: `{"CiphertextBlob":{"Plaintext":` + secret + `}}`, status: 400, code: serialization},
		{name: "invalid UTF-8", body: "{\"KeyId\":\"\xff\xfe\"}", status: 400, code: serialization},
		{name: "no ciphertext", body: `{}`, status: 400, code: "ValidationException", message: "ciphertextBlob"},
		{name: "no ciphertext of ours", body: `{"CiphertextBlob":"AQICAHg="}`, status: 400, code: "InvalidCiphertextException"},
		{name: "context too long", target: "TrentService.Encrypt", body: `{"KeyId":"alias/` + spilled + `","Plaintext":"AA=="}`, status: 400, code: "NotFoundException"},

		{name: "unsigned", body: `{}`, unsigned: true, status: 400, code: noToken},
		{name: "empty Authorization", body: `{}`, after: authorization(""), status: 400, code: incomplete},
		{name: "stale", body: `{}`, sign: signedAt(-6 * time.Minute), status: 400, code: badSignature, message: "Signature expired: "},
		{name: "of the future", body: `{}`, sign: signedAt(6 * time.Minute), status: 400, code: badSignature, message: "Signature not yet current: "},
		{name: "unknown access key", body: `{}`, sign: func(_ *http.Request, c *aws.Credentials, _ *time.Time) { c.AccessKeyID = "AKIA0000000000000000" },
			status: 400, code: unknownClient, message: "The security token included in the request is invalid."},
		{name: "wrong secret", body: `{}`, sign: func(_ *http.Request, c *aws.Credentials, _ *time.Time) { c.SecretAccessKey = spilled },
			status: 400, code: badSignature, message: "The request signature we calculated does not match the signature you provided."},
		{name: "session token", body: `{}`, sign: func(_ *http.Request, c *aws.Credentials, _ *time.Time) { c.SessionToken = spilled }, status: 400, code: unknownClient},
		{name: "body changed", body: `{}`, after: func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"KeyId":"x"}`)), 13
		}, status: 400, code: badSignature},
		{name: "target changed", body: `{}`, after: func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.Encrypt") }, status: 400, code: badSignature},
		{name: "two targets", body: `{}`, after: func(r *http.Request) { r.Header.Add("X-Amz-Target", "TrentService.Encrypt") }, status: 400, code: unknownOperation},
		{name: "two Authorizations", body: `{}`, after: func(r *http.Request) { r.Header.Add("Authorization", "AWS4-HMAC-SHA256 x") }, status: 400, code: incomplete},
		{name: "Basic", body: `{}`, after: authorization("Basic YWRtaW46YWRtaW4="), status: 400, code: incomplete},
		{name: "garbage", body: `{}`, after: authorization("AWS4-HMAC-SHA256 " + spilled), status: 400, code: incomplete},
		{name: "only commas", body: `{}`, after: authorization("AWS4-HMAC-SHA256 ,,,,,,"), status: 400, code: incomplete},
		{name: "long garbage", body: `{}`, after: authorization("AWS4-HMAC-SHA256 Credential=" + strings.Repeat("A/", 20_000)), status: 400, code: incomplete},
		{name: "access key of a path", body: `{}`, sign: func(_ *http.Request, c *aws.Credentials, _ *time.Time) { c.AccessKeyID = "..%2f..%2froot.key" }, status: 400, code: incomplete},
		{name: "other service in the scope", body: `{}`, after: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/kms/", "/s3/", 1))
		}, status: 400, code: badSignature},
		{name: "other region in the scope", body: `{}`, after: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/us-east-1/", "/eu-west-1/", 1))
		}, status: 400, code: badSignature},
		{name: "no date", body: `{}`, after: func(r *http.Request) { r.Header.Del("X-Amz-Date") }, status: 400, code: incomplete},
		{name: "explain without rights", target: "CretulaService.ExplainDecision", body: `{"DecisionId":"d-00000000000000000000000000000000"}`, status: 400, code: "AccessDeniedException"},
		{name: "explain nothing", target: "CretulaService.ExplainDecision", body: `{}`, status: 400, code: "ValidationException"},
	}
}

// zeros is a body without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Whatever is sent, the answer is AWS's error, the server stays up, and neither
// answer nor log repeats what could be a secret.
func TestUpBadRequests(t *testing.T) {
	up := startUp(t, newDataDir(t))
	created, err := up.client().CreateKey(t.Context(), &kms.CreateKeyInput{})
	must(t, err)
	for _, r := range badRequests() {
		status, header, body := up.send(t, r)
		var answer struct {
			Type    string `json:"__type"`
			Message string `json:"message"` // in either case
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Errorf("%s: %v in %.200q", r.name, err, body)
		}
		if status != r.status || answer.Type != r.code || !strings.Contains(answer.Message, r.message) {
			t.Errorf("%s: got %d %s %q, want %d %s %q", r.name, status, answer.Type, answer.Message, r.status, r.code, r.message)
		}
		if header.Get("X-Amzn-Requestid") == "" || header.Get("Content-Type") != "application/x-amz-json-1.1" {
			t.Errorf("%s: header %v", r.name, header)
		}
		if bytes.Contains(body, []byte(spilled)) && r.code != "NotFoundException" { // AWS repeats the KeyId
			t.Errorf("%s: the answer repeats the request: %s", r.name, body)
		}
	}
	if _, err := up.client().DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: created.KeyMetadata.Arn}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if code := up.signal(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d\n%s", code, up.output)
	}
	log := up.output.String()
	if strings.Contains(log, spilled) || strings.Contains(log, up.env["AWS_SECRET_ACCESS_KEY"]) || strings.Contains(log, "panic") {
		t.Errorf("log:\n%s", log)
	}
}

// Connections that are no requests, or end early, or never end, take nothing from
// the others.
func TestUpBadConnections(t *testing.T) {
	t.Parallel() // it waits until the server gives up on them
	up := startUp(t, newDataDir(t))
	address := strings.TrimPrefix(up.env["AWS_ENDPOINT_URL_KMS"], "http://")
	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		must(t, conn.SetDeadline(time.Now().Add(readyWithin)))
		return conn
	}
	head := "POST / HTTP/1.1\r\nHost: " + address + "\r\n"
	// Half-open: silent, half a line, half a header, half a body.
	for i := range 200 {
		io.WriteString(dial(), []string{"", "POST / HT", head + "X-Amz-Tar", head + "Content-Length: 1000\r\n\r\n{"}[i%4])
	}
	// Ended in the middle.
	for range 50 {
		conn := dial()
		io.WriteString(conn, head+"Content-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.Decrypt\r\nContent-Length: 1000\r\n\r\n{\"")
		conn.Close()
	}
	for name, c := range map[string]struct {
		text   string
		status int // 0: the connection is closed
	}{
		"one huge header":    {head + "X-Large: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", 431},
		"many headers":       {head + strings.Repeat("X-Many: x\r\n", 100_000) + "\r\n", 431},
		"huge request line":  {"POST /" + strings.Repeat("x", 1<<20) + " HTTP/1.1\r\n\r\n", 431},
		"no HTTP":            {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello TLS\r\n\r\n", 400},
		"two hosts":          {head + "Host: other\r\n\r\n", 400},
		"two lengths":        {head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
		"length and chunked": {head + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
		"CONNECT":            {"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", 400},
	} {
		conn := dial()
		go io.WriteString(conn, c.text) // the server may answer before it has read all
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			// What was not read may reset the connection under the answer.
			if c.status != 431 {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if answer.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", name, answer.StatusCode, c.status)
		}
		conn.Close()
	}
	if _, err := up.client().CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Errorf("beside all of them: %v", err)
	}
	// Half-open connections do not keep it from ending.
	if code := up.signal(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d\n%s", code, up.output)
	}
}
