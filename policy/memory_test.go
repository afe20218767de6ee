// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What an Evaluator decides in the memory of other decisions is what Evaluate does, and
// Evaluate's own decisions stay as they are.
func TestEvaluator(t *testing.T) {
	m := &simMaker{Rand: rand.New(rand.NewPCG(5, 6))}
	var e Evaluator
	var kept []Decision
	var texts []string
	for range 2000 {
		p := m.pair()
		in, err := p.input()
		if err != nil {
			t.Fatal(err)
		}
		if m.chance(10) {
			in.Grants = append(in.Grants, Grant{ID: "g", Grantee: p.Caller.ARN, Operations: []string{strings.TrimPrefix(p.Action, "kms:")}})
		}
		want := Evaluate(in)
		got := e.Evaluate(&in)
		if !reflect.DeepEqual(*got, want) {
			t.Fatalf("%s\ngot  %+v\nwant %+v", p.json(t), *got, want)
		}
		ours, _ := json.Marshal(got)
		theirs, _ := json.Marshal(want)
		if string(ours) != string(theirs) {
			t.Fatalf("got  %s\nwant %s", ours, theirs)
		}
		kept, texts = append(kept, want), append(texts, string(theirs))
	}
	for i, d := range kept {
		if text, _ := json.Marshal(d); string(text) != texts[i] {
			t.Fatalf("it was %s\nand is %s", texts[i], text)
		}
	}
}

// Nothing of a decision is kept, and no more memory than ordinary ones need.
func TestEvaluatorForgets(t *testing.T) {
	condition := `{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:a":"x","kms:b":"` + strings.Repeat("y", 300) + `"}}}`
	for _, statements := range []int{1, 10, 24, 70} { // of the last two not all are in the trace
		in := input(t, user, `{"Statement":[`+strings.Repeat(condition+",", statements)+`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`, denyDecrypt)
		in.Request.Context = Context{"kms:a": {strings.Repeat("z", 1000)}, "kms:b": {strings.Repeat("z", 1000)}}
		var e Evaluator
		d := e.Evaluate(&in)
		if d.Cause != CauseIdentityDeny || d.Trace.Truncated != (statements > 10) {
			t.Errorf("%d: %s, truncated %v", statements, d.Cause, d.Trace.Truncated)
		}
		e.Reset()
		m := &e.evaluation.memory
		if !blank(m.policies) || !blank(m.statements) || !blank(m.conditions) || !blank(m.by) {
			t.Errorf("%d: kept %+v", statements, m)
		}
		if kept := []int{cap(m.policies), cap(m.statements), cap(m.conditions), cap(m.failed), cap(m.by)}; slices.Max(kept) > maxKept {
			t.Errorf("%d: memory for %v", statements, kept)
		}
		if again := e.Evaluate(&Input{}); again.Allowed || again.By != nil || len(again.Trace.Policies) > 0 {
			t.Errorf("%d: %+v", statements, again)
		}
	}
}

// blank tells whether all that the list has room for is zero.
func blank[E any](list []E) bool {
	for _, entry := range list[:cap(list)] {
		if !reflect.ValueOf(entry).IsZero() {
			return false
		}
	}
	return len(list) == 0
}
