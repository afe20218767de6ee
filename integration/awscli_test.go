// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

// An awsCLI runs AWS's command line against a server.
type awsCLI struct {
	t       *testing.T
	program string
	server  *server
}

// run returns what `aws kms ARGUMENTS` prints, its messages and exit status.
func (c awsCLI) run(arguments ...string) (stdout, stderr string, status int) {
	c.t.Helper()
	cmd := exec.Command(c.program, append([]string{"--endpoint-url", c.server.endpoint(), "--region", c.server.region(), "--output", "json", "kms"}, arguments...)...)
	cmd.Env = append(os.Environ(), "AWS_PAGER=")
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	err := cmd.Run()
	if cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	return out.String(), messages.String(), cmd.ProcessState.ExitCode()
}

// must decodes what a command that has to succeed prints.
func (c awsCLI) must(out any, arguments ...string) {
	c.t.Helper()
	stdout, stderr, status := c.run(arguments...)
	if status != 0 {
		c.t.Fatalf("aws kms %s: status %d: %s", arguments[0], status, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), out); err != nil {
		c.t.Fatalf("aws kms %s: %v in %q", arguments[0], err, stdout)
	}
}

// refused checks the message of a command that has to fail: version 2 of the
// command line ends with 254 after an error answer, version 1 with 254 or 255.
func (c awsCLI) refused(operation, code, text string, arguments ...string) {
	c.t.Helper()
	stdout, stderr, status := c.run(arguments...)
	want := "An error occurred (" + code + ") when calling the " + operation + " operation: " + text
	if status != 254 && status != 255 || stdout != "" || !strings.Contains(stderr, want) {
		c.t.Errorf("aws kms %s: status %d, printed %q and %q; want %q", arguments[0], status, stdout, stderr, want)
	}
}

func TestAWSCLI(t *testing.T) {
	program := need.Program(t, "aws")
	s := start(t)
	s.exportEnv(t, s.admin())
	c, dir := awsCLI{t, program, s}, t.TempDir()

	var created, described struct {
		KeyMetadata struct{ KeyId, Arn, Description, KeyState string }
	}
	c.must(&created, "create-key", "--description", "from a shell")
	id, arn := created.KeyMetadata.KeyId, created.KeyMetadata.Arn
	c.must(&described, "describe-key", "--key-id", id)
	if described != created || described.KeyMetadata.Description != "from a shell" || described.KeyMetadata.KeyState != "Enabled" {
		t.Errorf("created %+v, described %+v", created, described)
	}
	var listed struct {
		Keys []struct{ KeyId, KeyArn string }
	}
	c.must(&listed, "list-keys")
	if len(listed.Keys) != 1 || listed.Keys[0].KeyId != id || listed.Keys[0].KeyArn != arn {
		t.Errorf("listed %+v", listed)
	}

	// fileb:// is what both versions of the command line read bytes from.
	secret := []byte("a secret\x00\xff\n")
	plain, blob := filepath.Join(dir, "plain"), filepath.Join(dir, "sealed")
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(plain, secret)
	var sealed struct{ CiphertextBlob, KeyId string }
	c.must(&sealed, "encrypt", "--key-id", arn, "--plaintext", "fileb://"+plain, "--encryption-context", "table=orders,row=7")
	ciphertext, err := base64.StdEncoding.DecodeString(sealed.CiphertextBlob)
	if err != nil || sealed.KeyId != arn {
		t.Fatalf("encrypted %+v, %v", sealed, err)
	}
	write(blob, ciphertext)
	var opened struct{ Plaintext, KeyId string }
	c.must(&opened, "decrypt", "--ciphertext-blob", "fileb://"+blob, "--encryption-context", "row=7,table=orders")
	if opened.Plaintext != base64.StdEncoding.EncodeToString(secret) || opened.KeyId != arn {
		t.Errorf("decrypted %+v", opened)
	}

	c.refused("Decrypt", "InvalidCiphertextException", "", "decrypt", "--ciphertext-blob", "fileb://"+blob, "--encryption-context", "row=8,table=orders")
	write(blob, altered(ciphertext, len(ciphertext)-1))
	c.refused("Decrypt", "InvalidCiphertextException", "", "decrypt", "--ciphertext-blob", "fileb://"+blob, "--encryption-context", "row=7,table=orders")
	c.refused("DescribeKey", "NotFoundException", "Key '"+strings.Replace(arn, id, absentKey, 1)+"' does not exist", "describe-key", "--key-id", absentKey)
	nobody := s.addUser(t, "nobody", "")
	s.exportEnv(t, nobody)
	c.refused("DescribeKey", "AccessDeniedException", "User: arn:aws:iam::000000000000:user/nobody is not authorized to perform: kms:DescribeKey on resource: "+arn,
		"describe-key", "--key-id", id)
}
