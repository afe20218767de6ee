// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"log"

	"github.com/cretula/cretula/policy"
)

func Example() {
	key, err := policy.Parse([]byte(`{
	  "Version": "2012-10-17",
	  "Statement": {
	    "Sid": "EnclaveMayDecrypt", "Effect": "Allow",
	    "Principal": {"AWS": "arn:aws:iam::111122223333:role/worker"},
	    "Action": "kms:Decrypt", "Resource": "*",
	    "Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR8": "4c0e"}}
	  }
	}`), policy.KindKey)
	if err != nil {
		log.Fatal(err)
	}
	d := policy.Evaluate(policy.Input{
		Request: policy.Request{
			Principal: policy.Principal{
				Type: policy.CallerRoleSession, AccountID: "111122223333",
				ARN:     "arn:aws:sts::111122223333:assumed-role/worker/one",
				RoleARN: "arn:aws:iam::111122223333:role/worker",
			},
			Action: "kms:Decrypt", Resource: "arn:aws:kms:us-east-1:111122223333:key/1234", ResourceAccount: "111122223333",
			Context: policy.Context{"kms:RecipientAttestation:PCR8": {"51c2"}},
		},
		KeyPolicy: key,
	})
	fmt.Println(d.Allowed, d.Tail())
	c := d.Trace.Policies[0].Statements[0].Conditions[0]
	fmt.Println(c.Key, "wanted", c.Wanted, "got", c.Got)
	// Output:
	// false because no resource-based policy allows the kms:Decrypt action
	// kms:RecipientAttestation:PCR8 wanted [4c0e] got [51c2]
}
