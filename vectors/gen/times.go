// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/cretula/cretula/attestation/attestationtest"
)

// ends cuts the life of one certificate.
func ends(i int, after time.Duration) func(*forgery) {
	return cert(i, func(c *certificate) { c.NotAfter = made.Add(after) })
}

func begins(i int, after time.Duration) func(*forgery) {
	return cert(i, func(c *certificate) { c.NotBefore = made.Add(after) })
}

// stamped gives the document another timestamp.
func stamped(after time.Duration) func(*forgery) {
	return func(f *forgery) { f.SetField("timestamp", uint64(made.Add(after).UnixMilli())) }
}

func fiveMinutes(e *expectation) { e.MaxAge = 300 }

// times are documents at the ends of what is valid. Both ends belong to the life
// of a certificate, RFC 5280 §4.1.2.5.
func times() []vector {
	const minute = time.Minute
	list := []vector{
		{name: "first second of the leaf", sentence: "The clock is at the leaf's notBefore.", clock: -3 * time.Second},
		{name: "before the leaf", sentence: "The clock is one second before the leaf's notBefore.", clock: -4 * time.Second, expect: untrusted, rules: "chain.validity"},
		{name: "last second of the leaf", sentence: "The clock is at the leaf's notAfter.", clock: 3 * time.Hour},
		{name: "after the leaf", sentence: "The clock is one second after the leaf's notAfter.", clock: 3*time.Hour + time.Second, expect: untrusted, rules: "chain.validity"},
		{name: "root into 2050", sentence: "The root is valid until 2050, which is written as GeneralizedTime.",
			edit: cert(attestationtest.Root, func(c *certificate) { c.NotAfter = time.Date(2050, 9, 10, 13, 3, 46, 0, time.UTC) })},
		{name: "years later", sentence: "The clock is a year after the document; everything but the root has expired.", clock: 365 * 24 * time.Hour, expect: untrusted, rules: "chain.validity"},
		{name: "years later by its own time", sentence: "The document's own timestamp is the time of the check.", want: func(e *expectation) { e.DocumentTime = true }},
		{name: "own time after the leaf", sentence: "The document's own timestamp, which is to be the clock, is a day after the leaf's end.",
			edit: stamped(27 * time.Hour), want: func(e *expectation) { e.DocumentTime = true }, expect: untrusted, rules: "chain.validity chain.leaf.timestamp"},

		{name: "made with the leaf", sentence: "The timestamp is the leaf's notBefore.", edit: stamped(-3 * time.Second)},
		{name: "made before the leaf", sentence: "The timestamp is a millisecond before the leaf's notBefore.", edit: stamped(-3*time.Second - time.Millisecond), expect: untrusted, rules: "chain.leaf.timestamp"},
		{name: "made at the leaf's end", sentence: "The timestamp is the leaf's notAfter, which is the clock.", edit: stamped(3 * time.Hour), clock: 3 * time.Hour},
		{name: "made after the leaf", sentence: "The timestamp is a millisecond after the leaf's notAfter, at which the clock is.", edit: stamped(3*time.Hour + time.Millisecond), clock: 3 * time.Hour, expect: untrusted, rules: "chain.leaf.timestamp"},
		{name: "made a year before the leaf", sentence: "The timestamp is a year before the leaf.", edit: stamped(-365 * 24 * time.Hour), expect: untrusted, rules: "chain.leaf.timestamp"},
		{name: "made in seconds", sentence: "The timestamp is in seconds rather than milliseconds, and so in 1970.", edit: set("timestamp", made.Unix()), expect: untrusted, rules: "chain.leaf.timestamp"},

		{name: "300 seconds old", sentence: "The document is as old as it may be.", clock: 300 * time.Second, want: fiveMinutes},
		{name: "301 seconds old", sentence: "The document is a second older than it may be.", clock: 301 * time.Second, want: fiveMinutes, expect: stale, rules: "doc.age"},
		{name: "two hours old", sentence: "The document is two hours old and may be five minutes.", clock: 2 * time.Hour, want: fiveMinutes, expect: stale, rules: "doc.age"},
		{name: "two hours old and any age", sentence: "The document is two hours old and may be.", clock: 2 * time.Hour},
		{name: "60 seconds ahead", sentence: "The document is a minute ahead of the clock, as it may be.", edit: begins(attestationtest.Leaf, -2*minute), clock: -60 * time.Second},
		{name: "61 seconds ahead", sentence: "The document is 61 seconds ahead of the clock.", edit: begins(attestationtest.Leaf, -2*minute), clock: -61 * time.Second, expect: stale, rules: "doc.future"},
		{name: "two hours ahead", sentence: "The document is two hours ahead of the clock, within the leaf's life.", edit: stamped(2 * time.Hour), expect: stale, rules: "doc.future"},
	}
	for i, name := range names[:attestationtest.Leaf] {
		list = append(list,
			vector{name: "last second of the " + name, sentence: "The clock is at the " + name + "'s notAfter, before the leaf's.", edit: ends(i, minute), clock: minute},
			vector{name: "after the " + name, sentence: "The clock is one second after the " + name + "'s notAfter, before the leaf's.", edit: ends(i, minute), clock: minute + time.Second, expect: untrusted, rules: "chain.validity"},
			vector{name: "before the " + name, sentence: "The clock is one second before the " + name + "'s notBefore, after the leaf's.", edit: begins(i, time.Second), expect: untrusted, rules: "chain.validity"},
		)
	}
	return list
}
