// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/contents"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/eifinit/process"
	"github.com/cretula/cretula/reason"
)

// maxList bounds the files with command and environment.
const maxList = 1 << 20

func malformed(rule, format string, args ...any) error {
	return reason.New(reason.Malformed, rule, format, args...)
}

// A startFiles has the files at the top of the application ramdisk that say what
// to start; nil is one that is not there.
type startFiles map[string][]byte

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
	files := startFiles{process.FileName: nil, eifbuild.CmdFile: nil, eifbuild.EnvFile: nil}
	for _, i := range ramdisks[1:] {
		if err := app.extractRamdisk(tree, im.Section(i), files); err != nil {
			return nil, fmt.Errorf("launch: application ramdisk (section %d): %w", i, err)
		}
	}
	if err := app.read(files); err != nil {
		return nil, err
	}
	if err := app.makeDir(root); err != nil {
		return nil, err
	}
	return app, nil
}

// extractRamdisk unpacks what is below rootfs and reads the files that say what
// to start.
func (a *application) extractRamdisk(tree *contents.Tree, section io.Reader, files startFiles) error {
	r := eifbuild.NewReader(section)
	for {
		e, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, ok := files[e.Name]; ok && e.Type == eifbuild.File {
			if e.Content.Size > maxList {
				return malformed("launch.list", "the file %s has %d bytes; the limit is %d", e.Name, e.Content.Size, maxList)
			}
			if files[e.Name], err = io.ReadAll(r); err != nil {
				return err
			}
			continue
		}
		if err := a.addBelow(tree, e, r); err != nil {
			return err
		}
	}
}

// addBelow unpacks an entry that is below rootfs. Devices and pipes, which a
// started program cannot have, are left out, and what the kernel would not unpack.
func (a *application) addBelow(tree *contents.Tree, e *eifbuild.Entry, content io.Reader) error {
	const above = eifbuild.RootFS + "/"
	if !strings.HasPrefix(e.Name, above) || e.Name == above {
		return nil
	}
	e.Name = e.Name[len(above):]
	if e.Type == eifbuild.Hardlink {
		link, below := strings.CutPrefix(e.Link, above)
		if !below {
			return malformed("contents.tree", "%.200q is a hard link to %.200q, outside of the program's root", e.Name, e.Link)
		}
		e.Link = link
	}
	name := e.Name
	left, err := tree.Add(e, content)
	if left == contents.NoFolder {
		if a.notUnpacked++; a.notUnpacked == 1 {
			a.firstNot = name
		}
	}
	return err
}
