// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"context"
	"errors"
	"net/http"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// admit authenticates a request within the limits: those of its source address for
// what is not authentic, then that of the principal for the operation.
func (h *handler) admit(ctx context.Context, x *exchange, r *http.Request, body []byte, operation string) (*kms.Caller, error) {
	allowed, noted := h.Limits.allowUnproven(r)
	if !allowed {
		return nil, h.throttle(limitUnauthenticated)
	}
	caller, err := h.authenticate(ctx, r, x.sts, body)
	if err != nil {
		if e, ok := errors.AsType[*kmsapi.Error](err); ok && isRefusal(e.Code) {
			h.KMS.NoteUnauthenticated(ctx, kms.Unauthenticated{
				Code: e.Code, SourceIP: sourceIP(r), Operation: operation, RequestID: x.id, UserAgent: userAgent(r),
			})
			if !h.Limits.refused(r) {
				return nil, h.throttle(limitUnauthenticated)
			}
		}
		return nil, err
	}
	if !noted {
		h.Limits.authentic(caller)
	}
	if !h.Limits.allowOperation(caller, operation) {
		return nil, h.throttle(limitOperation)
	}
	return caller, nil
}

func (h *handler) throttle(l limit) error {
	h.Metrics.throttle(l)
	return kmsapi.Throttled()
}
