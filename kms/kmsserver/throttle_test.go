// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
)

// limited puts a handler with limits and metrics over a service and has clients go
// there.
func limited(t testing.TB, o kmsserver.LimitOptions, change ...func(*kms.Config)) (*service, *kmsserver.Metrics) {
	t.Helper()
	metrics := kmsserver.NewMetrics()
	o.Metrics = metrics
	limits := kmsserver.NewLimits(o)
	change = append(change, func(c *kms.Config) { c.AllowCertificates = limits.AllowCertificates })
	s := newService(t, change...)
	metrics.Watch(s.kms, nil)
	handler, err := kmsserver.New(kmsserver.Config{KMS: s.kms, Logger: slog.New(slog.NewTextHandler(s.log, nil)), Limits: limits, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s, metrics
}

func scrape(t testing.TB, m *kmsserver.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d, %v: %s", w.Code, err, text)
	}
	return string(text)
}

func wantMetric(t testing.TB, m *kmsserver.Metrics, line string) {
	t.Helper()
	if text := scrape(t, m); !strings.Contains(text, "\n"+line+"\n") {
		t.Errorf("no line %q in\n%s", line, text)
	}
}

// TestThrottled: beyond the limit clients get AWS's exception in AWS's words, which
// AWS's SDKs try again, and other principals notice nothing.
func TestThrottled(t *testing.T) {
	var now atomic.Int64
	began := time.Now()
	s, metrics := limited(t, kmsserver.LimitOptions{
		Operations: map[string]float64{"DescribeKey": 1}, UnknownCertificates: 40, Unauthenticated: 20,
		Now: func() time.Time { return began.Add(time.Duration(now.Load())) },
	})
	key := s.key("")
	c := s.adminClient()
	describe := func(c *awskms.Client) error {
		_, err := c.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &key})
		return err
	}
	for range 5 {
		if err := describe(c); err != nil {
			t.Fatal(err)
		}
	}
	err := describe(c)
	code, message, status, decision := refused(t, err)
	if code != "ThrottlingException" || status != 400 || decision != "" ||
		message != "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls." {
		t.Errorf("%s, %q, %d, %q", code, message, status, decision)
	}
	standard := retry.NewStandard()
	if !standard.IsErrorRetryable(err) {
		t.Error("the SDK would not try again")
	}
	other := s.client(s.principal(kms.User, "other", kms.AdminPolicy), region)
	if err := describe(other); err != nil {
		t.Errorf("another principal: %v", err)
	}
	if _, err := c.GetKeyPolicy(t.Context(), &awskms.GetKeyPolicyInput{KeyId: &key}); err != nil {
		t.Errorf("another operation: %v", err)
	}
	wantMetric(t, metrics, `cretula_kms_throttled_total{limit="operation"} 1`)
	wantMetric(t, metrics, `cretula_kms_requests_total{code="ThrottlingException",operation="DescribeKey",reason=""} 1`)

	// The SDK's own retryer gets through once time has gone on.
	attempts := 0
	patient := s.client(s.admin, region)
	_, err = patient.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &key}, func(o *awskms.Options) {
		o.Retryer = retry.NewStandard(func(so *retry.StandardOptions) {
			so.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) {
				attempts++
				now.Add(int64(600 * time.Millisecond))
				return 0, nil
			})
		})
	})
	if err != nil || attempts != 2 {
		t.Errorf("with the SDK's retryer: %v after %d delays", err, attempts)
	}
}

