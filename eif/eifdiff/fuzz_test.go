// SPDX-License-Identifier: Apache-2.0

package eifdiff

import (
	"testing"
)

// FuzzRamdisks compares hostile ramdisks: the report is empty if and only if they
// are the same, and explains every register.
func FuzzRamdisks(f *testing.F) {
	one := cpio(folder("d"), file644("d/f", "1"), link("l", "d"))
	two := cpio(folder("d/"), file644("d/f", "2"), file644("cmd", "/app\n"))
	seeds := [][2][]byte{
		{one, two}, {one, one}, {one, append(cpio(), one...)}, {one, zipped(f, 9, one)}, {zipped(f, 1, one), zipped(f, 9, one)},
		{cpio(file644("cmd", "a\nb")), cpio(file644("cmd", "b\n\n"))}, {nil, one}, {one, one[:300]},
		{cpio(file644("process", "arg=/a\x00dir=/\x00uid=0\x00gid=0\x00")), cpio(file644("process", "arg=/a\x00arg=b\x00dir=/\x00uid=0\x00gid=0\x00"))},
	}
	for _, s := range seeds {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		x, y := base(), base()
		x.ramdisks, y.ramdisks = [][]byte{a, b}, [][]byte{b, a}
		compare(t, x.side(t), y.side(t))
	})
}
