// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
)

// A kmsBench says how much is measured.
type kmsBench struct {
	// keys is how many keys the large store has; the small one has two.
	keys int
	// rounds is how often everything is measured, in turn.
	rounds int
	// fresh is after how many rounds the servers are started anew: where in the
	// machine's memory a process comes to lie makes it some percent faster or slower.
	fresh int
	// plain and attested are the requests of one turn.
	plain, attested int
	// loop is how often a turn repeats what is measured without requests, short what
	// of that takes microseconds.
	loop, short int
	// program is this program, which is run as the server; the running executable
	// if empty.
	program string
}

// benchConnections is how many clients there are, each with one connection that
// it keeps.
const benchConnections = 64

func newBenchKMS(env *cli.Env) *cobra.Command {
	var asJSON bool
	b := kmsBench{rounds: 15, fresh: 3, plain: 4096, attested: 1024, loop: 512, short: 8192}
	cmd := &cobra.Command{
		Use:   "kms",
		Short: "Measure what a Decrypt costs the key service, in its cryptography",
		Long: `Measures the processor time that requests cost a key service, as its system counts
it for the process. Two servers run, as 'cretula kms serve' runs by default, one
over a store with two keys, one over a store with many; both write every event to an
audit log on disk before they answer. Requests are signed before they are sent, by
this process, over 64 connections. Everything takes turns, so that another load on
the machine burdens all alike, and the servers are started anew several times; a
figure is the median of the rounds' ratios, of both servers where it is not about
the difference between them. It takes about two minutes. What must hold:

  a Decrypt, by a principal without a document, costs at most 2 times what a server
  costs that reads the request, verifies its signature and answers as many bytes,
  with the same head;

  a Decrypt with an attestation document of its own, the chain of certificates being
  known, costs at most 1.4 times its cryptography: verification of the signature of
  the request and of the document, RSA-OAEP and AES-CBC of the answer, HKDF and
  AES-GCM that unwrap the key material, KDF and AES-GCM of the ciphertext;

  a decision by an attested key policy, with its trace, costs at most 1.5 times a
  verification of a request's signature;

  the many keys change none of this by more than a tenth.

The exit status is 1 if one of it does not.`,
		Example: "  $ cretula bench kms",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if b.keys < 1 || b.keys > 1_000_000 {
				return cli.Usagef("--keys: %d is not between 1 and 1000000", b.keys)
			}
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
	cmd.Flags().IntVar(&b.keys, "keys", 100_000, "`NUMBER` of keys in the large store")
	return cmd
}

// What is measured. The first three are requests to a server, the rest is called
// in its process.
const (
	benchSignature    = "signature_only"
	benchDecrypt      = "decrypt"
	benchAttested     = "attested_decrypt"
	benchCryptography = "cryptography"
	benchSigV4        = "sigv4"
	benchDecision     = "decision"
)

// benchTurns are the turns of a round. A processor's speed can change from one turn to
// the next, and the garbage collector falls into some of them: what is compared comes
// several times, in turn.
var benchTurns = slices.Concat(slices.Repeat([]string{benchSignature, benchDecrypt}, 3),
	slices.Repeat([]string{benchAttested, benchCryptography}, 2), []string{benchSigV4, benchDecision})

// A kmsBenchResult is what "bench kms --json" prints.
type kmsBenchResult struct {
	Schema      string `json:"schema"`
	Go          string `json:"go"`
	Platform    string `json:"platform"`
	Keys        int    `json:"keys"`
	Connections int    `json:"connections"`
	Rounds      int    `json:"rounds"`
	// Small and Large are median processor times in nanoseconds, by name, over the
	// store with two keys and over that with many.
	Small map[string]int64 `json:"small_cpu_ns"`
	Large map[string]int64 `json:"large_cpu_ns"`
	// RecordsPerSync is how many events of the requests one sync of the small
	// store's audit log made durable, on average.
	RecordsPerSync float64       `json:"audit_records_per_sync"`
	Targets        []benchTarget `json:"targets"`
}

// kmsSamples are the times of one store: by name, one for each round.
type kmsSamples map[string][]int64

func (b kmsBench) run(ctx context.Context, env *cli.Env) (*kmsBenchResult, error) {
	rig, err := newBenchRig(ctx, env, b)
	if err != nil {
		return nil, err
	}
	defer rig.close()
	small, large := kmsSamples{}, kmsSamples{}
	for round := range b.rounds {
		rig.progress("round %d of %d", round+1, b.rounds)
		if round%b.fresh == 0 {
			if err := rig.restart(ctx); err != nil {
				return nil, err
			}
		}
		if err := rig.round(ctx, round, small, large); err != nil {
			return nil, err
		}
	}
	rig.progress("")
	result := &kmsBenchResult{
		Schema: "cretula.bench.kms.v1", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Keys: b.keys, Connections: benchConnections, Rounds: b.rounds, Small: small.medians(), Large: large.medians(),
	}
	if result.RecordsPerSync, err = rig.recordsPerSync(); err != nil {
		return nil, err
	}
	result.judge(small, large)
	return result, nil
}

func (s kmsSamples) medians() map[string]int64 {
	m := make(map[string]int64, len(s))
	for name, times := range s {
		m[name] = median(slices.Clone(times))
	}
	return m
}

func median[T int64 | float64](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

// medianRatio is the median of the rounds' ratios.
func medianRatio(a, b []int64) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = float64(a[i]) / float64(b[i])
	}
	return median(ratios)
}

func (r *kmsBenchResult) judge(small, large kmsSamples) {
	add := func(name string, value, limit float64) {
		r.Targets = append(r.Targets, benchTarget{Name: name, Value: value, Limit: limit, Met: value <= limit})
	}
	// The first three must hold however many keys there are: a round has two figures of each.
	for _, c := range []struct {
		text, kind, than string
		limit            float64
	}{
		{"Decrypt / signature only", benchDecrypt, benchSignature, 2},
		{"attested Decrypt / its cryptography", benchAttested, benchCryptography, 1.4},
		{"decision with trace / SigV4 verification", benchDecision, benchSigV4, 1.5},
	} {
		add(c.text, medianRatio(slices.Concat(small[c.kind], large[c.kind]), slices.Concat(small[c.than], large[c.than])), c.limit)
	}
	for _, c := range []struct{ kind, text string }{
		{benchDecrypt, "Decrypt"}, {benchAttested, "attested Decrypt"}, {benchDecision, "decision"},
	} {
		add(fmt.Sprintf("%s, many keys / two", c.text), medianRatio(large[c.kind], small[c.kind]), 1.1)
	}
}

func (r *kmsBenchResult) print(env *cli.Env) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, %s; processor time of the server\nmedians of %d rounds, %d connections\n\n", r.Go, r.Platform, r.Rounds, r.Connections)
	fmt.Fprintf(&b, "  %-34s%12s%14s\n", "", "2 keys", fmt.Sprintf("%d keys", r.Keys))
	for _, row := range []struct{ name, text string }{
		{benchSignature, "request, signature verified only"}, {benchDecrypt, "Decrypt"}, {benchAttested, "attested Decrypt"},
		{benchCryptography, "cryptography of it"}, {benchSigV4, "verification of SigV4"}, {benchDecision, "decision with trace"},
	} {
		fmt.Fprintf(&b, "  %-34s%9.1f µs%11.1f µs\n", row.text, float64(r.Small[row.name])/1e3, float64(r.Large[row.name])/1e3)
	}
	fmt.Fprintf(&b, "  %-34s%9.1f\n\n", "audit records per sync", r.RecordsPerSync)
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
