// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"
)

// chainLength is the number of certificates in a chain: root, region, zone,
// instance, leaf.
const chainLength = 5

var positions = [chainLength]string{
	"the root certificate", "the region certificate", "the zone certificate", "the instance certificate", "the leaf certificate",
}

// position names a certificate of a chain for messages.
func position(i, length int) string {
	switch {
	case i == length-1:
		return positions[chainLength-1]
	case length == chainLength:
		return positions[i]
	}
	return fmt.Sprintf("cabundle[%d]", i)
}

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
)

// A subject is a certificate for messages: who it is, and where it begins in the
// document.
type subject struct {
	who string
	at  int
}

func (u *Unverified) subject(i, length int) subject {
	return subject{position(i, length), u.certificateAt(i, length)}
}

// checkChain checks everything about a chain but its root's identity, the time
// and its signatures. A chain that was not read whole is checked as far as it goes.
func checkChain(f *findings, u *Unverified, chain []*x509.Certificate) {
	if len(chain) != chainLength {
		f.add(ruleLength, "there are %d certificates from root to leaf, not %d", len(chain), chainLength)
	}
	for i, cert := range chain {
		if cert == nil {
			continue
		}
		who := u.subject(i, len(chain))
		checkCommon(f, who, cert)
		if i == len(chain)-1 {
			checkLeaf(f, who, cert)
		} else {
			checkCA(f, who, cert, len(chain)-2-i)
		}
		if i > 0 && chain[i-1] != nil {
			checkLink(f, who, cert, chain[i-1])
		}
	}
}

// checkCommon checks what every certificate of the PKI has.
func checkCommon(f *findings, who subject, cert *x509.Certificate) {
	if keyOf(cert) == nil {
		f.addField(ruleKey, who.at, "%s has no ECDSA key on P-384 but %v", who.who, cert.PublicKeyAlgorithm)
	}
	if cert.SignatureAlgorithm != x509.ECDSAWithSHA384 {
		f.addField(ruleChainAlgorithm, who.at, "%s is signed with %v, not ECDSA-SHA384", who.who, cert.SignatureAlgorithm)
	}
	for _, ext := range cert.Extensions {
		known := ext.Id.Equal(oidBasicConstraints) || ext.Id.Equal(oidKeyUsage)
		if ext.Critical && !known || ext.Id.Equal(oidNameConstraints) {
			f.addField(ruleCritical, who.at, "%s has the extension %v, which would have to be obeyed and is not understood", who.who, ext.Id)
		}
	}
}

func checkValidity(f *findings, who subject, cert *x509.Certificate, at time.Time) {
	const layout = time.RFC3339
	switch {
	case at.Before(cert.NotBefore):
		f.addField(ruleValidity, who.at, "%s is valid from %s on, the time of the check is %s",
			who.who, cert.NotBefore.UTC().Format(layout), at.UTC().Format(layout))
	case at.After(cert.NotAfter):
		f.addField(ruleValidity, who.at, "%s expired %s, the time of the check is %s",
			who.who, cert.NotAfter.UTC().Format(layout), at.UTC().Format(layout))
	}
}

// checkCA checks a certificate that stands above below other CAs.
func checkCA(f *findings, who subject, cert *x509.Certificate, below int) {
	critical := false
	for _, ext := range cert.Extensions {
		critical = critical || ext.Critical && ext.Id.Equal(oidBasicConstraints)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || !critical {
		f.addField(ruleCAConstraints, who.at, "%s has no critical basic constraints that make it a CA", who.who)
	}
	if limited := cert.MaxPathLen > 0 || cert.MaxPathLen == 0 && cert.MaxPathLenZero; limited && cert.MaxPathLen < below {
		f.addField(rulePathLength, who.at, "%s allows %d CAs below it, there are %d", who.who, cert.MaxPathLen, below)
	}
	if cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		f.addField(ruleCAKeyUsage, who.at, "%s may not sign certificates: no key usage keyCertSign", who.who)
	}
}

func checkLeaf(f *findings, who subject, cert *x509.Certificate) {
	switch {
	case !cert.BasicConstraintsValid:
		f.addField(ruleLeafConstraints, who.at, "%s has no basic constraints", who.who)
	case cert.IsCA:
		f.addField(ruleLeafConstraints, who.at, "%s is a CA's", who.who)
	case cert.MaxPathLen > 0 || cert.MaxPathLenZero:
		f.addField(ruleLeafConstraints, who.at, "%s has a path length", who.who)
	}
	if cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		f.addField(ruleLeafKeyUsage, who.at, "%s may not sign data: no key usage digitalSignature", who.who)
	}
	if cert.KeyUsage&x509.KeyUsageCertSign != 0 {
		f.addField(ruleLeafKeyUsage, who.at, "%s may sign certificates: key usage keyCertSign", who.who)
	}
}

// checkLink checks that issuer could have issued cert, but for the signature.
func checkLink(f *findings, who subject, cert, issuer *x509.Certificate) {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		f.addField(ruleNames, who.at, "%s was issued by %.200q, the one before it is %.200q", who.who, cert.Issuer.String(), issuer.Subject.String())
	}
	if len(cert.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId) {
		f.addField(ruleKeyIdentifier, who.at, "%s names the issuer's key %.64x, the one before it has %.64x", who.who, cert.AuthorityKeyId, issuer.SubjectKeyId)
	}
}

// checkChainSignatures checks the signature of each link whose algorithm and
// key are right; the others were reported. It goes from the root down and ends
// at the first that is wrong: below it the keys are anyone's. Every certificate
// of the chain must have been parsed. What is known is not checked again.
func (c *check) checkChainSignatures() (good bool) {
	for i := 1; i < len(c.chain); i++ {
		cert, issuer := c.chain[i], c.chain[i-1]
		checkable := keyOf(issuer) != nil && cert.SignatureAlgorithm == x509.ECDSAWithSHA384
		if checkable && c.known[i] == nil && !certificateSigned(c.v.p384, cert, issuer) {
			who := c.u.subject(i, len(c.chain))
			c.f.addField(ruleChainSignature, who.at, "%s is not signed by the one before it", who.who)
			return false
		}
	}
	return true
}
