// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/need"
)

// A docBlock is a fenced block of a document.
type docBlock struct {
	kind string // what stands behind the fence
	line int    // number of its first line
	text string
}

// docBlocks returns the blocks of a document in their order.
func docBlocks(t *testing.T, file string) (blocks []docBlock) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	inside := false
	for n, line := range strings.SplitAfter(string(text), "\n") {
		kind, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !inside:
			inside = true
			blocks = append(blocks, docBlock{kind: strings.TrimSpace(kind), line: n + 2})
		case fence:
			inside = false
		case inside:
			blocks[len(blocks)-1].text += line
		}
	}
	if inside {
		t.Fatalf("%s: a block without an end", file)
	}
	return blocks
}

// TestReleases does what docs/releases.md says, block by block, and compares what is
// printed with what the page says is.
func TestReleases(t *testing.T) {
	for _, program := range []string{"go", "openssl", "bash", "awk"} {
		need.Program(t, program)
	}
	need.AWSCLI(t)
	const page = "docs/releases.md"
	blocks := docBlocks(t, filepath.Join("..", "..", page))
	mark := func(b docBlock) string { return fmt.Sprintf("== %s:%d\n", page, b.line) }
	script, shell, texts := "set -euo pipefail\n", 0, 0
	for _, b := range blocks {
		switch b.kind {
		case "sh":
			shell++
			script += fmt.Sprintf("echo '%s' >&2\n%s", strings.TrimSpace(mark(b)), b.text)
		case "text":
			texts++
		default:
			t.Errorf("%s:%d: a block of kind %q", page, b.line, b.kind)
		}
	}
	if shell < 20 || texts < 12 {
		t.Fatalf("%d blocks of commands, %d of output", shell, texts)
	}
	out := runPage(t, script+"echo '== the end' >&2\n")
	for i, b := range blocks {
		if b.kind != "text" {
			continue
		}
		if i == 0 || blocks[i-1].kind != "sh" {
			t.Fatalf("%s:%d: the output of what?", page, b.line)
		}
		_, printed, _ := strings.Cut(out, mark(blocks[i-1]))
		printed, _, ended := strings.Cut(printed, "\n== ")
		if !ended {
			t.Fatalf("%s:%d: nothing ended this block", page, blocks[i-1].line)
		}
		compareOutput(t, fmt.Sprintf("%s:%d", page, b.line), b.text, printed)
	}
}

// runPage runs a script in an empty folder, as somebody would who has no AWS account
// and no kernel, and returns what it printed. All it started ends with the test.
func runPage(t *testing.T, script string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "r") // short: sockets are below it
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(goEnvironment(t), "HOME="+dir, "GOFLAGS=", "NITRO_CLI_BLOBS="+t.TempDir(),
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_PAGER=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	t.Cleanup(func() {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what a failed script left running
		}
	})
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "== the end\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// compareOutput wants the lines in their order among those that were printed; …
// stands for anything within a line.
func compareOutput(t *testing.T, where, wanted, printed string) {
	t.Helper()
	rest := strings.Split(printed, "\n")
	for line := range strings.Lines(wanted) {
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSuffix(line, "\n")), "…", ".*") + "$")
		found := false
		for len(rest) > 0 && !found {
			found = pattern.MatchString(rest[0])
			rest = rest[1:]
		}
		if !found {
			t.Errorf("%s: no line %q where it should be in\n%s", where, line, printed)
			return
		}
	}
}
