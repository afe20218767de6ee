// SPDX-License-Identifier: Apache-2.0

package eifdiff

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/contents"
)

func (c *comparison) kernel() error {
	a, b := sectionOf(c.a.Image, eif.Kernel), sectionOf(c.b.Image, eif.Kernel)
	at, err := c.sameBytes(a, b)
	if err != nil || at < 0 {
		return err
	}
	d := Difference{Part: Kernel, Change: Contents, Note: fmt.Sprintf("the first byte that differs is at offset %d", at)}
	if d.A, err = c.kernelInWords(c.a.Image, a); err != nil {
		return err
	}
	if d.B, err = c.kernelInWords(c.b.Image, b); err != nil {
		return err
	}
	c.add(d)
	return nil
}

func (c *comparison) kernelInWords(im *eif.Image, section *io.SectionReader) (string, error) {
	kernel, err := contents.ReadKernel(c.ctx, im)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, &contextReader{c.ctx, section}); err != nil {
		return "", err
	}
	text := fmt.Sprintf("%d bytes, SHA-256 %x", section.Size(), h.Sum(nil))
	if v := kernel.Version(); v != "" {
		text = "Linux " + v + ", " + text
	}
	return text, nil
}

func (c *comparison) cmdline() error {
	a, b := c.a.Image.Cmdline(), c.b.Image.Cmdline()
	if a == b {
		return nil
	}
	d := Difference{Part: Cmdline, Change: Contents, A: a, B: b, Items: diffList(strings.Fields(a), strings.Fields(b), "")}
	if len(d.Items) == 0 {
		d.Note = "the words are the same, the space between them is not"
	}
	c.add(d)
	return nil
}

// certificate compares the signer. The signature's own bytes differ with every
// signature and are not measured.
func (c *comparison) certificate() error {
	c.listed = 0
	a, b := c.a.Image.Signature(), c.b.Image.Signature()
	switch {
	case a == nil && b == nil:
	case a == nil:
		c.add(Difference{Part: Certificate, Change: Added, B: certificateInWords(b)})
	case b == nil:
		c.add(Difference{Part: Certificate, Change: Removed, A: certificateInWords(a)})
	case !bytes.Equal(a.Certificate.Raw, b.Certificate.Raw):
		d := Difference{Part: Certificate, Change: Contents, A: certificateInWords(a), B: certificateInWords(b)}
		if bytes.Equal(a.Certificate.RawSubjectPublicKeyInfo, b.Certificate.RawSubjectPublicKeyInfo) {
			d.Note = "the key is the same: PCR8 is that of the certificate, so a renewed one moves it"
		}
		c.add(d)
	case !bytes.Equal(a.CertificateFile, b.CertificateFile):
		c.add(Difference{Part: Signature, Name: "certificate file", Change: Contents, Note: "the first certificate, which alone is measured, is the same"})
	default:
		at, err := c.sameBytes(sectionOf(c.a.Image, eif.SignatureSection), sectionOf(c.b.Image, eif.SignatureSection))
		if err != nil || at < 0 {
			return err
		}
		c.add(Difference{Part: Signature, Change: Contents, Note: "other bytes, by the same certificate"})
	}
	return nil
}

func certificateInWords(s *eif.Signature) string {
	sum := sha256.Sum256(s.Certificate.Raw)
	return fmt.Sprintf("%s, valid to %s, SHA-256 %s", s.Certificate.Subject, s.Certificate.NotAfter.UTC().Format(time.RFC3339), hex.EncodeToString(sum[:]))
}

// A field is one value of metadata or header.
type field struct{ name, a, b string }

func (c *comparison) fields(p Part, fields []field) {
	for _, f := range fields {
		if f.a == f.b {
			continue
		}
		d := Difference{Part: p, Name: f.name, Change: Value, A: f.a, B: f.b}
		switch {
		case f.a == "":
			d.Change = Added
		case f.b == "":
			d.Change = Removed
		}
		c.add(d)
	}
}

func (c *comparison) metadata() {
	c.listed = 0
	a, b := c.a.Image.Metadata(), c.b.Image.Metadata()
	if a == nil && b == nil {
		return
	}
	if a == nil {
		a = &eif.Metadata{}
	}
	if b == nil {
		b = &eif.Metadata{}
	}
	x, y := a.BuildMetadata, b.BuildMetadata
	c.fields(Metadata, []field{
		{"ImageName", a.ImageName, b.ImageName},
		{"ImageVersion", a.ImageVersion, b.ImageVersion},
		{"BuildTime", x.BuildTime, y.BuildTime},
		{"BuildTool", x.BuildTool, y.BuildTool},
		{"BuildToolVersion", x.BuildToolVersion, y.BuildToolVersion},
		{"OperatingSystem", x.OperatingSystem, y.OperatingSystem},
		{"KernelVersion", x.KernelVersion, y.KernelVersion},
	})
	c.fields(Metadata, jsonFields("DockerInfo", a.DockerInfo, b.DockerInfo))
	c.fields(Metadata, jsonFields("CustomMetadata", a.CustomMetadata, b.CustomMetadata))
}

// jsonFields compares two values, member by member where both are objects.
func jsonFields(name string, a, b json.RawMessage) []field {
	var x, y map[string]json.RawMessage
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil || x == nil || y == nil {
		return []field{{name, compact(a), compact(b)}}
	}
	var fields []field
	for key, value := range x {
		fields = append(fields, field{name + "." + key, compact(value), compact(y[key])})
	}
	for key, value := range y {
		if _, both := x[key]; !both {
			fields = append(fields, field{name + "." + key, "", compact(value)})
		}
	}
	slices.SortFunc(fields, func(f, g field) int { return strings.Compare(f.name, g.name) })
	return fields
}

func compact(raw json.RawMessage) string {
	if string(raw) == "null" {
		return ""
	}
	var out bytes.Buffer
	if json.Compact(&out, raw) != nil {
		return string(raw)
	}
	return out.String()
}

func (c *comparison) header() {
	c.listed = 0
	a, b := c.a.Image.Header, c.b.Image.Header
	number := func(n uint64) string { return fmt.Sprint(n) }
	all := []eif.SectionType{eif.Kernel, eif.Cmdline, eif.Ramdisk, eif.MetadataSection}
	list := []field{
		{"version", number(uint64(a.Version)), number(uint64(b.Version))},
		{"arch", a.Arch.String(), b.Arch.String()},
		{"flags", fmt.Sprintf("%#04x", a.Flags), fmt.Sprintf("%#04x", b.Flags)},
		{"default_mem", number(a.DefaultMemory), number(b.DefaultMemory)},
		{"default_cpus", number(a.DefaultCPUs), number(b.DefaultCPUs)},
	}
	if !c.report.measured {
		list = append(list, field{"section order", order(c.a.Image, all...), order(c.b.Image, all...)})
	}
	c.fields(Header, list)
}
