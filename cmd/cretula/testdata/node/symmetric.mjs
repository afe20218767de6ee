// SPDX-License-Identifier: Apache-2.0

// Symmetric keys: encryption, data keys and data key pairs, random bytes.
import { createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { answered, assert, bytes, newKey, refused, sdk } from "./harness.mjs";

const secret = Buffer.from("a secret made by node");
const EncryptionContext = { purpose: "test", place: "Zürich" };
const algorithm = "SYMMETRIC_DEFAULT";

export default async function symmetric() {
  const key = await newKey();
  const other = await newKey();
  await encryption(key, other);
  await dataKeys(key);
  await dataKeyPairs(key);
  const random = await answered("GenerateRandom", { NumberOfBytes: 48 }, "Plaintext");
  assert.equal(random.Plaintext.length, 48);
  assert.notDeepEqual((await answered("GenerateRandom", { NumberOfBytes: 48 }, "Plaintext")).Plaintext, random.Plaintext);
  await refused("GenerateRandom", { NumberOfBytes: 1025 }, "ValidationException", "1024");
  await refused("GenerateRandom", { NumberOfBytes: 1, CustomKeyStoreId: "cks-1234567890abcdef0" }, "CustomKeyStoreNotFoundException");
}

async function encryption({ Arn: KeyId, CurrentKeyMaterialId }, other) {
  const sealed = await answered("Encrypt", { KeyId, Plaintext: secret, EncryptionContext }, "CiphertextBlob EncryptionAlgorithm KeyId");
  assert.deepEqual([sealed.KeyId, sealed.EncryptionAlgorithm], [KeyId, algorithm]);
  const { CiphertextBlob } = sealed;
  const opened = await answered("Decrypt", { KeyId, CiphertextBlob, EncryptionContext }, "EncryptionAlgorithm KeyId KeyMaterialId Plaintext");
  assert.deepEqual(bytes(opened.Plaintext), secret);
  assert.deepEqual([opened.KeyId, opened.EncryptionAlgorithm, opened.KeyMaterialId], [KeyId, algorithm, CurrentKeyMaterialId]);
  const nameless = await answered("Decrypt", { CiphertextBlob, EncryptionContext }, "EncryptionAlgorithm KeyId KeyMaterialId Plaintext");
  assert.deepEqual(nameless, opened);

  await refused("Encrypt", { KeyId, Plaintext: Buffer.alloc(4097) }, "ValidationException", "4096");
  await refused("Decrypt", { CiphertextBlob }, "InvalidCiphertextException");
  await refused("Decrypt", { CiphertextBlob: secret }, "InvalidCiphertextException");
  await refused("Decrypt", { KeyId: other.Arn, CiphertextBlob, EncryptionContext }, "IncorrectKeyException");
  await refused("Decrypt", { KeyId, DryRun: true, DryRunModifiers: ["IGNORE_CIPHERTEXT"] }, "DryRunOperationException");

  const again = await answered(
    "ReEncrypt",
    { CiphertextBlob, SourceEncryptionContext: EncryptionContext, DestinationKeyId: other.KeyId, DestinationEncryptionContext: { new: "one" } },
    "CiphertextBlob DestinationEncryptionAlgorithm DestinationKeyMaterialId KeyId SourceEncryptionAlgorithm SourceKeyId SourceKeyMaterialId",
  );
  assert.deepEqual(
    [again.KeyId, again.SourceKeyId, again.DestinationKeyMaterialId, again.SourceKeyMaterialId],
    [other.Arn, KeyId, other.CurrentKeyMaterialId, CurrentKeyMaterialId],
  );
  const moved = { CiphertextBlob: again.CiphertextBlob, EncryptionContext: { new: "one" } };
  assert.deepEqual(bytes((await answered("Decrypt", moved, "EncryptionAlgorithm KeyId KeyMaterialId Plaintext")).Plaintext), secret);
  await refused("ReEncrypt", { CiphertextBlob, DestinationKeyId: other.KeyId }, "InvalidCiphertextException");
}

// open decrypts what a key has sealed.
async function open(CiphertextBlob, context) {
  const input = { CiphertextBlob, EncryptionContext: context };
  return bytes((await answered("Decrypt", input, "EncryptionAlgorithm KeyId KeyMaterialId Plaintext")).Plaintext);
}

async function dataKeys({ Arn: KeyId, CurrentKeyMaterialId }) {
  const members = "CiphertextBlob KeyId KeyMaterialId";
  for (const [how, length] of [[{ KeySpec: "AES_256" }, 32], [{ KeySpec: "AES_128" }, 16], [{ NumberOfBytes: 100 }, 100]]) {
    const input = { KeyId, ...how, EncryptionContext };
    const both = await answered("GenerateDataKey", input, `${members} Plaintext`);
    assert.equal(both.Plaintext.length, length);
    assert.deepEqual([both.KeyId, both.KeyMaterialId], [KeyId, CurrentKeyMaterialId]);
    assert.deepEqual(await open(both.CiphertextBlob, EncryptionContext), bytes(both.Plaintext));
    const sealed = await answered("GenerateDataKeyWithoutPlaintext", input, members);
    assert.equal((await open(sealed.CiphertextBlob, EncryptionContext)).length, length);
  }
  for (const name of ["GenerateDataKey", "GenerateDataKeyWithoutPlaintext"]) {
    await refused(name, { KeyId }, "ValidationException", "either number of bytes or key spec");
    const hmac = await newKey({ KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC" });
    await refused(name, { KeyId: hmac.KeyId, KeySpec: "AES_256" }, "InvalidKeyUsageException", "GENERATE_VERIFY_MAC");
  }
}

// What node must find a pair of each spec to be.
const pairs = {
  RSA_2048: { type: "rsa", modulusLength: 2048 },
  RSA_3072: { type: "rsa", modulusLength: 3072 },
  RSA_4096: { type: "rsa", modulusLength: 4096 },
  ECC_NIST_P256: { type: "ec", namedCurve: "prime256v1" },
  ECC_NIST_P384: { type: "ec", namedCurve: "secp384r1" },
  ECC_NIST_P521: { type: "ec", namedCurve: "secp521r1" },
  ECC_SECG_P256K1: { type: "ec", namedCurve: "secp256k1" },
  ECC_NIST_EDWARDS25519: { type: "ed25519" },
};

async function dataKeyPairs({ Arn: KeyId, CurrentKeyMaterialId }) {
  const members = "KeyId KeyMaterialId KeyPairSpec PrivateKeyCiphertextBlob PublicKey";
  for (const KeyPairSpec of Object.values(sdk.DataKeyPairSpec)) {
    const input = { KeyId, KeyPairSpec, EncryptionContext };
    if (!pairs[KeyPairSpec]) {
      assert.ok(KeyPairSpec === "SM2" || KeyPairSpec.startsWith("ML_KEM_"), KeyPairSpec);
      await refused("GenerateDataKeyPair", input, "UnsupportedOperationException", KeyPairSpec);
      await refused("GenerateDataKeyPairWithoutPlaintext", input, "UnsupportedOperationException", KeyPairSpec);
      continue;
    }
    const pair = await answered("GenerateDataKeyPair", input, `${members} PrivateKeyPlaintext`);
    assert.deepEqual([pair.KeyId, pair.KeyPairSpec, pair.KeyMaterialId], [KeyId, KeyPairSpec, CurrentKeyMaterialId]);
    assert.deepEqual(await open(pair.PrivateKeyCiphertextBlob, EncryptionContext), bytes(pair.PrivateKeyPlaintext));
    assertPair(pair.PrivateKeyPlaintext, pair.PublicKey, KeyPairSpec);
    if (KeyPairSpec === "RSA_3072" || KeyPairSpec === "RSA_4096") continue; // which take long to make
    const sealed = await answered("GenerateDataKeyPairWithoutPlaintext", input, members);
    assertPair(await open(sealed.PrivateKeyCiphertextBlob, EncryptionContext), sealed.PublicKey, KeyPairSpec);
  }
  await refused("GenerateDataKeyPair", { KeyId, KeyPairSpec: "DSA_1024" }, "ValidationException", "keyPairSpec");
}

// assertPair lets node's cryptography read a pair and check that one half signs
// what the other verifies.
export function assertPair(pkcs8, spki, spec) {
  const privateKey = createPrivateKey({ key: bytes(pkcs8), format: "der", type: "pkcs8" });
  const publicKey = createPublicKey({ key: bytes(spki), format: "der", type: "spki" });
  const { type, ...details } = pairs[spec];
  assert.equal(privateKey.asymmetricKeyType, type);
  for (const [name, value] of Object.entries(details)) assert.equal(publicKey.asymmetricKeyDetails[name], value, `${spec}: ${name}`);
  assert.deepEqual(createPublicKey(privateKey).export({ format: "der", type: "spki" }), bytes(spki), `${spec}: the halves differ`);
  const digest = type === "ed25519" ? null : "sha256";
  assert.ok(verify(digest, secret, publicKey, sign(digest, secret, privateKey)), spec);
}
