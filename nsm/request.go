// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"fmt"

	"github.com/cretula/cretula/reason"
)

// An AttestationRequest is what a document shall carry. A nil field is absent in
// the document (null), an empty one that is not nil is present and empty.
//
// nsm-api documents 1024 bytes as the longest value of each. The module does not
// enforce that, nor does this package: the three share the [MaxRequest] bytes of
// a request, of which 44 to 50 are its own. AWS KMS and other verifiers may
// refuse longer ones.
type AttestationRequest struct {
	PublicKey []byte
	UserData  []byte
	Nonce     []byte
}

// A Request is one request to a module.
type Request struct {
	Command Command
	// Index is the register of DescribePCR, ExtendPCR and LockPCR. It may be
	// one that does not exist.
	Index uint16
	// Range is the number below which LockPCRs locks.
	Range uint16
	// Data is what ExtendPCR extends by, of any length.
	Data []byte
	// AttestationRequest is that of Attestation.
	AttestationRequest
}

// Encode returns the request in CBOR, byte for byte as nsm-api writes it. Fields
// that the command does not have are left out.
func (r Request) Encode() []byte {
	name := r.Command.String()
	switch r.Command {
	case DescribePCR, LockPCR:
		return appendUint(appendText(appendVariant(nil, name, 1), "index"), r.Index)
	case ExtendPCR:
		b := appendUint(appendText(appendVariant(nil, name, 2), "index"), r.Index)
		return appendBytes(appendText(b, "data"), r.Data)
	case LockPCRs:
		return appendUint(appendText(appendVariant(nil, name, 1), "range"), r.Range)
	case Attestation:
		b := appendOptional(appendText(appendVariant(nil, name, 3), "user_data"), r.UserData)
		b = appendOptional(appendText(b, "nonce"), r.Nonce)
		return appendOptional(appendText(b, "public_key"), r.PublicKey)
	default:
		return appendText(nil, name)
	}
}

// ParseRequest reads a request as a module must take it. Clients differ, so
// fields may come in any order, an absent optional field is as good as null, a
// text string as a byte string, and a map may have indefinite length. Names are
// compared exactly; a field that is unknown or there twice is refused, and so is
// anything after the value.
//
// The error is a [*reason.Error] of class malformed that wraps the [ErrorCode] to
// answer with: InputTooLarge above [MaxRequest] bytes, else InvalidOperation.
func ParseRequest(data []byte) (Request, error) {
	if len(data) > MaxRequest {
		return Request{}, reason.New(reason.Malformed, "nsm.request.size",
			"NSM request: %d bytes, of at most %d: %w", len(data), MaxRequest, InputTooLarge)
	}
	d := decoder{data: data, side: "request", cause: InvalidOperation}
	var r Request
	err := d.variant(func(name string, bare bool) error {
		command, known := parseCommand(name)
		if unit := command == DescribeNSM || command == GetRandom; !known || unit != bare {
			return d.fail("command", "no such command: %.40q", name)
		}
		r.Command = command
		if bare {
			return nil
		}
		return r.parseFields(&d)
	})
	if err != nil {
		return Request{}, err
	}
	return r, nil
}

func (r *Request) parseFields(d *decoder) error {
	switch r.Command {
	case DescribePCR, LockPCR:
		return d.fields([]string{"index"}, 1, func(string) (err error) {
			r.Index, err = d.uint16()
			return err
		})
	case LockPCRs:
		return d.fields([]string{"range"}, 1, func(string) (err error) {
			r.Range, err = d.uint16()
			return err
		})
	case ExtendPCR:
		return d.fields([]string{"index", "data"}, 2, func(name string) (err error) {
			if name == "index" {
				r.Index, err = d.uint16()
			} else {
				r.Data, err = d.bytes(true)
			}
			return err
		})
	}
	return d.fields([]string{"user_data", "nonce", "public_key"}, 0, func(name string) error {
		if d.null() {
			return nil
		}
		value, err := d.bytes(true)
		switch name {
		case "user_data":
			r.UserData = value
		case "nonce":
			r.Nonce = value
		default:
			r.PublicKey = value
		}
		return err
	})
}

// String names the command and its register, for messages. It shows no data.
func (r Request) String() string {
	switch r.Command {
	case DescribePCR, ExtendPCR, LockPCR:
		return fmt.Sprintf("%v of PCR%d", r.Command, r.Index)
	case LockPCRs:
		return fmt.Sprintf("LockPCRs below %d", r.Range)
	}
	return r.Command.String()
}
