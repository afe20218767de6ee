// SPDX-License-Identifier: Apache-2.0

// Keys: making, describing, listing, states, tags and last use.
import { answered, assert, describe, describedAs, home, newKey, pages, refused, sdk, setup } from "./harness.mjs";

// What the metadata of a key of each usage has beyond that of all keys.
const beyond = {
  SYMMETRIC_DEFAULT: "CurrentKeyMaterialId EncryptionAlgorithms",
  ENCRYPT_DECRYPT: "EncryptionAlgorithms",
  SIGN_VERIFY: "SigningAlgorithms",
  KEY_AGREEMENT: "KeyAgreementAlgorithms",
  GENERATE_VERIFY_MAC: "MacAlgorithms",
};

const usages = (spec) => {
  if (spec === "SYMMETRIC_DEFAULT") return ["ENCRYPT_DECRYPT"];
  if (spec.startsWith("HMAC_")) return ["GENERATE_VERIFY_MAC"];
  if (spec === "RSA_3072") return ["SIGN_VERIFY"]; // long ones take long to make
  if (spec === "RSA_4096") return ["ENCRYPT_DECRYPT"];
  if (spec === "RSA_2048") return ["ENCRYPT_DECRYPT", "SIGN_VERIFY"];
  if (spec.startsWith("ECC_NIST_P")) return ["SIGN_VERIFY", "KEY_AGREEMENT"];
  return ["SIGN_VERIFY"];
};

export default async function keys() {
  const Tags = [{ TagKey: "project", TagValue: "node" }];
  const key = await newKey({ Description: "made by node", Tags });
  describedAs(key, beyond.SYMMETRIC_DEFAULT);
  assert.deepEqual(
    [key.Description, key.KeyState, key.Enabled, key.KeySpec, key.Origin, key.KeyManager, key.MultiRegion],
    ["made by node", "Enabled", true, "SYMMETRIC_DEFAULT", "AWS_KMS", "CUSTOMER", false],
  );
  assert.ok(key.Arn.endsWith(`:key/${key.KeyId}`));
  assert.ok(Math.abs(key.CreationDate - Date.now()) < 60e3, "CreationDate");
  assert.deepEqual(await describe(key.Arn), key);
  assert.deepEqual(await describe(key.KeyId), key);
  const made = [key, ...(await everySpec())];
  await wrongKeys();

  const all = (await answered("ListKeys", { Limit: 1000 }, "Keys Truncated")).Keys;
  const paged = await pages("ListKeys", {}, "Keys", 4);
  assert.deepEqual(paged, all, "ListKeys in pages");
  assert.equal(new Set(all.map((k) => k.KeyId)).size, all.length);
  for (const { Arn, KeyId } of made) assert.ok(all.some((k) => k.KeyArn === Arn && k.KeyId === KeyId), `${Arn} is not listed`);
  await refused("ListKeys", { Marker: "no marker" }, "InvalidMarkerException");

  await answered("UpdateKeyDescription", { KeyId: key.KeyId, Description: "changed" });
  assert.equal((await describe(key.KeyId)).Description, "changed");
  await states(key.Arn);
  await tags(key.KeyId);
  await lastUsage();
  await refused("DescribeKey", { KeyId: setup.tampered }, "KMSInternalException");
}

// everySpec makes a key of each spec and usage that the client knows.
async function everySpec() {
  const made = [];
  for (const KeySpec of Object.values(sdk.KeySpec)) {
    if (KeySpec === "SM2" || KeySpec.startsWith("ML_KEM_")) {
      const KeyUsage = KeySpec === "SM2" ? "SIGN_VERIFY" : "ENCAPSULATE_DECAPSULATE";
      await refused("CreateKey", { KeySpec, KeyUsage }, "UnsupportedOperationException", KeySpec);
      continue;
    }
    for (const KeyUsage of usages(KeySpec)) {
      const key = await newKey({ KeySpec, KeyUsage });
      describedAs(key, beyond[KeySpec] ?? beyond[KeyUsage]);
      assert.deepEqual([key.KeySpec, key.CustomerMasterKeySpec, key.KeyUsage], [KeySpec, KeySpec, KeyUsage]);
      made.push(key);
    }
  }
  return made;
}

