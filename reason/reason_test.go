// SPDX-License-Identifier: Apache-2.0

package reason

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestExitCodes(t *testing.T) {
	want := map[string]int{"malformed": 3, "untrusted": 4, "bad-signature": 5, "stale": 6, "mismatch": 7, "unsupported": 8}
	if len(All()) != len(want) {
		t.Fatalf("All() has %d reasons, want %d", len(All()), len(want))
	}
	for _, r := range All() {
		if got := r.ExitCode(); got != want[r.String()] {
			t.Errorf("%v: exit code %d, want %d", r, got, want[r.String()])
		}
	}
	if got := Reason(0).ExitCode(); got != 1 {
		t.Errorf("zero reason: exit code %d, want 1", got)
	}
}

func TestText(t *testing.T) {
	for _, r := range All() {
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var back Reason
		if err := json.Unmarshal(data, &back); err != nil || back != r {
			t.Errorf("%s: read back %v, %v", data, back, err)
		}
	}
	if _, err := json.Marshal(Reason(0)); err == nil {
		t.Error("the zero reason was marshalled")
	}
	if err := new(Reason).UnmarshalText([]byte("fine")); err == nil {
		t.Error("an unknown reason was read")
	}
}

func TestGravestCounts(t *testing.T) {
	err := error(&Error{Problems: []Problem{
		{Rule: "doc.age", Reason: Stale, Message: "old"},
		{Rule: "chain.root", Reason: Untrusted, Message: "foreign"},
		{Rule: "chain.time", Reason: Untrusted, Message: "expired"},
	}})
	err = fmt.Errorf("verify: %w", err)
	if r, ok := Of(err); !ok || r != Untrusted {
		t.Errorf("Of = %v, %v", r, ok)
	}
	e, _ := errors.AsType[*Error](err)
	if e.Rule() != "chain.root" {
		t.Errorf("Rule = %q", e.Rule())
	}
	if want := "old (doc.age); foreign (chain.root); expired (chain.time)"; e.Error() != want {
		t.Errorf("Error() = %q, want %q", e.Error(), want)
	}
	if _, ok := Of(io.EOF); ok {
		t.Error("io.EOF has a reason")
	}
}

func TestNewKeepsTheCause(t *testing.T) {
	err := New(Malformed, "eif.header.short", "header: %w", io.ErrUnexpectedEOF)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is lost")
	}
	if New(Malformed, "x", "no cause").Unwrap() != nil {
		t.Error("a cause out of nothing")
	}
}
