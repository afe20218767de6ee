// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Files of an OCI image layout, image-layout.md.
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
)

// Annotations of an index that name an image: the specification's, and
// containerd's, which "docker save" writes, too.
const (
	refName   = "org.opencontainers.image.ref.name"
	imageName = "io.containerd.image.name"
)

// imageLayout is an OCI image layout.
type imageLayout struct {
	files files
}

// openLayout opens an image of a layout: that with the tag or digest behind the
// path, or the only one.
func (p *opening) openLayout(f files, selector string) (*Root, error) {
	l := imageLayout{f}
	var version struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := l.read(layoutFile, &version); err != nil {
		return nil, err
	}
	if version.Version != "1.0.0" {
		return nil, unsupported("layout", "the image layout has version %.20q; 1.0.0 is supported", version.Version)
	}
	var index struct {
		Manifests []v1.Descriptor `json:"manifests"`
	}
	if err := l.read(indexFile, &index); err != nil {
		return nil, err
	}
	list, err := selectImages(index.Manifests, selector)
	if err != nil {
		return nil, err
	}
	d, err := p.choose(list)
	if err != nil {
		return nil, err
	}
	var from origin
	if name := d.Annotations[imageName]; name != "" {
		from.tags = []string{familiar(name)}
	}
	return p.openImage(l, d, from)
}

// selectImages returns the images of an index that have the tag or digest.
// Without either, more than one image for the same platform are refused.
func selectImages(list []v1.Descriptor, selector string) ([]v1.Descriptor, error) {
	var found []v1.Descriptor
	var names []string
	seen := map[string]bool{}
	ambiguous := false
	for _, d := range list {
		name := d.Annotations[refName]
		if name == "" {
			name = d.Annotations[imageName]
		}
		names = append(names, name+"@"+d.Digest.String())
		switch {
		case selector == "" && !mayBeImage(d):
			continue
		case selector == "":
			key := "?"
			if d.Platform != nil {
				key = d.Platform.String()
			}
			ambiguous = ambiguous || seen[key]
			seen[key] = true
		case selector != "@"+d.Digest.String() && selector != ":"+d.Annotations[refName] && selector != ":"+d.Annotations[imageName]:
			continue
		}
		found = append(found, d)
	}
	if len(found) == 0 {
		return nil, mismatch("image", "the layout has no image %.100q; it has %s", selector, listed(names))
	}
	if ambiguous && !sameDigest(found) {
		return nil, mismatch("image", "the layout has several images; name one, as in oci:PATH:TAG or oci:PATH@DIGEST: %s", listed(names))
	}
	return found, nil
}

func sameDigest(list []v1.Descriptor) bool {
	return !slices.ContainsFunc(list, func(d v1.Descriptor) bool { return d.Digest != list[0].Digest })
}

func (l imageLayout) read(name string, v any) error {
	a, err := l.files.open(name)
	if err != nil {
		return malformed("layout", "this is no OCI image layout: %w", err)
	}
	data, err := readAll(io.NewSectionReader(a.r, 0, a.size), maxManifest, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return malformed("layout", "%s is not sound JSON: %w", name, err)
	}
	return nil
}

// open returns the file of a digest.
func (l imageLayout) open(d v1.Descriptor) (archive, error) {
	if err := sha256Only(d.Digest); err != nil {
		return archive{}, err
	}
	a, err := l.files.open("blobs/sha256/" + d.Digest.Hex)
	if errors.Is(err, fs.ErrNotExist) {
		return archive{}, malformed("layout", "the layout lacks %v, which its manifest names", d.Digest)
	}
	if err == nil && a.size != d.Size {
		return archive{}, mismatch("layer.size", "%v has %d bytes, its manifest says %d", d.Digest, a.size, d.Size)
	}
	return a, err
}

func (l imageLayout) manifest(d v1.Descriptor) ([]byte, error) {
	a, err := l.open(d)
	if err != nil {
		return nil, err
	}
	return readAll(io.NewSectionReader(a.r, 0, a.size), maxManifest, "a manifest")
}

func (l imageLayout) blob(d v1.Descriptor) (layer, error) {
	a, err := l.open(d)
	return layer{size: d.Size, digest: d.Digest.Hex, at: a.r}, err
}

// familiar is an image's name as docker prints it.
func familiar(name string) string {
	for _, prefix := range []string{"index.docker.io/", "docker.io/"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			return strings.TrimPrefix(rest, "library/")
		}
	}
	return name
}
