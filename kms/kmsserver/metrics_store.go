// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"context"
	"errors"
	"time"

	"github.com/cretula/cretula/kms/keystore"
)

// Kinds of transactions.
const (
	kindView   = "view"
	kindUpdate = "update"
)

// A measuredStore counts the transactions of a store.
type measuredStore struct {
	keystore.Store
	metrics *Metrics
}

// A watchedStore is one that also tells of the changes of others.
type watchedStore struct {
	measuredStore
	watcher keystore.Watcher
}

// Watch implements [keystore.Watcher].
func (s *watchedStore) Watch(ctx context.Context, changed func()) error {
	return s.watcher.Watch(ctx, changed)
}

// Store returns the store with its transactions counted.
func (m *Metrics) Store(store keystore.Store) keystore.Store {
	measured := measuredStore{store, m}
	if watcher, ok := store.(keystore.Watcher); ok {
		return &watchedStore{measured, watcher}
	}
	return &measured
}

// View implements [keystore.Store].
func (s *measuredStore) View(ctx context.Context, fn func(keystore.Tx) error) error {
	return s.measure(kindView, s.Store.View, ctx, fn)
}

// Update implements [keystore.Store].
func (s *measuredStore) Update(ctx context.Context, fn func(keystore.Tx) error) error {
	return s.measure(kindUpdate, s.Store.Update, ctx, fn)
}

// measure counts as failures only what the store failed of, not what fn did.
func (s *measuredStore) measure(kind string, run func(context.Context, func(keystore.Tx) error) error, ctx context.Context, fn func(keystore.Tx) error) error {
	began := time.Now()
	err := run(ctx, fn)
	s.metrics.storeSeconds.WithLabelValues(kind).Observe(time.Since(began).Seconds())
	if errors.Is(err, keystore.ErrUnavailable) || errors.Is(err, keystore.ErrFailed) {
		s.metrics.storeFailures.WithLabelValues(kind).Inc()
	}
	return err
}
