// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsserver_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/ledger"
)

// A binding is a change that takes something away from a user.
type binding struct {
	name string
	// use is the request that the change forbids; its error says how.
	use    func(c *awskms.Client) error
	who    aws.CredentialsProvider
	change func() error
	// codes are those that forbid.
	codes string
}

// may is a key policy that lets users do all with a key, administration apart.
func may(users ...string) string {
	quoted := make([]string, 0, len(users))
	for _, u := range users {
		quoted = append(quoted, quoteJSON("arn:aws:iam::"+account+":user/"+u))
	}
	return `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":[` + strings.Join(quoted, ",") + `]},"Action":"kms:Encrypt","Resource":"*"}]}`
}

func (c *cluster) key(client *awskms.Client, policy string) *string {
	c.t.Helper()
	out, err := client.CreateKey(c.t.Context(), &awskms.CreateKeyInput{Policy: &policy})
	fatal(c.t, err)
	return out.KeyMetadata.Arn
}

func encrypts(key *string) func(*awskms.Client) error {
	return func(c *awskms.Client) error {
		_, err := c.Encrypt(background, &awskms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
		return err
	}
}

// bindings prepares one change of each sort, to be made through a server.
func (c *cluster) bindings(through *awskms.Client) []binding {
	const denied = "AccessDeniedException"
	ctx := c.t.Context()
	all, accessKeys := []binding{}, map[string]string{}
	add := func(name, codes string, policies []string, prepare func(user string) (use func(*awskms.Client) error, change func() error)) {
		who := c.principal(name, policies...)
		accessKeys[name] = who.AccessKeyID
		use, change := prepare(name)
		all = append(all, binding{name: name, use: use, who: provider(who, ""), change: change, codes: codes})
	}
	add("policy", denied, nil, func(user string) (func(*awskms.Client) error, func() error) {
		key := c.key(through, may("policy"))
		return encrypts(key), func() error {
			_, err := through.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: key, Policy: aws.String(adminPolicy)})
			return err
		}
	})
	add("grant", denied, nil, func(user string) (func(*awskms.Client) error, func() error) {
		key := c.key(through, adminPolicy)
		grant, err := through.CreateGrant(ctx, &awskms.CreateGrantInput{
			KeyId: key, GranteePrincipal: aws.String("arn:aws:iam::" + account + ":user/" + user), Operations: []types.GrantOperation{types.GrantOperationEncrypt},
		})
		fatal(c.t, err)
		return encrypts(key), func() error {
			_, err := through.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: key, GrantId: grant.GrantId})
			return err
		}
	})
	add("disabled-key", "DisabledException", nil, func(user string) (func(*awskms.Client) error, func() error) {
		key := c.key(through, may(user))
		return encrypts(key), func() error {
			_, err := through.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: key})
			return err
		}
	})
	add("deletion", "KMSInvalidStateException", nil, func(user string) (func(*awskms.Client) error, func() error) {
		key := c.key(through, may(user))
		return encrypts(key), func() error {
			_, err := through.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: key})
			return err
		}
	})
	add("alias", denied, nil, func(user string) (func(*awskms.Client) error, func() error) {
		key, other, alias := c.key(through, may(user)), c.key(through, adminPolicy), aws.String("alias/moves")
		_, err := through.CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: alias, TargetKeyId: key})
		fatal(c.t, err)
		return encrypts(alias), func() error {
			_, err := through.UpdateAlias(ctx, &awskms.UpdateAliasInput{AliasName: alias, TargetKeyId: other})
			return err
		}
	})
	for name, change := range map[string]func(user string) error{
		"principal": func(user string) error {
			_, err := c.own.ChangePrincipal(ctx, user, "", kms.PrincipalChange{Disabled: aws.Bool(true)})
			return err
		},
		"identity": func(user string) error {
			_, err := c.own.ChangePrincipal(ctx, user, "", kms.PrincipalChange{Policies: &[]string{}})
			return err
		},
		"access-key": func(user string) error {
			_, err := c.own.SetAccessKeyActive(ctx, accessKeys[user], false)
			return err
		},
		"removed": func(user string) error {
			_, err := c.own.RemovePrincipal(ctx, user, "")
			return err
		},
	} {
		codes := "UnrecognizedClientException InvalidClientTokenId"
		if name == "identity" {
			codes = denied
		}
		add(name, codes, []string{randomPolicy}, func(user string) (func(*awskms.Client) error, func() error) {
			return random, func() error { return change(user) }
		})
	}
	return append(all, c.sessionBindings()...)
}

