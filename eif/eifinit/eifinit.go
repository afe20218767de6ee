// SPDX-License-Identifier: Apache-2.0

// Package eifinit has the init of normalised enclave images as a binary for
// Linux: small, static, and built once. It is part of the bootstrap ramdisk, so
// PCR1 measures it; because everyone has the same bytes, PCR1 does not depend on
// who builds an image with what.
//
// The source is the command in the folder init. The bytes are reproducible: with
// the Go release [Toolchain],
//
//	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 GOAMD64=v1 go build -trimpath -buildvcs=false -ldflags "-s -w -buildid=" ./eif/eifinit/init
//
// in a checkout makes what init-x86_64.gz holds (GOARCH=arm64 GOARM64=v8.0 for
// aarch64). A test of this package does just that and compares; "go generate"
// writes the files anew.
package eifinit

import (
	"bytes"
	"compress/gzip"
	_ "embed" // for the binaries
	"io"
	"sync"

	"github.com/cretula/cretula/eif"
)

//go:generate go test -run ^TestBinaries$ -count 1 -write

// Toolchain is the release of Go that the binaries are built with.
const Toolchain = "go1.26.8"

var (
	//go:embed init-x86_64.gz
	x86Compressed []byte
	//go:embed init-aarch64.gz
	armCompressed []byte

	x86Binary = sync.OnceValue(func() []byte { return decompress(x86Compressed) })
	armBinary = sync.OnceValue(func() []byte { return decompress(armCompressed) })
)

// Binary returns the init for an architecture, an ELF file of about 1.5 MB. It
// must not be changed.
func Binary(arch eif.Arch) []byte {
	if arch == eif.ArchAArch64 {
		return armBinary()
	}
	return x86Binary()
}

// decompress cannot fail: the input is part of the program.
func decompress(compressed []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		panic(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		panic(err)
	}
	return data
}
