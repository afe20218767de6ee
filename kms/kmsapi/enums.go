// SPDX-License-Identifier: Apache-2.0

package kmsapi

// enums has the values of the model's enumerations, in the model's order, by the
// name that the tags of the shapes use.
var enums = map[string][]string{
	"AlgorithmSpec": {
		"RSAES_PKCS1_V1_5", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1",
		"RSA_AES_KEY_WRAP_SHA_256", "SM2PKE",
	},
	"ConnectionErrorCodeType": {
		"INVALID_CREDENTIALS", "CLUSTER_NOT_FOUND", "NETWORK_ERRORS", "INTERNAL_ERROR",
		"INSUFFICIENT_CLOUDHSM_HSMS", "USER_LOCKED_OUT", "USER_NOT_FOUND", "USER_LOGGED_IN", "SUBNET_NOT_FOUND",
		"INSUFFICIENT_FREE_ADDRESSES_IN_SUBNET", "XKS_PROXY_ACCESS_DENIED", "XKS_PROXY_NOT_REACHABLE",
		"XKS_VPC_ENDPOINT_SERVICE_NOT_FOUND", "XKS_PROXY_INVALID_RESPONSE", "XKS_PROXY_INVALID_CONFIGURATION",
		"XKS_VPC_ENDPOINT_SERVICE_INVALID_CONFIGURATION", "XKS_PROXY_TIMED_OUT",
		"XKS_PROXY_INVALID_TLS_CONFIGURATION",
	},
	"ConnectionStateType": {
		"CONNECTED", "CONNECTING", "FAILED", "DISCONNECTED", "DISCONNECTING",
	},
	"CustomKeyStoreType": {
		"AWS_CLOUDHSM", "EXTERNAL_KEY_STORE",
	},
	"CustomerMasterKeySpec": {
		"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1",
		"SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2",
	},
	"DataKeyPairSpec": {
		"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1",
		"SM2", "ECC_NIST_EDWARDS25519", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024",
	},
	"DataKeySpec": {
		"AES_256", "AES_128",
	},
	"DryRunModifierType": {
		"IGNORE_CIPHERTEXT",
	},
	"EncapsulationAlgorithmSpec": {
		"ML_KEM",
	},
	"EncryptionAlgorithmSpec": {
		"SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE",
	},
	"ExpirationModelType": {
		"KEY_MATERIAL_EXPIRES", "KEY_MATERIAL_DOES_NOT_EXPIRE",
	},
	"GrantOperation": {
		"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom",
		"ReEncryptTo", "Sign", "Verify", "GetPublicKey", "CreateGrant", "RetireGrant", "DescribeKey",
		"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac",
		"DeriveSharedSecret", "Encapsulate", "Decapsulate",
	},
	"ImportState": {
		"IMPORTED", "PENDING_IMPORT",
	},
	"ImportType": {
		"NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL",
	},
	"IncludeKeyMaterial": {
		"ALL_KEY_MATERIAL", "ROTATIONS_ONLY",
	},
	"KeyAgreementAlgorithmSpec": {
		"ECDH",
	},
	"KeyEncryptionMechanism": {
		"RSAES_OAEP_SHA_256",
	},
	"KeyLastUsageTrackingOperation": {
		"Decrypt", "DeriveSharedSecret", "Encrypt", "GenerateDataKey", "GenerateDataKeyPair",
		"GenerateDataKeyPairWithoutPlaintext", "GenerateDataKeyWithoutPlaintext", "GenerateMac", "ReEncrypt",
		"Sign", "Verify", "VerifyMac", "Encapsulate", "Decapsulate",
	},
	"KeyManagerType": {
		"AWS", "CUSTOMER",
	},
	"KeyMaterialState": {
		"NON_CURRENT", "CURRENT", "PENDING_ROTATION", "PENDING_MULTI_REGION_IMPORT_AND_ROTATION",
	},
	"KeySpec": {
		"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1",
		"SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2", "ML_DSA_44", "ML_DSA_65",
		"ML_DSA_87", "ECC_NIST_EDWARDS25519", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024",
	},
	"KeyState": {
		"Creating", "Enabled", "Disabled", "PendingDeletion", "PendingImport", "PendingReplicaDeletion",
		"Unavailable", "Updating",
	},
	"KeyUsageType": {
		"SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT", "ENCAPSULATE_DECAPSULATE",
	},
	"MacAlgorithmSpec": {
		"HMAC_SHA_224", "HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512",
	},
	"MessageType": {
		"RAW", "DIGEST", "EXTERNAL_MU",
	},
	"MultiRegionKeyType": {
		"PRIMARY", "REPLICA",
	},
	"OriginType": {
		"AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE",
	},
	"RotationType": {
		"AUTOMATIC", "ON_DEMAND",
	},
	"SigningAlgorithmSpec": {
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512", "RSASSA_PKCS1_V1_5_SHA_256",
		"RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512", "ECDSA_SHA_256", "ECDSA_SHA_384",
		"ECDSA_SHA_512", "SM2DSA", "ML_DSA_SHAKE_256", "ED25519_SHA_512", "ED25519_PH_SHA_512",
	},
	"WrappingKeySpec": {
		"RSA_2048", "RSA_3072", "RSA_4096", "SM2",
	},
	"XksProxyConnectivityType": {
		"PUBLIC_ENDPOINT", "VPC_ENDPOINT_SERVICE",
	},
}
