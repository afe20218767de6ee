// SPDX-License-Identifier: Apache-2.0

package kmsapi

// EnableKeyRotationInput is the input of EnableKeyRotation.
type EnableKeyRotationInput struct {
	KeyId                *string `json:",omitempty" kms:"required,len=1..2048"`
	RotationPeriodInDays *int32  `json:",omitempty" kms:"range=90..2560"`
}

// EnableKeyRotationOutput is the output of EnableKeyRotation, which has no members.
type EnableKeyRotationOutput struct{}

// DisableKeyRotationInput is the input of DisableKeyRotation.
type DisableKeyRotationInput struct {
	KeyId *string `json:",omitempty" kms:"required,len=1..2048"`
}

// DisableKeyRotationOutput is the output of DisableKeyRotation, which has no members.
type DisableKeyRotationOutput struct{}

// GetKeyRotationStatusInput is the input of GetKeyRotationStatus.
type GetKeyRotationStatusInput struct {
	KeyId *string `json:",omitempty" kms:"required,len=1..2048"`
}

// GetKeyRotationStatusOutput is the output of GetKeyRotationStatus.
type GetKeyRotationStatusOutput struct {
	KeyRotationEnabled        bool
	KeyId                     string
	RotationPeriodInDays      *int32     `json:",omitempty"`
	NextRotationDate          *Timestamp `json:",omitempty"`
	OnDemandRotationStartDate *Timestamp `json:",omitempty"`
}

// RotateKeyOnDemandInput is the input of RotateKeyOnDemand.
type RotateKeyOnDemandInput struct {
	KeyId *string `json:",omitempty" kms:"required,len=1..2048"`
}

// RotateKeyOnDemandOutput is the output of RotateKeyOnDemand.
type RotateKeyOnDemandOutput struct {
	KeyId string
}

// ListKeyRotationsInput is the input of ListKeyRotations.
type ListKeyRotationsInput struct {
	KeyId              *string `json:",omitempty" kms:"required,len=1..2048"`
	IncludeKeyMaterial *string `json:",omitempty" kms:"enum=IncludeKeyMaterial"`
	Limit              *int32  `json:",omitempty" kms:"range=1..1000"`
	Marker             *string `json:",omitempty" kms:"len=1..1024,pattern=Marker"`
}

// ListKeyRotationsOutput is the output of ListKeyRotations.
type ListKeyRotationsOutput struct {
	Rotations  List[RotationsListEntry]
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// RotationsListEntry is one version of the material in the output of ListKeyRotations.
type RotationsListEntry struct {
	KeyId                  string
	KeyMaterialId          string     `json:",omitempty"`
	KeyMaterialDescription string     `json:",omitempty"`
	ImportState            string     `json:",omitempty"`
	KeyMaterialState       string     `json:",omitempty"`
	ExpirationModel        string     `json:",omitempty"`
	ValidTo                *Timestamp `json:",omitempty"`
	RotationDate           *Timestamp `json:",omitempty"`
	RotationType           string     `json:",omitempty"`
}

// GetParametersForImportInput is the input of GetParametersForImport.
type GetParametersForImportInput struct {
	KeyId             *string `json:",omitempty" kms:"required,len=1..2048"`
	WrappingAlgorithm *string `json:",omitempty" kms:"required,enum=AlgorithmSpec"`
	WrappingKeySpec   *string `json:",omitempty" kms:"required,enum=WrappingKeySpec"`
}

// GetParametersForImportOutput is the output of GetParametersForImport.
type GetParametersForImportOutput struct {
	KeyId             string
	ImportToken       []byte
	PublicKey         []byte
	ParametersValidTo Timestamp
}

// ImportKeyMaterialInput is the input of ImportKeyMaterial.
type ImportKeyMaterialInput struct {
	KeyId                  *string    `json:",omitempty" kms:"required,len=1..2048"`
	ImportToken            []byte     `json:",omitempty" kms:"required,len=1..6144"`
	EncryptedKeyMaterial   []byte     `json:",omitempty" kms:"required,len=1..6144"`
	ValidTo                *Timestamp `json:",omitempty"`
	ExpirationModel        *string    `json:",omitempty" kms:"enum=ExpirationModelType"`
	ImportType             *string    `json:",omitempty" kms:"enum=ImportType"`
	KeyMaterialDescription *string    `json:",omitempty" kms:"len=0..256,pattern=KeyMaterialDescription"`
	KeyMaterialId          *string    `json:",omitempty" kms:"len=64..64,pattern=KeyMaterialId"`
}

// ImportKeyMaterialOutput is the output of ImportKeyMaterial.
type ImportKeyMaterialOutput struct {
	KeyId         string
	KeyMaterialId string `json:",omitempty"`
}

// DeleteImportedKeyMaterialInput is the input of DeleteImportedKeyMaterial.
type DeleteImportedKeyMaterialInput struct {
	KeyId         *string `json:",omitempty" kms:"required,len=1..2048"`
	KeyMaterialId *string `json:",omitempty" kms:"len=64..64,pattern=KeyMaterialId"`
}

// DeleteImportedKeyMaterialOutput is the output of DeleteImportedKeyMaterial.
type DeleteImportedKeyMaterialOutput struct {
	KeyId         string
	KeyMaterialId string `json:",omitempty"`
}

// ReplicateKeyInput is the input of ReplicateKey.
type ReplicateKeyInput struct {
	KeyId                          *string `json:",omitempty" kms:"required,len=1..2048"`
	ReplicaRegion                  *string `json:",omitempty" kms:"required,len=1..32,pattern=Region"`
	Policy                         *string `json:",omitempty" kms:"len=1..131072,pattern=Policy"`
	BypassPolicyLockoutSafetyCheck *bool   `json:",omitempty"`
	Description                    *string `json:",omitempty" kms:"len=0..8192"`
	Tags                           []Tag   `json:",omitempty"`
}

// ReplicateKeyOutput is the output of ReplicateKey.
type ReplicateKeyOutput struct {
	ReplicaKeyMetadata KeyMetadata
	ReplicaPolicy      string
	ReplicaTags        List[Tag]
}

// UpdatePrimaryRegionInput is the input of UpdatePrimaryRegion.
type UpdatePrimaryRegionInput struct {
	KeyId         *string `json:",omitempty" kms:"required,len=1..2048"`
	PrimaryRegion *string `json:",omitempty" kms:"required,len=1..32,pattern=Region"`
}

// UpdatePrimaryRegionOutput is the output of UpdatePrimaryRegion, which has no members.
type UpdatePrimaryRegionOutput struct{}
