// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// A recordedRequest is a request as a client sent it.
type recordedRequest struct {
	operation, region string
	header            http.Header
	body              []byte
}

// A mutant is a damaged request.
type mutant struct {
	request  recordedRequest
	what     string
	caller   int
	wire     []byte // all that is sent
	raw      bool   // damaged below HTTP: perhaps there is no answer
	unsigned bool   // its head was damaged after it was signed
}

// Who sends mutants.
const (
	administrator = iota
	enclaveRole
	stranger
	callers
)

// slow are operations that make rows, or RSA keys, of what is left valid of a
// request; they are drawn less often.
var slow = map[string]bool{"CreateKey": true, "GetParametersForImport": true, "GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true, "CreateGrant": true}

// newMutant makes the mutant of a number.
func newMutant(c *corpus, seed, number uint64, host string, credentials [callers]kms.Credentials) *mutant {
	m := &mutator{Rand: rand.New(rand.NewPCG(seed, number)), corpus: c}
	name := pick(m, c.names...)
	if slow[name] && m.IntN(3) > 0 {
		name = pick(m, c.names...)
	}
	r := c.requests[pick(m, c.byName[name]...)]
	out := &mutant{caller: pick(m, administrator, administrator, administrator, enclaveRole, enclaveRole, stranger, stranger)}
	r.header = r.header.Clone()
	layer := m.IntN(100)
	signing := sign{credentials: credentials[out.caller], region: r.region, at: time.Now()}
	switch {
	case layer < 72:
		r.body = m.body(r.body)
	case layer < 80:
		m.before(&r, &signing)
	}
	request := signing.request(host, &r)
	if layer >= 80 && layer < 91 {
		out.unsigned = true
		m.after(request.Header)
	}
	var wire bytes.Buffer
	if err := request.Write(&wire); err != nil {
		panic(err)
	}
	out.wire, out.request = wire.Bytes(), r
	if layer >= 91 {
		out.raw = true
		out.wire = m.wire(out.wire)
	}
	out.what = strings.Join(m.done, "; ")
	return out
}

// sign is how a request is signed.
type sign struct {
	credentials   kms.Credentials
	region, token string
	service       string
	at            time.Time
	otherHash     bool
}

// request makes the request and signs it.
func (s sign) request(host string, r *recordedRequest) *http.Request {
	request := &http.Request{
		Method: http.MethodPost, URL: &url.URL{Scheme: "http", Host: host, Path: "/"}, Host: host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: r.header, Body: io.NopCloser(bytes.NewReader(r.body)), ContentLength: int64(len(r.body)),
	}
	if len(r.body) == 0 {
		request.Body = http.NoBody
	}
	hash := sha256.Sum256(r.body)
	if s.otherHash {
		hash[0] ^= 1
	}
	service := "kms"
	if s.service != "" {
		service = s.service
	}
	err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: s.credentials.AccessKeyID, SecretAccessKey: s.credentials.SecretAccessKey, SessionToken: s.token},
		request, hex.EncodeToString(hash[:]), service, s.region, s.at)
	if err != nil {
		panic(err)
	}
	return request
}

