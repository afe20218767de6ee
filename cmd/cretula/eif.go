// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
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

// An imageFile is an image's file. While all of it is read, people at a terminal see
// how far that is.
type imageFile struct {
	*os.File
	env  *cli.Env
	name string
	size int64
	line *progressLine // nil: nothing is shown
}

// ReadAt implements [io.ReaderAt].
func (f *imageFile) ReadAt(p []byte, off int64) (int, error) {
	if f.line != nil {
		f.line.show("reading "+cli.Printable(filepath.Base(f.name)), off, f.size)
	}
	return f.File.ReadAt(p, off)
}

// throughout does what reads the whole file. Its errors are told to be of this file.
func (f *imageFile) throughout(read func() error) error {
	f.line = newProgressLine(f.env)
	err := read()
	f.line.clear()
	f.line = nil
	return inFile(f.name, err)
}

// measure is [eif.Image.Measure] of the image in the file.
func (f *imageFile) measure(ctx context.Context, im *eif.Image) (m pcr.Measurements, err error) {
	err = f.throughout(func() error {
		m, err = im.Measure(ctx)
		return err
	})
	return m, err
}

// openRegular opens a file that is read at several places: standard input and
// what is no regular file are refused.
func openRegular(env *cli.Env, name string) (*imageFile, error) {
	if name == "-" {
		return nil, cli.WithHint(cli.Usagef("an image cannot be read from standard input"), "write it to a file first")
	}
	// A named pipe would make Open wait for a writer, so its kind is asked first.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, cli.WithHint(fmt.Errorf("%s is no regular file", cli.Printable(name)),
			"an image is read at several places; write it to a file first")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	// What was opened counts, should another file have taken the name meanwhile.
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", cli.Printable(name))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &imageFile{File: f, env: env, name: name, size: info.Size()}, nil
}

// openImage opens an image file and parses its structure. The caller closes the
// file when it is done with the image.
func openImage(env *cli.Env, name string) (*eif.Image, *imageFile, error) {
	f, err := openRegular(env, name)
	if err != nil {
		return nil, nil, err
	}
	im, err := eif.Parse(f, f.size)
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
