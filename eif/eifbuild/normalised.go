// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cretula/cretula/eif/eifinit/process"
)

// normalisedBootstrap lays out the first ramdisk for our init: the kernel gives
// it /dev/console as its standard streams, so that must be there before anything
// is mounted.
func normalisedBootstrap(init, nsmKo Content) (*Ramdisk, error) {
	if init.Size == 0 {
		return nil, errors.New("eifbuild: the bootstrap ramdisk needs an init")
	}
	entries := []Entry{
		builtDir("dev"),
		{Name: "dev/console", Type: CharDevice, Mode: 0o600, MTime: buildTime, Major: 5, Minor: 1},
		{Name: "dev/null", Type: CharDevice, Mode: 0o666, MTime: buildTime, Major: 1, Minor: 3},
		{Name: "init", Mode: 0o755, MTime: buildTime, Content: init},
	}
	if nsmKo.Size > 0 {
		entries = append(entries, Entry{Name: "nsm.ko", Mode: 0o644, MTime: buildTime, Content: nsmKo})
	}
	return Archive(entries)
}

// normalisedRamdisks makes the ramdisks of mode Normalised.
func (c *Config) normalisedRamdisks() (bootstrap, application *Ramdisk, err error) {
	t, err := newTree(c.Entries)
	if err != nil {
		return nil, nil, err
	}
	if err := t.complete(); err != nil {
		return nil, nil, err
	}
	if t.hidden > 0 {
		c.Note(fmt.Sprintf("%d files below /run and /tmp are left out: both are empty when the program starts", t.hidden))
	}
	p, err := c.start(t)
	if err != nil {
		return nil, nil, err
	}
	last, err := c.startFiles(p)
	if err != nil {
		return nil, nil, err
	}
	entries := t.normalised()
	for i := range entries {
		entries[i].Name = RootFS + "/" + entries[i].Name
		if entries[i].Type == Hardlink {
			entries[i].Link = RootFS + "/" + entries[i].Link
		}
	}
	if application, err = Archive(slices.Concat([]Entry{builtDir(RootFS)}, entries, last)); err != nil {
		return nil, nil, err
	}
	if c.AWSInit {
		bootstrap, err = BootstrapRamdisk(c.Init, c.NSMKo)
	} else {
		bootstrap, err = normalisedBootstrap(c.Init, c.NSMKo)
	}
	return bootstrap, application, err
}

// startFiles returns the files at the top of the ramdisk that tell the init what
// to start. They are the last of the ramdisk: where memory is too small, the kernel
// stops unpacking and boots, and the init must not start a program of half a tree.
func (c *Config) startFiles(p process.Process) ([]Entry, error) {
	if !c.AWSInit {
		data, err := p.Encode()
		if err != nil {
			return nil, malformed("process", "%w", err)
		}
		return []Entry{builtFile(process.FileName, 0o644, string(data))}, nil
	}
	if p.Dir != "/" {
		if !c.IgnoreWorkingDir {
			return nil, unsupported("workdir", "WORKDIR %.200q: %w", p.Dir, ErrIgnoredWorkingDir)
		}
		c.Note(fmt.Sprintf("WORKDIR %s is ignored: %v", p.Dir, ErrIgnoredWorkingDir))
	}
	if p.UID != 0 || p.GID != 0 {
		if !c.IgnoreUser {
			return nil, unsupported("user", "USER %.100q: %w", c.User, ErrIgnoredUser)
		}
		c.Note(fmt.Sprintf("USER %s is ignored: %v", c.User, ErrIgnoredUser))
	}
	return awsStartFiles(p.Args, p.Env)
}
