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

	"github.com/cretula/cretula/eif"
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
	if r.One.Pass <= 0 || r.One.Describe <= 0 || r.One.Ratio <= 0 || r.ImageBytes < b.bytes || r.ImageBytes > b.bytes+1<<12 {
		t.Errorf("%+v", r)
	}
	want := 1
	if runtime.NumCPU() > 1 {
		want++
	}
	if runtime.GOOS == "linux" {
		want++
		if r.PeakBytes < 1<<20 || r.PeakBytes > 1<<30 {
			t.Errorf("%d bytes resident", r.PeakBytes)
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

// TestBenchEIFImage: what is measured is an image that describe takes, and a
// process that fails is no figure.
func TestBenchEIFImage(t *testing.T) {
	name := filepath.Join(t.TempDir(), "image.eif")
	if _, err := (eifBench{bytes: 1 << 20}).writeImage(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	im, f, err := openImage(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last := im.Sections[len(im.Sections)-1]
	if last.Type != eif.Ramdisk || last.Size < 9<<20/10 || len(im.Ramdisks()) != 2 {
		t.Errorf("%+v", im.Sections)
	}
	program, err := exec.LookPath("cretula")
	if err != nil {
		t.Fatal(err)
	}
	env := &cli.Env{Stdout: io.Discard, Stderr: io.Discard}
	if _, err := (eifBench{rounds: 1, program: program}).times(t.Context(), env, name+"-absent", 1); err == nil {
		t.Error("an image that is not there was measured")
	}
}

func TestBenchEIFJudge(t *testing.T) {
	r := &eifBenchResult{One: &eifBenchTimes{Ratio: 2.2}, Two: &eifBenchTimes{Ratio: 1.35}, PeakBytes: 40_000_000}
	r.judge()
	for _, target := range r.Targets {
		if !target.Met {
			t.Errorf("%+v", target)
		}
	}
	r = &eifBenchResult{One: &eifBenchTimes{Ratio: 2.21}, Two: &eifBenchTimes{Ratio: 1.36}, PeakBytes: 40_100_000}
	r.judge()
	for _, target := range r.Targets {
		if target.Met {
			t.Errorf("%+v", target)
		}
	}
	var out bytes.Buffer
	if err := r.print(&cli.Env{Stdout: &out}); err != nil || strings.Count(out.String(), "MISSED") != 3 {
		t.Errorf("%v\n%s", err, &out)
	}
}
