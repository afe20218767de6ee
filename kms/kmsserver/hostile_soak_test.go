// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

// An act is something that a client of the soak does. One that is young is not done
// while time passes: documents are of today.
type act struct {
	name  string
	do    func(*worker)
	young bool
}

// acts are all of them; what is listed twice is done twice as often.
var acts = []act{
	{"encrypt", (*worker).encrypt, false}, {"encrypt", (*worker).encrypt, false}, {"data key", (*worker).dataKey, false},
	{"decrypt", (*worker).decrypt, false}, {"decrypt", (*worker).decrypt, false}, {"decrypt", (*worker).decrypt, false},
	{"re-encrypt", (*worker).reEncrypt, false}, {"sign", (*worker).sign, false}, {"mac", (*worker).mac, false},
	{"alias", (*worker).moveAlias, false}, {"alias", (*worker).moveAlias, false}, {"grant", (*worker).grants, false},
	{"policy", (*worker).policy, false}, {"switch", (*worker).turnOff, false}, {"schedule", (*worker).schedule, false},
	{"rotate", (*worker).rotate, false}, {"tag", (*worker).tag, false}, {"replica", (*worker).replica, false},
	{"primary", (*worker).movePrimary, false}, {"list", (*worker).list, false}, {"principal", (*worker).comeAndGo, false},
	{"new key", (*worker).newKey, false}, {"attested", (*worker).attestedDecrypt, true},
}

// encrypt encrypts under a key or under whatever an alias leads to.
func (w *worker) encrypt() {
	client, denied := w.user()
	key := w.any()
	codes := append(denied, unusable...)
	byAlias := w.IntN(3) == 0
	name := key
	if byAlias {
		name, codes = *w.alias(), append(codes, "NotFoundException")
	}
	text := sealedText{plaintext: fmt.Appendf(nil, "text %d", w.Uint64())}
	if w.IntN(2) == 0 {
		text.context = map[string]string{"n": fmt.Sprint(w.IntN(10))}
	}
	out, err := client.Encrypt(w.ctx, &awskms.EncryptInput{KeyId: &name, Plaintext: text.plaintext, EncryptionContext: text.context})
	if !w.allow("Encrypt", err, codes...) {
		return
	}
	if text.key, text.blob = *out.KeyId, out.CiphertextBlob; !byAlias && text.key != key {
		w.errorf("Encrypt: another key answered")
	}
	w.keep(text)
}

func (w *worker) dataKey() {
	client, denied := w.user()
	key := w.any()
	out, err := client.GenerateDataKey(w.ctx, &awskms.GenerateDataKeyInput{KeyId: &key, KeySpec: "AES_256"})
	if !w.allow("GenerateDataKey", err, append(denied, unusable...)...) {
		return
	}
	if len(out.Plaintext) != 32 || *out.KeyId != key {
		w.errorf("GenerateDataKey: %d bytes of %s", len(out.Plaintext), *out.KeyId)
	}
	w.keep(sealedText{key: key, blob: out.CiphertextBlob, plaintext: out.Plaintext})
}

// opens wants the plaintext of a text or an error of the codes.
func (w *worker) opens(client *awskms.Client, text sealedText, codes ...string) {
	in := &awskms.DecryptInput{CiphertextBlob: text.blob, EncryptionContext: text.context}
	if w.IntN(2) == 0 {
		in.KeyId = &text.key
	}
	out, err := client.Decrypt(w.ctx, in)
	if w.allow("Decrypt", err, codes...) && (!bytes.Equal(out.Plaintext, text.plaintext) || *out.KeyId != text.key) {
		w.errorf("Decrypt: another plaintext or key")
	}
}

func (w *worker) decrypt() {
	text, ok := w.kept("")
	if !ok {
		return
	}
	client, denied := w.user()
	codes := append(denied, unusable...)
	if w.IntN(8) == 0 { // with another context it is none of ours
		text.context = map[string]string{"other": "x"}
		_, err := client.Decrypt(w.ctx, &awskms.DecryptInput{CiphertextBlob: text.blob, EncryptionContext: text.context})
		if w.allow("Decrypt", err, append(codes, "InvalidCiphertextException")...) {
			w.errorf("Decrypt: the encryption context does not count")
		}
		return
	}
	w.opens(client, text, codes...)
}

func (w *worker) reEncrypt() {
	text, ok := w.kept("")
	if !ok {
		return
	}
	to := w.any()
	out, err := w.admin.ReEncrypt(w.ctx, &awskms.ReEncryptInput{CiphertextBlob: text.blob, SourceEncryptionContext: text.context, DestinationKeyId: &to})
	if w.allow("ReEncrypt", err, unusable...) {
		w.keep(sealedText{key: to, blob: out.CiphertextBlob, plaintext: text.plaintext})
	}
}

