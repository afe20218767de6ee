// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cretula/cretula/kms/backup"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// AuditHeadTable is the table of the heads of audit logs: what every server writes
// without a request.
const AuditHeadTable = tableAuditHead

// A StoreFinding is something wrong with a row of the store.
type StoreFinding struct {
	Table   string `json:"table"`
	ID      string `json:"id"`
	Message string `json:"message"`
}

// A StoreReport is what [Server.CheckStore] has found. It holds no secret.
type StoreReport struct {
	StoreID    string `json:"store_id"`
	Generation uint64 `json:"generation"`
	// Rows is how many there are in all, as a backup counts them.
	Rows int `json:"rows"`
	Keys int `json:"keys"`
	// Unwrapped is how many versions of key material and other secrets the root
	// key has opened, Policies how many policies were parsed.
	Unwrapped int            `json:"unwrapped"`
	Policies  int            `json:"policies"`
	Findings  []StoreFinding `json:"findings"`
	// AuditHeads are the newest signed heads of the audit logs of all servers.
	AuditHeads [][]byte `json:"audit_heads"`
}

// CheckStore reads the whole store: that every row is what the service wrote, that
// the root key opens every version of key material and every secret, that every
// policy can be parsed, and that no row leads to one that is not there. The error
// says why it could not be read to its end.
func (s *Server) CheckStore(ctx context.Context) (*StoreReport, error) {
	c := &storeCheck{server: s, rows: map[string]map[string]bool{}, report: StoreReport{
		StoreID: s.ledger.StoreID(), Generation: s.ledger.Generation(), Findings: []StoreFinding{},
	}}
	rows, tampered, err := s.ledger.Verify(ctx)
	if err != nil {
		return nil, err
	}
	c.report.Rows = rows
	for _, t := range tampered {
		c.note(t.Table, t.ID, "%v", t)
	}
	// Of what was tampered with Verify has spoken.
	if err := s.ledger.View(ctx, c.run); err != nil && !IsTampered(err) {
		return nil, err
	}
	// A row of a head that was tampered with is among the findings.
	if c.report.AuditHeads, err = AuditHeads(s.ledger).Heads(ctx); err != nil && !IsTampered(err) {
		return nil, err
	}
	return &c.report, nil
}

// A storeCheck is one run of CheckStore.
type storeCheck struct {
	server *Server
	report StoreReport
	// rows has the ids of the rows of each table that lead elsewhere or are led to.
	rows map[string]map[string]bool
	// wanted are the rows that there must be, with what leads to them.
	wanted []wantedRow
	keys   map[string]*keyRecord
}

type wantedRow struct{ table, id, byTable, byID string }

func (c *storeCheck) note(table, id, format string, args ...any) {
	c.report.Findings = append(c.report.Findings, StoreFinding{Table: table, ID: id, Message: fmt.Sprintf(format, args...)})
}

func (c *storeCheck) want(table, id, byTable, byID string) {
	c.wanted = append(c.wanted, wantedRow{table, id, byTable, byID})
}

// A tableCheck looks at the rows of one table.
type tableCheck struct {
	name  string
	check func(id string, content []byte) error
}

func (c *storeCheck) tables() []tableCheck {
	return []tableCheck{
		{tableKey, c.key}, {tablePolicy, c.policy}, {tableMaterial, c.material}, {tableRegions, c.none}, {tableAlias, c.alias},
		{tableGrant, c.grant}, {tableGrantee, c.index}, {tableGrantRequest, c.request}, {tableRetiring, c.retiring},
		{tableDue, c.due}, {tableUsed, c.none}, {tableUse, c.use},
		{tablePrincipal, c.principal}, {tablePrincipalName, c.principalEntry}, {tableAccessKey, c.accessKey}, {tableAccessKeyUse, c.accessKeyUse},
		{tableTokenKey, c.tokenKey}, {tableAuditHead, c.none},
	}
}

