// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/cretula/cretula/internal/need"
)

// nodeScripts returns a folder with the scripts of testdata/node and the packages
// that they use. The packages are kept between runs, in the user's cache.
func nodeScripts(t *testing.T) string {
	t.Helper()
	node, npm := need.Program(t, "node"), need.Program(t, "npm")
	t.Logf("node %s", node)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	packages := filepath.Join(cache, "cretula-test", "node-client-kms-3.1162.0")
	must(t, os.MkdirAll(packages, 0o755))
	for _, name := range []string{"package.json", "package-lock.json"} {
		must(t, os.WriteFile(filepath.Join(packages, name), readTestFile(t, filepath.Join("testdata", "node", name)), 0o644))
	}
	if _, err := os.Stat(filepath.Join(packages, "node_modules", "@aws-sdk", "client-kms")); err != nil {
		install := exec.Command(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
		install.Dir = packages
		out, err := install.CombinedOutput()
		if err != nil && os.Getenv("CI") == "true" {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
		if err != nil {
			t.Skipf("SKIPPED, npm ci failed: %v\n%s", err, out)
		}
	}
	scripts := t.TempDir()
	must(t, os.CopyFS(scripts, os.DirFS(filepath.Join("testdata", "node"))))
	must(t, os.Symlink(filepath.Join(packages, "node_modules"), filepath.Join(scripts, "node_modules")))
	return scripts
}

// Every operation of an unmodified client of another language, which shares no code
// with ours; the envelopes are opened by OpenSSL.
func TestNodeClient(t *testing.T) {
	need.Program(t, "openssl")
	scripts := nodeScripts(t)
	dir := t.TempDir()
	up, tampered := startTampered(t)
	writeRecipient(t, up, dir)
	user := func(name string) map[string]string {
		c := up.addPrincipal(t, name)
		return map[string]string{"accessKeyId": c[0], "secretAccessKey": c[1]}
	}
	measured := up.measurements(t)
	image, _ := measured.Get(0)
	setup, err := json.Marshal(map[string]any{
		"account": strings.Split(tampered, ":")[4], "tampered": tampered, "imageSha384": image.String(),
		"outsider": user("outsider"), "helper": user("helper"),
	})
	if err != nil {
		t.Fatal(err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "setup.json"), setup, 0o600))
	run := exec.CommandContext(t.Context(), "node", filepath.Join(scripts, "kms.mjs"), dir)
	run.Env = up.environ()
	var stderr bytes.Buffer
	run.Stderr = &stderr
	out, err := run.Output()
	if err != nil || !strings.Contains(string(out), `"ok":true`) {
		t.Fatalf("node: %v\n%s\n%s\nserver: %s", err, out, &stderr, up.output)
	}
	t.Logf("%s", out)
}

// startTampered starts a server whose store was edited by hand while it was down,
// and returns the ARN of the key that this concerns.
func startTampered(t *testing.T) (up *upProcess, key string) {
	t.Helper()
	up = startUp(t, newDataDir(t))
	v := &victim{}
	v.make(t, up.client())
	up.signal(t, syscall.SIGTERM)
	editStore(t, up.dir, func(table func(string) *bbolt.Bucket) {
		id, value := rowOf(t, table("key-policy"), v.id)
		manners["content changed"](t, table("key-policy"), id, value, nil, nil)
	})
	return startUp(t, up.dir), v.key
}

// writeRecipient writes a private key and a document that names its public half.
func writeRecipient(t *testing.T, up *upProcess, dir string) {
	t.Helper()
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
	must(t, os.WriteFile(filepath.Join(dir, "document.cbor"), document, 0o600))
}

func writePEM(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
