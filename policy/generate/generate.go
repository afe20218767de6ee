// SPDX-License-Identifier: Apache-2.0

// Package generate writes policies that say what attested keys need to say.
package generate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
)

// A Config says for whom a key policy is.
type Config struct {
	// Account is the account of the key, twelve digits. Every principal must be of
	// this account.
	Account string
	// Administrators are ARNs of users or roles that manage the key and may encrypt
	// with it, but never get anything decrypted.
	Administrators []string
	// EnclaveRole is the ARN of the role that the enclave's parent instance has.
	EnclaveRole string
	// Images are the registers of the images that may use the key. Each must have
	// PCR0, and no register of a debug enclave; every register in it must match.
	Images []pcr.Set
}

// Sids of the statements that KeyPolicy writes.
const (
	SidAdministrator = "AdministratorManagesAndSeals"
	SidEnclave       = "EnclaveMayDecrypt"
	SidNoAttestation = "NoKeyWithoutAttestation"
	SidOtherImage    = "NoKeyWithoutThisImage"
)

// administration is what an administrator may do. There is no Decrypt,
// GenerateDataKey, ReEncrypt or CreateGrant in it. PutKeyPolicy is: whoever has
// it can change all this.
var administration = []string{
	"kms:CancelKeyDeletion", "kms:CreateAlias", "kms:DeleteAlias", "kms:DescribeKey",
	"kms:DisableKey", "kms:DisableKeyRotation", "kms:EnableKey", "kms:EnableKeyRotation",
	"kms:Encrypt", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListGrants",
	"kms:ListKeyPolicies", "kms:ListKeyRotations", "kms:ListResourceTags", "kms:PutKeyPolicy",
	"kms:RevokeGrant", "kms:RotateKeyOnDemand", "kms:ScheduleKeyDeletion", "kms:TagResource",
	"kms:UntagResource", "kms:UpdateAlias", "kms:UpdateKeyDescription",
}

// attested is what the enclave may do.
var attested = []string{"kms:Decrypt", "kms:GenerateDataKey"}

// guarded is what the image guards: all that gives out plaintext of this key or
// the right to it. ReEncrypt and grants cannot be attested, so they are denied to
// everyone.
var guarded = []string{
	"kms:CreateGrant", "kms:Decrypt", "kms:DeriveSharedSecret", "kms:GenerateDataKey",
	"kms:GenerateDataKeyPair", "kms:ReEncryptFrom",
}

const (
	attestationKey = "kms:RecipientAttestation:"
	imageKey       = attestationKey + "ImageSha384"
)

type statement struct {
	Sid       string
	Effect    policy.Effect
	Principal any
	Action    []string
	Resource  string
	Condition map[string]map[string]any `json:",omitempty"`
}

type awsPrincipal struct {
	AWS []string
}

// KeyPolicy returns a key policy as indented JSON, the same for the same Config:
// the enclave's role may Decrypt and GenerateDataKey out of the given images; all
// that gives out plaintext is denied to everyone without a document or with one
// of another image; administrators manage the key and encrypt with it; nothing is
// delegated to the account.
//
// Source: AWS Nitro Enclaves User Guide, "Using cryptographic attestation with
// AWS KMS"; AWS KMS Developer Guide, "Condition keys for Nitro Enclaves".
func KeyPolicy(c Config) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	var images []string
	statements := []statement{{
		Sid: SidAdministrator, Effect: policy.Allow, Principal: awsPrincipal{c.Administrators}, Action: administration,
	}}
	for i, image := range c.Images {
		sid := SidEnclave
		if i > 0 {
			sid = fmt.Sprintf("%s%d", SidEnclave, i+1)
		}
		registers := map[string]any{}
		for index, digest := range image.All() {
			registers[conditionKey(index)] = digest.String()
		}
		d, _ := image.Get(0)
		images = append(images, d.String())
		statements = append(statements, statement{
			Sid: sid, Effect: policy.Allow, Principal: awsPrincipal{[]string{c.EnclaveRole}}, Action: attested,
			Condition: map[string]map[string]any{"StringEqualsIgnoreCase": registers},
		})
	}
	statements = append(statements,
		statement{
			Sid: SidOtherImage, Effect: policy.Deny, Principal: "*", Action: guarded,
			Condition: map[string]map[string]any{"StringNotEqualsIgnoreCase": {imageKey: images}},
		},
		statement{
			Sid: SidNoAttestation, Effect: policy.Deny, Principal: "*", Action: guarded,
			Condition: map[string]map[string]any{"Null": {imageKey: "true"}},
		})
	for i := range statements {
		statements[i].Resource = "*"
	}
	return write(statements)
}

func write(statements []statement) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(struct {
		Version   string
		Statement []statement
	}{policy.Version2012, statements}); err != nil {
		return nil, err
	}
	if _, err := policy.Parse(b.Bytes(), policy.KindKey); err != nil {
		return nil, fmt.Errorf("generate: %w", err)
	}
	return b.Bytes(), nil
}

func conditionKey(i pcr.Index) string {
	if i == 0 {
		return imageKey
	}
	return attestationKey + i.String()
}

func (c *Config) check() error {
	if len(c.Administrators) == 0 || len(c.Images) == 0 {
		return errors.New("generate: a key policy needs an administrator and an image")
	}
	for _, arn := range c.Administrators {
		if err := c.checkPrincipal(arn, "user/", "role/"); err != nil {
			return err
		}
	}
	if err := c.checkPrincipal(c.EnclaveRole, "role/"); err != nil {
		return err
	}
	for _, image := range c.Images {
		if _, ok := image.Get(0); !ok {
			return errors.New("generate: an image without PCR0: its other registers do not say what it is")
		}
		if image.Debug() {
			return errors.New("generate: a register is zero: such a policy lets every debug enclave in")
		}
	}
	return nil
}

// checkPrincipal refuses what is not a user or role of the account. The account
// itself would delegate to whoever writes identity policies.
func (c *Config) checkPrincipal(arn string, forms ...string) error {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) == 6 && parts[2] == "iam" && parts[4] == c.Account {
		for _, form := range forms {
			if strings.HasPrefix(parts[5], form) {
				return nil
			}
		}
	}
	return fmt.Errorf("generate: %q is no %s of account %s", arn, strings.ReplaceAll(strings.Join(forms, " or "), "/", ""), c.Account)
}
