// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
)

// The fingerprints as AWS publishes them.
const (
	fingerprintG1       = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"
	fingerprintGovCloud = "20bcd30a3e168ea03789e1c45912bc123c4de3c977b8a6e1c125c7929d668b3b"
)

func TestBuiltInRoots(t *testing.T) {
	g1, gov := attestation.RootG1(), attestation.RootGovCloud()
	if got := attestation.FingerprintOf(g1.Raw).String(); got != fingerprintG1 {
		t.Errorf("Root G1 is %s", got)
	}
	if got := attestation.FingerprintOf(gov.Raw).String(); got != fingerprintGovCloud {
		t.Errorf("the GovCloud root is %s", got)
	}
	if want := time.Date(2049, 10, 28, 14, 28, 5, 0, time.UTC); !g1.NotAfter.Equal(want) {
		t.Errorf("Root G1 ends %v, want %v", g1.NotAfter, want)
	}
	if want := time.Date(2050, 9, 10, 13, 3, 46, 0, time.UTC); !gov.NotAfter.Equal(want) {
		t.Errorf("the GovCloud root ends %v, want %v", gov.NotAfter, want)
	}
	// Each call returns a certificate of its own, so that no caller can change
	// another's.
	g1.Raw[0] ^= 0xff
	if got := attestation.FingerprintOf(attestation.RootG1().Raw).String(); got != fingerprintG1 {
		t.Error("the built-in root can be changed through what RootG1 returned")
	}
}

func TestRootFilesAreTheBuiltInOnes(t *testing.T) {
	for _, name := range []string{"roots/aws-nitro-enclaves-root-g1.pem", "roots/aws-us-gov-nitro-enclaves-root.pem"} {
		roots, err := attestation.ParseRoots(readShared(t, name))
		if err != nil || len(roots) != 1 {
			t.Fatal(name, err)
		}
		got := attestation.FingerprintOf(roots[0].Raw).String()
		if got != fingerprintG1 && got != fingerprintGovCloud {
			t.Errorf("%s is %s", name, got)
		}
	}
}
