// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"slices"

	at "github.com/cretula/cretula/attestation/attestationtest"
)

var names = []string{"root", "region", "zone", "instance", "leaf"}

// ext makes an extension that nobody knows, or one with a known type.
func ext(critical bool, value []byte, id ...int) func(*certificate) {
	return func(c *certificate) {
		c.SetExtension(pkix.Extension{Id: asn1.ObjectIdentifier(id), Critical: critical, Value: value})
	}
}

func lacks(id asn1.ObjectIdentifier) func(*certificate) {
	return func(c *certificate) { c.RemoveExtension(id) }
}

// ekuCodeSigning is an extended key usage of code signing only.
var ekuCodeSigning = []byte{0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3}

// nameConstraints permits example.com.
var nameConstraints = []byte{0x30, 0x11, 0xa0, 0x0f, 0x30, 0x0d, 0x82, 0x0b, 'e', 'x', 'a', 'm', 'p', 'l', 'e', '.', 'c', 'o', 'm'}

// A publicOnly key is known by its public half; nothing is signed with it.
type publicOnly struct{ key crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.key }
func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("a public key cannot sign")
}

// rsaNumber is an RSA key of 2048 bits whose factors nobody knows.
func rsaNumber() publicOnly {
	var n []byte
	for i := range byte(4) {
		sum := sha512.Sum512([]byte{'n', i})
		n = append(n, sum[:]...)
	}
	n[0], n[255] = n[0]|0x80, n[255]|1
	return publicOnly{&rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}}
}

// leafKey gives the leaf a key; the document is still signed with P-384.
func leafKey(key crypto.Signer) func(*forgery) {
	return func(f *forgery) {
		f.Signer = f.Certificates[at.Leaf].Key
		f.Certificates[at.Leaf].Key = key
	}
}

// leafSigns gives the leaf a key on another curve, and the document a signature
// by it.
func leafSigns(curve elliptic.Curve, hash crypto.Hash) func(*forgery) {
	return func(f *forgery) {
		f.Certificates[at.Leaf].Key = at.KeyOn(curve, "leaf")
		f.Hash = hash
	}
}

// otherRoot is a root of the same name with another key or another serial.
func otherRoot(edit func(c *certificate)) func([]byte) [][]byte {
	return func([]byte) [][]byte {
		c := at.New(made).Certificates[at.Root]
		edit(&c)
		der, err := c.Make(c.Subject, c.Key)
		if err != nil {
			panic(err)
		}
		return [][]byte{der}
	}
}

func stranger(c *certificate)      { c.Key = at.Key("another root") }
func reissued(c *certificate)      { c.Serial = big.NewInt(7) }
func strangerNamed(c *certificate) { c.Key = at.Key("foreign root"); c.Subject = foreignName }

var foreignName = at.Name(at.Attribute{ID: at.Organization, Value: "Cretula"}, at.Attribute{ID: at.OrganizationUnit, Value: "EMULATED"},
	at.Attribute{ID: at.CommonName, Value: "cretula-foreign.nitro-enclaves"})

// selfSigned is a CA of a stranger that signed itself.
func selfSigned() []byte { return otherRoot(strangerNamed)(nil)[0] }

