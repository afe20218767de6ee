// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// A LaunchVerdict says whether an image's signature would stop an enclave from
// starting, and with which of nitro-cli's error codes.
type LaunchVerdict struct {
	// Signed tells that the image has a signature. Without one nothing is
	// checked at a launch, and PCR8 is zero.
	Signed bool
	// Problems are empty if nothing about the signature stops a launch or
	// deserves to.
	Problems []LaunchProblem
}

// A LaunchProblem is one reason why an image must not or would not start.
type LaunchProblem struct {
	reason.Problem
	// PreCheck is the code that "nitro-cli run-enclave" stops with before it asks
	// the platform, "E59"; empty if its check lets the image pass.
	PreCheck string
	// Platform are the codes, in this order, that nitro-cli prints when the
	// platform refuses the image itself; empty where AWS does not document that
	// it would.
	Platform []string
}

// Codes of nitro-cli. Source: AWS Nitro Enclaves User Guide, "Nitro CLI errors".
const (
	CodeSignature = "E59" // the signature or its certificate failed nitro-cli's check
	CodeBoot      = "E36" // no ready signal in time
	CodeProcess   = "E39" // the enclave process cannot be reached
	CodeSocket    = "E11" // an error of its socket
)

// LaunchVerdict judges the image's signature as of a time. The measurements are
// those of [Image.Measure].
//
// What nitro-cli checks before a launch is the signature under the certificate in
// the file, and the certificate's dates. It does not compare the signed value
// with PCR0, so that a signature of another image passes; here that is a
// problem. What the platform is documented to refuse is a certificate that is
// not valid.
func (im *Image) LaunchVerdict(m pcr.Measurements, at time.Time) LaunchVerdict {
	s := im.signature
	if s == nil {
		return LaunchVerdict{}
	}
	v := LaunchVerdict{Signed: true}
	pcr0, _ := m.Get(0)
	for _, p := range s.problems(pcr0, at) {
		found := LaunchProblem{Problem: p, PreCheck: CodeSignature}
		switch p.Rule {
		case "eif.signature.validity":
			found.Platform = []string{CodeBoot, CodeProcess, CodeSocket}
		case "eif.signature.register":
			found.PreCheck = ""
		}
		v.Problems = append(v.Problems, found)
	}
	return v
}

// Err returns the problems as a [*reason.Error]; nil if there are none.
func (v LaunchVerdict) Err() error {
	if len(v.Problems) == 0 {
		return nil
	}
	e := &reason.Error{}
	for _, p := range v.Problems {
		e.Problems = append(e.Problems, p.Problem)
	}
	return e
}
