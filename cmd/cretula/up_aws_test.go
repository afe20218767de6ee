// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/enclave"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/pcr"
)

// Nine operations, by an unmodified client.
func TestUpOperations(t *testing.T) {
	up := startUp(t, newDataDir(t))
	c, ctx := up.client(), t.Context()
	secret := []byte("a plaintext of this test")
	created, err := c.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("orders")})
	if err != nil {
		t.Fatal(err)
	}
	key := created.KeyMetadata.Arn
	if !strings.HasPrefix(*key, "arn:aws:kms:us-east-1:000000000000:key/") {
		t.Errorf("ARN %s", *key)
	}
	described, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: created.KeyMetadata.KeyId})
	if err != nil || *described.KeyMetadata.Arn != *key || *described.KeyMetadata.Description != "orders" {
		t.Errorf("DescribeKey: %+v, %v", described, err)
	}
	if keys := listKeys(t, c); !slices.Equal(keys, []string{*key}) {
		t.Errorf("ListKeys: %v", keys)
	}
	policy, err := c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: key})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: key, Policy: policy.Policy}); err != nil {
		t.Errorf("PutKeyPolicy: %v", err)
	}
	sealed, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: secret, EncryptionContext: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: map[string]string{"a": "b"}})
	if err != nil || !bytes.Equal(opened.Plaintext, secret) || *opened.KeyId != *key {
		t.Errorf("Decrypt: %+v, %v", opened, err)
	}
	_, err = c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	wantAWSError(t, "Decrypt in another context", err, "InvalidCiphertextException")
	dataKey, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256})
	if err != nil {
		t.Fatal(err)
	}
	opened, err = c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: dataKey.CiphertextBlob, KeyId: key})
	if err != nil || len(opened.Plaintext) != 32 || !bytes.Equal(opened.Plaintext, dataKey.Plaintext) {
		t.Errorf("Decrypt of a data key: %v", err)
	}
	random, err := c.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(48)})
	if err != nil || len(random.Plaintext) != 48 {
		t.Errorf("GenerateRandom: %+v, %v", random, err)
	}
	up.signal(t, syscall.SIGTERM)
	up.holdsNowhere(t, secret, dataKey.Plaintext, random.Plaintext, []byte(up.env["AWS_SECRET_ACCESS_KEY"]))
}

// A request's region is that of its credential scope: keys of one are not found
// in another.
func TestUpRegions(t *testing.T) {
	up := startUp(t, newDataDir(t))
	ctx := t.Context()
	in := func(region string) *kms.Client { return up.client(func(o *kms.Options) { o.Region = region }) }
	ireland, virginia := in("eu-west-1"), in("us-east-1")
	created, err := ireland.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id, arn := created.KeyMetadata.KeyId, created.KeyMetadata.Arn
	if !strings.HasPrefix(*arn, "arn:aws:kms:eu-west-1:000000000000:key/") {
		t.Errorf("ARN %s", *arn)
	}
	sealed, err := ireland.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	if keys := listKeys(t, ireland); !slices.Equal(keys, []string{*arn}) {
		t.Errorf("listed in eu-west-1: %v", keys)
	}
	if keys := listKeys(t, virginia); len(keys) != 0 {
		t.Errorf("listed in us-east-1: %v", keys)
	}
	for _, name := range []*string{id, arn} {
		_, err = virginia.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: name})
		wantAWSError(t, "DescribeKey of "+*name, err, "NotFoundException")
		_, err = virginia.Encrypt(ctx, &kms.EncryptInput{KeyId: name, Plaintext: []byte("x")})
		wantAWSError(t, "Encrypt under "+*name, err, "NotFoundException")
		if _, err := ireland.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: name}); err != nil {
			t.Errorf("DescribeKey in its region: %v", err)
		}
	}
	out, err := virginia.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err == nil {
		t.Errorf("decrypted in another region: %+v", out)
	}
}

