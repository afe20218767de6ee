// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/cretula/cretula/kms"
)

// readyTimeout bounds one answer of /readyz.
const readyTimeout = 2 * time.Second

// A Health answers for a service beside the port of its clients: GET /healthz says
// that the process runs, /readyz whether it could answer a request now, /metrics
// the figures. Who asks learns nothing of keys and principals.
type Health struct {
	server   *kms.Server
	logger   *slog.Logger
	stopping atomic.Bool
	unready  atomic.Bool // at the last answer
}

// NewHealth returns the health of a service. Why it is not ready goes to the log.
func NewHealth(server *kms.Server, logger *slog.Logger) *Health {
	return &Health{server: server, logger: logger}
}

// Stop has /readyz say that the service is going to end.
func (h *Health) Stop() { h.stopping.Store(true) }

type healthAnswer struct {
	Status string `json:"status"`
	// Emulated is there, true, where the store is.
	Emulated bool `json:"EMULATED,omitempty"`
	// Failing are the parts that are why it is not ready.
	Failing []string `json:"failing,omitempty"`
}

// Handler serves the three paths.
func (h *Health) Handler(metrics *Metrics) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { h.answer(w, "ok", nil) })
	mux.HandleFunc("GET /readyz", h.ready)
	mux.Handle("GET /metrics", metrics.Handler())
	return mux
}

func (h *Health) ready(w http.ResponseWriter, r *http.Request) {
	if h.stopping.Load() {
		h.answer(w, "stopping", nil)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	failing, err := h.server.Ready(ctx)
	switch {
	case err != nil && r.Context().Err() == nil && !h.unready.Swap(true):
		h.logger.ErrorContext(ctx, "not ready", "cause", err.Error())
	case err == nil && h.unready.Swap(false):
		h.logger.InfoContext(ctx, "ready again")
	}
	if err != nil {
		h.answer(w, "not ready", failing)
		return
	}
	h.answer(w, "ready", nil)
}

// answer writes a status: 200 for "ok" and "ready", else 503.
func (h *Health) answer(w http.ResponseWriter, status string, failing []string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if status != "ok" && status != "ready" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(healthAnswer{status, h.server.Emulated(), failing}) // a client that has gone is no fault here
}

// Pprof serves Go's profiler under /debug/pprof/, for a listener of its own on a
// loopback address.
func Pprof() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