async function wrongKeys() {
  await refused("CreateKey", { KeySpec: "RSA_2048" }, "ValidationException", "KeyUsage");
  await refused("CreateKey", { KeySpec: "ECC_NIST_P256", KeyUsage: "ENCRYPT_DECRYPT" }, "ValidationException", "not compatible");
  await refused("CreateKey", { Policy: "no policy" }, "MalformedPolicyDocumentException");
  await refused("CreateKey", { Tags: [1, 2].map(() => ({ TagKey: "a", TagValue: "b" })) }, "TagException", "Duplicate tag keys");
  await refused("CreateKey", { Origin: "AWS_CLOUDHSM", CustomKeyStoreId: "cks-1234567890abcdef0" }, "CustomKeyStoreNotFoundException");
  await refused("DescribeKey", { KeyId: "no key" }, "NotFoundException", "no key");
  await refused("DescribeKey", { KeyId: "alias/none" }, "NotFoundException", "alias/none");
}

async function states(KeyId) {
  await answered("DisableKey", { KeyId });
  const disabled = await describe(KeyId);
  assert.deepEqual([disabled.KeyState, disabled.Enabled], ["Disabled", false]);
  await refused("Encrypt", { KeyId, Plaintext: Buffer.from("x") }, "DisabledException", `${KeyId} is disabled.`);
  await answered("EnableKey", { KeyId });
  assert.equal((await describe(KeyId)).KeyState, "Enabled");

  await refused("CancelKeyDeletion", { KeyId }, "KMSInvalidStateException", "is not pending deletion.");
  await refused("ScheduleKeyDeletion", { KeyId, PendingWindowInDays: 6 }, "ValidationException");
  const scheduled = await answered("ScheduleKeyDeletion", { KeyId, PendingWindowInDays: 7 }, "DeletionDate KeyId KeyState PendingWindowInDays");
  assert.deepEqual([scheduled.KeyState, scheduled.PendingWindowInDays, scheduled.KeyId], ["PendingDeletion", 7, KeyId]);
  assert.ok(Math.abs(scheduled.DeletionDate - Date.now() - 7 * 86400e3) < 60e3, "DeletionDate");
  const pending = await describe(KeyId);
  describedAs(pending, `${beyond.SYMMETRIC_DEFAULT} DeletionDate`);
  assert.deepEqual([pending.KeyState, pending.DeletionDate], ["PendingDeletion", scheduled.DeletionDate]);
  for (const name of ["EnableKey", "DisableKey", "ScheduleKeyDeletion"]) {
    await refused(name, { KeyId }, "KMSInvalidStateException", "is pending deletion.");
  }
  assert.equal((await answered("CancelKeyDeletion", { KeyId }, "KeyId")).KeyId, KeyId);
  assert.equal((await describe(KeyId)).KeyState, "Disabled");
  await answered("EnableKey", { KeyId });
}

async function tags(KeyId) {
  const Tags = ["a", "b", "c", "d"].map((TagKey) => ({ TagKey, TagValue: `value of ${TagKey}` }));
  await answered("TagResource", { KeyId, Tags });
  await refused("TagResource", { KeyId, Tags: [{ TagKey: "aws:a", TagValue: "b" }] }, "TagException", "reserved");
  const listed = await pages("ListResourceTags", { KeyId }, "Tags", 2);
  assert.deepEqual(listed.sort((x, y) => (x.TagKey < y.TagKey ? -1 : 1)), [...Tags, { TagKey: "project", TagValue: "node" }]);
  await answered("UntagResource", { KeyId, TagKeys: ["a", "b", "c"] });
  await refused("UntagResource", { KeyId, TagKeys: ["x".repeat(129)] }, "ValidationException", "128");
  const left = (await answered("ListResourceTags", { KeyId }, "Tags Truncated")).Tags;
  assert.deepEqual(left.map((t) => t.TagKey).sort(), ["d", "project"]);
  await refused("ListResourceTags", { KeyId, Marker: "no marker" }, "InvalidMarkerException");
}

async function lastUsage() {
  const { Arn: KeyId, CreationDate } = await newKey();
  const dates = "KeyCreationDate KeyId TrackingStartDate";
  const never = await home.send(new sdk.GetKeyLastUsageCommand({ KeyId }));
  assert.deepEqual(never.KeyLastUsage ?? {}, {}, "KeyLastUsage of a key that was never used");
  assert.ok(Math.abs(never.KeyCreationDate - CreationDate) < 1000, "KeyCreationDate");
  const used = await home.send(new sdk.EncryptCommand({ KeyId, Plaintext: Buffer.from("x") }));
  const { KeyLastUsage } = await answered("GetKeyLastUsage", { KeyId }, `${dates} KeyLastUsage`);
  assert.equal(KeyLastUsage.Operation, "Encrypt");
  assert.equal(KeyLastUsage.KmsRequestId, used.$metadata.requestId);
  assert.ok(Math.abs(KeyLastUsage.Timestamp - Date.now()) < 60e3, "Timestamp");
}
