// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"maps"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/kmsapi"
)

// latencies are the buckets of operations, store and disk, in seconds: a cached
// decision takes less than a millisecond, an RSA_4096 pair seconds.
var latencies = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// Metrics are the figures of one server, in a registry of their own. No label has
// the name of a principal, a key or a client: the operations, error codes and
// reasons that there are bound how many series there can be. nil counts nothing.
type Metrics struct {
	registry *prometheus.Registry

	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	failures  *prometheus.CounterVec
	throttled *prometheus.CounterVec
	// answered has, by operation, the figures of requests without an error. It is
	// replaced by a copy where one is added: there are as many as operations.
	answered atomic.Pointer[map[string]*answeredFigures]
	adding   sync.Mutex

	storeSeconds  *prometheus.HistogramVec
	storeFailures *prometheus.CounterVec
	auditBatches  prometheus.Histogram
	auditSeconds  prometheus.Histogram
}

// NewMetrics makes the figures that the server counts itself, and those of the Go
// runtime, the process and the program.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cretula_kms_requests_total",
			Help: "Requests by operation, error code (OK if there was none) and, where an attestation document was refused, reason.",
		}, []string{"operation", "code", "reason"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cretula_kms_request_duration_seconds", Help: "How long requests took, from their header to the last byte of the answer.",
			Buckets: latencies,
		}, []string{"operation"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cretula_kms_requests_in_flight", Help: "Requests that are being answered.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cretula_kms_authentication_failures_total", Help: "Requests whose signature or session was refused, by error code.",
		}, []string{"code"}),
		throttled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cretula_kms_throttled_total", Help: "Requests beyond a limit: operation, certificates or unauthenticated.",
		}, []string{"limit"}),
		storeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cretula_kms_store_transaction_seconds", Help: "How long transactions of the store took: view or update.", Buckets: latencies,
		}, []string{"kind"}),
		storeFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cretula_kms_store_failures_total", Help: "Transactions that the store did not carry out.",
		}, []string{"kind"}),
		auditBatches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cretula_kms_audit_batch_records", Help: "Audit records that were made durable together.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512},
		}),
		auditSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cretula_kms_audit_sync_seconds", Help: "How long the disk took to make audit records durable.", Buckets: latencies,
		}),
	}
	for _, limit := range []limit{limitOperation, limitCertificates, limitUnauthenticated} {
		m.throttled.WithLabelValues(string(limit))
	}
	for _, kind := range []string{kindView, kindUpdate} {
		m.storeFailures.WithLabelValues(kind)
	}
	m.registry.MustRegister(m.requests, m.durations, m.inFlight, m.failures, m.throttled, m.storeSeconds, m.storeFailures,
		m.auditBatches, m.auditSeconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registerBuild()
	return m
}

// Handler serves the figures in the formats of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *Metrics) registerBuild() {
	labels := prometheus.Labels{"version": "unknown", "revision": "", "goversion": ""}
	if info, ok := debug.ReadBuildInfo(); ok {
		labels["version"], labels["goversion"] = info.Main.Version, info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				labels["revision"] = s.Value
			}
		}
	}
	m.gauge("cretula_build_info", "The program; always 1.", labels, func() float64 { return 1 })
}

// gauge adds a figure that is asked for when it is wanted.
func (m *Metrics) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

// counter is gauge for what only rises.
func (m *Metrics) counter(name, help string, labels prometheus.Labels, value func() float64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, value))
}

// Watch adds the figures that the service and the certificate, if it is not nil,
// have of themselves. It is called once.
func (m *Metrics) Watch(server *kms.Server, certificate *Certificate) {
	emulated := 0.0
	if server.Emulated() {
		emulated = 1
	}
	m.gauge("cretula_kms_emulated", "EMULATED: 1 if the store is for documents of an emulator's root, which prove nothing.", nil,
		func() float64 { return emulated })
	if certificate != nil {
		m.gauge("cretula_kms_certificate_remaining_seconds", "How long the TLS certificate that is served is still valid.", nil,
			func() float64 { return time.Until(certificate.NotAfter()).Seconds() })
	}
	m.gauge("cretula_kms_store_confirmed_age_seconds", "How long ago what is remembered of the store was last compared with it; above 1 every request asks the store.", nil,
		func() float64 { return server.Stats().StoreConfirmedAge.Seconds() })
	m.registry.MustRegister(&serverCollector{server})
}

