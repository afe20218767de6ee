// SPDX-License-Identifier: Apache-2.0

package imagebuild

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/rootfs"
)

// DefaultBuildTime is the time of a build that says no other: the same for all,
// as equal inputs shall give equal images.
const DefaultBuildTime = "1970-01-01T00:00:00+00:00"

// BuildTimeOf reads SOURCE_DATE_EPOCH (reproducible-builds.org): seconds since
// 1970. It returns "" for an empty one.
func BuildTimeOf(sourceDateEpoch string) (string, error) {
	if sourceDateEpoch == "" {
		return "", nil
	}
	const year10000 = 253402300800
	seconds, err := strconv.ParseInt(sourceDateEpoch, 10, 64)
	if err != nil || seconds < 0 || seconds >= year10000 {
		return "", fmt.Errorf("SOURCE_DATE_EPOCH: %.40q is no number of seconds since 1970", sourceDateEpoch)
	}
	return time.Unix(seconds, 0).UTC().Format("2006-01-02T15:04:05+00:00"), nil
}

// MaxCustom is nitro-cli's limit for custom metadata, in bytes.
const MaxCustom = 4096

// The tool that the metadata name, by mode: in mode NitroCLI they are what
// nitro-cli writes, so that the whole file can be the same.
var tools = map[eifbuild.Mode][2]string{
	eifbuild.Normalised: {"cretula", "1"},
	eifbuild.NitroCLI:   {"nitro-cli", "1.5.0"},
}

// metadata fills in the metadata section.
func (b *build) metadata(root *rootfs.Root) (eif.Metadata, error) {
	custom, err := b.custom()
	if err != nil {
		return eif.Metadata{}, err
	}
	tool := tools[b.Mode]
	m := eif.Metadata{
		ImageName:    b.Name,
		ImageVersion: b.Version,
		BuildMetadata: eif.BuildMetadata{
			BuildTime:        b.BuildTime,
			BuildTool:        tool[0],
			BuildToolVersion: tool[1],
			OperatingSystem:  b.parts.system,
			KernelVersion:    b.parts.version,
		},
		DockerInfo:     root.Inspect,
		CustomMetadata: custom,
	}
	if m.ImageName == "" {
		m.ImageName = imageName(b.Source)
	}
	if m.ImageVersion == "" {
		m.ImageVersion = root.ID
	}
	if m.ImageVersion == "" {
		m.ImageVersion = "1.0"
	}
	if m.BuildMetadata.BuildTime == "" {
		m.BuildMetadata.BuildTime = DefaultBuildTime
	}
	return m, nil
}

// imageName is the name of an image in a registry without tag and digest. (That
// of nitro-cli ends at the first colon, which may be that of the registry's port.)
// Where a folder or an archive lies is nothing of the image, so they are named
// alike.
func imageName(source string) string {
	for _, prefix := range []string{"registry:", "docker:"} {
		name, ok := strings.CutPrefix(source, prefix)
		if !ok {
			continue
		}
		name = strings.TrimPrefix(name, "//")
		name, _, _ = strings.Cut(name, "@")
		if slash, colon := strings.LastIndexByte(name, '/'), strings.LastIndexByte(name, ':'); colon > slash {
			name = name[:colon]
		}
		return name
	}
	return "image"
}

// custom returns the custom metadata with sorted keys, as AWS's builder writes
// them. An image with stand-ins says so.
func (b *build) custom() (json.RawMessage, error) {
	if b.Custom == nil {
		if len(b.parts.standIns) == 0 {
			return nil, nil
		}
		return json.Marshal(map[string]string{"Note": strings.Join(b.parts.standIns, " and ") + " missing: this image does not boot"})
	}
	if len(b.Custom) > MaxCustom {
		return nil, fmt.Errorf("the custom metadata have %d bytes; the limit is %d", len(b.Custom), MaxCustom)
	}
	dec := json.NewDecoder(bytes.NewReader(b.Custom))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, fmt.Errorf("the custom metadata are no JSON: %w", err)
	}
	if dec.More() {
		return nil, errors.New("the custom metadata are more than one JSON value")
	}
	const objectOnly = "the custom metadata are no JSON object: nitro-cli describe-eif cannot describe such an image"
	if _, object := value.(map[string]any); !object && !slices.Contains(b.result.Warnings, objectOnly) {
		b.warn(objectOnly)
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(value)
	return bytes.TrimSpace(out.Bytes()), err
}

// apply returns what the program's configuration is with the override.
func (o *Override) apply(c rootfs.Config) rootfs.Config {
	if o.Entrypoint != nil {
		c.Entrypoint, c.Cmd = o.Entrypoint, nil
	}
	if o.Cmd != nil {
		c.Cmd = o.Cmd
	}
	if o.WorkingDir != "" {
		c.WorkingDir = o.WorkingDir
	}
	if o.User != "" {
		c.User = o.User
	}
	c.Env = slices.Clone(c.Env)
	for _, v := range o.Env {
		name, _, _ := strings.Cut(v, "=")
		same := func(old string) bool { return strings.HasPrefix(old, name+"=") }
		i := slices.IndexFunc(c.Env, same)
		if i < 0 {
			c.Env = append(c.Env, v)
			continue
		}
		// Of a name that is there twice the last value counts.
		rest := slices.DeleteFunc(c.Env[i+1:], same)
		c.Env = append(append(c.Env[:i], v), rest...)
	}
	return c
}
