// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsserver_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
)

// A cluster is three key servers, each a process of its own, over one database.
type cluster struct {
	t        testing.TB
	database *pgtest.Server
	name     string
	dir      string
	// own is the test's own server over the database, for what is done without a
	// request: principals.
	own   *kms.Server
	files *datadir.Dir // its files
	admin kms.Credentials
	alice kms.Credentials // of the tests that make her
	peers []*peer
}

// A peer is a server of a cluster.
type peer struct {
	config  peerConfig
	dir     string
	proxy   *pgProxy
	process *exec.Cmd
	stdin   io.WriteCloser
	log     lockedBuffer
	address atomic.Value // a string, the one since the last start
	down    atomic.Bool  // no client asks it
	// answered are the request ids that it has answered with 200.
	answered sync.Map
}

func startCluster(t testing.TB) *cluster {
	t.Helper()
	return startClusterOver(t, pgtest.Shared(t))
}

func startClusterOver(t testing.TB, database *pgtest.Server) *cluster {
	t.Helper()
	c := &cluster{t: t, database: database, dir: t.TempDir()}
	c.name = c.database.Database(t)
	fatal(t, os.WriteFile(filepath.Join(c.dir, "emulator.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority().Root().Raw}), 0o600))
	_, err := rootkeys.Create(t.Context(), rootkeys.Spec{Kind: rootkeys.KindFile, File: filepath.Join(c.dir, "keys", "root.key")})
	fatal(t, err)
	own := c.config("own", c.database.Port)
	server, files, err := own.open(t.Context())
	fatal(t, err)
	c.own, c.files = server, files
	t.Cleanup(func() {
		server.Close()
		files.Close()
	})
	c.admin, err = server.EnsureAdmin(t.Context())
	fatal(t, err)
	for i := range 3 {
		name, proxy := fmt.Sprint("peer", i), newPgProxy(t, c.database.Port)
		m := &peer{config: c.config(name, proxy.port()), proxy: proxy, dir: filepath.Join(c.dir, name)}
		c.peers = append(c.peers, m)
	}
	for _, m := range c.peers {
		m.start(t)
	}
	return c
}

// config is that of a server with a folder of its own, which reaches the database at
// a port.
func (c *cluster) config(name string, port int) peerConfig {
	c.t.Helper()
	file := filepath.Join(c.dir, name+".toml")
	fatal(c.t, os.WriteFile(file, fmt.Appendf(nil, `
data_dir = %q
account = %q
emulated = true
listen = "127.0.0.1:0"
store = {url = %q}
root_key = {kind = "file", file = "keys/root.key", epoch_file = %q}
attestation = {roots = ["emulator.pem"]}
limits = {no_operation_limits = true, unknown_certificates = 1000000, unauthenticated = 1000000}
audit = {server = %[1]q}
log = {level = "error"}
`, name, account, pgtest.URLAt(port, c.name), filepath.Join(c.dir, "keys", name+".epoch")), 0o600))
	return peerConfig{File: file}
}

// start starts the process and waits for its address.
func (m *peer) start(t testing.TB) {
	t.Helper()
	text, err := json.Marshal(m.config)
	fatal(t, err)
	m.process = exec.Command(os.Args[0])
	m.process.Env = append(os.Environ(), peerVariable+"="+string(text))
	m.process.Stderr = &m.log
	m.stdin, err = m.process.StdinPipe()
	fatal(t, err)
	stdout, err := m.process.StdoutPipe()
	fatal(t, err)
	fatal(t, m.process.Start())
	t.Cleanup(func() { m.end(t) })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("a server does not start: %v\n%s", err, m.log.String())
	}
	m.address.Store(strings.TrimSpace(line))
	m.down.Store(false)
}

// move sets the clock of the server ahead.
func (m *peer) move(t testing.TB, ahead time.Duration) {
	t.Helper()
	_, err := fmt.Fprintln(m.stdin, ahead)
	fatal(t, err)
}

// end stops the server as its administrator would.
func (m *peer) end(t testing.TB) {
	if m.process == nil {
		return
	}
	m.stdin.Close()
	if err := m.process.Wait(); err != nil {
		t.Errorf("a server ended with %v\n%s", err, m.log.String())
	}
	m.process = nil
}

// kill ends the server at once.
func (m *peer) kill(t testing.TB) {
	t.Helper()
	fatal(t, m.process.Process.Kill())
	m.process.Wait()
	m.process = nil
}

// A balancer sends each attempt of a request to the next server that is up. The
// servers do not mind by which name they are called, which the signature is over.
type balancer struct {
	peers []*peer
	next  atomic.Uint32
	http  http.Client
}

// attempts counts those of one call, in its context. Each is with another server.
type attempts struct{ first, count uint32 }

type attemptsKey struct{}

func (b *balancer) Do(r *http.Request) (*http.Response, error) {
	first := b.next.Add(1)
	if a, ok := r.Context().Value(attemptsKey{}).(*attempts); ok {
		first = a.count + a.first
		a.count++
	}
	m := b.choose(first)
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	r = r.Clone(r.Context())
	r.Host, r.URL.Host = host, m.address.Load().(string)
	response, err := b.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		m.answered.Store(response.Header.Get("X-Amzn-Requestid"), true)
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// choose returns the n-th server, or the next one that is up.
func (b *balancer) choose(n uint32) *peer {
	for i := range uint32(len(b.peers)) {
		if p := b.peers[(n+i)%uint32(len(b.peers))]; !p.down.Load() {
			return p
		}
	}
	return b.peers[0]
}

// client asks the peers in turn and, where one fails, the next.
func (c *cluster) client(who aws.CredentialsProvider, peers ...*peer) *awskms.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	c.t.Cleanup(transport.CloseIdleConnections)
	return awskms.New(awskms.Options{
		Region: region, BaseEndpoint: aws.String("http://kms.test"),
		HTTPClient:  &balancer{peers: peers, http: http.Client{Transport: transport}},
		Credentials: who,
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = 300, 50*time.Millisecond, noLimit{}
		}),
	})
}

