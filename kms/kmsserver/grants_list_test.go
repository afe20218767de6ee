// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

func TestListGrants(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	keyARN, other := s.key(adminPolicy), s.key(adminPolicy)
	s.principal(kms.User, "alice")
	s.principal(kms.User, "bob")
	full := decrypting(keyARN, userARN("alice"))
	full.Name, full.RetiringPrincipal = aws.String("n"), aws.String(userARN("bob"))
	full.Operations = []types.GrantOperation{"Encrypt", "Decrypt"}
	full.Constraints = &types.GrantConstraints{EncryptionContextEquals: map[string]string{"Department": "IT"}}
	first := s.grant(full)
	want := map[string]string{*first.GrantId: userARN("alice")}
	for i := range 9 {
		arn := userARN([]string{"alice", "bob"}[i%2])
		want[*s.grant(decrypting(keyARN, arn)).GrantId] = arn
	}
	s.grant(decrypting(other, userARN("alice")))
	list := func(in awskms.ListGrantsInput) (sizes []int, found map[string]types.GrantListEntry) {
		t.Helper()
		in.KeyId, found = &keyARN, map[string]types.GrantListEntry{}
		for pages := awskms.NewListGrantsPaginator(admin, &in); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, len(page.Grants))
			for _, g := range page.Grants {
				found[*g.GrantId] = g
			}
		}
		return sizes, found
	}
	for name, c := range map[string]struct {
		in    awskms.ListGrantsInput
		sizes []int
		keep  func(id, grantee string) bool
	}{
		"all":              {awskms.ListGrantsInput{}, []int{10}, func(string, string) bool { return true }},
		"more than may be": {awskms.ListGrantsInput{Limit: aws.Int32(1000)}, []int{10}, func(string, string) bool { return true }},
		"pages":            {awskms.ListGrantsInput{Limit: aws.Int32(4)}, []int{4, 4, 2}, func(string, string) bool { return true }},
		"full pages":       {awskms.ListGrantsInput{Limit: aws.Int32(5)}, []int{5, 5}, func(string, string) bool { return true }},
		"one":              {awskms.ListGrantsInput{GrantId: first.GrantId}, []int{1}, func(id, _ string) bool { return id == *first.GrantId }},
		"grantee": {awskms.ListGrantsInput{GranteePrincipal: aws.String(userARN("bob")), Limit: aws.Int32(3)}, []int{3, 1},
			func(_, grantee string) bool { return grantee == userARN("bob") }},
		"one of another grantee": {awskms.ListGrantsInput{GrantId: first.GrantId, GranteePrincipal: aws.String(userARN("bob"))}, []int{0}, func(string, string) bool { return false }},
		"unknown":                {awskms.ListGrantsInput{GrantId: aws.String(strings.Repeat("a", 64))}, []int{0}, func(string, string) bool { return false }},
		"unknown grantee":        {awskms.ListGrantsInput{GranteePrincipal: aws.String("x")}, []int{0}, func(string, string) bool { return false }},
		"unknown service":        {awskms.ListGrantsInput{GranteeServicePrincipal: aws.String("s3.amazonaws.com")}, []int{0}, func(string, string) bool { return false }},
	} {
		sizes, found := list(c.in)
		wanted := maps.Clone(want)
		maps.DeleteFunc(wanted, func(id, grantee string) bool { return !c.keep(id, grantee) })
		if !slices.Equal(sizes, c.sizes) || len(found) != len(wanted) {
			t.Errorf("%s: pages of %v, %d grants, want %v, %d", name, sizes, len(found), c.sizes, len(wanted))
		}
		for id := range wanted {
			if g := found[id]; g.GranteePrincipal == nil || *g.GranteePrincipal != wanted[id] || *g.KeyId != keyARN {
				t.Errorf("%s: %s is %+v", name, id, g)
			}
		}
	}
	_, found := list(awskms.ListGrantsInput{GrantId: first.GrantId})
	if g := found[*first.GrantId]; *g.Name != "n" || *g.IssuingAccount != root(account) || *g.RetiringPrincipal != userARN("bob") ||
		fmt.Sprint(g.Operations) != "[Encrypt Decrypt]" || !maps.Equal(g.Constraints.EncryptionContextEquals, full.Constraints.EncryptionContextEquals) ||
		time.Since(*g.CreationDate).Abs() > time.Minute {
		t.Errorf("listed %+v", g)
	}
	for name, c := range map[string]struct {
		in   awskms.ListGrantsInput
		code string
	}{
		"id":     {awskms.ListGrantsInput{KeyId: &keyARN, GrantId: aws.String("x")}, "InvalidGrantIdException"},
		"marker": {awskms.ListGrantsInput{KeyId: &keyARN, Marker: aws.String("!")}, "InvalidMarkerException"},
		"marker, one": {awskms.ListGrantsInput{KeyId: &keyARN, GrantId: first.GrantId, Marker: aws.String("!")},
			"InvalidMarkerException"},
		"marker, grantee": {awskms.ListGrantsInput{KeyId: &keyARN, GranteePrincipal: aws.String("x"), Marker: aws.String("!")},
			"InvalidMarkerException"},
		"limit":        {awskms.ListGrantsInput{KeyId: &keyARN, Limit: aws.Int32(1001)}, "ValidationException"},
		"two grantees": {awskms.ListGrantsInput{KeyId: &keyARN, GranteePrincipal: aws.String("x"), GranteeServicePrincipal: aws.String("s3.amazonaws.com")}, "ValidationException"},
		"no key":       {awskms.ListGrantsInput{KeyId: aws.String("1234abcd-12ab-34cd-56ef-1234567890ab")}, "NotFoundException"},
	} {
		_, err := admin.ListGrants(ctx, &c.in)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		wantCode(t, err, c.code)
	}
	_, err := s.client(s.principal(kms.User, "nobody", allowAll(`"kms:*"`)), region).ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN})
	wantCode(t, err, "AccessDeniedException")
}

