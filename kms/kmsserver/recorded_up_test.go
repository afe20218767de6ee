// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/cretula/cretula/kms"
)

// exported is one line of the environment file of "cretula up".
var exported = regexp.MustCompile(`(?m)^export ([A-Z_]+)='([^']*)'$`)

// newUp starts "cretula up" as a process of its own and returns it as a service of
// which only the address and the administrator are known. Where up does not run, a
// service of this process takes its place.
func newUp(t *testing.T) *service {
	t.Helper()
	if runtime.GOOS != "linux" {
		return newService(t)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "cretula")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/cretula").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var log bytes.Buffer
	run := filepath.Join(dir, "run")
	up := exec.Command(program, "up", "--data-dir", run, "--listen", "127.0.0.1:0")
	up.Stdout, up.Stderr = &log, &log
	wantNil(t, up.Start())
	ended := make(chan error, 1)
	go func() { ended <- up.Wait() }()
	t.Cleanup(func() {
		up.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			t.Errorf("cretula up: %v\n%s", err, log.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(run, "env"))
		if err == nil {
			values := map[string]string{}
			for _, line := range exported.FindAllSubmatch(text, -1) {
				values[string(line[1])] = string(line[2])
			}
			return &service{t: t, url: values["AWS_ENDPOINT_URL_KMS"],
				admin: kms.Credentials{AccessKeyID: values["AWS_ACCESS_KEY_ID"], SecretAccessKey: values["AWS_SECRET_ACCESS_KEY"]}}
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("cretula up: %v\n%s", err, log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("cretula up is not ready")
		}
	}
}