// single asks one peer, once.
func (c *cluster) single(who aws.CredentialsProvider, m *peer) *awskms.Client {
	client := c.client(who, m)
	options := client.Options()
	options.Retryer = aws.NopRetryer{}
	return awskms.New(options)
}

// noLimit lets the SDK try again however often it has.
type noLimit struct{}

func (noLimit) GetToken(_ context.Context, _ uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (noLimit) AddTokens(uint) error { return nil }

// principal makes a user.
func (c *cluster) principal(name string, policies ...string) kms.Credentials {
	c.t.Helper()
	made, err := c.own.AddPrincipal(c.t.Context(), kms.Principal{Type: kms.User, Name: name, Policies: policies})
	fatal(c.t, err)
	return made
}

// A pgProxy stands between a server and the database.
type pgProxy struct {
	listener net.Listener
	target   string

	mu sync.Mutex
	// mute holds back what comes to connections that listen for notifications.
	mute bool
	// cut holds back everything, on all connections, without closing them.
	cut  bool
	open []net.Conn
}

func newPgProxy(t testing.TB, port int) *pgProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	fatal(t, err)
	p := &pgProxy{listener: l, target: fmt.Sprintf("127.0.0.1:%d", port)}
	t.Cleanup(func() {
		l.Close()
		p.heal()
	})
	go p.serve()
	return p
}

func (p *pgProxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *pgProxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, client, server)
		p.mu.Unlock()
		listens := new(atomic.Bool)
		go p.copy(server, client, func(b []byte) {
			if bytes.Contains(b, []byte("listen cretula")) {
				listens.Store(true)
			}
		}, func() bool { return p.cut })
		go p.copy(client, server, func([]byte) {}, func() bool { return p.cut || p.mute && listens.Load() })
	}
}

// copy drops what comes while drop, called under the mutex, says so. A protocol
// from which something was dropped is beyond repair: see heal.
func (p *pgProxy) copy(to, from net.Conn, see func([]byte), drop func() bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		see(buffer[:n])
		p.mu.Lock()
		dropped := drop()
		p.mu.Unlock()
		if dropped {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *pgProxy) set(mute, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute, p.cut = mute, cut
}

// heal lets everything pass again, on new connections.
func (p *pgProxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute, p.cut = false, false
	for _, c := range p.open {
		c.Close()
	}
	p.open = nil
}
