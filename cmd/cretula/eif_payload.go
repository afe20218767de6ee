// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
)

// maxSignatureFile is more than a signature needs, also in base64.
const maxSignatureFile = 4096

func newEIFSigningPayloadCommand(env *cli.Env) *cobra.Command {
	var certificate certificateFlags
	var digest, asJSON bool
	cmd := &cobra.Command{
		Use:   "signing-payload FILE",
		Short: "Write what the key has to sign, for a key that is elsewhere",
		Long: `Write the bytes that the key of the certificate has to sign for this image: the
Sig_structure of COSE (RFC 9052 §4.4), or with --digest their hash. The hash function
is that of the key's curve: SHA-256 for P-256, SHA-384 for P-384, SHA-512 for P-521.

Sign them with ECDSA wherever the key is; 'cretula eif attach-signature' puts the
signature into the image, and takes none that does not verify.`,
		Example: `  $ cretula eif signing-payload app.eif --certificate cert.pem > tbs
  $ openssl dgst -sha384 -sign key.pem -out tbs.sig tbs
  $ cretula eif attach-signature app.eif --certificate cert.pem --signature tbs.sig`,
		Args: exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if digest && asJSON {
				return cli.Usagef("--json prints the digest too: leave --digest out")
			}
			data, _, err := certificate.read(env)
			if err != nil {
				return err
			}
			im, f, err := openImage(env, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			m, err := f.measure(cmd.Context(), im)
			if err != nil {
				return err
			}
			pcr0, _ := m.Get(0)
			r, err := eif.ToBeSigned(data, pcr0)
			if err != nil {
				return inFile(certificate.file, err)
			}
			switch {
			case asJSON:
				return env.PrintJSON(struct {
					Schema     string     `json:"schema"`
					Algorithm  string     `json:"algorithm"`
					Hash       string     `json:"hash"`
					PCR0       pcr.Digest `json:"PCR0"`
					ToBeSigned string     `json:"to_be_signed_base64"`
					Digest     string     `json:"digest_hex"`
				}{
					"cretula.eif.signing-payload.v1", r.Algorithm, r.Digest.String(), pcr0,
					base64.StdEncoding.EncodeToString(r.ToBeSigned), hex.EncodeToString(r.Sum()),
				})
			case digest:
				return env.WriteBinary(r.Sum())
			}
			return env.WriteBinary(r.ToBeSigned)
		},
	}
	certificate.register(cmd)
	cmd.Flags().BoolVar(&digest, "digest", false, "write the hash of these bytes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object with both")
	return cmd
}

func newEIFAttachSignatureCommand(env *cli.Env) *cobra.Command {
	var certificate certificateFlags
	var signature, out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "attach-signature FILE",
		Short: "Put a signature into an image that was made elsewhere",
		Long: `Put a signature over what 'cretula eif signing-payload' wrote into the image. It may
be ASN.1 DER, as OpenSSL and KMS make it, or R and S, as PKCS#11 has them; raw or in
base64. One that does not verify under the certificate is refused, and the image stays
as it was.`,
		Example: "  $ cretula eif attach-signature app.eif --certificate cert.pem --signature tbs.sig",
		Args:    exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if signature == "" {
				return cli.WithHint(cli.Usagef("--signature is missing"), "it is the file with the signature")
			}
			data, lint, err := certificate.read(env)
			if err != nil {
				return err
			}
			value, err := env.ReadInput(signature, maxSignatureFile)
			if err != nil {
				return err
			}
			done, err := resignImage(cmd.Context(), env, args[0], out, func(pcr0 pcr.Digest) ([]byte, error) {
				r, err := eif.ToBeSigned(data, pcr0)
				if err != nil {
					return nil, inFile(certificate.file, err)
				}
				section, err := r.Attach(decodeSignature(value))
				if err != nil {
					return nil, cli.WithHint(inFile(signature, err),
						"it must be over what 'cretula eif signing-payload' writes of this image with this certificate, hashed once with %v", r.Digest)
				}
				return section, nil
			})
			if err != nil {
				return err
			}
			return done.print(env, lint, asJSON)
		},
	}
	certificate.register(cmd)
	cmd.Flags().StringVar(&signature, "signature", "", "`FILE` with the signature")
	registerOutput(cmd, &out)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// decodeSignature decodes what is base64 as a whole; binary signatures hardly can
// be, and whatever comes out has to verify.
func decodeSignature(value []byte) []byte {
	text := bytes.TrimSpace(value)
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	if err != nil || n == 0 {
		return value
	}
	return out[:n]
}
