// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"syscall"

	"github.com/cretula/cretula/eif/eifinit/process"
)

// start starts the program as a child in a session of its own.
func start(p *process.Process) (pid int, err error) {
	// As root, and before the program is looked for: a command such as ./run is
	// below the working directory, and that may be closed to others. Container
	// runtimes make it where the image lacks it.
	if err := enter(p.Dir); err != nil {
		return 0, err
	}
	path, err := process.Find(p, isProgram)
	if err != nil {
		return 0, err
	}
	giveConsole(int(p.UID))
	pid, err = syscall.ForkExec(path, p.Args, &syscall.ProcAttr{
		Env:   p.Env,
		Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{
			Setsid:     true,
			Credential: &syscall.Credential{Uid: p.UID, Gid: p.GID, Groups: p.Groups},
		},
	})
	return pid, step("start "+path, err)
}

// giveConsole makes the program's user the owner of the console, as container
// runtimes do: /dev/stdout and /dev/stderr, where many programs write their logs,
// open it anew. A program that cannot is started all the same.
func giveConsole(uid int) {
	for fd := range 3 {
		_ = syscall.Fchown(fd, uid, -1)
	}
}

// enter changes to a folder, which is made if need be.
func enter(dir string) error {
	for i := 1; i <= len(dir); i++ {
		if i < len(dir) && dir[i] != '/' || strings.HasSuffix(dir[:i], "/") {
			continue
		}
		// Links and what is in the way show when it is entered.
		if err := syscall.Mkdir(dir[:i], 0o755); err != nil && err != syscall.EEXIST {
			return step("make the working directory "+dir[:i], err)
		}
	}
	return step("change to the working directory "+dir, syscall.Chdir(dir))
}

// isProgram tells whether a file is one that someone may execute.
func isProgram(path string) bool {
	var stat syscall.Stat_t
	err := syscall.Stat(path, &stat)
	return err == nil && stat.Mode&syscall.S_IFMT == syscall.S_IFREG && stat.Mode&0o111 != 0
}

// reap waits for all children, those of others that ended before them too, until
// the one with this id ends.
func reap(pid int) (syscall.WaitStatus, error) {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil && err != syscall.EINTR {
			return 0, step("wait for the program", err)
		}
		if ended == pid && (status.Exited() || status.Signaled()) {
			return status, nil
		}
	}
}
