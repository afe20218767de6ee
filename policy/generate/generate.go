// SPDX-License-Identifier: Apache-2.0

// Package generate writes policies that say what attested keys need to say.
package generate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
)

// A Config says for whom a key policy is.
type Config struct {
	// Account is the account of the key, twelve digits. Every principal must be of
	// this account.
	Account string
	// Administrators are ARNs of users or roles that manage the key and may encrypt
	// with it, but never get anything decrypted. They can change the policy.
	Administrators []string
	// EnclaveRoles are the ARNs of the roles that parent instances of the enclaves
	// have; none is an administrator's.
	EnclaveRoles []string
	// Actions are what the enclaves may do, without "kms:": Decrypt,
	// DeriveSharedSecret, GenerateDataKey, GenerateDataKeyPair, which are those that
	// take a document and look at key policies. None are Decrypt and GenerateDataKey.
	Actions []string
	// Images are those that may use the key.
	Images []Image
}

// An Image is what the document of an enclave must have.
type Image struct {
	// Registers has for each register the values of which a document must have one,
	// none for a register that counts for nothing. PCR0 has one at least, and no
	// register has zero: those of a debug enclave are.
	Registers [pcr.Count][]pcr.Digest
	// Required are registers that must be there, with any value.
	Required []pcr.Index
	// NotBefore and NotAfter are when requests are allowed, to the second and both
	// included; zero: always.
	NotBefore, NotAfter time.Time
}

// Exactly returns the image of which every register in the set must match.
func Exactly(registers pcr.Set) (im Image) {
	for i, d := range registers.All() {
		im.Registers[i] = []pcr.Digest{d}
	}
	return im
}

// Errors of [KeyPolicy].
var (
	// ErrPrincipal is matched for a principal that is no user or role of the account,
	// or is administrator and enclave's role at once.
	ErrPrincipal = errors.New("generate: no principal for this key policy")
	// ErrAction is matched for an action that is not of Config.Actions, or is there
	// twice.
	ErrAction = errors.New("generate: no action for this key policy")
)

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

// attestable is what an enclave can be allowed to do. GenerateRandom takes a
// document too, but no key policy is asked about it.
var attestable = []string{"Decrypt", "DeriveSharedSecret", "GenerateDataKey", "GenerateDataKeyPair"}

// attested is what it may do if nothing is said.
var attested = []string{"Decrypt", "GenerateDataKey"}

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
	timeKey        = "aws:CurrentTime"
)

type statement struct {
	Sid       string
	Effect    policy.Effect
	Principal any
	Action    []string
	Resource  string
	Condition conditions `json:",omitempty"`
}

type awsPrincipal struct {
	AWS []string
}

// KeyPolicy returns a key policy as indented JSON, the same for the same Config:
// the enclaves' roles may do what Actions says out of the given images, each of
// which has a statement of its own, so that registers of two do not make a third;
// all that gives out plaintext is denied to everyone without a document or with one
// of another image; administrators manage the key and encrypt with it; nothing is
// delegated to the account. The statement of Images[i] has the Sid [EnclaveSid](i).
//
// Source: AWS Nitro Enclaves User Guide, "Using cryptographic attestation with
// AWS KMS"; AWS KMS Developer Guide, "Condition keys for Nitro Enclaves".
func KeyPolicy(c Config) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	var actions []string
	for _, action := range c.actions() {
		actions = append(actions, "kms:"+action)
	}
	var images []string
	statements := []statement{{
		Sid: SidAdministrator, Effect: policy.Allow, Principal: awsPrincipal{c.Administrators}, Action: administration,
	}}
	for i, image := range c.Images {
		for _, d := range image.Registers[0] {
			if !slices.Contains(images, d.String()) {
				images = append(images, d.String())
			}
		}
		statements = append(statements, statement{
			Sid: EnclaveSid(i), Effect: policy.Allow, Principal: awsPrincipal{c.EnclaveRoles}, Action: actions,
			Condition: image.condition(),
		})
	}
	statements = append(statements,
		statement{
			Sid: SidOtherImage, Effect: policy.Deny, Principal: "*", Action: guarded,
			Condition: conditions{"StringNotEqualsIgnoreCase": {imageKey: images}},
		},
		statement{
			Sid: SidNoAttestation, Effect: policy.Deny, Principal: "*", Action: guarded,
			Condition: conditions{"Null": {imageKey: "true"}},
		})
	for i := range statements {
		statements[i].Resource = "*"
	}
	return write(statements)
}

