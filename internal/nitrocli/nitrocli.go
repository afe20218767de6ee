// SPDX-License-Identifier: Apache-2.0

// Package nitrocli is the tongue of AWS's nitro-cli: its commands and their
// arguments as the library it uses for them (clap 4.4) takes and refuses them, and
// its numbered errors, their text and their exit status. It does nothing itself:
// what the commands do is in cmd/cretula.
//
// Sources: aws/aws-nitro-enclaves-cli up to v1.5.0 (src/lib.rs,
// src/common/commands_parser.rs, src/common/document_errors.rs) and the AWS Nitro
// Enclaves User Guide, "Nitro CLI reference" and "Nitro Enclaves CLI error codes".
package nitrocli

import (
	"path"
	"strings"
)

// Name is that of AWS's tool, under which a copy of this program speaks its tongue.
const Name = "nitro-cli"

// Version is the version of nitro-cli whose behaviour is followed.
const Version = "1.5.0"

// Called tells whether a program that was started as argv0 is to be nitro-cli.
func Called(argv0 string) bool {
	base := path.Base(strings.ReplaceAll(argv0, `\`, "/"))
	if extension := len(base) - len(".exe"); extension > 0 && strings.EqualFold(base[extension:], ".exe") {
		base = base[:extension]
	}
	return base == Name
}

// An Option is an argument of a command; all of them have names.
type Option struct {
	// Name is the name on the command line, without "--".
	Name string
	// Help is its line in the help of the command.
	Help string
	// Switch is set for one that takes no value.
	Switch bool
	// Many is set for one that takes several values, and may be repeated.
	Many bool
	// Required is set for one that must be there, if none of Unless is.
	Required bool
	Unless   []string
	// Expected is set for one that must be there, too, but that clap does not ask
	// for: the command does, with E01.
	Expected bool
	// Conflicts are the options that it cannot be given with.
	Conflicts []string
}

// String writes an option as clap does in its messages.
func (o *Option) String() string {
	switch {
	case o.Switch:
		return "--" + o.Name
	case o.Many:
		return "--" + o.Name + " <" + o.Name + ">..."
	}
	return "--" + o.Name + " <" + o.Name + ">"
}

// A Command is one of nitro-cli's.
type Command struct {
	Name    string
	About   string
	Options []Option
}

// Usage is the line that says how the command is called.
func (c *Command) Usage() string {
	line := c.Name
	for i := range c.Options {
		if o := &c.Options[i]; !o.Required && !o.Expected {
			line += " [OPTIONS]"
			break
		}
	}
	named := map[string]bool{}
	for i := range c.Options {
		o := &c.Options[i]
		if !o.Required && !o.Expected || named[o.Name] {
			continue
		}
		enough := []string{o.String()}
		for _, other := range o.Unless {
			if alternative := c.option(other); alternative.Required {
				named[other] = true
				enough = append(enough, alternative.String())
			}
		}
		if len(enough) > 1 {
			line += " <" + strings.Join(enough, "|") + ">"
		} else {
			line += " " + enough[0]
		}
	}
	return line
}

func (c *Command) option(name string) *Option {
	for i := range c.Options {
		if c.Options[i].Name == name {
			return &c.Options[i]
		}
	}
	return nil
}

// Find returns the command of a name, nil if there is none.
func Find(name string) *Command {
	for i := range Commands {
		if Commands[i].Name == name {
			return &Commands[i]
		}
	}
	return nil
}
