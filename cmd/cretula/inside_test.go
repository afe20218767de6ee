// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

// The demo says of its enclave only what the enclave itself has found.
func TestAroundIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		around   around
		isolated bool
		ok       bool
	}{
		"as told":               {around{Locked: 16}, true, true},
		"a network, and told":   {around{Locked: 16, Network: []string{"eth0"}}, false, true},
		"a network":             {around{Locked: 16, Network: []string{"eth0"}}, true, false},
		"an environment":        {around{Locked: 16, Environment: []string{"AWS_REGION"}}, false, false},
		"a register open":       {around{Locked: 15}, true, false},
		"more locked than told": {around{Locked: 17}, true, false},
		"nothing reported":      {around{}, true, false},
	} {
		if err := c.around.check(c.isolated); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
