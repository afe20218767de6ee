// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/internal/signkey"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// keyFlags name the key that signs.
type keyFlags struct{ key, module, pinFile, endpoint string }

func (f *keyFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "the private key: a PEM `FILE`, pkcs11:URI or arn:aws:kms:…")
	flags.StringVar(&f.module, "module", "", "PKCS#11 library `FILE`, if the URI has no module-path")
	flags.StringVar(&f.pinFile, "pin-file", "", "`FILE` with the PIN of the token, if the URI has no pin-source")
	flags.StringVar(&f.endpoint, "endpoint", "", "`URL` of the key service, for a key that is not in AWS KMS")
}

// open opens the key. Warnings go to standard error.
func (f *keyFlags) open(ctx context.Context, env *cli.Env) (crypto.Signer, io.Closer, error) {
	return signkey.Open(ctx, signkey.Spec{
		Key: f.key, Module: f.module, PINFile: f.pinFile, Endpoint: f.endpoint,
		Warn: func(message string) { fmt.Fprintf(env.Stderr, "cretula: warning: %s\n", message) },
	})
}

// certificateFlags name the certificate of a signature, and when it has to be
// valid.
type certificateFlags struct {
	file, at     string
	allowExpired bool
}

func (f *certificateFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.file, "certificate", "", "the signing certificate, a PEM `FILE`; the first in it counts")
	flags.StringVar(&f.at, "at", "", "want the certificate valid at this `TIME` (RFC 3339) rather than now")
	flags.BoolVar(&f.allowExpired, "allow-expired", false, "take a certificate that is not valid at that time")
}

// read returns the certificate file, if an image can be signed with it.
func (f *certificateFlags) read(env *cli.Env) ([]byte, *eif.CertificateLint, error) {
	at, err := atTime(env, f.at)
	if err != nil {
		return nil, nil, err
	}
	if f.file == "" {
		return nil, nil, cli.WithHint(cli.Usagef("--certificate is missing"), "it is the PEM file that belongs to the key")
	}
	data, err := env.ReadInput(f.file, maxCertificateFile)
	if err != nil {
		return nil, nil, err
	}
	lint, err := eif.LintCertificate(data, at)
	if err != nil {
		return nil, nil, inFile(f.file, err)
	}
	for _, p := range lint.Problems {
		if p.Rule == "eif.signature.validity" && f.allowExpired {
			continue
		}
		return nil, nil, inFile(f.file, refusedCertificate(p, lint))
	}
	return data, lint, nil
}

// refusedCertificate says what to do about a problem of a certificate.
func refusedCertificate(p reason.Problem, l *eif.CertificateLint) error {
	hint := ""
	switch p.Rule {
	case "eif.signature.validity":
		c := l.Certificate
		p.Message = fmt.Sprintf("the certificate expired %s ago (notAfter %s)", days(c.NotAfter, l.At), c.NotAfter.UTC().Format(time.RFC3339))
		if l.At.Before(c.NotBefore) {
			p.Message = fmt.Sprintf("the certificate is not valid for another %s (notBefore %s)", days(l.At, c.NotBefore), c.NotBefore.UTC().Format(time.RFC3339))
		}
		hint = "an enclave with this image would not start (AWS: E59; without nitro-cli's check E36, E39, E11); make a new certificate, or --allow-expired to sign anyway"
	case "eif.certificate.private-key":
		hint = "take the key out of the file: whoever gets the image would get it; a key that was in an image is to be replaced"
	case "eif.certificate.first":
		hint = "put the signing certificate first; PCR8 is that of the first"
	case "eif.signature.key":
		hint = "make a key with: openssl ecparam -name secp384r1 -genkey -out key.pem; and a certificate for it"
	}
	err := error(&reason.Error{Problems: []reason.Problem{p}})
	if hint != "" {
		err = cli.WithHint(err, "%s", hint)
	}
	return err
}

// days says how long it is from one time to another, in the largest unit that is
// not 0.
func days(from, to time.Time) string {
	seconds := to.Unix() - from.Unix() // a Duration ends at 292 years
	if to.Nanosecond() < from.Nanosecond() {
		seconds--
	}
	for _, u := range []struct {
		seconds int64
		name    string
	}{{24 * 60 * 60, "day"}, {60 * 60, "hour"}, {60, "minute"}} {
		if n := seconds / u.seconds; n > 0 {
			return count(int(n), u.name)
		}
	}
	return count(int(seconds), "second")
}

func count(n int, unit string) string {
	if n == 1 || n == -1 {
		return fmt.Sprintf("%d %s", n, unit)
	}
	return fmt.Sprintf("%d %ss", n, unit)
}

// atTime reads the value of --at.
func atTime(env *cli.Env, at string) (time.Time, error) {
	if at == "" {
		return env.Now(), nil
	}
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return time.Time{}, cli.WithHint(cli.Usagef("--at %q is no time", at), "as in 2026-11-20T18:00:00Z")
	}
	return t, nil
}

