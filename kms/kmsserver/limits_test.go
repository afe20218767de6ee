// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// A clock stands still until it is set forward.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newClock() *clock { return &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func caller(id, source string) *kms.Caller {
	return &kms.Caller{Principal: kms.Principal{ID: id}, SourceIP: source}
}

// TestDefaultRates: every operation has a rate that somebody chose, but for those
// that are not of use or cost nothing.
func TestDefaultRates(t *testing.T) {
	rates := DefaultRates()
	for name := range rates {
		if kmsapi.Lookup(name) == nil {
			t.Errorf("%s is no operation", name)
		}
	}
	for _, op := range kmsapi.Operations() {
		if _, chosen := rates[op.Name]; !chosen && op.TakesRecipient() {
			t.Errorf("%s has no rate", op.Name)
		}
	}
}

func TestOperationLimit(t *testing.T) {
	c := newClock()
	l := NewLimits(LimitOptions{Operations: map[string]float64{"Decrypt": 10}, Now: c.now})
	count := func(who, operation string) (n int) {
		for range 100 {
			if l.allowOperation(caller(who, ""), operation) {
				n++
			}
		}
		return n
	}
	if n := count("a", "Decrypt"); n != 10 {
		t.Errorf("a burst of %d", n)
	}
	if n := count("b", "Decrypt"); n != 10 {
		t.Errorf("another principal: %d", n)
	}
	if n := count("a", "CreateKey"); n != minBurst {
		t.Errorf("another operation: %d", n)
	}
	c.at = c.at.Add(300 * time.Millisecond)
	if n := count("a", "Decrypt"); n != 3 {
		t.Errorf("after 0.3 s: %d", n)
	}
	c.at = c.at.Add(time.Hour)
	if n := count("a", "Decrypt"); n != 10 {
		t.Errorf("after an hour: %d", n)
	}
	if n := count("a", "NoSuchOperation"); n != 100 {
		t.Errorf("an operation without a rate: %d", n)
	}
	l = NewLimits(LimitOptions{NoOperations: true, Now: c.now})
	if n := count("a", "GetParametersForImport"); n != 100 {
		t.Errorf("no limits: %d", n)
	}
	l = nil
	if n := count("a", "GetParametersForImport"); n != 100 || !l.AllowCertificates(caller("a", ""), 4) {
		t.Errorf("nil: %d", n)
	}
}

func TestCertificateLimit(t *testing.T) {
	c := newClock()
	l := NewLimits(LimitOptions{UnknownCertificates: 8, Now: c.now})
	for i, want := range []bool{true, true, false, false} {
		if got := l.AllowCertificates(caller("a", "192.0.2.1"), 4); got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if l.AllowCertificates(caller("b", "192.0.2.1"), 4) {
		t.Error("another principal at the same address")
	}
	if l.AllowCertificates(caller("a", "192.0.2.2"), 4) {
		t.Error("the same principal at another address")
	}
	if !l.AllowCertificates(caller("c", "192.0.2.3"), 4) {
		t.Error("another principal at another address")
	}
	c.at = c.at.Add(time.Second)
	if !l.AllowCertificates(caller("a", "192.0.2.1"), 4) {
		t.Error("a second later")
	}
	// One that costs more than a bucket holds waits for a full one.
	l = NewLimits(LimitOptions{UnknownCertificates: 0.5, Now: c.now})
	if !l.AllowCertificates(caller("a", "192.0.2.1"), 9) || l.AllowCertificates(caller("a", "192.0.2.1"), 1) {
		t.Error("more than the bucket holds")
	}
}

func signedBy(id, source string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.RemoteAddr = source
	if id != "" {
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+id+"/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=00")
	}
	return r
}

