// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// tablePrincipalName leads to a principal without reading all of them. Names are
// unique in an account without regard to case and to the path (IAM User Guide, "IAM
// identifiers"): paths are no part of the ARN of a session. The id of a row is
// ACCOUNT/TYPE/NAME, in lower case, without path.
const tablePrincipalName = "principal-name"

// A principalRecord is the content of a row of the table "principal".
type principalRecord struct {
	Principal
	Created time.Time `json:"created"`
	// Disabled says that nothing is accepted of the principal, nor of its sessions.
	Disabled bool `json:"disabled,omitempty"`
	// RevokedBefore ends the sessions that were issued before it.
	RevokedBefore time.Time `json:"revoked_before,omitzero"`
	// Revocation names the last revocation; it is random, so that it is another one also
	// in a store that was restored.
	Revocation string `json:"revocation,omitempty"`
	// AccessKeys are the ids of its access keys, in the order in which they were made.
	AccessKeys []string `json:"access_keys,omitempty"`
	// Trusted has the unique ids of those whom the trust policy names: see
	// bindPrincipals.
	Trusted map[string]string `json:"trusted,omitempty"`
}

// A principalEntry is the content of a row of the table "principal-name".
type principalEntry struct {
	ARN string `json:"arn"`
	ID  string `json:"id"`
}

func parsePrincipal(content []byte) (*principalRecord, error) {
	r := new(principalRecord)
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("kms: row of a principal: %w", err)
	}
	names := &principalNames{identityARN: r.IdentityARN(), arn: r.ARN(), userID: r.UserID(), policies: make([]keptPolicy, len(r.Policies))}
	for i, text := range r.Policies {
		names.policies[i].text = text
	}
	r.named = names
	return r, nil
}

// uniqueIDSize is the length of the random part of a unique id in bytes.
const uniqueIDSize = 11

// newUniqueID makes a unique id in IAM's form: 21 characters.
func (s *Server) newUniqueID(kind PrincipalType) (string, error) {
	prefix := "AIDA"
	if kind == Role {
		prefix = "AROA"
	}
	var b [uniqueIDSize]byte
	_, err := io.ReadFull(s.random, b[:])
	return prefix + base32.StdEncoding.EncodeToString(b[:])[:17], err
}

func principalNameRow(account string, kind PrincipalType, baseName string) string {
	return account + "/" + string(kind) + "/" + strings.ToLower(baseName)
}

func (p *Principal) nameRow() string { return principalNameRow(p.Account, p.Type, p.baseName()) }

// putJSON writes a row whose content is JSON.
func putJSON(tx *ledger.Tx, table, id string, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = tx.Put(table, id, content)
	return err
}

func putPrincipal(tx *ledger.Tx, r *principalRecord) error {
	return putJSON(tx, tablePrincipal, r.ID, r)
}

