// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

// onProcessors leaves it to GOMAXPROCS.
func onProcessors(_ int, start func() error) error { return start() }

// peakMemory does not know.
func peakMemory() (int64, error) { return 0, nil }
