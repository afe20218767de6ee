// SPDX-License-Identifier: Apache-2.0

package imagebuild

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cretula/cretula/internal/cli"
)

// checkOutput finds out, before anything large is read, that the image cannot be
// written, and refuses to replace a file that it is made of.
func (r *Request) checkOutput() error {
	switch folder, err := os.Stat(filepath.Dir(r.Output)); {
	case err != nil:
		return cli.WithHint(fmt.Errorf("the image cannot be written: %w", err), "make the folder first")
	case !folder.IsDir():
		return fmt.Errorf("the image cannot be written: %s is no folder", filepath.Dir(r.Output))
	}
	output, err := os.Stat(r.Output)
	if err != nil {
		return nil // It is not there, or package durable tells what is wrong.
	}
	if output.IsDir() {
		return cli.WithHint(&fs.PathError{Op: "replace", Path: r.Output, Err: errors.New("it is a folder")}, "name the file to write, as in %s", filepath.Join(r.Output, "app.eif"))
	}
	inputs := append(r.sourcePaths(), r.Kernel, r.KernelConfig, r.Init, r.NSMKo)
	for _, blob := range []string{kernelBlob(r.Arch), kernelBlob(r.Arch) + ".config", initBlob, nsmKoBlob, cmdlineBlob} {
		if r.Blobs == "" {
			break
		}
		inputs = append(inputs, filepath.Join(r.Blobs, blob), filepath.Join(r.Blobs, r.Arch.String(), blob))
	}
	for _, name := range inputs {
		if input, err := os.Stat(name); err == nil && os.SameFile(input, output) {
			return cli.WithHint(fmt.Errorf("the image would replace %s, which it is made of", name), "name another file for the image")
		}
	}
	return nil
}

// sourcePaths returns what in the source may be a path: it, and what is left of
// it without prefix and selector.
func (r *Request) sourcePaths() []string {
	paths := []string{r.Source}
	for _, prefix := range []string{"dir:", "tar:", "oci:", "docker-archive:"} {
		rest, ok := strings.CutPrefix(r.Source, prefix)
		if !ok {
			continue
		}
		for i := len(rest); i > 0; i = strings.LastIndexAny(rest[:i], ":@") {
			paths = append(paths, rest[:i])
		}
	}
	return paths
}

// sourceFolder tells whether the source is a folder. A plain one has the owners of
// whoever unpacked it. The image must not be written into it: it would be part of
// itself.
func (r *Request) sourceFolder() (bool, error) {
	above, err := filepath.EvalSymlinks(filepath.Dir(r.Output))
	if err == nil {
		above, err = filepath.Abs(above)
	}
	if err != nil {
		return false, err
	}
	folder := false
	for _, name := range r.sourcePaths() {
		info, err := os.Stat(name)
		if err != nil || !info.IsDir() {
			continue // What else it may be, package rootfs says.
		}
		folder = true
		for at := above; ; at = filepath.Dir(at) {
			if here, err := os.Stat(at); err == nil && os.SameFile(here, info) {
				return false, cli.WithHint(fmt.Errorf("the image %s would be in the folder that it is made of", r.Output), "name a place outside of %s", name)
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return folder, nil
}