// attestedRole adds a role that may use a key out of the image of the server's
// module only, and returns its access key.
func (up *upProcess) attestedRole(t testing.TB, key string) (role [2]string) {
	t.Helper()
	role = up.addPrincipal(t, "data-processing", "--role", "--policy", writeFile(t, "random.json",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:GenerateRandom","Resource":"*"}}`))
	policy := runCretula(t, up, "policy", "generate", filepath.Join(up.dir, "image.eif"),
		"--administrator", "arn:aws:iam::000000000000:user/admin", "--role", "arn:aws:iam::000000000000:role/data-processing")
	if _, err := up.client().PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &key, Policy: &policy}); err != nil {
		t.Fatal(err)
	}
	return role
}

// clientInside is the client of a program that has the module at its disposal.
func (up *upProcess) clientInside(t testing.TB, role [2]string) *kms.Client {
	t.Helper()
	device, err := nsm.Dial(up.env["CRETULA_NSM_SOCKET"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	attestor, err := enclave.New(enclave.Options{Device: device})
	if err != nil {
		t.Fatal(err)
	}
	return up.clientAs(role[0], role[1], func(o *kms.Options) { o.APIOptions = append(o.APIOptions, attestor.APIOption()) })
}

// A program with ten lines of ours gets plaintexts; the same role without them,
// and the administrator with them, does not.
func TestUpEnclave(t *testing.T) {
	up := startUp(t, newDataDir(t))
	ctx := t.Context()
	admin := up.client()
	created, err := admin.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	key := created.KeyMetadata.Arn
	role := up.attestedRole(t, *key)
	secret := []byte("what only this image may read")
	sealed, err := admin.Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: secret})
	if err != nil {
		t.Fatal(err)
	}
	inside := up.clientInside(t, role)
	opened, err := inside.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, KeyId: key})
	if err != nil || !bytes.Equal(opened.Plaintext, secret) || opened.CiphertextForRecipient != nil {
		t.Fatalf("Decrypt: %+v, %v", opened, err)
	}
	dataKey, err := inside.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256})
	if err != nil || len(dataKey.Plaintext) != 32 || dataKey.CiphertextForRecipient != nil {
		t.Fatalf("GenerateDataKey: %+v, %v", dataKey, err)
	}
	again, err := inside.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: dataKey.CiphertextBlob})
	if err != nil || !bytes.Equal(again.Plaintext, dataKey.Plaintext) {
		t.Errorf("Decrypt of the data key: %v", err)
	}
	random, err := inside.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(64)})
	if err != nil || len(random.Plaintext) != 64 || random.CiphertextForRecipient != nil {
		t.Fatalf("GenerateRandom: %+v, %v", random, err)
	}

	outside := up.clientAs(role[0], role[1])
	adminInside := up.clientInside(t, [2]string{up.env["AWS_ACCESS_KEY_ID"], up.env["AWS_SECRET_ACCESS_KEY"]})
	for who, c := range map[string]*kms.Client{"the role outside": outside, "the administrator": admin, "the administrator inside": adminInside} {
		_, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		wantAWSError(t, who+": Decrypt", err, "AccessDeniedException")
		_, err = c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256})
		wantAWSError(t, who+": GenerateDataKey", err, "AccessDeniedException")
	}
	_, err = outside.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	_, _, decision := describeAWSError(err)
	explained := runCretula(t, up, "kms", "explain", decision)
	if !strings.Contains(explained, "DENIED  kms:Decrypt") || !strings.Contains(explained, "NoKeyWithoutThisImage") {
		t.Errorf("explained: %s", explained)
	}

	// The same keys and the same image after a restart; nothing in debug mode.
	if code := up.signal(t, syscall.SIGINT); code != 0 {
		t.Fatalf("up ended with %d\n%s", code, up.output)
	}
	up.holdsNowhere(t, secret, dataKey.Plaintext, random.Plaintext, []byte(role[1]))
	up = startUp(t, up.dir)
	opened, err = up.clientInside(t, role).Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err != nil || !bytes.Equal(opened.Plaintext, secret) {
		t.Errorf("after a restart: %v", err)
	}
	up.signal(t, syscall.SIGTERM)
	up = startUp(t, up.dir, "--debug-mode")
	_, err = up.clientInside(t, role).Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	wantAWSError(t, "in debug mode", err, "AccessDeniedException")
}

