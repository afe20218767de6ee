// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

func where(operator, name string, values ...string) string {
	return fmt.Sprintf(`{"%s":{"%s":["%s"]}}`, operator, name, strings.Join(values, `","`))
}

// identity is an identity policy of statements "action condition".
func identity(statements ...[2]string) string {
	var all []string
	for _, s := range statements {
		text := `{"Effect":"Allow","Action":["` + strings.ReplaceAll(s[0], " ", `","`) + `"],"Resource":"*"`
		if s[1] != "" {
			text += `,"Condition":` + s[1]
		}
		all = append(all, text+"}")
	}
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(all, ",") + `]}`
}

// The right to replicate is one to the primary key, one to make keys in the other
// region and, with tags, one to tag there; each with its own condition keys.
func TestReplicatePermissions(t *testing.T) {
	tagged := func(in *awskms.ReplicateKeyInput) {
		in.Tags = []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("red")}}
	}
	const create = "kms:CreateKey kms:PutKeyPolicy"
	for name, c := range map[string]struct {
		policy string
		tags   bool
		denied string // the action, "" if allowed
	}{
		"all":                       {identity([2]string{"kms:ReplicateKey " + create}), false, ""},
		"no ReplicateKey":           {identity([2]string{create}), false, "ReplicateKey"},
		"no CreateKey":              {identity([2]string{"kms:ReplicateKey kms:PutKeyPolicy"}), false, "CreateKey"},
		"no TagResource":            {identity([2]string{"kms:ReplicateKey " + create}), true, "TagResource"},
		"TagResource":               {identity([2]string{"kms:ReplicateKey kms:TagResource " + create}), true, ""},
		"TagResource, other region": {identity([2]string{"kms:ReplicateKey " + create}, [2]string{"kms:TagResource", where("StringEquals", "aws:RequestedRegion", region)}), true, "TagResource"},
		"TagResource, this tag":     {identity([2]string{"kms:ReplicateKey " + create}, [2]string{"kms:TagResource", where("StringEquals", "aws:RequestTag/team", "red")}), true, ""},
		"this ReplicaRegion":        {identity([2]string{create}, [2]string{"kms:ReplicateKey", where("StringEquals", "kms:ReplicaRegion", second, third)}), false, ""},
		"other ReplicaRegion":       {identity([2]string{create}, [2]string{"kms:ReplicateKey", where("StringEquals", "kms:ReplicaRegion", third)}), false, "ReplicateKey"},
		"RequestTag":                {identity([2]string{"kms:TagResource " + create}, [2]string{"kms:ReplicateKey", where("StringEquals", "aws:RequestTag/team", "red")}), true, ""},
		"other RequestTag":          {identity([2]string{"kms:TagResource " + create}, [2]string{"kms:ReplicateKey", where("StringEquals", "aws:RequestTag/team", "blue")}), true, "ReplicateKey"},
		"RequestTag of CreateKey":   {identity([2]string{"kms:TagResource kms:ReplicateKey kms:PutKeyPolicy"}, [2]string{"kms:CreateKey", where("StringEquals", "aws:RequestTag/team", "blue")}), true, "CreateKey"},
		"CreateKey there":           {identity([2]string{"kms:ReplicateKey kms:PutKeyPolicy"}, [2]string{"kms:CreateKey", where("StringEquals", "aws:RequestedRegion", second)}), false, ""},
		"CreateKey here only":       {identity([2]string{"kms:ReplicateKey kms:PutKeyPolicy"}, [2]string{"kms:CreateKey", where("StringEquals", "aws:RequestedRegion", region)}), false, "CreateKey"},
		"ReplicateKey here":         {identity([2]string{create}, [2]string{"kms:ReplicateKey", where("StringEquals", "aws:RequestedRegion", region)}), false, ""},
		"CreateKey of replicas":     {identity([2]string{"kms:ReplicateKey kms:PutKeyPolicy"}, [2]string{"kms:CreateKey", where("StringEquals", "kms:MultiRegionKeyType", "REPLICA")}), false, ""},
		"CreateKey of primary keys": {identity([2]string{"kms:ReplicateKey kms:PutKeyPolicy"}, [2]string{"kms:CreateKey", where("StringEquals", "kms:MultiRegionKeyType", "PRIMARY")}), false, "CreateKey"},
		"CreateKey of one region":   {identity([2]string{"kms:ReplicateKey kms:PutKeyPolicy"}, [2]string{"kms:CreateKey", where("Bool", "kms:MultiRegion", "false")}), false, "CreateKey"},
		"CreateKey of RSA keys":     {identity([2]string{"kms:ReplicateKey kms:PutKeyPolicy"}, [2]string{"kms:CreateKey", where("StringLike", "kms:KeySpec", "RSA_*")}), false, "CreateKey"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			arn := regionalARN(region, s.multiKey())
			user := s.principal(kms.User, "user", c.policy)
			change := func(in *awskms.ReplicateKeyInput) {
				if c.tags {
					tagged(in)
				}
			}
			err := s.replicate(user, arn, second, change)
			if c.denied == "" {
				fatal(t, err)
				return
			}
			if err == nil {
				t.Fatal("allowed")
			}
			code, message, _, decision := refused(t, err)
			if code != "AccessDeniedException" || !strings.Contains(message, "kms:"+c.denied+" ") {
				t.Errorf("%s %s, want %s", code, message, c.denied)
			}
			event, err := s.kms.Explain(t.Context(), decision)
			fatal(t, err)
			if event.Outcome != kms.Denied || event.Decision.Allowed {
				t.Errorf("%+v", event)
			}
			if _, err := s.client(s.admin, second).DescribeKey(t.Context(), &awskms.DescribeKeyInput{KeyId: aws.String(regionalARN(second, arn[len(arn)-36:]))}); err == nil {
				t.Error("there is a replica")
			}
		})
	}
}

