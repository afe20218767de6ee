// SPDX-License-Identifier: Apache-2.0

package rootkeys_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/reason"
)

// refused checks an error: its reason, a part of its text, and that there is a
// hint. It returns what a terminal would show.
func refused(t *testing.T, what string, err error, want reason.Reason, text string) string {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return ""
	}
	var shown bytes.Buffer
	env := &cli.Env{Stderr: &shown}
	code := env.Report(err)
	if code != want.ExitCode() || !strings.Contains(shown.String(), text) || !strings.Contains(shown.String(), "\nhint: ") {
		t.Errorf("%s: exit %d, want %d with %q and a hint:\n%s", what, code, want.ExitCode(), text, shown.String())
	}
	return shown.String()
}

func TestCheck(t *testing.T) {
	good := []string{
		"kind=file,file=/k/root.key",
		"kind=passphrase,file=/k/root.key,passphrase_file=/k/pass,epoch_file=/var/e",
		"kind=systemd,file=/k/root.key,credential=root",
		"kind=tpm,file=/k/root.key",
		"kind=tpm,file=/k/root.key,device=/dev/tpm0,pcrs=0+7",
		"kind=pkcs11,file=/k/root.key,module=/m.so,token=t,label=l,pin_file=/p",
		"kind=pkcs11,file=/k/root.key,module=/m.so,token_serial=1,label=l,pin_file=/p",
		"kind=awskms,file=/k/root.key,key_arn=arn:aws:kms:eu-central-1:111122223333:key/x,attested=true,nsm_socket=/n",
	}
	for _, text := range good {
		s, err := rootkeys.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"file=/k":                                    "has no kind",
		"kind=plain,file=/k":                         `no root key of kind "plain"`,
		"kind=file":                                  "has no file",
		"kind=file,file=root.key":                    "not an absolute path",
		"kind=file,file=/k,passphrase_file=/p":       "kind file has no passphrase_file",
		"kind=file,file=/k,pcrs=0":                   "kind file has no pcrs",
		"kind=passphrase,file=/k":                    "kind passphrase needs passphrase_file",
		"kind=passphrase,file=/k,passphrase_file=p":  "not an absolute path",
		"kind=systemd,file=/k":                       "kind systemd needs credential",
		"kind=tpm,file=/k,attested=true":             "kind tpm has no attested",
		"kind=pkcs11,file=/k,token=t,label=l":        "kind pkcs11 needs module",
		"kind=pkcs11,file=/k,module=/m,label=l":      "kind pkcs11 needs token",
		"kind=pkcs11,file=/k,module=/m,token=t":      "kind pkcs11 needs label",
		"kind=awskms,file=/k":                        "kind awskms needs key_arn",
		"kind=awskms,file=/k,key_arn=a,nsm_socket=/": "nsm_socket is there without attested",
		"kind=file,file=/k,epoch_file=/k":            "are the same",
	} {
		s, err := rootkeys.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, text, s.Check(), reason.Malformed, want)
	}
	for text, want := range map[string]string{
		"":                    "not NAME=VALUE",
		"kind":                "not NAME=VALUE",
		"kind=":               "not NAME=VALUE",
		"kind=file,kind=file": "there twice",
		"key=x":               `has no "key"`,
		"pcrs=a":              "no number",
		"attested=perhaps":    "attested",
	} {
		_, err := rootkeys.Parse(text)
		refused(t, text, err, reason.Malformed, want)
	}
}

