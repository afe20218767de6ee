// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

// nodeModules returns a folder with the packages of testdata/node installed. It
// is kept between runs, in the user's cache.
func nodeModules(t *testing.T) string {
	t.Helper()
	node, npm := need.Program(t, "node"), need.Program(t, "npm")
	t.Logf("node %s", node)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	dir := filepath.Join(cache, "cretula-test", "node-client-kms-3.1162.0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "package-lock.json", "kms.mjs"} {
		data, err := os.ReadFile(filepath.Join("testdata", "node", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "@aws-sdk", "client-kms")); err == nil {
		return dir
	}
	install := exec.Command(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
		t.Skipf("SKIPPED, npm ci failed: %v\n%s", err, out)
	}
	return dir
}

// An unmodified client of another language, which shares no code with ours; the
// envelopes are opened by OpenSSL.
func TestNodeClient(t *testing.T) {
	need.Program(t, "openssl")
	modules := nodeModules(t)
	dir := t.TempDir()
	up := startUp(t, newDataDir(t))
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(dir, "key.pem"), "PRIVATE KEY", private)
	writePEM(t, filepath.Join(dir, "public.pem"), "PUBLIC KEY", public)

	attest := exec.Command("cretula", "nsm", "attest", "--public-key", filepath.Join(dir, "public.pem"))
	attest.Env = up.environ()
	document, err := attest.Output()
	if err != nil {
		t.Fatalf("attest: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "document.cbor"), document, 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.Command("node", filepath.Join(modules, "kms.mjs"), dir)
	run.Env = up.environ()
	out, err := run.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"ok":true`) {
		t.Fatalf("node: %v\n%s\nserver: %s", err, out, up.output)
	}
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
