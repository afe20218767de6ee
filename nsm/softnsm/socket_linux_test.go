// SPDX-License-Identifier: Apache-2.0

package softnsm_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/nsmtest"
	"github.com/cretula/cretula/nsm/softnsm"
)

// serveSocket offers a module on a socket of its own until the test ends, and
// returns the socket's path.
func serveSocket(t testing.TB, m *softnsm.Module) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := nsm.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx, m) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return path
}

func dial(t testing.TB, path string) nsm.Device {
	t.Helper()
	device, err := nsm.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	return device
}

// pairDevice is a module at the far end of an inherited descriptor.
func pairDevice(t testing.TB, m *softnsm.Module) nsm.Device {
	t.Helper()
	file, conn, err := nsm.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	device, err := nsm.FromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- nsm.ServeConn(ctx, conn, m) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("ServeConn: %v", err)
		}
	})
	return device
}

func TestConformanceOverSocket(t *testing.T) {
	authority := newAuthority(t)
	config := softnsm.Config{Authority: authority, PCRs: bootValues(t)}
	options := nsmtest.Options{Verifier: newVerifier(t, authority), PCRs: config.PCRs}
	t.Run("socket", func(t *testing.T) {
		nsmtest.TestDevice(t, func(t *testing.T) nsm.Device {
			return dial(t, serveSocket(t, newModule(t, config)))
		}, options)
	})
	t.Run("pair", func(t *testing.T) {
		nsmtest.TestDevice(t, func(t *testing.T) nsm.Device {
			return pairDevice(t, newModule(t, config))
		}, options)
	})
	t.Run("without verifier", func(t *testing.T) {
		nsmtest.TestDevice(t, func(t *testing.T) nsm.Device {
			return pairDevice(t, newModule(t, config))
		}, nsmtest.Options{})
	})
}

// TestClientsShareTheModule: a register that one client locks is locked for all,
// and stays so when that client has gone.
func TestClientsShareTheModule(t *testing.T) {
	path := serveSocket(t, newModule(t, softnsm.Config{Authority: newAuthority(t)}))
	first := dial(t, path)
	if err := (nsm.Client{Device: first}).LockPCR(t.Context(), 16); err != nil {
		t.Fatal(err)
	}
	first.Close()
	second := dial(t, path)
	defer second.Close()
	if state, err := (nsm.Client{Device: second}).DescribePCR(t.Context(), 16); err != nil || !state.Locked {
		t.Errorf("got %+v, %v", state, err)
	}
}

// TestModuleClosedUnderClients: they are told, and stay connected.
func TestModuleClosedUnderClients(t *testing.T) {
	m := newModule(t, softnsm.Config{Authority: newAuthority(t)})
	device := dial(t, serveSocket(t, m))
	defer device.Close()
	m.Close()
	for range 2 {
		raw, err := device.Send(t.Context(), nsm.Request{Command: nsm.GetRandom}.Encode())
		if err != nil || string(raw) != string(nsm.Response{Error: nsm.InternalError}.Encode()) {
			t.Errorf("got %q, %v", raw, err)
		}
	}
}

// TestManyAttesters: documents for many clients at a time.
func TestManyAttesters(t *testing.T) {
	authority := newAuthority(t)
	path := serveSocket(t, newModule(t, softnsm.Config{Authority: authority}))
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			device := dial(t, path)
			defer device.Close()
			for j := range 5 {
				if _, err := (nsm.Client{Device: device}).Attest(context.Background(), nsm.AttestationRequest{Nonce: []byte{byte(i), byte(j)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
}

func BenchmarkGetRandom(b *testing.B) {
	client := nsm.Client{Device: dial(b, serveSocket(b, newModule(b, softnsm.Config{Authority: newAuthority(b)})))}
	defer client.Device.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Random(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAttestation(b *testing.B) {
	client := nsm.Client{Device: dial(b, serveSocket(b, newModule(b, softnsm.Config{Authority: newAuthority(b)})))}
	defer client.Device.Close()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.Attest(b.Context(), nsm.AttestationRequest{PublicKey: spki}); err != nil {
			b.Fatal(err)
		}
	}
}
