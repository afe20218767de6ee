// SPDX-License-Identifier: Apache-2.0

// Key pairs and HMAC keys, checked by node's own cryptography.
import { constants, createHash, createPublicKey, diffieHellman, generateKeyPairSync, publicEncrypt, verify } from "node:crypto";
import { answered, assert, bytes, newKey, refused } from "./harness.mjs";

const message = Buffer.from("a message from node");
const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
const pkcs1 = { padding: constants.RSA_PKCS1_PADDING };

// How node checks a signature of each algorithm: the digest, null where the
// algorithm takes the message whole, and what goes with the key. The others node
// does not know in every version of it: Verify alone checks them.
const algorithms = {
  RSASSA_PSS_SHA_256: ["sha256", pss],
  RSASSA_PSS_SHA_384: ["sha384", pss],
  RSASSA_PSS_SHA_512: ["sha512", pss],
  RSASSA_PKCS1_V1_5_SHA_256: ["sha256", pkcs1],
  RSASSA_PKCS1_V1_5_SHA_384: ["sha384", pkcs1],
  RSASSA_PKCS1_V1_5_SHA_512: ["sha512", pkcs1],
  ECDSA_SHA_256: ["sha256"],
  ECDSA_SHA_384: ["sha384"],
  ECDSA_SHA_512: ["sha512"],
  ED25519_SHA_512: [null],
};
const unknownToNode = { ED25519_PH_SHA_512: "sha512", ML_DSA_SHAKE_256: null };

const signing = ["RSA_2048", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "ML_DSA_44"];

export default async function asymmetric() {
  const seen = new Set();
  for (const KeySpec of signing) {
    const key = await newKey({ KeySpec, KeyUsage: "SIGN_VERIFY" });
    const { PublicKey } = await publicKeyOf(key, "SigningAlgorithms");
    for (const algorithm of key.SigningAlgorithms) {
      await signatures(key.Arn, PublicKey, algorithm);
      seen.add(algorithm);
    }
  }
  const all = [...Object.keys(algorithms), ...Object.keys(unknownToNode)];
  assert.deepEqual([...seen].sort(), all.sort(), "signing algorithms");
  await wrongSignatures();
  await encryption();
  for (const [KeySpec, namedCurve] of [["ECC_NIST_P256", "P-256"], ["ECC_NIST_P384", "P-384"], ["ECC_NIST_P521", "P-521"]]) {
    await agreement(KeySpec, namedCurve);
  }
}

// publicKeyOf returns the answer of GetPublicKey, which must say what the metadata
// says.
async function publicKeyOf(key, member) {
  const answer = await answered("GetPublicKey", { KeyId: key.Arn }, `CustomerMasterKeySpec KeyId KeySpec KeyUsage PublicKey ${member}`);
  for (const same of ["KeySpec", "CustomerMasterKeySpec", "KeyUsage", member]) assert.deepEqual(answer[same], key[same], same);
  return answer;
}

const spki = (der) => createPublicKey({ key: bytes(der), format: "der", type: "spki" });

async function signatures(KeyId, PublicKey, SigningAlgorithm) {
  const [digest, options] = algorithms[SigningAlgorithm] ?? [unknownToNode[SigningAlgorithm]];
  const forms = [];
  if (SigningAlgorithm !== "ED25519_PH_SHA_512") forms.push({ Message: message, MessageType: "RAW" });
  if (digest) forms.push({ Message: createHash(digest).update(message).digest(), MessageType: "DIGEST" });
  for (const form of forms) {
    const input = { KeyId, SigningAlgorithm, ...form };
    const signed = await answered("Sign", input, "KeyId Signature SigningAlgorithm");
    assert.deepEqual([signed.KeyId, signed.SigningAlgorithm], [KeyId, SigningAlgorithm]);
    const { Signature } = signed;
    if (algorithms[SigningAlgorithm]) {
      const key = spki(PublicKey);
      assert.ok(verify(digest, message, { key, ...options }, Signature), `node refuses ${SigningAlgorithm} of ${form.MessageType}`);
    }
    const checked = await answered("Verify", { ...input, Signature }, "KeyId SignatureValid SigningAlgorithm");
    assert.deepEqual([checked.SignatureValid, checked.KeyId, checked.SigningAlgorithm], [true, KeyId, SigningAlgorithm]);
    const changed = bytes(Signature);
    changed[changed.length - 1] ^= 1;
    await refused("Verify", { ...input, Signature: changed }, "KMSInvalidSignatureException");
  }
}

