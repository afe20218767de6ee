// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/policy"
	"github.com/cretula/cretula/reason"
)

// defaultPolicy is the policy that AWS gives a key made without one: it delegates
// to the account's identity policies.
func defaultPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::` + account + `:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

// checkPolicy makes a text the policy of k, unless it cannot be: one that is no key
// policy, that names principals which do not exist, or after which the caller
// could not change the policy again, unless that is asked for. One that is taken
// is noted as a whole: the event must say what the policy is from now on.
func (c *call) checkPolicy(k *key, text string, bypass bool) error {
	if len(text) > policy.MaxSize {
		return kmsapi.Errorf(kmsapi.LimitExceeded, "The policy is larger than %d bytes.", policy.MaxSize)
	}
	for _, r := range text {
		// The pattern of the model's PolicyType.
		if r != '\t' && r != '\n' && r != '\r' && (r < ' ' || r > 0xff) {
			return kmsapi.Errorf(kmsapi.Validation, "1 validation error detected: Value at 'policy' failed to satisfy constraint: "+
				`Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+`)
		}
	}
	parsed, err := c.server.policies.parse(text, policy.KindKey)
	if err != nil {
		return malformedPolicy(err)
	}
	changed := *k
	changed.policy = text
	if changed.principals, err = c.bindPrincipals(parsed); err != nil {
		return err
	}
	if !bypass {
		if err := c.checkLockout(&changed); err != nil {
			return err
		}
	}
	c.parameter("policy", text)
	k.policy, k.principals = text, changed.principals
	return nil
}

// checkLockout refuses a policy after which the caller could not change it again.
func (c *call) checkLockout(changed *key) error {
	bypass := false
	later := *c
	later.op, later.in = kmsapi.Lookup("PutKeyPolicy"), &kmsapi.PutKeyPolicyInput{BypassPolicyLockoutSafetyCheck: &bypass}
	later.common, later.alias = kmsapi.Common{}, ""
	in, err := later.request(changed)
	if err != nil {
		return err
	}
	if decision := policy.Evaluate(in); !decision.Allowed {
		return kmsapi.Errorf(kmsapi.MalformedPolicyDocument, "The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

const invalidPrincipals = "Policy contains a statement with one or more invalid principals."

// malformedPolicy says what is wrong with a policy: in AWS's words where they are
// known, else with the place.
func malformedPolicy(err error) error {
	refused, ok := errors.AsType[*reason.Error](err)
	if !ok {
		return err
	}
	message := refused.Problems[0].Message
	switch refused.Rule() {
	case "policy.principal":
		message = invalidPrincipals
	case "policy.overly-permissive":
		// AWS's text begins with this word.
		if i := strings.Index(message, "OverlyPermissiveCondition:"); i > 0 {
			message = message[i:]
		}
	}
	return &kmsapi.Error{Code: kmsapi.MalformedPolicyDocument, Message: message, Err: err}
}

// bindPrincipals returns which unique id each user, role and session has that the
// policy names, by the name: so that whoever is made later under the name of one
// that was removed does not inherit its rights. It refuses those that do not exist.
// Of accounts that have no principal here nothing is known, and theirs are taken.
// Source: IAM User Guide, "AWS JSON policy elements: Principal", under IAM user
// principals.
func (c *call) bindPrincipals(p *policy.Policy) (ids map[string]string, err error) {
	ids = map[string]string{}
	err = c.server.ledger.View(c.ctx, func(tx *ledger.Tx) error {
		for _, s := range p.Statements {
			for _, ref := range slices.Concat(s.Principal, s.NotPrincipal) {
				id, err := c.server.uniqueID(tx, ref)
				if errors.Is(err, errPrincipalRef) {
					// AWS's text does not say which: the record does, as it does for others.
					return &kmsapi.Error{
						Code: kmsapi.MalformedPolicyDocument, Message: invalidPrincipals,
						Err: fmt.Errorf("line %d: %w: %s", s.Line, err, ref.Value),
					}
				}
				if err != nil {
					return err
				}
				if id != "" {
					ids[ref.Value] = id
				}
			}
		}
		return nil
	})
	return ids, err
}

// The content of a row of the table "key-policy" is the text of the policy. Before
// it may stand what bindPrincipals returned: a byte that begins no policy, JSON, and
// a line feed.
const boundPolicy = '\x01'

// putPolicy writes the policy of a key.
func putPolicy(tx *ledger.Tx, k *key) error {
	content := []byte(k.policy)
	if len(k.principals) > 0 {
		ids, err := json.Marshal(k.principals)
		if err != nil {
			return err
		}
		content = slices.Concat([]byte{boundPolicy}, ids, []byte{'\n'}, content)
	}
	_, err := tx.Put(tablePolicy, k.rowID(), content)
	return err
}

// A policyRow is what such a row says.
type policyRow struct {
	keptPolicy
	principals map[string]string
}

// parsePolicyRow reads what putPolicy has written.
func parsePolicyRow(content []byte) (*policyRow, error) {
	row := new(policyRow)
	if len(content) == 0 || content[0] != boundPolicy {
		row.text = string(content)
		return row, nil
	}
	ids, rest, ok := bytes.Cut(content[1:], []byte{'\n'})
	if !ok || json.Unmarshal(ids, &row.principals) != nil {
		return nil, errors.New("kms: a row of a key policy has no policy")
	}
	row.text = string(rest)
	return row, nil
}

// shownPolicy is the text of the key's policy as it was put, with the unique ids of
// principals that were removed since in place of their names, as AWS shows them.
func (c *call) shownPolicy(k *key) (string, error) {
	gone := map[string]string{}
	err := c.server.ledger.View(c.ctx, func(tx *ledger.Tx) error {
		for name, id := range k.principals {
			if name == id {
				continue
			}
			e, err := principalByID(tx, id)
			if err != nil {
				return err
			}
			if e == nil {
				gone[name] = id
			}
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return k.policy, err
	}
	text, err := policy.ReplacePrincipals([]byte(k.policy), func(name string) string { return cmp.Or(gone[name], name) })
	return string(text), err
}
