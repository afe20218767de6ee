// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.etcd.io/bbolt"
)

// editStore changes the rows of a folder that no server runs on, as a person with
// a tool for bbolt files can. fn gets the bucket of a table.
func editStore(t *testing.T, dir string, fn func(table func(string) *bbolt.Bucket)) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, "kms.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		fn(func(table string) *bbolt.Bucket {
			bucket := tx.Bucket([]byte("t:" + table))
			if bucket == nil {
				t.Fatalf("there is no table %s", table)
			}
			return bucket
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// rowOf finds the one row whose id has the text in it.
func rowOf(t *testing.T, bucket *bbolt.Bucket, text string) (id, value []byte) {
	t.Helper()
	bucket.ForEach(func(k, v []byte) error {
		if bytes.Contains(k, []byte(text)) {
			id, value = bytes.Clone(k), bytes.Clone(v)
		}
		return nil
	})
	if id == nil {
		t.Fatalf("no row for %s", text)
	}
	return id, value
}

// Manners of tampering with one row. old is the row as it was before its last
// change, other that of another key.
var manners = map[string]func(t *testing.T, b *bbolt.Bucket, id, value, old, other []byte){
	"content changed": func(t *testing.T, b *bbolt.Bucket, id, value, _, _ []byte) {
		value[len(value)-2] ^= 1
		must(t, b.Put(id, value))
	},
	"MAC changed": func(t *testing.T, b *bbolt.Bucket, id, value, _, _ []byte) {
		value[9] ^= 1
		must(t, b.Put(id, value))
	},
	"version changed": func(t *testing.T, b *bbolt.Bucket, id, value, _, _ []byte) {
		value[7]++
		must(t, b.Put(id, value))
	},
	"cut off":        func(t *testing.T, b *bbolt.Bucket, id, value, _, _ []byte) { must(t, b.Put(id, value[:len(value)-1])) },
	"another's":      func(t *testing.T, b *bbolt.Bucket, id, _, _, other []byte) { must(t, b.Put(id, other)) },
	"removed":        func(t *testing.T, b *bbolt.Bucket, id, _, _, _ []byte) { must(t, b.Delete(id)) },
	"older put back": func(t *testing.T, b *bbolt.Bucket, id, _, old, _ []byte) { must(t, b.Put(id, old)) },
}

// victim is a key with something to lose.
type victim struct{ table, manner, key, id, ciphertext string }

func (v *victim) String() string { return v.table + " " + v.manner }

// Each row of a key, changed by hand in every manner: the key is refused and the
// row is named to the operator, not to the client. The other keys go on.
func TestTamperedKeys(t *testing.T) {
	up := startUp(t, newDataDir(t))
	var victims []*victim
	for _, table := range []string{"key", "key-policy", "key-material"} {
		for manner := range manners {
			if manner != "older put back" || table == "key-policy" { // the other rows never change
				victims = append(victims, &victim{table: table, manner: manner})
			}
		}
	}
	// Exchanged with each other, all three rows valid in themselves.
	victims = append(victims, &victim{table: "key-policy", manner: "exchanged"}, &victim{table: "key-policy", manner: "exchanged"})
	untouched := &victim{}
	for _, v := range append(victims, untouched) {
		v.make(t, up.client())
	}
	up.signal(t, syscall.SIGTERM)
	old := map[string][]byte{}
	editStore(t, up.dir, func(table func(string) *bbolt.Bucket) {
		for _, v := range victims {
			_, old[v.key] = rowOf(t, table("key-policy"), v.id)
		}
	})
	up = startUp(t, up.dir)
	for _, v := range victims {
		policy := strings.Replace(crashPolicy, "%q", `"changed"`, 1)
		_, err := up.client().PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &v.key, Policy: &policy})
		must(t, err)
	}
	up.signal(t, syscall.SIGTERM)
	editStore(t, up.dir, func(table func(string) *bbolt.Bucket) {
		_, policy := rowOf(t, table("key-policy"), untouched.id)
		exchanged := victims[len(victims)-2:]
		firstID, first := rowOf(t, table("key-policy"), exchanged[0].id)
		secondID, second := rowOf(t, table("key-policy"), exchanged[1].id)
		must(t, table("key-policy").Put(firstID, second))
		must(t, table("key-policy").Put(secondID, first))
		for _, v := range victims[:len(victims)-2] {
			id, value := rowOf(t, table(v.table), v.id)
			other := policy
			if v.table != "key-policy" {
				_, other = rowOf(t, table(v.table), untouched.id)
			}
			manners[v.manner](t, table(v.table), id, value, old[v.key], other)
		}
	})
	up = startUp(t, up.dir)
	for _, v := range victims {
		v.refused(t, up)
	}
	untouched.works(t, up)
	after := &victim{}
	after.make(t, up.client())
	after.works(t, up)
}

