// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/pcr"
)

// TestNSMChoice: in an enclave the environment cannot put an emulation in the
// device's place.
func TestNSMChoice(t *testing.T) {
	tests := []struct {
		name             string
		flag, variable   string
		device, emulated bool
		want             string
		says             bool
	}{
		{"nothing", "", "", false, false, "", false},
		{"nothing, with a device", "", "", true, false, "", false},
		{"variable", "", "v", false, false, "v", false},
		{"variable, with a device", "", "v", true, false, "", true},
		{"variable, with a device, allowed", "", "v", true, true, "v", false},
		{"allowed, but nothing to follow", "", "", true, true, "", false},
		{"flag", "f", "v", false, false, "f", false},
		{"flag, with a device", "f", "v", true, false, "f", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stderr bytes.Buffer
			env := &cli.Env{Stderr: &stderr, Getenv: func(name string) string {
				if name != "CRETULA_NSM_SOCKET" {
					t.Errorf("asked for %s", name)
				}
				return test.variable
			}}
			f := nsmFlags{socket: test.flag, allowEmulated: test.emulated}
			if got := f.choose(env, test.device); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if says := strings.Contains(stderr.String(), "CRETULA_NSM_SOCKET is ignored"); says != test.says {
				t.Errorf("stderr: %q", stderr.String())
			}
		})
	}
}

func TestNoNSM(t *testing.T) {
	if _, err := os.Stat(nsm.DevicePath); err == nil {
		t.Skip("this machine has " + nsm.DevicePath)
	}
	var stdout, stderr bytes.Buffer
	env := &cli.Env{Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }}
	if code := run([]string{"nsm", "describe"}, env); code != 8 {
		t.Errorf("exit status %d", code)
	}
	if got := stderr.String(); !strings.Contains(got, nsm.DevicePath) || !strings.Contains(got, "hint: run this in an enclave") {
		t.Errorf("stderr: %q", got)
	}
}

// TestHostileModuleID: what listens on a socket cannot write to the terminal.
func TestHostileModuleID(t *testing.T) {
	var stdout bytes.Buffer
	env := &cli.Env{Stdout: &stdout}
	if err := printNSM(env, nsm.Description{ModuleID: "i-0\x1b[2J\n"}, "s", true, false); err != nil {
		t.Fatal(err)
	}
	if got := stdout.String(); !strings.HasPrefix(got, `module     "i-0\x1b[2J\n"`+"\n") {
		t.Errorf("stdout: %q", got)
	}
}

func TestRegisterRanges(t *testing.T) {
	for want, indexes := range map[string][]pcr.Index{
		"none":            nil,
		"0":               {0},
		"0-15":            {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		"0-1, 3, 30-31":   {0, 1, 3, 30, 31},
		"1, 3, 5":         {1, 3, 5},
		"2, 16-18":        {2, 16, 17, 18},
		"0-2, 29, 31":     {0, 1, 2, 29, 31},
		"15-16":           {15, 16},
		"31":              {31},
		"7, 9-10, 12, 14": {7, 9, 10, 12, 14},
	} {
		if got := registerRanges(indexes); got != want {
			t.Errorf("%v: %q, want %q", indexes, got, want)
		}
	}
}
