// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"bytes"
	"encoding/json"
	"errors"
)

// WithoutRecipient returns the body of a request without white space between its
// tokens and without its member Recipient: what a client had in hand before it
// asked for the attestation document. All else stays as it was written. The body
// must be a JSON object.
func WithoutRecipient(body []byte) ([]byte, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil {
		return nil, err
	}
	rest := compact.Bytes()
	if len(rest) < 2 || rest[0] != '{' {
		return nil, errors.New("kmsapi: the body is no JSON object")
	}
	out := append(make([]byte, 0, len(rest)), '{')
	for rest = rest[1:]; rest[0] != '}'; {
		if rest[0] == ',' {
			rest = rest[1:]
		}
		name := rest[:valueEnd(rest)]
		value := rest[len(name)+1:]
		value = value[:valueEnd(value)]
		member := rest[:len(name)+1+len(value)]
		rest = rest[len(member):]
		var plain string
		if err := json.Unmarshal(name, &plain); err != nil {
			return nil, err
		}
		if plain == "Recipient" {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, member...)
	}
	return append(out, '}'), nil
}

// valueEnd returns the length of the JSON value at the beginning of valid, compact
// JSON.
func valueEnd(data []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch b := data[i]; {
		case quoted && b == '\\':
			i++
		case b == '"':
			quoted = !quoted
		case quoted:
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']':
			if depth--; depth < 0 {
				return i
			}
		case (b == ',' || b == ':') && depth == 0:
			return i
		}
	}
	return len(data)
}