// TestThrottledCertificates: documents of chains that were not seen before are
// bounded, before their signatures are checked; those of known chains are not.
func TestThrottledCertificates(t *testing.T) {
	asked := 0
	s, metrics := limited(t, kmsserver.LimitOptions{UnknownCertificates: 0.001, Unauthenticated: 20})
	key := s.key("")
	c := s.adminClient()
	in := &awskms.GenerateDataKeyInput{KeyId: &key, KeySpec: "AES_256", Recipient: recipient(document(t))}
	if _, err := c.GenerateDataKey(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	asked++ // four of the five
	for range 3 {
		if _, err := c.GenerateDataKey(t.Context(), in); err != nil {
			t.Errorf("a document of a known chain: %v", err)
		}
	}
	for {
		in.Recipient = recipient(document(t)) // a new leaf each
		before := s.kms.Stats().Caches["certificates"].Entries
		_, err := c.GenerateDataKey(t.Context(), in)
		if err == nil && asked < 5 {
			asked++
			continue
		}
		wantCode(t, err, "ThrottlingException")
		if after := s.kms.Stats().Caches["certificates"].Entries; after != before {
			t.Errorf("the document was checked: %d certificates remembered, then %d", before, after)
		}
		break
	}
	if asked != 2 {
		t.Errorf("%d chains, want two: four certificates, then one leaf", asked)
	}
	wantMetric(t, metrics, `cretula_kms_throttled_total{limit="certificates"} 1`)
}

// TestThrottledUnauthenticated: who has no key is slowed down, who has one is not.
func TestThrottledUnauthenticated(t *testing.T) {
	s, metrics := limited(t, kmsserver.LimitOptions{UnknownCertificates: 40, Unauthenticated: 0.001})
	key := s.key("") // the administrator's key is known now
	wrong := s.client(kms.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "x"}, region)
	forged := s.client(kms.Credentials{AccessKeyID: s.admin.AccessKeyID, SecretAccessKey: "x"}, region)
	call := func(c *awskms.Client) error {
		_, err := c.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &key})
		return err
	}
	for range 5 {
		wantCode(t, call(wrong), "UnrecognizedClientException")
	}
	wantCode(t, call(wrong), "ThrottlingException")
	wantCode(t, call(forged), "ThrottlingException")
	if err := call(s.adminClient()); err != nil {
		t.Errorf("the administrator: %v", err)
	}
	wantMetric(t, metrics, `cretula_kms_throttled_total{limit="unauthenticated"} 2`)
	wantMetric(t, metrics, `cretula_kms_authentication_failures_total{code="UnrecognizedClientException"} 5`)
}

// TestMetricLabels: no name of a principal, key or client is in the metrics, however
// hostile it is, and the number of series is bounded.
func TestMetricLabels(t *testing.T) {
	s, metrics := limited(t, kmsserver.LimitOptions{UnknownCertificates: 40, Unauthenticated: 1e6})
	key := s.key("")
	c := s.client(s.principal(kms.User, "mallory"), region)
	if _, err := c.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &key}); err == nil {
		t.Error("allowed")
	}
	bad := document(t)
	bad[len(bad)-1] ^= 1
	_, err := s.adminClient().GenerateDataKey(t.Context(), &awskms.GenerateDataKeyInput{KeyId: &key, KeySpec: "AES_256", Recipient: recipient(bad)})
	wantCode(t, err, "ValidationException")
	series := strings.Count(scrape(t, metrics), "\n")
	for i := range 50 {
		r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "TrentService.Operation"+strings.Repeat("x", i))
		r.Header.Set("User-Agent", "mallory")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
	}
	text := scrape(t, metrics)
	if grown := strings.Count(text, "\n") - series; grown > 40 {
		t.Errorf("%d more lines", grown)
	}
	if found := regexp.MustCompile(`mallory|AKIA|arn:|[0-9a-f]{8}-[0-9a-f]{4}|127\.0\.0\.1`).FindString(text); found != "" {
		t.Errorf("%q is in the metrics", found)
	}
	for _, line := range []string{
		`cretula_kms_requests_total{code="UnknownOperationException",operation="none",reason=""} 50`,
		`cretula_kms_requests_total{code="AccessDeniedException",operation="DescribeKey",reason=""} 1`,
		`cretula_kms_requests_total{code="ValidationException",operation="GenerateDataKey",reason="bad-signature"} 1`,
		`cretula_kms_requests_total{code="OK",operation="CreateKey",reason=""} 1`,
		`cretula_kms_emulated 1`, `cretula_kms_requests_in_flight 0`,
	} {
		wantMetric(t, metrics, line)
	}
}
