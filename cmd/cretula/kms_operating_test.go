// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/internal/pgtest"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
)

// What a test machine lacks, or must not have done to it: systemd, the service's
// user, and other people's groups. What one user alone would not notice is refused:
// a configuration that was not given to the service's group, a token that root has
// made, and files of the service that root is to take for private.
var operatingStubs = map[string]string{
	"chown": `
[ "$1" != -R ] || { shift; find "$2" >> "$PREFIX/owned"; }
shift
printf '%s\n' "$@" >> "$PREFIX/owned"`,
	"usermod": `[ "$*" = "-a -G softhsm cretula" ] && touch "$PREFIX/softhsm"`,
	"softhsm2-util": `
[ "${SERVICE_USER:-}" = cretula ] && [ -e "$PREFIX/softhsm" ] || { echo "the token is not the service's" >&2; exit 9; }
PATH=${PATH#*:} exec softhsm2-util "$@"`,
	"cretula": `
[ "${SERVICE_USER:-}" = cretula ] || case "$*" in
*/var/lib/cretula*|*/var/backups/cretula*) echo "root does not take files of the service: $*" >&2; exit 9 ;;
esac
PATH=${PATH#*:} exec cretula "$@"`,
	"runuser": `
[ "$1 $2 $3" = "-u cretula --" ] || exit 9
shift 3
find "$PREFIX/etc/cretula" -mindepth 1 | while read -r file; do
	grep -qxF "$file" "$PREFIX/owned" 2>/dev/null || [ "$1" = softhsm2-util ] || { echo "$file is root's" >&2; exit 9; }
done
export SERVICE_USER=cretula
exec "$@"`,
	"systemctl": `
log=$PREFIX/journal pid=$PREFIX/pid
start() {
	began=$(grep -c '"msg":"serving"' "$log" 2>/dev/null || true)
	command=$(sed -n 's/^ExecStart=//p' "$PREFIX/etc/systemd/system/cretula-kms.service" | sed "s# /# $PREFIX/#g; s#^/#$PREFIX/#")
	setsid $command >> "$log" 2>&1 & echo $! > "$pid"
	for i in $(seq 600); do
		[ "$(grep -c '"msg":"serving"' "$log")" -gt "${began:-0}" ] && return 0
		kill -0 "$(cat "$pid")" || return 1
		sleep 0.1
	done
	return 1
}
stop() {
	kill -TERM "$(cat "$pid")"
	for i in $(seq 300); do kill -0 "$(cat "$pid")" 2>/dev/null || return 0; sleep 0.1; done
	return 1
}
case "$*" in
daemon-reload) ;;
"enable --now cretula-kms" | "start cretula-kms") start ;;
"stop cretula-kms") stop ;;
"restart cretula-kms") stop; start ;;
"reload cretula-kms") kill -HUP "$(cat "$pid")" ;;
"is-active cretula-kms") kill -0 "$(cat "$pid")" && echo active ;;
*) echo "systemctl $*?" >&2; exit 9 ;;
esac`,
}

// freePort returns a port that nobody listens on just now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	return port
}

