// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/contents"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// maxList bounds the files with command and environment.
const maxList = 1 << 20

// An application is what the ramdisks of an image say should run.
type application struct {
	root string // folder with the unpacked file tree
	cmd  []string
	env  []string
}

func malformed(rule, format string, args ...any) error {
	return reason.New(reason.Malformed, rule, format, args...)
}

// extract unpacks the application ramdisks below the private folder dir.
func extract(im *eif.Image, dir string) (*application, error) {
	ramdisks := im.Ramdisks()
	if len(ramdisks) < 2 {
		return nil, reason.New(reason.Unsupported, "launch.ramdisk",
			"launch: the image has %d ramdisk; without one for the application there is nothing to start", len(ramdisks))
	}
	app := &application{root: filepath.Join(dir, eifbuild.RootFS)}
	// Others may look into the program's root, but not reach it: the folder
	// above is private.
	if err := os.Mkdir(app.root, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(app.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	tree := contents.NewTree(root, true)
	lists := map[string]*[]string{eifbuild.CmdFile: &app.cmd, eifbuild.EnvFile: &app.env}
	found := 0
	for _, i := range ramdisks[1:] {
		n, err := extractRamdisk(tree, im.Section(i), lists)
		if err != nil {
			return nil, fmt.Errorf("launch: application ramdisk (section %d): %w", i, err)
		}
		found += n
	}
	if found < len(lists) || len(app.cmd) == 0 || app.cmd[0] == "" {
		return nil, malformed("launch.command", "launch: the application ramdisk lacks the files %s and %s with the command to start", eifbuild.CmdFile, eifbuild.EnvFile)
	}
	for _, v := range app.env {
		if i := strings.IndexByte(v, '='); i <= 0 {
			return nil, malformed("launch.environment", "launch: a line of the file %s is not NAME=value", eifbuild.EnvFile)
		}
	}
	return app, nil
}

// extractRamdisk unpacks what is below rootfs, reads the lists, and returns how
// many of these there were.
func extractRamdisk(tree *contents.Tree, section io.Reader, lists map[string]*[]string) (int, error) {
	found := 0
	r := eifbuild.NewReader(section)
	for {
		e, err := r.Next()
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return 0, err
		}
		if list, ok := lists[e.Name]; ok && e.Type == eifbuild.File {
			if *list, err = readList(e, r); err != nil {
				return 0, err
			}
			found++
			continue
		}
		const above = eifbuild.RootFS + "/"
		if !strings.HasPrefix(e.Name, above) || e.Name == above {
			continue
		}
		e.Name = e.Name[len(above):]
		if e.Type == eifbuild.Hardlink {
			link, below := strings.CutPrefix(e.Link, above)
			if !below {
				return 0, malformed("contents.tree", "%.200q is a hard link to %.200q, outside of the program's root", e.Name, e.Link)
			}
			e.Link = link
		}
		// Devices and pipes, which a started program cannot have, are left out.
		if _, err := tree.Add(e, r); err != nil {
			return 0, err
		}
	}
}

func readList(e *eifbuild.Entry, r io.Reader) ([]string, error) {
	if e.Content.Size > maxList {
		return nil, malformed("launch.list", "the file %s has %d bytes; the limit is %d", e.Name, e.Content.Size, maxList)
	}
	data, err := io.ReadAll(r)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	if strings.ContainsRune(string(data), 0) {
		return nil, malformed("launch.list", "the file %s holds a NUL", e.Name)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"), nil
}

// searchPath is where AWS's init looks for a command without a slash.
var searchPath = []string{"/sbin", "/usr/sbin", "/bin", "/usr/bin"}

// program finds the command in the unpacked tree: its path from the root, links
// followed.
func (a *application) program() (string, error) {
	candidates := []string{a.cmd[0]}
	if !strings.Contains(a.cmd[0], "/") {
		candidates = nil
		for _, dir := range searchPath {
			candidates = append(candidates, dir+"/"+a.cmd[0])
		}
	}
	for _, c := range candidates {
		resolved, err := resolve(a.root, c)
		if err != nil {
			continue
		}
		info, err := os.Lstat(filepath.Join(a.root, resolved))
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return resolved, nil
		}
	}
	return "", malformed("launch.program", "launch: the image's command %.100q names no program in the image", a.cmd[0])
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
