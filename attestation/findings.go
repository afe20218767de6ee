// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// maxPerRule bounds how often one rule is listed, so that a hostile document
// cannot make a report of thousands of lines. It is the number of registers,
// the most that one rule has to say of a document of the right shape.
const maxPerRule = pcr.Count

// findings collects the problems of one document.
type findings struct {
	list   []reason.Problem
	counts [len(rules)]uint8
}

// full tells whether no more problems of a rule are listed.
func (f *findings) full(rule ruleID) bool { return f.counts[rule] == maxPerRule }

func (f *findings) add(rule ruleID, format string, args ...any) {
	if f.full(rule) {
		return
	}
	f.counts[rule]++
	f.list = append(f.list, reason.Problem{
		Rule:    rules[rule].ID,
		Reason:  rules[rule].Reason,
		Message: fmt.Sprintf(format, args...),
	})
}

// addFault records why a walker stopped.
func (f *findings) addFault(err error) {
	if stopped, ok := errors.AsType[*fault](err); ok {
		f.add(stopped.rule, "%s", stopped.message)
	}
}

// has tells whether there is a problem of one of these reasons.
func (f *findings) has(reasons ...reason.Reason) bool {
	return slices.ContainsFunc(f.list, func(p reason.Problem) bool { return slices.Contains(reasons, p.Reason) })
}

// sorted returns the problems gravest first, otherwise in the order found.
func (f *findings) sorted() []reason.Problem {
	slices.SortStableFunc(f.list, func(a, b reason.Problem) int { return cmp.Compare(a.Reason, b.Reason) })
	return f.list
}

// err returns all problems as one error, nil if there are none.
func (f *findings) err() error {
	if len(f.list) == 0 {
		return nil
	}
	return &reason.Error{Problems: f.sorted()}
}
