// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/reference"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy/generate"
	"github.com/cretula/cretula/reason"
)

func newPolicyCommand(env *cli.Env) *cobra.Command {
	return newNounCommand("policy", "Key policies that let attested images in",
		newPolicyGenerateCommand(env))
}

// policyFlags are the flags of "policy generate".
type policyFlags struct {
	reference                            string
	administrators, roles, actions, pins []string
}

func newPolicyGenerateCommand(env *cli.Env) *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use:   "generate [IMAGE...]",
		Short: "Write the key policy that lets these images use a key, and nothing else",
		Long: `Print a key policy, as CreateKey and PutKeyPolicy of AWS KMS and of this key service
take it:

- each --role may Decrypt and GenerateDataKey (or each --action), with the document of
  one of the images only. An image has a statement of its own, so that registers of
  two of them do not make a third;
- all that gives out plaintext, and grants, are denied to everyone who has no document
  of these images, whatever other policies and grants say;
- each --administrator manages the key and encrypts with it. Who can change the policy
  can let themselves in: be as careful with that principal as with the plaintext.

Images are image files, and with --reference the releases of a file of reference
values, with the dates in it; those that have ended are left out. What a statement is
for, and what is left out, is said on standard error.

PCR0, PCR1 and PCR2 must match, and PCR8 if the image is signed; of a release, the
registers that it names, PCR0 among them. --pin PCR0,PCR8 looks at these only, and
wants each image to have them.

An image that is malformed, or whose signature is no good now, is refused.`,
		Example: `  $ cretula policy generate app.eif --administrator arn:aws:iam::123456789012:user/admin \
      --role arn:aws:iam::123456789012:role/app >policy.json
  $ aws kms create-key --policy file://policy.json
  $ cretula policy generate --reference releases.json --administrator … --role … >policy.json
  $ aws kms put-key-policy --key-id "$key" --policy-name default --policy file://policy.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return generatePolicy(cmd.Context(), env, f, args)
		},
	}
	cmd.Flags().StringVar(&f.reference, "reference", "", "`FILE` of reference values whose releases get the key")
	cmd.Flags().StringArrayVar(&f.administrators, "administrator", nil, "`ARN` of a user or role that manages the key; can be given again")
	cmd.Flags().StringArrayVar(&f.roles, "role", nil, "`ARN` of the role of the enclaves' parent instances; can be given again")
	cmd.Flags().StringSliceVar(&f.actions, "action", nil, "`NAMES` of what enclaves may do: Decrypt, DeriveSharedSecret, GenerateDataKey,\nGenerateDataKeyPair (default Decrypt,GenerateDataKey)")
	cmd.Flags().StringSliceVar(&f.pins, "pin", nil, "`REGISTERS` that must match, such as PCR0,PCR8 (default: all that are known)")
	return cmd
}

// A pinnedImage is an image that a policy is to let in.
type pinnedImage struct {
	name  string
	image generate.Image
}

func generatePolicy(ctx context.Context, env *cli.Env, f policyFlags, files []string) error {
	pins, err := f.check(len(files))
	if err != nil {
		return err
	}
	images, err := f.images(ctx, env, files)
	if err != nil {
		return err
	}
	config := generate.Config{
		Account: accountOf(f.roles[0]), Administrators: f.administrators, EnclaveRoles: f.roles, Actions: f.actions,
	}
	for i := range images {
		if err := images[i].keep(pins); err != nil {
			return err
		}
		config.Images = append(config.Images, images[i].image)
	}
	document, err := generate.KeyPolicy(config)
	switch {
	case errors.Is(err, generate.ErrPrincipal):
		return cli.WithHint(cli.Usagef("%v", err), "users and roles as in arn:aws:iam::123456789012:role/app, all of the account of the key")
	case errors.Is(err, generate.ErrAction):
		return cli.Usagef("--action: %v", err)
	case err != nil:
		return explainPolicy(err)
	}
	for i, image := range images {
		fmt.Fprintf(env.Stderr, "%-20s %s\n", generate.EnclaveSid(i), cli.Printable(image.name))
	}
	_, err = env.Stdout.Write(document)
	return err
}

// explainPolicy adds what to do about a policy that is too long.
func explainPolicy(err error) error {
	if refusal, ok := errors.AsType[*reason.Error](err); ok && refusal.Rule() == "policy.size" {
		return cli.WithHint(err, "end releases that nobody runs any more, or --pin PCR0")
	}
	return err
}

// check returns the registers of --pin.
func (f policyFlags) check(files int) (pins []pcr.Index, err error) {
	switch {
	case files == 0 && f.reference == "":
		return nil, cli.WithHint(cli.Usagef("IMAGE or --reference is missing"), "see 'cretula policy generate --help'")
	case len(f.administrators) == 0:
		return nil, cli.WithHint(cli.Usagef("--administrator is missing"), "without one nobody could change the policy again")
	case len(f.roles) == 0:
		return nil, cli.WithHint(cli.Usagef("--role is missing"), "it is that of the parent instance, by whose credentials an enclave calls")
	}
	for _, name := range f.pins {
		i, err := pcr.ParseIndex(name)
		if err != nil {
			return nil, cli.WithHint(cli.Usagef("--pin: %v", err), "as in --pin PCR0,PCR8")
		}
		pins = append(pins, i)
	}
	if len(pins) > 0 && !slices.Contains(pins, 0) {
		return nil, cli.WithHint(cli.Usagef("--pin without PCR0"), "no other register says for sure which image it is")
	}
	return pins, nil
}

// accountOf is the account in an ARN; whether it is one, package generate judges.
func accountOf(arn string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		return parts[4]
	}
	return ""
}

// images reads the image files and the releases.
func (f policyFlags) images(ctx context.Context, env *cli.Env, files []string) ([]pinnedImage, error) {
	var images []pinnedImage
	for _, file := range files {
		m, err := measureSound(ctx, env, file)
		if err != nil {
			return nil, err
		}
		images = append(images, pinnedImage{file, generate.Exactly(m.Set)})
	}
	set, err := readReference(env, f.reference)
	if err != nil || set == nil {
		return images, err
	}
	now := env.Now()
	for _, release := range set.Releases() {
		if why := leftOut(release, now); why != "" {
			fmt.Fprintf(env.Stderr, "%-20s %s: %s\n", "left out", cli.Printable(release.Name), why)
			continue
		}
		for _, pins := range release.Pins {
			images = append(images, pinnedImage{release.Name, generate.Image{
				Registers: pins.Registers, Required: pins.Required, NotBefore: release.NotBefore, NotAfter: release.NotAfter,
			}})
		}
	}
	if len(images) == 0 {
		return nil, cli.WithHint(fmt.Errorf("%s: no release is left for the policy", cli.Printable(f.reference)),
			"to let nothing in any more, disable the key")
	}
	return images, nil
}

// leftOut tells why a release gets no statement, "" for one that does.
func leftOut(r reference.Release, now time.Time) string {
	switch {
	case r.Kind != attestation.KindEnclave:
		return "of kind " + r.Kind.String() + ", whose condition keys are others"
	case !r.NotAfter.IsZero() && now.After(r.NotAfter):
		return "it ended at " + r.NotAfter.UTC().Format(time.RFC3339)
	}
	return ""
}

// keep drops the registers that are not among the pins, if there are pins.
func (p *pinnedImage) keep(pins []pcr.Index) error {
	if len(p.image.Registers[0]) == 0 {
		return cli.WithHint(fmt.Errorf("%s: PCR0 is not among its registers", cli.Printable(p.name)),
			"a key policy names images by it: 'cretula eif reference' writes it")
	}
	if len(pins) == 0 {
		return nil
	}
	for i := range p.image.Registers {
		index := pcr.Index(i)
		switch kept := slices.Contains(pins, index); {
		case !kept:
			p.image.Registers[i] = nil
		case len(p.image.Registers[i]) == 0 && !slices.Contains(p.image.Required, index):
			return cli.WithHint(fmt.Errorf("%s: %v is not known", cli.Printable(p.name), index),
				"leave it out of --pin; PCR8 is that of a signed image, and PCR3 and others are in reference values only")
		}
	}
	p.image.Required = slices.DeleteFunc(p.image.Required, func(i pcr.Index) bool { return !slices.Contains(pins, i) })
	return nil
}