// before damages what is signed beside the body.
func (m *mutator) before(r *recordedRequest, s *sign) {
	form := pick(m, "target", "target", "content type", "charset", "region", "date", "token", "service", "hash", "credentials", "agent", "amz header", "secret")
	m.note("signed: %s", form)
	switch form {
	case "target":
		r.header.Set("X-Amz-Target", pick(m, "", kmsapi.TargetPrefix, kmsapi.TargetPrefix+strings.ToLower(r.operation), r.operation, kmsapi.TargetPrefix+r.operation+" ", kmsapi.TargetPrefix+pick(m, m.corpus.names...),
			kmsapi.TargetPrefix+pick(m, m.corpus.names...), kmsapi.TargetPrefix+pick(m, m.corpus.names...), "CretulaService.ExplainDecision", "DynamoDB_20120810.GetItem", kmsapi.TargetPrefix+strings.Repeat("A", 3000)))
	case "content type":
		r.header.Set("Content-Type", pick(m, "", "application/json", "application/x-amz-json-1.0", "text/html", "application/x-amz-json-1.1, x", ";", "application/x-amz-cbor-1.1", "multipart/form-data"))
	case "charset":
		r.header.Set("Content-Type", kmsapi.ContentType+pick(m, "; charset=utf-8", ";charset=\"utf-16\"", "; charset", ";;", "; a=b; a=c", "; charset=utf-8*0=x"))
	case "region":
		s.region = pick(m, secondRegion, "us-west-2", "US-EAST-1", "..", "x", strings.Repeat("r", 300), "us-east-1 ")
	case "date":
		s.at = s.at.Add(pick(m, -6*time.Minute, 6*time.Minute, -24*time.Hour, 365*24*time.Hour, -4*time.Minute))
	case "token":
		s.token = pick(m, "t", strings.Repeat("t", 5000), "AAAA==")
	case "service":
		s.service = pick(m, "s3", "KMS", "kms/x")
	case "hash":
		s.otherHash = true
	case "credentials":
		s.credentials.AccessKeyID = pick(m, "AKIA0000000000000000", "x", "AKIA/", strings.Repeat("A", 300), "admin", "..", "AKIA\u00e9")
	case "secret":
		s.credentials.SecretAccessKey = pick(m, "x", s.credentials.SecretAccessKey+"x")
	case "agent":
		r.header.Set("User-Agent", pick(m, "", strings.Repeat("a", 30000), "[2J", "${aws:username}"))
	case "amz header":
		r.header.Set(pick(m, "X-Amz-Content-Sha256", "X-Amz-Foo", "X-Amz-Security-Token", "X-Amz-Decoded-Content-Length", "X-Amz-User-Agent", "X-Forwarded-For", "X-Http-Method-Override"),
			pick(m, "", "UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", strings.Repeat("0", 64), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "x  y", "\u00e9"))
	}
}

// after damages the head of a signed request.
func (m *mutator) after(h http.Header) {
	form := pick(m, "authorization", "authorization", "authorization", "authorization", "double", "date", "remove", "body hash", "target", "token", "value", "case")
	m.note("after signing: %s", form)
	name := pick(m, "Authorization", "X-Amz-Date", "X-Amz-Target", "Content-Type", "X-Amz-Security-Token", "X-Amz-Content-Sha256")
	switch form {
	case "authorization":
		h.Set("Authorization", m.authorization(h.Get("Authorization")))
	case "double":
		h.Add(name, pick(m, h.Get(name), "x", ""))
	case "date":
		h.Set("X-Amz-Date", pick(m, "", "0", "20250101T000000Z", "99991231T235959Z", "20250101T000000", "2025-01-01T00:00:00Z", "20251301T000000Z", time.Now().UTC().Format(http.TimeFormat), "20250101T0000\u0660\u0660Z"))
	case "remove":
		h.Del(name)
	case "body hash":
		h.Set("X-Amz-Content-Sha256", pick(m, "", "x", strings.Repeat("0", 64), "UNSIGNED-PAYLOAD"))
	case "target":
		h.Set("X-Amz-Target", kmsapi.TargetPrefix+pick(m, m.corpus.names...))
	case "token":
		h.Set("X-Amz-Security-Token", "t")
	case "value":
		h.Set(name, string(m.bytes([]byte(h.Get(name)))))
	case "case":
		h[strings.ToLower(name)] = append(h[strings.ToLower(name)], "x")
	}
}

