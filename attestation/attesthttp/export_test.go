// SPDX-License-Identifier: Apache-2.0

package attesthttp

import (
	"crypto/sha256"

	"github.com/cretula/cretula/internal/httpsig"
)

func KeyIDForTest(spki []byte) string         { return keyID(sha256.Sum256(spki)) }
func ContentDigestForTest(body []byte) string { return httpsig.ContentDigest(body) }
