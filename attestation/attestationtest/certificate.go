// SPDX-License-Identifier: Apache-2.0

package attestationtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"
)

// Positions in the chain of a Forgery that [New] returned.
const (
	Root = iota
	Region
	Zone
	Instance
	Leaf
)

// A Certificate is what one certificate of the chain is to say.
type Certificate struct {
	Serial *big.Int
	// Subject is the name in DER, see [Name].
	Subject []byte
	// Issuer is the subject of the certificate before it if nil; the root's is
	// its own.
	Issuer              []byte
	NotBefore, NotAfter time.Time
	// Extensions are all extensions, in their order.
	Extensions []pkix.Extension
	// Key is the certificate's own key.
	Key crypto.Signer
	// Signer signs the certificate, the key of the one before it if nil.
	Signer crypto.Signer
	// Algorithm is ECDSA with SHA-384 if zero.
	Algorithm x509.SignatureAlgorithm
}

// A key makes the same signature over the same digest each time, RFC 6979.
type key struct{ *ecdsa.PrivateKey }

func (k key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(nil, digest, opts)
}

// Key returns the P-384 key of that name: always the same, and known to
// everybody who has this package.
func Key(name string) crypto.Signer { return KeyOn(elliptic.P384(), name) }

// KeyOn is Key on another curve of NIST.
func KeyOn(curve elliptic.Curve, name string) crypto.Signer {
	width := (curve.Params().BitSize + 7) / 8
	for try := byte(0); ; try++ {
		sum := sha512.Sum512([]byte(fmt.Sprintf("cretula attestationtest key\x00%s\x00%s\x00%c", curve.Params().Name, name, try)))
		raw := make([]byte, width)
		copy(raw[max(0, width-len(sum)):], sum[:])
		// What is zero or not below the order is refused, and another is tried.
		if private, err := ecdsa.ParseRawPrivateKey(curve, raw); err == nil {
			return key{private}
		}
	}
}

// An Attribute is one part of a name.
type Attribute struct {
	ID    asn1.ObjectIdentifier
	Value string
}

// Types of attributes, RFC 5280 appendix A.1.
var (
	CommonName       = asn1.ObjectIdentifier{2, 5, 4, 3}
	Country          = asn1.ObjectIdentifier{2, 5, 4, 6}
	Locality         = asn1.ObjectIdentifier{2, 5, 4, 7}
	State            = asn1.ObjectIdentifier{2, 5, 4, 8}
	Organization     = asn1.ObjectIdentifier{2, 5, 4, 10}
	OrganizationUnit = asn1.ObjectIdentifier{2, 5, 4, 11}
)

// Name encodes a name as AWS does: the country is a PrintableString, all else
// UTF8String, each part a set of its own.
func Name(attributes ...Attribute) []byte {
	var name pkix.RDNSequence
	for _, a := range attributes {
		tag := asn1.TagUTF8String
		if a.ID.Equal(Country) {
			tag = asn1.TagPrintableString
		}
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: a.ID, Value: asn1.RawValue{Tag: tag, Bytes: []byte(a.Value)}}})
	}
	return encodeASN1(name)
}

// Extensions of the certificates, RFC 5280 §4.2.1.
var (
	SubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	KeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	BasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	AuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
)

// NewKeyUsage returns a key usage extension.
func NewKeyUsage(critical bool, usage x509.KeyUsage) pkix.Extension {
	bits := asn1.BitString{Bytes: []byte{0}}
	for i := range 8 {
		if usage&(1<<i) != 0 {
			bits.Bytes[0] |= 0x80 >> i
			bits.BitLength = i + 1
		}
	}
	return pkix.Extension{Id: KeyUsage, Critical: critical, Value: encodeASN1(bits)}
}

// NewBasicConstraints returns a basic constraints extension; pathLen is -1 for
// none.
func NewBasicConstraints(critical, ca bool, pathLen int) pkix.Extension {
	return pkix.Extension{Id: BasicConstraints, Critical: critical, Value: encodeASN1(struct {
		CA      bool `asn1:"optional"`
		PathLen int  `asn1:"optional,default:-1"`
	}{ca, pathLen})}
}

