// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"slices"

	"github.com/cretula/cretula/reason"
)

// A Rule is one check of a document. Its ID never changes its meaning.
type Rule struct {
	// ID is the name of the rule in problems, verdicts and docs/rules.md.
	ID string
	// Reason is the class of a refusal by this rule.
	Reason reason.Reason
	// Sentence says what must hold.
	Sentence string
	// Remedy says what to do about a refusal.
	Remedy string
}

// Rules returns every rule of this package, in the order of the checks.
func Rules() []Rule { return slices.Clone(rules[:]) }

type ruleID uint8

const (
	ruleSize ruleID = iota
	ruleCBOR
	ruleDepth
	ruleLimit
	ruleMinimal
	ruleIndefinite
	ruleDuplicate
	ruleUTF8
	ruleTrailing
	ruleTag
	ruleArray
	ruleProtected
	ruleCrit
	ruleAlgorithm
	ruleUnprotected
	rulePayload
	ruleSignatureLength
	ruleSignatureRange
	ruleSignature
	ruleMap
	ruleModuleID
	ruleDigest
	ruleTimestamp
	ruleRegisters
	ruleKind
	ruleRegisterIndex
	ruleRegisterLength
	ruleRegisterAbsent
	ruleCertificate
	ruleBundle
	rulePublicKey
	ruleUserData
	ruleNonce
	ruleDER
	ruleRoot
	ruleLength
	ruleNames
	ruleKeyIdentifier
	ruleChainSignature
	ruleKey
	ruleChainAlgorithm
	ruleValidity
	ruleCritical
	ruleCAConstraints
	rulePathLength
	ruleCAKeyUsage
	ruleLeafConstraints
	ruleLeafKeyUsage
	ruleLeafTime
	ruleCRLForm
	ruleCRL
	ruleRevoked
	ruleAge
	ruleFuture
	ruleExpectNonce
	ruleExpectEmpty
	ruleExpectClock
	ruleExpectMaxField
	ruleExpectKind
	ruleExpectDebug
	ruleExpectPCR
	ruleExpectUserData
)

const (
	remedyEncoder  = "Have the document made by an NSM or an emulator that encodes as AWS's does; do not re-encode it on the way."
	remedyTransfer = "Transfer the document as the NSM returned it, whole and without additions."
	remedyField    = "Have the document made again; if the NSM is an emulator, mend the field there."
	remedyPKI      = "The certificate is none of AWS's PKI. If it is an emulator's, mend its template."
)

