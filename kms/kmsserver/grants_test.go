// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/policy"
)

const foreign = "111111111111"

func userARN(name string) string { return "arn:aws:iam::" + account + ":user/" + name }

func root(account string) string { return "arn:aws:iam::" + account + ":root" }

// decrypting is a grant of Decrypt to somebody.
func decrypting(keyARN, grantee string) *awskms.CreateGrantInput {
	return &awskms.CreateGrantInput{KeyId: &keyARN, GranteePrincipal: &grantee, Operations: []types.GrantOperation{types.GrantOperationDecrypt}}
}

// grant makes a grant as the administrator.
func (s *service) grant(in *awskms.CreateGrantInput) *awskms.CreateGrantOutput {
	s.t.Helper()
	out, err := s.adminClient().CreateGrant(s.t.Context(), in)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *service) revoke(keyARN string, id *string) {
	s.t.Helper()
	if _, err := s.adminClient().RevokeGrant(s.t.Context(), &awskms.RevokeGrantInput{KeyId: &keyARN, GrantId: id}); err != nil {
		s.t.Fatal(err)
	}
}

// stranger adds a principal of another account.
func (s *service) stranger(name string, policies ...string) kms.Credentials {
	s.t.Helper()
	c, err := s.kms.AddPrincipal(s.t.Context(), kms.Principal{Type: kms.User, Name: name, Account: foreign, Policies: policies})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// sealed encrypts as the administrator.
func (s *service) sealed(keyARN string, context map[string]string) []byte {
	s.t.Helper()
	out, err := s.adminClient().Encrypt(s.t.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("x"), EncryptionContext: context})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.CiphertextBlob
}

// typedEvent is the last event of an operation, as the service reads it.
func (s *service) typedEvent(operation string) *kms.Event {
	s.t.Helper()
	lines := s.events(operation)
	if len(lines) == 0 {
		s.t.Fatalf("no event of %s", operation)
	}
	var line struct{ Event *kms.Event }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		s.t.Fatal(err)
	}
	return line.Event
}

// A grant allows what it says to whom it names, from its making to its end.
func TestGrantees(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	keyARN := s.key(adminPolicy)
	blob := s.sealed(keyARN, nil)
	s.principal(kms.Role, "other")
	for i, c := range []struct {
		name, grantee string
		who           kms.Credentials
		ok            bool
	}{
		{"user", userARN("alice"), s.principal(kms.User, "alice"), true},
		{"another user", userARN("alice"), s.principal(kms.User, "bob"), false},
		{"role", "arn:aws:iam::" + account + ":role/worker", s.principal(kms.Role, "worker"), true},
		{"session", "arn:aws:sts::" + account + ":assumed-role/second/cretula", s.principal(kms.Role, "second"), true},
		{"another session", "arn:aws:sts::" + account + ":assumed-role/third/other", s.principal(kms.Role, "third"), false},
		{"another role", "arn:aws:iam::" + account + ":role/other", s.principal(kms.Role, "fourth"), false},
		{"account, without a policy", root(account), s.principal(kms.User, "carol"), false},
		{"account, with a policy", root(account), s.principal(kms.User, "dave", allowAll(`"kms:Decrypt"`)), true},
		{"user of another account", "arn:aws:iam::" + foreign + ":user/erin", s.stranger("erin"), true},
		{"another account, without a policy", root(foreign), s.stranger("frank"), false},
		{"another account, with a policy", root(foreign), s.stranger("grace", allowAll(`"kms:*"`)), true},
		{"another account's namesake", userARN("alice"), s.stranger("alice"), false},
	} {
		client := s.client(c.who, region)
		decrypt := func() error {
			_, err := client.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob, KeyId: &keyARN})
			return err
		}
		wantCode(t, decrypt(), "AccessDeniedException")
		g := s.grant(decrypting(keyARN, c.grantee))
		err := decrypt()
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if d := s.typedEvent("Decrypt").Decision; c.ok && (d.Cause != policy.CauseGrant || d.Grant != *g.GrantId) {
			t.Errorf("%s: by %s, %q", c.name, d.Cause, d.Grant)
		}
		_, err = client.Encrypt(ctx, &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("x")})
		wantCode(t, err, "AccessDeniedException")
		if i%2 == 0 {
			s.revoke(keyARN, g.GrantId)
		} else if _, err := s.adminClient().RetireGrant(ctx, &awskms.RetireGrantInput{GrantToken: g.GrantToken}); err != nil {
			t.Fatal(err)
		}
		wantCode(t, decrypt(), "AccessDeniedException")
	}
}

