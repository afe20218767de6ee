// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
)

// An eifBench says how much is measured.
type eifBench struct {
	bytes  int64 // of all files that the image is made of
	rounds int
	// program is the one that is measured; "" for this one.
	program string
}

func newBenchEIF(env *cli.Env) *cobra.Command {
	var asJSON bool
	b := eifBench{bytes: 200 << 20, rounds: 9}
	cmd := &cobra.Command{
		Use:   "eif",
		Short: "Measure what describing and building an image cost, in passes of SHA-384",
		Long: `Measures 'cretula eif build' of a folder of 200 MB, and 'cretula eif describe' of
the image that it makes, in a temporary folder that the system holds in memory. They
run in processes of their own and take turns with one pass of Go's SHA-384 over the
image, so that another load on the machine burdens all alike; a figure is the median
of the rounds' ratios. What must hold:

  to describe it takes at most 2.2 times the time of the pass on one processor, and
  at most 1.35 times on two that are idle, with never more than 40 MB of memory
  resident;

  to build it, on all processors, takes at most 2.5 times the time of the pass, not
  counting what it takes to read the files of the folder once, with never more than
  64 MB. The image is written through to the disk, as always, which is counted.

The exit status is 1 if one of it does not.`,
		Example: "  $ cretula bench eif",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := b.run(cmd.Context(), env)
			if err != nil {
				return err
			}
			if asJSON {
				err = env.PrintJSON(result)
			} else {
				err = result.print(env)
			}
			return cmp.Or(err, missed(result.Targets))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// An eifBenchResult is what "bench eif --json" prints.
type eifBenchResult struct {
	Schema     string `json:"schema"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	ImageBytes int64  `json:"image_bytes"`
	Rounds     int    `json:"rounds"`
	// One and Two are the times to describe it on one processor and on two, Build
	// those to build it; Two is absent on a machine that has one.
	One   *eifBenchTimes `json:"describe_one_processor"`
	Two   *eifBenchTimes `json:"describe_two_processors,omitempty"`
	Build *eifBenchTimes `json:"build"`
	// Peaks are the most memory that a process which describes the image, and one
	// that builds it, has resident; absent where the system does not tell.
	DescribePeak int64         `json:"describe_peak_bytes,omitempty"`
	BuildPeak    int64         `json:"build_peak_bytes,omitempty"`
	Targets      []benchTarget `json:"targets"`
}

// eifBenchTimes are medians in nanoseconds, and that of the rounds' ratios.
type eifBenchTimes struct {
	Pass int64 `json:"pass_ns"`
	Work int64 `json:"work_ns"`
	// Read is what it takes to read the folder, for a build.
	Read int64 `json:"read_ns,omitempty"`
	// Ratio is that of the work, less the reading, to the pass.
	Ratio float64 `json:"ratio"`
}

func (b eifBench) run(ctx context.Context, env *cli.Env) (*eifBenchResult, error) {
	dir, err := os.MkdirTemp("", "cretula-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	progress := func(text string) {
		if cli.IsTerminal(env.Stderr) {
			fmt.Fprintf(env.Stderr, "\r\x1b[K%s", text)
		}
	}
	defer progress("")
	job := eifBenchJob{
		Image: filepath.Join(dir, "image.eif"), Tree: filepath.Join(dir, "tree"), Kernel: filepath.Join(dir, "kernel"),
	}
	r := &eifBenchResult{
		Schema: "cretula.bench.eif.v1", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Rounds: b.rounds,
	}
	progress("writing a folder")
	if err := b.writeFiles(job); err != nil {
		return nil, err
	}
	progress("building an image of it")
	if r.Build, r.BuildPeak, err = b.measure(ctx, env, job, runtime.NumCPU()); err != nil {
		return nil, err
	}
	info, err := os.Stat(job.Image)
	if err != nil {
		return nil, err
	}
	r.ImageBytes = info.Size()
	job.Tree = ""
	progress("describing the image on one processor")
	if r.One, r.DescribePeak, err = b.measure(ctx, env, job, 1); err != nil {
		return nil, err
	}
	if runtime.NumCPU() > 1 {
		progress("describing the image on two processors")
		var peak int64
		if r.Two, peak, err = b.measure(ctx, env, job, 2); err != nil {
			return nil, err
		}
		r.DescribePeak = max(r.DescribePeak, peak)
	}
	r.judge()
	return r, nil
}

// writeFiles writes a kernel, and a folder as container images have them: many
// small files, some of a mebibyte, and a large one. What is in them does not
// matter to a hash.
func (b eifBench) writeFiles(job eifBenchJob) error {
	random := rand.NewChaCha8([32]byte{1})
	write := func(name string, size int64) error {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755) // a program, as far as that goes
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, random, size)
		return errors.Join(err, f.Close())
	}
	if err := write(job.Kernel, b.bytes/20); err != nil {
		return err
	}
	left := b.bytes - b.bytes/20
	for _, kind := range []struct {
		name        string
		count, size int64
	}{
		{"small", b.bytes / 8 / (16 << 10), 16 << 10}, {"middle", b.bytes / 2 / (1 << 20), 1 << 20}, {"large", 1, 0},
	} {
		dir := filepath.Join(job.Tree, kind.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for i := range kind.count {
			size := kind.size
			if size == 0 {
				size = left
			}
			if err := write(filepath.Join(dir, strconv.FormatInt(i, 10)), size); err != nil {
				return err
			}
			left -= size
		}
	}
	return nil
}

// measure returns the times of a process that uses so many processors, and the
// most memory that one has which does the work once.
func (b eifBench) measure(ctx context.Context, env *cli.Env, job eifBenchJob, processors int) (*eifBenchTimes, int64, error) {
	job.Rounds = b.rounds
	answer, err := b.child(ctx, env, job, processors)
	if err != nil {
		return nil, 0, err
	}
	job.Rounds = 0
	once, err := b.child(ctx, env, job, processors)
	if err != nil {
		return nil, 0, err
	}
	times := &eifBenchTimes{Pass: median(slices.Clone(answer.Pass)), Work: median(slices.Clone(answer.Work))}
	net := slices.Clone(answer.Work)
	for i, read := range answer.Read {
		net[i] -= read
	}
	if len(answer.Read) > 0 {
		times.Read = median(slices.Clone(answer.Read))
	}
	times.Ratio = medianRatio(net, answer.Pass)
	return times, once.PeakBytes, nil
}

// child runs the job in a process of this program.
func (b eifBench) child(ctx context.Context, env *cli.Env, job eifBenchJob, processors int) (*eifBenchAnswer, error) {
	program := b.program
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	input, err := json.Marshal(job)
	if err != nil {
		return nil, err
	}
	var output bytes.Buffer
	c := exec.CommandContext(ctx, program, "bench", benchEIFProcess)
	c.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(processors))
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(input), &output, env.Stderr
	// Go's own limit leaves the rest of the process, and the system, free to go
	// elsewhere.
	if err := onProcessors(processors, c.Start); err != nil {
		return nil, err
	}
	if err := c.Wait(); err != nil {
		return nil, fmt.Errorf("%s: %w", benchEIFProcess, err)
	}
	var answer eifBenchAnswer
	if err := json.Unmarshal(output.Bytes(), &answer); err != nil {
		return nil, err
	}
	return &answer, nil
}

func (r *eifBenchResult) judge() {
	add := func(name string, value, limit float64) {
		r.Targets = append(r.Targets, benchTarget{Name: name, Value: value, Limit: limit, Met: value <= limit})
	}
	add("describe on one processor / SHA-384", r.One.Ratio, 2.2)
	if r.Two != nil {
		add("describe on two processors / SHA-384", r.Two.Ratio, 1.35)
	}
	add("build, less reading the folder / SHA-384", r.Build.Ratio, 2.5)
	if r.DescribePeak > 0 && r.BuildPeak > 0 {
		add("resident memory of describe in MB", float64(r.DescribePeak)/1e6, 40)
		add("resident memory of build in MB", float64(r.BuildPeak)/1e6, 64)
	}
}

func (r *eifBenchResult) print(env *cli.Env) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, %s; an image of %.0f MB\nmedians of %d rounds\n\n", r.Go, r.Platform, float64(r.ImageBytes)/1e6, r.Rounds)
	row := func(text string, t *eifBenchTimes) {
		if t == nil {
			fmt.Fprintf(&b, "  %-28s not measured: the machine has one\n", text)
			return
		}
		fmt.Fprintf(&b, "  %-28s%8.1f ms   SHA-384%8.1f ms", text, float64(t.Work)/1e6, float64(t.Pass)/1e6)
		if t.Read > 0 {
			fmt.Fprintf(&b, "   reading the folder%8.1f ms", float64(t.Read)/1e6)
		}
		fmt.Fprintln(&b)
	}
	row("describe on one processor", r.One)
	row("describe on two processors", r.Two)
	row("build", r.Build)
	if r.DescribePeak == 0 {
		fmt.Fprintf(&b, "  %-28s not measured on this system\n", "resident memory")
	}
	fmt.Fprintln(&b)
	for _, t := range r.Targets {
		verdict := "met"
		if !t.Met {
			verdict = "MISSED"
		}
		fmt.Fprintf(&b, "  %-42s%6.2f  at most %g: %s\n", t.Name, t.Value, t.Limit, verdict)
	}
	_, err := env.Stdout.Write(b.Bytes())
	return err
}
