// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"context"
	"fmt"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// A Client makes typed calls to a device. It is safe for concurrent use and has
// nothing to close.
//
// Every error is one of three: one that wraps an [ErrorCode], when the module
// refused; a [*reason.Error] of class malformed, when its answer is not exactly
// what the command's answer is; or the error of [Device.Send]. Results are zero
// with any of them.
type Client struct{ Device Device }

func (c Client) call(ctx context.Context, request Request) (Response, error) {
	raw, err := c.Device.Send(ctx, request.Encode())
	if err != nil {
		return Response{}, fmt.Errorf("nsm: %v: %w", request, err)
	}
	response, err := ParseResponse(raw)
	if err != nil {
		return Response{}, fmt.Errorf("nsm: %v: %w", request, err)
	}
	if response.Error != Success {
		return Response{}, fmt.Errorf("nsm: %v: the module answered %w", request, response.Error)
	}
	if response.Command != request.Command {
		return Response{}, reason.New(reason.Malformed, "nsm.response.command",
			"nsm: %v was answered as %v", request, response.Command)
	}
	return response, nil
}

// DescribeNSM returns what the module says about itself.
func (c Client) DescribeNSM(ctx context.Context) (Description, error) {
	r, err := c.call(ctx, Request{Command: DescribeNSM})
	return r.Description, err
}

// DescribePCR returns a register's value and whether it is locked.
func (c Client) DescribePCR(ctx context.Context, index pcr.Index) (PCRState, error) {
	r, err := c.call(ctx, Request{Command: DescribePCR, Index: uint16(index)})
	return r.PCR, err
}

// ExtendPCR extends a register by data of any length that fits a request and
// returns its new value, SHA-384(old value ‖ data), as the module reports it. A
// locked register is refused as [ReadOnlyIndex].
func (c Client) ExtendPCR(ctx context.Context, index pcr.Index, data []byte) (pcr.Digest, error) {
	r, err := c.call(ctx, Request{Command: ExtendPCR, Index: uint16(index), Data: data})
	return r.PCR.Value, err
}

// LockPCR makes a register read-only for the module's life. One that is locked
// already is refused as [ReadOnlyIndex].
func (c Client) LockPCR(ctx context.Context, index pcr.Index) error {
	_, err := c.call(ctx, Request{Command: LockPCR, Index: uint16(index)})
	return err
}

// LockPCRs makes all registers below n read-only, of which some may be already.
// More than the module has registers is refused as [InvalidIndex].
func (c Client) LockPCRs(ctx context.Context, n uint16) error {
	_, err := c.call(ctx, Request{Command: LockPCRs, Range: n})
	return err
}

// Random returns [RandomSize] bytes from the module's generator.
func (c Client) Random(ctx context.Context) ([]byte, error) {
	r, err := c.call(ctx, Request{Command: GetRandom})
	return r.Random, err
}

// Attest returns an attestation document that carries what the request says. It
// is not verified: package attestation does that. A request that does not fit
// [MaxRequest] is refused as [InputTooLarge].
func (c Client) Attest(ctx context.Context, request AttestationRequest) (document []byte, err error) {
	r, err := c.call(ctx, Request{Command: Attestation, AttestationRequest: request})
	return r.Document, err
}
