// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
)

// trustNames are the verdict's values of trust in words.
var trustNames = map[string]string{
	attestation.TrustAWS.String():         "AWS Nitro Enclaves",
	attestation.TrustAWSGovCloud.String(): "AWS Nitro Enclaves in aws-us-gov",
	attestation.TrustCustom.String():      "a root that was given, not AWS's",
}

// millis is how times of documents are printed.
const millis = "2006-01-02T15:04:05.000Z07:00"

// printVerdict prints a verdict for a person; lists says that revocation lists
// were given.
func printVerdict(env *cli.Env, v *attestation.Verdict, e attestation.Expectation, lists bool) error {
	var b bytes.Buffer
	if v.Emulated {
		fmt.Fprintln(&b, "EMULATED  a root that is not AWS's is trusted: nothing here is AWS's word")
	}
	if v.Verified() {
		printVerified(&b, v, e, lists)
	} else {
		printRejected(&b, v)
	}
	printInformation(&b, v.Information)
	_, err := env.Stdout.Write(b.Bytes())
	return err
}

// place is the end of a message about something that has an offset.
func place(offset *int64) string {
	if offset == nil {
		return ""
	}
	return fmt.Sprintf(", at byte %d", *offset)
}

// printInformation prints what decided nothing.
func printInformation(b *bytes.Buffer, list []attestation.Information) {
	for _, i := range list {
		fmt.Fprintf(b, "note      %s%s (%s)\n", printable(i.Message), place(i.Offset), i.Rule)
	}
}

func printVerified(b *bytes.Buffer, v *attestation.Verdict, e attestation.Expectation, lists bool) {
	fmt.Fprintf(b, "verified  %s %s, signed under %s\n", *v.Kind, printable(*v.ModuleID), trustNames[*v.Trust])
	fmt.Fprintf(b, "made      %s\n", v.Timestamp.Format(millis))
	switch {
	case e.AllowDocumentTime:
		fmt.Fprintln(b, "checked   as of that time: nothing is known of its freshness")
	case !e.Time.IsZero():
		fmt.Fprintf(b, "checked   as of %s\n", e.Time.UTC().Format(time.RFC3339))
	}
	if *v.Debug {
		fmt.Fprintln(b, "DEBUG     PCR0, PCR1 or PCR2 is zero: its console can be read and its image is not measured")
	}
	var matched []string
	for i := range e.PCRs.All() {
		matched = append(matched, i.String())
	}
	if len(matched) > 0 {
		fmt.Fprintf(b, "image     as expected: %s\n", strings.Join(matched, " "))
	} else {
		fmt.Fprintln(b, "image     any: nothing was expected of it, and any customer of AWS can make such a document")
	}
	if lists {
		fmt.Fprintf(b, "crl       %d of %d certificates below the root checked, none revoked\n", v.RevocationChecked, len(v.Chain)-1)
	}
	if v.Level != attestation.LevelStrict.String() {
		fmt.Fprintf(b, "level     %s\n", v.Level)
	}
	if e.Nonce != nil {
		fmt.Fprintln(b, "nonce     as expected")
	}
	if e.UserData != nil {
		fmt.Fprintln(b, "user data as expected")
	}
}

func printRejected(b *bytes.Buffer, v *attestation.Verdict) {
	var reasons []string
	for _, p := range v.Problems {
		if name := p.Reason.String(); !slices.Contains(reasons, name) {
			reasons = append(reasons, name)
		}
	}
	fmt.Fprintf(b, "rejected  %s\n", strings.Join(reasons, ", "))
	table := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, p := range v.Problems {
		fmt.Fprintf(table, "  %s\t%s%s\t%v\n", p.Rule, printable(shorten(p.Message)), place(p.Offset), p.Reason)
	}
	table.Flush()
	if v.Trust != nil {
		fmt.Fprintf(b, "chain and signature are good: %s\n", trustNames[*v.Trust])
	} else {
		fmt.Fprintln(b, "whose document it is was not established")
	}
	for _, rule := range attestation.Rules() {
		if rule.ID == v.Problems[0].Rule {
			fmt.Fprintf(b, "to do: %s\n", rule.Remedy)
		}
	}
}

var longHex = regexp.MustCompile(`\b[0-9a-f]{64,}\b`)

// shorten shortens digests to eight and two digits.
func shorten(message string) string {
	return longHex.ReplaceAllStringFunc(message, func(s string) string { return s[:8] + "…" + s[len(s)-2:] })
}

// printable quotes a text that could do something to a terminal.
func printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}

// registerMeanings says what is in the registers of an enclave: AWS Nitro
// Enclaves User Guide, "Where to get an enclave's measurements".
var registerMeanings = map[pcr.Index]string{
	0: "the image: kernel, boot ramdisk and application",
	1: "kernel and boot ramdisk",
	2: "application",
	3: "IAM role of the parent instance",
	4: "id of the parent instance",
	8: "certificate that signed the image",
}

