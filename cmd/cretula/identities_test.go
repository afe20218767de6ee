// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

var (
	docFile    = regexp.MustCompile("(?m)^`([a-z.]+)`:\n\n```json\n((?s:.*?))```")
	docCommand = regexp.MustCompile(`(?m)^\$ (.*)$`)
)

// docs/identities.md does what it says: its commands run in their order, in one
// shell, and those that it calls refused are.
func TestDocsIdentities(t *testing.T) {
	need.AWSCLI(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "identities.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := docFile.FindAllSubmatch(text, -1)
	for _, m := range files {
		if err := os.WriteFile(filepath.Join(dir, string(m[1])), m[2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script, count := "set -eu\n", 0
	for _, m := range docCommand.FindAllSubmatch(text, -1) {
		command, refused := strings.CutSuffix(string(m[1]), "  # refused")
		count++
		script += "echo '+ " + strings.ReplaceAll(command, "'", "'\\''") + "' >&2\n"
		if refused {
			script += "if " + command + "; then echo 'was not refused' >&2; exit 1; fi\n"
		} else {
			script += command + "\n"
		}
	}
	if len(files) < 4 || count < 30 {
		t.Fatalf("%d files and %d commands", len(files), count)
	}
	up := startUp(t, newDataDir(t))
	shell := exec.Command("sh", "-c", script)
	shell.Dir = dir
	shell.Env = append(os.Environ(), "CRETULA_DATA_DIR="+up.dir, "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_PAGER=")
	for name, value := range up.env {
		shell.Env = append(shell.Env, name+"="+value)
	}
	if out, err := shell.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
