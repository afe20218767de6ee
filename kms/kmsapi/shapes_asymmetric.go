// SPDX-License-Identifier: Apache-2.0

package kmsapi

// SignInput is the input of Sign.
type SignInput struct {
	KeyId            *string        `json:",omitempty" kms:"required,len=1..2048"`
	Message          []byte         `json:",omitempty" kms:"required,len=1..4096"`
	MessageType      *string        `json:",omitempty" kms:"enum=MessageType"`
	GrantTokens      []string       `json:",omitempty" kms:"len=0..10,items=1..8192"`
	SigningAlgorithm *string        `json:",omitempty" kms:"required,enum=SigningAlgorithmSpec"`
	DryRun           *bool          `json:",omitempty"`
	Recipient        *RecipientInfo `json:",omitempty"` // an extension: see [Operation.Extension]
}

// SignOutput is the output of Sign.
type SignOutput struct {
	KeyId            string
	Signature        []byte
	SigningAlgorithm string
}

// VerifyInput is the input of Verify.
type VerifyInput struct {
	KeyId            *string  `json:",omitempty" kms:"required,len=1..2048"`
	Message          []byte   `json:",omitempty" kms:"required,len=1..4096"`
	MessageType      *string  `json:",omitempty" kms:"enum=MessageType"`
	Signature        []byte   `json:",omitempty" kms:"required,len=1..6144"`
	SigningAlgorithm *string  `json:",omitempty" kms:"required,enum=SigningAlgorithmSpec"`
	GrantTokens      []string `json:",omitempty" kms:"len=0..10,items=1..8192"`
	DryRun           *bool    `json:",omitempty"`
}

// VerifyOutput is the output of Verify.
type VerifyOutput struct {
	KeyId            string
	SignatureValid   bool
	SigningAlgorithm string
}

// GenerateMacInput is the input of GenerateMac.
type GenerateMacInput struct {
	Message      []byte         `json:",omitempty" kms:"required,len=1..4096"`
	KeyId        *string        `json:",omitempty" kms:"required,len=1..2048"`
	MacAlgorithm *string        `json:",omitempty" kms:"required,enum=MacAlgorithmSpec"`
	GrantTokens  []string       `json:",omitempty" kms:"len=0..10,items=1..8192"`
	DryRun       *bool          `json:",omitempty"`
	Recipient    *RecipientInfo `json:",omitempty"` // an extension: see [Operation.Extension]
}

// GenerateMacOutput is the output of GenerateMac.
type GenerateMacOutput struct {
	Mac          []byte
	MacAlgorithm string
	KeyId        string
}

// VerifyMacInput is the input of VerifyMac.
type VerifyMacInput struct {
	Message      []byte   `json:",omitempty" kms:"required,len=1..4096"`
	KeyId        *string  `json:",omitempty" kms:"required,len=1..2048"`
	MacAlgorithm *string  `json:",omitempty" kms:"required,enum=MacAlgorithmSpec"`
	Mac          []byte   `json:",omitempty" kms:"required,len=1..6144"`
	GrantTokens  []string `json:",omitempty" kms:"len=0..10,items=1..8192"`
	DryRun       *bool    `json:",omitempty"`
}

// VerifyMacOutput is the output of VerifyMac.
type VerifyMacOutput struct {
	KeyId        string
	MacValid     bool
	MacAlgorithm string
}

// GetPublicKeyInput is the input of GetPublicKey.
type GetPublicKeyInput struct {
	KeyId       *string  `json:",omitempty" kms:"required,len=1..2048"`
	GrantTokens []string `json:",omitempty" kms:"len=0..10,items=1..8192"`
}

// GetPublicKeyOutput is the output of GetPublicKey.
type GetPublicKeyOutput struct {
	KeyId                   string
	PublicKey               []byte
	CustomerMasterKeySpec   string `json:",omitempty"`
	KeySpec                 string
	KeyUsage                string
	EncryptionAlgorithms    []string `json:",omitempty"`
	SigningAlgorithms       []string `json:",omitempty"`
	KeyAgreementAlgorithms  []string `json:",omitempty"`
	EncapsulationAlgorithms []string `json:",omitempty"`
}

// DeriveSharedSecretInput is the input of DeriveSharedSecret.
type DeriveSharedSecretInput struct {
	KeyId                 *string        `json:",omitempty" kms:"required,len=1..2048"`
	KeyAgreementAlgorithm *string        `json:",omitempty" kms:"required,enum=KeyAgreementAlgorithmSpec"`
	PublicKey             []byte         `json:",omitempty" kms:"required,len=1..8192"`
	GrantTokens           []string       `json:",omitempty" kms:"len=0..10,items=1..8192"`
	DryRun                *bool          `json:",omitempty"`
	Recipient             *RecipientInfo `json:",omitempty"`
}

// DeriveSharedSecretOutput is the output of DeriveSharedSecret. With a Recipient,
// CiphertextForRecipient takes the place of SharedSecret.
type DeriveSharedSecretOutput struct {
	KeyId                  string
	SharedSecret           []byte `json:",omitempty"`
	CiphertextForRecipient []byte `json:",omitempty"`
	KeyAgreementAlgorithm  string
	KeyOrigin              string
}

// EncapsulateInput is the input of Encapsulate.
type EncapsulateInput struct {
	KeyId                  *string  `json:",omitempty" kms:"required,len=1..2048"`
	EncapsulationAlgorithm *string  `json:",omitempty" kms:"required,enum=EncapsulationAlgorithmSpec"`
	GrantTokens            []string `json:",omitempty" kms:"len=0..10,items=1..8192"`
	DryRun                 *bool    `json:",omitempty"`
}

// EncapsulateOutput is the output of Encapsulate.
type EncapsulateOutput struct {
	KeyId                      string
	SharedSecret               []byte `json:",omitempty"`
	SharedSecretCiphertextBlob []byte
	EncapsulationAlgorithm     string
}

// DecapsulateInput is the input of Decapsulate.
type DecapsulateInput struct {
	KeyId                      *string  `json:",omitempty" kms:"required,len=1..2048"`
	SharedSecretCiphertextBlob []byte   `json:",omitempty" kms:"required,len=1..6144"`
	EncapsulationAlgorithm     *string  `json:",omitempty" kms:"required,enum=EncapsulationAlgorithmSpec"`
	GrantTokens                []string `json:",omitempty" kms:"len=0..10,items=1..8192"`
	DryRun                     *bool    `json:",omitempty"`
}

// DecapsulateOutput is the output of Decapsulate.
type DecapsulateOutput struct {
	KeyId                  string
	SharedSecret           []byte `json:",omitempty"`
	EncapsulationAlgorithm string
}
