// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"strings"
)

// DefaultPath is where a command without a slash is looked for if the environment
// has no PATH, as container runtimes do.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Find returns the path of the program that p starts: the command itself if there
// is a slash in it, else the first in the process's own PATH for which isProgram
// says so. A path that does not begin with a slash is relative to p.Dir.
func Find(p *Process, isProgram func(path string) bool) (string, error) {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return "", errors.New("process: there is no command")
	}
	command := p.Args[0]
	if strings.Contains(command, "/") {
		return command, nil
	}
	search := DefaultPath
	for _, e := range p.Env {
		if value, ok := strings.CutPrefix(e, "PATH="); ok {
			search = value
		}
	}
	for _, dir := range strings.Split(search, ":") {
		if dir == "" {
			dir = "."
		}
		if path := strings.TrimSuffix(dir, "/") + "/" + command; isProgram(path) {
			return path, nil
		}
	}
	return "", errors.New("process: there is no program " + quote(command) + " in PATH (" + quote(search) + ")")
}
