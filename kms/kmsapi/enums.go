// SPDX-License-Identifier: Apache-2.0

package kmsapi

// Values of the enumerations that the service works with.
const (
	SymmetricDefault = "SYMMETRIC_DEFAULT"
	EncryptDecrypt   = "ENCRYPT_DECRYPT"
	OriginAWSKMS     = "AWS_KMS"
	StateEnabled     = "Enabled"
	DataKeyAES128    = "AES_128"
	DataKeyAES256    = "AES_256"
	RSAESOAEPSHA256  = "RSAES_OAEP_SHA_256"
	KeyManager       = "CUSTOMER"
	DefaultPolicy    = "default"
)

var keySpecs = []string{
	"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1",
	"SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2", "ML_DSA_44", "ML_DSA_65",
	"ML_DSA_87", "ECC_NIST_EDWARDS25519",
}

// enums has the values of the model's enumerations by the name that the tags of
// the shapes use.
var enums = map[string][]string{
	"KeySpec":                 keySpecs,
	"CustomerMasterKeySpec":   keySpecs,
	"KeyUsageType":            {"SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"},
	"OriginType":              {"AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"},
	"EncryptionAlgorithmSpec": {"SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2PKE"},
	"DataKeySpec":             {"AES_256", "AES_128"},
	"KeyEncryptionMechanism":  {"RSAES_OAEP_SHA_256"},
	"DryRunModifierType":      {"IGNORE_CIPHERTEXT"},
}
