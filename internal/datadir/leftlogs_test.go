// SPDX-License-Identifier: Apache-2.0

//go:build linux

package datadir

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
)

// TestRestoreLeavesLogs restores a store whose audit log is lost: the event says of
// which records nothing can be found any more, of this server alone.
func TestRestoreLeavesLogs(t *testing.T) {
	c := newConfig(t, database(t))
	c.Audit.Server = "one"
	other := c
	other.Dir, other.Audit.Server = filepath.Join(t.TempDir(), "other"), "two"
	other.RootKey.EpochFile = filepath.Join(t.TempDir(), "epochs", "other")
	d := mustCreate(t, c)
	f := fill(t, server(t, d))
	mustClose(t, d) // each with a head in the store
	f.works(t, other)
	d, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	heads := map[string]audit.Head{}
	texts, err := kms.AuditHeads(d.Ledger).Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		head, err := audit.ParseHead(text)
		if err != nil {
			t.Fatal(err)
		}
		heads[head.Server] = head
	}
	lost, kept := heads["one"], heads["two"]
	if len(heads) != 2 || lost.Count == 0 || kept.Count == 0 {
		t.Fatalf("%+v", heads)
	}
	file := mustBackup(t, server(t, d))
	mustClose(t, d)

	for i, want := range []map[string]uint64{nil, {lost.Chain: lost.Count}} {
		if i > 0 {
			if err := os.RemoveAll(filepath.Join(c.Dir, AuditDir)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.Restore(t.Context(), bytes.NewReader(file), true); err != nil {
			t.Fatal(err)
		}
		if got := logsLeft(t, c); !maps.Equal(got, want) {
			t.Errorf("logs left: %v, want %v", got, want)
		}
		verifiesAudit(t, c) // nothing is missed
	}
	verifiesAudit(t, other)
}

// logsLeft returns what the newest event of a restore says of logs that were left.
func logsLeft(t *testing.T, c Config) (left map[string]uint64) {
	t.Helper()
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	found := false
	err := audit.Backward(t.Context(), c.AuditDir, func(e audit.Entry, err error) bool {
		event, parseErr := kms.ParseEvent(e)
		if err != nil || parseErr != nil {
			t.Fatal(err, parseErr)
		}
		if event.EventName != "RestoreStore" {
			return true
		}
		found = true
		text, err := json.Marshal(event.RequestParameters)
		if err != nil {
			t.Fatal(err)
		}
		var parameters struct {
			StoreID string            `json:"storeId"`
			Left    map[string]uint64 `json:"auditLogsLeft"`
		}
		if err := json.Unmarshal(text, &parameters); err != nil || parameters.StoreID == "" {
			t.Fatalf("%s: %v", text, err)
		}
		left = parameters.Left
		return false
	})
	if err != nil || !found {
		t.Fatalf("no event of a restore: %v", err)
	}
	return left
}
