// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cretula/cretula/policy"
)

const attestationPrefix = "kms:recipientattestation"

// A register is what the conditions say about one attestation condition key.
type register struct {
	name    string // "PCR0", "NitroTPMPCR4"
	key     string // as the policy wrote it
	wanted  []string
	got     string
	present bool
	matched bool // a wanted value was met, whatever the operator makes of that
}

// same also takes a value that differs in case only: registers are numbers.
func (r *register) same() bool {
	return r.present && (r.matched || slices.ContainsFunc(r.wanted, func(w string) bool { return strings.EqualFold(w, r.got) }))
}

func (r *register) zero() bool { return r.present && r.got != "" && strings.Trim(r.got, "0") == "" }

// registerName reads a condition key of attestation. Unknown keys have no name.
func registerName(key string) (name string, attestation bool) {
	rest, ok := strings.CutPrefix(strings.ToLower(key), attestationPrefix)
	if !ok {
		return "", false
	}
	rest, _ = strings.CutPrefix(rest, ":")
	if rest == "imagesha384" {
		return "PCR0", true
	}
	for prefix, limit := range map[string]int{"PCR": 32, "NitroTPMPCR": 24} {
		digits, ok := strings.CutPrefix(rest, strings.ToLower(prefix))
		if n, err := strconv.Atoi(digits); ok && err == nil && n >= 0 && n < limit && strconv.Itoa(n) == digits {
			return prefix + digits, true
		}
	}
	return "", true
}

// An evidence is what the conditions of the relevant statements hold.
type evidence struct {
	registers  []*register
	unknown    []string                // attestation keys that do not exist
	clock      []policy.ConditionTrace // an Allow's conditions on the time that do not hold
	other      []policy.ConditionTrace
	conditions []policy.ConditionTrace
}

func (e *evidence) find(name string) *register {
	for _, r := range e.registers {
		if r.name == name {
			return r
		}
	}
	return nil
}

// document tells whether the request had any of the attestation keys.
func (e *evidence) document() bool {
	return slices.ContainsFunc(e.registers, func(r *register) bool { return r.present })
}

func gather(d *policy.Decision) *evidence {
	e := &evidence{}
	for s := range statements(d, lacking[d.Cause]...) {
		if !relevant(d, s) {
			continue
		}
		for _, c := range s.Conditions {
			e.conditions = append(e.conditions, c)
			e.add(c)
			_, attestation := registerName(c.Key)
			switch {
			case attestation || c.Matched != (s.Effect == policy.Deny):
			case s.Effect == policy.Allow && isClock(c):
				e.clock = append(e.clock, c)
			default:
				e.other = append(e.other, c)
			}
		}
	}
	return e
}

func (e *evidence) add(c policy.ConditionTrace) {
	name, attestation := registerName(c.Key)
	switch {
	case !attestation:
		return
	case name == "":
		if !slices.Contains(e.unknown, c.Key) {
			e.unknown = append(e.unknown, c.Key)
		}
		return
	}
	r := e.find(name)
	if r == nil {
		r = &register{name: name, key: c.Key, present: c.Present}
		if len(c.Got) == 1 {
			r.got = c.Got[0]
		}
		e.registers = append(e.registers, r)
	}
	if strings.Contains(c.Operator, "String") {
		r.wanted = append(r.wanted, c.Wanted...)
		r.matched = r.matched || c.Present && c.Matched != c.Negated
	}
}

// findings returns the likely causes, those first that hide the others.
func findings(d *policy.Decision) []Finding {
	e := gather(d)
	var all []Finding
	for _, look := range []func(*policy.Decision, *evidence) (Finding, bool){
		invalid, crossAccount, random, notPrincipal, boundaryLimit, sessionLimit, unknownKey, neverAttested, debug, noRecipient,
		otherKind, form, otherBuild, unlocked, ambiguous, clock, otherCondition, nearGrant, delegation, inert, unnamed, notDelegated,
	} {
		f, ok := look(d, e)
		if !ok {
			continue
		}
		all = append(all, f)
		if f.ID == "debug-document" || f.ID == "no-recipient" || f.ID == "action-never-attested" {
			break
		}
	}
	return all
}

func invalid(d *policy.Decision, _ *evidence) (Finding, bool) {
	return Finding{
		"invalid-policy", "A stored policy is damaged or of another kind.", "put the policy anew.",
	}, d.Cause == policy.CauseInvalid
}

func crossAccount(d *policy.Decision, _ *evidence) (Finding, bool) {
	return Finding{
		"cross-account-action", fmt.Sprintf("The caller is of another account than the key, and %s is for the key's own account only.", d.Trace.Action),
		"call it as a principal of the key's account.",
	}, d.Cause == policy.CauseCrossAccount
}