// Grants are of one key.
func TestGrantIsOfOneKey(t *testing.T) {
	s := newService(t)
	a, b := s.key(adminPolicy), s.key(adminPolicy)
	alice := s.client(s.principal(kms.User, "alice"), region)
	in := decrypting(a, userARN("alice"))
	in.Operations = append(in.Operations, types.GrantOperationDescribeKey)
	s.grant(in)
	_, err := alice.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &a})
	wantNil(t, err)
	_, err = alice.DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &b})
	wantCode(t, err, "AccessDeniedException")
}

func TestGrantConstraints(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	it := map[string]string{"Department": "IT"}
	both := map[string]string{"Department": "IT", "Purpose": "Test"}
	for name, c := range map[string]struct {
		constraints types.GrantConstraints
		allowed     []map[string]string
		denied      []map[string]string
	}{
		"equals": {types.GrantConstraints{EncryptionContextEquals: it}, []map[string]string{it},
			[]map[string]string{nil, both, {"department": "IT"}, {"Department": "it"}, {"Purpose": "Test"}}},
		"equals two": {types.GrantConstraints{EncryptionContextEquals: both}, []map[string]string{both}, []map[string]string{nil, it}},
		"subset": {types.GrantConstraints{EncryptionContextSubset: it}, []map[string]string{it, both},
			[]map[string]string{nil, {"department": "IT"}, {"Department": "it"}, {"Purpose": "Test"}}},
	} {
		keyARN := s.key(adminPolicy)
		user := s.client(s.principal(kms.User, strings.ReplaceAll(name, " ", "")), region)
		in := decrypting(keyARN, userARN(strings.ReplaceAll(name, " ", "")))
		in.Operations = append(in.Operations, "DescribeKey", "RetireGrant")
		in.Constraints = &c.constraints
		g := s.grant(in)
		try := func(context map[string]string) error {
			_, err := user.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: s.sealed(keyARN, context), EncryptionContext: context})
			return err
		}
		for _, context := range c.allowed {
			if err := try(context); err != nil {
				t.Errorf("%s, %v: %v", name, context, err)
			}
		}
		for _, context := range c.denied {
			wantCode(t, try(context), "AccessDeniedException")
		}
		// These two have no encryption context.
		_, err := user.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &keyARN})
		wantNil(t, err)
		_, err = user.RetireGrant(ctx, &awskms.RetireGrantInput{KeyId: &keyARN, GrantId: g.GrantId})
		wantNil(t, err)
	}
}

// A SourceArn is that of a service's request. No request here is one.
func TestGrantToServices(t *testing.T) {
	s := newService(t)
	keyARN := s.key(adminPolicy)
	table := "arn:aws:dynamodb:us-east-1:000000000000:table/Example"
	alice := s.client(s.principal(kms.User, "alice"), region)
	in := decrypting(keyARN, userARN("alice"))
	in.Constraints = &types.GrantConstraints{SourceArn: &table}
	s.grant(in)
	_, err := alice.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: s.sealed(keyARN, nil)})
	wantCode(t, err, "AccessDeniedException")
	in.GranteePrincipal, in.GranteeServicePrincipal = nil, aws.String("dynamodb.amazonaws.com")
	in.RetiringServicePrincipal = in.GranteeServicePrincipal
	out := s.grant(in)
	list, err := s.adminClient().ListGrants(t.Context(), &awskms.ListGrantsInput{KeyId: &keyARN, GranteeServicePrincipal: in.GranteeServicePrincipal})
	wantNil(t, err)
	if len(list.Grants) != 1 || *list.Grants[0].GrantId != *out.GrantId || *list.Grants[0].Constraints.SourceArn != table ||
		list.Grants[0].GranteePrincipal != nil || *list.Grants[0].RetiringServicePrincipal != "dynamodb.amazonaws.com" {
		t.Errorf("listed %+v", list.Grants)
	}
}

// statements makes a key policy that leaves everything to the administrator and
// says something more.
func statements(more string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + userARN("admin") + `"},"Action":"kms:*","Resource":"*"},` + more + `]}`
}

