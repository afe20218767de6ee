// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cretula/cretula/eif/contents"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/eifinit/process"
)

// An application is what the ramdisks of an image say should run.
type application struct {
	root    string // folder with the unpacked file tree
	process process.Process
	// aws: the image is one for AWS's init, which starts everything as root in
	// "/" and looks for commands in folders of its own.
	aws bool
	// notUnpacked counts what the kernel would not unpack, and firstNot is the first.
	notUnpacked int
	firstNot    string
}

// missing says what of the image's files the program does not have, here and in an
// enclave.
func (a *application) missing() (why []string) {
	if a.notUnpacked > 0 {
		why = append(why, fmt.Sprintf("%d entries of the image are left out, the first %.200q: %s", a.notUnpacked, a.firstNot, contents.NoFolder))
	}
	return why
}

// awsPath is where AWS's init looks for a command without a slash.
const awsPath = "PATH=/sbin:/usr/sbin:/bin:/usr/bin"

// read finds out what to start: what the file process says, which our init reads,
// or the files cmd and env, which AWS's does. Which init an image has, nobody can
// tell by its bytes, so there must not be both.
func (a *application) read(files startFiles) error {
	own, cmd, env := files[process.FileName], files[eifbuild.CmdFile], files[eifbuild.EnvFile]
	if own == nil {
		return a.readLists(cmd, env)
	}
	if cmd != nil || env != nil {
		return malformed("launch.command", "launch: the application ramdisk has the file %s and also %s or %s: it would depend on the init what is started",
			process.FileName, eifbuild.CmdFile, eifbuild.EnvFile)
	}
	var err error
	if a.process, err = process.Parse(own); err != nil {
		return malformed("launch.process", "launch: the file %s: %v", process.FileName, err)
	}
	return nil
}

func (a *application) readLists(cmd, env []byte) (err error) {
	if cmd == nil || env == nil {
		return malformed("launch.command", "launch: the application ramdisk lacks the command to start: the file %s, or %s and %s",
			process.FileName, eifbuild.CmdFile, eifbuild.EnvFile)
	}
	a.aws = true
	a.process.Dir = "/"
	if a.process.Args, err = lines(eifbuild.CmdFile, cmd); err != nil {
		return err
	}
	if len(a.process.Args) == 0 || a.process.Args[0] == "" {
		return malformed("launch.command", "launch: the file %s has no command", eifbuild.CmdFile)
	}
	if a.process.Env, err = lines(eifbuild.EnvFile, env); err != nil {
		return err
	}
	for _, v := range a.process.Env {
		if i := strings.IndexByte(v, '='); i <= 0 {
			return malformed("launch.environment", "launch: a line of the file %s is not NAME=value", eifbuild.EnvFile)
		}
	}
	return nil
}

func lines(name string, data []byte) ([]string, error) {
	if strings.ContainsRune(string(data), 0) {
		return nil, malformed("launch.list", "launch: the file %s holds a NUL", name)
	}
	if len(data) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), nil
}

// makeDir makes the working directory where the tree lacks it, as the init does:
// name by name, each where those before it lead to.
func (a *application) makeDir(root *os.Root) error {
	at, err := "/", error(nil)
	for name := range strings.SplitSeq(a.process.Dir, "/") {
		next := at + "/" + name
		if at, err = resolve(a.root, next); errors.Is(err, fs.ErrNotExist) {
			at = path.Clean(next)
			err = root.Mkdir(at[1:], 0o755)
		}
		if err != nil {
			return malformed("launch.directory", "launch: the working directory %.100q cannot be made: %v", a.process.Dir, err)
		}
	}
	if info, err := os.Lstat(filepath.Join(a.root, at)); err != nil || !info.IsDir() {
		return malformed("launch.directory", "launch: the working directory %.100q is no folder", a.process.Dir)
	}
	return nil
}

// program finds the command in the unpacked tree: its path from the root, links
// followed.
func (a *application) program() (string, error) {
	p := a.process
	if a.aws {
		p.Env = []string{awsPath}
	}
	found, err := process.Find(&p, func(path string) bool { return a.executable(path) != "" })
	if err == nil {
		if found = a.executable(found); found != "" {
			return found, nil
		}
	}
	what := ""
	if missing := a.missing(); missing != nil {
		what = "; " + missing[0]
	}
	return "", malformed("launch.program", "launch: the image's command %.100q names no program in the image%s", a.process.Args[0], what)
}

// executable returns where in the tree the program is that a path leads to, or ""
// if there is none.
func (a *application) executable(name string) string {
	if !strings.HasPrefix(name, "/") {
		name = a.process.Dir + "/" + name
	}
	resolved, err := resolve(a.root, name)
	if err != nil {
		return ""
	}
	info, err := os.Lstat(filepath.Join(a.root, resolved))
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return ""
	}
	return resolved
}

// maxLinks is how many symbolic links the kernel follows in one path.
const maxLinks = 40

// resolve follows the symbolic links of name as a process would whose root is
// the folder root. The result begins with a slash and has no links in it.
func resolve(root, name string) (string, error) {
	rest := strings.Split(name, "/")
	at := "/"
	for links := 0; len(rest) > 0; {
		next := path.Join(at, rest[0]) // ".." stays inside: at is rooted
		rest = rest[1:]
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil {
			if _, err := os.Lstat(filepath.Join(root, next)); err != nil {
				return "", err
			}
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", errors.New("too many symbolic links")
		}
		if strings.HasPrefix(target, "/") {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at, nil
}

// maxInterpreter bounds the path in a program's PT_INTERP: PATH_MAX.
const maxInterpreter = 4096

// runsInRoot tells whether a program can run with the unpacked tree as its root:
// unless it needs an interpreter that is not there.
func (a *application) runsInRoot(program string) (interpreter string, ok bool) {
	f, err := elf.Open(filepath.Join(a.root, program))
	if err != nil {
		return "", true // a script, say; the kernel judges it
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > maxInterpreter {
			continue
		}
		data := make([]byte, p.Filesz)
		if _, err := p.ReadAt(data, 0); err != nil {
			return "", true
		}
		interpreter = strings.TrimRight(string(data), "\x00")
		_, err := resolve(a.root, interpreter)
		return interpreter, err == nil
	}
	return "", true
}
