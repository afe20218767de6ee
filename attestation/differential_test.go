// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/reason"
)

// randomForge makes a chain with up to three deviations from the good one.
func randomForge(r *rand.Rand) forge {
	var edits [5][]func(*x509.Certificate)
	for range r.IntN(4) {
		at := r.IntN(5)
		edits[at] = append(edits[at], randomEdit(r))
	}
	f := forge{certificate: func(i int, c *x509.Certificate) {
		for _, edit := range edits[i] {
			edit(c)
		}
	}}
	switch at := 1 + r.IntN(4); r.IntN(8) {
	case 0:
		f.signer = func(i int) crypto.Signer {
			if i == at {
				return strayKey()
			}
			return nil
		}
	case 1:
		f.parent = func(i int, c *x509.Certificate) {
			if i == at {
				c.Subject.CommonName += " or another"
			}
		}
	case 2:
		f.parent = func(i int, c *x509.Certificate) {
			if i == at {
				c.SubjectKeyId = []byte("another key")
			}
		}
	}
	return f
}

func randomEdit(r *rand.Rand) func(*x509.Certificate) {
	minutes := time.Duration(r.IntN(240)-120) * time.Minute
	switch r.IntN(14) {
	case 0:
		return func(c *x509.Certificate) { c.NotAfter = forgeTime.Add(minutes) }
	case 1:
		return func(c *x509.Certificate) { c.NotBefore = forgeTime.Add(minutes) }
	case 2:
		return func(c *x509.Certificate) { c.IsCA, c.MaxPathLen, c.MaxPathLenZero = !c.IsCA, -1, false }
	case 3:
		return func(c *x509.Certificate) { c.BasicConstraintsValid = false }
	case 4:
		usage := x509.KeyUsage(1 << r.IntN(9))
		return func(c *x509.Certificate) { c.KeyUsage = usage }
	case 5:
		return func(c *x509.Certificate) { c.KeyUsage = 0 }
	case 6, 7:
		n := r.IntN(4)
		return func(c *x509.Certificate) {
			if c.IsCA {
				c.MaxPathLen, c.MaxPathLenZero = n, n == 0
			}
		}
	case 8:
		return extension(r.IntN(2) == 0, []byte{5, 0}, 1, 2, 3, r.IntN(1<<20))
	case 9:
		return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping} }
	case 10:
		return func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} }
	case 11:
		return func(c *x509.Certificate) { c.DNSNames = []string{"example.org"} }
	case 12:
		return func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA512 }
	}
	return func(c *x509.Certificate) { c.SubjectKeyId = []byte("a name for the key") }
}

// chainCount is how many chains are compared: some hundreds, or thousands where
// long tests are asked for.
func chainCount() int {
	if os.Getenv("CRETULA_LONG") == "1" {
		return 10000
	}
	return 400
}

// stricterThanX509 are the rules by which we refuse chains that crypto/x509
// accepts, and why it does.
var stricterThanX509 = map[string]string{
	"chain.algorithm":        "it takes any hash that is not broken",
	"chain.ca.key-usage":     "it takes a CA without key usage",
	"chain.critical":         "name constraints matter to it only where there are names",
	"chain.key-id":           "the identifiers of keys are hints to it",
	"chain.leaf.constraints": "the leaf may be a CA",
	"chain.leaf.key-usage":   "it does not look at the leaf's key usage",
}

// TestNeverMorePermissive: what we accept, crypto/x509 and OpenSSL accept; what
// we alone refuse, we refuse by a rule of which we know why they do not have it.
func TestNeverMorePermissive(t *testing.T) {
	openssl := lookOpenSSL(t)
	n := chainCount()
	r := rand.New(rand.NewPCG(1, 2))
	accepted, refusedByBoth, stricter := 0, 0, 0
	why := map[string]int{}
	for i := range n {
		document, root := randomForge(r).make(t)
		u, err := attestation.Parse(document)
		if err != nil {
			t.Fatal(err)
		}
		theirs := verifyX509(u.UnverifiedCertificates(), root, forgeTime)
		v, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
		if err == nil {
			_, err = v.Verify(document, forgeExpectation())
		}
		switch {
		case err == nil && theirs != nil:
			t.Errorf("%d: accepted, crypto/x509 says %v", i, theirs)
		case err == nil:
			if accepted++; openssl != "" && accepted%3 == 0 {
				opensslAccepts(t, openssl, u.UnverifiedCertificates(), forgeTime)
			}
		case theirs != nil:
			refusedByBoth++
		default:
			stricter++
			attribute(t, fmt.Sprintf("chain %d", i), err, stricterThanX509, why)
		}
	}
	t.Logf("of %d chains %d accepted, %d refused by both, %d by us alone: %v", n, accepted, refusedByBoth, stricter, why)
	if accepted == 0 || refusedByBoth == 0 || len(why) < 6 {
		t.Error("the chains are all of one sort")
	}
}

// attribute counts the rules of a refusal, each of which must be known.
func attribute(t *testing.T, what string, err error, known map[string]string, count map[string]int) {
	t.Helper()
	refusal, ok := err.(*reason.Error)
	if !ok {
		t.Errorf("%s: %v", what, err)
		return
	}
	rules := map[string]bool{}
	for _, p := range refusal.Problems {
		rules[p.Rule] = true
	}
	for rule := range rules {
		if count[rule]++; known[rule] == "" {
			t.Errorf("%s: nobody knows why it is refused by %s alone: %v", what, rule, err)
		}
	}
}

// lookOpenSSL returns the path of openssl, empty if it is not there, which fails
// the test where CI=true is set.
func lookOpenSSL(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal("openssl is not there, and CI=true")
	}
	if err != nil {
		t.Log("openssl is not there: compared with crypto/x509 only")
	}
	return path
}

// verifyX509 asks crypto/x509, with the certificates between root and leaf as
// its pool.
func verifyX509(ders [][]byte, root *x509.Certificate, at time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	var leaf *x509.Certificate
	for i, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		if i == len(ders)-1 {
			leaf = cert
		} else if i > 0 {
			between.AddCert(cert)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

func opensslAccepts(t *testing.T, openssl string, ders [][]byte, at time.Time) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, ders ...[]byte) string {
		var b strings.Builder
		for _, der := range ders {
			pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out, err := exec.Command(openssl, "verify", "-attime", fmt.Sprint(at.Unix()), "-CAfile", write("root", ders[0]),
		"-untrusted", write("between", ders[1:4]...), write("leaf", ders[4])).CombinedOutput()
	if err != nil {
		t.Errorf("accepted, openssl says %s", out)
	}
}

// TestGenuineChainsElsewhere: crypto/x509 and OpenSSL accept the genuine chains
// that we accept.
func TestGenuineChainsElsewhere(t *testing.T) {
	genuine, _ := readIndex(t)
	openssl := lookOpenSSL(t)
	for _, item := range genuine {
		u, err := attestation.Parse(readShared(t, item.File))
		if err != nil {
			t.Fatal(err)
		}
		if err := verifyX509(u.UnverifiedCertificates(), attestation.RootG1(), u.UnverifiedTimestamp()); err != nil {
			t.Errorf("%s: crypto/x509 says %v", item.File, err)
		}
		if openssl != "" {
			opensslAccepts(t, openssl, u.UnverifiedCertificates(), u.UnverifiedTimestamp())
		}
	}
}
