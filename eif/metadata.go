// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cretula/cretula/reason"
)

// Metadata is the content of a metadata section. It is for people: the platform
// does not read it, and neither PCRs nor the signature cover it.
type Metadata struct {
	ImageName     string
	ImageVersion  string
	BuildMetadata BuildMetadata
	// DockerInfo is what "docker inspect" said about the source image, any JSON;
	// nil is written as null.
	DockerInfo json.RawMessage
	// CustomMetadata is what the builder of the image added, any JSON; nil is
	// written as null.
	CustomMetadata json.RawMessage
}

// BuildMetadata says how an image was made.
type BuildMetadata struct {
	// BuildTime is RFC 3339 when AWS's tools write it.
	BuildTime        string
	BuildTool        string
	BuildToolVersion string
	OperatingSystem  string
	KernelVersion    string
}

// Encode returns the section's content: compact JSON with the five keys that
// AWS's reader insists on, in the order in which AWS's builder writes them.
func (m *Metadata) Encode() ([]byte, error) {
	data, err := encode(m)
	if err != nil {
		return nil, fmt.Errorf("eif: metadata: %w", err)
	}
	if _, err := ParseMetadata(data); err != nil {
		return nil, err
	}
	return data, nil
}

// ParseMetadata reads the content of a metadata section: a JSON object in UTF-8
// with at least the keys ImageName, ImageVersion, BuildMetadata, DockerInfo and
// CustomMetadata. No object at any depth has a key twice; there are at most 127
// levels. Unknown keys are ignored, as AWS's reader does. A refusal is
// [reason.Malformed].
func ParseMetadata(data []byte) (*Metadata, error) { return parseMetadata(data, 0) }

// parseMetadata names offsets in the file, base being that of data[0].
func parseMetadata(data []byte, base int64) (*Metadata, error) {
	if len(data) > MaxMetadata {
		return nil, reason.New(reason.Malformed, "eif.metadata.size", "offset %d: %d bytes of metadata; the limit is %d", base, len(data), MaxMetadata)
	}
	if err := checkJSON(data, base); err != nil {
		return nil, err
	}
	p := metadataParser{base: base}
	var m Metadata
	top := p.object("metadata", data)
	m.ImageName = p.text(top, "ImageName")
	m.ImageVersion = p.text(top, "ImageVersion")
	build := p.object("BuildMetadata", p.member(top, "BuildMetadata"))
	m.BuildMetadata = BuildMetadata{
		BuildTime:        p.text(build, "BuildTime"),
		BuildTool:        p.text(build, "BuildTool"),
		BuildToolVersion: p.text(build, "BuildToolVersion"),
		OperatingSystem:  p.text(build, "OperatingSystem"),
		KernelVersion:    p.text(build, "KernelVersion"),
	}
	m.DockerInfo = p.member(top, "DockerInfo")
	m.CustomMetadata = p.member(top, "CustomMetadata")
	if p.err != nil {
		return nil, p.err
	}
	return &m, nil
}

func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// A member is one name and value of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// members reads a JSON object in its own order.
// encoding/json's own structs would take keys in any case, and a key twice.
func members(data []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if tok, err := dec.Token(); err != nil {
		return nil, err
	} else if tok != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var found []member
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		found = append(found, member{tok.(string), value})
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return found, nil
}

// A metadataParser keeps the first error.
type metadataParser struct {
	base int64
	err  error
}

func (p *metadataParser) fail(rule, format string, args ...any) {
	if p.err == nil {
		p.err = reason.New(reason.Malformed, rule, "offset %d: %s", p.base, fmt.Sprintf(format, args...))
	}
}

func (p *metadataParser) object(name string, data []byte) map[string]json.RawMessage {
	if p.err != nil {
		return nil
	}
	list, err := members(data)
	if err != nil {
		p.fail("eif.metadata.json", "%s: %v", name, err)
		return nil
	}
	values := make(map[string]json.RawMessage, len(list))
	for _, m := range list {
		values[m.name] = m.value
	}
	return values
}

func (p *metadataParser) member(object map[string]json.RawMessage, name string) json.RawMessage {
	value, ok := object[name]
	if !ok {
		p.fail("eif.metadata.key", "the metadata has no key %s", name)
	}
	return value
}

func (p *metadataParser) text(object map[string]json.RawMessage, name string) string {
	value := p.member(object, name)
	var s *string
	if p.err == nil && (json.Unmarshal(value, &s) != nil || s == nil) {
		p.fail("eif.metadata.key", "%s in the metadata is no string", name)
	}
	if s == nil {
		return ""
	}
	return *s
}