func random(d *policy.Decision, _ *evidence) (Finding, bool) {
	return Finding{
		"random-has-no-key", "kms:GenerateRandom is on no key, so a key policy that names it has no effect: identity policies alone decide.",
		"allow kms:GenerateRandom in an identity policy of the caller.",
	}, strings.EqualFold(d.Trace.Action, "kms:GenerateRandom") && d.Cause == policy.CauseNoIdentityAllow
}

func unknownKey(_ *policy.Decision, e *evidence) (Finding, bool) {
	if len(e.unknown) == 0 {
		return Finding{}, false
	}
	return Finding{
		"unknown-attestation-key", fmt.Sprintf("The policy asks for %s. There is no such condition key, so it is absent in every request.", shortList(e.unknown)),
		"write kms:RecipientAttestation:ImageSha384, :PCR0 to :PCR31 or :NitroTPMPCR0 to :NitroTPMPCR23.",
	}, true
}

func neverAttested(d *policy.Decision, e *evidence) (Finding, bool) {
	return Finding{
		"action-never-attested", fmt.Sprintf("%s takes no attestation document, so a condition on one never holds for it.", d.Trace.Action),
		"move the action to a statement without attestation conditions, or do without it.",
	}, len(e.registers) > 0 && !d.Trace.TakesRecipient && !e.document()
}

func debug(_ *policy.Decision, e *evidence) (Finding, bool) {
	var zero []string
	for _, name := range []string{"PCR0", "PCR1", "PCR2"} {
		if r := e.find(name); r != nil && r.zero() {
			zero = append(zero, name)
		}
	}
	if len(zero) == 0 {
		return Finding{}, false
	}
	be := "is"
	if len(zero) > 1 {
		be = "are"
	}
	return Finding{
		"debug-document", fmt.Sprintf("%s %s zero. The enclave runs with --debug-mode; its memory can be read, and its document says nothing about the image.", join(zero), be),
		"start the enclave without --debug-mode. Never put zeros into a policy: they let every debug enclave in.",
	}, true
}

func noRecipient(_ *policy.Decision, e *evidence) (Finding, bool) {
	return Finding{
		"no-recipient", "The request carried no attestation document.",
		"send Recipient with a fresh document: call from inside the enclave, through a client that attaches one.",
	}, !e.document() && len(e.registers) > 0 && !tpm(e)
}

// tpm tells whether only NitroTPM keys were looked at, whose absence can also
// mean that the document is an enclave's.
func tpm(e *evidence) bool {
	return !slices.ContainsFunc(e.registers, func(r *register) bool { return !strings.HasPrefix(r.name, "NitroTPM") })
}

func otherKind(_ *policy.Decision, e *evidence) (Finding, bool) {
	image := e.find("PCR0")
	someTPM := slices.ContainsFunc(e.registers, func(r *register) bool { return r.present && strings.HasPrefix(r.name, "NitroTPM") })
	absentTPM := len(e.registers) > 0 && tpm(e) && !someTPM
	return Finding{
		"document-of-another-kind", "An enclave's document has ImageSha384 and PCR keys, a NitroTPM's has NitroTPMPCR keys; the policy asks for those that this request does not have.",
		"send a document of the kind that the policy names, or name the other kind's keys.",
	}, absentTPM || someTPM && image != nil && !image.present
}

// form finds values that cannot match because of how they are written.
func form(_ *policy.Decision, e *evidence) (Finding, bool) {
	for _, c := range e.conditions {
		name, _ := registerName(c.Key)
		if name == "" || !strings.Contains(c.Operator, "String") {
			continue
		}
		for _, w := range c.Wanted {
			folds := strings.Contains(c.Operator, "IgnoreCase")
			switch {
			case strings.HasPrefix(strings.ToLower(w), "0x"):
				return Finding{
					"hex-prefix", fmt.Sprintf("The policy writes %s with 0x. The value in a request is 96 bare hex digits.", name),
					"take the 0x away.",
				}, true
			case !folds && c.Present && len(c.Got) == 1 && w != c.Got[0] && strings.EqualFold(w, c.Got[0]):
				return Finding{
					"letter-case", fmt.Sprintf("The policy writes %s in upper case, and %s does regard case.", name, c.Operator),
					"use StringEqualsIgnoreCase, or write the value in lower case.",
				}, true
			case len(w) != 96 && !strings.ContainsAny(w, "*?$"):
				return Finding{
					"digest-length", fmt.Sprintf("The policy's value for %s has %d characters. A SHA-384 has 96 hex digits.", name, len(w)),
					"copy the whole value from the image's measurements.",
				}, true
			}
		}
	}
	return Finding{}, false
}

// meaning says what a register is about, for those with a meaning of their own.
var meaning = map[string]struct{ differs, todo string }{
	"PCR3": {"PCR3 is that of another IAM role of the parent instance, or of none.", "start the parent instance with the role that the policy names."},
	"PCR4": {"PCR4 is that of another parent instance.", "name the instance in the policy, or do without PCR4."},
	"PCR8": {"PCR8 is that of another signing certificate, or the image is not signed.", "sign the image with the certificate that the policy names; a renewed certificate is another."},
}

