// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"unicode/utf8"
)

// Wildcards in a compiled pattern are bytes that no UTF-8 text has, so that a
// "*" out of a variable stays the character it is.
const (
	anyText = 0xFF // "*"
	anyRune = 0xFE // "?"

	everything = "\xff"
)

// A template is text with policy variables in it.
type template []part

// A part is literal text or, if key is set, a variable.
type part struct {
	literal     string
	key         string // folded
	fallback    string
	hasFallback bool
}

// parseTemplate reads a value of a policy. With wild, "*" and "?" are wildcards;
// with vars, "${…}" is a variable or an escape. Source: IAM User Guide, "IAM
// policy elements: Variables and tags".
func parseTemplate(s string, wild, vars bool) (t template, complaint string) {
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			t = append(t, part{literal: lit.String()})
			lit.Reset()
		}
	}
	for len(s) > 0 {
		switch {
		case vars && strings.HasPrefix(s, "${"):
			p, rest, complaint := parseVariable(s[2:])
			if complaint != "" {
				return nil, complaint
			}
			if s = rest; p.key == "" {
				lit.WriteString(p.literal)
				continue
			}
			flush()
			t = append(t, p)
			continue
		case wild && s[0] == '*':
			lit.WriteByte(anyText)
		case wild && s[0] == '?':
			lit.WriteByte(anyRune)
		default:
			lit.WriteByte(s[0])
		}
		s = s[1:]
	}
	flush()
	return t, ""
}

// parseVariable reads what follows "${", up to and with the closing brace.
func parseVariable(s string) (p part, rest, complaint string) {
	inner, rest, ok := strings.Cut(s, "}")
	if !ok {
		return part{}, "", "a policy variable without a closing brace"
	}
	if inner == "*" || inner == "?" || inner == "$" {
		return part{literal: inner}, rest, ""
	}
	key, _, hasFallback := strings.Cut(inner, ",")
	if hasFallback {
		quoted := strings.TrimLeft(s[len(key)+1:], " ")
		if !strings.HasPrefix(quoted, "'") {
			return part{}, "", "the default of a policy variable must stand in single quotes"
		}
		p.fallback, rest, ok = strings.Cut(quoted[1:], "'}")
		if !ok {
			return part{}, "", "the default of a policy variable must end with '}"
		}
		p.hasFallback = true
	}
	if key = strings.TrimSpace(key); !strings.Contains(key, ":") || strings.ContainsAny(key, "${' ") {
		return part{}, "", "a policy variable must be a condition key such as ${aws:username}"
	}
	p.key = strings.ToLower(key)
	return p, rest, ""
}

// variables appends the keys of the variables in the template.
func (t template) variables(keys []string) []string {
	for i := range t {
		if t[i].key != "" {
			keys = append(keys, t[i].key)
		}
	}
	return keys
}

// expand puts the values of the request into the template. It reports false if a
// variable has no single value and no default, or can have several: then nothing can match.
func (t template) expand(env *environment) (string, bool) {
	if len(t) == 1 && t[0].key == "" {
		return t[0].literal, true
	}
	var b strings.Builder
	for i := range t {
		p := &t[i]
		if p.key == "" {
			b.WriteString(p.literal)
			continue
		}
		values, present := env.context[p.key]
		multi := isMultivalued(p.key)
		switch {
		case !multi && len(values) == 1 && utf8.ValidString(values[0]):
			b.WriteString(values[0])
		case !multi && !present && p.hasFallback:
			b.WriteString(p.fallback)
		case env.loose:
			b.WriteByte(anyText)
		default:
			return "", false
		}
	}
	return b.String(), true
}

func (t template) match(s string, env *environment) bool {
	p, ok := t.expand(env)
	return ok && glob(p, s)
}

