// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// The wire of AWS STS: the query protocol, a form that is sent as a body or as a
// query, and XML in answer. Source: AWS STS API Reference.

const (
	stsVersion     = "2011-06-15"
	formType       = "application/x-www-form-urlencoded"
	maxQuery       = 64 << 10
	maxParameters  = 512
	amzQueryPrefix = "x-amz-"
)

var xmlHeader = []string{"text/xml"}

// isSTS tells whether a request is one to STS rather than to the key service: by its
// protocol, as both are behind one address.
func isSTS(r *http.Request) bool {
	if r.Header.Get("X-Amz-Target") != "" {
		return false // which the protocol of STS does not have
	}
	switch r.Method {
	case http.MethodGet:
		return r.URL.Path == "/" && strings.Contains(r.URL.RawQuery, "Action=")
	case http.MethodPost:
		contentType := r.Header.Get("Content-Type")
		if contentType == kmsapi.ContentType {
			return false
		}
		mediaType, _, err := mime.ParseMediaType(contentType)
		return r.URL.Path == "/" && err == nil && mediaType == formType
	}
	return false
}

// An stsOperation runs one operation on its form and returns the XML of the answer.
type stsOperation struct {
	// unsigned operations need no credentials.
	unsigned bool
	run      func(ctx context.Context, s *kms.Server, caller *kms.Caller, form url.Values) (any, error)
}

// stsOf makes an stsOperation of one of package kms.
func stsOf[I, O any](fn func(*kms.Server, context.Context, *kms.Caller, *I) (*O, error), answer func(*O) any) stsOperation {
	return stsOperation{run: func(ctx context.Context, s *kms.Server, caller *kms.Caller, form url.Values) (any, error) {
		in := new(I)
		if err := decodeForm(form, in); err != nil {
			return nil, &formError{asError(err)}
		}
		out, err := fn(s, ctx, caller, in)
		if err != nil {
			return nil, err
		}
		return answer(out), nil
	}}
}

// A formError says that a form is not one of its operation.
type formError struct{ refusal *kmsapi.Error }

func (e *formError) Error() string { return e.refusal.Error() }

// unsignedOf makes an stsOperation that needs no credentials.
func unsignedOf(op stsOperation) stsOperation {
	op.unsigned = true
	return op
}

var stsOperations = map[string]stsOperation{
	"AssumeRole":                stsOf((*kms.Server).AssumeRole, assumeRoleResult),
	"AssumeRoleWithWebIdentity": unsignedOf(stsOf((*kms.Server).AssumeRoleWithWebIdentity, webIdentityResult)),
	"GetCallerIdentity":         stsOf((*kms.Server).GetCallerIdentity, callerIdentityResult),
	"GetSessionToken":           stsOf((*kms.Server).GetSessionToken, sessionTokenResult),
}

// answerSTS is the way of a request to STS.
func (h *handler) answerSTS(r *http.Request, x *exchange) ([]byte, error) {
	x.sts = true
	read, err := h.readBody(r)
	if err != nil {
		return nil, err
	}
	defer read.release()
	body := read.bytes
	form, err := readForm(r, body)
	if err != nil {
		return nil, err
	}
	name := form.Get("Action")
	op, known := stsOperations[name]
	if !known || form.Get("Version") != stsVersion {
		return nil, kmsapi.Errorf("InvalidAction", "Could not find operation %s for version %s", shortened(name), shortened(form.Get("Version")))
	}
	x.operation = name
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), operationTimeout)
	defer cancel()
	if op.unsigned {
		if !h.Limits.allowUnsigned(r) {
			return nil, h.throttle(limitUnauthenticated)
		}
		x.caller = new(kms.Caller)
	} else if x.caller, err = h.admit(ctx, x, r, body, name); err != nil {
		return nil, stsAuthError(err)
	}
	x.caller.RequestID = x.id
	x.caller.SourceIP = sourceIP(r)
	x.caller.UserAgent = userAgent(r)
	x.caller.SecureTransport, x.caller.TLS = r.TLS != nil, tlsDetails(r)
	form.Del("Action")
	form.Del("Version")
	result, err := op.run(ctx, h.KMS, x.caller, form)
	if e, ok := errors.AsType[*formError](err); ok {
		err = h.KMS.RefuseSTS(ctx, x.caller, name, e.refusal)
	}
	if err != nil {
		return nil, err
	}
	return stsAnswer(name, result, x.id)
}

