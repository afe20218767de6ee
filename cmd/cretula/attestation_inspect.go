// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"encoding/hex"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
)

// An inspection is what "attestation inspect --json" prints.
type inspection struct {
	Schema string `json:"schema"`
	// Verified is always false.
	Verified      bool      `json:"verified"`
	Kind          string    `json:"kind"`
	Debug         bool      `json:"debug"`
	ModuleID      string    `json:"module_id"`
	Timestamp     time.Time `json:"timestamp"`
	Digest        string    `json:"digest"`
	Size          int       `json:"size"`
	Tagged        bool      `json:"tagged"`
	IndefiniteMap bool      `json:"indefinite_map"`
	PayloadSHA256 string    `json:"payload_sha256"`
	PCRs          pcr.Set   `json:"pcrs"`
	PublicKey     *string   `json:"public_key"`
	UserData      *string   `json:"user_data"`
	Nonce         *string   `json:"nonce"`

	Chain []attestation.CertificateSummary `json:"chain"`
	// Information is what is allowed in the document and not used.
	Information []attestation.Information `json:"information"`
}

func newAttestationInspect(env *cli.Env) *cobra.Command {
	var asJSON bool
	var level string
	cmd := &cobra.Command{
		Use:   "inspect FILE|-",
		Short: "Print what a document says, verifying nothing",
		Long: `Prints a document for a person: what it is of, what each register means, how it
is bound, and its certificates. Nothing is verified. The input is raw, hex or
base64. The output has 80 columns, on wider terminals or with COLUMNS up to 200.`,
		Example: "  $ cretula attestation inspect doc.cbor",
		Args:    exactArguments("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			parse := attestation.Parse
			switch level {
			case "strict":
			case "lenient":
				parse = attestation.ParseLenient
			default:
				return cli.Usagef("--level is strict or lenient, not %q", level)
			}
			data, err := env.ReadInput(args[0], maxDocumentInput)
			if err != nil {
				return err
			}
			document := decodeDocument(data)
			u, err := parse(document)
			if err != nil {
				return err
			}
			in := inspect(u, len(document))
			if asJSON {
				return env.PrintJSON(in)
			}
			return printInspection(env, u, in)
		},
	}
	cmd.Flags().StringVar(&level, "level", "strict", "how to judge the encoding: `strict`, or lenient: any valid CBOR, fields up to 4096 bytes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func inspect(u *attestation.Unverified, size int) *inspection {
	hash, set := u.UnverifiedPayloadHash(), u.UnverifiedPCRs()
	in := &inspection{
		Schema:        "cretula.attestation.inspection.v1",
		Kind:          u.UnverifiedKind().String(),
		Debug:         set.Debug(),
		ModuleID:      u.UnverifiedModuleID(),
		Timestamp:     u.UnverifiedTimestamp(),
		Digest:        u.UnverifiedDigest(),
		Size:          size,
		Tagged:        u.Tagged(),
		IndefiniteMap: u.IndefiniteMap(),
		PayloadSHA256: hex.EncodeToString(hash[:]),
		PCRs:          set,
		PublicKey:     hexOrNull(u.UnverifiedPublicKey()),
		UserData:      hexOrNull(u.UnverifiedUserData()),
		Nonce:         hexOrNull(u.UnverifiedNonce()),
		Chain:         []attestation.CertificateSummary{},
		Information:   append([]attestation.Information{}, u.Information()...),
	}
	for _, der := range u.UnverifiedCertificates() {
		summary := attestation.CertificateSummary{
			Subject:     "(does not parse)",
			Fingerprint: attestation.FingerprintOf(der).String(),
		}
		if cert, err := x509.ParseCertificate(der); err == nil {
			summary = attestation.Summarize(cert)
		}
		in.Chain = append(in.Chain, summary)
	}
	return in
}

// hexOrNull is null for a value that is absent and "" for an empty one.
func hexOrNull(b []byte) *string {
	if b == nil {
		return nil
	}
	s := hex.EncodeToString(b)
	return &s
}
