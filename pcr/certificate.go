// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Certificate returns PCR8 of an image signed with the certificate of that DER
// encoding: H(Z ‖ H(DER)). A certificate that was renewed has another PCR8, even
// over the same key.
func Certificate(der []byte) (Digest, error) {
	if _, err := x509.ParseCertificate(der); err != nil {
		return Digest{}, fmt.Errorf("pcr: signing certificate: %w", err)
	}
	return Measured(Sum(der)), nil
}

// CertificatePEM returns PCR8 for the certificate that counts in a PEM file: see
// [SigningCertificate].
func CertificatePEM(file []byte) (Digest, error) {
	cert, err := SigningCertificate(file)
	if err != nil {
		return Digest{}, err
	}
	return Measured(Sum(cert.Raw)), nil
}

var (
	pemBegin = []byte("-----BEGIN ")

	errNoCertificate = errors.New("the file has no certificate in PEM")
)

// SigningCertificate finds the certificate that counts in a certificate file of an
// image, for the signature and for PCR8: the first block CERTIFICATE. Text, other
// blocks and further certificates may stand around it.
//
// A file of which another reader could take another certificate is refused: AWS's
// tools find it with OpenSSL, which begins lines anew after 254 bytes, passes over
// a byte order mark and takes older kinds of blocks, and does not pass over one
// that is damaged.
func SigningCertificate(file []byte) (*x509.Certificate, error) {
	for text := file; ; {
		at := bytes.Index(text, pemBegin)
		if at < 0 {
			return nil, errNoCertificate
		}
		if at > 0 && text[at-1] != '\n' {
			return nil, errors.New("before the first certificate of the file, a PEM block begins within a line: readers differ on whether it counts")
		}
		text = text[at:]
		block, rest := pem.Decode(text)
		// Go's decoder passes over blocks that it cannot read.
		if block == nil || bytes.Count(text[:len(text)-len(rest)], pemBegin) != 1 {
			return nil, errors.New("the first certificate of the file, or a PEM block before it, is damaged")
		}
		switch {
		case block.Type != "CERTIFICATE" && strings.Contains(block.Type, "CERTIFICATE"):
			return nil, fmt.Errorf("a PEM block of type %q comes before the first certificate of the file: readers differ on whether it counts", block.Type)
		case block.Type != "CERTIFICATE":
			text = rest
			continue
		case len(block.Headers) > 0:
			return nil, errors.New("the first certificate of the file has PEM headers")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the first certificate of the file: %w", err)
		}
		return cert, nil
	}
}