func (c *storeCheck) run(tx *ledger.Tx) error {
	c.keys = map[string]*keyRecord{}
	// Keys first: material is bound to them.
	for _, table := range c.tables() {
		ids := map[string]bool{}
		c.rows[table.name] = ids
		err := tx.Scan(table.name, "", func(row ledger.Row) bool {
			ids[row.ID] = true
			if row.Err == nil {
				if err := table.check(row.ID, row.Content); err != nil {
					c.note(table.name, row.ID, "%v", err)
				}
			}
			return true
		})
		if err != nil && !IsTampered(err) {
			return err
		}
	}
	for _, w := range c.wanted {
		if !c.rows[w.table][w.id] {
			c.note(w.byTable, w.byID, "it leads to row %q of table %q, which is not there", w.id, w.table)
		}
	}
	return nil
}

func (c *storeCheck) none(string, []byte) error { return nil }

func (c *storeCheck) key(id string, content []byte) error {
	k, err := parseRecord(content)
	if err != nil {
		return err
	}
	if k.rowID() != id {
		return fmt.Errorf("it is of key %s", k.rowID())
	}
	c.keys[id] = k
	c.report.Keys++
	c.want(tablePolicy, id, tableKey, id)
	for _, v := range k.history() {
		if !v.Missing {
			c.want(tableMaterial, id+"/"+v.ID, tableKey, id)
		}
	}
	for _, alias := range k.Aliases {
		c.want(tableAlias, k.Account+"/"+k.Region+"/"+alias, tableKey, id)
	}
	if k.multiRegion() {
		c.want(tableRegions, regionsRowID(k), tableKey, id)
	}
	return nil
}

func (c *storeCheck) policy(id string, content []byte) error {
	c.want(tableKey, id, tablePolicy, id)
	row, err := parsePolicyRow(content)
	if err != nil {
		return err
	}
	return c.parse(row.text, policy.KindKey)
}

func (c *storeCheck) parse(text string, kind policy.Kind) error {
	c.report.Policies++
	_, err := policy.Parse([]byte(text), kind)
	return err
}

// material unwraps a version, which must be one that its key has.
func (c *storeCheck) material(id string, content []byte) error {
	row, version := cutLast(id)
	k := c.keys[row]
	if k == nil {
		return fmt.Errorf("there is no key %s", row)
	}
	known := false
	for _, v := range k.history() {
		known = known || v.ID == version && !v.Missing
	}
	if !known {
		return fmt.Errorf("key %s has no such version", row)
	}
	return c.unwrap(content, materialBinding(k, version))
}

func (c *storeCheck) unwrap(wrapped, binding []byte) error {
	secret, err := c.server.rootKey.Unwrap(wrapped, binding)
	clear(secret)
	if err == nil {
		c.report.Unwrapped++
	}
	return err
}

// cutLast splits an id at its last slash.
func cutLast(id string) (before, after string) {
	i := max(strings.LastIndexByte(id, '/'), 0)
	return id[:i], strings.TrimPrefix(id[i:], "/")
}

func (c *storeCheck) alias(id string, content []byte) error {
	var record aliasRecord
	if err := json.Unmarshal(content, &record); err != nil {
		return err
	}
	part := strings.SplitN(id, "/", 3)
	if len(part) != 3 {
		return fmt.Errorf("no alias has such an id")
	}
	c.want(tableKey, part[0]+"/"+part[1]+"/"+record.KeyID, tableAlias, id)
	return nil
}

func (c *storeCheck) grant(id string, content []byte) error {
	g, err := parseGrant(content)
	if err != nil {
		return err
	}
	keyRow, grant := cutLast(id)
	if grant != g.ID {
		return fmt.Errorf("it is of grant %s", g.ID)
	}
	c.want(tableKey, keyRow, tableGrant, id)
	rows, err := grantRows(keyRow, g)
	for _, row := range rows {
		c.want(row.table, row.id, tableGrant, id)
	}
	return err
}

// index is a row of the grantees: ACCOUNT/REGION/KEYID/HASH/GRANTID.
func (c *storeCheck) index(id string, _ []byte) error {
	row, grant := cutLast(id)
	keyRow, _ := cutLast(row)
	c.want(tableGrant, grantRowID(keyRow, grant), tableGrantee, id)
	return nil
}