func (w *worker) sign() {
	key := w.signing[w.IntN(len(w.signing))]
	message := fmt.Sprint("message ", w.Uint64())
	signed, err := w.admin.Sign(w.ctx, &awskms.SignInput{KeyId: &key, Message: []byte(message), SigningAlgorithm: "ECDSA_SHA_256"})
	if !w.allow("Sign", err) {
		return
	}
	if !verifies(w.public[key], message, signed.Signature) {
		w.errorf("Sign: the signature does not verify")
	}
	in := &awskms.VerifyInput{KeyId: &key, Message: []byte(message), Signature: signed.Signature, SigningAlgorithm: "ECDSA_SHA_256"}
	if out, err := w.admin.Verify(w.ctx, in); w.allow("Verify", err) && !out.SignatureValid {
		w.errorf("Verify: not valid")
	}
	in.Message = []byte("another message")
	if _, err := w.admin.Verify(w.ctx, in); w.allow("Verify", err, "KMSInvalidSignatureException") {
		w.errorf("Verify: another message is valid")
	}
}

func (w *worker) mac() {
	key := w.macs[w.IntN(len(w.macs))]
	out, err := w.admin.GenerateMac(w.ctx, &awskms.GenerateMacInput{KeyId: &key, Message: []byte("m"), MacAlgorithm: "HMAC_SHA_256"})
	if !w.allow("GenerateMac", err) {
		return
	}
	valid, err := w.admin.VerifyMac(w.ctx, &awskms.VerifyMacInput{KeyId: &key, Message: []byte("m"), Mac: out.Mac, MacAlgorithm: "HMAC_SHA_256"})
	if w.allow("VerifyMac", err) && !valid.MacValid {
		w.errorf("VerifyMac: not valid")
	}
}

// moveAlias makes, moves and deletes a name that other clients make, move and delete.
func (w *worker) moveAlias() {
	name, from, to := w.alias(), w.any(), w.any()
	_, err := w.admin.CreateAlias(w.ctx, &awskms.CreateAliasInput{AliasName: name, TargetKeyId: &from})
	w.allow("CreateAlias", err, "AlreadyExistsException", "KMSInvalidStateException")
	_, err = w.admin.UpdateAlias(w.ctx, &awskms.UpdateAliasInput{AliasName: name, TargetKeyId: &to})
	w.allow("UpdateAlias", err, "NotFoundException", "KMSInvalidStateException")
	if w.IntN(4) == 0 {
		_, err := w.admin.DeleteAlias(w.ctx, &awskms.DeleteAliasInput{AliasName: name})
		w.allow("DeleteAlias", err, "NotFoundException")
	}
}

// grants lets somebody in whom nothing else lets in, and takes that back.
func (w *worker) grants() {
	text, ok := w.kept("")
	if !ok {
		return
	}
	w.shutOut(text)
	grant, err := w.admin.CreateGrant(w.ctx, &awskms.CreateGrantInput{KeyId: &text.key, GranteePrincipal: &w.granteeName,
		RetiringPrincipal: aws.String(userARN(kms.AdminName)), Operations: []types.GrantOperation{"Decrypt", "RetireGrant"}})
	if !w.allow("CreateGrant", err, unusable...) {
		return
	}
	w.opens(w.grantee, text, unusable...)
	switch w.IntN(4) {
	case 0:
		_, err := w.admin.RevokeGrant(w.ctx, &awskms.RevokeGrantInput{KeyId: &text.key, GrantId: grant.GrantId})
		w.allow("RevokeGrant", err)
	case 1:
		_, err := w.grantee.RetireGrant(w.ctx, &awskms.RetireGrantInput{GrantToken: grant.GrantToken})
		w.allow("RetireGrant", err, "InvalidGrantTokenException")
	case 2:
		_, err := w.admin.RetireGrant(w.ctx, &awskms.RetireGrantInput{KeyId: &text.key, GrantId: grant.GrantId})
		w.allow("RetireGrant", err)
	case 3: // what is listed
		out, err := w.admin.ListGrants(w.ctx, &awskms.ListGrantsInput{KeyId: &text.key, GranteePrincipal: &w.granteeName})
		if !w.allow("ListGrants", err) {
			return
		}
		if len(out.Grants) != 1 || *out.Grants[0].GrantId != *grant.GrantId {
			w.errorf("ListGrants: %d grants of one", len(out.Grants))
			return
		}
		_, err = w.admin.RevokeGrant(w.ctx, &awskms.RevokeGrantInput{KeyId: &text.key, GrantId: out.Grants[0].GrantId})
		w.allow("RevokeGrant", err)
	}
	w.shutOut(text)
}

