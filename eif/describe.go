// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/pcr"
)

// A Description is what nitro-cli describe-eif prints: the same members in the
// same order, those that do not apply left out.
type Description struct {
	EifVersion         uint16
	Measurements       pcr.Measurements
	IsSigned           bool
	SigningCertificate *CertificateDescription `json:",omitempty"`
	// CheckCRC is always true: a file whose checksum is wrong has no description.
	CheckCRC bool
	// SignatureCheck is nil for an unsigned image; see [Signature.Matches].
	SignatureCheck *bool                `json:",omitempty"`
	ImageName      *string              `json:",omitempty"`
	ImageVersion   *string              `json:",omitempty"`
	Metadata       *MetadataDescription `json:",omitempty"`
}

// Describe puts together the description of an image that has the measurements
// m, which are those of [Image.Measure].
func (im *Image) Describe(m pcr.Measurements) *Description {
	d := &Description{EifVersion: im.Header.Version, Measurements: m, CheckCRC: true}
	if s := im.signature; s != nil {
		pcr0, _ := m.Get(0)
		matches := s.Matches(pcr0)
		d.IsSigned = true
		d.SigningCertificate = describeCertificate(s.Certificate)
		d.SignatureCheck = &matches
	}
	if md := im.metadata; md != nil {
		d.ImageName, d.ImageVersion = &md.ImageName, &md.ImageVersion
		d.Metadata = &MetadataDescription{md}
	}
	return d
}

// A MetadataDescription prints metadata as nitro-cli does: the build's keys,
// DockerInfo, and then the keys of CustomMetadata in the same object. Unlike
// there, no key is printed twice: the standard ones win, so that custom metadata
// cannot forge them. CustomMetadata that is no object is printed under its own
// name; nitro-cli cannot print such an image at all.
type MetadataDescription struct{ *Metadata }

// MarshalJSON implements [json.Marshaler].
func (d MetadataDescription) MarshalJSON() ([]byte, error) {
	build := d.BuildMetadata
	list := []member{
		{"BuildTime", quote(build.BuildTime)},
		{"BuildTool", quote(build.BuildTool)},
		{"BuildToolVersion", quote(build.BuildToolVersion)},
		{"OperatingSystem", quote(build.OperatingSystem)},
		{"KernelVersion", quote(build.KernelVersion)},
	}
	docker, err := normalise(d.DockerInfo)
	if err != nil {
		return nil, err
	}
	list = append(list, member{"DockerInfo", docker})
	custom, err := normalise(d.CustomMetadata)
	if err != nil {
		return nil, err
	}
	if isObject(custom) {
		more, err := members(custom)
		if err != nil {
			return nil, err
		}
		standard := list
		for _, m := range more {
			if !slices.ContainsFunc(standard, func(have member) bool { return have.name == m.name }) {
				list = append(list, m)
			}
		}
	} else if string(custom) != "null" {
		list = append(list, member{"CustomMetadata", custom})
	}
	var b bytes.Buffer
	for i, m := range list {
		b.WriteByte("{,"[min(i, 1)])
		b.Write(quote(m.name))
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// normalise writes any JSON as serde_json, which nitro-cli is built with, does:
// keys sorted, no needless escapes. Numbers keep their digits.
func normalise(raw json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 {
		return json.RawMessage("null"), nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return nil, err
	}
	return encode(value)
}

func encode(value any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func quote(s string) json.RawMessage {
	raw, err := encode(s)
	if err != nil {
		panic(err) // a string always has an encoding
	}
	return raw
}

// A CertificateDescription is nitro-cli's view of a signing certificate.
type CertificateDescription struct {
	// IssuerName has OpenSSL's long names as keys.
	IssuerName map[string]string
	// Algorithm is OpenSSL's name of the algorithm the certificate is signed with.
	Algorithm string
	// NotBefore and NotAfter look like "Nov 20 16:48:36 2026 GMT".
	NotBefore string
	NotAfter  string
	// Signature is upper-case hex, octets separated by colons.
	Signature string
}

func describeCertificate(c *x509.Certificate) *CertificateDescription {
	const opensslTime = "Jan _2 15:04:05 2006 GMT"
	when := func(t time.Time) string { return t.UTC().Format(opensslTime) }
	octets := make([]string, len(c.Signature))
	for i, b := range c.Signature {
		octets[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return &CertificateDescription{
		IssuerName: issuerName(c.Issuer),
		Algorithm:  signatureAlgorithm(c.SignatureAlgorithm),
		NotBefore:  when(c.NotBefore),
		NotAfter:   when(c.NotAfter),
		Signature:  strings.Join(octets, ":"),
	}
}

// longNames are OpenSSL's long names of attribute types in names.
var longNames = map[string]string{
	"2.5.4.3":                    "commonName",
	"2.5.4.4":                    "surname",
	"2.5.4.5":                    "serialNumber",
	"2.5.4.6":                    "countryName",
	"2.5.4.7":                    "localityName",
	"2.5.4.8":                    "stateOrProvinceName",
	"2.5.4.9":                    "streetAddress",
	"2.5.4.10":                   "organizationName",
	"2.5.4.11":                   "organizationalUnitName",
	"2.5.4.12":                   "title",
	"2.5.4.17":                   "postalCode",
	"2.5.4.42":                   "givenName",
	"1.2.840.113549.1.9.1":       "emailAddress",
	"0.9.2342.19200300.100.1.1":  "userId",
	"0.9.2342.19200300.100.1.25": "domainComponent",
}

func issuerName(name pkix.Name) map[string]string {
	out := make(map[string]string)
	for _, attribute := range name.Names {
		oid := attribute.Type.String()
		key, ok := longNames[oid]
		if !ok {
			key = oid
		}
		out[key] = fmt.Sprint(attribute.Value)
	}
	return out
}

func signatureAlgorithm(a x509.SignatureAlgorithm) string {
	switch a {
	case x509.ECDSAWithSHA1, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return "ecdsa-with-" + strings.TrimPrefix(a.String(), "ECDSA-")
	case x509.SHA256WithRSA:
		return "sha256WithRSAEncryption"
	case x509.SHA384WithRSA:
		return "sha384WithRSAEncryption"
	case x509.SHA512WithRSA:
		return "sha512WithRSAEncryption"
	case x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return "rsassaPss"
	case x509.PureEd25519:
		return "ED25519"
	}
	return a.String()
}
