// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cretula/cretula/internal/need"
)

// presign signs a request in its query with AWS's own signer, and returns it as a
// server gets it.
func presign(t testing.TB, r *http.Request, body, token, service string, at time.Time) *http.Request {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	creds := aws.Credentials{AccessKeyID: testID, SecretAccessKey: testSecret, SessionToken: token}
	uri, header, err := v4.NewSigner().PresignHTTP(context.Background(), creds, r, hex.EncodeToString(sum[:]), service, "us-east-1", at)
	if err != nil {
		t.Fatal(err)
	}
	signed := httptest.NewRequest(r.Method, uri, strings.NewReader(body))
	signed.Header = header
	signed.Header.Del("Host")
	return signed
}

func TestVerifyAcceptsPresigned(t *testing.T) {
	for name, c := range map[string]struct {
		method, uri, body, token string
		header                   string
		late                     time.Duration
	}{
		"plain":           {"GET", "https://kms.example/?Action=X&Version=1", "", "", "", 0},
		"session":         {"GET", "https://kms.example/?Action=X", "", "good", "", 0},
		"header":          {"GET", "https://kms.example/?a=b%20c&a=*~", "", "", "X-K8s-Aws-Id", 0},
		"body":            {"POST", "https://kms.example/", "some body", "", "", 0},
		"late":            {"GET", "https://kms.example/?X-Amz-Expires=60", "", "", "", time.Minute},
		"longer than us":  {"GET", "https://kms.example/?X-Amz-Expires=604800", "", "", "", 15 * time.Minute},
		"without expires": {"GET", "https://kms.example/", "", "", "", 5 * time.Minute},
		"early":           {"GET", "https://kms.example/?X-Amz-Expires=60", "", "", "", -5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(c.method, c.uri, strings.NewReader(c.body))
			if c.header != "" {
				r.Header.Set(c.header, "value")
			}
			signed := presign(t, r, c.body, c.token, "kms", testNow)
			if c.token != "" && !strings.Contains(signed.URL.RawQuery, "X-Amz-Security-Token=good") {
				t.Error("the token is not in the query: this test has lost its point")
			}
			for range 2 {
				got, err := newVerifier(t, testNow.Add(c.late)).Verify(signed.Context(), signed, []byte(c.body))
				if err != nil || got.Owner != "user/anna" || got.Region != "us-east-1" || !got.Time.Equal(testNow) {
					t.Fatalf("%+v, %v", got, err)
				}
			}
		})
	}
}

