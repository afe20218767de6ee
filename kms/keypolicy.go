// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"errors"
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

// checkPolicy refuses a text that cannot be the policy of k: one that is no key
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
	if err := c.checkPrincipals(parsed); err != nil {
		return err
	}
	if bypass {
		c.parameter("policy", text)
		return nil
	}
	changed := *k
	changed.policy = text
	later := *c
	later.op, later.in = kmsapi.Lookup("PutKeyPolicy"), &kmsapi.PutKeyPolicyInput{BypassPolicyLockoutSafetyCheck: &bypass}
	later.common, later.alias = kmsapi.Common{}, ""
	in, err := later.request(&changed)
	if err != nil {
		return err
	}
	if decision := policy.Evaluate(in); !decision.Allowed {
		return kmsapi.Errorf(kmsapi.MalformedPolicyDocument, "The new key policy will not allow you to update the key policy in the future.")
	}
	c.parameter("policy", text)
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

// checkPrincipals refuses users and roles that do not exist. Of accounts that
// have no principal here nothing is known, and theirs are taken.
func (c *call) checkPrincipals(p *policy.Policy) error {
	accounts, known, err := c.knownPrincipals()
	if err != nil {
		return err
	}
	for _, s := range p.Statements {
		for _, list := range [][]policy.PrincipalRef{s.Principal, s.NotPrincipal} {
			for _, ref := range list {
				if !principalExists(ref, accounts, known) {
					return kmsapi.Errorf(kmsapi.MalformedPolicyDocument, invalidPrincipals)
				}
			}
		}
	}
	return nil
}

// knownPrincipals returns the accounts of which all principals are known, and the
// ARNs of these.
func (c *call) knownPrincipals() (accounts, known map[string]bool, err error) {
	var all []PrincipalInfo
	err = c.server.ledger.View(c.ctx, func(tx *ledger.Tx) (err error) {
		all, err = scanPrincipals(tx)
		return err
	})
	accounts, known = map[string]bool{c.server.account: true}, map[string]bool{}
	for _, info := range all {
		if info.Tampered == "" {
			accounts[info.Account] = true
			known[info.IdentityARN()] = true
			known[info.Principal.ARN()] = true
		}
	}
	return accounts, known, err
}

func principalExists(ref policy.PrincipalRef, accounts, known map[string]bool) bool {
	switch ref.Kind {
	case policy.PrincipalUser, policy.PrincipalRole:
		return !accounts[ref.Account] || known[ref.Value]
	case policy.PrincipalSession:
		// Any session of a role that exists, arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION.
		role, _, _ := strings.Cut(strings.TrimPrefix(ref.Value, "arn:aws:sts::"+ref.Account+":assumed-role/"), "/")
		return !accounts[ref.Account] || known["arn:aws:iam::"+ref.Account+":role/"+role]
	}
	return true
}