// readForm returns the parameters of a request, without those of its signature.
func readForm(r *http.Request, body []byte) (url.Values, error) {
	text := string(body)
	if r.Method == http.MethodGet {
		if len(body) > 0 {
			return nil, kmsapi.Errorf(kms.STSValidation, "A GET request has no body.")
		}
		text = r.URL.RawQuery
	} else if r.URL.RawQuery != "" {
		// That of a signature may be there; parameters are in one place only.
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil || len(stripSignature(query)) > 0 {
			return nil, kmsapi.Errorf(kms.STSValidation, "The parameters of a POST request are in its body.")
		}
	}
	if len(text) > maxQuery || strings.Count(text, "&") >= maxParameters {
		return nil, kmsapi.Errorf(kmsapi.RequestEntityTooLarge, "The request has too many parameters.")
	}
	form, err := url.ParseQuery(text)
	if err != nil {
		return nil, kmsapi.Errorf("MalformedInput", "The parameters of the request cannot be read.")
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, kmsapi.Errorf("MalformedInput", "The parameter %s is there twice.", shortened(name))
		}
	}
	return stripSignature(form), nil
}

func stripSignature(form url.Values) url.Values {
	for name := range form {
		if len(name) >= len(amzQueryPrefix) && strings.EqualFold(name[:len(amzQueryPrefix)], amzQueryPrefix) {
			delete(form, name)
		}
	}
	return form
}

// shortened is what a message repeats of a name that a client chose.
func shortened(s string) string {
	if len(s) > 64 {
		s = strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

// stsCodes are the names that exceptions of the key service have in STS, with their
// HTTP status. Source: AWS STS API Reference, "Common Error Types", and recorded
// answers of STS.
var stsCodes = map[kmsapi.Code]kmsapi.Code{
	kmsapi.MissingAuthenticationToken: "MissingAuthenticationToken",
	kmsapi.IncompleteSignature:        "IncompleteSignature",
	kmsapi.UnrecognizedClient:         "InvalidClientTokenId",
	kmsapi.InvalidSignature:           "SignatureDoesNotMatch",
	kmsapi.Validation:                 kms.STSValidation,
	kmsapi.Serialization:              "MalformedInput",
	kmsapi.Throttling:                 "Throttling",
	kmsapi.KMSInternal:                "InternalFailure",
	kmsapi.DependencyTimeout:          "ServiceUnavailable",
	kmsapi.RequestEntityTooLarge:      "RequestEntityTooLarge",
}

var stsStatus = map[kmsapi.Code]int{
	kms.STSAccessDenied:          http.StatusForbidden,
	kms.STSRejectedClaim:         http.StatusForbidden,
	"ExpiredToken":               http.StatusForbidden,
	"InvalidClientTokenId":       http.StatusForbidden,
	"SignatureDoesNotMatch":      http.StatusForbidden,
	"MissingAuthenticationToken": http.StatusForbidden,
	"RequestEntityTooLarge":      http.StatusRequestEntityTooLarge,
	"InternalFailure":            http.StatusInternalServerError,
	"ServiceUnavailable":         http.StatusServiceUnavailable,
}

// stsAuthError is an error of authentication as STS has it. That of an expired token
// has another name where it is a web identity's.
func stsAuthError(err error) error {
	e, ok := errors.AsType[*kmsapi.Error](err)
	switch {
	case ok && e.Code == kmsapi.ExpiredToken:
		return &kmsapi.Error{Code: "ExpiredToken", Message: e.Message, Err: e.Err}
	case ok && e.Code == kmsapi.MissingAuthenticationToken:
		return &kmsapi.Error{Code: e.Code, Message: "Request is missing Authentication Token"}
	}
	return err
}

// stsRefusal returns status and body for an error.
func stsRefusal(e *kmsapi.Error, requestID string) (int, []byte) {
	code := e.Code
	if name, ok := stsCodes[code]; ok {
		code = name
	}
	status, ok := stsStatus[code]
	if !ok {
		status = http.StatusBadRequest
	}
	fault := "Sender"
	if status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	body, err := marshalXML("ErrorResponse", struct {
		Error     stsErrorXML
		RequestID string `xml:"RequestId"`
	}{stsErrorXML{fault, string(code), e.Message}, requestID})
	if err != nil { // texts always marshal
		panic(err)
	}
	return status, body
}
