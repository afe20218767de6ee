// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/sha256"
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

// Two tables lead to a principal without reading all of them. Names are unique in
// an account without regard to case and to the path (IAM User Guide, "IAM
// identifiers"): paths are no part of the ARN of a session.
const (
	tablePrincipalName = "principal-name" // id: ACCOUNT/TYPE/NAME, in lower case, without path
	tablePrincipalID   = "principal-id"   // id: the unique id
)

// A principalRecord is the content of a row of the table "principal".
type principalRecord struct {
	Principal
	Created time.Time `json:"created"`
	// Secret is the secret access key, wrapped: HMAC needs it in the clear.
	Secret []byte `json:"secret"`

	// unlisted says that no other table leads to the principal.
	unlisted bool
	// version is the hash of Secret: every wrapping is another.
	version any
}

// A principalEntry is the content of a row of the two tables.
type principalEntry struct {
	ARN         string `json:"arn"`
	ID          string `json:"id"`
	AccessKeyID string `json:"access_key_id"`
}

// parsePrincipal reads a row. Rows that were written before principals had unique
// ids get one of their access key, which no other principal has either; no other
// row leads to them.
func parsePrincipal(accessKeyID string, content []byte) (*principalRecord, error) {
	r := new(principalRecord)
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("kms: row of access key %s: %w", accessKeyID, err)
	}
	r.version = sha256.Sum256(r.Secret)
	if r.ID == "" {
		sum := sha256.Sum256([]byte("cretula.kms.unique-id\x00" + accessKeyID))
		r.ID, r.unlisted = uniqueIDOf(r.Type, sum[:uniqueIDSize]), true
	}
	return r, nil
}

// uniqueIDSize is the length of the random part of a unique id in bytes.
const uniqueIDSize = 11

// uniqueIDOf writes a unique id in IAM's form: 21 characters.
func uniqueIDOf(kind PrincipalType, b []byte) string {
	prefix := "AIDA"
	if kind == Role {
		prefix = "AROA"
	}
	return prefix + base32.StdEncoding.EncodeToString(b)[:17]
}

func (s *Server) newUniqueID(kind PrincipalType) (string, error) {
	var b [uniqueIDSize]byte
	_, err := io.ReadFull(s.random, b[:])
	return uniqueIDOf(kind, b[:]), err
}

func principalNameRow(account string, kind PrincipalType, baseName string) string {
	return account + "/" + string(kind) + "/" + strings.ToLower(baseName)
}

func (p *Principal) nameRow() string { return principalNameRow(p.Account, p.Type, p.baseName()) }

// putPrincipal writes the rows of a new principal.
func (s *Server) putPrincipal(tx *ledger.Tx, p *Principal, c Credentials) error {
	secret, err := s.rootKey.Wrap([]byte(c.SecretAccessKey), secretBinding(c.AccessKeyID))
	if err != nil {
		return err
	}
	content, err := json.Marshal(principalRecord{Principal: *p, Created: s.now().UTC(), Secret: secret})
	if err != nil {
		return err
	}
	entry, err := json.Marshal(principalEntry{p.IdentityARN(), p.ID, c.AccessKeyID})
	if err != nil {
		return err
	}
	for _, row := range []struct {
		table, id string
		content   []byte
	}{{tablePrincipal, c.AccessKeyID, content}, {tablePrincipalName, p.nameRow(), entry}, {tablePrincipalID, p.ID, entry}} {
		if _, err := tx.Put(row.table, row.id, row.content); err != nil {
			return err
		}
	}
	return nil
}

// deletePrincipal deletes the rows of a principal. Of one whose own row was
// tampered with the others are looked for.
func deletePrincipal(tx *ledger.Tx, p *PrincipalInfo) error {
	if err := tx.Delete(tablePrincipal, p.AccessKeyID); err != nil {
		return err
	}
	names, ids := []string{p.nameRow()}, []string{p.ID}
	if p.Tampered != "" {
		var err error
		if names, err = entriesOf(tx, tablePrincipalName, p.AccessKeyID); err != nil {
			return err
		}
		if ids, err = entriesOf(tx, tablePrincipalID, p.AccessKeyID); err != nil {
			return err
		}
	}
	for _, row := range names {
		if err := absentIsNil(tx.Delete(tablePrincipalName, row)); err != nil {
			return err
		}
	}
	for _, row := range ids {
		if err := absentIsNil(tx.Delete(tablePrincipalID, row)); err != nil {
			return err
		}
	}
	return nil
}

// entriesOf returns the rows that lead to an access key, as far as they can be
// believed.
func entriesOf(tx *ledger.Tx, table, accessKeyID string) (rows []string, err error) {
	scanErr := tx.Scan(table, "", func(row ledger.Row) bool {
		var e principalEntry
		if row.Err == nil && json.Unmarshal(row.Content, &e) == nil && e.AccessKeyID == accessKeyID {
			rows = append(rows, row.ID)
		}
		return true
	})
	return rows, scanErr
}

// findPrincipal returns the entry of a row of the two tables, nil if there is none.
// fits tells whether a principal that no row leads to is the one: stores that were
// written before there were such rows have some.
func (s *Server) findPrincipal(tx *ledger.Tx, table, id string, fits func(*Principal) bool) (*principalEntry, error) {
	content, _, err := tx.Get(table, id)
	if err == nil {
		e := new(principalEntry)
		if err := json.Unmarshal(content, e); err != nil {
			return nil, fmt.Errorf("kms: row %s of table %s: %w", id, table, err)
		}
		return e, nil
	}
	if !errors.Is(err, keystore.ErrNotFound) || s.allListed.Load() {
		return nil, absentIsNil(err)
	}
	all, err := scanPrincipals(tx)
	if err != nil {
		return nil, err
	}
	listed := true
	for i := range all {
		p := &all[i]
		listed = listed && !p.unlisted
		if p.unlisted && fits(&p.Principal) {
			return &principalEntry{p.IdentityARN(), p.ID, p.AccessKeyID}, nil
		}
	}
	if listed {
		s.allListed.Store(true) // nothing writes unlisted ones any more
	}
	return nil, nil
}

// principalByRef returns the principal that a policy or a grant names as a user, a
// role or a session of a role; nil if there is none.
func (s *Server) principalByRef(tx *ledger.Tx, ref policy.PrincipalRef) (*principalEntry, error) {
	if ref.Account == "" {
		return s.principalByID(tx, ref.Value)
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
	e, err := s.findPrincipal(tx, tablePrincipalName, principalNameRow(ref.Account, kind, baseName), func(p *Principal) bool {
		return p.Account == ref.Account && p.Type == kind && p.baseName() == baseName
	})
	if err != nil || e == nil {
		return nil, err
	}
	if ref.Kind == policy.PrincipalSession && strings.HasPrefix(arn, "arn:aws:") && strings.HasSuffix(e.ARN, "/"+baseName) || e.ARN == ref.Value {
		return e, nil
	}
	return nil, nil
}

// principalByID returns the principal with a unique id, nil if there is none.
func (s *Server) principalByID(tx *ledger.Tx, id string) (*principalEntry, error) {
	return s.findPrincipal(tx, tablePrincipalID, id, func(p *Principal) bool { return p.ID == id })
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
	if err != nil || known {
		return known, err
	}
	e, err := s.findPrincipal(tx, tablePrincipalName, account+"/", func(p *Principal) bool { return p.Account == account })
	return e != nil, err
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
	e, err := s.principalByRef(tx, ref)
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
