// SPDX-License-Identifier: Apache-2.0

package signkey

import (
	"context"
	"crypto"
	"io"

	"github.com/cretula/cretula/reason"
)

func openToken(context.Context, *Spec) (crypto.Signer, io.Closer, error) {
	return nil, nil, refuse(reason.Unsupported, "eif.key.pkcs11", "", "PKCS#11 tokens cannot be used")
}
