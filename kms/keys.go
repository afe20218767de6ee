// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cretula/cretula/kms/keyspec"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// Tables of the store. The id of a key's rows is ACCOUNT/REGION/KEYID; that of
// its material has /MATERIALID behind it; that of an alias is
// ACCOUNT/REGION/alias/NAME.
const (
	tableKey       = "key"
	tablePolicy    = "key-policy"
	tableMaterial  = "key-material"
	tableRegions   = "key-regions" // see keyRegions
	tableAlias     = "alias"
	tableDue       = "due"           // see dueID
	tableUsed      = "document-used" // see usedID
	tableUse       = "key-use"       // the last use of a key
	tablePrincipal = "principal"     // id: the unique id
	tableAccessKey = "access-key"    // id: the access key id

	tableGrant        = "grant" // see grantRecord for the four
	tableGrantee      = "grant-grantee"
	tableGrantRequest = "grant-request"
	tableRetiring     = "grant-retiring"
)

// keyTables are those in which a key has any number of rows, whose ids begin with
// that of the key's row and a slash.
var keyTables = []string{tableMaterial, tableGrant, tableGrantee, tableGrantRequest}

// A keyRecord is the content of a row of the table "key".
type keyRecord struct {
	ID          string    `json:"id"`
	Account     string    `json:"account"`
	Region      string    `json:"region"`
	Created     time.Time `json:"created"`
	Description string    `json:"description"`
	Spec        string    `json:"spec"`
	Usage       string    `json:"usage"`
	Origin      string    `json:"origin"`
	State       string    `json:"state"`
	// Material is the id of the current material, empty if there is none.
	Material string `json:"material,omitempty"`
	// Tags are ordered by their keys.
	Tags []keyTag `json:"tags,omitempty"`
	// Aliases are the names of the aliases of the key, "alias/…", in order.
	Aliases []string `json:"aliases,omitempty"`
	// Attested says that the key has, or had, the tag [AttestedTag].
	Attested bool `json:"attested,omitempty"`
	// Grants is how many grants the key has.
	Grants int `json:"grants,omitempty"`
	// Deletion is set while the key is pending deletion.
	Deletion *deletion `json:"deletion,omitempty"`
	versions

	// regions says where the related keys are; it is nil but for multi-region keys,
	// and in a row of its own.
	regions *keyRegions
	// arn and prefix are what ARN and rowPrefix return, of a record that was read: id,
	// account and region never change.
	arn, prefix string
	// current are the names of the material that was the current one when the record
	// was read.
	current materialNames
}

// materialNames are the names that material goes by, made once for a record.
type materialNames struct {
	id, row string
	binding []byte
}

// A keyTag is one tag of a key.
type keyTag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// A deletion is when a key will be deleted. Due is zero while the waiting time of
// a primary key has not begun.
type deletion struct {
	Due  time.Time `json:"due,omitzero"`
	Days int32     `json:"days"`
}

// ARN returns the key's ARN, by which answers name it.
func (k *keyRecord) ARN() string {
	if k.arn != "" {
		return k.arn
	}
	return keyARN(k.Region, k.Account, k.ID)
}

func (k *keyRecord) name() keyName { return keyName{account: k.Account, region: k.Region, id: k.ID} }

func (k *keyRecord) rowID() string {
	if k.prefix != "" {
		return k.prefix[:len(k.prefix)-1]
	}
	return keyRowID(k.name())
}

// rowPrefix begins the ids of rows that belong to the key's.
func (k *keyRecord) rowPrefix() string {
	if k.prefix != "" {
		return k.prefix
	}
	return k.rowID() + "/"
}

func keyRowID(n keyName) string { return n.account + "/" + n.region + "/" + n.id }

// multiRegion tells whether the key is a multi-region key, which its id says.
func (k *keyRecord) multiRegion() bool { return isMultiRegionID(k.ID) }

