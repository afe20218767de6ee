// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cretula/cretula/pcr"
)

// An Image is a release of kind enclave that is told by the registers of its
// images.
type Image struct {
	Name string
	// Sets are the registers of each image: a document that has all of one of
	// them is of this release.
	Sets []pcr.Set
}

// ErrExists is matched by the error of [Add] for a release whose name is that of
// another one in the file.
var ErrExists = errors.New("reference: the file has another release of this name")

// content is a file of which the releases are as they were written.
type content struct {
	Schema   string            `json:"schema"`
	Releases []json.RawMessage `json:"releases"`
}

// readContent reads a file that [Parse] takes.
func readContent(file []byte) (c content, err error) {
	if _, err := Parse(file); err != nil {
		return c, err
	}
	err = json.Unmarshal(file, &c)
	return c, err
}

// encode returns a file that [Parse] takes.
func (c content) encode() ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(c); err != nil {
		return nil, err
	}
	if _, err := Parse(out.Bytes()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Add returns the content of a file of reference values with these releases
// after those that are in it; no content is a file without any. A release that is
// in the file with the very same members is not added again. The other releases
// keep their members and their order, not their white space. The error is
// [Parse]'s for a file that is refused, before or after, or matches [ErrExists].
func Add(file []byte, images ...Image) ([]byte, error) {
	c := content{Schema: Schema}
	if len(file) > 0 {
		var err error
		if c, err = readContent(file); err != nil {
			return nil, err
		}
	}
	for _, image := range images {
		release, err := image.encode()
		if err != nil {
			return nil, err
		}
		there, err := find(c.Releases, image.Name, release)
		if err != nil {
			return nil, err
		}
		if !there {
			c.Releases = append(c.Releases, release)
		}
	}
	return c.encode()
}

func (im Image) encode() (json.RawMessage, error) {
	release := struct {
		Name string    `json:"name"`
		PCRs *pcr.Set  `json:"pcrs,omitempty"`
		Sets []pcr.Set `json:"sets,omitempty"`
	}{Name: im.Name, Sets: im.Sets}
	if len(im.Sets) == 1 {
		release.PCRs, release.Sets = &im.Sets[0], nil
	}
	return json.Marshal(release)
}

// find tells whether the release is there.
func find(releases []json.RawMessage, name string, release json.RawMessage) (bool, error) {
	for _, raw := range releases {
		var have struct {
			Name string `json:"name"`
		}
		if err := json.Unmarshal(raw, &have); err != nil {
			return false, err
		}
		if have.Name != name {
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, raw); err != nil {
			return false, err
		}
		if !bytes.Equal(compact.Bytes(), release) {
			return false, fmt.Errorf("%w: %q", ErrExists, name)
		}
		return true, nil
	}
	return false, nil
}
