// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/cretula/cretula/internal/adminsock"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/kms/ledger"
)

// cretula runs one command in this process.
func cretula(env map[string]string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Getenv: func(name string) string { return env[name] }, Now: time.Now})
	return code, out.String(), errs.String()
}

// kmsFolder makes a data folder with an administrator.
func kmsFolder(t *testing.T) (string, kms.Credentials) {
	t.Helper()
	// Not t.TempDir: the name of a Unix socket must be short.
	parent, err := os.MkdirTemp("", "kms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	dir := filepath.Join(parent, "d")
	files, err := datadir.Create(t.Context(), dir, ledger.Meta{Emulated: true, Account: "000000000000"})
	if err != nil {
		t.Fatal(err)
	}
	server, err := files.Server(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := server.EnsureAdmin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, admin
}

// serveKMS runs a key service on the folder and returns its endpoint.
func serveKMS(t *testing.T, dir string) string {
	t.Helper()
	files, err := datadir.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	server, err := files.Server(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := kmsserver.New(kmsserver.Config{KMS: server})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := adminsock.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: handler}
	go web.Serve(listener)
	go adminsock.Serve(t.Context(), socket, server, nil)
	t.Cleanup(func() {
		web.Close()
		files.Close()
	})
	return "http://" + listener.Addr().String()
}

// The same commands work on the files and over the socket.
func TestKMSPrincipals(t *testing.T) {
	dir, _ := kmsFolder(t)
	policy := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(policy, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for round, env := range []map[string]string{{"CRETULA_DATA_DIR": dir}, {"CRETULA_DATA_DIR": dir}} {
		if round == 1 {
			serveKMS(t, dir)
		}
		name := []string{"files", "socket"}[round]
		code, stdout, stderr := cretula(env, "kms", "principal", "add", name, "--role", "--policy", policy, "--json")
		var added addedPrincipal
		if err := json.Unmarshal([]byte(stdout), &added); code != 0 || err != nil {
			t.Fatalf("%s: add: %d %s%s", name, code, stdout, stderr)
		}
		if added.ARN != "arn:aws:sts::000000000000:assumed-role/"+name+"/cretula" || len(added.AccessKeyID) != 20 || len(added.SecretAccessKey) != 40 ||
			added.Schema != "cretula.kms.principal.v1" || added.Type != kms.Role {
			t.Errorf("%s: added %+v", name, added)
		}
		if strings.Contains(stderr, added.SecretAccessKey) {
			t.Errorf("%s: the secret is on stderr", name)
		}
		if len(added.ID) != 21 || !strings.HasPrefix(added.ID, "AROA") {
			t.Errorf("%s: id %q", name, added.ID)
		}
		code, _, stderr = cretula(env, "kms", "principal", "add", name, "--role")
		if code != 1 || !strings.Contains(stderr, "there is such a principal already") {
			t.Errorf("%s: added twice: %d %s", name, code, stderr)
		}
		code, _, stderr = cretula(env, "kms", "principal", "add", "a b")
		if code != 2 || !strings.Contains(stderr, `name "a b"`) {
			t.Errorf("%s: bad name: %d %s", name, code, stderr)
		}
		code, stdout, _ = cretula(env, "kms", "principal", "list")
		if code != 0 || !strings.Contains(stdout, "arn:aws:iam::000000000000:role/"+name) || !strings.Contains(stdout, "user/admin") ||
			strings.Contains(stdout, added.SecretAccessKey) {
			t.Errorf("%s: list: %d %s", name, code, stdout)
		}
		code, stdout, _ = cretula(env, "kms", "principal", "list", "--json")
		if code != 0 || strings.Contains(stdout, "secret") || !strings.Contains(stdout, `"schema": "cretula.kms.principals.v1"`) {
			t.Errorf("%s: list --json: %d %s", name, code, stdout)
		}
		code, _, stderr = cretula(env, "kms", "principal", "remove", name)
		if code != 0 || !strings.Contains(stderr, "removed arn:aws:sts::000000000000:assumed-role/"+name) {
			t.Errorf("%s: remove: %d %s", name, code, stderr)
		}
		code, _, stderr = cretula(env, "kms", "principal", "remove", name)
		if code != 1 || !strings.Contains(stderr, "there is no such principal") {
			t.Errorf("%s: removed twice: %d %s", name, code, stderr)
		}
	}
}

func TestKMSPrincipalOutput(t *testing.T) {
	dir, _ := kmsFolder(t)
	file := filepath.Join(t.TempDir(), "alice.env")
	code, stdout, stderr := cretula(nil, "kms", "principal", "add", "alice", "--data-dir", dir, "--output", file)
	if code != 0 || stdout != "" {
		t.Fatalf("%d %q %q", code, stdout, stderr)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(text), "export AWS_ACCESS_KEY_ID='AKIA") || strings.Count(string(text), "\n") != 2 {
		t.Errorf("%q, %v", text, err)
	}
	if code, _, _ := cretula(nil, "kms", "principal", "add", "bob", "--data-dir", dir, "--output", file); code != 1 {
		t.Errorf("an existing file: %d", code)
	}
}

// A policy that does not parse is refused as malformed, with its place.
func TestKMSPrincipalPolicy(t *testing.T) {
	dir, _ := kmsFolder(t)
	policy := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(policy, []byte("{\"Statement\":\n [{}]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := cretula(nil, "kms", "principal", "add", "alice", "--data-dir", dir, "--policy", policy)
	if code != 3 || !strings.Contains(stderr, "line 2, column 3") {
		t.Errorf("%d %s", code, stderr)
	}
}

func TestKMSExplain(t *testing.T) {
	dir, admin := kmsFolder(t)
	endpoint := serveKMS(t, dir)
	code, stdout, _ := cretula(map[string]string{"CRETULA_DATA_DIR": dir}, "kms", "principal", "add", "alice", "--json")
	var alice addedPrincipal
	if err := json.Unmarshal([]byte(stdout), &alice); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	client := func(id, secret string) *awskms.Client {
		return awskms.New(awskms.Options{Region: "us-east-1", BaseEndpoint: &endpoint, Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")})
	}
	created, err := client(admin.AccessKeyID, admin.SecretAccessKey).CreateKey(t.Context(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client(alice.AccessKeyID, alice.SecretAccessKey).GenerateDataKey(t.Context(),
		&awskms.GenerateDataKeyInput{KeyId: created.KeyMetadata.KeyId, NumberOfBytes: aws.Int32(16)})
	id := decisionOf(t, err)
	asAlice := map[string]string{"AWS_ENDPOINT_URL_KMS": endpoint, "AWS_ACCESS_KEY_ID": alice.AccessKeyID, "AWS_SECRET_ACCESS_KEY": alice.SecretAccessKey}
	asAdmin := map[string]string{"AWS_ENDPOINT_URL_KMS": endpoint, "AWS_ACCESS_KEY_ID": admin.AccessKeyID, "AWS_SECRET_ACCESS_KEY": admin.SecretAccessKey}
	for name, env := range map[string]map[string]string{"socket": {"CRETULA_DATA_DIR": dir}, "signed": asAdmin} {
		code, stdout, stderr := cretula(env, "kms", "explain", id)
		if code != 0 || !strings.HasPrefix(stdout, "DENIED  kms:GenerateDataKey on key "+*created.KeyMetadata.KeyId) ||
			!strings.Contains(stdout, "no identity policy allows it") || !strings.Contains(stdout, "EMULATED") {
			t.Errorf("%s: %d %s%s", name, code, stdout, stderr)
		}
		code, stdout, _ = cretula(env, "kms", "explain", id, "--json")
		if code != 0 || !strings.Contains(stdout, `"schema": "cretula.kms.explanation.v1"`) || !strings.Contains(stdout, `"outcome": "denied"`) {
			t.Errorf("%s: --json: %d %s", name, code, stdout)
		}
		code, _, stderr = cretula(env, "kms", "explain", "d-00000000000000000000000000000000")
		if code != 1 || !strings.Contains(stderr, "o such decision") && !strings.Contains(stderr, "no decision") {
			t.Errorf("%s: unknown id: %d %s", name, code, stderr)
		}
	}
	code, stdout, stderr := cretula(asAlice, "kms", "explain", id)
	if code != 1 || stdout != "" || !strings.Contains(stderr, "AccessDeniedException: There is no such decision, or you are not allowed to see it.") {
		t.Errorf("who may not: %d %s%s", code, stdout, stderr)
	}
}

// Without a server the audit log itself is read.
func TestKMSExplainOffline(t *testing.T) {
	dir, _ := kmsFolder(t)
	files, err := datadir.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	event := kms.Event{Schema: kms.EventSchema, DecisionID: "d-1", EventName: "Decrypt", EventSource: "kms.amazonaws.com", Outcome: kms.Failed, ErrorCode: "InvalidCiphertextException",
		UserIdentity: kms.UserIdentity{ARN: "arn:aws:iam::000000000000:user/x"}}
	if err := files.Audit.Append(t.Context(), &event); err != nil {
		t.Fatal(err)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := cretula(nil, "kms", "explain", "d-1", "--data-dir", dir)
	if code != 0 || !strings.Contains(stdout, "FAILED  kms:Decrypt by arn:aws:iam::000000000000:user/x") || !strings.Contains(stdout, "InvalidCiphertextException") {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
	if code, _, _ := cretula(nil, "kms", "explain", "d-2", "--data-dir", dir); code != 1 {
		t.Errorf("unknown id: %d", code)
	}
}

// decisionOf returns the decision id of a refusal.
func decisionOf(t *testing.T, err error) string {
	t.Helper()
	var withResponse interface{ HTTPResponse() *smithyhttp.Response }
	if !errors.As(err, &withResponse) {
		t.Fatalf("no refusal: %v", err)
	}
	return withResponse.HTTPResponse().Header.Get(kmsserver.DecisionHeader)
}

// Boundary, tags and path of a principal are those that the flags say, and listed.
func TestKMSPrincipalLimits(t *testing.T) {
	dir, _ := kmsFolder(t)
	limit, empty := filepath.Join(t.TempDir(), "limit.json"), filepath.Join(t.TempDir(), "empty.json")
	const text = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Describe*","Resource":"*"}}`
	for name, content := range map[string]string{limit: text, empty: ""} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	add := func(arguments ...string) (int, string, string) {
		return cretula(nil, append([]string{"kms", "principal", "add", "--data-dir", dir, "--json"}, arguments...)...)
	}
	for _, bad := range [][]string{
		{"a", "--tag", "team"}, {"a", "--tag", "team=1", "--tag", "team=2"}, {"a", "--tag", "team=1", "--tag", "Team=2"}, {"a", "--tag", "=1"},
		{"a", "--tag", "AWS:x=1"}, {"a", "--tag", "k=" + strings.Repeat("x", 257)}, {"a", "--boundary", empty}, {"/a"}, {"a/"}, {"a//b"}, {"a b/c"},
	} {
		if code, _, stderr := add(bad...); code != 2 {
			t.Errorf("%q: %d %s", bad, code, stderr)
		}
	}
	if code, _, _ := add("a", "--boundary", filepath.Join(dir, "none")); code == 0 {
		t.Error("no such boundary")
	}
	code, stdout, stderr := add("batch/worker", "--role", "--boundary", limit, "--tag", "team=red=blue", "--tag", "empty=")
	var added addedPrincipal
	if err := json.Unmarshal([]byte(stdout), &added); code != 0 || err != nil {
		t.Fatal(code, stderr)
	}
	if added.ARN != "arn:aws:sts::000000000000:assumed-role/worker/cretula" || added.Name != "batch/worker" {
		t.Errorf("%+v", added)
	}
	code, stdout, _ = cretula(nil, "kms", "principal", "list", "--data-dir", dir)
	if code != 0 || !strings.Contains(stdout, "arn:aws:iam::000000000000:role/batch/worker   "+added.ID+"   0          95 bytes   2") {
		t.Errorf("list:\n%s", stdout)
	}
	code, stdout, _ = cretula(nil, "kms", "principal", "list", "--data-dir", dir, "--json")
	var list struct{ Principals []kms.PrincipalInfo }
	if err := json.Unmarshal([]byte(stdout), &list); code != 0 || err != nil || len(list.Principals) != 2 {
		t.Fatalf("%d %v %s", code, err, stdout)
	}
	if p := list.Principals[1]; p.ID != added.ID || p.Boundary != text || len(p.Tags) != 2 || p.Tags["team"] != "red=blue" {
		t.Errorf("%+v", p)
	}
	// Names are unique without regard to path and case.
	for _, name := range []string{"worker", "other/worker", "Worker"} {
		if code, _, stderr := add(name, "--role"); code != 1 || !strings.Contains(stderr, "there is such a principal already") {
			t.Errorf("%s: %d %s", name, code, stderr)
		}
	}
	if code, _, stderr := cretula(nil, "kms", "principal", "remove", "worker", "--data-dir", dir); code != 0 {
		t.Error(stderr)
	}
	if code, _, stderr := add("Worker", "--role"); code != 0 {
		t.Error(stderr)
	}
}
