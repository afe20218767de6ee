// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"cmp"
	"crypto/subtle"
	"time"

	"github.com/cretula/cretula/pcr"
)

// checkExpectation compares what could be read of the document with e.
func (c *check) checkExpectation(e *Expectation) {
	if e.PCRs.Len() == 0 && !e.AllowAnyImage {
		c.f.add(ruleExpectEmpty, "nothing is expected of the image: no register is given, and any image is not allowed")
	}
	if e.MaxField < 0 || e.MaxField > MaxLenientFieldSize {
		c.f.add(ruleExpectMaxField, "fields of up to %d bytes are asked for, not 1 to %d, or 0 for the default", e.MaxField, MaxLenientFieldSize)
	}
	if !c.u.timestamp.IsZero() && !e.AllowDocumentTime {
		c.checkFreshness(e)
	}
	if !c.u.complete {
		return
	}
	c.checkValue(ruleExpectNonce, c.u.at.nonce, "nonce", e.Nonce, c.u.nonce)
	c.checkValue(ruleExpectUserData, c.u.at.userData, "user data", e.UserData, c.u.userData)
	if c.u.kind == 0 {
		return
	}
	if want := cmp.Or(e.Kind, KindEnclave); c.u.kind != want && !e.AllowAnyKind {
		c.f.addField(ruleExpectKind, c.u.at.registers, "the document is of kind %v, wanted %v", c.u.kind, want)
	}
	if c.u.pcrs.Debug() && !e.AllowDebug {
		c.f.addField(ruleExpectDebug, c.u.at.registers, "PCR0, PCR1 or PCR2 is zero: the enclave runs in debug mode")
	}
	for _, d := range pcr.Compare(&e.PCRs, &c.u.pcrs) {
		if d.Missing {
			c.f.addField(ruleExpectPCR, c.u.at.registers, "%v wanted %v, absent", d.Index, d.Want)
		} else {
			c.f.addField(ruleExpectPCR, c.u.at.register[d.Index], "%v wanted %v, got %v", d.Index, d.Want, d.Got)
		}
	}
}

func (c *check) checkFreshness(e *Expectation) {
	age := c.at.Sub(c.u.timestamp)
	if limit := cmp.Or(e.MaxAge, DefaultMaxAge); age > limit && !e.AllowAnyAge {
		c.f.addField(ruleAge, c.u.at.timestamp, "made %s, %v before the time of the check; the limit is %v", stamp(c.u.timestamp), age.Round(time.Second), limit)
	}
	// Not -age: Sub stops at the ends of a Duration, and the lower one has no
	// counterpart.
	ahead := c.u.timestamp.Sub(c.at)
	if limit := cmp.Or(e.FutureSkew, DefaultFutureSkew); ahead > limit {
		c.f.addField(ruleFuture, c.u.at.timestamp, "made %s, %v after the time of the check; the limit is %v", stamp(c.u.timestamp), ahead.Round(time.Second), limit)
	}
}

// checkValue compares without telling by its duration where the values differ,
// and without printing them.
func (c *check) checkValue(rule ruleID, at int, name string, want, got []byte) {
	switch {
	case want == nil:
	case got == nil:
		c.f.addField(rule, at, "the document has no %s; one of %d bytes is wanted", name, len(want))
	case subtle.ConstantTimeCompare(want, got) != 1:
		c.f.addField(rule, at, "the document's %s (%d bytes) is not the wanted one (%d bytes)", name, len(got), len(want))
	}
}
