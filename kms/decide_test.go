// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/policy"
)

// Policies that are small as text and large when they are parsed do not fill memory, nor
// do the rows that they are in.
func TestPolicyCacheIsBounded(t *testing.T) {
	var cache policyCache
	var rows [100]keptPolicy
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 100 {
		text := fmt.Sprintf(`{"Version":"2012-10-17","Id":"%d","Statement":[{"Effect":"Deny","Principal":"*","Action":"a:b","Resource":"*","Condition":{"NumericEquals":{"a:b":[1%s]}}}]}`,
			i, strings.Repeat(",1", 16000))
		rows[i].text = text
		for range 2 {
			if _, err := cache.parseKept(text, &rows[i], policy.KindKey); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2*maxCachedPolicies {
		t.Errorf("the cache has grown by %d bytes", grown)
	}
	runtime.KeepAlive(&cache)
	runtime.KeepAlive(&rows)
	for i := range rows { // what is gone is parsed again
		if parsed, err := cache.parseKept(rows[i].text, &rows[i], policy.KindKey); err != nil || parsed.ID != fmt.Sprint(i) {
			t.Errorf("%d: %v", i, err)
		}
	}
}

// What a row was parsed to is of its text, and of the kind that is asked for.
func TestKeptPolicy(t *testing.T) {
	var cache policyCache
	text := func(id string) string {
		return `{"Version":"2012-10-17","Id":"` + id + `","Statement":{"Effect":"Deny","Action":"kms:*","Resource":"*"}}`
	}
	row := keptPolicy{text: text("a")}
	check := func(text string, kept *keptPolicy, id string) {
		t.Helper()
		if parsed, err := cache.parseKept(text, kept, policy.KindIdentity); err != nil || parsed.ID != id {
			t.Errorf("%v, want %s", err, id)
		}
	}
	for range 3 {
		check(text("a"), &row, "a")
		check(text("b"), &row, "b")
		check(text("a"), nil, "a")
		if _, err := cache.parseKept(row.text, &row, policy.KindKey); err == nil {
			t.Error("an identity policy is a key policy")
		}
	}
	if s := cache.stats(); s.Entries != 2 || s.Hits != 7 || s.Misses != 5 {
		t.Errorf("%+v", s)
	}
	other := parsedPrincipal(t, Principal{Type: User, Name: "u", Account: testAccount, Policies: []string{text("a"), text("b")}})
	for i, want := range []string{"a", "b"} {
		check(other.Policies[i], other.kept(i), want)
	}
	changed := other.Principal
	changed.Policies = []string{text("c"), text("a"), text("d")}
	for i, want := range []string{"c", "a", "d"} {
		check(changed.Policies[i], changed.kept(i), want)
	}
}

func parsedPrincipal(t *testing.T, p Principal) *principalRecord {
	t.Helper()
	content, err := json.Marshal(principalRecord{Principal: p})
	if err != nil {
		t.Fatal(err)
	}
	r, err := parsePrincipal(content)
	if err != nil {
		t.Fatal(err)
	}
	return r
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
		c := &call{caller: caller, in: in, op: kmsapi.LookupInput(reflect.TypeOf(in).Elem()), event: new(Event), alias: "alias/A", common: kmsapi.CommonOf(in), memory: new(decisionMemory)}
		conditions := c.conditions(k, nil)
		for key := range conditions {
			if key != strings.ToLower(key) {
				t.Errorf("%T: %q", in, key)
			}
		}
		if len(conditions) < 25 {
			t.Errorf("%T: %d condition keys", in, len(conditions))
		}
		for key, values := range conditions {
			regarding := regardingKey(t, key)
			if got := c.conditions(k, regarding); !reflect.DeepEqual(got[key], values) || len(got) >= len(conditions) {
				t.Errorf("%T: %s is %q, want %q, of %d keys", in, key, got[key], values, len(got))
			}
			for i := range maxWanted {
				regarding.Identity = append(regarding.Identity, regardingKey(t, fmt.Sprint("aws:principaltag/", i)).Identity...)
			}
			if got := c.conditions(k, regarding); !reflect.DeepEqual(got, conditions) {
				t.Errorf("%T: with many keys %v, want %v", in, got, conditions)
			}
		}
	}
}

// regardingKey returns a decision that regards one condition key.
func regardingKey(t *testing.T, key string) *policy.Input {
	t.Helper()
	text := `{"Statement":{"Effect":"Deny","Action":"kms:*","Resource":"*","Condition":{"StringLike":{` + strconv.QuoteToASCII(key) + `:"x"}}}}`
	parsed, err := policy.Parse([]byte(text), policy.KindIdentity)
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Input{Identity: []policy.Named{{Name: "x", Policy: parsed}}}
}

// A sheet is an audit log that keeps the last event as it would be written.
type sheet struct {
	nowhere
	last *Event
}

func (s *sheet) Append(_ context.Context, event any) error {
	text, err := json.Marshal(event)
	if err != nil {
		return err
	}
	s.last = new(Event)
	return json.Unmarshal(text, s.last)
}

// An event has each of its decisions as it was made, though the memory of calls is used
// again and again, and both decisions of a ReEncrypt are made in that of one call.
func TestDecisionsOfOneCall(t *testing.T) {
	ctx, log := t.Context(), new(sheet)
	s := newTestServer(t, log)
	admin := testCaller(t, s)(s.EnsureAdmin(ctx))
	var keys, aliases [2]string
	var sealed []byte
	tag, form := "side", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+testAccount+`:root"},"Action":"*","Resource":"*"},
		{"Sid":"%s","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:RequestAlias":"none","aws:ResourceTag/side":"none","aws:PrincipalAccount":"x"}}}]}`
	for i := range keys {
		value := fmt.Sprint(i)
		text := fmt.Sprintf(form, "S"+value)
		key, err := Do[kmsapi.CreateKeyOutput](ctx, s, admin, &kmsapi.CreateKeyInput{Policy: &text, Tags: []kmsapi.Tag{{TagKey: &tag, TagValue: &value}}})
		if err != nil {
			t.Fatal(err)
		}
		keys[i], aliases[i] = key.KeyMetadata.Arn, "alias/"+value
		if _, err := Do[kmsapi.CreateAliasOutput](ctx, s, admin, &kmsapi.CreateAliasInput{AliasName: &aliases[i], TargetKeyId: &keys[i]}); err != nil {
			t.Fatal(err)
		}
		out, err := Do[kmsapi.EncryptOutput](ctx, s, admin, &kmsapi.EncryptInput{KeyId: &keys[i], Plaintext: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			sealed = out.CiphertextBlob
		}
	}
	for range 50 {
		if _, err := Do[kmsapi.DecryptOutput](ctx, s, admin, &kmsapi.DecryptInput{CiphertextBlob: sealed}); err != nil {
			t.Fatal(err)
		}
		if _, err := Do[kmsapi.ReEncryptOutput](ctx, s, admin, &kmsapi.ReEncryptInput{CiphertextBlob: sealed, SourceKeyId: &aliases[0], DestinationKeyId: &aliases[1]}); err != nil {
			t.Fatal(err)
		}
		if len(log.last.OtherDecisions) != 1 || log.last.Decision == nil {
			t.Fatalf("%+v", log.last)
		}
		for i, d := range []*policy.Decision{&log.last.OtherDecisions[0], log.last.Decision} {
			statement := d.Trace.Policies[0].Statements[1]
			if statement.Sid != fmt.Sprint("S", i) || len(statement.Conditions) != 3 || d.Trace.Resource != keys[i] {
				t.Fatalf("decision %d: %+v", i, d.Trace)
			}
			for _, c := range statement.Conditions {
				want := map[string]string{"kms:RequestAlias": aliases[i], "aws:ResourceTag/side": fmt.Sprint(i), "aws:PrincipalAccount": testAccount}[c.Key]
				if len(c.Got) != 1 || c.Got[0] != want {
					t.Fatalf("decision %d: %s is %q, want %q", i, c.Key, c.Got, want)
				}
			}
		}
	}
}
