// SPDX-License-Identifier: Apache-2.0

package softnsm_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"log"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
)

// A module with a measured image, a register of the program's own, and a
// document that is verified under the module's root.
func Example() {
	ctx := context.Background()
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		log.Fatal(err)
	}
	var image pcr.Set
	for i := range pcr.Index(3) {
		image.Put(i, pcr.Measured(pcr.Sum([]byte("a section"))))
	}
	module, err := softnsm.New(softnsm.Config{Authority: authority, PCRs: image})
	if err != nil {
		log.Fatal(err)
	}
	defer module.Close()

	client := nsm.Client{Device: module}
	if _, err := client.ExtendPCR(ctx, 16, []byte("configuration")); err != nil {
		log.Fatal(err)
	}
	if err := client.LockPCR(ctx, 16); err != nil {
		log.Fatal(err)
	}
	raw, err := client.Attest(ctx, nsm.AttestationRequest{Nonce: []byte("challenge")})
	if err != nil {
		log.Fatal(err)
	}

	verifier, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{authority.Root()}})
	if err != nil {
		log.Fatal(err)
	}
	document, err := verifier.Verify(raw, attestation.Expectation{PCRs: image, Nonce: []byte("challenge")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("registers:", document.PCRs.Len(), "emulated:", document.Emulated)
	// Output: registers: 17 emulated: true
}
