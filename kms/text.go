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
	case e.Outcome == Denied && len(e.Problems) > 0 && (e.Decision == nil || e.Decision.Allowed):
		e.writeRule(&b)
	case e.Decision == nil || e.Outcome == Failed && e.Decision.Allowed:
		e.writeFailure(&b)
	default:
		b.WriteString(explain.Of(e.Decision).Text(e.about()))
	}
	for i := range e.OtherDecisions {
		b.WriteString("\nThe same request was decided on before that:\n\n")
		b.WriteString(explain.Of(&e.OtherDecisions[i]).Text(e.about()))
	}
	if e.Emulated {
		b.WriteString("\nEMULATED: the root of trust of this key service is not AWS's.\n")
	}
	return b.String()
}

// about is what the headline of a decision says beyond it.
func (e *Event) about() explain.About {
	a := explain.About{Time: e.EventTime}
	if id, ok := e.RequestParameters["keyId"].(string); ok {
		if i := strings.Index(id, aliasPrefix); i >= 0 {
			a.Alias = printable(id[i:])
		}
	}
	return a
}

// ruleAdvice says of the rules of this service's own what is likely and what to do.
var ruleAdvice = map[string]struct{ likely, todo string }{
	ruleDebug: {
		"the enclave was started with --debug-mode.",
		"start it without. A server can be told to let policies allow debug documents, for tests only.",
	},
	ruleRecipientRequired: {
		"the key has the tag " + AttestedTag + ", and the request was sent by a client that does not know of it.",
		"send Recipient with a document that was made for this request, or use a key without the tag.",
	},
	ruleRecipientUserData: {
		"the request was changed after the document was made for it, or the document is for another operation or key.",
		"ask for the document last, with the SHA-384 of operation, key ARN and SHA-256 of the final body as user_data.",
	},
	ruleRecipientUsed: {
		"the request was sent twice, perhaps by a client that tries again by itself.",
		"ask for a new document for each try.",
	},
	ruleRecipientTag: {
		"the tag " + AttestedTag + " was taken off the key, which never lets go of it.",
		"put the tag on the key again: " + AttestedTag + "=" + AttestedValue + ".",
	},
}

// writeRule tells of a denial by a rule of this service's own.
func (e *Event) writeRule(b *strings.Builder) {
	e.headline(b, "DENIED")
	for _, p := range e.Problems {
		fmt.Fprintf(b, "\nbecause %s (%s)\n", printable(p.Message), p.Rule)
		if advice, ok := ruleAdvice[p.Rule]; ok {
			fmt.Fprintf(b, "\nlikely: %s\nto do:  %s\n", advice.likely, advice.todo)
		}
	}
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
