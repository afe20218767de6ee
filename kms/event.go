// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"fmt"
	"strings"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
	"github.com/cretula/cretula/reason"
)

// EventSchema names the form of [Event].
const EventSchema = "cretula.kms.event.v1"

// Sources of an [Event]: an operation of AWS KMS, as in CloudTrail, or one of this
// program's own.
const (
	sourceKMS = "kms.amazonaws.com"
	sourceOwn = "cretula"
)

// Outcomes of an [Event].
const (
	Allowed = "allowed"
	// Denied: a policy, or this server's rule about debug documents.
	Denied = "denied"
	// Rejected: the document in Recipient was refused before any policy.
	Rejected = "rejected"
	// Failed: any other exception.
	Failed = "failed"
)

// An Event is the audit record of one request, in the manner of a CloudTrail
// record. It holds no plaintext, no ciphertext and no document. It is durable
// before its request is answered.
type Event struct {
	Schema       string       `json:"schema"`
	EventTime    time.Time    `json:"eventTime"`
	EventName    string       `json:"eventName"`
	EventSource  string       `json:"eventSource"`
	Region       string       `json:"awsRegion"`
	SourceIP     string       `json:"sourceIPAddress,omitempty"`
	UserAgent    string       `json:"userAgent,omitempty"`
	UserIdentity UserIdentity `json:"userIdentity"`
	RequestID    string       `json:"requestID"`
	DecisionID   string       `json:"decision"`
	Emulated     bool         `json:"emulated"`
	Outcome      string       `json:"outcome"`
	ErrorCode    string       `json:"errorCode,omitempty"`
	ErrorMessage string       `json:"errorMessage,omitempty"`
	// Cause is what an internal error hides from the client, such as the name
	// of a row that was tampered with.
	Cause             string           `json:"cause,omitempty"`
	RequestParameters map[string]any   `json:"requestParameters,omitempty"`
	Resources         []EventResource  `json:"resources,omitempty"`
	Additional        *AdditionalData  `json:"additionalEventData,omitempty"`
	Decision          *policy.Decision `json:"policyDecision,omitempty"`
	// OtherDecisions are those that allowed before Decision was made, of
	// operations on two keys or on a key and an alias.
	OtherDecisions []policy.Decision `json:"otherPolicyDecisions,omitempty"`
	Problems       []reason.Problem  `json:"problems,omitempty"`
}

// ownEvent begins the event of what no request asked for.
func (s *Server) ownEvent(name, identity string) (*Event, error) {
	id, err := randomHex(s.random, decisionSize)
	if err != nil {
		return nil, err
	}
	return &Event{
		Schema: EventSchema, EventTime: s.now().UTC(), EventName: name, EventSource: sourceOwn,
		UserIdentity: UserIdentity{Type: identity}, DecisionID: "d-" + id, Emulated: s.emulated, Outcome: Allowed,
	}, nil
}

// UserIdentity says who called.
type UserIdentity struct {
	Type        string `json:"type"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	AccessKeyID string `json:"accessKeyId"`
}

// EventResource is a key that the request was about.
type EventResource struct {
	AccountID string `json:"accountId"`
	Type      string `json:"type"`
	ARN       string `json:"ARN"`
}

// AdditionalData has the measurements of the recipient.
type AdditionalData struct {
	Recipient EventRecipient `json:"recipient"`
}

// EventRecipient has the members that CloudTrail shows, and below them ours:
// what the document is and all its registers. Digests are lower-case hex.
type EventRecipient struct {
	ModuleID    string      `json:"attestationDocumentModuleId"`
	ImageDigest *pcr.Digest `json:"attestationDocumentEnclaveImageDigest,omitempty"`
	PCR1        *pcr.Digest `json:"attestationDocumentEnclavePCR1,omitempty"`
	PCR2        *pcr.Digest `json:"attestationDocumentEnclavePCR2,omitempty"`
	PCR3        *pcr.Digest `json:"attestationDocumentEnclavePCR3,omitempty"`
	PCR4        *pcr.Digest `json:"attestationDocumentEnclavePCR4,omitempty"`
	PCR8        *pcr.Digest `json:"attestationDocumentEnclavePCR8,omitempty"`

	Kind      string    `json:"kind"`
	Trust     string    `json:"trust"`
	Emulated  bool      `json:"emulated"`
	Debug     bool      `json:"debug"`
	Timestamp time.Time `json:"timestamp"`
	// PayloadHash is the SHA-256 of the signed payload, in hex.
	PayloadHash string  `json:"payloadHash"`
	Registers   pcr.Set `json:"registers"`
}

func describeRecipient(d *attestation.Document) *AdditionalData {
	r := EventRecipient{
		ModuleID: d.ModuleID, Kind: d.Kind.String(), Trust: d.Trust.String(), Emulated: d.Emulated, Debug: d.Debug,
		Timestamp: d.Timestamp.UTC(), PayloadHash: fmt.Sprintf("%x", d.PayloadHash), Registers: d.PCRs,
	}
	if d.Kind == attestation.KindEnclave {
		for i, member := range map[pcr.Index]**pcr.Digest{
			0: &r.ImageDigest, 1: &r.PCR1, 2: &r.PCR2, 3: &r.PCR3, 4: &r.PCR4, 8: &r.PCR8,
		} {
			if digest, ok := d.PCRs.Get(i); ok {
				*member = &digest
			}
		}
	}
	return &AdditionalData{Recipient: r}
}

// maxEventText bounds texts that a client chose.
const maxEventText = 1024

// clip shortens a text for the audit log.
func clip(s string) string {
	if len(s) <= maxEventText {
		return s
	}
	return strings.ToValidUTF8(s[:maxEventText], "") + "…"
}
