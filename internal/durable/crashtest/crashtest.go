// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package crashtest is a test's file layer that discards what was not fsynced.
// It runs a program under strace, which records every call that changes files
// below one folder, and makes from the record the folder as it could look after
// the machine lost power at any moment of the run.
//
// The program is the real one on the real file system, unchanged, with its
// threads; a FUSE file system in its place would have to be written, mounted
// with privileges, and could not serve the shared memory maps of bbolt without
// its own page cache semantics.
//
// The model is the worst that POSIX allows. Data and length of a file are
// durable once an fsync or fdatasync of the file that began after the write has
// returned; a name once an fsync of its folder has, also that of a new file
// which was synced itself. Of what is not durable nothing is left ([Strict]),
// or any part of it: pages of 4096 bytes, cuts of length, and for each folder
// some first of its changes. Permissions are durable at once. Calls that change
// files and are not modelled end the test. The position of a descriptor that
// was read from before it was written with write(2) is not known; pwrite(2)
// and O_APPEND are exact.
package crashtest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Strict is the seed of [Trace.Restore] with which nothing is left that was
// not durable.
const Strict = 0

// calls are those that are recorded.
const calls = "open,openat,creat,write,pwrite64,lseek,ftruncate,fsync,fdatasync,rename,renameat,renameat2," +
	"unlink,unlinkat,rmdir,link,linkat,mkdir,mkdirat,chmod,fchmod,fchmodat,mmap," + unmodelled

// unmodelled are those that end the test if they touch the folder.
const unmodelled = "writev,pwritev,pwritev2,fallocate,truncate,copy_file_range,sendfile,splice," +
	"symlink,symlinkat,mknod,mknodat,openat2"

// A Recording is a program that runs under strace.
type Recording struct {
	t       testing.TB
	cmd     *exec.Cmd
	dir     string
	log     string
	initial *node
	once    sync.Once
	err     error
}

var install sync.Once

