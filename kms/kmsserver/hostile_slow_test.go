// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/kmsserver"
)

// The limits of a connection, as the documentation of the service has them.
const (
	headerLimit   = 10 * time.Second
	requestLimit  = 30 * time.Second
	answerLimit   = 60 * time.Second
	idleLimit     = 120 * time.Second
	shutdownLimit = 10 * time.Second
)

// A pipeListener hands out connections that have no buffer: who does not read makes
// the other side wait. In a bubble of package synctest they have the bubble's time.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// A slowService is a service in a bubble, with a valid request to it.
type slowService struct {
	*pipeListener
	t       *testing.T
	log     *faults
	cancel  context.CancelFunc
	stopped chan error
	valid   func(padding int) []byte
}

// inBubble runs fn with a service. Whatever goroutine it leaves behind fails the
// test: the bubble ends only when all have.
func inBubble(t *testing.T, fn func(*slowService)) {
	s := newService(t) // whose store and real listener are outside of the bubble
	synctest.Test(t, func(t *testing.T) {
		// The log is of the bubble, for one goroutine of it wakes up others.
		log, err := audit.Open(t.Context(), filepath.Join(t.TempDir(), "audit"), audit.Options{Key: s.files.RootKey, StoreID: s.files.Ledger.StoreID()})
		fatal(t, err)
		defer log.Close()
		s.audit.AuditLog = log
		b := &slowService{pipeListener: &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}, t: t, log: new(faults), stopped: make(chan error, 1)}
		logger := slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		handler, err := kmsserver.New(kmsserver.Config{KMS: s.kms, Logger: logger})
		fatal(t, err)
		var ctx context.Context
		ctx, b.cancel = context.WithCancel(context.Background())
		defer b.cancel()
		go func() { b.stopped <- kmsserver.Serve(ctx, b, handler, logger) }()
		b.valid = func(padding int) []byte {
			r := recordedRequest{header: http.Header{"Content-Type": {kmsapi.ContentType}, "X-Amz-Target": {"TrentService.GenerateRandom"}},
				body: []byte(`{"NumberOfBytes":8,"X":"` + strings.Repeat("x", padding) + `"}`)}
			var wire bytes.Buffer
			fatal(t, sign{credentials: s.admin, region: region, at: time.Now()}.request("127.0.0.1", &r).Write(&wire))
			return wire.Bytes()
		}
		fn(b)
		if ctx.Err() == nil {
			b.answers(b.dial(), b.valid(0), 0, 0)
		}
		b.cancel()
		if err := <-b.stopped; err != nil {
			t.Error(err)
		}
		if text := b.log.String(); text != "" {
			t.Errorf("log:\n%s", text)
		}
	})
}

// answers sends a request, whole or in pieces with a pause before each, and wants
// it to be served.
func (b *slowService) answers(conn net.Conn, request []byte, piece int, pause time.Duration) {
	b.t.Helper()
	defer conn.Close()
	go drip(conn, request, piece, pause)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 || !bytes.HasPrefix(body, []byte(`{"Plaintext":"`)) {
		b.t.Errorf("%d %s %v", answer.StatusCode, body, err)
	}
}

