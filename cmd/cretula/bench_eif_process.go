// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/imagebuild"
)

// benchEIFProcess is the hidden command of the process that is measured.
const benchEIFProcess = "eif-process"

// An eifBenchJob is what the process is told.
type eifBenchJob struct {
	Image string `json:"image"`
	// Tree is the folder to build it of, with Kernel; "" describes it.
	Tree   string `json:"tree"`
	Kernel string `json:"kernel"`
	// Rounds is how often pass and work take turns; 0 does the work once, for its
	// memory.
	Rounds int `json:"rounds"`
}

// An eifBenchAnswer has the nanoseconds of each round, and the most memory that
// the process had resident, 0 if nobody knows. Read is empty where nothing is built.
type eifBenchAnswer struct {
	Pass      []int64 `json:"pass_ns"`
	Read      []int64 `json:"read_ns,omitempty"`
	Work      []int64 `json:"work_ns"`
	PeakBytes int64   `json:"peak_bytes"`
}

func newBenchEIFProcess(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:    benchEIFProcess,
		Short:  "The process that 'bench eif' measures",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var job eifBenchJob
			if err := json.NewDecoder(env.Stdin).Decode(&job); err != nil {
				return err
			}
			quiet := *env
			quiet.Stdout = io.Discard
			answer, err := job.run(cmd.Context(), &quiet)
			if err != nil {
				return err
			}
			return env.PrintJSON(answer)
		},
	}
}

func (j eifBenchJob) run(ctx context.Context, env *cli.Env) (*eifBenchAnswer, error) {
	answer := &eifBenchAnswer{}
	type step struct {
		times *[]int64
		run   func() error
	}
	work := func() error { return describeEIF(ctx, env, j.Image) }
	steps := []step{{&answer.Pass, func() error { return passSHA384(j.Image) }}}
	if j.Tree != "" {
		work = func() error { return j.build(ctx) }
		steps = append(steps, step{&answer.Read, func() error { return readTree(j.Tree) }})
	}
	steps = append(steps, step{&answer.Work, work})
	// The first time is not counted: it warms up the system's cache.
	if err := work(); err != nil {
		return nil, err
	}
	for range j.Rounds {
		for _, s := range steps {
			start := time.Now()
			if err := s.run(); err != nil {
				return nil, err
			}
			*s.times = append(*s.times, time.Since(start).Nanoseconds())
		}
	}
	var err error
	answer.PeakBytes, err = peakMemory()
	return answer, err
}

// build makes the image as "eif build" does.
func (j eifBenchJob) build(ctx context.Context) error {
	_, err := imagebuild.Build(ctx, imagebuild.Request{
		Source: "dir:" + j.Tree, Kernel: j.Kernel, Output: j.Image, Override: imagebuild.Override{Cmd: []string{"/large/0"}},
	})
	return err
}

// readTree reads every file of a folder.
func readTree(dir string) error {
	buffer := make([]byte, 128<<10)
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return readFile(name, buffer, func([]byte) {})
	})
}

func readFile(name string, buffer []byte, use func([]byte)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		n, err := f.Read(buffer)
		use(buffer[:n])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// passSHA384 hashes a file once.
func passSHA384(name string) error {
	h := sha512.New384()
	return readFile(name, make([]byte, 128<<10), func(data []byte) { h.Write(data) })
}
