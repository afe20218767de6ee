// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

// add is AddPrincipal, with the principal as it is listed after it.
func (s *service) add(p kms.Principal) (kms.Credentials, kms.PrincipalInfo) {
	s.t.Helper()
	c, err := s.kms.AddPrincipal(s.t.Context(), p)
	if err != nil {
		s.t.Fatal(err)
	}
	all, err := s.kms.ListPrincipals(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, info := range all {
		if len(info.AccessKeys) == 1 && info.AccessKeys[0].ID == c.AccessKeyID {
			return c, info
		}
	}
	s.t.Fatalf("%s is not listed", p.Name)
	return c, kms.PrincipalInfo{}
}

func (s *service) remove(name string) {
	s.t.Helper()
	if _, err := s.kms.RemovePrincipal(s.t.Context(), name, ""); err != nil {
		s.t.Fatal(err)
	}
}

// mayDescribe calls DescribeKey, the plainest operation on a key.
func (s *service) mayDescribe(c kms.Credentials, keyARN string) error {
	_, err := s.client(c, region).DescribeKey(s.t.Context(), &awskms.DescribeKeyInput{KeyId: &keyARN})
	return err
}

func naming(principal, action string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Sid":"Admin","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"},
		{"Sid":"Named","Effect":"Allow","Principal":{"AWS":%q},"Action":%q,"Resource":"*","Condition":{"StringNotEquals":{"aws:SourceArn":%q}}}]}`, principal, action, principal)
}

func TestUniqueIDs(t *testing.T) {
	s := newService(t)
	form := regexp.MustCompile(`^A(ID|RO)A[A-Z2-7]{17}$`)
	seen := map[string]bool{}
	for i := range 20 {
		kind := []kms.PrincipalType{kms.User, kms.Role}[i%2]
		_, p := s.add(kms.Principal{Type: kind, Name: "p", ID: "AIDAAAAAAAAAAAAAAAAAA"})
		if !form.MatchString(p.ID) || seen[p.ID] || strings.HasPrefix(p.ID, "AROA") != (kind == kms.Role) {
			t.Errorf("%s: %q", kind, p.ID)
		}
		seen[p.ID] = true
		s.remove("p")
	}
}

// Who is made anew under the name of a removed principal inherits nothing, neither
// what a key policy allows nor what it denies; and the policy shows whom it meant.
func TestRemovedPrincipalsInKeyPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		principal kms.Principal
		named     string
	}{
		"user":    {kms.Principal{Type: kms.User, Name: "alice"}, "arn:aws:iam::000000000000:user/alice"},
		"role":    {kms.Principal{Type: kms.Role, Name: "batch/alice"}, "arn:aws:iam::000000000000:role/batch/alice"},
		"session": {kms.Principal{Type: kms.Role, Name: "batch/alice"}, "arn:aws:sts::000000000000:assumed-role/alice/cretula"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			old, info := s.add(c.principal)
			text := naming(c.named, "kms:DescribeKey")
			keyARN := s.key(text)
			if err := s.mayDescribe(old, keyARN); err != nil {
				t.Fatalf("named: %v", err)
			}
			policyOf := func() string {
				out, err := s.adminClient().GetKeyPolicy(t.Context(), &awskms.GetKeyPolicyInput{KeyId: &keyARN})
				if err != nil {
					t.Fatal(err)
				}
				return *out.Policy
			}
			if got := policyOf(); got != text {
				t.Errorf("the policy is not the one that was put: %s", got)
			}
			s.remove(old.AccessKeyID)
			shown := strings.Replace(text, c.named, info.ID, 1) // not in the condition
			if got := policyOf(); got != shown {
				t.Errorf("after removal:\n got %s\nwant %s", got, shown)
			}
			anew, infoAnew := s.add(c.principal)
			wantCode(t, s.mayDescribe(anew, keyARN), "AccessDeniedException")
			if got := policyOf(); got != shown {
				t.Errorf("made anew: %s", got)
			}
			// The id of nobody is no principal.
			put := func(text string) error {
				_, err := s.adminClient().PutKeyPolicy(t.Context(), &awskms.PutKeyPolicyInput{KeyId: &keyARN, Policy: &text})
				return err
			}
			if code, message, _, _ := refused(t, put(shown)); code != "MalformedPolicyDocumentException" || message != "Policy contains a statement with one or more invalid principals." {
				t.Errorf("%s: %s", code, message)
			}
			// Put again, the name means the new one.
			if err := put(text); err != nil {
				t.Fatal(err)
			}
			if err := s.mayDescribe(anew, keyARN); err != nil {
				t.Errorf("put again: %v", err)
			}
			// So does its id.
			if err := put(naming(infoAnew.ID, "kms:DescribeKey")); err != nil {
				t.Fatal(err)
			}
			if err := s.mayDescribe(anew, keyARN); err != nil {
				t.Errorf("named by id: %v", err)
			}
			if got := policyOf(); got != naming(infoAnew.ID, "kms:DescribeKey") {
				t.Errorf("named by id: %s", got)
			}
		})
	}
}

func TestRemovedPrincipalIsNotDenied(t *testing.T) {
	s := newService(t)
	alice := kms.Principal{Type: kms.User, Name: "alice", Policies: []string{kms.AdminPolicy}}
	old, _ := s.add(alice)
	keyARN := s.key(strings.Replace(naming("arn:aws:iam::000000000000:user/alice", "kms:DescribeKey"), `"Sid":"Named","Effect":"Allow"`, `"Effect":"Deny"`, 1))
	wantCode(t, s.mayDescribe(old, keyARN), "AccessDeniedException")
	s.remove("alice")
	anew, _ := s.add(alice)
	_, message, _, _ := refused(t, s.mayDescribe(anew, keyARN))
	if !strings.Contains(message, "because no resource-based policy allows") {
		t.Errorf("the Deny of another: %s", message)
	}
}

// The same for grants.
func TestRemovedPrincipalsInGrants(t *testing.T) {
	s := newService(t)
	old, _ := s.add(kms.Principal{Type: kms.Role, Name: "team/alice"})
	const arn = "arn:aws:iam::000000000000:role/team/alice"
	keyARN := s.key(adminPolicy)
	grant := func() *awskms.CreateGrantOutput {
		out, err := s.adminClient().CreateGrant(t.Context(), &awskms.CreateGrantInput{
			KeyId: &keyARN, GranteePrincipal: aws.String(arn), RetiringPrincipal: aws.String(arn), Name: aws.String("g"),
			Operations: []types.GrantOperation{"DescribeKey", "RetireGrant"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	first := grant()
	if err := s.mayDescribe(old, keyARN); err != nil {
		t.Errorf("grantee: %v", err)
	}
	s.remove("alice")
	anew, _ := s.add(kms.Principal{Type: kms.Role, Name: "team/alice"})
	wantCode(t, s.mayDescribe(anew, keyARN), "AccessDeniedException")
	_, err := s.client(anew, region).RetireGrant(t.Context(), &awskms.RetireGrantInput{KeyId: &keyARN, GrantId: first.GrantId})
	wantCode(t, err, "AccessDeniedException")
	if second := grant(); *second.GrantId == *first.GrantId {
		t.Error("the same request for another principal got the same grant")
	}
	if err := s.mayDescribe(anew, keyARN); err != nil {
		t.Errorf("grantee: %v", err)
	}
	_, err = s.adminClient().CreateGrant(t.Context(), &awskms.CreateGrantInput{KeyId: &keyARN,
		GranteePrincipal: aws.String("arn:aws:iam::000000000000:role/alice"), Operations: []types.GrantOperation{"DescribeKey"}})
	wantCode(t, err, "InvalidArnException")
}

// A permissions boundary takes from what a role's name or an identity policy gives,
// and gives nothing.
func TestBoundary(t *testing.T) {
	s := newService(t)
	const limit = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*"}}`
	keyARN := s.key("")
	bounded, _ := s.add(kms.Principal{Type: kms.User, Name: "bounded", Policies: []string{kms.AdminPolicy}, Boundary: limit})
	if err := s.mayDescribe(bounded, keyARN); err != nil {
		t.Error(err)
	}
	_, err := s.client(bounded, region).GetKeyPolicy(t.Context(), &awskms.GetKeyPolicyInput{KeyId: &keyARN})
	_, message, _, decision := refused(t, err)
	if !strings.HasSuffix(message, "because no permissions boundary allows the kms:GetKeyPolicy action") {
		t.Error(message)
	}
	event, err := s.kms.Explain(t.Context(), decision)
	if err != nil {
		t.Fatal(err)
	}
	policies := event.Decision.Trace.Policies
	if last := policies[len(policies)-1]; last.Kind != "boundary" || last.Name != "permissions-boundary" || last.Statements[0].Applied {
		t.Errorf("%+v", policies)
	}
	if text := event.Text(); !strings.Contains(text, "permissions boundary does not cover kms:GetKeyPolicy") {
		t.Error(text)
	}
	alone, _ := s.add(kms.Principal{Type: kms.User, Name: "alone", Boundary: limit})
	wantCode(t, s.mayDescribe(alone, keyARN), "AccessDeniedException")
	denied, _ := s.add(kms.Principal{Type: kms.User, Name: "denied", Policies: []string{kms.AdminPolicy},
		Boundary: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"kms:Describe*","Resource":"*"}]}`})
	if _, message, _, _ := refused(t, s.mayDescribe(denied, keyARN)); !strings.HasSuffix(message, "with an explicit deny in a permissions boundary") {
		t.Error(message)
	}
	if _, err := s.kms.AddPrincipal(t.Context(), kms.Principal{Type: kms.User, Name: "x", Boundary: "{"}); !errors.Is(err, kms.ErrPrincipal) {
		t.Errorf("a broken boundary: %v", err)
	}
}

// What a principal may do is on record, when it is made and when it is removed.
func TestPrincipalsOnRecord(t *testing.T) {
	s := newService(t)
	const limit = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Describe*","Resource":"*"}}`
	c, info := s.add(kms.Principal{Type: kms.Role, Name: "batch/worker", Policies: []string{kms.AdminPolicy, limit}, Boundary: limit, Tags: map[string]string{"team": "red"}})
	s.remove("worker")
	want := fmt.Sprint(map[string]any{
		"principal": "arn:aws:iam::000000000000:role/batch/worker", "principalId": info.ID, "accessKeyIds": []any{c.AccessKeyID},
		"policies": []any{kms.AdminPolicy, limit}, "permissionsBoundary": limit, "tags": map[string]any{"team": "red"},
	})
	for _, name := range []string{"AddPrincipal", "RemovePrincipal"} {
		event := s.lastEvent(t, name)
		if got := fmt.Sprint(event["requestParameters"]); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		if text, _ := json.Marshal(event); strings.Contains(string(text), c.SecretAccessKey) || strings.Contains(string(text), `"secret"`) {
			t.Errorf("%s: the secret is on record", name)
		}
	}
}

// The longest policies fit into one event.
func TestLongPoliciesOnRecord(t *testing.T) {
	s := newService(t)
	long := strings.Replace(kms.AdminPolicy, `"Resource"`, `"Condition":{"StringEquals":{"aws:username":"`+strings.Repeat("<", 32<<10-300)+`"}},"Resource"`, 1)
	p := kms.Principal{Type: kms.User, Name: "long", Policies: []string{long, long, long}, Boundary: long}
	s.add(p)
	if policies, _ := s.lastEvent(t, "AddPrincipal")["requestParameters"].(map[string]any)["policies"].([]any); len(policies) != 3 || policies[2] != long {
		t.Errorf("%d policies on record", len(policies))
	}
	p.Name, p.Policies = "longer", append(p.Policies, long)
	if _, err := s.kms.AddPrincipal(t.Context(), p); !errors.Is(err, kms.ErrPrincipal) {
		t.Errorf("more than the bound: %v", err)
	}
}