// request is ACCOUNT/REGION/KEYID/HASH, with the id of the grant.
func (c *storeCheck) request(id string, content []byte) error {
	keyRow, _ := cutLast(id)
	c.want(tableGrant, grantRowID(keyRow, string(content)), tableGrantRequest, id)
	return nil
}

// retiring is HASH/REGION/ACCOUNT/KEYID/GRANTID.
func (c *storeCheck) retiring(id string, _ []byte) error {
	part := strings.Split(id, "/")
	if len(part) != 5 {
		return fmt.Errorf("no such row has such an id")
	}
	c.want(tableGrant, strings.Join([]string{part[2], part[1], part[3], part[4]}, "/"), tableRetiring, id)
	return nil
}

// due may be of a key that is gone: it is cleared away when it is due.
func (c *storeCheck) due(id string, _ []byte) error {
	when, _, _ := strings.Cut(id, "/")
	_, err := time.Parse(dueForm, when)
	return err
}

func (c *storeCheck) use(id string, _ []byte) error {
	c.want(tableKey, id, tableUse, id)
	return nil
}

func (c *storeCheck) principal(id string, content []byte) error {
	p, err := parsePrincipal(content)
	if err != nil {
		return err
	}
	if p.ID != id {
		return fmt.Errorf("it is of principal %s", p.ID)
	}
	c.want(tablePrincipalName, p.nameRow(), tablePrincipal, id)
	for _, key := range p.AccessKeys {
		c.want(tableAccessKey, key, tablePrincipal, id)
	}
	var errs []error
	for _, text := range p.Policies {
		errs = append(errs, c.parse(text, policy.KindIdentity))
	}
	if p.Boundary != "" {
		errs = append(errs, c.parse(p.Boundary, policy.KindIdentity))
	}
	if p.TrustPolicy != "" {
		errs = append(errs, c.parse(p.TrustPolicy, policy.KindTrust))
	}
	return errors.Join(errs...)
}

func (c *storeCheck) principalEntry(id string, content []byte) error {
	var e principalEntry
	if err := json.Unmarshal(content, &e); err != nil {
		return err
	}
	c.want(tablePrincipal, e.ID, tablePrincipalName, id)
	return nil
}

func (c *storeCheck) accessKey(id string, content []byte) error {
	k, err := parseAccessKey(content)
	if err != nil {
		return err
	}
	c.want(tablePrincipal, k.Principal, tableAccessKey, id)
	return c.unwrap(k.Secret, secretBinding(id))
}

func (c *storeCheck) accessKeyUse(id string, _ []byte) error {
	c.want(tableAccessKey, id, tableAccessKeyUse, id)
	return nil
}

func (c *storeCheck) tokenKey(id string, content []byte) error {
	r, err := parseTokenKey(content)
	if err != nil {
		return err
	}
	return c.unwrap(r.Key, tokenKeyBinding(id))
}

// RecordStoreWork records what the operator does with the store as a whole, such
// as a backup: name is the name of the event.
func (s *Server) RecordStoreWork(ctx context.Context, name string, parameters map[string]any) error {
	event, err := s.ownEvent(name, "Operator")
	if err != nil {
		return err
	}
	event.RequestParameters = parameters
	return s.record(ctx, event)
}

// Backup writes a backup of the store to out, all of one moment, and returns how
// many rows it has. It is on record before its end is written. Where a row was
// tampered with nothing but the header is written: the error names the rows.
func (s *Server) Backup(ctx context.Context, out io.Writer) (rows uint64, err error) {
	meta := s.ledger.Meta()
	header := backup.Header{StoreID: s.ledger.StoreID(), Emulated: meta.Emulated, Account: meta.Account, Created: s.now().UTC().Truncate(time.Second)}
	w, err := backup.Create(out, s.rootKey, header)
	if err != nil {
		return 0, err
	}
	if err := s.ledger.Export(ctx, w.Put); err != nil {
		return 0, err
	}
	err = s.RecordStoreWork(ctx, "BackupStore", map[string]any{"storeId": header.StoreID, "rows": w.Rows()})
	if err != nil {
		return 0, err
	}
	return w.Rows(), w.Close()
}
