// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"path"
	"strings"

	"github.com/cretula/cretula/eif/eifbuild"
)

// Names of the OCI image specification, layer.md, "Whiteouts". Names with the
// third prefix are bookkeeping of AUFS, which docker skips, too.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	aufs     = ".wh..wh."
)

// flatten puts layers on top of each other, the lowest first.
func (p *opening) flatten(layers []layer) (*tree, error) {
	t := newTree(p)
	for i, l := range layers {
		a, err := p.fetch(l)
		if err != nil {
			return nil, err
		}
		p.layerBytes += a.size
		if err := p.addLayer(t, a, l.name, i > 0); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// addLayer puts one layer on top of a tree. Its whiteouts come first, wherever
// they stand in the archive: they hide what is in layers below and nothing in
// their own.
func (p *opening) addLayer(t *tree, a archive, what string, below bool) error {
	if below {
		if err := p.applyWhiteouts(t, a, what); err != nil {
			return err
		}
	}
	return p.members(a, what, func(m member) error {
		name, err := cleanName(m.Name)
		if err != nil {
			return err
		}
		special, err := isSpecial(name)
		if err != nil {
			return err
		}
		if special {
			return p.countEntry()
		}
		return p.addMember(t, a, name, m)
	})
}

// applyWhiteouts removes what a layer hides of those below. Where it replaces a
// link or file by a directory, whiteouts in that hide nothing: overlayfs marks each
// directory that took the place of something as opaque, which is not meant for
// what the link leads to.
func (p *opening) applyWhiteouts(t *tree, a archive, what string) error {
	var whiteouts []string
	replaced := map[string]bool{}
	err := p.members(a, what, func(m member) error {
		name, err := cleanName(m.Name)
		if err != nil {
			return err
		}
		if strings.HasPrefix(path.Base(name), whiteout) {
			whiteouts = append(whiteouts, name)
			return t.count(name)
		}
		if m.Typeflag != tar.TypeDir || name == "" {
			return nil
		}
		f, err := t.lookup(name)
		if err != nil || f == nil || f.kind == eifbuild.Dir {
			return err
		}
		replaced[name] = true
		return t.count(name)
	})
	for _, name := range whiteouts {
		if err != nil {
			return err
		}
		if !belowAny(name, replaced) {
			err = t.applyWhiteout(name)
		}
	}
	return err
}

// belowAny says whether a directory above name is one of dirs.
func belowAny(name string, dirs map[string]bool) bool {
	for i := range len(name) {
		if name[i] == '/' && dirs[name[:i]] {
			return true
		}
	}
	return false
}

// applyWhiteout removes what a whiteout hides; other names it leaves alone.
func (t *tree) applyWhiteout(name string) error {
	dir, base := path.Split(name)
	hidden, ok := strings.CutPrefix(base, whiteout)
	switch {
	case !ok || isMeta(dir):
		return nil
	case base == opaque:
		d, err := t.resolve(dir, false)
		if err == nil && d != nil {
			clear(d.children)
		}
		return err
	case strings.HasPrefix(base, aufs):
		return nil
	case hidden == "" || hidden == "." || hidden == "..":
		return malformed("whiteout", "%.200q hides nothing that can be in a directory", name)
	}
	return t.remove(dir + hidden)
}

// isMeta says whether something lies in a directory of AUFS.
func isMeta(dir string) bool {
	return strings.HasPrefix(dir, aufs) || strings.Contains(dir, "/"+aufs)
}

// isSpecial says whether a name of a layer is a whiteout or bookkeeping, and so
// no file.
func isSpecial(name string) (bool, error) {
	dir, base := path.Split(name)
	if isMeta(dir) {
		return true, nil
	}
	if strings.HasPrefix(dir, whiteout) || strings.Contains(dir, "/"+whiteout) {
		return false, malformed("whiteout", "%.200q lies in a directory with the name of a whiteout", name)
	}
	return strings.HasPrefix(base, whiteout), nil
}