// symmetric tells whether the key is a symmetric encryption key.
func (k *keyRecord) symmetric() bool { return k.Spec == kmsapi.SymmetricDefault }

// shown returns an id of the key's material as answers show it: those of other
// than symmetric encryption keys they do not (API reference, KeyMetadata).
func (k *keyRecord) shown(material string) string {
	if !k.symmetric() {
		return ""
	}
	return material
}

// metadata is the key as DescribeKey shows it.
func (k *keyRecord) metadata() kmsapi.KeyMetadata {
	m := kmsapi.KeyMetadata{
		AWSAccountId: k.Account, KeyId: k.ID, Arn: k.ARN(), CreationDate: kmsapi.Timestamp(k.Created),
		Enabled: k.State == kmsapi.StateEnabled, Description: k.Description, KeyUsage: k.Usage, KeyState: k.State,
		Origin: k.Origin, KeyManager: kmsapi.KeyManager, CustomerMasterKeySpec: k.Spec, KeySpec: k.Spec,
		CurrentKeyMaterialId: k.shown(k.Material), MultiRegion: k.multiRegion(), MultiRegionConfiguration: k.regionConfiguration(),
	}
	m.ExpirationModel, m.ValidTo = k.expiration()
	if spec := keyspec.Lookup(k.Spec); spec != nil {
		m.EncryptionAlgorithms, m.SigningAlgorithms = spec.EncryptionAlgorithms(k.Usage), spec.SigningAlgorithms(k.Usage)
		m.KeyAgreementAlgorithms, m.MacAlgorithms = spec.KeyAgreementAlgorithms(k.Usage), spec.MacAlgorithms(k.Usage)
	}
	switch {
	case k.Deletion == nil:
	case k.Deletion.waiting():
		m.PendingDeletionWindowInDays = &k.Deletion.Days
	default:
		m.DeletionDate = timestamp(k.Deletion.Due.UnixMilli())
	}
	return m
}

// timestamp returns the time on the wire.
func timestamp(ms int64) *kmsapi.Timestamp {
	t := kmsapi.Timestamp(time.UnixMilli(ms))
	return &t
}

// A key is a key with all of it that a decision can need, read in one transaction
// and proven untouched.
type key struct {
	keyRecord
	// policy is the key policy; kept, if it is not nil, that of the row.
	policy string
	kept   *keptPolicy
	// principals has the unique ids of those that policy names: see bindPrincipals.
	principals map[string]string
	// grants are the active grants that can name the caller of the request.
	grants []policy.Grant
	// wrapped is the current material, wrapped by the root key; nil if there is
	// none.
	wrapped []byte
	// rows are what was read of the store, for [call.changeKey]; the first ones are in
	// firstRows.
	rows      []rowVersion
	firstRows [4]rowVersion
}

// A rowVersion is a row and the version in which it was read; 0: it was not there.
type rowVersion struct {
	table, id string
	version   uint64
}

// A materialVersion is one version of a key's material.
type materialVersion struct {
	id     string // 64 hexadecimal digits
	secret []byte
}

// errNoKey: there is no such key, or no such version of its material.
var errNoKey = errors.New("kms: no such key")

// loadKey reads a key: record, policy, current material and the grants that can
// name the asker, of which each must be what this service wrote, or the key is
// refused. The error matches errNoKey or is internal; a [ledger.TamperedError] in
// it names the row.
func (s *Server) loadKey(ctx context.Context, name keyName, asker *Principal) (*key, error) {
	k := new(key)
	err := s.ledger.View(ctx, func(tx *ledger.Tx) error { return s.readKey(tx, name, s.now(), asker, k) })
	if err != nil {
		return nil, err
	}
	return k, nil
}

