// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

var (
	// ErrUnsafeServer: the server runs with fsync=off. See [Options].
	ErrUnsafeServer = errors.New("postgres: the server runs with fsync=off and may lose what it has committed")
	// ErrClock: the clock of this machine and that of the database differ by more
	// than a minute. What depends on time would be judged otherwise than on other
	// servers: whether a session has ended, a document was used, a key is to be
	// deleted. It matches [keystore.ErrUnavailable].
	ErrClock = fmt.Errorf("%w: postgres: the clock differs from that of the database", keystore.ErrUnavailable)
	// ErrConnectionString: a connection string that cannot be parsed, or that
	// [Open] does not take.
	ErrConnectionString = errors.New("postgres: connection string")
)

// A failure is an error of the database as a text. The errors of the driver carry
// its configuration, with the password, so none is part of it.
type failure struct {
	kinds []error
	text  string
}

func (f *failure) Error() string {
	if slices.Contains(f.kinds, keystore.ErrFailed) {
		return "postgres: " + f.text // the text of ErrFailed asks for more than is needed
	}
	text := "postgres: "
	for _, kind := range f.kinds {
		text += kind.Error() + ": "
	}
	return text + f.text
}

func (f *failure) Unwrap() []error { return f.kinds }

// translate gives an error of the driver or the server its place among those of
// package keystore. If ctx, the caller's, has ended it is the error of that.
func (s *Store) translate(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnsafeServer), errors.Is(err, ErrClock), errors.Is(err, keystore.ErrDamaged), errors.Is(err, keystore.ErrNewerVersion):
		return err
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return s.failure(kindOf(e.Code), e.Message+" (SQLSTATE "+e.Code+")")
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if _, ok := errors.AsType[*pgproto3.ExceededMaxBodyLenErr](err); ok {
		return s.failure(keystore.ErrDamaged, err.Error())
	}
	return s.failure(keystore.ErrUnavailable, err.Error())
}

// translateConnect is translate for the making of a connection: whatever the
// server says there, the store cannot be reached.
func (s *Store) translateConnect(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if errors.Is(err, ErrUnsafeServer) {
		return ErrUnsafeServer
	}
	return s.failure(keystore.ErrUnavailable, err.Error())
}

func (s *Store) failure(kind error, text string) error {
	if s.password != "" && strings.Contains(text, s.password) {
		text = "the text of the error is left out, for it has the password in it"
	}
	f := &failure{text: strings.Join(strings.Fields(text), " ")}
	if kind != nil {
		f.kinds = []error{kind}
	}
	return f
}

// kindOf sorts the error codes of
// https://www.postgresql.org/docs/15/errcodes-appendix.html; nil for those that
// no state of the database explains.
func kindOf(code string) error {
	switch code {
	case "XX001", "XX002", // data_corrupted, index_corrupted
		"42P01", "42703", "3F000": // undefined_table, undefined_column, invalid_schema_name
		return keystore.ErrDamaged
	case "25006", "25P03", "55P03": // read_only_sql_transaction, idle_in_transaction_session_timeout, lock_not_available
		return keystore.ErrUnavailable
	}
	if len(code) == 5 {
		switch code[:2] {
		// connection exception, transaction rollback, insufficient resources,
		// operator intervention (also: statement timeout), system error
		case "08", "40", "53", "57", "58":
			return keystore.ErrUnavailable
		}
	}
	return nil
}
