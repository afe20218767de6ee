// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// A CertificateLint is what can be told of a certificate file before an image is
// signed with it.
type CertificateLint struct {
	// Certificate is the first in the file: the only one that counts, for the
	// signature and for PCR8.
	Certificate *x509.Certificate
	// Curve is "P-256", "P-384" or "P-521" and Algorithm the COSE name of what it
	// signs with; both are empty for a key that images are not signed with.
	Curve, Algorithm string
	// PCR8 is that of every image signed with this certificate. A renewed
	// certificate has another one, also over the same key.
	PCR8 pcr.Digest
	// At is the time of the check.
	At time.Time
	// DaysLeft are the whole days from then to NotAfter, rounded down:
	// negative once it has expired.
	DaysLeft int
	// InFile is the number of certificates in the file.
	InFile int
	// SelfSigned tells that the certificate's own key, of at most 16384 bits if it is
	// of RSA, signed it.
	SelfSigned bool
	// Problems are why an image cannot be signed with the file, or would not
	// start, gravest first.
	Problems []reason.Problem
	// Notes are what else is worth knowing.
	Notes []string
}

// Err returns the problems as a [*reason.Error]; nil if there are none.
func (l *CertificateLint) Err() error {
	if len(l.Problems) == 0 {
		return nil
	}
	return &reason.Error{Problems: l.Problems}
}

// soon is how long before its end a certificate is worth a note.
const soonDays = 30

// LintCertificate looks at a certificate file, PEM, as of a time. The error is a
// [*reason.Error] of reason Malformed if there is no certificate to tell anything
// of.
func LintCertificate(certificateFile []byte, at time.Time) (*CertificateLint, error) {
	cert, err := pcr.SigningCertificate(certificateFile)
	if err != nil {
		return nil, reason.New(reason.Malformed, "eif.certificate.form", "%w", err)
	}
	l := &CertificateLint{
		Certificate: cert,
		PCR8:        pcr.Measured(pcr.Sum(cert.Raw)),
		At:          at,
		DaysLeft:    daysUntil(at, cert.NotAfter),
		InFile:      countCertificates(certificateFile),
		SelfSigned:  selfSigned(cert),
	}
	if alg := algorithmOf(cert); alg != nil {
		l.Curve, l.Algorithm = alg.curve.Params().Name, alg.name
	}
	for _, refusal := range []*reason.Error{
		checkPEM(certificateFile), checkKey(cert), checkValidity(cert, at),
	} {
		if refusal != nil {
			l.Problems = append(l.Problems, refusal.Problems...)
		}
	}
	slices.SortStableFunc(l.Problems, func(a, b reason.Problem) int { return int(a.Reason) - int(b.Reason) })
	l.note(certificateFile)
	return l, nil
}

// daysUntil returns the whole days from one time to another, rounded down. A
// [time.Duration] ends at 292 years, and certificates that are to be valid for ever
// end in 9999 (RFC 5280 §4.1.2.5).
func daysUntil(from, to time.Time) int {
	const day = 24 * 60 * 60
	seconds := to.Unix() - from.Unix()
	if to.Nanosecond() < from.Nanosecond() {
		seconds--
	}
	days := seconds / day
	if seconds < days*day {
		days--
	}
	return int(days)
}

func (l *CertificateLint) note(file []byte) {
	add := func(format string, args ...any) { l.Notes = append(l.Notes, fmt.Sprintf(format, args...)) }
	c := l.Certificate
	if l.InFile > 1 {
		add("the file has %d certificates; only the first counts, the others are carried along and checked by nobody", l.InFile)
	}
	if i := bytes.Index(file, pemBegin); i > 0 && len(bytes.TrimSpace(file[:i])) > 0 {
		add("the file has text before the certificate, which becomes part of the image; PCR8 does not depend on it")
	}
	if !l.At.After(c.NotAfter) && l.DaysLeft < soonDays {
		add("it expires at %s; from then on no enclave starts from an image signed with it", c.NotAfter.UTC().Format(time.RFC3339))
	}
	if l.SelfSigned {
		add("it is self-signed, as AWS's instructions have it; nobody checks a chain, what pins the signer is PCR8")
	}
	if c.Version < 3 {
		add("it is X.509 version %d, as 'openssl x509 -req' makes it without extensions; that is accepted", c.Version)
	}
	if c.IsCA {
		add("it may sign other certificates (CA:TRUE); a key that signs images does not need that")
	}
}

// selfSigned does not ask whether the certificate is a CA, which x509's own
// check of a signature by a parent does. Of RSA keys beyond all use it is not told:
// a modulus of a megabyte takes minutes.
func selfSigned(c *x509.Certificate) bool {
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > 16384 {
		return false
	}
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// checkCertificateFile returns the first certificate of a file that an image can
// be signed with, whatever the date.
func checkCertificateFile(file []byte) (*x509.Certificate, error) {
	cert, err := pcr.SigningCertificate(file)
	if err != nil {
		return nil, reason.New(reason.Malformed, "eif.certificate.form", "%w", err)
	}
	if refusal := checkPEM(file); refusal != nil {
		return nil, refusal
	}
	if refusal := checkKey(cert); refusal != nil {
		return nil, refusal
	}
	return cert, nil
}

const certificateBlock = "CERTIFICATE"

var (
	pemBegin         = []byte("-----BEGIN ")
	certificateBegin = []byte("-----BEGIN CERTIFICATE-----")
)

func countCertificates(file []byte) int {
	n := 0
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == certificateBlock {
			n++
		}
	}
	return n
}

// checkPEM refuses a file that must not get into an image, and one in which another
// reader could look for the certificate elsewhere.
func checkPEM(file []byte) *reason.Error {
	// Looked for as text, so that a damaged or encrypted one is found too.
	if bytes.Contains(file, []byte("PRIVATE KEY-----")) {
		return reason.New(reason.Malformed, "eif.certificate.private-key",
			"a private key is in the certificate file, and the whole file is part of the image")
	}
	if i := bytes.Index(file, pemBegin); i < 0 || !bytes.HasPrefix(file[i:], certificateBegin) {
		return reason.New(reason.Malformed, "eif.certificate.first", "the first PEM block of the file is not a certificate")
	}
	return nil
}

// checkKey refuses the keys that the format has no algorithm for.
func checkKey(cert *x509.Certificate) *reason.Error {
	if algorithmOf(cert) != nil {
		return nil
	}
	kind := cert.PublicKeyAlgorithm.String()
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); ok {
		kind = key.Curve.Params().Name
	}
	return reason.New(reason.Unsupported, "eif.signature.key",
		"the signing certificate holds a key of kind %s; images are signed with P-256, P-384 or P-521", kind)
}

// checkValidity wants the time within the certificate's validity, whose both ends
// belong to it (RFC 5280 §4.1.2.5).
func checkValidity(c *x509.Certificate, at time.Time) *reason.Error {
	if !at.Before(c.NotBefore) && !at.After(c.NotAfter) {
		return nil
	}
	return reason.New(reason.Untrusted, "eif.signature.validity",
		"the signing certificate is valid from %s to %s, not at %s; an enclave with this image would not start",
		c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), at.UTC().Format(time.RFC3339))
}
