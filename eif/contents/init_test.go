// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"context"
	"errors"
	"testing"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifinit"
)

func TestOwnInit(t *testing.T) {
	x86, arm := string(eifinit.Binary(eif.ArchX86_64)), string(eifinit.Binary(eif.ArchAArch64))
	own := item{name: "init", mode: 0o100755, data: x86}
	const named86 = "cretula's init (x86_64)"
	for name, c := range map[string]struct {
		ramdisk []byte
		want    string
	}{
		"own":              {cpio(folder("dev"), own), named86},
		"own, compressed":  {zipped(t, cpio(own)), named86},
		"for aarch64":      {cpio(item{name: "init", mode: 0o100755, data: arm}), "cretula's init (aarch64)"},
		"other":            {cpio(item{name: "init", mode: 0o100755, data: "#!/bin/sh"}), ""},
		"one byte differs": {cpio(item{name: "init", mode: 0o100755, data: x86[:len(x86)-1] + "x"}), ""},
		"none":             {cpio(folder("dev")), ""},
		"elsewhere":        {cpio(item{name: "bin/init", mode: 0o100755, data: x86}), ""},
		"a link to it":     {cpio(item{name: "own", mode: 0o100755, data: x86}, link("init", "own")), ""},
		"written over":     {cpio(own, file644("init", "other")), ""},
		"by a link":        {cpio(own, link("l", "."), file644("l/init", "other")), ""},
		"by a hard link":   {cpio(item{name: "init", mode: 0o100755, inode: 7, data: x86}, named(7, "x", "other")), ""},
		"unreadable":       {append(cpio(own), "junk"...), ""},
		"empty":            {nil, ""},
	} {
		if got, err := OwnInit(t.Context(), image(t, c.ramdisk, cpio(own))); err != nil || got != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OwnInit(ctx, image(t, cpio(own))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