// shutOut wants the worker's principal to be denied.
func (w *worker) shutOut(text sealedText) {
	_, err := w.grantee.Decrypt(w.ctx, &awskms.DecryptInput{CiphertextBlob: text.blob, EncryptionContext: text.context, KeyId: &text.key})
	if w.allow("Decrypt", err, "AccessDeniedException") {
		w.errorf("Decrypt: somebody without a grant is served")
	}
}

// policy puts a policy that leaves alice in, or out.
func (w *worker) policy() {
	key := w.symmetric[w.IntN(len(w.symmetric))]
	text := adminPolicy
	if w.IntN(2) == 0 {
		text = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"}}`
	}
	_, err := w.admin.PutKeyPolicy(w.ctx, &awskms.PutKeyPolicyInput{KeyId: &key, Policy: &text})
	w.allow("PutKeyPolicy", err)
}

func (w *worker) turnOff() {
	key := w.symmetric[w.IntN(len(w.symmetric))]
	_, err := w.admin.DisableKey(w.ctx, &awskms.DisableKeyInput{KeyId: &key})
	w.allow("DisableKey", err, "KMSInvalidStateException")
	_, err = w.admin.EnableKey(w.ctx, &awskms.EnableKeyInput{KeyId: &key})
	w.allow("EnableKey", err, "KMSInvalidStateException")
}

func (w *worker) schedule() {
	key := w.symmetric[w.IntN(len(w.symmetric))]
	_, err := w.admin.ScheduleKeyDeletion(w.ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: aws.Int32(7)})
	w.allow("ScheduleKeyDeletion", err, "KMSInvalidStateException")
	if w.ageing.Load() {
		return
	}
	_, err = w.admin.CancelKeyDeletion(w.ctx, &awskms.CancelKeyDeletionInput{KeyId: &key})
	w.allow("CancelKeyDeletion", err, "KMSInvalidStateException")
	_, err = w.admin.EnableKey(w.ctx, &awskms.EnableKeyInput{KeyId: &key})
	w.allow("EnableKey", err, "KMSInvalidStateException")
}

func (w *worker) rotate() {
	key := w.any()
	switch w.IntN(4) {
	case 0:
		_, err := w.admin.RotateKeyOnDemand(w.ctx, &awskms.RotateKeyOnDemandInput{KeyId: &key})
		w.allow("RotateKeyOnDemand", err, append(unusable, "LimitExceededException", "ConflictException")...)
	case 1:
		_, err := w.admin.EnableKeyRotation(w.ctx, &awskms.EnableKeyRotationInput{KeyId: &key, RotationPeriodInDays: aws.Int32(90 + w.Int32N(3))})
		w.allow("EnableKeyRotation", err, unusable...)
	case 2:
		_, err := w.admin.DisableKeyRotation(w.ctx, &awskms.DisableKeyRotationInput{KeyId: &key})
		w.allow("DisableKeyRotation", err, unusable...)
	case 3:
		_, err := w.admin.ListKeyRotations(w.ctx, &awskms.ListKeyRotationsInput{KeyId: &key})
		w.allow("ListKeyRotations", err)
	}
}

func (w *worker) tag() {
	key, name := w.any(), fmt.Sprint("tag", w.IntN(5))
	_, err := w.admin.TagResource(w.ctx, &awskms.TagResourceInput{KeyId: &key, Tags: tagged(name, fmt.Sprint(w.IntN(100)))})
	w.allow("TagResource", err, "KMSInvalidStateException")
	_, err = w.admin.UntagResource(w.ctx, &awskms.UntagResourceInput{KeyId: &key, TagKeys: []string{name}})
	w.allow("UntagResource", err, "KMSInvalidStateException")
	_, err = w.admin.ListResourceTags(w.ctx, &awskms.ListResourceTagsInput{KeyId: &key})
	w.allow("ListResourceTags", err)
}

// replica encrypts in one region and decrypts in another.
func (w *worker) replica() {
	from, to := w.admin, w.elsewhere
	if w.IntN(2) == 0 {
		from, to = to, from
	}
	out, err := from.Encrypt(w.ctx, &awskms.EncryptInput{KeyId: &w.multi, Plaintext: []byte("replicated")})
	if !w.allow("Encrypt", err) {
		return
	}
	opened, err := to.Decrypt(w.ctx, &awskms.DecryptInput{CiphertextBlob: out.CiphertextBlob})
	if w.allow("Decrypt", err) && string(opened.Plaintext) != "replicated" {
		w.errorf("Decrypt: another plaintext in the other region")
	}
}

