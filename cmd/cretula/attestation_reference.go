// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/reference"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
)

// readReference reads the file of --reference; nil without that flag.
func readReference(env *cli.Env, name string) (*reference.Set, error) {
	if name == "" {
		return nil, nil
	}
	data, err := env.ReadInput(name, reference.MaxSize)
	if err != nil {
		return nil, err
	}
	set, err := reference.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cli.Printable(name), err)
	}
	return set, nil
}

// A releaseVerdict is a verdict with what --reference adds to it.
type releaseVerdict struct {
	*attestation.Verdict
	// Release is the one that the document belongs to; nil if there is none or
	// if nobody is known to vouch for the document.
	Release *string `json:"release"`
	// Releases says, for a document that matches none, how it differs from
	// each, closest first.
	Releases []reference.Comparison `json:"releases"`
}

// printReleases looks for the release of a document, adds to the verdict that
// there is none, and prints it.
func printReleases(env *cli.Env, f *verifyFlags, set *reference.Set, v *attestation.Verdict, e attestation.Expectation) error {
	out := releaseVerdict{Verdict: v, Releases: []reference.Comparison{}}
	// Releases are judged at the time of the check, whichever that is; there is
	// none where it was to be that of a document that has none.
	if v.Kind != nil && v.PCRs != nil && v.CheckedAt != nil {
		kind := attestation.KindEnclave
		if *v.Kind == attestation.KindNitroTPM.String() {
			kind = attestation.KindNitroTPM
		}
		match, err := set.Compare(kind, v.PCRs, *v.CheckedAt)
		if refusal, ok := errors.AsType[*reason.Error](err); ok {
			v.Problems = append(v.Problems, refusal.Problems...)
			slices.SortStableFunc(v.Problems, func(a, b reason.Problem) int { return cmp.Compare(a.Reason, b.Reason) })
			v.Verdict, v.Reason = "rejected", &v.Problems[0].Reason
			out.Releases = match.Releases
		} else if v.Trust != nil {
			out.Release = &match.Release
			for i, d := range match.Pinned.All() {
				e.PCRs.Put(i, d)
			}
		}
	}
	if f.json {
		return env.PrintJSON(out)
	}
	if err := printVerdict(env, v, e, len(f.crls) > 0); err != nil {
		return err
	}
	_, err := env.Stdout.Write(releaseLines(out))
	return err
}

func releaseLines(v releaseVerdict) []byte {
	var b bytes.Buffer
	if v.Release != nil {
		fmt.Fprintf(&b, "release   %s\n", *v.Release)
	}
	if len(v.Releases) > 0 {
		fmt.Fprintln(&b, "releases, closest first")
	}
	const shown = 5
	for i, c := range v.Releases {
		if i == shown {
			fmt.Fprintf(&b, "  and %d more; --json has all\n", len(v.Releases)-shown)
			break
		}
		fmt.Fprintf(&b, "  %s\n", c.Name)
		for _, d := range c.Differs {
			fmt.Fprintf(&b, "    %v\n", d)
		}
	}
	if len(v.Problems) > 0 && v.Problems[0].Rule == reference.RuleRelease {
		fmt.Fprintln(&b, "to do: add the release to the reference file if it is to be accepted, or deploy one that is in it")
	}
	return b.Bytes()
}
