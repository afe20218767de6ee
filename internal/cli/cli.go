// SPDX-License-Identifier: Apache-2.0

// Package cli has the manners that all commands share: where output goes, how
// an error becomes two lines and an exit code, how input is read. Commands get
// everything from an [Env], so that tests can run them in process.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/cretula/cretula/reason"
)

// An Env is what a command may use of the process it runs in.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Getenv reads an environment variable.
	Getenv func(string) string
	// Now is the clock.
	Now func() time.Time
	// Interrupted is closed when the process is asked to end. Nil: never.
	Interrupted <-chan struct{}
}

// System returns the Env of the running process.
func System() *Env {
	return &Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Now: time.Now}
}

// A UsageError is a wrong call: exit status 2.
type UsageError struct{ Message string }

func (e *UsageError) Error() string { return e.Message }

// Usagef makes a [UsageError].
func Usagef(format string, args ...any) error {
	return &UsageError{Message: fmt.Sprintf(format, args...)}
}

type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// WithHint adds a line that tells what to do; it is printed below the error.
func WithHint(err error, format string, args ...any) error {
	return &hinted{error: err, hint: fmt.Sprintf(format, args...)}
}

// Hint returns the hint that [WithHint] added, "" if there is none.
func Hint(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}

// An ExitError ends the process with a status of its own and prints nothing:
// for commands whose output has said everything already.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Code) }

// Report prints err to stderr as one line and its hints, and returns the exit
// status: 0 for nil, 2 for a usage error, the reason's for a refusal, else 1. What
// a terminal would obey is escaped; further lines of a message are indented.
func (e *Env) Report(err error) int {
	if err == nil {
		return 0
	}
	if exit, ok := errors.AsType[*ExitError](err); ok {
		return exit.Code
	}
	fmt.Fprintf(e.Stderr, "cretula: %s\n", lines(err.Error()))
	if hint := Hint(err); hint != "" {
		fmt.Fprintf(e.Stderr, "hint: %s\n", lines(hint))
	}
	if _, ok := errors.AsType[*UsageError](err); ok {
		return 2
	}
	if r, ok := reason.Of(err); ok {
		return r.ExitCode()
	}
	return 1
}

// WriteBinary writes bytes that are no text to stdout. A terminal is refused.
func (e *Env) WriteBinary(data []byte) error {
	if IsTerminal(e.Stdout) {
		return WithHint(Usagef("refusing to write binary data to a terminal"), "redirect the output to a file")
	}
	_, err := e.Stdout.Write(data)
	return err
}

// IsTerminal tells whether a stream is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ReadInput reads a named file, or stdin for "-". More than limit bytes are
// refused as malformed. When [Env.Interrupted] is closed it returns
// [context.Canceled] at once, whatever it was waiting for: a terminal and a
// named pipe can keep it for ever.
func (e *Env) ReadInput(name string, limit int64) ([]byte, error) {
	var data []byte
	var err error
	read := make(chan struct{})
	go func() {
		defer close(read)
		data, err = e.readInput(name, limit)
	}()
	select {
	case <-read:
		return data, err
	case <-e.Interrupted:
		return nil, context.Canceled
	}
}

func (e *Env) readInput(name string, limit int64) ([]byte, error) {
	in := e.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			failed.Path = Printable(failed.Path)
		}
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, reason.New(reason.Malformed, "input.size", "%s is larger than %d bytes", Printable(name), limit)
	}
	return data, nil
}
