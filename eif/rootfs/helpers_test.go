// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/reason"
)

// format writes a tree one entry a line, contents and all.
func format(t testing.TB, entries []eifbuild.Entry) string {
	t.Helper()
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%v %q %04o %d:%d %d", e.Type, e.Name, e.Mode, e.UID, e.GID, e.MTime)
		switch e.Type {
		case eifbuild.File:
			text := content(t, e)
			if len(text) > 1000 {
				text = fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
			}
			fmt.Fprintf(&b, " %q", text)
		case eifbuild.Symlink, eifbuild.Hardlink:
			fmt.Fprintf(&b, " -> %q", e.Link)
		case eifbuild.CharDevice, eifbuild.BlockDevice:
			fmt.Fprintf(&b, " %d,%d", e.Major, e.Minor)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// brief writes a tree in one line: "a/", "f=content", "s->target", "h=>link".
func brief(t testing.TB, entries []eifbuild.Entry) string {
	t.Helper()
	var list []string
	for _, e := range entries {
		switch e.Type {
		case eifbuild.File:
			e.Name += "=" + content(t, e)
		case eifbuild.Symlink:
			e.Name += "->" + e.Link
		case eifbuild.Hardlink:
			e.Name += "=>" + e.Link
		case eifbuild.FIFO, eifbuild.CharDevice, eifbuild.BlockDevice:
			e.Name += fmt.Sprintf("(%v)", e.Type)
		}
		list = append(list, e.Name)
	}
	return strings.Join(list, " ")
}

func content(t testing.TB, e eifbuild.Entry) string {
	t.Helper()
	if e.Content.Open == nil {
		return ""
	}
	r, err := e.Content.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(data)) != e.Content.Size {
		t.Fatalf("%s: %d bytes, announced %d", e.Name, len(data), e.Content.Size)
	}
	return string(data)
}

// A tm is a member of a test's archive.
type tm struct {
	tar.Header
	body string
}

const testTime = 1700000000

func entry(kind byte, name string, mode int64) tm {
	return tm{Header: tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: time.Unix(testTime, 0)}}
}

func dir(name string) tm { return entry(tar.TypeDir, name+"/", 0o755) }

func reg(name, body string) tm {
	m := entry(tar.TypeReg, name, 0o644)
	m.body, m.Size = body, int64(len(body))
	return m
}

func sym(name, target string) tm {
	m := entry(tar.TypeSymlink, name, 0o777)
	m.Linkname = target
	return m
}

func lnk(name, target string) tm {
	m := entry(tar.TypeLink, name, 0o644)
	m.Linkname = target
	return m
}

func tarOf(t testing.TB, members ...tm) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, m := range members {
		if err := w.WriteHeader(&m.Header); err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		if _, err := io.WriteString(w, m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// entriesTar writes a tree as an archive.
func entriesTar(t testing.TB, entries []eifbuild.Entry, xattrs map[string]map[string][]byte) []byte {
	t.Helper()
	flags := map[eifbuild.Type]byte{eifbuild.File: tar.TypeReg, eifbuild.Dir: tar.TypeDir, eifbuild.Symlink: tar.TypeSymlink,
		eifbuild.Hardlink: tar.TypeLink, eifbuild.FIFO: tar.TypeFifo, eifbuild.CharDevice: tar.TypeChar, eifbuild.BlockDevice: tar.TypeBlock}
	var members []tm
	for _, e := range entries {
		m := tm{Header: tar.Header{Typeflag: flags[e.Type], Name: e.Name, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID),
			ModTime: time.Unix(e.MTime, 0), Linkname: e.Link, Devmajor: int64(e.Major), Devminor: int64(e.Minor)}}
		if e.Type == eifbuild.File {
			m.body = content(t, e)
			m.Size = int64(len(m.body))
		}
		for key, value := range xattrs[e.Name] {
			if m.PAXRecords == nil {
				m.PAXRecords = map[string]string{}
			}
			m.PAXRecords[schilyXattr+key] = string(value)
		}
		members = append(members, m)
	}
	return tarOf(t, members...)
}

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// image makes an image with go-containerregistry: its layers are compressed with
// gzip.
func image(t testing.TB, c v1.ConfigFile, layers ...[]byte) v1.Image {
	t.Helper()
	if c.Architecture == "" {
		c.Architecture = "amd64"
	}
	if c.OS == "" {
		c.OS = "linux"
	}
	c.RootFS = v1.RootFS{Type: "layers"}
	im := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	im, err := mutate.ConfigFile(im, &c)
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range layers {
		l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
			tarball.WithMediaType(types.OCILayer))
		if err != nil {
			t.Fatal(err)
		}
		if im, err = mutate.AppendLayers(im, l); err != nil {
			t.Fatal(err)
		}
	}
	return im
}

// layoutOf writes images into an OCI layout, the first with the tag t0.
func layoutOf(t testing.TB, images ...v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for i, im := range images {
		if err := l.AppendImage(im, layout.WithAnnotations(map[string]string{refName: fmt.Sprint("t", i)})); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func open(t testing.TB, source string, o Options) *Root {
	t.Helper()
	r, err := Open(t.Context(), source, o)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// refused checks that a source is refused by a rule, and with words.
func refused(t *testing.T, source string, o Options, why reason.Reason, rule string, words ...string) {
	t.Helper()
	r, err := Open(t.Context(), source, o)
	if err == nil {
		r.Close()
		t.Fatalf("%s is taken, want %s", source, rule)
	}
	checkRefusal(t, err, why, rule, words...)
}

func checkRefusal(t *testing.T, err error, why reason.Reason, rule string, words ...string) {
	t.Helper()
	got, ok := reason.Of(err)
	if !ok || got != why || ruleOf(err) != rule {
		t.Errorf("refused with %v (%q): %v; want %v (%q)", got, ruleOf(err), err, why, rule)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func ruleOf(err error) string {
	if e, ok := errors.AsType[*reason.Error](err); ok {
		return e.Rule()
	}
	return ""
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
