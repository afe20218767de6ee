// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

const (
	// maxDocumentInput is more than a document needs in any of the encodings.
	maxDocumentInput = 262144
	// maxMeasurementsFile is ample for what nitro-cli and this program print.
	maxMeasurementsFile = 1 << 20
	// maxCRLFile has room for a hundred thousand revoked certificates.
	maxCRLFile = 8 << 20
)

func newAttestationCommand(env *cli.Env) *cobra.Command {
	return newNounCommand("attestation", "Verify and inspect attestation documents",
		newAttestationVerify(env), newAttestationInspect(env), newAttestationConformance(env))
}

// verifyFlags are the flags of "attestation verify" as they were given.
type verifyFlags struct {
	at, kind, measurements, nonce, userData string
	level, p384, reference                  string
	maxField                                int
	roots, pcrs, crls                       []string
	maxAge                                  time.Duration
	atDocumentTime, anyImage, allowDebug    bool
	json                                    bool
}

func newAttestationVerify(env *cli.Env) *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Check a document: chain, signature, time and what is expected of it",
		Long: `Checks everything about an attestation document and prints a verdict. The input
is raw, hex or base64. At least one register must be expected, by --pcr or
--measurements, or a release, by --reference, unless --any-image is given.

The exit status is 0 for a verified document, else that of the gravest problem:
3 malformed, 4 untrusted, 5 bad-signature, 6 stale, 7 mismatch.`,
		Example: `  $ cretula attestation verify doc.cbor --measurements app.json --nonce @nonce.bin
  $ cretula attestation verify old.b64 --at-document-time --any-image --json`,
		Args: exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return runAttestationVerify(env, cmd, &f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.at, "at", "", "verify as of this `TIME` (RFC 3339) rather than now")
	flags.BoolVar(&f.atDocumentTime, "at-document-time", false, "verify as of the document's own time; says nothing of its freshness")
	flags.DurationVar(&f.maxAge, "max-age", 0, "greatest age, such as 5m (default no limit but the leaf certificate's life)")
	flags.StringArrayVar(&f.roots, "root", nil, "trust the certificates in this PEM `FILE` instead of AWS's roots; repeatable")
	flags.StringVar(&f.nonce, "nonce", "", "expected nonce, as `HEX|@FILE`")
	flags.StringVar(&f.userData, "user-data", "", "expected user data, as `HEX|@FILE`")
	flags.StringArrayVar(&f.pcrs, "pcr", nil, "expected register, as `N=HEX`; repeatable")
	flags.StringVar(&f.measurements, "measurements", "", "expected registers, from the JSON `FILE` that 'eif describe' prints")
	flags.StringVar(&f.reference, "reference", "", "accept the releases in this `FILE` of reference values, and no others")
	flags.BoolVar(&f.anyImage, "any-image", false, "expect no register")
	flags.StringVar(&f.kind, "kind", "enclave", "expected `KIND`: enclave, nitrotpm or any")
	flags.BoolVar(&f.allowDebug, "allow-debug", false, "accept an enclave in debug mode")
	flags.StringVar(&f.level, "level", "strict", "how to judge the encoding: `strict`, as AWS writes it, or lenient, any valid CBOR")
	flags.IntVar(&f.maxField, "max-field", 0, "greatest length of public key, user data and nonce in `BYTES`, up to 4096 (default 1024, lenient 4096)")
	flags.StringArrayVar(&f.crls, "crl", nil, "check revocation by the lists in this PEM or DER `FILE`; repeatable")
	flags.StringVar(&f.p384, "p384", "fastest", "verify signatures by the `fastest` implementation or by std, Go's own")
	flags.BoolVar(&f.json, "json", false, "print a JSON object")
	return cmd
}

func runAttestationVerify(env *cli.Env, cmd *cobra.Command, f *verifyFlags, file string) error {
	expectation, err := f.expectation(env, cmd)
	if err != nil {
		return err
	}
	releases, err := readReference(env, f.reference)
	if err != nil {
		return err
	}
	roots, err := readRoots(env, f.roots)
	if err != nil {
		return err
	}
	options := attestation.VerifierOptions{Roots: roots, Now: env.Now}
	if options.P384, err = attestation.ParseP384(f.p384); err != nil {
		return cli.Usagef("--p384: %v", err)
	}
	if options.Revocation, err = readCRLs(env, f.crls); err != nil {
		return err
	}
	verifier, err := attestation.NewVerifier(options)
	if err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	data, err := env.ReadInput(file, maxDocumentInput)
	if err != nil {
		return err
	}
	verdict := verifier.Report(decodeDocument(data), expectation)
	switch {
	case releases != nil:
		err = printReleases(env, f, releases, verdict, expectation)
	case f.json:
		err = env.PrintJSON(verdict)
	default:
		err = printVerdict(env, verdict, expectation, len(f.crls) > 0)
	}
	if err == nil && !verdict.Verified() {
		return &cli.ExitError{Code: verdict.Reason.ExitCode()}
	}
	return err
}

