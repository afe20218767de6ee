// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// Limits of aliases, and how many of them a page has.
const (
	maxAliases        = 50 // of one key
	maxAliasLimit     = 100
	defaultAliasLimit = 50
)

// An aliasRecord is the content of a row of the table "alias".
type aliasRecord struct {
	KeyID   string `json:"key"`
	Created int64  `json:"created_ms"`
	Updated int64  `json:"updated_ms"`
}

// errNoAlias: there is no such alias.
var errNoAlias = errors.New("kms: no such alias")

func aliasRowID(n keyName) string { return n.account + "/" + n.region + "/" + n.alias }

// follow replaces the alias of a name by the key that it refers to.
func (k *key) follow(tx *ledger.Tx, name *keyName) (record aliasRecord, err error) {
	content, err := k.get(tx, tableAlias, aliasRowID(*name))
	if errors.Is(err, keystore.ErrNotFound) {
		return record, errNoAlias
	}
	if err != nil {
		return record, err
	}
	if err := json.Unmarshal(content, &record); err != nil {
		return record, fmt.Errorf("kms: row of %s: %w", name.aliasARN(), err)
	}
	name.id = record.KeyID
	return record, nil
}

func putAlias(tx *ledger.Tx, name keyName, record aliasRecord) error {
	content, err := json.Marshal(record)
	if err != nil {
		return err
	}
	_, err = tx.Put(tableAlias, aliasRowID(name), content)
	return err
}

