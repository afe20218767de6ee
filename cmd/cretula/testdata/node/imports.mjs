// SPDX-License-Identifier: Apache-2.0

// Material that node makes, wraps and imports, so that both sides have it.
import { constants, createCipheriv, createHmac, createPublicKey, generateKeyPairSync, privateDecrypt, publicEncrypt, randomBytes, sign } from "node:crypto";
import { answered, assert, bytes, describe, describedAs, newKey, pages, refused } from "./harness.mjs";

const forever = { ExpirationModel: "KEY_MATERIAL_DOES_NOT_EXPIRE" };
const message = Buffer.from("a message from node");
const oaep = (key, oaepHash) => ({ key, oaepHash, padding: constants.RSA_PKCS1_OAEP_PADDING });

// wrapped asks for a wrapping key and returns the members of ImportKeyMaterial that
// bring material under it.
async function wrapped(KeyId, material, WrappingAlgorithm = "RSAES_OAEP_SHA_256", WrappingKeySpec = "RSA_2048") {
  const input = { KeyId, WrappingAlgorithm, WrappingKeySpec };
  const parameters = await answered("GetParametersForImport", input, "ImportToken KeyId ParametersValidTo PublicKey");
  assert.equal(parameters.KeyId, KeyId);
  assert.ok(Math.abs(parameters.ParametersValidTo - Date.now() - 86400e3) < 60e3, "ParametersValidTo");
  const key = createPublicKey({ key: bytes(parameters.PublicKey), format: "der", type: "spki" });
  assert.equal(`RSA_${key.asymmetricKeyDetails.modulusLength}`, WrappingKeySpec);
  const hash = WrappingAlgorithm.endsWith("SHA_1") ? "sha1" : "sha256";
  let EncryptedKeyMaterial;
  if (WrappingAlgorithm.startsWith("RSA_AES_KEY_WRAP")) {
    const aes = randomBytes(32);
    // The alternative initial value of RFC 5649 §3.
    const wrap = createCipheriv("id-aes256-wrap-pad", aes, Buffer.from("a65959a6", "hex"));
    EncryptedKeyMaterial = Buffer.concat([publicEncrypt(oaep(key, hash), aes), wrap.update(material), wrap.final()]);
  } else {
    EncryptedKeyMaterial = publicEncrypt(oaep(key, hash), material);
  }
  return { KeyId, ImportToken: parameters.ImportToken, EncryptedKeyMaterial };
}

export default async function imports() {
  await symmetric();
  await hmac();
  await rsa();
  await elliptic();
  const { Arn: KeyId } = await newKey();
  const how = { KeyId, WrappingAlgorithm: "RSAES_OAEP_SHA_256", WrappingKeySpec: "RSA_2048" };
  const import_ = { KeyId, ImportToken: Buffer.from("x"), EncryptedKeyMaterial: Buffer.from("x"), ...forever };
  for (const [name, input] of [["GetParametersForImport", how], ["ImportKeyMaterial", import_], ["DeleteImportedKeyMaterial", { KeyId }]]) {
    await refused(name, input, "UnsupportedOperationException", "origin is AWS_KMS which is not valid for this operation.");
  }
}

