// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
)

// AppendJSON appends what encoding/json makes of the event, byte for byte, but for what
// its traces repeat: see restore. Every answer waits for it, so it is written out: what
// requests that use a key have goes without reflection, all else by encoding/json.
func (e *Event) AppendJSON(dst []byte) ([]byte, error) {
	w := eventWriter{b: dst, principal: e.principal(), service: e.service(), operation: e.EventName, resource: e.resource()}
	w.event(e)
	return w.b, w.err
}

// An eventWriter appends JSON. The names that its methods are given have their
// colon, and before it what precedes the member. The first member of each object
// is one that is never left out.
type eventWriter struct {
	b   []byte
	err error // the first one
	// What a trace leaves out: the event says it already.
	principal                    policy.Principal
	service, operation, resource string
}

func (w *eventWriter) raw(s string) { w.b = append(w.b, s...) }

// text writes a string as encoding/json does, which escapes the characters of HTML
// too.
func (w *eventWriter) text(name, s string) {
	start := len(w.b)
	end := start + len(name) + len(s) + 2
	if end > cap(w.b) {
		w.b = slices.Grow(w.b, end-start)
	}
	b := w.b[:end]
	copy(b[start:], name)
	b[end-1] = '"'
	quoted := b[start+len(name) : end-1]
	quoted[0] = '"'
	if !copyPlain(quoted[1:], s) {
		w.other(name, s)
		return
	}
	w.b = b
}

// some writes a string that is left out if it is empty.
func (w *eventWriter) some(name, s string) {
	if s != "" {
		w.text(name, s)
	}
}

func (w *eventWriter) flag(name string, value bool) {
	w.raw(name)
	w.b = strconv.AppendBool(w.b, value)
}

// someFlag writes a flag that is left out if it is false.
func (w *eventWriter) someFlag(name string, value bool) {
	if value {
		w.flag(name, value)
	}
}

func (w *eventWriter) number(name string, value int) {
	w.raw(name)
	w.b = strconv.AppendInt(w.b, int64(value), 10)
}

// other writes any value as encoding/json does.
func (w *eventWriter) other(name string, value any) {
	w.raw(name)
	b, err := json.Marshal(value)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = append(w.b, b...)
}

// copyPlain copies a text to dst, which is as long, and tells whether all of its bytes
// stand for themselves in a JSON string. It takes eight at a time, the last eight once
// more where they overlap, as nearly all texts are plain.
func copyPlain(dst []byte, s string) bool {
	if len(s) < 8 {
		few := uint64(0x2020202020202020)
		for i := range len(s) {
			few = few<<8 | uint64(s[i])
			dst[i] = s[i]
		}
		return special(few) == 0
	}
	last := eight(s[len(s)-8:])
	binary.LittleEndian.PutUint64(dst[len(s)-8:], last)
	found := special(last)
	for ; len(s) > 8 && len(dst) > 8; s, dst = s[8:], dst[8:] {
		next := eight(s)
		binary.LittleEndian.PutUint64(dst, next)
		found |= special(next)
	}
	return found == 0
}

// eight are the first eight bytes of a text.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// special is 0 if none of the eight bytes is one that encoding/json escapes: a
// control character, one of "&<>\, or one that is not ASCII. It does not matter which of the
// bytes it marks if there is one.
func special(x uint64) uint64 {
	const (
		each = 0x0101010101010101
		top  = 0x80 * each
	)
	amp := x&^(4*each) ^ '"'*each // zero where '"' or '&' is, which differ in one bit
	angle := x&^(2*each) ^ '<'*each
	slash := x ^ '\\'*each
	return (x | (x-' '*each)&^x | (amp-each)&^amp | (angle-each)&^angle | (slash-each)&^slash) & top
}

// time writes a time as [time.Time.MarshalJSON] does.
func (w *eventWriter) time(name string, t time.Time) {
	w.raw(name)
	w.b = append(w.b, '"')
	b, err := t.AppendText(w.b)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = append(b, '"')
}

// list writes what has been appended to a list; nil is null.
func list[T any](w *eventWriter, name string, items []T, write func(*T)) {
	w.raw(name)
	if items == nil {
		w.raw("null")
		return
	}
	w.raw("[")
	for i := range items {
		if i > 0 {
			w.raw(",")
		}
		write(&items[i])
	}
	w.raw("]")
}

func (w *eventWriter) texts(name string, items []string) {
	list(w, name, items, func(s *string) { w.text("", *s) })
}

