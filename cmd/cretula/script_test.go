// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cretula/cretula/internal/nitrocli"
)

// goRace spares every command that a test runs the second that the race detector
// waits at the end of a process.
const goRace = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	commands := map[string]func(){"cretula": main, nitrocli.Name: main}
	if commands[filepath.Base(os.Args[0])] == nil {
		os.Setenv("GORACE", goRace) // for those to come, not for this process
	}
	testscript.Main(m, commands)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GORACE", goRace)
			if shared, err := sharedTestdata(); err == nil {
				env.Setenv("SHARED", shared)
			}
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "shared" {
				_, err := sharedTestdata()
				return err == nil, nil
			}
			if program, ok := strings.CutPrefix(cond, "need:"); ok {
				return haveProgram(program)
			}
			return false, nil
		},
		Cmds: scriptCommands,
	})
}
