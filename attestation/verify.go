// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cretula/cretula/internal/p384"
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
	// Revocation are revocation lists, of any issuers; see [ParseCRLs]. A
	// certificate whose issuer has none in them is not checked for revocation,
	// and the result says so. AWS's own procedure does without.
	Revocation []*x509.RevocationList
	// P384 says by what signatures are verified.
	P384 P384
}

// A Verifier verifies documents under a fixed set of roots. It may be used by
// many goroutines at once; make one and keep it: it remembers up to 4096
// certificates of genuine documents whose signatures it has checked, and then
// needs one signature check for a document, and one more if the leaf is new.
// Everything else about a certificate is checked each time.
type Verifier struct {
	roots []trustedRoot
	now   func() time.Time
	// emulated says that a root that is not AWS's is trusted.
	emulated bool
	crls     []*revocationList
	p384     p384.Implementation
	cache    certificateCache
}

type trustedRoot struct {
	fingerprint Fingerprint
	trust       Trust
	cert        *x509.Certificate
}

// NewVerifier makes a Verifier. A root that could not begin a good chain is
// refused with a [*reason.Error].
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	v := &Verifier{now: o.Now, p384: o.P384.implementation()}
	v.cache.seed = maphash.MakeSeed()
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
		if err := checkRoot(v.p384, root); err != nil {
			return nil, err
		}
		// Not the caller's own, who might change it.
		own := mustParse(root.Raw)
		fingerprint := FingerprintOf(own.Raw)
		trust := trustOf(fingerprint)
		v.emulated = v.emulated || trust == TrustCustom
		v.roots = append(v.roots, trustedRoot{fingerprint, trust, own})
	}
	for _, list := range o.Revocation {
		r, err := newRevocationList(list)
		if err != nil {
			return nil, err
		}
		v.crls = append(v.crls, r)
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
	// AllowLenient judges the document's form at [LevelLenient].
	AllowLenient bool
	// MaxField is the greatest length of public_key, user_data and nonce, in
	// bytes, at most [MaxLenientFieldSize]. 0 is [MaxFieldSize], with
	// AllowLenient MaxLenientFieldSize.
	MaxField int
}

func (e *Expectation) level() Level {
	if e.AllowLenient {
		return LevelLenient
	}
	return LevelStrict
}

// maxField never gives more than may be asked for; that too much is asked for is
// reported elsewhere.
func (e *Expectation) maxField() int {
	switch {
	case e.MaxField > 0:
		return min(e.MaxField, MaxLenientFieldSize)
	case e.AllowLenient:
		return MaxLenientFieldSize
	}
	return MaxFieldSize
}

// A Document is one that was verified. Its slices of bytes belong to the receiver
// of it; its certificates are shared and must not be changed.
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
	// RevocationChecked is how many certificates of Chain are good by a
	// revocation list: 0 to 4.
	RevocationChecked int
	// Level is the level at which the form was judged.
	Level Level
	// Information is what is allowed in the document and was not used.
	Information []Information
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
// document again the one of its own signature.
func (v *Verifier) Verify(document []byte, e Expectation) (*Document, error) {
	d := new(Document)
	if err := v.VerifyLimited(d, document, e, nil); err != nil {
		return nil, err
	}
	return d, nil
}

// VerifyLimited is [Verifier.Verify] for those who bound how many signatures a caller
// may have checked, and who have memory for the result: d is set to it, and stays as
// it is if there is an error. Before any certificate is parsed of a document of good
// form whose chain begins with a trusted root, unknown is told how many signatures of
// certificates, 1 to 4, are to be checked at most besides the document's own, because
// the Verifier does not remember them; it is not called if there are none. An error of
// it ends the verification and is what VerifyLimited returns.
func (v *Verifier) VerifyLimited(d *Document, document []byte, e Expectation, unknown func(signatures int) error) error {
	c := v.begin()
	defer c.end()
	if err := c.run(document, &e, unknown); err != nil {
		return err
	}
	if err := c.f.err(); err != nil {
		return err
	}
	u := &c.u
	trust := c.trust()
	*d = Document{
		Kind:        u.kind,
		Trust:       trust,
		Emulated:    trust == TrustCustom,
		Debug:       u.pcrs.Debug(),
		ModuleID:    u.moduleID,
		Timestamp:   u.timestamp,
		Digest:      u.digest,
		PCRs:        u.pcrs,
		PublicKey:   bytes.Clone(u.publicKey),
		UserData:    bytes.Clone(u.userData),
		Nonce:       bytes.Clone(u.nonce),
		Chain:       slices.Clone(c.chain),
		PayloadHash: sha256.Sum256(u.payload),

		RevocationChecked: c.checkedRevocations(),
		Level:             e.level(),
		Information:       c.f.info,
	}
	return nil
}

// A check is the state of one verification. It refers to the document, and nothing
// that outlives it may refer to it.
type check struct {
	v *Verifier
	f findings
	// u may be incomplete, and chain may have nil members, if f is not empty.
	u Unverified
	// ders are the certificates, root first, leaf last; none if leaf or bundle
	// could not be read.
	ders  [][]byte
	chain []*x509.Certificate
	// known are certificates whose signature was found good before, nil for others.
	known [maxBundle + 1]*certificate
	// leafKey is the leaf's, if it is not known.
	leafKey *p384.Key
	// root is the trusted root that the chain begins with, nil if there is none.
	root       *trustedRoot
	revocation [maxBundle + 1]Revocation
	at         time.Time
	// ownDERs and ownChain are what ders and chain of a genuine document are in.
	ownDERs  [chainLength][]byte
	ownChain [chainLength]*x509.Certificate
}

