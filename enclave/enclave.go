// SPDX-License-Identifier: Apache-2.0

// Package enclave gives a program inside a Nitro enclave the answers of AWS KMS
// that only this enclave can read. An [Attestor] is a middleware for
// aws-sdk-go-v2: with it, an ordinary [kms.Client], and whatever is built upon
// one, calls Decrypt, GenerateDataKey, GenerateDataKeyPair, GenerateRandom and
// DeriveSharedSecret as ever. On the way out each of these gets a Recipient,
// with a fresh attestation document that carries the public half of a key made
// in this process; on the way back CiphertextForRecipient is opened into the
// field in which the caller expects the result. Other operations and other
// services pass through untouched.
//
// # Trust
//
// A key policy that asks for kms:RecipientAttestation:… makes KMS seal its
// answer so that nobody but this enclave reads it. It does not make the answer
// KMS's: the public key is no secret (the parent instance may see every
// document), and whoever has it can seal an answer of his own choosing. So:
//
//   - TLS to KMS must end inside the enclave, with roots that the enclave
//     brings along. A parent that ends TLS, or relays calls it makes itself,
//     can forge every answer: random bytes and data keys that it knows.
//   - Credentials that the parent hands in authorise, they protect nothing.
//     Protection is the policy's conditions on the measurements.
//   - The parent usually keeps the ciphertexts and can exchange one for
//     another. Bind each to what it is for: give an EncryptionContext (object,
//     version, tenant), and name the key in KeyId, by its ARN or its id, also
//     in Decrypt where AWS does not require it. The answer must then name the
//     same key. An alias can be pointed elsewhere and cannot be compared with
//     the ARN that comes back: a call that names one, or no key, gets whatever
//     key KMS says.
//   - Encrypt, ReEncrypt, Sign and the like know no Recipient: they are neither
//     attested nor sealed, and a policy that asks for attestation there always
//     denies (AWS KMS Developer Guide, "Cryptographic attestation support").
//
// A call whose result KMS did not seal fails: there is no way back to an answer
// in clear text.
package enclave

import (
	"errors"
	"fmt"
	"time"

	"github.com/aws/smithy-go/middleware"

	"github.com/cretula/cretula/nsm"
)

const (
	// DefaultMaxAge is the time after which a recipient key is not used for
	// further calls, unless Options says otherwise.
	DefaultMaxAge = time.Hour
	// DefaultMaxUses is the number of calls for which a recipient key is used,
	// unless Options says otherwise.
	DefaultMaxUses = 10_000
)

// Options is what an [Attestor] is made of. Only Device is required.
type Options struct {
	// Device makes the attestation documents. The Attestor does not close it.
	Device nsm.Device
	// MaxAge is how long a recipient key is used, at least a minute. 0:
	// DefaultMaxAge.
	MaxAge time.Duration
	// MaxUses is the number of calls for which a recipient key is used; with 1,
	// each call has its own. 0: DefaultMaxUses.
	MaxUses int
	// Now is the clock that MaxAge is measured with. Nil: time.Now, whose
	// monotonic part a host that sets the wall clock does not move.
	Now func() time.Time
}

// An Attestor adds Recipients to calls and opens their answers. It is safe for
// concurrent use, by any number of clients; it has nothing to close.
//
// Its recipient key is RSA-2048 from [crypto/rand] and exists only in this
// process's memory. It is exchanged for a new one before it exceeds MaxAge or
// MaxUses: the new one is made in the background when nine tenths are used up,
// so that calls wait for one, some 100 ms, only at the start, after a pause of
// MaxAge, or when keys are used up faster than they can be made. While there
// are no calls the last key stays, unused. A call that has begun ends with the
// key it began with; nothing else holds on to an old key, but as Go offers no
// way to erase an RSA key, its memory is released, not overwritten.
type Attestor struct {
	module nsm.Client
	keys   *keyring
}

// New returns an Attestor and begins to make its first key. It fails only for
// options that make no sense.
func New(o Options) (*Attestor, error) {
	if o.Device == nil {
		return nil, errors.New("enclave: no device to make attestation documents")
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.MaxUses == 0 {
		o.MaxUses = DefaultMaxUses
	}
	// A key must live long enough that those who waited for it can use it.
	if o.MaxAge < time.Minute {
		return nil, fmt.Errorf("enclave: MaxAge is %v, less than a minute", o.MaxAge)
	}
	if o.MaxUses < 0 {
		return nil, fmt.Errorf("enclave: MaxUses is %d, less than 1", o.MaxUses)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	keys := newKeyring(o.MaxAge, o.MaxUses, o.Now, generateKey)
	keys.start()
	return &Attestor{module: nsm.Client{Device: o.Device}, keys: keys}, nil
}

// APIOption returns the middleware, for APIOptions of an aws.Config, of
// kms.Options, or of a single call. Where a call meets two, the one that was
// added first does the work.
//
// A call in which the caller has set Recipient himself is left alone, and so is
// its answer. In all others Recipient is set on a copy of the input; the
// caller's own is not changed. The document is made once per call, by one call
// to the device, and serves its retries too. In the output Plaintext,
// PrivateKeyPlaintext or SharedSecret holds the opened result and
// CiphertextForRecipient is nil, as if there had been no Recipient.
//
// Errors of KMS and of the SDK come back as they are. All others are of type
// [*Error], within the SDK's own wrapping; the output is nil then. A context
// that ends stops the wait for a key, for the device (but see [nsm.Open]) and
// for KMS; its values are not looked at.
func (a *Attestor) APIOption() func(*middleware.Stack) error {
	m := middleware.InitializeMiddlewareFunc("cretula.Attestor", a.handle)
	return func(stack *middleware.Stack) error {
		return stack.Initialize.Add(m, middleware.After)
	}
}

// A Step is a part of an attested call that can fail.
type Step uint8

// The steps, in their order.
const (
	// StepKey: no recipient key could be had, or not in time.
	StepKey Step = iota + 1
	// StepDocument: the security module made no attestation document.
	StepDocument
	// StepAnswer: KMS answered in clear text, or with nothing sealed.
	StepAnswer
	// StepKeyID: KMS answered for another key than the one asked for.
	StepKeyID
	// StepEnvelope: CiphertextForRecipient does not open.
	StepEnvelope
)

// String returns what the step is about, such as "attestation document".
func (s Step) String() string {
	switch s {
	case StepKey:
		return "recipient key"
	case StepDocument:
		return "attestation document"
	case StepAnswer:
		return "answer of KMS"
	case StepKeyID:
		return "key id in the answer"
	case StepEnvelope:
		return "envelope for the recipient"
	}
	return "invalid step"
}

// An Error says in which step of an attested call the SDK for enclaves, not
// KMS, gave up. For StepDocument Err may wrap an [nsm.ErrorCode]; for
// StepEnvelope it is an error of package cms.
type Error struct {
	Operation string // such as "Decrypt"
	Step      Step
	Err       error // never nil
}

// Error returns the operation, the step and the cause. It holds no secret.
func (e *Error) Error() string {
	return fmt.Sprintf("enclave: %s: %v: %v", e.Operation, e.Step, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
