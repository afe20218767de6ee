// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"os"
	"testing"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// deviceFunc is a device of one function.
type deviceFunc func(ctx context.Context, request []byte) ([]byte, error)

func (f deviceFunc) Send(ctx context.Context, request []byte) ([]byte, error) {
	return f(ctx, request)
}
func (f deviceFunc) Close() error { return nil }

// always answers every request with the same response.
func always(response []byte, err error) Client {
	return Client{deviceFunc(func(context.Context, []byte) ([]byte, error) { return response, err })}
}

// calls makes each of the seven calls and reports whether its result is zero.
var calls = map[Command]func(context.Context, Client) (zero bool, err error){
	DescribeNSM: func(ctx context.Context, c Client) (bool, error) {
		d, err := c.DescribeNSM(ctx)
		return d.ModuleID == "" && d.LockedPCRs == nil, err
	},
	DescribePCR: func(ctx context.Context, c Client) (bool, error) {
		s, err := c.DescribePCR(ctx, 3)
		return s == PCRState{}, err
	},
	ExtendPCR: func(ctx context.Context, c Client) (bool, error) {
		d, err := c.ExtendPCR(ctx, 16, []byte{1, 2, 3})
		return d.IsZero(), err
	},
	LockPCR:  func(ctx context.Context, c Client) (bool, error) { return true, c.LockPCR(ctx, 16) },
	LockPCRs: func(ctx context.Context, c Client) (bool, error) { return true, c.LockPCRs(ctx, 32) },
	GetRandom: func(ctx context.Context, c Client) (bool, error) {
		b, err := c.Random(ctx)
		return b == nil, err
	},
	Attestation: func(ctx context.Context, c Client) (bool, error) {
		b, err := c.Attest(ctx, AttestationRequest{Nonce: []byte{1}})
		return b == nil, err
	},
}

// TestClientErrors: refusals keep their code, other answers are malformed, and
// a device's own error stays what it is; the result is zero each time.
func TestClientErrors(t *testing.T) {
	ctx := t.Context()
	for command, call := range calls {
		t.Run(command.String(), func(t *testing.T) {
			for code := InvalidArgument; code <= InternalError; code++ {
				zero, err := call(ctx, always(Response{Error: code}.Encode(), nil))
				if got, ok := errors.AsType[ErrorCode](err); !ok || got != code || !zero {
					t.Errorf("%v: %v, zero %v", code, err, zero)
				}
			}
			for _, other := range responseBytes {
				if other.response.Command == command || other.response.Error != Success {
					continue
				}
				zero, err := call(ctx, always(unhex(t, other.hex), nil))
				refusal, ok := errors.AsType[*reason.Error](err)
				if !ok || refusal.Rule() != "nsm.response.command" || !zero {
					t.Errorf("answered as %s: %v, zero %v", other.name, err, zero)
				}
			}
			for _, raw := range []string{"", "a0", "f6", "a16545"} {
				zero, err := call(ctx, always(unhex(t, raw), nil))
				if r, ok := reason.Of(err); !ok || r != reason.Malformed || !zero {
					t.Errorf("answered %q: %v, zero %v", raw, err, zero)
				}
			}
			if zero, err := call(ctx, always(nil, os.ErrClosed)); !errors.Is(err, os.ErrClosed) || !zero {
				t.Errorf("closed device: %v, zero %v", err, zero)
			}
		})
	}
}

// TestClientRequests: each call sends the bytes of its command and reads the answer.
func TestClientRequests(t *testing.T) {
	want := map[Command]string{
		DescribeNSM: "6b44657363726962654e534d",
		DescribePCR: "a16b4465736372696265504352a165696e64657803",
		ExtendPCR:   "a169457874656e64504352a265696e64657810646461746143010203",
		LockPCR:     "a1674c6f636b504352a165696e64657810",
		LockPCRs:    "a1684c6f636b50435273a16572616e67651820",
		GetRandom:   "6947657452616e646f6d",
		Attestation: "a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e636541016a7075626c69635f6b6579f6",
	}
	answers := map[Command]Response{}
	for _, r := range responseBytes {
		answers[r.response.Command] = r.response
	}
	answers[DescribePCR] = Response{Command: DescribePCR, PCR: PCRState{Locked: true, Value: digestOf(5)}}
	for command, call := range calls {
		var sent []byte
		zero, err := call(t.Context(), Client{deviceFunc(func(_ context.Context, request []byte) ([]byte, error) {
			sent = request
			return answers[command].Encode(), nil
		})})
		if got := hex.EncodeToString(sent); err != nil || got != want[command] {
			t.Errorf("%v sent %s, %v\nwant %s", command, got, err, want[command])
		}
		if lock := command == LockPCR || command == LockPCRs; zero != lock {
			t.Errorf("%v: zero result %v", command, zero)
		}
	}
}

func TestClientResults(t *testing.T) {
	ctx := t.Context()
	state, err := always(Response{Command: DescribePCR, PCR: PCRState{Locked: true, Value: digestOf(5)}}.Encode(), nil).DescribePCR(ctx, 1)
	if err != nil || !state.Locked || state.Value != digestOf(5) {
		t.Errorf("DescribePCR: %+v, %v", state, err)
	}
	value, err := always(Response{Command: ExtendPCR, PCR: PCRState{Value: digestOf(6)}}.Encode(), nil).ExtendPCR(ctx, pcr.Index(16), nil)
	if err != nil || value != digestOf(6) {
		t.Errorf("ExtendPCR: %v, %v", value, err)
	}
	random, err := always(Response{Command: GetRandom, Random: bytes.Repeat([]byte{8}, 256)}.Encode(), nil).Random(ctx)
	if err != nil || len(random) != 256 {
		t.Errorf("Random: %x, %v", random, err)
	}
	document, err := always(Response{Command: Attestation, Document: []byte{1, 2}}.Encode(), nil).Attest(ctx, AttestationRequest{})
	if err != nil || !bytes.Equal(document, []byte{1, 2}) {
		t.Errorf("Attest: %x, %v", document, err)
	}
}