// TestOperating does what docs/operating.md says, block by block: only names of
// folders, hosts and ports are of this machine. At its end there was a TLS server on
// PostgreSQL with its root key in an HSM, its metrics were read, and its backup was
// verified and restored.
func TestOperating(t *testing.T) {
	for _, program := range []string{"gcc", "softhsm2-util", "aws", "curl", "openssl", "bash", "setsid"} {
		need.Program(t, program)
	}
	blocks := docBlocks(t, "../../docs/operating.md")
	database := pgtest.New(t)
	hsm := rootkeytest.StartHSM(t)
	prefix, err := os.MkdirTemp("", "o") // short: the admin socket is below it
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(prefix) })
	stubs, work := filepath.Join(prefix, "stubs"), filepath.Join(prefix, "work")
	for _, dir := range []string{stubs, work, filepath.Join(prefix, "root"), filepath.Join(prefix, "var")} {
		must(t, os.Mkdir(dir, 0o755))
	}
	for name, script := range operatingStubs {
		must(t, os.WriteFile(filepath.Join(stubs, name), []byte("#!/bin/bash\nset -eu\n"+script+"\n"), 0o755))
	}
	authority, err := os.ReadFile(filepath.Join(database.Data, pgtest.CertificateFile))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(work, "db-ca.pem"), authority, 0o644))
	repository, err := filepath.Abs("../..")
	must(t, err)
	for _, name := range []string{"go.mod", "go.sum", "cmd", "packaging", "kms", "internal", "attestation", "cms", "eif", "enclave", "launch", "nsm", "pcr", "policy", "reason", "vectors"} {
		must(t, os.Symlink(filepath.Join(repository, name), filepath.Join(work, name)))
	}
	here := strings.NewReplacer(
		"/etc/cretula", prefix+"/etc/cretula", "/etc/systemd", prefix+"/etc/systemd", "/var/lib/cretula", prefix+"/var/lib/cretula",
		"/var/backups/cretula", prefix+"/var/backups/cretula", "/root/ceremony", prefix+"/root/ceremony",
		"postgres@db.example.org:5432", fmt.Sprintf("tester@127.0.0.1:%d", database.Port),
		"db.example.org:5432", fmt.Sprintf("127.0.0.1:%d", database.Port),
		"kms.example.org", "localhost", ":8443", ":"+freePort(t), ":9420", ":"+freePort(t),
		"/usr/lib/softhsm/libsofthsm2.so", hsm.Module,
	)
	var script strings.Builder
	script.WriteString("set -euo pipefail\n")
	shell := 0
	for _, b := range blocks {
		if b.kind == "sh" {
			shell++
			fmt.Fprintf(&script, "echo '== docs/operating.md:%d' >&2\n%s", b.line, here.Replace(b.text))
		}
	}
	if shell < 10 {
		t.Fatalf("%d blocks of commands", shell)
	}
	script.WriteString("echo '== the end' >&2\nsystemctl stop cretula-kms\n")
	psql := filepath.Dir(pgtest.Program(t, "psql"))
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	cmd.Dir = work
	cmd.WaitDelay = time.Second
	cmd.Env = append(goEnvironment(t), "DESTDIR="+prefix, "PREFIX="+prefix, "HOME="+prefix+"/root",
		"PATH="+stubs+":"+prefix+"/usr/local/bin:"+os.Getenv("PATH")+":"+psql, "AWS_EC2_METADATA_DISABLED=true")
	t.Cleanup(func() {
		if pid, err := os.ReadFile(filepath.Join(prefix, "pid")); err == nil {
			exec.Command("kill", "-KILL", strings.TrimSpace(string(pid))).Run() // if it runs yet
		}
	})
	out, err := cmd.CombinedOutput()
	journal, _ := os.ReadFile(filepath.Join(prefix, "journal"))
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, journal)
	}
	checkOperated(t, string(out), string(journal))
}

// goEnvironment is the environment with the caches of the go command, which else
// would be looked for in the new home.
func goEnvironment(t *testing.T) []string {
	t.Helper()
	environment := os.Environ()
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOTOOLCHAIN"} {
		value, err := exec.Command("go", "env", name).Output()
		must(t, err)
		environment = append(environment, name+"="+strings.TrimSpace(string(value)))
	}
	return environment
}

// checkOperated looks at what was printed: the commands have failed if anything
// went wrong, so that this is about what they say.
func checkOperated(t *testing.T, out, journal string) {
	t.Helper()
	for _, part := range []string{
		`{"status":"ok"}`, `{"status":"ready"}`, "\ncretula_kms_emulated 0\n", "\ncretula_kms_certificate_remaining_seconds 7", // of 90 days
		"root key pkcs11", "backed up ", " 0 findings", " Decrypt ", "== the end",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
	for _, part := range []string{`"tls":true`, `"msg":"stopping"`} {
		if !strings.Contains(journal, part) {
			t.Errorf("no %q in the log\n%s", part, journal)
		}
	}
	if strings.Contains(journal, `"level":"ERROR"`) {
		t.Errorf("errors in the log\n%s", journal)
	}
}