// splitARN cuts a template at its first five literal colons. A colon in the
// value of a variable never moves a part of an ARN to another place.
func (t template) splitARN() ([]template, bool) {
	parts := []template{nil}
	for _, p := range t {
		for p.key == "" && len(parts) < arnParts {
			before, after, found := strings.Cut(p.literal, ":")
			if !found {
				break
			}
			if before != "" {
				parts[len(parts)-1] = append(parts[len(parts)-1], part{literal: before})
			}
			parts = append(parts, nil)
			p.literal = after
		}
		if p.key != "" || p.literal != "" {
			parts[len(parts)-1] = append(parts[len(parts)-1], p)
		}
	}
	return parts, len(parts) == arnParts
}

// arnParts is the number of parts of an ARN: arn, partition, service, region,
// account and the resource, which may have colons itself.
const arnParts = 6

// A pattern matches an ARN part by part, so that a wildcard never crosses a colon
// but in the last part; a pattern without parts is "*" or all of it a variable.
type pattern struct {
	whole template
	parts []template
}

func parsePattern(s string, vars bool) (p pattern, complaint string) {
	t, complaint := parseTemplate(s, true, vars)
	if complaint != "" {
		return pattern{}, complaint
	}
	if s == "*" {
		return pattern{whole: t}, ""
	}
	if parts, ok := t.splitARN(); ok {
		return pattern{parts: parts}, ""
	}
	if len(t) == 1 && t[0].key != "" {
		return pattern{whole: t}, ""
	}
	return pattern{}, `must be in ARN format or "*"`
}

func (p pattern) match(s string, env *environment) bool {
	if p.parts == nil {
		return p.whole.match(s, env)
	}
	for i, t := range p.parts {
		have := s
		if i < arnParts-1 {
			var found bool
			if have, s, found = strings.Cut(s, ":"); !found {
				return false
			}
		}
		if !t.match(have, env) {
			return false
		}
	}
	return true
}

// glob matches s against a compiled pattern, without memory: the text before the
// first "*" at the start, that after the last one at the end, and what is between
// wherever it comes first. Somebody may want it to be slow: only a piece with "?"
// between two "*" costs its length for each character of s, and none that is longer
// than s.
func glob(p, s string) bool {
	if p == everything {
		return true
	}
	piece, p, star := cutStar(p)
	n, ok := startsWith(s, piece)
	if !ok || !star {
		return ok && n == len(s)
	}
	s = s[n:]
	for {
		if piece, p, star = cutStar(p); !star {
			return endsWith(s, piece)
		}
		if s, ok = cutPiece(s, piece); !ok {
			return false
		}
	}
}

// cutStar returns what is before and after the first "*" of a compiled pattern.
func cutStar(p string) (before, after string, found bool) {
	if i := strings.IndexByte(p, anyText); i >= 0 {
		return p[:i], p[i+1:], true
	}
	return p, "", false
}

// startsWith reports how many bytes at the start of s match the piece of a pattern.
func startsWith(s, piece string) (n int, ok bool) {
	if len(piece) > len(s) {
		return 0, false
	}
	for i := range len(piece) {
		switch {
		case n == len(s):
			return 0, false
		case piece[i] == anyRune:
			_, width := utf8.DecodeRuneInString(s[n:])
			n += width
		case piece[i] == s[n]:
			n++
		default:
			return 0, false
		}
	}
	return n, true
}

// endsWith reports whether the piece matches at the end of s.
func endsWith(s, piece string) bool {
	if len(piece) > len(s) {
		return false
	}
	for i := len(piece) - 1; i >= 0; i-- {
		switch n := len(s) - 1; {
		case n < 0:
			return false
		case piece[i] == anyRune:
			_, width := utf8.DecodeLastRuneInString(s)
			s = s[:len(s)-width]
		case piece[i] == s[n]:
			s = s[:n]
		default:
			return false
		}
	}
	return true
}

// cutPiece returns what follows the first place of s where the piece matches.
func cutPiece(s, piece string) (after string, ok bool) {
	if strings.IndexByte(piece, anyRune) < 0 {
		i := strings.Index(s, piece)
		if i < 0 {
			return "", false
		}
		return s[i+len(piece):], true
	}
	for len(piece) <= len(s) {
		if n, ok := startsWith(s, piece); ok {
			return s[n:], true
		}
		_, width := utf8.DecodeRuneInString(s)
		s = s[width:]
	}
	return "", false
}
