// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"testing"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/policy"
)

// Decisions and the list of actions agree on what is possible on another account's
// key, for every operation.
func TestCrossAccountTable(t *testing.T) {
	parse := func(text string, kind policy.Kind) *policy.Policy {
		p, err := policy.Parse([]byte(text), kind)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	key := parse(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}}`, policy.KindKey)
	identity := parse(`{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`, policy.KindIdentity)
	for _, op := range kmsapi.Operations() {
		actions := []string{op.Action()}
		if op.Name == "ReEncrypt" {
			actions = []string{"kms:ReEncryptFrom", "kms:ReEncryptTo"}
		}
		for _, action := range actions {
			d := policy.Evaluate(policy.Input{
				Request: policy.Request{
					Principal: policy.Principal{Type: policy.CallerUser, ARN: "arn:aws:iam::111111111111:user/a", AccountID: "111111111111"},
					Action:    action, Resource: "arn:aws:kms:us-east-1:000000000000:key/x", ResourceAccount: "000000000000",
				},
				KeyPolicy: key, Identity: []policy.Named{{Name: "all", Policy: identity}},
			})
			if want := policy.CrossAccount(action); d.Allowed != want {
				t.Errorf("%s: a decision says %v (%s), the list %v", action, d.Allowed, d.Cause, want)
			}
		}
	}
}