// chain are documents that differ in their certificates, RFC 5280.
func chain() []vector {
	list := []vector{
		{name: "leaf with EKU", sentence: "The leaf has an extended key usage, code signing; none is wanted and none forbidden.", edit: cert(at.Leaf, ext(false, ekuCodeSigning, 2, 5, 29, 37))},
		{name: "unknown extension", sentence: "The region has an extension that nobody knows and that is not critical.", edit: cert(at.Region, ext(false, []byte{5, 0}, 1, 2, 3, 4))},
		{name: "no path length", sentence: "The region has no path length.", edit: cert(at.Region, ca(-1))},
		{name: "longer path length", sentence: "The zone's path length is 9.", edit: cert(at.Zone, ca(9))},
		{name: "no key identifiers", sentence: "The instance has no key identifiers, as before 2024.",
			edit: fields(cert(at.Instance, lacks(at.SubjectKeyID)), cert(at.Instance, lacks(at.AuthorityKeyID)))},
		{name: "two trusted roots", sentence: "Two roots are trusted; the document is under the second.", trust: func(own []byte) [][]byte { return [][]byte{selfSigned(), own} }},
		{name: "leaf's CA flag spelt out", sentence: "The leaf's basic constraints are not critical.", edit: cert(at.Leaf, func(c *certificate) { c.SetExtension(basic(false, false, -1)) })},

		{name: "foreign root", sentence: "The chain begins with a root that is not trusted.", expect: untrusted, rules: "chain.root", trust: otherRoot(strangerNamed)},
		{name: "root of the same name", sentence: "The trusted root has the same name and another key.", expect: untrusted, rules: "chain.root", trust: otherRoot(stranger)},
		{name: "root reissued", sentence: "The trusted root has the same name and the same key, and is another certificate.", expect: untrusted, rules: "chain.root", trust: otherRoot(reissued)},
		{name: "trusted root in front of a stranger's chain", sentence: "cabundle begins with the trusted root, and the rest is under a stranger's of the same name.",
			expect: untrusted, rules: "chain.signature", edit: func(f *forgery) { f.Certificates[at.Region].Signer = at.Key("another root") }},
		{name: "another partition's chain", sentence: "cabundle begins with one trusted root, and the rest is under the other.",
			expect: untrusted, rules: "chain.name chain.signature", trust: func(own []byte) [][]byte { return [][]byte{selfSigned(), own} },
			edit: fields(ders(func(d [][]byte) [][]byte { d[0] = selfSigned(); return d }), func(f *forgery) {
				f.Certificates[at.Root].RemoveExtension(at.SubjectKeyID)
				f.Certificates[at.Region].RemoveExtension(at.AuthorityKeyID)
			})},
		{name: "self-signed CA in cabundle", sentence: "cabundle has a stranger's CA beside the trusted root, and the rest is under the stranger's.",
			expect: untrusted, rules: "chain.name chain.key-id chain.signature", edit: func(f *forgery) {
				f.Certificates[at.Region].Signer = at.Key("foreign root")
				f.Certificates[at.Region].Issuer = foreignName
				f.Certificates[at.Region].SetExtension(at.NewAuthorityKeyID([]byte("foreign")))
			}},
		{name: "no root in front of a foreign chain", sentence: "The chain is a stranger's throughout.", expect: untrusted, rules: "chain.root",
			edit: func(f *forgery) {
				f.Certificates[at.Root].Key, f.Certificates[at.Root].Signer = at.Key("another root"), at.Key("another root")
			}, trust: otherRoot(func(*certificate) {})},

		{name: "extra certificate", sentence: "An unrelated certificate stands between instance and leaf.", expect: untrusted, rules: "chain.length chain.name chain.ca.path-length",
			edit: ders(func(d [][]byte) [][]byte { return slices.Insert(d, 4, selfSigned()) })},
		{name: "instance twice", sentence: "The instance's certificate is there twice.", expect: untrusted, rules: "chain.length chain.name chain.key-id chain.ca.path-length",
			edit: ders(func(d [][]byte) [][]byte { return slices.Insert(d, 4, d[3]) })},
		{name: "root twice", sentence: "The root is there twice.", expect: untrusted, rules: "chain.length", edit: ders(func(d [][]byte) [][]byte { return slices.Insert(d, 1, d[0]) })},
		{name: "leaf in cabundle", sentence: "The leaf ends cabundle too.", expect: untrusted, rules: "chain.length chain.name chain.ca.constraints chain.ca.key-usage chain.ca.path-length",
			edit: ders(func(d [][]byte) [][]byte { return append(d, d[4]) })},
		{name: "root missing", sentence: "cabundle begins with the region.", expect: untrusted, rules: "chain.root chain.length", edit: ders(func(d [][]byte) [][]byte { return d[1:] })},
		{name: "zone missing", sentence: "The zone's certificate is missing.", expect: untrusted, rules: "chain.length chain.name chain.key-id", edit: ders(func(d [][]byte) [][]byte { return slices.Delete(d, 2, 3) })},
		{name: "instance missing", sentence: "The instance's certificate is missing.", expect: untrusted, rules: "chain.length chain.name", edit: ders(func(d [][]byte) [][]byte { return slices.Delete(d, 3, 4) })},
		{name: "reversed", sentence: "cabundle is in reverse order, the root last.", expect: untrusted, rules: "chain.root chain.name chain.key-id chain.ca.path-length",
			edit: ders(func(d [][]byte) [][]byte { slices.Reverse(d[:4]); return d })},
		{name: "zone and region swapped", sentence: "Zone and region are in the wrong order.", expect: untrusted, rules: "chain.name chain.key-id chain.ca.path-length chain.signature",
			edit: ders(func(d [][]byte) [][]byte { d[1], d[2] = d[2], d[1]; return d })},
		{name: "root and leaf only", sentence: "cabundle has the root only.", expect: untrusted, rules: "chain.length chain.name", edit: ders(func(d [][]byte) [][]byte { return [][]byte{d[0], d[4]} })},
		{name: "leaf under the root", sentence: "The root signed the leaf, without anything between.", expect: untrusted, rules: "chain.length",
			edit: func(f *forgery) {
				f.Certificates = []certificate{f.Certificates[at.Root], f.Certificates[at.Leaf]}
			}},
		{name: "root as leaf", sentence: "The leaf is the root, whose key signed the document.", expect: untrusted,
			rules: "chain.name chain.leaf.constraints chain.leaf.key-usage chain.signature",
			edit:  fields(ders(func(d [][]byte) [][]byte { d[4] = d[0]; return d }), func(f *forgery) { f.Signer = f.Certificates[at.Root].Key })},

		{name: "leaf is no certificate", sentence: "certificate is four bytes of text.", expect: malformed, rules: "chain.certificate", edit: ders(func(d [][]byte) [][]byte { d[4] = []byte("leaf"); return d })},
		{name: "byte after the leaf", sentence: "A byte follows the leaf's DER.", expect: malformed, rules: "chain.certificate", edit: ders(func(d [][]byte) [][]byte { d[4] = append(slices.Clip(d[4]), 0); return d })},
		{name: "zone cut", sentence: "The zone's certificate lacks its last byte.", expect: malformed, rules: "chain.certificate", edit: ders(func(d [][]byte) [][]byte { d[2] = d[2][:len(d[2])-1]; return d })},

		{name: "another issuer's name", sentence: "The zone names another issuer than the region.", expect: untrusted, rules: "chain.name",
			edit: cert(at.Zone, func(c *certificate) { c.Issuer = foreignName })},
		{name: "issuer's name in another order", sentence: "The leaf names its issuer in the order of the zone's name.", expect: untrusted, rules: "chain.name",
			edit: cert(at.Leaf, func(c *certificate) {
				c.Issuer = at.Name(at.Attribute{ID: at.CommonName, Value: "i-0123456789abcdef0.us-east-1.aws.nitro-enclaves"}, at.Attribute{ID: at.OrganizationUnit, Value: "AWS"},
					at.Attribute{ID: at.Organization, Value: "Amazon"}, at.Attribute{ID: at.Country, Value: "US"}, at.Attribute{ID: at.State, Value: "Washington"}, at.Attribute{ID: at.Locality, Value: "Seattle"})
			})},
		{name: "another issuer's key id", sentence: "The zone names another key of its issuer than the region has.", expect: untrusted, rules: "chain.key-id",
			edit: cert(at.Zone, func(c *certificate) { c.SetExtension(at.NewAuthorityKeyID([]byte("another key"))) })},
		{name: "leaf signed by the zone", sentence: "The zone's key signed the leaf, which names the instance.", expect: untrusted, rules: "chain.signature",
			edit: func(f *forgery) { f.Certificates[at.Leaf].Signer = f.Certificates[at.Zone].Key }},
		{name: "leaf signed by itself", sentence: "The leaf's own key signed the leaf.", expect: untrusted, rules: "chain.signature",
			edit: func(f *forgery) { f.Certificates[at.Leaf].Signer = f.Certificates[at.Leaf].Key }},
		{name: "leaf under a leaf", sentence: "The holder of a leaf issued another one with it.", expect: untrusted, rules: "chain.ca.constraints chain.ca.key-usage",
			edit: func(f *forgery) {
				f.Certificates[at.Instance].Extensions = slices.Clone(f.Certificates[at.Leaf].Extensions)
			}},

		{name: "leaf on P-256", sentence: "The leaf's key is on P-256 and signed the document with SHA-256.", expect: untrusted, rules: "chain.key cose.signature.length", edit: leafSigns(elliptic.P256(), crypto.SHA256)},
		{name: "leaf on P-256 with SHA-384", sentence: "The leaf's key is on P-256 and signed the document with SHA-384.", expect: untrusted, rules: "chain.key cose.signature.length", edit: leafSigns(elliptic.P256(), crypto.SHA384)},
		{name: "leaf on P-521", sentence: "The leaf's key is on P-521 and signed the document.", expect: untrusted, rules: "chain.key cose.signature.length", edit: leafSigns(elliptic.P521(), crypto.SHA384)},
		{name: "leaf with RSA", sentence: "The leaf's key is RSA.", expect: untrusted, rules: "chain.key", edit: leafKey(rsaNumber())},
		{name: "leaf with Ed25519", sentence: "The leaf's key is Ed25519.", expect: untrusted, rules: "chain.key", edit: leafKey(ed25519.NewKeyFromSeed(make([]byte, 32)))},
		{name: "instance on P-256", sentence: "The instance's key is on P-256.", expect: untrusted, rules: "chain.key", edit: cert(at.Instance, func(c *certificate) { c.Key = at.KeyOn(elliptic.P256(), "instance") })},
		{name: "zone signed with SHA-256", sentence: "The zone is signed with ECDSA and SHA-256.", expect: untrusted, rules: "chain.algorithm", edit: cert(at.Zone, func(c *certificate) { c.Algorithm = x509.ECDSAWithSHA256 })},
		{name: "leaf signed with SHA-512", sentence: "The leaf is signed with ECDSA and SHA-512.", expect: untrusted, rules: "chain.algorithm", edit: cert(at.Leaf, func(c *certificate) { c.Algorithm = x509.ECDSAWithSHA512 })},

		{name: "leaf is a CA", sentence: "The leaf is a CA.", expect: untrusted, rules: "chain.leaf.constraints", edit: cert(at.Leaf, ca(-1))},
		{name: "leaf without constraints", sentence: "The leaf has no basic constraints.", expect: untrusted, rules: "chain.leaf.constraints", edit: cert(at.Leaf, lacks(at.BasicConstraints))},
		{name: "leaf may sign certificates", sentence: "The leaf may sign certificates, by its key usage.", expect: untrusted, rules: "chain.leaf.key-usage",
			edit: cert(at.Leaf, mayUse(false, x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign))},
		{name: "leaf may not sign data", sentence: "The leaf's key usage is key agreement only.", expect: untrusted, rules: "chain.leaf.key-usage", edit: cert(at.Leaf, mayUse(true, x509.KeyUsageKeyAgreement))},
		{name: "leaf for non-repudiation only", sentence: "The leaf's key usage is non-repudiation without digital signature.", expect: untrusted, rules: "chain.leaf.key-usage", edit: cert(at.Leaf, mayUse(false, x509.KeyUsageContentCommitment))},
		{name: "leaf without key usage", sentence: "The leaf has no key usage.", expect: untrusted, rules: "chain.leaf.key-usage", edit: cert(at.Leaf, lacks(at.KeyUsage))},
		{name: "name constraints", sentence: "The region has name constraints that are not critical.", expect: untrusted, rules: "chain.critical", edit: cert(at.Region, ext(false, nameConstraints, 2, 5, 29, 30))},
		{name: "critical name constraints", sentence: "The region has critical name constraints.", expect: untrusted, rules: "chain.critical", edit: cert(at.Region, ext(true, nameConstraints, 2, 5, 29, 30))},
		{name: "critical EKU", sentence: "The leaf has a critical extended key usage.", expect: untrusted, rules: "chain.critical", edit: cert(at.Leaf, ext(true, ekuCodeSigning, 2, 5, 29, 37))},
		{name: "region path length 1", sentence: "The region allows one CA below it and has two.", expect: untrusted, rules: "chain.ca.path-length", edit: cert(at.Region, ca(1))},
		{name: "region path length 0", sentence: "The region allows no CA below it and has two.", expect: untrusted, rules: "chain.ca.path-length", edit: cert(at.Region, ca(0))},
		{name: "zone path length 0", sentence: "The zone allows no CA below it and has one.", expect: untrusted, rules: "chain.ca.path-length", edit: cert(at.Zone, ca(0))},
		{name: "root path length 2", sentence: "The root allows two CAs below it and has three.", expect: untrusted, rules: "chain.ca.path-length", edit: cert(at.Root, ca(2))},
	}
	for i, name := range names {
		list = append(list, byPosition(i, name)...)
	}
	return list
}

