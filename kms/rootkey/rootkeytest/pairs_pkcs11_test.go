// SPDX-License-Identifier: Apache-2.0

//go:build linux && pkcs11 && cgo

package rootkeytest_test

import (
	"testing"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/pkcs11"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
)

func init() {
	sorts = append(sorts, sort{"HSM", func(t *testing.T) rootkey.Holder {
		hsm := rootkeytest.StartHSM(t)
		hsm.CreateToken(t, "one", "123456")
		h, err := pkcs11.New(pkcs11.Config{Module: hsm.Module, TokenLabel: "one", KeyLabel: "root", PIN: []byte("123456")})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.CreateKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		return h
	}})
}