// readRecord fills k with its record.
func (s *Server) readRecord(tx *ledger.Tx, name keyName, k *key) error {
	record, err := getCached(tx, k, tableKey, keyRowID(name), parseRecord)
	if errors.Is(err, keystore.ErrNotFound) {
		return errNoKey
	}
	if err != nil {
		return fmt.Errorf("kms: row of key %s: %w", name.id, err)
	}
	k.keyRecord = record.clone()
	return k.readRegions(tx)
}

// parseRecord reads what putRecord has written.
func parseRecord(content []byte) (*keyRecord, error) {
	record := new(keyRecord)
	if err := json.Unmarshal(content, record); err != nil {
		return nil, err
	}
	record.arn, record.prefix = record.ARN(), record.rowPrefix()
	if id := record.Material; id != "" {
		record.current = materialNames{id, record.materialRow(id), materialBinding(record, id)}
	}
	return record, nil
}

// readKey fills k from the rows of one transaction, as the key is at a time, with
// the grants that can name the asker.
func (s *Server) readKey(tx *ledger.Tx, name keyName, now time.Time, asker *Principal, k *key) error {
	if err := s.readRecord(tx, name, k); err != nil {
		return err
	}
	if k.Deletion != nil && k.Deletion.over(now) {
		return errNoKey
	}
	k.lapse(now)
	row := k.rowID()
	bound, err := getCached(tx, k, tablePolicy, row, parsePolicyRow)
	if err != nil {
		return err
	}
	k.policy, k.kept, k.principals = bound.text, &bound.keptPolicy, bound.principals
	if err := k.readGrants(tx, asker); err != nil {
		return err
	}
	if k.Material == "" || k.missing(k.Material) {
		return nil
	}
	k.wrapped, err = getCached(tx, k, tableMaterial, k.materialRow(k.Material), unparsed)
	return err
}

func unparsed(content []byte) ([]byte, error) { return content, nil }

// get reads a row and notes its version.
func (k *key) get(tx *ledger.Tx, table, id string) ([]byte, error) {
	content, version, err := tx.Get(table, id)
	if err == nil || errors.Is(err, keystore.ErrNotFound) {
		k.noteRow(table, id, version)
	}
	return content, err
}

// getCached is [ledger.GetCached] that notes the version of the row. What it
// returns is shared and may not be changed.
func getCached[T any](tx *ledger.Tx, k *key, table, id string, decode func([]byte) (T, error)) (T, error) {
	value, version, err := ledger.GetCached(tx, table, id, decode)
	if err == nil || errors.Is(err, keystore.ErrNotFound) {
		k.noteRow(table, id, version)
	}
	return value, err
}

func (k *key) noteRow(table, id string, version uint64) {
	if k.rows == nil {
		k.rows = k.firstRows[:0]
	}
	k.rows = append(k.rows, rowVersion{table, id, version})
}

// material returns a version of a key's material, the current one if id is empty;
// the error matches errNoKey if the key has no such version.
func (s *Server) material(ctx context.Context, k *key, id string) (materialVersion, error) {
	wrapped := k.wrapped
	if id == "" {
		id = k.Material
	}
	if id != k.Material {
		var err error
		if wrapped, err = s.otherMaterial(ctx, k, id); err != nil {
			return materialVersion{}, err
		}
	}
	if wrapped == nil {
		return materialVersion{}, errNoKey
	}
	return s.unwrap(&k.keyRecord, id, wrapped)
}

// otherMaterial returns a version that is not the current one, wrapped; nil if there is
// none.
func (s *Server) otherMaterial(ctx context.Context, k *key, id string) (wrapped []byte, err error) {
	err = s.ledger.ViewRecent(ctx, func(tx *ledger.Tx) (err error) {
		wrapped, _, err = ledger.GetCached(tx, tableMaterial, k.materialRow(id), unparsed)
		return err
	})
	return wrapped, absentIsNil(err)
}