func TestListRetirableGrants(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	a, b := s.key(adminPolicy), s.key(adminPolicy)
	s.principal(kms.User, "alice")
	s.stranger("erin")
	erin := "arn:aws:iam::" + foreign + ":user/erin"
	far := s.client(s.admin, "eu-west-1")
	farKey, err := far.CreateKey(ctx, &awskms.CreateKeyInput{})
	wantNil(t, err)
	make := func(client *awskms.Client, keyARN, retiring string) string {
		t.Helper()
		in := decrypting(keyARN, userARN("alice"))
		if retiring != "" {
			in.RetiringPrincipal = &retiring
		}
		out, err := client.CreateGrant(ctx, in)
		wantNil(t, err)
		return *out.GrantId
	}
	want := map[string]string{}
	for i := range 7 {
		keyARN := []string{a, b}[i%2]
		want[make(admin, keyARN, userARN("alice"))] = keyARN
	}
	make(admin, a, "")
	make(admin, a, userARN("admin"))
	erins := make(admin, a, erin)
	farGrant := make(far, *farKey.KeyMetadata.Arn, userARN("alice"))
	in := &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(userARN("alice")), Limit: aws.Int32(4)}
	var sizes []int
	for pages := awskms.NewListRetirableGrantsPaginator(admin, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		wantNil(t, err)
		sizes = append(sizes, len(page.Grants))
		for _, g := range page.Grants {
			if want[*g.GrantId] != *g.KeyId || *g.RetiringPrincipal != userARN("alice") {
				t.Errorf("listed %+v", g)
			}
			delete(want, *g.GrantId)
		}
	}
	if fmt.Sprint(sizes) != "[4 3]" || len(want) != 0 {
		t.Errorf("pages of %v, %d not listed", sizes, len(want))
	}
	in.Limit = nil
	list, err := far.ListRetirableGrants(ctx, in)
	if err != nil || len(list.Grants) != 1 || *list.Grants[0].GrantId != farGrant {
		t.Errorf("in the other region: %+v, %v", list, err)
	}
	// Keys of other accounts are among them, principals of other accounts are not.
	stranger := s.stranger("s", allowAll(`"kms:*"`))
	list, err = s.client(stranger, region).ListRetirableGrants(ctx, &awskms.ListRetirableGrantsInput{RetiringPrincipal: &erin})
	if err != nil || len(list.Grants) != 1 || *list.Grants[0].GrantId != erins || *list.Grants[0].KeyId != a {
		t.Errorf("of another account: %+v, %v", list, err)
	}
	own := fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListRetirableGrants","Resource":"%s"}}`, userARN("own"))
	for name, c := range map[string]struct {
		who  kms.Credentials
		in   awskms.ListRetirableGrantsInput
		code string
	}{
		"own":            {s.principal(kms.User, "own", own), awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(userARN("own"))}, ""},
		"not own":        {s.principal(kms.User, "own2", own), awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(userARN("alice"))}, "AccessDeniedException"},
		"no policy":      {s.principal(kms.User, "poor"), awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(userARN("poor"))}, "AccessDeniedException"},
		"other account":  {s.admin, awskms.ListRetirableGrantsInput{RetiringPrincipal: &erin}, "AccessDeniedException"},
		"service":        {s.admin, awskms.ListRetirableGrantsInput{RetiringServicePrincipal: aws.String("s3.amazonaws.com")}, "AccessDeniedException"},
		"none":           {s.admin, awskms.ListRetirableGrantsInput{}, "ValidationException"},
		"both":           {s.admin, awskms.ListRetirableGrantsInput{RetiringPrincipal: &erin, RetiringServicePrincipal: aws.String("s3.amazonaws.com")}, "ValidationException"},
		"no principal":   {s.admin, awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String("alice")}, "InvalidArnException"},
		"marker":         {s.admin, awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(userARN("alice")), Marker: aws.String("!")}, "InvalidMarkerException"},
		"nothing so far": {s.admin, awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(root(account))}, ""},
	} {
		list, err := s.client(c.who, region).ListRetirableGrants(ctx, &c.in)
		switch {
		case c.code == "" && (err != nil || len(list.Grants) != 0):
			t.Errorf("%s: %+v, %v", name, list, err)
		case c.code != "" && err == nil:
			t.Errorf("%s: no error", name)
		case c.code != "":
			wantCode(t, err, c.code)
		}
	}
}

