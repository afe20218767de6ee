// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
	"github.com/cretula/cretula/vectors"
)

// maxVerifierOutput is how much is kept of what a program prints for one vector.
const maxVerifierOutput = 4096

// A conformanceProgram is another verifier.
type conformanceProgram struct {
	path    string
	args    []string
	dir     string
	timeout time.Duration
	level   string
	// environ is the environment without variables of vectors.
	environ []string
}

func newConformanceProgram(f *conformanceFlags, args []string, dir string) (*conformanceProgram, error) {
	path, err := exec.LookPath(f.exec)
	if err != nil {
		return nil, cli.Usagef("--exec: %v", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	environ := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "VECTOR_") })
	return &conformanceProgram{path: path, args: args, dir: dir, timeout: f.timeout, level: f.level, environ: environ}, nil
}

// judge runs the program for one vector.
func (p *conformanceProgram) judge(ctx context.Context, v *vectors.Vector) conformanceResult {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	clock := ""
	if !v.Clock.IsZero() {
		clock = v.Clock.Format(time.RFC3339)
	}
	args := append(slices.Clip(p.args), fileOf(p.dir, v.Document), fileOf(p.dir, v.Root), clock)
	cmd := exec.CommandContext(ctx, p.path, args...)
	cmd.Env = append(slices.Clip(p.environ), variables(v, p.level)...)
	if v.CRLs != "" {
		cmd.Env = append(cmd.Env, "VECTOR_CRLS="+fileOf(p.dir, v.CRLs))
	}
	var stdout, stderr limitedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A grandchild that keeps the output open does not keep us.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	exit, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return conformanceResult{Got: "failed", Message: fmt.Sprintf("none within %v", p.timeout)}
	case err == nil:
		return conformanceResult{Got: vectors.Verified}
	case exited && exit.ExitCode() >= 1 && exit.ExitCode() <= 125:
		return conformanceResult{Got: "rejected", Reason: namedReason(stdout.String())}
	}
	message := err.Error()
	if line := firstLine(stderr.String()); line != "" {
		message += ": " + line
	}
	return conformanceResult{Got: "failed", Message: message}
}

// variables are what a vector expects, for the environment.
func variables(v *vectors.Vector, level string) []string {
	list := []string{"VECTOR_NAME=" + v.Name, "VECTOR_LEVEL=" + level}
	e := &v.Expectation
	kind := e.Kind
	if kind == "" {
		kind = "enclave"
	}
	list = append(list, "VECTOR_KIND="+kind)
	if e.PCRs != nil {
		var values []string
		for i, value := range e.PCRs.All() {
			values = append(values, fmt.Sprintf("%d=%v", i, value))
		}
		list = append(list, "VECTOR_PCRS="+strings.Join(values, ","))
	}
	for name, set := range map[string]bool{"ANY_IMAGE": e.AnyImage, "ALLOW_DEBUG": e.AllowDebug, "DOCUMENT_TIME": e.DocumentTime} {
		if set {
			list = append(list, "VECTOR_"+name+"=1")
		}
	}
	for name, value := range map[string]*string{"NONCE": e.Nonce, "USER_DATA": e.UserData} {
		if value != nil {
			list = append(list, "VECTOR_"+name+"="+*value)
		}
	}
	for name, value := range map[string]int{"MAX_AGE": e.MaxAge, "MAX_FIELD": e.MaxField} {
		if value != 0 {
			list = append(list, fmt.Sprintf("VECTOR_%s=%d", name, value))
		}
	}
	return list
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.ToValidUTF8(line, "�")
}

// namedReason returns the reason that the first line begins with, perhaps after
// "rejected"; empty if it begins with none.
func namedReason(output string) string {
	for _, word := range strings.Fields(firstLine(output)) {
		word = strings.TrimRight(word, ",:;.")
		if word == "rejected" {
			continue
		}
		if new(reason.Reason).UnmarshalText([]byte(word)) == nil {
			return word
		}
		break
	}
	return ""
}

// A limitedBuffer keeps the beginning of what is written to it. The buffer is not
// embedded: io.Copy would use its ReadFrom, which has no limit.
type limitedBuffer struct{ kept bytes.Buffer }

func (b *limitedBuffer) String() string { return b.kept.String() }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.kept.Write(p[:min(len(p), maxVerifierOutput-b.kept.Len())])
	return len(p), nil
}
