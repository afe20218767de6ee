// SPDX-License-Identifier: Apache-2.0

package awskms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/cretula/cretula/enclave"
	"github.com/cretula/cretula/kms/rootkey"
)

// attempt is how long one attempt of a call may take, so that a server which
// does not answer leaves time for another.
const attempt = 10 * time.Second

// maxAnswer is more than an answer can have: 6144 bytes of ciphertext and as many
// for the recipient, in base64.
const maxAnswer = 64 << 10

// A transport is the HTTP client under the SDK: only to servers that may be
// asked, and bounded in time and size.
type transport struct {
	inner    aws.HTTPClient
	loopback bool // plain HTTP to the loopback interface
	attempt  time.Duration
}

func newTransport(inner aws.HTTPClient, attested bool) *transport {
	if inner == nil {
		inner = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.Proxy = nil })
	}
	return &transport{inner: inner, loopback: !attested, attempt: attempt}
}

// Do implements [aws.HTTPClient]. The body of the answer is in memory.
func (t *transport) Do(r *http.Request) (*http.Response, error) {
	if !t.secure(r.URL) {
		return nil, final{ErrInsecure}
	}
	ctx, cancel := context.WithTimeout(r.Context(), t.attempt)
	defer cancel()
	response, err := t.inner.Do(r.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, final{fmt.Errorf("%w: longer than %d bytes", ErrAnswer, maxAnswer)}
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

func (t *transport) secure(u *url.URL) bool {
	if u.Scheme == "https" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return t.loopback && u.Scheme == "http" && ip != nil && ip.IsLoopback()
}

// final is an error that the SDK does not retry after.
type final struct{ error }

// RetryableError tells the SDK's retryer.
func (final) RetryableError() bool { return false }

// Unwrap returns the error.
func (f final) Unwrap() error { return f.error }

// explain gives an error of a call its class. The SDK's own errors are not kept:
// they carry the answer, in which the data key may be.
func explain(ctx context.Context, operation string, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return fmt.Errorf("%w: awskms: %s: %w", rootkey.ErrUnavailable, operation, ctxErr)
	}
	if f, ok := errors.AsType[final](err); ok {
		return f.error
	}
	if e, ok := errors.AsType[*enclave.Error](err); ok {
		if e.Step == enclave.StepKey || e.Step == enclave.StepDocument {
			return fmt.Errorf("%w: awskms: %w", rootkey.ErrUnavailable, e)
		}
		return fmt.Errorf("%w: %w", ErrAnswer, e)
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return fmt.Errorf("%w: %s: %s: %s", classOf(api), operation, clip(api.ErrorCode()), clip(api.ErrorMessage()))
	}
	if _, ok := errors.AsType[*smithy.DeserializationError](err); ok {
		return fmt.Errorf("%w: %s: it cannot be decoded", ErrAnswer, operation)
	}
	return fmt.Errorf("%w: awskms: %s: %s", rootkey.ErrUnavailable, operation, clip(err.Error()))
}

// classOf returns the class of an error that KMS answered with (AWS KMS API
// Reference, "Decrypt", "Errors").
func classOf(err smithy.APIError) error {
	switch err.ErrorCode() {
	case "InvalidCiphertextException", "IncorrectKeyException":
		return fmt.Errorf("%w: awskms", rootkey.ErrNotOpened)
	case "AccessDeniedException":
		return ErrDenied
	}
	return fmt.Errorf("%w: awskms", rootkey.ErrUnavailable)
}

// clip makes text of a server fit for a line of a log.
func clip(text string) string {
	const most = 300
	if len(text) > most {
		text = text[:most]
	}
	quoted := strconv.Quote(text)
	return quoted[1 : len(quoted)-1]
}