// authorization damages one part of the header.
func (m *mutator) authorization(s string) string {
	scheme, rest, _ := strings.Cut(s, " ")
	parts := strings.Split(rest, ", ") // Credential, SignedHeaders, Signature
	if len(parts) != 3 {
		return string(m.bytes([]byte(s)))
	}
	i := m.IntN(3)
	switch m.IntN(12) {
	case 0:
		scheme = pick(m, "", "AWS4-ECDSA-P256-SHA256", "aws4-hmac-sha256", "Basic", "Bearer", scheme+" "+scheme)
	case 1:
		parts = slices.Delete(parts, i, i+1)
	case 2:
		parts = append(parts, parts[i])
	case 3:
		parts[i] = string(m.bytes([]byte(parts[i])))
	case 4:
		credential := strings.Split(parts[0], "/")
		j := m.IntN(len(credential))
		credential[j] = pick(m, "", "x", "20250101", "s3", "aws4_request", secondRegion, "Credential=", strings.Repeat("x", 2000), credential[j]+credential[j], "%2f")
		parts[0] = strings.Join(credential, "/")
	case 5:
		parts[1] = "SignedHeaders=" + pick(m, "", "host", ";", "host;host", "content-type;host;x-amz-date;x-amz-target;none", "x-amz-target;host", "Host", strings.Repeat("a;", 2000)+"host")
	case 6:
		parts[2] = "Signature=" + pick(m, "", "x", strings.Repeat("0", 64), strings.Repeat("0", 63), strings.Repeat("F", 64), strings.Repeat("0", 6400))
	case 7:
		parts[2] = strings.ToUpper(parts[2])
	case 8:
		m.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	case 9:
		parts[i] = strings.Replace(parts[i], "=", pick(m, "", "==", " = ", ":"), 1)
	case 10:
		return scheme + pick(m, "", "\t", "  ", ",") + strings.Join(parts, pick(m, ",", "", ";", " ,  ", "&"))
	case 11:
		return pick(m, "", " ", scheme, strings.Repeat(rest+",", 50), rest)
	}
	return scheme + " " + strings.Join(parts, ", ")
}

