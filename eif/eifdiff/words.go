// SPDX-License-Identifier: Apache-2.0

package eifdiff

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/eif/eifinit/process"
)

// maxTable bounds the work for a list, and maxItems what is listed of it. What makes
// a list goes one further, so that listed can tell.
const (
	maxTable = 1 << 20
	maxItems = 1000
)

// listed cuts each kind of items to maxItems, and tells whether there were more.
func listed(items []Item) (kept []Item, more bool) {
	count := make(map[string]int)
	kept = items[:0]
	for _, i := range items {
		if count[i.Of]++; count[i.Of] > maxItems {
			more = true
			continue
		}
		kept = append(kept, i)
	}
	return kept, more
}

// diffList returns what is in only one of two lists, in order: a longest common
// subsequence is left out.
func diffList(a, b []string, of string) []Item {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	items := make([]Item, 0, min(len(a)+len(b), maxItems+1))
	put := func(i Item) {
		if len(items) <= maxItems {
			i.Of = of
			items = append(items, i)
		}
	}
	keep := common(a, b)
	i, j := 0, 0
	for _, k := range append(keep, [2]int{len(a), len(b)}) {
		for ; i < k[0]; i++ {
			put(Item{A: a[i]})
		}
		for ; j < k[1]; j++ {
			put(Item{B: b[j]})
		}
		i, j = k[0]+1, k[1]+1
	}
	return items
}

// common returns the indices of a longest common subsequence, or nothing where
// that is too much work.
func common(a, b []string) [][2]int {
	width := len(b) + 1
	if (len(a)+1)*width > maxTable {
		return nil
	}
	length := make([]int32, (len(a)+1)*width)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				length[i*width+j] = length[(i+1)*width+j+1] + 1
			} else {
				length[i*width+j] = max(length[(i+1)*width+j], length[i*width+j+1])
			}
		}
	}
	var pairs [][2]int
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] == b[j]:
			pairs = append(pairs, [2]int{i, j})
			i, j = i+1, j+1
		case length[(i+1)*width+j] >= length[i*width+j+1]:
			i++
		default:
			j++
		}
	}
	return pairs
}

// diffEnv compares variables by name. Where only their order differs it says so.
func diffEnv(a, b []string) []Item {
	valuesA, valuesB := variables(a), variables(b)
	var items []Item
	put := func(i Item) {
		if len(items) <= maxItems {
			i.Of = "variable"
			items = append(items, i)
		}
	}
	for _, v := range a {
		name, _, _ := strings.Cut(v, "=")
		if other, ok := valuesB[name]; !ok {
			put(Item{A: v})
		} else if other != valuesA[name] && v == valuesA[name] {
			put(Item{A: v, B: other})
		}
	}
	for _, v := range b {
		name, _, _ := strings.Cut(v, "=")
		if _, ok := valuesA[name]; !ok {
			put(Item{B: v})
		}
	}
	if items == nil && !slices.Equal(a, b) {
		items = diffList(a, b, "variable")
	}
	return items
}

// variables maps names to entries; the last of a name counts.
func variables(list []string) map[string]string {
	m := make(map[string]string, len(list))
	for _, v := range list {
		name, _, _ := strings.Cut(v, "=")
		m[name] = v
	}
	return m
}

// maxText bounds a file that is compared entry by entry.
const maxText = 1 << 20

// isText tells which files say what is started: "cmd" and "env" of nitro-cli's
// images, "process" of normalised ones.
func isText(ramdisk int, name string) bool {
	return ramdisk > 1 && (name == eifbuild.CmdFile || name == eifbuild.EnvFile || name == process.FileName)
}

// diffText compares such a file entry by entry.
func diffText(name string, a, b []byte) []Item {
	switch name {
	case eifbuild.CmdFile:
		return diffList(lines(a), lines(b), "argument")
	case eifbuild.EnvFile:
		return diffEnv(lines(a), lines(b))
	}
	x, err := process.Parse(a)
	if err != nil {
		return nil
	}
	y, err := process.Parse(b)
	if err != nil {
		return nil
	}
	items := append(diffList(x.Args, y.Args, "argument"), diffEnv(x.Env, y.Env)...)
	for _, f := range []field{
		{"working directory", x.Dir, y.Dir},
		{"user", fmt.Sprint(x.UID), fmt.Sprint(y.UID)},
		{"group", fmt.Sprint(x.GID), fmt.Sprint(y.GID)},
		{"groups", fmt.Sprint(x.Groups), fmt.Sprint(y.Groups)},
	} {
		if f.a != f.b {
			items = append(items, Item{Of: f.name, A: f.a, B: f.b})
		}
	}
	return items
}

func lines(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}
