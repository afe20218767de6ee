// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	algorithm   = "AWS4-HMAC-SHA256"
	terminator  = "aws4_request"
	dateHeader  = "X-Amz-Date"
	tokenHeader = "X-Amz-Security-Token"
	amzPrefix   = "x-amz-"

	maxAuthorization = 8 << 10 // bytes
	maxSigned        = 64      // headers
	maxName          = 128     // bytes of an access key id
	maxRegion        = 64
)

// An authorization is a parsed Authorization header. None of it is verified.
type authorization struct {
	accessKeyID   string
	date          string // YYYYMMDD
	region        string
	scope         string // date/region/service/aws4_request
	signedHeaders []string
	signature     [sha256.Size]byte
}

// readAuthorization reads the one Authorization header of a request.
func readAuthorization(h http.Header, service string) (authorization, *Error) {
	values := h.Values("Authorization")
	switch {
	case len(values) == 0:
		return authorization{}, refuse(MissingAuthenticationToken, "Missing Authentication Token")
	case len(values) > 1:
		return authorization{}, refuse(IncompleteSignature, "The request has more than one Authorization header.")
	case len(values[0]) > maxAuthorization:
		return authorization{}, refuse(IncompleteSignature, "The Authorization header is longer than %d bytes.", maxAuthorization)
	}
	return parseAuthorization(values[0], service)
}

func parseAuthorization(s, service string) (authorization, *Error) {
	name, rest, _ := strings.Cut(strings.Trim(s, " "), " ")
	if name != algorithm {
		return authorization{}, refuse(IncompleteSignature, "The algorithm of the Authorization header must be %s.", algorithm)
	}
	var credential, signedHeaders, signature string
	parts := [...]struct {
		key   string
		value *string
	}{{"Credential", &credential}, {"Signature", &signature}, {"SignedHeaders", &signedHeaders}}
	seen := [len(parts)]bool{}
	for item := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(strings.Trim(item, " "), "=")
		if !ok || key == "" {
			return authorization{}, refuse(IncompleteSignature, "The Authorization header has a part that is not a valid key=value pair.")
		}
		i := 0
		for i < len(parts) && parts[i].key != key {
			i++
		}
		switch {
		case i == len(parts):
			return authorization{}, refuse(IncompleteSignature, "The Authorization header has a part that is neither Credential, SignedHeaders nor Signature.")
		case seen[i]:
			return authorization{}, refuse(IncompleteSignature, "The Authorization header has '%s' twice.", key)
		}
		*parts[i].value, seen[i] = value, true
	}
	for _, part := range parts {
		if *part.value == "" {
			return authorization{}, refuse(IncompleteSignature, "Authorization header requires '%s' parameter.", part.key)
		}
	}
	var a authorization
	if refusal := a.readParts(credential, signedHeaders, signature, service); refusal != nil {
		return authorization{}, refusal
	}
	return a, nil
}

// readParts reads what a signature consists of, wherever it stands.
func (a *authorization) readParts(credential, signedHeaders, signature, service string) *Error {
	if refusal := a.readCredential(credential, service); refusal != nil {
		return refusal
	}
	if refusal := a.readSignedHeaders(signedHeaders); refusal != nil {
		return refusal
	}
	if n, err := hex.Decode(a.signature[:], []byte(signature[:min(len(signature), 2*sha256.Size)])); err != nil ||
		n != sha256.Size || len(signature) != 2*sha256.Size || strings.ToLower(signature) != signature {
		return refuse(IncompleteSignature, "The signature must have %d lower-case hexadecimal digits.", 2*sha256.Size)
	}
	return nil
}

// readCredential reads ACCESSKEYID/YYYYMMDD/region/service/aws4_request.
func (a *authorization) readCredential(s, service string) *Error {
	parts := strings.Split(s, "/")
	if len(parts) != 5 || !plain(parts[0], maxName) {
		return refuse(IncompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	a.accessKeyID, a.date, a.region = parts[0], parts[1], parts[2]
	if _, err := time.Parse("20060102", a.date); err != nil {
		return refuse(InvalidSignature, "Credential should be scoped to a date in the form YYYYMMDD.")
	}
	if !plain(a.region, maxRegion) || strings.ToLower(a.region) != a.region {
		return refuse(InvalidSignature, "Credential should be scoped to a valid region.")
	}
	if parts[3] != service {
		return refuse(InvalidSignature, "Credential should be scoped to correct service: '%s'.", service)
	}
	if parts[4] != terminator {
		return refuse(InvalidSignature, "Credential should be scoped with a valid terminator: '%s'.", terminator)
	}
	a.scope = s[len(parts[0])+1:]
	return nil
}

// plain tells whether s is a name of letters, digits, '-' and '_'.
func plain(s string, limit int) bool {
	return s != "" && len(s) <= limit && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_'
	})
}

func (a *authorization) readSignedHeaders(s string) *Error {
	a.signedHeaders = strings.Split(s, ";")
	if len(a.signedHeaders) > maxSigned {
		return refuse(IncompleteSignature, "SignedHeaders has more than %d names.", maxSigned)
	}
	for i, name := range a.signedHeaders {
		if !plain(name, maxName) || strings.ToLower(name) != name || i > 0 && a.signedHeaders[i-1] >= name {
			return refuse(IncompleteSignature, "SignedHeaders must be header names in lower case, sorted, each once.")
		}
	}
	return nil
}

func (a *authorization) signed(name string) bool {
	_, found := slices.BinarySearch(a.signedHeaders, name)
	return found
}

// checkSigned refuses a request in which a header that counts is not signed.
func (a *authorization) checkSigned(h http.Header) *Error {
	if !a.signed("host") {
		return refuse(InvalidSignature, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for name := range h {
		if len(name) < len(amzPrefix) || !strings.EqualFold(name[:len(amzPrefix)], amzPrefix) {
			continue
		}
		if lower := strings.ToLower(name); !a.signed(lower) {
			return refuse(InvalidSignature, "'%s' must be a 'SignedHeader' in the AWS Authorization.", lower)
		}
	}
	return nil
}

// readDate reads X-Amz-Date, or Date where there is none; it must then be signed.
func (q *request) readDate(h http.Header) *Error {
	name, layouts := dateHeader, []string{basicFormat}
	values := h.Values(dateHeader)
	if len(values) == 0 {
		name, layouts = "Date", []string{basicFormat, http.TimeFormat}
		values = h.Values(name)
	}
	switch {
	case len(values) == 0:
		return refuse(IncompleteSignature, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	case len(values) > 1:
		return refuse(IncompleteSignature, "The request has more than one '%s' header.", name)
	case !q.signed(strings.ToLower(name)):
		return refuse(InvalidSignature, "'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
	}
	return q.readTime(values[0], layouts)
}

// readTime reads the date of the signature, which must be on the day of its scope.
func (q *request) readTime(date string, layouts []string) *Error {
	for _, layout := range layouts {
		if t, err := time.Parse(layout, date); err == nil && t.Year() >= 1970 && t.Nanosecond() == 0 {
			q.time = t.UTC()
			if day := q.time.Format("20060102"); day != q.date {
				return refuse(InvalidSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
					q.date, day, q.time.Format(basicFormat))
			}
			return nil
		}
	}
	return refuse(IncompleteSignature, "Date must be in ISO-8601 'basic format'.")
}
