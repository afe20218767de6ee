// SPDX-License-Identifier: Apache-2.0

// Package pgtest starts PostgreSQL servers for tests, from the programs of the
// machine. It works on Linux.
package pgtest
