// SPDX-License-Identifier: Apache-2.0

//go:build linux && pkcs11 && cgo

package rootkeys_test

import (
	"path/filepath"
	"testing"

	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
	"github.com/cretula/cretula/reason"
)

func TestHSM(t *testing.T) {
	ctx := t.Context()
	hsm := rootkeytest.StartHSM(t)
	hsm.CreateToken(t, "cretula", "123456")
	from := passphraseSpec(t)
	made, err := rootkeys.Create(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Dir(from.File)
	to := rootkeys.Spec{
		Kind: rootkeys.KindPKCS11, Module: hsm.Module, Token: "cretula", Label: "root",
		PINFile: write(t, filepath.Join(folder, "pin"), "123456\n", 0o600),
	}
	if err := rootkeys.Rewrap(ctx, from, to); err != nil {
		t.Fatal(err)
	}
	to.File = from.File
	mustBe(t, to, made)
	unchanged(t, to.File, func() {
		for text, change := range map[string]func(*rootkeys.Spec){
			"no such token":           func(s *rootkeys.Spec) { s.Token = "other" },
			"no such key":             func(s *rootkeys.Spec) { s.Label = "other" },
			"wrong PIN":               func(s *rootkeys.Spec) { s.PINFile = write(t, filepath.Join(folder, "wrong"), "654321", 0o600) },
			"library of the HSM":      func(s *rootkeys.Spec) { s.Module = "/nowhere/libhsm.so" },
			"lets group or others in": func(s *rootkeys.Spec) { s.PINFile = write(t, filepath.Join(folder, "open"), "123456", 0o640) },
		} {
			changed := to
			change(&changed)
			_, err := rootkeys.Open(ctx, changed)
			refused(t, text, err, reason.Unsupported, text)
		}
		hsm.DeleteToken(t, "cretula")
		_, err := rootkeys.Open(ctx, to)
		refused(t, "the token is gone", err, reason.Unsupported, "no such token")
	})

	// Create makes the key in the token, and uses it when it is there.
	hsm.CreateToken(t, "new", "123456")
	to.Token, to.File = "new", filepath.Join(folder, "new.key")
	if made, err = rootkeys.Create(ctx, to); err != nil {
		t.Fatal(err)
	}
	mustBe(t, to, made)
	to.File = filepath.Join(folder, "second.key")
	if made, err = rootkeys.Create(ctx, to); err != nil {
		t.Fatal(err)
	}
	mustBe(t, to, made)
}
