// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

// A recordedStep is a request and what AWS KMS answered; the README beside the
// file describes the format.
type recordedStep struct {
	Op     string
	Input  json.RawMessage
	Expect *struct {
		Output any
		Error  *struct{ Code, Message string }
	}
}

// variable is what stands in an input for a value of an earlier answer.
var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

// known replaces variables by what is valid wherever one is used: base64, an
// alias, hexadecimal digits.
func known(input []byte) []byte {
	return variable.ReplaceAllFunc(input, func(name []byte) []byte {
		if strings.Contains(string(name), "region") {
			return []byte("us-west-2")
		}
		return []byte(strings.Repeat("a", 64))
	})
}

// TestRecordedValidation: what AWS refused for a constraint is refused in the same
// words, and nothing else that AWS was sent is refused.
func TestRecordedValidation(t *testing.T) {
	data, err := os.ReadFile(need.SharedData(t, "kms", "recorded-cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			Name  string
			Steps []recordedStep
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	refused, accepted := 0, 0
	for _, c := range file.Cases {
		for i, step := range c.Steps {
			op := Lookup(step.Op)
			if op == nil {
				if !strings.HasPrefix(step.Op, "Local.") {
					t.Errorf("%s, step %d: no operation %s", c.Name, i, step.Op)
				}
				continue
			}
			got := refusal(t, op, step.Input)
			if want, ok := step.refusal(); ok {
				refused++
				if !want(got) {
					t.Errorf("%s, step %d: got %q", c.Name, i, got)
				}
				continue
			}
			accepted++
			if got != "" {
				t.Errorf("%s, step %d: %s is refused: %s", c.Name, i, step.Op, got)
			}
		}
	}
	if refused < 6 || accepted < 300 {
		t.Errorf("%d refusals and %d other requests were seen", refused, accepted)
	}
}

// refusal returns the message of Validate.
func refusal(t *testing.T, op *Operation, input []byte) string {
	t.Helper()
	if input == nil {
		input = []byte("{}")
	}
	in, err := decodeInput(op, known(input))
	if err != nil {
		t.Fatalf("%s: %v: %s", op.Name, err, input)
	}
	if e, ok := Validate(in).(*Error); ok {
		return e.Message
	}
	return ""
}

// refusal returns a comparison with what AWS said of a constraint; false if it
// said nothing of one.
func (s recordedStep) refusal() (func(string) bool, bool) {
	if s.Expect == nil || s.Expect.Error == nil || !strings.Contains(s.Expect.Error.Message, "validation error") {
		return nil, false
	}
	message := s.Expect.Error.Message
	if expression, ok := strings.CutPrefix(message, "<re:"); ok {
		return regexp.MustCompile(strings.TrimSuffix(expression, ">")).MatchString, true
	}
	return func(got string) bool { return got == message }, true
}
