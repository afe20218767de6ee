// SPDX-License-Identifier: Apache-2.0

// Package kmsserve runs the key service of a configuration file: its listeners,
// logs, metrics and health, from the opening of the store to the last answer.
package kmsserve

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/kmsconfig"
	"github.com/cretula/cretula/internal/oidc"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/reason"
)

// Options are what the process has beside the configuration.
type Options struct {
	// Log gets the log, as the configuration says.
	Log io.Writer
	// Getenv reads the environment: what systemd says.
	Getenv func(string) string
	// Reload has a value whenever the certificate is to be read again.
	Reload <-chan os.Signal
	// Ready, if it is not nil, is called once everything listens.
	Ready func(Addresses)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Addresses are where the service listens; nil where it does not.
type Addresses struct{ KMS, Metrics, Pprof net.Addr }

// A service is one that runs.
type service struct {
	config      *kmsconfig.Config
	options     Options
	logger      *slog.Logger
	certificate *kmsserver.Certificate
	metrics     *kmsserver.Metrics
	data        *datadir.Dir
	kms         *kms.Server
	health      *kmsserver.Health
	handler     http.Handler

	failed  chan error
	clients sync.WaitGroup // what clients wait for
	others  sync.WaitGroup // what ends after them
}

// Run serves until ctx ends, which is no error, or something fails. At the end
// requests under way are answered, for as long as the configuration says.
func Run(ctx context.Context, config *kmsconfig.Config, options Options) (err error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	s := &service{config: config, options: options, logger: NewLogger(config.Log, options.Log), failed: make(chan error, 8)}
	notify := newNotifier(options.Getenv)
	if err := s.open(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	defer func() { err = errors.Join(err, s.close()) }()

	clients, stopClients := context.WithCancel(ctx)
	others, stopOthers := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		stopClients()
		s.clients.Wait()
		stopOthers()
		s.others.Wait()
	}()
	addresses, err := s.listen(clients, others)
	if err != nil {
		return err
	}
	s.others.Go(func() { notify.watchdog(others) })
	s.announce(ctx, addresses)
	notify.send("READY=1\nSTATUS=serving on " + addresses.KMS.String())
	if options.Ready != nil {
		options.Ready(addresses)
	}
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	s.health.Stop()
	notify.send("STOPPING=1")
	s.logger.Info("stopping", "grace", time.Duration(config.ShutdownTimeout).String())
	return err
}

// open opens everything but the listeners.
func (s *service) open(ctx context.Context) (err error) {
	if t := s.config.TLS; t != nil {
		if s.certificate, err = kmsserver.LoadCertificate(string(t.Certificate), string(t.Key)); err != nil {
			return err
		}
	}
	roots, err := Roots(s.config)
	if err != nil {
		return err
	}
	s.metrics = kmsserver.NewMetrics()
	parts := s.config.Parts(s.logger)
	parts.Postgres.Now = s.options.Now
	parts.WrapStore = s.metrics.Store
	parts.Audit.Synced = s.metrics.AuditBatch
	if s.data, err = parts.Open(ctx); err != nil {
		if errors.Is(err, datadir.ErrNone) {
			err = cli.WithHint(err, "'cretula kms init --config %s' makes one", s.config.File)
		}
		return err
	}
	if err := checkMeta(s.config, s.data); err != nil {
		return err
	}
	// No request could be answered: that is told here, and to whoever starts services.
	if err := s.data.Audit.Ready(); err != nil {
		return cli.WithHint(err, "see to it that the disk of %s takes something; nothing was changed", s.config.Audit.Dir)
	}
	limits := NewLimits(s.config.Limits, s.metrics)
	if err := s.makeKMS(ctx, roots, limits); err != nil {
		return err
	}
	s.health = kmsserver.NewHealth(s.kms, s.logger)
	s.metrics.Watch(s.kms, s.certificate)
	s.metrics.WatchAudit(s.data.Audit)
	return s.handle(limits)
}

// makeKMS makes the service over what is open.
func (s *service) makeKMS(ctx context.Context, roots []*x509.Certificate, limits *kmsserver.Limits) (err error) {
	kmsConfig := s.data.Config()
	kmsConfig.Now = s.options.Now
	kmsConfig.Roots, kmsConfig.AllowDebug, kmsConfig.AllowCertificates = roots, s.config.Attestation.AllowDebug, limits.AllowCertificates
	if len(s.config.WebIdentity) > 0 {
		if kmsConfig.WebIdentity, err = webIdentity(s.config, s.options.Now); err != nil {
			return err
		}
	}
	if s.kms, err = kms.New(kmsConfig); err != nil {
		return err
	}
	return s.data.Ledger.CheckRoster(ctx)
}

// webIdentity makes the verifier of the providers of a configuration.
func webIdentity(c *kmsconfig.Config, now func() time.Time) (*oidc.Verifier, error) {
	issuers := make([]oidc.Issuer, len(c.WebIdentity))
	for i := range issuers {
		issuers[i] = c.WebIdentity[i].Issuer()
	}
	return oidc.New(issuers, now)
}

// Check looks at the files that a configuration names, but for the root key and the
// store, as [Run] does.
func Check(c *kmsconfig.Config) error {
	if t := c.TLS; t != nil {
		if _, err := kmsserver.LoadCertificate(string(t.Certificate), string(t.Key)); err != nil {
			return err
		}
	}
	if _, err := Roots(c); err != nil {
		return err
	}
	if _, err := webIdentity(c, time.Now); err != nil {
		return err
	}
	return c.Parts(nil).Check()
}

// NewLimits makes the limits of a configuration.
func NewLimits(l kmsconfig.Limits, metrics *kmsserver.Metrics) *kmsserver.Limits {
	return kmsserver.NewLimits(kmsserver.LimitOptions{
		Operations: l.Operations, NoOperations: l.NoOperationLimits,
		UnknownCertificates: l.UnknownCertificates, Unauthenticated: l.Unauthenticated, Metrics: metrics,
	})
}

// checkMeta refuses a store that is not of the kind and account that the
// configuration is about: what is served would not be what was meant.
func checkMeta(c *kmsconfig.Config, data *datadir.Dir) error {
	meta := data.Ledger.Meta()
	switch {
	case meta.Emulated != c.Emulated:
		kinds := map[bool]string{true: "EMULATED", false: "a production store"}
		return reason.New(reason.Mismatch, "kms.store.kind", "the store is %s, and the configuration says emulated = %v", kinds[meta.Emulated], c.Emulated)
	case meta.Account != c.Account:
		return reason.New(reason.Mismatch, "kms.store.account", "the store is of account %s, and the configuration says %s", meta.Account, c.Account)
	}
	return nil
}

// maxRoots bounds a file of roots.
const maxRoots = 1 << 20

// Roots reads the roots of a configuration; nil are AWS's.
func Roots(c *kmsconfig.Config) (roots []*x509.Certificate, err error) {
	for _, path := range c.Attestation.Roots {
		f, err := os.Open(string(path))
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(f, maxRoots))
		f.Close()
		if err != nil {
			return nil, err
		}
		parsed, err := attestation.ParseRoots(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		roots = append(roots, parsed...)
	}
	return roots, nil
}

// NewLogger makes the log.
func NewLogger(c kmsconfig.Log, out io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo // the configuration was checked
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}

// announce says in the log what is served.
func (s *service) announce(ctx context.Context, a Addresses) {
	if s.kms.Emulated() {
		s.logger.WarnContext(ctx, "EMULATED: the store is for documents of an emulator's root, which prove nothing")
	}
	attrs := []any{"account", s.kms.Account(), "address", a.KMS.String(), "tls", s.certificate != nil}
	if s.certificate != nil {
		attrs = append(attrs, "certificate valid until", s.certificate.NotAfter())
	}
	if a.Metrics != nil {
		attrs = append(attrs, "metrics", a.Metrics.String())
	}
	s.logger.InfoContext(ctx, "serving", attrs...)
	if a.Pprof != nil {
		s.logger.WarnContext(ctx, "the profiler shows what is in memory to everyone on this machine", "address", a.Pprof.String())
	}
}

// close closes what open opened.
func (s *service) close() error {
	if s.kms != nil {
		s.kms.Close()
	}
	if s.data == nil {
		return nil
	}
	return s.data.Close()
}