// EnclaveSid is the Sid of the statement for the image with this index.
func EnclaveSid(i int) string {
	if i == 0 {
		return SidEnclave
	}
	return fmt.Sprintf("%s%d", SidEnclave, i+1)
}

// conditions are operators, condition keys, and a value or several of them.
type conditions map[string]map[string]any

func (im *Image) condition() conditions {
	c := conditions{}
	put := func(operator, key string, value any) {
		if c[operator] == nil {
			c[operator] = map[string]any{}
		}
		c[operator][key] = value
	}
	for i, digests := range im.Registers {
		switch key := conditionKey(pcr.Index(i)); {
		case len(digests) == 1:
			put("StringEqualsIgnoreCase", key, digests[0].String())
		case len(digests) > 1:
			put("StringEqualsIgnoreCase", key, digests)
		}
	}
	for _, i := range im.Required {
		put("Null", conditionKey(i), "false")
	}
	if !im.NotBefore.IsZero() {
		put("DateGreaterThanEquals", timeKey, im.NotBefore.UTC().Format(time.RFC3339))
	}
	if !im.NotAfter.IsZero() {
		put("DateLessThanEquals", timeKey, im.NotAfter.UTC().Format(time.RFC3339))
	}
	return c
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

func (c *Config) actions() []string {
	if len(c.Actions) == 0 {
		return attested
	}
	return c.Actions
}

func (c *Config) check() error {
	if len(c.Administrators) == 0 || len(c.EnclaveRoles) == 0 || len(c.Images) == 0 {
		return errors.New("generate: a key policy needs an administrator, a role and an image")
	}
	for _, arn := range c.Administrators {
		if err := c.checkPrincipal(arn, "user/", "role/"); err != nil {
			return err
		}
	}
	for _, arn := range c.EnclaveRoles {
		if err := c.checkPrincipal(arn, "role/"); err != nil {
			return err
		}
		// The parent instance has the role outside of the enclave, too.
		if slices.Contains(c.Administrators, arn) {
			return fmt.Errorf("%w: %q would be an enclave's role and an administrator, who can change the policy", ErrPrincipal, arn)
		}
	}
	for i, action := range c.Actions {
		if !slices.Contains(attestable, action) || slices.Contains(c.Actions[:i], action) {
			return fmt.Errorf("%w: %q; want each once of %s", ErrAction, action, strings.Join(attestable, ", "))
		}
	}
	for i := range c.Images {
		if err := c.Images[i].check(); err != nil {
			return err
		}
	}
	return nil
}

func (im *Image) check() error {
	if len(im.Registers[0]) == 0 {
		return errors.New("generate: an image without PCR0: its other registers do not say what it is")
	}
	for i, digests := range im.Registers {
		if slices.Contains(digests, pcr.Digest{}) {
			return fmt.Errorf("generate: %v is zero: such a policy lets debug enclaves in, or any that has nothing in it", pcr.Index(i))
		}
	}
	return nil
}

// checkPrincipal refuses what is not a user or role of the account. The account
// itself would delegate to whoever writes identity policies.
func (c *Config) checkPrincipal(arn string, forms ...string) error {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) == 6 && parts[0] == "arn" && parts[2] == "iam" && parts[4] == c.Account {
		for _, form := range forms {
			if strings.HasPrefix(parts[5], form) && !strings.ContainsAny(parts[5], "*?") {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: %q is no %s of account %s", ErrPrincipal, arn, strings.ReplaceAll(strings.Join(forms, " or "), "/", ""), c.Account)
}
