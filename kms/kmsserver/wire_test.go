// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
)

// A raw request is made by hand and signed by AWS's signer.
type raw struct {
	method, path, target, contentType, body string
	credentials                             kms.Credentials
	token                                   string
	region                                  string // that of the constant if empty
	signedAt                                time.Time
	unsigned                                bool
	after                                   func(*http.Request) // changes it once it is signed
}

func (s *service) send(r raw) (status int, body string, header http.Header) {
	s.t.Helper()
	method, path := r.method, r.path
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = "/"
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(r.body))
	if err != nil {
		s.t.Fatal(err)
	}
	if r.contentType != "-" {
		req.Header.Set("Content-Type", map[bool]string{true: "application/x-amz-json-1.1", false: r.contentType}[r.contentType == ""])
	}
	if r.target != "" {
		req.Header.Set("X-Amz-Target", r.target)
	}
	if !r.unsigned {
		at := r.signedAt
		if at.IsZero() {
			at = time.Now()
		}
		c := r.credentials
		if c.AccessKeyID == "" {
			c = s.admin
		}
		hash := sha256.Sum256([]byte(r.body))
		if err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: r.token},
			req, hex.EncodeToString(hash[:]), "kms", cmp.Or(r.region, region), at); err != nil {
			s.t.Fatal(err)
		}
	}
	if r.after != nil {
		r.after(req)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, string(text), answer.Header
}

