// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
	"github.com/cretula/cretula/vectors"
)

const conformanceSchema = "cretula.attestation.conformance.v1"

// conformanceFlags are the flags of "attestation conformance".
type conformanceFlags struct {
	exec, level, export string
	groups              []string
	timeout             time.Duration
	list, json          bool
}

func newAttestationConformance(env *cli.Env) *cobra.Command {
	var f conformanceFlags
	cmd := &cobra.Command{
		Use:   "conformance [--exec PROGRAM [-- ARG...]]",
		Short: "Run any verifier over the published test vectors",
		Long: `Runs a verifier over the test vectors of this project, documents that are good
and documents that are wrong in one way each, and lists what it gets wrong.
Without --exec that is this program's own verifier.

PROGRAM is called once for each vector as PROGRAM ARG... DOCUMENT ROOT CLOCK:
two files and a time of RFC 3339. It accepts with exit status 0 and refuses
with 1 to 125. What else the vector expects is in VECTOR_… variables of the
environment. If the first line it prints begins with a reason, that is
compared too. vectors/README.md describes all of it; --export writes it.

The exit status is 0 only if every verdict is right.`,
		Example: `  $ cretula attestation conformance
  $ cretula attestation conformance --exec ./wrapper.sh --group form,cose,payload
  $ cretula attestation conformance --export corpus`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.exec != "" {
				return nil
			}
			return noArguments(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runAttestationConformance(cmd.Context(), env, &f, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.exec, "exec", "", "the verifier to run, a `PROGRAM`")
	flags.StringVar(&f.level, "level", "strict", "which verdicts are right: `strict|lenient`")
	flags.StringSliceVar(&f.groups, "group", nil, "only the vectors of these `GROUPS`, separated by commas")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long the program may take for one vector")
	flags.StringVar(&f.export, "export", "", "write the vectors into a new folder `DIR` and do nothing else")
	flags.BoolVar(&f.list, "list", false, "list the vectors and do nothing else")
	flags.BoolVar(&f.json, "json", false, "print a JSON object")
	return cmd
}

func runAttestationConformance(ctx context.Context, env *cli.Env, f *conformanceFlags, args []string) error {
	chosen, err := f.choose()
	if err != nil {
		return err
	}
	switch {
	case f.export != "":
		return os.CopyFS(f.export, vectors.Files())
	case f.list && f.json:
		return env.PrintJSON(vectors.Index{Schema: vectors.Schema, Vectors: chosen})
	case f.list:
		return listVectors(env, chosen)
	}
	judge := func(_ context.Context, v *vectors.Vector) conformanceResult { return judgeOwn(v, f.lenient()) }
	if f.exec != "" {
		dir, err := os.MkdirTemp("", "cretula-vectors-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := os.CopyFS(dir, vectors.Files()); err != nil {
			return err
		}
		program, err := newConformanceProgram(f, args, dir)
		if err != nil {
			return err
		}
		judge = program.judge
	}
	report := newConformanceReport(f, judgeAll(ctx, chosen, f.lenient(), judge))
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.json {
		err = env.PrintJSON(report)
	} else {
		err = report.print(env)
	}
	if err == nil && report.Wrong > 0 {
		return &cli.ExitError{Code: 1}
	}
	return err
}

func (f *conformanceFlags) lenient() bool { return f.level == "lenient" }

// choose returns the vectors of the groups that are asked for.
func (f *conformanceFlags) choose() ([]vectors.Vector, error) {
	switch {
	case f.level != "strict" && f.level != "lenient":
		return nil, cli.Usagef("--level is strict or lenient, not %q", f.level)
	case f.timeout <= 0:
		return nil, cli.Usagef("--timeout must be positive")
	}
	all := vectors.All()
	var known []string
	for _, v := range all {
		if group := groupOf(v.Name); !slices.Contains(known, group) {
			known = append(known, group)
		}
	}
	for _, group := range f.groups {
		if !slices.Contains(known, group) {
			return nil, cli.WithHint(cli.Usagef("--group: there is no group %q", group), "the groups are %s", strings.Join(known, ", "))
		}
	}
	if len(f.groups) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(v vectors.Vector) bool { return !slices.Contains(f.groups, groupOf(v.Name)) }), nil
}

func groupOf(name string) string {
	group, _, _ := strings.Cut(name, "/")
	return group
}

func listVectors(env *cli.Env, list []vectors.Vector) error {
	table := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	for _, v := range list {
		fmt.Fprintf(table, "%s\t%s\t%s\n", v.Name, v.Expect, v.Sentence)
	}
	return table.Flush()
}

// A conformanceResult is what a verifier made of one vector.
type conformanceResult struct {
	Name     string   `json:"name"`
	Sentence string   `json:"sentence"`
	Rules    []string `json:"rules"`
	// Want is "verified" or a reason.
	Want string `json:"want"`
	// Got is "verified", "rejected", or "failed" if there was no verdict.
	Got string `json:"got"`
	// Reason is the reason that the verifier named, empty if it named none.
	Reason string `json:"reason,omitempty"`
	// Message is why there was no verdict.
	Message string `json:"message,omitempty"`
	Right   bool   `json:"right"`
}

// judgeOwn is the verdict of package attestation.
func judgeOwn(v *vectors.Vector, lenient bool) conformanceResult {
	err := v.Verify(lenient)
	if err == nil {
		return conformanceResult{Got: vectors.Verified}
	}
	r, ok := reason.Of(err)
	if !ok {
		return conformanceResult{Got: "failed", Message: err.Error()}
	}
	return conformanceResult{Got: "rejected", Reason: r.String()}
}

// judgeAll judges the vectors on all processors. The order is kept; after an
// interrupt the rest is left out.
func judgeAll(ctx context.Context, list []vectors.Vector, lenient bool, judge func(context.Context, *vectors.Vector) conformanceResult) []conformanceResult {
	results := make([]conformanceResult, len(list))
	next := make(chan int)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := range next {
				v := &list[i]
				r := judge(ctx, v)
				r.Name, r.Sentence, r.Rules, r.Want = v.Name, v.Sentence, v.Rules, v.Want(lenient)
				accepted := r.Got == vectors.Verified
				r.Right = r.Got != "failed" && accepted == (r.Want == vectors.Verified) && (r.Reason == "" || r.Reason == r.Want)
				results[i] = r
			}
		})
	}
	for i := range list {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
	return results
}

