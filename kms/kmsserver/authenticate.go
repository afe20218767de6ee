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

// authenticate verifies the signature of a request, to STS or to the key service, and
// returns who sent it.
func (h *handler) authenticate(ctx context.Context, r *http.Request, sts bool, body []byte) (*kms.Caller, error) {
	verifier := h.verifier
	if sts {
		verifier = h.stsVerifier
	}
	result, err := verifier.Verify(ctx, r, body)
	if refusal, ok := errors.AsType[*sigv4.Error](err); ok {
		return nil, &kmsapi.Error{Code: kmsapi.Code(refusal.Code), Message: refusal.Message}
	}
	if kms.IsTampered(err) && !kms.IsStoreTampered(err) {
		// The client learns no more than of a key that does not exist; the
		// operator learns which row it is.
		h.Logger.ErrorContext(ctx, "principal refused", "cause", err.Error())
		return nil, kmsapi.Errorf(kmsapi.UnrecognizedClient, "The security token included in the request is invalid.")
	}
	if err != nil {
		return nil, kms.Fault(err)
	}
	result.Owner.Region = result.Region
	return result.Owner, nil
}

// lookup finds the secret of an access key or, where there is a session token, of a
// session. The caller is a new one each time.
func (h *handler) lookup(ctx context.Context, accessKeyID, token string) (sigv4.Secret, *kms.Caller, error) {
	var found *kms.AccessKey
	var err error
	if token == "" {
		found, err = h.KMS.FindAccessKey(ctx, accessKeyID)
	} else {
		found, err = h.KMS.FindSession(ctx, accessKeyID, token)
	}
	switch {
	case errors.Is(err, kms.ErrAccessKey):
		err = sigv4.ErrUnknown
	case errors.Is(err, kms.ErrSessionExpired):
		err = sigv4.ErrExpired
	}
	if err != nil {
		return sigv4.Secret{}, nil, err
	}
	return sigv4.Secret{Version: found.Version, Read: found.Secret}, &found.Caller, nil
}
