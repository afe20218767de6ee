// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cretula/cretula/policy"
)

var update = flag.Bool("update", false, "write docs/kms-operations.md instead of comparing it")

const documentHead = `# Operations of the key service

Every operation of AWS KMS with what decides about it. This table is made from the
one in package ` + "`kms/kmsapi`" + ` (` + "`go test ./kms/kmsapi -run Document -update`" + `).

- **Operation**: "kms:" and its name is the action that policies name. ReEncrypt is
  two actions, one for each key.
- **On** is what the request is authorised on. Where it is "-", there is no key and
  identity policies alone decide.
- **Refused in** are the states of the key in which the operation fails, whatever
  policies say: with DisabledException for Disabled, else KMSInvalidStateException.
  PendingReplicaDeletion counts as PendingDeletion. For UpdateAlias it is the state of
  the new key. CancelKeyDeletion works in PendingDeletion only. *use* stands for
  Disabled, PendingDeletion, PendingImport and Unavailable. Where "origin not" stands
  before them, keys of another origin answer UnsupportedOperationException first.
- **Condition keys** are those that come from members of the request; the value in
  brackets stands where the member is absent. Beside them each operation on a key
  has the keys of the key itself, of the caller and, where there is one, of the
  encryption context, the alias, the tags, the constraints of a grant and the
  attestation document; ReEncrypt has EncryptionAlgorithm of each side and
  ReEncryptOnSameKey, DisableKey and ScheduleKeyDeletion TrailingDaysWithoutKeyUsage.
- **Recipient**: "yes" where AWS KMS takes an attestation document and seals the
  answer to the enclave; "extension" where this service alone looks at one, for keys
  whose policy asks for it.
- **Other accounts**: whether principals of other accounts can be allowed to.

| Operation | On | Refused in | Condition keys ` + "`kms:`" + ` | Recipient | Other accounts |
|---|---|---|---|---|---|
`

// actions are the names that policies have for an operation.
func actions(op *Operation) []string {
	if op.Name == "ReEncrypt" {
		return []string{ReEncryptFrom, ReEncryptTo}
	}
	return []string{op.Name}
}

func documentRow(op *Operation) string {
	name, refused, conditions, recipient, others := op.Name, op.Refuses.String(), []string{}, "", ""
	if both := actions(op); len(both) > 1 {
		name += ": " + strings.Join(both, " and ")
	}
	if op.Refuses == refuseUse {
		refused = "*use*"
	}
	if op.Origin != "" {
		refused = strings.TrimSuffix("origin not "+op.Origin+"; "+refused, "; ")
	}
	for _, c := range op.Conditions {
		key := strings.TrimPrefix(c.Key, "kms:")
		if c.Default != "" {
			key += " [" + c.Default + "]"
		}
		conditions = append(conditions, key)
	}
	switch {
	case op.TakesRecipient():
		recipient = "yes"
	case op.Extension:
		recipient = "extension"
	}
	if policy.CrossAccount("kms:" + actions(op)[0]) {
		others = "yes"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n", name, op.Resource, refused, strings.Join(conditions, ", "), recipient, others)
}

// TestDocument: docs/kms-operations.md is what the table says.
func TestDocument(t *testing.T) {
	const path = "../../docs/kms-operations.md"
	var b strings.Builder
	b.WriteString(documentHead)
	for _, op := range Operations() {
		b.WriteString(documentRow(op))
	}
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Errorf("%s is not what the table says: run with -update", path)
	}
	if lines := strings.Count(b.String(), "\n"); lines > 120 {
		t.Errorf("%d lines", lines)
	}
}

// TestActionsOfTwoKeys: both halves of ReEncrypt are possible on the same keys.
func TestActionsOfTwoKeys(t *testing.T) {
	for _, op := range Operations() {
		for _, action := range actions(op) {
			if policy.CrossAccount("kms:"+action) != policy.CrossAccount("kms:"+actions(op)[0]) {
				t.Errorf("%s: the actions differ", op.Name)
			}
		}
	}
}
