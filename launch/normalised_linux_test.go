// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/eif/eifbuild"
)

// normalisedImage writes an image for our init around the probe.
func normalisedImage(t *testing.T, change func(*eifbuild.Config)) string {
	t.Helper()
	content, err := eifbuild.FileContent(static(t))
	if err != nil {
		t.Fatal(err)
	}
	c := eifbuild.Config{
		Kernel: eifbuild.StandIn("kernel"), Init: eifbuild.StandIn("init"), Metadata: testMetadata,
		Entries:    []eifbuild.Entry{{Name: "opt/tools/probe", Mode: 0o755, Content: content}},
		Entrypoint: []string{"probe", probeArgument},
		Cmd:        []string{"all", "new\nline"},
		Env:        []string{"PATH=/bin:/opt/tools", "TEXT=a\nb"},
		WorkingDir: "/srv/work", User: "1234:567",
	}
	if change != nil {
		change(&c)
	}
	name := filepath.Join(t.TempDir(), "probe.eif")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := eifbuild.Build(t.Context(), f, c); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestNormalisedImage(t *testing.T) {
	e, r := runProbe(t, nil, normalisedImage(t, nil), nil)
	if want := []string{"probe", probeArgument, "all", "new\nline"}; !slices.Equal(r.Args, want) {
		t.Errorf("arguments %q, want %q", r.Args, want)
	}
	if want := []string{"PATH=/bin:/opt/tools", "TEXT=a\nb", "HOME=/"}; !slices.Equal(r.Env, want) {
		t.Errorf("environment %q, want %q", r.Env, want)
	}
	i := e.Isolation()
	if !i.Isolated || !i.Root {
		t.Logf("NOT ISOLATED: %q", i.Why)
		return
	}
	if r.UID != 1234 || r.GID != 567 || r.WorkDir != "/srv/work" || len(i.Why) != 0 {
		t.Errorf("user %d, group %d, in %q, lacking %q", r.UID, r.GID, r.WorkDir, i.Why)
	}
}

// TestOtherUser: what cannot be given is told.
func TestOtherUser(t *testing.T) {
	noUsers := func(flags uintptr) error {
		if flags&unix.CLONE_NEWUSER != 0 {
			return unix.EPERM
		}
		return nil
	}
	passwd := eifbuild.Entry{Name: "etc/passwd", Mode: 0o644, Content: eifbuild.Bytes([]byte("app:x:5:6::/:\n"))}
	group := eifbuild.Entry{Name: "etc/group", Mode: 0o644, Content: eifbuild.Bytes([]byte("tty:x:7:app\nmore:x:8:app\n"))}
	for _, c := range []struct {
		name, user string
		uid, gid   int // that the program has
		want       []string
		refuse     func(uintptr) error
	}{
		{"root", "", 1000, 0, []string{"it runs as user 1000 and group 0, not as user 0 and group 0"}, nil},
		{"root of a group", "0:5", 1000, 5, []string{"it runs as user 1000 and group 5, not as user 0 and group 5"}, nil},
		{"groups", "app", 5, 6, []string{"it is not in the further groups that the image gives it: [7 8]"}, nil},
		{"no namespace", "1234:567", os.Geteuid(), os.Getegid(),
			[]string{fmt.Sprintf("it runs as user %d and group %d, not as user 1234 and group 567", os.Geteuid(), os.Getegid())}, noUsers},
	} {
		t.Run(c.name, func(t *testing.T) {
			image := normalisedImage(t, func(b *eifbuild.Config) {
				b.User, b.Entries = c.user, append(b.Entries, passwd, group)
			})
			e, r := runProbe(t, nil, image, func(config *Config) { config.refuse = c.refuse })
			i := e.Isolation()
			if c.refuse == nil && !i.Isolated {
				t.Skipf("NOT ISOLATED: %q", i.Why)
			}
			if r.UID != c.uid || r.GID != c.gid {
				t.Errorf("user %d and group %d, want %d and %d", r.UID, r.GID, c.uid, c.gid)
			}
			for _, want := range c.want {
				if !slices.Contains(i.Why, want) {
					t.Errorf("lacks %q, want %q", i.Why, want)
				}
			}
			if c.refuse == nil && len(i.Why) != len(c.want) {
				t.Errorf("lacks %q, want %q", i.Why, c.want)
			}
		})
	}
}

// TestWorkingDirectory: a command is relative to it, with a root of its own or
// not, and it is made where there is none.
func TestWorkingDirectory(t *testing.T) {
	image := normalisedImage(t, func(c *eifbuild.Config) {
		c.WorkingDir, c.Entrypoint = "/opt", []string{"tools/probe", probeArgument}
	})
	for name, refuse := range map[string]func(uintptr) error{
		"isolated": nil,
		"not": func(flags uintptr) error {
			if flags != 0 {
				return unix.EPERM
			}
			return nil
		},
	} {
		e, r := runProbe(t, nil, image, func(c *Config) { c.refuse = refuse })
		if i := e.Isolation(); i.Root && r.WorkDir != "/opt" || !i.Root && !strings.HasSuffix(r.WorkDir, "/rootfs/opt") {
			t.Errorf("%s: in %q, %+v", name, r.WorkDir, i)
		}
	}
	content, err := eifbuild.FileContent(static(t))
	if err != nil {
		t.Fatal(err)
	}
	process := "arg=/app\x00arg=" + probeArgument + "\x00arg=all\x00dir=/not/there/../yet/\x00uid=5\x00gid=5\x00"
	image = rawImage(t, nil, []eifbuild.Entry{
		{Name: "rootfs/app", Mode: 0o755, Content: content},
		{Name: "process", Mode: 0o644, Content: eifbuild.Bytes([]byte(process))},
	})
	var out bytes.Buffer
	e, err := startProbe(t.Context(), nil, image, &out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Wait(); err != nil {
		if exit, ok := err.(*exec.ExitError); ok {
			t.Fatalf("%v: %s", exit, out.String())
		}
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if i := e.Isolation(); i.Root && r.WorkDir != "/not/yet" {
		t.Errorf("in %q", r.WorkDir)
	}
}
