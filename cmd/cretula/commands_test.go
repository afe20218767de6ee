// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

const commandPageHead = `# Commands

Every command of ` + "`cretula`" + `, made out of the program itself
(` + "`go test ./cmd/cretula -run CommandPage -update`" + `). ` + "`cretula COMMAND --help`" + ` has the
flags of each, and mostly an example.

## What all of them do

- Results go to standard output, everything else to standard error: an error is one
  line that begins with ` + "`cretula:`" + `, where something can be done a second one that begins
  with ` + "`hint:`" + `. Whoever reads standard output by program never has to look for the end
  of a remark.
- ` + "`--json`" + ` prints a JSON object, in a form with a name (` + "`\"schema\"`" + `) or in AWS's own; of
  audit records, one to a line. Members are added, not renamed.
- Names of files, and what others wrote, are printed with every control character
  escaped. Nothing depends on colour, on the width of a terminal or on a language.
- ` + "`-`" + ` is standard input where one file is read from front to back. Binary data do not go
  to a terminal.
- Secrets are taken from files and the environment, never from flags, and are not
  printed.
- An image file appears whole or not at all.
- The first interrupt ends a command in order, the second at once.

## Exit status

| status | meaning |
|---|---|
| 0 | It is done, or holds. |
| 1 | Any other failure: a file that is not there, a service that does not answer. ` + "`eif diff`" + `: the images differ. |
| 2 | The command was called in a wrong way; nothing was done. |
`

// exitMeanings says for each reason what its exit status tells.
var exitMeanings = map[reason.Reason]string{
	reason.Malformed:    "not decodable, over a limit, a missing or mistyped field",
	reason.Untrusted:    "a chain, certificate or validity that is not accepted",
	reason.BadSignature: "a signature or its algorithm",
	reason.Stale:        "nonce, age, future skew",
	reason.Mismatch:     "a value differs from the one that is wanted",
	reason.Unsupported:  "a device, feature or algorithm that is not there",
}

const commandPageFoot = `| 9 | ` + "`eif diff`" + ` could not compare, for want of a file that can be read: what is 1 elsewhere. |
| 130 | Interrupted. |

The reasons, and the rules below them, are in [rules.md](rules.md). ` + "`cretula nitro-cli`" + ` has the
exit statuses of AWS's tool instead ([nitro-cli.md](nitro-cli.md)).
`

// commandPage writes docs/cli.md.
func commandPage(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(commandPageHead)
	for _, r := range reason.All() {
		fmt.Fprintf(&b, "| %d | Refused as *%s*: %s. |\n", r.ExitCode(), r, exitMeanings[r])
	}
	b.WriteString(commandPageFoot)
	commandTable(&b, root)
	return b.String()
}

// commandTable writes the table of one noun, and then those of the nouns below it.
func commandTable(b *strings.Builder, noun *cobra.Command) {
	var nouns []*cobra.Command
	fmt.Fprintf(b, "\n## `%s`\n\n%s.\n\n| use | what it does |\n|---|---|\n", noun.CommandPath(), strings.TrimSuffix(noun.Short, "."))
	for _, c := range noun.Commands() {
		switch {
		case c.Hidden:
		case c.HasSubCommands():
			nouns = append(nouns, c)
			fmt.Fprintf(b, "| [`%s` …](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), cell(c.Short))
		default:
			fmt.Fprintf(b, "| `%s` | %s |\n", cell(noun.CommandPath()+" "+c.Use), cell(c.Short))
		}
	}
	for _, c := range nouns {
		commandTable(b, c)
	}
}

// cell makes text fit into a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// TestCommandPage: docs/cli.md has every command as it is.
func TestCommandPage(t *testing.T) {
	const path = "../../docs/cli.md"
	env := cli.System()
	root := newRootCommand(env)
	root.InitDefaultCompletionCmd()
	page := commandPage(root)
	if *update {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ReplaceAll(string(got), "\r\n", "\n") != page {
		t.Errorf("%s is not what the commands are: run with -update", path)
	}
	for _, r := range reason.All() {
		if exitMeanings[r] == "" {
			t.Errorf("nothing said of %v", r)
		}
	}
}

// TestEveryCommandIsDescribed: a line for the table, and help with an example.
func TestEveryCommandIsDescribed(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() != "help" && (c.Short == "" || strings.HasSuffix(c.Short, ".")) {
			t.Errorf("%s: %q", c.CommandPath(), c.Short)
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(newRootCommand(cli.System()))
}
