// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