async function wrongSignatures() {
  const symmetric = await newKey();
  const input = { Message: message, SigningAlgorithm: "ECDSA_SHA_256" };
  await refused("Sign", { ...input, KeyId: symmetric.Arn }, "InvalidKeyUsageException", "key usage is ENCRYPT_DECRYPT which is not valid for Sign.");
  await refused("GetPublicKey", { KeyId: symmetric.Arn }, "UnsupportedOperationException");
  const { Arn: KeyId } = await newKey({ KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY" });
  await refused("Sign", { ...input, KeyId, MessageType: "DIGEST" }, "ValidationException", "Digest is invalid length");
  await refused("Sign", { ...input, KeyId, SigningAlgorithm: "ECDSA_SHA_512" }, "InvalidKeyUsageException", "incompatible with key spec");
  await refused("Verify", { ...input, KeyId: symmetric.Arn, Signature: message }, "InvalidKeyUsageException");
  await refused("Encrypt", { KeyId, Plaintext: message }, "InvalidKeyUsageException");
}

// encryption has the service open what node encrypts with the public key, and its
// own.
async function encryption() {
  const key = await newKey({ KeySpec: "RSA_2048", KeyUsage: "ENCRYPT_DECRYPT" });
  const { PublicKey } = await publicKeyOf(key, "EncryptionAlgorithms");
  for (const [EncryptionAlgorithm, oaepHash] of [["RSAES_OAEP_SHA_1", "sha1"], ["RSAES_OAEP_SHA_256", "sha256"]]) {
    const ours = publicEncrypt({ key: spki(PublicKey), oaepHash, padding: constants.RSA_PKCS1_OAEP_PADDING }, message);
    const theirs = await answered("Encrypt", { KeyId: key.Arn, Plaintext: message, EncryptionAlgorithm }, "CiphertextBlob EncryptionAlgorithm KeyId");
    for (const CiphertextBlob of [ours, theirs.CiphertextBlob]) {
      const input = { KeyId: key.Arn, CiphertextBlob, EncryptionAlgorithm };
      const opened = await answered("Decrypt", input, "EncryptionAlgorithm KeyId Plaintext");
      assert.deepEqual(bytes(opened.Plaintext), message);
      assert.equal(opened.EncryptionAlgorithm, EncryptionAlgorithm);
    }
    const changed = Buffer.from(ours);
    changed[9] ^= 1;
    await refused("Decrypt", { KeyId: key.Arn, CiphertextBlob: changed, EncryptionAlgorithm }, "InvalidCiphertextException");
  }
  await refused("Encrypt", { KeyId: key.Arn, Plaintext: message }, "InvalidKeyUsageException", "SYMMETRIC_DEFAULT");
  await refused("Encrypt", { KeyId: key.Arn, Plaintext: Buffer.alloc(191), EncryptionAlgorithm: "RSAES_OAEP_SHA_256" }, "ValidationException", "190");
  await moves(key, spki(PublicKey));
}

// moves has ReEncrypt bring what node encrypted from a key pair to a symmetric key
// and back.
async function moves(pair, publicKey) {
  const symmetric = await newKey();
  const CiphertextBlob = publicEncrypt({ key: publicKey, oaepHash: "sha256", padding: constants.RSA_PKCS1_OAEP_PADDING }, message);
  const members = "CiphertextBlob DestinationEncryptionAlgorithm KeyId SourceEncryptionAlgorithm SourceKeyId";
  const source = { SourceKeyId: pair.Arn, SourceEncryptionAlgorithm: "RSAES_OAEP_SHA_256" };
  const there = await answered("ReEncrypt", { ...source, CiphertextBlob, DestinationKeyId: symmetric.Arn }, `${members} DestinationKeyMaterialId`);
  assert.deepEqual([there.SourceEncryptionAlgorithm, there.DestinationEncryptionAlgorithm], ["RSAES_OAEP_SHA_256", "SYMMETRIC_DEFAULT"]);
  const back = await answered(
    "ReEncrypt",
    { CiphertextBlob: there.CiphertextBlob, DestinationKeyId: pair.Arn, DestinationEncryptionAlgorithm: "RSAES_OAEP_SHA_1" },
    `${members} SourceKeyMaterialId`,
  );
  const input = { KeyId: pair.Arn, CiphertextBlob: back.CiphertextBlob, EncryptionAlgorithm: "RSAES_OAEP_SHA_1" };
  assert.deepEqual(bytes((await answered("Decrypt", input, "EncryptionAlgorithm KeyId Plaintext")).Plaintext), message);
}

async function agreement(KeySpec, namedCurve) {
  const key = await newKey({ KeySpec, KeyUsage: "KEY_AGREEMENT" });
  const { PublicKey } = await publicKeyOf(key, "KeyAgreementAlgorithms");
  const pair = generateKeyPairSync("ec", { namedCurve });
  const input = { KeyId: key.Arn, KeyAgreementAlgorithm: "ECDH", PublicKey: pair.publicKey.export({ format: "der", type: "spki" }) };
  const derived = await answered("DeriveSharedSecret", input, "KeyAgreementAlgorithm KeyId KeyOrigin SharedSecret");
  assert.deepEqual([derived.KeyAgreementAlgorithm, derived.KeyOrigin, derived.KeyId], ["ECDH", "AWS_KMS", key.Arn]);
  assert.deepEqual(bytes(derived.SharedSecret), diffieHellman({ privateKey: pair.privateKey, publicKey: spki(PublicKey) }), KeySpec);
  const secp = generateKeyPairSync("ec", { namedCurve: "secp256k1" }).publicKey.export({ format: "der", type: "spki" });
  await refused("DeriveSharedSecret", { ...input, PublicKey: secp }, "ValidationException", null);
}
