// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// scriptCommands are the commands of the scripts beside those of testscript.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"appears": scriptAppears,
	"dotenv":  scriptDotenv,
	"exits":   scriptExits,
	"lacks":   scriptLacks,
	"member":  scriptMember,
	"mode":    scriptMode,
}

// haveProgram is the condition [need:PROGRAM]. Where CI=true is set a program
// that is not there fails the script.
func haveProgram(name string) (bool, error) {
	_, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") != "true" {
		return false, nil
	}
	return err == nil, err
}

// sharedTestdata returns the folder of other people's test data beside the
// checkout, where there is one.
func sharedTestdata() (string, error) {
	dir, err := filepath.Abs("../../../shared/testdata")
	if err != nil {
		return "", err
	}
	_, err = os.Stat(dir)
	return dir, err
}

// scriptExits is the script command "exits N PROGRAM ARG...": the program must
// end with exactly that status. Its output can be matched afterwards.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with %d, want %d", args[1], got, want)
	}
}

// scriptAppears is the script command "appears FILE": it waits for the file.
func scriptAppears(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: appears FILE")
	}
	name := ts.MkAbs(args[0])
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(name)
		if err == nil {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			ts.Fatalf("%s does not appear: %v", args[0], err)
		}
	}
}

// scriptDotenv is the script command "dotenv FILE": it takes over the variables
// of a file as "cretula up" writes it.
func scriptDotenv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: dotenv FILE")
	}
	env, err := readEnvFile(ts.MkAbs(args[0]))
	ts.Check(err)
	for name, value := range env {
		ts.Setenv(name, value)
	}
}

// scriptMode is the script command "mode OCTAL FILE...".
func scriptMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: mode OCTAL FILE...")
	}
	for _, name := range args[1:] {
		info, err := os.Lstat(ts.MkAbs(name))
		ts.Check(err)
		if got := fmt.Sprintf("%03o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", name, got, args[0])
		}
	}
}

// scriptLacks is the script command "lacks TEXT FILE...": no file may hold the
// text. Unlike "! grep" it takes the text as it is and reads binary files.
func scriptLacks(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[0] == "" {
		ts.Fatalf("usage: lacks TEXT FILE...")
	}
	for _, name := range args[1:] {
		data, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		if bytes.Contains(data, []byte(args[0])) {
			ts.Fatalf("%s is in %s", args[0], name)
		}
	}
}

// scriptMember is the script command "member NAME FILE PATH": it sets the
// variable NAME to the value at PATH, dotted names and indices, in a JSON file;
// strings as they are, other values as JSON.
func scriptMember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: member NAME FILE PATH")
	}
	var value any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &value))
	for step := range strings.SplitSeq(args[2], ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) {
				ts.Fatalf("%s: no index %s in a list of %d", args[2], step, len(v))
			}
			value = v[i]
		default:
			value = nil
		}
		if value == nil {
			ts.Fatalf("%s: there is no %s in %s", args[2], step, args[1])
		}
	}
	text, ok := value.(string)
	if !ok {
		encoded, err := json.Marshal(value)
		ts.Check(err)
		text = string(encoded)
	}
	ts.Setenv(args[0], text)
}