// expectation turns the flags into an Expectation; what is wrong with them is a
// usage error.
func (f *verifyFlags) expectation(env *cli.Env, cmd *cobra.Command) (attestation.Expectation, error) {
	given := cmd.Flags().Changed
	e := attestation.Expectation{
		AllowAnyImage:     f.anyImage,
		AllowDebug:        f.allowDebug,
		AllowDocumentTime: f.atDocumentTime,
		MaxAge:            f.maxAge,
		AllowAnyAge:       !given("max-age"),
	}
	switch {
	case given("at") && f.atDocumentTime:
		return e, cli.Usagef("--at and --at-document-time exclude each other")
	case given("max-age") && f.atDocumentTime:
		return e, cli.Usagef("--max-age means nothing with --at-document-time")
	case given("max-age") && f.maxAge <= 0:
		return e, cli.Usagef("--max-age must be positive")
	case given("measurements") && f.measurements == "":
		return e, cli.Usagef("--measurements is given and names no file")
	case given("reference") && f.reference == "":
		return e, cli.Usagef("--reference is given and names no file")
	}
	if given("at") {
		at, err := time.Parse(time.RFC3339, f.at)
		if err != nil || at.IsZero() { // the zero time means now
			return e, cli.WithHint(cli.Usagef("--at: %q is no time of RFC 3339", f.at), "such as 2026-11-20T14:00:07Z")
		}
		e.Time = at
	}
	switch f.level {
	case "strict":
	case "lenient":
		e.AllowLenient = true
	default:
		return e, cli.Usagef("--level is strict or lenient, not %q", f.level)
	}
	if given("max-field") && (f.maxField < 1 || f.maxField > attestation.MaxLenientFieldSize) {
		return e, cli.Usagef("--max-field is 1 to %d", attestation.MaxLenientFieldSize)
	}
	e.MaxField = f.maxField
	switch f.kind {
	case "enclave":
		e.Kind = attestation.KindEnclave
	case "nitrotpm":
		e.Kind = attestation.KindNitroTPM
	case "any":
		e.AllowAnyKind = true
	default:
		return e, cli.Usagef("--kind is enclave, nitrotpm or any, not %q", f.kind)
	}
	var err error
	if e.PCRs, err = f.registers(env); err != nil {
		return e, err
	}
	if f.reference != "" { // a release says which image, and of which kind
		e.AllowAnyImage = true
		e.AllowAnyKind = e.AllowAnyKind || !given("kind")
	}
	if e.PCRs.Len() == 0 && !e.AllowAnyImage {
		return e, cli.WithHint(cli.Usagef("nothing is expected of the image"),
			"give --pcr, --measurements or --reference; or --any-image, but any customer of AWS can make genuine documents")
	}
	if given("nonce") {
		if e.Nonce, err = hexOrFile(env, "--nonce", f.nonce); err != nil {
			return e, err
		}
	}
	if given("user-data") {
		e.UserData, err = hexOrFile(env, "--user-data", f.userData)
	}
	return e, err
}

// registers joins --measurements and --pcr. A register may be named twice only
// with the same value.
func (f *verifyFlags) registers(env *cli.Env) (set pcr.Set, err error) {
	if f.measurements != "" {
		if set, err = readMeasurements(env, f.measurements); err != nil {
			return set, err
		}
	}
	for _, text := range f.pcrs {
		name, value, found := strings.Cut(text, "=")
		if !found {
			return set, cli.Usagef("--pcr wants N=HEX, not %q", text)
		}
		index, err := pcr.ParseIndex(name)
		if err != nil {
			return set, cli.Usagef("--pcr: %v", err)
		}
		digest, err := pcr.ParseDigest(value)
		if err != nil {
			return set, cli.Usagef("--pcr %v: %v", index, err)
		}
		if earlier, twice := set.Get(index); twice && earlier != digest {
			return set, cli.Usagef("%v is given twice, with different values", index)
		}
		set.Put(index, digest)
	}
	return set, nil
}

func readMeasurements(env *cli.Env, file string) (pcr.Set, error) {
	data, err := env.ReadInput(file, maxMeasurementsFile)
	if err != nil {
		return pcr.Set{}, err
	}
	m, err := pcr.ParseMeasurements(data)
	if err != nil {
		return pcr.Set{}, reason.New(reason.Malformed, "input.measurements", "%s: %w", cli.Printable(file), err)
	}
	return m.Set, nil
}

// hexOrFile reads a flag's value: hex digits, or the bytes of a file after @.
// The result is not nil.
func hexOrFile(env *cli.Env, flag, value string) ([]byte, error) {
	if name, isFile := strings.CutPrefix(value, "@"); isFile {
		data, err := env.ReadInput(name, attestation.MaxLenientFieldSize)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
		return append([]byte{}, data...), nil
	}
	data, err := hex.DecodeString(value)
	if err != nil {
		return nil, cli.WithHint(cli.Usagef("%s is neither hex nor @FILE", flag), "bytes of a file are given as %s @FILE", flag)
	}
	return data, nil
}

func readRoots(env *cli.Env, files []string) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	for _, name := range files {
		data, err := env.ReadInput(name, maxCertificateFile)
		if err != nil {
			return nil, err
		}
		more, err := attestation.ParseRoots(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cli.Printable(name), err)
		}
		roots = append(roots, more...)
	}
	return roots, nil
}

func readCRLs(env *cli.Env, files []string) ([]*x509.RevocationList, error) {
	var lists []*x509.RevocationList
	for _, name := range files {
		data, err := env.ReadInput(name, maxCRLFile)
		if err != nil {
			return nil, err
		}
		more, err := attestation.ParseCRLs(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cli.Printable(name), err)
		}
		lists = append(lists, more...)
	}
	return lists, nil
}

// decodeDocument takes a document out of hex or base64, of either alphabet, with
// white space anywhere. Every document begins with a byte above 0x7f, which no
// text does; what is neither is returned as it is, to be judged by the parser.
func decodeDocument(data []byte) []byte {
	if len(data) == 0 || data[0] > 0x7f {
		return data
	}
	text := string(bytes.Join(bytes.Fields(data), nil))
	if document, err := hex.DecodeString(strings.TrimPrefix(text, "0x")); err == nil {
		return document
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	if document, err := base64.RawStdEncoding.DecodeString(text); err == nil {
		return document
	}
	return data
}
