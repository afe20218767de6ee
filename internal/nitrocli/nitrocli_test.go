// SPDX-License-Identifier: Apache-2.0

package nitrocli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
)

func TestCalled(t *testing.T) {
	for argv0, want := range map[string]bool{
		"nitro-cli": true, "/usr/bin/nitro-cli": true, "./nitro-cli": true, `C:\tools\nitro-cli.exe`: true,
		"nitro-cli.EXE": true, `..\nitro-cli`: true,
		"cretula": false, "": false, "/": false, "nitro-cli2": false, "nitro-cli.sh": false, "nitro-cli/cretula": false,
		"aws-nitro-cli": false, ".exe": false, "Nitro-Cli": false,
	} {
		if got := Called(argv0); got != want {
			t.Errorf("%q: %v", argv0, got)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want map[string][]string
	}{
		{"describe-eif --eif-path a", map[string][]string{"eif-path": {"a"}}},
		{"describe-eif --eif-path=a=b", map[string][]string{"eif-path": {"a=b"}}},
		{"describe-eif --eif-path=-", map[string][]string{"eif-path": {"-"}}},
		{"describe-eif --eif-path -", map[string][]string{"eif-path": {"-"}}},
		{"describe-eif --eif-path=", map[string][]string{"eif-path": {""}}},
		{"describe-enclaves", map[string][]string{}},
		{"describe-enclaves --metadata", map[string][]string{"metadata": nil}},
		{"sign-eif", map[string][]string{}},
		{"build-enclave --output-file o --docker-uri u --version 1 --name n",
			map[string][]string{"output-file": {"o"}, "docker-uri": {"u"}, "version": {"1"}, "name": {"n"}}},
		{"run-enclave --cpu-ids 1 3 --memory 5G --eif-path e --debug-mode --cpu-ids 5",
			map[string][]string{"cpu-ids": {"1", "3", "5"}, "memory": {"5G"}, "eif-path": {"e"}, "debug-mode": nil}},
		{"run-enclave --config c --attach-console", map[string][]string{"config": {"c"}, "attach-console": nil}},
		{"terminate-enclave --all", map[string][]string{"all": nil}},
		{"pcr --input f", map[string][]string{"input": {"f"}}},
	} {
		call, err := Parse(strings.Split(c.args, " "))
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		for i := range call.Command.Options {
			name := call.Command.Options[i].Name
			values, given := c.want[name]
			first, ok := call.Get(name)
			if call.Given(name) != given || ok != given || !slices.Equal(call.All(name), values) || len(values) > 0 && first != values[0] {
				t.Errorf("%s: --%s is %q", c.args, name, call.All(name))
			}
		}
	}
}

// TestRefused: messages of clap 4.4, with its exit status.
func TestRefused(t *testing.T) {
	const foot = "\n\nFor more information, try '--help'.\n"
	for _, c := range []struct{ args, message string }{
		{"frob", "error: unrecognized subcommand 'frob'\n\nUsage: nitro-cli <COMMAND>"},
		{"help frob", "error: unrecognized subcommand 'frob'\n\nUsage: nitro-cli <COMMAND>"},
		{"--frob", "error: unexpected argument '--frob' found\n\nUsage: nitro-cli <COMMAND>"},
		{"describe-eif", "error: the following required arguments were not provided:\n  --eif-path <eif-path>\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-eif a", "error: unexpected argument 'a' found\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-eif --eif a", "error: unexpected argument '--eif' found\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-eif -eif-path a", "error: unexpected argument '-eif-path' found\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-eif eif-path", "error: unexpected argument 'eif-path' found\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-eif -- a", "error: unexpected argument '--' found\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-eif --eif-path", "error: a value is required for '--eif-path <eif-path>' but none was supplied\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-eif --eif-path --eif-path a", "error: a value is required for '--eif-path <eif-path>' but none was supplied\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-eif --eif-path a --eif-path b", "error: the argument '--eif-path <eif-path>' cannot be used multiple times\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-eif --eif-path a b", "error: unexpected argument 'b' found\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
		{"describe-enclaves --metadata=yes", "error: unexpected value 'yes' for '--metadata' found; no more were expected\n\nUsage: nitro-cli describe-enclaves [OPTIONS]"},
		{"build-enclave --name x", "error: the following required arguments were not provided:\n  --docker-uri <docker-uri>\n  --output-file <output-file>\n\nUsage: nitro-cli build-enclave [OPTIONS] --docker-uri <docker-uri> --output-file <output-file>"},
		{"pcr", "error: the following required arguments were not provided:\n  --signing-certificate <signing-certificate>\n  --input <input>\n\nUsage: nitro-cli pcr <--signing-certificate <signing-certificate>|--input <input>>"},
		{"pcr --input a --signing-certificate b", "error: the argument '--signing-certificate <signing-certificate>' cannot be used with '--input <input>'\n\nUsage: nitro-cli pcr <--signing-certificate <signing-certificate>|--input <input>>"},
		{"run-enclave --cpu-ids --memory 1 --eif-path x", "error: a value is required for '--cpu-ids <cpu-ids>...' but none was supplied\n\nUsage: nitro-cli run-enclave [OPTIONS] <--cpu-ids <cpu-ids>...|--cpu-count <cpu-count>> --memory <memory> --eif-path <eif-path>"},
		{"run-enclave --cpu-count 1 --config c", "error: the argument '--cpu-count <cpu-count>' cannot be used with '--config <config>'\n\nUsage: nitro-cli run-enclave [OPTIONS] <--cpu-ids <cpu-ids>...|--cpu-count <cpu-count>> --memory <memory> --eif-path <eif-path>"},
		{"describe-eif --eif-path a \x1b]0;x\x07\nhint:", "error: unexpected argument '\\x1b]0;x\\a\\nhint:' found\n\nUsage: nitro-cli describe-eif --eif-path <eif-path>"},
	} {
		call, err := Parse(strings.Split(c.args, " "))
		var printed bytes.Buffer
		Print(&printed, err)
		if call != nil && err == nil || Status(err) != 2 || printed.String() != c.message+foot {
			t.Errorf("%q: %d\n%s", c.args, Status(err), &printed)
		}
	}
	if _, err := Parse(nil); Status(err) != 2 || !strings.Contains(err.Error(), "Commands:\n  run-enclave ") {
		t.Errorf("without arguments: %v", err)
	}
}

// TestText: help and version are output.
func TestText(t *testing.T) {
	for _, args := range []string{"--help", "-h", "help", "-V", "--version", "describe-eif --help", "describe-eif -h", "help describe-eif",
		"build-enclave --docker-uri x --help"} {
		_, err := Parse(strings.Split(args, " "))
		if _, ok := errors.AsType[Text](err); !ok || Status(err) != 0 {
			t.Errorf("%s: %v", args, err)
		}
	}
	if _, err := Parse([]string{"--version"}); err.Error() != "Nitro CLI 1.5.0 (cretula)\n" {
		t.Errorf("version: %v", err)
	}
	for i := range Commands {
		c := &Commands[i]
		_, err := Parse([]string{c.Name, "--help"})
		if err == nil || !strings.Contains(err.Error(), "Usage: nitro-cli "+c.Usage()+"\n") {
			t.Errorf("%s: %v", c.Name, err)
		}
		for i := range c.Options {
			if o := &c.Options[i]; !strings.Contains(err.Error(), o.String()+" ") || o.Help == "" {
				t.Errorf("%s: no help of %s", c.Name, o)
			}
		}
	}
}

func TestPrint(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		want   string
	}{
		{Failf(ImageParsing, "a.eif: %w", fs.ErrNotExist), 35, "[ E35 ] EIF file parsing error. a.eif: file does not exist\n\n" +
			"For more details, please visit https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#E35\n"},
		{fmt.Errorf("x: %w", Failf(MissingArgument, "`a` was not given").WithHint("give %q", "a\nb")), 1, "[ E01 ] Missing mandatory argument. `a` was not given\n\n" +
			"For more details, please visit https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#E01\n\nhint: give \"a\\nb\"\n"},
		{Failf(ImageSigning, "one\nhint: two\x1b[m\n"), 60, "[ E60 ] EIF signing error. one\n  hint: two\\x1b[m\n\n" +
			"For more details, please visit https://docs.aws.amazon.com/enclaves/latest/user/cli-errors.html#E60\n"},
		{errors.New("plain"), 1, "plain\n"},
		{nil, 0, ""},
	} {
		var printed bytes.Buffer
		if c.err != nil {
			Print(&printed, c.err)
		}
		if got := Status(c.err); got != c.status || printed.String() != c.want {
			t.Errorf("%v: %d\n%s", c.err, got, &printed)
		}
	}
	if err := Failf(ImageParsing, "%w", fs.ErrNotExist); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the cause is lost")
	}
}

