// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
)

func TestNaming(t *testing.T) {
	value := func(c string) string { return strings.Repeat(c, 48) }
	set, err := Parse([]byte(`{"schema":"cretula.reference.v1","releases":[
 {"name":"one","not_after":"2020-01-01T00:00:00Z","pcrs":{"PCR0":"` + value("a0") + `","PCR1":"` + value("b0") + `","PCR2":"` + value("c0") + `","PCR8":"` + value("d0") + `"}},
 {"name":"two","pcrs":{"PCR0":["` + value("a1") + `","` + value("a2") + `"],"PCR8":"` + value("d0") + `"},"required":["PCR16"]},
 {"name":"sets","sets":[{"PCR0":"` + value("a3") + `","PCR4":"` + value("e3") + `"},{"PCR0":"` + value("a4") + `","PCR4":"` + value("e4") + `"}]},
 {"name":"tpm","kind":"nitrotpm","pcrs":{"PCR4":"` + value("a0") + `","PCR0":"` + value("a0") + `"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	const enclave, tpm = attestation.KindEnclave, attestation.KindNitroTPM
	for _, c := range []struct {
		about  string
		kind   attestation.Kind
		values map[pcr.Index][]string
		want   []string
	}{
		{"all registers", enclave, map[pcr.Index][]string{0: {"a0"}, 1: {"b0"}, 2: {"c0"}, 8: {"d0"}}, []string{"one"}},
		{"the image alone", enclave, map[pcr.Index][]string{0: {"a0"}}, []string{"one"}},
		{"one value of several", enclave, map[pcr.Index][]string{0: {"a2"}}, []string{"two"}},
		{"several images", enclave, map[pcr.Index][]string{0: {"a0", "ff", "a1"}}, []string{"one", "two"}},
		{"without PCR0", enclave, map[pcr.Index][]string{1: {"b0"}, 2: {"c0"}}, []string{"one"}},
		{"a register that the file does not name", enclave, map[pcr.Index][]string{0: {"a0"}, 3: {"ff"}}, []string{"one"}},
		{"a set", enclave, map[pcr.Index][]string{0: {"a4"}, 4: {"e4"}}, []string{"sets"}},

		{"one register is other", enclave, map[pcr.Index][]string{0: {"a0"}, 8: {"ff"}}, nil},
		{"registers of two sets", enclave, map[pcr.Index][]string{0: {"a3"}, 4: {"e4"}}, nil},
		{"the signer says no image", enclave, map[pcr.Index][]string{8: {"d0"}}, nil},
		{"a base says no image", enclave, map[pcr.Index][]string{1: {"b0"}}, nil},
		{"another image", enclave, map[pcr.Index][]string{0: {"ff"}}, nil},
		{"nothing is wanted", enclave, nil, nil},
		{"of a TPM", tpm, map[pcr.Index][]string{4: {"a0"}}, []string{"tpm"}},
		{"of a TPM, no image", tpm, map[pcr.Index][]string{0: {"a0"}}, nil},
	} {
		var values [pcr.Count][]pcr.Digest
		for i, list := range c.values {
			for _, v := range list {
				d, err := pcr.ParseDigest(value(v))
				if err != nil {
					t.Fatal(err)
				}
				values[i] = append(values[i], d)
			}
		}
		// Twice: nothing of the file is used up.
		for range 2 {
			if got := set.Naming(c.kind, &values); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, want %q", c.about, got, c.want)
			}
		}
	}
}
