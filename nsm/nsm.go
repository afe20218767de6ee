// SPDX-License-Identifier: Apache-2.0

// Package nsm talks to a Nitro Security Module: the device that gives an enclave
// its registers, its randomness and its attestation documents. It has the seven
// commands as AWS's nsm-api encodes them, the Linux driver's /dev/nsm, and both
// ends of a socket protocol through which a software module (package softnsm)
// can stand in for the device.
//
// # Trust
//
// On Nitro hardware the module is part of the hypervisor. A socket reaches
// whatever listens there. [Client] therefore takes a response for hostile input:
// only the exact shape that the command's answer has is accepted. An attestation
// document is returned as it came; only package attestation says what it is worth.
//
// # Socket protocol
//
// A Unix socket of type SOCK_SEQPACKET. One packet is one CBOR request of at most
// [MaxRequest] bytes, answered by one packet with one CBOR response of at most
// [MaxResponse] bytes, in order, any number of times. A request that cannot be
// decoded, an empty one included, is answered {"Error": "InvalidOperation"}, one
// that is too long {"Error": "InputTooLarge"}; the connection stays open in both
// cases. Descriptors sent along are dropped.
//
// Source of the encoding: aws-nitro-enclaves-nsm-api src/api/mod.rs; of the
// device: Linux drivers/misc/nsm.c and include/uapi/linux/nsm.h.
package nsm

import "context"

const (
	// MaxRequest is the length of the longest request in bytes, the driver's
	// NSM_REQUEST_MAX_SIZE.
	MaxRequest = 0x1000
	// MaxResponse is the length of the longest response in bytes, the driver's
	// NSM_RESPONSE_MAX_SIZE.
	MaxResponse = 0x3000
	// RandomSize is the number of bytes that GetRandom returns.
	RandomSize = 256
)

// DevicePath is where the Linux driver puts the device.
const DevicePath = "/dev/nsm"

// A Device is a module, near or far. Implementations are safe for concurrent use.
type Device interface {
	// Send gives the module one CBOR request and returns its one CBOR response,
	// which the caller owns. A module that refuses does so in its response
	// ({"Error": …}), with a nil error: a request longer than [MaxRequest] gets
	// {"Error": "InputTooLarge"}. An error means that there is no response, be
	// it that ctx has ended, the device is closed, or the transport failed.
	Send(ctx context.Context, request []byte) (response []byte, err error)
	// Close releases the device. Send fails afterwards.
	Close() error
}

// An ErrorCode is a module's refusal, nsm-api's ErrorCode. It is an error; the
// errors of [Client] and [ParseRequest] wrap it.
type ErrorCode uint8

// The error codes, with the numbers of the C enumeration.
const (
	// Success is no refusal. It never appears in a response.
	Success ErrorCode = iota
	// InvalidArgument: an input argument is not valid.
	InvalidArgument
	// InvalidIndex: there is no register of that number.
	InvalidIndex
	// InvalidResponse: the response is not that of the request.
	InvalidResponse
	// ReadOnlyIndex: the register is locked.
	ReadOnlyIndex
	// InvalidOperation: the request cannot be decoded or is unknown.
	InvalidOperation
	// BufferTooSmall: the output does not fit the buffer given.
	BufferTooSmall
	// InputTooLarge: the request is longer than MaxRequest.
	InputTooLarge
	// InternalError: the module failed.
	InternalError
)

var errorNames = [...]string{
	Success:          "Success",
	InvalidArgument:  "InvalidArgument",
	InvalidIndex:     "InvalidIndex",
	InvalidResponse:  "InvalidResponse",
	ReadOnlyIndex:    "ReadOnlyIndex",
	InvalidOperation: "InvalidOperation",
	BufferTooSmall:   "BufferTooSmall",
	InputTooLarge:    "InputTooLarge",
	InternalError:    "InternalError",
}

// Error returns the code's name as it stands in a response, "InvalidIndex".
func (c ErrorCode) Error() string {
	if int(c) >= len(errorNames) {
		return "unknown error code"
	}
	return errorNames[c]
}

// parseErrorCode finds the code of a name. Success is not among those that a
// response may carry.
func parseErrorCode(name string) (ErrorCode, bool) {
	for code, known := range errorNames {
		if known == name {
			return ErrorCode(code), ErrorCode(code) != Success
		}
	}
	return Success, false
}

// A Command is one of the seven things a module can be asked.
type Command uint8

// The commands.
const (
	// DescribePCR reads a register and whether it is locked.
	DescribePCR Command = iota + 1
	// ExtendPCR extends a register by data.
	ExtendPCR
	// LockPCR makes one register read-only for the module's life.
	LockPCR
	// LockPCRs makes the registers below a number read-only.
	LockPCRs
	// DescribeNSM reads the module's version, name and registers.
	DescribeNSM
	// Attestation makes an attestation document.
	Attestation
	// GetRandom returns 256 bytes of randomness.
	GetRandom
)

var commandNames = [...]string{
	DescribePCR: "DescribePCR",
	ExtendPCR:   "ExtendPCR",
	LockPCR:     "LockPCR",
	LockPCRs:    "LockPCRs",
	DescribeNSM: "DescribeNSM",
	Attestation: "Attestation",
	GetRandom:   "GetRandom",
}

// String returns the command's name as it stands in a request.
func (c Command) String() string {
	if c < DescribePCR || c > GetRandom {
		return "unknown command"
	}
	return commandNames[c]
}

func parseCommand(name string) (Command, bool) {
	for c := DescribePCR; c <= GetRandom; c++ {
		if commandNames[c] == name {
			return c, true
		}
	}
	return 0, false
}
