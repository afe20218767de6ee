// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// A template is what one certificate is to say. Genuine certificates have their
// extensions in another order at each level, and the leaf's key usage is not
// critical, so that all extensions are encoded here.
type template struct {
	serial              []byte
	subject             []byte
	notBefore, notAfter time.Time
	ca                  bool
	// pathLen is -1 for none. It means nothing if ca is false.
	pathLen int
	usage   usage
	// subjectID wants the identifiers of the subject's and the issuer's key.
	subjectID bool
	// crl wants a CRL distribution point. It names no host that exists.
	crl bool
}

// A usage is the content of a key usage extension, RFC 5280 §4.2.1.3.
type usage struct {
	bits     asn1.BitString
	critical bool
}

var (
	// digitalSignature, keyCertSign, cRLSign
	usageCA = usage{asn1.BitString{Bytes: []byte{0x86}, BitLength: 7}, true}
	// keyCertSign
	usageInstance = usage{asn1.BitString{Bytes: []byte{0x04}, BitLength: 6}, true}
	// digitalSignature, nonRepudiation
	usageLeaf = usage{asn1.BitString{Bytes: []byte{0xc0}, BitLength: 2}, false}
)

var (
	oidSubjectKeyID      = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage          = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints  = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidCRLDistribution   = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidAuthorityKeyID    = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCommonName        = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidCountry           = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidLocality          = asn1.ObjectIdentifier{2, 5, 4, 7}
	oidState             = asn1.ObjectIdentifier{2, 5, 4, 8}
	oidOrganization      = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidOrganizationUnit  = asn1.ObjectIdentifier{2, 5, 4, 11}
	crlDistributionPoint = "http://crl.cretula-emulator.invalid/crl/%x-%x-%x-%x-%x.crl"
)

// makeCertificate makes a key and a certificate for it, signed by parent, or by itself if
// parent is nil.
func makeCertificate(parent *issued, t template) (*issued, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	extensions, err := t.extensions(parent, &key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	content := &x509.Certificate{
		SerialNumber:       new(big.Int).SetBytes(t.serial),
		RawSubject:         t.subject,
		NotBefore:          t.notBefore.UTC(),
		NotAfter:           t.notAfter.UTC(),
		SignatureAlgorithm: x509.ECDSAWithSHA384,
		ExtraExtensions:    extensions,
	}
	// Only the name of the parent is given, for its key identifier would be
	// copied into the leaf.
	issuer, signer := &x509.Certificate{RawSubject: t.subject}, key
	if parent != nil {
		issuer, signer = &x509.Certificate{RawSubject: parent.cert.RawSubject}, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, content, issuer, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	return &issued{cert: cert, key: key, parent: parent}, nil
}

// extensions encodes them in the order of genuine certificates.
func (t *template) extensions(parent *issued, key *ecdsa.PublicKey) ([]pkix.Extension, error) {
	var list extensionList
	list.add(oidBasicConstraints, true, t.basicConstraints())
	keyUsage := func() { list.add(oidKeyUsage, t.usage.critical, t.usage.bits) }
	if !t.subjectID {
		keyUsage()
		return list.done()
	}
	subjectID := func() error {
		point, err := key.Bytes()
		if err != nil {
			return err
		}
		sum := sha256.Sum256(point)
		list.add(oidSubjectKeyID, false, sum[:20])
		return nil
	}
	authorityID := func() {
		if parent != nil {
			list.add(oidAuthorityKeyID, false, struct {
				KeyID []byte `asn1:"tag:0"`
			}{parent.cert.SubjectKeyId})
		}
	}
	var err error
	if t.ca && t.pathLen == 0 { // the instance's
		keyUsage()
		err = subjectID()
		authorityID()
	} else {
		authorityID()
		err = subjectID()
		keyUsage()
	}
	if err != nil {
		return nil, err
	}
	if t.crl {
		list.add(oidCRLDistribution, false, newDistributionPoints())
	}
	return list.done()
}

func (t *template) basicConstraints() any {
	type constraints struct {
		CA      bool `asn1:"optional"`
		PathLen int  `asn1:"optional,default:-1"`
	}
	if !t.ca {
		return constraints{PathLen: -1}
	}
	return constraints{CA: true, PathLen: t.pathLen}
}

// newDistributionPoints returns CRLDistributionPoints, RFC 5280 §4.2.1.13, with
// one URI.
func newDistributionPoints() any {
	type name struct {
		Full []asn1.RawValue `asn1:"optional,tag:0"`
	}
	type point struct {
		Name name `asn1:"optional,tag:0"`
	}
	id := randomBytes(16)
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // a random UUID, RFC 9562 §5.4
	uri := fmt.Sprintf(crlDistributionPoint, id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	return []point{{name{[]asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)}}}}}
}

// An extensionList keeps the first error of encoding its members.
type extensionList struct {
	list []pkix.Extension
	err  error
}

func (l *extensionList) add(id asn1.ObjectIdentifier, critical bool, value any) {
	der, err := asn1.Marshal(value)
	if l.err == nil {
		l.err = err
	}
	l.list = append(l.list, pkix.Extension{Id: id, Critical: critical, Value: der})
}

func (l *extensionList) done() ([]pkix.Extension, error) { return l.list, l.err }

// attribute is one part of a name: the country is a PrintableString, all else
// UTF8String.
type attribute struct {
	id    asn1.ObjectIdentifier
	value string
}

func encodeName(attributes ...attribute) []byte {
	var name pkix.RDNSequence
	for _, a := range attributes {
		tag := asn1.TagUTF8String
		if a.id.Equal(oidCountry) {
			tag = asn1.TagPrintableString
		}
		name = append(name, pkix.RelativeDistinguishedNameSET{{
			Type: a.id, Value: asn1.RawValue{Tag: tag, Bytes: []byte(a.value)},
		}})
	}
	der, err := asn1.Marshal(name)
	if err != nil {
		panic("issuer: a name cannot be encoded: " + err.Error())
	}
	return der
}

// rootSubject is the name of every root of this package, never AWS's.
func rootSubject() []byte {
	return encodeName(attribute{oidOrganization, "Cretula"}, attribute{oidOrganizationUnit, "EMULATED"},
		attribute{oidCommonName, RootCommonName})
}

// The names below have the order of genuine ones, which differs by position.

func amazonSubject(commonName string) []byte {
	return encodeName(attribute{oidCountry, "US"}, attribute{oidOrganization, "Amazon"},
		attribute{oidOrganizationUnit, "AWS"}, attribute{oidCommonName, commonName})
}

func zoneSubject(commonName string) []byte {
	return encodeName(attribute{oidCommonName, commonName}, attribute{oidOrganizationUnit, "AWS"},
		attribute{oidOrganization, "Amazon"}, attribute{oidCountry, "US"},
		attribute{oidState, "WA"}, attribute{oidLocality, "Seattle"})
}

func hostSubject(commonName string) []byte {
	return encodeName(attribute{oidCountry, "US"}, attribute{oidState, "Washington"},
		attribute{oidLocality, "Seattle"}, attribute{oidOrganization, "Amazon"},
		attribute{oidOrganizationUnit, "AWS"}, attribute{oidCommonName, commonName})
}
