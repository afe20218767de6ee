// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/reason"
)

// maxAuthorityFile is more than a root's certificate and key need.
const maxAuthorityFile = 1 << 16

// LoadAuthority reads the root of an emulator from a private file, or makes a
// new one there.
func LoadAuthority(name string, options issuer.Options) (*issuer.Authority, error) {
	file, err := durable.OpenPrivate(name, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return makeAuthority(name, options)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxAuthorityFile))
	if err != nil {
		return nil, err
	}
	a, err := issuer.Load(data, options)
	if err != nil {
		return nil, reason.New(reason.Malformed, "issuer.root", "%s: %w", name, err)
	}
	return a, nil
}

func makeAuthority(name string, options issuer.Options) (*issuer.Authority, error) {
	a, err := issuer.New(options)
	if err != nil {
		return nil, err
	}
	data, err := a.MarshalPEM()
	if err != nil {
		return nil, err
	}
	if err := durable.CreateFile(name, data); err != nil {
		return nil, err
	}
	return a, nil
}

// RootPEM returns the certificate of an authority's root, which verifiers of its
// documents must be given.
func RootPEM(a *issuer.Authority) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root().Raw})
}
