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

var positions = [chainLength]string{"root", "region", "zone", "instance", "leaf"}

// position names a certificate of a chain for messages.
func position(i, length int) string {
	switch {
	case i == length-1:
		return "the leaf certificate"
	case length == chainLength:
		return "the " + positions[i] + " certificate"
	}
	return fmt.Sprintf("cabundle[%d]", i)
}

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
)

// parseChain parses the certificates, root first. One that does not parse is
// reported and nil in the result.
func parseChain(f *findings, ders [][]byte) []*x509.Certificate {
	chain := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			f.add(ruleDER, "%s does not parse: %v", position(i, len(ders)), err)
			continue
		}
		chain[i] = cert
	}
	return chain
}

// checkChain checks everything about a chain but its root's identity, the time
// and its signatures. A chain that was not read whole is checked as far as it goes.
func checkChain(f *findings, chain []*x509.Certificate) {
	if len(chain) != chainLength {
		f.add(ruleLength, "there are %d certificates from root to leaf, not %d", len(chain), chainLength)
	}
	for i, cert := range chain {
		if cert == nil {
			continue
		}
		who := position(i, len(chain))
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
func checkCommon(f *findings, who string, cert *x509.Certificate) {
	if keyOf(cert) == nil {
		f.add(ruleKey, "%s has no ECDSA key on P-384 but %v", who, cert.PublicKeyAlgorithm)
	}
	if cert.SignatureAlgorithm != x509.ECDSAWithSHA384 {
		f.add(ruleChainAlgorithm, "%s is signed with %v, not ECDSA-SHA384", who, cert.SignatureAlgorithm)
	}
	for _, ext := range cert.Extensions {
		known := ext.Id.Equal(oidBasicConstraints) || ext.Id.Equal(oidKeyUsage)
		if ext.Critical && !known || ext.Id.Equal(oidNameConstraints) {
			f.add(ruleCritical, "%s has the extension %v, which would have to be obeyed and is not understood", who, ext.Id)
		}
	}
}

func checkValidity(f *findings, who string, cert *x509.Certificate, at time.Time) {
	const layout = time.RFC3339
	switch {
	case at.Before(cert.NotBefore):
		f.add(ruleValidity, "%s is valid from %s on, the time of the check is %s",
			who, cert.NotBefore.UTC().Format(layout), at.UTC().Format(layout))
	case at.After(cert.NotAfter):
		f.add(ruleValidity, "%s expired %s, the time of the check is %s",
			who, cert.NotAfter.UTC().Format(layout), at.UTC().Format(layout))
	}
}

// checkCA checks a certificate that stands above below other CAs.
func checkCA(f *findings, who string, cert *x509.Certificate, below int) {
	critical := false
	for _, ext := range cert.Extensions {
		critical = critical || ext.Critical && ext.Id.Equal(oidBasicConstraints)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || !critical {
		f.add(ruleCAConstraints, "%s has no critical basic constraints that make it a CA", who)
	}
	if limited := cert.MaxPathLen > 0 || cert.MaxPathLen == 0 && cert.MaxPathLenZero; limited && cert.MaxPathLen < below {
		f.add(rulePathLength, "%s allows %d CAs below it, there are %d", who, cert.MaxPathLen, below)
	}
	if cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		f.add(ruleCAKeyUsage, "%s may not sign certificates: no key usage keyCertSign", who)
	}
}

func checkLeaf(f *findings, who string, cert *x509.Certificate) {
	switch {
	case !cert.BasicConstraintsValid:
		f.add(ruleLeafConstraints, "%s has no basic constraints", who)
	case cert.IsCA:
		f.add(ruleLeafConstraints, "%s is a CA's", who)
	case cert.MaxPathLen > 0 || cert.MaxPathLenZero:
		f.add(ruleLeafConstraints, "%s has a path length", who)
	}
	if cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		f.add(ruleLeafKeyUsage, "%s may not sign data: no key usage digitalSignature", who)
	}
	if cert.KeyUsage&x509.KeyUsageCertSign != 0 {
		f.add(ruleLeafKeyUsage, "%s may sign certificates: key usage keyCertSign", who)
	}
}

// checkLink checks that issuer could have issued cert, but for the signature.
func checkLink(f *findings, who string, cert, issuer *x509.Certificate) {
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		f.add(ruleNames, "%s was issued by %.200q, the one before it is %.200q", who, cert.Issuer.String(), issuer.Subject.String())
	}
	if len(cert.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId) {
		f.add(ruleKeyIdentifier, "%s names the issuer's key %.64x, the one before it has %.64x", who, cert.AuthorityKeyId, issuer.SubjectKeyId)
	}
}

// checkChainSignatures checks the signature of each link whose algorithm and
// key are right; the others were reported. It goes from the root down and ends
// at the first that is wrong: below it the keys are anyone's. Every certificate
// of chain must have been parsed.
func checkChainSignatures(f *findings, chain []*x509.Certificate) (good bool) {
	for i := 1; i < len(chain); i++ {
		checkable := keyOf(chain[i-1]) != nil && chain[i].SignatureAlgorithm == x509.ECDSAWithSHA384
		if checkable && !certificateSigned(chain[i], chain[i-1]) {
			f.add(ruleChainSignature, "%s is not signed by the one before it", position(i, len(chain)))
			return false
		}
	}
	return true
}