// aliasName reads the AliasName of a request.
func (c *call) aliasName(s string) (keyName, error) {
	name := keyName{account: c.caller.Principal.Account, region: c.caller.Region, alias: s}
	switch {
	case !strings.HasPrefix(s, aliasPrefix):
		return name, kmsapi.Errorf(kmsapi.Validation, `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case strings.HasPrefix(s, aliasPrefix+"aws/"):
		return name, kmsapi.Errorf(kmsapi.InvalidAliasName, "Aliases that begin with alias/aws/ are reserved.")
	case !isAliasName(s):
		return name, kmsapi.Errorf(kmsapi.InvalidAliasName, "The alias name is not valid.")
	}
	return name, nil
}

// aliasTarget finds the key that an alias is to refer to, which no alias names.
func (c *call) aliasTarget(keyID string) (*key, error) {
	if name, err := parseKeyName(c.caller, keyID); err == nil && name.alias != "" {
		return nil, kmsapi.Errorf(kmsapi.Validation, "Aliases must refer to keys. Not aliases")
	}
	return c.resolve(keyID)
}

// decideAlias decides about the operation on the alias itself, for which identity
// policies alone count.
func (c *call) decideAlias(name keyName) error {
	in, err := c.request(nil)
	if err != nil {
		return err
	}
	in.Request.Resource = name.aliasARN()
	return c.judge(in)
}

// createAlias gives a key another name. Both the alias and the key must be
// allowed.
func (c *call) createAlias(in *kmsapi.CreateAliasInput) (*kmsapi.CreateAliasOutput, error) {
	name, err := c.aliasName(*in.AliasName)
	if err != nil {
		return nil, err
	}
	if strings.Contains(name.alias, ":") { // which the model's pattern has, and the API reference has not
		return nil, kmsapi.Errorf(kmsapi.Validation, "%s contains invalid characters for an alias", name.alias)
	}
	k, err := c.aliasTarget(*in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	if err := c.decideAlias(name); err != nil {
		return nil, err
	}
	if err := c.decide(k); err != nil {
		return nil, err
	}
	if err := c.usable(k); err != nil {
		return nil, err
	}
	now := c.now.UnixMilli()
	err = c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		_, _, err := tx.Get(tableAlias, aliasRowID(name))
		switch {
		case err == nil:
			return kmsapi.Errorf(kmsapi.AlreadyExists, "An alias with the name %s already exists", name.aliasARN())
		case !errors.Is(err, keystore.ErrNotFound):
			return err
		}
		if err := record.addAlias(name.alias); err != nil {
			return err
		}
		return putAlias(tx, name, aliasRecord{KeyID: k.ID, Created: now, Updated: now})
	})
	return new(kmsapi.CreateAliasOutput), err
}

func (k *keyRecord) addAlias(alias string) error {
	if len(k.Aliases) >= maxAliases {
		return kmsapi.Errorf(kmsapi.LimitExceeded, "Aliases per key quota for this account in this region is %d, current usage is %d.", maxAliases, len(k.Aliases))
	}
	k.Aliases = append(k.Aliases, alias)
	slices.Sort(k.Aliases)
	return nil
}

func (k *keyRecord) removeAlias(alias string) {
	k.Aliases = slices.DeleteFunc(k.Aliases, func(a string) bool { return a == alias })
}

// aliasKey finds an alias and the key that it refers to, for a change of either.
func (c *call) aliasKey(name keyName) (*key, aliasRecord, error) {
	k := new(key)
	var record aliasRecord
	err := c.server.ledger.View(c.ctx, func(tx *ledger.Tx) (err error) {
		if record, err = k.follow(tx, &name); err != nil {
			return err
		}
		return c.server.readKey(tx, name, c.now, &c.caller.Principal, k)
	})
	if errors.Is(err, errNoAlias) || errors.Is(err, errNoKey) {
		return nil, record, kmsapi.Errorf(kmsapi.NotFound, "Alias %s is not found.", name.aliasARN())
	}
	c.noteKey(name)
	return k, record, err
}

// deleteAlias takes a name away.
func (c *call) deleteAlias(in *kmsapi.DeleteAliasInput) (*kmsapi.DeleteAliasOutput, error) {
	name, err := c.aliasName(*in.AliasName)
	if err != nil {
		return nil, err
	}
	k, _, err := c.aliasKey(name)
	if err != nil {
		return nil, err
	}
	if err := c.decideAlias(name); err != nil {
		return nil, err
	}
	if err := c.decide(k); err != nil {
		return nil, err
	}
	return new(kmsapi.DeleteAliasOutput), c.changeKey(k, func(tx *ledger.Tx, record *keyRecord) error {
		record.removeAlias(name.alias)
		return tx.Delete(tableAlias, aliasRowID(name))
	})
}

// updateAlias points a name to another key of the same type and usage. The alias
// and both keys must be allowed.
func (c *call) updateAlias(in *kmsapi.UpdateAliasInput) (*kmsapi.UpdateAliasOutput, error) {
	name, err := c.aliasName(*in.AliasName)
	if err != nil {
		return nil, err
	}
	from, record, err := c.aliasKey(name)
	if err != nil {
		return nil, err
	}
	to, err := c.aliasTarget(*in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	if err := c.decideAlias(name); err != nil {
		return nil, err
	}
	for _, k := range []*key{from, to} {
		if err := c.decide(k); err != nil {
			return nil, err
		}
	}
	if err := c.usable(to); err != nil {
		return nil, err
	}
	if from.kind() != to.kind() || from.Usage != to.Usage {
		return nil, kmsapi.Errorf(kmsapi.Validation, "The current and the new key of %s must be of the same type and have the same key usage.", name.aliasARN())
	}
	record.KeyID, record.Updated = to.ID, c.now.UnixMilli()
	if from.ID == to.ID {
		return new(kmsapi.UpdateAliasOutput), c.changeKey(to, func(tx *ledger.Tx, _ *keyRecord) error {
			// The row of the alias is one of those that were read for it.
			if err := unchanged(tx, from); err != nil {
				return err
			}
			return putAlias(tx, name, record)
		})
	}
	return new(kmsapi.UpdateAliasOutput), c.changeKey(to, func(tx *ledger.Tx, target *keyRecord) error {
		if err := unchanged(tx, from); err != nil {
			return err
		}
		old := from.clone()
		old.removeAlias(name.alias)
		if err := putRecord(tx, &old); err != nil {
			return err
		}
		if err := target.addAlias(name.alias); err != nil {
			return err
		}
		return putAlias(tx, name, record)
	})
}

// kind tells apart symmetric encryption keys, HMAC keys and key pairs.
func (k *keyRecord) kind() string {
	switch {
	case k.Spec == kmsapi.SymmetricDefault:
		return "symmetric"
	case strings.HasPrefix(k.Spec, "HMAC_"):
		return "hmac"
	}
	return "asymmetric"
}

// listAliases lists the aliases of the account and region, or those of one key.
func (c *call) listAliases(in *kmsapi.ListAliasesInput) (*kmsapi.ListAliasesOutput, error) {
	if err := c.decide(nil); err != nil {
		return nil, err
	}
	wanted := ""
	if in.KeyId != nil {
		k, err := c.resolve(*in.KeyId)
		if err == nil && c.foreign != "" {
			err = kmsapi.Errorf(kmsapi.NotFound, "Key '%s' does not exist", c.foreign)
		}
		if err != nil {
			return nil, err
		}
		wanted = k.ID
	}
	c.limitTo(maxAliasLimit)
	out := new(kmsapi.ListAliasesOutput)
	name := keyName{account: c.caller.Principal.Account, region: c.caller.Region}
	next, err := c.scan(tableAlias, name.account+"/"+name.region+"/", defaultAliasLimit, func(alias string, content []byte) (bool, error) {
		var record aliasRecord
		if err := json.Unmarshal(content, &record); err != nil {
			return false, err
		}
		if wanted != "" && record.KeyID != wanted {
			return false, nil
		}
		name.alias = alias
		out.Aliases = append(out.Aliases, kmsapi.AliasListEntry{
			AliasName: alias, AliasArn: name.aliasARN(), TargetKeyId: record.KeyID,
			CreationDate: timestamp(record.Created), LastUpdatedDate: timestamp(record.Updated),
		})
		return true, nil
	})
	out.NextMarker, out.Truncated = next, next != ""
	return out, err
}
