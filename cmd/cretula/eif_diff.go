// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif/eifdiff"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
)

// notCompared is the exit status of a comparison that failed for a reason which
// would be 1 elsewhere: 1 says that the images differ.
const notCompared = 9

func newEIFDiffCommand(env *cli.Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say which registers of two images differ, and what moved them",
		Long: `Compare two images: their registers, and everything measured down to the words of
the command line, the files of each ramdisk, their contents, modes, owners, times
and links, and the arguments and variables of what is started. A letter says what
became of a file: A added, D deleted, M its contents, type or link modified, P only
permissions, owner or numbers, T only the time, O the order.

What is not measured, such as the metadata, is listed apart and does not count.

Exit status: 0 if nothing that is measured differs, 1 if something does. A file that
is malformed, or whose checksum is wrong, is not compared: the status is that of the
reason, 3 to 8. If a file cannot be read, it is 9. A signature need not be good; if
it is not, a line on standard error says so.`,
		Example: "  $ cretula eif diff app-1.0.eif app-1.1.eif",
		Args:    exactArguments("A", "B"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return notOne(env, diffEIF(cmd.Context(), env, args[0], args[1], asJSON))
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// notOne keeps failures apart from the status that says that images differ.
func notOne(env *cli.Env, err error) error {
	_, usage := errors.AsType[*cli.UsageError](err)
	_, exit := errors.AsType[*cli.ExitError](err)
	_, refused := reason.Of(err)
	if err == nil || usage || exit || refused || errors.Is(err, context.Canceled) {
		return err
	}
	env.Report(err)
	return &cli.ExitError{Code: notCompared}
}

func diffEIF(ctx context.Context, env *cli.Env, nameA, nameB string, asJSON bool) error {
	a, fileA, measuredA, err := openMeasured(ctx, env, nameA)
	if err != nil {
		return err
	}
	defer fileA.Close()
	b, fileB, measuredB, err := openMeasured(ctx, env, nameB)
	if err != nil {
		return err
	}
	defer fileB.Close()
	report, err := eifdiff.Compare(ctx, eifdiff.Side{Image: a, Measurements: measuredA}, eifdiff.Side{Image: b, Measurements: measuredB})
	if err != nil {
		return err
	}
	if asJSON {
		err = env.PrintJSON(struct {
			Schema string `json:"schema"`
			Equal  bool   `json:"equal"`
			*eifdiff.Report
		}{"cretula.eif.diff.v1", report.Equal(), report})
	} else {
		var out bytes.Buffer
		printDiff(&out, report)
		_, err = env.Stdout.Write(out.Bytes())
	}
	if err == nil && !report.Equal() {
		return &cli.ExitError{Code: 1}
	}
	return err
}

func printDiff(w io.Writer, r *eifdiff.Report) {
	var registers []string
	for _, reg := range r.Registers {
		word := "same"
		switch {
		case reg.A == "":
			word = "only in B"
		case reg.B == "":
			word = "only in A"
		case !reg.Same:
			word = "differs"
		}
		registers = append(registers, fmt.Sprintf("PCR%d  %s", reg.Index, word))
	}
	fmt.Fprintln(w, strings.Join(registers, "    "))
	for _, known := range [][2]string{{r.ReleaseA, r.ReleaseB}, {r.InitA, r.InitB}} {
		switch a, b := known[0], known[1]; {
		case a == b && a != "":
			fmt.Fprintf(w, "both have %s\n", a)
		default:
			if a != "" {
				fmt.Fprintf(w, "A has %s\n", a)
			}
			if b != "" {
				fmt.Fprintf(w, "B has %s\n", b)
			}
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	measured := slices.DeleteFunc(slices.Clone(r.Differences), func(d eifdiff.Difference) bool { return !d.Measured })
	unmeasured := slices.DeleteFunc(slices.Clone(r.Differences), func(d eifdiff.Difference) bool { return d.Measured })
	for len(measured) > 0 {
		n := 1
		for n < len(measured) && measured[n].Part == measured[0].Part && measured[n].Ramdisk == measured[0].Ramdisk {
			n++
		}
		printPart(w, r, measured[:n])
		measured = measured[n:]
	}
	if r.Omitted > 0 {
		fmt.Fprintf(w, "and %s more differences\n", grouped(int64(r.Omitted)))
	}
	if len(unmeasured) > 0 {
		fmt.Fprintln(w, "not measured:")
	}
	for _, d := range unmeasured {
		name := string(d.Part)
		if d.Name != "" {
			name += " " + cli.Printable(d.Name)
		}
		fmt.Fprintf(w, "  %s: %s\n", name, fromTo(d))
	}
}

// printPart prints the differences of a section.
func printPart(w io.Writer, r *eifdiff.Report, list []eifdiff.Difference) {
	first := list[0]
	moves := "no register"
	if len(first.Registers) > 0 {
		moves = ""
		for i, reg := range first.Registers {
			if i > 0 {
				moves += ", "
			}
			moves += fmt.Sprintf("PCR%d", reg)
		}
	}
	title := string(first.Part)
	switch first.Part {
	case eifdiff.Cmdline:
		title = "command line"
	case eifdiff.Ramdisk:
		title = ramdiskTitle(r, first.Ramdisk)
	}
	fmt.Fprintf(w, "%s (%s)\n", title, moves)
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[0].Name != "" && list[n].Name == list[0].Name && oneFile(list[n].Change) && oneFile(list[0].Change) {
			n++
		}
		printFile(w, list[:n])
		list = list[n:]
	}
}

// oneFile tells which changes several of are said of one entry.
func oneFile(c eifdiff.Change) bool {
	return !slices.Contains([]eifdiff.Change{eifdiff.Added, eifdiff.Removed, eifdiff.Order, eifdiff.Numbers, eifdiff.Form}, c)
}

func ramdiskTitle(r *eifdiff.Report, n int) string {
	title := fmt.Sprintf("ramdisk %d", n)
	switch n {
	case 1:
		title += ", bootstrap"
	case 2:
		title += ", application"
	}
	for _, s := range r.Ramdisks {
		if s.Ramdisk == n {
			title += fmt.Sprintf(": %s of %s names", grouped(int64(s.Differ)), grouped(int64(s.Names)))
		}
	}
	return title
}

// printFile prints what is said of one entry in one line, and its items below.
func printFile(w io.Writer, list []eifdiff.Difference) {
	var words []string
	letter := "T"
	for _, d := range list {
		words = append(words, inWords(d))
		switch d.Change {
		case eifdiff.Added:
			letter = "A"
		case eifdiff.Removed:
			letter = "D"
		case eifdiff.Contents, eifdiff.Type, eifdiff.Link, eifdiff.Device:
			letter = "M"
		case eifdiff.Order:
			letter = "O"
		case eifdiff.Time:
		default:
			if letter == "T" {
				letter = "P"
			}
		}
	}
	name := cli.Printable(list[0].Name)
	if name != "" {
		name = fmt.Sprintf("%-32s  ", name)
	}
	fmt.Fprintf(w, "  %s  %s%s\n", letter, name, strings.Join(words, ", "))
	for _, d := range list {
		for _, i := range d.Items {
			of := i.Of
			if of != "" {
				of += " "
			}
			if i.A != "" {
				fmt.Fprintf(w, "       - %s%s\n", of, cli.Printable(i.A))
			}
			if i.B != "" {
				fmt.Fprintf(w, "       + %s%s\n", of, cli.Printable(i.B))
			}
		}
	}
}

// inWords says what differs. Digests are in the JSON.
func inWords(d eifdiff.Difference) string {
	note := ""
	if d.Note != "" {
		note = " (" + cli.Printable(d.Note) + ")"
	}
	a, b := cli.Printable(d.A), cli.Printable(d.B)
	if shortens(d) {
		a, b = short(a), short(b)
	}
	switch {
	case d.Change == eifdiff.Added:
		return "added: " + b + note
	case d.Change == eifdiff.Removed:
		return "deleted: " + a + note
	case len(d.Items) > 0 && d.Part == eifdiff.Cmdline:
		return string(d.Change) + note
	case a == b && a != "":
		return fmt.Sprintf("%s (%s in both)", d.Change, a) + note
	case a == "" && b == "":
		return string(d.Change) + note
	}
	return fmt.Sprintf("%s %s → %s", d.Change, a, b) + note
}

// shortens tells whether the words of a difference end in a size or digest. Links
// and the command line are the image's own text, all of which is shown.
func shortens(d eifdiff.Difference) bool {
	if d.Part == eifdiff.Cmdline || d.Change != eifdiff.Contents && d.Change != eifdiff.Added && d.Change != eifdiff.Removed {
		return false
	}
	isLink := func(words string) bool {
		return strings.HasPrefix(words, "symlink,") || strings.HasPrefix(words, "hardlink,")
	}
	return !isLink(d.A) && !isLink(d.B)
}

// short drops a digest and writes numbers of bytes with commas.
func short(s string) string {
	const digest = len(", SHA-256 ") + 2*sha256.Size
	if at := len(s) - digest; at >= 0 && strings.HasPrefix(s[at:], ", SHA-256 ") {
		s = s[:at]
	}
	before, number := "", s
	if i := strings.LastIndex(s, ", "); i >= 0 {
		before, number = s[:i+2], s[i+2:]
	}
	var n int64
	if _, err := fmt.Sscanf(number, "%d bytes", &n); err == nil && number == fmt.Sprintf("%d bytes", n) {
		s = before + grouped(n) + " bytes"
	}
	return s
}

// fromTo is for fields, whose values are printed as they are.
func fromTo(d eifdiff.Difference) string {
	text := ""
	switch {
	case d.A != "" && d.B != "":
		text = cli.Printable(d.A) + " → " + cli.Printable(d.B)
	case d.A != "":
		text = cli.Printable(d.A) + ", only in A"
	case d.B != "":
		text = cli.Printable(d.B) + ", only in B"
	}
	switch {
	case d.Note == "":
		return text
	case text == "":
		return d.Note
	}
	return text + " (" + d.Note + ")"
}
