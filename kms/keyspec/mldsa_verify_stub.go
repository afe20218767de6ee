// SPDX-License-Identifier: Apache-2.0

package keyspec

import "filippo.io/mldsa"

func verifyMLDSA(key *mldsa.PublicKey, m message, signature []byte) bool {
	return mldsa.Verify(key, m.data, signature, nil) == nil
}
