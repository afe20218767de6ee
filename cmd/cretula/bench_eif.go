// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
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

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
)

// An eifBench says how much is measured.
type eifBench struct {
	bytes  int64 // of the image, about
	rounds int
	// program is the one that is measured; "" for this one.
	program string
}

func newBenchEIF(env *cli.Env) *cobra.Command {
	var asJSON bool
	b := eifBench{bytes: 200 << 20, rounds: 9}
	cmd := &cobra.Command{
		Use:   "eif",
		Short: "Measure what describing an image costs, in passes of SHA-384",
		Long: `Measures 'cretula eif describe' of an image of 200 MB, in a temporary folder, that
the system holds in memory. It runs in processes of its own and takes turns with one
pass of Go's SHA-384 over the same file, so that another load on the machine burdens
both; a figure is the median of the rounds' ratios. What must hold:

  on one processor it takes at most 2.2 times the time of the pass;

  on two idle processors it takes at most 1.35 times the time of the pass;

  the process never has more than 40 MB of memory resident.

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
			if err == nil && slices.ContainsFunc(result.Targets, func(t benchTarget) bool { return !t.Met }) {
				err = &cli.ExitError{Code: 1}
			}
			return err
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
	// One and Two are the times on one processor and on two; Two is absent on a
	// machine that has one.
	One *eifBenchTimes `json:"one_processor"`
	Two *eifBenchTimes `json:"two_processors,omitempty"`
	// PeakBytes is the most memory that a process which describes the image has
	// resident; absent where the system does not tell.
	PeakBytes int64         `json:"peak_bytes,omitempty"`
	Targets   []benchTarget `json:"targets"`
}

// eifBenchTimes are medians in nanoseconds, and that of the rounds' ratios.
type eifBenchTimes struct {
	Pass     int64   `json:"pass_ns"`
	Describe int64   `json:"describe_ns"`
	Ratio    float64 `json:"ratio"`
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
	progress("writing an image")
	image := filepath.Join(dir, "image.eif")
	r := &eifBenchResult{
		Schema: "cretula.bench.eif.v1", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Rounds: b.rounds,
	}
	if r.ImageBytes, err = b.writeImage(ctx, image); err != nil {
		return nil, err
	}
	progress("describing it on one processor")
	if r.One, err = b.times(ctx, env, image, 1); err != nil {
		return nil, err
	}
	if runtime.NumCPU() > 1 {
		progress("describing it on two processors")
		if r.Two, err = b.times(ctx, env, image, 2); err != nil {
			return nil, err
		}
	}
	progress("describing it once more for its memory")
	answer, err := b.child(ctx, env, eifBenchJob{Image: image}, runtime.NumCPU())
	if err != nil {
		return nil, err
	}
	r.PeakBytes = answer.PeakBytes
	r.judge()
	return r, nil
}

// writeImage writes an image most of which is its second ramdisk, as it is of
// applications. What the bytes are does not matter to a hash.
func (b eifBench) writeImage(ctx context.Context, name string) (int64, error) {
	metadata, err := (&eif.Metadata{ImageName: "bench", ImageVersion: "1"}).Encode()
	if err != nil {
		return 0, err
	}
	random := rand.NewChaCha8([32]byte{1})
	part := func(size int64) eif.Source { return eif.Source{Reader: io.LimitReader(random, size), Size: size} }
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	_, err = eif.Write(ctx, f, eif.Spec{
		Kernel: part(b.bytes / 20), Cmdline: "console=ttyS0", Metadata: metadata,
		Ramdisks: []eif.Source{part(b.bytes / 200), part(b.bytes - b.bytes/20 - b.bytes/200)},
	})
	if err != nil {
		return 0, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	return size, f.Close()
}

// times measures in a process that uses so many processors.
func (b eifBench) times(ctx context.Context, env *cli.Env, image string, processors int) (*eifBenchTimes, error) {
	answer, err := b.child(ctx, env, eifBenchJob{Image: image, Rounds: b.rounds}, processors)
	if err != nil {
		return nil, err
	}
	return &eifBenchTimes{
		Pass:     median(slices.Clone(answer.Pass)),
		Describe: median(slices.Clone(answer.Describe)),
		Ratio:    medianRatio(answer.Describe, answer.Pass),
	}, nil
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
	if r.PeakBytes > 0 {
		add("resident memory in MB", float64(r.PeakBytes)/1e6, 40)
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
		fmt.Fprintf(&b, "  %-28s describe %7.1f ms   SHA-384 %7.1f ms   %5.2f x\n", text, float64(t.Describe)/1e6, float64(t.Pass)/1e6, t.Ratio)
	}
	row("on one processor", r.One)
	row("on two processors", r.Two)
	if r.PeakBytes == 0 {
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