// A Deny anywhere beats a grant.
func TestDenyBeatsGrant(t *testing.T) {
	s := newService(t)
	deny := `{"Effect":"Deny","Principal":{"AWS":"%s"},"Action":"kms:Decrypt","Resource":"*"}`
	denied := s.principal(kms.User, "denied", `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}}`)
	for name, c := range map[string]struct {
		policy string
		who    kms.Credentials
		cause  policy.Cause
	}{
		"alice":  {statements(fmt.Sprintf(deny, userARN("alice"))), s.principal(kms.User, "alice"), policy.CauseKeyDeny},
		"denied": {adminPolicy, denied, policy.CauseIdentityDeny},
	} {
		keyARN := s.key(c.policy)
		blob := s.sealed(keyARN, nil)
		s.grant(decrypting(keyARN, userARN(name)))
		_, err := s.client(c.who, region).Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: blob})
		wantCode(t, err, "AccessDeniedException")
		if d := s.typedEvent("Decrypt").Decision; d.Cause != c.cause {
			t.Errorf("%s: %s", name, d.Cause)
		}
	}
}

// A policy that allows an image only says nothing against a grant, at AWS and here;
// one that denies all other images does. The explanation names the grant.
func TestGrantBypassesAttestation(t *testing.T) {
	s := newService(t)
	alice := s.client(s.principal(kms.User, "alice"), region)
	image := fill(1).String()
	allow := `{"Effect":"Allow","Principal":{"AWS":"` + userARN("alice") + `"},"Action":"kms:Decrypt","Resource":"*",
		"Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"` + image + `"}}}`
	deny := `{"Effect":"Deny","Principal":"*","Action":"kms:Decrypt","Resource":"*",
		"Condition":{"StringNotEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"` + image + `"}}}`
	open, closed := s.key(statements(allow)), s.key(statements(allow+","+deny))
	decrypt := func(keyARN string, recipient *types.RecipientInfo) (*awskms.DecryptOutput, error) {
		return alice.Decrypt(t.Context(), &awskms.DecryptInput{CiphertextBlob: s.sealed(keyARN, nil), Recipient: recipient})
	}
	for _, keyARN := range []string{open, closed} {
		_, err := decrypt(keyARN, nil)
		wantCode(t, err, "AccessDeniedException")
		_, err = decrypt(keyARN, recipient(document(t)))
		wantNil(t, err)
	}
	g := s.grant(decrypting(open, userARN("alice")))
	s.grant(decrypting(closed, userARN("alice")))
	out, err := decrypt(open, nil)
	wantNil(t, err)
	if string(out.Plaintext) != "x" {
		t.Errorf("got %q", out.Plaintext)
	}
	event := s.typedEvent("Decrypt")
	if text := event.Text(); event.Decision.Grant != *g.GrantId || !strings.Contains(text, "because grant "+(*g.GrantId)[:8]) {
		t.Errorf("by %q: %s", event.Decision.Grant, text)
	}
	_, err = decrypt(closed, nil)
	wantCode(t, err, "AccessDeniedException")
}

// Who may give grants by a grant may give no more than that.
func TestGrantCannotWiden(t *testing.T) {
	s := newService(t)
	it := map[string]string{"Department": "IT"}
	more := map[string]string{"Department": "IT", "Purpose": "Test"}
	equals := func(m map[string]string) *types.GrantConstraints {
		return &types.GrantConstraints{EncryptionContextEquals: m}
	}
	subset := func(m map[string]string) *types.GrantConstraints {
		return &types.GrantConstraints{EncryptionContextSubset: m}
	}
	source := &types.GrantConstraints{SourceArn: aws.String("arn:aws:s3:us-east-1:000000000000:bucket")}
	all := []types.GrantOperation{"Decrypt", "GenerateDataKey", "CreateGrant"}
	some := []types.GrantOperation{"Decrypt", "CreateGrant"}
	s.principal(kms.User, "child")
	for i, c := range []struct {
		parent, child                     *types.GrantConstraints
		parentOperations, childOperations []types.GrantOperation
		ok                                bool
	}{
		{nil, nil, all, all, true},
		{nil, nil, all, some, true},
		{nil, nil, all, []types.GrantOperation{"Decrypt"}, true},
		{nil, nil, some, all, false},
		{nil, nil, some, []types.GrantOperation{"Decrypt", "RetireGrant"}, false},
		{nil, nil, []types.GrantOperation{"Decrypt", "DescribeKey"}, []types.GrantOperation{"Decrypt"}, false},
		{nil, subset(it), all, some, true},
		{subset(it), nil, all, some, false},
		{subset(it), subset(it), all, some, true},
		{subset(it), subset(more), all, some, true},
		{subset(more), subset(it), all, some, false},
		{subset(it), equals(it), all, some, true},
		{subset(it), equals(more), all, some, true},
		{subset(more), equals(it), all, some, false},
		{subset(it), subset(map[string]string{"Department": "it"}), all, some, false},
		{subset(it), equals(it), some, all, false},
		{equals(it), nil, all, some, false},
		{equals(it), equals(it), all, some, true},
		{equals(it), equals(more), all, some, false},
		{equals(it), subset(it), all, some, false},
		{equals(it), subset(more), all, some, false},
		{subset(it), source, all, some, false},
		{source, source, all, some, false}, // the request is not that of a service
	} {
		keyARN := s.key(adminPolicy)
		parent := s.client(s.principal(kms.User, fmt.Sprint("parent", i)), region)
		in := decrypting(keyARN, userARN(fmt.Sprint("parent", i)))
		in.Operations, in.Constraints = c.parentOperations, c.parent
		s.grant(in)
		in = decrypting(keyARN, userARN("child"))
		in.Operations, in.Constraints = c.childOperations, c.child
		_, err := parent.CreateGrant(t.Context(), in)
		switch {
		case c.ok && err != nil:
			t.Errorf("%d: %v", i, err)
		case !c.ok:
			wantCode(t, err, "AccessDeniedException")
			list, err := s.adminClient().ListGrants(t.Context(), &awskms.ListGrantsInput{KeyId: &keyARN})
			if err != nil || len(list.Grants) != 1 {
				t.Errorf("%d: %d grants, %v", i, len(list.Grants), err)
			}
		}
	}
}

