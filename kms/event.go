// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
	"github.com/cretula/cretula/reason"
)

// EventSchema names the form of [Event].
const EventSchema = "cretula.kms.event.v1"

// Sources of an [Event]: an operation of AWS KMS or STS, as in CloudTrail, or one of this
// program's own.
const (
	sourceKMS = "kms.amazonaws.com"
	sourceSTS = "sts.amazonaws.com"
	sourceOwn = "cretula"
)

// eventVersion is that of CloudTrail's records whose members these are.
const eventVersion = "1.11"

// Types of an [Event], as in CloudTrail.
const (
	typeCall = "AwsApiCall"
	typeOwn  = "AwsServiceEvent"
)

// Types of a [UserIdentity] whose principal is a user, or a role.
const (
	identityUser = "IAMUser"
	identityRole = "AssumedRole"
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
	EventVersion string       `json:"eventVersion,omitempty"`
	EventID      string       `json:"eventID,omitempty"`
	EventType    string       `json:"eventType,omitempty"`
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
	Cause             string         `json:"cause,omitempty"`
	RequestParameters map[string]any `json:"requestParameters,omitempty"`
	// ResponseElements is what a change has led to; requests that change nothing have
	// none.
	ResponseElements map[string]any   `json:"responseElements,omitempty"`
	ReadOnly         bool             `json:"readOnly"`
	Resources        []EventResource  `json:"resources,omitempty"`
	Additional       *AdditionalData  `json:"additionalEventData,omitempty"`
	Decision         *policy.Decision `json:"policyDecision,omitempty"`
	// OtherDecisions are those that allowed before Decision was made, of
	// operations on two keys or on a key and an alias.
	OtherDecisions []policy.Decision `json:"otherPolicyDecisions,omitempty"`
	Problems       []reason.Problem  `json:"problems,omitempty"`

	ManagementEvent    bool   `json:"managementEvent"`
	EventCategory      string `json:"eventCategory,omitempty"`
	RecipientAccountID string `json:"recipientAccountId,omitempty"`
	// SharedEventID is there if a key of another account is concerned. As the log is
	// the same for all accounts there is one record, not one for each.
	SharedEventID string      `json:"sharedEventID,omitempty"`
	TLSDetails    *TLSDetails `json:"tlsDetails,omitempty"`
}

// beginEvent begins the event of a request.
func (c *call) beginEvent(decision string) {
	e, caller, op := c.event, c.caller, c.op
	p := &caller.Principal
	c.server.beginEvent(e, op.Name, sourceKMS, typeCall, c.now, decision)
	if op == explainOperation {
		e.EventSource = sourceOwn
	}
	e.ReadOnly = readOnly(op)
	e.Region, e.SourceIP, e.UserAgent, e.RequestID = caller.Region, caller.SourceIP, clip(caller.UserAgent), caller.RequestID
	e.RecipientAccountID, e.TLSDetails = p.Account, caller.TLS
	e.UserIdentity = UserIdentity{Type: identityUser, PrincipalID: p.UserID(), ARN: p.ARN(), AccountID: p.Account, AccessKeyID: caller.AccessKeyID}
	if p.Type == User {
		e.UserIdentity.UserName = p.baseName()
	} else {
		e.UserIdentity.Type = identityRole
	}
	e.UserIdentity.SessionContext = c.sessionContext()
}

// sessionContext is what an event says of a session; nil of a user with an access
// key.
func (c *call) sessionContext() *SessionContext {
	p, s := &c.caller.Principal, c.caller.Session
	if p.Type == User && s == nil {
		return nil
	}
	context := &c.own.session
	context.Attributes.MFAAuthenticated = "false"
	if p.Type == Role {
		c.own.issuer = SessionIssuer{Type: "Role", PrincipalID: p.ID, ARN: p.IdentityARN(), AccountID: p.Account, UserName: p.baseName()}
		context.SessionIssuer = &c.own.issuer
	}
	if s == nil {
		return context
	}
	context.Attributes.CreationDate = s.Issued.UTC().Format(time.RFC3339)
	context.SourceIdentity = s.SourceIdentity
	if s.FederatedProvider != "" {
		context.WebIDFederationData = &WebIDFederationData{FederatedProvider: s.FederatedProvider}
	}
	return context
}

// ownEvent begins the event of what no request asked for.
func (s *Server) ownEvent(name, identity string) (*Event, error) {
	id, err := s.newDecisionID()
	if err != nil {
		return nil, err
	}
	e := s.newEvent(name, sourceOwn, typeOwn, s.now(), id)
	e.UserIdentity.Type, e.RecipientAccountID = identity, s.account
	return e, nil
}

func (s *Server) newEvent(name, source, kind string, now time.Time, decision string) *Event {
	e := new(Event)
	s.beginEvent(e, name, source, kind, now, decision)
	return e
}

