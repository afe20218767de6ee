// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

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
