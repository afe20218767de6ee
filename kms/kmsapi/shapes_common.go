// SPDX-License-Identifier: Apache-2.0

package kmsapi

// RecipientInfo is the proof of an enclave that the answer may be sealed to.
type RecipientInfo struct {
	KeyEncryptionAlgorithm *string `json:",omitempty" kms:"enum=KeyEncryptionMechanism"`
	AttestationDocument    []byte  `json:",omitempty" kms:"len=1..262144"`
}

// Tag is one tag of a key.
type Tag struct {
	TagKey   *string `json:",omitempty" kms:"required,len=1..128"`
	TagValue *string `json:",omitempty" kms:"required,len=0..256"`
}

// KeyMetadata describes a key.
type KeyMetadata struct {
	AWSAccountId                string
	KeyId                       string
	Arn                         string
	CreationDate                Timestamp
	Enabled                     bool
	Description                 string
	KeyUsage                    string
	KeyState                    string
	DeletionDate                *Timestamp `json:",omitempty"`
	ValidTo                     *Timestamp `json:",omitempty"`
	Origin                      string
	CustomKeyStoreId            string `json:",omitempty"`
	CloudHsmClusterId           string `json:",omitempty"`
	ExpirationModel             string `json:",omitempty"`
	KeyManager                  string
	CustomerMasterKeySpec       string `json:",omitempty"`
	KeySpec                     string
	EncryptionAlgorithms        []string `json:",omitempty"`
	SigningAlgorithms           []string `json:",omitempty"`
	KeyAgreementAlgorithms      []string `json:",omitempty"`
	EncapsulationAlgorithms     []string `json:",omitempty"`
	MultiRegion                 bool
	MultiRegionConfiguration    *MultiRegionConfiguration `json:",omitempty"`
	PendingDeletionWindowInDays *int32                    `json:",omitempty"`
	MacAlgorithms               []string                  `json:",omitempty"`
	XksKeyConfiguration         *XksKeyConfiguration      `json:",omitempty"`
	CurrentKeyMaterialId        string                    `json:",omitempty"`
}

// MultiRegionConfiguration tells how the keys of several regions belong together.
type MultiRegionConfiguration struct {
	MultiRegionKeyType string
	PrimaryKey         MultiRegionKey
	ReplicaKeys        List[MultiRegionKey]
}

// MultiRegionKey is one of the keys that belong together.
type MultiRegionKey struct {
	Arn    string
	Region string
}

// XksKeyConfiguration names the key in an external key store.
type XksKeyConfiguration struct {
	Id string
}
