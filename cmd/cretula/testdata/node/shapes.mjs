// SPDX-License-Identifier: Apache-2.0

// Checks answers against the shapes that the client has of them, and the form of
// the names in them against what the API reference says.
import assert from "node:assert/strict";
import * as sdk from "@aws-sdk/client-kms";

const region = "[a-z]{2}-[a-z]+-[0-9]";
const keyId = "([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})";
const digest = /^[0-9a-f]{64}$/;
const keyArn = new RegExp(`^arn:aws:kms:${region}:[0-9]{12}:key/${keyId}$`);
export const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

// The form of strings by the name of their member, or STRUCTURE.MEMBER where that
// decides: a KeyId is an ARN but in these three.
const forms = {
  KeyId: keyArn,
  "KeyMetadata.KeyId": new RegExp(`^${keyId}$`),
  "KeyListEntry.KeyId": new RegExp(`^${keyId}$`),
  "GetKeyLastUsageResponse.KeyId": new RegExp(`^${keyId}$`),
  TargetKeyId: new RegExp(`^${keyId}$`),
  Arn: keyArn,
  KeyArn: keyArn,
  SourceKeyId: keyArn,
  AliasArn: new RegExp(`^arn:aws:kms:${region}:[0-9]{12}:alias/[a-zA-Z0-9:/_-]+$`),
  AliasName: /^alias\/[a-zA-Z0-9:/_-]+$/,
  AWSAccountId: /^[0-9]{12}$/,
  IssuingAccount: /^arn:aws:iam::[0-9]{12}:root$/,
  GranteePrincipal: /^arn:aws:(iam|sts)::[0-9]{12}:.+$/,
  RetiringPrincipal: /^arn:aws:(iam|sts)::[0-9]{12}:.+$/,
  Region: new RegExp(`^${region}$`),
  CurrentKeyMaterialId: digest,
  KeyMaterialId: digest,
  SourceKeyMaterialId: digest,
  DestinationKeyMaterialId: digest,
  GrantId: digest,
  KmsRequestId: uuid,
  KeyUsage: sdk.KeyUsageType,
  KeyState: sdk.KeyState,
  Origin: sdk.OriginType,
  KeyOrigin: sdk.OriginType,
  KeyManager: sdk.KeyManagerType,
  ExpirationModel: sdk.ExpirationModelType,
  ImportState: sdk.ImportState,
  KeyMaterialState: sdk.KeyMaterialState,
  RotationType: sdk.RotationType,
  MultiRegionKeyType: sdk.MultiRegionKeyType,
  CustomerMasterKeySpec: sdk.KeySpec,
  KeySpec: sdk.KeySpec,
  KeyPairSpec: sdk.DataKeyPairSpec,
  EncryptionAlgorithms: sdk.EncryptionAlgorithmSpec,
  EncryptionAlgorithm: sdk.EncryptionAlgorithmSpec,
  SourceEncryptionAlgorithm: sdk.EncryptionAlgorithmSpec,
  DestinationEncryptionAlgorithm: sdk.EncryptionAlgorithmSpec,
  SigningAlgorithms: sdk.SigningAlgorithmSpec,
  SigningAlgorithm: sdk.SigningAlgorithmSpec,
  KeyAgreementAlgorithms: sdk.KeyAgreementAlgorithmSpec,
  KeyAgreementAlgorithm: sdk.KeyAgreementAlgorithmSpec,
  MacAlgorithms: sdk.MacAlgorithmSpec,
  MacAlgorithm: sdk.MacAlgorithmSpec,
  Operations: sdk.GrantOperation,
  "KeyLastUsageData.Operation": sdk.KeyLastUsageTrackingOperation,
};

// The kinds of schemas of the client (@smithy/core/schema).
const kinds = { list: 1, map: 2, structure: 3, listOf: 64, mapOf: 128 };
const types = {
  0: (value) => typeof value === "string",
  1: (value) => Number.isSafeInteger(value),
  2: (value) => typeof value === "boolean",
  4: (value) => value instanceof Date && plausible(value),
  21: (value) => value instanceof Uint8Array && value.length > 0,
};

// plausible tells whether a time can be one of a test: seconds read as
// milliseconds are not.
function plausible(date) {
  const days = (date.getTime() - Date.now()) / 86400e3;
  return days > -1 && days < 8 * 366;
}

// members returns the structure's [name, schema] pairs.
export function members(schema) {
  const structure = typeof schema === "function" ? schema() : schema;
  return structure[0] === kinds.structure ? structure[4].map((name, i) => [name, structure[5][i]]) : [];
}

// operationOf returns the input and output schema of an operation.
export function operationOf(name) {
  const [, , , , input, output] = sdk[`${name}$`];
  return { input, output };
}

// check fails unless a value has the type of its schema and the form of its name.
export function check(value, schema, path) {
  if (typeof schema[0] === "function") [schema] = schema; // with traits of the member
  if (typeof schema === "function") schema = schema();
  if (schema === "unit") return;
  const [structure, member] = path.split(".").slice(-2).map((part) => part.replace(/\[.*\]$/, ""));
  if (typeof schema === "number") {
    if (schema & (kinds.listOf | kinds.mapOf)) {
      assert.ok(Object.values(value).every((item) => types[schema & 63](item)), `${path}: ${JSON.stringify(value)}`);
      return [value].flat().forEach((item) => checkForm(item, structure, member, path));
    }
    assert.ok(types[schema]?.(value), `${path} is of a wrong type: ${value}`);
    return checkForm(value, structure, member, path);
  }
  switch (schema[0]) {
    case 0:
      return check(value, schema[4], path);
    case kinds.list:
      assert.ok(Array.isArray(value), `${path} is no list`);
      return value.forEach((item, i) => check(item, schema[4], `${path}[${i}]`));
    case kinds.structure:
      for (const [name, inner] of members(schema)) {
        if (value[name] !== undefined) check(value[name], inner, `${schema[2]}.${name}`);
      }
      return;
    default:
      assert.fail(`${path}: a schema that this check does not know: ${schema}`);
  }
}

// checkNames fails if JSON as it was sent has members that the client does not know,
// which it passes over, or null ones.
export function checkNames(json, schema, path) {
  if (typeof schema[0] === "function") [schema] = schema;
  if (typeof schema === "function") schema = schema();
  if (Array.isArray(json)) return json.forEach((item) => checkNames(item, schema[4] ?? schema, `${path}[]`));
  if (typeof json !== "object" || schema[0] !== kinds.structure) return;
  const known = new Map(members(schema));
  for (const [name, value] of Object.entries(json)) {
    assert.ok(known.has(name) && value !== null, `${path}.${name}: ${value}`);
    checkNames(value, known.get(name), `${path}.${name}`);
  }
}

function checkForm(value, structure, member, path) {
  const form = forms[`${structure}.${member}`] ?? forms[member];
  if (form === undefined || typeof value !== "string") return;
  const good = form instanceof RegExp ? form.test(value) : Object.values(form).includes(value);
  assert.ok(good, `${path} is ${value}`);
}
