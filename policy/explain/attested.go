// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/policy"
)

func debug(_ *policy.Decision, e *evidence) (Finding, bool) {
	const todo = "start the enclave without --debug-mode. Never put zeros into a policy: they let every debug enclave in."
	var zero []string
	for _, name := range []string{"PCR0", "PCR1", "PCR2"} {
		if r := e.find(name); r != nil && r.zero() {
			zero = append(zero, name)
		}
	}
	if len(zero) > 0 {
		be := "is"
		if len(zero) > 1 {
			be = "are"
		}
		return Finding{
			"debug-document", fmt.Sprintf("%s %s zero. The enclave runs with --debug-mode; its memory can be read, and its document says nothing about the image.", join(zero), be), todo,
		}, true
	}
	image := e.bad(func(r *register) bool { return slices.Contains([]string{"PCR0", "PCR1", "PCR2", "PCR8"}, r.name) })
	return Finding{
		"debug-document", "The enclave runs with --debug-mode; its memory can be read, and PCR0, PCR1, PCR2 and PCR8 of its document are zero, whatever the image.", todo,
	}, e.document == "enclave-debug" && image != nil
}

// noRecipient leaves a trace that knows of no document and has NitroTPM keys alone
// to otherKind: an enclave's document could be behind it.
func noRecipient(d *policy.Decision, e *evidence) (Finding, bool) {
	ask := e.bad(func(r *register) bool { return !r.present && (d.Trace.Document != "" || !r.tpm()) })
	return Finding{
		"no-recipient", "The request carried no attestation document.",
		"send Recipient with a fresh document: call from inside the enclave, through a client that attaches one.",
	}, e.document == "none" && ask != nil
}

