// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

type eifVerifyFlags struct {
	at, pcr8, certificate string
	allowUnsigned, json   bool
}

func newEIFVerifyCommand(env *cli.Env) *cobra.Command {
	var f eifVerifyFlags
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Tell whether an image is rightly signed and would start at a date",
		Long: `Recompute an image's PCR0 and tell whether the certificate in the image signed it,
whether that certificate is valid at the date, and what nitro-cli and the platform
would make of it.

Everybody can make a certificate: what says who signed is PCR8. Name the one that is
expected with --pcr8 or --certificate; otherwise it is only printed.

The exit status is 0 only if all of it holds. An image that is not signed is refused
unless --allow-unsigned is given.`,
		Example: `  $ cretula eif verify app.eif --certificate cert.pem
  $ cretula eif verify app.eif --at 2027-01-31T00:00:00Z`,
		Args: exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return verifyEIF(cmd.Context(), env, &f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.at, "at", "", "verify as of this `TIME` (RFC 3339) rather than now")
	flags.StringVar(&f.pcr8, "pcr8", "", "expected PCR8, as `HEX`")
	flags.StringVar(&f.certificate, "certificate", "", "expected signing certificate, a PEM `FILE`")
	flags.BoolVar(&f.allowUnsigned, "allow-unsigned", false, "accept an image without a signature")
	flags.BoolVar(&f.json, "json", false, "print a JSON object")
	return cmd
}

// expected returns the PCR8 that is to be there; nil if none is named.
func (f *eifVerifyFlags) expected(env *cli.Env) (*pcr.Digest, error) {
	switch {
	case f.pcr8 != "" && f.certificate != "":
		return nil, cli.Usagef("--pcr8 and --certificate say the same: give one of them")
	case f.allowUnsigned && (f.pcr8 != "" || f.certificate != ""):
		return nil, cli.Usagef("an image without a signature has no PCR8: --allow-unsigned contradicts --pcr8 and --certificate")
	case f.pcr8 != "":
		d, err := pcr.ParseDigest(f.pcr8)
		if err != nil {
			return nil, cli.Usagef("--pcr8: %v", err)
		}
		return &d, nil
	case f.certificate != "":
		d, err := certificatePCR8(env, f.certificate)
		return &d, err
	}
	return nil, nil
}

func verifyEIF(ctx context.Context, env *cli.Env, f *eifVerifyFlags, name string) error {
	at, err := atTime(env, f.at)
	if err != nil {
		return err
	}
	want, err := f.expected(env)
	if err != nil {
		return err
	}
	im, file, err := openImage(env, name)
	if err != nil {
		return err
	}
	defer file.Close()
	m, err := file.measure(ctx, im)
	if err != nil {
		return err
	}
	v := &verification{image: im, at: at, measurements: m, compared: want != nil}
	if err := v.judge(want, f.allowUnsigned); err != nil {
		return err
	}
	if f.json {
		err = v.printJSON(env, name)
	} else {
		err = v.printText(env)
	}
	if err != nil || len(v.problems) == 0 {
		return err
	}
	return &cli.ExitError{Code: v.err().Reason().ExitCode()}
}

// A verification is all that is found of one image.
type verification struct {
	image        *eif.Image
	at           time.Time
	measurements pcr.Measurements
	lint         *eif.CertificateLint // nil if unsigned
	compared     bool                 // a PCR8 was named
	problems     []eif.LaunchProblem
}

func (v *verification) err() *reason.Error {
	e := &reason.Error{}
	for _, p := range v.problems {
		e.Problems = append(e.Problems, p.Problem)
	}
	return e
}

