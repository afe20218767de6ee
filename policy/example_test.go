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

// AssumeRole asks for one decision for each action that a request takes: tags and a
// source identity have actions of their own, and all must be allowed.
func Example_assumeRole() {
	const role = "arn:aws:iam::111122223333:role/deploy"
	trust, err := policy.Parse([]byte(`{
	  "Version": "2012-10-17",
	  "Statement": {
	    "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
	    "Action": "sts:AssumeRole", "Condition": {"StringEquals": {"sts:ExternalId": "42"}}
	  }
	}`), policy.KindTrust)
	if err != nil {
		log.Fatal(err)
	}
	identity, err := policy.Parse([]byte(`{
	  "Version": "2012-10-17",
	  "Statement": {"Effect": "Allow", "Action": "sts:*", "Resource": "`+role+`"}
	}`), policy.KindIdentity)
	if err != nil {
		log.Fatal(err)
	}
	for _, action := range []string{"sts:AssumeRole", "sts:TagSession"} {
		d := policy.Evaluate(policy.Input{
			Request: policy.Request{
				Principal: policy.Principal{Type: policy.CallerUser, AccountID: "111122223333", ARN: "arn:aws:iam::111122223333:user/anna"},
				Action:    action, Resource: role, ResourceAccount: "111122223333",
				Context: policy.Context{"sts:externalid": {"42"}, "sts:rolesessionname": {"one"}, "aws:requesttag/team": {"red"}, "aws:tagkeys": {"team"}},
			},
			TrustPolicy: trust,
			Identity:    []policy.Named{{Name: "identity-policy-1", Policy: identity}},
		})
		fmt.Printf("%s %v, %s: %q\n", action, d.Allowed, d.Cause, d.Tail())
	}
	// Output:
	// sts:AssumeRole true, trust-delegated: ""
	// sts:TagSession false, no-trust-policy-allow: "because no role trust policy allows the sts:TagSession action"
}

// Whoever brings a token has no policies. The claims of the verified token are
// condition keys under the name of the provider.
func Example_assumeRoleWithWebIdentity() {
	const provider = "token.actions.githubusercontent.com"
	trust, err := policy.Parse([]byte(`{
	  "Version": "2012-10-17",
	  "Statement": {
	    "Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/`+provider+`"},
	    "Action": "sts:AssumeRoleWithWebIdentity",
	    "Condition": {"StringEquals": {"`+provider+`:sub": "repo:cretula/cretula:ref:refs/heads/main"}}
	  }
	}`), policy.KindTrust)
	if err != nil {
		log.Fatal(err)
	}
	for _, subject := range []string{"repo:cretula/cretula:ref:refs/heads/main", "repo:eve/cretula:ref:refs/heads/main"} {
		d := policy.Evaluate(policy.Input{
			Request: policy.Request{
				Principal: policy.Principal{Type: policy.CallerWebIdentity, ARN: "arn:aws:iam::111122223333:oidc-provider/" + provider},
				Action:    "sts:AssumeRoleWithWebIdentity",
				Resource:  "arn:aws:iam::111122223333:role/deploy", ResourceAccount: "111122223333",
				Context: policy.Context{provider + ":sub": {subject}, provider + ":aud": {"sts.amazonaws.com"}, "sts:rolesessionname": {"one"}},
			},
			TrustPolicy: trust,
		})
		fmt.Printf("%v, %s: %q\n", d.Allowed, d.Cause, d.Message())
	}
	// Output:
	// true, trust-policy: ""
	// false, no-trust-policy-allow: "Not authorized to perform sts:AssumeRoleWithWebIdentity"
}