func registerMeaning(kind attestation.Kind, i pcr.Index) string {
	if kind != attestation.KindEnclave {
		return ""
	}
	if i >= 16 {
		return "extended and locked by the application"
	}
	return registerMeanings[i]
}

// printInspection prints an unverified document for a person.
func printInspection(env *cli.Env, u *attestation.Unverified, in *inspection) error {
	var b bytes.Buffer
	fmt.Fprint(&b, "NOT VERIFIED  what follows is what the document says of itself\n\n")
	fmt.Fprintf(&b, "%-10s%s\n", u.UnverifiedKind(), printable(u.UnverifiedModuleID()))
	if created, ok := creationTime(u.UnverifiedModuleID()); ok {
		fmt.Fprintf(&b, "created   %s\n", created.Format(millis))
	}
	fmt.Fprintf(&b, "made      %s\n", in.Timestamp.Format(millis))
	form := "definite"
	if in.IndefiniteMap {
		form = "indefinite"
	}
	fmt.Fprintf(&b, "form      %d bytes, payload map of %s length, tag 18: %s\n", in.Size, form, map[bool]string{true: "yes", false: "no"}[in.Tagged])
	fmt.Fprintf(&b, "payload   SHA-256 %s\n", in.PayloadSHA256)
	if in.Debug {
		fmt.Fprintln(&b, "DEBUG     PCR0, PCR1 or PCR2 is zero: the enclave runs in debug mode")
	}
	printRegisters(&b, u)
	fmt.Fprintln(&b, "\nbound to")
	printBinding(&b, "nonce", u.UnverifiedNonce())
	printBinding(&b, "user data", u.UnverifiedUserData())
	printBinding(&b, "public key", u.UnverifiedPublicKey())
	fmt.Fprintln(&b, "\ncertificates, root first; no signature was checked")
	for _, c := range in.Chain {
		fmt.Fprintf(&b, "  %s\n", printable(c.Subject))
		fmt.Fprintf(&b, "    %s to %s (%s), serial %s\n", c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339), lifetime(c.NotAfter.Sub(c.NotBefore)), c.Serial)
		fmt.Fprintf(&b, "    SHA-256 %s%s\n", c.Fingerprint, knownRoot(c.Fingerprint))
	}
	fmt.Fprintln(&b, "\nnothing was verified; 'cretula attestation verify' does that")
	_, err := env.Stdout.Write(b.Bytes())
	return err
}

func printRegisters(b *bytes.Buffer, u *attestation.Unverified) {
	set := u.UnverifiedPCRs()
	fmt.Fprintf(b, "\nregisters (%d, %s)\n", set.Len(), u.UnverifiedDigest())
	var zero []string
	for i, value := range set.All() {
		meaning := registerMeaning(u.UnverifiedKind(), i)
		if value.IsZero() && (meaning == "" || i >= 16) {
			zero = append(zero, i.String())
			continue
		}
		text := value.String()
		if value.IsZero() {
			text = "zero"
		}
		line := fmt.Sprintf("  %-6s%s", i, text)
		if meaning != "" {
			line += "  " + meaning
		}
		fmt.Fprintln(b, line)
	}
	if len(zero) > 0 {
		fmt.Fprintf(b, "  zero: %s\n", strings.Join(zero, " "))
	}
}

func printBinding(w io.Writer, name string, value []byte) {
	const shown = 32
	text := "absent"
	switch {
	case value == nil:
	case len(value) == 0:
		text = "present and empty"
	case len(value) > shown:
		text = fmt.Sprintf("%d bytes, %s…", len(value), hex.EncodeToString(value[:shown]))
	default:
		text = fmt.Sprintf("%d bytes, %s", len(value), hex.EncodeToString(value))
	}
	fmt.Fprintf(w, "  %-12s%s\n", name, text)
}

// creationTime reads the time at which an enclave was made out of its id.
func creationTime(moduleID string) (time.Time, bool) {
	_, id, found := strings.Cut(moduleID, "-enc")
	if !found || len(id) != 16 {
		return time.Time{}, false
	}
	ms, err := strconv.ParseUint(id[:12], 16, 48)
	return time.UnixMilli(int64(ms)).UTC(), err == nil
}

// lifetime prints a duration as days, hours, minutes and seconds.
func lifetime(d time.Duration) string {
	d = d.Round(time.Second)
	days := int64(d / (24 * time.Hour))
	rest := (d % (24 * time.Hour)).String()
	switch {
	case days == 0:
		return rest
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d d", days)
	}
	return fmt.Sprintf("%d d %s", days, rest)
}

func knownRoot(fingerprint string) string {
	switch fingerprint {
	case attestation.FingerprintOf(attestation.RootG1().Raw).String():
		return "  AWS Nitro Enclaves Root G1"
	case attestation.FingerprintOf(attestation.RootGovCloud().Raw).String():
		return "  AWS's root for aws-us-gov"
	}
	return ""
}