// Of several parents one that covers the grant is enough, and a policy that allows
// CreateGrant needs none.
func TestParentGrants(t *testing.T) {
	s := newService(t)
	keyARN := s.key("")
	s.principal(kms.User, "child")
	parent := s.client(s.principal(kms.User, "parent"), region)
	for _, operations := range [][]types.GrantOperation{{"Encrypt", "CreateGrant"}, {"Decrypt", "CreateGrant"}} {
		in := decrypting(keyARN, userARN("parent"))
		in.Operations = operations
		s.grant(in)
	}
	_, err := parent.CreateGrant(t.Context(), decrypting(keyARN, userARN("child")))
	wantNil(t, err)
	in := decrypting(keyARN, userARN("child"))
	in.Operations = []types.GrantOperation{"Encrypt", "Decrypt"}
	_, err = parent.CreateGrant(t.Context(), in)
	wantCode(t, err, "AccessDeniedException")
	free := s.principal(kms.User, "free", allowAll(`"kms:CreateGrant"`))
	limited := decrypting(keyARN, userARN("free"))
	limited.Operations = append(limited.Operations, "CreateGrant")
	s.grant(limited)
	_, err = s.client(free, region).CreateGrant(t.Context(), in)
	wantNil(t, err)
}

// The same request with a name gets the same grant; anything else another one.
func TestGrantNames(t *testing.T) {
	s := newService(t)
	keyARN := s.key(adminPolicy)
	s.principal(kms.User, "alice")
	s.principal(kms.User, "bob")
	named := func(change func(*awskms.CreateGrantInput)) *awskms.CreateGrantInput {
		in := decrypting(keyARN, userARN("alice"))
		in.Name, in.Operations = aws.String("n"), []types.GrantOperation{"Decrypt", "Encrypt"}
		in.RetiringPrincipal = aws.String(userARN("bob"))
		in.Constraints = &types.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "1", "b": "2"}}
		change(in)
		return in
	}
	first := s.grant(named(func(*awskms.CreateGrantInput) {}))
	for range 3 {
		again := s.grant(named(func(*awskms.CreateGrantInput) {}))
		if *again.GrantId != *first.GrantId || *again.GrantToken == *first.GrantToken {
			t.Errorf("a retry got grant %s with token %s", *again.GrantId, *again.GrantToken)
		}
	}
	reordered := s.grant(named(func(in *awskms.CreateGrantInput) { slices.Reverse(in.Operations) }))
	if *reordered.GrantId != *first.GrantId {
		t.Error("the order of operations made another grant")
	}
	seen := map[string]bool{*first.GrantId: true}
	for name, change := range map[string]func(*awskms.CreateGrantInput){
		"no name":      func(in *awskms.CreateGrantInput) { in.Name = nil },
		"no name, too": func(in *awskms.CreateGrantInput) { in.Name = nil },
		"name":         func(in *awskms.CreateGrantInput) { in.Name = aws.String("m") },
		"grantee":      func(in *awskms.CreateGrantInput) { in.GranteePrincipal = aws.String(userARN("bob")) },
		"retiring":     func(in *awskms.CreateGrantInput) { in.RetiringPrincipal = nil },
		"operations":   func(in *awskms.CreateGrantInput) { in.Operations = in.Operations[:1] },
		"constraint":   func(in *awskms.CreateGrantInput) { in.Constraints.EncryptionContextSubset["a"] = "2" },
		"constraints":  func(in *awskms.CreateGrantInput) { in.Constraints = nil },
		"kind": func(in *awskms.CreateGrantInput) {
			in.Constraints.EncryptionContextEquals, in.Constraints.EncryptionContextSubset = in.Constraints.EncryptionContextSubset, nil
		},
	} {
		out := s.grant(named(change))
		if seen[*out.GrantId] {
			t.Errorf("%s: the same grant", name)
		}
		seen[*out.GrantId] = true
	}
	list, err := s.adminClient().ListGrants(t.Context(), &awskms.ListGrantsInput{KeyId: &keyARN})
	if err != nil || len(list.Grants) != len(seen) {
		t.Errorf("%d grants, want %d, %v", len(list.Grants), len(seen), err)
	}
	// Once it is gone the request makes a new one.
	s.revoke(keyARN, first.GrantId)
	if again := s.grant(named(func(*awskms.CreateGrantInput) {})); seen[*again.GrantId] {
		t.Error("a revoked grant came back")
	}
}