func TestBadRequests(t *testing.T) {
	s := newService(t)
	keyARN := s.key("")
	const decrypt = "TrentService.Decrypt"
	for name, c := range map[string]struct {
		raw    raw
		status int
		body   string // a regular expression
		signed bool   // the signature was good, so there is a decision id
	}{
		"body over 1 MiB":    {raw{target: decrypt, body: `{"A":"` + strings.Repeat("x", 1<<20) + `"}`}, 413, `"__type":"RequestEntityTooLargeException"`, false},
		"wrong content type": {raw{target: decrypt, body: `{}`, contentType: "application/json"}, 400, `"__type":"UnknownOperationException"`, false},
		"JSON 1.0":           {raw{target: decrypt, body: `{}`, contentType: "application/x-amz-json-1.0"}, 400, `"__type":"UnknownOperationException"`, false},
		"no content type":    {raw{target: decrypt, body: `{}`, contentType: "-"}, 400, `"__type":"UnknownOperationException"`, false},
		"no target":          {raw{body: `{}`}, 400, `^{"__type":"UnknownOperationException"}$`, false},
		"unknown operation":  {raw{target: "TrentService.Encript", body: `{}`}, 400, `^{"__type":"UnknownOperationException"}$`, false},
		"other case":         {raw{target: "TrentService.decrypt", body: `{}`}, 400, `^{"__type":"UnknownOperationException"}$`, false},
		"other service":      {raw{target: "DynamoDB_20120810.GetItem", body: `{}`}, 400, `^{"__type":"UnknownOperationException"}$`, false},
		"GET":                {raw{method: "GET", target: decrypt}, 400, `"__type":"UnknownOperationException"`, false},
		"other path":         {raw{path: "/x", target: decrypt, body: `{}`}, 400, `"__type":"UnknownOperationException"`, false},
		"not built": {raw{target: "TrentService.CreateCustomKeyStore", body: `{"CustomKeyStoreName":"x"}`}, 400,
			`^{"__type":"UnsupportedOperationException","message":"This key service does not have custom key stores."}$`, true},
		"unsigned": {raw{target: decrypt, body: `{}`, unsigned: true}, 400, `"__type":"MissingAuthenticationTokenException"`, false},
		"stale": {raw{target: decrypt, body: `{}`, signedAt: time.Now().Add(-301 * time.Second)}, 400,
			`"__type":"InvalidSignatureException","message":"Signature expired: \d{8}T\d{6}Z is now earlier than \d{8}T\d{6}Z \(\d{8}T\d{6}Z - 5 min\.\)"`, false},
		"of the future": {raw{target: decrypt, body: `{}`, signedAt: time.Now().Add(302 * time.Second)}, 400,
			`"message":"Signature not yet current: .* \+ 5 min\.\)"`, false},
		"wrong secret": {raw{target: decrypt, body: `{}`, credentials: kms.Credentials{AccessKeyID: s.admin.AccessKeyID, SecretAccessKey: "x"}}, 400,
			`"__type":"InvalidSignatureException","message":"The request signature we calculated does not match`, false},
		"unknown access key": {raw{target: decrypt, body: `{}`, credentials: kms.Credentials{AccessKeyID: "AKIA0000000000000000", SecretAccessKey: "x"}}, 400,
			`^{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid\."}$`, false},
		"session token": {raw{target: decrypt, body: `{}`, token: "t"}, 400, `"__type":"UnrecognizedClientException"`, false},
		"changed body": {raw{target: decrypt, body: `{}`, after: func(r *http.Request) {
			r.Body, r.ContentLength, r.GetBody = io.NopCloser(strings.NewReader(`{"A":1}`)), 7, nil
		}}, 400, `"__type":"InvalidSignatureException"`, false},
		"changed target": {raw{target: decrypt, body: `{}`, after: func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.Encrypt") }}, 400,
			`"__type":"InvalidSignatureException"`, false},
		"two targets": {raw{target: decrypt, body: `{}`, after: func(r *http.Request) { r.Header.Add("X-Amz-Target", decrypt) }}, 400,
			`"__type":"UnknownOperationException"`, false},
		"no JSON":               {raw{target: decrypt, body: `hello`}, 400, `"__type":"SerializationException"`, true},
		"empty body":            {raw{target: decrypt}, 400, `"__type":"SerializationException"`, true},
		"deep JSON":             {raw{target: decrypt, body: strings.Repeat(`{"A":`, 100000) + "1" + strings.Repeat("}", 100000)}, 400, `"__type":"SerializationException"`, true},
		"deep arrays":           {raw{target: decrypt, body: `{"A":` + strings.Repeat("[", 500000)}, 400, `"__type":"SerializationException"`, true},
		"bad base64":            {raw{target: decrypt, body: `{"CiphertextBlob":"*"}`}, 400, `"__type":"SerializationException"`, true},
		"wrong type":            {raw{target: decrypt, body: `{"CiphertextBlob":1}`}, 400, `^{"__type":"SerializationException","message":"NUMBER_VALUE cannot be converted to Blob"}$`, true},
		"repeated":              {raw{target: decrypt, body: `{"CiphertextBlob":"AA==","CiphertextBlob":"AA=="}`}, 400, `"__type":"SerializationException"`, true},
		"no blob":               {raw{target: decrypt, body: `{}`}, 400, `Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null`, true},
		"no ciphertext of ours": {raw{target: decrypt, body: `{"CiphertextBlob":"AQICAHg="}`}, 400, `^{"__type":"InvalidCiphertextException"}$`, true},
		"unknown key": {raw{target: "TrentService.DescribeKey", body: `{"KeyId":"1234abcd-12ab-34cd-56ef-1234567890ab"}`}, 400,
			`^{"__type":"NotFoundException","message":"Key 'arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab' does not exist"}$`, true},
		"no key id": {raw{target: "TrentService.DescribeKey", body: `{"KeyId":"key_id"}`}, 400, `"message":"Invalid keyId 'key_id'"`, true},
		"other region": {raw{target: "TrentService.DescribeKey", body: `{"KeyId":"` + strings.Replace(keyARN, region, "eu-west-1", 1) + `"}`}, 400,
			`"__type":"NotFoundException","message":"Invalid arn eu-west-1"`, true},
		"alias": {raw{target: "TrentService.DescribeKey", body: `{"KeyId":"alias/x"}`}, 400,
			`"__type":"NotFoundException","message":"Alias arn:aws:kms:us-east-1:000000000000:alias/x is not found\."`, true},
		"row id": {raw{target: "TrentService.DescribeKey", body: `{"KeyId":"../../x"}`}, 400, `"__type":"NotFoundException"`, true},
		"odd access key": {raw{target: decrypt, body: `{}`, credentials: kms.Credentials{AccessKeyID: "_" + strings.Repeat("A", 100), SecretAccessKey: "x"}}, 400,
			`"__type":"UnrecognizedClientException"`, false},
	} {
		status, body, header := s.send(c.raw)
		if status != c.status || !regexp.MustCompile(c.body).MatchString(body) {
			t.Errorf("%s: got %d %.300s", name, status, body)
		}
		if got := header.Get(kmsserver.DecisionHeader) != ""; got != c.signed {
			t.Errorf("%s: decision id %q", name, header.Get(kmsserver.DecisionHeader))
		}
		if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(header.Get("x-amzn-RequestId")) ||
			header.Get("Content-Type") != "application/x-amz-json-1.1" {
			t.Errorf("%s: headers %v", name, header)
		}
	}
	if status, body, _ := s.send(raw{target: "TrentService.DescribeKey", body: `{"KeyId":"` + keyARN + `"}`}); status != 200 {
		t.Errorf("afterwards: %d %s", status, body)
	}
}

func TestAnswers(t *testing.T) {
	s := newService(t)
	keyARN := s.key("")
	for name, c := range map[string]struct{ target, body, want string }{
		"no output":        {"PutKeyPolicy", `{"KeyId":"` + keyARN + `","BypassPolicyLockoutSafetyCheck":true,"Policy":` + quoteJSON(adminPolicy) + `}`, `^$`},
		"unknown member":   {"GenerateRandom", `{"NumberOfBytes":1,"Recipient":null,"recipient":{},"X":[{}]}`, `^{"Plaintext":"[^"]{2}=="}$`},
		"charset":          {"GenerateRandom", `{"NumberOfBytes":3}`, `^{"Plaintext":"[^"]{4}"}$`},
		"timestamp":        {"DescribeKey", `{"KeyId":"` + keyARN + `"}`, `"CreationDate":1[0-9]{9}\.[0-9]{3},`},
		"list":             {"ListKeys", `{}`, `^{"Keys":\[{"KeyId":"[^"]*","KeyArn":"arn[^"]*"}\],"Truncated":false}$`},
		"no empty members": {"GenerateDataKey", `{"KeyId":"` + keyARN + `","NumberOfBytes":1}`, `^{"CiphertextBlob":"[^"]*","Plaintext":"[^"]*","KeyId":"[^"]*","KeyMaterialId":"[0-9a-f]{64}"}$`},
		"Recipient": {"GenerateRandom", `{"NumberOfBytes":1,"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"` +
			base64.StdEncoding.EncodeToString(document(t)) + `"}}`, `^{"CiphertextForRecipient":"MIAG[^"]*"}$`},
	} {
		contentType := ""
		if name == "charset" {
			contentType = "application/x-amz-json-1.1; charset=utf-8"
		}
		status, body, header := s.send(raw{target: "TrentService." + c.target, body: c.body, contentType: contentType})
		if status != 200 || !regexp.MustCompile(c.want).MatchString(body) {
			t.Errorf("%s: %d %s", name, status, body)
		}
		if header.Get(kmsserver.DecisionHeader) != "" {
			t.Errorf("%s: a decision id on a success", name)
		}
	}
}

// What a case-blind reader would take for a Recipient is none.
func TestBadRecipientMembers(t *testing.T) {
	s := newService(t)
	for _, body := range []string{
		`{"NumberOfBytes":1,"Recipient":{}}`,
		`{"NumberOfBytes":1,"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256"}}`,
		`{"NumberOfBytes":1,"Recipient":{"keyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","attestationDocument":"AA=="}}`,
		`{"NumberOfBytes":1,"Recipient":{"KeyEncryptionAlgorithm":null,"AttestationDocument":null}}`,
		`{"NumberOfBytes":1,"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":""}}`,
	} {
		status, answer, _ := s.send(raw{target: "TrentService.GenerateRandom", body: body})
		if status != 400 || !strings.Contains(answer, `"__type":"ValidationException"`) {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	doc := document(t)
	var authorization string
	status, body, _ := s.send(raw{credentials: role, target: "TrentService.Decrypt", body: `{"KeyId":"` + keyARN + `","CiphertextBlob":"` +
		base64.StdEncoding.EncodeToString(sealed) + `","Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"` +
		base64.StdEncoding.EncodeToString(doc) + `"}}`, after: func(r *http.Request) { authorization = r.Header.Get("Authorization") }})
	if status != 200 {
		t.Fatal(status, body)
	}
	s.send(raw{target: "TrentService.Encrypt", body: `{"KeyId":"` + keyARN + `","Plaintext":"dGhlIHNlY3JldA=="}`})
	events := auditText(t, s.dir)
	if !strings.Contains(events, `"eventName":"Decrypt"`) {
		t.Fatal("no event")
	}
	for name, secret := range map[string]string{
		"access key": role.SecretAccessKey, "admin's access key": s.admin.SecretAccessKey, "plaintext": "the secret", "plaintext in base64": "dGhlIHNlY3JldA",
		"ciphertext": base64.StdEncoding.EncodeToString(sealed)[:40], "document": base64.StdEncoding.EncodeToString(doc)[:40],
		"signature": authorization[len(authorization)-64:],
	} {
		if strings.Contains(s.log.String(), secret) || strings.Contains(events, secret) {
			t.Errorf("%s is in the log or the audit log", name)
		}
	}
	if !strings.Contains(s.log.String(), "operation=Decrypt") {
		t.Errorf("the request is not logged: %s", s.log)
	}
}

// A panic is an internal error, and the server stays up.
func TestPanic(t *testing.T) {
	s := newService(t, func(c *kms.Config) {
		real := c.Audit
		c.Audit = panicLog{real}
	})
	status, body, _ := s.send(raw{target: "TrentService.ListKeys", body: `{"Marker":"panic"}`})
	if status != 500 || body != `{"__type":"KMSInternalException","message":"The request was rejected because an internal exception occurred."}` {
		t.Errorf("%d %s", status, body)
	}
	if log := s.log.String(); !strings.Contains(log, "stack=") || strings.Contains(log, "a secret in a panic") {
		t.Errorf("log: %s", log)
	}
	if events := s.events("ListKeys"); len(events) != 1 || !strings.Contains(events[0], "KMSInternalException") || strings.Contains(events[0], "a secret in a panic") {
		t.Errorf("events of the panic: %q", events)
	}
	if status, _, _ := s.send(raw{target: "TrentService.ListKeys", body: `{}`}); status != 200 {
		t.Errorf("afterwards: %d", status)
	}
}

type panicLog struct{ kms.AuditLog }

func (p panicLog) Append(ctx context.Context, event any) error {
	if event.(*kms.Event).ErrorCode == "InvalidMarkerException" {
		panic("a secret in a panic")
	}
	return p.AuditLog.Append(ctx, event)
}

func TestListenOnLoopbackOnly(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "[::ffff:127.0.0.1]:0": true, "127.9.9.9:0": true,
		"0.0.0.0:0": false, ":0": false, "[::]:0": false, "10.0.0.1:0": false, "example.org:0": false, "127.0.0.1": false, "": false, "localhost.evil:0": false,
	} {
		l, err := kmsserver.Listen(t.Context(), address)
		if (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
		if l != nil {
			l.Close()
		}
	}
}

func TestServeStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l, err := kmsserver.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- kmsserver.Serve(ctx, l, http.NotFoundHandler(), nil) }()
	if _, err := http.Post("http://"+l.Addr().String(), "", bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
