// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsserve

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/kmsconfig"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore/postgres"
	"github.com/cretula/cretula/reason"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// configure writes a configuration file and makes its root key, store and
// administrator.
func configure(t *testing.T, more string) (*kmsconfig.Config, kms.Credentials) {
	t.Helper()
	dir, err := os.MkdirTemp("", "k") // short: the folder has a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "data_dir = \"data\"\naccount = \"111122223333\"\nlisten = \"127.0.0.1:0\"\nroot_key = { kind = \"file\", file = \"keys/root.key\" }\n" + more
	file := filepath.Join(dir, "kms.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config, err := kmsconfig.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rootkeys.Create(t.Context(), config.RootKey); err != nil {
		t.Fatal(err)
	}
	data, err := config.Parts(nil).Create(t.Context(), config.Meta())
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	server, err := data.Server(nil, false)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	admin, err := server.EnsureAdmin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return config, admin
}

// A running service.
type running struct {
	Addresses
	log  *buffer
	stop context.CancelFunc
	done chan error
}

func run(t *testing.T, config *kmsconfig.Config, environment map[string]string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{log: &buffer{}, stop: cancel, done: make(chan error, 1)}
	ready := make(chan Addresses, 1)
	go func() {
		r.done <- Run(ctx, config, Options{Log: r.log, Getenv: func(name string) string { return environment[name] }, Ready: func(a Addresses) { ready <- a }})
	}()
	t.Cleanup(cancel)
	select {
	case r.Addresses = <-ready:
	case err := <-r.done:
		t.Fatalf("%v\n%s", err, r.log)
	}
	return r
}

// end stops it and wants no error.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("%v\n%s", err, r.log)
	}
}

func client(a net.Addr, c kms.Credentials) *awskms.Client {
	return awskms.New(awskms.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + a.String()), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, ""),
	})
}