// movePrimary moves the primary key about, and has it rotate and be replicated
// wherever it is.
func (w *worker) movePrimary() {
	client, to := w.admin, secondRegion
	if w.IntN(2) == 0 {
		client, to = w.elsewhere, region
	}
	switch w.IntN(5) {
	case 0:
		_, err := client.RotateKeyOnDemand(w.ctx, &awskms.RotateKeyOnDemandInput{KeyId: &w.multi})
		w.allow("RotateKeyOnDemand", err, "UnsupportedOperationException", "LimitExceededException", "ConflictException")
	case 1:
		_, err := client.ReplicateKey(w.ctx, &awskms.ReplicateKeyInput{KeyId: &w.multi, ReplicaRegion: aws.String(fmt.Sprintf("us-west-%d", 1+w.IntN(9)))})
		w.allow("ReplicateKey", err, "UnsupportedOperationException", "AlreadyExistsException")
	default:
		_, err := client.UpdatePrimaryRegion(w.ctx, &awskms.UpdatePrimaryRegionInput{KeyId: &w.multi, PrimaryRegion: &to})
		w.allow("UpdatePrimaryRegion", err, "UnsupportedOperationException")
	}
}

func (w *worker) list() {
	key := w.any()
	_, err := w.admin.ListKeys(w.ctx, &awskms.ListKeysInput{})
	w.allow("ListKeys", err)
	_, err = w.admin.ListAliases(w.ctx, &awskms.ListAliasesInput{})
	w.allow("ListAliases", err)
	_, err = w.admin.DescribeKey(w.ctx, &awskms.DescribeKeyInput{KeyId: &key})
	w.allow("DescribeKey", err)
	_, err = w.admin.GetKeyPolicy(w.ctx, &awskms.GetKeyPolicyInput{KeyId: &key})
	w.allow("GetKeyPolicy", err)
	_, err = w.admin.GetKeyLastUsage(w.ctx, &awskms.GetKeyLastUsageInput{KeyId: &key})
	w.allow("GetKeyLastUsage", err)
	_, err = w.admin.ListRetirableGrants(w.ctx, &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(userARN(kms.AdminName))})
	w.allow("ListRetirableGrants", err)
}

// comeAndGo adds a principal that may do one thing, and removes it.
func (w *worker) comeAndGo() {
	name := fmt.Sprint("guest-", w.number.Add(1))
	c, err := w.kms.AddPrincipal(w.ctx, kms.Principal{Type: kms.User, Name: name, Policies: []string{randomPolicy}})
	if err != nil {
		w.errorf("AddPrincipal: %v", err)
		return
	}
	client := w.as(c, region)
	in := &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(16)}
	if out, err := client.GenerateRandom(w.ctx, in); w.allow("GenerateRandom", err) && len(out.Plaintext) != 16 {
		w.errorf("GenerateRandom: %d bytes", len(out.Plaintext))
	}
	if _, err := w.kms.RemovePrincipal(w.ctx, name, ""); err != nil {
		w.errorf("RemovePrincipal: %v", err)
	}
	if _, err := client.GenerateRandom(w.ctx, in); w.allow("GenerateRandom", err, "UnrecognizedClientException") {
		w.errorf("a principal that was removed is served")
	}
}

// newKey makes a key that will be deleted with all that belongs to it.
func (w *worker) newKey() {
	if w.IntN(4) > 0 {
		return
	}
	created, err := w.admin.CreateKey(w.ctx, &awskms.CreateKeyInput{Tags: tagged("a", "b")})
	if !w.allow("CreateKey", err) {
		return
	}
	key := created.KeyMetadata.Arn
	_, err = w.admin.CreateAlias(w.ctx, &awskms.CreateAliasInput{AliasName: aws.String(fmt.Sprint("alias/own-", w.number.Add(1))), TargetKeyId: key})
	w.allow("CreateAlias", err)
	_, err = w.admin.CreateGrant(w.ctx, &awskms.CreateGrantInput{KeyId: key, Name: aws.String("g"), GranteePrincipal: &w.granteeName,
		RetiringPrincipal: &w.granteeName, Operations: []types.GrantOperation{"Encrypt"}})
	w.allow("CreateGrant", err)
	_, err = w.admin.ScheduleKeyDeletion(w.ctx, &awskms.ScheduleKeyDeletionInput{KeyId: key, PendingWindowInDays: aws.Int32(7)})
	w.allow("ScheduleKeyDeletion", err)
}

// attestedDecrypt is that of an enclave.
func (w *worker) attestedDecrypt() {
	out, err := w.role.Decrypt(w.ctx, &awskms.DecryptInput{CiphertextBlob: w.soak.sealed, Recipient: recipient(w.document)})
	if !w.allow("Decrypt", err) {
		return
	}
	if content, err := openEnvelope(out.CiphertextForRecipient); err != nil || len(out.Plaintext) > 0 || len(content) == 0 {
		w.errorf("Decrypt for an enclave: %q, %v", content, err)
	}
}
