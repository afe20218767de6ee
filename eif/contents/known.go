// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"encoding/hex"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/pcr"
)

// A release is what many images have in common: PCR1 is that of kernel, command
// line and bootstrap ramdisk together.
type release struct {
	pcr1, versions string
	arch           eif.Arch
}

// Source: the expected values in the tests of aws/aws-nitro-enclaves-cli, which are
// also those that documents of many enclaves show.
var releases = []release{
	{"0343b056cd8485ca7890ddd833476d78460aed2aa161548e4e26bedf321726696257d623e8805f3f605946b3d8b0c6aa", "v1.3.1 to v1.5.0", eif.ArchX86_64},
	{"745004eab9a0fb4a67973b261c6e7fa5418dc870292927591574385649338e54686cdeb659f3c6c2e72ba11aba2158a8", "v1.3.1 to v1.5.0", eif.ArchAArch64},
	{"bcdf05fefccaa8e55bf2c8d6dee9e79bbff31e34bf28a99aa19e6b29c37ee80b214a414b7607236edf26fcb78654e63f", "before v1.3.1", eif.ArchX86_64},
	{"5d3938eb05288e20a981038b1861062ff4174884968a39aee5982b312894e60561883576cc7381d1a7d05b809936bd16", "before v1.3.1", eif.ArchAArch64},
}

// Release returns which published kernel, command line and init have this PCR1, in
// words; empty if it is none that is known.
func Release(pcr1 pcr.Digest) string {
	text := hex.EncodeToString(pcr1[:])
	for _, r := range releases {
		if r.pcr1 == text {
			return "kernel and init of nitro-cli " + r.versions + " (" + r.arch.String() + ")"
		}
	}
	return ""
}
