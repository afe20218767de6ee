// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cretula/cretula/policy/explain"
)

// Text tells an event in plain words for a terminal: what came of the request,
// why, the likely cause and what to do.
func (e *Event) Text() string {
	var b strings.Builder
	switch {
	case e.Outcome == Rejected:
		e.writeRejection(&b)
	case e.Decision == nil || e.Outcome == Failed && e.Decision.Allowed:
		e.writeFailure(&b)
	case e.Outcome == Denied && e.Decision.Allowed:
		e.headline(&b, "DENIED")
		for _, p := range e.Problems {
			fmt.Fprintf(&b, "\nbecause %s (%s)\n", printable(p.Message), p.Rule)
		}
		b.WriteString("\nlikely: the enclave was started with --debug-mode.\n" +
			"to do:  start it without. A server can be told to let policies allow debug documents, for tests only.\n")
	default:
		b.WriteString(explain.Of(e.Decision).Text(explain.About{Time: e.EventTime}))
	}
	if e.Emulated {
		b.WriteString("\nEMULATED: the root of trust of this key service is not AWS's.\n")
	}
	return b.String()
}

// headline is the first line: verdict, action, key, caller and time.
func (e *Event) headline(b *strings.Builder, verdict string) {
	action := e.EventName
	if e.EventSource == sourceKMS {
		action = "kms:" + action
	}
	fmt.Fprintf(b, "%s  %s", verdict, action)
	if len(e.Resources) > 0 {
		arn := e.Resources[0].ARN
		fmt.Fprintf(b, " on key %s", arn[strings.LastIndexByte(arn, '/')+1:])
	}
	fmt.Fprintf(b, " by %s, %s\n", cmp.Or(e.UserIdentity.ARN, "the operator"), e.EventTime.UTC().Format(time.RFC3339))
}

func (e *Event) writeRejection(b *strings.Builder) {
	e.headline(b, "REJECTED")
	b.WriteString("\nbefore any policy was asked, because the attestation document in Recipient is not valid:\n")
	for _, p := range e.Problems {
		fmt.Fprintf(b, "  %-24s %s: %s\n", p.Rule, p.Reason, printable(p.Message))
	}
	b.WriteString("\nThe client was answered ValidationException, as AWS KMS would by all that is known.\n")
}

func (e *Event) writeFailure(b *strings.Builder) {
	verdict := "FAILED"
	if e.Outcome == Allowed {
		verdict = "DONE"
	}
	e.headline(b, verdict)
	if e.ErrorCode != "" {
		fmt.Fprintf(b, "\nbecause of %s", e.ErrorCode)
		if e.ErrorMessage != "" {
			fmt.Fprintf(b, ": %s", printable(e.ErrorMessage))
		}
		b.WriteByte('\n')
	}
	if e.Cause != "" {
		fmt.Fprintf(b, "\ncause: %s\n", printable(e.Cause))
	}
}

// printable escapes what a terminal would obey: texts repeat parts of requests.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
