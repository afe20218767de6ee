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

// nowhere is the offset of a finding that has no one place. No field of a
// document begins at its first byte, so that this is also the place of a field
// that was not found.
const nowhere = 0

// findings collects the problems of one document, and what else there is to say.
// The methods of a nil one find nothing.
type findings struct {
	level      Level
	list       []reason.Problem
	counts     [len(rules)]uint8
	info       []Information
	infoCounts [len(informative)]uint8
}

// full tells whether no more problems of a rule are listed.
func (f *findings) full(rule ruleID) bool { return f == nil || f.counts[rule] == maxPerRule }

// add lists a problem that has no one place in the document.
func (f *findings) add(rule ruleID, format string, args ...any) {
	f.problem(rule, nil, format, args...)
}

// addAt lists a problem at an offset of the document.
func (f *findings) addAt(rule ruleID, at int, format string, args ...any) {
	f.problem(rule, ref(int64(at)), format, args...)
}

// addField lists a problem of a field that begins there, or nowhere.
func (f *findings) addField(rule ruleID, at int, format string, args ...any) {
	if at == nowhere {
		f.add(rule, format, args...)
	} else {
		f.addAt(rule, at, format, args...)
	}
}

func (f *findings) problem(rule ruleID, offset *int64, format string, args ...any) {
	if f.full(rule) {
		return
	}
	f.counts[rule]++
	p := reason.Problem{Rule: rules[rule].ID, Reason: rules[rule].Reason, Message: fmt.Sprintf(format, args...), Offset: offset}
	if f.level == LevelLenient && (rule == ruleMinimal || rule == ruleIndefinite) {
		f.info = append(f.info, Information{Rule: p.Rule, Message: p.Message, Offset: p.Offset})
		return
	}
	f.list = append(f.list, p)
}

// note lists something that decides nothing.
func (f *findings) note(rule infoID, at int, format string, args ...any) {
	if f == nil || f.infoCounts[rule] == maxPerRule {
		return
	}
	f.infoCounts[rule]++
	i := Information{Rule: informative[rule].ID, Message: fmt.Sprintf(format, args...)}
	if at != nowhere || rule == infoTag {
		i.Offset = ref(int64(at))
	}
	f.info = append(f.info, i)
}

// addFault records why a walker stopped.
func (f *findings) addFault(err error) {
	if stopped, ok := errors.AsType[*fault](err); ok {
		f.addAt(stopped.rule, stopped.at, "%s", stopped.message)
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
