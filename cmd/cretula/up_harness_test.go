// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// readyWithin is the promise of `cretula up`, with room for a loaded machine.
const readyWithin = 30 * time.Second

// An upProcess is a running `cretula up`.
type upProcess struct {
	cmd    *exec.Cmd
	dir    string
	env    map[string]string
	stderr *syncBuffer
}

// startUp starts `cretula up` on a folder and a free port, and waits until it
// is ready. It is stopped at the end of the test.
func startUp(t *testing.T, dir string, flags ...string) *upProcess {
	t.Helper()
	args := append([]string{"up", "--data-dir", dir, "--listen", "127.0.0.1:0"}, flags...)
	return startUpCommand(t, dir, exec.Command("cretula", args...))
}

func startUpCommand(t *testing.T, dir string, cmd *exec.Cmd) *upProcess {
	t.Helper()
	// What a killed server left would look like a new one's.
	if err := os.Remove(filepath.Join(dir, "env")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	up := &upProcess{cmd: cmd, dir: dir, stderr: &syncBuffer{}}
	up.cmd.Stderr = up.stderr
	up.cmd.Stdout = up.stderr
	if err := up.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- up.cmd.Wait() }()
	t.Cleanup(func() {
		up.cmd.Process.Kill()
		<-exited
		exited <- nil
	})
	deadline := time.After(readyWithin)
	for {
		if env, err := readEnvFile(filepath.Join(dir, "env")); err == nil {
			up.env = env
			return up
		}
		select {
		case err := <-exited:
			exited <- err
			t.Fatalf("up ended before it was ready: %v\n%s", err, up.stderr.String())
		case <-deadline:
			t.Fatalf("up was not ready in %v\n%s", readyWithin, up.stderr.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill ends the server as a power cut would: nothing runs any more.
func (up *upProcess) kill(t *testing.T) {
	t.Helper()
	if err := up.cmd.Process.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	up.waitGone(t)
}

// waitGone waits until the process has let go of its folder.
func (up *upProcess) waitGone(t *testing.T) {
	t.Helper()
	for range 500 {
		if up.cmd.Process.Signal(syscall.Signal(0)) != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the process does not end")
}

// environ is the environment of a user's program after `. DIR/env`.
func (up *upProcess) environ() []string {
	env := os.Environ()
	for name, value := range up.env {
		env = append(env, name+"="+value)
	}
	return env
}

// client returns an unmodified AWS client with the administrator's key.
func (up *upProcess) client(options ...func(*kms.Options)) *kms.Client {
	return up.clientAs(up.env["AWS_ACCESS_KEY_ID"], up.env["AWS_SECRET_ACCESS_KEY"], options...)
}

func (up *upProcess) clientAs(accessKeyID, secret string, options ...func(*kms.Options)) *kms.Client {
	return kms.New(kms.Options{
		Region:       up.env["AWS_REGION"],
		BaseEndpoint: aws.String(up.env["AWS_ENDPOINT_URL_KMS"]),
		Credentials:  credentials.NewStaticCredentialsProvider(accessKeyID, secret, ""),
	}, options...)
}

// readEnvFile reads lines of the form export NAME='value'.
func readEnvFile(name string) (map[string]string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for scan := bufio.NewScanner(bytes.NewReader(data)); scan.Scan(); {
		line, ok := strings.CutPrefix(scan.Text(), "export ")
		name, value, eq := strings.Cut(line, "='")
		value, quoted := strings.CutSuffix(value, "'")
		if !ok || !eq || !quoted {
			return nil, errors.New("not an env line: " + scan.Text())
		}
		env[name] = value
	}
	return env, nil
}

// A syncBuffer is a buffer that a process writes to while the test reads it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
