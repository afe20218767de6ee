// SPDX-License-Identifier: Apache-2.0

// Package rootfs takes the file tree of a program out of a folder, a tarball of
// a root file system, an OCI image layout, a "docker save" archive or a registry,
// without a container runtime, on any operating system.
//
// Nothing is unpacked into folders: layers are checked against their digests and
// kept, uncompressed, as they are; archives that lie uncompressed on disk are
// read in place. The tree is put together in memory by the rules of the OCI
// image specification (layer.md), and contents are read by their offset when
// they are asked for. So names, links and modes mean the same on every machine,
// and no name can lead out of the tree. docs/formats/eif.md, "File trees", says
// what each kind of entry becomes.
//
// Input that breaks a rule is refused with a [reason.Error] whose rule id begins
// with "rootfs.".
package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
)

// Limits of what is read, whatever it claims to hold.
const (
	// DefaultMaxUnpacked is the limit on unpacked bytes unless
	// [Options.MaxUnpacked] says otherwise: 32 GiB.
	DefaultMaxUnpacked = 32 << 30
	// DefaultMaxEntries is the limit on entries unless [Options.MaxEntries] says
	// otherwise: 1,048,576.
	DefaultMaxEntries = 1 << 20
)

// A Config is the part of an image's configuration that says how to start it.
type Config struct {
	// Entrypoint, Cmd and Env are nil where the image has none.
	Entrypoint, Cmd, Env []string
	WorkingDir, User     string
}

// A Root is a file tree and what is known about it.
type Root struct {
	// Entries is the tree: in the order of a lexical walk for folders and
	// layered images, in that of the archive for tarballs. Names of directories
	// end in "/"; every entry's directory comes before it. The Link of a
	// Hardlink is the name of an earlier entry, which is of any kind but Dir and
	// Hardlink. Contents can be read until Close.
	Entries []eifbuild.Entry
	// Config is zero for folders and tarballs.
	Config Config
	// Arch is what the image says, if HasArch; folders, tarballs and a few
	// images do not say.
	Arch    eif.Arch
	HasArch bool
	// ID is the id of the image: the SHA-256 of its configuration in hex; "" for
	// folders and tarballs.
	ID string
	// Inspect is what "docker inspect" would say of the image, as far as the
	// image itself tells; the same bytes for the same image and name. It is nil
	// for folders and tarballs.
	Inspect json.RawMessage
	// Lost says, by path, what a ramdisk cannot hold and was left out: extended
	// attributes, file capabilities, sockets. Behind [MaxLost] lines one more
	// says how many there are.
	Lost []string

	closers []func() error
}

// MaxLost is how many lines of [Root.Lost] name a path.
const MaxLost = 1000

// Close gives back what the contents are read from and removes the temporary
// files.
func (r *Root) Close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// Options say how to open a source. The zero value opens images for x86_64 with
// the user's own registry credentials.
type Options struct {
	// Arch chooses among the images of an index; an image that is for another
	// architecture is refused.
	Arch eif.Arch
	// TempDir is the folder for temporary files, [os.TempDir] if it is empty.
	// Compressed layers and layers from a registry need as much room there as
	// they have bytes unpacked.
	TempDir string
	// Progress, if set, is called as archives and layers are read, with the
	// bytes read and the bytes there are to read, as they are stored. Folders
	// are read later, with the contents.
	Progress func(read, total int64)
	// MaxUnpacked limits the bytes of all layers together that are written to
	// temporary files, unpacked; 0 means [DefaultMaxUnpacked].
	MaxUnpacked int64
	// MaxEntries limits the entries of all layers together and the files of a
	// folder; 0 means [DefaultMaxEntries].
	MaxEntries int

	// Keychain has the credentials for registries; nil means those in the files
	// of docker and podman, and their credential helpers.
	Keychain authn.Keychain
	// Transport makes the connections to registries; nil means one with the
	// system's roots and the proxies of the environment.
	Transport http.RoundTripper
	// PlainHTTP allows unencrypted connections to registries on other machines.
	// Those on this one (localhost and loopback addresses) may always be plain.
	PlainHTTP bool
}

// Open reads the file tree of source, which is a path or one of
//
//	dir:PATH                    a folder
//	tar:PATH                    a tarball of a root file system
//	oci:PATH[:TAG|@DIGEST]      an OCI image layout, a folder or a tarball
//	docker-archive:PATH[:NAME]  what "docker save" writes
//	registry:REF                an image in a registry; docker://REF, too
//
// What a path without a prefix is, is told by what is inside. Tarballs may be
// compressed with gzip or zstd. On Windows, files of folders have mode 0755 and
// the owner 0:0, for want of others.
func Open(ctx context.Context, source string, o Options) (*Root, error) {
	p := newOpening(ctx, o)
	root, err := p.open(source)
	if err != nil {
		return nil, errors.Join(err, (&Root{closers: p.closers}).Close())
	}
	root.closers = p.closers
	return root, nil
}
