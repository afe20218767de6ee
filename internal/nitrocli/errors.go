// SPDX-License-Identifier: Apache-2.0

package nitrocli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cretula/cretula/internal/cli"
)

// helpPage is AWS's page of error codes; each has a fragment of its own.
const helpPage = "https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#"

// An Error is a failure with one of nitro-cli's codes.
type Error struct {
	Code Code
	// Err says what went wrong here.
	Err error
	// Hint says what to do, if anything can be said.
	Hint string
}

// Failf makes an [*Error]. The format may wrap with %w.
func Failf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// WithHint adds what to do.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

func (e *Error) Error() string { return e.Code.String() + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// Status is the exit status of an error: 0 for a [Text], 2 for a [*UsageError],
// the number of the code for an [*Error], 1 for anything else, which is a defect.
func Status(err error) int {
	if _, ok := errors.AsType[Text](err); err == nil || ok {
		return 0
	}
	if _, ok := errors.AsType[*UsageError](err); ok {
		return 2
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return int(e.Code)
	}
	return 1
}

// Print writes an error as nitro-cli does: code and title, what went wrong here in
// the place of its general remarks, and the page with more. The line with the path
// of a log file is left out, as nitro-cli does where it could write none. A hint
// comes last.
func Print(w io.Writer, err error) {
	if usage, ok := errors.AsType[*UsageError](err); ok {
		fmt.Fprint(w, usage.Message)
		return
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		fmt.Fprintf(w, "%s\n", printable(err.Error()))
		return
	}
	fmt.Fprintf(w, "[ %s ] %s. %s\n\nFor more details, please visit %s%s\n",
		e.Code, e.Code.Title(), printable(e.Err.Error()), helpPage, e.Code)
	if e.Hint != "" {
		fmt.Fprintf(w, "\nhint: %s\n", printable(e.Hint))
	}
}

// printable keeps the line breaks of a message and nothing else that a terminal
// would obey. Lines after the first are indented, so that none of them can pass for
// another error or a hint.
func printable(message string) string {
	lines := strings.Split(strings.TrimRight(message, "\n"), "\n")
	for i := range lines {
		lines[i] = cli.Printable(lines[i])
	}
	return strings.Join(lines, "\n  ")
}
