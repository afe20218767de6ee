// SPDX-License-Identifier: Apache-2.0

// Multi-region keys, with a client of each of two regions.
import { answered, assert, away, bytes, describe, describedAs, home, newKey, otherRegion, refused, region } from "./harness.mjs";

const configured = "CurrentKeyMaterialId EncryptionAlgorithms MultiRegionConfiguration";
const text = Buffer.from("sealed in one region");

export default async function regions() {
  const single = await newKey();
  const key = await newKey({ MultiRegion: true, Description: "primary" });
  const KeyId = key.Arn;
  const there = KeyId.replace(`:${region}:`, `:${otherRegion}:`);
  describedAs(key, configured);
  assert.match(key.KeyId, /^mrk-/);
  assert.deepEqual(key.MultiRegionConfiguration, { MultiRegionKeyType: "PRIMARY", PrimaryKey: { Arn: KeyId, Region: region }, ReplicaKeys: [] });
  await refused("DescribeKey", { KeyId: key.KeyId }, "NotFoundException", "does not exist", away);
  await refused("DescribeKey", { KeyId }, "NotFoundException", "Invalid arn", away);

  const input = { KeyId, ReplicaRegion: otherRegion, Description: "replica", Tags: [{ TagKey: "a", TagValue: "b" }] };
  const made = await answered("ReplicateKey", input, "ReplicaKeyMetadata ReplicaPolicy ReplicaTags");
  const replica = made.ReplicaKeyMetadata;
  describedAs(replica, configured);
  assert.deepEqual([replica.Arn, replica.KeyId, replica.Description], [there, key.KeyId, "replica"]);
  assert.deepEqual(made.ReplicaTags, input.Tags);
  assert.equal(JSON.parse(made.ReplicaPolicy).Version, "2012-10-17");
  await refused("ReplicateKey", input, "AlreadyExistsException", there);
  await refused("ReplicateKey", { ...input, KeyId: single.Arn }, "UnsupportedOperationException", "multi-region primary key");

  const configuration = (type, primary, replicas) => ({
    MultiRegionKeyType: type,
    PrimaryKey: primary,
    ReplicaKeys: replicas,
  });
  const [here, far] = [{ Arn: KeyId, Region: region }, { Arn: there, Region: otherRegion }];
  assert.deepEqual((await describe(KeyId)).MultiRegionConfiguration, configuration("PRIMARY", here, [far]));
  assert.deepEqual((await describe(there, away)).MultiRegionConfiguration, configuration("REPLICA", here, [far]));

  for (const [from, to, arn] of [[home, away, there], [away, home, KeyId]]) {
    const { CiphertextBlob } = await answered("Encrypt", { KeyId: key.KeyId, Plaintext: text }, "CiphertextBlob EncryptionAlgorithm KeyId", from);
    const opened = await answered("Decrypt", { CiphertextBlob }, "EncryptionAlgorithm KeyId KeyMaterialId Plaintext", to);
    assert.equal(opened.KeyId, arn);
    assert.deepEqual(bytes(opened.Plaintext), text);
  }
  const sealed = await answered("Encrypt", { KeyId: single.Arn, Plaintext: text }, "CiphertextBlob EncryptionAlgorithm KeyId");
  const hidden = "The ciphertext refers to a customer master key that does not exist";
  await refused("Decrypt", { CiphertextBlob: sealed.CiphertextBlob }, "AccessDeniedException", hidden, away);

  await refused("UpdatePrimaryRegion", { KeyId: there, PrimaryRegion: region }, "UnsupportedOperationException", "", away);
  await refused("RotateKeyOnDemand", { KeyId: there }, "UnsupportedOperationException", "", away);
  await answered("UpdatePrimaryRegion", { KeyId, PrimaryRegion: otherRegion });
  assert.deepEqual((await describe(KeyId)).MultiRegionConfiguration, configuration("REPLICA", far, [here]));
  assert.deepEqual((await describe(there, away)).MultiRegionConfiguration, configuration("PRIMARY", far, [here]));
  await refused("UpdatePrimaryRegion", { KeyId: there, PrimaryRegion: "ap-south-1" }, "NotFoundException", "ap-south-1", away);

  const members = "KeyId KeyState PendingWindowInDays";
  const scheduled = await answered("ScheduleKeyDeletion", { KeyId: there, PendingWindowInDays: 7 }, members, away);
  assert.equal(scheduled.KeyState, "PendingReplicaDeletion");
  describedAs(await describe(there, away), `${configured} PendingDeletionWindowInDays`);
  await refused("Encrypt", { KeyId: there, Plaintext: text }, "KMSInvalidStateException", "is pending replica deletion.", away);
}