// sessionBindings end the sessions of roles in different ways.
func (c *cluster) sessionBindings() (all []binding) {
	ctx, first := c.t.Context(), c.service(c.peers[0])
	for name, change := range map[string]func(user, role string) error{
		"session-revoked": func(_, role string) error {
			_, err := c.own.ChangePrincipal(ctx, role, "", kms.PrincipalChange{RevokedBefore: aws.Time(time.Now())})
			return err
		},
		"session-disabled": func(_, role string) error {
			_, err := c.own.ChangePrincipal(ctx, role, "", kms.PrincipalChange{Disabled: aws.Bool(true)})
			return err
		},
		"session-orphaned": func(_, role string) error {
			_, err := c.own.RemovePrincipal(ctx, role, "")
			return err
		},
		"session-of-removed": func(user, _ string) error {
			_, err := c.own.RemovePrincipal(ctx, user, "")
			return err
		},
	} {
		user, role := c.principal(name), name+"-role"
		_, err := c.own.AddPrincipal(ctx, kms.Principal{
			Type: kms.Role, Name: role, TrustPolicy: trusting("arn:aws:iam::" + account + ":user/" + name), Policies: []string{randomPolicy},
		})
		fatal(c.t, err)
		session := first.mustAssume(provider(user, ""), func(in *awssts.AssumeRoleInput) {
			in.RoleArn = aws.String("arn:aws:iam::" + account + ":role/" + role)
		})
		all = append(all, binding{
			name: name, use: random, who: session, codes: "UnrecognizedClientException",
			change: func() error { return change(name, role) },
		})
	}
	return all
}

func random(c *awskms.Client) error {
	_, err := c.GenerateRandom(background, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
	return err
}

// A sentRequest is a request to one server and when it was sent.
type sentRequest struct {
	at  time.Time
	err error
}

// watch sends requests to a server until stop is closed, and one after that.
func watch(c *awskms.Client, use func(*awskms.Client) error, stop <-chan struct{}) (sent []sentRequest) {
	for last := false; ; {
		at := time.Now()
		sent = append(sent, sentRequest{at, use(c)})
		if last {
			return sent
		}
		select {
		case <-stop:
			last = true
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// bindsWithinASecond makes the changes through the first server while the users ask
// all servers. What is sent a second after the answer must be refused.
func (c *cluster) bindsWithinASecond() {
	t := c.t
	t.Helper()
	all := c.bindings(c.client(provider(c.admin, ""), c.peers[0]))
	var asking sync.WaitGroup
	answered := make([]atomic.Int64, len(all)) // nanoseconds after begun
	begun, stop := time.Now(), make(chan struct{})
	sent := make([][][]sentRequest, len(all))
	for i, b := range all {
		sent[i] = make([][]sentRequest, len(c.peers))
		for j, p := range c.peers {
			client := c.single(b.who, p)
			for range 3 { // it is in memory, and allowed
				if err := b.use(client); err != nil {
					t.Fatalf("%s, server %d: %v", b.name, j, err)
				}
			}
			asking.Go(func() { sent[i][j] = watch(client, b.use, stop) })
		}
	}
	time.Sleep(100 * time.Millisecond)
	for i, b := range all {
		if err := b.change(); err != nil {
			t.Errorf("%s: %v", b.name, err)
		}
		answered[i].Store(int64(time.Since(begun)))
	}
	time.Sleep(ledger.Recent + 300*time.Millisecond)
	close(stop)
	asking.Wait()
	for i, b := range all {
		at := begun.Add(time.Duration(answered[i].Load()))
		for j := range c.peers {
			b.check(t, j, at, sent[i][j])
		}
	}
}

func (b *binding) check(t testing.TB, server int, answered time.Time, sent []sentRequest) {
	t.Helper()
	after, last := 0, time.Duration(0)
	for _, r := range sent {
		age := r.at.Sub(answered)
		if r.err == nil {
			last = max(last, age)
			if age >= ledger.Recent {
				t.Errorf("%s: server %d allows what is sent %v after the answer", b.name, server, age)
			}
			continue
		}
		if age >= ledger.Recent {
			after++
		}
		code := ""
		if api, ok := errors.AsType[smithy.APIError](r.err); ok {
			code = api.ErrorCode()
		}
		if !strings.Contains(b.codes, code) || code == "" {
			t.Errorf("%s: server %d: %v", b.name, server, r.err)
			return
		}
	}
	if after == 0 {
		t.Errorf("%s: server %d was sent %d requests, none a second after the answer", b.name, server, len(sent))
	}
	t.Logf("%s: server %d allowed until %v after the answer", b.name, server, last)
}

func TestClusterBindsWithinASecond(t *testing.T) {
	startCluster(t).bindsWithinASecond()
}

// No notification comes to any server.
func TestClusterBindsWithoutNotifications(t *testing.T) {
	c := startCluster(t)
	for _, p := range c.peers {
		p.proxy.set(true, false)
	}
	c.bindsWithinASecond()
}
