// SPDX-License-Identifier: Apache-2.0

// Command gen makes the corpus of package vectors: run "go run ./vectors/gen"
// at the root of the repository. The result depends on nothing but this code.
// What a verifier must answer to each document is written down here by hand, not
// computed.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cretula/cretula/attestation/attestationtest"
	"github.com/cretula/cretula/vectors"
)

// made is the time of every document, unless it says otherwise.
var made = time.Date(2026, 11, 20, 14, 0, 7, 0, time.UTC)

type (
	forgery     = attestationtest.Forgery
	certificate = attestationtest.Certificate
	expectation = vectors.Expectation
)

// A vector is the making of one document and its verdict.
type vector struct {
	name, sentence string
	// expect is the reason of the refusal, empty for a good document.
	expect string
	// rules are the rules that are broken, separated by spaces.
	rules string
	// lenient is empty if it is expect.
	lenient string
	// edit makes the good document what it is.
	edit func(f *forgery)
	// trust chooses the roots that are trusted, the document's own if nil.
	trust func(own []byte) [][]byte
	// crls makes the revocation lists that are given, in DER.
	crls func(f *forgery) [][]byte
	// clock is the time of the check after made.
	clock time.Duration
	// want changes the expectation, which is any image of an enclave.
	want func(e *expectation)
}

func main() {
	dir := "vectors"
	if len(os.Args) == 2 {
		dir = os.Args[1]
	}
	if err := generate(dir); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// generate writes the corpus into a folder and removes documents and roots that
// are no longer part of it.
func generate(dir string) error {
	made, err := corpus()
	if err != nil {
		return err
	}
	for _, old := range []string{"documents", "roots", "crls"} {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			return err
		}
	}
	for name, data := range made {
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fileName makes a name one of a file that every system and go:embed take.
var fileName = strings.NewReplacer(" ", "-", "'", "")

// corpus returns every file by its name. It is made once.
var corpus = sync.OnceValues(makeCorpus)

func makeCorpus() (map[string][]byte, error) {
	out := map[string][]byte{}
	index := vectors.Index{Schema: vectors.Schema}
	roots := map[string]string{}
	lists := map[string]string{}
	for _, group := range []struct {
		name    string
		vectors []vector
	}{
		{"form", form()}, {"cose", cose()}, {"payload", payload()}, {"chain", chain()}, {"time", times()}, {"revocation", revocation()}, {"expect", expect()},
	} {
		for _, v := range group.vectors {
			v.name = group.name + "/" + fileName.Replace(v.name)
			entry, document, root, crls, err := v.build()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.name, err)
			}
			if _, twice := out[entry.Document]; twice {
				return nil, fmt.Errorf("%s: there are two of that name", v.name)
			}
			entry.Root = numbered(roots, "roots", root)
			out[entry.Document], out[entry.Root] = document, root
			if v.crls != nil {
				entry.CRLs = numbered(lists, "crls", crls)
				out[entry.CRLs] = crls
			}
			index.Vectors = append(index.Vectors, entry)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(index); err != nil {
		return nil, err
	}
	out["index.json"] = b.Bytes()
	return out, nil
}

// numbered returns the name of a file in a folder; the same content has one name.
func numbered(names map[string]string, folder string, content []byte) string {
	if _, there := names[string(content)]; !there {
		names[string(content)] = fmt.Sprintf("%s/%02d.pem", folder, len(names))
	}
	return names[string(content)]
}

func pemOf(kind string, ders [][]byte) (file []byte) {
	for _, der := range ders {
		file = append(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return file
}

func (v *vector) build() (entry vectors.Vector, document, root, crls []byte, err error) {
	f := attestationtest.New(made)
	// Both forms of the payload's map in turn, so that neither is special.
	f.IndefiniteMap = len(v.name)%2 == 0
	if v.edit != nil {
		v.edit(f)
	}
	document, own, err := f.Build()
	if err != nil {
		return entry, nil, nil, nil, err
	}
	trusted := [][]byte{own.Raw}
	if v.trust != nil {
		trusted = v.trust(own.Raw)
	}
	root = pemOf("CERTIFICATE", trusted)
	if v.crls != nil {
		crls = pemOf("X509 CRL", v.crls(f))
	}
	entry = vectors.Vector{
		Name: v.name, Sentence: v.sentence, Document: path.Join("documents", v.name+".cbor"),
		Clock: made.Add(v.clock), Expectation: expectation{AnyImage: true},
		Expect: vectors.Verified, Rules: strings.Fields(v.rules), Lenient: v.lenient,
	}
	if v.expect != "" {
		entry.Expect = v.expect
	}
	if v.want != nil {
		v.want(&entry.Expectation)
		if entry.Expectation.DocumentTime && v.rules != "expect.clock" {
			entry.Clock = time.Time{}
		}
	}
	return entry, document, root, crls, nil
}

// The functions below make edits, to keep the tables short.

func fields(edits ...func(*forgery)) func(*forgery) {
	return func(f *forgery) {
		for _, edit := range edits {
			edit(f)
		}
	}
}

func set(name string, v any) func(*forgery) {
	return func(f *forgery) { f.SetField(name, v) }
}

// raw sets a field to an encoded value.
func raw(name string, value ...byte) func(*forgery) {
	return func(f *forgery) { f.SetEncoded(name, value) }
}

func without(names ...string) func(*forgery) {
	return func(f *forgery) {
		for _, name := range names {
			f.RemoveField(name)
		}
	}
}

// add adds a pair even if the key is there.
func add(name string, value []byte) func(*forgery) {
	return func(f *forgery) { f.AddEncoded(name, value) }
}

// unknown adds a pair that nobody knows.
func unknown(value ...byte) func(*forgery) { return add("future", value) }

func definite(f *forgery)   { f.IndefiniteMap = false }
func indefinite(f *forgery) { f.IndefiniteMap = true }

func document(edit func([]byte) []byte) func(*forgery) {
	return func(f *forgery) { f.EditDocument = edit }
}

func prefixed(prefix ...byte) func(*forgery) {
	return document(func(d []byte) []byte { return append(slices.Clone(prefix), d...) })
}

func suffixed(suffix ...byte) func(*forgery) {
	return document(func(d []byte) []byte { return append(d, suffix...) })
}

func instead(with []byte) func(*forgery) {
	return document(func([]byte) []byte { return with })
}

func part(i int, edit func([]byte) []byte) func(*forgery) {
	return func(f *forgery) { f.EditParts = func(p *[4][]byte) { p[i] = edit(p[i]) } }
}

func partIs(i int, with ...byte) func(*forgery) {
	return part(i, func([]byte) []byte { return with })
}

func protected(content ...byte) func(*forgery) {
	return func(f *forgery) { f.Protected = append([]byte{}, content...) }
}

func cert(i int, edit func(c *certificate)) func(*forgery) {
	return func(f *forgery) { edit(&f.Certificates[i]) }
}

func ders(edit func(ders [][]byte) [][]byte) func(*forgery) {
	return func(f *forgery) { f.EditChain = edit }
}

func hexOf(s string) *string {
	encoded := hex.EncodeToString([]byte(s))
	return &encoded
}

var (
	encode = attestationtest.Encode
	usage  = attestationtest.NewKeyUsage
	basic  = attestationtest.NewBasicConstraints
)

// ca makes basic constraints of a CA.
func ca(pathLen int) func(*certificate) {
	return func(c *certificate) { c.SetExtension(basic(true, true, pathLen)) }
}

func mayUse(critical bool, u x509.KeyUsage) func(*certificate) {
	return func(c *certificate) { c.SetExtension(usage(critical, u)) }
}