// NewSubjectKeyID returns a subject key identifier extension.
func NewSubjectKeyID(id []byte) pkix.Extension {
	return pkix.Extension{Id: SubjectKeyID, Value: encodeASN1(id)}
}

// NewAuthorityKeyID returns an authority key identifier extension.
func NewAuthorityKeyID(id []byte) pkix.Extension {
	return pkix.Extension{Id: AuthorityKeyID, Value: encodeASN1(struct {
		ID []byte `asn1:"tag:0"`
	}{id})}
}

// SetExtension replaces the extension of the same type, or adds it at the end.
func (c *Certificate) SetExtension(e pkix.Extension) {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(e.Id) {
			c.Extensions[i] = e
			return
		}
	}
	c.Extensions = append(c.Extensions, e)
}

// RemoveExtension removes the extensions of that type.
func (c *Certificate) RemoveExtension(id asn1.ObjectIdentifier) {
	kept := c.Extensions[:0:0]
	for _, e := range c.Extensions {
		if !e.Id.Equal(id) {
			kept = append(kept, e)
		}
	}
	c.Extensions = kept
}

func encodeASN1(v any) []byte {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return der
}

// keyID is an identifier of the key of that name.
func keyID(name string) []byte {
	sum := sha512.Sum512([]byte("cretula attestationtest key id\x00" + name))
	return sum[:20]
}

const (
	hour = time.Hour
	day  = 24 * hour
)

// newChain returns a chain in the shape of AWS's, with a leaf that was made three
// seconds before at.
func newChain(at time.Time) []Certificate {
	at = at.UTC().Truncate(time.Second)
	amazon := []Attribute{{Country, "US"}, {Organization, "Amazon"}, {OrganizationUnit, "AWS"}}
	host := []Attribute{{Country, "US"}, {State, "Washington"}, {Locality, "Seattle"}, {Organization, "Amazon"}, {OrganizationUnit, "AWS"}}
	all := x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	leafSerial := binary.BigEndian.AppendUint64([]byte{0x01, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}, uint64(at.Unix()))
	return []Certificate{
		{
			Serial:    serial("root", 16),
			Subject:   Name(Attribute{Organization, "Cretula"}, Attribute{OrganizationUnit, "EMULATED"}, Attribute{CommonName, "cretula-forged.nitro-enclaves"}),
			NotBefore: at.AddDate(-7, 0, 0), NotAfter: at.AddDate(23, 0, 0),
			Extensions: []pkix.Extension{NewBasicConstraints(true, true, -1), NewSubjectKeyID(keyID("root")), NewKeyUsage(true, all)},
			Key:        Key("root"),
		}, {
			Serial:    serial("region", 16),
			Subject:   Name(append(amazon, Attribute{CommonName, "0123456789abcdef.us-east-1.aws.nitro-enclaves"})...),
			NotBefore: at.Add(-8 * day), NotAfter: at.Add(12*day + hour),
			Extensions: []pkix.Extension{NewBasicConstraints(true, true, 2), NewAuthorityKeyID(keyID("root")), NewSubjectKeyID(keyID("region")), NewKeyUsage(true, all)},
			Key:        Key("region"),
		}, {
			Serial: serial("zone", 16),
			// The order of these is AWS's.
			Subject: Name(Attribute{CommonName, "fedcba9876543210.zonal.us-east-1.aws.nitro-enclaves"}, Attribute{OrganizationUnit, "AWS"},
				Attribute{Organization, "Amazon"}, Attribute{Country, "US"}, Attribute{State, "WA"}, Attribute{Locality, "Seattle"}),
			NotBefore: at.Add(-2 * day), NotAfter: at.Add(4 * day),
			Extensions: []pkix.Extension{NewBasicConstraints(true, true, 1), NewAuthorityKeyID(keyID("region")), NewSubjectKeyID(keyID("zone")), NewKeyUsage(true, all)},
			Key:        Key("zone"),
		}, {
			Serial:    serial("instance", 20),
			Subject:   Name(append(host, Attribute{CommonName, "i-0123456789abcdef0.us-east-1.aws.nitro-enclaves"})...),
			NotBefore: at.Add(-5 * hour), NotAfter: at.Add(19 * hour),
			Extensions: []pkix.Extension{NewBasicConstraints(true, true, 0), NewKeyUsage(true, x509.KeyUsageCertSign), NewSubjectKeyID(keyID("instance")), NewAuthorityKeyID(keyID("zone"))},
			Key:        Key("instance"),
		}, {
			Serial:    new(big.Int).SetBytes(leafSerial),
			Subject:   Name(append(host, Attribute{CommonName, ModuleID + ".us-east-1.aws"})...),
			NotBefore: at.Add(-3 * time.Second), NotAfter: at.Add(3 * hour),
			Extensions: []pkix.Extension{NewBasicConstraints(true, false, -1), NewKeyUsage(false, x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment)},
			Key:        Key("leaf"),
		},
	}
}