func newEIFSignCommand(env *cli.Env) *cobra.Command {
	var key keyFlags
	var certificate certificateFlags
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign an image with a key file, a PKCS#11 token or a KMS key",
		Long: `Sign an image: its PCR0, with the key of the certificate. A signature that is
there is replaced, everything else stays byte for byte.

The file is replaced whole or not at all (-o writes another one). The key file and
the certificate that AWS's instructions make with OpenSSL are taken as they are. A
key file signs deterministically (RFC 6979): the same image, key and certificate
give the same bytes.`,
		Example: `  $ cretula eif sign app.eif --key key.pem --certificate cert.pem
  $ cretula eif sign app.eif -o signed.eif --key 'pkcs11:token=release;object=image?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/run/pin' --certificate cert.pem
  $ cretula eif sign app.eif --key arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab --certificate cert.pem`,
		Args: exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			data, lint, err := certificate.read(env)
			if err != nil {
				return err
			}
			signer, closer, err := key.open(ctx, env)
			if err != nil {
				return err
			}
			defer closer.Close()
			if err := hintKey(eif.CheckSigner(lint.Certificate, signer)); err != nil {
				return err
			}
			done, err := resignImage(ctx, env, args[0], out, func(pcr0 pcr.Digest) ([]byte, error) {
				return eif.SignSection(ctx, data, pcr0, signer, nil)
			})
			if err != nil {
				return err
			}
			return done.print(env, lint, asJSON)
		},
	}
	key.register(cmd)
	certificate.register(cmd)
	registerOutput(cmd, &out)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func registerOutput(cmd *cobra.Command, out *string) {
	cmd.Flags().StringVarP(out, "output", "o", "", "write this `FILE` and leave the image as it is")
}

// outputName is where an image is written: to its own place unless -o names another.
func outputName(name, out string) (string, error) {
	switch out {
	case "":
		return name, nil
	case "-":
		return "", cli.WithHint(cli.Usagef("an image cannot be written to standard output"), "name a file: it appears there whole or not at all")
	}
	return out, nil
}

// hintKey says what to do about a certificate that is of another key.
func hintKey(err error) error {
	if refusal, ok := reasonError(err); ok && refusal.Rule() == "eif.sign.key" {
		return cli.WithHint(err, "use the certificate that was made for this key; 'openssl x509 -in CERT -noout -pubkey' shows whose it is")
	}
	return err
}

// A resigned says what became of an image.
type resigned struct {
	file         string
	image        *eif.Image // as it was
	measurements pcr.Measurements
}

// resignImage measures an image, has a signature section made for its PCR0 and
// writes the image with it, in its place or to out.
func resignImage(ctx context.Context, env *cli.Env, name, out string, section func(pcr.Digest) ([]byte, error)) (*resigned, error) {
	im, f, err := openImage(env, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := f.measure(ctx, im)
	if err != nil {
		return nil, err
	}
	pcr0, _ := m.Get(0)
	data, err := section(pcr0)
	if err != nil {
		return nil, err
	}
	return rewriteImage(ctx, im, f, out, data)
}

// rewriteImage writes the image with that signature section, nil for none. It
// closes the image's file, which may be the one that is replaced.
func rewriteImage(ctx context.Context, im *eif.Image, f *imageFile, out string, section []byte) (*resigned, error) {
	out, err := outputName(f.name, out)
	if err != nil {
		return nil, err
	}
	done := &resigned{file: out, image: im}
	err = durable.Replace(out, 0o644, func(w *os.File) (err error) {
		err = f.throughout(func() error {
			done.measurements, err = im.WriteSigned(ctx, w, section)
			return err
		})
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

func (r *resigned) print(env *cli.Env, lint *eif.CertificateLint, asJSON bool) error {
	if asJSON {
		return env.PrintJSON(struct {
			Schema       string           `json:"schema"`
			File         string           `json:"file"`
			Replaced     bool             `json:"replaced_signature"`
			Measurements pcr.Measurements `json:"Measurements"`
			Certificate  *certificateView `json:"certificate,omitempty"`
		}{"cretula.eif.signed.v1", r.file, r.image.Signature() != nil, r.measurements, viewCertificate(lint)})
	}
	var b bytes.Buffer
	switch {
	case lint == nil && r.image.Signature() == nil:
		fmt.Fprintf(&b, "unsigned  %s had no signature\n", cli.Printable(r.file))
	case lint == nil:
		fmt.Fprintf(&b, "unsigned  %s; the signature of %s is taken off\n", cli.Printable(r.file), subject(r.image.Signature().Certificate))
	default:
		fmt.Fprintf(&b, "signed    %s\n", cli.Printable(r.file))
		fmt.Fprintf(&b, "signer    %s\n          %s, valid until %s, %s\n", subject(lint.Certificate), lint.Algorithm,
			lint.Certificate.NotAfter.UTC().Format(time.RFC3339), remaining(lint))
		if s := r.image.Signature(); s != nil {
			fmt.Fprintf(&b, "replaced  the signature of %s\n", subject(s.Certificate))
		}
	}
	addRegisters(&b, r.measurements)
	_, err := env.Stdout.Write(b.Bytes())
	return err
}

func addRegisters(b *bytes.Buffer, m pcr.Measurements) {
	for i, d := range m.All() {
		fmt.Fprintf(b, "%-9s %s\n", i, d)
	}
}

// noteLines adds a line for each note.
func noteLines(b *bytes.Buffer, notes []string) {
	for _, n := range notes {
		fmt.Fprintf(b, "note      %s\n", n)
	}
}
