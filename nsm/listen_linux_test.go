// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestListenPermissions(t *testing.T) {
	path := socketPath(t)
	old := syscall.Umask(0)
	l, err := Listen(path)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	l.Close()
	for _, mode := range []fs.FileMode{0o755, 0o750, 0o701, 0o770, 0o777} {
		if err := os.Chmod(filepath.Dir(path), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "want 0700") {
			t.Errorf("folder of mode %o: %v", mode, err)
		}
	}
	if _, err := Listen(filepath.Join(path, "no", "such")); !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("no folder: %v", err)
	}
}

func TestSocketPaths(t *testing.T) {
	for _, path := range []string{"", "@abstract", "a\x00b", "/" + strings.Repeat("x", 107)} {
		if _, err := Listen(path); err == nil {
			t.Errorf("Listen(%q) is accepted", path)
		}
		if _, err := Dial(path); err == nil {
			t.Errorf("Dial(%q) is accepted", path)
		}
	}
	if _, err := Dial(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Dial of nothing: %v", err)
	}
}

// TestStaleSocket: a dead socket makes way, everything else stays.
// TestStaleSocketOnce: of several that find a stale socket one gets its place.
func TestStaleSocketOnce(t *testing.T) {
	for range 100 {
		path := socketPath(t)
		dead, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		var group sync.WaitGroup
		var listeners [4]*Listener
		for i := range listeners {
			group.Go(func() {
				l, err := Listen(path)
				if err != nil && !errors.Is(err, unix.EADDRINUSE) {
					t.Error(err)
				}
				listeners[i] = l
			})
		}
		group.Wait()
		count := 0
		for _, l := range listeners {
			if l != nil {
				count++
				l.Close()
			}
		}
		if count != 1 {
			t.Fatalf("%d listen on one socket", count)
		}
	}
}

func TestStaleSocket(t *testing.T) {
	path := socketPath(t)
	dead, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	if _, err := Listen(path); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a live socket: %v", err)
	}
	dead.Close()
	first, err := Listen(path)
	if err != nil {
		t.Fatalf("a dead socket: %v", err)
	}
	os.Remove(path)
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("closing the first removed the second's file: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a regular file is replaced")
	}
	os.Remove(path)
	stream, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if _, err := Listen(path); err == nil {
		t.Error("a live stream socket is replaced")
	}
	if _, err := Dial(path); err == nil {
		t.Error("a stream socket is dialled")
	}
	os.Remove(path)
	if err := os.Symlink("elsewhere", path); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("a symbolic link is replaced")
	}
}

func TestPeerRule(t *testing.T) {
	for _, test := range []struct {
		peer uint32
		self int
		want bool
	}{{0, 0, true}, {0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {65534, 0, false}, {1000, 0, false}} {
		if got := mayTalk(test.peer, test.self); got != test.want {
			t.Errorf("peer %d, self %d: %v", test.peer, test.self, got)
		}
	}
}

// TestForeignPeer opens the socket file to everybody, as no Listener does, and
// has another user connect, who is turned away. The test runs itself again as
// that user.
func TestForeignPeer(t *testing.T) {
	if path := os.Getenv("NSM_TEST_FOREIGN"); path != "" {
		fmt.Println(askAs(path))
		os.Exit(0)
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can run a program as another user")
	}
	dir, err := os.MkdirTemp("/tmp", "nsm-foreign") // the folders of TempDir are closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "nsm.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	go l.Serve(t.Context(), echo)
	program := filepath.Join(dir, "test")
	if err := copyFile(program, "/proc/self/exe"); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{dir, path, program} {
		if err := os.Chmod(f, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	run := func(uid uint32) string {
		cmd := exec.Command(program, "-test.run=^TestForeignPeer$")
		cmd.Dir = "/"
		cmd.Env = []string{"NSM_TEST_FOREIGN=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := run(65534); got != "read 0 EOF" && !strings.Contains(got, "reset") {
		t.Errorf("another user: %s", got)
	}
	if got := run(0); !strings.HasPrefix(got, "read 7") {
		t.Errorf("root: %s", got)
	}
}

// askAs sends one request and tells what came of it.
func askAs(path string) string {
	conn, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return "not connected: " + err.Error()
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	conn.Write(Request{Command: DescribePCR}.Encode())
	n, err := conn.Read(make([]byte, MaxResponse))
	return fmt.Sprintf("read %d %v", n, err)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
