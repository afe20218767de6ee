// SPDX-License-Identifier: Apache-2.0

// Calls a key service with an unmodified @aws-sdk/client-kms: every operation that
// the client has, and every exception that the service can answer with. Prints one
// JSON object; any deviation throws.
//
// usage: node kms.mjs WORKDIR [MODULE...]
//
// WORKDIR has setup.json, key.pem and document.cbor. With modules, only their part.
import access from "./access.mjs";
import asymmetric from "./asymmetric.mjs";
import attested from "./attested.mjs";
import { assert, exceptions, operations, paginators, seen } from "./harness.mjs";
import imports from "./imports.mjs";
import keys from "./keys.mjs";
import regions from "./regions.mjs";
import rotation from "./rotation.mjs";
import signing from "./signing.mjs";
import stores from "./stores.mjs";
import symmetric from "./symmetric.mjs";

// Exceptions of the client that nothing here provokes, and why.
const never = {
  // Of custom key stores, which the service has not.
  ...Object.fromEntries(exceptions.filter((n) => /^(CloudHsm|Xks|IncorrectTrustAnchor)/.test(n)).map((n) => [n, "no stores"])),
  CustomKeyStoreHasCMKsException: "no stores",
  CustomKeyStoreInvalidStateException: "no stores",
  CustomKeyStoreNameInUseException: "no stores",
  KeyUnavailableException: "no stores",
  DependencyTimeoutException: "no dependencies",
  ExpiredImportTokenException: "a token lives for 24 hours",
  ConflictException: "an automatic rotation is at least 90 days away",
};

const only = process.argv.slice(3);
const modules = { keys, access, symmetric, asymmetric, rotation, imports, regions, attested, stores, signing };
const took = {};
for (const [name, run] of Object.entries(modules)) {
  if (only.length > 0 && !only.includes(name)) continue;
  const start = Date.now();
  await run();
  took[name] = Date.now() - start;
}
if (only.length === 0) {
  const missing = (all, some) => all.filter((name) => !some.has(name));
  assert.deepEqual(missing(operations, seen.answered).sort(), [...seen.absent].sort(), "operations that were not answered");
  assert.deepEqual(missing(operations, seen.refused), [], "operations that were never refused");
  assert.deepEqual(missing([...seen.answered], seen.denied), [], "operations that were never denied");
  assert.deepEqual(missing(paginators, seen.paginated), [], "paginators that were not used");
  assert.deepEqual(missing(exceptions, seen.exceptions).sort(), Object.keys(never).sort(), "exceptions that were not answered");
}
console.log(JSON.stringify({ ok: true, operations: operations.length, exceptions: seen.exceptions.size, milliseconds: took }));