// A conformanceReport is the whole result, as --json prints it.
type conformanceReport struct {
	Schema string `json:"schema"`
	// Verifier is the program, "cretula" if it is this one.
	Verifier string              `json:"verifier"`
	Level    string              `json:"level"`
	Total    int                 `json:"total"`
	Right    int                 `json:"right"`
	Wrong    int                 `json:"wrong"`
	Vectors  []conformanceResult `json:"vectors"`
}

func newConformanceReport(f *conformanceFlags, results []conformanceResult) *conformanceReport {
	report := &conformanceReport{
		Schema: conformanceSchema, Verifier: cmp.Or(f.exec, "cretula"), Level: f.level,
		Total: len(results), Vectors: results,
	}
	for _, r := range results {
		if r.Right {
			report.Right++
		}
	}
	report.Wrong = report.Total - report.Right
	return report
}

// print writes every wrong verdict and a table of the groups.
func (report *conformanceReport) print(env *cli.Env) error {
	type count struct{ total, accepted, refused, other int }
	var order []string
	groups := map[string]*count{}
	for _, r := range report.Vectors {
		name := groupOf(r.Name)
		if groups[name] == nil {
			groups[name] = &count{}
			order = append(order, name)
		}
		group := groups[name]
		group.total++
		if r.Right {
			continue
		}
		switch {
		case r.Got == vectors.Verified:
			group.accepted++
		case r.Want == vectors.Verified && r.Got == "rejected":
			group.refused++
		default:
			group.other++
		}
		fmt.Fprintf(env.Stdout, "WRONG  %s: %s\n       %s\n", r.Name, r.got(), r.wanted())
	}
	if report.Wrong > 0 {
		fmt.Fprintln(env.Stdout)
	}
	table := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "group\tvectors\tright\taccepted, bad\trefused, good\tother\t")
	row := func(name string, c *count) {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t\n", name, c.total, c.total-c.accepted-c.refused-c.other, c.accepted, c.refused, c.other)
	}
	var sum count
	for _, name := range order {
		c := groups[name]
		row(name, c)
		sum = count{sum.total + c.total, sum.accepted + c.accepted, sum.refused + c.refused, sum.other + c.other}
	}
	row("all", &sum)
	if err := table.Flush(); err != nil {
		return err
	}
	verdict := fmt.Sprintf("%d of %d verdicts are wrong", report.Wrong, report.Total)
	if report.Wrong == 0 {
		verdict = fmt.Sprintf("all %d verdicts are right", report.Total)
	}
	_, err := fmt.Fprintf(env.Stdout, "\n%s, %s: %s\n", report.Verifier, report.Level, verdict)
	return err
}

func (r *conformanceResult) got() string {
	switch {
	case r.Got == "failed":
		return "no verdict, " + r.Message
	case r.Reason != "":
		return r.Got + ", " + r.Reason
	}
	return r.Got
}

func (r *conformanceResult) wanted() string {
	if r.Want == vectors.Verified {
		return "wanted verified. " + r.Sentence
	}
	return fmt.Sprintf("wanted %s (%s). %s", r.Want, strings.Join(r.Rules, ", "), r.Sentence)
}

// fileOf is the path of a file of the corpus that was written into dir.
func fileOf(dir, name string) string {
	if !fs.ValidPath(name) {
		panic("a vector names the file " + name)
	}
	return filepath.Join(dir, filepath.FromSlash(name))
}
