// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

const (
	testRole     = "arn:aws:iam::123456789012:role/Webserver"
	testInstance = "i-1234567890abcdef0"
)

var testMetadata = eif.Metadata{
	ImageName: "probe", ImageVersion: "1",
	BuildMetadata: eif.BuildMetadata{BuildTool: "test", KernelVersion: "stand-in"},
}

// buildImage writes an image around a program and returns its path.
func buildImage(t testing.TB, program string, entries []eifbuild.Entry, cmd, env []string) string {
	t.Helper()
	if program != "" {
		content, err := eifbuild.FileContent(program)
		if err != nil {
			t.Fatal(err)
		}
		entries = append([]eifbuild.Entry{{Name: "app", Mode: 0o755, Content: content}}, entries...)
	}
	name := filepath.Join(t.TempDir(), "probe.eif")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = eifbuild.Build(context.Background(), f, eifbuild.Config{
		Mode:   eifbuild.NitroCLI,
		Kernel: eifbuild.StandIn("kernel"), Init: eifbuild.StandIn("init"),
		Entries: entries, Cmd: cmd, Env: env, Metadata: testMetadata,
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func self(t testing.TB) string {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// staticProbeDir is where staticProbe put its result.
var staticProbeDir string

// staticProbe is this test binary without cgo, so that it needs no loader.
var staticProbe = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "launch-test-")
	if err != nil {
		return "", err
	}
	staticProbeDir = dir
	name := filepath.Join(dir, "probe")
	cmd := exec.Command("go", "test", "-c", "-o", name, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", errors.Join(err, errors.New(string(out)))
	}
	return name, nil
})

func static(t testing.TB) string {
	t.Helper()
	name, err := staticProbe()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func newAuthority(t testing.TB) *issuer.Authority {
	t.Helper()
	a, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// echoDialer connects to something that sends back what it gets.
func echoDialer(context.Context) (net.Conn, error) {
	near, far, err := socketPair()
	if err != nil {
		return nil, err
	}
	go func() {
		defer far.Close()
		_, _ = io.Copy(far, far)
	}()
	return near, nil
}

func socketPair() (near, far net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		conn, connErr := net.FileConn(f)
		f.Close()
		conns[i], err = conn, errors.Join(err, connErr)
	}
	return conns[0], conns[1], err
}

func startProbe(ctx context.Context, authority *issuer.Authority, image string, stdout io.Writer, change func(*Config)) (*Enclave, error) {
	if authority == nil {
		var err error
		if authority, err = issuer.New(issuer.Options{}); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(image)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := Config{
		Image: f, Authority: authority, RoleARN: testRole, InstanceID: testInstance,
		Egress: map[string]Dialer{"echo": echoDialer},
		Stdout: stdout, Stderr: os.Stderr,
	}
	if change != nil {
		change(&c)
	}
	return Start(ctx, c)
}

// runProbe starts an image, waits for its end, and returns what it reported.
func runProbe(t *testing.T, authority *issuer.Authority, image string, change func(*Config)) (*Enclave, report) {
	t.Helper()
	var out bytes.Buffer
	e, err := startProbe(t.Context(), authority, image, &out, change)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Wait(); err != nil {
		t.Fatalf("%v; output %q", err, out.String())
	}
	if _, err := os.Stat(e.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there", e.dir)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
	return e, r
}

func checkReport(t *testing.T, e *Enclave, r report) {
	t.Helper()
	if len(r.Env) != 1 || r.Env[0] != "ONLY=this" {
		t.Errorf("environment %q", r.Env)
	}
	if !slices.Equal(r.Descriptors, []int{0, 1, 2, 3, 4}) {
		t.Errorf("descriptors %v", r.Descriptors)
	}
	if r.Echo != "hello" {
		t.Errorf("echo %q", r.Echo)
	}
	if !strings.Contains(r.Refusal, `refused: no egress is named "elsewhere"`) {
		t.Errorf("refusal %q", r.Refusal)
	}
	if r.SecondInherited == "" {
		t.Error("the descriptors were taken twice")
	}
	if r.NoNewPrivs != 1 || r.CoreLimit != 0 {
		t.Errorf("no_new_privs %d, core limit %d", r.NoNewPrivs, r.CoreLimit)
	}
	i := e.Isolation()
	if i.Isolated && len(r.Interfaces) != 0 {
		t.Errorf("interfaces %q", r.Interfaces)
	}
	if i.Root {
		if r.WorkDir != "/" || !slices.Contains(r.Root, "/app") || slices.Contains(r.Root, "/home") || !slices.Contains(r.Root, "/etc/hosts") {
			t.Errorf("root %q, in %q", r.Root, r.WorkDir)
		}
	} else if !r.WorkDirEmpty {
		t.Errorf("working directory %q is not empty", r.WorkDir)
	}
}

func probeImage(t testing.TB, program string) string {
	return buildImage(t, program, nil, []string{"/app", probeArgument, "all", "two words", ""}, []string{"ONLY=this"})
}

func TestProgramOfTheImage(t *testing.T) {
	// A descriptor that would be inherited, as from a careless parent.
	leaky, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaky)
	authority := newAuthority(t)
	image := probeImage(t, static(t))
	e, r := runProbe(t, authority, image, nil)
	if i := e.Isolation(); !i.Isolated {
		t.Logf("NOT ISOLATED: %q", i.Why)
	} else if r.PID != 1 || r.UID != 1000 || !i.Root || len(i.Why) != 0 {
		t.Errorf("process %d of user %d, %+v", r.PID, r.UID, i)
	}
	checkReport(t, e, r)
	if want := []string{"/app", probeArgument, "all", "two words", ""}; !slices.Equal(r.Args, want) {
		t.Errorf("arguments %q, want %q", r.Args, want)
	}
	checkDocument(t, authority, e, r.Document, image, false)
}

// checkDocument verifies what the program got from its NSM.
func checkDocument(t *testing.T, authority *issuer.Authority, e *Enclave, document []byte, image string, debug bool) {
	t.Helper()
	want := measureFile(t, image)
	if e.Measurements() != want {
		t.Errorf("measurements %v, want %v", e.Measurements(), want)
	}
	registers := want.Set
	for i, predicted := range map[pcr.Index]func() (pcr.Digest, error){
		3: func() (pcr.Digest, error) { return pcr.Role(testRole) },
		4: func() (pcr.Digest, error) { return pcr.Instance(testInstance) },
	} {
		d, err := predicted()
		if err != nil {
			t.Fatal(err)
		}
		registers.Put(i, d)
	}
	registers.Put(8, pcr.Digest{})
	if debug {
		for _, i := range []pcr.Index{0, 1, 2} {
			registers.Put(i, pcr.Digest{})
		}
	}
	v, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{authority.Root()}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := v.Verify(document, attestation.Expectation{PCRs: registers, AllowDebug: debug, Nonce: []byte("a nonce")})
	if err != nil {
		t.Fatal(err)
	}
	if d.ModuleID != e.ModuleID() || !strings.HasPrefix(d.ModuleID, testInstance+"-enc") || !d.Emulated || d.Debug != debug {
		t.Errorf("document of %q, emulated %v, debug %v", d.ModuleID, d.Emulated, d.Debug)
	}
}

func measureFile(t *testing.T, name string) pcr.Measurements {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	im, err := eif.Parse(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := im.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDebugMode(t *testing.T) {
	authority := newAuthority(t)
	image := probeImage(t, self(t))
	e, r := runProbe(t, authority, image, func(c *Config) { c.Debug = true })
	checkReport(t, e, r)
	checkDocument(t, authority, e, r.Document, image, true)
}

// TestFallback plays kernels that refuse more and more.
func TestFallback(t *testing.T) {
	image := probeImage(t, static(t))
	for _, c := range []struct {
		name     string
		refused  uintptr
		isolated bool
	}{
		{"no user namespaces", unix.CLONE_NEWUSER, os.Geteuid() == 0},
		{"no process namespaces", unix.CLONE_NEWPID, true},
		{"no user and process namespaces", unix.CLONE_NEWUSER | unix.CLONE_NEWPID, os.Geteuid() == 0},
		{"no network namespaces", unix.CLONE_NEWNET, false},
		{"nothing", everything, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, r := runProbe(t, nil, image, func(config *Config) {
				config.refuse = func(flags uintptr) error {
					if flags&c.refused != 0 {
						return unix.EPERM
					}
					return nil
				}
			})
			checkReport(t, e, r)
			i := e.Isolation()
			t.Logf("%+v", i)
			if i.Isolated && !c.isolated {
				t.Errorf("isolated against all odds")
			}
			if len(i.Why) == 0 {
				t.Error("no reason given")
			}
		})
	}
	_, err := startProbe(t.Context(), nil, image, nil, func(c *Config) {
		c.refuse = func(uintptr) error { return unix.ENOMEM }
	})
	if !errors.Is(err, unix.ENOMEM) {
		t.Errorf("out of memory: %v", err)
	}
}

func TestExitStatus(t *testing.T) {
	image := buildImage(t, self(t), nil, []string{"/app", probeArgument, "exit3"}, nil)
	e, err := startProbe(t.Context(), nil, image, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		exit, ok := errors.AsType[*exec.ExitError](e.Wait())
		if !ok || exit.ExitCode() != 3 {
			t.Fatalf("got %v", e.Wait())
		}
	}
	e.Kill() // of a dead one: nothing happens
}

func TestKilled(t *testing.T) {
	image := buildImage(t, self(t), nil, []string{"/app", probeArgument, "sleep"}, nil)
	for _, name := range []string{"context", "kill"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out, in := io.Pipe()
			e, err := startProbe(ctx, nil, image, in, nil)
			if err != nil {
				t.Fatal(err)
			}
			firstLine(t, out)
			go io.Copy(io.Discard, out)
			if name == "kill" {
				e.Kill()
			} else {
				cancel()
			}
			if err := e.Wait(); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if processExists(e.PID()) {
				t.Error("the process is still there")
			}
			if _, err := os.Stat(e.dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there", e.dir)
			}
		})
	}
}

// TestLeftBehind: what the program started ends with it, also where there is no
// process namespace.
func TestLeftBehind(t *testing.T) {
	image := buildImage(t, static(t), nil, []string{"/app", probeArgument, "spawn"}, nil)
	var out bytes.Buffer
	e, err := startProbe(t.Context(), nil, image, &out, func(c *Config) {
		c.refuse = func(flags uintptr) error {
			if flags&unix.CLONE_NEWPID != 0 {
				return unix.EPERM
			}
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Wait(); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); processExists(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is still there")
		}
	}
}

// TestParentDies kills a process that has started an enclave.
func TestParentDies(t *testing.T) {
	image := buildImage(t, self(t), nil, []string{"/app", probeArgument, "sleep"}, nil)
	cmd := exec.Command(self(t), probeArgument, "orphan")
	// Its folder cannot be removed by a process that is killed.
	cmd.Env = append(os.Environ(), "PROBE_IMAGE="+image, "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(firstLine(t, out))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(20 * time.Second); processExists(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the enclave survives")
		}
	}
}

// TestInheritedElsewhere: this process was not started as an enclave.
func TestInheritedElsewhere(t *testing.T) {
	if in, err := Inherited(); err == nil || in != nil {
		t.Fatal("descriptors of another process were taken")
	}
}

func TestRefusedImages(t *testing.T) {
	app := func(entries []eifbuild.Entry, cmd, env []string) string { return buildImage(t, "", entries, cmd, env) }
	file := func(name string, mode uint32, content string) eifbuild.Entry {
		return eifbuild.Entry{Name: name, Mode: mode, Content: eifbuild.Bytes([]byte(content))}
	}
	link := func(name, target string) eifbuild.Entry {
		return eifbuild.Entry{Name: name, Type: eifbuild.Symlink, Mode: 0o777, Link: target}
	}
	broken := app([]eifbuild.Entry{file("app", 0o755, "x")}, []string{"/app"}, nil)
	data, err := os.ReadFile(broken)
	if err != nil {
		t.Fatal(err)
	}
	data[600] ^= 1
	if err := os.WriteFile(broken, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, image, want string
		reason            reason.Reason
	}{
		{"checksum", broken, "eif.crc", reason.Mismatch},
		{"no such program", app(nil, []string{"/app"}, nil), "launch.program", reason.Malformed},
		{"not executable", app([]eifbuild.Entry{file("app", 0o644, "x")}, []string{"/app"}, nil), "launch.program", reason.Malformed},
		{"a folder", app(nil, []string{"/etc"}, nil), "launch.program", reason.Malformed},
		{"link in a circle", app([]eifbuild.Entry{link("app", "/app")}, []string{"/app"}, nil), "launch.program", reason.Malformed},
		{"link out of the tree", app([]eifbuild.Entry{link("app", "../../../../bin/sh")}, []string{"/app"}, nil), "launch.program", reason.Malformed},
		{"environment", app([]eifbuild.Entry{file("app", 0o755, "x")}, []string{"/app"}, []string{"NOVALUE"}), "launch.environment", reason.Malformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := startProbe(t.Context(), nil, c.image, nil, nil)
			if e != nil {
				t.Fatal("started")
			}
			refusal, ok := errors.AsType[*reason.Error](err)
			if !ok || refusal.Rule() != c.want || refusal.Reason() != c.reason {
				t.Fatalf("got %v, want %s", err, c.want)
			}
		})
	}
	// A path through a link that leads out must not be written through.
	outside := t.TempDir()
	image := app([]eifbuild.Entry{link("out", outside), file("out/planted", 0o755, "x")}, []string{"/app"}, nil)
	if _, err := startProbe(t.Context(), nil, image, nil, nil); err == nil {
		t.Error("a file outside the tree was accepted")
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("planted: %v", left)
	}
	if _, err := Start(t.Context(), Config{}); err == nil {
		t.Error("nothing was started")
	}
}

// TestLinkedProgram finds the program through links as a process in the tree
// would, and by AWS's search path.
func TestLinkedProgram(t *testing.T) {
	content, err := eifbuild.FileContent(static(t))
	if err != nil {
		t.Fatal(err)
	}
	entries := []eifbuild.Entry{
		{Name: "opt/", Type: eifbuild.Dir, Mode: 0o755},
		{Name: "opt/deep/", Type: eifbuild.Dir, Mode: 0o755},
		{Name: "opt/deep/probe", Mode: 0o755, Content: content},
		{Name: "var/", Type: eifbuild.Dir, Mode: 0o755},
		{Name: "bin", Type: eifbuild.Symlink, Mode: 0o777, Link: "/var/../opt/."},
		{Name: "opt/run", Type: eifbuild.Symlink, Mode: 0o777, Link: "deep/probe"},
	}
	image := buildImage(t, "", entries, []string{"run", probeArgument, "exit3"}, nil)
	e, err := startProbe(t.Context(), nil, image, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](e.Wait())
	if !ok || exit.ExitCode() != 3 {
		t.Fatalf("got %v", e.Wait())
	}
}