// beginEvent fills in an event that is zero.
func (s *Server) beginEvent(e *Event, name, source, kind string, now time.Time, decision string) {
	e.Schema, e.EventVersion, e.EventType, e.EventCategory = EventSchema, eventVersion, kind, "Management"
	e.EventTime, e.EventName, e.EventSource, e.DecisionID = now.UTC(), name, source, decision
	e.Emulated, e.Outcome, e.ManagementEvent = s.emulated, Allowed, true
}

// principal is the caller as the policies saw him who is in UserIdentity; zero if that
// does not say it.
func (e *Event) principal() policy.Principal {
	u := &e.UserIdentity
	switch u.Type {
	case identityUser:
		return policy.Principal{Type: policy.CallerUser, ARN: u.ARN, AccountID: u.AccountID, UniqueID: u.PrincipalID}
	case identityRole:
		if u.SessionContext != nil && u.SessionContext.SessionIssuer != nil {
			role := u.SessionContext.SessionIssuer
			return policy.Principal{Type: policy.CallerRoleSession, ARN: u.ARN, AccountID: u.AccountID, RoleARN: role.ARN, UniqueID: role.PrincipalID}
		}
	}
	return policy.Principal{}
}

// service is the prefix of the actions of the event's source.
func (e *Event) service() string {
	service, _, _ := strings.Cut(e.EventSource, ".")
	return service
}

// resource is the ARN of the first key, "" if there is none.
func (e *Event) resource() string {
	if len(e.Resources) == 0 {
		return ""
	}
	return e.Resources[0].ARN
}

// restore puts into the traces of an event that was read from the audit log what
// [Event.AppendJSON] has left out, because the event says it itself: the principal that
// is the one of UserIdentity, the action that is the event's name, and the resource that
// is the first of the resources.
func (e *Event) restore() {
	if e.Decision != nil {
		e.restoreTrace(&e.Decision.Trace)
	}
	for i := range e.OtherDecisions {
		e.restoreTrace(&e.OtherDecisions[i].Trace)
	}
}

func (e *Event) restoreTrace(t *policy.Trace) {
	if t.Principal == (policy.Principal{}) {
		t.Principal = e.principal()
	}
	t.Action = cmp.Or(t.Action, e.service()+":"+e.EventName)
	t.Resource = cmp.Or(t.Resource, e.resource())
}

// readOnly tells whether an operation changes nothing that stays. CloudTrail counts
// the use of a key as that.
func readOnly(op *kmsapi.Operation) bool {
	if op.Usage != "" {
		return true
	}
	for _, verb := range []string{"Get", "List", "Describe", "Generate", "Explain"} {
		if strings.HasPrefix(op.Name, verb) {
			return true
		}
	}
	return false
}

// respond notes what the answer to a change says. It holds no secrets.
func (e *Event) respond(name string, value any) {
	if e.ResponseElements == nil {
		e.ResponseElements = map[string]any{}
	}
	e.ResponseElements[name] = value
}

// eventMetadata is the metadata of a new key as CloudTrail names its members, times
// in RFC 3339.
func eventMetadata(k *key) map[string]any {
	m := k.metadata()
	shown := map[string]any{
		"AWSAccountId": m.AWSAccountId, "keyId": m.KeyId, "arn": m.Arn, "creationDate": k.Created.UTC().Format(time.RFC3339),
		"enabled": m.Enabled, "description": clip(m.Description), "keyUsage": m.KeyUsage, "keyState": m.KeyState, "origin": m.Origin,
		"keyManager": m.KeyManager, "customerMasterKeySpec": m.CustomerMasterKeySpec, "keySpec": m.KeySpec, "multiRegion": m.MultiRegion,
	}
	for name, list := range map[string][]string{
		"encryptionAlgorithms": m.EncryptionAlgorithms, "signingAlgorithms": m.SigningAlgorithms,
		"keyAgreementAlgorithms": m.KeyAgreementAlgorithms, "macAlgorithms": m.MacAlgorithms,
	} {
		if list != nil {
			shown[name] = list
		}
	}
	return shown
}

// respondKey notes the key that a request changes, whether or not the answer names
// it, as CloudTrail does. Source: AWS KMS Developer Guide, "Logging AWS KMS API
// calls with AWS CloudTrail".
func (e *Event) respondKey() {
	if e.ReadOnly {
		return
	}
	for _, r := range e.Resources {
		if strings.Contains(r.ARN, ":key/") {
			e.respond("keyId", r.ARN)
		}
	}
}

// crossesAccounts tells whether the request was about a key of another account than
// the caller's.
func (e *Event) crossesAccounts() bool {
	return slices.ContainsFunc(e.Resources, func(r EventResource) bool {
		return e.UserIdentity.AccountID != "" && r.AccountID != e.UserIdentity.AccountID
	})
}

// TLSDetails are those of the connection of a request.
type TLSDetails struct {
	TLSVersion               string `json:"tlsVersion"`
	CipherSuite              string `json:"cipherSuite"`
	ClientProvidedHostHeader string `json:"clientProvidedHostHeader"`
}

