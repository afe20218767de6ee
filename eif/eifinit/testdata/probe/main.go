// SPDX-License-Identifier: Apache-2.0

// Command probe is the program of a test's image: it prints what it finds, one
// "probe: NAME VALUE" a line, and ends in the way its arguments say.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch os.Args[1] {
	case "orphan": // the child of the probe: leaves a child behind
		leave()
	case "sleep":
		time.Sleep(50 * time.Millisecond)
	case "look":
		look()
		os.Exit(7)
	case "stop":
		stopConsole()
	case "signal":
		signalInit()
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

// stopConsole has the console take nothing any more, not even into its buffer.
func stopConsole() {
	const tcxonc, tcooff = 0x540a, 0
	fd, err := syscall.Open("/dev/console", syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		report("stop", err)
		return
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), tcxonc, tcooff); errno != 0 {
		report("stop", errno)
		return
	}
	for err == nil {
		_, err = syscall.Write(fd, []byte("."))
	}
}

func report(name string, value any) { fmt.Printf("probe: %s %q\n", name, fmt.Sprint(value)) }

// text is a result or the error in place of it.
func text[T any](value T, err error) any {
	if err != nil {
		return err
	}
	return value
}

func look() {
	report("args", strings.Join(os.Args, "|"))
	report("env", strings.Join(os.Environ(), "|"))
	report("dir", text(os.Getwd()))
	report("uid", fmt.Sprint(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid()))
	report("groups", text(os.Getgroups()))
	sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	report("parent", fmt.Sprint(os.Getppid(), int(sid) == os.Getpid()))
	report("hostname", text(os.Hostname()))
	for _, dir := range []string{"/", "/tmp", "/run", "/dev/shm", "/srv/work", "/dev/nsm", "/dev/vsock", "/dev/console"} {
		info, err := os.Stat(dir)
		if err == nil {
			report("mode "+dir, info.Mode())
		}
	}
	for _, name := range []string{"/dev/fd", "/dev/stdin", "/dev/stdout", "/dev/stderr"} {
		report("link "+name, text(os.Readlink(name)))
	}
	entries, _ := os.ReadDir("/")
	for _, e := range entries {
		report("root", e.Name())
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	report("open", len(fds) <= 5) // 0, 1, 2, the folder, the runtime's poller
	for _, name := range []string{"/dev/stdin", "/dev/stdout", "/dev/stderr"} {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		report("reopen "+name, err)
		f.Close()
	}
	lines("/proc/self/mounts", "mount")
	lines("/proc/self/status", "status")
	report("loopback", text(loopback()))
	userNamespace()
	orphans()
}

func lines(file, name string) {
	data, err := os.ReadFile(file)
	if err != nil {
		report(name, err)
	}
	for line := range strings.Lines(string(data)) {
		report(name, strings.Join(strings.Fields(line), " "))
	}
}

// loopback sends a word over TCP to itself.
func loopback() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(c)
	return string(data), err
}

// userNamespace: the kernel refuses it to a process in a chroot.
func userNamespace() {
	cmd := exec.Command("/proc/self/exe", "none")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	report("user namespace", cmd.Run())
}

func leave() {
	cmd := exec.Command("/proc/self/exe", "sleep")
	if err := cmd.Start(); err != nil {
		fmt.Print(err)
		return
	}
	fmt.Print(cmd.Process.Pid)
}

// orphans makes processes whose parent ends before them, and waits until they are
// gone: as long as nobody waited for them, their folder in /proc is there.
func orphans() {
	for range 3 {
		pid, err := exec.Command("/proc/self/exe", "orphan").Output()
		if err != nil {
			report("orphan", err)
			continue
		}
		gone := false
		for range 1000 {
			if _, err := os.Stat("/proc/" + string(pid)); os.IsNotExist(err) {
				gone = true
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		report("orphan", gone)
	}
}

// signalInit sends every signal to the first process that a program may not end
// it with.
func signalInit() {
	for s := syscall.Signal(1); s < 32; s++ {
		switch s {
		case syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL:
			continue
		}
		if err := syscall.Kill(1, s); err != nil {
			report("kill", err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	report("alive", syscall.Kill(1, 0))
}
