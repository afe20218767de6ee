// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/nsm"
)

// egressPair serves an allow-list; the result is the program's end.
func egressPair(t *testing.T, egress map[string]Dialer) *net.UnixConn {
	t.Helper()
	file, far, err := nsm.Pair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		serveEgress(ctx, far, egress)
	}()
	t.Cleanup(func() {
		conn.Close()
		cancel()
		<-done
	})
	return conn.(*net.UnixConn)
}

func TestEgress(t *testing.T) {
	conn := egressPair(t, map[string]Dialer{"echo": echoDialer})
	in := &Inside{egress: conn}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			text := strings.Repeat(string(rune('a'+i)), 300_000)
			far, err := in.DialContext(context.Background(), "echo")
			if err != nil {
				t.Error(err)
				return
			}
			defer far.Close()
			go func() {
				_, _ = io.WriteString(far, text)
				_ = far.(*net.UnixConn).CloseWrite()
			}()
			if back, err := io.ReadAll(far); err != nil || string(back) != text {
				t.Errorf("connection %d: %d bytes came back, %v", i, len(back), err)
			}
		})
	}
	all.Wait()
}

func TestEgressRefusals(t *testing.T) {
	slow := make(chan struct{})
	conn := egressPair(t, map[string]Dialer{
		"broken": func(context.Context) (net.Conn, error) { return nil, errors.New("no route to the service") },
		"slow": func(ctx context.Context) (net.Conn, error) {
			select {
			case <-slow:
			case <-ctx.Done():
			}
			return nil, errors.New("too slow")
		},
		"nothing": nil,
	})
	defer close(slow)
	for name, want := range map[string]string{
		"elsewhere":              `no egress is named "elsewhere"`,
		"nothing":                `no egress is named "nothing"`,
		"broken":                 "no route to the service",
		"":                       "1 to 255 bytes",
		strings.Repeat("x", 256): "1 to 255 bytes",
		strings.Repeat("x", 255): "no egress is named",
		"a\x00b\xff":             "no egress is named",
	} {
		c, err := dialEgress(t.Context(), conn, name)
		if c != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", name, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := dialEgress(ctx, conn, "slow"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// TestHostileRequests: packets that are no requests are dropped, and the next
// request is answered.
func TestHostileRequests(t *testing.T) {
	conn := egressPair(t, map[string]Dialer{"echo": echoDialer})
	pipe, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	near, far, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	defer far.Close()
	raw, err := far.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	socket := int(raw.Fd())
	rights := unix.UnixRights
	for name, packet := range map[string]struct {
		data    []byte
		control []byte
	}{
		"no descriptor":     {[]byte("echo"), nil},
		"two descriptors":   {[]byte("echo"), rights(socket, socket)},
		"ten descriptors":   {[]byte("echo"), rights(socket, socket, socket, socket, socket, socket, socket, socket, socket, socket)},
		"a pipe":            {[]byte("echo"), rights(int(pipe.Fd()))},
		"no name":           {nil, rights(socket)},
		"a name too long":   {make([]byte, 256), rights(socket)},
		"a packet of 64 KB": {make([]byte, 1<<16), rights(socket)},
	} {
		before := openDescriptors(t)
		if _, _, err := conn.WriteMsgUnix(packet.data, packet.control, nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		in := &Inside{egress: conn}
		if back, err := echo(t.Context(), in, "still there"); err != nil || back != "still there" {
			t.Fatalf("after %s: %q, %v", name, back, err)
		}
		for deadline := time.Now().Add(5 * time.Second); openDescriptors(t) > before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d descriptors open, before it were %d", name, openDescriptors(t), before)
			}
		}
	}
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestEgressLimit opens as many connections as there may be, and one more.
func TestEgressLimit(t *testing.T) {
	conn := egressPair(t, map[string]Dialer{"echo": echoDialer})
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range maxConnections {
		c, err := dialEgress(t.Context(), conn, "echo")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if _, err := dialEgress(t.Context(), conn, "echo"); err == nil || !strings.Contains(err.Error(), "128 connections are open already") {
		t.Fatalf("got %v", err)
	}
	open[0].Close()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		c, err := dialEgress(t.Context(), conn, "echo")
		if err == nil {
			open[0] = c
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestEgressEnds: when the parent's side goes, so does everything else.
func TestEgressEnds(t *testing.T) {
	file, far, err := nsm.Pair()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		serveEgress(ctx, far, map[string]Dialer{"echo": echoDialer})
	}()
	stream, err := dialEgress(t.Context(), conn.(*net.UnixConn), "echo")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	cancel()
	<-done
	if data, err := io.ReadAll(stream); len(data) != 0 || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := dialEgress(t.Context(), conn.(*net.UnixConn), "echo"); err == nil {
		t.Error("connected to nobody")
	}
}

// TestPumpWithoutHalfClose: a connection that cannot be closed on one side only
// is closed as a whole.
func TestPumpWithoutHalfClose(t *testing.T) {
	near, far := net.Pipe()
	var got bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&got, far)
	}()
	a, b, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := io.WriteString(b, "text"); err != nil {
		t.Fatal(err)
	}
	_ = b.(*net.UnixConn).CloseWrite()
	pump(near, a)
	<-done
	if got.String() != "text" {
		t.Errorf("got %q", got.String())
	}
}