// TestCodes: E00 to E60 have a title and an explanation, and nothing else has.
func TestCodes(t *testing.T) {
	if len(codes) != 61 {
		t.Fatalf("%d codes", len(codes))
	}
	seen := map[string]bool{}
	for i, text := range codes {
		code := Code(i)
		if text.title == "" || text.explanation == "" || seen[text.title] || code.Title() != text.title {
			t.Errorf("%v: %q", code, text)
		}
		seen[text.title] = true
		if got := Explain(code.String()); got != text.title+". "+text.explanation {
			t.Errorf("%v: %s", code, got)
		}
	}
	for _, code := range []string{"E61", "E1", "e35", "35", "", "E-1", "E035"} {
		if got := Explain(code); got != "No such error code "+code {
			t.Errorf("%q: %s", code, got)
		}
	}
	for code, want := range map[Code]string{ImageParsing: "EIF file parsing error", FileOperation: "File operation failure", ImageBuilding: "EIF building error",
		DockerImagePulling: "Docker image pull error", Hasher: "Hasher error", ImageSigning: "EIF signing error", SignatureChecking: "EIF signature checker error",
		ProcessConnection: "Enclave process connection failure", ReadFromDisk: "Read from disk failure", Serialisation: "Serde error", 61: "Unknown error", -1: "Unknown error"} {
		if code.Title() != want {
			t.Errorf("%v: %s", code, code.Title())
		}
	}
}
