// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/ledger"
)

// What a row of the table "due" stands for. Its id is TIME/WORK/KEYROW, with the
// time in dueForm, so that the rows are in the order in which they become due. A
// row only says when to look: the record of the key says what is so.
const (
	dueDeletion = "deletion"
	dueRotation = "rotation"
	dueExpiry   = "expiry"
	dueForm     = "2006-01-02T15:04:05.000Z"
	// dueInterval is how often [Server.Run] looks for work.
	dueInterval = 15 * time.Second
)

// dueWork has what is done when a row of the table "due" has become due.
var dueWork = map[string]func(*Server, context.Context, keyName) error{
	dueDeletion: (*Server).deleteDueKey,
	dueRotation: (*Server).rotateDueKey,
	dueExpiry:   (*Server).deleteExpiredMaterial,
}

func dueID(when time.Time, work, row string) string {
	return when.UTC().Format(dueForm) + "/" + work + "/" + row
}

// putDue has work done on a key at a time.
func putDue(tx *ledger.Tx, when time.Time, work, row string) error {
	_, err := tx.Put(tableDue, dueID(when, work, row), nil)
	return err
}

// deleteDue takes back what putDue has put.
func deleteDue(tx *ledger.Tx, when time.Time, work, row string) error {
	err := tx.Delete(tableDue, dueID(when, work, row))
	if errors.Is(err, keystore.ErrNotFound) {
		return nil
	}
	return err
}

// Run does what becomes due, such as deletions of keys whose waiting time is
// over, and writes down when keys were used last, until ctx ends. failed gets
// errors; the work is tried again later. No request waits for it: what is due is
// so at once, even if Run does not run. It also looks for what other servers write:
// see [ledger.Ledger.Run].
func (s *Server) Run(ctx context.Context, failed func(error)) {
	var confirming sync.WaitGroup
	defer confirming.Wait()
	confirming.Go(func() { s.ledger.Run(ctx) })
	ticker := time.NewTicker(dueInterval)
	defer ticker.Stop()
	for {
		if err := errors.Join(s.DoDue(ctx), s.writeUses(context.WithoutCancel(ctx)), s.writeKeyDays(context.WithoutCancel(ctx)),
			s.writeUnauthenticated(context.WithoutCancel(ctx), false)); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			if err := errors.Join(s.writeUses(context.WithoutCancel(ctx)), s.writeKeyDays(context.WithoutCancel(ctx)),
				s.writeUnauthenticated(context.WithoutCancel(ctx), true)); err != nil {
				failed(err)
			}
			return
		case <-ticker.C:
		}
	}
}

// DoDue does what is due now. An error with one key does not keep the others from
// being dealt with.
func (s *Server) DoDue(ctx context.Context) error {
	now := s.now().UTC().Format(dueForm)
	var ids []string
	err := s.ledger.View(ctx, func(tx *ledger.Tx) error {
		return tx.Scan(tableDue, "", func(row ledger.Row) bool {
			if row.ID > now+"~" {
				return false
			}
			ids = append(ids, row.ID)
			return true
		})
	})
	for _, id := range ids {
		part := strings.SplitN(id, "/", 5)
		if len(part) != 5 || dueWork[part[1]] == nil {
			continue // of a later version of this program
		}
		name := keyName{account: part[2], region: part[3], id: part[4]}
		workErr := dueWork[part[1]](s, ctx, name)
		if workErr == nil {
			workErr = s.ledger.Update(ctx, func(tx *ledger.Tx) error {
				err := tx.Delete(tableDue, id)
				if errors.Is(err, keystore.ErrNotFound) {
					return nil
				}
				return err
			})
		}
		err = errors.Join(err, workErr)
	}
	return errors.Join(err, s.clearUsed(ctx), s.rotateDueTokenKeys(ctx))
}

// serviceEvent begins the event of what the service does to a key by itself.
func (s *Server) serviceEvent(what string, name keyName) (*Event, error) {
	event, err := s.ownEvent(what, "Service")
	if err != nil {
		return nil, err
	}
	event.EventSource, event.Region = sourceKMS, name.region
	event.Resources = []EventResource{{AccountID: name.account, Type: "AWS::KMS::Key", ARN: keyARN(name.region, name.account, name.id)}}
	return event, nil
}

// deleteDueKey deletes a key whose waiting time is over, with all of its rows.
func (s *Server) deleteDueKey(ctx context.Context, name keyName) error {
	event, err := s.serviceEvent("DeleteKey", name)
	if err != nil {
		return err
	}
	err = s.changeOwn(ctx, event, func(tx *ledger.Tx) error {
		k := new(key)
		switch err := s.readRecord(tx, name, k); {
		case err != nil:
			return err
		case k.Deletion == nil || !k.Deletion.over(s.now()):
			return errNoKey // deleted already, or taken back
		}
		if err := s.deleteRows(tx, &k.keyRecord); err != nil {
			return err
		}
		return s.unrelate(tx, &k.keyRecord)
	})
	if errors.Is(err, errNoKey) {
		return nil
	}
	return err
}

// deleteRows deletes every row of a key.
func (s *Server) deleteRows(tx *ledger.Tx, k *keyRecord) error {
	type row struct{ table, id string }
	rows := []row{{tableKey, k.rowID()}, {tablePolicy, k.rowID()}, {tableUse, k.rowID()}}
	for _, alias := range k.Aliases {
		rows = append(rows, row{tableAlias, aliasRowID(keyName{account: k.Account, region: k.Region, alias: alias})})
	}
	retiring, err := retiringRows(tx, k.rowID())
	if err != nil {
		return err
	}
	for _, id := range retiring {
		rows = append(rows, row{tableRetiring, id})
	}
	for _, table := range keyTables {
		err := tx.Scan(table, k.rowID()+"/", func(r ledger.Row) bool {
			rows = append(rows, row{table, r.ID})
			return true
		})
		if err != nil {
			return err
		}
	}
	for _, r := range rows {
		if err := tx.Delete(r.table, r.id); err != nil && !errors.Is(err, keystore.ErrNotFound) {
			return err
		}
	}
	return nil
}
