// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"bytes"
	"context"
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

	"github.com/cretula/cretula/pcr"
)

// socketPath returns a path in a folder of mode 0700.
func socketPath(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "nsm.sock")
}

// echo answers DescribePCR with a register whose first byte is the index, and
// all else as a module does that knows nothing.
var echo = deviceFunc(func(_ context.Context, request []byte) ([]byte, error) {
	r, err := ParseRequest(request)
	if err != nil || r.Command != DescribePCR {
		return Response{Error: InvalidOperation}.Encode(), nil
	}
	return Response{Command: DescribePCR, PCR: PCRState{Value: pcr.Digest{byte(r.Index)}}}.Encode(), nil
})

// serve offers dev on a new socket until the test ends.
func serve(t testing.TB, dev Device) string {
	t.Helper()
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx, dev) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket file is still there: %v", err)
		}
	})
	return path
}

func dial(t testing.TB, path string) Device {
	t.Helper()
	dev, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

// rawConn connects without a Device, to send what no Device would.
func rawConn(t testing.TB, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

func exchangeRaw(t testing.TB, conn *net.UnixConn, request []byte) []byte {
	t.Helper()
	if _, _, err := conn.WriteMsgUnix(request, nil, nil); err != nil {
		t.Fatalf("%d bytes: %v", len(request), err)
	}
	buffer := make([]byte, 2*MaxResponse)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatalf("%d bytes: %v", len(request), err)
	}
	return buffer[:n]
}

// TestHostilePackets: each is answered and the connection goes on.
func TestHostilePackets(t *testing.T) {
	conn := rawConn(t, serve(t, echo))
	tests := []struct {
		name    string
		request []byte
		want    ErrorCode
	}{
		{"empty", nil, InvalidOperation},
		{"empty again", nil, InvalidOperation},
		{"one byte", []byte{0xff}, InvalidOperation},
		{"nested arrays", bytes.Repeat([]byte{0x81}, MaxRequest), InvalidOperation},
		{"nested indefinite maps", bytes.Repeat([]byte{0xbf}, MaxRequest), InvalidOperation},
		{"4095", make([]byte, MaxRequest-1), InvalidOperation},
		{"4096", make([]byte, MaxRequest), InvalidOperation},
		{"4097", make([]byte, MaxRequest+1), InputTooLarge},
		{"100 kB", make([]byte, 100_000), InputTooLarge},
		{"a good request and 4096 more", append(Request{Command: DescribePCR}.Encode(), make([]byte, MaxRequest)...), InputTooLarge},
	}
	for _, test := range tests {
		if got, want := exchangeRaw(t, conn, test.request), (Response{Error: test.want}).Encode(); !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", test.name, got, want)
		}
		good := exchangeRaw(t, conn, Request{Command: DescribePCR, Index: 7}.Encode())
		if r, err := ParseResponse(good); err != nil || r.PCR.Value[0] != 7 {
			t.Errorf("after %s: %+v, %v", test.name, r, err)
		}
	}
}

// TestPipelined: requests sent before any answer is read are answered in order,
// the last one although the sending side is shut down by then.
func TestPipelined(t *testing.T) {
	conn := rawConn(t, serve(t, echo))
	for i := range 20 {
		request := Request{Command: DescribePCR, Index: uint16(i)}.Encode()
		if i%5 == 0 {
			request = nil
		}
		if _, _, err := conn.WriteMsgUnix(request, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, MaxResponse)
	for i := range 20 {
		n, err := conn.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseResponse(buffer[:n])
		if err != nil || i%5 == 0 && r.Error != InvalidOperation || i%5 != 0 && r.PCR.Value[0] != byte(i) {
			t.Errorf("answer %d: %+v, %v", i, r, err)
		}
	}
	if n, err := conn.Read(buffer); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// TestDescriptorsDropped: files passed with a request do not stay open here.
func TestDescriptorsDropped(t *testing.T) {
	conn := rawConn(t, serve(t, echo))
	exchangeRaw(t, conn, nil)
	before := openFiles(t)
	for range 50 {
		if _, _, err := conn.WriteMsgUnix(Request{Command: DescribePCR}.Encode(), unix.UnixRights(0, 1, 2), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, MaxResponse)); err != nil {
			t.Fatal(err)
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestConcurrentClients mixes up no answers, neither between connections nor
// between the users of one.
func TestConcurrentClients(t *testing.T) {
	path := serve(t, echo)
	shared := dial(t, path)
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			dev := shared
			if i%2 == 0 {
				dev = dial(t, path)
			}
			for j := range 100 {
				index := pcr.Index((i*7 + j) % 256)
				state, err := Client{dev}.DescribePCR(context.Background(), index)
				if err != nil || state.Value[0] != byte(index) {
					t.Errorf("asked for %d: %v, %v", index, state.Value[0], err)
					return
				}
			}
		})
	}
	clients.Wait()
}

// TestMoreConnectionsThanServed: those above the limit wait for a place.
func TestMoreConnectionsThanServed(t *testing.T) {
	path := serve(t, echo)
	var conns []*net.UnixConn
	for range maxConns {
		conn := rawConn(t, path)
		exchangeRaw(t, conn, nil)
		conns = append(conns, conn)
	}
	late := rawConn(t, path)
	if _, _, err := late.WriteMsgUnix([]byte{0}, nil, nil); err != nil {
		t.Fatal(err)
	}
	conns[0].Close()
	if _, err := late.Read(make([]byte, MaxResponse)); err != nil {
		t.Errorf("a place came free: %v", err)
	}
}

// TestCloseEndsServe, with connections that are idle, and with as many as are
// served at a time.
func TestCloseEndsServe(t *testing.T) {
	for _, n := range []int{0, 1, maxConns} {
		path := socketPath(t)
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- l.Serve(context.Background(), echo) }()
		var conns []*net.UnixConn
		for range n {
			conn := rawConn(t, path)
			exchangeRaw(t, conn, nil)
			conns = append(conns, conn)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, conn := range conns {
			if n, err := conn.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("a connection goes on: %d, %v", n, err)
			}
		}
	}
}

