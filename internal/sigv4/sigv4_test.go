// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	testID     = "AKIDEXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var testNow = time.Date(2026, 11, 20, 18, 3, 11, 0, time.UTC)

func newVerifier(t testing.TB, now time.Time) *Verifier[string] {
	t.Helper()
	v, err := New(Options[string]{
		Service: "kms",
		Now:     func() time.Time { return now },
		Lookup: func(_ context.Context, id, token string) (Secret, string, error) {
			switch {
			case id == "EXPIRED":
				return Secret{}, "", ErrExpired
			case id == "BROKEN":
				return Secret{}, "", io.ErrUnexpectedEOF
			case id == "UNREADABLE":
				return Secret{Version: 1, Read: func() ([]byte, error) { return nil, io.ErrUnexpectedEOF }}, "", nil
			case id != testID || token != "" && token != "good":
				return Secret{}, "", ErrUnknown
			}
			return Secret{Version: 1, Read: func() ([]byte, error) { return []byte(testSecret), nil }}, "user/anna", nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func unsigned(method, url, body string) *http.Request {
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.Decrypt")
	return r
}

// sign signs with AWS's own signer.
func sign(t testing.TB, r *http.Request, body, id, secret, service, region string, at time.Time) {
	t.Helper()
	sum := sha256.Sum256([]byte(body))
	creds := aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hex.EncodeToString(sum[:]), service, region, at); err != nil {
		t.Fatal(err)
	}
}

func code(err error) Code {
	e, _ := errors.AsType[*Error](err)
	if e == nil {
		return ""
	}
	return e.Code
}

func TestVerifyAcceptsTheSDK(t *testing.T) {
	v := newVerifier(t, testNow)
	for name, build := range map[string]func() (*http.Request, string){
		"kms":        func() (*http.Request, string) { return unsigned("POST", "http://127.0.0.1:8420/", `{}`), `{}` },
		"empty":      func() (*http.Request, string) { return unsigned("GET", "http://kms.example/", ""), "" },
		"path":       func() (*http.Request, string) { return unsigned("GET", "http://kms.example/a%20b/c%2Fd/é", ""), "" },
		"query":      func() (*http.Request, string) { return unsigned("GET", "http://h/?b=2&a=x%20y&a=1&c=%2B*~", ""), "" },
		"spaces":     spaced,
		"two values": twoValues,
		"body hash": func() (*http.Request, string) {
			r := unsigned("POST", "http://h/", "body")
			sum := sha256.Sum256([]byte("body"))
			r.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(sum[:]))
			return r, "body"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, body := build()
			sign(t, r, body, testID, testSecret, "kms", "us-east-1", testNow)
			for range 2 { // the second time with a cached key
				got, err := v.Verify(r.Context(), r, []byte(body))
				if err != nil {
					t.Fatal(err)
				}
				if got.Owner != "user/anna" || got.AccessKeyID != testID || got.Region != "us-east-1" || !got.Time.Equal(testNow) {
					t.Errorf("result %+v", got)
				}
				if !slices.Contains(got.SignedHeaders, "host") {
					t.Errorf("signed headers %v", got.SignedHeaders)
				}
			}
		})
	}
}

func spaced() (*http.Request, string) {
	r := unsigned("POST", "http://h/", "x")
	r.Header.Set("X-Amz-Meta", "  a   b  c ")
	return r, "x"
}

func twoValues() (*http.Request, string) {
	r := unsigned("POST", "http://h/", "x")
	r.Header["X-Amz-Meta"] = []string{"b", "a"}
	return r, "x"
}

// The whole way: what a client sends, as a server of this process receives it.
func TestVerifyOverHTTP(t *testing.T) {
	v := newVerifier(t, testNow)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if _, err := v.Verify(r.Context(), r, body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	defer server.Close()
	for _, body := range []string{"", `{"KeyId":"x"}`} {
		r, err := http.NewRequest("POST", server.URL, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Target", "TrentService.Decrypt")
		sign(t, r, body, testID, testSecret, "kms", "eu-west-1", testNow)
		if body != "" && !strings.Contains(r.Header.Get("Authorization"), "content-length") {
			t.Error("the SDK signed no content-length: this test has lost its point")
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("body %q: %d %s", body, answer.StatusCode, text)
		}
	}
}

func TestVerifyRefusesEveryMutation(t *testing.T) {
	edit := func(old, new string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) {
			auth := r.Header.Get("Authorization")
			if !strings.Contains(auth, old) {
				panic("no " + old + " in " + auth)
			}
			r.Header.Set("Authorization", strings.Replace(auth, old, new, 1))
		}
	}
	header := func(name, value string) func(*http.Request, *[]byte) {
		return func(r *http.Request, _ *[]byte) { r.Header.Set(name, value) }
	}
	for _, test := range []struct {
		name   string
		mutate func(*http.Request, *[]byte)
		want   Code
	}{
		{"method", func(r *http.Request, _ *[]byte) { r.Method = "PUT" }, InvalidSignature},
		{"path", func(r *http.Request, _ *[]byte) { r.URL.Path = "/x" }, InvalidSignature},
		{"query", func(r *http.Request, _ *[]byte) { r.URL.RawQuery = "a=b" }, InvalidSignature},
		{"query unreadable", func(r *http.Request, _ *[]byte) { r.URL.RawQuery = "a=%zz" }, InvalidSignature},
		{"host", func(r *http.Request, _ *[]byte) { r.Host = "other" }, InvalidSignature},
		{"target", header("X-Amz-Target", "TrentService.Encrypt"), InvalidSignature},
		{"content type", header("Content-Type", "text/plain"), InvalidSignature},
		{"header gone", func(r *http.Request, _ *[]byte) { r.Header.Del("X-Amz-Target") }, InvalidSignature},
		{"header twice", func(r *http.Request, _ *[]byte) { r.Header.Add("X-Amz-Target", "TrentService.Decrypt") }, InvalidSignature},
		{"header added", header("X-Amz-Extra", "1"), InvalidSignature},
		{"token added", header("X-Amz-Security-Token", "good"), InvalidSignature},
		{"content hash", header("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), InvalidSignature},
		{"body", func(_ *http.Request, b *[]byte) { (*b)[0] ^= 1 }, InvalidSignature},
		{"body longer", func(_ *http.Request, b *[]byte) { *b = append(*b, ' ') }, InvalidSignature},
		{"body gone", func(_ *http.Request, b *[]byte) { *b = nil }, InvalidSignature},
		{"date", header("X-Amz-Date", "20261120T180312Z"), InvalidSignature},
		{"date of yesterday", header("X-Amz-Date", "20261119T180311Z"), InvalidSignature},
		{"date without form", header("X-Amz-Date", "2026-11-20"), IncompleteSignature},
		{"date gone", func(r *http.Request, _ *[]byte) { r.Header.Del("X-Amz-Date") }, IncompleteSignature},
		{"date twice", func(r *http.Request, _ *[]byte) { r.Header.Add("X-Amz-Date", "20261120T180311Z") }, IncompleteSignature},
		{"scope's date", edit("/20261120/", "/20261119/"), InvalidSignature},
		{"scope's date without form", edit("/20261120/", "/2026/"), InvalidSignature},
		{"region", edit("us-east-1", "us-east-2"), InvalidSignature},
		{"region without form", edit("us-east-1", "US EAST"), InvalidSignature},
		{"service", edit("/kms/", "/s3/"), InvalidSignature},
		{"terminator", edit("aws4_request", "aws4"), InvalidSignature},
		{"four elements", edit("/kms/", "/"), IncompleteSignature},
		{"access key", edit(testID, "AKIDOTHER"), UnrecognizedClient},
		{"access key empty", edit(testID, ""), IncompleteSignature},
		{"access key strange", edit(testID, "AK\x00ID"), IncompleteSignature},
		{"session over", edit(testID, "EXPIRED"), ExpiredToken},
		{"signature", flipSignature, InvalidSignature},
		{"signature short", edit("Signature=", "Signature=0"), IncompleteSignature},
		{"signature no hex", edit("Signature=", "Signature=g"), IncompleteSignature},
		{"signature empty", func(r *http.Request, b *[]byte) {
			auth, _, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", auth+"Signature=")
		}, IncompleteSignature},
		{"signature upper case", func(r *http.Request, b *[]byte) {
			before, after, _ := strings.Cut(r.Header.Get("Authorization"), "Signature=")
			r.Header.Set("Authorization", before+"Signature="+strings.ToUpper(after))
		}, IncompleteSignature},
		{"no signature part", edit(", Signature=", ", SignedHeaders="), IncompleteSignature},
		{"no credential part", edit("Credential=", "Signature="), IncompleteSignature},
		{"no list", edit("SignedHeaders=", "Signed="), IncompleteSignature},
		{"host not signed", edit("content-type;host;", "content-type;"), InvalidSignature},
		{"host not signed, length", edit(";host;", ";"), InvalidSignature},
		{"target not signed", edit(";x-amz-target", ""), InvalidSignature},
		{"date not signed", edit(";x-amz-date", ""), InvalidSignature},
		{"list unsorted", edit("content-type;host", "host;content-type"), IncompleteSignature},
		{"list twice", edit("host;", "host;host;"), IncompleteSignature},
		{"list upper case", edit("host;", "Host;"), IncompleteSignature},
		{"list with nothing", edit("host;", "host;;"), IncompleteSignature},
		{"list names what is not there", edit("host;", "host;x-absent;"), InvalidSignature},
		{"list names itself", edit("SignedHeaders=", "SignedHeaders=authorization;"), InvalidSignature},
		{"list too long", edit("host;", "host;"+manyNames()), IncompleteSignature},
		{"credential twice", edit(algorithm+" ", algorithm+" Credential=a, "), IncompleteSignature},
		{"signature twice", edit(algorithm+" ", algorithm+" Signature=a, "), IncompleteSignature},
		{"unknown part", edit(algorithm+" ", algorithm+" Extra=a, "), IncompleteSignature},
		{"part without value", edit(algorithm+" ", algorithm+" Extra, "), IncompleteSignature},
		{"algorithm", edit(algorithm, "AWS4-ECDSA-P256-SHA256"), IncompleteSignature},
		{"basic", header("Authorization", "Basic YTpi"), IncompleteSignature},
		{"empty", header("Authorization", ""), IncompleteSignature},
		{"too long", header("Authorization", algorithm+" "+strings.Repeat("a", maxAuthorization)), IncompleteSignature},
		{"two headers", func(r *http.Request, _ *[]byte) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, IncompleteSignature},
		{"none", func(r *http.Request, _ *[]byte) { r.Header.Del("Authorization") }, MissingAuthenticationToken},
		{"uri too long", func(r *http.Request, _ *[]byte) { r.URL.Path = "/" + strings.Repeat("a", maxURI) }, InvalidSignature},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := newVerifier(t, testNow)
			body := []byte(`{"KeyId":"x"}`)
			r := unsigned("POST", "http://127.0.0.1:8420/", string(body))
			sign(t, r, string(body), testID, testSecret, "kms", "us-east-1", testNow)
			if _, err := v.Verify(r.Context(), r, body); err != nil {
				t.Fatal(err)
			}
			test.mutate(r, &body)
			got, err := v.Verify(r.Context(), r, body)
			if code(err) != test.want || got != nil {
				t.Errorf("got %v, %v, want %s", got, err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), testSecret) {
				t.Error("the secret is in the message")
			}
		})
	}
}

func flipSignature(r *http.Request, _ *[]byte) {
	auth := []byte(r.Header.Get("Authorization"))
	last := &auth[len(auth)-1]
	if *last == '0' {
		*last = '1'
	} else {
		*last = '0'
	}
	r.Header.Set("Authorization", string(auth))
}

func manyNames() string {
	var b strings.Builder
	for i := range maxSigned {
		b.WriteString("i" + string(rune('a'+i/26)) + string(rune('a'+i%26)) + ";")
	}
	return b.String()
}

func TestVerifyWithAnotherSecretOrService(t *testing.T) {
	v := newVerifier(t, testNow)
	r := unsigned("POST", "http://h/", "")
	sign(t, r, "", testID, "another secret", "kms", "us-east-1", testNow)
	if _, err := v.Verify(r.Context(), r, nil); code(err) != InvalidSignature {
		t.Errorf("another secret: %v", err)
	}
	sign(t, r, "", testID, testSecret, "sts", "us-east-1", testNow)
	if _, err := v.Verify(r.Context(), r, nil); code(err) != InvalidSignature {
		t.Errorf("another service: %v", err)
	}
}

func TestSessionToken(t *testing.T) {
	v := newVerifier(t, testNow)
	for token, want := range map[string]Code{"good": "", "bad": UnrecognizedClient} {
		r := unsigned("POST", "http://h/", "")
		r.Header.Set("X-Amz-Security-Token", token)
		sign(t, r, "", testID, testSecret, "kms", "us-east-1", testNow)
		if _, err := v.Verify(r.Context(), r, nil); code(err) != want {
			t.Errorf("token %s: %v", token, err)
		}
	}
}

func TestLookupFailure(t *testing.T) {
	for _, id := range []string{"BROKEN", "UNREADABLE"} {
		r := unsigned("POST", "http://h/", "")
		sign(t, r, "", id, testSecret, "kms", "us-east-1", testNow)
		if _, err := newVerifier(t, testNow).Verify(r.Context(), r, nil); !errors.Is(err, io.ErrUnexpectedEOF) || code(err) != "" {
			t.Errorf("%s: got %v", id, err)
		}
	}
}

// A secret is read when its version is new, and after a signature that it did not
// verify; a key of a former version verifies nothing.
func TestSecretVersions(t *testing.T) {
	secret, version, reads := testSecret, 1, 0
	v, err := New(Options[int]{
		Service: "kms", Now: func() time.Time { return testNow },
		Lookup: func(context.Context, string, string) (Secret, int, error) {
			return Secret{Version: version, Read: func() ([]byte, error) { reads++; return []byte(secret), nil }}, 0, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	try := func(signedWith string, want Code, wantReads int) {
		t.Helper()
		r := unsigned("POST", "http://h/", "")
		sign(t, r, "", testID, signedWith, "kms", "us-east-1", testNow)
		if _, err := v.Verify(r.Context(), r, nil); code(err) != want || reads != wantReads {
			t.Errorf("%v, %d reads, want %q, %d", err, reads, want, wantReads)
		}
	}
	try("wrong", InvalidSignature, 1)
	try(testSecret, "", 2)
	try(testSecret, "", 2)
	try("wrong", InvalidSignature, 2)
	secret, version = "another", 2
	try(testSecret, InvalidSignature, 3)
	try("another", "", 4)
	try("another", "", 4)
	try(testSecret, InvalidSignature, 4)
}

func TestSkew(t *testing.T) {
	for _, test := range []struct {
		offset time.Duration
		want   string
	}{
		{0, ""}, {5 * time.Minute, ""}, {-5 * time.Minute, ""},
		{5*time.Minute + time.Second, "InvalidSignatureException: Signature expired: 20261120T180311Z is now earlier than 20261120T180312Z (20261120T180812Z - 5 min.)"},
		{-5*time.Minute - time.Second, "InvalidSignatureException: Signature not yet current: 20261120T180311Z is still later than 20261120T180310Z (20261120T175810Z + 5 min.)"},
	} {
		r := unsigned("POST", "http://h/", "")
		sign(t, r, "", testID, testSecret, "kms", "us-east-1", testNow)
		_, err := newVerifier(t, testNow.Add(test.offset)).Verify(r.Context(), r, nil)
		if got := ""; err != nil {
			if got = err.Error(); got != test.want {
				t.Errorf("%v: %s, want %s", test.offset, got, test.want)
			}
		} else if test.want != "" {
			t.Errorf("%v: accepted", test.offset)
		}
	}
}

// A request without X-Amz-Date, signed here by hand: no SDK makes one.
func TestDateHeader(t *testing.T) {
	v := newVerifier(t, testNow)
	build := func(date, signedHeaders string) *http.Request {
		r := httptest.NewRequest("GET", "http://h/", nil)
		r.Header.Set("Date", date)
		q := request{time: testNow}
		q.scope = "20261120/us-east-1/kms/aws4_request"
		q.signedHeaders = strings.Split(signedHeaders, ";")
		if refusal := q.canonicalize(r, nil); refusal != nil {
			t.Fatal(refusal)
		}
		key := deriveKey([]byte(testSecret), "20261120", "us-east-1", "kms")
		signature := mac(key[:], q.stringToSign())
		r.Header.Set("Authorization", algorithm+" Credential="+testID+"/"+q.scope+
			",SignedHeaders="+signedHeaders+",Signature="+hex.EncodeToString(signature[:]))
		return r
	}
	for _, date := range []string{testNow.Format(http.TimeFormat), testNow.Format(basicFormat)} {
		if _, err := v.Verify(t.Context(), build(date, "date;host"), nil); err != nil {
			t.Errorf("%s: %v", date, err)
		}
	}
	if _, err := v.Verify(t.Context(), build(testNow.Format(basicFormat), "host"), nil); code(err) != InvalidSignature {
		t.Errorf("date not signed: %v", err)
	}
}

func TestKeyCache(t *testing.T) {
	var c keyCache
	id := keyID{"a", "b", "c"}
	c.put(id, "version 1", [32]byte{1})
	if key, ok := c.get(id, "version 1"); !ok || key != [32]byte{1} {
		t.Error("a cached key is not found")
	}
	if _, ok := c.get(id, "version 2"); ok {
		t.Error("a key of a former secret is used")
	}
	c.put(id, nil, [32]byte{2})
	if _, ok := c.get(id, nil); ok {
		t.Error("a key of a secret without a version is used")
	}
	for i := range maxKeys + 10 {
		c.put(keyID{region: strings.Repeat("x", i)}, nil, [32]byte{})
	}
	if len(c.keys) > maxKeys {
		t.Errorf("%d keys in the cache", len(c.keys))
	}
}

func TestNewRefusesHalfOptions(t *testing.T) {
	lookup := func(context.Context, string, string) (Secret, int, error) { return Secret{}, 0, nil }
	for _, o := range []Options[int]{{}, {Service: "kms"}, {Lookup: lookup}, {Service: "kms", Lookup: lookup, Skew: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func FuzzAuthorization(f *testing.F) {
	r := unsigned("POST", "http://h/", "")
	sign(f, r, "", testID, testSecret, "kms", "us-east-1", testNow)
	seeds := []string{
		r.Header.Get("Authorization"), algorithm, algorithm + " Credential=a/20260101/r/kms/aws4_request, SignedHeaders=host, Signature=" + strings.Repeat("0", 64),
		algorithm + " Credential=,,=,Signature=", "",
	}
	if seeds[0] == "" {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	v := newVerifier(f, testNow)
	genuine := seeds[0]
	f.Fuzz(func(t *testing.T, s string) {
		a, refusal := parseAuthorization(s, "kms")
		if refusal != nil {
			if a.accessKeyID != "" || a.signedHeaders != nil || refusal.Message == "" {
				t.Fatalf("a refusal with a result: %+v", a)
			}
		} else if again, refusal := parseAuthorization(format(a), "kms"); refusal != nil || format(again) != format(a) {
			t.Fatalf("not read back: %v", refusal)
		}
		r := unsigned("POST", "http://h/", "")
		r.Header.Set("X-Amz-Date", testNow.Format(basicFormat))
		r.Header["Authorization"] = []string{s}
		if _, err := v.Verify(r.Context(), r, nil); err == nil && format(a) != genuineForm(genuine) {
			t.Fatalf("a forged header was accepted: %q", s)
		}
	})
}

func genuineForm(s string) string {
	a, _ := parseAuthorization(s, "kms")
	return format(a)
}

func format(a authorization) string {
	return algorithm + " Credential=" + a.accessKeyID + "/" + a.scope + ", SignedHeaders=" + strings.Join(a.signedHeaders, ";") +
		", Signature=" + hex.EncodeToString(a.signature[:])
}

func BenchmarkVerify(b *testing.B) {
	v := newVerifier(b, testNow)
	body := bytes.Repeat([]byte("x"), 6<<10)
	r := unsigned("POST", "http://127.0.0.1:8420/", string(body))
	sign(b, r, string(body), testID, testSecret, "kms", "us-east-1", testNow)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r.Context(), r, body); err != nil {
			b.Fatal(err)
		}
	}
}
