// SPDX-License-Identifier: Apache-2.0

//go:build linux

package datadir

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// TestCheckStore writes rows by the ledger, so that every MAC is right, which do
// not fit the others: each is named.
func TestCheckStore(t *testing.T) {
	c := newConfig(t, "")
	d := mustCreate(t, c)
	defer d.Close()
	s := server(t, d)
	f := fill(t, s)
	alias := "alias/a"
	if _, err := kms.Do[kmsapi.CreateAliasOutput](t.Context(), s, f.caller, &kmsapi.CreateAliasInput{AliasName: &alias, TargetKeyId: &f.key}); err != nil {
		t.Fatal(err)
	}
	grantee := "arn:aws:iam::000000000000:user/admin"
	_, err := kms.Do[kmsapi.CreateGrantOutput](t.Context(), s, f.caller, &kmsapi.CreateGrantInput{
		KeyId: &f.key, GranteePrincipal: &grantee, RetiringPrincipal: &grantee, Operations: []string{"Decrypt"}, Name: &alias,
	})
	if err != nil {
		t.Fatal(err)
	}
	check := func() *kms.StoreReport {
		t.Helper()
		report, err := s.CheckStore(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if report := check(); len(report.Findings) > 0 || report.Keys != 1 {
		t.Fatalf("before: %+v", report.Findings)
	}
	row := meta.Account + "/us-east-1/" + f.key
	for _, x := range []struct {
		what, table, id, content string // an id that ends with * is the first that begins so; content "-": deleted
		table2, says             string
	}{
		{"policy gone", "key-policy", row, "-", "key", "which is not there"},
		{"policy that is none", "key-policy", row, `{"Version":"2012-10-17"}`, "key-policy", ""},
		{"policy of no key", "key-policy", meta.Account + "/us-east-1/none", `{"Version":"2012-10-17","Statement":[]}`, "key-policy", "which is not there"},
		{"material gone", "key-material", row + "/*", "-", "key", "which is not there"},
		{"material that is none", "key-material", row + "/*", "nothing wrapped", "key-material", "rootkey"},
		{"material of no version", "key-material", row + "/00", "x", "key-material", "no such version"},
		{"material of no key", "key-material", meta.Account + "/us-east-1/none/00", "x", "key-material", "there is no key"},
		{"key that is no JSON", "key", row, "{", "key", "JSON"},
		{"key of another id", "key", meta.Account + "/us-east-1/none", `{"id":"x","account":"y"}`, "key", "it is of key"},
		{"key gone", "key", row, "-", "alias", "which is not there"},
		{"alias gone", "alias", meta.Account + "/us-east-1/alias/a", "-", "key", "which is not there"},
		{"alias of no key", "alias", meta.Account + "/us-east-1/alias/b", `{"key":"none"}`, "alias", "which is not there"},
		{"grant gone", "grant", row + "/*", "-", "grant-grantee", "which is not there"},
		{"grantee gone", "grant-grantee", row + "/*", "-", "grant", "which is not there"},
		{"retiring gone", "grant-retiring", "*", "-", "grant", "which is not there"},
		{"request gone", "grant-request", row + "/*", "-", "grant", "which is not there"},
		{"principal gone", "principal", "*", "-", "access-key", "which is not there"},
		{"principal's name gone", "principal-name", "*", "-", "principal", "which is not there"},
		{"access key gone", "access-key", f.admin.AccessKeyID, "-", "principal", "which is not there"},
		{"secret that is none", "access-key", f.admin.AccessKeyID, `{"secret":"AAAA"}`, "access-key", "rootkey"},
		{"token key that is none", "token-key", "0000000000000000", `{"key":"AAAA"}`, "token-key", "rootkey"},
		{"due at no time", "due", "never/x", "", "due", "parsing time"},
	} {
		undo := edit(t, d.Ledger, x.table, x.id, x.content)
		report := check()
		found := false
		for _, finding := range report.Findings {
			found = found || finding.Table == x.table2 && strings.Contains(finding.Message, x.says)
		}
		if !found {
			t.Errorf("%s: no finding in table %s with %q: %+v", x.what, x.table2, x.says, report.Findings)
		}
		for _, finding := range report.Findings {
			if strings.Contains(finding.Message, f.admin.SecretAccessKey) {
				t.Errorf("%s: a finding shows a secret", x.what)
			}
		}
		undo()
		if report := check(); len(report.Findings) > 0 {
			t.Fatalf("after %s: %+v", x.what, report.Findings)
		}
	}
	report := check()
	// The files are private to the test: nobody writes between the two.
	rows, err := server(t, d).Backup(t.Context(), io.Discard)
	if err != nil || uint64(report.Rows) != rows {
		t.Errorf("%d rows, the backup has %d, %v", report.Rows, rows, err)
	}
	log, err := c.VerifyAudit(t.Context(), report.StoreID, report.AuditHeads)
	if err != nil || len(log.Findings) > 0 || log.Records == 0 {
		t.Errorf("audit log: %+v, %v", log, err)
	}
	if _, err := c.VerifyAudit(t.Context(), strings.Repeat("0", 32), nil); !errors.Is(err, audit.ErrOtherKey) {
		t.Errorf("audit log of another store: %v", err)
	}
}

// edit writes or deletes a row by the ledger and returns what undoes it.
func edit(t *testing.T, l *ledger.Ledger, table, id, content string) (undo func()) {
	t.Helper()
	var before []byte
	existed := false
	update := func(fn func(tx *ledger.Tx) error) {
		t.Helper()
		if err := l.Update(t.Context(), fn); err != nil {
			t.Fatalf("%s %s: %v", table, id, err)
		}
	}
	update(func(tx *ledger.Tx) error {
		if prefix, ok := strings.CutSuffix(id, "*"); ok {
			err := tx.Scan(table, prefix, func(row ledger.Row) bool {
				id = row.ID
				return false
			})
			if err != nil {
				return err
			}
		}
		var err error
		if before, _, err = tx.Get(table, id); err == nil {
			existed = true
		}
		if content == "-" {
			return tx.Delete(table, id)
		}
		_, err = tx.Put(table, id, []byte(content))
		return err
	})
	return func() {
		update(func(tx *ledger.Tx) error {
			if !existed {
				return tx.Delete(table, id)
			}
			_, err := tx.Put(table, id, before)
			return err
		})
	}
}
