// SPDX-License-Identifier: Apache-2.0

// Who may: aliases, key policies and grants.
import { account, answered, assert, bytes, helper, newKey, pages, refused, region, userArn } from "./harness.mjs";

export default async function access() {
  await aliases();
  await policies();
  await grants();
}

async function aliases() {
  const { KeyId: TargetKeyId, Arn } = await newKey();
  const other = await newKey();
  const names = ["alias/node/one", "alias/node/two", "alias/node/three"];
  for (const AliasName of names) await answered("CreateAlias", { AliasName, TargetKeyId });
  await refused("CreateAlias", { AliasName: names[0], TargetKeyId }, "AlreadyExistsException", "alias/node/one already exists");
  await refused("CreateAlias", { AliasName: "alias/aws/mine", TargetKeyId }, "InvalidAliasNameException");
  await refused("CreateAlias", { AliasName: "mine", TargetKeyId }, "ValidationException", "alias/");
  const sealed = await answered("Encrypt", { KeyId: names[0], Plaintext: Buffer.from("x") }, "CiphertextBlob EncryptionAlgorithm KeyId");
  assert.equal(sealed.KeyId, Arn);

  const listed = await pages("ListAliases", { KeyId: Arn }, "Aliases", 2);
  assert.deepEqual(listed.map((a) => a.AliasName).sort(), [...names].sort());
  for (const a of listed) {
    assert.deepEqual(Object.keys(a).sort(), "AliasArn AliasName CreationDate LastUpdatedDate TargetKeyId".split(" "));
    assert.equal(a.AliasArn, `arn:aws:kms:${region}:${account}:${a.AliasName}`);
    assert.equal(a.TargetKeyId, TargetKeyId);
  }
  await refused("ListAliases", { Marker: "no marker" }, "InvalidMarkerException");

  await answered("UpdateAlias", { AliasName: names[0], TargetKeyId: other.KeyId });
  await refused("UpdateAlias", { AliasName: "alias/node/none", TargetKeyId }, "NotFoundException", "alias/node/none");
  const moved = (await answered("ListAliases", { KeyId: other.KeyId }, "Aliases Truncated")).Aliases;
  assert.deepEqual(moved.map((a) => a.AliasName), [names[0]]);
  assert.ok(moved[0].LastUpdatedDate > moved[0].CreationDate, "LastUpdatedDate");
  await answered("DeleteAlias", { AliasName: names[1] });
  await refused("DeleteAlias", { AliasName: names[1] }, "NotFoundException", names[1]);
}

async function policies() {
  const { Arn: KeyId } = await newKey();
  assert.deepEqual((await answered("ListKeyPolicies", { KeyId }, "PolicyNames Truncated")).PolicyNames, ["default"]);
  assert.deepEqual(await pages("ListKeyPolicies", { KeyId }, "PolicyNames", 1), ["default"]);
  const { Policy, PolicyName } = await answered("GetKeyPolicy", { KeyId }, "Policy PolicyName");
  assert.equal(PolicyName, "default");
  const policy = JSON.parse(Policy);
  assert.equal(policy.Statement[0].Principal.AWS, `arn:aws:iam::${account}:root`);
  await refused("GetKeyPolicy", { KeyId, PolicyName: "other" }, "NotFoundException");

  policy.Statement.push({ Effect: "Allow", Principal: { AWS: userArn("helper") }, Action: "kms:Encrypt", Resource: "*" });
  const plain = { KeyId, Plaintext: Buffer.from("x") };
  await refused("Encrypt", plain, "AccessDeniedException", "because no identity-based policy allows the kms:Encrypt action", helper);
  await answered("PutKeyPolicy", { KeyId, PolicyName: "default", Policy: JSON.stringify(policy) });
  assert.deepEqual(JSON.parse((await answered("GetKeyPolicy", { KeyId }, "Policy PolicyName")).Policy), policy);
  await answered("Encrypt", plain, "CiphertextBlob EncryptionAlgorithm KeyId", helper);

  policy.Statement.push({ Effect: "Deny", Principal: "*", Action: "kms:Encrypt", Resource: "*" });
  await answered("PutKeyPolicy", { KeyId, Policy: JSON.stringify(policy) });
  await refused("Encrypt", plain, "AccessDeniedException", "with an explicit deny in a resource-based policy", helper);
  await refused("PutKeyPolicy", { KeyId, Policy: "{}" }, "MalformedPolicyDocumentException");
  policy.Statement = policy.Statement.slice(1);
  await refused("PutKeyPolicy", { KeyId, Policy: JSON.stringify(policy) }, "MalformedPolicyDocumentException", "in the future");
  await refused("PutKeyPolicy", { KeyId, Policy: `{"Id":"${"x".repeat(33 << 10)}"}` }, "LimitExceededException");
}