// A right that came from a grant ends with it, even for a request under way.
func TestGrantRace(t *testing.T) {
	raced := &racedStore{Store: newStore(t)}
	s := newService(t, over(t, raced))
	keyARN := s.key(adminPolicy)
	s.principal(kms.User, "child")
	parent := s.client(s.principal(kms.User, "parent"), region)
	in := decrypting(keyARN, userARN("parent"))
	in.Operations = append(in.Operations, "CreateGrant")
	g := s.grant(in)
	raced.before = func() { s.revoke(keyARN, g.GrantId) }
	_, err := parent.CreateGrant(t.Context(), decrypting(keyARN, userARN("child")))
	wantCode(t, err, "AccessDeniedException")
	// Two requests of one name make one grant.
	in.Name = aws.String("n")
	var other *awskms.CreateGrantOutput
	raced.before = func() { other = s.grant(in) }
	one := s.grant(in)
	if *one.GrantId != *other.GrantId {
		t.Error("two grants of one name")
	}
	// Of two that revoke a grant one finds it gone.
	raced.before = func() { s.revoke(keyARN, one.GrantId) }
	_, err = s.adminClient().RevokeGrant(t.Context(), &awskms.RevokeGrantInput{KeyId: &keyARN, GrantId: one.GrantId})
	wantCode(t, err, "NotFoundException")
}

// The record names the grant and never the token.
func TestGrantOnRecord(t *testing.T) {
	s := newService(t)
	keyARN := s.key(adminPolicy)
	s.principal(kms.User, "alice")
	in := decrypting(keyARN, userARN("alice"))
	in.Constraints = &types.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "1"}}
	out := s.grant(in)
	_, err := s.adminClient().DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: &keyARN, GrantTokens: []string{*out.GrantToken}})
	wantNil(t, err)
	_, err = s.adminClient().RetireGrant(t.Context(), &awskms.RetireGrantInput{GrantToken: out.GrantToken})
	wantNil(t, err)
	for _, operation := range []string{"CreateGrant", "RetireGrant"} {
		event := s.typedEvent(operation)
		if event.ResponseElements["grantId"] != *out.GrantId && event.RequestParameters["grantId"] != *out.GrantId || event.Resources[0].ARN != keyARN || event.Outcome != kms.Allowed {
			t.Errorf("%s: %v", operation, event)
		}
	}
	if file := auditText(t, s.dir); strings.Contains(file, *out.GrantToken) {
		t.Error("the log has the token")
	}
	// Nothing is changed that is not on record.
	s.audit.set(errors.New("the disk is gone"))
	_, err = s.adminClient().CreateGrant(t.Context(), in)
	wantCode(t, err, "KMSInternalException")
	s.audit.set(nil)
	list, err := s.adminClient().ListGrants(t.Context(), &awskms.ListGrantsInput{KeyId: &keyARN})
	if err != nil || len(list.Grants) != 0 {
		t.Errorf("%d grants, %v", len(list.Grants), err)
	}
}
