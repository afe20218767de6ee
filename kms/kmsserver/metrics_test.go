// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

var update = flag.Bool("update", false, "write testdata/metrics.txt anew")

// TestMetricNames: the names and labels are what dashboards and alarms rest on, and
// keep to the rules of Prometheus.
func TestMetricNames(t *testing.T) {
	files, err := datadir.Create(t.Context(), filepath.Join(t.TempDir(), "d"), ledger.Meta{Account: "111122223333"})
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	server, err := files.Server(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	makePair(t, server)
	m := NewMetrics()
	m.Watch(server, expiring(t))
	m.WatchAudit(files.Audit)
	m.begin()
	m.end(&exchange{operation: "Decrypt", err: &kmsapi.Error{Code: kmsapi.Validation, Reason: "stale"}, caller: &kms.Caller{}}, time.Second)
	m.begin()
	m.end(&exchange{operation: "Decrypt", err: &kmsapi.Error{Code: kmsapi.InvalidSignature}}, time.Second)
	m.AuditBatch(3, time.Millisecond)
	m.storeSeconds.WithLabelValues(kindView).Observe(1)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "cretula_") {
			continue // of client_golang
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		lines = append(lines, strings.TrimSpace(f.GetName()+" "+strings.ToLower(f.GetType().String())+" "+strings.Join(labels, ",")))
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	golden := filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(want) != got {
		t.Errorf("%s is not what there is (%v):\n%s", golden, err, got)
	}
}

// expiring is a certificate that nobody serves.
func expiring(t *testing.T) *Certificate {
	t.Helper()
	c := &Certificate{}
	c.current.Store(&tls.Certificate{Leaf: &x509.Certificate{NotAfter: time.Now().Add(time.Hour)}})
	return c
}

// TestDocumentedMetrics: the alarms that docs/operating.md tells of are of figures
// that there are, and it tells of no others.
func TestDocumentedMetrics(t *testing.T) {
	golden, err := os.ReadFile(filepath.Join("testdata", "metrics.txt"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(golden)) {
		known[strings.Fields(line)[0]] = true
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\bcretula_[a-z]+_[a-z_]+[a-z]`).FindAllString(string(text), -1)
	if len(found) < 10 {
		t.Fatalf("only %q", found)
	}
	for _, name := range found {
		if !known[name] {
			t.Errorf("there is no %s", name)
		}
	}
}

// makePair has the service make an RSA key, from when on it keeps pairs ready.
func makePair(t *testing.T, server *kms.Server) {
	t.Helper()
	credentials, err := server.EnsureAdmin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found, err := server.FindAccessKey(t.Context(), credentials.AccessKeyID)
	if err != nil {
		t.Fatal(err)
	}
	caller := found.Caller
	caller.Region = "us-east-1"
	spec, usage := kmsapi.SpecRSA2048, "SIGN_VERIFY"
	if _, err := kms.Do[kmsapi.CreateKeyOutput](t.Context(), server, &caller, &kmsapi.CreateKeyInput{KeySpec: &spec, KeyUsage: &usage}); err != nil {
		t.Fatal(err)
	}
}
