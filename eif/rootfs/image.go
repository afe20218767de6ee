// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cretula/cretula/eif"
)

const (
	// maxManifest is the limit that registries set for manifests and indexes.
	maxManifest = 4 << 20
	// maxConfig bounds an image's configuration, history and all.
	maxConfig = 8 << 20
	// maxLayers is more than any storage driver can stack.
	maxLayers = 1024
	// maxNesting is how deep an index may lie in indexes.
	maxNesting = 3
	// maxImages is more than an index for all platforms has.
	maxImages = 1000
)

// blobs is where the parts of an image are.
type blobs interface {
	// manifest returns a manifest or an index, not yet checked.
	manifest(v1.Descriptor) ([]byte, error)
	// blob returns a configuration or layer as it is stored.
	blob(v1.Descriptor) (layer, error)
}

// origin is what is known of an image from where it was found.
type origin struct{ tags, digests []string }

// imageConfig is the configuration of an image, OCI image specification,
// config.md, and what docker adds.
type imageConfig struct {
	Created       string          `json:"created"`
	Author        string          `json:"author"`
	Comment       string          `json:"comment"`
	DockerVersion string          `json:"docker_version"`
	Architecture  string          `json:"architecture"`
	Variant       string          `json:"variant"`
	OS            string          `json:"os"`
	OSVersion     string          `json:"os.version"`
	Config        json.RawMessage `json:"config"`
	RootFS        struct {
		Type    string    `json:"type"`
		DiffIDs []v1.Hash `json:"diff_ids"`
	} `json:"rootfs"`
}

func goArch(a eif.Arch) string {
	if a == eif.ArchAArch64 {
		return "arm64"
	}
	return "amd64"
}

// openImage opens the image that a descriptor leads to, through indexes.
func (p *opening) openImage(b blobs, d v1.Descriptor, from origin) (*Root, error) {
	for range maxNesting + 1 {
		raw, err := b.manifest(d)
		if err != nil {
			return nil, err
		}
		if err := checkManifest(raw, d); err != nil {
			return nil, err
		}
		var m struct {
			MediaType types.MediaType  `json:"mediaType"`
			Manifests *[]v1.Descriptor `json:"manifests"`
			Layers    *[]v1.Descriptor `json:"layers"`
			Config    v1.Descriptor    `json:"config"`
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, malformed("manifest", "the manifest %v is not sound JSON: %w", d.Digest, err)
		}
		switch {
		case m.MediaType != "" && d.MediaType != "" && m.MediaType != d.MediaType:
			return nil, malformed("manifest", "the manifest %v says it is %.80q and is served as %.80q", d.Digest, m.MediaType, d.MediaType)
		case m.Manifests != nil && m.Layers != nil:
			// The two readings of such a document are CVE-2021-41190.
			return nil, malformed("manifest", "%v is a manifest and an index in one", d.Digest)
		case m.Manifests != nil:
			if d, err = p.choose(*m.Manifests); err != nil {
				return nil, err
			}
		case m.Layers != nil && m.Config.Digest.Hex != "":
			return p.openManifest(b, m.Config, *m.Layers, from)
		default:
			return nil, unsupported("manifest", "%v is no manifest of an OCI image or of docker's second version (%.80q)", d.Digest, m.MediaType)
		}
	}
	return nil, malformed("manifest", "indexes lie more than %d deep in indexes", maxNesting)
}

func checkManifest(raw []byte, d v1.Descriptor) error {
	if err := sha256Only(d.Digest); err != nil {
		return err
	}
	if sum := sumOf(raw); sum != d.Digest.Hex {
		return mismatch("manifest.digest", "the manifest's SHA-256 is %s, not %s", sum, d.Digest.Hex)
	}
	return nil
}

// mayBeImage passes over what else is in an index: artifacts, and the attestations
// that buildkit puts beside images.
func mayBeImage(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "" &&
		(d.ArtifactType == "" || isConfig(types.MediaType(d.ArtifactType))) &&
		(d.MediaType == "" || d.MediaType.IsImage() || d.MediaType.IsIndex()) &&
		(d.Platform == nil || d.Platform.OS != "unknown")
}

// choose picks the image for the wanted architecture. Variants
// of an architecture come after the plain one.
func (p *opening) choose(list []v1.Descriptor) (v1.Descriptor, error) {
	want := goArch(p.o.Arch)
	var images, fitting []v1.Descriptor
	var there []string
	if len(list) > maxImages {
		return v1.Descriptor{}, malformed("manifest", "the index has %d images, the limit is %d", len(list), maxImages)
	}
	for _, d := range list {
		if !mayBeImage(d) {
			continue
		}
		if slices.ContainsFunc(images, func(o v1.Descriptor) bool { return o.Digest == d.Digest }) {
			continue
		}
		images = append(images, d)
		if d.Platform == nil {
			there = append(there, "one of no named platform")
			continue
		}
		there = append(there, d.Platform.String())
		if d.Platform.OS == "linux" && d.Platform.Architecture == want {
			fitting = append(fitting, d)
		}
	}
	if len(images) == 1 && images[0].Platform == nil {
		return images[0], nil // its configuration will tell
	}
	if len(fitting) == 0 {
		return v1.Descriptor{}, mismatch("arch", "there is no image for linux/%s; there is %s", want, listed(there))
	}
	for _, d := range fitting {
		if slices.Contains([]string{"", "v1", "v8"}, d.Platform.Variant) {
			return d, nil
		}
	}
	return fitting[0], nil
}

