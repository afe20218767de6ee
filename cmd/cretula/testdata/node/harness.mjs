// SPDX-License-Identifier: Apache-2.0

// Sends operations with an unmodified @aws-sdk/client-kms and checks what comes
// back. Endpoint, region and credentials come from the environment, as the SDK
// finds them. Notes what was called and answered, so that nothing is forgotten.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as sdk from "@aws-sdk/client-kms";
import { check, checkNames, members, operationOf, uuid } from "./shapes.mjs";

export { assert, sdk };
export const dir = process.argv[2];
export const setup = JSON.parse(readFileSync(join(dir, "setup.json"), "utf8"));
export const region = process.env.AWS_REGION;
export const otherRegion = region === "eu-central-1" ? "us-east-1" : "eu-central-1";

// client makes a client that tries once: an answer is what the service said first.
export function client(options) {
  const made = new sdk.KMSClient({ maxAttempts: 1, ...options });
  made.middlewareStack.add(watch, { step: "deserialize", priority: "low", name: "watch" });
  return made;
}

// watch looks at answers before the client reads them.
const watch = (next, { commandName }) => async (args) => {
  const { response } = await next(args);
  const chunks = [];
  for await (const chunk of response.body) chunks.push(chunk);
  response.body = Buffer.concat(chunks);
  assert.equal(response.headers["content-type"], "application/x-amz-json-1.1", commandName);
  if (response.statusCode === 200) {
    const schema = operationOf(commandName.replace(/Command$/, "")).output();
    if (schema === "unit") assert.equal(response.body.length, 0, `${commandName}: has a body`);
    else checkNames(JSON.parse(response.body), schema, commandName);
  } else {
    const { __type, ...texts } = JSON.parse(response.body);
    const text = __type === "AccessDeniedException" ? "Message" : "message";
    assert.ok(Object.keys(texts).every((name) => name === text), `${commandName}: ${response.body}`);
  }
  return { response };
};
export const home = client();
export const away = client({ region: otherRegion });
// outsider and helper are users of the same account without any policy.
export const outsider = client({ credentials: setup.outsider });
export const helper = client({ credentials: setup.helper });
export const account = setup.account;
export const userArn = (name) => `arn:aws:iam::${account}:user/${name}`;

export const operations = Object.keys(sdk).filter((n) => /[a-z]Command$/.test(n)).map((n) => n.replace(/Command$/, ""));
export const paginators = Object.keys(sdk).filter((n) => n.startsWith("paginate"));
export const exceptions = Object.keys(sdk).filter((n) => /Exception$/.test(n) && n !== "KMSServiceException");
export const seen = { answered: new Set(), refused: new Set(), denied: new Set(), absent: new Set(), exceptions: new Set(), paginated: new Set() };

const command = (name, input) => new sdk[`${name}Command`](input);
const has = (schema, member) => members(schema).some(([name]) => name === member);
const bytes = (value) => Buffer.from(value ?? []);
export { bytes };

// answered sends a request and returns the answer, which must have exactly these
// members, of the types of the client's schema. The first request of an operation
// is sent by others before: see rehearse.
export async function answered(name, input, expected = "", from = home) {
  if (!seen.answered.has(name)) await rehearse(name, input, from);
  seen.answered.add(name);
  const { $metadata, ...answer } = await from.send(command(name, input));
  assert.equal($metadata.httpStatusCode, 200, name);
  assert.match($metadata.requestId, uuid, `${name}: request id`);
  const present = Object.keys(answer).filter((member) => answer[member] !== undefined);
  assert.deepEqual(present.sort(), expected.split(" ").filter(Boolean).sort(), `${name}: members`);
  check(answer, operationOf(name).output, name);
  return answer;
}

// rehearse sends a valid request in manners in which it must not act: by a user
// who may not, as a dry run and, where a KeyId decides, for a key that does not
// exist.
async function rehearse(name, input, from) {
  const { input: schema } = operationOf(name);
  const options = { credentials: setup.outsider, region: await from.config.region() };
  await refused(name, input, "AccessDeniedException", deniedText(name), client(options));
  seen.denied.add(name);
  if (has(schema, "DryRun")) await refused(name, { ...input, DryRun: true }, "DryRunOperationException", "DryRun", from);
  const member = ["KeyId", "TargetKeyId", "DestinationKeyId"].find((m) => input[m] !== undefined);
  if (member) await refused(name, { ...input, [member]: "00000000-0000-4000-8000-000000000000" }, "NotFoundException", "does not exist", from);
}

