// SPDX-License-Identifier: Apache-2.0

package enclave

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/nsm"
)

// handle is the middleware. It stands in the Initialize step: outside the
// retries, and where input and output are still the SDK's own types.
func (a *Attestor) handle(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
	middleware.InitializeOutput, middleware.Metadata, error,
) {
	call, attested := prepare(in.Parameters)
	if !attested {
		return next.HandleInitialize(ctx, in)
	}
	fail := func(step Step, err error) (middleware.InitializeOutput, middleware.Metadata, error) {
		return middleware.InitializeOutput{}, middleware.Metadata{}, &Error{Operation: call.operation, Step: step, Err: err}
	}
	key, err := a.keys.take(ctx)
	if err != nil {
		return fail(StepKey, err)
	}
	document, err := a.module.Attest(ctx, nsm.AttestationRequest{PublicKey: key.spki})
	if err != nil {
		return fail(StepDocument, err)
	}
	*call.recipient = &types.RecipientInfo{
		AttestationDocument:    document,
		KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256,
	}
	in.Parameters = call.input
	out, metadata, err := next.HandleInitialize(ctx, in)
	if err != nil {
		return middleware.InitializeOutput{}, metadata, err
	}
	if step, err := call.open(key, out.Result); err != nil {
		return fail(step, err)
	}
	return out, metadata, nil
}

// A call is one attested call: a copy of the caller's input, with the place
// for its Recipient and the key that it names.
type call struct {
	operation string
	input     any
	recipient **types.RecipientInfo
	keyID     string // empty if the call names none
}

// prepare copies the input of an operation that takes a Recipient and has none
// yet. It reports false for everything else.
func prepare(parameters any) (call, bool) {
	switch in := parameters.(type) {
	case *kms.DecryptInput:
		c := *in
		return call{"Decrypt", &c, &c.Recipient, aws.ToString(c.KeyId)}, c.Recipient == nil
	case *kms.GenerateDataKeyInput:
		c := *in
		return call{"GenerateDataKey", &c, &c.Recipient, aws.ToString(c.KeyId)}, c.Recipient == nil
	case *kms.GenerateDataKeyPairInput:
		c := *in
		return call{"GenerateDataKeyPair", &c, &c.Recipient, aws.ToString(c.KeyId)}, c.Recipient == nil
	case *kms.GenerateRandomInput:
		c := *in
		return call{"GenerateRandom", &c, &c.Recipient, ""}, c.Recipient == nil
	case *kms.DeriveSharedSecretInput:
		c := *in
		return call{"DeriveSharedSecret", &c, &c.Recipient, aws.ToString(c.KeyId)}, c.Recipient == nil
	}
	return call{}, false
}

// An answer points at the fields of an output that matter here.
type answer struct {
	sealed *[]byte // CiphertextForRecipient
	clear  *[]byte // where the result belongs
	keyID  *string // nil if there is none
}

// answerOf returns the answer in an output of one of the five operations.
func answerOf(result any) (answer, bool) {
	switch out := result.(type) {
	case *kms.DecryptOutput:
		if out != nil {
			return answer{&out.CiphertextForRecipient, &out.Plaintext, out.KeyId}, true
		}
	case *kms.GenerateDataKeyOutput:
		if out != nil {
			return answer{&out.CiphertextForRecipient, &out.Plaintext, out.KeyId}, true
		}
	case *kms.GenerateDataKeyPairOutput:
		if out != nil {
			return answer{&out.CiphertextForRecipient, &out.PrivateKeyPlaintext, out.KeyId}, true
		}
	case *kms.GenerateRandomOutput:
		if out != nil {
			return answer{&out.CiphertextForRecipient, &out.Plaintext, nil}, true
		}
	case *kms.DeriveSharedSecretOutput:
		if out != nil {
			return answer{&out.CiphertextForRecipient, &out.SharedSecret, out.KeyId}, true
		}
	}
	return answer{}, false
}

// open puts the opened result in its place in the output, or says in which
// step that failed. Libraries on top take an output that still has
// CiphertextForRecipient for one they cannot read, so it is removed.
func (c *call) open(key *recipientKey, result any) (Step, error) {
	out, ok := answerOf(result)
	if !ok {
		return StepAnswer, fmt.Errorf("the output is a %T", result)
	}
	if len(*out.clear) != 0 {
		return StepAnswer, errors.New("KMS answered in clear text, although it was given a recipient")
	}
	if len(*out.sealed) == 0 {
		return StepAnswer, errors.New("KMS answered without CiphertextForRecipient")
	}
	if err := checkKeyID(c.keyID, aws.ToString(out.keyID)); err != nil {
		return StepKeyID, err
	}
	opened, err := cms.Open(key.private, *out.sealed)
	if err != nil {
		return StepEnvelope, err
	}
	*out.clear, *out.sealed = opened, nil
	return 0, nil
}

// checkKeyID compares the key that a call named with the ARN in its answer
// ("the key ID in the response is always the key ARN", AWS KMS API Reference).
// An alias tells nothing about the key behind it.
func checkKeyID(asked, answered string) error {
	switch {
	case asked == "", strings.HasPrefix(asked, "alias/"), strings.Contains(asked, ":alias/"):
		return nil
	case asked == answered:
		return nil
	case !strings.HasPrefix(asked, "arn:"):
		if _, id, ok := strings.Cut(answered, ":key/"); ok && id == asked {
			return nil
		}
	}
	return fmt.Errorf("asked for key %q, got an answer for %q", asked, answered)
}