// judge collects what is wrong, gravest first.
func (v *verification) judge(want *pcr.Digest, allowUnsigned bool) (err error) {
	add := func(rule, format string, args ...any) {
		v.problems = append(v.problems, eif.LaunchProblem{
			Problem: reason.Problem{Rule: rule, Reason: reason.Mismatch, Message: fmt.Sprintf(format, args...)},
		})
	}
	s := v.image.Signature()
	if s == nil {
		if !allowUnsigned {
			add("eif.signature.absent", "the image is not signed: an enclave starts from it, and its PCR8 is zero")
		}
		return nil
	}
	if v.lint, err = eif.LintCertificate(s.CertificateFile, v.at); err != nil {
		return err
	}
	v.problems = v.image.LaunchVerdict(v.measurements, v.at).Problems
	for _, p := range v.lint.Problems {
		// Nothing stops a launch for it, but whoever has the image has the key.
		if p.Rule == "eif.certificate.private-key" {
			v.problems = append(v.problems, eif.LaunchProblem{Problem: p})
		}
	}
	if got := s.PCR8(); want != nil && got != *want {
		add("eif.signature.other", "PCR8 is %s, expected is %s: another certificate signed", got.Short(), want.Short())
	}
	slices.SortStableFunc(v.problems, func(a, b eif.LaunchProblem) int { return int(a.Reason) - int(b.Reason) })
	return nil
}

func (v *verification) printText(env *cli.Env) error {
	var b bytes.Buffer
	at := v.at.UTC().Format(time.RFC3339)
	switch {
	case len(v.problems) > 0:
		fmt.Fprintf(&b, "rejected  %s\n", reasonsOf(v.err().Problems))
	case v.lint == nil:
		fmt.Fprintf(&b, "unsigned  an enclave starts from it, and its PCR8 is zero\n")
	default:
		fmt.Fprintf(&b, "good      signed, and would start at %s\n", at)
	}
	for _, p := range v.problems {
		fmt.Fprintf(&b, "  %s  %s\n", p.Rule, cli.Printable(p.Message))
		if text := launchText(p); text != "" {
			fmt.Fprintf(&b, "    %s\n", text)
		}
	}
	if v.lint != nil {
		c := v.lint.Certificate
		fmt.Fprintf(&b, "signer    %s\n          %s, valid %s to %s, %s\n", subject(c), algorithmName(v.image.Signature()),
			c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), remaining(v.lint))
	}
	addRegisters(&b, v.measurements)
	if v.lint != nil && !v.compared {
		fmt.Fprintf(&b, "note      PCR8 was compared with nothing: everybody can make a certificate; name yours with --pcr8 or --certificate\n")
	}
	_, err := env.Stdout.Write(b.Bytes())
	return err
}

func algorithmName(s *eif.Signature) string {
	if name := s.Algorithm(); name != "" {
		return name
	}
	return "an unknown algorithm"
}

// launchText says what nitro-cli and the platform make of a problem; nothing where
// it is none to them.
func launchText(p eif.LaunchProblem) string {
	switch {
	case p.Rule == "eif.signature.register":
		return "nitro-cli run-enclave lets this pass: it does not compare what was signed with PCR0"
	case len(p.Platform) > 0:
		return fmt.Sprintf("nitro-cli run-enclave stops with %s; without its check the platform refuses: %s", p.PreCheck, strings.Join(p.Platform, ", then "))
	case p.PreCheck != "":
		return "nitro-cli run-enclave stops with " + p.PreCheck
	}
	return ""
}

// A launchView is a problem in JSON. The findings are of one image.
type launchView struct {
	reason.Problem
	PreCheck string   `json:"nitro_cli_check,omitempty"`
	Platform []string `json:"platform_codes,omitempty"`
}

func (v *verification) printJSON(env *cli.Env, name string) error {
	view := struct {
		Schema       string           `json:"schema"`
		File         string           `json:"file"`
		At           time.Time        `json:"at"`
		Good         bool             `json:"good"`
		Signed       bool             `json:"signed"`
		Algorithm    string           `json:"algorithm,omitempty"`
		Compared     bool             `json:"pcr8_compared"`
		Problems     []launchView     `json:"problems"`
		Certificate  *certificateView `json:"certificate,omitempty"`
		Measurements pcr.Measurements `json:"Measurements"`
	}{
		Schema: "cretula.eif.verify.v1", File: name, At: v.at.UTC(), Good: len(v.problems) == 0, Signed: v.lint != nil,
		Compared: v.compared, Problems: []launchView{}, Certificate: viewCertificate(v.lint), Measurements: v.measurements,
	}
	if s := v.image.Signature(); s != nil {
		view.Algorithm = s.Algorithm()
	}
	for _, p := range v.problems {
		view.Problems = append(view.Problems, launchView(p))
	}
	return env.PrintJSON(view)
}
