// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
)

// benchEIFProcess is the hidden command of the process that is measured.
const benchEIFProcess = "eif-process"

// An eifBenchJob is what the process is told.
type eifBenchJob struct {
	Image string `json:"image"`
	// Rounds is how often pass and describe take turns; 0 describes the image
	// once, for its memory.
	Rounds int `json:"rounds"`
}

// An eifBenchAnswer has the nanoseconds of each round, and the most memory that
// the process had resident, 0 if nobody knows.
type eifBenchAnswer struct {
	Pass      []int64 `json:"pass_ns"`
	Describe  []int64 `json:"describe_ns"`
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
	answer := &eifBenchAnswer{Pass: []int64{}, Describe: []int64{}}
	timed := func(times *[]int64, f func() error) error {
		start := time.Now()
		err := f()
		*times = append(*times, time.Since(start).Nanoseconds())
		return err
	}
	describe := func() error { return describeEIF(ctx, env, j.Image) }
	// The first time is not counted: it warms up the system's cache.
	if err := describe(); err != nil {
		return nil, err
	}
	for range j.Rounds {
		if err := timed(&answer.Pass, func() error { return passSHA384(j.Image) }); err != nil {
			return nil, err
		}
		if err := timed(&answer.Describe, describe); err != nil {
			return nil, err
		}
	}
	var err error
	answer.PeakBytes, err = peakMemory()
	return answer, err
}

// passSHA384 hashes a file once.
func passSHA384(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h, buffer := sha512.New384(), make([]byte, 128<<10)
	for {
		n, err := f.Read(buffer)
		h.Write(buffer[:n])
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
