// SPDX-License-Identifier: Apache-2.0

//go:build !(amd64 || arm64) || purego

package p384

import "math/big"

const circlPresent = false

// combinedMult is never called where circlPresent is false.
func combinedMult(*big.Int, *big.Int, []byte, []byte) (*big.Int, bool) { return new(big.Int), true }