func (w *eventWriter) event(e *Event) {
	w.text(`{"schema":`, e.Schema)
	w.some(`,"eventVersion":`, e.EventVersion)
	w.some(`,"eventID":`, e.EventID)
	w.some(`,"eventType":`, e.EventType)
	w.time(`,"eventTime":`, e.EventTime)
	w.text(`,"eventName":`, e.EventName)
	w.text(`,"eventSource":`, e.EventSource)
	w.text(`,"awsRegion":`, e.Region)
	w.some(`,"sourceIPAddress":`, e.SourceIP)
	w.some(`,"userAgent":`, e.UserAgent)
	w.identity(&e.UserIdentity)
	w.text(`,"requestID":`, e.RequestID)
	w.text(`,"decision":`, e.DecisionID)
	w.flag(`,"emulated":`, e.Emulated)
	w.text(`,"outcome":`, e.Outcome)
	w.some(`,"errorCode":`, e.ErrorCode)
	w.some(`,"errorMessage":`, e.ErrorMessage)
	w.some(`,"cause":`, e.Cause)
	w.parameters(`,"requestParameters":`, e.RequestParameters)
	w.parameters(`,"responseElements":`, e.ResponseElements)
	w.flag(`,"readOnly":`, e.ReadOnly)
	if len(e.Resources) > 0 {
		list(w, `,"resources":`, e.Resources, w.resourceOf)
	}
	if e.Additional != nil {
		w.recipient(&e.Additional.Recipient)
	}
	if e.Decision != nil {
		w.raw(`,"policyDecision":`)
		w.decision(e.Decision)
	}
	if len(e.OtherDecisions) > 0 {
		list(w, `,"otherPolicyDecisions":`, e.OtherDecisions, w.decision)
	}
	if len(e.Problems) > 0 {
		w.other(`,"problems":`, e.Problems)
	}
	w.flag(`,"managementEvent":`, e.ManagementEvent)
	w.some(`,"eventCategory":`, e.EventCategory)
	w.some(`,"recipientAccountId":`, e.RecipientAccountID)
	w.some(`,"sharedEventID":`, e.SharedEventID)
	if t := e.TLSDetails; t != nil {
		w.text(`,"tlsDetails":{"tlsVersion":`, t.TLSVersion)
		w.text(`,"cipherSuite":`, t.CipherSuite)
		w.text(`,"clientProvidedHostHeader":`, t.ClientProvidedHostHeader)
		w.raw("}")
	}
	w.raw("}")
}

func (w *eventWriter) identity(u *UserIdentity) {
	w.text(`,"userIdentity":{"type":`, u.Type)
	w.some(`,"principalId":`, u.PrincipalID)
	w.some(`,"arn":`, u.ARN)
	w.some(`,"accountId":`, u.AccountID)
	w.some(`,"accessKeyId":`, u.AccessKeyID)
	w.some(`,"userName":`, u.UserName)
	w.some(`,"identityProvider":`, u.IdentityProvider)
	if u.SessionContext != nil {
		w.session(u.SessionContext)
	}
	w.raw("}")
}

func (w *eventWriter) session(s *SessionContext) {
	w.text(`,"sessionContext":{"attributes":{"mfaAuthenticated":`, s.Attributes.MFAAuthenticated)
	w.some(`,"creationDate":`, s.Attributes.CreationDate)
	w.raw("}")
	if i := s.SessionIssuer; i != nil {
		w.text(`,"sessionIssuer":{"type":`, i.Type)
		w.text(`,"principalId":`, i.PrincipalID)
		w.text(`,"arn":`, i.ARN)
		w.text(`,"accountId":`, i.AccountID)
		w.text(`,"userName":`, i.UserName)
		w.raw("}")
	}
	if f := s.WebIDFederationData; f != nil {
		w.text(`,"webIdFederationData":{"federatedProvider":`, f.FederatedProvider)
		w.raw("}")
	}
	w.some(`,"sourceIdentity":`, s.SourceIdentity)
	w.raw("}")
}

// parameters writes a map, in the order of its names; none if it is empty.
func (w *eventWriter) parameters(name string, m map[string]any) {
	if len(m) == 0 {
		return
	}
	w.raw(name)
	before := "{"
	for _, member := range slices.Sorted(maps.Keys(m)) {
		w.text(before, member)
		before = ","
		switch value := m[member].(type) {
		case string:
			w.text(":", value)
		case bool:
			w.flag(":", value)
		case []string:
			w.texts(":", value)
		default:
			w.other(":", value)
		}
	}
	w.raw("}")
}

func (w *eventWriter) resourceOf(r *EventResource) {
	w.text(`{"accountId":`, r.AccountID)
	w.text(`,"type":`, r.Type)
	w.text(`,"ARN":`, r.ARN)
	w.raw("}")
}

