// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/internal/cli"
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
	if cli.Printable(s) != s {
		return strconv.Quote(s)
	}
	return s
}