func TestUnprovenLimit(t *testing.T) {
	c := newClock()
	l := NewLimits(LimitOptions{Unauthenticated: 2, Now: c.now})
	const source, other = "192.0.2.1:1000", "192.0.2.2:1000"
	l.authentic(&kms.Caller{AccessKeyID: "AKIAGOOD"})
	for range minBurst { // unsigned ones spend
		if allowed, _ := l.allowUnproven(signedBy("", source)); !allowed {
			t.Fatal("refused too early")
		}
	}
	for name, r := range map[string]*http.Request{
		"unsigned": signedBy("", source), "unknown key": signedBy("AKIAOTHER", source), "another port": signedBy("", "192.0.2.1:1"),
		"long id": signedBy(fmt.Sprintf("%0200d", 0), source),
	} {
		if allowed, _ := l.allowUnproven(r); allowed {
			t.Errorf("%s: allowed", name)
		}
	}
	if allowed, _ := l.allowUnproven(signedBy("AKIAGOOD", source)); !allowed {
		t.Error("a key that has signed good requests is locked out by its neighbours")
	}
	if l.allowUnsigned(signedBy("AKIAGOOD", source)) {
		t.Error("a good key's name opens what needs no signature")
	}
	if l.refused(signedBy("AKIAGOOD", source)) {
		t.Error("a wrong signature under a good key is not bounded")
	}
	if allowed, _ := l.allowUnproven(signedBy("", other)); !allowed {
		t.Error("another address")
	}
	c.at = c.at.Add(time.Second)
	// Signed ones spend nothing before they turn out wrong.
	for range 10 {
		if allowed, _ := l.allowUnproven(signedBy("AKIAOTHER", source)); !allowed {
			t.Fatal("a token was spent by a request that was not refused")
		}
	}
	for i, want := range []bool{true, true, false} { // two per second are told why
		if got := l.refused(signedBy("AKIAOTHER", source)); got != want {
			t.Errorf("wrong signature %d: %v", i, got)
		}
	}
	query := httptest.NewRequest(http.MethodGet, "/?X-Amz-Credential=AKIAGOOD%2F20260101", nil)
	if id := claimedKey(query); id != "AKIAGOOD" {
		t.Errorf("query: %q", id)
	}
}

func TestSourceNet(t *testing.T) {
	for source, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::1%eth0": "2001:db8:1:2::/64", "": "", "pipe": "pipe",
	} {
		if got := sourceNet(source); got != want {
			t.Errorf("%q: %q, want %q", source, got, want)
		}
	}
}

// TestLimitsAreBounded: a flood of addresses and principals takes bounded memory,
// and who finds no room shares what is left.
func TestLimitsAreBounded(t *testing.T) {
	c := newClock()
	b := newBuckets(c.now, func(string) float64 { return 1 }, func(string) string { return "" })
	allowed := 0
	for i := range maxBuckets + 10000 {
		if b.allow(fmt.Sprint(i), 1) {
			allowed++
		}
	}
	if len(b.of) > maxBuckets+1 || allowed != maxBuckets+minBurst {
		t.Errorf("%d buckets, %d allowed", len(b.of), allowed)
	}
	c.at = c.at.Add(time.Minute)
	if !b.allow("new", 1) || len(b.of) > 2 {
		t.Errorf("%d buckets a minute later", len(b.of))
	}
	var keys recentKeys
	for i := range 10 * maxRecentKeys {
		keys.put(fmt.Sprint(i))
	}
	if n := len(keys.young) + len(keys.old); n > 2*maxRecentKeys {
		t.Errorf("%d keys", n)
	}
	for id, want := range map[int][2]bool{10*maxRecentKeys - 1: {true, true}, 9*maxRecentKeys - 1: {true, false}, 0: {false, false}} {
		if known, young := keys.has(fmt.Sprint(id)); [2]bool{known, young} != want {
			t.Errorf("key %d: %v, %v, want %v", id, known, young, want)
		}
	}
	keys.put(fmt.Sprint(9*maxRecentKeys - 1))
	if _, young := keys.has(fmt.Sprint(9*maxRecentKeys - 1)); !young {
		t.Error("an old key that has signed again is not young")
	}
}
