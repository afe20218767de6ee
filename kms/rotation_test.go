// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/cretula/cretula/kms/kmsapi"
)

// The state of a key follows from what it has of its material.
func TestSettle(t *testing.T) {
	one := func(v version) []version { v.ID = "one"; return []version{v} }
	for name, c := range map[string]struct {
		origin, material, state string
		versions                versions
		deletion                *deletion
		want                    string
		suspended               bool
	}{
		"own material":                 {origin: "AWS_KMS", material: "one", state: "Enabled", want: "Enabled"},
		"of another origin":            {origin: "AWS_KMS", state: "Disabled", want: "Disabled"},
		"never imported":               {origin: "EXTERNAL", state: "PendingImport", want: "PendingImport"},
		"deletion taken back":          {origin: "EXTERNAL", state: "Disabled", want: "PendingImport", suspended: true},
		"imported":                     {origin: "EXTERNAL", material: "one", state: "PendingImport", versions: versions{Versions: one(version{})}, want: "Enabled"},
		"missing":                      {origin: "EXTERNAL", material: "one", state: "Enabled", versions: versions{Versions: one(version{Missing: true})}, want: "PendingImport"},
		"disabled and missing":         {origin: "EXTERNAL", material: "one", state: "Disabled", versions: versions{Versions: one(version{Missing: true})}, want: "PendingImport", suspended: true},
		"still missing":                {origin: "EXTERNAL", material: "one", state: "PendingImport", versions: versions{Versions: one(version{Missing: true}), Suspended: true}, want: "PendingImport", suspended: true},
		"back, and disabled before":    {origin: "EXTERNAL", material: "one", state: "PendingImport", versions: versions{Versions: one(version{}), Suspended: true}, want: "Disabled"},
		"disabled":                     {origin: "EXTERNAL", material: "one", state: "Disabled", versions: versions{Versions: one(version{})}, want: "Disabled"},
		"pending deletion and missing": {origin: "EXTERNAL", material: "one", state: "PendingDeletion", versions: versions{Versions: one(version{Missing: true})}, deletion: new(deletion), want: "PendingDeletion"},
		"an old one missing": {origin: "EXTERNAL", material: "two", state: "Enabled",
			versions: versions{Versions: append(one(version{Missing: true}), version{ID: "two"})}, want: "PendingImport"},
		"a pending one missing": {origin: "EXTERNAL", material: "two", state: "Enabled",
			versions: versions{Versions: append(one(version{Missing: true, Pending: true}), version{ID: "two"})}, want: "Enabled"},
	} {
		k := keyRecord{Origin: c.origin, Material: c.material, State: c.state, versions: c.versions, Deletion: c.deletion}
		for range 2 { // the second time nothing changes
			k.settle()
			if k.State != c.want || k.Suspended != c.suspended {
				t.Errorf("%s: %s, suspended: %v", name, k.State, k.Suspended)
			}
		}
	}
}

// Material is missing from the millisecond on in which it expires.
func TestLapse(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	for offset, missing := range map[time.Duration]bool{-time.Millisecond: false, 0: true, time.Hour: true} {
		k := keyRecord{Origin: kmsapi.OriginExternal, State: kmsapi.StateEnabled, Material: "one", versions: versions{Versions: []version{{ID: "one", Expires: at}}}}
		k.lapse(at.Add(offset))
		if model, validTo := k.expiration(); k.missing("one") != missing || (k.State == kmsapi.StateEnabled) == missing || (model == "") != missing || (validTo == nil) != missing {
			t.Errorf("%s: %+v", offset, k)
		}
	}
}

// Of several times the first is when the key stops working.
func TestExpiration(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	k := keyRecord{Origin: kmsapi.OriginExternal, Material: "three", versions: versions{Versions: []version{
		{ID: "one", Expires: at.Add(2)}, {ID: "two", Expires: at.Add(time.Hour)}, {ID: "three"}, {ID: "four", Pending: true, Expires: at.Add(-time.Hour)}}}}
	k.Versions[0].Expires = at
	if model, validTo := k.expiration(); model != kmsapi.KeyMaterialExpires || !time.Time(*validTo).Equal(at) {
		t.Errorf("%s %v", model, validTo)
	}
}

// A clone can be changed freely, and a record of a key that never rotated says
// nothing of versions.
func TestVersionsClone(t *testing.T) {
	k := keyRecord{Material: "one", versions: versions{Versions: []version{{ID: "one"}}, Rotation: &rotation{Days: 90}}}
	copied := k.clone()
	copied.Versions[0].Missing, copied.Rotation.Days = true, 91
	if k.Versions[0].Missing || k.Rotation.Days != 90 {
		t.Error("a clone shares its versions")
	}
	plain := keyRecord{Material: "one"}
	plain.history()[0].Missing = true
	text, err := json.Marshal(&plain)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil || members["material"] != "one" {
		t.Fatalf("%s, %v", text, err)
	}
	for _, name := range []string{"versions", "rotation", "suspended"} {
		if _, ok := members[name]; ok {
			t.Errorf("%s", text)
		}
	}
	if text, _ = json.Marshal(&k); json.Unmarshal(text, &members) != nil || members["versions"] == nil || members["rotation"] == nil {
		t.Errorf("%s", text)
	}
}
