// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/cli"
)

// TestBenchEIF runs everything that is measured, on a small image. How long it
// takes is not for a test to judge.
func TestBenchEIF(t *testing.T) {
	program, err := exec.LookPath("cretula")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("TMP", temp)
	b := eifBench{bytes: 3 << 20, rounds: 3, program: program}
	var out bytes.Buffer
	env := &cli.Env{Stdout: &out, Stderr: io.Discard}
	r, err := b.run(t.Context(), env)
	if err != nil {
		t.Fatal(err)
	}
	for _, times := range []*eifBenchTimes{r.One, r.Build} {
		if times.Pass <= 0 || times.Work <= 0 || times.Ratio == 0 || (times.Read > 0) != (times == r.Build) {
			t.Errorf("%+v", times)
		}
	}
	if r.ImageBytes < b.bytes || r.ImageBytes > b.bytes+4<<20 {
		t.Errorf("an image of %d bytes", r.ImageBytes)
	}
	want := 2
	if runtime.NumCPU() > 1 {
		want++
	}
	if runtime.GOOS == "linux" {
		want += 2
		for _, peak := range []int64{r.DescribePeak, r.BuildPeak} {
			if peak < 1<<20 || peak > 1<<30 {
				t.Errorf("%d bytes resident", peak)
			}
		}
	}
	if len(r.Targets) != want || (r.Two != nil) != (runtime.NumCPU() > 1) {
		t.Errorf("%d targets, want %d", len(r.Targets), want)
	}
	if err := r.print(env); err != nil || strings.Count(out.String(), "at most") != want {
		t.Errorf("%v\n%s", err, &out)
	}
	out.Reset()
	if err := env.PrintJSON(r); err != nil || !json.Valid(out.Bytes()) || !strings.Contains(out.String(), `"schema": "cretula.bench.eif.v1"`) {
		t.Errorf("%v\n%s", err, &out)
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestBenchEIFFailure: a process that fails is no figure.
func TestBenchEIFFailure(t *testing.T) {
	program, err := exec.LookPath("cretula")
	if err != nil {
		t.Fatal(err)
	}
	env := &cli.Env{Stdout: io.Discard, Stderr: io.Discard}
	job := eifBenchJob{Image: filepath.Join(t.TempDir(), "absent")}
	if _, _, err := (eifBench{rounds: 1, program: program}).measure(t.Context(), env, job, 1); err == nil {
		t.Error("an image that is not there was measured")
	}
}

func TestBenchEIFJudge(t *testing.T) {
	r := &eifBenchResult{
		One: &eifBenchTimes{Ratio: 2.2}, Two: &eifBenchTimes{Ratio: 1.35}, Build: &eifBenchTimes{Ratio: 2.5},
		DescribePeak: 40_000_000, BuildPeak: 64_000_000,
	}
	r.judge()
	for _, target := range r.Targets {
		if !target.Met {
			t.Errorf("%+v", target)
		}
	}
	r = &eifBenchResult{
		One: &eifBenchTimes{Ratio: 2.21}, Two: &eifBenchTimes{Ratio: 1.36}, Build: &eifBenchTimes{Ratio: 2.51},
		DescribePeak: 40_100_000, BuildPeak: 64_100_000,
	}
	r.judge()
	for _, target := range r.Targets {
		if target.Met {
			t.Errorf("%+v", target)
		}
	}
	var out bytes.Buffer
	if err := r.print(&cli.Env{Stdout: &out}); err != nil || strings.Count(out.String(), "MISSED") != 5 {
		t.Errorf("%v\n%s", err, &out)
	}
}