async function symmetric() {
  const key = await newKey({ Origin: "EXTERNAL" });
  const KeyId = key.Arn;
  describedAs(key, "EncryptionAlgorithms");
  assert.deepEqual([key.KeyState, key.Enabled, key.Origin], ["PendingImport", false, "EXTERNAL"]);
  await refused("Encrypt", { KeyId, Plaintext: message }, "KMSInvalidStateException", "is pending import.");

  const material = randomBytes(32);
  const ValidTo = new Date(Math.floor(Date.now() / 1000) * 1000 + 86400e3);
  const first = { ...(await wrapped(KeyId, material)), ExpirationModel: "KEY_MATERIAL_EXPIRES", ValidTo, KeyMaterialDescription: "first" };
  const { KeyMaterialId } = await answered("ImportKeyMaterial", first, "KeyId KeyMaterialId");
  const imported = await describe(KeyId);
  describedAs(imported, "CurrentKeyMaterialId EncryptionAlgorithms ExpirationModel ValidTo");
  assert.deepEqual(
    [imported.KeyState, imported.ExpirationModel, imported.ValidTo, imported.CurrentKeyMaterialId],
    ["Enabled", "KEY_MATERIAL_EXPIRES", ValidTo, KeyMaterialId],
  );
  const sealed = await answered("Encrypt", { KeyId, Plaintext: message }, "CiphertextBlob EncryptionAlgorithm KeyId");

  const next = randomBytes(32);
  const second = await answered(
    "ImportKeyMaterial",
    { ...(await wrapped(KeyId, next)), ...forever, ImportType: "NEW_KEY_MATERIAL" },
    "KeyId KeyMaterialId",
  );
  const listed = await pages("ListKeyRotations", { KeyId, IncludeKeyMaterial: "ALL_KEY_MATERIAL" }, "Rotations", 1);
  assert.deepEqual(
    listed.map((r) => [r.KeyMaterialId, r.KeyMaterialState, r.ImportState, r.ExpirationModel, r.KeyMaterialDescription]),
    [
      [KeyMaterialId, "CURRENT", "IMPORTED", "KEY_MATERIAL_EXPIRES", "first"],
      [second.KeyMaterialId, "PENDING_ROTATION", "IMPORTED", "KEY_MATERIAL_DOES_NOT_EXPIRE", undefined],
    ],
  );
  assert.deepEqual(listed[0].ValidTo, ValidTo);
  for (const name of ["EnableKeyRotation", "DisableKeyRotation", "GetKeyRotationStatus"]) {
    await refused(name, { KeyId }, "UnsupportedOperationException", "origin is EXTERNAL which is not valid for this operation.");
  }
  await answered("RotateKeyOnDemand", { KeyId }, "KeyId");
  await refused("RotateKeyOnDemand", { KeyId }, "KMSInvalidStateException", "No available key material pending rotation");
  assert.equal((await describe(KeyId)).CurrentKeyMaterialId, second.KeyMaterialId);
  await wrongImports(KeyId, material);

  const gone = await answered("DeleteImportedKeyMaterial", { KeyId, KeyMaterialId }, "KeyId KeyMaterialId");
  assert.deepEqual(gone, { KeyId, KeyMaterialId });
  assert.equal((await describe(KeyId)).KeyState, "PendingImport");
  await refused("Decrypt", { CiphertextBlob: sealed.CiphertextBlob }, "KMSInvalidStateException", "is pending import.");
  const other = { ...(await wrapped(KeyId, randomBytes(32))), ...forever, KeyMaterialId };
  await refused("ImportKeyMaterial", other, "IncorrectKeyMaterialException");
  const again = await answered("ImportKeyMaterial", { ...(await wrapped(KeyId, material)), ...forever }, "KeyId KeyMaterialId");
  assert.equal(again.KeyMaterialId, KeyMaterialId, "the same material has the same id");
  const opened = await answered("Decrypt", { CiphertextBlob: sealed.CiphertextBlob }, "EncryptionAlgorithm KeyId KeyMaterialId Plaintext");
  assert.deepEqual(bytes(opened.Plaintext), message);
}

async function wrongImports(KeyId, material) {
  const good = { ...(await wrapped(KeyId, material)), ...forever };
  const strange = await newKey({ Origin: "EXTERNAL" });
  await refused("ImportKeyMaterial", { ...good, KeyId: strange.Arn }, "InvalidImportTokenException");
  await refused("ImportKeyMaterial", { ...good, EncryptedKeyMaterial: randomBytes(256) }, "InvalidCiphertextException");
  await refused("ImportKeyMaterial", { ...(await wrapped(KeyId, randomBytes(16))), ...forever }, "IncorrectKeyMaterialException");
  await refused("ImportKeyMaterial", { ...good, ExpirationModel: "KEY_MATERIAL_EXPIRES" }, "ValidationException", "validTo");
  const how = { KeyId, WrappingKeySpec: "RSA_2048" };
  await refused("GetParametersForImport", { ...how, WrappingAlgorithm: "RSAES_PKCS1_V1_5" }, "UnsupportedOperationException", "RSAES_PKCS1_V1_5");
  await refused("GetParametersForImport", { ...how, WrappingAlgorithm: "RSA_AES_KEY_WRAP_SHA_256" }, "UnsupportedOperationException");
}