func (v *victim) make(t *testing.T, c *kms.Client) {
	t.Helper()
	created, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{})
	must(t, err)
	v.key, v.id = *created.KeyMetadata.Arn, *created.KeyMetadata.KeyId
	out, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &v.key, Plaintext: []byte("of " + v.id)})
	must(t, err)
	v.ciphertext = string(out.CiphertextBlob)
}

func (v *victim) works(t *testing.T, up *upProcess) {
	t.Helper()
	out, err := up.client().Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: []byte(v.ciphertext)})
	if err != nil || string(out.Plaintext) != "of "+v.id {
		t.Errorf("another key: %v", err)
	}
}

// refused checks that no operation uses the key and that the row is named.
func (v *victim) refused(t *testing.T, up *upProcess) {
	t.Helper()
	c, ctx := up.client(oneTry), t.Context()
	_, decrypt := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: []byte(v.ciphertext)})
	_, encrypt := c.Encrypt(ctx, &kms.EncryptInput{KeyId: &v.key, Plaintext: []byte("x")})
	_, dataKey := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: &v.key, KeySpec: "AES_256"})
	_, describe := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &v.key})
	_, getPolicy := c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &v.key})
	policy := strings.Replace(crashPolicy, "%q", `"again"`, 1)
	_, putPolicy := c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &v.key, Policy: &policy})
	for operation, err := range map[string]error{
		"Decrypt": decrypt, "Encrypt": encrypt, "GenerateDataKey": dataKey, "DescribeKey": describe, "GetKeyPolicy": getPolicy, "PutKeyPolicy": putPolicy,
	} {
		what := v.String() + ": " + operation
		wantAWSError(t, what, err, "KMSInternalException")
		_, message, decision := describeAWSError(err)
		if strings.Contains(message, v.table) || strings.Contains(message, "tamper") {
			t.Errorf("%s: the client is told %s", what, message)
		}
		if operation != "Decrypt" {
			continue
		}
		explained := runCretula(t, up, "kms", "explain", decision)
		if !strings.Contains(explained, `of table "`+v.table+`"`) || !strings.Contains(explained, "000000000000/us-east-1/"+v.id) {
			t.Errorf("%s: the row is not named: %s", what, explained)
		}
		up.waitLog(t, decision)
	}
}

