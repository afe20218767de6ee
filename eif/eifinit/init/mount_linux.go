// SPDX-License-Identifier: Apache-2.0

package main

import (
	"syscall"
)

const (
	noDevSuidExec = syscall.MS_NODEV | syscall.MS_NOSUID | syscall.MS_NOEXEC
	noSuidExec    = syscall.MS_NOSUID | syscall.MS_NOEXEC
)

// A mount is a file system that every program finds. Folders that are missing are
// made.
type mount struct {
	kind, target string
	flags        uintptr
	options      string
}

// mounts are those of AWS's init, with the options that container runtimes give.
var mounts = []mount{
	{"proc", "/proc", noDevSuidExec, ""},
	{"tmpfs", "/run", noDevSuidExec, "mode=0755"},
	{"tmpfs", "/tmp", noDevSuidExec, "mode=1777"},
	{"tmpfs", "/dev/shm", noDevSuidExec, "mode=1777"},
	{"devpts", "/dev/pts", noSuidExec, "gid=5,mode=0620,ptmxmode=0666"},
	{"sysfs", "/sys", noDevSuidExec, ""},
}

// links are what every program expects in /dev.
var links = [...][2]string{
	{"/dev/fd", "/proc/self/fd"},
	{"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
}

// makeDir makes a folder unless it is there.
func makeDir(name string) error {
	if err := syscall.Mkdir(name, 0o755); err != nil && err != syscall.EEXIST {
		return step("make the folder "+name, err)
	}
	return nil
}

func (m *mount) mount() error {
	if err := makeDir(m.target); err != nil {
		return err
	}
	return step("mount "+m.kind+" on "+m.target, syscall.Mount(m.kind, m.target, m.kind, m.flags, m.options))
}

func mountDev() error {
	if err := makeDir("/dev"); err != nil {
		return err
	}
	err := syscall.Mount("devtmpfs", "/dev", "devtmpfs", noSuidExec, "")
	if err == syscall.EBUSY { // the kernel has done it
		return nil
	}
	return step("mount devtmpfs on /dev", err)
}

// changeRoot makes /rootfs the root. It is mounted over the ramdisk's root, and
// not just chroot'ed to: a process in a chroot cannot make user namespaces
// (user_namespaces(7)).
func changeRoot() error {
	if err := syscall.Mount("/rootfs", "/rootfs", "", syscall.MS_BIND, ""); err != nil {
		return step("mount /rootfs on itself", err)
	}
	if err := syscall.Chdir("/rootfs"); err != nil {
		return step("change to /rootfs", err)
	}
	if err := syscall.Mount(".", "/", "", syscall.MS_MOVE, ""); err != nil {
		return step("move /rootfs to /", err)
	}
	if err := syscall.Chroot("."); err != nil {
		return step("change the root to /rootfs", err)
	}
	return step("change to the new root", syscall.Chdir("/"))
}

// mountAll mounts everything in the new root.
func mountAll() error {
	if err := mountDev(); err != nil {
		return err
	}
	for i := range mounts {
		if err := mounts[i].mount(); err != nil {
			return err
		}
	}
	for _, l := range links {
		if err := syscall.Symlink(l[1], l[0]); err != nil && err != syscall.EEXIST {
			return step("link "+l[0], err)
		}
	}
	return nil
}

// prepare does what programs can be without. The kernel of an image may lack
// control groups or IP.
func prepare() {
	optional := func(err error) {
		if err != nil {
			say(err.Error() + "; going on without")
		}
	}
	optional(step("mount cgroup2 on /sys/fs/cgroup", syscall.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", noDevSuidExec, "")))
	optional(step("set the host name", syscall.Sethostname([]byte("localhost"))))
	optional(step("bring the interface lo up", loopbackUp()))
	// All programs of an enclave are one party, whoever they run as; AWS's driver
	// says so too, and udev's rules of /dev/vsock, which tells the context id.
	for _, device := range [...]string{"/dev/nsm", "/dev/vsock"} {
		if err := syscall.Chmod(device, 0o666); err != syscall.ENOENT {
			optional(step("open "+device+" for all users", err))
		}
	}
}

// loopbackUp brings lo up; the kernel then gives it its addresses. AWS's init
// does not, and enclave programs do so first thing.
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return setInterfaceFlags(fd, "lo", syscall.IFF_UP|syscall.IFF_LOOPBACK|syscall.IFF_RUNNING)
}
