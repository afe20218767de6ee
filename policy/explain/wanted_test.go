// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"reflect"
	"strings"
	"testing"
)

func TestWanted(t *testing.T) {
	other := digest("aaaaaaaa", "bb")
	const pre = "kms:RecipientAttestation:"
	for _, c := range []struct {
		about, policy string
		want          []Wanted
	}{
		{"an Allow and a Deny", guarded, []Wanted{
			{Registers: map[int][]string{0: {pcr0}, 1: {pcr1}, 2: {pcr2}}}, {Registers: map[int][]string{0: {pcr0}}}}},
		{"as people write it", one("Allow", "Decrypt", `{"StringEquals":{"`+pre+`PCR0":["0x`+strings.ToUpper(pcr0)+`","`+pcr0[:40]+`"]}}`),
			[]Wanted{{Registers: map[int][]string{0: {pcr0}}}}},
		{"two keys of one register", one("Allow", "Decrypt", `{"StringEquals":{"`+pre+`PCR0":["`+pcr0+`","`+pcr1+`"],"`+pre+`ImageSha384":"`+pcr1+`"}}`),
			[]Wanted{{Registers: map[int][]string{0: {pcr1}}}}},
		{"a contradiction", one("Allow", "Decrypt", `{"StringEquals":{"`+pre+`PCR0":"`+pcr0+`","`+pre+`ImageSha384":"`+pcr1+`"}}`),
			[]Wanted{{Registers: map[int][]string{0: {}}}}},
		{"of a TPM", one("Allow", "Decrypt", `{"StringEquals":{"`+pre+`NitroTPMPCR4":"`+pcr0+`"}}`),
			[]Wanted{{TPM: true, Registers: map[int][]string{4: {pcr0}}}}},

		{"an image that is shut out", one("Deny", "Decrypt", `{"StringEquals":{"`+pre+`PCR0":"`+other+`"}}`), nil},
		{"all but one", one("Allow", "Decrypt", `{"StringNotEquals":{"`+pre+`PCR0":"`+other+`"}}`), nil},
		{"a pattern", one("Allow", "Decrypt", `{"StringLike":{"`+pre+`PCR0":"`+pcr0[:95]+`?"}}`), nil},
		{"any document", one("Deny", "Decrypt", `{"Null":{"`+pre+`PCR0":"false"}}`), nil},
		{"of another action", one("Allow", "Sign", `{"StringEquals":{"`+pre+`PCR0":"`+pcr0+`"}}`), nil},
		{"no such key", one("Allow", "Decrypt", `{"StringEquals":{"`+pre+`PCR32":"`+pcr0+`"}}`), nil},
	} {
		if got := Of(decide(t, c.policy, "Decrypt", image(other, other, other))).Wanted(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.about, got, c.want)
		}
	}
	if got := Of(decide(t, guarded, "Decrypt", image(pcr0, pcr1, pcr2))).Wanted(); got != nil {
		t.Errorf("allowed: %v", got)
	}
}