// Everything is there again after a restart.
func TestUpRestart(t *testing.T) {
	up := startUp(t, newDataDir(t))
	before, root := up.env, readTestFile(t, filepath.Join(up.dir, "emulator-root.crt"))
	created, err := up.client().CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	key := created.KeyMetadata.Arn
	policy := strings.Replace(crashPolicy, "%q", `"mine"`, 1)
	if _, err := up.client().PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: key, Policy: &policy}); err != nil {
		t.Fatal(err)
	}
	sealed, err := up.client().Encrypt(t.Context(), &kms.EncryptInput{KeyId: key, Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGKILL} {
		code := up.signal(t, s)
		if want := map[syscall.Signal]int{syscall.SIGKILL: -1}[s]; code != want {
			t.Errorf("%v: exit status %d, want %d", s, code, want)
		}
		_, err := os.Stat(filepath.Join(up.dir, "env"))
		if s != syscall.SIGKILL && !os.IsNotExist(err) {
			t.Errorf("%v: the environment is left: %v", s, err)
		}
		up = startUp(t, up.dir)
		for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "CRETULA_NSM_SOCKET", "CRETULA_DATA_DIR"} {
			if up.env[name] != before[name] {
				t.Errorf("%v: %s is another one", s, name)
			}
		}
		if !bytes.Equal(readTestFile(t, filepath.Join(up.dir, "emulator-root.crt")), root) {
			t.Errorf("%v: the root is another one", s)
		}
		opened, err := up.client().Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if err != nil || string(opened.Plaintext) != "secret" || *opened.KeyId != *key {
			t.Errorf("%v: Decrypt: %+v, %v", s, opened, err)
		}
		got, err := up.client().GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: key})
		if err != nil || *got.Policy != policy {
			t.Errorf("%v: GetKeyPolicy: %+v, %v", s, got, err)
		}
	}
}

// stdin is left alone: neither read nor, when it ends, a reason to end.
func TestUpDoesNotReadStdin(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out.WriteString("for another program\n")
	out.Close()
	dir := newDataDir(t)
	cmd := upCommand(dir)
	cmd.Stdin = in
	up := startUpCommand(t, dir, cmd)
	if _, err := up.client().ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
		t.Error(err)
	}
	if code := up.signal(t, syscall.SIGINT); code != 0 {
		t.Errorf("exit status %d", code)
	}
	left := make([]byte, 100)
	if n, err := in.Read(left); err != nil || string(left[:n]) != "for another program\n" {
		t.Errorf("left in stdin: %q, %v", left[:n], err)
	}
}

// listKeys returns the ARNs of all keys, in pages of two.
func listKeys(t testing.TB, c *kms.Client) (arns []string) {
	t.Helper()
	pages := kms.NewListKeysPaginator(c, &kms.ListKeysInput{Limit: aws.Int32(2)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Keys {
			arns = append(arns, *k.KeyArn)
		}
	}
	return arns
}

// wantAWSError checks the code of a refusal.
func wantAWSError(t testing.TB, what string, err error, code string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want %s", what, code)
		return
	}
	if got, message, _ := describeAWSError(err); got != code {
		t.Errorf("%s: got %s (%s), want %s", what, got, message, code)
	}
}

// runCretula runs a command in the environment of the server, which must end
// well, and returns its stdout.
func runCretula(t testing.TB, up *upProcess, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command("cretula", args...)
	cmd.Env, cmd.Stderr = up.environ(), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cretula %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// addPrincipal adds a principal and returns its access key and secret.
func (up *upProcess) addPrincipal(t testing.TB, name string, flags ...string) [2]string {
	t.Helper()
	var added addedPrincipal
	out := runCretula(t, up, append([]string{"kms", "principal", "add", name, "--json"}, flags...)...)
	if err := json.Unmarshal([]byte(out), &added); err != nil {
		t.Fatal(err)
	}
	return [2]string{added.AccessKeyID, added.SecretAccessKey}
}

// measurements are those of the image that the module attests.
func (up *upProcess) measurements(t testing.TB) pcr.Measurements {
	t.Helper()
	var file struct{ Measurements pcr.Measurements }
	if err := json.Unmarshal(readTestFile(t, filepath.Join(up.dir, "measurements.json")), &file); err != nil {
		t.Fatal(err)
	}
	return file.Measurements
}

func readTestFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
