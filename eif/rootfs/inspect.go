// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"bytes"
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// inspected has the members that "docker inspect" prints of an image, in its
// order, but for those that only a daemon knows (GraphDriver, Metadata).
type inspected struct {
	ID            string `json:"Id"`
	RepoTags      []string
	RepoDigests   []string
	Parent        string
	Comment       string
	Created       string
	DockerVersion string
	Author        string
	Config        any
	Architecture  string
	Variant       string `json:",omitempty"`
	Os            string
	OsVersion     string `json:",omitempty"`
	Size          int64
	RootFS        struct {
		Type   string
		Layers []v1.Hash
	}
}

// inspect describes an image; size is that of its layers unpacked.
func inspect(c *imageConfig, id string, size int64, from origin) (json.RawMessage, error) {
	out := inspected{
		ID: "sha256:" + id, RepoTags: from.tags, RepoDigests: from.digests,
		Comment: c.Comment, Created: c.Created, DockerVersion: c.DockerVersion, Author: c.Author,
		Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, OsVersion: c.OSVersion, Size: size,
	}
	if out.RepoTags == nil {
		out.RepoTags = []string{}
	}
	if out.RepoDigests == nil {
		out.RepoDigests = []string{}
	}
	out.RootFS.Type, out.RootFS.Layers = "layers", c.RootFS.DiffIDs
	if len(c.Config) > 0 {
		// Read and written again, each member is there once, and in one order.
		d := json.NewDecoder(bytes.NewReader(c.Config))
		d.UseNumber()
		if err := d.Decode(&out.Config); err != nil {
			return nil, malformed("config", "the image's configuration is not sound JSON: %w", err)
		}
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(out); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}