// Material is unwrapped for each use and not kept: that costs less than a microsecond, and
// memory holds no more secrets than there are requests.
func (s *Server) unwrap(k *keyRecord, id string, wrapped []byte) (materialVersion, error) {
	secret, err := s.rootKey.Unwrap(wrapped, materialBinding(k, id))
	if err != nil {
		return materialVersion{}, fmt.Errorf("kms: material %s of key %s: %w", id, k.ARN(), err)
	}
	return materialVersion{id, secret}, nil
}

// materialRow is the id of the row of a version of a key's material.
func (k *keyRecord) materialRow(id string) string {
	if id == k.current.id && id != "" {
		return k.current.row
	}
	return k.rowPrefix() + id
}

// materialBinding is what wrapped material is bound to: the ARN of its key and
// its version. It is not to be changed.
func materialBinding(k *keyRecord, id string) []byte {
	if id == k.current.id && id != "" {
		return k.current.binding
	}
	const prefix = "cretula.kms.material\x00"
	arn := k.ARN()
	b := make([]byte, 0, len(prefix)+len(arn)+1+len(id))
	return append(append(append(append(b, prefix...), arn...), 0), id...)
}

// newMaterial gives material a random id.
func (s *Server) newMaterial(secret []byte) (materialVersion, error) {
	id, err := randomHex(s.random, "", materialSize)
	return materialVersion{id, secret}, err
}

// randomBytes returns n random bytes.
func (s *Server) randomBytes(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(s.random, b)
	return b, err
}

// putMaterial writes a version of a key's material.
func (s *Server) putMaterial(tx *ledger.Tx, k *keyRecord, m materialVersion) error {
	wrapped, err := s.rootKey.Wrap(m.secret, materialBinding(k, m.id))
	if err != nil {
		return err
	}
	_, err = tx.Put(tableMaterial, k.materialRow(m.id), wrapped)
	return err
}

// putRecord writes the record of a key.
func putRecord(tx *ledger.Tx, k *keyRecord) error {
	k.Attested = k.Attested || k.tagged()
	content, err := json.Marshal(k)
	if err != nil {
		return err
	}
	_, err = tx.Put(tableKey, k.rowID(), content)
	return err
}

// storeKey writes a new key: all of its rows or none.
func (c *call) storeKey(k *key, material *materialVersion) error {
	return c.change(func(tx *ledger.Tx) error {
		if err := putKey(tx, k); err != nil || material == nil {
			return err
		}
		return c.server.putMaterial(tx, &k.keyRecord, *material)
	})
}

// putKey writes a new key without its material.
func putKey(tx *ledger.Tx, k *key) error {
	if err := putRecord(tx, &k.keyRecord); err != nil {
		return err
	}
	if err := putRegions(tx, &k.keyRecord); err != nil {
		return err
	}
	return putPolicy(tx, k)
}

// changeKey makes a change that was decided on for k, unless a row that the
// decision rests on has changed since: then the error is errChanged, and the
// request is decided anew. fn changes the record, which is written after it, and
// writes what other rows it must. It is not called twice.
func (c *call) changeKey(k *key, fn func(*ledger.Tx, *keyRecord) error) error {
	return c.change(func(tx *ledger.Tx) error {
		if err := unchanged(tx, k); err != nil {
			return err
		}
		record := k.keyRecord.clone()
		if err := fn(tx, &record); err != nil {
			return err
		}
		return putRecord(tx, &record)
	})
}

// unchanged tells by errChanged whether a row that was read for k has another
// version now.
func unchanged(tx *ledger.Tx, k *key) error { return unchangedRows(tx, k.rows) }

func unchangedRows(tx *ledger.Tx, rows []rowVersion) error {
	for _, row := range rows {
		version, err := tx.Version(row.table, row.id)
		if err != nil && !errors.Is(err, keystore.ErrNotFound) {
			return err
		}
		if version != row.version {
			return errChanged
		}
	}
	return nil
}

