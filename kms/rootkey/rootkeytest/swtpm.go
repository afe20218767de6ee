// SPDX-License-Identifier: Apache-2.0

package rootkeytest

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/need"
)

// A TPM is a new TPM 2.0 in software, swtpm.
type TPM struct {
	// Socket is the path of its Unix socket.
	Socket string

	dir  string
	stop func()
}

// StartTPM makes a TPM and starts it. It ends with the test.
func StartTPM(t testing.TB) *TPM {
	t.Helper()
	need.Program(t, "swtpm")
	// Not t.TempDir: the path of a Unix socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		t.Fatal(err)
	}
	tpm := &TPM{Socket: filepath.Join(dir, "tpm"), dir: dir}
	t.Cleanup(func() {
		tpm.Stop()
		os.RemoveAll(dir)
	})
	tpm.Start(t)
	return tpm
}

// Start starts the TPM after [TPM.Stop], as when the machine starts: what is
// permanent stays, registers begin anew.
func (p *TPM) Start(t testing.TB) {
	t.Helper()
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+p.dir,
		"--server", "type=unixio,path="+p.Socket, "--ctrl", "type=unixio,path="+p.Socket+".ctrl",
		"--flags", "not-need-init,startup-clear")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p.stop = func() {
		cmd.Process.Kill()
		<-ended
		ended <- nil
	}
	for {
		c, err := net.Dial("unix", p.Socket)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("swtpm ended: %v\n%s", err, output.Bytes())
		case <-t.Context().Done():
			t.Fatal(errors.Join(t.Context().Err(), err))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends the TPM without a word, as when the power goes.
func (p *TPM) Stop() {
	p.stop()
	os.Remove(p.Socket)
}
