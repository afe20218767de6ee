// SPDX-License-Identifier: Apache-2.0

//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms/keystore"
)

var ctx = context.Background()

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := runChild(role, os.Getenv(childURL)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(pgtest.Main(m))
}

func mustStore(t testing.TB, s *Store, err error) *Store {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func create(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Create(ctx, url, Options{})
	return mustStore(t, s, err)
}

func reopen(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(ctx, url, Options{})
	return mustStore(t, s, err)
}

func put(t testing.TB, s keystore.Store, rows ...keystore.Row) {
	t.Helper()
	err := s.Update(ctx, func(tx keystore.Tx) error {
		for _, row := range rows {
			if err := tx.Put(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, s keystore.Store, table, id string) (row keystore.Row, err error) {
	t.Helper()
	viewErr := s.View(ctx, func(tx keystore.Tx) error {
		row, err = tx.Get(table, id)
		return nil
	})
	return row, errors.Join(err, viewErr)
}
