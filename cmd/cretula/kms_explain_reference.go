// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/reference"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy/explain"
)

// releaseNames is what --reference adds to an explanation: the document and the policy
// by the names of releases.
type releaseNames struct {
	// Release is the one that the document was of when the request came; nil if there
	// is none, or no document.
	Release *string `json:"release"`
	// Releases says, for a document of no release, how it differs from each, closest
	// first.
	Releases []reference.Comparison `json:"releases"`
	// Wanted are the releases whose registers the statements ask for that bear on a
	// denial.
	Wanted []string `json:"wanted"`

	document bool // there was one
	unknown  bool // a statement asks for an image that is of no release
}

// nameReleases compares an event with the releases of a file. A document that was
// refused before any policy has no registers in it.
func nameReleases(set *reference.Set, event *kms.Event) (*releaseNames, error) {
	names := &releaseNames{Releases: []reference.Comparison{}, Wanted: []string{}}
	if event.Additional != nil {
		names.document = true
		r := &event.Additional.Recipient
		kind := attestation.KindEnclave
		if r.Kind == attestation.KindNitroTPM.String() {
			kind = attestation.KindNitroTPM
		}
		match, err := set.Compare(kind, &r.Registers, event.EventTime)
		switch {
		case err == nil:
			names.Release = &match.Release
		case len(match.Releases) > 0:
			names.Releases = match.Releases
		default:
			return nil, err
		}
	}
	if event.Decision == nil {
		return names, nil
	}
	for _, w := range explain.Of(event.Decision).Wanted() {
		if err := names.want(set, w); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// want adds the releases that one statement asks for.
func (n *releaseNames) want(set *reference.Set, w explain.Wanted) error {
	var values [pcr.Count][]pcr.Digest
	for number, list := range w.Registers {
		for _, text := range list {
			d, err := pcr.ParseDigest(text)
			if err != nil {
				return err
			}
			values[number] = append(values[number], d)
		}
	}
	kind, image := attestation.KindEnclave, pcr.Index(0)
	if w.TPM {
		kind, image = attestation.KindNitroTPM, 4
	}
	named := set.Naming(kind, &values)
	n.unknown = n.unknown || len(named) == 0 && len(values[image]) > 0
	for _, name := range named {
		if !slices.Contains(n.Wanted, name) {
			n.Wanted = append(n.Wanted, name)
		}
	}
	return nil
}

// text is the line for a terminal, empty if there is nothing to say.
func (n *releaseNames) text(file string) string {
	var parts []string
	switch {
	case n.Release != nil && slices.Equal(n.Wanted, []string{*n.Release}) && !n.unknown:
		return fmt.Sprintf("\nrelease: the document is of %q, and the policy wants that one.\n", *n.Release)
	case n.Release != nil:
		parts = append(parts, fmt.Sprintf("the document is of %q", *n.Release))
	case n.document && datesOnly(n.Releases[0]):
		parts = append(parts, fmt.Sprintf("the document is of %q, which %s", n.Releases[0].Name, datesText(n.Releases[0])))
	case n.document:
		parts = append(parts, fmt.Sprintf("the document is of none in %s; closest is %q, but for %s", cli.Printable(file), n.Releases[0].Name, registersText(n.Releases[0])))
	}
	wanted := make([]string, len(n.Wanted))
	for i, name := range n.Wanted {
		wanted[i] = fmt.Sprintf("%q", name)
	}
	if n.unknown {
		wanted = append(wanted, "an image that is of none in "+cli.Printable(file))
	}
	if len(wanted) > 0 {
		parts = append(parts, "the policy wants "+strings.Join(wanted, " or "))
	}
	if len(parts) == 0 {
		return ""
	}
	return "\nrelease: " + strings.Join(parts, "; ") + ".\n"
}

func isDate(d reference.Difference) bool { return d.What == "not_before" || d.What == "not_after" }

func datesOnly(c reference.Comparison) bool {
	return !slices.ContainsFunc(c.Differs, func(d reference.Difference) bool { return !isDate(d) })
}

// datesText says of a release that the registers are of why it did not count.
func datesText(c reference.Comparison) string {
	if d := c.Differs[0]; d.What == "not_before" {
		return "begins at " + d.Want[0]
	}
	return "ended at " + c.Differs[0].Want[0]
}

func registersText(c reference.Comparison) string {
	var names []string
	for _, d := range c.Differs {
		if !isDate(d) {
			names = append(names, d.What)
		}
	}
	return strings.Join(names, ", ")
}
