// SPDX-License-Identifier: Apache-2.0

package kmsapi

// Key specs.
const (
	SymmetricDefault        = "SYMMETRIC_DEFAULT" // also the encryption algorithm of such keys
	SpecRSA2048             = "RSA_2048"
	SpecRSA3072             = "RSA_3072"
	SpecRSA4096             = "RSA_4096"
	SpecECCNISTP256         = "ECC_NIST_P256"
	SpecECCNISTP384         = "ECC_NIST_P384"
	SpecECCNISTP521         = "ECC_NIST_P521"
	SpecECCSECGP256K1       = "ECC_SECG_P256K1"
	SpecECCNISTEdwards25519 = "ECC_NIST_EDWARDS25519"
	SpecHMAC224             = "HMAC_224"
	SpecHMAC256             = "HMAC_256"
	SpecHMAC384             = "HMAC_384"
	SpecHMAC512             = "HMAC_512"
	SpecMLDSA44             = "ML_DSA_44"
	SpecMLDSA65             = "ML_DSA_65"
	SpecMLDSA87             = "ML_DSA_87"
	SpecMLKEM512            = "ML_KEM_512"
	SpecMLKEM768            = "ML_KEM_768"
	SpecMLKEM1024           = "ML_KEM_1024"
	SpecSM2                 = "SM2"
	DataKeyAES128           = "AES_128"
	DataKeyAES256           = "AES_256"
)

// Key usages.
const (
	EncryptDecrypt         = "ENCRYPT_DECRYPT"
	SignVerify             = "SIGN_VERIFY"
	GenerateVerifyMAC      = "GENERATE_VERIFY_MAC"
	KeyAgreement           = "KEY_AGREEMENT"
	EncapsulateDecapsulate = "ENCAPSULATE_DECAPSULATE"
)

// Key states.
const (
	StateCreating               = "Creating"
	StateEnabled                = "Enabled"
	StateDisabled               = "Disabled"
	StatePendingDeletion        = "PendingDeletion"
	StatePendingImport          = "PendingImport"
	StatePendingReplicaDeletion = "PendingReplicaDeletion"
	StateUnavailable            = "Unavailable"
	StateUpdating               = "Updating"
)

// Origins of key material, and who manages the key.
const (
	OriginAWSKMS           = "AWS_KMS"
	OriginExternal         = "EXTERNAL"
	OriginAWSCloudHSM      = "AWS_CLOUDHSM"
	OriginExternalKeyStore = "EXTERNAL_KEY_STORE"
	KeyManager             = "CUSTOMER"
)

// Encryption algorithms, beside [SymmetricDefault].
const (
	RSAESOAEPSHA1   = "RSAES_OAEP_SHA_1"
	RSAESOAEPSHA256 = "RSAES_OAEP_SHA_256"
	SM2PKE          = "SM2PKE"
)

// Signing algorithms.
const (
	RSASSAPSSSHA256      = "RSASSA_PSS_SHA_256"
	RSASSAPSSSHA384      = "RSASSA_PSS_SHA_384"
	RSASSAPSSSHA512      = "RSASSA_PSS_SHA_512"
	RSASSAPKCS1V15SHA256 = "RSASSA_PKCS1_V1_5_SHA_256"
	RSASSAPKCS1V15SHA384 = "RSASSA_PKCS1_V1_5_SHA_384"
	RSASSAPKCS1V15SHA512 = "RSASSA_PKCS1_V1_5_SHA_512"
	ECDSASHA256          = "ECDSA_SHA_256"
	ECDSASHA384          = "ECDSA_SHA_384"
	ECDSASHA512          = "ECDSA_SHA_512"
	ED25519SHA512        = "ED25519_SHA_512"
	ED25519PHSHA512      = "ED25519_PH_SHA_512"
	MLDSASHAKE256        = "ML_DSA_SHAKE_256"
	SM2DSA               = "SM2DSA"
)

// Forms of the message to sign.
const (
	MessageRaw        = "RAW"
	MessageDigest     = "DIGEST"
	MessageExternalMu = "EXTERNAL_MU"
)

// MAC algorithms, and those of key agreement and encapsulation.
const (
	HMACSHA224 = "HMAC_SHA_224"
	HMACSHA256 = "HMAC_SHA_256"
	HMACSHA384 = "HMAC_SHA_384"
	HMACSHA512 = "HMAC_SHA_512"
	ECDH       = "ECDH"
	MLKEM      = "ML_KEM"
)

// Wrapping algorithms of an import, beside [RSAESOAEPSHA1] and [RSAESOAEPSHA256].
const (
	RSAESPKCS1V15       = "RSAES_PKCS1_V1_5"
	RSAAESKeyWrapSHA1   = "RSA_AES_KEY_WRAP_SHA_1"
	RSAAESKeyWrapSHA256 = "RSA_AES_KEY_WRAP_SHA_256"
)

// Imported key material.
const (
	KeyMaterialExpires        = "KEY_MATERIAL_EXPIRES"
	KeyMaterialDoesNotExpire  = "KEY_MATERIAL_DOES_NOT_EXPIRE"
	ImportNewKeyMaterial      = "NEW_KEY_MATERIAL"
	ImportExistingKeyMaterial = "EXISTING_KEY_MATERIAL"
	Imported                  = "IMPORTED"
	PendingImport             = "PENDING_IMPORT"
)

// Versions of key material and how they came to be.
const (
	MaterialNonCurrent                          = "NON_CURRENT"
	MaterialCurrent                             = "CURRENT"
	MaterialPendingRotation                     = "PENDING_ROTATION"
	MaterialPendingMultiRegionImportAndRotation = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
	RotationAutomatic                           = "AUTOMATIC"
	RotationOnDemand                            = "ON_DEMAND"
	AllKeyMaterial                              = "ALL_KEY_MATERIAL"
	RotationsOnly                               = "ROTATIONS_ONLY"
)

// Kinds of multi-region keys.
const (
	MultiRegionPrimary = "PRIMARY"
	MultiRegionReplica = "REPLICA"
)

// What else requests name.
const (
	DryRunIgnoreCiphertext = "IGNORE_CIPHERTEXT"
	DefaultPolicy          = "default" // the only name that a policy can have
)

// The two halves of ReEncrypt, which policies and grants name instead of it.
const (
	ReEncryptFrom = "ReEncryptFrom"
	ReEncryptTo   = "ReEncryptTo"
)
