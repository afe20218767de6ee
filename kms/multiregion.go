// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
)

// A keyRegions is the content of a row of the table "key-regions", of which all
// keys of one multi-region key have one together: its id is ACCOUNT/KEYID. It says
// in which regions there is such a key. Everything else is in rows of each region,
// so that each key is read, decided on and proven by itself.
//
// Related keys share id, material, spec, usage, origin and rotation; policy, tags,
// aliases, grants, description and state are each key's own (developer guide,
// "Multi-Region keys", shared properties).
type keyRegions struct {
	// Primary is the region of the primary key.
	Primary string `json:"primary"`
	// Replicas are the regions of the replica keys, in order.
	Replicas []string `json:"replicas,omitempty"`
}

func regionsRowID(k *keyRecord) string { return k.Account + "/" + k.ID }

// readRegions reads where the keys related to a multi-region key are.
func (k *key) readRegions(tx *ledger.Tx) error {
	if !k.multiRegion() {
		return nil
	}
	content, err := k.get(tx, tableRegions, regionsRowID(&k.keyRecord))
	if err != nil {
		return fmt.Errorf("kms: regions of key %s: %w", k.ID, err)
	}
	k.regions = new(keyRegions)
	if err := json.Unmarshal(content, k.regions); err != nil {
		return fmt.Errorf("kms: row of the regions of key %s: %w", k.ID, err)
	}
	return nil
}

// putRegions writes where the keys related to a key are, if it is a multi-region
// key.
func putRegions(tx *ledger.Tx, k *keyRecord) error {
	if k.regions == nil {
		return nil
	}
	content, err := json.Marshal(k.regions)
	if err != nil {
		return err
	}
	_, err = tx.Put(tableRegions, regionsRowID(k), content)
	return err
}

// with returns the regions after a replica came to be in another one.
func (r *keyRegions) with(region string) *keyRegions {
	replicas := append(slices.Clone(r.Replicas), region)
	slices.Sort(replicas)
	return &keyRegions{r.Primary, replicas}
}

// without returns the regions after the replica of one was deleted.
func (r *keyRegions) without(region string) *keyRegions {
	return &keyRegions{r.Primary, slices.DeleteFunc(slices.Clone(r.Replicas), func(s string) bool { return s == region })}
}

// in returns the name of the related key in a region.
func (n keyName) in(region string) keyName {
	return keyName{account: n.account, region: region, id: n.id}
}

// regionType returns PRIMARY or REPLICA, "" for a key of one region.
func (k *keyRecord) regionType() string {
	switch {
	case k.regions == nil:
		return ""
	case k.regions.Primary == k.Region:
		return kmsapi.MultiRegionPrimary
	}
	return kmsapi.MultiRegionReplica
}

// hasReplicas tells whether the key is a primary key that has replicas.
func (k *keyRecord) hasReplicas() bool {
	return k.regionType() == kmsapi.MultiRegionPrimary && len(k.regions.Replicas) > 0
}

// regionConfiguration is what DescribeKey shows of related keys, nil for a key of
// one region.
func (k *keyRecord) regionConfiguration() *kmsapi.MultiRegionConfiguration {
	if k.regions == nil {
		return nil
	}
	entry := func(region string) kmsapi.MultiRegionKey {
		return kmsapi.MultiRegionKey{Arn: keyARN(region, k.Account, k.ID), Region: region}
	}
	c := &kmsapi.MultiRegionConfiguration{MultiRegionKeyType: k.regionType(), PrimaryKey: entry(k.regions.Primary)}
	for _, region := range k.regions.Replicas {
		c.ReplicaKeys = append(c.ReplicaKeys, entry(region))
	}
	return c
}

// createConditions adds kms:MultiRegionKeyType of a key that CreateKey is to make,
// which is a primary key.
func createConditions(m policy.Context, in any) {
	if in, ok := in.(*kmsapi.CreateKeyInput); ok && valueOr(in.MultiRegion, false) {
		m["kms:multiregionkeytype"] = policy.Values{kmsapi.MultiRegionPrimary}
	}
}

