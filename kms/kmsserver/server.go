// SPDX-License-Identifier: Apache-2.0

// Package kmsserver is the HTTP side of the key service: AWS JSON 1.1 over one
// http.Handler that authenticates a request by Signature Version 4, hands it to
// package kms and writes the answer. Only loopback addresses are served, because
// it speaks plain HTTP.
package kmsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/cretula/cretula/internal/sigv4"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/reason"
)

// Limits of a connection. A request is at most maxBody and is read within
// readTimeout; the operation itself takes milliseconds.
const (
	maxBody           = 1 << 20
	maxHeader         = 64 << 10
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 120 * time.Second
	shutdownTimeout   = 10 * time.Second
	operationTimeout  = 30 * time.Second
)

// Config is what a handler works with.
type Config struct {
	// KMS is the service behind the handler.
	KMS *kms.Server
	// Logger gets one record per request, at level Debug if it succeeded, and the
	// stack of a panic. No plaintext, ciphertext, document, key or signature is in
	// them. nil: none.
	Logger *slog.Logger
	// Now is the clock against which signatures are dated; nil: time.Now.
	Now func() time.Time
	// Skew is how far the date of a signature may be off, to both sides; 0:
	// five minutes, as AWS KMS has it.
	Skew time.Duration
	// Limits and Metrics; nil: none.
	Limits  *Limits
	Metrics *Metrics
}

// New returns the handler. KMS must be set.
func New(c Config) (http.Handler, error) {
	if c.KMS == nil {
		return nil, errors.New("kmsserver: Config needs KMS")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	h := &handler{Config: c, large: make(chan struct{}, maxLarge)}
	verifier, err := sigv4.New(sigv4.Options[*kms.Caller]{Service: "kms", Lookup: h.lookup, Now: c.Now, Skew: c.Skew})
	if err != nil {
		return nil, err
	}
	h.verifier = verifier
	h.stsVerifier, err = sigv4.New(sigv4.Options[*kms.Caller]{Service: "sts", Lookup: h.lookup, Now: c.Now, Skew: c.Skew})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Listen opens a TCP listener on host:port. The host must be an IP address of
// this machine's loopback interface, or "localhost"; port 0 takes a free port.
// Any other address is refused with reason unsupported, rule kms.listen.loopback:
// the service speaks plain HTTP.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("kmsserver: address %q is not HOST:PORT", address)
	}
	if strings.EqualFold(host, "localhost") {
		// The name is not resolved: a hosts file could point it anywhere.
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.Unmap().IsLoopback() {
		return nil, reason.New(reason.Unsupported, "kms.listen.loopback",
			"%s is not a loopback address: the key service speaks plain HTTP and serves this machine only", host)
	}
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", net.JoinHostPort(host, port))
}

// Serve is [ServeFor] with ten seconds.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger) error {
	return ServeFor(ctx, listener, handler, logger, shutdownTimeout)
}

// ServeFor answers requests until ctx ends, then waits for those under way, at most
// as long as grace, and returns nil. It closes the listener.
func ServeFor(ctx context.Context, listener net.Listener, handler http.Handler, logger *slog.Logger, grace time.Duration) error {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		server.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
