// SPDX-License-Identifier: Apache-2.0

package contents

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/eifinit"
	"github.com/cretula/cretula/reason"
)

// initName is what the kernel starts out of the first ramdisk.
const initName = "init"

// OwnInit tells whether the first ramdisk has cretula's init ([eifinit.Binary]) and
// says for which architecture; empty if it has another one. A ramdisk that cannot be
// read, or in which more than one entry could have made the file, has none that is
// known. Errors are those of reading the file, and of ctx.
func OwnInit(ctx context.Context, im *eif.Image) (string, error) {
	if len(im.Ramdisks()) == 0 {
		return "", nil
	}
	sizes := map[int64]bool{}
	for _, arch := range []eif.Arch{eif.ArchX86_64, eif.ArchAArch64} {
		sizes[int64(len(eifinit.Binary(arch)))] = true
	}
	seen, plainTree := 0, true
	var sum []byte
	err := Walk(ctx, im, 1, func(e *eifbuild.Entry, r *eifbuild.Reader) error {
		if e.Type == eifbuild.Symlink || e.Type == eifbuild.Hardlink {
			plainTree = false // either may make another name of init
		}
		if plain(e.Name) != initName {
			return nil
		}
		seen++
		if e.Type != eifbuild.File || !sizes[e.Content.Size] {
			return nil
		}
		h := sha256.New()
		if _, err := io.Copy(h, r); err != nil {
			return err
		}
		sum = h.Sum(nil)
		return nil
	})
	if _, refused := reason.Of(err); refused {
		return "", nil
	}
	if err != nil || seen != 1 || !plainTree {
		return "", err
	}
	for _, arch := range []eif.Arch{eif.ArchX86_64, eif.ArchAArch64} {
		if own := sha256.Sum256(eifinit.Binary(arch)); bytes.Equal(sum, own[:]) {
			return "cretula's init (" + arch.String() + ")", nil
		}
	}
	return "", nil
}
