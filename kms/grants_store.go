// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// grantIDSize is the length of a grant's id in bytes: 64 hexadecimal digits.
const grantIDSize = 32

// A grantRecord is the content of a row of the table "grant". It never changes.
//
// Three other tables lead to it: "grant-grantee", whose row
// ACCOUNT/REGION/KEYID/HASH/GRANTID is empty and has the hash of the grantee, so
// that a decision reads only the grants that can name the caller; "grant-request",
// whose row ACCOUNT/REGION/KEYID/HASH has the id of the grant that a request with
// a name has made; and "grant-retiring", whose row
// HASH/REGION/ACCOUNT/KEYID/GRANTID is empty and has the hash of the retiring
// principal.
type grantRecord struct {
	ID             string `json:"id"`
	Name           string `json:"name,omitempty"`
	Created        int64  `json:"created_ms"`
	IssuingAccount string `json:"issuing_account"`
	// Of Grantee and GranteeService one is set, of the two others one at most.
	Grantee         string `json:"grantee,omitempty"`
	GranteeService  string `json:"grantee_service,omitempty"`
	Retiring        string `json:"retiring,omitempty"`
	RetiringService string `json:"retiring_service,omitempty"`
	// GranteeID and RetiringID are the unique ids that these principals had when the
	// grant was made: see uniqueID.
	GranteeID  string            `json:"grantee_id,omitempty"`
	RetiringID string            `json:"retiring_id,omitempty"`
	Operations []string          `json:"operations"`
	Equals     map[string]string `json:"equals,omitzero"`
	Subset     map[string]string `json:"subset,omitzero"`
	SourceArn  string            `json:"source_arn,omitempty"`
}

// grantee returns the name that the grantee goes by in decisions.
func (g *grantRecord) grantee() string {
	if g.GranteeService != "" {
		return g.GranteeService
	}
	return g.Grantee
}

func (g *grantRecord) retiring() string {
	if g.RetiringService != "" {
		return g.RetiringService
	}
	return g.Retiring
}

// policy is the grant as decisions see it.
func (g *grantRecord) policy() policy.Grant {
	return policy.Grant{
		ID: g.ID, Name: g.Name, Grantee: g.grantee(), Operations: g.Operations,
		EncryptionContextEquals: g.Equals, EncryptionContextSubset: g.Subset, SourceArn: g.SourceArn,
	}
}

// constraints returns the constraints on the wire, nil if there are none.
func (g *grantRecord) constraints() *kmsapi.GrantConstraints {
	if g.Equals == nil && g.Subset == nil && g.SourceArn == "" {
		return nil
	}
	c := &kmsapi.GrantConstraints{EncryptionContextEquals: g.Equals, EncryptionContextSubset: g.Subset}
	if g.SourceArn != "" {
		c.SourceArn = &g.SourceArn
	}
	return c
}

// grantEntry is a grant as it is listed: a principal that was removed is shown by
// its unique id, as AWS does.
func (s *Server) grantEntry(tx *ledger.Tx, keyARN string, g *grantRecord) (e kmsapi.GrantListEntry, err error) {
	e = kmsapi.GrantListEntry{
		KeyId: keyARN, GrantId: g.ID, Name: g.Name, CreationDate: *timestamp(g.Created), IssuingAccount: rootARN(g.IssuingAccount),
		GranteeServicePrincipal: g.GranteeService, RetiringServicePrincipal: g.RetiringService,
		Operations: g.Operations, Constraints: g.constraints(),
	}
	if e.GranteePrincipal, err = s.shownPrincipal(tx, g.Grantee, g.GranteeID); err != nil {
		return e, err
	}
	e.RetiringPrincipal, err = s.shownPrincipal(tx, g.Retiring, g.RetiringID)
	return e, err
}

func (s *Server) shownPrincipal(tx *ledger.Tx, arn, id string) (string, error) {
	if id == "" {
		return arn, nil
	}
	found, err := principalByID(tx, id)
	if err != nil || found != nil {
		return arn, err
	}
	return id, nil
}

func rootARN(account string) string { return "arn:aws:iam::" + account + ":root" }

func grantRowID(keyRow, id string) string { return keyRow + "/" + id }

// grantHash is a principal in the id of a row, where its ARN could not stand. Two
// principals of one hash would only cost a row more to read.
func grantHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

func granteeRowID(keyRow, grantee, id string) string {
	return keyRow + "/" + grantHash(grantee) + "/" + id
}

func retiringRowID(keyRow, principal, id string) string {
	part := strings.SplitN(keyRow, "/", 3)
	return grantHash(principal) + "/" + part[1] + "/" + part[0] + "/" + part[2] + "/" + id
}

// requestRowID is the row of a request with a name, by all that the request says.
func requestRowID(keyRow string, g *grantRecord) (string, error) {
	same := *g
	same.ID, same.Created = "", 0
	same.Operations = slices.Sorted(slices.Values(g.Operations))
	content, err := json.Marshal(same)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	return keyRow + "/" + hex.EncodeToString(sum[:]), nil
}

