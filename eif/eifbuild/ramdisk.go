// SPDX-License-Identifier: Apache-2.0

package eifbuild

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// buildTime is the modification time that nitro-cli's builder gives to what it
// adds: 2017-04-18T16:30:00Z.
const buildTime = 1492533000

// RootFS is the folder of the application ramdisk that becomes the program's
// root.
const RootFS = "rootfs"

// CmdFile and EnvFile are the files of the application ramdisk with the command,
// one argument a line, and its environment, one NAME=value a line.
const (
	CmdFile = "cmd"
	EnvFile = "env"
)

// hosts is the table that a container runtime would write, as nitro-cli's
// builder has it.
const hosts = "127.0.0.1       localhost\n" +
	"::1     localhost ip6-localhost ip6-loopback\n" +
	"fe00::0 ip6-localnet\n" +
	"ff00::0 ip6-mcastprefix\n" +
	"ff02::1 ip6-allnodes\n" +
	"ff02::2 ip6-allrouters\n"

const resolvConf = "/run/resolvconf/resolv.conf"

// BootstrapRamdisk lays out the first ramdisk of an image: init, which the kernel
// starts, and the NSM driver that it loads. Without a driver (the zero Content)
// there is none in the ramdisk.
func BootstrapRamdisk(init, nsmKo Content) (*Ramdisk, error) {
	if init.Size == 0 {
		return nil, errors.New("eifbuild: the bootstrap ramdisk needs an init")
	}
	entries := []Entry{
		builtDir("dev"),
		{Name: "init", Mode: 0o755, MTime: buildTime, Content: init},
	}
	if nsmKo.Size > 0 {
		entries = append(entries, Entry{Name: "nsm.ko", Mode: 0o755, MTime: buildTime, Content: nsmKo})
	}
	return Archive(entries)
}

func builtDir(name string) Entry { return Entry{Name: name, Type: Dir, Mode: 0o755, MTime: buildTime} }

func builtFile(name string, mode uint32, content string) Entry {
	return Entry{Name: name, Mode: mode, MTime: buildTime, Content: Bytes([]byte(content))}
}

func builtLink(name string, mode uint32, target string) Entry {
	return Entry{Name: name, Type: Symlink, Mode: mode, MTime: buildTime, Link: target}
}

// dropped are files that a container runtime leaves in an exported tree.
var dropped = map[string]bool{
	".dockerenv": true, "Dockerfile": true, "dev/console": true, "dev/pts": true, "dev/shm": true, "etc/hostname": true,
}

// runtimeFiles are what every tree must have, sorted; those a tree has get the
// build time, the others are appended. Keys as they are named in a tree.
var runtimeFiles = []Entry{
	builtDir("dev/"),
	builtDir("dev/pts/"),
	builtDir("dev/shm/"),
	builtDir("etc/"),
	builtFile("etc/hosts", 0o644, hosts),
	builtLink("etc/mtab", 0o755, "/proc/mounts"),
	builtLink("etc/resolv.conf", 0o644, resolvConf),
	builtDir("proc/"),
	builtDir("sys/"),
}

// ApplicationRamdisk lays out the second ramdisk of an image: a container's file
// tree in the order of its export, and the command and environment to start it
// with. The result is what nitro-cli makes of that tree: mount points are added,
// a container runtime's own files dropped or replaced, hard links become relative
// symbolic links. cmd must not be empty; no argument and no variable may hold a
// newline, for which the format has no escape.
func ApplicationRamdisk(tree []Entry, cmd, env []string) (*Ramdisk, error) {
	last, err := awsStartFiles(cmd, env)
	if err != nil {
		return nil, err
	}
	entries, err := rootEntries(tree)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"", "/dev", "/run", "/sys", "/var", "/proc", "/tmp"} {
		entries = append(entries, builtDir(RootFS+dir))
	}
	return Archive(append(entries, last...))
}

// awsStartFiles returns the files that tell AWS's init what to start.
func awsStartFiles(cmd, env []string) ([]Entry, error) {
	if len(cmd) == 0 || cmd[0] == "" {
		return nil, malformed("command", "%w", ErrNoCommand)
	}
	cmdFile, err := joinLines(CmdFile, cmd)
	if err != nil {
		return nil, err
	}
	envFile, err := joinLines(EnvFile, env)
	if err != nil {
		return nil, err
	}
	return []Entry{builtFile(CmdFile, 0o644, cmdFile), builtFile(EnvFile, 0o644, envFile)}, nil
}

func joinLines(file string, list []string) (string, error) {
	var b strings.Builder
	for _, s := range list {
		if strings.ContainsAny(s, "\n\x00") {
			return "", malformed("line", "%s: %.40q holds a newline or a NUL", file, s)
		}
		b.WriteString(s)
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// rootEntries returns the tree below rootfs.
func rootEntries(tree []Entry) ([]Entry, error) {
	entries := make([]Entry, 1, len(tree)+20)
	entries[0] = builtDir(RootFS)
	seen := make(map[string]bool)
	for _, e := range tree {
		if err := validName(e.Name, e.Type == Dir); err != nil {
			return nil, malformed("name", "%w", err)
		}
		if e.Type == Dir && !strings.HasSuffix(e.Name, "/") {
			e.Name += "/"
		}
		if dropped[e.Name] {
			continue
		}
		seen[e.Name] = true
		if err := translate(&e); err != nil {
			return nil, malformed("tree", "%.200q: %w", e.Name, err)
		}
		e.Name = RootFS + "/" + e.Name
		entries = append(entries, e)
	}
	for _, e := range runtimeFiles {
		if !seen[e.Name] {
			e.Name = RootFS + "/" + strings.TrimSuffix(e.Name, "/")
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// translate changes one entry of a tree as nitro-cli's builder does.
func translate(e *Entry) error {
	for _, m := range runtimeFiles {
		if m.Name == e.Name {
			e.MTime = buildTime
		}
	}
	switch {
	case e.Name == "etc/hosts":
		if e.Type != File {
			return fmt.Errorf("is a %v, not a file", e.Type)
		}
		e.Content = Bytes([]byte(hosts))
	case e.Name == "etc/resolv.conf":
		e.Type, e.Link, e.Content = Symlink, resolvConf, Content{}
	case e.Type == Hardlink:
		if err := validName(e.Link, false); err != nil {
			return err
		}
		e.Type, e.Link, e.Content = Symlink, relative(path.Dir(e.Name), e.Link), Content{}
	}
	return nil
}

// relative returns the way from the folder dir to target; both are plain paths
// below the same root.
func relative(dir, target string) string {
	from, to := strings.Split(dir, "/"), strings.Split(target, "/")
	if dir == "." {
		from = nil
	}
	for len(from) > 0 && len(to) > 1 && from[0] == to[0] {
		from, to = from[1:], to[1:]
	}
	return strings.Repeat("../", len(from)) + strings.Join(to, "/")
}
