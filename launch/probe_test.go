// SPDX-License-Identifier: Apache-2.0

//go:build linux

package launch

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/nsm"
)

// The test binary is the program of the images that the tests start.
const probeArgument = "launch-probe"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == probeArgument {
		if err := probe(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	status := m.Run()
	if dir := staticProbeDir; dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

// A report is what the probe sees.
type report struct {
	Args, Env, Interfaces, Root []string
	UID, GID, PID               int
	WorkDir                     string
	WorkDirEmpty                bool
	Descriptors                 []int
	NoNewPrivs                  int
	CoreLimit                   uint64
	Document                    []byte
	Echo                        string
	Refusal                     string
	SecondInherited             string
}

func probe(mode string) error {
	switch mode {
	case "exit3":
		os.Exit(3)
	case "sleep":
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "spawn":
		return probeSpawn()
	case "orphan":
		return probeParent()
	}
	return probeEverything()
}

func probeEverything() error {
	r := report{Args: os.Args, Env: os.Environ(), UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid()}
	// What Go opened itself closes on exec, what was inherited cannot have that
	// mark.
	for fd := range 1024 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			r.Descriptors = append(r.Descriptors, fd)
		}
	}
	in, err := Inherited()
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := Inherited(); err != nil {
		r.SecondInherited = err.Error()
	}
	ctx := context.Background()
	client := nsm.Client{Device: in.NSM}
	if r.Document, err = client.Attest(ctx, nsm.AttestationRequest{Nonce: []byte("a nonce")}); err != nil {
		return err
	}
	if r.Echo, err = echo(ctx, in, "hello"); err != nil {
		return err
	}
	_, err = in.DialContext(ctx, "elsewhere")
	r.Refusal = fmt.Sprint(err)
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp != 0 {
			r.Interfaces = append(r.Interfaces, i.Name)
		}
	}
	if r.WorkDir, err = os.Getwd(); err != nil {
		return err
	}
	here, err := os.ReadDir(".")
	r.WorkDirEmpty = err == nil && len(here) == 0
	for _, pattern := range []string{"/*", "/etc/*"} {
		names, _ := filepath.Glob(pattern)
		r.Root = append(r.Root, names...)
	}
	if r.NoNewPrivs, err = unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return err
	}
	r.CoreLimit = limit.Max
	return json.NewEncoder(os.Stdout).Encode(r)
}

// echo sends text to the egress "echo", closes its side, and reads to the end.
func echo(ctx context.Context, in *Inside, text string) (string, error) {
	conn, err := in.DialContext(ctx, "echo")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		return "", err
	}
	back, err := io.ReadAll(conn)
	return string(back), err
}

// probeSpawn ends while a process that it started goes on.
func probeSpawn() error {
	program, err := os.Executable()
	if err != nil {
		program = os.Args[0] // there is no /proc in the image's root
	}
	cmd := exec.Command(program, probeArgument, "sleep")
	// There is no /dev/null either, for streams that are not given.
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	return nil
}

// probeParent starts an enclave of its own, prints its process id, and waits to
// be killed.
func probeParent() error {
	e, err := startProbe(context.Background(), nil, os.Getenv("PROBE_IMAGE"), io.Discard, nil)
	if err != nil {
		return err
	}
	fmt.Println(e.PID())
	return e.Wait()
}

// firstLine reads one line.
func firstLine(t *testing.T, r io.Reader) string {
	t.Helper()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func processExists(pid int) bool {
	state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(state), ") ")
	return !strings.HasPrefix(rest, "Z") && !errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}