// namedGrant returns the id of the grant that the same request has made before, ""
// if none has. That there is none is part of what the change rests on.
func (c *call) namedGrant(k *key, g *grantRecord) (id string, err error) {
	row, err := requestRowID(k.rowID(), g)
	if err != nil {
		return "", err
	}
	err = c.server.ledger.View(c.ctx, func(tx *ledger.Tx) error {
		content, err := k.get(tx, tableGrantRequest, row)
		if err == nil {
			id = string(content)
		}
		return absentIsNil(err)
	})
	return id, err
}

func absentIsNil(err error) error {
	if errors.Is(err, keystore.ErrNotFound) {
		return nil
	}
	return err
}

// grantRows are the rows of a grant and of what leads to it.
func grantRows(keyRow string, g *grantRecord) ([]rowVersion, error) {
	rows := []rowVersion{
		{table: tableGrant, id: grantRowID(keyRow, g.ID)},
		{table: tableGrantee, id: granteeRowID(keyRow, g.grantee(), g.ID)},
	}
	if g.retiring() != "" {
		rows = append(rows, rowVersion{table: tableRetiring, id: retiringRowID(keyRow, g.retiring(), g.ID)})
	}
	if g.Name != "" {
		row, err := requestRowID(keyRow, g)
		if err != nil {
			return nil, err
		}
		rows = append(rows, rowVersion{table: tableGrantRequest, id: row})
	}
	return rows, nil
}

func putGrant(tx *ledger.Tx, keyRow string, g *grantRecord) error {
	rows, err := grantRows(keyRow, g)
	if err != nil {
		return err
	}
	for _, row := range rows {
		var content []byte
		switch row.table {
		case tableGrant:
			if content, err = json.Marshal(g); err != nil {
				return err
			}
		case tableGrantRequest:
			content = []byte(g.ID)
		}
		if _, err := tx.Put(row.table, row.id, content); err != nil {
			return err
		}
	}
	return nil
}

func parseGrant(content []byte) (*grantRecord, error) {
	g := new(grantRecord)
	if err := json.Unmarshal(content, g); err != nil {
		return nil, fmt.Errorf("kms: row of a grant: %w", err)
	}
	return g, nil
}

// deleteGrant deletes a grant that was found by [call.findGrant].
func (c *call) deleteGrant(k *key, g *grantRecord) error {
	rows, err := grantRows(k.rowID(), g)
	if err != nil {
		return err
	}
	return c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		for _, row := range rows {
			if err := tx.Delete(row.table, row.id); absentIsNil(err) != nil {
				return err
			}
		}
		record.Grants--
		return nil
	})
}

// retiringRows returns the rows of a key's grants that do not begin with its own.
// Those of a grant that cannot be read any more stay, and lead nowhere.
func retiringRows(tx *ledger.Tx, keyRow string) (ids []string, err error) {
	scanErr := tx.Scan(tableGrant, keyRow+"/", func(row ledger.Row) bool {
		if row.Err != nil {
			return true
		}
		g, parseErr := parseGrant(row.Content)
		if parseErr != nil {
			err = parseErr
			return false
		}
		if g.retiring() != "" {
			ids = append(ids, retiringRowID(keyRow, g.retiring(), g.ID))
		}
		return true
	})
	return ids, errors.Join(err, scanErr)
}

// grantees returns the names by which a grant can name a principal: its own, its
// role's and its account's.
func (p *Principal) grantees() []string {
	return slices.Compact([]string{p.ARN(), p.IdentityARN(), rootARN(p.Account)})
}

// readGrants adds the grants that can name the principal. Of a key without grants it
// looks whether somebody has added one by hand; the rows of grants to others it never
// reads.
func (k *key) readGrants(tx *ledger.Tx, p *Principal) error {
	if k.Grants == 0 {
		return tx.ScanFault(tableGrantee, k.rowPrefix())
	}
	for _, grantee := range p.grantees() {
		ids, err := grantIDs(tx, granteeRowID(k.rowID(), grantee, ""))
		if err != nil {
			return err
		}
		for _, id := range ids {
			content, err := k.get(tx, tableGrant, grantRowID(k.rowID(), id))
			if err != nil {
				return err
			}
			g, err := parseGrant(content)
			if err != nil {
				return err
			}
			if g.GranteeID == "" || g.GranteeID == p.ID {
				k.grants = append(k.grants, g.policy())
			}
		}
	}
	return nil
}

// grantIDs returns the grants of one grantee. A row that was added or removed is an
// error: without it nobody knows what the grantee may do.
func grantIDs(tx *ledger.Tx, prefix string) (ids []string, err error) {
	scanErr := tx.Scan(tableGrantee, prefix, func(row ledger.Row) bool {
		if err = row.Err; err != nil {
			return false
		}
		ids = append(ids, strings.TrimPrefix(row.ID, prefix))
		return true
	})
	return ids, errors.Join(err, scanErr)
}
