// SPDX-License-Identifier: Apache-2.0

// Package reason is the one vocabulary in which every package of this module
// says why it refused something. A [Reason] is the class that programs act on:
// it is the exit code of the command line, the label of a metric and the
// "expect" of a test vector. A rule id, such as "doc.pcr.length", names the
// check that failed; docs/rules.md lists them all.
package reason

import (
	"errors"
	"fmt"
	"strings"
)

// A Reason is the class of a refusal. Lower values are graver: where several
// apply, the smallest decides.
type Reason uint8

// The reasons, gravest first.
const (
	// Malformed: not decodable, over a limit, a missing or mistyped field.
	Malformed Reason = iota + 1
	// Untrusted: a chain that does not reach a given root, wrong usage or
	// constraint, outside its validity.
	Untrusted
	// BadSignature: a signature or its algorithm.
	BadSignature
	// Stale: nonce, age, future skew.
	Stale
	// Mismatch: a reference value differs, or a kind or a debug document that
	// was not allowed.
	Mismatch
	// Unsupported: a device, feature or algorithm that is not there.
	Unsupported
)

var names = [...]string{
	Malformed:    "malformed",
	Untrusted:    "untrusted",
	BadSignature: "bad-signature",
	Stale:        "stale",
	Mismatch:     "mismatch",
	Unsupported:  "unsupported",
}

// All returns every reason, gravest first.
func All() []Reason {
	return []Reason{Malformed, Untrusted, BadSignature, Stale, Mismatch, Unsupported}
}

// String returns the reason's name as it is printed, such as "bad-signature".
func (r Reason) String() string {
	if r < Malformed || r > Unsupported {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return names[r]
}

// ExitCode returns the exit status that a command which failed for this reason
// ends with: 3 for Malformed up to 8 for Unsupported, 1 for anything else.
func (r Reason) ExitCode() int {
	if r < Malformed || r > Unsupported {
		return 1
	}
	return int(r) + 2
}

// MarshalText implements [encoding.TextMarshaler].
func (r Reason) MarshalText() ([]byte, error) {
	if r < Malformed || r > Unsupported {
		return nil, fmt.Errorf("reason: no name for %d", uint8(r))
	}
	return []byte(names[r]), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Reason) UnmarshalText(text []byte) error {
	for _, known := range All() {
		if names[known] == string(text) {
			*r = known
			return nil
		}
	}
	return fmt.Errorf("reason: unknown reason %q", text)
}

// A Problem is one finding of a check.
type Problem struct {
	// Rule is the stable id of the check, such as "chain.leaf.key-usage".
	Rule   string `json:"rule"`
	Reason Reason `json:"reason"`
	// Message says in plain words what was found and, where it applies, what
	// was wanted. It holds no secret.
	Message string `json:"message"`
	// Offset is the place in the checked bytes where the check failed, nil if
	// there is no one place.
	Offset *int64 `json:"offset,omitempty"`
}

// String returns message and rule, and the place if there is one.
func (p Problem) String() string {
	if p.Offset == nil {
		return fmt.Sprintf("%s (%s)", p.Message, p.Rule)
	}
	return fmt.Sprintf("%s, at byte %d (%s)", p.Message, *p.Offset, p.Rule)
}

// An Error is a refusal for one or more problems. Problems is never empty and
// is ordered gravest first.
type Error struct {
	Problems []Problem
	// Err is the cause, if there is one that a caller may want to look at.
	Err error
}

// New returns an Error with a single problem. The message is formatted as by
// [fmt.Sprintf]; an argument of a %w verb becomes the error's cause.
func New(r Reason, rule, format string, args ...any) *Error {
	cause := fmt.Errorf(format, args...)
	return &Error{
		Problems: []Problem{{Rule: rule, Reason: r, Message: cause.Error()}},
		Err:      errors.Unwrap(cause),
	}
}

// Reason returns the reason that counts: that of the gravest problem.
func (e *Error) Reason() Reason {
	worst := Unsupported
	for _, p := range e.Problems {
		worst = min(worst, p.Reason)
	}
	return worst
}

// Rule returns the id of the first problem of the gravest reason.
func (e *Error) Rule() string {
	worst := e.Reason()
	for _, p := range e.Problems {
		if p.Reason == worst {
			return p.Rule
		}
	}
	return ""
}

// Error lists every problem, separated by "; ".
func (e *Error) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return strings.Join(parts, "; ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Of returns the reason of the first [*Error] in err's tree.
func Of(err error) (Reason, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason(), true
	}
	return 0, false
}
