// SPDX-License-Identifier: Apache-2.0

// Package cretula has no code, only the tests that look at the repository as a
// whole: who may import whom, and the rules that a line can check.
package cretula

import (
	"bufio"
	"bytes"
	"encoding/json"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cretula/cretula/"

var root = os.DirFS(".")

// lattice says, for each package, which packages of this module its non-test
// code may import. It is explained in docs/architecture.md; to make a build
// pass is no reason to change it.
const lattice = `
reason:
pcr:
cms: reason
attestation: pcr reason internal/p384
attestation/issuer: attestation pcr
attestation/reference: attestation pcr reason
attestation/challenge: reason
attestation/attesthttp: attestation attestation/challenge attestation/reference internal/httpsig reason
attestation/attestationtest:
vectors: attestation pcr reason
vectors/gen: vectors attestation/attestationtest pcr
nsm: pcr reason
nsm/softnsm: nsm attestation attestation/issuer pcr
nsm/nsmtest: nsm attestation pcr
eif: pcr reason
eif/eifbuild: eif eif/eifinit/process pcr reason
eif/eifinit: eif
eif/eifinit/init: eif/eifinit/process
eif/eifinit/process:
eif/rootfs: eif eif/eifbuild reason
eif/contents: eif eif/eifbuild eif/eifinit pcr reason
launch: eif eif/contents eif/eifbuild eif/eifinit/process nsm nsm/softnsm attestation/issuer pcr reason
eif/eifdiff: eif eif/contents eif/eifbuild eif/eifinit/process pcr reason
policy: reason
policy/explain: policy
policy/generate: policy pcr
kms/kmsapi:
kms/keyspec: kms/kmsapi
kms/keystore:
kms/keystore/bolt: kms/keystore internal/durable
kms/keystore/postgres: kms/keystore
kms/keystore/keystoretest: kms/keystore
kms/rootkey: internal/durable internal/hmac256
kms/rootkey/passphrase: kms/rootkey
kms/rootkey/systemd: kms/rootkey kms/rootkey/passphrase
kms/rootkey/tpm: kms/rootkey
kms/rootkey/pkcs11: kms/rootkey
kms/rootkey/awskms: kms/rootkey enclave nsm
kms/rootkey/rootkeytest: kms/rootkey kms kms/audit kms/keystore/bolt kms/kmsserver kms/ledger internal/need
kms/ledger: kms/keystore kms/rootkey
kms/audit: internal/durable reason
kms/backup: kms/keystore kms/rootkey
kms: internal/oidc kms/backup kms/kmsapi kms/keyspec kms/keystore kms/ledger kms/rootkey kms/audit attestation cms policy policy/explain pcr reason internal/hmac256 internal/uuid
kms/kmsserver: kms kms/audit kms/kmsapi kms/keystore internal/sigv4 internal/uuid reason
enclave: nsm cms
internal/cli: reason
internal/nitrocli: internal/cli
internal/need:
internal/memfile:
internal/pgtest: internal/need
internal/p384:
internal/hmac256:
internal/uuid:
internal/sigv4:
internal/httpsig: reason
internal/oidc:
internal/durable:
internal/durable/crashtest: internal/need
internal/signkey: internal/cli internal/durable reason
internal/adminsock: kms internal/durable reason
internal/datadir: internal/cli internal/durable internal/rootkeys kms kms/audit kms/backup kms/keystore kms/keystore/bolt kms/keystore/postgres kms/ledger kms/rootkey reason
internal/rootkeys: internal/cli internal/durable kms/rootkey kms/rootkey/awskms kms/rootkey/passphrase kms/rootkey/pkcs11 kms/rootkey/systemd kms/rootkey/tpm nsm reason
internal/kmsconfig: internal/datadir internal/oidc internal/rootkeys kms/audit kms/kmsapi kms/ledger
internal/kmsserve: attestation internal/adminsock internal/cli internal/datadir internal/kmsconfig internal/oidc kms kms/kmsserver reason
internal/imagebuild: eif eif/eifbuild eif/eifinit eif/rootfs internal/cli internal/durable pcr reason
internal/stack: internal/adminsock internal/datadir internal/durable attestation/issuer eif eif/eifbuild eif/eifinit kms kms/kmsserver kms/ledger nsm nsm/softnsm pcr reason
`

// forbidden lists what a package must not import from outside the module.
var forbidden = map[string][]string{
	"attestation": {"net", "net/http", "os", "io/fs", "log", "log/slog", "path/filepath"},
	"policy":      {"net/http", "os", "log", "log/slog"},
	"cms":         {"net", "os", "log", "log/slog"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Name       string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Name", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p goPackage
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

func TestImportLattice(t *testing.T) {
	allowed := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(lattice)) {
		name, rest, ok := strings.Cut(line, ":")
		if !ok {
			t.Fatalf("lattice: no colon in %q", line)
		}
		allowed[name] = strings.Fields(rest)
	}
	seen := map[string]bool{}
	for _, p := range packages(t) {
		name, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || strings.HasPrefix(name, "cmd/") {
			continue
		}
		seen[name] = true
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s is not in the lattice", name)
			continue
		}
		for _, imported := range p.Imports {
			if inner, ours := strings.CutPrefix(imported, module); ours && !slices.Contains(may, inner) {
				t.Errorf("%s must not import %s", name, inner)
			}
			if slices.Contains(forbidden[name], imported) {
				t.Errorf("%s must not import %s", name, imported)
			}
		}
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("the lattice has %s, the module has not", name)
		}
	}
}

// TestThreatModel: each test that docs/threat-model.md names, exists.
func TestThreatModel(t *testing.T) {
	text, err := os.ReadFile("docs/threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z0-9/]+) (Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1)
	if len(named) < 50 {
		t.Fatalf("only %d tests are named", len(named))
	}
	for _, m := range named {
		files, err := filepath.Glob(filepath.Join(filepath.FromSlash(m[1]), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		there := slices.ContainsFunc(files, func(file string) bool {
			code, err := os.ReadFile(file)
			return err == nil && bytes.Contains(code, []byte("\nfunc "+m[2]+"(t *testing.T)"))
		})
		if !there {
			t.Errorf("package %s has no %s", m[1], m[2])
		}
	}
}

// eachFile calls f for every file of the repository that git would track.
func eachFile(t *testing.T, f func(path string)) {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skip("no git checkout")
	}
	files := 0
	for scan := bufio.NewScanner(bytes.NewReader(out)); scan.Scan(); files++ {
		f(scan.Text())
	}
	if files < 20 {
		t.Fatalf("only %d files found", files)
	}
}

func TestSourceFiles(t *testing.T) {
	const spdx = "// SPDX-License-Identifier: Apache-2.0\n"
	eachFile(t, func(path string) {
		if filepath.Ext(path) != ".go" {
			return
		}
		data, err := fs.ReadFile(root, path)
		if err != nil {
			return // removed but not yet committed
		}
		if !bytes.HasPrefix(data, []byte(spdx)) {
			t.Errorf("%s: the first line is not %q", path, strings.TrimSpace(spdx))
		}
		if lines := bytes.Count(data, []byte("\n")); lines > 700 {
			t.Errorf("%s has %d lines, more than 700", path, lines)
		}
	})
}

func TestOnePackageComment(t *testing.T) {
	comments := map[string]int{}
	eachFile(t, func(path string) {
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return
		}
		data, err := fs.ReadFile(root, path)
		if err != nil {
			return
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, data, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Error(err)
			return
		}
		n := 0
		if file.Doc != nil {
			n = 1
		}
		comments[filepath.Dir(path)] += n
	})
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments, want one", dir, n)
		}
	}
}
