// SPDX-License-Identifier: Apache-2.0

package keyspec

import (
	"fmt"
	"io"
)

// rawKeys are keys of so many random bytes: SYMMETRIC_DEFAULT and, with keys as
// long as the output of the hash, HMAC.
type rawKeys int

func (size rawKeys) generate(random io.Reader) ([]byte, error) {
	secret := make([]byte, size)
	if _, err := io.ReadFull(random, secret); err != nil {
		return nil, err
	}
	return secret, nil
}

func (size rawKeys) check(secret []byte) error {
	if len(secret) != int(size) {
		return fmt.Errorf("%d bytes, want %d", len(secret), int(size))
	}
	return nil
}