// serial is a positive number of n bytes.
func serial(name string, n int) *big.Int {
	sum := sha512.Sum512([]byte("cretula attestationtest serial\x00" + name))
	sum[0] = sum[0]&0x7f | 0x40
	return new(big.Int).SetBytes(sum[:n])
}

// chain makes the certificates, root first.
func (f *Forgery) chain() ([][]byte, error) {
	ders := make([][]byte, len(f.Certificates))
	for i, c := range f.Certificates {
		above := f.Certificates[max(i-1, 0)]
		issuer, signer := c.Issuer, c.Signer
		if issuer == nil {
			issuer = above.Subject
		}
		if signer == nil {
			signer = above.Key
		}
		der, err := c.Make(issuer, signer)
		if err != nil {
			return nil, fmt.Errorf("attestationtest: certificate %d: %w", i, err)
		}
		ders[i] = der
	}
	return ders, nil
}

// made has the certificates that were made, by all that goes into them: most
// forgeries have the same. It is emptied when it is full.
var made struct {
	sync.Mutex
	ders map[[sha512.Size]byte][]byte
}

const maxMade = 1024

// Make returns the certificate in DER under an issuer of that name and key. It
// does not look at c.Issuer and c.Signer.
func (c *Certificate) Make(issuer []byte, signer crypto.Signer) ([]byte, error) {
	algorithm := c.Algorithm
	if algorithm == x509.UnknownSignatureAlgorithm {
		algorithm = x509.ECDSAWithSHA384
	}
	own, err := x509.MarshalPKIXPublicKey(c.Key.Public())
	if err != nil {
		return nil, err
	}
	above, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	id := sha512.Sum512(fmt.Appendf(nil, "%v %x %x %v %v %v %v %x %x", c.Serial, c.Subject, issuer, c.NotBefore.Unix(), c.NotAfter.Unix(),
		c.Extensions, algorithm, own, above))
	made.Lock()
	der, known := made.ders[id]
	made.Unlock()
	if known {
		return bytes.Clone(der), nil
	}
	der, err = x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber:       c.Serial,
		RawSubject:         c.Subject,
		NotBefore:          c.NotBefore.UTC(),
		NotAfter:           c.NotAfter.UTC(),
		SignatureAlgorithm: algorithm,
		ExtraExtensions:    c.Extensions,
	}, &x509.Certificate{RawSubject: issuer}, c.Key.Public(), signer)
	if err != nil {
		return nil, err
	}
	made.Lock()
	defer made.Unlock()
	if made.ders == nil || len(made.ders) >= maxMade {
		made.ders = map[[sha512.Size]byte][]byte{}
	}
	made.ders[id] = bytes.Clone(der)
	return der, nil
}

// MakeCRL returns a revocation list of the certificate in DER, signed with
// ECDSA and SHA-384 by c.Key. The certificate must have a subject key
// identifier; whether it may sign lists is not looked at.
func (c *Certificate) MakeCRL(list *x509.RevocationList) ([]byte, error) {
	issuer := &x509.Certificate{RawSubject: c.Subject, KeyUsage: x509.KeyUsageCRLSign}
	for _, e := range c.Extensions {
		if !e.Id.Equal(SubjectKeyID) {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &issuer.SubjectKeyId); err != nil {
			return nil, fmt.Errorf("attestationtest: %w", err)
		}
	}
	signed := *list
	signed.SignatureAlgorithm = x509.ECDSAWithSHA384
	return x509.CreateRevocationList(nil, &signed, issuer, c.Key)
}