func otherBuild(_ *policy.Decision, e *evidence) (Finding, bool) {
	differs := func(name string) (known, yes bool) {
		r := e.find(name)
		return r != nil && r.present && len(r.wanted) > 0, r != nil && !r.same()
	}
	const todo = "add this image's PCRs to the key policy if it is yours, or run the image that the policy names."
	know0, diff0 := differs("PCR0")
	know1, diff1 := differs("PCR1")
	know2, diff2 := differs("PCR2")
	image := know0 && diff0 || know1 && diff1 || know2 && diff2
	switch {
	case image && know1 && know2 && !diff1 && diff2:
		return Finding{"application-changed", "Another build of the same base. PCR2 differs too, PCR1 is the same: the application changed, kernel and init did not.", todo}, true
	case image && know1 && know2 && diff1 && !diff2:
		return Finding{"base-changed", "PCR1 differs, PCR2 is the same: kernel, command line or init changed, the application did not.", todo}, true
	case image && know1 && know2 && diff1 && diff2:
		return Finding{"other-image", "PCR1 and PCR2 differ as well: this is another image altogether.", todo}, true
	case image:
		return Finding{"other-image", "Another build or another image than the policy names.", todo}, true
	}
	for _, name := range []string{"PCR8", "PCR3", "PCR4"} {
		if known, yes := differs(name); known && yes {
			m := meaning[name]
			return Finding{"other-" + strings.ToLower(name), m.differs, m.todo}, true
		}
	}
	return Finding{}, false
}

// unlocked finds registers above 15, which a document has only if locked.
func unlocked(_ *policy.Decision, e *evidence) (Finding, bool) {
	image := e.document()
	for _, r := range e.registers {
		if n, err := strconv.Atoi(strings.TrimPrefix(r.name, "PCR")); err == nil && n >= 16 && !r.present && image {
			return Finding{
				"register-not-locked", fmt.Sprintf("%s is not in the document: registers from 16 on are there only after the enclave has locked them.", r.name),
				"extend and lock the register before asking for the document.",
			}, true
		}
	}
	return Finding{}, false
}

func ambiguous(_ *policy.Decision, e *evidence) (Finding, bool) {
	for _, c := range e.conditions {
		if c.Ambiguous {
			return Finding{
				"several-values", fmt.Sprintf("A request can have several values for %s, and %s compares one.", Short(c.Key), c.Operator),
				"use ForAllValues: or ForAnyValue: in the policy, or do not send keys that differ in case only.",
			}, true
		}
	}
	return Finding{}, false
}

func otherCondition(_ *policy.Decision, e *evidence) (Finding, bool) {
	if len(e.other) == 0 {
		return Finding{}, false
	}
	c := e.other[0]
	return Finding{
		"condition", fmt.Sprintf("%s under %s: %s, %s.", Short(c.Key), c.Operator, wantedText(c), gotText(c)),
		"make the request as the condition wants it, or change the condition.",
	}, true
}

func inert(d *policy.Decision, _ *evidence) (Finding, bool) {
	for s := range statements(d) {
		if s.Inert && s.Effect == policy.Allow && !d.Allowed {
			return Finding{
				"inert-statement", fmt.Sprintf("Statement %s has no Action or no Resource and therefore never an effect.", statementName(s.Sid, s.Index)),
				"add what is missing to it.",
			}, true
		}
	}
	return Finding{}, false
}

// unnamed says which of principal and action no statement has.
func unnamed(d *policy.Decision, e *evidence) (Finding, bool) {
	if len(e.conditions) > 0 || nearestGrant(d) != nil || d.Cause != policy.CauseNoKeyAllow && (d.Cause != policy.CauseNoIdentityAllow || delegated(d)) {
		return Finding{}, false
	}
	if strings.EqualFold(d.Trace.Action, "kms:GenerateRandom") || grantsAccount(d) {
		return Finding{}, false
	}
	caller := false
	for s := range statements(d, "key") {
		caller = caller || s.Effect == policy.Allow && !slices.Contains(s.Failed, policy.ElementPrincipal)
	}
	what := fmt.Sprintf("No statement that allows anything names %s.", d.Trace.Principal.ARN)
	switch {
	case d.Cause == policy.CauseNoIdentityAllow:
		what = fmt.Sprintf("No identity policy of the caller allows %s on this resource.", d.Trace.Action)
	case caller:
		what = fmt.Sprintf("Statements name the caller, none of them with %s on this resource.", d.Trace.Action)
	}
	return Finding{"not-named", what, fmt.Sprintf("add %s for this caller to a statement, if it is meant to have it.", d.Trace.Action)}, true
}

func join(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
