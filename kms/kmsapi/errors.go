// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// A Code is the name of an exception as it stands in "__type".
type Code string

// The exceptions of the service model and, below them, those that every AWS
// service of this protocol has without modelling them.
const (
	AlreadyExists              Code = "AlreadyExistsException"
	Conflict                   Code = "ConflictException"
	CustomKeyStoreNotFound     Code = "CustomKeyStoreNotFoundException"
	CustomKeyStoreInvalidState Code = "CustomKeyStoreInvalidStateException"
	DependencyTimeout          Code = "DependencyTimeoutException"
	Disabled                   Code = "DisabledException"
	DryRunOperation            Code = "DryRunOperationException"
	ExpiredImportToken         Code = "ExpiredImportTokenException"
	IncorrectKey               Code = "IncorrectKeyException"
	IncorrectKeyMaterial       Code = "IncorrectKeyMaterialException"
	InvalidAliasName           Code = "InvalidAliasNameException"
	InvalidArn                 Code = "InvalidArnException"
	InvalidCiphertext          Code = "InvalidCiphertextException"
	InvalidGrantId             Code = "InvalidGrantIdException"
	InvalidGrantToken          Code = "InvalidGrantTokenException"
	InvalidImportToken         Code = "InvalidImportTokenException"
	InvalidKeyUsage            Code = "InvalidKeyUsageException"
	InvalidMarker              Code = "InvalidMarkerException"
	KMSInternal                Code = "KMSInternalException"
	KMSInvalidMac              Code = "KMSInvalidMacException"
	KMSInvalidSignature        Code = "KMSInvalidSignatureException"
	KMSInvalidState            Code = "KMSInvalidStateException"
	KeyUnavailable             Code = "KeyUnavailableException"
	LimitExceeded              Code = "LimitExceededException"
	MalformedPolicyDocument    Code = "MalformedPolicyDocumentException"
	NotFound                   Code = "NotFoundException"
	TagRefused                 Code = "TagException"
	UnsupportedOperation       Code = "UnsupportedOperationException"

	AccessDenied               Code = "AccessDeniedException"
	ExpiredToken               Code = "ExpiredTokenException"
	IncompleteSignature        Code = "IncompleteSignatureException"
	InvalidSignature           Code = "InvalidSignatureException"
	MissingAuthenticationToken Code = "MissingAuthenticationTokenException"
	RequestEntityTooLarge      Code = "RequestEntityTooLargeException"
	Serialization              Code = "SerializationException"
	Throttling                 Code = "ThrottlingException"
	UnknownOperation           Code = "UnknownOperationException"
	UnrecognizedClient         Code = "UnrecognizedClientException"
	Validation                 Code = "ValidationException"
)

// An Error is an exception as a client sees it. Its message must hold nothing
// that the client may not know.
type Error struct {
	Code Code
	// Message is empty where AWS sends none, as with InvalidCiphertextException.
	Message string
	// DecisionID names the record that explains the answer, in the header
	// x-cretula-decision; empty before a request is authenticated.
	DecisionID string
	// Err is the cause: for logs, never for the client.
	Err error
	// Reason is the reason, of package reason, for which an attestation document was
	// refused: for metrics, never for the client. Else empty.
	Reason string
}

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Throttled makes the answer to what is beyond a limit of requests. Source of the
// text: AWS KMS Developer Guide, "Throttling AWS KMS requests".
func Throttled() *Error {
	return Errorf(Throttling, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

// Internal makes the KMSInternalException that hides cause from the client.
func Internal(cause error) *Error {
	return &Error{Code: KMSInternal, Message: "The request was rejected because an internal exception occurred.", Err: cause}
}

// Error returns code, message and cause.
func (e *Error) Error() string {
	s := string(e.Code)
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// HTTPStatus returns 500 for the three faults of the service, 413 for a body
// over the limit and 400 for all else: KMS sends NotFound and Conflict as 400
// too, whatever the HTTP traits of its model say.
func (e *Error) HTTPStatus() int {
	switch e.Code {
	case KMSInternal, KeyUnavailable, DependencyTimeout:
		return http.StatusInternalServerError
	case RequestEntityTooLarge:
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// Body returns the JSON of the answer. The member with the text is "message",
// but "Message" for AccessDeniedException, as in AWS's traffic; it is left out
// where there is no text.
func (e *Error) Body() []byte {
	type lower struct {
		Type    Code   `json:"__type"`
		Message string `json:"message,omitempty"`
	}
	type upper struct {
		Type    Code   `json:"__type"`
		Message string `json:"Message,omitempty"`
	}
	var v any = lower{e.Code, e.Message}
	if e.Code == AccessDenied {
		v = upper{e.Code, e.Message}
	}
	body, err := json.Marshal(v)
	if err != nil { // two strings always marshal
		panic(err)
	}
	return body
}
