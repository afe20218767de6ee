// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

import (
	"runtime"

	"github.com/cretula/cretula/reason"
)

// processCPU is refused: a process's time is counted too coarsely here.
func processCPU() (int64, error) {
	return 0, reason.New(reason.Unsupported, "bench.system", "the key service can be measured on unix systems only, this is %s", runtime.GOOS)
}
