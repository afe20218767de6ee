// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A child is a started program.
type child struct {
	pid  int
	done chan struct{}
	err  error // valid when done is closed
}

// kill ends the program and, where it has no process namespace that ends with
// it, the processes of its group.
func (p *child) kill() {
	select {
	case <-p.done:
	default:
		// Not waited for, or only just: the number is not in use again.
		_ = unix.Kill(-p.pid, unix.SIGKILL)
	}
}

const (
	otherNamespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	everything      = unix.CLONE_NEWUSER | unix.CLONE_NEWNET | otherNamespaces
)

// attempts are the sets of namespaces to try, best first. Only root can have
// namespaces without one for users.
func attempts() []uintptr {
	if os.Geteuid() == 0 {
		return []uintptr{everything, everything &^ unix.CLONE_NEWUSER, unix.CLONE_NEWUSER | unix.CLONE_NEWNET, unix.CLONE_NEWNET, 0}
	}
	return []uintptr{everything, unix.CLONE_NEWUSER | unix.CLONE_NEWNET, 0}
}

// refused tells whether an error may mean that the kernel, or who configured it,
// does not allow a namespace.
func refused(err error) bool {
	for _, e := range []syscall.Errno{unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EINVAL, unix.ENOSPC, unix.EUSERS, unix.ENOENT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// startProcess starts the application with as many namespaces as are allowed.
// files become descriptors 3 and up.
func startProcess(c *Config, app *application, work string, files []*os.File) (*child, Isolation, error) {
	program, err := app.program()
	if err != nil {
		return nil, Isolation{}, err
	}
	interpreter, inRoot := app.runsInRoot(program)
	var firstErr error
	for _, flags := range attempts() {
		chroot := inRoot && (flags&unix.CLONE_NEWUSER != 0 || os.Geteuid() == 0)
		p, err := startOne(c, app, program, work, files, flags, chroot)
		if err == nil {
			i := describe(flags, chroot, inRoot, interpreter, firstErr)
			i.Why = append(i.Why, app.otherUser(flags)...)
			i.Why = append(i.Why, app.missing()...)
			return p, i, nil
		}
		if firstErr == nil {
			firstErr = err
		}
		if !refused(err) {
			break
		}
	}
	return nil, Isolation{}, fmt.Errorf("launch: %w", firstErr)
}

func describe(flags uintptr, chroot, inRoot bool, interpreter string, refusal error) Isolation {
	i := Isolation{Isolated: flags&unix.CLONE_NEWNET != 0, Root: chroot}
	if !i.Isolated {
		i.Why = append(i.Why, fmt.Sprintf("it has this machine's network: the kernel allows no namespace (%v)", refusal))
	} else if flags&otherNamespaces != otherNamespaces {
		i.Why = append(i.Why, fmt.Sprintf("it has no network but sees this machine's processes: the kernel allows no namespaces for these (%v)", refusal))
	}
	if flags&unix.CLONE_NEWUSER == 0 && os.Geteuid() == 0 {
		i.Why = append(i.Why, fmt.Sprintf("it runs as root: the kernel allows no namespace for users (%v)", refusal))
	}
	switch {
	case !inRoot:
		i.Why = append(i.Why, fmt.Sprintf("it sees this machine's files: it is linked dynamically and its loader %s is not in the image", interpreter))
	case !chroot:
		i.Why = append(i.Why, "it sees this machine's files: only root or a user namespace could change that")
	}
	return i
}

// insideUser is whom a program runs as in a namespace of which it must not be
// root: root there could leave its root folder.
const insideUser = 1000

// user returns as whom the program runs with these namespaces, as it sees it. A
// user namespace has one user and one group: more only root could give it.
func (a *application) user(flags uintptr) (uid, gid int) {
	switch {
	case flags&unix.CLONE_NEWUSER == 0:
		return os.Geteuid(), os.Getegid()
	case a.aws:
		return insideUser, insideUser
	case a.process.UID == 0:
		return insideUser, int(a.process.GID)
	}
	return int(a.process.UID), int(a.process.GID)
}

// otherUser says how the user differs from the one that the image names. Images
// for AWS's init name none.
func (a *application) otherUser(flags uintptr) (why []string) {
	if a.aws {
		return nil
	}
	p := &a.process
	if uid, gid := a.user(flags); uid != int(p.UID) || gid != int(p.GID) {
		why = append(why, fmt.Sprintf("it runs as user %d and group %d, not as user %d and group %d", uid, gid, p.UID, p.GID))
	}
	if len(p.Groups) > 0 {
		why = append(why, fmt.Sprintf("it is not in the further groups that the image gives it: %d", p.Groups))
	}
	return why
}

// startOne starts the program with exactly these namespaces.
func startOne(c *Config, app *application, program, work string, files []*os.File, flags uintptr, chroot bool) (*child, error) {
	if c.refuse != nil {
		if err := c.refuse(flags); err != nil {
			return nil, err
		}
	}
	cmd := &exec.Cmd{
		Path:       program,
		Args:       app.process.Args,
		Env:        append([]string{}, app.process.Env...), // nil would mean this process's
		Dir:        app.process.Dir,
		Stdout:     c.Stdout,
		Stderr:     c.Stderr,
		ExtraFiles: files,
		WaitDelay:  2 * time.Second,
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:     true,
			Pdeathsig:  syscall.SIGKILL,
			Cloneflags: flags,
		},
	}
	if chroot {
		cmd.SysProcAttr.Chroot = app.root
	} else {
		cmd.Path, cmd.Dir = filepath.Join(app.root, program), work
		if dir, err := resolve(app.root, app.process.Dir); err == nil && dir != "/" {
			cmd.Dir = filepath.Join(app.root, dir)
		}
	}
	if flags&unix.CLONE_NEWUSER != 0 {
		// Not root in there: the first exec drops the capabilities with which
		// the root was changed.
		uid, gid := app.user(flags)
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: os.Getegid(), Size: 1}}
	}
	if err := closeOnExec(); err != nil {
		return nil, err
	}
	p := &child{done: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run starts the command and waits for its end, on a thread of its own that is
// not used for anything else: no_new_privs belongs to a thread and is inherited
// from it, and a parent death signal is sent when the thread ends that made the
// process.
func (p *child) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		started <- err
		return
	}
	if err := cmd.Start(); err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	// Nothing secret can be in the process yet: its NSM is not served before
	// this function reports the start.
	err := unix.Prlimit(p.pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		p.kill()
		_ = cmd.Wait()
		started <- err
		return
	}
	started <- nil
	waitForEnd(p.pid)
	// As long as the process is not waited for, its group has that number.
	// Without a process namespace, others of it may still run.
	p.kill()
	p.err = cmd.Wait()
	close(p.done)
}

// waitForEnd returns when the process has ended, and leaves it to be waited for.
func waitForEnd(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// closeOnExec makes sure that no descriptor above standard error is inherited,
// not even one that this process inherited itself and knows nothing of. (Go opens
// all its own that way; those for the program are passed on explicitly.)
func closeOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
