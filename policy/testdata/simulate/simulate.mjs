// SPDX-License-Identifier: Apache-2.0

// Answers requests, one JSON text a line, by the simulator's own core. The core is
// called below its public function, which drops the condition keys that it does not
// list for an action, the encryption context among them.

import { createInterface } from 'node:readline'
import { loadPolicy, validateIdentityPolicy, validateResourcePolicy } from '@cloud-copilot/iam-policy'
import { isWildcardOnlyAction } from '@cloud-copilot/iam-simulate'

const dist = './node_modules/@cloud-copilot/iam-simulate/dist/esm/'
const { authorize } = await import(dist + 'core_engine/CoreSimulatorEngine.js')
const { DiscoveryContextKeyConstraints } = await import(dist + 'context_keys/discoveryContextKeyConstraints.js')
const { AwsRequestImpl } = await import(dist + 'request/request.js')
const { RequestContextImpl } = await import(dist + 'requestContext.js')

const load = (list) => list.map((policy, i) => loadPolicy(policy, { name: String(i) }))

async function decide(q) {
  const invalid = []
  for (const p of [...q.identity, ...q.boundary, ...q.session]) invalid.push(...validateIdentityPolicy(p))
  if (q.key) invalid.push(...validateResourcePolicy(q.key))
  const [service, action] = q.action.split(':')
  const resource = { resource: q.resource, accountId: q.account }
  const wildcardOnly = await isWildcardOnlyAction(service, action)
  const answer = authorize({
    request: new AwsRequestImpl(q.principal, resource, q.action, new RequestContextImpl(q.context), wildcardOnly),
    sessionPolicy: load(q.session)[0],
    identityPolicies: load(q.identity),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: q.key ? loadPolicy(q.key, { name: 'key' }) : undefined,
    permissionBoundaries: q.boundary.length ? load(q.boundary) : undefined,
    vpcEndpointPolicies: undefined,
    simulationParameters: {
      simulationMode: 'Strict',
      discoveryContextKeyConstraints: new DiscoveryContextKeyConstraints([])
    },
    serviceSettings: {}
  })
  return { result: answer.result, invalid: invalid.map((e) => `${e.path}: ${e.message}`) }
}

for await (const line of createInterface({ input: process.stdin })) {
  let answer
  try {
    answer = await decide(JSON.parse(line))
  } catch (error) {
    answer = { error: String(error.stack) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
