// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
)

func newEIFCommand(env *cli.Env) *cobra.Command {
	return newNounCommand("eif", "Build enclave image files, look into them and sign them",
		newEIFBuildCommand(env),
		newEIFDescribeCommand(env),
		newEIFMeasureCommand(env),
		newEIFReferenceCommand(env),
		newEIFVerifyCommand(env),
		newEIFSignCommand(env),
		newEIFSigningPayloadCommand(env),
		newEIFAttachSignatureCommand(env),
		newEIFStripCommand(env),
		newEIFRepairCommand(env),
		newEIFCertificateCommand(env),
		newEIFListCommand(env),
		newEIFCatCommand(env),
		newEIFExtractCommand(env),
		newEIFDiffCommand(env),
	)
}

// openRegular opens a file that is read at several places: standard input and
// what is no regular file are refused.
func openRegular(name string) (*os.File, int64, error) {
	if name == "-" {
		return nil, 0, cli.WithHint(cli.Usagef("an image cannot be read from standard input"), "write it to a file first")
	}
	// A named pipe would make Open wait for a writer, so its kind is asked first.
	info, err := os.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, cli.WithHint(fmt.Errorf("%s is no regular file", cli.Printable(name)),
			"an image is read at several places; write it to a file first")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	// What was opened counts, should another file have taken the name meanwhile.
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", cli.Printable(name))
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// openImage opens an image file and parses its structure. The caller closes the
// file when it is done with the image.
func openImage(name string) (*eif.Image, *os.File, error) {
	f, size, err := openRegular(name)
	if err != nil {
		return nil, nil, err
	}
	im, err := eif.Parse(f, size)
	if err != nil {
		f.Close()
		return nil, nil, inFile(name, err)
	}
	return im, f, nil
}

// inFile says in which file an error is.
func inFile(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", cli.Printable(name), err)
}