// WatchAudit adds the figures that the audit log has of itself. It is called once.
func (m *Metrics) WatchAudit(log *audit.Log) {
	m.gauge("cretula_kms_audit_waiting_records", "Audit records that wait for the disk.", nil,
		func() float64 { return float64(log.Stats().Waiting) })
	m.counter("cretula_kms_audit_records_total", "The number of the last durable audit record of the log.", nil,
		func() float64 { return float64(log.Stats().Records) })
	m.counter("cretula_kms_audit_head_records_total", "The number of the last audit record that a signed head is about.", nil,
		func() float64 { return float64(log.Stats().HeadRecords) })
	m.gauge("cretula_kms_audit_head_timestamp_seconds", "When the newest signed head of the audit log was written.", nil,
		func() float64 { return float64(log.Stats().HeadTime.Unix()) })
}

// AuditBatch counts records that were made durable together. It fits what package
// audit calls.
func (m *Metrics) AuditBatch(records int, took time.Duration) {
	m.auditBatches.Observe(float64(records))
	m.auditSeconds.Observe(took.Seconds())
}

func (m *Metrics) begin() {
	if m != nil {
		m.inFlight.Inc()
	}
}

// end counts a request that was answered.
func (m *Metrics) end(x *exchange, took time.Duration) {
	if m == nil {
		return
	}
	m.inFlight.Dec()
	if x.err == nil {
		f := m.answeredOf(x.operation)
		f.requests.Inc()
		f.durations.Observe(took.Seconds())
		return
	}
	operation := x.operation
	if operation == "" {
		operation = "none" // none that there is
	}
	e := asError(x.err)
	if x.caller == nil && x.operation != "" && isRefusal(e.Code) {
		m.failures.WithLabelValues(string(e.Code)).Inc()
	}
	m.requests.WithLabelValues(operation, string(e.Code), e.Reason).Inc()
	m.durations.WithLabelValues(operation).Observe(took.Seconds())
}

// answeredFigures are kept, for finding them by their labels takes longer than counting.
type answeredFigures struct {
	requests  prometheus.Counter
	durations prometheus.Observer
}

// answeredOf returns the figures of an operation that there is.
func (m *Metrics) answeredOf(operation string) *answeredFigures {
	if known := m.answered.Load(); known != nil {
		if f := (*known)[operation]; f != nil {
			return f
		}
	}
	m.adding.Lock()
	defer m.adding.Unlock()
	all := map[string]*answeredFigures{}
	if known := m.answered.Load(); known != nil {
		all = maps.Clone(*known)
	}
	f := &answeredFigures{m.requests.WithLabelValues(operation, "OK", ""), m.durations.WithLabelValues(operation)}
	all[operation] = f
	m.answered.Store(&all)
	return f
}

// isRefusal tells whether a code says that a request is not authentic.
func isRefusal(code kmsapi.Code) bool {
	switch code {
	case kmsapi.ExpiredToken, kmsapi.IncompleteSignature, kmsapi.InvalidSignature, kmsapi.MissingAuthenticationToken, kmsapi.UnrecognizedClient:
		return true
	}
	return false
}

// A limit is one of those that [Metrics] counts.
type limit string

const (
	limitOperation       limit = "operation"
	limitCertificates    limit = "certificates"
	limitUnauthenticated limit = "unauthenticated"
)

func (m *Metrics) throttle(l limit) {
	if m != nil {
		m.throttled.WithLabelValues(string(l)).Inc()
	}
}
