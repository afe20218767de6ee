// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/need"
)

// treeCase is one of the shared application ramdisks.
type treeCase struct {
	name     string
	cmd, env []string
	want     []byte // the ramdisk that AWS's builder made
	config   Config
	entries  []eifbuild.Entry
	lost     map[string]map[string][]byte
}

func treeCases(t testing.TB) []treeCase {
	t.Helper()
	var m struct {
		Ramdisks []struct {
			Name, File, Kind, Tree string
			Cmd, Env               []string
		}
	}
	readJSON(t, &m, "eif", "manifest.json")
	var cases []treeCase
	for _, r := range m.Ramdisks {
		if r.Kind != "application" {
			continue
		}
		c := treeCase{name: r.Name, cmd: r.Cmd, env: r.Env}
		var err error
		if c.want, err = os.ReadFile(need.SharedData(t, "eif", r.File)); err != nil {
			t.Fatal(err)
		}
		c.readTree(t, r.Tree)
		cases = append(cases, c)
	}
	if len(cases) < 2 {
		t.Fatalf("the manifest lists %d application ramdisks", len(cases))
	}
	return cases
}

func readJSON(t testing.TB, v any, elem ...string) {
	t.Helper()
	data, err := os.ReadFile(need.SharedData(t, elem...))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

func (c *treeCase) readTree(t testing.TB, file string) {
	t.Helper()
	var tree struct {
		Config  Config
		Entries []struct {
			Name, Type, Mode, Link string
			UID, GID, Major, Minor uint32
			MTime                  int64
			Base64                 []byte
			XAttrs                 map[string][]byte
		}
	}
	readJSON(t, &tree, "eif", file)
	c.config, c.lost = tree.Config, map[string]map[string][]byte{}
	types := map[string]eifbuild.Type{"file": eifbuild.File, "dir": eifbuild.Dir, "symlink": eifbuild.Symlink,
		"hardlink": eifbuild.Hardlink, "fifo": eifbuild.FIFO, "char": eifbuild.CharDevice}
	for _, e := range tree.Entries {
		mode, err := strconv.ParseUint(e.Mode, 8, 32)
		kind, ok := types[e.Type]
		if err != nil || !ok {
			t.Fatalf("%s: mode %q, type %q", e.Name, e.Mode, e.Type)
		}
		c.entries = append(c.entries, eifbuild.Entry{Name: e.Name, Type: kind, Mode: uint32(mode), UID: e.UID, GID: e.GID,
			MTime: e.MTime, Content: eifbuild.Bytes(e.Base64), Link: e.Link, Major: e.Major, Minor: e.Minor})
		if len(e.XAttrs) > 0 {
			c.lost[e.Name] = e.XAttrs
		}
	}
}

// checkRamdisk makes the application ramdisk of a tree and compares it.
func (c *treeCase) checkRamdisk(t *testing.T, entries []eifbuild.Entry) {
	t.Helper()
	r, err := eifbuild.ApplicationRamdisk(entries, c.cmd, c.env)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r.Source().Reader)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, c.want) {
		t.Errorf("the ramdisk differs: %d bytes, want %d\n%s", len(got), len(c.want), format(t, entries))
	}
}

// TestSharedTars: the shared export archives give the shared ramdisks byte for
// byte, and say what got lost.
func TestSharedTars(t *testing.T) {
	for _, c := range treeCases(t) {
		t.Run(c.name, func(t *testing.T) {
			path := need.SharedData(t, "eif", "ramdisks", c.name+".tar")
			for _, source := range []string{path, "tar:" + path} {
				r := open(t, source, Options{})
				c.checkRamdisk(t, r.Entries)
				if len(r.Lost) != len(c.lost) {
					t.Errorf("lost %q, want %d lines", r.Lost, len(c.lost))
				}
				for _, line := range r.Lost {
					name, _, _ := strings.Cut(line, ":")
					for key := range c.lost[name] {
						if !strings.Contains(line, key) {
							t.Errorf("%q does not name %s", line, key)
						}
					}
					if len(c.lost[name]) == 0 {
						t.Errorf("lost %q", line)
					}
				}
			}
		})
	}
}
