// SPDX-License-Identifier: Apache-2.0

// Package vectors is a corpus of attestation documents for testing verifiers:
// good ones and, three times as many, bad ones, each with the verdict that it
// must get and the rule that it breaks. README.md describes the files for
// readers in any language. The documents are made by the command in gen, under
// roots of their own, with keys that everyone can derive.
package vectors

import (
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
)

// Schema is the value of "schema" in index.json.
const Schema = "cretula.attestation.vectors.v1"

//go:embed README.md index.json documents roots crls
var files embed.FS

// Files returns the corpus: README.md, index.json, documents/, roots/ and crls/.
func Files() fs.FS { return files }

// An Index is the content of index.json.
type Index struct {
	Schema  string   `json:"schema"`
	Vectors []Vector `json:"vectors"`
}

// Verified is the value of Expect and Lenient of a document that must be
// accepted.
const Verified = "verified"

// A Vector is one document with the circumstances of its verification and the
// verdict.
type Vector struct {
	// Name is unique: the group, a slash and words.
	Name string `json:"name"`
	// Sentence says what is special about the document.
	Sentence string `json:"sentence"`
	// Document and Root are names of files of the corpus. Root is PEM; every
	// certificate in it is trusted.
	Document string `json:"document"`
	Root     string `json:"root"`
	// CRLs is the file of the revocation lists, in PEM, if there are any.
	CRLs string `json:"crls,omitempty"`
	// Clock is the time of the verification, absent where the document's own is.
	Clock time.Time `json:"clock,omitzero"`
	// Expectation is what the document is compared with.
	Expectation Expectation `json:"expectation"`
	// Expect is "verified" or the reason of the refusal.
	Expect string `json:"expect"`
	// Rules are the rules of this project that the document breaks, none of one
	// that is accepted.
	Rules []string `json:"rules"`
	// Lenient is Expect for a verifier that takes every valid encoding and
	// fields of up to 4096 bytes; empty if it is the same.
	Lenient string `json:"lenient,omitempty"`
}

// An Expectation is what a verifier is told beside root and clock. Members that
// are absent are not checked, but for Kind and AllowDebug.
type Expectation struct {
	// PCRs are the registers that must be in the document and equal.
	PCRs *pcr.Set `json:"pcrs,omitempty"`
	// AnyImage says that it is meant that PCRs is absent.
	AnyImage bool `json:"any_image,omitempty"`
	// Kind is "enclave" if empty, "nitrotpm" or "any".
	Kind       string `json:"kind,omitempty"`
	AllowDebug bool   `json:"allow_debug,omitempty"`
	// Nonce and UserData are hexadecimal.
	Nonce    *string `json:"nonce,omitempty"`
	UserData *string `json:"user_data,omitempty"`
	// MaxAge is in seconds.
	MaxAge int `json:"max_age,omitempty"`
	// MaxField is the greatest length of public_key, user_data and nonce in
	// bytes.
	MaxField int `json:"max_field,omitempty"`
	// DocumentTime says that the document's timestamp is the time of the
	// verification. Clock is the zero time then.
	DocumentTime bool `json:"document_time,omitempty"`
}

// All returns the vectors in the order of index.json. It panics if the index is
// not as it was made.
func All() []Vector {
	data, err := files.ReadFile("index.json")
	if err != nil {
		panic(err)
	}
	var index Index
	if err := json.Unmarshal(data, &index); err != nil || index.Schema != Schema {
		panic(fmt.Sprintf("vectors: index.json: schema %q, %v", index.Schema, err))
	}
	return index.Vectors
}

// Want returns what a verifier must answer, "verified" or a reason.
func (v *Vector) Want(lenient bool) string {
	if lenient && v.Lenient != "" {
		return v.Lenient
	}
	return v.Expect
}

// ReadDocument returns the document.
func (v *Vector) ReadDocument() ([]byte, error) { return files.ReadFile(v.Document) }

// ReadRoot returns the PEM file of the trusted roots.
func (v *Vector) ReadRoot() ([]byte, error) { return files.ReadFile(v.Root) }

// Verify is what package attestation says of the vector at
// [attestation.LevelStrict] or, if lenient, [attestation.LevelLenient]: nil, or a
// [*reason.Error]. A root that it does not take is such an error too.
func (v *Vector) Verify(lenient bool) error {
	document, err := v.ReadDocument()
	if err != nil {
		return err
	}
	pemFile, err := v.ReadRoot()
	if err != nil {
		return err
	}
	roots, err := attestation.ParseRoots(pemFile)
	if err != nil {
		return err
	}
	options := attestation.VerifierOptions{Roots: roots}
	if v.CRLs != "" {
		pemFile, err := files.ReadFile(v.CRLs)
		if err != nil {
			return err
		}
		if options.Revocation, err = attestation.ParseCRLs(pemFile); err != nil {
			return err
		}
	}
	verifier, err := attestation.NewVerifier(options)
	if err != nil {
		return err
	}
	e, err := v.Expectation.attestation()
	if err != nil {
		return err
	}
	e.Time = v.Clock
	e.AllowLenient = lenient
	_, err = verifier.Verify(document, e)
	return err
}

func (e *Expectation) attestation() (attestation.Expectation, error) {
	out := attestation.Expectation{
		AllowAnyImage:     e.AnyImage,
		AllowDebug:        e.AllowDebug,
		MaxAge:            time.Duration(e.MaxAge) * time.Second,
		AllowAnyAge:       e.MaxAge == 0,
		MaxField:          e.MaxField,
		AllowDocumentTime: e.DocumentTime,
	}
	if e.PCRs != nil {
		out.PCRs = *e.PCRs
	}
	switch e.Kind {
	case "", "enclave":
	case "nitrotpm":
		out.Kind = attestation.KindNitroTPM
	case "any":
		out.AllowAnyKind = true
	default:
		return out, fmt.Errorf("vectors: unknown kind %q", e.Kind)
	}
	for _, field := range []struct {
		from *string
		to   *[]byte
	}{{e.Nonce, &out.Nonce}, {e.UserData, &out.UserData}} {
		if field.from == nil {
			continue
		}
		value, err := hex.DecodeString(*field.from)
		if err != nil {
			return out, fmt.Errorf("vectors: %w", err)
		}
		*field.to = append([]byte{}, value...)
	}
	return out, nil
}