// byPosition are the faults that each certificate of the chain can have.
func byPosition(i int, name string) []vector {
	list := []vector{{name: name + " unknown critical", sentence: "The " + name + " has a critical extension that nobody knows.", expect: untrusted, rules: "chain.critical",
		edit: cert(i, ext(true, []byte{5, 0}, 1, 2, 3, 4))}}
	if i != at.Root {
		list = append(list, vector{name: name + " signed by a stranger", sentence: "A stranger's key signed the " + name + ".", expect: untrusted, rules: "chain.signature",
			edit: cert(i, func(c *certificate) { c.Signer = at.Key("stranger") })})
	}
	if i == at.Leaf {
		return list
	}
	return append(list,
		vector{name: name + " is no CA", sentence: "The " + name + " is no CA by its basic constraints.", expect: untrusted, rules: "chain.ca.constraints",
			edit: cert(i, func(c *certificate) { c.SetExtension(basic(true, false, -1)) })},
		vector{name: name + " without constraints", sentence: "The " + name + " has no basic constraints.", expect: untrusted, rules: "chain.ca.constraints", edit: cert(i, lacks(at.BasicConstraints))},
		vector{name: name + " may not sign certificates", sentence: "The " + name + "'s key usage is digital signature only.", expect: untrusted, rules: "chain.ca.key-usage",
			edit: cert(i, mayUse(true, x509.KeyUsageDigitalSignature))},
		vector{name: name + " without key usage", sentence: "The " + name + " has no key usage.", expect: untrusted, rules: "chain.ca.key-usage", edit: cert(i, lacks(at.KeyUsage))},
		vector{name: name + " constraints not critical", sentence: "The " + name + "'s basic constraints are not critical, which RFC 5280 wants of a CA.", expect: untrusted, rules: "chain.ca.constraints",
			edit: cert(i, func(c *certificate) { c.SetExtension(basic(false, true, max(3-i, -1))) })},
	)
}
