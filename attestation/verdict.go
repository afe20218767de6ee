// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"crypto/x509"
	"encoding/hex"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// VerdictSchema names the form of a [Verdict] in JSON.
const VerdictSchema = "cretula.attestation.verdict.v1"

// A Verdict is the result of a verification as a JSON object, the same for a
// document that was verified and for one that was rejected. Of a rejected one,
// everything below Problems is what it claims, as far as it could be read;
// members that could not be read are null.
type Verdict struct {
	Schema string `json:"schema"`
	// Verdict is "verified" or "rejected".
	Verdict string `json:"verdict"`
	// Reason is the gravest reason of a rejection, else nil.
	Reason *reason.Reason `json:"reason"`
	// Problems are all problems, gravest first. It is never nil.
	Problems []reason.Problem `json:"problems"`
	// Kind is "enclave" or "nitrotpm".
	Kind *string `json:"kind"`
	// Trust is "aws", "aws-us-gov" or "custom", nil unless chain and signature
	// are good: a document that is only stale or not the expected one has it.
	Trust *string `json:"trust"`
	// Emulated says that the root is not one of AWS's or, where Trust is nil,
	// that the verifier trusts such a root.
	Emulated bool  `json:"emulated"`
	Debug    *bool `json:"debug"`

	ModuleID  *string    `json:"module_id"`
	Timestamp *time.Time `json:"timestamp"`
	// PCRs are the registers, {"PCR0": lower-case hex, …}; of a NitroTPM
	// document its own.
	PCRs *pcr.Set `json:"pcrs"`
	// PublicKey, UserData and Nonce are lower-case hex; nil if absent or null.
	PublicKey *string `json:"public_key"`
	UserData  *string `json:"user_data"`
	Nonce     *string `json:"nonce"`
	// Chain has the certificates that could be parsed, root first. It is never
	// nil.
	Chain []CertificateSummary `json:"chain"`
	// RevocationChecked is how many certificates are good by a revocation list.
	RevocationChecked int `json:"revocation_checked"`
	// Level is "strict" or "lenient".
	Level string `json:"level"`
	// CheckedAt is the time of the check, nil if it was to be the document's own
	// and that could not be read. Clock says where it came from: "now", "given"
	// or "document". With "document" nothing is known of the freshness.
	CheckedAt *time.Time `json:"checked_at"`
	Clock     string     `json:"clock"`
	// Information is what is allowed in the document and was not used. It is
	// never nil.
	Information []Information `json:"information"`
}

// A CertificateSummary is one certificate of a verdict's chain.
type CertificateSummary struct {
	// Subject is the name in the form of RFC 2253, last component first.
	Subject string `json:"subject"`
	// Serial is lower-case hex, two digits for each byte.
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	// Fingerprint is the SHA-256 of the DER encoding in lower-case hex.
	Fingerprint string `json:"fingerprint"`
	// Revocation is "unchecked", "good" or "revoked", in verdicts only.
	Revocation string `json:"revocation,omitempty"`
}

// Verified tells whether the document was verified.
func (v *Verdict) Verified() bool { return v.Reason == nil }

// Report verifies as [Verifier.Verify] does and describes the result.
func (v *Verifier) Report(document []byte, e Expectation) *Verdict {
	c := v.begin()
	defer c.end()
	_ = c.run(document, &e, nil) // fails only where signatures are limited
	verdict := describe(&c.u)
	verdict.Verdict = "verified"
	verdict.Emulated = v.emulated
	if len(c.f.list) > 0 {
		verdict.Verdict = "rejected"
		verdict.Problems = c.f.sorted()
		verdict.Reason = &verdict.Problems[0].Reason
	}
	if trust := c.trust(); trust != 0 {
		verdict.Trust = ref(trust.String())
		verdict.Emulated = trust == TrustCustom
	}
	for i, cert := range c.chain {
		if cert == nil {
			continue
		}
		summary := Summarize(cert)
		summary.Revocation = c.revocation[i].String()
		verdict.Chain = append(verdict.Chain, summary)
	}
	verdict.RevocationChecked = c.checkedRevocations()
	verdict.Level = e.level().String()
	verdict.Clock = e.clock()
	if !c.at.IsZero() {
		verdict.CheckedAt = ref(c.at.UTC())
	}
	verdict.Information = append([]Information{}, c.f.info...)
	return verdict
}

// clock says where the time of the check comes from.
func (e *Expectation) clock() string {
	switch {
	case e.AllowDocumentTime:
		return "document"
	case !e.Time.IsZero():
		return "given"
	}
	return "now"
}

// Summarize describes a certificate. It says nothing about its being genuine.
func Summarize(cert *x509.Certificate) CertificateSummary {
	return CertificateSummary{
		Subject:     cert.Subject.String(),
		Serial:      hex.EncodeToString(cert.SerialNumber.Bytes()),
		NotBefore:   cert.NotBefore.UTC(),
		NotAfter:    cert.NotAfter.UTC(),
		Fingerprint: FingerprintOf(cert.Raw).String(),
	}
}

// describe fills in what the document says of itself.
func describe(u *Unverified) *Verdict {
	verdict := &Verdict{
		Schema:    VerdictSchema,
		Problems:  []reason.Problem{},
		PublicKey: hexOrNil(u.publicKey),
		UserData:  hexOrNil(u.userData),
		Nonce:     hexOrNil(u.nonce),
		Chain:     []CertificateSummary{},
	}
	if u.kind != 0 {
		verdict.Kind = ref(u.kind.String())
		verdict.Debug = ref(u.pcrs.Debug())
		verdict.PCRs = ref(u.pcrs)
	}
	if u.moduleID != "" {
		verdict.ModuleID = ref(u.moduleID)
	}
	if !u.timestamp.IsZero() {
		verdict.Timestamp = ref(u.timestamp)
	}
	return verdict
}

func hexOrNil(b []byte) *string {
	if b == nil {
		return nil
	}
	return ref(hex.EncodeToString(b))
}

func ref[T any](v T) *T { return &v }
