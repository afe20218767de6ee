// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

// TestUnit: systemd takes the unit, and what it lets the service do is little.
func TestUnit(t *testing.T) {
	analyze := need.Program(t, "systemd-analyze")
	text, err := os.ReadFile("../../packaging/cretula-kms.service")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "cretula")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	const installed = "ExecStart=/usr/local/bin/cretula "
	if !strings.Contains(string(text), installed) {
		t.Fatalf("no %q in the unit", installed)
	}
	unit := filepath.Join(dir, "cretula-kms.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(string(text), installed, "ExecStart="+program+" ", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), unit+":") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if out, err := exec.Command(analyze, "security", "--offline=yes", "--threshold=15", unit).CombinedOutput(); err != nil {
		t.Errorf("security: %v\n%s", err, out)
	}
	broken := strings.Replace(string(text), "Type=notify", "Type=nonsense", 1)
	if err := os.WriteFile(unit, []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); !strings.Contains(string(out), "nonsense") {
		t.Errorf("verify finds nothing in a broken unit: %s", out)
	}
}
