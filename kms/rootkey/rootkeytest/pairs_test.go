// SPDX-License-Identifier: Apache-2.0

//go:build linux

package rootkeytest_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/awskms"
	"github.com/cretula/cretula/kms/rootkey/passphrase"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
	"github.com/cretula/cretula/kms/rootkey/systemd"
	"github.com/cretula/cretula/kms/rootkey/tpm"
)

// A sort makes holders of one sort.
type sort struct {
	name string
	new  func(t *testing.T) rootkey.Holder
}

// sorts are all but those that only some builds have.
var sorts = []sort{
	{"passphrase", func(t *testing.T) rootkey.Holder { return newPassphrase(t, "correct horse battery") }},
	{"credential", newCredential},
	{"TPM", func(t *testing.T) rootkey.Holder { return newTPM(t) }},
	{"KMS", newKMS},
	{"TPM with registers", func(t *testing.T) rootkey.Holder { return newTPM(t, 0, 7, 11) }},
}

func newPassphrase(t *testing.T, text string) rootkey.Holder {
	t.Helper()
	h, err := passphrase.New([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func newCredential(t *testing.T) rootkey.Holder {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "credentials")
	err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "root-key"), []byte("00112233445566778899aabbccddeeff\n"), 0o400))
	if err != nil {
		t.Fatal(err)
	}
	h, err := systemd.Credential(dir, "root-key")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newTPM(t *testing.T, pcrs ...int) rootkey.Holder {
	t.Helper()
	h, err := tpm.New(tpm.Config{Device: rootkeytest.StartTPM(t).Socket, PCRs: pcrs})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newKMS(t *testing.T) rootkey.Holder {
	t.Helper()
	k := rootkeytest.StartKMS(t)
	h, err := awskms.New(k.Config, k.CreateKey(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestPairs goes from every holder to every other, in one file with one root
// key that is in use all the time.
func TestPairs(t *testing.T) {
	var holders []rootkey.Holder
	for _, s := range sorts {
		t.Logf("%d: %s", len(holders), s.name)
		holders = append(holders, s.new(t))
	}
	path := filepath.Join(t.TempDir(), "keys", "root.key")
	k, err := rootkey.CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := k.Wrap([]byte("material"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := rootkey.Hold(t.Context(), path, holders[0]); err != nil {
		t.Fatal(err)
	}
	now, pairs := 0, 0
	to := func(next int) {
		t.Helper()
		rootkeytest.Rewrap(t, path, k, holders[now], holders[next])
		now = next
		pairs++
	}
	for i := range holders {
		for j := i + 1; j < len(holders); j++ {
			if now != i {
				to(i)
			}
			to(j)
			to(i)
		}
	}
	if n := len(holders); pairs < n*(n-1) {
		t.Errorf("%d of %d pairs", pairs, n*(n-1))
	}
	again, err := rootkey.OpenHeld(t.Context(), path, holders[now])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Unwrap(wrapped, nil); err != nil || string(got) != "material" {
		t.Errorf("at the end: %q, %v", got, err)
	}
}
