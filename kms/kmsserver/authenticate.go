// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"context"
	"errors"
	"net/http"

	"github.com/cretula/cretula/internal/sigv4"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// authenticate verifies the signature of a request and returns who sent it.
func (h *handler) authenticate(r *http.Request, body []byte) (*kms.Caller, error) {
	result, err := h.verifier.Verify(r, body)
	if refusal, ok := errors.AsType[*sigv4.Error](err); ok {
		return nil, &kmsapi.Error{Code: kmsapi.Code(refusal.Code), Message: refusal.Message}
	}
	if kms.IsTampered(err) {
		// The client learns no more than of a key that does not exist; the
		// operator learns which row it is.
		h.Logger.ErrorContext(r.Context(), "principal refused", "cause", err.Error())
		return nil, kmsapi.Errorf(kmsapi.UnrecognizedClient, "The security token included in the request is invalid.")
	}
	if err != nil {
		return nil, kms.Fault(err)
	}
	caller := result.Owner
	caller.Region = result.Region
	return &caller, nil
}

// lookup finds the secret of an access key. There are no sessions, so that a
// request with a session token has no valid one.
func (h *handler) lookup(ctx context.Context, accessKeyID, token string) (sigv4.Secret, kms.Caller, error) {
	if token != "" {
		return sigv4.Secret{}, kms.Caller{}, sigv4.ErrUnknown
	}
	found, err := h.KMS.FindAccessKey(ctx, accessKeyID)
	if errors.Is(err, kms.ErrAccessKey) {
		err = sigv4.ErrUnknown
	}
	if err != nil {
		return sigv4.Secret{}, kms.Caller{}, err
	}
	return sigv4.Secret{Version: found.Version, Read: found.Secret}, found.Caller, nil
}
