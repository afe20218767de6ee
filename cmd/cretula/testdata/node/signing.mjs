// SPDX-License-Identifier: Apache-2.0

// Requests that are signed wrongly, and a clock that the client sets right.
import { answered, assert, client, home, refused, setup } from "./harness.mjs";

const skew = 10 * 60e3; // twice what AWS KMS takes

export default async function signing() {
  const input = ["ListKeys", { Limit: 1 }];
  const { outsider } = setup;
  const as = (credentials) => client({ credentials });
  await refused(...input, "InvalidSignatureException", "", as({ ...outsider, secretAccessKey: "another" }));
  await refused(...input, "UnrecognizedClientException", "", as({ ...outsider, accessKeyId: "AKIAAAAAAAAAAAAAAAAA" }));
  await refused(...input, "UnrecognizedClientException", "", as({ ...outsider, sessionToken: "none was given" }));

  // The client learns the time of the service from an answer and signs with it from
  // then on.
  for (const systemClockOffset of [skew, -skew]) {
    const wrong = client({ systemClockOffset });
    await refused(...input, "InvalidSignatureException", "5 min", wrong);
    await answered(...input, "Keys NextMarker Truncated", wrong);
    assert.ok(Math.abs(wrong.config.systemClockOffset) < 60e3, "the client's clock");
  }
  await answered(...input, "Keys NextMarker Truncated", home);
}
