// SPDX-License-Identifier: Apache-2.0

package nitrocli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/internal/cli"
)

// A Call is a command with its arguments.
type Call struct {
	Command *Command
	values  map[string][]string
}

// Get returns the value of an option, and whether it was given.
func (c *Call) Get(name string) (value string, given bool) {
	values := c.values[name]
	if len(values) == 0 {
		return "", c.Given(name)
	}
	return values[0], true
}

// All returns the values of an option that takes several.
func (c *Call) All(name string) []string { return c.values[name] }

// Given tells whether an option was given.
func (c *Call) Given(name string) bool {
	_, given := c.values[name]
	return given
}

// A Text is what is asked for instead of a command: help or the version. It goes
// to standard output with exit status 0.
type Text string

func (t Text) Error() string { return string(t) }

// A UsageError is a call that the library for arguments refuses before nitro-cli
// sees it. It has no code; the exit status is 2.
type UsageError struct{ Message string }

func (e *UsageError) Error() string { return e.Message }

// usageError has the form of clap's messages. What the caller wrote is made
// printable.
func usageError(usage, format string, args ...any) error {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = cli.Printable(text)
		}
	}
	return &UsageError{"error: " + fmt.Sprintf(format, args...) +
		"\n\nUsage: " + Name + " " + usage + "\n\nFor more information, try '--help'.\n"}
}

// Parse reads the arguments after the name of the program. The error is a [Text]
// or a [*UsageError].
func Parse(args []string) (*Call, error) {
	if len(args) == 0 {
		return nil, &UsageError{overview()}
	}
	switch first := args[0]; first {
	case "-h", "--help":
		return nil, Text(overview())
	case "-V", "--version":
		return nil, Text("Nitro CLI " + Version + " (cretula)\n")
	case "help":
		return nil, help(args[1:])
	default:
		command := Find(first)
		if command == nil && strings.HasPrefix(first, "-") {
			return nil, usageError("<COMMAND>", "unexpected argument '%s' found", first)
		}
		if command == nil {
			return nil, usageError("<COMMAND>", "unrecognized subcommand '%s'", first)
		}
		return parseCommand(command, args[1:])
	}
}

func help(args []string) error {
	if len(args) == 0 {
		return Text(overview())
	}
	command := Find(args[0])
	if command == nil || len(args) > 1 {
		return usageError("<COMMAND>", "unrecognized subcommand '%s'", args[len(args)-1])
	}
	return Text(command.Help())
}

func parseCommand(command *Command, args []string) (*Call, error) {
	call := &Call{Command: command, values: map[string][]string{}}
	for len(args) > 0 {
		argument := args[0]
		if argument == "-h" || argument == "--help" {
			return nil, Text(command.Help())
		}
		name, value, inline := strings.Cut(strings.TrimPrefix(argument, "--"), "=")
		option := command.option(name)
		if option == nil || !strings.HasPrefix(argument, "--") {
			return nil, usageError(command.Usage(), "unexpected argument '%s' found", argument)
		}
		if call.Given(name) && !option.Many {
			return nil, usageError(command.Usage(), "the argument '%s' cannot be used multiple times", option)
		}
		args = args[1:]
		values := call.values[name]
		switch {
		case option.Switch && inline:
			return nil, usageError(command.Usage(), "unexpected value '%s' for '%s' found; no more were expected", value, option)
		case inline:
			values = append(values, value)
		case !option.Switch:
			n := leadingValues(args, option.Many)
			if n == 0 {
				return nil, usageError(command.Usage(), "a value is required for '%s' but none was supplied", option)
			}
			values, args = append(values, args[:n]...), args[n:]
		}
		call.values[name] = values
	}
	return call, call.check()
}

// leadingValues counts the arguments that are values of the option before them:
// what begins with a hyphen is none, but for the hyphen alone.
func leadingValues(args []string, many bool) int {
	n := 0
	for n < len(args) && (many || n == 0) && (args[n] == "-" || !strings.HasPrefix(args[n], "-")) {
		n++
	}
	return n
}

// options are printed one to a line.
type options []*Option

func (list options) String() string {
	var b strings.Builder
	for _, o := range list {
		b.WriteString("\n  " + o.String())
	}
	return b.String()
}

// check refuses options that exclude each other and names those that are missing.
func (c *Call) check() error {
	var missing options
	for i := range c.Command.Options {
		o := &c.Command.Options[i]
		if c.Given(o.Name) {
			for _, other := range o.Conflicts {
				if c.Given(other) {
					return usageError(c.Command.Usage(), "the argument '%s' cannot be used with '%s'", o, c.Command.option(other))
				}
			}
		} else if o.Required && !slices.ContainsFunc(o.Unless, c.Given) {
			missing = append(missing, o)
		}
	}
	if len(missing) > 0 {
		return usageError(c.Command.Usage(), "the following required arguments were not provided:%v", missing)
	}
	return nil
}

func overview() string {
	var b strings.Builder
	fmt.Fprintf(&b, "AWS's nitro-cli, as cretula speaks it\n\nUsage: %s <COMMAND>\n\nCommands:\n", Name)
	for i := range Commands {
		fmt.Fprintf(&b, "  %-17s  %s\n", Commands[i].Name, Commands[i].About)
	}
	fmt.Fprintf(&b, "  %-17s  %s\n", "help", "Print this message or the help of the given command")
	b.WriteString("\nOptions:\n  -h, --help     Print help\n  -V, --version  Print version\n")
	return b.String()
}

// Help is what --help prints.
func (c *Command) Help() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nUsage: %s %s\n\nOptions:\n", c.About, Name, c.Usage())
	width := len("-h, --help")
	for i := range c.Options {
		width = max(width, len("    ")+len(c.Options[i].String()))
	}
	for i := range c.Options {
		fmt.Fprintf(&b, "      %-*s  %s\n", width-len("    "), &c.Options[i], c.Options[i].Help)
	}
	fmt.Fprintf(&b, "  %-*s  %s\n", width, "-h, --help", "Print help")
	return b.String()
}
