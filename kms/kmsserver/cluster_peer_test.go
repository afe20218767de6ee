// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kmsserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/kmsconfig"
	"github.com/cretula/cretula/internal/kmsserve"
	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms"
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
	File  string // its configuration
	Ahead time.Duration
}

// runPeer is "cretula kms serve", until standard input ends, whose lines say how far
// the clock is ahead from then on. It says at which address it serves.
func runPeer(text string) error {
	var c peerConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var ahead atomic.Int64
	go func() {
		defer cancel()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			d, err := time.ParseDuration(lines.Text())
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			ahead.Store(int64(d))
		}
	}()
	config, err := kmsconfig.Load(c.File)
	if err != nil {
		return err
	}
	return kmsserve.Run(ctx, config, kmsserve.Options{
		Log: os.Stderr, Getenv: func(string) string { return "" }, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		Ready: func(a kmsserve.Addresses) { fmt.Println(a.KMS) },
	})
}

func (c *peerConfig) now() time.Time { return time.Now().Add(c.Ahead) }

// open opens the key service in this process. It is made if the database is empty.
func (c *peerConfig) open(ctx context.Context) (*kms.Server, *datadir.Dir, error) {
	config, err := kmsconfig.Load(c.File)
	if err != nil {
		return nil, nil, err
	}
	roots, err := kmsserve.Roots(config)
	if err != nil {
		return nil, nil, err
	}
	places := config.Parts(nil)
	places.Postgres.Now = c.now
	files, err := places.Create(ctx, config.Meta())
	if err != nil {
		return nil, nil, err
	}
	parts := files.Config()
	parts.Roots, parts.Now = roots, c.now
	server, err := kms.New(parts)
	if err != nil {
		files.Close()
		return nil, nil, err
	}
	return server, files, nil
}