// Each condition key of grants decides once with its value and once with another.
func TestGrantConditionKeys(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	keyARN := s.key("")
	s.principal(kms.User, "alice")
	s.principal(kms.User, "bob")
	source := "arn:aws:s3:us-east-1:000000000000:bucket"
	plain := decrypting(keyARN, userARN("alice"))
	plain.RetiringPrincipal = aws.String(userARN("bob"))
	constrained := decrypting(keyARN, userARN("alice"))
	constrained.Constraints = &types.GrantConstraints{EncryptionContextEquals: map[string]string{"Tenant": "a", "zone": "1"}, SourceArn: &source}
	emptySubset, emptyEquals := decrypting(keyARN, userARN("alice")), decrypting(keyARN, userARN("alice"))
	emptySubset.Constraints = &types.GrantConstraints{EncryptionContextSubset: map[string]string{}}
	emptyEquals.Constraints = &types.GrantConstraints{EncryptionContextEquals: map[string]string{}}
	service := decrypting(keyARN, "")
	service.GranteePrincipal, service.GranteeServicePrincipal, service.RetiringServicePrincipal = nil, aws.String("s3.amazonaws.com"), aws.String("sqs.amazonaws.com")
	service.Constraints = &types.GrantConstraints{SourceArn: &source}
	for i, c := range []struct {
		key, operator, good, bad string
		in                       *awskms.CreateGrantInput
	}{
		{"kms:GranteePrincipal", "StringEquals", userARN("alice"), userARN("bob"), plain},
		{"kms:RetiringPrincipal", "ArnEquals", userARN("bob"), userARN("alice"), plain},
		{"kms:GrantOperations", "ForAllValues:StringEquals", "Decrypt", "Encrypt", plain},
		{"kms:GrantConstraintType", "Null", "true", "false", plain},
		{"kms:GrantConstraintSourceArn", "Null", "true", "false", plain},
		{"kms:GrantIsForAWSResource", "Bool", "false", "true", plain},
		{"kms:EncryptionContextKeys", "Null", "true", "false", plain},
		{"kms:GrantConstraintType", "StringEquals", "EncryptionContextEquals", "EncryptionContextSubset", constrained},
		{"kms:GrantConstraintType", "Null", "true", "false", emptySubset},
		{"kms:GrantConstraintType", "Null", "true", "false", emptyEquals},
		{"kms:GrantConstraintSourceArn", "ArnLike", "arn:aws:s3:*:*:bucket", "arn:aws:s3:*:*:other", constrained},
		{"kms:EncryptionContext:tenant", "StringEquals", "a", "b", constrained},
		{"kms:EncryptionContextKeys", "ForAnyValue:StringEquals", "Tenant", "tenant", constrained},
		{"kms:GranteeServicePrincipal", "StringEquals", "s3.amazonaws.com", "sqs.amazonaws.com", service},
		{"kms:RetiringServicePrincipal", "StringEquals", "sqs.amazonaws.com", "s3.amazonaws.com", service},
		{"kms:GranteePrincipal", "Null", "true", "false", service},
	} {
		for name, value := range map[string]string{"good": c.good, "bad": c.bad} {
			user := s.principal(kms.User, fmt.Sprintf("u%d%s", i, name), fmt.Sprintf(
				`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["kms:CreateGrant","kms:ListGrants"],"Resource":"*","Condition":{"%s":{"%s":"%s"}}}}`, c.operator, c.key, value))
			_, err := s.client(user, region).CreateGrant(ctx, c.in)
			if (err == nil) != (name == "good") {
				t.Errorf("%s, %s: %v", c.key, name, err)
			}
			if c.key != "kms:GrantIsForAWSResource" {
				continue
			}
			_, err = s.client(user, region).ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN})
			if (err == nil) != (name == "good") {
				t.Errorf("%s, %s, ListGrants: %v", c.key, name, err)
			}
		}
	}
	// RetireGrant has those of the grant.
	holder := s.principal(kms.User, "holder", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:RetireGrant","Resource":"*",
		"Condition":{"StringEquals":{"kms:GrantConstraintType":"EncryptionContextEquals","kms:EncryptionContext:Tenant":"a"}}}}`)
	for in, code := range map[*awskms.CreateGrantInput]string{constrained: "", plain: "AccessDeniedException"} {
		_, err := s.client(holder, region).RetireGrant(ctx, &awskms.RetireGrantInput{GrantToken: s.grant(in).GrantToken})
		if code == "" {
			wantNil(t, err)
		} else {
			wantCode(t, err, code)
		}
	}
}