// listed joins a few strings of somebody else's for a message.
func listed(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	more := len(list) - 20
	list = slices.Clone(list[:min(len(list), 20)])
	for i, s := range list {
		list[i] = fmt.Sprintf("%.80s", strings.ToValidUTF8(s, "?"))
	}
	if more > 0 {
		list = append(list, fmt.Sprintf("%d more", more))
	}
	return strings.Join(list, ", ")
}

// layerTypes are the media types of layers that are read. Which compression a
// layer has, its first bytes tell.
var layerTypes = []types.MediaType{
	types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer,
	types.DockerLayer, types.DockerUncompressedLayer, "application/vnd.docker.image.rootfs.diff.tar.zstd",
	types.OCIRestrictedLayer, types.OCIUncompressedRestrictedLayer,
	"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
}

// isConfig says whether a media type is that of an image's configuration.
// Artifacts have others.
func isConfig(t types.MediaType) bool { return t == types.OCIConfigJSON || t == types.DockerConfigJSON }

func (p *opening) openManifest(b blobs, config v1.Descriptor, list []v1.Descriptor, from origin) (*Root, error) {
	if !isConfig(config.MediaType) {
		return nil, unsupported("manifest", "it is no image but an artifact: its configuration is %.80q", config.MediaType)
	}
	stored, err := b.blob(config)
	if err != nil {
		return nil, err
	}
	raw, err := p.readConfig(stored)
	if err != nil {
		return nil, err
	}
	layers := make([]layer, 0, min(len(list), maxLayers))
	for i, d := range list[:min(len(list), maxLayers+1)] {
		if !slices.Contains(layerTypes, d.MediaType) {
			return nil, unsupported("layer.type", "layer %d is %.80q; tar, alone or with gzip or zstd, is supported", i+1, d.MediaType)
		}
		l, err := b.blob(d)
		if err != nil {
			return nil, err
		}
		l.name = fmt.Sprintf("layer %d of %d (%.19s)", i+1, len(list), d.Digest)
		layers = append(layers, l)
	}
	return p.openConfig(raw, stored.digest, layers, from)
}

// readConfig returns the bytes of an image's configuration.
func (p *opening) readConfig(l layer) ([]byte, error) {
	l.name = "the image's configuration"
	if l.size > maxConfig {
		return nil, malformed("config", "the image's configuration has %d bytes, the limit is %d", l.size, maxConfig)
	}
	p.total += l.size
	return p.fetchRaw(l)
}

// openConfig puts the layers of an image together. digest is that of the
// configuration, in hex.
func (p *opening) openConfig(raw []byte, digest string, layers []layer, from origin) (*Root, error) {
	var c imageConfig
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, malformed("config", "the image's configuration is not sound JSON: %w", err)
	}
	root := &Root{ID: digest}
	if err := root.describe(&c, p.o.Arch); err != nil {
		return nil, err
	}
	if len(layers) > maxLayers || len(layers) != len(c.RootFS.DiffIDs) {
		return nil, malformed("layers", "there are %d layers, the configuration names %d, and %d are the limit",
			len(layers), len(c.RootFS.DiffIDs), maxLayers)
	}
	for i, id := range c.RootFS.DiffIDs {
		if err := sha256Only(id); err != nil {
			return nil, err
		}
		layers[i].diffID = id.Hex
		p.total += layers[i].size
	}
	t, err := p.flatten(layers)
	if err != nil {
		return nil, err
	}
	if root.Entries, root.Lost, err = t.list(walkOrder); err != nil {
		return nil, err
	}
	root.Inspect, err = inspect(&c, digest, p.layerBytes, from)
	return root, err
}

// describe fills in what the configuration says.
func (r *Root) describe(c *imageConfig, want eif.Arch) error {
	if c.OS != "linux" && c.OS != "" {
		return mismatch("arch", "the image is for %.40q; enclaves run Linux", c.OS)
	}
	switch c.Architecture {
	case "":
	case goArch(want):
		r.Arch, r.HasArch = want, true
	default:
		return mismatch("arch", "the image is for linux/%.40s, wanted is linux/%s", c.Architecture, goArch(want))
	}
	if len(c.Config) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.Config, &r.Config); err != nil {
		return malformed("config", "the image's configuration has a member of another type: %w", err)
	}
	return nil
}

func sha256Only(h v1.Hash) error {
	if h.Algorithm != "sha256" || len(h.Hex) != 64 {
		return unsupported("digest", "digests are SHA-256, not %.20q", h.Algorithm)
	}
	return nil
}

// readAll reads at most limit bytes.
func readAll(r io.Reader, limit int64, what string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, malformed("limit", "%s has more than %d bytes", what, limit)
	}
	return data, nil
}