// deletePrincipal deletes the rows of a principal. Of one whose own row was
// tampered with the others are looked for.
func deletePrincipal(tx *ledger.Tx, p *PrincipalInfo) error {
	names, keys := []string{p.nameRow()}, make([]string, 0, maxAccessKeys)
	for _, k := range p.AccessKeys {
		keys = append(keys, k.ID)
	}
	if p.Tampered != "" {
		var err error
		if names, err = rowsOf(tx, tablePrincipalName, func(e *principalEntry) bool { return e.ID == p.ID }); err != nil {
			return err
		}
		own, err := rowsOf(tx, tableAccessKey, func(k *accessKeyRecord) bool { return k.Principal == p.ID })
		if err != nil {
			return err
		}
		keys = append(keys, own...)
	}
	for table, ids := range map[string][]string{tablePrincipal: {p.ID}, tablePrincipalName: names, tableAccessKey: keys, tableAccessKeyUse: keys} {
		for _, id := range ids {
			if id == "" {
				continue
			}
			if err := absentIsNil(tx.Delete(table, id)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rowsOf returns the ids of the rows that fit, as far as they can be believed.
func rowsOf[T any](tx *ledger.Tx, table string, fits func(*T) bool) (ids []string, err error) {
	err = tx.Scan(table, "", func(row ledger.Row) bool {
		record := new(T)
		if row.Err == nil && json.Unmarshal(row.Content, record) == nil && fits(record) {
			ids = append(ids, row.ID)
		}
		return true
	})
	return ids, err
}

// findPrincipal returns the entry of a name, nil if there is none.
func findPrincipal(tx *ledger.Tx, nameRow string) (*principalEntry, error) {
	content, _, err := tx.Get(tablePrincipalName, nameRow)
	if err != nil {
		return nil, absentIsNil(err)
	}
	e := new(principalEntry)
	if err := json.Unmarshal(content, e); err != nil {
		return nil, fmt.Errorf("kms: row %s of table %s: %w", nameRow, tablePrincipalName, err)
	}
	return e, nil
}

// readPrincipal returns the principal with a unique id. It is shared: nobody may
// change it. The error matches [keystore.ErrNotFound] if there is none.
func readPrincipal(tx *ledger.Tx, id string) (*principalRecord, uint64, error) {
	if keystore.CheckName(tablePrincipal, id) != nil {
		return nil, 0, keystore.ErrNotFound
	}
	return ledger.GetCached(tx, tablePrincipal, id, parsePrincipal)
}

// principalByRef returns the principal that a policy or a grant names as a user, a
// role or a session of a role; nil if there is none.
func principalByRef(tx *ledger.Tx, ref policy.PrincipalRef) (*principalEntry, error) {
	if ref.Account == "" {
		return principalByID(tx, ref.Value)
	}
	arn, kind := ref.Value, User
	switch ref.Kind {
	case policy.PrincipalRole:
		kind = Role
	case policy.PrincipalSession:
		// arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION, which lacks the path.
		kind, arn = Role, arn[:strings.LastIndexByte(arn, '/')]
	}
	baseName := arn[strings.LastIndexByte(arn, '/')+1:]
	e, err := findPrincipal(tx, principalNameRow(ref.Account, kind, baseName))
	if err != nil || e == nil {
		return nil, err
	}
	if ref.Kind == policy.PrincipalSession && strings.HasPrefix(arn, "arn:aws:") && strings.HasSuffix(e.ARN, "/"+baseName) || e.ARN == ref.Value {
		return e, nil
	}
	return nil, nil
}

// principalByID returns the principal with a unique id, nil if there is none.
func principalByID(tx *ledger.Tx, id string) (*principalEntry, error) {
	r, _, err := readPrincipal(tx, id)
	if err != nil {
		return nil, absentIsNil(err)
	}
	return &principalEntry{r.IdentityARN(), r.ID}, nil
}

// knowsAccount tells whether all principals of the account are known: it is the
// store's, or has some.
func (s *Server) knowsAccount(tx *ledger.Tx, account string) (bool, error) {
	if account == s.account {
		return true, nil
	}
	known := false
	err := tx.Scan(tablePrincipalName, account+"/", func(ledger.Row) bool {
		known = true
		return false
	})
	return known, err
}

// errPrincipalRef: a policy or a grant names a user or a role that does not exist.
var errPrincipalRef = errors.New("kms: there is no such user or role")

// uniqueID returns the unique id of the user or role that a policy or a grant
// names, of a session that of its role. It is "" for all other principals, and for
// those of accounts of which nothing is known. The error matches errPrincipalRef
// where the account is known and has no such principal.
func (s *Server) uniqueID(tx *ledger.Tx, ref policy.PrincipalRef) (string, error) {
	switch ref.Kind {
	case policy.PrincipalUser, policy.PrincipalRole, policy.PrincipalSession:
	default:
		return "", nil
	}
	e, err := principalByRef(tx, ref)
	if err != nil {
		return "", err
	}
	if e != nil {
		return e.ID, nil
	}
	known := true // the account of a unique id, which only a principal says
	if ref.Account != "" {
		known, err = s.knowsAccount(tx, ref.Account)
	}
	if known && err == nil {
		err = errPrincipalRef
	}
	return "", err
}
