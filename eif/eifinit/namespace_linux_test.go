// SPDX-License-Identifier: Apache-2.0

package eifinit

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/cretula/cretula/eif"
)

// runHere runs the init on this machine, in a user namespace, where it can do no
// harm, and returns what it says and how it ended.
func runHere(t *testing.T, namespaces uintptr) (said string, status syscall.WaitStatus) {
	t.Helper()
	arch, ok := map[string]eif.Arch{"amd64": eif.ArchX86_64, "arm64": eif.ArchAArch64}[runtime.GOARCH]
	if !ok {
		t.Skip("there is no init for this machine")
	}
	name := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(name, Binary(arch), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | namespaces,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	output, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Skipf("the kernel allows no namespaces: %v", err)
	}
	return string(output), cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// TestElsewhere: as any process but the first, init does nothing.
func TestElsewhere(t *testing.T) {
	said, status := runHere(t, 0)
	if want := "cretula init: this is the first program of an enclave image; it does nothing elsewhere\n"; said != want || status.ExitStatus() != 1 {
		t.Errorf("%q, status %d", said, status.ExitStatus())
	}
}

// TestFirstProcess: as the first process of a process namespace, it finds that it
// may not mount what has no namespaces, says so, and restarts. The kernel tells
// that to the parent as SIGHUP (reboot(2)).
func TestFirstProcess(t *testing.T) {
	said, status := runHere(t, syscall.CLONE_NEWPID)
	if want := "cretula init: mount devtmpfs on /dev: operation not permitted (errno 1)\n"; said != want {
		t.Errorf("%q, want %q", said, want)
	}
	if !status.Signaled() || status.Signal() != syscall.SIGHUP {
		t.Errorf("status %#x", status)
	}
}
