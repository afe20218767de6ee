// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
)

// readyWithin bounds starting and ending of a server on a loaded machine.
const readyWithin = 60 * time.Second

// cretula is the path of the program under test.
var cretula string

// command runs the program under test. The race detector's second of waiting at
// every exit, for races of what still runs then, is cut short.
func command(arguments ...string) *exec.Cmd {
	cmd := exec.Command(cretula, arguments...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=50")
	return cmd
}

// TestMain builds the program from the checkout, with the versions that the
// main module requires, and with the race detector if the tests have it.
func TestMain(m *testing.M) {
	status, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func buildAndRun(m *testing.M) (status int, err error) {
	dir, err := os.MkdirTemp("", "integration")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	cretula = filepath.Join(dir, "cretula")
	build := exec.Command("go", "build", fmt.Sprintf("-race=%t", raced()), "-o", cretula, "./cmd/cretula")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%v: %w\n%s", build, err, out)
	}
	// The clients read the environment and the files of whoever runs the tests;
	// neither is what is tested.
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "VAULT_") || strings.HasPrefix(name, "AWSKMS_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "no-config"))
	os.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "no-credentials"))
	os.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return m.Run(), nil
}

// raced tells whether the race detector is in this program.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	for _, setting := range info.Settings {
		if setting.Key == "-race" {
			return setting.Value == "true"
		}
	}
	return false
}

// A server is a running `cretula up` on a data folder of its own.
type server struct {
	cmd    *exec.Cmd
	dir    string
	env    map[string]string // of its env file
	output *syncBuffer
	ended  chan struct{}
}

// start starts a server and waits until it is ready. At the end of the test it
// must end well: a data race makes its exit status 66.
func start(t *testing.T) *server {
	t.Helper()
	// Not t.TempDir: the name of a Unix socket must be short.
	parent, err := os.MkdirTemp("", "up")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	s := &server{dir: filepath.Join(parent, "d"), output: &syncBuffer{}, ended: make(chan struct{})}
	s.cmd = command("up", "--data-dir", s.dir, "--listen", "127.0.0.1:0")
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		s.cmd.Wait()
	}()
	t.Cleanup(func() { s.stop(t) })
	s.waitReady(t)
	return s
}

func (s *server) waitReady(t *testing.T) {
	t.Helper()
	deadline := time.After(readyWithin)
	for {
		env, err := readEnvFile(filepath.Join(s.dir, "env"))
		if err == nil {
			s.env = env
			return
		}
		if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		select {
		case <-s.ended:
			t.Fatalf("the server ended before it was ready: %v\n%s", s.cmd.ProcessState, s.output)
		case <-deadline:
			t.Fatalf("the server was not ready in %v\n%s", readyWithin, s.output)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *server) stop(t *testing.T) {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(readyWithin):
		s.cmd.Process.Kill()
		<-s.ended
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the server ended with %v\n%s", s.cmd.ProcessState, s.output)
	}
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

// A syncBuffer is a buffer that a process writes to while a test reads it.
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

func (s *server) endpoint() string { return s.env["AWS_ENDPOINT_URL_KMS"] }

func (s *server) region() string { return s.env["AWS_REGION"] }

// An accessKey is what a principal signs its requests with.
type accessKey struct{ id, secret string }

func (s *server) admin() accessKey {
	return accessKey{s.env["AWS_ACCESS_KEY_ID"], s.env["AWS_SECRET_ACCESS_KEY"]}
}

// addUser adds a user whose one identity policy it is given, "" for none.
func (s *server) addUser(t *testing.T, name, policy string) accessKey {
	t.Helper()
	cmd := command("kms", "principal", "add", name, "--json", "--data-dir", s.dir)
	if policy != "" {
		file := filepath.Join(t.TempDir(), "policy.json")
		if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd.Args = append(cmd.Args, "--policy", file)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	var added struct {
		AccessKeyID     string `json:"access_key_id"`
		SecretAccessKey string `json:"secret_access_key"`
	}
	if err := json.Unmarshal(out, &added); err != nil || added.AccessKeyID == "" || added.SecretAccessKey == "" {
		t.Fatalf("principal add did not print an access key: %v", err)
	}
	return accessKey{added.AccessKeyID, added.SecretAccessKey}
}

// exportEnv puts the server's env file and a principal's access key into the
// environment of the test, as a shell's dot command does.
func (s *server) exportEnv(t *testing.T, as accessKey) {
	t.Helper()
	for name, value := range s.env {
		t.Setenv(name, value)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", as.id)
	t.Setenv("AWS_SECRET_ACCESS_KEY", as.secret)
}

// client is version 2 of AWS's SDK for Go as it comes.
func (s *server) client(as accessKey) *kms.Client {
	return kms.New(kms.Options{
		Region:       s.region(),
		BaseEndpoint: aws.String(s.endpoint()),
		Credentials:  credentials.NewStaticCredentialsProvider(as.id, as.secret, ""),
	})
}

// createKey returns the id and the ARN of a new symmetric key.
func (s *server) createKey(t *testing.T) (id, arn string) {
	t.Helper()
	out, err := s.client(s.admin()).CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.KeyId, *out.KeyMetadata.Arn
}

// absentKey is a well-formed id that no key has.
const absentKey = "00000000-0000-4000-8000-000000000000"

// wantCode checks the error code that AWS's SDK for Go, version 2, reports.
func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var failure smithy.APIError
	switch {
	case err == nil:
		t.Errorf("%s succeeded, want %s", what, code)
	case !errors.As(err, &failure):
		t.Errorf("%s: %v, want %s", what, err, code)
	case failure.ErrorCode() != code:
		t.Errorf("%s: %s, want %s", what, failure.ErrorCode(), code)
	}
}
