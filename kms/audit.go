// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/cretula/cretula/internal/uuid"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/ledger"
)

// An AuditLog keeps events; [*audit.Log] is one.
type AuditLog interface {
	// Append returns nil once the event is durable. It keeps nothing of it.
	Append(ctx context.Context, event any) error
	// Find returns the event whose member "decision" is id; the error matches
	// [audit.ErrNotFound] if there is none.
	Find(ctx context.Context, id string) (audit.Entry, error)
}

// tableAuditHead has the newest head of each chain of the audit log; the id is the
// chain's.
const tableAuditHead = "audit-head"

// AuditHeads keeps the newest heads of audit logs in a ledger, so that a log whose
// end was cut off, or that is gone, is noticed.
func AuditHeads(l *ledger.Ledger) audit.HeadStore { return auditHeads{l} }

type auditHeads struct{ ledger *ledger.Ledger }

func (h auditHeads) PutHead(ctx context.Context, chain string, head []byte) error {
	return h.ledger.Update(ctx, func(tx *ledger.Tx) error {
		_, err := tx.Put(tableAuditHead, chain, head)
		return err
	})
}

func (h auditHeads) Heads(ctx context.Context) ([][]byte, error) {
	var heads [][]byte
	err := h.ledger.View(ctx, func(tx *ledger.Tx) (rowErr error) {
		heads = nil
		err := tx.Scan(tableAuditHead, "", func(row ledger.Row) bool {
			rowErr = row.Err
			heads = append(heads, row.Content)
			return rowErr == nil
		})
		return errors.Join(rowErr, err)
	})
	return heads, err
}

// RemovalEvent makes the event of what retention removes from the audit log of a
// store, which an [audit.Log] records by itself.
func RemovalEvent(meta ledger.Meta) func(audit.Removal) (any, error) {
	return func(r audit.Removal) (any, error) {
		s := &Server{account: meta.Account, emulated: meta.Emulated, now: time.Now, random: rand.Reader}
		e, err := s.ownEvent("RemoveAuditRecords", "Service")
		if err != nil {
			return nil, err
		}
		e.RequestParameters = map[string]any{
			"first": r.First, "through": r.Through, "segments": r.Segments, "bytes": r.Bytes, "cause": r.Cause,
		}
		e.EventID, err = uuid.New(s.random)
		return e, err
	}
}

// AuditHeads returns the newest heads of all servers' audit logs that the store has, as
// [audit.ParseHead] reads them.
func (s *Server) AuditHeads(ctx context.Context) ([][]byte, error) {
	return auditHeads{s.ledger}.Heads(ctx)
}

// AuditID is the id that the audit log finds the event by.
func (e *Event) AuditID() string { return e.DecisionID }

// record makes an event durable. One that is too large is kept without its trace,
// and without its parameters only if it must be: it must never be possible to make a
// request unrecordable, nor to hide what it asked for.
func (s *Server) record(ctx context.Context, event *Event) error {
	var err error
	if event.EventID, err = uuid.New(s.random); err != nil {
		return err
	}
	if event.crossesAccounts() {
		if event.SharedEventID, err = uuid.New(s.random); err != nil {
			return err
		}
	}
	err = s.audit.Append(ctx, event)
	if errors.Is(err, audit.ErrEvent) {
		small := *event
		small.Decision, small.OtherDecisions = nil, nil
		small.Cause = clip("the event was too large for its trace; " + event.Cause)
		if err = s.audit.Append(ctx, &small); errors.Is(err, audit.ErrEvent) {
			small.RequestParameters = nil
			err = s.audit.Append(ctx, &small)
		}
	}
	return err
}

// change writes to the store. The event becomes durable before the transaction
// ends, so that nothing changes without being on record; from then on the change
// does not depend on ctx. Where the event was recorded and the transaction failed
// all the same, another event of the same decision must say so.
func (s *Server) change(ctx context.Context, event *Event, fn func(*ledger.Tx) error) (recorded bool, err error) {
	lasting := context.WithoutCancel(ctx)
	err = s.ledger.Update(lasting, func(tx *ledger.Tx) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		err := s.record(lasting, event)
		recorded = err == nil
		return err
	})
	return recorded, err
}

// changeOwn is [Server.change] for what no request asked for, with the other event.
func (s *Server) changeOwn(ctx context.Context, event *Event, fn func(*ledger.Tx) error) error {
	recorded, err := s.change(ctx, event, fn)
	if err != nil && recorded {
		event.Outcome, event.Cause = Failed, clip(err.Error())
		err = errors.Join(err, s.record(context.WithoutCancel(ctx), event))
	}
	return err
}

// findEvent is [Server.Explain] for a client, of which one is served at a time:
// looking for an id goes through the indexes of the whole log, whoever asks.
func (c *call) findEvent(id string) (*Event, error) {
	select {
	case c.server.explaining <- struct{}{}:
		defer func() { <-c.server.explaining }()
		return c.server.Explain(c.ctx, id)
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}
