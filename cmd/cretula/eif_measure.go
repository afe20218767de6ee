// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// measureFlags are the flags of "eif measure".
type measureFlags struct {
	role, instance, certificate string
	json                        bool
}

func newEIFMeasureCommand(env *cli.Env) *cobra.Command {
	var f measureFlags
	cmd := &cobra.Command{
		Use:   "measure FILE",
		Short: "Print the registers that an enclave with this image will have",
		Long: `Print the registers that the platform fills when it starts an enclave with this
image: PCR0 (the whole image), PCR1 (kernel, command line and first ramdisk) and
PCR2 (the other ramdisks), and PCR8 of a signed image. PCR3 and PCR4 are those of
the instance it is started on, if its role or its id is given. --certificate gives
PCR8 of an image that is yet to be signed; a signed one must have that certificate.

The whole file is checked first. A file that is malformed or whose checksum is wrong
has no measurements: nothing is printed, and the exit status says why. If only the
signature is no good (now), they are printed, and the exit status says that the image
must not be used.`,
		Example: `  $ cretula eif measure app.eif
  $ cretula eif measure --json --role-arn arn:aws:iam::123456789012:role/app app.eif`,
		Args: exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return measureEIF(cmd.Context(), env, args[0], f)
		},
	}
	cmd.Flags().StringVar(&f.role, "role-arn", "", "`ARN` of the parent instance's IAM role: adds PCR3")
	cmd.Flags().StringVar(&f.instance, "instance-id", "", "`ID` of the parent instance: adds PCR4")
	cmd.Flags().StringVar(&f.certificate, "certificate", "", "PEM `FILE` of the signing certificate: adds PCR8")
	cmd.Flags().BoolVar(&f.json, "json", false, `print a JSON object {"Measurements": {"PCR0": …}}`)
	return cmd
}

func measureEIF(ctx context.Context, env *cli.Env, name string, f measureFlags) error {
	given, err := f.registers(env)
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
	for i, d := range given.All() {
		if own, measured := m.Get(i); measured && own != d {
			return cli.WithHint(reason.New(reason.Mismatch, "eif.signature.other",
				"%s: signed with a certificate of PCR8 %s, not with that of --certificate, of PCR8 %s", cli.Printable(name), own.Short(), d.Short()),
				"'cretula pcr certificate' prints PCR8 of a certificate by itself")
		}
		m.Put(i, d)
	}
	if err := printRegisters(env, im, &m.Set, f.json); err != nil {
		return err
	}
	return verifyImage(env, name, im, m)
}

// verifyImage judges the signature now, if there is one.
func verifyImage(env *cli.Env, name string, im *eif.Image, m pcr.Measurements) error {
	s := im.Signature()
	if s == nil {
		return nil
	}
	pcr0, _ := m.Get(0)
	err := inFile(name, s.Verify(pcr0, env.Now()))
	if err != nil {
		return cli.WithHint(err, "'cretula eif verify' says what nitro-cli and the platform would make of it")
	}
	return nil
}

// registers returns those that follow from the flags.
func (f measureFlags) registers(env *cli.Env) (*pcr.Set, error) {
	var set pcr.Set
	if f.role != "" {
		d, err := pcr.Role(f.role)
		if err != nil {
			return nil, cli.Usagef("--role-arn: %v", err)
		}
		set.Put(3, d)
	}
	if f.instance != "" {
		d, err := pcr.Instance(f.instance)
		if err != nil {
			return nil, cli.Usagef("--instance-id: %v", err)
		}
		set.Put(4, d)
	}
	if f.certificate != "" {
		d, err := certificatePCR8(env, f.certificate)
		if err != nil {
			return nil, err
		}
		set.Put(8, d)
	}
	return &set, nil
}

func printRegisters(env *cli.Env, im *eif.Image, set *pcr.Set, asJSON bool) error {
	if asJSON {
		return env.PrintJSON(struct{ Measurements *pcr.Set }{set})
	}
	what := map[pcr.Index]string{
		0: "image", 1: "kernel, command line, first ramdisk", 2: "other ramdisks",
		3: "role of the instance", 4: "id of the instance", 8: "signing certificate",
	}
	var b bytes.Buffer
	for i, d := range set.All() {
		fmt.Fprintf(&b, "%v  %v  %s\n", i, d, what[i])
	}
	if _, err := env.Stdout.Write(b.Bytes()); err != nil {
		return err
	}
	if _, signed := set.Get(8); !signed && im.Signature() == nil {
		fmt.Fprintln(env.Stderr, "hint: the image is not signed, so that PCR8 will be zero; --certificate gives that of a certificate to sign it with")
	}
	return nil
}
