// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// VerifierOptions are the options of [NewVerifier]. The zero value trusts AWS's
// two roots and asks the system for the time.
type VerifierOptions struct {
	// Roots are the trusted roots. Nil means [RootG1] and [RootGovCloud];
	// roots that are given replace those. Each must be a self-signed CA
	// certificate on P-384.
	Roots []*x509.Certificate
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// A Verifier verifies documents under a fixed set of roots. It may be used by
// many goroutines at once; make one and keep it.
type Verifier struct {
	roots []Fingerprint
	now   func() time.Time
	// emulated says that a root that is not AWS's is trusted.
	emulated bool
}

// NewVerifier makes a Verifier. A root that could not begin a good chain is
// refused with a [*reason.Error].
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	v := &Verifier{now: o.Now}
	if v.now == nil {
		v.now = time.Now
	}
	roots := o.Roots
	if roots == nil {
		roots = []*x509.Certificate{RootG1(), RootGovCloud()}
	}
	if len(roots) == 0 {
		return nil, errors.New("attestation: no root is given, and none is meant by an empty list that is not nil")
	}
	for _, root := range roots {
		if err := checkRoot(root); err != nil {
			return nil, err
		}
		fingerprint := FingerprintOf(root.Raw)
		v.emulated = v.emulated || trustOf(fingerprint) == TrustCustom
		v.roots = append(v.roots, fingerprint)
	}
	return v, nil
}

// An Expectation is what a document is compared with. Its zero value is the
// strictest, and is refused because it expects nothing of the image.
type Expectation struct {
	// PCRs are the expected registers: each must be in the document and equal.
	PCRs pcr.Set
	// AllowAnyImage allows PCRs to be empty. It takes nothing away from PCRs.
	AllowAnyImage bool
	// Kind is the expected kind, 0 for an enclave. AllowAnyKind turns it off.
	Kind         Kind
	AllowAnyKind bool
	// AllowDebug allows documents in which PCR0, PCR1 or PCR2 is zero.
	AllowDebug bool
	// Nonce and UserData are compared in constant time. Nil is not checked; an
	// empty value that is not nil must be present and empty.
	Nonce, UserData []byte
	// MaxAge is the greatest age, 0 for [DefaultMaxAge]. AllowAnyAge turns it
	// off, and then only the life of the leaf, three hours, bounds the age.
	MaxAge      time.Duration
	AllowAnyAge bool
	// FutureSkew is how far ahead of the clock a document may be, 0 for
	// [DefaultFutureSkew].
	FutureSkew time.Duration
	// Time is the time of the check, the Verifier's clock if zero.
	Time time.Time
	// AllowDocumentTime is for archives: the document's own timestamp is the
	// time of the check. Nothing is known of its freshness then. It must not be
	// given together with Time.
	AllowDocumentTime bool
}

// A Document is one that was verified. Its slices belong to the receiver of it.
type Document struct {
	Kind  Kind
	Trust Trust
	// Emulated says that the root is not one of AWS's.
	Emulated bool
	// Debug says that PCR0, PCR1 or PCR2 is zero: the enclave runs in debug
	// mode and its image was not measured.
	Debug    bool
	ModuleID string
	// Timestamp is when the document was made, in UTC with milliseconds.
	Timestamp time.Time
	// Digest is the hash of the registers, always "SHA384".
	Digest string
	// PCRs are the registers, those that are locked.
	PCRs pcr.Set
	// PublicKey, UserData and Nonce are nil if absent or null, not nil if
	// present and empty.
	PublicKey, UserData, Nonce []byte
	// Chain is the verified chain, root first, leaf last.
	Chain []*x509.Certificate
	// PayloadHash is the SHA-256 of the payload, the only identity of a
	// document: its signature, and so its bytes, can be altered by anyone.
	PayloadHash [32]byte
}

