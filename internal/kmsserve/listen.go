// SPDX-License-Identifier: Apache-2.0

package kmsserve

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/cretula/cretula/internal/adminsock"
	"github.com/cretula/cretula/kms/kmsserver"
)

// A listening is one listener and who answers on it.
type listening struct {
	net.Listener
	handler http.Handler
	grace   time.Duration
}

// otherGrace is how long an answer on another listener than the clients' may take
// at the end.
const otherGrace = time.Second

// handle makes the handler of the clients.
func (s *service) handle(limits *kmsserver.Limits) (err error) {
	s.handler, err = kmsserver.New(kmsserver.Config{KMS: s.kms, Logger: s.logger, Limits: limits, Metrics: s.metrics, Now: s.options.Now})
	return err
}

// open opens a listener: with TLS on any address, without on a loopback address.
func (s *service) openListener(ctx context.Context, address string, tls bool) (net.Listener, error) {
	if tls {
		return kmsserver.ListenTLS(ctx, address, s.certificate)
	}
	return kmsserver.Listen(ctx, address)
}

// listen opens every listener before anything is served on one, so that what cannot
// be opened ends the start. The clients' end with the one context, metrics and
// health with the other.
func (s *service) listen(clients, others context.Context) (a Addresses, err error) {
	var open []net.Listener
	defer func() {
		if err != nil {
			for _, l := range open {
				l.Close()
			}
		}
	}()
	add := func(address string, tls bool) (net.Listener, error) {
		l, err := s.openListener(clients, address, tls)
		if err == nil {
			open = append(open, l)
		}
		return l, err
	}
	main, err := add(s.config.Listen, s.certificate != nil)
	if err != nil {
		return a, err
	}
	a.KMS = main.Addr()
	var beside []listening
	if m := s.config.Metrics; m != nil {
		l, err := add(m.Listen, m.TLS)
		if err != nil {
			return a, err
		}
		a.Metrics = l.Addr()
		beside = append(beside, listening{l, s.health.Handler(s.metrics), otherGrace})
	}
	if p := s.config.Pprof; p != nil {
		l, err := add(p.Listen, false)
		if err != nil {
			return a, err
		}
		a.Pprof = l.Addr()
		beside = append(beside, listening{l, kmsserver.Pprof(), otherGrace})
	}
	admin, err := adminsock.Listen(string(s.config.DataDir))
	if err != nil {
		return a, err
	}
	s.serve(clients, others, listening{main, s.handler, time.Duration(s.config.ShutdownTimeout)}, beside, admin)
	return a, nil
}

// serve answers on all listeners.
func (s *service) serve(clients, others context.Context, main listening, beside []listening, admin net.Listener) {
	start := func(ctx context.Context, l listening) func() {
		return func() { s.fail(kmsserver.ServeFor(ctx, l.Listener, l.handler, s.logger, l.grace)) }
	}
	s.clients.Go(start(clients, main))
	s.clients.Go(func() { s.fail(adminsock.Serve(clients, admin, s.kms, s.logger)) })
	for _, l := range beside {
		s.others.Go(start(others, l))
	}
	// What is due is done, and uses are written down, until the last answer.
	s.others.Go(func() {
		s.kms.Run(others, func(err error) { s.logger.Error("what is due could not be done", "cause", err.Error()) })
	})
	if s.certificate != nil {
		s.others.Go(func() { s.certificate.Run(others, s.options.Reload, s.logger) })
	}
}

// fail ends the service if a server has ended by an error.
func (s *service) fail(err error) {
	if err != nil {
		s.failed <- err
	}
}
