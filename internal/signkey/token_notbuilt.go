// SPDX-License-Identifier: Apache-2.0

//go:build !pkcs11 || !cgo

package signkey

import (
	"crypto"
	"errors"
	"io"
)

const built = false

func (k *tokenKey) open([]byte) (crypto.Signer, io.Closer, error) {
	return nil, nil, errors.ErrUnsupported
}
