// SPDX-License-Identifier: Apache-2.0

package kmsconfig

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/kms-configuration.md anew")

const docsHead = `# The configuration of the key service

One TOML file, which ` + "`cretula kms serve --config FILE`" + ` and the other commands of
` + "`cretula kms`" + ` read. Names that are not here are refused with their line, and so is
every value of another type. Relative names of files are relative to the folder of
the file. Durations are written ` + "`\"10s\"`, `\"1h30m\"` or `\"90d\"`, sizes `\"64KiB\"` or `\"10GiB\"`" + `.
No member holds a secret. ` + "`cretula kms serve --config FILE --check-config`" + ` checks a file.

`

// TestDocs: docs/kms-configuration.md is made of the fields and their comments.
func TestDocs(t *testing.T) {
	comments := map[string]string{}
	readComments(t, ".", comments)
	done := map[reflect.Type]bool{}
	var b bytes.Buffer
	b.WriteString(docsHead)
	writeTable(t, &b, "", reflect.TypeFor[Config](), comments, done)
	file := filepath.Join("..", "..", "docs", "kms-configuration.md")
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Errorf("%s is not what the fields say; go test ./internal/kmsconfig -run TestDocs -update writes it", file)
	}
}

// readComments collects the comments of the fields of a package's structs, by
// "package.Type.Field".
func readComments(t *testing.T, dir string, comments map[string]string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(files), err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						comments[parsed.Name.Name+"."+spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
					}
				}
			}
			return true
		})
	}
}

// writeTable writes the members of one table, then those of the tables in it.
func writeTable(t *testing.T, b *bytes.Buffer, name string, typ reflect.Type, comments map[string]string, done map[reflect.Type]bool) {
	if pkg := typ.PkgPath(); !strings.HasSuffix(pkg, "/kmsconfig") && !done[typ] {
		readComments(t, filepath.Join("..", filepath.Base(pkg)), comments)
	}
	done[typ] = true
	heading, inner := "Top level", []func(){}
	if name != "" {
		heading = "`[" + name + "]`"
	}
	fmt.Fprintf(b, "## %s\n\n| member | value | meaning |\n|---|---|---|\n", heading)
	for i := range typ.NumField() {
		f := typ.Field(i)
		if tagOf(f) == "" {
			continue
		}
		comment := comments[filepath.Base(typ.PkgPath())+"."+typ.Name()+"."+f.Name]
		if comment == "" {
			t.Errorf("%s.%s has no comment", typ, f.Name)
		}
		comment = strings.TrimPrefix(comment, f.Name+" is ")
		comment = strings.TrimPrefix(comment, f.Name+" has ")
		comment = strings.NewReplacer(f.Name+" ", "", "[Kinds]", "file, passphrase, systemd, tpm, pkcs11, awskms", ", see [Epoch]", "", "[Create]", "cretula kms init").Replace(comment)
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", tagOf(f), describe(f.Type), strings.ReplaceAll(comment, "|", "\\|"))
		child := deref(f.Type)
		childName := strings.TrimPrefix(name+"."+tagOf(f), ".")
		if child.Kind() == reflect.Slice && child.Elem().Kind() == reflect.Struct {
			child, childName = child.Elem(), "["+childName+"]"
		}
		if child.Kind() == reflect.Struct {
			inner = append(inner, func() { writeTable(t, b, childName, child, comments, done) })
		}
	}
	for _, write := range inner {
		b.WriteByte('\n')
		write()
	}
}

// describe says what a value looks like.
func describe(t reflect.Type) string {
	t = deref(t)
	switch t {
	case reflect.TypeFor[Path]():
		return "path"
	case reflect.TypeFor[Duration]():
		return "duration"
	case reflect.TypeFor[Size]():
		return "size"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Slice:
		return "array of " + describe(t.Elem())
	case reflect.Map:
		return "table of " + describe(t.Elem())
	}
	return "table"
}
