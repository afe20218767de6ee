// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsserver_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/kms/ledger"
)

// peerVariable makes the test binary one server of a cluster. It has a
// peerConfig.
const peerVariable = "CRETULA_TEST_CLUSTER_PEER"

func TestMain(m *testing.M) {
	if text := os.Getenv(peerVariable); text != "" {
		if err := runPeer(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(pgtest.Main(m))
}

// A peerConfig says what a server of a cluster works with.
type peerConfig struct {
	Dir     string
	Store   string // connection string
	RootKey rootkeys.Spec
	Root    []byte // certificate of the emulators' root
	Ahead   time.Duration
}

// runPeer serves until standard input ends, and says at which address.
func runPeer(text string) error {
	var c peerConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	server, files, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer files.Close()
	defer server.Close()
	handler, err := kmsserver.New(kmsserver.Config{KMS: server, Now: c.now})
	if err != nil {
		return err
	}
	listener, err := kmsserver.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	var due sync.WaitGroup
	defer due.Wait()
	defer cancel()
	due.Go(func() { server.Run(ctx, func(error) {}) })
	return kmsserver.Serve(ctx, listener, handler, nil)
}

func (c *peerConfig) now() time.Time { return time.Now().Add(c.Ahead) }

// open opens the key service, which is made if the database is empty.
func (c *peerConfig) open(ctx context.Context) (*kms.Server, *datadir.Dir, error) {
	root, err := x509.ParseCertificate(c.Root)
	if err != nil {
		return nil, nil, err
	}
	files, err := datadir.Config{Dir: c.Dir, Store: c.Store, RootKey: c.RootKey}.Create(ctx, ledger.Meta{Emulated: true, Account: account})
	if err != nil {
		return nil, nil, err
	}
	config := files.Config()
	config.Roots, config.Now = []*x509.Certificate{root}, c.now
	server, err := kms.New(config)
	if err != nil {
		files.Close()
		return nil, nil, err
	}
	return server, files, nil
}
