// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// maxCertificateFile is more than any chain of certificates in PEM needs.
const maxCertificateFile = 1 << 20

func newPCRCommand(env *cli.Env) *cobra.Command {
	return newNounCommand("pcr", "Predict the registers that do not depend on the image",
		newPCRVerb(env, "role ARN", "PCR3 of an enclave whose parent instance has this IAM role",
			"cretula pcr role arn:aws:iam::123456789012:role/Webserver", 3,
			func(arn string) (pcr.Digest, error) {
				d, err := pcr.Role(arn)
				return d, asUsage(err)
			}),
		newPCRVerb(env, "instance ID", "PCR4 of an enclave on this parent instance",
			"cretula pcr instance i-1234567890abcdef0", 4,
			func(id string) (pcr.Digest, error) {
				d, err := pcr.Instance(id)
				return d, asUsage(err)
			}),
		newPCRVerb(env, "certificate FILE", "PCR8 of an image signed with the first certificate of this PEM file",
			"cretula pcr certificate signing.pem", 8,
			func(name string) (pcr.Digest, error) { return certificatePCR8(env, name) }))
}

// certificatePCR8 reads a certificate file and returns PCR8 of an image that is
// signed with it.
func certificatePCR8(env *cli.Env, name string) (pcr.Digest, error) {
	data, err := env.ReadInput(name, maxCertificateFile)
	if err != nil {
		return pcr.Digest{}, err
	}
	d, err := pcr.CertificatePEM(data)
	if err != nil {
		return pcr.Digest{}, reason.New(reason.Malformed, "pcr.certificate", "%s: %w", cli.Printable(name), err)
	}
	return d, nil
}

func asUsage(err error) error {
	if err != nil {
		return cli.Usagef("%v", err)
	}
	return nil
}

// newPCRVerb makes a command that computes one register of its one argument.
func newPCRVerb(env *cli.Env, use, short, example string, index pcr.Index, compute func(string) (pcr.Digest, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: "  $ " + example,
		RunE: func(_ *cobra.Command, args []string) error {
			digest, err := compute(args[0])
			if err != nil {
				return err
			}
			if !asJSON {
				_, err := fmt.Fprintln(env.Stdout, digest)
				return err
			}
			var set pcr.Set
			set.Put(index, digest)
			return env.PrintJSON(struct {
				Schema string  `json:"schema"`
				PCRs   pcr.Set `json:"pcrs"`
			}{"cretula.pcr.v1", set})
		},
	}
	cmd.Args = exactArguments(use[len(cmd.Name())+1:])
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}