// checks are those at rest, zero.
var checks = sync.Pool{New: func() any { return new(check) }}

// begin returns the state of a verification that has to be ended.
func (v *Verifier) begin() *check {
	c := checks.Get().(*check)
	c.v = v
	return c
}

func (c *check) end() {
	*c = check{}
	checks.Put(c)
}

// run checks everything. It fails only with an error of unknown, which may be nil.
func (c *check) run(document []byte, e *Expectation, unknown func(int) error) error {
	c.f.level = e.level()
	c.u.bundle = c.ownDERs[:0]
	c.u.parse(document, &c.f, e.maxField())
	c.setTime(e)
	if len(c.u.bundle) > 0 && c.u.leaf != nil {
		c.ders = append(c.u.bundle, c.u.leaf)
		c.checkRoot()
		if err := c.parseChain(unknown); err != nil {
			return err
		}
		checkChain(&c.f, &c.u, c.chain)
		c.noteChain()
		c.checkTimes(e)
	}
	c.checkExpectation(e)
	sound := !c.f.has(reason.Malformed) && c.root != nil && len(c.chain) == chainLength
	if sound && c.checkChainSignatures() {
		c.checkRevocation()
		c.checkSignature()
	}
	if c.trust() != 0 {
		c.remember()
	}
	return nil
}

// parseChain parses the certificates, root first, or takes them from the cache.
// One that does not parse is reported and nil in the chain. Before it parses the
// first whose signature will have to be checked it asks unknown, if that is not nil.
func (c *check) parseChain(unknown func(int) error) error {
	if c.f.has(reason.Malformed) || c.root == nil || len(c.ders) != chainLength {
		unknown = nil // no signature will be checked
	}
	c.chain = append(c.ownChain[:0], make([]*x509.Certificate, len(c.ders))...)
	for i, der := range c.ders {
		if i == 0 && c.root != nil {
			c.chain[0] = c.root.cert
			continue
		}
		if i > 0 && c.root != nil && c.chain[i-1] != nil {
			if known := c.v.cache.get(c.chain[i-1], der); known != nil {
				c.chain[i], c.known[i] = known.Certificate, known
				continue
			}
		}
		if unknown != nil {
			if err := unknown(chainLength - i); err != nil {
				return err
			}
			unknown = nil
		}
		// What is remembered must not hold the whole document.
		cert, err := x509.ParseCertificate(bytes.Clone(der))
		if err != nil {
			who := c.u.subject(i, len(c.ders))
			c.f.addField(ruleDER, who.at, "%s does not parse: %v", who.who, err)
			continue
		}
		c.chain[i] = cert
	}
	return nil
}

// remember puts the certificates of a genuine document into the cache.
func (c *check) remember() {
	for i, cert := range c.chain {
		if i == 0 || c.known[i] != nil {
			continue
		}
		known := &certificate{Certificate: cert, under: bytes.Clone(c.chain[i-1].RawSubjectPublicKeyInfo)}
		if i == len(c.chain)-1 {
			known.key = c.leafKey
		}
		c.v.cache.put(known)
	}
}

// setTime chooses the time of the check.
func (c *check) setTime(e *Expectation) {
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
	for i := range c.v.roots {
		if bytes.Equal(c.v.roots[i].cert.Raw, c.ders[0]) {
			c.root = &c.v.roots[i]
			return
		}
	}
	wanted := make([]string, len(c.v.roots))
	for i, root := range c.v.roots {
		wanted[i] = root.fingerprint.String()
	}
	c.f.addField(ruleRoot, c.u.certificateAt(0, len(c.ders)), "the chain ends in %v, trusted is %s", FingerprintOf(c.ders[0]), strings.Join(wanted, " or "))
}

// trust returns whose word the document is, 0 if that was not established.
func (c *check) trust() Trust {
	if c.f.has(reason.Malformed, reason.Untrusted, reason.BadSignature) {
		return 0
	}
	return c.root.trust
}

// checkTimes checks the validity of every certificate and the place of the
// document's timestamp in the leaf's. A timestamp that is to be the time of the
// check and could not be read was reported.
func (c *check) checkTimes(e *Expectation) {
	for i, cert := range c.chain {
		if cert != nil && !(e.AllowDocumentTime && c.u.timestamp.IsZero()) {
			checkValidity(&c.f, c.u.subject(i, len(c.chain)), cert, c.at)
		}
	}
	leaf := c.chain[len(c.chain)-1]
	t := c.u.timestamp
	if leaf == nil || t.IsZero() {
		return
	}
	if t.Before(leaf.NotBefore) || t.After(leaf.NotAfter) {
		c.f.addField(ruleLeafTime, c.u.at.timestamp, "the document was made %s, the leaf certificate is valid from %s to %s",
			stamp(t), stamp(leaf.NotBefore), stamp(leaf.NotAfter))
	}
}

// prepare returns the leaf's key for verification.
func (c *check) prepare(key *ecdsa.PublicKey) *p384.Key {
	if known := c.known[len(c.chain)-1]; known != nil && known.key != nil {
		return known.key
	}
	c.leafKey = p384.NewKey(key)
	return c.leafKey
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
		c.f.addField(ruleSignatureRange, c.u.at.signature, "r or s of the signature is not between 1 and the order of P-384")
	case !documentSigned(c.v.p384, c.prepare(key), c.u.protected, c.u.payload, r, s):
		c.f.addField(ruleSignature, c.u.at.signature, "the signature is not the leaf key's over this payload")
	}
}

// stamp writes a time as messages have it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z07:00") }