// hmac compares the service's HMACs with node's under the same material.
async function hmac() {
  const wrapping = [["RSAES_OAEP_SHA_1", "RSA_2048"], ["RSAES_OAEP_SHA_256", "RSA_3072"], ["RSAES_OAEP_SHA_256", "RSA_2048"], ["RSAES_OAEP_SHA_1", "RSA_2048"]];
  for (const bits of [224, 256, 384, 512]) {
    const key = await newKey({ KeySpec: `HMAC_${bits}`, KeyUsage: "GENERATE_VERIFY_MAC", Origin: "EXTERNAL" });
    describedAs(key, "MacAlgorithms");
    const MacAlgorithm = `HMAC_SHA_${bits}`;
    assert.deepEqual(key.MacAlgorithms, [MacAlgorithm]);
    const material = randomBytes(bits / 8);
    await answered("ImportKeyMaterial", { ...(await wrapped(key.Arn, material, ...wrapping.shift())), ...forever }, "KeyId");
    const input = { KeyId: key.Arn, Message: message, MacAlgorithm };
    const { Mac, ...made } = await answered("GenerateMac", input, "KeyId Mac MacAlgorithm");
    assert.deepEqual(made, { KeyId: key.Arn, MacAlgorithm });
    assert.deepEqual(bytes(Mac), createHmac(`sha${bits}`, material).update(message).digest());
    const checked = await answered("VerifyMac", { ...input, Mac }, "KeyId MacAlgorithm MacValid");
    assert.deepEqual(checked, { KeyId: key.Arn, MacAlgorithm, MacValid: true });
    await refused("VerifyMac", { ...input, Mac: randomBytes(bits / 8) }, "KMSInvalidMacException");
    const other = bits === 256 ? "HMAC_SHA_512" : "HMAC_SHA_256";
    await refused("GenerateMac", { ...input, MacAlgorithm: other }, "InvalidKeyUsageException");
  }
}

// pair makes a pair and imports it into a new key.
async function pair(kind, options, KeySpec, KeyUsage, algorithm) {
  const made = generateKeyPairSync(kind, options);
  const key = await newKey({ KeySpec, KeyUsage, Origin: "EXTERNAL" });
  const pkcs8 = made.privateKey.export({ format: "der", type: "pkcs8" });
  await answered("ImportKeyMaterial", { ...(await wrapped(key.Arn, pkcs8, algorithm)), ...forever }, "KeyId");
  const { PublicKey } = await answered(
    "GetPublicKey",
    { KeyId: key.Arn },
    `CustomerMasterKeySpec KeyId KeySpec KeyUsage PublicKey ${KeyUsage === "SIGN_VERIFY" ? "SigningAlgorithms" : "EncryptionAlgorithms"}`,
  );
  assert.deepEqual(bytes(PublicKey), made.publicKey.export({ format: "der", type: "spki" }));
  return { ...made, KeyId: key.Arn };
}

// rsa encrypts on each side what the other opens.
async function rsa() {
  const { KeyId, privateKey, publicKey } = await pair("rsa", { modulusLength: 2048 }, "RSA_2048", "ENCRYPT_DECRYPT", "RSA_AES_KEY_WRAP_SHA_256");
  for (const [EncryptionAlgorithm, hash] of [["RSAES_OAEP_SHA_1", "sha1"], ["RSAES_OAEP_SHA_256", "sha256"]]) {
    const sealed = await answered("Encrypt", { KeyId, Plaintext: message, EncryptionAlgorithm }, "CiphertextBlob EncryptionAlgorithm KeyId");
    assert.deepEqual(privateDecrypt(oaep(privateKey, hash), sealed.CiphertextBlob), message);
    const CiphertextBlob = publicEncrypt(oaep(publicKey, hash), message);
    const opened = await answered("Decrypt", { KeyId, CiphertextBlob, EncryptionAlgorithm }, "EncryptionAlgorithm KeyId Plaintext");
    assert.deepEqual(bytes(opened.Plaintext), message);
  }
}

// elliptic has the service verify what node signs.
async function elliptic() {
  for (const [KeySpec, namedCurve, algorithm] of [
    ["ECC_NIST_P256", "P-256", "RSAES_OAEP_SHA_256"],
    ["ECC_SECG_P256K1", "secp256k1", "RSA_AES_KEY_WRAP_SHA_1"],
  ]) {
    const { KeyId, privateKey } = await pair("ec", { namedCurve }, KeySpec, "SIGN_VERIFY", algorithm);
    const input = { KeyId, Message: message, SigningAlgorithm: "ECDSA_SHA_256", Signature: sign("sha256", message, privateKey) };
    await answered("Verify", input, "KeyId SignatureValid SigningAlgorithm");
    await refused("Verify", { ...input, Message: Buffer.from("another") }, "KMSInvalidSignatureException");
  }
}
