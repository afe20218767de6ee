// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/cli"
)

// TestBenchKMS runs everything that is measured, a little of it. How much time it
// takes is not for a test to judge; that the right thing was measured is: the
// answers are looked at while it runs.
func TestBenchKMS(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process's time is not measured on Windows")
	}
	program, err := exec.LookPath("cretula")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	b := kmsBench{keys: 40, rounds: 3, fresh: 2, plain: 3 * benchConnections, attested: benchConnections, loop: 4, short: 8, program: program}
	var out bytes.Buffer
	env := &cli.Env{Stdout: &out, Stderr: io.Discard}
	r, err := b.run(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range benchTurns {
		if r.Small[kind] < 0 || r.Large[kind] < 0 {
			t.Errorf("%s: %d ns, %d ns", kind, r.Small[kind], r.Large[kind])
		}
	}
	if r.Small[benchAttested] <= r.Small[benchSigV4] || r.Large[benchAttested] <= r.Large[benchSigV4] {
		t.Errorf("an attested Decrypt took no longer than one of its parts: %v, %v", r.Small, r.Large)
	}
	if len(r.Targets) != 6 || r.RecordsPerSync < 1 {
		t.Errorf("%d targets, %v records per sync", len(r.Targets), r.RecordsPerSync)
	}
	if err := r.print(env); err != nil || strings.Count(out.String(), " µs\n") != 6 {
		t.Errorf("%v\n%s", err, &out)
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if len([]rune(line)) > 80 {
			t.Errorf("a line of %d columns: %s", len([]rune(line)), line)
		}
	}
	out.Reset()
	if err := env.PrintJSON(r); err != nil || !json.Valid(out.Bytes()) || !strings.Contains(out.String(), `"schema": "cretula.bench.kms.v1"`) {
		t.Errorf("%v\n%s", err, &out)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A server that cannot be started, or answers with an error, is one error and
// leaves nothing behind.
func TestBenchKMSFails(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	b := kmsBench{keys: 1, rounds: 1, fresh: 1, plain: 1, attested: 1, loop: 1, program: "/nonexistent/cretula"}
	if r, err := b.run(t.Context(), &cli.Env{Stderr: io.Discard}); err == nil || r != nil {
		t.Errorf("%v, %v", r, err)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBenchKMSFlags(t *testing.T) {
	for _, keys := range []string{"0", "-1", "1000001", "many"} {
		if status := run([]string{"bench", "kms", "--keys", keys}, &cli.Env{Stdout: io.Discard, Stderr: io.Discard}); status != 2 {
			t.Errorf("--keys %s: exit status %d", keys, status)
		}
	}
}

func TestJudgeKMS(t *testing.T) {
	round := func(signature, decrypt, attested, cryptography, sigv4, decision int64) kmsSamples {
		return kmsSamples{
			benchSignature: {signature}, benchDecrypt: {decrypt}, benchAttested: {attested},
			benchCryptography: {cryptography}, benchSigV4: {sigv4}, benchDecision: {decision},
		}
	}
	for _, test := range []struct {
		name         string
		small, large kmsSamples
		met          bool
	}{
		{"within", round(100, 200, 1400, 1000, 20, 30), round(110, 220, 1540, 1100, 22, 33), true},
		{"beyond", round(100, 200, 1400, 1000, 20, 30), round(110, 222, 1542, 1100, 22, 34), false},
	} {
		var r kmsBenchResult
		r.judge(test.small, test.large)
		if len(r.Targets) != 6 {
			t.Fatalf("%d targets", len(r.Targets))
		}
		for _, target := range r.Targets {
			if target.Met != test.met {
				t.Errorf("%s: %s: %v of %v, met %t", test.name, target.Name, target.Value, target.Limit, target.Met)
			}
		}
	}
	// A figure is the median of the rounds' ratios: one bad round is none.
	if got := medianRatio([]int64{10, 900, 30, 22, 18}, []int64{10, 10, 10, 10, 10}); got != 2.2 {
		t.Errorf("median ratio %v", got)
	}
	s := kmsSamples{"x": {3, 1, 2}}
	if m := s.medians(); m["x"] != 2 || !slices.Equal(s["x"], []int64{3, 1, 2}) {
		t.Errorf("medians %v of %v", m, s)
	}
}
