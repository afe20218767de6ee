// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"sync"

	"github.com/cretula/cretula/internal/p384"
	"github.com/cretula/cretula/reason"
)

// A Fingerprint is the SHA-256 of a certificate's DER encoding.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a certificate in DER.
func FingerprintOf(der []byte) Fingerprint { return sha256.Sum256(der) }

// String returns 64 lower-case hexadecimal digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// RootG1 returns the root of the commercial AWS partition, CN=aws.nitro-enclaves,
// valid until 2049-10-28, SHA-256 641a0321…79bb5b. Source: AWS Nitro Enclaves
// User Guide, "Verifying the root of trust".
func RootG1() *x509.Certificate { return mustParse(rootG1()) }

// RootGovCloud returns the root of the aws-us-gov partition,
// CN=aws-us-gov.nitro-enclaves, valid until 2050-09-10, SHA-256
// 20bcd30a…668b3b. Source: AWS GovCloud (US) User Guide, "AWS Nitro Enclaves".
func RootGovCloud() *x509.Certificate { return mustParse(rootGovCloud()) }

var (
	rootG1       = sync.OnceValue(func() []byte { return mustDecode(rootG1PEM) })
	rootGovCloud = sync.OnceValue(func() []byte { return mustDecode(rootGovCloudPEM) })
)

func mustDecode(constant string) []byte {
	block, _ := pem.Decode([]byte(constant))
	return block.Bytes
}

func mustParse(der []byte) *x509.Certificate {
	// A parsed certificate refers to its bytes, and belongs to the caller.
	cert, err := x509.ParseCertificate(bytes.Clone(der))
	if err != nil {
		panic("attestation: a built-in root does not parse: " + err.Error())
	}
	return cert
}

// trustOf tells whose root a fingerprint is.
func trustOf(root Fingerprint) Trust {
	switch root {
	case FingerprintOf(rootG1()):
		return TrustAWS
	case FingerprintOf(rootGovCloud()):
		return TrustAWSGovCloud
	}
	return TrustCustom
}

// ParseRoots reads the certificates of a PEM file that are to replace the
// built-in roots. Other PEM blocks and text between them are skipped; a file
// without a certificate, or with one that does not parse, is refused as
// [reason.Malformed] by rule chain.certificate.
func ParseRoots(pemFile []byte) ([]*x509.Certificate, error) {
	var f findings
	var roots []*x509.Certificate
	for block, rest := pem.Decode(pemFile); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		root, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			f.add(ruleDER, "a root does not parse: %v", err)
			return nil, f.err()
		}
		roots = append(roots, root)
	}
	if len(roots) == 0 {
		f.add(ruleDER, "no PEM certificate found")
		return nil, f.err()
	}
	return roots, nil
}

// checkRoot refuses a certificate that could never begin a good chain, or that
// did not sign itself.
func checkRoot(p p384.Implementation, root *x509.Certificate) error {
	if root == nil || len(root.Raw) == 0 {
		return errors.New("attestation: a root is nil or was not parsed")
	}
	var f findings
	who := subject{who: "the given root"}
	checkCommon(&f, who, root)
	checkCA(&f, who, root, chainLength-2)
	if string(root.RawIssuer) != string(root.RawSubject) {
		f.add(ruleNames, "the given root has another certificate's name as its issuer")
	}
	if !f.has(reason.Untrusted) && !certificateSigned(p, root, root) {
		f.add(ruleChainSignature, "the given root did not sign itself")
	}
	return f.err()
}

const rootG1PEM = `-----BEGIN CERTIFICATE-----
MIICETCCAZagAwIBAgIRAPkxdWgbkK/hHUbMtOTn+FYwCgYIKoZIzj0EAwMwSTEL
MAkGA1UEBhMCVVMxDzANBgNVBAoMBkFtYXpvbjEMMAoGA1UECwwDQVdTMRswGQYD
VQQDDBJhd3Mubml0cm8tZW5jbGF2ZXMwHhcNMTkxMDI4MTMyODA1WhcNNDkxMDI4
MTQyODA1WjBJMQswCQYDVQQGEwJVUzEPMA0GA1UECgwGQW1hem9uMQwwCgYDVQQL
DANBV1MxGzAZBgNVBAMMEmF3cy5uaXRyby1lbmNsYXZlczB2MBAGByqGSM49AgEG
BSuBBAAiA2IABPwCVOumCMHzaHDimtqQvkY4MpJzbolL//Zy2YlES1BR5TSksfbb
48C8WBoyt7F2Bw7eEtaaP+ohG2bnUs990d0JX28TcPQXCEPZ3BABIeTPYwEoCWZE
h8l5YoQwTcU/9KNCMEAwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUkCW1DdkF
R+eWw5b6cp3PmanfS5YwDgYDVR0PAQH/BAQDAgGGMAoGCCqGSM49BAMDA2kAMGYC
MQCjfy+Rocm9Xue4YnwWmNJVA44fA0P5W2OpYow9OYCVRaEevL8uO1XYru5xtMPW
rfMCMQCi85sWBbJwKKXdS6BptQFuZbT73o/gBh1qUxl/nNr12UO8Yfwr6wPLb+6N
IwLz3/Y=
-----END CERTIFICATE-----
`

const rootGovCloudPEM = `-----BEGIN CERTIFICATE-----
MIICIDCCAaWgAwIBAgIQP+wUYfyWFFRko9PR00zhZzAKBggqhkjOPQQDAzBQMQsw
CQYDVQQGEwJVUzEPMA0GA1UECgwGQW1hem9uMQwwCgYDVQQLDANBV1MxIjAgBgNV
BAMMGWF3cy11cy1nb3Yubml0cm8tZW5jbGF2ZXMwIBcNMjAwOTEwMTIwMzQ2WhgP
MjA1MDA5MTAxMzAzNDZaMFAxCzAJBgNVBAYTAlVTMQ8wDQYDVQQKDAZBbWF6b24x
DDAKBgNVBAsMA0FXUzEiMCAGA1UEAwwZYXdzLXVzLWdvdi5uaXRyby1lbmNsYXZl
czB2MBAGByqGSM49AgEGBSuBBAAiA2IABCzkRJcZVx7Sg2yXXkl0Nqj9o1ECZNAh
0L8/90ATZXAaS1rxA1ti1F3wE86PGsh2UiQIYXiMu81l5kO7775gPuLsgYcGMO/J
0t08BHI8s3+JmjxTlA+/UyAqEmj7fD5CbKNCMEAwDwYDVR0TAQH/BAUwAwEB/zAd
BgNVHQ4EFgQUUKIzFk2FAlhihuQexsqOxZ5ZjF0wDgYDVR0PAQH/BAQDAgGGMAoG
CCqGSM49BAMDA2kAMGYCMQD9bO9epcf5kMSdsHcyNJXs4bo07wvTIOwnxN41t5eE
SDyXtUei++RebAbI9Viap2gCMQC7PVZ6Kpg0+N9k+DDpksoJv7gx6YwCqKsmTfU/
WigyQlpyJUrWapqk0afDA4lef14=
-----END CERTIFICATE-----
`
