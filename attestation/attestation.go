// SPDX-License-Identifier: Apache-2.0

// Package attestation parses and verifies the attestation documents of the AWS
// Nitro Security Module and of NitroTPM: untagged (or tag 18) COSE_Sign1
// messages (RFC 9052) over a CBOR map (RFC 8949), signed with ES384 by a leaf
// certificate under AWS's private PKI.
//
// [Parse] reads a document without believing it and returns an [Unverified],
// whose accessors say so by name. A [Verifier] checks everything and returns a
// [Document], or a [*reason.Error] that lists every problem found. Each check
// has a stable id; [Rules] lists them all.
//
// Two things a caller must know. Any customer of AWS can make genuine
// documents, so an [Expectation] that names no register is refused unless
// AllowAnyImage says that this is meant. And ECDSA signatures can be altered
// without becoming invalid, so the bytes of a document are no identity:
// [Document.PayloadHash] is.
//
// Sources: AWS nsm-api docs/attestation_process.md, the AWS Nitro Enclaves User
// Guide ("Verifying the root of trust"), RFC 9052, RFC 8949, RFC 5280, and the
// shape of genuine documents of 2021 to 2026.
package attestation

import (
	"fmt"
	"time"
)

// A Kind tells what a document is evidence of.
type Kind uint8

const (
	// KindEnclave is a Nitro Enclave: the document has "pcrs".
	KindEnclave Kind = iota + 1
	// KindNitroTPM is an EC2 instance with a NitroTPM, which is no enclave:
	// the document has "nitrotpm_pcrs". Whoever is root on the instance can
	// have one made with any nonce, user data and public key.
	KindNitroTPM
)

// String returns "enclave" or "nitrotpm".
func (k Kind) String() string {
	switch k {
	case KindEnclave:
		return "enclave"
	case KindNitroTPM:
		return "nitrotpm"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// registers returns how many registers a document of that kind can have.
func (k Kind) registers() uint64 {
	if k == KindNitroTPM {
		return 24
	}
	return 32
}

// Trust tells which root a verified chain reached.
type Trust uint8

const (
	// TrustAWS is the root of the commercial AWS partition, [RootG1].
	TrustAWS Trust = iota + 1
	// TrustAWSGovCloud is the root of the aws-us-gov partition, [RootGovCloud].
	TrustAWSGovCloud
	// TrustCustom is any other root: nothing that it says is AWS's word.
	TrustCustom
)

// String returns "aws", "aws-us-gov" or "custom".
func (t Trust) String() string {
	switch t {
	case TrustAWS:
		return "aws"
	case TrustAWSGovCloud:
		return "aws-us-gov"
	case TrustCustom:
		return "custom"
	}
	return fmt.Sprintf("trust(%d)", uint8(t))
}

// Limits and defaults.
const (
	// MaxDocumentSize is the largest document that is looked at, in bytes: the
	// largest payload and ample room for the COSE structure around it.
	MaxDocumentSize = 20 << 10
	// MaxPayloadSize is AWS's documented limit of the signed payload.
	MaxPayloadSize = 16 << 10
	// MaxFieldSize is the limit of public_key, user_data, nonce and of each
	// certificate, as AWS's CDDL has it. Of the first three it is the default;
	// the hypervisor signs longer ones.
	MaxFieldSize = 1024
	// MaxLenientFieldSize is the greatest limit of public_key, user_data and
	// nonce that may be asked for, and the default at [LevelLenient]: an NSM
	// takes no longer request.
	MaxLenientFieldSize = 4096
	// DefaultMaxAge is how old a document may be if [Expectation] does not say.
	DefaultMaxAge = 300 * time.Second
	// DefaultFutureSkew is how far ahead of the verifier's clock the time of a
	// document may be if [Expectation] does not say.
	DefaultFutureSkew = 60 * time.Second
)