// kms:MultiRegion and kms:MultiRegionKeyType tell the keys apart in every operation.
func TestMultiRegionConditions(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	id, single := s.multiKey(second), s.key("")
	for name, c := range map[string]struct {
		condition              string
		primary, replica, only bool
	}{
		"primary":      {where("StringEquals", "kms:MultiRegionKeyType", "PRIMARY"), true, false, false},
		"replica":      {where("StringEquals", "kms:MultiRegionKeyType", "REPLICA"), false, true, false},
		"no type":      {`{"Null":{"kms:MultiRegionKeyType":"true"}}`, false, false, true},
		"multi-region": {where("Bool", "kms:MultiRegion", "true"), true, true, false},
		"one region":   {where("Bool", "kms:MultiRegion", "false"), false, false, true},
		"region":       {where("StringEquals", "aws:RequestedRegion", second), false, true, false},
	} {
		user := s.principal(kms.User, strings.ReplaceAll(name, " ", "-"), identity([2]string{"kms:Encrypt kms:DescribeKey", c.condition}))
		for what, k := range map[string]struct {
			region, key string
			allowed     bool
		}{"primary": {region, id, c.primary}, "replica": {second, id, c.replica}, "single": {region, single, c.only}} {
			_, err := s.client(user, k.region).Encrypt(ctx, &awskms.EncryptInput{KeyId: &k.key, Plaintext: []byte("x")})
			if (err == nil) != k.allowed {
				t.Errorf("%s, Encrypt with the %s key: %v", name, what, err)
			}
			if _, err = s.client(user, k.region).DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &k.key}); (err == nil) != k.allowed {
				t.Errorf("%s, DescribeKey of the %s key: %v", name, what, err)
			}
		}
	}
	for name, c := range map[string]struct {
		condition     string
		multi, single bool
	}{
		"CreateKey of primary keys":       {where("StringEquals", "kms:MultiRegionKeyType", "PRIMARY"), true, false},
		"CreateKey of replicas":           {where("StringEquals", "kms:MultiRegionKeyType", "REPLICA"), false, false},
		"CreateKey of keys of one region": {where("Bool", "kms:MultiRegion", "false"), false, true},
		"CreateKey of multi-region keys":  {where("Bool", "kms:MultiRegion", "true"), true, false},
	} {
		user := s.principal(kms.User, strings.ReplaceAll(name, " ", "-"), identity([2]string{"kms:CreateKey", c.condition}, [2]string{"kms:PutKeyPolicy"}))
		for multi, allowed := range map[bool]bool{true: c.multi, false: c.single} {
			_, err := s.client(user, region).CreateKey(ctx, &awskms.CreateKeyInput{MultiRegion: &multi})
			if (err == nil) != allowed {
				t.Errorf("%s, MultiRegion %v: %v", name, multi, err)
			}
		}
	}
}

