// SPDX-License-Identifier: Apache-2.0

// Rotation of key material.
import { answered, assert, bytes, describe, newKey, pages, refused } from "./harness.mjs";

// AWS KMS rotates a key on demand this many times, and no more.
const onDemand = 25;

export default async function rotation() {
  const { Arn: KeyId, CurrentKeyMaterialId } = await newKey();
  await automatic(KeyId);
  const input = { KeyId, Plaintext: Buffer.from("before") };
  const { CiphertextBlob } = await answered("Encrypt", input, "CiphertextBlob EncryptionAlgorithm KeyId");
  for (let i = 0; i < onDemand; i++) {
    assert.equal((await answered("RotateKeyOnDemand", { KeyId }, "KeyId")).KeyId, KeyId);
  }
  await refused("RotateKeyOnDemand", { KeyId }, "LimitExceededException", "25");
  const opened = await answered("Decrypt", { CiphertextBlob }, "EncryptionAlgorithm KeyId KeyMaterialId Plaintext");
  assert.equal(bytes(opened.Plaintext).toString(), "before");
  assert.equal(opened.KeyMaterialId, CurrentKeyMaterialId, "the material that it was encrypted under");
  await lists(KeyId, CurrentKeyMaterialId);

  const pair = await newKey({ KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY" });
  for (const name of ["EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand", "ListKeyRotations"]) {
    await refused(name, { KeyId: pair.Arn }, "UnsupportedOperationException", null);
  }
  await answered("DisableKey", { KeyId });
  for (const name of ["EnableKeyRotation", "DisableKeyRotation", "RotateKeyOnDemand"]) {
    await refused(name, { KeyId }, "DisabledException", "is disabled.");
  }
}

async function automatic(KeyId) {
  const off = await answered("GetKeyRotationStatus", { KeyId }, "KeyId KeyRotationEnabled");
  assert.equal(off.KeyRotationEnabled, false);
  await answered("EnableKeyRotation", { KeyId, RotationPeriodInDays: 90 });
  await refused("EnableKeyRotation", { KeyId, RotationPeriodInDays: 89 }, "ValidationException", "90");
  const on = await answered("GetKeyRotationStatus", { KeyId }, "KeyId KeyRotationEnabled NextRotationDate RotationPeriodInDays");
  assert.deepEqual([on.KeyRotationEnabled, on.RotationPeriodInDays, on.KeyId], [true, 90, KeyId]);
  assert.ok(Math.abs(on.NextRotationDate - Date.now() - 90 * 86400e3) < 60e3, "NextRotationDate");
  await answered("DisableKeyRotation", { KeyId });
  assert.equal((await answered("GetKeyRotationStatus", { KeyId }, "KeyId KeyRotationEnabled")).KeyRotationEnabled, false);
}

async function lists(KeyId, first) {
  const { Rotations } = await answered("ListKeyRotations", { KeyId }, "Rotations Truncated");
  assert.equal(Rotations.length, onDemand);
  assert.deepEqual(await pages("ListKeyRotations", { KeyId }, "Rotations", 10), Rotations);
  for (const r of Rotations) {
    assert.deepEqual([r.KeyId, r.RotationType], [KeyId, "ON_DEMAND"]);
    assert.ok(Math.abs(r.RotationDate - Date.now()) < 60e3, "RotationDate");
  }
  assert.equal(new Set(Rotations.map((r) => r.KeyMaterialId)).size, onDemand);
  const all = await pages("ListKeyRotations", { KeyId, IncludeKeyMaterial: "ALL_KEY_MATERIAL" }, "Rotations", 10);
  assert.equal(all.length, onDemand + 1);
  const original = all.filter((r) => r.RotationType === undefined);
  assert.deepEqual(original.map((r) => [r.KeyMaterialId, r.KeyMaterialState, r.RotationDate]), [[first, "NON_CURRENT", undefined]]);
  const current = all.filter((r) => r.KeyMaterialState === "CURRENT").map((r) => r.KeyMaterialId);
  assert.deepEqual(current, [(await describe(KeyId)).CurrentKeyMaterialId]);
  await refused("ListKeyRotations", { KeyId, Marker: "no marker" }, "InvalidMarkerException");
}