func (w *eventWriter) recipient(r *EventRecipient) {
	w.text(`,"additionalEventData":{"recipient":{"attestationDocumentModuleId":`, r.ModuleID)
	w.digest(`,"attestationDocumentEnclaveImageDigest":`, r.ImageDigest)
	w.digest(`,"attestationDocumentEnclavePCR1":`, r.PCR1)
	w.digest(`,"attestationDocumentEnclavePCR2":`, r.PCR2)
	w.digest(`,"attestationDocumentEnclavePCR3":`, r.PCR3)
	w.digest(`,"attestationDocumentEnclavePCR4":`, r.PCR4)
	w.digest(`,"attestationDocumentEnclavePCR8":`, r.PCR8)
	w.digest(`,"attestationDocumentNitroTPMPCR4":`, r.NitroTPMPCR4)
	w.digest(`,"attestationDocumentNitroTPMPCR7":`, r.NitroTPMPCR7)
	w.digest(`,"attestationDocumentNitroTPMPCR8":`, r.NitroTPMPCR8)
	w.digest(`,"attestationDocumentNitroTPMPCR9":`, r.NitroTPMPCR9)
	w.digest(`,"attestationDocumentNitroTPMPCR16":`, r.NitroTPMPCR16)
	w.digest(`,"attestationDocumentNitroTPMPCR23":`, r.NitroTPMPCR23)
	w.text(`,"kind":`, r.Kind)
	w.text(`,"trust":`, r.Trust)
	w.flag(`,"emulated":`, r.Emulated)
	w.flag(`,"debug":`, r.Debug)
	w.time(`,"timestamp":`, r.Timestamp)
	w.text(`,"payloadHash":`, r.PayloadHash)
	w.raw(`,"registers":{`)
	before := `"PCR`
	for i, digest := range r.Registers.All() {
		w.number(before, int(i))
		before = `,"PCR`
		w.digest(`":`, &digest)
	}
	w.raw("}}}")
}

// digest writes a digest, unless it is nil.
func (w *eventWriter) digest(name string, d *pcr.Digest) {
	if d == nil {
		return
	}
	w.raw(name)
	w.b = append(w.b, '"')
	w.b = hex.AppendEncode(w.b, d[:])
	w.b = append(w.b, '"')
}

func (w *eventWriter) decision(d *policy.Decision) {
	w.flag(`{"allowed":`, d.Allowed)
	w.text(`,"cause":`, string(d.Cause))
	if len(d.By) > 0 {
		list(w, `,"by":`, d.By, w.statementRef)
	}
	w.some(`,"grant":`, d.Grant)
	t := &d.Trace
	w.raw(`,"trace":{`)
	if t.Principal != w.principal {
		w.traced(&t.Principal)
	}
	if service, operation, _ := strings.Cut(t.Action, ":"); service != w.service || operation != w.operation {
		w.text(`"action":`, t.Action)
		w.raw(",")
	}
	if t.Resource != w.resource {
		w.text(`"resource":`, t.Resource)
		w.raw(",")
	}
	if t.TakesRecipient {
		w.raw(`"takes_recipient":true,`)
	}
	if t.Document != "" {
		w.text(`"document":`, t.Document)
		w.raw(",")
	}
	list(w, `"policies":`, t.Policies, func(p *policy.PolicyTrace) {
		w.text(`{"kind":`, p.Kind)
		w.some(`,"name":`, p.Name)
		list(w, `,"statements":`, p.Statements, w.statement)
		w.raw("}")
	})
	if len(t.Grants) > 0 {
		w.other(`,"grants":`, t.Grants)
	}
	w.someFlag(`,"truncated":`, t.Truncated)
	w.raw("}}")
}

// traced writes the principal of a trace.
func (w *eventWriter) traced(p *policy.Principal) {
	w.text(`"principal":{"type":`, string(p.Type))
	w.text(`,"arn":`, p.ARN)
	w.some(`,"account":`, p.AccountID)
	w.some(`,"role_arn":`, p.RoleARN)
	w.some(`,"user_arn":`, p.UserARN)
	w.some(`,"unique_id":`, p.UniqueID)
	w.raw("},")
}

func (w *eventWriter) statementRef(r *policy.StatementRef) {
	w.text(`{"kind":`, r.Kind)
	w.some(`,"policy":`, r.Policy)
	w.number(`,"index":`, r.Index)
	w.some(`,"sid":`, r.Sid)
	w.raw("}")
}

func (w *eventWriter) statement(s *policy.StatementTrace) {
	w.number(`{"index":`, s.Index)
	w.some(`,"sid":`, s.Sid)
	w.text(`,"effect":`, string(s.Effect))
	w.flag(`,"applied":`, s.Applied)
	if len(s.Failed) > 0 {
		list(w, `,"failed":`, s.Failed, func(e *policy.Element) { w.text("", string(*e)) })
	}
	w.someFlag(`,"delegates":`, s.Delegates)
	w.someFlag(`,"not_principal":`, s.NotPrincipal)
	w.someFlag(`,"replaced":`, s.Replaced)
	w.someFlag(`,"inert":`, s.Inert)
	if len(s.Conditions) > 0 {
		list(w, `,"conditions":`, s.Conditions, w.condition)
	}
	w.raw("}")
}

func (w *eventWriter) condition(c *policy.ConditionTrace) {
	w.text(`{"operator":`, c.Operator)
	w.someFlag(`,"negated":`, c.Negated)
	w.text(`,"key":`, c.Key)
	w.texts(`,"wanted":`, c.Wanted)
	w.flag(`,"present":`, c.Present)
	if len(c.Got) > 0 {
		w.texts(`,"got":`, c.Got)
	}
	w.flag(`,"matched":`, c.Matched)
	w.someFlag(`,"ambiguous":`, c.Ambiguous)
	w.raw("}")
}
