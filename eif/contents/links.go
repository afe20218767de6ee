// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"strings"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// links are the symbolic links of a ramdisk so far, by where they are.
type links struct {
	targets map[string]string
	size    int
	work    int64 // bytes that were copied and looked up
}

// maxWork bounds links.work: long names that lead through many links are much work
// for few bytes. Real ramdisks need some megabytes of it.
const maxWork = 4 << 30

// add returns where the kernel makes an entry, links on the way followed, or ""
// where they go round in circles; and remembers it if it is a link.
func (l *links) add(e *eifbuild.Entry) (at string, err error) {
	name := plain(e.Name)
	at = l.follow(name)
	if l.work > maxWork {
		return "", reason.New(reason.Unsupported, "contents.through-link", "too many names lead through symbolic links")
	}
	if e.Type != eifbuild.Symlink {
		delete(l.targets, at)
		return at, nil
	}
	if l.targets == nil {
		l.targets = make(map[string]string)
	}
	if l.size += len(at) + len(e.Link); l.size > maxNameBytes || len(l.targets) >= maxNames {
		return "", reason.New(reason.Unsupported, "contents.entries", "more than %d symbolic links or %d bytes of them", maxNames, maxNameBytes)
	}
	l.targets[at] = e.Link
	return at, nil
}

// maxFollowed is how many links the kernel follows in one path.
const maxFollowed = 40

// follow resolves all of a name but its last part.
func (l *links) follow(name string) string {
	if len(l.targets) == 0 || !l.onTheWay(name) {
		return name
	}
	var at []string
	rest := strings.Split(name, "/")
	for followed := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(len(at)-1, 0)]
			continue
		}
		at = append(at, part)
		here := strings.Join(at, "/")
		l.work += int64(len(here))
		target, ok := l.targets[here]
		if !ok || len(rest) == 0 {
			continue
		}
		if followed++; followed > maxFollowed {
			return ""
		}
		if at = at[:len(at)-1]; strings.HasPrefix(target, "/") {
			at = nil
		}
		rest = append(strings.Split(target, "/"), rest...)
		l.work += int64(16 * len(rest))
	}
	return strings.Join(at, "/")
}

// onTheWay tells whether anything above name is a link.
func (l *links) onTheWay(name string) bool {
	for i := range len(name) {
		if name[i] == '/' {
			l.work += int64(i)
			if _, ok := l.targets[name[:i]]; ok {
				return true
			}
		}
	}
	return false
}