// TestFailingDevice: what is no response becomes InternalError.
func TestFailingDevice(t *testing.T) {
	responses := map[string]struct {
		response []byte
		err      error
	}{
		"error":    {nil, errors.New("broken")},
		"nothing":  {nil, nil},
		"too long": {make([]byte, MaxResponse+1), nil},
	}
	for name, r := range responses {
		t.Run(name, func(t *testing.T) {
			client := Client{dial(t, serve(t, always(r.response, r.err).Device))}
			for range 2 {
				if _, err := client.Random(t.Context()); !errors.Is(err, InternalError) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// pairWith connects a device to a server that the test plays itself.
func pairWith(t *testing.T) (Device, *net.UnixConn) {
	t.Helper()
	file, conn, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dev, err := FromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close(); conn.Close() })
	return dev, conn
}

// TestLateResponse: a caller who gives up does not leave his answer to the next.
func TestLateResponse(t *testing.T) {
	dev, server := pairWith(t)
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			time.Sleep(10 * time.Millisecond)
			cancel()
		}()
		if _, err := (Client{dev}).DescribePCR(ctx, pcr.Index(i)); !errors.Is(err, context.Canceled) {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	go func() {
		buffer := make([]byte, MaxRequest)
		for range 4 {
			n, _ := server.Read(buffer)
			response, _ := echo(context.Background(), buffer[:n])
			server.Write(response)
		}
	}()
	state, err := Client{dev}.DescribePCR(t.Context(), 9)
	if err != nil || state.Value[0] != 9 {
		t.Errorf("got the answer for %d, %v", state.Value[0], err)
	}
}

// TestWaitingEnds: who waits for his turn gives up with his context.
func TestWaitingEnds(t *testing.T) {
	dev, _ := pairWith(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := dev.Send(ctx, []byte{0}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
	both.Wait()
	if _, err := dev.Send(ctx, []byte{0}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// TestHostileServer: what a server may do to a client.
func TestHostileServer(t *testing.T) {
	tests := []struct {
		name   string
		packet []byte
		want   string
	}{
		{"response of 12289", make([]byte, MaxResponse+1), "nsm.response.size"},
		{"response of 100 kB", make([]byte, 100_000), "nsm.response.size"},
		{"garbage", []byte{0xff}, "nsm.response.cbor"},
		{"empty", nil, "closed the connection"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dev, server := pairWith(t)
			if _, _, err := server.WriteMsgUnix(test.packet, nil, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := (Client{dev}).Random(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		dev, server := pairWith(t)
		server.Close()
		if _, err := (Client{dev}).Random(t.Context()); err == nil {
			t.Error("no error")
		}
	})
	t.Run("closed under way", func(t *testing.T) {
		dev, _ := pairWith(t)
		failed := make(chan error)
		go func() {
			_, err := dev.Send(context.Background(), []byte{0})
			failed <- err
		}()
		time.Sleep(10 * time.Millisecond)
		dev.Close()
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

// TestServeEnds: ending the context ends a connection that is idle, one whose
// device is at work, and one whose client reads nothing.
func TestServeEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	slow := deviceFunc(func(ctx context.Context, request []byte) ([]byte, error) {
		if len(request) == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return make([]byte, MaxResponse), nil
	})
	ended := make(chan error)
	for _, request := range []int{0, 1, 2} {
		file, conn, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		go func() { ended <- ServeConn(ctx, conn, slow) }()
		client, err := packetConn(file)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for range 10 * request * request { // the 40 of the last fill every buffer
			client.SetDeadline(time.Now().Add(20 * time.Millisecond))
			client.Write(make([]byte, request))
		}
	}
	time.Sleep(50 * time.Millisecond)
	cancel()
	for range 3 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

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
		out, err := cmd.CombinedOutput()
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

// TestFromFileRefuses descriptors of any other kind.
func TestFromFileRefuses(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := FromFile(null); err == nil {
		t.Error("/dev/null is accepted")
	}
	for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "socket")
			defer f.Close()
			if _, err := FromFile(f); err == nil {
				t.Errorf("a socket of type %d is accepted", kind)
			}
		}
	}
	closed, _, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, err := FromFile(closed); err == nil {
		t.Error("a closed file is accepted")
	}
}