// UserIdentity says who called.
type UserIdentity struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId,omitempty"`
	ARN         string `json:"arn,omitempty"`
	AccountID   string `json:"accountId,omitempty"`
	AccessKeyID string `json:"accessKeyId,omitempty"`
	// UserName is the name of a user without its path.
	UserName string `json:"userName,omitempty"`
	// IdentityProvider is the ARN of the OIDC provider of a web identity.
	IdentityProvider string `json:"identityProvider,omitempty"`
	// SessionContext says which role a session is of.
	SessionContext *SessionContext `json:"sessionContext,omitempty"`
}

// SessionContext is the member of this name of a CloudTrail record. A role's access
// key has no time at which its session began, a user's session no issuer.
type SessionContext struct {
	Attributes          SessionAttributes    `json:"attributes"`
	SessionIssuer       *SessionIssuer       `json:"sessionIssuer,omitempty"`
	WebIDFederationData *WebIDFederationData `json:"webIdFederationData,omitempty"`
	SourceIdentity      string               `json:"sourceIdentity,omitempty"`
}

// WebIDFederationData says by which provider a web identity was known.
type WebIDFederationData struct {
	FederatedProvider string `json:"federatedProvider"`
}

// SessionIssuer is the role of a session.
type SessionIssuer struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName"`
}

// SessionAttributes are texts, as in CloudTrail.
type SessionAttributes struct {
	MFAAuthenticated string `json:"mfaAuthenticated"`
	CreationDate     string `json:"creationDate,omitempty"`
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

// EventRecipient has the members that CloudTrail shows for an enclave and for a
// NitroTPM, and below them ours: what the document is and all its registers.
// Digests are lower-case hex. Source: AWS KMS Developer Guide, "Monitoring attested
// requests".
type EventRecipient struct {
	ModuleID    string      `json:"attestationDocumentModuleId"`
	ImageDigest *pcr.Digest `json:"attestationDocumentEnclaveImageDigest,omitempty"`
	PCR1        *pcr.Digest `json:"attestationDocumentEnclavePCR1,omitempty"`
	PCR2        *pcr.Digest `json:"attestationDocumentEnclavePCR2,omitempty"`
	PCR3        *pcr.Digest `json:"attestationDocumentEnclavePCR3,omitempty"`
	PCR4        *pcr.Digest `json:"attestationDocumentEnclavePCR4,omitempty"`
	PCR8        *pcr.Digest `json:"attestationDocumentEnclavePCR8,omitempty"`

	NitroTPMPCR4  *pcr.Digest `json:"attestationDocumentNitroTPMPCR4,omitempty"`
	NitroTPMPCR7  *pcr.Digest `json:"attestationDocumentNitroTPMPCR7,omitempty"`
	NitroTPMPCR8  *pcr.Digest `json:"attestationDocumentNitroTPMPCR8,omitempty"`
	NitroTPMPCR9  *pcr.Digest `json:"attestationDocumentNitroTPMPCR9,omitempty"`
	NitroTPMPCR16 *pcr.Digest `json:"attestationDocumentNitroTPMPCR16,omitempty"`
	NitroTPMPCR23 *pcr.Digest `json:"attestationDocumentNitroTPMPCR23,omitempty"`

	Kind      string    `json:"kind"`
	Trust     string    `json:"trust"`
	Emulated  bool      `json:"emulated"`
	Debug     bool      `json:"debug"`
	Timestamp time.Time `json:"timestamp"`
	// PayloadHash is the SHA-256 of the signed payload, in hex.
	PayloadHash string  `json:"payloadHash"`
	Registers   pcr.Set `json:"registers"`
}

// describe fills in what the event says of a document.
func (r *recipient) describe() {
	d, e := &r.document, &r.described.Recipient
	var hash [2 * len(d.PayloadHash)]byte
	hex.Encode(hash[:], d.PayloadHash[:])
	*e = EventRecipient{
		ModuleID: d.ModuleID, Kind: d.Kind.String(), Trust: d.Trust.String(), Emulated: d.Emulated, Debug: d.Debug,
		Timestamp: d.Timestamp.UTC(), PayloadHash: string(hash[:]), Registers: d.PCRs,
	}
	indexes, values := [...]pcr.Index{0, 1, 2, 3, 4, 8}, [...]**pcr.Digest{&e.ImageDigest, &e.PCR1, &e.PCR2, &e.PCR3, &e.PCR4, &e.PCR8}
	if d.Kind == attestation.KindNitroTPM {
		indexes = [...]pcr.Index{4, 7, 8, 9, 16, 23}
		values = [...]**pcr.Digest{&e.NitroTPMPCR4, &e.NitroTPMPCR7, &e.NitroTPMPCR8, &e.NitroTPMPCR9, &e.NitroTPMPCR16, &e.NitroTPMPCR23}
	}
	for i, index := range indexes {
		if digest, ok := d.PCRs.Get(index); ok {
			r.digests[i] = digest
			*values[i] = &r.digests[i]
		}
	}
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
