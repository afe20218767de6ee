// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A Revocation is what the given revocation lists say of a certificate.
type Revocation uint8

const (
	// RevocationUnchecked: no list of its issuer was given, or the chain is not
	// good, so that nobody knows whose lists count.
	RevocationUnchecked Revocation = iota
	// RevocationGood: a list of its issuer, valid at the time of the check,
	// does not have it.
	RevocationGood
	// RevocationRevoked: a list of its issuer has it.
	RevocationRevoked
)

// String returns "unchecked", "good" or "revoked".
func (r Revocation) String() string {
	switch r {
	case RevocationUnchecked:
		return "unchecked"
	case RevocationGood:
		return "good"
	case RevocationRevoked:
		return "revoked"
	}
	return fmt.Sprintf("revocation(%d)", uint8(r))
}

// ParseCRLs reads certificate revocation lists (RFC 5280 §5): one in DER, or any
// number in PEM. What is neither, or does not parse, is refused as
// [reason.Malformed] by rule chain.crl.form.
func ParseCRLs(file []byte) ([]*x509.RevocationList, error) {
	var f findings
	var lists []*x509.RevocationList
	add := func(der []byte) {
		list, err := x509.ParseRevocationList(der)
		switch {
		case err != nil:
			f.add(ruleCRLForm, "a revocation list does not parse: %v", err)
		case len(list.Raw) != len(der): // which the parser does not mind
			f.add(ruleCRLForm, "%d bytes follow a revocation list", len(der)-len(list.Raw))
		default:
			lists = append(lists, list)
		}
	}
	block, rest := pem.Decode(file)
	if block == nil {
		add(file)
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "X509 CRL" {
			add(block.Bytes)
		}
	}
	if len(lists) == 0 && len(f.list) == 0 {
		f.add(ruleCRLForm, "no PEM revocation list found")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return lists, nil
}

// A revocationList is one that was given.
type revocationList struct {
	*x509.RevocationList
	revoked map[string]struct{} // serial numbers, big-endian
	unknown string              // a critical extension that is not understood
	// signer is the hash of the key under which the signature was found good.
	signer atomic.Pointer[[sha256.Size]byte]
}

func newRevocationList(list *x509.RevocationList) (*revocationList, error) {
	if list == nil || len(list.Raw) == 0 {
		return nil, errors.New("attestation: a revocation list is nil or was not parsed")
	}
	r := &revocationList{RevocationList: list, revoked: map[string]struct{}{}}
	r.noteUnknown(list.Extensions)
	for _, entry := range list.RevokedCertificateEntries {
		r.revoked[string(entry.SerialNumber.Bytes())] = struct{}{}
		r.noteUnknown(entry.Extensions)
	}
	return r, nil
}

// noteUnknown notes critical extensions: none is understood.
func (r *revocationList) noteUnknown(extensions []pkix.Extension) {
	for _, ext := range extensions {
		if ext.Critical {
			r.unknown = ext.Id.String()
		}
	}
}

// of tells whether a list claims to be of that issuer.
func (r *revocationList) of(issuer *x509.Certificate) bool {
	other := len(r.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(r.AuthorityKeyId, issuer.SubjectKeyId)
	return bytes.Equal(r.RawIssuer, issuer.RawSubject) && !other
}

// signedBy tells whether issuer signed the list and may. The answer yes is kept.
func (v *Verifier) signedBy(r *revocationList, issuer *x509.Certificate) bool {
	key := keyOf(issuer)
	if key == nil || issuer.KeyUsage&x509.KeyUsageCRLSign == 0 || r.SignatureAlgorithm != x509.ECDSAWithSHA384 {
		return false
	}
	signer := sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
	if known := r.signer.Load(); known != nil && *known == signer {
		return true
	}
	if !signed(v.p384, key, r.RawTBSRevocationList, r.Signature) {
		return false
	}
	r.signer.Store(&signer)
	return true
}

// checkRevocation looks every certificate up in the lists of its issuer. Every
// signature of the chain must be good. A list counts only if it is signed by the
// issuer, valid and understood; a certificate whose issuer has only others is
// refused. That it was revoked is believed of an expired list, too.
func (c *check) checkRevocation() {
	for i := 1; i < len(c.chain); i++ {
		var unusable []string
		for _, r := range c.v.crls {
			if !r.of(c.chain[i-1]) {
				continue
			}
			fault := c.judgeList(r, c.chain[i-1])
			_, listed := r.revoked[string(c.chain[i].SerialNumber.Bytes())]
			switch {
			case listed && fault != notSigned:
				c.revocation[i] = RevocationRevoked
			case fault != "":
				unusable = append(unusable, fault)
			case c.revocation[i] == RevocationUnchecked:
				c.revocation[i] = RevocationGood
			}
		}
		who, at := position(i, len(c.chain)), c.u.certificateAt(i, len(c.chain))
		if c.revocation[i] == RevocationRevoked {
			c.f.addField(ruleRevoked, at, "%s was revoked by its issuer: serial %x", who, c.chain[i].SerialNumber)
		}
		if c.revocation[i] == RevocationUnchecked {
			for _, fault := range unusable {
				c.f.addField(ruleCRL, at, "the list that could say whether %s is revoked %s", who, fault)
			}
		}
	}
}

const notSigned = "is not signed by its issuer with ECDSA-SHA384, or that one may not sign lists"

// judgeList says what is wrong with a list, nothing if it counts.
func (c *check) judgeList(r *revocationList, issuer *x509.Certificate) string {
	switch {
	case !c.v.signedBy(r, issuer):
		return notSigned
	case r.unknown != "":
		return "has the critical extension " + r.unknown + ", which is not understood"
	case c.at.Before(r.ThisUpdate):
		return "is of " + r.ThisUpdate.UTC().Format(time.RFC3339) + ", after the time of the check"
	case r.NextUpdate.IsZero():
		return "does not say until when it holds"
	case c.at.After(r.NextUpdate):
		return "expired " + r.NextUpdate.UTC().Format(time.RFC3339)
	}
	return ""
}

// checkedRevocations counts the certificates that a list calls good.
func (c *check) checkedRevocations() (n int) {
	for _, r := range c.revocation {
		if r == RevocationGood {
			n++
		}
	}
	return n
}
