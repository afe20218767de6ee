// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
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
	output *syncBuffer // stdout and stderr
	ended  chan struct{}
}

// newDataDir returns the name of a folder that is not there yet and goes with the
// test. It is not in t.TempDir: the name of a Unix socket must be short.
func newDataDir(t testing.TB) string {
	t.Helper()
	parent, err := os.MkdirTemp("", "up")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	return filepath.Join(parent, "d")
}

// startUp starts `cretula up` on a folder and a free port, and waits until it
// is ready. It is killed at the end of the test.
func startUp(t testing.TB, dir string, flags ...string) *upProcess {
	t.Helper()
	return startUpCommand(t, dir, upCommand(dir, flags...))
}

func upCommand(dir string, flags ...string) *exec.Cmd {
	return exec.Command("cretula", append([]string{"up", "--data-dir", dir, "--listen", "127.0.0.1:0"}, flags...)...)
}

func startUpCommand(t testing.TB, dir string, cmd *exec.Cmd) *upProcess {
	t.Helper()
	// What a killed server left would look like a new one's.
	if err := os.Remove(filepath.Join(dir, "env")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	up := &upProcess{cmd: cmd, dir: dir, output: &syncBuffer{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = up.output, up.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(up.ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-up.ended
	})
	up.waitReady(t)
	return up
}

func (up *upProcess) waitReady(t testing.TB) {
	t.Helper()
	deadline := time.After(readyWithin)
	for {
		env, err := readEnvFile(filepath.Join(up.dir, "env"))
		if err == nil {
			up.env = env
			return
		}
		if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		select {
		case <-up.ended:
			t.Fatalf("up ended before it was ready: %v\n%s", up.cmd.ProcessState, up.output)
		case <-deadline:
			t.Fatalf("up was not ready in %v\n%s", readyWithin, up.output)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill ends the server as a power cut would: nothing runs any more.
func (up *upProcess) kill(t testing.TB) {
	t.Helper()
	up.signal(t, syscall.SIGKILL)
}

// signal sends a signal, waits until the process has ended and returns its exit
// status, -1 if a signal ended it.
func (up *upProcess) signal(t testing.TB, s syscall.Signal) int {
	t.Helper()
	if err := up.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	select {
	case <-up.ended:
	case <-time.After(readyWithin):
		t.Fatalf("the process does not end\n%s", up.output)
	}
	return up.cmd.ProcessState.ExitCode()
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

// waitLog waits until the server's output has the text in it: it is written after
// the answer that it is about, and arrives later.
func (up *upProcess) waitLog(t testing.TB, text string) {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); !strings.Contains(up.output.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s is not in the log", text)
			return
		}
	}
}

// holdsNowhere fails if a secret is in the server's log, in the audit log or in
// the store, as it is or in the encodings that a log could show it in. The server
// must have ended, so that its log is complete.
func (up *upProcess) holdsNowhere(t testing.TB, secrets ...[]byte) {
	t.Helper()
	<-up.ended
	places := map[string][]byte{"log": []byte(up.output.String())}
	for _, name := range []string{"audit/00000000000000000001.jsonl", "kms.db"} {
		data, err := os.ReadFile(filepath.Join(up.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		places[name] = data
	}
	for place, data := range places {
		for i, secret := range secrets {
			for form, text := range map[string][]byte{
				"as it is": secret, "in base64": []byte(base64.RawStdEncoding.EncodeToString(secret)), "in hex": []byte(hex.EncodeToString(secret)),
			} {
				if bytes.Contains(data, text) {
					t.Errorf("%s: secret %d is there %s", place, i, form)
				}
			}
		}
	}
}
