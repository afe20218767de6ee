// SPDX-License-Identifier: Apache-2.0

package signkey

import (
	"context"
	"crypto"
	"io"

	"github.com/cretula/cretula/reason"
)

func openKMS(context.Context, *Spec) (crypto.Signer, io.Closer, error) {
	return nil, nil, refuse(reason.Unsupported, "eif.key.kms", "", "KMS keys cannot be used")
}
