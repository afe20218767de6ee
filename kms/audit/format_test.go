// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/internal/need"
)

// formatExample returns the keys and the three files of the example in the format's
// page.
func formatExample(t *testing.T) (chainKey, public []byte, files [][]byte) {
	t.Helper()
	page, err := os.ReadFile("../../docs/formats/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile("(?:Chain|Public) key: `([0-9a-f]{64})`").FindAllSubmatch(page, -1)
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1)
	if len(keys) != 2 || len(blocks) != 3 {
		t.Fatalf("%d keys and %d files", len(keys), len(blocks))
	}
	chainKey, _ = hex.DecodeString(string(keys[0][1]))
	public, _ = hex.DecodeString(string(keys[1][1]))
	for _, block := range blocks {
		files = append(files, block[1])
	}
	return chainKey, public, files
}

// The example is verified as the page says, without this package.
func TestFormatExample(t *testing.T) {
	chainKey, public, files := formatExample(t)
	last := make([]byte, 32)
	for line := range bytes.Lines(files[1]) {
		body, rest, ok := bytes.Cut(line, []byte(`,"mac"`))
		h := hmac.New(sha256.New, chainKey)
		h.Write(last)
		h.Write(body)
		last = h.Sum(nil)
		if want := `:"` + hex.EncodeToString(last) + "\"}\n"; !ok || string(rest) != want {
			t.Errorf("%s: want %s", line, want)
		}
	}
	for _, line := range [][]byte{files[0], files[2]} {
		body, rest, _ := bytes.Cut(line, []byte(`,"signature"`))
		signature, err := hex.DecodeString(string(rest[2 : 2+128]))
		if err != nil || !ed25519.Verify(public, body, signature) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if !bytes.Contains(files[2], []byte(hex.EncodeToString(last))) {
		t.Error("the head has another MAC")
	}
	// And by this package.
	dir := newPath(t)
	if err := durable.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{chainFile, segment{first: 1}.name(), headsFile} {
		if err := os.WriteFile(filepath.Join(dir, name), files[i], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if r := mustVerify(t, dir, sampleOptions()); r.Err() != nil || r.Last != 3 || r.Newest.Count != 3 {
		t.Errorf("%+v", r)
	}
	if !bytes.Equal(chainKey, testKeys.secret) || !bytes.Equal(public, testKeys.public()) {
		t.Error("the keys are not those of the labels")
	}
}

// OpenSSL verifies head and record of the example.
func TestFormatOpenSSL(t *testing.T) {
	openssl := need.Program(t, "openssl")
	chainKey, public, files := formatExample(t)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	body, rest, _ := bytes.Cut(files[2], []byte(`,"signature"`))
	signature, _ := hex.DecodeString(string(rest[2 : 2+128]))
	spki, _ := hex.DecodeString("302a300506032b6570032100") // RFC 8410 §4
	key := write("key", append(spki, public...))
	verify := func(body []byte) (string, error) {
		out, err := exec.Command(openssl, "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", key, "-rawin", "-in", write("body", body),
			"-sigfile", write("signature", signature)).CombinedOutput()
		return string(out), err
	}
	if out, err := verify(body); err != nil || !strings.Contains(out, "Verified Successfully") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := verify(append(body, ' ')); err == nil {
		t.Errorf("verifies another head: %s", out)
	}
	line, _, _ := bytes.Cut(files[1], []byte(`,"mac":"`))
	in := write("line", append(make([]byte, 32), line...))
	out, err := exec.Command(openssl, "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(chainKey), in).CombinedOutput()
	if err != nil || !bytes.Contains(files[1], bytes.TrimSpace(out[bytes.LastIndexByte(out, ' ')+1:])) {
		t.Errorf("%s, %v", out, err)
	}
}

// docs/rules.md has the rule and reason of every problem.
func TestRules(t *testing.T) {
	page, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []Problem{Unreadable, Edited, Inserted, BadHead, Missing, Moved, CutTail, OtherRecord, Replaced} {
		if row := "| `audit." + p.rule() + "` | " + p.Reason().String() + " |"; !bytes.Contains(page, []byte(row)) {
			t.Errorf("docs/rules.md lacks %s", row)
		}
	}
}