// absent sends a request of an operation that the service has not.
export async function absent(name, input) {
  seen.absent.add(name);
  await refused(name, input, "UnsupportedOperationException", "This key service does not have");
}

// The action of an operation in the text of a denial, where it is not the name.
const actions = { ReEncrypt: "ReEncryptFrom" };
const deniedText = (name) => `User: ${userArn("outsider")} is not authorized to perform: kms:${actions[name] ?? name}`;

// silent are those that AWS always sends without a text, for which the client has
// one of its own.
const silent = ["InvalidCiphertextException", "KMSInvalidMacException", "KMSInvalidSignatureException"];
// unmodelled are those that each AWS service has without a class in its client.
const unmodelled = ["AccessDeniedException", "InvalidSignatureException", "UnrecognizedClientException", "ValidationException"];

// refused sends a request that must be answered with the exception, as an instance
// of the client's class of it where it has one, and one that the client's
// documentation names for the operation. text is a part of its text; null: it has
// none.
export async function refused(name, input, exception, text = silent.includes(exception) ? null : "", from = home) {
  const what = `${name}, ${exception}`;
  const error = await from.send(command(name, input)).then(() => assert.fail(`${what}: answered`), (e) => e);
  if (!(error instanceof sdk.KMSServiceException)) throw error;
  assert.equal(error.name, exception, `${what}: ${error.name}: ${error.message}`);
  if (unmodelled.includes(exception)) {
    assert.equal(error.constructor, sdk.KMSServiceException, what);
  } else {
    assert.ok(error instanceof sdk[exception], `${what}: no instance of ${exception}`);
    assert.ok(documented(name).includes(exception) || seen.absent.has(name), `${what}: not documented for this operation`);
  }
  const fault = exception === "KMSInternalException" ? "server" : "client";
  assert.equal(error.$fault, fault, what);
  assert.equal(error.$metadata.httpStatusCode, fault === "server" ? 500 : 400, what);
  assert.match(error.$metadata.requestId, uuid, what);
  assert.equal(error.message === "UnknownError", text === null, `${what}: ${error.message}`);
  assert.ok(error.message.includes(text ?? ""), `${what}: ${error.message}`);
  seen.refused.add(name);
  seen.exceptions.add(exception);
  return error;
}

const commands = join(dirname(createRequire(import.meta.url).resolve("@aws-sdk/client-kms/package.json")), "dist-types", "commands");
const throws = new Map();

// documented returns the exceptions that the client documents for an operation.
function documented(name) {
  if (!throws.has(name)) {
    const text = readFileSync(join(commands, `${name}Command.d.ts`), "utf8");
    throws.set(name, [...text.matchAll(/@throws \{@link (\w+)\}/g)].map((m) => m[1]));
  }
  return throws.get(name);
}

// pages returns what a paginator brings of the list, which must come in several
// pages of at most pageSize entries.
export async function pages(operation, input, list, pageSize, from = home) {
  const all = [];
  let count = 0;
  for await (const page of sdk[`paginate${operation}`]({ client: from, pageSize }, input)) {
    assert.ok(page[list].length <= pageSize, `${operation}: a page of ${page[list].length}`);
    assert.equal(page.Truncated, page.NextMarker !== undefined, `${operation}: Truncated`);
    check(page, operationOf(operation).output, operation);
    all.push(...page[list]);
    count++;
  }
  assert.ok(count >= Math.ceil(all.length / pageSize), `${operation}: ${count} pages`);
  seen.paginated.add(`paginate${operation}`);
  return all;
}

// The members of KeyMetadata that every key has, but for those of its usage.
const metadata = "AWSAccountId Arn CreationDate CustomerMasterKeySpec Description Enabled KeyId KeyManager KeySpec KeyState KeyUsage MultiRegion Origin";

// describedAs checks which members the metadata of a key has beyond those of all.
export function describedAs(key, beyond) {
  const present = Object.keys(key).filter((member) => key[member] !== undefined);
  assert.deepEqual(present.sort(), `${metadata} ${beyond}`.trim().split(" ").sort(), `KeyMetadata of ${key.KeySpec} ${key.Origin}`);
}

// newKey makes a key and returns its metadata.
export async function newKey(input = {}, from = home) {
  return (await answered("CreateKey", input, "KeyMetadata", from)).KeyMetadata;
}

export async function describe(KeyId, from = home) {
  return (await answered("DescribeKey", { KeyId }, "KeyMetadata", from)).KeyMetadata;
}
