// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// dockerManifest is the file in which "docker save" lists images.
const dockerManifest = "manifest.json"

// savedImage is an image in that list. Config and Layers are names of files.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// readSaved returns the images of a "docker save" archive, nil if it is none.
func readSaved(f files) ([]savedImage, error) {
	a, err := f.open(dockerManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || a.size > maxManifest {
		return nil, err
	}
	data, err := readAll(io.NewSectionReader(a.r, 0, a.size), maxManifest, dockerManifest)
	if err != nil {
		return nil, err
	}
	var list []savedImage
	if json.Unmarshal(data, &list) != nil || len(list) == 0 || list[0].Config == "" {
		return nil, nil
	}
	return list, nil
}

// openSaved opens an image of a "docker save" archive: that of the name, or the
// only one.
func (p *opening) openSaved(f files, name string) (*Root, error) {
	list, err := readSaved(f)
	if err != nil {
		return nil, err
	}
	if list == nil {
		return nil, malformed("archive", "this is no archive of \"docker save\": it has no %s with images", dockerManifest)
	}
	image, err := selectSaved(list, name)
	if err != nil {
		return nil, err
	}
	open := func(name string) (archive, error) {
		clean, err := cleanName(name)
		if err != nil {
			return archive{}, err
		}
		a, err := f.open(clean)
		if errors.Is(err, fs.ErrNotExist) {
			return a, malformed("archive", "the archive lacks %.200q, which its %s names", name, dockerManifest)
		}
		return a, err
	}
	config, err := open(image.Config)
	if err != nil {
		return nil, err
	}
	if len(image.Layers) > maxLayers {
		return nil, malformed("layers", "there are %d layers, the limit is %d", len(image.Layers), maxLayers)
	}
	raw, digest, err := p.savedConfig(config, image.Config)
	if err != nil {
		return nil, err
	}
	var layers []layer
	for i, file := range image.Layers {
		a, err := open(file)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer{name: fmt.Sprintf("layer %d of %d (%.100q)", i+1, len(image.Layers), file), size: a.size, at: a.r})
	}
	return p.openConfig(raw, digest, layers, origin{tags: image.RepoTags})
}

// savedConfig reads a configuration. Its name holds its digest: NAME.json in the
// old form of the archive, blobs/sha256/NAME in the new one.
func (p *opening) savedConfig(a archive, name string) (raw []byte, digest string, err error) {
	base := name[strings.LastIndexByte(name, '/')+1:]
	base = strings.TrimPrefix(strings.TrimSuffix(base, ".json"), "sha256:")
	if len(base) != 64 {
		base = "" // Other tools name it as they like.
	}
	l := layer{size: a.size, digest: base, at: a.r}
	if raw, err = p.readConfig(l); err != nil {
		return nil, "", err
	}
	return raw, sumOf(raw), nil
}

// selectSaved returns the image with a name, ":latest" understood.
func selectSaved(list []savedImage, name string) (savedImage, error) {
	if name == "" && len(list) == 1 {
		return list[0], nil
	}
	var names []string
	for _, image := range list {
		for _, tag := range image.RepoTags {
			if name != "" && (tag == name || tag == name+":latest") {
				return image, nil
			}
			names = append(names, tag)
		}
	}
	if name == "" {
		return savedImage{}, mismatch("image", "the archive has several images; name one, as in docker-archive:PATH:NAME: %s", listed(names))
	}
	return savedImage{}, mismatch("image", "the archive has no image %.100q; it has %s", name, listed(names))
}