// Rows of principals: the access key is refused, the row is named, the others
// still work, and what was tampered with can be removed.
func TestTamperedPrincipals(t *testing.T) {
	up := startUp(t, newDataDir(t))
	policy := writeFile(t, "p.json", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}}`)
	credentials := map[string][2]string{}
	for manner := range manners {
		if manner != "older put back" {
			credentials[manner] = up.addPrincipal(t, strings.ReplaceAll(manner, " ", "-")[:6], "--policy", policy)
		}
	}
	gone, good := up.addPrincipal(t, "gone", "--policy", policy), up.addPrincipal(t, "good", "--policy", policy)
	call := func(c [2]string) error {
		_, err := up.clientAs(c[0], c[1], oneTry).ListKeys(t.Context(), &kms.ListKeysInput{})
		return err
	}
	for who, c := range credentials {
		if err := call(c); err != nil {
			t.Fatalf("%s, before: %v", who, err)
		}
	}
	up.signal(t, syscall.SIGTERM)
	var removed []byte
	editStore(t, up.dir, func(table func(string) *bbolt.Bucket) { _, removed = rowOf(t, table("access-key"), gone[0]) })
	up = startUp(t, up.dir)
	runCretula(t, up, "kms", "principal", "remove", "gone")
	up.signal(t, syscall.SIGTERM)
	editStore(t, up.dir, func(table func(string) *bbolt.Bucket) {
		_, admin := rowOf(t, table("access-key"), up.env["AWS_ACCESS_KEY_ID"])
		for manner, c := range credentials {
			id, value := rowOf(t, table("access-key"), c[0])
			manners[manner](t, table("access-key"), id, value, nil, admin)
		}
		must(t, table("access-key").Put([]byte(gone[0]), removed))
	})
	credentials["put back after its removal"] = gone

	up = startUp(t, up.dir)
	list := runCretula(t, up, "kms", "principal", "list")
	for who, c := range credentials {
		wantAWSError(t, who, call(c), "UnrecognizedClientException")
		up.waitLog(t, c[0])
		if !regexp.MustCompile(c[0] + " +REFUSED: ").MatchString(list) {
			t.Errorf("%s: not listed as refused:\n%s", who, list)
		}
	}
	if err := call(good); err != nil {
		t.Errorf("another principal: %v", err)
	}
	for who, c := range credentials {
		runCretula(t, up, "kms", "principal", "remove", c[0])
		wantAWSError(t, who+", removed", call(c), "UnrecognizedClientException")
	}
	if list := runCretula(t, up, "kms", "principal", "list"); strings.Contains(list, "REFUSED") {
		t.Errorf("after their removal:\n%s", list)
	}
	if _, err := up.client().CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Errorf("the administrator: %v", err)
	}
}

// The rows that bind all others, and one that is no row any more: there is no
// service on such a folder, and the row is named.
func TestTamperedStore(t *testing.T) {
	up := startUp(t, newDataDir(t))
	key := &victim{}
	key.make(t, up.client())
	up.signal(t, syscall.SIGTERM)
	store := filepath.Join(up.dir, "kms.db")
	whole := readTestFile(t, store)
	for _, c := range []struct{ table, row, manner, says string }{
		{"_roster", "root", "content changed", `row "root" of table "_roster" was tampered with: changed`},
		{"_roster", "root", "removed", `row "root" of table "_roster" was tampered with: removed`},
		{"_roster", "shard-", "content changed", ` of table "_roster" was tampered with: changed`},
		{"_roster", "shard-", "removed", ` of table "_roster" was tampered with: removed`},
		{"_meta", "meta", "content changed", `row "meta" of table "_meta" was tampered with: changed`},
		{"_meta", "meta", "removed", `row "meta" of table "_meta" was tampered with: removed`},
		{"key", key.id, "emptied", `row "000000000000/us-east-1/` + key.id + `"`},
	} {
		editStore(t, up.dir, func(table func(string) *bbolt.Bucket) {
			id, value := rowOf(t, table(c.table), c.row)
			if c.manner == "emptied" {
				must(t, table(c.table).Put(id, nil))
			} else {
				manners[c.manner](t, table(c.table), id, value, nil, nil)
			}
		})
		cmd := upCommand(up.dir)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() < 0 || !strings.Contains(string(out), c.says) || strings.Count(string(out), "\n") > 2 {
			t.Errorf("%s %s, %s: %v\n%s", c.table, c.row, c.manner, err, out)
		}
		must(t, os.WriteFile(store, whole, 0o600))
	}
	up = startUp(t, up.dir)
	key.works(t, up)
}
