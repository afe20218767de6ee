// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/cli"
)

// TestBenchVerify runs everything that is measured. What it takes is not for a
// test to judge; what it allocates is.
func TestBenchVerify(t *testing.T) {
	r, err := benchVerify(3)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"raw", "raw_std", "warm", "new_leaf", "cold", "cold_std"} {
		if r.Medians[name] <= 0 || r.Allocations[name].Objects == 0 || r.Allocations[name].Bytes == 0 {
			t.Errorf("%s: %d ns, %+v", name, r.Medians[name], r.Allocations[name])
		}
	}
	allocations := 0
	for _, target := range r.Targets {
		if strings.Contains(target.Name, "allocated") {
			allocations++
			if !target.Met {
				t.Errorf("%s: %v, limit %v", target.Name, target.Value, target.Limit)
			}
		}
	}
	if allocations != 2 {
		t.Errorf("%d targets of allocations, want 2", allocations)
	}
	var out bytes.Buffer
	env := &cli.Env{Stdout: &out}
	if err := printBench(env, r); err != nil || strings.Count(out.String(), " x ") != 6 {
		t.Errorf("%v\n%s", err, &out)
	}
	out.Reset()
	if err := env.PrintJSON(r); err != nil || !json.Valid(out.Bytes()) || !strings.Contains(out.String(), `"schema": "cretula.bench.verify.v1"`) {
		t.Errorf("%v\n%s", err, &out)
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if len(line) > 120 {
			t.Errorf("a line of %d columns", len(line))
		}
	}
}

func TestJudge(t *testing.T) {
	r := &benchResult{
		Implementation: "circl",
		Medians:        map[string]int64{"raw": 100, "warm": 125, "cold": 550, "cold_std": 935},
		Allocations:    map[string]benchAllocations{"raw": {10, 100}, "warm": {110, 100 + 12<<10}},
	}
	r.judge()
	for _, target := range r.Targets {
		if !target.Met {
			t.Errorf("%s: %v is within %v", target.Name, target.Value, target.Limit)
		}
	}
	r.Medians["warm"], r.Medians["cold"], r.Allocations["warm"], r.Targets = 126, 551, benchAllocations{111, 101 + 12<<10}, nil
	r.judge()
	for _, target := range r.Targets {
		if target.Met {
			t.Errorf("%s: %v is beyond %v", target.Name, target.Value, target.Limit)
		}
	}
	if len(r.Targets) != 5 {
		t.Errorf("%d targets, want 5", len(r.Targets))
	}
}
