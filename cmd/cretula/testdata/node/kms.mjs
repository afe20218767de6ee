// SPDX-License-Identifier: Apache-2.0

// Calls a key service with an unmodified @aws-sdk/client-kms. Endpoint, region
// and credentials come from the environment, as the SDK finds them. The envelope
// is opened by OpenSSL. Prints one JSON object; any deviation throws.
//
// usage: node kms.mjs WORKDIR   (WORKDIR has key.pem and document.cbor)
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  CreateKeyCommand, DecryptCommand, DescribeKeyCommand, EncryptCommand,
  GenerateDataKeyCommand, GenerateRandomCommand, GetKeyPolicyCommand,
  KMSClient, ListKeysCommand, PutKeyPolicyCommand,
} from "@aws-sdk/client-kms";

const dir = process.argv[2];
const kms = new KMSClient({});
const recipient = () => ({
  KeyEncryptionAlgorithm: "RSAES_OAEP_SHA_256",
  AttestationDocument: readFileSync(join(dir, "document.cbor")),
});

// open lets OpenSSL decrypt an envelope with the recipient's private key.
function open(name, envelope) {
  assert.ok(envelope?.length > 0, `${name}: no CiphertextForRecipient`);
  const file = join(dir, `${name}.ber`);
  writeFileSync(file, envelope);
  return execFileSync("openssl", ["cms", "-decrypt", "-inform", "DER", "-in", file, "-inkey", join(dir, "key.pem")]);
}

const { KeyMetadata } = await kms.send(new CreateKeyCommand({ Description: "made by node" }));
const KeyId = KeyMetadata.Arn;
assert.equal(KeyMetadata.KeyState, "Enabled");
const described = await kms.send(new DescribeKeyCommand({ KeyId: KeyMetadata.KeyId }));
assert.equal(described.KeyMetadata.Arn, KeyId);
assert.equal(described.KeyMetadata.Description, "made by node");

const listed = [];
let Marker;
do {
  const page = await kms.send(new ListKeysCommand({ Marker, Limit: 1000 }));
  listed.push(...page.Keys.map((k) => k.KeyArn));
  Marker = page.Truncated ? page.NextMarker : undefined;
} while (Marker);
assert.ok(listed.includes(KeyId), "the new key is not listed");

const Policy = (await kms.send(new GetKeyPolicyCommand({ KeyId }))).Policy;
await kms.send(new PutKeyPolicyCommand({ KeyId, Policy }));
assert.deepEqual(JSON.parse((await kms.send(new GetKeyPolicyCommand({ KeyId }))).Policy), JSON.parse(Policy));

const secret = Buffer.from("a secret made by node");
const EncryptionContext = { purpose: "test" };
const { CiphertextBlob } = await kms.send(new EncryptCommand({ KeyId, Plaintext: secret, EncryptionContext }));
const plain = await kms.send(new DecryptCommand({ CiphertextBlob, EncryptionContext }));
assert.deepEqual(Buffer.from(plain.Plaintext), secret);
await assert.rejects(kms.send(new DecryptCommand({ CiphertextBlob })), { name: "InvalidCiphertextException" });

const attested = await kms.send(new DecryptCommand({ KeyId, CiphertextBlob, EncryptionContext, Recipient: recipient() }));
assert.equal(attested.Plaintext, undefined, "plaintext beside an envelope");
assert.equal(attested.KeyId, KeyId);
assert.deepEqual(open("decrypt", attested.CiphertextForRecipient), secret);

const dataKey = await kms.send(new GenerateDataKeyCommand({ KeyId, KeySpec: "AES_256", Recipient: recipient() }));
assert.equal(dataKey.Plaintext, undefined);
const opened = open("datakey", dataKey.CiphertextForRecipient);
assert.equal(opened.length, 32);
const again = await kms.send(new DecryptCommand({ CiphertextBlob: dataKey.CiphertextBlob }));
assert.deepEqual(Buffer.from(again.Plaintext), opened, "the wrapped and the sealed data key differ");

const random = await kms.send(new GenerateRandomCommand({ NumberOfBytes: 48, Recipient: recipient() }));
assert.equal(random.Plaintext, undefined);
assert.equal(open("random", random.CiphertextForRecipient).length, 48);

for (const bad of [{}, { KeyEncryptionAlgorithm: "RSAES_OAEP_SHA_256" }, { AttestationDocument: Buffer.from("no document") }]) {
  for (const Command of [DecryptCommand, GenerateDataKeyCommand, GenerateRandomCommand]) {
    const input = { KeyId, CiphertextBlob, EncryptionContext, NumberOfBytes: 32, Recipient: bad };
    await assert.rejects(kms.send(new Command(input)), { name: "ValidationException" });
  }
}
console.log(JSON.stringify({ keyId: KeyId, ok: true }));