func TestVerifyRefusesPresignedMutations(t *testing.T) {
	query := func(change func(url.Values)) func(*http.Request) {
		return func(r *http.Request) {
			q := r.URL.Query()
			change(q)
			r.URL.RawQuery = q.Encode()
		}
	}
	set := func(name, value string) func(*http.Request) { return query(func(q url.Values) { q.Set(name, value) }) }
	add := func(name, value string) func(*http.Request) { return query(func(q url.Values) { q.Add(name, value) }) }
	del := func(name string) func(*http.Request) { return query(func(q url.Values) { q.Del(name) }) }
	for name, c := range map[string]struct {
		mutate func(*http.Request)
		want   Code
	}{
		"nothing":                {func(*http.Request) {}, ""},
		"method":                 {func(r *http.Request) { r.Method = "POST" }, InvalidSignature},
		"path":                   {func(r *http.Request) { r.URL.Path = "/x" }, InvalidSignature},
		"host":                   {func(r *http.Request) { r.Host = "other" }, InvalidSignature},
		"parameter":              {set("Action", "Y"), InvalidSignature},
		"parameter added":        {add("More", "Y"), InvalidSignature},
		"parameter twice":        {add("Action", "X"), InvalidSignature},
		"parameter gone":         {del("Action"), InvalidSignature},
		"expires":                {set("X-Amz-Expires", "61"), InvalidSignature},
		"expires gone":           {del("X-Amz-Expires"), InvalidSignature},
		"expires 0":              {set("X-Amz-Expires", "0"), IncompleteSignature},
		"expires too long":       {set("X-Amz-Expires", "604801"), IncompleteSignature},
		"expires no number":      {set("X-Amz-Expires", "-1"), IncompleteSignature},
		"expires twice":          {add("X-Amz-Expires", "60"), IncompleteSignature},
		"token gone":             {del("X-Amz-Security-Token"), InvalidSignature},
		"token twice":            {add("X-Amz-Security-Token", "good"), IncompleteSignature},
		"token of another":       {set("X-Amz-Security-Token", "bad"), UnrecognizedClient},
		"token in a header":      {func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "good") }, IncompleteSignature},
		"date":                   {set("X-Amz-Date", "20261120T180312Z"), InvalidSignature},
		"date of yesterday":      {set("X-Amz-Date", "20261119T180311Z"), InvalidSignature},
		"date without form":      {set("X-Amz-Date", "now"), IncompleteSignature},
		"date in HTTP's form":    {set("X-Amz-Date", testNow.Format(http.TimeFormat)), IncompleteSignature},
		"date gone":              {del("X-Amz-Date"), IncompleteSignature},
		"date twice":             {add("X-Amz-Date", "20261120T180311Z"), IncompleteSignature},
		"algorithm":              {set("X-Amz-Algorithm", "AWS4-ECDSA-P256-SHA256"), IncompleteSignature},
		"algorithm gone":         {del("X-Amz-Algorithm"), IncompleteSignature},
		"credential gone":        {del("X-Amz-Credential"), IncompleteSignature},
		"credential twice":       {add("X-Amz-Credential", "a"), IncompleteSignature},
		"credential":             {set("X-Amz-Credential", "AKIDOTHER/20261120/us-east-1/kms/aws4_request"), UnrecognizedClient},
		"service":                {set("X-Amz-Credential", testID+"/20261120/us-east-1/sts/aws4_request"), InvalidSignature},
		"signature gone":         {del("X-Amz-Signature"), IncompleteSignature},
		"signature":              {set("X-Amz-Signature", strings.Repeat("0", 64)), InvalidSignature},
		"signature short":        {set("X-Amz-Signature", "00"), IncompleteSignature},
		"signature twice":        {add("X-Amz-Signature", "00"), IncompleteSignature},
		"headers gone":           {del("X-Amz-SignedHeaders"), IncompleteSignature},
		"host not signed":        {set("X-Amz-SignedHeaders", "x-k8s"), InvalidSignature},
		"header not there":       {set("X-Amz-SignedHeaders", "host;x-k8s"), InvalidSignature},
		"unsigned header":        {func(r *http.Request) { r.Header.Set("X-Amz-Target", "x") }, InvalidSignature},
		"a header's signature":   {func(r *http.Request) { r.Header.Set("Authorization", algorithm+" Credential=a") }, IncompleteSignature},
		"query that is too long": {add("x", strings.Repeat("x", maxURI)), InvalidSignature},
		"query without form":     {func(r *http.Request) { r.URL.RawQuery += "&a=%zz" }, InvalidSignature},
		"none":                   {func(r *http.Request) { r.URL.RawQuery = "Action=X" }, MissingAuthenticationToken},
	} {
		t.Run(name, func(t *testing.T) {
			signed := presign(t, httptest.NewRequest("GET", "https://kms.example/?Action=X&X-Amz-Expires=60", nil), "", "good", "kms", testNow)
			c.mutate(signed)
			if _, err := newVerifier(t, testNow).Verify(signed.Context(), signed, nil); code(err) != c.want {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	signed := presign(t, httptest.NewRequest("GET", "https://kms.example/?Action=X&X-Amz-Expires=60", nil), "", "", "kms", testNow)
	if _, err := newVerifier(t, testNow).Verify(signed.Context(), signed, []byte("a body")); code(err) != InvalidSignature {
		t.Errorf("a body that is not signed: %v", err)
	}
	for late, want := range map[time.Duration]string{
		61 * time.Second:             "InvalidSignatureException: Signature expired: 20261120T180311Z is now earlier than 20261120T180312Z (20261120T180412Z - 1 min.)",
		-5*time.Minute - time.Second: "InvalidSignatureException: Signature not yet current: 20261120T180311Z is still later than 20261120T180310Z (20261120T175810Z + 5 min.)",
	} {
		if _, err := newVerifier(t, testNow.Add(late)).Verify(signed.Context(), signed, nil); err == nil || err.Error() != want {
			t.Errorf("%v: %v", late, err)
		}
	}
	long := presign(t, httptest.NewRequest("GET", "https://kms.example/?X-Amz-Expires=604800", nil), "", "", "kms", testNow)
	if _, err := newVerifier(t, testNow.Add(15*time.Minute+time.Second)).Verify(long.Context(), long, nil); code(err) != InvalidSignature {
		t.Errorf("good for longer than 15 minutes: %v", err)
	}
}

// Botocore signs in the query too, in its own way of encoding.
func TestVerifyAcceptsBotocore(t *testing.T) {
	python := need.Program(t, "python3")
	if err := exec.Command(python, "-c", "import botocore").Run(); err != nil {
		t.Skip("python3 has no botocore")
	}
	const script = `
import json, sys
from botocore.auth import SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
out = []
for url in ["https://sts.example/?Action=GetCallerIdentity&Version=2011-06-15", "https://sts.example/?a=b%20c&b=%2B%2F%3D&c=~%2A"]:
    for token in [None, "good"]:
        r = AWSRequest(method="GET", url=url, headers={"x-k8s-aws-id": "cluster  one"})
        SigV4QueryAuth(Credentials("` + testID + `", "` + testSecret + `", token), "kms", "us-east-1", expires=60).add_auth(r)
        out.append({"url": r.url, "headers": dict(r.headers.items())})
        r = AWSRequest(method="POST", url=url, data=b"x", headers={"x-k8s-aws-id": "cluster  one"})
        SigV4Auth(Credentials("` + testID + `", "` + testSecret + `", token), "kms", "us-east-1").add_auth(r)
        out.append({"url": url, "body": "x", "headers": dict(r.headers.items())})
print(json.dumps(out))`
	text, err := exec.Command(python, "-c", script).Output()
	if err != nil {
		t.Fatal(err)
	}
	var requests []struct {
		URL, Body string
		Headers   map[string]string
	}
	if err := json.Unmarshal(text, &requests); err != nil || len(requests) != 8 {
		t.Fatalf("%v: %s", err, text)
	}
	for _, c := range requests {
		method := "GET"
		if c.Body != "" {
			method = "POST"
		}
		r := httptest.NewRequest(method, c.URL, strings.NewReader(c.Body))
		for name, value := range c.Headers {
			r.Header.Set(name, value)
		}
		if _, err := newVerifier(t, time.Now()).Verify(r.Context(), r, []byte(c.Body)); err != nil {
			t.Errorf("%s %s: %v", method, c.URL, err)
		}
	}
}

func FuzzQuery(f *testing.F) {
	genuine := presign(f, httptest.NewRequest("GET", "https://kms.example/?Action=X&X-Amz-Expires=60", nil), "", "good", "kms", testNow).URL.RawQuery
	seeds := []string{genuine, "", "X-Amz-Signature=", "X-Amz-Algorithm=" + algorithm + "&X-Amz-Credential=a%2F20261120%2Fr%2Fkms%2Faws4_request&X-Amz-Date=20261120T180311Z&X-Amz-SignedHeaders=host&X-Amz-Signature=" + strings.Repeat("0", 64)}
	if !strings.Contains(genuine, "X-Amz-Signature=") {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	v := newVerifier(f, testNow)
	want, err := canonicalQuery(genuine, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "https://kms.example/", nil)
		r.URL.RawQuery = query
		got, err := v.Verify(r.Context(), r, nil)
		if err != nil {
			if got != nil || code(err) == "" {
				t.Fatalf("%v, %v", got, err)
			}
			return
		}
		if form, err := canonicalQuery(query, false); err != nil || form != want {
			t.Fatalf("a forged query was accepted: %q", query)
		}
	})
}