// drip writes pieces of a text until all is written or the other side has closed.
func drip(conn net.Conn, text []byte, piece int, pause time.Duration) {
	if piece == 0 {
		piece = len(text)
	}
	for len(text) > 0 {
		time.Sleep(pause)
		n := min(piece, len(text))
		if _, err := conn.Write(text[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

// closed reads what the server still says and wants it to close the connection
// after so long, give or take a second.
func (b *slowService) closed(conn net.Conn, want time.Duration) (said string) {
	b.t.Helper()
	defer conn.Close()
	start := time.Now()
	text, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, io.ErrClosedPipe) {
		b.t.Error(err)
	}
	if took := time.Since(start); took < want-time.Second || took > want+time.Second {
		b.t.Errorf("closed after %v, want %v", took, want)
	}
	return string(text)
}

// headEnd is where the body of a request begins.
func headEnd(request []byte) int { return bytes.Index(request, []byte("\r\n\r\n")) + 4 }

// A client may be slow, but not for ever, and it keeps nobody else waiting.
func TestSlowRequests(t *testing.T) {
	inBubble(t, func(b *slowService) {
		request := b.valid(3000)
		head := headEnd(request)
		b.answers(b.dial(), b.valid(0), 100, time.Second)        // head and body within the limits
		b.answers(b.dial(), b.valid(100000), 1<<13, time.Second) // large and slow
		slow := b.dial()
		go drip(slow, request[:head-2], 10, time.Second) // a byte now and then is no excuse
		if said := b.closed(slow, headerLimit); strings.Contains(said, "200 OK") {
			b.t.Errorf("half a head was answered: %s", said)
		}
		slow = b.dial()
		go func() {
			drip(slow, request[:head], 0, 0)
			drip(slow, request[head:], 10, time.Second)
		}()
		if said := b.closed(slow, requestLimit); strings.Contains(said, "200 OK") {
			b.t.Errorf("half a body was answered: %s", said)
		}
		silent := b.dial()
		b.closed(silent, headerLimit) // no request at all
	})
}

// A thousand of them do not stand in the way either.
func TestManySlowRequests(t *testing.T) {
	inBubble(t, func(b *slowService) {
		request := b.valid(3000)
		head := headEnd(request)
		var wg sync.WaitGroup
		for i := range 1000 {
			conn := b.dial()
			wg.Go(func() {
				drip(conn, request[:[]int{head - 2, head, len(request) - 1}[i%3]], 0, 0)
				io.Copy(io.Discard, conn)
				conn.Close()
			})
		}
		synctest.Wait()
		for range 10 {
			b.answers(b.dial(), b.valid(0), 0, 0)
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); took > requestLimit+time.Second {
			b.t.Errorf("they were there for %v", took)
		}
	})
}

// A connection that is kept open and not used is closed.
func TestIdleConnection(t *testing.T) {
	inBubble(t, func(b *slowService) {
		conn := b.dial()
		reader := bufio.NewReader(conn)
		for range 3 {
			go drip(conn, b.valid(0), 0, 0)
			answer, err := http.ReadResponse(reader, nil)
			fatal(b.t, err)
			if _, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != 200 {
				b.t.Errorf("%d %v", answer.StatusCode, err)
			}
			time.Sleep(idleLimit - time.Second)
		}
		b.closed(conn, time.Second)
	})
}

// A client that goes away, at whatever byte of its request or of the answer, leaves
// nothing behind.
func TestCutConnections(t *testing.T) {
	inBubble(t, func(b *slowService) {
		request := b.valid(500)
		for cut := 0; cut < len(request); cut += 1 + len(request)/100 {
			conn := b.dial()
			drip(conn, request[:cut], 0, 0)
			conn.Close()
		}
		for read := range 100 {
			conn := b.dial()
			go drip(conn, request, 0, 0)
			if _, err := io.ReadFull(conn, make([]byte, 1+5*read)); err != nil && read < 40 {
				b.t.Errorf("%d bytes of an answer: %v", 1+5*read, err)
			}
			conn.Close()
		}
		// One that does not read its answer is left after a while.
		conn := b.dial()
		drip(conn, b.valid(0), 0, 0)
		time.Sleep(answerLimit + time.Second)
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			b.t.Error("the answer still waits to be read")
		}
		conn.Close()
	})
}

// The service stops though requests are under way that will never be complete.
func TestStopWithSlowRequests(t *testing.T) {
	inBubble(t, func(b *slowService) {
		request := b.valid(500)
		var conns []net.Conn
		for _, cut := range []int{1, headEnd(request), len(request) - 1} {
			conn := b.dial()
			drip(conn, request[:cut], 0, 0)
			conns = append(conns, conn)
		}
		synctest.Wait()
		start := time.Now()
		b.cancel()
		err := <-b.stopped
		b.stopped <- err
		if took := time.Since(start); took > shutdownLimit+time.Second {
			b.t.Errorf("it took %v to stop", took)
		}
		for _, conn := range conns {
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	})
}