// wire damages the bytes of a whole request.
func (m *mutator) wire(b []byte) []byte {
	form := pick(m, "cut", "cut", "chunked", "bad chunk", "length", "length", "two lengths", "pipelined", "garbage before", "garbage behind", "one large header", "many headers", "version",
		"http/0.9", "http/2", "no host", "two hosts", "line ends", "fold", "nul", "space", "noise", "tls", "head bytes", "method", "path", "encoding", "expect", "absolute", "trailer")
	m.note("wire: %s", form)
	head, body, _ := bytes.Cut(b, []byte("\r\n\r\n"))
	line, fields, _ := strings.Cut(string(head), "\r\n")
	join := func(line, fields string, body []byte) []byte {
		return slices.Concat([]byte(line+"\r\n"+fields+"\r\n\r\n"), body)
	}
	length := fmt.Sprintf("Content-Length: %d", len(body))
	with := func(replacement string) []byte {
		return join(line, strings.Replace(fields, length, replacement, 1), body)
	}
	host, _, _ := strings.Cut(fields, "\r\n") // Request.Write begins with it
	switch form {
	case "cut":
		return b[:m.IntN(len(b))]
	case "chunked":
		return join(line, strings.Replace(fields, length, "Transfer-Encoding: chunked", 1), fmt.Appendf(nil, "%x\r\n%s\r\n0\r\n\r\n", len(body), body))
	case "bad chunk":
		chunk := pick(m, "zz\r\n", "-1\r\n", "ffffffffffffffff\r\n", "10000000000000000\r\n", "5;"+strings.Repeat("x", 5000)+"\r\nabcde", "0\r\nX: y\r\n", "1\nx\n", "1\r\nxx\r\n0\r\n\r\n", strings.Repeat("1\r\nx\r\n", 3000)+"0\r\n\r\n")
		return join(line, strings.Replace(fields, length, "Transfer-Encoding: chunked", 1), []byte(chunk))
	case "length":
		return with("Content-Length: " + pick(m, "0", "1", "-1", "99999999999999999999", "1048576", "1048577", "9223372036854775807", "0x10", "1e3", "", "+5", "5 5", fmt.Sprint(len(body)+1), fmt.Sprint(max(len(body)-1, 0))))
	case "two lengths":
		return with(length + "\r\n" + pick(m, length, "Content-Length: 1", "Transfer-Encoding: chunked", "Content-length : 3"))
	case "pipelined":
		return slices.Concat(b, b, b[:m.IntN(len(b))])
	case "garbage before":
		return slices.Concat(pick(m, []byte("\r\n"), []byte("\r\n\r\n"), []byte("\x00\x00"), bytes.Repeat([]byte("x"), m.often(70000, 100))), b)
	case "garbage behind":
		return slices.Concat(b, pick(m, []byte("\x00"), []byte("garbage\r\n\r\n"), bytes.Repeat([]byte("\r\n"), 3000), bytes.Repeat([]byte("GET"), 3000)))
	case "one large header":
		return join(line, fields+"\r\nX-Large: "+strings.Repeat("x", m.often(1<<20, 8<<10, 60<<10, 80<<10)), body)
	case "many headers":
		return join(line, fields+strings.Repeat("\r\nX-A: b", m.often(20000, 200, 3000)), body)
	case "version":
		return join("POST / "+pick(m, "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9", "http/1.1", "HTTP/1.1 x", "HTTP/01.1", "", "XTTP/1.1"), fields, body)
	case "http/0.9":
		return []byte(pick(m, "GET /\r\n\r\n", "POST /\r\n", "GET /\n"))
	case "http/2":
		return []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	case "no host":
		return join(line, strings.TrimPrefix(fields, host+"\r\n"), body)
	case "two hosts":
		return join(line, pick(m, host, "Host: evil", "Host: ", "Host: a/b", "host: \x01")+"\r\n"+fields, body)
	case "line ends":
		return slices.Concat(bytes.ReplaceAll(head, []byte("\r\n"), []byte(pick(m, "\n", "\r", "\n\r"))), []byte("\n\n"), body)
	case "fold":
		return join(line, strings.Replace(fields, ": ", ":\r\n ", 1), body)
	case "nul":
		i := m.IntN(len(head))
		return slices.Concat(b[:i], []byte{pick[byte](m, 0, 1, 0x7f, 0x80, '\r', '\n')}, b[i:])
	case "space":
		return join(line, strings.Replace(fields, ": ", pick(m, " : ", "\t: ", ":", "", ":: "), 1+m.IntN(3)), body)
	case "noise":
		out := make([]byte, 1+m.IntN(5000))
		for i := range out {
			out[i] = byte(m.IntN(256))
		}
		return out
	case "tls":
		return append([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), make([]byte, 512)...)
	case "head bytes":
		return slices.Concat(m.bytes(head), []byte("\r\n\r\n"), body)
	case "method":
		return join(pick(m, "GET", "PUT", "HEAD", "OPTIONS", "CONNECT", "TRACE", "post", "P\x00ST", strings.Repeat("M", 2000), "")+" / HTTP/1.1", fields, body)
	case "path":
		return join("POST "+pick(m, "/x", "//", "/%2e%2e/", "/?X-Amz-Signature=x", "*", "/%zz", "/#f", "http://h:99999/", "x", "/"+strings.Repeat("a", 9000), "/?"+strings.Repeat("a=b&", 2000))+" HTTP/1.1", fields, body)
	case "encoding":
		return with(pick(m, "Transfer-Encoding: gzip", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", length+"\r\nContent-Encoding: gzip", "Transfer-Encoding: \x0bchunked"))
	case "expect":
		return with(length + "\r\nExpect: " + pick(m, "100-continue", "x", "100-continue, x"))
	case "absolute":
		return join("POST "+pick(m, "http://evil.example/", "https://h/", "http://[::1]:80/", "http://h/x")+" HTTP/1.1", fields, body)
	case "trailer":
		return join(line, strings.Replace(fields, length, "Transfer-Encoding: chunked\r\nTrailer: X-Amz-Target", 1), fmt.Appendf(nil, "%x\r\n%s\r\n0\r\nX-Amz-Target: x\r\nAuthorization: y\r\n\r\n", len(body), body))
	}
	panic(form)
}
