// SPDX-License-Identifier: Apache-2.0

// Package httpsig signs and verifies HTTP requests by HTTP Message Signatures
// (RFC 9421) with content digests (RFC 9530), in a strict subset: one signature
// for each request, in the form in which RFC 8941 §4.1 serializes it; no
// parameters of components; the derived components @method, @target-uri,
// @authority, @scheme, @path and @query; the asymmetric algorithms of §3.3 with
// P-256, P-384, Ed25519 and RSA-PSS.
package httpsig

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cretula/cretula/reason"
)

// Limits of what is read.
const (
	maxInput      = 1024
	maxSignature  = 1024
	maxComponents = 16
)

// Input is what a signature covers and says of itself: the value of a member of
// Signature-Input (RFC 9421 §4.1).
type Input struct {
	Components []string
	// Created and Expires are seconds since 1970, 0 if absent.
	Created, Expires int64
	// KeyID, Nonce, Alg and Tag are empty if absent.
	KeyID, Nonce, Alg, Tag string

	// params is the value as it was read or serialized.
	params string
}

func refuse(rule, format string, args ...any) error {
	return reason.New(reason.Malformed, "httpsig."+rule, format, args...)
}

// A Signature is what the two header fields of a request hold.
type Signature struct {
	Input
	Label string
	Value []byte
}

// Parse reads Signature-Input and Signature. Each must be there once and have
// one member, of the same label.
func Parse(header http.Header) (*Signature, error) {
	input, err := single(header, "Signature-Input", maxInput)
	if err != nil {
		return nil, err
	}
	value, err := single(header, "Signature", maxSignature)
	if err != nil {
		return nil, err
	}
	s := &Signature{}
	label, rest, found := strings.Cut(input, "=")
	if !found || !isKey(label) {
		return nil, refuse("form", "Signature-Input: want a label and =")
	}
	s.Label = label
	encoded, found := strings.CutPrefix(value, label+"=:")
	if !found {
		return nil, refuse("form", "Signature: no member %q, the one of Signature-Input", label)
	}
	encoded, found = strings.CutSuffix(encoded, ":")
	s.Value, err = base64.StdEncoding.Strict().DecodeString(encoded)
	if !found || err != nil || len(s.Value) == 0 || strings.ContainsAny(encoded, "\r\n") {
		return nil, refuse("form", "Signature: want one member, %s=:base64:", label)
	}
	if s.Input, err = parseInput(rest); err != nil {
		return nil, err
	}
	return s, nil
}

func single(header http.Header, name string, limit int) (string, error) {
	values := header.Values(name)
	switch {
	case len(values) == 0:
		return "", refuse("absent", "the request has no %s", name)
	case len(values) > 1:
		return "", refuse("form", "%s is there %d times", name, len(values))
	case len(values[0]) > limit:
		return "", refuse("form", "%s has %d bytes, of at most %d", name, len(values[0]), limit)
	}
	return values[0], nil
}

// isKey tells whether s is a key of a dictionary (RFC 8941 §3.1.2).
func isKey(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c == '*':
		case i > 0 && (c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return s != ""
}

// parseInput reads an inner list of strings and its parameters, in exactly the
// form that serializing them gives: what was read is part of what is signed.
func parseInput(text string) (in Input, err error) {
	rest, found := strings.CutPrefix(text, "(")
	if !found {
		return Input{}, refuse("form", "Signature-Input: no list of components")
	}
	for !strings.HasPrefix(rest, ")") {
		if len(in.Components) > 0 {
			if rest, found = strings.CutPrefix(rest, " "); !found {
				return Input{}, refuse("form", "Signature-Input: no space between components")
			}
		}
		var name string
		if name, rest, err = takeString(rest); err != nil {
			return Input{}, err
		}
		if err := checkComponent(name); err != nil {
			return Input{}, err
		}
		if slices.Contains(in.Components, name) || len(in.Components) == maxComponents {
			return Input{}, refuse("component", "%q is covered twice, or more than %d components are", name, maxComponents)
		}
		in.Components = append(in.Components, name)
	}
	if err := in.parseParameters(rest[1:]); err != nil {
		return Input{}, err
	}
	in.params = text
	return in, nil
}

func (in *Input) parseParameters(rest string) error {
	var seen []string
	for rest != "" {
		name, value, found := strings.Cut(rest, "=")
		name, semicolon := strings.CutPrefix(name, ";")
		if !found || !semicolon || !isKey(name) {
			return refuse("form", "Signature-Input: want ;name=value after the components")
		}
		if slices.Contains(seen, name) {
			return refuse("form", "Signature-Input: parameter %s is there twice", name)
		}
		seen = append(seen, name)
		var err error
		switch name {
		case "created":
			in.Created, rest, err = takeTime(value)
		case "expires":
			in.Expires, rest, err = takeTime(value)
		case "keyid":
			in.KeyID, rest, err = takeString(value)
		case "nonce":
			in.Nonce, rest, err = takeString(value)
		case "alg":
			in.Alg, rest, err = takeString(value)
		case "tag":
			in.Tag, rest, err = takeString(value)
		default:
			return refuse("form", "Signature-Input: unknown parameter %.40s", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeString reads a string (RFC 8941 §3.3.3) that is not empty and in which
// nothing needs an escape.
func takeString(text string) (value, rest string, err error) {
	body, found := strings.CutPrefix(text, `"`)
	end := strings.IndexByte(body, '"')
	if !found || end < 1 {
		return "", "", refuse("form", "Signature-Input: want a string in quotes")
	}
	for _, c := range []byte(body[:end]) {
		if c < 0x20 || c > 0x7e || c == '\\' {
			return "", "", refuse("form", "Signature-Input: a string has the byte %#02x", c)
		}
	}
	return body[:end], body[end+1:], nil
}

// takeTime reads an integer of up to 15 digits, positive and without leading
// zeros.
func takeTime(text string) (value int64, rest string, err error) {
	n := 0
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	if n == 0 || n > 15 || text[0] == '0' {
		return 0, "", refuse("form", "Signature-Input: want a positive integer")
	}
	value, err = strconv.ParseInt(text[:n], 10, 64)
	return value, text[n:], err
}

// derived are the derived components of requests (RFC 9421 §2.2) without those
// that need a parameter.
var derived = []string{"@method", "@target-uri", "@authority", "@scheme", "@path", "@query"}

func checkComponent(name string) error {
	if strings.HasPrefix(name, "@") {
		if !slices.Contains(derived, name) {
			return refuse("component", "%.40q is no component that is supported here", name)
		}
		return nil
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return refuse("component", "%.40q is no name of a field in lower case", name)
		}
	}
	if name == "signature" || name == "signature-input" {
		return refuse("component", "a signature does not cover %s here", name)
	}
	return nil
}

// serialize returns the value that parseInput reads.
func (in *Input) serialize() (string, error) {
	var b strings.Builder
	b.WriteByte('(')
	for i, name := range in.Components {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, `"%s"`, name)
	}
	b.WriteByte(')')
	for _, p := range []struct {
		name  string
		value int64
	}{{"created", in.Created}, {"expires", in.Expires}} {
		if p.value != 0 {
			fmt.Fprintf(&b, ";%s=%d", p.name, p.value)
		}
	}
	for _, p := range []struct{ name, value string }{{"nonce", in.Nonce}, {"keyid", in.KeyID}, {"alg", in.Alg}, {"tag", in.Tag}} {
		if p.value != "" {
			fmt.Fprintf(&b, `;%s="%s"`, p.name, p.value)
		}
	}
	text := b.String()
	if _, err := parseInput(text); err != nil {
		return "", err
	}
	return text, nil
}