func otherKind(_ *policy.Decision, e *evidence) (Finding, bool) {
	present := func(tpm bool) bool {
		return slices.ContainsFunc(e.registers, func(r *register) bool { return r.present && r.tpm() == tpm })
	}
	tpm := e.document == "nitrotpm" || present(true)
	enclave := strings.HasPrefix(e.document, "enclave") || present(false)
	other := e.bad(func(r *register) bool { return !r.present && (r.tpm() && !tpm || !r.tpm() && tpm && !enclave) })
	return Finding{
		"document-of-another-kind", "An enclave's document has ImageSha384 and PCR keys, a NitroTPM's has NitroTPMPCR keys; the policy asks for those that this request does not have.",
		"send a document of the kind that the policy names, or name the other kind's keys.",
	}, other != nil
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

// contradiction finds a statement that no document can satisfy.
func contradiction(_ *policy.Decision, e *evidence) (Finding, bool) {
	names := e.twice
	if names == "PCR0" {
		names = "PCR0, which is what ImageSha384 is too"
	}
	return Finding{
		"two-values", fmt.Sprintf("One statement wants two values of %s. The document has one of them, and none has both.", names),
		"name the image's own value in both places, or in one only.",
	}, e.twice != ""
}

// differs tells whether the policy wants a value of the register, and whether the
// document has another.
func (e *evidence) differs(name string) (known, yes bool) {
	r := e.find(name)
	known = r != nil && r.present && len(r.wanted) > 0
	return known, known && r.failed && !r.same()
}

// imagePolicy names the policy whose conditions on the image do not hold.
func imagePolicy(d *policy.Decision) string {
	switch d.Cause {
	case policy.CauseNoBoundaryAllow, policy.CauseBoundaryDeny:
		return "the caller's permissions boundary"
	case policy.CauseNoSessionAllow, policy.CauseSessionDeny:
		return "the policy of the session"
	case policy.CauseNoIdentityAllow, policy.CauseIdentityDeny:
		for s := range statements(d, "key", "trust") {
			if relevant(d, s) && !s.Applied {
				return attached(d)
			}
		}
		return "the identity policy"
	}
	return attached(d)
}

func otherBuild(d *policy.Decision, e *evidence) (Finding, bool) {
	todo := "add this image's PCRs to " + imagePolicy(d) + " if it is yours, or run the image that the policy names."
	_, diff0 := e.differs("PCR0")
	know1, diff1 := e.differs("PCR1")
	know2, diff2 := e.differs("PCR2")
	too, well := "", ""
	if diff0 {
		too, well = " too", " as well"
	}
	switch {
	case know1 && know2 && !diff1 && diff2:
		return Finding{"application-changed", "Another build of the same base. PCR2 differs" + too + ", PCR1 is the same: the application changed, kernel and init did not.", todo}, true
	case know1 && know2 && diff1 && !diff2:
		return Finding{"base-changed", "PCR1 differs, PCR2 is the same: kernel, command line or init changed, the application did not.", todo}, true
	case know1 && know2 && diff1 && diff2:
		return Finding{"other-image", "PCR1 and PCR2 differ" + well + ": this is another image altogether.", todo}, true
	}
	return Finding{"other-image", "Another build or another image than the policy names.", todo}, diff0 || diff1 || diff2
}

// meaning says what a register is about, for those with a meaning of their own.
// Sources: AWS Nitro Enclaves User Guide, "Where to get an enclave's measurements";
// TCG PC Client Platform Firmware Profile, §3.3.4.
var meaning = map[string]struct{ differs, todo string }{
	"PCR3":         {"PCR3 is that of another IAM role of the parent instance, or of none.", "start the parent instance with the role that the policy names."},
	"PCR4":         {"PCR4 is that of another parent instance.", "name the instance in the policy, or do without PCR4."},
	"PCR8":         {"PCR8 is that of another signing certificate, or the image is not signed.", "sign the image with the certificate that the policy names; a renewed certificate is another."},
	"NitroTPMPCR4": {"NitroTPMPCR4 is that of another boot manager or kernel image than the policy names.", "name this boot image in the policy if it is yours, or boot the one that the policy names."},
	"NitroTPMPCR7": {"NitroTPMPCR7 is that of another Secure Boot policy, or of none.", "start the instance with the Secure Boot keys that the policy stands for."},
}

// otherRegister finds a register that is not about the image, the likeliest first.
func otherRegister(d *policy.Decision, e *evidence) (Finding, bool) {
	var names []string
	for _, r := range e.registers {
		if _, yes := e.differs(r.name); yes && !slices.Contains([]string{"PCR0", "PCR1", "PCR2"}, r.name) {
			names = append(names, r.name)
		}
	}
	if _, image := otherBuild(d, e); image || len(names) == 0 {
		return Finding{}, false
	}
	name := names[0]
	for _, first := range []string{"PCR8", "PCR3", "PCR4", "NitroTPMPCR7", "NitroTPMPCR4"} {
		if slices.Contains(names, first) {
			name = first
			break
		}
	}
	m, known := meaning[name]
	if !known {
		m.differs = fmt.Sprintf("%s has another value than the policy names: something else was measured into it.", name)
		m.todo = "name this value in the policy if what was measured is yours, or measure what the policy stands for."
	}
	return Finding{"other-" + strings.ToLower(name), m.differs, m.todo}, true
}

func excluded(_ *policy.Decision, e *evidence) (Finding, bool) {
	r := e.bad(func(r *register) bool { return r.excluded })
	if r == nil {
		return Finding{}, false
	}
	return Finding{
		"value-excluded", fmt.Sprintf("The policy excludes what the document has in %s, %s.", r.name, Short(r.got)),
		"run another image, or take the value out of the condition.",
	}, true
}

func unwanted(_ *policy.Decision, e *evidence) (Finding, bool) {
	r := e.bad(func(r *register) bool { return r.unwanted })
	if r == nil {
		return Finding{}, false
	}
	return Finding{
		"document-unwanted", fmt.Sprintf("The policy wants a request without %s, and this one has it: an attestation document.", r.name),
		"call without Recipient, or turn the condition Null around.",
	}, true
}

// absentRegister finds registers that a document of this kind need not have.
func absentRegister(_ *policy.Decision, e *evidence) (Finding, bool) {
	if e.document == "none" {
		return Finding{}, false
	}
	if r := e.bad(func(r *register) bool { return !r.present && !r.tpm() && r.number() >= 16 && e.document != "nitrotpm" }); r != nil {
		return Finding{
			"register-not-locked", fmt.Sprintf("%s is not in the document: registers from 16 on are there only after the enclave has locked them.", r.name),
			"extend and lock the register before asking for the document.",
		}, true
	}
	r := e.bad(func(r *register) bool { return !r.present && r.tpm() == (e.document == "nitrotpm") })
	if r == nil {
		return Finding{}, false
	}
	return Finding{
		"register-absent", fmt.Sprintf("%s is not in the document.", r.name), "name registers in the policy that the document has.",
	}, e.document != "some"
}
