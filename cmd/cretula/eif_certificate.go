// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// A certificateView is a signing certificate in JSON.
type certificateView struct {
	Subject    string     `json:"subject"`
	Issuer     string     `json:"issuer"`
	Serial     string     `json:"serial"`
	Version    int        `json:"x509_version"`
	Curve      string     `json:"curve,omitempty"`
	Algorithm  string     `json:"algorithm,omitempty"`
	NotBefore  time.Time  `json:"not_before"`
	NotAfter   time.Time  `json:"not_after"`
	DaysLeft   int        `json:"days_left"`
	SelfSigned bool       `json:"self_signed"`
	InFile     int        `json:"certificates_in_file"`
	PCR8       pcr.Digest `json:"PCR8"`
}

func viewCertificate(l *eif.CertificateLint) *certificateView {
	if l == nil {
		return nil
	}
	c := l.Certificate
	return &certificateView{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Serial: c.SerialNumber.Text(16), Version: c.Version,
		Curve: l.Curve, Algorithm: l.Algorithm, NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		DaysLeft: l.DaysLeft, SelfSigned: l.SelfSigned, InFile: l.InFile, PCR8: l.PCR8,
	}
}

// subject is the name in a certificate, for a line of text.
func subject(c *x509.Certificate) string {
	if name := c.Subject.String(); name != "" {
		return cli.Printable(name)
	}
	return "a certificate without a name"
}

func reasonError(err error) (*reason.Error, bool) { return errors.AsType[*reason.Error](err) }

func newEIFCertificateCommand(env *cli.Env) *cobra.Command {
	var at string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "certificate CERT",
		Short: "Check a signing certificate before an image is signed with it",
		Long: `Check a certificate file before an image is signed with it: its key, its dates, what
else is in the file, and the PCR8 of every image that is signed with it.

The exit status is 0 only if an image can be signed with the file and, as far as the
certificate goes, starts at that time.`,
		Example: "  $ cretula eif certificate cert.pem",
		Args:    exactArguments("CERT"),
		RunE: func(_ *cobra.Command, args []string) error {
			when, err := atTime(env, at)
			if err != nil {
				return err
			}
			data, err := env.ReadInput(args[0], maxCertificateFile)
			if err != nil {
				return err
			}
			lint, err := eif.LintCertificate(data, when)
			if err != nil {
				return inFile(args[0], err)
			}
			if asJSON {
				err = env.PrintJSON(struct {
					Schema string `json:"schema"`
					*certificateView
					At       time.Time        `json:"at"`
					Problems []reason.Problem `json:"problems"`
					Notes    []string         `json:"notes"`
				}{"cretula.eif.certificate.v1", viewCertificate(lint), when.UTC(), orEmpty(lint.Problems), orEmpty(lint.Notes)})
			} else {
				err = printCertificate(env, lint)
			}
			if err != nil {
				return err
			}
			return exitOf(lint.Err())
		},
	}
	cmd.Flags().StringVar(&at, "at", "", "check as of this `TIME` (RFC 3339) rather than now")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// orEmpty has a list be [] in JSON and not null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// exitOf ends a command whose output has said what is wrong.
func exitOf(err error) error {
	if r, ok := reason.Of(err); ok {
		return &cli.ExitError{Code: r.ExitCode()}
	}
	return err
}

// reasonsOf names the reasons of problems, each once.
func reasonsOf(problems []reason.Problem) string {
	var names []string
	for _, p := range problems {
		if name := p.Reason.String(); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

func printCertificate(env *cli.Env, l *eif.CertificateLint) error {
	var b bytes.Buffer
	c := l.Certificate
	if len(l.Problems) == 0 {
		fmt.Fprintf(&b, "good      images can be signed with it\n")
	} else {
		fmt.Fprintf(&b, "rejected  %s\n", reasonsOf(l.Problems))
	}
	for _, p := range l.Problems {
		fmt.Fprintf(&b, "  %s  %s\n", p.Rule, cli.Printable(p.Message))
	}
	fmt.Fprintf(&b, "subject   %s\n", subject(c))
	if l.SelfSigned {
		fmt.Fprintf(&b, "issuer    itself\n")
	} else {
		fmt.Fprintf(&b, "issuer    %s\n", cli.Printable(c.Issuer.String()))
	}
	key := c.PublicKeyAlgorithm.String()
	if l.Curve != "" {
		key = l.Curve + ", signs with " + l.Algorithm
	}
	fmt.Fprintf(&b, "key       %s\n", key)
	fmt.Fprintf(&b, "valid     %s to %s, %s\n", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), remaining(l))
	fmt.Fprintf(&b, "PCR8      %s\n", l.PCR8)
	noteLines(&b, l.Notes)
	_, err := env.Stdout.Write(b.Bytes())
	return err
}

// remaining says how far the certificate's dates are from the time of the check.
func remaining(l *eif.CertificateLint) string {
	switch c := l.Certificate; {
	case l.At.After(c.NotAfter):
		return "expired " + days(c.NotAfter, l.At) + " ago"
	case l.At.Before(c.NotBefore):
		return "not for another " + days(l.At, c.NotBefore)
	default:
		return days(l.At, c.NotAfter) + " left"
	}
}