// The order of this table is that of the checks.
var rules = [...]Rule{
	ruleSize: {"doc.size", reason.Malformed, "A document has 1 to 20480 bytes.",
		"Check that the file is an attestation document; genuine ones have about 4.4 to 8 KB."},
	ruleCBOR: {"doc.cbor", reason.Malformed, "Document, protected header and payload are well-formed CBOR (RFC 8949 §5.3.1) and end no earlier than they claim.",
		remedyTransfer},
	ruleDepth: {"doc.cbor.depth", reason.Malformed, "Items nest at most 16 deep, those within a map's key 2 deep.",
		remedyEncoder},
	ruleLimit: {"doc.cbor.entries", reason.Malformed, "A map has at most 64 entries.",
		remedyEncoder},
	ruleMinimal: {"doc.cbor.minimal", reason.Malformed, "Integers, lengths and floating-point numbers have their shortest form (RFC 8949 §4.1).",
		remedyEncoder},
	ruleIndefinite: {"doc.cbor.indefinite", reason.Malformed, "Nothing has indefinite length but the payload's top-level map, which has had it since 2025.",
		remedyEncoder},
	ruleDuplicate: {"doc.cbor.duplicate", reason.Malformed, "No map, at any depth, has a key twice, in whatever encodings (RFC 8949 §5.6).",
		"Refuse the sender: readers differ on which value counts, which is what such a document is made for."},
	ruleUTF8: {"doc.cbor.utf8", reason.Malformed, "Text strings are UTF-8 (RFC 8949 §5.3.1).",
		remedyTransfer},
	ruleTrailing: {"doc.trailing", reason.Malformed, "Nothing follows the COSE array, nor the map within the payload.",
		remedyTransfer},
	ruleTag: {"cose.tag", reason.Malformed, "The COSE array is untagged or has tag 18 once (RFC 9052 §2).",
		"Send the COSE_Sign1 message itself, without other tags around it."},
	ruleArray: {"cose.array", reason.Malformed, "A document is an array of four: protected header, unprotected header, payload, signature (RFC 9052 §4.2).",
		"Check that the file is an attestation document; the CLI takes it raw, in hex or in base64."},
	ruleProtected: {"cose.protected", reason.Malformed, "The protected header is a byte string that holds a map with the algorithm and nothing else.",
		remedyEncoder},
	ruleCrit: {"cose.crit", reason.Malformed, "There is no critical header (RFC 9052 §3.1): none is understood here.",
		remedyEncoder},
	ruleAlgorithm: {"cose.alg", reason.BadSignature, "The algorithm is the integer -35, ES384 (RFC 9053 §2.1).",
		"Refuse the sender: an NSM signs with ES384 only."},
	ruleUnprotected: {"cose.unprotected", reason.Malformed, "The unprotected header is an empty map.",
		"Send nothing along that is not signed."},
	rulePayload: {"cose.payload", reason.Malformed, "The payload is a byte string of 1 to 16384 bytes, not detached.",
		remedyTransfer},
	ruleSignatureLength: {"cose.signature.length", reason.BadSignature, "The signature is a byte string of exactly 96 bytes, r and s (RFC 9053 §2.1).",
		"Send the signature as the NSM made it, neither padded nor in ASN.1."},
	ruleSignatureRange: {"cose.signature.range", reason.BadSignature, "r and s are at least 1 and below the order of P-384.",
		remedyTransfer},
	ruleSignature: {"cose.signature", reason.BadSignature, "The signature over protected header and payload verifies under the leaf certificate's key.",
		"Refuse the document: it was changed, or was not made by the holder of the leaf's key."},
	ruleMap: {"doc.payload", reason.Malformed, "The payload is a map whose keys are text strings.",
		remedyField},
	ruleModuleID: {"doc.module-id", reason.Malformed, "module_id is there and is a text string that is not empty.",
		remedyField},
	ruleDigest: {"doc.digest", reason.Malformed, "digest is there and is the text SHA384.",
		remedyField},
	ruleTimestamp: {"doc.timestamp", reason.Malformed, "timestamp is there and is a positive number of milliseconds since 1970, before the year 10000.",
		remedyField},
	ruleRegisters: {"doc.pcrs", reason.Malformed, "pcrs (or nitrotpm_pcrs) is there and is a map of 1 to 32 (1 to 24) registers.",
		remedyField},
	ruleKind: {"doc.kind", reason.Malformed, "A document has pcrs or nitrotpm_pcrs, not both.",
		remedyField},
	ruleRegisterIndex: {"doc.pcr.index", reason.Malformed, "A register's index is an unsigned integer, at most 31 (NitroTPM: at most 23).",
		remedyField},
	ruleRegisterLength: {"doc.pcr.length", reason.Malformed, "A register's value is a byte string of 48 bytes.",
		remedyField},
	ruleRegisterAbsent: {"doc.pcr.absent", reason.Malformed, "An enclave's document has PCR0, PCR1 and PCR2: an NSM has locked registers 0 to 15 before the enclave starts.",
		"Refuse the document: no NSM makes one without them. If it is an emulator's, mend the registers there."},
	ruleCertificate: {"doc.certificate", reason.Malformed, "certificate is there and is a byte string of 1 to 1024 bytes.",
		remedyField},
	ruleBundle: {"doc.cabundle", reason.Malformed, "cabundle is there and is an array of 1 to 16 byte strings of 1 to 1024 bytes.",
		remedyField},
	rulePublicKey: {"doc.public-key", reason.Malformed, "public_key is absent, null or a byte string of at most 1024 bytes, or what is asked for.",
		"Ask the NSM for a document with a shorter public key; a DER SubjectPublicKeyInfo fits."},
	ruleUserData: {"doc.user-data", reason.Malformed, "user_data is absent, null or a byte string of at most 1024 bytes, or what is asked for.",
		"Put a hash of the data into the document rather than the data."},
	ruleNonce: {"doc.nonce", reason.Malformed, "nonce is absent, null or a byte string of at most 1024 bytes, or what is asked for.",
		"Use a nonce of at most 1024 bytes; 16 to 64 are enough."},
	ruleDER: {"chain.certificate", reason.Malformed, "Each certificate is an X.509 certificate in DER with nothing after it.",
		remedyTransfer},
	ruleRoot: {"chain.root", reason.Untrusted, "The first certificate of cabundle is, byte for byte, a trusted root: by its SHA-256.",
		"If the document is an emulator's, name that emulator's root (--root); else refuse the sender."},
	ruleLength: {"chain.length", reason.Untrusted, "cabundle has four certificates, in the order root, region, zone, instance; the leaf stands apart.",
		"Send cabundle as the NSM made it, neither reordered nor completed."},
	ruleNames: {"chain.name", reason.Untrusted, "Each certificate's issuer is, byte for byte, the subject of the one before it.",
		remedyPKI},
	ruleKeyIdentifier: {"chain.key-id", reason.Untrusted, "Where a certificate names its issuer's key and the issuer names its own, the names are equal (RFC 5280 §4.2.1.1).",
		remedyPKI},
	ruleChainSignature: {"chain.signature", reason.Untrusted, "Each certificate but the root is signed by the one before it.",
		"Refuse the document: the chain does not lead from the trusted root to its key."},
	ruleKey: {"chain.key", reason.Untrusted, "Each certificate has an ECDSA key on P-384.",
		remedyPKI},
	ruleChainAlgorithm: {"chain.algorithm", reason.Untrusted, "Each certificate is signed with ECDSA and SHA-384.",
		remedyPKI},
	ruleValidity: {"chain.validity", reason.Untrusted, "Each certificate, the root included, is valid at the time of the check.",
		"Get a fresh document: leaves live three hours. For an archived one, verify at a named time (--at, --at-document-time)."},
	ruleCritical: {"chain.critical", reason.Untrusted, "No certificate has a critical extension but basic constraints and key usage, nor name constraints of either kind.",
		remedyPKI},
	ruleCAConstraints: {"chain.ca.constraints", reason.Untrusted, "Each certificate of cabundle has critical basic constraints that make it a CA (RFC 5280 §4.2.1.9).",
		remedyPKI},
	rulePathLength: {"chain.ca.path-length", reason.Untrusted, "No more CAs are below a certificate than its path length allows.",
		remedyPKI},
	ruleCAKeyUsage: {"chain.ca.key-usage", reason.Untrusted, "Each certificate of cabundle may sign certificates: key usage keyCertSign.",
		remedyPKI},
	ruleLeafConstraints: {"chain.leaf.constraints", reason.Untrusted, "The leaf has basic constraints that make it no CA, without a path length.",
		remedyPKI},
	ruleLeafKeyUsage: {"chain.leaf.key-usage", reason.Untrusted, "The leaf may sign data, and no certificates: key usage digitalSignature without keyCertSign.",
		remedyPKI},
	ruleLeafTime: {"chain.leaf.timestamp", reason.Untrusted, "The document's timestamp lies within the leaf's validity.",
		"Refuse the document: the NSM makes leaf and timestamp by one clock."},
	ruleCRLForm: {"chain.crl.form", reason.Malformed, "A revocation list that is given is one of RFC 5280 §5, in DER or PEM.",
		"Give the file as it was fetched (--crl)."},
	ruleCRL: {"chain.crl", reason.Untrusted, "Where revocation lists of an issuer are given, one of them is signed by it with ECDSA-SHA384, valid at the time of the check, and without unknown critical extensions.",
		"Fetch the issuer's current list (--crl); its address is in the certificates."},
	ruleRevoked: {"chain.revoked", reason.Untrusted, "No certificate is in a given revocation list that its issuer signed: by serial number.",
		"Refuse the document: its issuer has withdrawn a certificate of the chain."},
	ruleAge: {"doc.age", reason.Stale, "The document is not older than the maximum age, 5 minutes if nothing else is said.",
		"Get a fresh document, or allow a greater age (--max-age)."},
	ruleFuture: {"doc.future", reason.Stale, "The document's time is ahead of the verifier's by no more than the allowed skew, 1 minute if nothing else is said.",
		"Set the verifier's clock."},
	ruleExpectNonce: {"expect.nonce", reason.Stale, "The document's nonce is the expected one.",
		"Have the document made for the challenge at hand; a document of an earlier one is a replay."},
	ruleExpectEmpty: {"expect.empty", reason.Mismatch, "At least one register is expected, or any image is allowed by name.",
		"Give the registers of the image (--pcr, --measurements), or say --any-image: any customer of AWS can make genuine documents."},
	ruleExpectClock: {"expect.clock", reason.Mismatch, "A time of check is given, or the document's own is used, not both.",
		"Choose one of --at and --at-document-time."},
	ruleExpectMaxField: {"expect.max-field", reason.Mismatch, "The greatest length of public_key, user_data and nonce that is asked for is at most 4096.",
		"Choose --max-field from 1 to 4096: an NSM takes no longer request."},
	ruleExpectKind: {"expect.kind", reason.Mismatch, "The document is of the expected kind, an enclave's if nothing else is said.",
		"A NitroTPM document is no evidence of an enclave; if one is wanted, say so (--kind)."},
	ruleExpectDebug: {"expect.debug", reason.Mismatch, "PCR0, PCR1 and PCR2 are not zero, unless debug mode is allowed.",
		"Start the enclave without --debug-mode: in debug mode its console can be read and its image is not measured."},
	ruleExpectPCR: {"expect.pcr", reason.Mismatch, "Each expected register is there and has the expected value.",
		"Compare the image with the one that was measured: PCR1 is kernel and boot ramdisk, PCR2 the application, PCR0 both."},
	ruleExpectUserData: {"expect.user-data", reason.Mismatch, "The document's user data is the expected one.",
		"Check what the enclave put into user_data."},
}
