// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/cretula/cretula/kms"
)

// The commands that change principals, on the files and over the socket.
func TestKMSIdentities(t *testing.T) {
	for _, over := range []string{"files", "socket"} {
		t.Run(over, func(t *testing.T) {
			dir, _ := kmsFolder(t)
			if over == "socket" {
				serveKMS(t, dir)
			}
			t.Chdir(t.TempDir())
			for name, text := range map[string]string{
				"p.json":     `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*"}}`,
				"trust.json": `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"sts:AssumeRole"}}`,
				"empty.json": "", "bad.json": `{"Statement":1}`,
			} {
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ok := func(want string, args ...string) string {
				t.Helper()
				code, stdout, stderr := cretula(map[string]string{"CRETULA_DATA_DIR": dir}, append([]string{"kms"}, args...)...)
				if code != 0 || !strings.Contains(stdout+stderr, want) {
					t.Fatalf("%v: %d %s%s, want %q", args, code, stdout, stderr, want)
				}
				return stdout
			}
			fails := func(want int, text string, args ...string) {
				t.Helper()
				code, stdout, stderr := cretula(map[string]string{"CRETULA_DATA_DIR": dir}, append([]string{"kms"}, args...)...)
				if code != want || !strings.Contains(stderr, text) {
					t.Errorf("%v: %d %s%s, want %d %q", args, code, stdout, stderr, want, text)
				}
			}
			show := func(name string) (info kms.PrincipalInfo) {
				t.Helper()
				out := ok(`"schema": "cretula.kms.principal-info.v1"`, "principal", "show", name, "--json")
				if err := json.Unmarshal([]byte(out), &info); err != nil || strings.Contains(out, "secret") {
					t.Fatalf("%v %s", err, out)
				}
				return info
			}
			ok("export AWS_ACCESS_KEY_ID='AKIA", "principal", "add", "alice")
			if out := ok("added arn:aws:iam::000000000000:role/worker", "principal", "add", "worker", "--role", "--trust", "trust.json", "--max-session", "2h"); out != "" {
				t.Errorf("a role without a key printed %s", out)
			}
			if p := show("worker"); len(p.AccessKeys) != 0 || p.MaxSession != 7200 || p.TrustPolicy == "" {
				t.Errorf("%+v", p)
			}
			fails(2, "a user cannot be assumed", "principal", "trust", "alice", "trust.json")
			fails(3, "trust policy", "principal", "trust", "worker", "bad.json")
			fails(2, "empty.json is empty", "principal", "trust", "worker", "empty.json")
			ok("changed whom is trusted by", "principal", "trust", "worker", "trust.json", "--max-session", "1h")
			fails(2, "a longest session of 60 seconds", "principal", "trust", "worker", "trust.json", "--max-session", "1m")

			ok("disabled arn:aws:iam::000000000000:user/alice", "principal", "disable", "alice")
			if !show("alice").Disabled {
				t.Error("not disabled")
			}
			ok("(disabled)", "principal", "list")
			ok("nothing is accepted of it", "principal", "show", "alice")
			ok("enabled", "principal", "enable", "alice")
			ok("revoked the sessions of", "principal", "revoke-sessions", "alice")
			if at := show("alice").RevokedBefore; time.Since(at) > time.Minute {
				t.Errorf("revoked before %v", at)
			}
			fails(2, "are revoked already", "principal", "revoke-sessions", "alice", "--before", "2020-01-01T00:00:00Z")
			fails(2, "is not a time", "principal", "revoke-sessions", "alice", "--before", "yesterday")
			fails(2, "in the future", "principal", "revoke-sessions", "alice", "--before", "2100-01-01T00:00:00Z")

			ok("changed the policies of", "principal", "set-policy", "alice", "--policy", "p.json", "--boundary", "p.json")
			if p := show("alice"); len(p.Policies) != 1 || p.Boundary == "" {
				t.Errorf("%+v", p)
			}
			ok("changed the policies of", "principal", "set-policy", "alice", "--no-policies")
			if p := show("alice"); len(p.Policies) != 0 || p.Boundary == "" {
				t.Errorf("%+v", p)
			}
			ok(`"boundary"`, "principal", "set-policy", "worker", "--boundary", "p.json", "--json")
			fails(2, "give --policy", "principal", "set-policy", "alice")
			fails(2, "none shall be", "principal", "set-policy", "alice", "--policy", "p.json", "--no-policies")
			fails(3, "line 1", "principal", "set-policy", "alice", "--policy", "bad.json")

			ok("", "principal", "key", "create", "alice", "--output", "second.env")
			text, err := os.ReadFile("second.env")
			if err != nil || !strings.HasPrefix(string(text), "export AWS_ACCESS_KEY_ID='AKIA") {
				t.Errorf("%s, %v", text, err)
			}
			fails(2, "has 2 access keys already", "principal", "key", "create", "alice", "--output", "third.env")
			if _, err := os.Stat("third.env"); err == nil {
				t.Error("a file without a key is left")
			}
			second := strings.SplitN(string(text), "'", 3)[1]
			ok("deactivated an access key of arn:aws:iam::000000000000:user/alice", "principal", "key", "deactivate", second)
			ok(second+"   inactive", "principal", "key", "list", "alice")
			ok("activated", "principal", "key", "activate", second)
			ok(`"active": true`, "principal", "key", "list", "alice", "--json")
			ok("deleted an access key", "principal", "key", "delete", second)
			fails(1, "unknown access key", "principal", "key", "delete", second)
			fails(1, "unknown access key", "principal", "key", "activate", "AKIANONE")
			fails(1, "no such principal", "principal", "show", "nobody")

			ok("made a new token key", "token-key", "rotate")
			ok("every session has ended", "token-key", "rotate", "--retire")
			if out := ok("TOKEN KEY", "token-key", "list"); strings.Count(out, "\n") != 2 {
				t.Errorf("token keys:\n%s", out)
			}
		})
	}
}

// The commands end what a running service has given away.
func TestKMSRevokeSessions(t *testing.T) {
	dir, admin := kmsFolder(t)
	endpoint := serveKMS(t, dir)
	env := map[string]string{"CRETULA_DATA_DIR": dir}
	client := func(id, secret, token string) *awssts.Client {
		return awssts.New(awssts.Options{Region: "us-east-1", BaseEndpoint: &endpoint, Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider(id, secret, token)})
	}
	trust := filepath.Join(t.TempDir(), "trust.json")
	if err := os.WriteFile(trust, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"sts:AssumeRole"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := cretula(env, "kms", "principal", "add", "worker", "--role", "--trust", trust); code != 0 {
		t.Fatal(stderr)
	}
	arn, name := "arn:aws:iam::000000000000:role/worker", "job-1"
	for _, end := range [][]string{
		{"principal", "revoke-sessions", "worker"}, {"principal", "revoke-sessions", "admin"}, {"token-key", "rotate", "--retire"}, {"principal", "disable", "worker"},
	} {
		out, err := client(admin.AccessKeyID, admin.SecretAccessKey, "").AssumeRole(t.Context(), &awssts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: &name})
		if err != nil {
			t.Fatal(err)
		}
		session := client(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
		if _, err := session.GetCallerIdentity(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := cretula(env, append([]string{"kms"}, end...)...); code != 0 {
			t.Fatal(stderr)
		}
		if _, err := session.GetCallerIdentity(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "InvalidClientTokenId") {
			t.Errorf("%v: %v", end, err)
		}
	}
}
