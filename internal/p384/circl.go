// SPDX-License-Identifier: Apache-2.0

//go:build (amd64 || arm64) && !purego

package p384

import (
	"math/big"

	"github.com/cloudflare/circl/ecc/p384"
)

// This is the only file that knows circl. It promises assembly for these two
// processors and the result for every pair of scalars; CombinedMult is for
// public data.
const circlPresent = true

// combinedMult returns the x coordinate of u1·G + u2·(x, y), and whether that is
// the point at infinity, which circl writes as (0, 0).
func combinedMult(x, y *big.Int, u1, u2 []byte) (sum *big.Int, zero bool) {
	sumX, sumY := p384.P384().CombinedMult(x, y, u1, u2)
	return sumX, sumX.Sign() == 0 && sumY.Sign() == 0
}