// Verify checks everything about a document. The error is a [*reason.Error] with
// every problem found, gravest first, and the result is then nil. The result
// does not refer to document.
//
// Signatures, which cost nearly all of the time, are checked last, from the root
// down to the first that is wrong, and only for a document of good form whose
// chain begins with a trusted root; with other problems they are checked all the
// same. Who sends what AWS did not sign costs one check, who sends a genuine
// document again the same five as at first.
func (v *Verifier) Verify(document []byte, e Expectation) (*Document, error) {
	c := v.check(document, e)
	if err := c.f.err(); err != nil {
		return nil, err
	}
	u := c.u
	trust := c.trust()
	return &Document{
		Kind:        u.kind,
		Trust:       trust,
		Emulated:    trust == TrustCustom,
		Debug:       u.pcrs.Debug(),
		ModuleID:    u.moduleID,
		Timestamp:   u.timestamp,
		Digest:      u.digest,
		PCRs:        u.pcrs,
		PublicKey:   u.publicKey,
		UserData:    u.userData,
		Nonce:       u.nonce,
		Chain:       c.chain,
		PayloadHash: sha256.Sum256(u.payload),
	}, nil
}

// A check is the state of one verification.
type check struct {
	v *Verifier
	f findings
	// u may be incomplete, and chain may have nil members, if f is not empty.
	u *Unverified
	// ders are the certificates, root first, leaf last; none if leaf or bundle
	// could not be read.
	ders  [][]byte
	chain []*x509.Certificate
	// rooted says that the first of them is a trusted root.
	rooted bool
	at     time.Time
}

func (v *Verifier) check(document []byte, e Expectation) *check {
	c := &check{v: v}
	c.u = parse(document, &c.f)
	c.setTime(e)
	c.ders = c.u.UnverifiedCertificates()
	c.chain = parseChain(&c.f, c.ders)
	if len(c.chain) > 0 {
		c.checkRoot()
		checkChain(&c.f, c.chain)
		c.checkTimes(e)
	}
	c.checkExpectation(e)
	sound := !c.f.has(reason.Malformed) && c.rooted && len(c.chain) == chainLength
	if sound && checkChainSignatures(&c.f, c.chain) {
		c.checkSignature()
	}
	return c
}

// setTime chooses the time of the check.
func (c *check) setTime(e Expectation) {
	switch {
	case e.AllowDocumentTime:
		c.at = c.u.timestamp
		if !e.Time.IsZero() {
			c.f.add(ruleExpectClock, "a time of check is given and the document's own is to be used too")
		}
	case !e.Time.IsZero():
		c.at = e.Time
	default:
		c.at = c.v.now()
	}
}

// checkRoot checks that the first certificate is a trusted root.
func (c *check) checkRoot() {
	root := FingerprintOf(c.ders[0])
	if c.rooted = slices.Contains(c.v.roots, root); c.rooted {
		return
	}
	wanted := make([]string, len(c.v.roots))
	for i, root := range c.v.roots {
		wanted[i] = root.String()
	}
	c.f.add(ruleRoot, "the chain ends in %v, trusted is %s", root, strings.Join(wanted, " or "))
}

// trust returns whose word the document is, 0 if that was not established.
func (c *check) trust() Trust {
	if c.f.has(reason.Malformed, reason.Untrusted, reason.BadSignature) {
		return 0
	}
	return trustOf(FingerprintOf(c.ders[0]))
}

// checkTimes checks the validity of every certificate and the place of the
// document's timestamp in the leaf's. A timestamp that is to be the time of the
// check and could not be read was reported.
func (c *check) checkTimes(e Expectation) {
	for i, cert := range c.chain {
		if cert != nil && !(e.AllowDocumentTime && c.u.timestamp.IsZero()) {
			checkValidity(&c.f, position(i, len(c.chain)), cert, c.at)
		}
	}
	leaf := c.chain[len(c.chain)-1]
	t := c.u.timestamp
	if leaf == nil || t.IsZero() {
		return
	}
	if t.Before(leaf.NotBefore) || t.After(leaf.NotAfter) {
		c.f.add(ruleLeafTime, "the document was made %s, the leaf certificate is valid from %s to %s",
			stamp(t), stamp(leaf.NotBefore), stamp(leaf.NotAfter))
	}
}

// checkSignature checks the COSE signature under the leaf's key.
func (c *check) checkSignature() {
	key := keyOf(c.chain[len(c.chain)-1])
	if key == nil || len(c.u.signature) != signatureSize || c.f.counts[ruleAlgorithm] > 0 {
		return
	}
	r, s, ok := splitSignature(c.u.signature)
	switch {
	case !ok:
		c.f.add(ruleSignatureRange, "r or s of the signature is not between 1 and the order of P-384")
	case !documentSigned(key, c.u.protected, c.u.payload, r, s):
		c.f.add(ruleSignature, "the signature is not the leaf key's over this payload")
	}
}

// stamp writes a time as messages have it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z07:00") }