// TestParseMembers sees to it that a flag can name every member.
func TestParseMembers(t *testing.T) {
	spec := reflect.TypeFor[rootkeys.Spec]()
	for i := range spec.NumField() {
		name, value := spec.Field(i).Tag.Get("toml"), "1"
		if json, _, _ := strings.Cut(spec.Field(i).Tag.Get("json"), ","); json != name || name == "" {
			t.Errorf("member %s: toml %q, json %q", spec.Field(i).Name, name, json)
		}
		s, err := rootkeys.Parse(name + "=" + value)
		if err != nil || reflect.ValueOf(s).Field(i).IsZero() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func write(t *testing.T, path, text string, mode fs.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

const phrase = "correct horse battery staple\n"

func TestFileToPassphraseToSystemd(t *testing.T) {
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "root")
	plain := rootkeys.Spec{Kind: rootkeys.KindFile, File: filepath.Join(dir, "root.key")}
	made, err := rootkeys.Create(ctx, plain)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700 | fs.ModeDir, plain.File: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
	_, err = rootkeys.Create(ctx, plain)
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create twice: %v", err)
	}
	sealed := rootkeys.Spec{Kind: rootkeys.KindPassphrase, PassphraseFile: write(t, filepath.Join(dir, "pass"), phrase, 0o600)}
	if err := rootkeys.Rewrap(ctx, plain, sealed); err != nil {
		t.Fatal(err)
	}
	sealed.File = plain.File
	mustBe(t, sealed, made)
	_, err = rootkeys.Open(ctx, plain)
	refused(t, "the old kind", err, reason.Mismatch, "another kind of holder")

	credentials := filepath.Join(t.TempDir(), "credentials")
	write(t, filepath.Join(credentials, "root"), "another passphrase, long enough", 0o400)
	system := rootkeys.Spec{Kind: rootkeys.KindSystemd, Credential: "root"}
	refused(t, "no credentials", rootkeys.Rewrap(ctx, sealed, system), reason.Unsupported, "CREDENTIALS_DIRECTORY is not set")
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	if err := rootkeys.Rewrap(ctx, sealed, system); err != nil {
		t.Fatal(err)
	}
	system.File = plain.File
	mustBe(t, system, made)
	_, err = rootkeys.Open(ctx, sealed)
	refused(t, "the old passphrase", err, reason.Mismatch, "sealed for another holder")
	refused(t, "back to a plain file", rootkeys.Rewrap(ctx, system, rootkeys.Spec{Kind: rootkeys.KindFile}), reason.Malformed, "does not become a plain file")
	refused(t, "to another file", rootkeys.Rewrap(ctx, system, rootkeys.Spec{Kind: rootkeys.KindSystemd, Credential: "root", File: "/k"}),
		reason.Malformed, "stays in its file")
	system.Credential = "gone"
	_, err = rootkeys.Open(ctx, system)
	refused(t, "no such credential", err, reason.Unsupported, "credential")
}

func mustBe(t *testing.T, s rootkeys.Spec, want rootkey.Key) {
	t.Helper()
	got, err := rootkeys.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID() != want.ID() {
		t.Errorf("root key %s, want %s", got.ID(), want.ID())
	}
}

func TestRefusals(t *testing.T) {
	ctx, dir := t.Context(), filepath.Join(t.TempDir(), "root")
	path := filepath.Join(dir, "root.key")
	plain := rootkeys.Spec{Kind: rootkeys.KindFile, File: path}
	_, err := rootkeys.Open(ctx, plain)
	refused(t, "no file", err, reason.Unsupported, "there is no root key file")
	if !errors.Is(err, rootkeys.ErrNoFile) {
		t.Errorf("no file: %v", err)
	}
	if _, err := rootkeys.Create(ctx, plain); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open := write(t, filepath.Join(dir, "open"), phrase, 0o644)
	short := write(t, filepath.Join(dir, "short"), "short\n", 0o600)
	empty := write(t, filepath.Join(dir, "empty"), "\n", 0o600)
	missing := filepath.Join(dir, "missing")
	module := "module=/nowhere/libhsm.so,token=t,label=l,"
	for _, c := range []struct{ to, text string }{
		{"kind=passphrase,passphrase_file=" + open, "lets group or others in"},
		{"kind=passphrase,passphrase_file=" + short, "must have 15 to 1024 bytes"},
		{"kind=passphrase,passphrase_file=" + missing, "no such file"},
		{"kind=pkcs11," + module + "pin_file=" + open, "lets group or others in"},
		{"kind=pkcs11," + module + "pin_file=" + empty, "1 to 255 bytes"},
		{"kind=pkcs11," + module + "pin_file=" + short, "pkcs11"},
		{"kind=tpm,device=" + missing, "not available"},
	} {
		to, err := rootkeys.Parse(c.to)
		if err != nil {
			t.Fatal(err)
		}
		err = rootkeys.Rewrap(ctx, plain, to)
		shown := refused(t, c.to, err, reason.Unsupported, c.text)
		if errors.Is(err, rootkeys.ErrNoFile) || strings.Contains(shown, "short\n") {
			t.Errorf("%s: taken for a missing root key, or shows the secret: %v", c.to, err)
		}
		to.File = filepath.Join(dir, "new.key")
		_, err = rootkeys.Create(ctx, to)
		refused(t, "create "+c.to, err, reason.Unsupported, c.text)
		if _, err := os.Lstat(to.File); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file was made: %v", c.to, err)
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the root key file was changed (%v)", err)
	}
	write(t, path, string(before[:len(before)-5]), 0o600)
	_, err = rootkeys.Open(ctx, plain)
	refused(t, "cut off", err, reason.Malformed, "not a root key file")
	write(t, path, string(before), 0o640)
	if _, err = rootkeys.Open(ctx, plain); err == nil || !strings.Contains(err.Error(), "lets group or others in") {
		t.Errorf("readable for the group: %v", err)
	}
}
