// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cretula/cretula/policy"
)

const attestationPrefix = "kms:recipientattestation"

// A register is what the conditions say about one register, of which ImageSha384
// is another name for PCR0.
type register struct {
	name    string // "PCR0", "NitroTPMPCR4"
	got     string
	present bool
	bad     bool // a condition on it keeps the request from being allowed
	// wanted are the values of which the register must have one.
	wanted  []string
	matched bool // it has one that some condition wants
	failed  bool // it lacks those of some other
	// excluded: it has a value that it must not have. unwanted: it must be absent.
	excluded, unwanted bool
}

// minSame is how many digits make a cut digest known.
const minSame = 24

// same tells whether the register has a wanted value, however it is written: a
// register is a number.
func (r *register) same() bool {
	return r.present && (r.matched || slices.ContainsFunc(r.wanted, func(w string) bool {
		w = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(w)), "0x")
		got := strings.ToLower(r.got)
		return w == got || len(w) >= minSame && (strings.HasPrefix(got, w) || got != "" && strings.HasPrefix(w, got))
	}))
}

func (r *register) zero() bool { return r.present && r.got != "" && strings.Trim(r.got, "0") == "" }

func (r *register) tpm() bool { return strings.HasPrefix(r.name, "NitroTPM") }

// number is that of the register in its kind of document.
func (r *register) number() int {
	n, err := strconv.Atoi(strings.TrimPrefix(strings.TrimPrefix(r.name, "NitroTPM"), "PCR"))
	if err != nil {
		return -1
	}
	return n
}

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
	twice      string                  // a register of which one statement wants two values
	clock      []policy.ConditionTrace // an Allow's conditions on the time that do not hold
	other      []policy.ConditionTrace
	conditions []policy.ConditionTrace
	// document is that of the trace; where that is not known, "none" or "some".
	document string
}

func (e *evidence) find(name string) *register {
	for _, r := range e.registers {
		if r.name == name {
			return r
		}
	}
	return nil
}

// bad returns the first register that fits, of those that keep the request from
// being allowed.
func (e *evidence) bad(fits func(*register) bool) *register {
	for _, r := range e.registers {
		if r.bad && fits(r) {
			return r
		}
	}
	return nil
}

func gather(d *policy.Decision) *evidence {
	e := &evidence{document: d.Trace.Document}
	for s := range statements(d, lacking[d.Cause]...) {
		if !relevant(d, s) {
			continue
		}
		wants := map[string]bool{} // of this statement, by register: it was met
		for _, c := range s.Conditions {
			e.conditions = append(e.conditions, c)
			bad := c.Matched == (s.Effect == policy.Deny)
			name, attestation := registerName(c.Key)
			switch {
			case attestation && name == "":
				if !slices.Contains(e.unknown, c.Key) {
					e.unknown = append(e.unknown, c.Key)
				}
			case attestation:
				if e.add(name, c, s.Effect, bad) {
					if met, before := wants[name]; before && c.Present && met == bad {
						e.twice = name
					}
					wants[name] = !bad
				}
			case !bad:
			case s.Effect == policy.Allow && isClock(c):
				e.clock = append(e.clock, c)
			default:
				e.other = append(e.other, c)
			}
		}
	}
	if e.document == "" {
		e.document = "none"
		if slices.ContainsFunc(e.registers, func(r *register) bool { return r.present }) {
			e.document = "some"
		}
	}
	return e
}

// add notes a condition on a register, and tells whether it wants a value there.
func (e *evidence) add(name string, c policy.ConditionTrace, effect policy.Effect, bad bool) bool {
	r := e.find(name)
	if r == nil {
		r = &register{name: name, present: c.Present}
		if len(c.Got) == 1 {
			r.got = c.Got[0]
		}
		e.registers = append(e.registers, r)
	}
	r.bad = r.bad || bad
	switch {
	case c.Operator == "Null":
		r.unwanted = r.unwanted || bad && c.Present
		return false
	case !strings.Contains(c.Operator, "String"):
		return false
	case c.Negated != (effect == policy.Deny):
		r.excluded = r.excluded || bad && c.Present
		return false
	}
	r.wanted = append(r.wanted, c.Wanted...)
	r.failed = r.failed || bad
	r.matched = r.matched || c.Present && c.Matched != c.Negated
	return true
}