// lookStrace finds strace, installs it when root, or skips the test loudly;
// under CI=true that skip is a failure.
func lookStrace(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil && os.Geteuid() == 0 {
		install.Do(func() {
			out, err := exec.Command("apt-get", "install", "-y", "-q", "strace").CombinedOutput()
			if err != nil {
				t.Logf("apt-get install strace: %v\n%s", err, out)
			}
		})
		path, err = exec.LookPath("strace")
	}
	if err == nil {
		// Tracing may be forbidden, in a container for instance.
		var out []byte
		if out, err = exec.Command(path, "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err != nil {
		text := fmt.Sprintf("SKIPPED: no strace, so losing what was not fsynced is not tested: %v", err)
		if os.Getenv("CI") == "true" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	return path
}

// Start starts cmd, which must not have been started, under strace. What it
// and its children do below the folder dir is recorded; what is there before
// counts as durable. The test must call Wait.
func Start(t testing.TB, cmd *exec.Cmd, dir string) *Recording {
	t.Helper()
	strace := lookStrace(t)
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	initial, err := readTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &Recording{t: t, cmd: cmd, dir: dir, initial: initial, log: filepath.Join(t.TempDir(), "strace.log")}
	program := cmd.Path
	cmd.Path = strace
	cmd.Args = append([]string{
		"strace", "-f", "-y", "-xx", "-ttt", "-T", "-q", "--seccomp-bpf", "-s", "100000000",
		"-e", "trace=?" + strings.ReplaceAll(calls, ",", ",?"), "-e", "signal=none", "-o", r.log, "--", program,
	}, cmd.Args[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Kill(); r.wait() })
	return r
}

func readTree(path string) (*node, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	n := newNode(info.IsDir(), info.Mode().Perm())
	if !info.IsDir() {
		n.live, err = os.ReadFile(path)
		n.durable = bytes.Clone(n.live)
		return n, err
	}
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		child, err := readTree(filepath.Join(path, e.Name()))
		if err != nil {
			return nil, err
		}
		n.names[e.Name()], n.durableNames[e.Name()] = child, child
	}
	return n, err
}

// Pid returns the process id of the traced program, 0 if it has ended.
func (r *Recording) Pid() int {
	children := childrenOf(r.cmd.Process.Pid)
	if len(children) == 0 {
		return 0
	}
	return children[0]
}

// Signal sends sig to the traced program, but not to its children.
func (r *Recording) Signal(sig os.Signal) error {
	pid := r.Pid()
	if pid == 0 {
		return os.ErrProcessDone
	}
	return syscall.Kill(pid, sig.(syscall.Signal))
}

// Kill ends the traced program and its children with SIGKILL.
func (r *Recording) Kill() {
	for _, pid := range descendants(r.cmd.Process.Pid) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

func descendants(pid int) []int {
	var all []int
	for _, child := range childrenOf(pid) {
		all = append(append(all, child), descendants(child)...)
	}
	return all
}

func childrenOf(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var pids []int
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

func (r *Recording) wait() error {
	r.once.Do(func() { r.err = r.cmd.Wait() })
	return r.err
}

// Wait waits until the program and its children have ended, however they did,
// and returns what they had done.
func (r *Recording) Wait() *Trace {
	r.t.Helper()
	r.wait()
	log, err := os.ReadFile(r.log)
	if err != nil {
		r.t.Fatal(err)
	}
	events, err := parseLog(log)
	if err != nil {
		r.t.Fatalf("crashtest: %v", err)
	}
	trace := &Trace{events: events, dir: r.dir, initial: r.initial}
	if _, err := trace.replay(len(events)); err != nil {
		r.t.Fatalf("crashtest: %v", err)
	}
	return trace
}

// Run is Start and Wait.
func Run(t testing.TB, cmd *exec.Cmd, dir string) *Trace {
	t.Helper()
	return Start(t, cmd, dir).Wait()
}

// A Trace is what a program did, as a sequence of events. A cut is a number
// from 0 to Len: that many events had happened when the power went.
type Trace struct {
	events  []event
	dir     string
	initial *node
}

// Len returns the number of events.
func (t *Trace) Len() int { return len(t.events) }

// CutAt returns the cut at the time: every call that had returned by then is
// before it. It makes what a client saw, by the clock of the same machine, a
// place in the trace of the server.
func (t *Trace) CutAt(at time.Time) int {
	i := slices.IndexFunc(t.events, func(e event) bool { return e.end.After(at) })
	if i < 0 {
		return len(t.events)
	}
	return i
}

// Output returns what the program and its children had begun to write to
// descriptor 1 at the cut.
func (t *Trace) Output(cut int) []byte {
	var out []byte
	for _, e := range t.events[:cut] {
		if e.name == outputEvent {
			out = append(out, e.data...)
		}
	}
	return out
}

// Restore makes, as a new folder, what could be left of the recorded folder if
// power was lost at the cut, and returns its path. With the seed [Strict] that
// is only what was durable; with any other a random part of the rest as well.
func (t *Trace) Restore(tb testing.TB, cut int, seed uint64) string {
	tb.Helper()
	root, err := t.replay(cut)
	if err != nil {
		tb.Fatalf("crashtest: %v", err)
	}
	path := filepath.Join(tb.TempDir(), filepath.Base(t.dir))
	if err := root.write(path, newKeeper(seed)); err != nil {
		tb.Fatal(err)
	}
	return path
}

func (n *node) write(path string, k *keeper) error {
	if !n.dir {
		return os.WriteFile(path, n.after(k), n.mode)
	}
	if err := os.Mkdir(path, n.mode); err != nil && !os.IsExist(err) {
		return err
	}
	for name, child := range n.namesAfter(k) {
		if err := child.write(filepath.Join(path, name), k); err != nil {
			return err
		}
	}
	return os.Chmod(path, n.mode|fs.FileMode(0o700))
}
