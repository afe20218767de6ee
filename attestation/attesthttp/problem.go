// SPDX-License-Identifier: Apache-2.0

package attesthttp

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/cretula/cretula/attestation/challenge"
	"github.com/cretula/cretula/reason"
)

// The rules of this package. Those of documents, challenges and signatures are
// beside them in refusals.
const (
	// RuleMethod, malformed: a challenge is asked for and a document presented
	// by POST.
	RuleMethod = "attesthttp.method"
	// RuleSize, malformed: a document and a signed body are not larger than
	// their limits.
	RuleSize = "attesthttp.size"
	// RuleTLS, unsupported: a connection that a document is bound to is TLS 1.3.
	RuleTLS = "attesthttp.tls"
	// RuleChannel, mismatch: user_data of a document is the channel binding of
	// the connection it arrives on.
	RuleChannel = "attesthttp.channel"
	// RuleKey, unsupported: public_key of a document is a SubjectPublicKeyInfo of
	// a key that can sign requests.
	RuleKey = "attesthttp.key"
	// RuleAuthority, mismatch: a signed request is to this service by one of its
	// names; one to another was passed on by that one.
	RuleAuthority = "attesthttp.authority"
	// RuleSession, stale: a session was begun with a document and has not ended.
	RuleSession = "attesthttp.session"
	// RuleCovered, malformed: a signature covers method, target, if there is a
	// body its digest, and of Content-Type, Content-Encoding and Authorization
	// each that is there, which is there once.
	RuleCovered = "attesthttp.covered"
	// RuleCreated, stale: a signature was made within a minute of now and has not
	// expired.
	RuleCreated = "attesthttp.created"
	// RuleNonce, stale: a signature has a nonce of 16 to 128 characters that the
	// key did not use before.
	RuleNonce = "attesthttp.nonce"
)

var reasons = map[string]reason.Reason{
	RuleMethod: reason.Malformed, RuleSize: reason.Malformed, RuleTLS: reason.Unsupported,
	RuleChannel: reason.Mismatch, RuleKey: reason.Unsupported, RuleAuthority: reason.Mismatch, RuleSession: reason.Stale,
	RuleCovered: reason.Malformed, RuleCreated: reason.Stale, RuleNonce: reason.Stale,
}

func refuse(rule, format string, args ...any) error {
	return reason.New(reasons[rule], rule, format, args...)
}

// A problem is the body of a refusal (RFC 9457).
type problem struct {
	Title    string           `json:"title"`
	Status   int              `json:"status"`
	Detail   string           `json:"detail,omitempty"`
	Rule     string           `json:"rule,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Problems []reason.Problem `json:"problems,omitempty"`
}

// maxProblems bounds what is said of one document.
const maxProblems = 32

// refuseRequest answers a request with a refusal. What is not a refusal by rule
// is a fault of the service, of which nothing is told.
func (g *Guard) refuseRequest(w http.ResponseWriter, err error) {
	p := problem{Title: "attestation cannot be checked now", Status: http.StatusServiceUnavailable}
	e, refused := errors.AsType[*reason.Error](err)
	switch {
	case refused:
		p = problem{Title: "not attested", Status: http.StatusUnauthorized, Rule: e.Rule(), Reason: e.Reason().String()}
		switch {
		case p.Rule == RuleSize:
			p.Status = http.StatusRequestEntityTooLarge
		case p.Rule == RuleMethod:
			p.Status = http.StatusMethodNotAllowed
		}
		if g.o.Explain {
			p.Detail = e.Problems[0].Message
			p.Problems = e.Problems[:min(len(e.Problems), maxProblems)]
		}
	case errors.Is(err, challenge.ErrFull), errors.Is(err, errFull):
		p.Title = "too many are attested now"
	}
	body, _ := json.Marshal(p) // strings and numbers only
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Attestation")
	}
	if p.Status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodPost)
	}
	w.WriteHeader(p.Status)
	w.Write(body)
}
