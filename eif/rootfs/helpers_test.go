// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/cretula/cretula/eif/eifbuild"
)

// format writes a tree one entry a line, contents and all.
func format(t testing.TB, entries []eifbuild.Entry) string {
	t.Helper()
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%v %q %04o %d:%d %d", e.Type, e.Name, e.Mode, e.UID, e.GID, e.MTime)
		switch e.Type {
		case eifbuild.File:
			fmt.Fprintf(&b, " %q", content(t, e))
		case eifbuild.Symlink, eifbuild.Hardlink:
			fmt.Fprintf(&b, " -> %q", e.Link)
		case eifbuild.CharDevice, eifbuild.BlockDevice:
			fmt.Fprintf(&b, " %d,%d", e.Major, e.Minor)
		}
		b.WriteByte('\n')
	}
	return b.String()
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