func get(t *testing.T, a net.Addr, path string) (int, string) {
	t.Helper()
	answer, err := http.Get("http://" + a.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, strings.TrimSpace(string(body))
}

const withMetrics = "[metrics]\nlisten = \"127.0.0.1:0\"\n"

func TestServes(t *testing.T) {
	config, admin := configure(t, withMetrics+"[pprof]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n")
	socket := filepath.Join(filepath.Dir(config.File), "notify")
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	r := run(t, config, map[string]string{"NOTIFY_SOCKET": socket, "WATCHDOG_USEC": "20000"})
	hear := func() string {
		b := make([]byte, 1000)
		n, err := heard.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	if first := hear(); !strings.HasPrefix(first, "READY=1\nSTATUS=serving on 127.0.0.1:") {
		t.Errorf("systemd heard %q", first)
	}
	if next := hear(); next != "WATCHDOG=1" {
		t.Errorf("systemd heard %q", next)
	}
	c := client(r.KMS, admin)
	if _, err := c.CreateKey(t.Context(), nil); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{"/healthz": `{"status":"ok"}`, "/readyz": `{"status":"ready"}`} {
		if status, body := get(t, r.Metrics, path); status != 200 || body != want {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	_, text := get(t, r.Metrics, "/metrics")
	for _, line := range []string{
		`cretula_kms_requests_total{code="OK",operation="CreateKey",reason=""} 1`, "cretula_kms_emulated 0",
		`cretula_kms_store_transaction_seconds_bucket{kind="update",le="+Inf"}`, `cretula_kms_audit_batch_records_sum`, `cretula_kms_audit_records_total`,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("no %q in the metrics", line)
		}
	}
	// Each listener serves its own only.
	for a, path := range map[net.Addr]string{r.KMS: "/metrics", r.Metrics: "/debug/pprof/", r.Pprof: "/metrics"} {
		if status, body := get(t, a, path); status == 200 {
			t.Errorf("%s at %v: %s", path, a, body)
		}
	}
	if status, _ := get(t, r.Pprof, "/debug/pprof/"); status != 200 {
		t.Errorf("no profiler: %d", status)
	}
	r.end(t)
	for {
		last := hear()
		if last == "STOPPING=1" {
			break
		}
		if last != "WATCHDOG=1" {
			t.Fatalf("systemd heard %q", last)
		}
	}
	for line := range strings.Lines(r.log.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON in the log: %s", line)
		}
		if strings.Contains(line, admin.SecretAccessKey) {
			t.Error("a secret is in the log")
		}
	}
	// And again, on the same store.
	again := run(t, config, nil)
	out, err := client(again.KMS, admin).ListKeys(t.Context(), nil)
	if err != nil || len(out.Keys) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	again.end(t)
}

// TestEmulated: what is emulated says so wherever one looks.
func TestEmulated(t *testing.T) {
	config, _ := configure(t, "emulated = true\n"+withMetrics)
	r := run(t, config, nil)
	if _, body := get(t, r.Metrics, "/healthz"); body != `{"status":"ok","EMULATED":true}` {
		t.Error(body)
	}
	if _, body := get(t, r.Metrics, "/metrics"); !strings.Contains(body, "\ncretula_kms_emulated 1\n") {
		t.Error("not in the metrics")
	}
	r.end(t)
	if !strings.Contains(r.log.String(), "level=WARN msg=\"EMULATED") {
		t.Errorf("the log has %s", r.log)
	}
}

// TestRefused: a start that would serve something else than what is configured is
// refused, and nothing listens then.
func TestRefused(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, c := range map[string]struct {
		change func(*kmsconfig.Config)
		want   func(error) bool
	}{
		"emulated":        {func(c *kmsconfig.Config) { c.Emulated = true }, mismatch},
		"another account": {func(c *kmsconfig.Config) { c.Account = "444455556666" }, mismatch},
		"no store":        {func(c *kmsconfig.Config) { c.Store.File += "x" }, func(err error) bool { return errors.Is(err, datadir.ErrNone) }},
		"no root key":     {func(c *kmsconfig.Config) { c.RootKey.File += "x" }, func(err error) bool { return errors.Is(err, rootkeys.ErrNoFile) || os.IsNotExist(err) }},
		"no certificate":  {func(c *kmsconfig.Config) { c.TLS = &kmsconfig.TLS{Certificate: "/x", Key: "/y"} }, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		"no such roots": {func(c *kmsconfig.Config) { c.Attestation.Roots = []kmsconfig.Path{"/x"} },
			func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		"busy":         {func(c *kmsconfig.Config) { c.Listen = busy.Addr().String() }, func(err error) bool { return err != nil }},
		"busy metrics": {func(c *kmsconfig.Config) { c.Metrics.Listen = busy.Addr().String() }, func(err error) bool { return err != nil }},
		"open address": {func(c *kmsconfig.Config) { c.Listen = "0.0.0.0:0" }, unsupported},
		"open metrics": {func(c *kmsconfig.Config) { c.Metrics.Listen = "0.0.0.0:0" }, unsupported},
		"open pprof":   {func(c *kmsconfig.Config) { c.Pprof = &kmsconfig.Pprof{Listen: "0.0.0.0:0"} }, unsupported},
	} {
		config, _ := configure(t, withMetrics)
		c.change(config)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := Run(ctx, config, Options{Log: io.Discard, Getenv: func(string) string { return "" }, Ready: func(Addresses) {
			t.Errorf("%s: it serves", name)
			cancel()
		}})
		cancel()
		if !c.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(string(config.DataDir), "admin.sock")); err == nil {
			t.Errorf("%s: the admin socket is left", name)
		}
	}
}

// TestCheck: what is named and not there is told before the service is stopped for it.
func TestCheck(t *testing.T) {
	config, _ := configure(t, "")
	if err := Check(config); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(open, []byte("localhost:5432:d:u:p\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	database := kmsconfig.Store{URL: "postgres://u@localhost/d", PasswordFile: kmsconfig.Path(open)}
	good := *config
	good.Store = database
	if err := Check(&good); err != nil {
		t.Errorf("a database: %v", err)
	}
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	provider := kmsconfig.WebIdentity{URL: "https://ci.example/x", Audiences: []string{"a"}}
	for name, change := range map[string]func(*kmsconfig.Config){
		"certificate": func(c *kmsconfig.Config) { c.TLS = &kmsconfig.TLS{Certificate: "/x", Key: "/y"} },
		"roots":       func(c *kmsconfig.Config) { c.Attestation.Roots = []kmsconfig.Path{"/x"} },
		"keys":        func(c *kmsconfig.Config) { p := provider; p.JWKSFile = "/x"; c.WebIdentity = append(c.WebIdentity, p) },
		"provider's":  func(c *kmsconfig.Config) { p := provider; p.CAFile = "/x"; c.WebIdentity = append(c.WebIdentity, p) },
		"no password": func(c *kmsconfig.Config) { c.Store = database; c.Store.PasswordFile = "/x" },
		"password":    func(c *kmsconfig.Config) { c.Store = database },
		"root key":    func(c *kmsconfig.Config) { c.RootKey.File = filepath.Join(string(c.DataDir), "root.key") },
	} {
		changed := *config
		change(&changed)
		if Check(&changed) == nil {
			t.Errorf("%s: no refusal", name)
		}
	}
}

// TestFullDisk: where nothing can be recorded nothing is served, and what is there stays.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Skipf("SKIPPED, a file system of its own cannot be mounted: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	config, _ := configure(t, fmt.Sprintf("[audit]\ndir = %q\n", filepath.Join(disk, "audit"))+withMetrics)
	fill := filepath.Join(disk, "fill")
	if err := os.WriteFile(fill, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	before := contents(t, string(config.Audit.Dir))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := Run(ctx, config, Options{Log: io.Discard, Getenv: func(string) string { return "" }, Ready: func(Addresses) {
		t.Error("it serves")
		cancel()
	}})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v, want no space left", err)
	}
	if contents(t, string(config.Audit.Dir)) != before {
		t.Error("the log was changed")
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	r := run(t, config, nil)
	if status, body := get(t, r.Metrics, "/readyz"); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	r.end(t)
}

// contents are the names and contents of the files of a folder.
func contents(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf("%s %q\n", entry.Name(), data)
	}
	return all
}

func mismatch(err error) bool    { r, _ := reason.Of(err); return r == reason.Mismatch }
func unsupported(err error) bool { r, _ := reason.Of(err); return r == reason.Unsupported }

// TestDrains: what was asked before the end is answered, also when it takes its
// time, and nothing is taken on afterwards.
func TestDrains(t *testing.T) {
	config, admin := configure(t, withMetrics)
	r := run(t, config, nil)
	c := client(r.KMS, admin)
	var load sync.WaitGroup
	begun := make(chan struct{}, 100)
	results := make(chan error, 1000)
	for range 4 {
		load.Go(func() {
			for {
				begun <- struct{}{}
				_, err := c.GenerateRandom(context.Background(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)})
				results <- err
				if err != nil {
					return
				}
			}
		})
	}
	for range 50 {
		<-begun
	}
	// A request that is half sent when the end comes.
	conn, err := net.Dial("tcp", r.KMS.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: TrentService.ListKeys\r\nContent-Length: 2\r\n\r\n{")
	time.Sleep(50 * time.Millisecond) // it is being read
	r.stop()
	go func() {
		for range begun {
		}
	}()
	load.Wait()
	if _, err := conn.Write([]byte("}")); err != nil {
		t.Error(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "MissingAuthenticationTokenException") {
		t.Errorf("the request under way got %q, %v", answer, err)
	}
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	close(results)
	answered := 0
	// How those end that were sent when nobody read any more.
	unread := []string{"connection refused", "connection reset", "broken pipe", "EOF", "server closed idle connection"}
	for err := range results {
		if err == nil {
			answered++
		} else if !slices.ContainsFunc(unread, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Errorf("a request was refused otherwise: %v", err)
		}
	}
	if answered == 0 {
		t.Error("none was answered")
	}
	if _, err := net.Dial("tcp", r.KMS.String()); err == nil {
		t.Error("it listens on")
	}
}

// TestReadiness: a database that goes away makes the service not ready, and its
// return makes it ready again, without a restart. It is alive all the while.
func TestReadiness(t *testing.T) {
	server := pgtest.New(t)
	database := server.Database(t)
	url := server.URL(database)
	if store, err := postgres.Create(t.Context(), url, postgres.Options{}); err == nil {
		store.Close()
	}
	config, admin := configure(t, fmt.Sprintf("[store]\nurl = %q\n[audit]\nserver = \"kms-1\"\n", url)+withMetrics)
	r := run(t, config, nil)
	c := client(r.KMS, admin)
	if _, err := c.CreateKey(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	waitFor := func(status int, body string) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); ; {
			gotStatus, got := get(t, r.Metrics, "/readyz")
			if gotStatus == status && got == body {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d %s\n%s", gotStatus, got, r.log)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	waitFor(200, `{"status":"ready"}`)
	server.Stop()
	waitFor(503, `{"status":"not ready","failing":["store"]}`)
	if status, _ := get(t, r.Metrics, "/healthz"); status != 200 {
		t.Errorf("not alive: %d", status)
	}
	if _, err := c.ListKeys(t.Context(), nil); err == nil {
		t.Error("an answer without a store")
	}
	server.Start(t)
	waitFor(200, `{"status":"ready"}`)
	if out, err := c.ListKeys(t.Context(), nil); err != nil || len(out.Keys) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	_, metrics := get(t, r.Metrics, "/metrics")
	if strings.Contains(metrics, `cretula_kms_store_failures_total{kind="view"} 0`) {
		t.Error("no failure was counted")
	}
	r.end(t)
	for _, part := range []string{`msg="not ready"`, `msg="ready again"`} {
		if strings.Count(r.log.String(), part) != 1 {
			t.Errorf("%s is in the log %d times", part, strings.Count(r.log.String(), part))
		}
	}
}

// TestTLS: the clients' listener and that of the metrics have the certificate, on any
// address, and say for how long.
func TestTLS(t *testing.T) {
	openssl := need.Program(t, "openssl")
	config, admin := configure(t, "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n[metrics]\nlisten = \"0.0.0.0:0\"\ntls = true\n")
	config.Listen = "0.0.0.0:0"
	if out, err := exec.Command(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "10", "-subj", "/CN=kms",
		"-addext", "subjectAltName=IP:127.0.0.1", "-keyout", string(config.TLS.Key), "-out", string(config.TLS.Certificate)).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chmod(string(config.TLS.Key), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(string(config.TLS.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	trusting := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	r := run(t, config, nil)
	at := func(a net.Addr) string {
		_, port, err := net.SplitHostPort(a.String())
		if err != nil {
			t.Fatal(err)
		}
		return "https://127.0.0.1:" + port
	}
	c := awskms.New(awskms.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(at(r.KMS)), HTTPClient: trusting,
		Credentials: credentials.NewStaticCredentialsProvider(admin.AccessKeyID, admin.SecretAccessKey, ""),
	})
	if _, err := c.CreateKey(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := http.Get(at(r.KMS)); err == nil {
		t.Error("a client that does not know the certificate talks to it")
	}
	answer, err := trusting.Get(at(r.Metrics) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	metrics, err := io.ReadAll(answer.Body)
	if err != nil || !strings.Contains(string(metrics), "\ncretula_kms_certificate_remaining_seconds 8") { // 8.6e+05
		t.Errorf("%v\n%s", err, metrics)
	}
	trusting.CloseIdleConnections()
	r.end(t)
}
