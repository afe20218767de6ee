// SPDX-License-Identifier: Apache-2.0

// Package contents looks inside an enclave image: at the kernel's version and at
// the files of each ramdisk, which it also unpacks.
//
// Everything is streamed, and everything in an image is hostile: what does not fit
// the format is refused with a [github.com/cretula/cretula/reason.Error], names never lead out of a folder,
// and memory has a bound. Nothing here looks at the checksum; a caller that shows
// contents calls [eif.Image.Measure] before.
package contents

import (
	"context"
	"fmt"
	"io"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
)

// index returns the index of the one section of a type that every image has.
func index(im *eif.Image, t eif.SectionType) int {
	for i, s := range im.Sections {
		if s.Type == t {
			return i
		}
	}
	panic("contents: an image without a " + t.String()) // Parse refuses it
}

// Ramdisk returns a reader of the section of a ramdisk; 1 is the first, the
// bootstrap ramdisk. A number that the image does not have is an error.
func Ramdisk(im *eif.Image, number int) (*io.SectionReader, error) {
	all := im.Ramdisks()
	if number < 1 || number > len(all) {
		return nil, fmt.Errorf("there is no ramdisk %d: the image has %d", number, len(all))
	}
	return im.Section(all[number-1]), nil
}

// A Visitor gets an entry of a ramdisk. Its content, and more about it, can be read
// from r until the Visitor returns.
type Visitor func(e *eifbuild.Entry, r *eifbuild.Reader) error

// Walk calls visit with each entry of a ramdisk, in order. Entries are what the
// archive has: a name may come more than once, and what the file is after all is
// unpacked, the last one decides. Errors of reading begin with the number of the
// ramdisk; those of visit are returned as they are.
func Walk(ctx context.Context, im *eif.Image, number int, visit Visitor) error {
	section, err := Ramdisk(im, number)
	if err != nil {
		return err
	}
	return walk(ctx, section, number, visit)
}

func walk(ctx context.Context, section io.Reader, number int, visit Visitor) error {
	r := eifbuild.NewReader(&contextReader{ctx, section})
	for {
		e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("ramdisk %d: %w", number, err)
		}
		if err := visit(e, r); err != nil {
			return err
		}
	}
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
