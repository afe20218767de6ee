// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifinit/process"
)

// DefaultPath is the PATH of a program whose image sets none, as with Docker and
// containerd.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// start returns how a container runtime would start the program of the image:
// ENTRYPOINT and CMD joined, PATH and HOME set where ENV does not (Docker,
// containerd and runc agree on these), in WORKDIR, as USER. A working directory
// that is not there is added to the tree. A command that names no program in the
// tree is refused: the image would not start.
func (c *Config) start(t *tree) (process.Process, error) {
	p := process.Process{Args: slices.Concat(c.Entrypoint, c.Cmd)}
	if len(p.Args) == 0 || p.Args[0] == "" {
		return p, malformed("command", "%w", ErrNoCommand)
	}
	who, err := t.user(c.User)
	if err != nil {
		return p, fmt.Errorf("USER %.100q: %w", c.User, err)
	}
	p.UID, p.GID, p.Groups = who.uid, who.gid, who.groups
	if p.Env, err = environment(c.Env, who.home); err != nil {
		return p, err
	}
	if p.Dir, err = t.workingDir(c.WorkingDir); err != nil {
		return p, malformed("workdir", "WORKDIR %.200q %w", c.WorkingDir, err)
	}
	program, err := t.findProgram(p)
	if err != nil {
		return p, malformed("command", "the command %.200q %w", p.Args[0], err)
	}
	return p, c.checkMachine(program)
}

// environment adds to env what a runtime adds. Of a name that is there twice,
// the last value counts, in the place of the first.
func environment(env []string, home string) ([]string, error) {
	list := []string{"PATH=" + DefaultPath}
	place := map[string]int{"PATH": 0}
	for _, v := range env {
		name, _, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, malformed("environment", "ENV: %.60q is not NAME=value", v)
		}
		if i, there := place[name]; there {
			list[i] = v
			continue
		}
		place[name] = len(list)
		list = append(list, v)
	}
	if _, there := place["HOME"]; !there {
		list = append(list, "HOME="+home)
	}
	return list, nil
}

// workingDir returns the folder to start in, and makes sure that it is there:
// runtimes make it.
func (t *tree) workingDir(dir string) (string, error) {
	if dir == "" {
		return "/", nil
	}
	if !strings.HasPrefix(dir, "/") || strings.ContainsRune(dir, 0) || len(dir) > maxName {
		return "", errors.New("is no path from the root")
	}
	dir = path.Clean(dir)
	e, err := t.lookup(dir)
	switch {
	case err == nil && e != nil && e.Type != Dir:
		return "", fmt.Errorf("is a %v", e.Type)
	case !errors.Is(err, errNotThere):
		return dir, err
	}
	// Below a symbolic link nothing can be added by name: the way has to be
	// followed as far as it goes.
	above, err := t.workingDir(path.Dir(dir))
	if err != nil {
		return "", err
	}
	parent, err := t.lookup(above)
	if err != nil {
		return "", err
	}
	name := path.Base(dir)
	if parent != nil {
		name = parent.Name + "/" + name
	}
	if below(name, mountPoints...) {
		return "", errors.New("is below a folder that is empty when the program starts")
	}
	if _, there := t.get(name); there {
		return "", errors.New("is a symbolic link to nowhere")
	}
	t.put(Entry{Name: name, Type: Dir, Mode: 0o755})
	return dir, nil
}

// findProgram looks for the command as execvp(3) does in the program's
// environment and folder.
func (t *tree) findProgram(p process.Process) (*Entry, error) {
	command := p.Args[0]
	if strings.Contains(command, "/") {
		return t.executable(absolute(p.Dir, command))
	}
	var search string
	for _, v := range p.Env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			search = value
		}
	}
	for dir := range strings.SplitSeq(search, ":") {
		if e, err := t.executable(absolute(p.Dir, dir) + "/" + command); err == nil {
			return e, nil
		}
	}
	return nil, fmt.Errorf("names no program in the image's PATH %.200q", search)
}

func absolute(dir, name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return dir + "/" + name
}

func (t *tree) executable(name string) (*Entry, error) {
	e, err := t.lookup(name)
	switch {
	case err != nil:
		return nil, err
	case e == nil || e.Type != File:
		return nil, errors.New("is no file")
	case e.Mode&0o111 == 0:
		return nil, fmt.Errorf("is a file with mode %04o, which nobody may execute", e.Mode)
	}
	return e, nil
}

// checkMachine notes a program for another machine than the enclave's, which the
// kernel would not start (e_machine of elf(5)).
func (c *Config) checkMachine(program *Entry) error {
	machine := map[eif.Arch]byte{eif.ArchX86_64: 0x3e, eif.ArchAArch64: 0xb7}[c.Arch]
	var head [20]byte
	source := program.Content.source()
	defer source.Reader.(io.Closer).Close()
	switch _, err := io.ReadFull(source.Reader, head[:]); {
	case err == io.EOF || err == io.ErrUnexpectedEOF && program.Content.Size < int64(len(head)):
		return nil // too short for an ELF file
	case err != nil:
		return fmt.Errorf("%.200q: %w", program.Name, err)
	}
	if string(head[:4]) == "\x7fELF" && (head[18] != machine || head[19] != 0) {
		c.Note(fmt.Sprintf("/%s is no program for %v: it will not start in the enclave", program.Name, c.Arch))
	}
	return nil
}