// The primary key is changed by who may do it on both keys, the old and the new one.
func TestUpdatePrimaryPermissions(t *testing.T) {
	s := newService(t)
	id := s.multiKey(second)
	arns := map[string]string{region: regionalARN(region, id), second: regionalARN(second, id)}
	only := func(resource string) string {
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:UpdatePrimaryRegion","Resource":"` + resource + `"}}`
	}
	update := func(as kms.Credentials) error {
		_, err := s.client(as, region).UpdatePrimaryRegion(t.Context(), &awskms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String(second)})
		return err
	}
	for name, c := range map[string]struct{ policy, denied string }{
		"on the primary key only":    {only(arns[region]), arns[second]},
		"on the replica only":        {only(arns[second]), arns[region]},
		"to another region":          {identity([2]string{"kms:UpdatePrimaryRegion", where("StringEquals", "kms:PrimaryRegion", third)}), arns[region]},
		"for replicas":               {identity([2]string{"kms:UpdatePrimaryRegion", where("StringEquals", "kms:MultiRegionKeyType", "REPLICA")}), arns[region]},
		"in the primary region only": {identity([2]string{"kms:UpdatePrimaryRegion", where("StringEquals", "aws:RequestedRegion", region)}), arns[second]},
		"nothing":                    {identity([2]string{"kms:DescribeKey"}), arns[region]},
	} {
		err := update(s.principal(kms.User, strings.ReplaceAll(name, " ", "-"), c.policy))
		if err == nil {
			t.Fatalf("%s: allowed", name)
		}
		if code, message, _, _ := refused(t, err); code != "AccessDeniedException" || !strings.Contains(message, c.denied) {
			t.Errorf("%s: %s %s", name, code, message)
		}
	}
	s.wantRegions(id, region, second)
	fatal(t, update(s.principal(kms.User, "user", identity([2]string{"kms:UpdatePrimaryRegion", where("StringEquals", "kms:PrimaryRegion", second)}))))
	s.wantRegions(id, second, region)
}

// Of two requests for a replica in one region one makes it.
func TestReplicateTwice(t *testing.T) {
	s := newService(t)
	id := s.multiKey()
	for _, to := range []string{second, third} {
		errs := make([]error, 4)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { errs[i] = s.replicate(s.admin, id, to) })
		}
		all.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
				continue
			}
			wantCode(t, err, "AlreadyExistsException")
		}
		if made != 1 {
			t.Errorf("%d replicas in %s", made, to)
		}
	}
	s.wantRegions(id, region, second, third)
}

// A right, or a role, that was taken away while the request was under way is not
// used.
func TestReplicateRace(t *testing.T) {
	raced := &racedStore{Store: newStore(t)}
	s := newService(t, over(t, raced))
	id := s.multiKey(second)
	raced.before = func() {
		_, err := s.adminClient().UpdatePrimaryRegion(t.Context(), &awskms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String(second)})
		fatal(t, err)
	}
	refusal(t, "a primary key that became a replica", s.replicate(s.admin, id, third), "UnsupportedOperationException",
		regionalARN(region, id)+" is not a multi-region primary key.")
	there := s.client(s.admin, second)
	raced.before = func() {
		_, err := s.adminClient().DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: &id})
		fatal(t, err)
	}
	_, err := there.UpdatePrimaryRegion(t.Context(), &awskms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: aws.String(region)})
	refusal(t, "a replica that was disabled", err, "DisabledException", regionalARN(region, id)+" is disabled.")
	s.wantRegions(id, second, region)
}