// share gives a replica what the primary key decides for both.
func share(primary, replica *keyRecord) {
	replica.Spec, replica.Usage, replica.Origin = primary.Spec, primary.Usage, primary.Origin
	if primary.Origin == kmsapi.OriginAWSKMS {
		replica.Material, replica.versions = primary.Material, primary.versions.clone()
	}
}

// synchronize gives all replicas of a primary key what they share with it: versions
// of material that they have not yet, which of them is the current one, and how it
// rotates. Who changes any of that calls it within the same transaction, with the
// record that will be written, after the material is; on keys without replicas it
// does nothing. Imported material is not among it: it is imported in each region.
//
// That a row of a replica was tampered with is an error: no region may use material
// that another one has not.
func (s *Server) synchronize(tx *ledger.Tx, primary *keyRecord) error {
	if !primary.hasReplicas() {
		return nil
	}
	for _, region := range primary.regions.Replicas {
		replica := new(key)
		if err := s.readRecord(tx, primary.name().in(region), replica); err != nil {
			return err
		}
		share(primary, &replica.keyRecord)
		if err := s.copyMaterial(tx, primary, &replica.keyRecord); err != nil {
			return err
		}
		if err := putRecord(tx, &replica.keyRecord); err != nil {
			return err
		}
	}
	return nil
}

// copyMaterial gives a related key the versions of material that it has not, each
// wrapped anew for it.
func (s *Server) copyMaterial(tx *ledger.Tx, from, to *keyRecord) error {
	if from.Origin != kmsapi.OriginAWSKMS {
		return nil
	}
	wrapped := map[string][]byte{}
	var rowErr error
	prefix := from.rowID() + "/"
	err := tx.Scan(tableMaterial, prefix, func(row ledger.Row) bool {
		rowErr = row.Err
		wrapped[row.ID[len(prefix):]] = row.Content
		return rowErr == nil
	})
	if err := errors.Join(rowErr, err); err != nil {
		return err
	}
	for id, content := range wrapped {
		_, _, err := tx.Get(tableMaterial, to.rowID()+"/"+id)
		if err == nil {
			continue
		}
		if !errors.Is(err, keystore.ErrNotFound) {
			return err
		}
		m, err := s.unwrap(from, id, content)
		if err != nil {
			return err
		}
		err = s.putMaterial(tx, to, m)
		clear(m.secret)
		if err != nil {
			return err
		}
	}
	return nil
}

// waiting tells whether the waiting time has not begun: the deletion is that of a
// primary key which has replicas.
func (d *deletion) waiting() bool { return d.Due.IsZero() }

// over tells whether the waiting time is over.
func (d *deletion) over(now time.Time) bool { return !d.waiting() && !d.Due.After(now) }

// newDeletion is a deletion after a waiting time that begins now.
func newDeletion(now time.Time, days int32) *deletion {
	return &deletion{Due: now.UTC().Add(time.Duration(days) * 24 * time.Hour).Truncate(time.Millisecond), Days: days}
}

// unrelate is what the deletion of a multi-region key means for those that are
// related to it: with the last replica begins the waiting time of a primary key
// that is to be deleted (API reference, ScheduleKeyDeletion).
func (s *Server) unrelate(tx *ledger.Tx, k *keyRecord) error {
	switch k.regionType() {
	case "":
		return nil
	case kmsapi.MultiRegionPrimary:
		return tx.Delete(tableRegions, regionsRowID(k))
	}
	left := *k
	left.regions = k.regions.without(k.Region)
	if err := putRegions(tx, &left); err != nil || len(left.regions.Replicas) > 0 {
		return err
	}
	primary := new(key)
	if err := s.readRecord(tx, k.name().in(k.regions.Primary), primary); err != nil {
		return err
	}
	if primary.Deletion == nil || !primary.Deletion.waiting() {
		return nil
	}
	primary.Deletion = newDeletion(s.now(), primary.Deletion.Days)
	primary.State = kmsapi.StatePendingDeletion
	if err := putDue(tx, primary.Deletion.Due, dueDeletion, primary.rowID()); err != nil {
		return err
	}
	return putRecord(tx, &primary.keyRecord)
}