async function grants() {
  const { Arn: KeyId } = await newKey();
  const GranteePrincipal = userArn("helper");
  const EncryptionContextSubset = { purpose: "grant" };
  const input = { KeyId, GranteePrincipal, RetiringPrincipal: GranteePrincipal, Operations: ["Encrypt", "RetireGrant"] };
  const made = [];
  for (const Name of ["one", "two", "three"]) {
    made.push(await answered("CreateGrant", { ...input, Name, Constraints: { EncryptionContextSubset } }, "GrantId GrantToken"));
  }
  await refused("CreateGrant", { ...input, GranteePrincipal: "arn:aws:iam::1:user/x" }, "InvalidArnException");
  await refused("CreateGrant", { ...input, Operations: ["Sign"] }, "ValidationException");

  const plain = { KeyId, Plaintext: Buffer.from("x"), GrantTokens: [made[0].GrantToken] };
  const EncryptionContext = { purpose: "grant", more: "of it" };
  await answered("Encrypt", { ...plain, EncryptionContext }, "CiphertextBlob EncryptionAlgorithm KeyId", helper);
  await refused("Encrypt", plain, "AccessDeniedException", "not authorized", helper);
  await refused("Encrypt", { ...plain, GrantTokens: ["bm8gdG9rZW4="] }, "InvalidGrantTokenException", "", helper);

  for (const [operation, by] of [["ListGrants", { KeyId }], ["ListRetirableGrants", { RetiringPrincipal: GranteePrincipal }]]) {
    const { Grants } = await answered(operation, by, "Grants Truncated");
    const listed = await pages(operation, by, "Grants", 2);
    assert.deepEqual(listed, Grants, `${operation} in pages`);
    assert.deepEqual(listed.map((g) => g.GrantId).sort(), made.map((g) => g.GrantId).sort(), operation);
    for (const g of listed) {
      assert.deepEqual(
        Object.keys(g).filter((m) => g[m] !== undefined).sort(),
        "Constraints CreationDate GrantId GranteePrincipal IssuingAccount KeyId Name Operations RetiringPrincipal".split(" "),
      );
      assert.deepEqual([g.KeyId, g.GranteePrincipal, g.Constraints], [KeyId, GranteePrincipal, { EncryptionContextSubset }]);
      assert.deepEqual([...g.Operations].sort(), ["Encrypt", "RetireGrant"]);
      assert.equal(g.Name, ["one", "two", "three"][made.findIndex((m) => m.GrantId === g.GrantId)]);
    }
    await refused(operation, { ...by, Marker: "no marker" }, "InvalidMarkerException");
  }
  const one = (await answered("ListGrants", { KeyId, GrantId: made[1].GrantId }, "Grants Truncated")).Grants;
  assert.deepEqual(one.map((g) => g.Name), ["two"]);
  await refused("ListGrants", { KeyId, GrantId: "no id" }, "InvalidGrantIdException");
  await refused("ListRetirableGrants", { RetiringPrincipal: "no-principal" }, "InvalidArnException");

  await answered("RetireGrant", { GrantToken: made[0].GrantToken }, "", helper);
  await refused("RetireGrant", { GrantToken: made[0].GrantToken }, "InvalidGrantTokenException", "", helper);
  await answered("RetireGrant", { KeyId, GrantId: made[1].GrantId }, "", helper);
  await answered("RevokeGrant", { KeyId, GrantId: made[2].GrantId });
  await refused("RevokeGrant", { KeyId, GrantId: made[2].GrantId }, "NotFoundException");
  await refused("RevokeGrant", { KeyId, GrantId: "no id" }, "InvalidGrantIdException");
  await refused("Encrypt", { KeyId, Plaintext: bytes("x"), EncryptionContext }, "AccessDeniedException", "not authorized", helper);
  assert.equal((await answered("ListGrants", { KeyId }, "Grants Truncated")).Grants.length, 0);
}