// clone returns a copy that shares nothing that can be changed.
func (k *keyRecord) clone() keyRecord {
	copied := *k
	copied.Tags = slices.Clone(k.Tags)
	copied.Aliases = slices.Clone(k.Aliases)
	copied.versions = k.versions.clone()
	return copied
}

// resolve finds the key that a KeyId names: a key id of the caller's account and
// region, a key ARN of that region or, where the operation takes one, an alias
// name or alias ARN.
func (c *call) resolve(keyID string) (*key, error) {
	name, refused := parseKeyName(c.caller, keyID)
	if refused != nil {
		return nil, refused
	}
	if name.alias != "" && !takesAlias(c.op) {
		return nil, kmsapi.Errorf(kmsapi.NotFound, "Invalid keyId '%s'", keyID)
	}
	if name.account != c.caller.Principal.Account {
		c.foreign = name.arn()
	}
	return c.resolveName(name)
}

// resolveName finds the key of a name in the region of the request. What it finds is
// as the store had it a second ago at most: who changes something by it must see to
// it that it is unchanged.
//
// One snapshot has the key, the caller and the keys that were resolved before it: a
// decision must not rest on an old policy of the one and a new one of the other, which
// never were in force together, nor on what was read before a long wait for the store.
func (c *call) resolveName(asked keyName) (*key, error) {
	k := c.newKey()
	r := &c.own.resolving
	*r = resolving{call: c, asked: asked, key: k}
	err := c.server.ledger.ReadRecent(c.ctx, r)
	name := r.name
	if errors.Is(err, errNoAlias) {
		return nil, kmsapi.Errorf(kmsapi.NotFound, "Alias %s is not found.", name.aliasARN())
	}
	if errors.Is(err, errNoKey) {
		return nil, kmsapi.Errorf(kmsapi.NotFound, "Key '%s' does not exist", keyARN(name.region, name.account, name.id))
	}
	if err != nil {
		c.noteKey(name)
		return nil, err
	}
	c.noteResource(name.account, k.ARN())
	c.alias = name.alias
	if c.resolved == nil {
		c.resolved = c.own.resolved[:0]
	}
	c.resolved = append(c.resolved, k)
	return k, nil
}

// resolving is what resolveName reads: the key that was asked for, and the name it was
// found by.
type resolving struct {
	call        *call
	asked, name keyName
	key         *key
}

// Read implements [ledger.Reader].
func (r *resolving) Read(tx *ledger.Tx) error {
	c := r.call
	*r.key, r.name = key{}, r.asked
	if err := c.asResolved(tx); err != nil {
		return err
	}
	if r.name.alias != "" {
		if _, err := r.key.follow(tx, &r.name); err != nil {
			return err
		}
	}
	return c.server.readKey(tx, r.name, c.now, &c.caller.Principal, r.key)
}

// asResolved tells by errChanged whether the caller, or a key that this turn of the
// call has resolved, is not as it was.
func (c *call) asResolved(tx *ledger.Tx) error {
	if c.caller.rows != nil {
		if err := c.stillThere(tx); err != nil {
			return err
		}
	}
	for _, k := range c.resolved {
		if err := unchanged(tx, k); err != nil {
			return err
		}
	}
	return nil
}

// takesAlias tells whether KeyId can be an alias: in the operations that use a
// key, and in the two that show it.
func takesAlias(op *kmsapi.Operation) bool {
	return op.Usage != "" || op.Name == "DescribeKey" || op.Name == "GetPublicKey"
}

// noteKey notes the key that the request is about.
func (c *call) noteKey(n keyName) {
	arn := keyARN(n.region, n.account, n.id)
	if n.id == "" {
		arn = n.aliasARN()
	}
	c.noteResource(n.account, arn)
}

func (c *call) noteResource(account, arn string) {
	if c.event.Resources == nil {
		c.event.Resources = c.own.resource[:0]
	}
	c.event.Resources = append(c.event.Resources, EventResource{AccountID: account, Type: "AWS::KMS::Key", ARN: arn})
}
