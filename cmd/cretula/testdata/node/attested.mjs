// SPDX-License-Identifier: Apache-2.0

// The five operations with a Recipient. OpenSSL opens the envelopes with the
// private key whose public half is in the document.
import { execFileSync } from "node:child_process";
import { diffieHellman, createPublicKey, generateKeyPairSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { account, answered, assert, bytes, dir, helper, newKey, refused, setup, userArn } from "./harness.mjs";
import { assertPair } from "./symmetric.mjs";

const Recipient = {
  KeyEncryptionAlgorithm: "RSAES_OAEP_SHA_256",
  AttestationDocument: readFileSync(join(dir, "document.cbor")),
};
const secret = Buffer.from("a secret made by node");

// open lets OpenSSL decrypt an envelope with the recipient's private key.
function open(envelope) {
  const file = join(dir, "envelope.ber");
  writeFileSync(file, envelope);
  return execFileSync("openssl", ["cms", "-decrypt", "-inform", "DER", "-in", file, "-inkey", join(dir, "key.pem")]);
}

export default async function attested() {
  const { Arn: KeyId } = await newKey();
  const { CiphertextBlob } = await answered("Encrypt", { KeyId, Plaintext: secret }, "CiphertextBlob EncryptionAlgorithm KeyId");
  const decrypted = await answered("Decrypt", { CiphertextBlob, Recipient }, "CiphertextForRecipient EncryptionAlgorithm KeyId");
  assert.equal(decrypted.KeyId, KeyId);
  assert.deepEqual(open(decrypted.CiphertextForRecipient), secret);

  const dataKey = await answered("GenerateDataKey", { KeyId, KeySpec: "AES_256", Recipient }, "CiphertextBlob CiphertextForRecipient KeyId");
  const sealed = await answered("Decrypt", { CiphertextBlob: dataKey.CiphertextBlob }, "EncryptionAlgorithm KeyId KeyMaterialId Plaintext");
  assert.deepEqual(open(dataKey.CiphertextForRecipient), bytes(sealed.Plaintext), "the wrapped and the sealed data key differ");

  const KeyPairSpec = "ECC_NIST_P384";
  const members = "CiphertextForRecipient KeyId KeyMaterialId KeyPairSpec PrivateKeyCiphertextBlob PublicKey";
  const pair = await answered("GenerateDataKeyPair", { KeyId, KeyPairSpec, Recipient }, members);
  assertPair(open(pair.CiphertextForRecipient), pair.PublicKey, KeyPairSpec);

  const random = await answered("GenerateRandom", { NumberOfBytes: 48, Recipient }, "CiphertextForRecipient");
  assert.equal(open(random.CiphertextForRecipient).length, 48);

  const ecdh = await agreement();
  await wrongRecipients({
    Decrypt: { CiphertextBlob },
    GenerateDataKey: { KeyId, NumberOfBytes: 32 },
    GenerateDataKeyPair: { KeyId, KeyPairSpec },
    GenerateRandom: { NumberOfBytes: 32 },
    DeriveSharedSecret: ecdh,
  });
  await conditions();
}

async function agreement() {
  const key = await newKey({ KeySpec: "ECC_NIST_P256", KeyUsage: "KEY_AGREEMENT" });
  const { PublicKey } = await answered("GetPublicKey", { KeyId: key.Arn }, "CustomerMasterKeySpec KeyAgreementAlgorithms KeyId KeySpec KeyUsage PublicKey");
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const input = { KeyId: key.Arn, KeyAgreementAlgorithm: "ECDH", PublicKey: publicKey.export({ format: "der", type: "spki" }) };
  const derived = await answered("DeriveSharedSecret", { ...input, Recipient }, "CiphertextForRecipient KeyAgreementAlgorithm KeyId KeyOrigin");
  const shared = diffieHellman({ privateKey, publicKey: createPublicKey({ key: bytes(PublicKey), format: "der", type: "spki" }) });
  assert.deepEqual(open(derived.CiphertextForRecipient), shared);
  return input;
}

// wrongRecipients sends a Recipient that lacks a member or has no good document:
// never is plaintext returned instead.
async function wrongRecipients(inputs) {
  const changed = bytes(Recipient.AttestationDocument);
  changed[changed.length - 1] ^= 1;
  const wrong = [
    {},
    { KeyEncryptionAlgorithm: Recipient.KeyEncryptionAlgorithm },
    { AttestationDocument: Recipient.AttestationDocument },
    { ...Recipient, AttestationDocument: Buffer.from("no document") },
    { ...Recipient, AttestationDocument: changed },
  ];
  for (const [name, input] of Object.entries(inputs)) {
    for (const bad of wrong) await refused(name, { ...input, Recipient: bad }, "ValidationException");
  }
}

// conditions has a user who may decrypt with the measured image only.
async function conditions() {
  const allow = (Principal, Action, image) => ({
    Effect: "Allow",
    Principal: { AWS: Principal },
    Action,
    Resource: "*",
    ...(image && { Condition: { StringEqualsIgnoreCase: { "kms:RecipientAttestation:ImageSha384": image } } }),
  });
  for (const [image, good] of [[setup.imageSha384, true], ["00".repeat(48), false]]) {
    const Statement = [allow(`arn:aws:iam::${account}:root`, "kms:*"), allow(userArn("helper"), "kms:Decrypt", image)];
    const { Arn: KeyId } = await newKey({ Policy: JSON.stringify({ Version: "2012-10-17", Statement }) });
    const { CiphertextBlob } = await answered("Encrypt", { KeyId, Plaintext: secret }, "CiphertextBlob EncryptionAlgorithm KeyId");
    await refused("Decrypt", { KeyId, CiphertextBlob }, "AccessDeniedException", "not authorized", helper);
    const input = { KeyId, CiphertextBlob, Recipient };
    if (good) {
      const opened = await answered("Decrypt", input, "CiphertextForRecipient EncryptionAlgorithm KeyId", helper);
      assert.deepEqual(open(opened.CiphertextForRecipient), secret);
    } else {
      await refused("Decrypt", input, "AccessDeniedException", "not authorized", helper);
    }
  }
}
