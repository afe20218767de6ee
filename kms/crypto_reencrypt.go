// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"strconv"

	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/policy"
)

// A half is one of the two sides of ReEncrypt, of which each is decided on by
// itself.
type half struct {
	action, alias, algorithm string
	context                  map[string]string
}

// reEncrypt opens a ciphertext and encrypts what was in it anew. Two decisions are
// made: kms:ReEncryptFrom on the key of the ciphertext and kms:ReEncryptTo on the
// other.
func (c *call) reEncrypt(in *kmsapi.ReEncryptInput) (*kmsapi.ReEncryptOutput, error) {
	s := source{
		keyID: in.SourceKeyId, keyMember: "SourceKeyId", ciphertext: in.CiphertextBlob, context: in.SourceEncryptionContext,
		algorithm: valueOr(in.SourceEncryptionAlgorithm, kmsapi.SymmetricDefault),
	}
	algorithm := valueOr(in.DestinationEncryptionAlgorithm, kmsapi.SymmetricDefault)
	ignore, err := s.check(in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	from, to, err := c.admitReEncrypt(in, &s, algorithm)
	if err != nil {
		return nil, err
	}
	if ignore {
		return nil, c.dryRun()
	}
	plaintext, opened, err := c.open(from, &s)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	sealed, closed, err := c.seal(to, algorithm, in.DestinationEncryptionContext, plaintext)
	if err != nil {
		return nil, err
	}
	if err := c.dryRun(); err != nil {
		return nil, err
	}
	return &kmsapi.ReEncryptOutput{
		CiphertextBlob: sealed, SourceKeyId: from.ARN(), KeyId: to.ARN(), SourceEncryptionAlgorithm: s.algorithm,
		DestinationEncryptionAlgorithm: algorithm, SourceKeyMaterialId: opened, DestinationKeyMaterialId: closed,
	}, nil
}

// admitReEncrypt finds both keys, decides on each and checks that they can be
// used. Resources of the event are the source and the destination, in this order.
func (c *call) admitReEncrypt(in *kmsapi.ReEncryptInput, s *source, algorithm string) (from, to *key, err error) {
	if from, err = c.findSource(s); err != nil {
		return nil, nil, err
	}
	opening := half{kmsapi.ReEncryptFrom, c.alias, s.algorithm, in.SourceEncryptionContext}
	if to, err = c.resolve(*in.DestinationKeyId); err != nil {
		return nil, nil, err
	}
	closing := half{kmsapi.ReEncryptTo, c.alias, algorithm, in.DestinationEncryptionContext}
	same := from.ARN() == to.ARN()
	if err := c.decideHalf(from, opening, same); err != nil {
		return nil, nil, c.hideSource(s, err)
	}
	if err := c.decideHalf(to, closing, same); err != nil {
		return nil, nil, err
	}
	if err := c.admitSource(s, from); err != nil {
		return nil, nil, err
	}
	if err := c.usable(to); err != nil {
		return nil, nil, err
	}
	return from, to, checkEncryption(to, algorithm, in.DestinationEncryptionContext)
}

// decideHalf makes one of the two decisions, with the condition keys of its side.
func (c *call) decideHalf(k *key, h half, same bool) error {
	one := *c
	one.alias = h.alias
	one.common.EncryptionContext = h.context
	in, err := one.request(k)
	if err != nil {
		return err
	}
	in.Request.Action = "kms:" + h.action
	if h.context == nil {
		in.Request.EncryptionContext = map[string]string{}
	}
	in.Request.Context["kms:encryptionalgorithm"] = policy.Values{h.algorithm}
	in.Request.Context["kms:reencryptonsamekey"] = policy.Values{strconv.FormatBool(same)}
	return c.judge(in)
}
