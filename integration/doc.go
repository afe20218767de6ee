// SPDX-License-Identifier: Apache-2.0

// Package integration has no code, only tests: programs and libraries that others
// wrote for AWS KMS, unmodified, against a `cretula up` of this checkout. It is a
// module of its own so that what those libraries require is no requirement of
// Cretula.
package integration
