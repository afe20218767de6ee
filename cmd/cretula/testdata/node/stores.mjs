// SPDX-License-Identifier: Apache-2.0

// What the service has not: custom key stores and key encapsulation. The client
// must learn so by the exception that AWS has for it.
import { absent, answered, assert, newKey, outsider, pages, refused } from "./harness.mjs";

const CustomKeyStoreId = "cks-1234567890abcdef0";

export default async function stores() {
  const { Arn: KeyId } = await newKey();
  const EncapsulationAlgorithm = "ML_KEM";
  const inputs = {
    ConnectCustomKeyStore: { CustomKeyStoreId },
    CreateCustomKeyStore: { CustomKeyStoreName: "none" },
    Decapsulate: { KeyId, SharedSecretCiphertextBlob: Buffer.from("x"), EncapsulationAlgorithm },
    DeleteCustomKeyStore: { CustomKeyStoreId },
    DisconnectCustomKeyStore: { CustomKeyStoreId },
    Encapsulate: { KeyId, EncapsulationAlgorithm },
    UpdateCustomKeyStore: { CustomKeyStoreId, NewCustomKeyStoreName: "other" },
  };
  for (const [name, input] of Object.entries(inputs)) {
    await absent(name, input);
    if (name.endsWith("CustomKeyStore")) await refused(name, input, "AccessDeniedException", `kms:${name} `, outsider);
  }
  const { CustomKeyStores } = await answered("DescribeCustomKeyStores", {}, "CustomKeyStores Truncated");
  assert.deepEqual(CustomKeyStores, []);
  assert.deepEqual(await pages("DescribeCustomKeyStores", {}, "CustomKeyStores", 2), []);
  await refused("DescribeCustomKeyStores", { CustomKeyStoreId }, "CustomKeyStoreNotFoundException", CustomKeyStoreId);
}
