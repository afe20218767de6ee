// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/contents"
	"github.com/cretula/cretula/internal/cli"
)

func newEIFCatCommand(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "cat FILE PATH",
		Short: "Print a section of an image or a file of a ramdisk",
		Long: `Print one part of an image, byte for byte:

  kernel, cmdline, metadata, signature   a section
  certificate                            the signature's certificate file
  ramdisk-1                              a ramdisk as it is; 1 is the first
  1:init, 2:rootfs/etc/hosts             a file of a ramdisk, named as
                                         "cretula eif ls" prints it

A file of a ramdisk is what the kernel would make of it: of several entries of one
name the last counts, and hard links share their content. Symbolic links are not
followed.

The file must be well-formed and its checksum right, or nothing is printed. A
signature need not be good; if it is not, a line on standard error says so.`,
		Example: "  $ cretula eif cat app.eif cmdline\n  $ cretula eif cat app.eif 2:cmd",
		Args:    exactArguments("FILE", "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return catEIF(cmd.Context(), env, args[0], args[1])
		},
	}
}

func catEIF(ctx context.Context, env *cli.Env, name, path string) error {
	im, f, _, err := openMeasured(ctx, env, name)
	if err != nil {
		return err
	}
	defer f.Close()
	if !cli.IsTerminal(env.Stdout) {
		return inFile(name, catPart(ctx, im, path, env.Stdout))
	}
	var text bounded
	if err := catPart(ctx, im, path, &text); err != nil && !errors.Is(err, errTooMuch) {
		return inFile(name, err)
	} else if err != nil || !isPlainText(text.buf.String()) {
		return env.WriteBinary(nil) // which a terminal refuses
	}
	_, err = env.Stdout.Write(text.buf.Bytes())
	return err
}

// A bounded holds what a terminal may get, if it is text.
type bounded struct{ buf bytes.Buffer }

const maxTerminal = 1 << 20

var errTooMuch = errors.New("too much for a terminal")

func (t *bounded) Write(p []byte) (int, error) {
	if t.buf.Len()+len(p) > maxTerminal {
		return 0, errTooMuch
	}
	return t.buf.Write(p)
}

// isPlainText: nothing that a terminal would obey but line ends and tabs.
func isPlainText(s string) bool {
	s = strings.NewReplacer("\n", "", "\t", "").Replace(s)
	return cli.Printable(s) == s
}

// catPart writes what path names. Nothing is written if it names nothing.
func catPart(ctx context.Context, im *eif.Image, path string, w io.Writer) error {
	if number, file, ok := strings.Cut(path, ":"); ok {
		n, err := strconv.Atoi(number)
		if err != nil {
			return badPart(path)
		}
		err = contents.Copy(ctx, im, n, strings.TrimSuffix(file, "/"), w)
		if errors.Is(err, fs.ErrNotExist) {
			return cli.WithHint(err, "see what there is with 'cretula eif ls'")
		}
		return err
	}
	if path == "certificate" {
		if s := im.Signature(); s != nil {
			_, err := w.Write(s.CertificateFile)
			return err
		}
		return errors.New("the image is not signed")
	}
	section, err := findSection(im, path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, section)
	return err
}

func findSection(im *eif.Image, path string) (io.Reader, error) {
	if number, ok := strings.CutPrefix(path, "ramdisk-"); ok {
		n, err := strconv.Atoi(number)
		if err != nil {
			return nil, badPart(path)
		}
		return contents.Ramdisk(im, n)
	}
	known := map[string]eif.SectionType{"kernel": eif.Kernel, "cmdline": eif.Cmdline, "metadata": eif.MetadataSection, "signature": eif.SignatureSection}
	for i, s := range im.Sections {
		if known[path] == s.Type {
			return im.Section(i), nil
		}
	}
	if known[path] == 0 {
		return nil, badPart(path)
	}
	return nil, errors.New("the image has no " + path)
}

func badPart(path string) error {
	return cli.WithHint(cli.Usagef("%q names no part of an image", path),
		"parts are kernel, cmdline, metadata, signature, certificate, ramdisk-1 and files such as 1:init")
}
