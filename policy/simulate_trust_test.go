// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"testing"
)

// Trust policies are decided as the simulator decides them: each caller under each way
// to name it, with each policy of its own. What the simulator does differently is what
// simDifferences says of session policies.
func TestSimulatorTrust(t *testing.T) {
	sim := startSimulator(t)
	one := func(effect, action, resource string) []simPolicy {
		return []simPolicy{{Version2012, []simStatement{{Effect: effect, Action: simList{action}, Resource: simList{resource}}}}}
	}
	none, other := []simPolicy{}, one("Allow", "sts:*", "arn:aws:iam::111122223333:role/other")
	may, deny := one("Allow", "sts:Assume*", "arn:aws:iam::*:role/path/*"), one("Deny", "sts:AssumeRole*", "*")
	names := []string{"*", own, foreign, rootARN, userARN, userARN + "2", roleARN, sessARN, otherUser.ARN, otherRole.ARN, otherRole.RoleARN, "ec2.amazonaws.com", webIdentity.ARN}
	pairs, allowed := 0, 0
	for _, caller := range []Principal{user, session, otherUser, otherRole, service, webIdentity} {
		action, plain := "sts:AssumeRole", caller.Type == CallerService || caller.Type == CallerWebIdentity
		if caller.Type == CallerWebIdentity {
			action += "WithWebIdentity"
		}
		for _, name := range names {
			for i, identity := range [][]simPolicy{none, may, other, deny} {
				for j, limit := range [][]simPolicy{none, may, other, deny} {
					if plain && i+j > 0 {
						continue
					}
					p := &simPair{
						Caller: caller, Action: action, Resource: assumed, Trust: true, Identity: identity, Boundary: none, Session: none,
						Context: map[string]simValues{claimSub: {false, []string{branch}}},
						Key:     &simPolicy{Version2012, []simStatement{{Effect: "Allow", Principal: simPrincipals{name}, Action: simList{"sts:Assume*"}}}},
					}
					p.Key.Statement[0].want("StringEquals", claimSub, branch)
					if j%2 == 1 && !plain {
						p.Key.Statement = append(p.Key.Statement, simStatement{Effect: "Deny", Principal: simPrincipals{userARN + "3"}, Action: simList{"sts:*"}})
					}
					if p.Boundary = limit; caller.Type == CallerRoleSession && i%2 == 1 {
						p.Boundary, p.Session, p.sessionCutsAll = none, limit, caller.AccountID == own
					}
					theirs, err := sim.ask(t, p)
					if err != nil {
						t.Fatalf("%v\n%s", err, p.json(t))
					}
					if caller.Type == CallerWebIdentity && name == "*" {
						theirs = false // an Allow of everyone asks for no claim: ours wants the provider named
					}
					d := p.decide(t)
					if pairs++; d.Allowed {
						allowed++
					}
					if d.Allowed != theirs {
						t.Errorf("ours %s, allowed %v; the simulator %v:\n%s", d.Cause, d.Allowed, theirs, p.json(t))
					}
					if slices.Contains([]string{"key", "delegated"}, strings.Split(string(d.Cause), "-")[0]) {
						t.Errorf("the cause %s is of a key", d.Cause)
					}
				}
			}
		}
	}
	if pairs < 500 || allowed < 50 {
		t.Errorf("%d of %d pairs allowed", allowed, pairs)
	}
	t.Logf("%d of %d pairs allowed", allowed, pairs)
}
