// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"path"
	"strings"
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
		err := p.members(a, what, func(m member) error {
			name, err := cleanName(m.Name)
			if err != nil {
				return err
			}
			return t.applyWhiteout(name)
		})
		if err != nil {
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
