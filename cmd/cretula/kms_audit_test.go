// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The log of another server of the same store is whole, and signed with the same
// key: in place of this one's it is found all the same.
func TestAnotherServersLog(t *testing.T) {
	dir := t.TempDir()
	config := func(server string) string {
		t.Helper()
		text := fmt.Sprintf("data_dir = \"data\"\nemulated = true\naccount = \"000000000000\"\n"+
			"[root_key]\nkind = \"file\"\nfile = \"root/root.key\"\n[audit]\nserver = %q\ndir = \"audit-%[1]s\"\n", server)
		path := filepath.Join(dir, server+".toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one, two := config("one"), config("two")
	command := func(want int, text, config string, args ...string) {
		t.Helper()
		code, stdout, stderr := cretula(nil, append(append([]string{"kms"}, args...), "--config", config)...)
		if code != want || !strings.Contains(stdout+stderr, text) {
			t.Errorf("%v: %d %s%s, want %d %q", args, code, stdout, stderr, want, text)
		}
	}
	command(0, "", one, "init", "--admin", filepath.Join(dir, "admin.env"))
	command(0, "AKIA", two, "principal", "add", "alice")
	for _, c := range []string{one, two} {
		command(0, "verified", c, "audit", "verify")
		command(0, "0 findings", c, "verify-store")
	}
	// What is kept elsewhere: the key, and heads of the first server.
	key, heads := filepath.Join(dir, "audit.pem"), filepath.Join(dir, "heads")
	for file, name := range map[string]string{key: "key", heads: "head"} {
		code, stdout, stderr := cretula(nil, "kms", "audit", name, "--config", one)
		if code != 0 {
			t.Fatalf("%s: %d %s", name, code, stderr)
		}
		if err := os.WriteFile(file, []byte(stdout), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := func(server string) string { return filepath.Join(dir, "audit-"+server) }
	if err := os.Rename(log("one"), log("kept")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(log("two"), log("one")); err != nil {
		t.Fatal(err)
	}
	command(7, "of this server, which had", one, "audit", "verify")
	command(5, "of this server, which had", one, "verify-store")
	kept := []string{"audit", "verify", "--public-key", key}
	command(0, "server two", two, append(kept, "--audit-dir", log("one"))...)
	command(7, "none of the heads that were given is of chain", two, append(kept, "--audit-dir", log("one"), "--head", heads)...)
	command(0, "server one", two, append(kept, "--audit-dir", log("kept"), "--head", heads)...)
	// Of a folder that is named it is the folder's own name that counts.
	command(0, "server two", one, "audit", "verify", "--audit-dir", log("one"))
	// A server with a new name goes on with the log that it had.
	if err := os.Rename(log("one"), log("two")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(log("kept"), log("three")); err != nil {
		t.Fatal(err)
	}
	command(0, "server one", config("three"), "audit", "verify")
}
