// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/policy"
)

// Policies that are small as text and large when they are parsed do not fill memory.
func TestPolicyCacheIsBounded(t *testing.T) {
	var cache policyCache
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 100 {
		text := fmt.Sprintf(`{"Version":"2012-10-17","Id":"%d","Statement":[{"Effect":"Deny","Principal":"*","Action":"a:b","Resource":"*","Condition":{"NumericEquals":{"a:b":[1%s]}}}]}`,
			i, strings.Repeat(",1", 16000))
		if _, err := cache.parse(text, policy.KindKey); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2*maxCachedPolicies {
		t.Errorf("the cache has grown by %d bytes", grown)
	}
	runtime.KeepAlive(&cache)
}

// Package policy is told that the condition keys of a request are folded: they are,
// whatever a client or an administrator chooses as a part of one.
func TestConditionKeysAreFolded(t *testing.T) {
	names := []string{"Upper", "ÄÖ", "İ", "ẞ", "K", "Σ", "ǅ", "a:B/C"} // K: KELVIN SIGN
	context, tags, keyTags := map[string]string{}, []kmsapi.Tag{}, []keyTag{}
	for _, name := range names {
		context[name] = "Value"
		tags = append(tags, kmsapi.Tag{TagKey: &name, TagValue: &name})
		keyTags = append(keyTags, keyTag{name, name})
	}
	k := &key{keyRecord: keyRecord{ID: "mrk-1", Account: "000000000000", Region: "us-east-1", Spec: "S", Usage: "U", Origin: "O",
		Tags: keyTags, Aliases: []string{"alias/A"}, regions: &keyRegions{Primary: "us-east-1"}}}
	caller := &Caller{Region: "us-east-1", SourceIP: "127.0.0.1", UserAgent: "A", Principal: Principal{Type: User, Name: "Alice", Tags: context},
		Session: &Session{Tags: context, SourceIdentity: "S"}}
	for _, in := range []any{
		&kmsapi.CreateKeyInput{Tags: tags}, &kmsapi.TagResourceInput{Tags: tags}, &kmsapi.UntagResourceInput{TagKeys: names},
		&kmsapi.CreateGrantInput{Operations: []string{"Decrypt"}, Constraints: &kmsapi.GrantConstraints{EncryptionContextEquals: context, EncryptionContextSubset: context}},
		&kmsapi.DecryptInput{EncryptionContext: context},
	} {
		c := &call{caller: caller, in: in, op: kmsapi.LookupInput(reflect.TypeOf(in).Elem()), event: new(Event), alias: "alias/A", common: kmsapi.CommonOf(in)}
		conditions := c.conditions(k)
		for key := range conditions {
			if key != strings.ToLower(key) {
				t.Errorf("%T: %q", in, key)
			}
		}
		if len(conditions) < 25 {
			t.Errorf("%T: %d condition keys", in, len(conditions))
		}
	}
}
