// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"runtime/debug"
)

// serverGCPercent lets the heap of a server grow to five times what lives in it
// before the garbage collector runs. What lives is some megabytes, and about 150
// bytes for each row of the store.
const serverGCPercent = 400

// relaxCollector is for commands that serve: with Go's own setting a server whose
// heap is small spends a fifth of its time on the collector. GOGC, if set, counts.
func relaxCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(serverGCPercent)
	}
}
