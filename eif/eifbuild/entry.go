// SPDX-License-Identifier: Apache-2.0

// Package eifbuild makes the ramdisks of enclave images and whole images out of
// them, and reads ramdisks back.
//
// A ramdisk is a cpio archive in the "newc" format of the Linux kernel
// (Documentation/driver-api/early-userspace/buffer-format.rst). An image has two:
// the bootstrap ramdisk with init and NSM driver, which PCR1 measures, and the
// application ramdisk with the program's file tree, which PCR2 measures. In mode
// [NitroCLI] both come out byte for byte as nitro-cli's builder makes them of the
// same input, so that measurements are comparable; in mode [Normalised] they do
// not depend on the order and the times of the tree. Nothing in them depends on
// the clock or on the machine.
package eifbuild

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/cretula/cretula/eif"
)

// A Type is the kind of a file in an archive.
type Type uint8

// The kinds of files.
const (
	File Type = iota
	Dir
	Symlink
	// Hardlink is another name of a file of the same tree.
	Hardlink
	FIFO
	CharDevice
	BlockDevice
)

// typeBits are the S_IF* bits of each kind in an archive, see inode(7).
var typeBits = map[Type]uint32{
	File: 0o100000, Dir: 0o040000, Symlink: 0o120000, FIFO: 0o010000, CharDevice: 0o020000, BlockDevice: 0o060000,
}

// String returns the kind's name in lower case.
func (t Type) String() string {
	names := [...]string{"file", "dir", "symlink", "hardlink", "fifo", "char", "block"}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// Content is what a file holds. It can be opened any number of times, each time
// giving exactly Size bytes. The zero Content is empty.
type Content struct {
	Size int64
	Open func() (io.ReadCloser, error)
}

// Bytes returns a Content of data, which must not change afterwards.
func Bytes(data []byte) Content {
	return Content{
		Size: int64(len(data)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

// FileContent returns a Content that reads a regular file, which must not change
// as long as the Content is used.
func FileContent(name string) (Content, error) {
	info, err := os.Stat(name)
	if err != nil {
		return Content{}, err
	}
	if !info.Mode().IsRegular() {
		return Content{}, fmt.Errorf("eifbuild: %s is no regular file", name)
	}
	return Content{
		Size: info.Size(),
		Open: func() (io.ReadCloser, error) { return os.Open(name) },
	}, nil
}

// StandIn returns a few bytes of text that take the place of a part which an
// image must have, but which is not there, such as "kernel" and "init" in an
// image that is only measured and started by this module and never booted. The
// metadata of such an image should say so.
func StandIn(part string) Content {
	return Bytes(fmt.Appendf(nil, "This is a stand-in for the %s, made by cretula. The image can be measured "+
		"and started by cretula; it does not boot on AWS Nitro Enclaves.\n", part))
}

// source returns a reader that opens the content when it is first read and
// insists on its size.
func (c Content) source() eif.Source {
	return eif.Source{Reader: &contentReader{content: c, left: c.Size}, Size: c.Size}
}

type contentReader struct {
	content Content
	left    int64
	r       io.ReadCloser
	err     error
}

func (c *contentReader) Read(p []byte) (int, error) {
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	if c.r == nil && c.content.Open != nil {
		if c.r, c.err = c.content.Open(); c.err != nil {
			return 0, c.err
		}
	}
	if c.left == 0 {
		c.err = c.finish()
		return 0, c.err
	}
	if c.r == nil {
		c.err = io.ErrUnexpectedEOF
		return 0, c.err
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err == io.EOF && c.left > 0 {
		err = fmt.Errorf("eifbuild: %d bytes short of the %d announced: %w", c.left, c.content.Size, io.ErrUnexpectedEOF)
	}
	if err != nil && err != io.EOF {
		c.r.Close()
		c.err = err
		return n, err
	}
	return n, nil
}

// Close closes what is open.
func (c *contentReader) Close() error {
	if c.r == nil || c.err != nil {
		return nil
	}
	c.err = fs.ErrClosed
	return c.r.Close()
}

// finish makes sure that there is nothing after the announced size.
func (c *contentReader) finish() error {
	if c.r == nil {
		return io.EOF
	}
	defer c.r.Close()
	var one [1]byte
	n, err := io.ReadFull(c.r, one[:])
	if n > 0 {
		return fmt.Errorf("eifbuild: more than the %d bytes announced", c.content.Size)
	}
	return err
}

// An Entry is one file of a tree.
type Entry struct {
	// Name is the path from the root, separated by slashes, without a leading
	// one. A directory's may end in one.
	Name string
	Type Type
	// Mode has the permission bits with set-id and sticky bits, 0 to 07777.
	Mode     uint32
	UID, GID uint32
	// MTime is in whole seconds since 1970.
	MTime int64
	// Content is that of a File.
	Content Content
	// Link is the target of a Symlink, or the Name of what a Hardlink links to.
	Link string
	// Major and Minor are the numbers of a device.
	Major, Minor uint32
}

// validName refuses what could lead out of the tree, or name one file in two
// ways: "" and ".", "..", empty parts, a leading slash, NUL. One trailing slash
// is allowed for directories.
func validName(name string, dir bool) error {
	if dir {
		name = strings.TrimSuffix(name, "/")
	}
	if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) {
		return fmt.Errorf("%.60q is no name of a file", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%.60q is not a plain path below the root", name)
		}
	}
	return nil
}
