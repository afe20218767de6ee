// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/need"
)

// openTerminal returns a terminal and what a person would see of it.
func openTerminal(t *testing.T) (terminal *os.File, seen func() string) {
	t.Helper()
	screen, err := os.OpenFile(need.File(t, "/dev/ptmx", "terminals of programs, devpts"), os.O_RDWR|unix.O_NOCTTY, 0)
	mustDo(t, err)
	t.Cleanup(func() { screen.Close() })
	mustDo(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	mustDo(t, err)
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	mustDo(t, err)
	text := make(chan string)
	go func() {
		var all bytes.Buffer
		_, _ = all.ReadFrom(screen) // ends when the terminal is closed
		text <- all.String()
	}()
	return terminal, func() string {
		terminal.Close()
		return <-text
	}
}

// TestEIFProgress: what takes long shows how far it is, at a terminal only, and
// leaves nothing there.
func TestEIFProgress(t *testing.T) {
	s := newSignable(t, eif.Bytes(bytes.Repeat([]byte("kernel"), 500_000)))
	for _, args := range [][]string{
		{"describe", s.image},
		{"measure", s.image},
		{"verify", "--allow-unsigned", s.image},
		{"reference", s.image},
		s.signArgs("-o", s.image+".signed")[1:],
		{"strip", s.image},
		{"repair", s.image},
	} {
		for _, slow := range []bool{true, false} {
			terminal, seen := openTerminal(t)
			now := signableAt
			env := &cli.Env{Stdout: new(bytes.Buffer), Stderr: terminal, Now: func() time.Time {
				if slow {
					now = now.Add(time.Second)
				}
				return now
			}}
			code := run(append([]string{"eif"}, args...), env)
			text := seen()
			// What the command says otherwise comes after the line was taken away.
			at := strings.LastIndex(text, "\r\x1b[K")
			if code != 0 || strings.Contains(text, " %  of 3.0 MB") != slow || slow && strings.Contains(text[at:], "reading") {
				t.Errorf("%s, slow %v: %d %q", args[0], slow, code, text)
			}
		}
	}
}
