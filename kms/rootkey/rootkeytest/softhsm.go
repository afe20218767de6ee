// SPDX-License-Identifier: Apache-2.0

package rootkeytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

// An HSM is one in software, SoftHSM, with no tokens at first.
type HSM struct {
	// Module is the path of its PKCS#11 library.
	Module string
}

// StartHSM makes an HSM that belongs to the test. A process can have one.
func StartHSM(t testing.TB) *HSM {
	t.Helper()
	need.Program(t, "softhsm2-util")
	dir := t.TempDir()
	config := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", dir)
	path := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", path)
	for _, pattern := range []string{
		"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so",
	} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return &HSM{Module: found[0]}
		}
	}
	t.Fatal("softhsm2-util is there, its library libsofthsm2.so is not where it was looked for")
	return nil
}

// CreateToken makes a token. The PIN of its security officer is "officer".
func (h *HSM) CreateToken(t testing.TB, label, pin string) {
	t.Helper()
	run(t, "softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", "officer")
}

// DeleteToken deletes a token.
func (h *HSM) DeleteToken(t testing.TB, label string) {
	t.Helper()
	run(t, "softhsm2-util", "--delete-token", "--token", label)
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
