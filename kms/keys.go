// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// Tables of the store. The id of a key's rows is ACCOUNT/REGION/KEYID; that of
// its material has /MATERIALID behind it.
const (
	tableKey       = "key"
	tablePolicy    = "key-policy"
	tableMaterial  = "key-material"
	tablePrincipal = "principal" // id: the access key id
)

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
	Material    string    `json:"material"` // the id of the current material
}

// ARN returns the key's ARN, by which answers name it.
func (k *keyRecord) ARN() string { return keyARN(k.Region, k.Account, k.ID) }

func (k *keyRecord) rowID() string { return keyRowID(keyName{k.Account, k.Region, k.ID}) }

func keyRowID(n keyName) string { return n.account + "/" + n.region + "/" + n.id }

// metadata is the key as DescribeKey shows it.
func (k *keyRecord) metadata() kmsapi.KeyMetadata {
	return kmsapi.KeyMetadata{
		AWSAccountId: k.Account, KeyId: k.ID, Arn: k.ARN(), CreationDate: kmsapi.Timestamp(k.Created),
		Enabled: k.State == kmsapi.StateEnabled, Description: k.Description, KeyUsage: k.Usage, KeyState: k.State,
		Origin: k.Origin, KeyManager: kmsapi.KeyManager, CustomerMasterKeySpec: k.Spec, KeySpec: k.Spec,
		EncryptionAlgorithms: []string{kmsapi.SymmetricDefault}, CurrentKeyMaterialId: k.Material,
	}
}

// A key is a key with all of it that an operation can need, read in one
// transaction and proven untouched.
type key struct {
	keyRecord
	policy  string
	current materialVersion
}

// A materialVersion is one version of a key's material.
type materialVersion struct {
	id     string // 64 hexadecimal digits
	secret []byte
}

// errNoKey: there is no such key.
var errNoKey = errors.New("kms: no such key")

// loadKey reads a key: record, policy and current material, of which each must be
// what this service wrote, or the key is refused. The error matches errNoKey or
// is internal; a [ledger.TamperedError] in it names the row.
func (s *Server) loadKey(ctx context.Context, name keyName) (*key, error) {
	var k key
	var wrapped []byte
	err := s.ledger.View(ctx, func(tx *ledger.Tx) error {
		content, _, err := tx.Get(tableKey, keyRowID(name))
		if errors.Is(err, keystore.ErrNotFound) {
			return errNoKey
		}
		if err != nil {
			return err
		}
		if err := json.Unmarshal(content, &k.keyRecord); err != nil {
			return fmt.Errorf("kms: row of key %s: %w", name.id, err)
		}
		policy, _, err := tx.Get(tablePolicy, keyRowID(name))
		if err != nil {
			return err
		}
		k.policy = string(policy)
		wrapped, _, err = tx.Get(tableMaterial, k.rowID()+"/"+k.Material)
		return err
	})
	if err != nil {
		return nil, err
	}
	k.current, err = s.unwrap(&k.keyRecord, k.Material, wrapped)
	if err != nil {
		return nil, err
	}
	return &k, nil
}

// material returns the version of a key's material that a ciphertext names; the
// error matches errNoKey if the key has no such version.
func (s *Server) material(ctx context.Context, k *key, id string) (materialVersion, error) {
	if id == k.current.id {
		return k.current, nil
	}
	var wrapped []byte
	err := s.ledger.View(ctx, func(tx *ledger.Tx) (err error) {
		wrapped, _, err = tx.Get(tableMaterial, k.rowID()+"/"+id)
		return err
	})
	if errors.Is(err, keystore.ErrNotFound) {
		return materialVersion{}, errNoKey
	}
	if err != nil {
		return materialVersion{}, err
	}
	return s.unwrap(&k.keyRecord, id, wrapped)
}

// Material is unwrapped for each use and not kept: that costs microseconds, and
// memory holds no more secrets than there are requests.
func (s *Server) unwrap(k *keyRecord, id string, wrapped []byte) (materialVersion, error) {
	secret, err := s.rootKey.Unwrap(wrapped, materialBinding(k, id))
	if err != nil {
		return materialVersion{}, fmt.Errorf("kms: material %s of key %s: %w", id, k.ARN(), err)
	}
	return materialVersion{id, secret}, nil
}

// materialBinding is what wrapped material is bound to: the ARN of its key and
// its version.
func materialBinding(k *keyRecord, id string) []byte {
	return []byte("cretula.kms.material\x00" + k.ARN() + "\x00" + id)
}

// newKey makes a symmetric key that is not stored yet.
func (s *Server) newKey(caller *Caller, description, policy string, now time.Time) (*key, error) {
	id, err := newUUID(s.random)
	if err != nil {
		return nil, err
	}
	material, err := randomHex(s.random, materialSize)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, materialSize)
	if _, err := io.ReadFull(s.random, secret); err != nil {
		return nil, err
	}
	return &key{
		keyRecord: keyRecord{
			ID: id, Account: caller.Principal.Account, Region: caller.Region, Created: now.UTC(), Description: description,
			Spec: kmsapi.SymmetricDefault, Usage: kmsapi.EncryptDecrypt, Origin: kmsapi.OriginAWSKMS,
			State: kmsapi.StateEnabled, Material: material,
		},
		policy:  policy,
		current: materialVersion{material, secret},
	}, nil
}

// storeKey writes a new key: all of its rows or none.
func (c *call) storeKey(k *key) error {
	wrapped, err := c.server.rootKey.Wrap(k.current.secret, materialBinding(&k.keyRecord, k.current.id))
	if err != nil {
		return err
	}
	content, err := json.Marshal(k.keyRecord)
	if err != nil {
		return err
	}
	return c.change(func(tx *ledger.Tx) error {
		for _, row := range []struct {
			table, id string
			content   []byte
		}{
			{tableKey, k.rowID(), content},
			{tablePolicy, k.rowID(), []byte(k.policy)},
			{tableMaterial, k.rowID() + "/" + k.current.id, wrapped},
		} {
			if _, err := tx.Put(row.table, row.id, row.content); err != nil {
				return err
			}
		}
		return nil
	})
}

// resolve finds the key that a KeyId names.
func (c *call) resolve(keyID string) (*key, error) {
	name, refused := parseKeyName(c.caller, keyID)
	if refused != nil {
		return nil, refused
	}
	k, err := c.server.loadKey(c.ctx, name)
	if errors.Is(err, errNoKey) {
		return nil, kmsapi.Errorf(kmsapi.NotFound, "Key '%s' does not exist", keyARN(name.region, name.account, name.id))
	}
	if err != nil {
		c.noteKey(name)
		return nil, err
	}
	c.noteKey(name)
	return k, nil
}

// noteKey notes the key that the request is about.
func (c *call) noteKey(n keyName) {
	c.event.Resources = append(c.event.Resources,
		EventResource{AccountID: n.account, Type: "AWS::KMS::Key", ARN: keyARN(n.region, n.account, n.id)})
}

// usable checks state and usage of a key for the operation of the call.
func (c *call) usable(k *key, algorithm *string) error {
	switch {
	case k.State != kmsapi.StateEnabled && !c.op.AnyState:
		return kmsapi.Errorf(kmsapi.KMSInvalidState, "%s is not enabled.", k.ARN())
	case c.op.Usage != "" && k.Usage != c.op.Usage:
		return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "%s key usage is %s which is not valid for %s.", k.ARN(), k.Usage, c.op.Name)
	case algorithm != nil && *algorithm != kmsapi.SymmetricDefault:
		return kmsapi.Errorf(kmsapi.InvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", *algorithm, k.Spec)
	}
	return nil
}
