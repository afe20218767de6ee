// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxURI bounds path and query, each in bytes: a query may hold a session token.
const maxURI = 16 << 10

// canonicalize hashes the canonical request: method, path, query, signed headers,
// their names and the hash of the body, a line each.
func (q *request) canonicalize(r *http.Request, body []byte) *Error {
	path, rawQuery := r.URL.EscapedPath(), r.URL.RawQuery
	if len(path) > maxURI || len(rawQuery) > maxURI {
		return refuse(InvalidSignature, "The request's path or query is longer than %d bytes.", maxURI)
	}
	query, err := canonicalQuery(rawQuery, q.inQuery)
	if err != nil {
		return refuse(InvalidSignature, "The request's query cannot be read.")
	}
	sum := sha256.Sum256(body)
	var bodyHash [2 * sha256.Size]byte
	hex.Encode(bodyHash[:], sum[:])
	if claimed := r.Header["X-Amz-Content-Sha256"]; len(claimed) > 1 || len(claimed) == 1 && claimed[0] != string(bodyHash[:]) {
		return refuse(InvalidSignature, "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	b := make([]byte, 0, 1024)
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendPath(b, path)
	b = append(b, '\n')
	b = append(b, query...)
	b = append(b, '\n')
	for _, name := range q.signedHeaders {
		values, refusal := headerValues(r, name, len(body))
		if refusal != nil {
			return refusal
		}
		b = append(append(b, name...), ':')
		for i, value := range values {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendTrimmed(b, value)
		}
		b = append(b, '\n')
	}
	b = append(b, '\n')
	for i, name := range q.signedHeaders {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	b = append(b, '\n')
	b = append(b, bodyHash[:]...)
	q.canonical = sha256.Sum256(b)
	return nil
}

// canonicalQuery returns the query sorted and encoded as AWS does it, without the
// signature if that is in it.
func canonicalQuery(raw string, signed bool) (string, error) {
	if raw == "" {
		return "", nil
	}
	query, err := url.ParseQuery(raw)
	if err != nil {
		return "", err
	}
	if signed {
		delete(query, signatureParameter)
	}
	for _, values := range query {
		slices.Sort(values)
	}
	return strings.ReplaceAll(query.Encode(), "+", "%20"), nil
}

// headerValues returns the values of a signed header as they were sent. Go keeps
// Host, and in part Content-Length, out of the header map. A signed header that
// did not arrive is refused, and so is Transfer-Encoding, which any hop changes.
func headerValues(r *http.Request, name string, length int) ([]string, *Error) {
	switch name {
	case "host":
		return []string{r.Host}, nil
	case "content-length":
		return []string{strconv.Itoa(length)}, nil
	}
	values := r.Header.Values(name)
	if len(values) == 0 || name == "authorization" {
		return nil, refuse(InvalidSignature, "SignedHeaders names a header that the request does not have: '%s'.", name)
	}
	return values, nil
}

// appendTrimmed writes a header's value without space around it, and runs of
// spaces in it as one.
func appendTrimmed(b []byte, s string) []byte {
	space := false
	for _, c := range []byte(strings.Trim(s, " \t")) {
		if c == ' ' && space {
			continue
		}
		space = c == ' '
		b = append(b, c)
	}
	return b
}

// appendPath writes the path with each byte that is not unreserved encoded once
// more, as services other than S3 want it.
func appendPath(b []byte, path string) []byte {
	if path == "" {
		path = "/"
	}
	const digits = "0123456789ABCDEF"
	for i := range len(path) {
		switch c := path[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("/-._~", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
