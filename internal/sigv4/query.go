// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Parameters of a signature in the query.
const (
	algorithmParameter     = "X-Amz-Algorithm"
	credentialParameter    = "X-Amz-Credential"
	dateParameter          = "X-Amz-Date"
	expiresParameter       = "X-Amz-Expires"
	signedHeadersParameter = "X-Amz-SignedHeaders"
	signatureParameter     = "X-Amz-Signature"
	tokenParameter         = "X-Amz-Security-Token"
)

const (
	maxExpires = 604800 // seconds, AWS's limit
	// maxPresigned is how long a signature in the query is good at most, however long
	// it says: a URL is shown and logged more easily than a header.
	maxPresigned = 15 * time.Minute
)

// presigned tells whether a request is signed in its query.
func presigned(r *http.Request) bool {
	for _, name := range []string{algorithmParameter, credentialParameter, signatureParameter} {
		if strings.Contains(r.URL.RawQuery, name+"=") {
			return true
		}
	}
	return false
}

// readQuery reads the signature in the query of a request.
func (q *request) readQuery(r *http.Request, service string) *Error {
	if len(r.URL.RawQuery) > maxURI {
		return refuse(InvalidSignature, "The request's query is longer than %d bytes.", maxURI)
	}
	if r.Header.Get("Authorization") != "" || len(r.Header.Values(tokenHeader)) > 0 {
		return refuse(IncompleteSignature, "The request has a signature in its query and another, or a session token, in its headers.")
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(InvalidSignature, "The request's query cannot be read.")
	}
	var algo, credential, date, signedHeaders, signature string
	for _, p := range []struct {
		name  string
		value *string
	}{
		{algorithmParameter, &algo}, {credentialParameter, &credential}, {signatureParameter, &signature},
		{signedHeadersParameter, &signedHeaders}, {dateParameter, &date},
	} {
		values := query[p.name]
		if len(values) != 1 || values[0] == "" {
			return refuse(IncompleteSignature, "AWS query-string parameters must include '%s' once. Re-examine the query-string parameters.", p.name)
		}
		*p.value = values[0]
	}
	if algo != algorithm {
		return refuse(IncompleteSignature, "The algorithm of the query must be %s.", algorithm)
	}
	if len(credential)+len(signedHeaders)+len(signature) > maxAuthorization {
		return refuse(IncompleteSignature, "The parameters of the signature are longer than %d bytes.", maxAuthorization)
	}
	if refusal := q.readParts(credential, signedHeaders, signature, service); refusal != nil {
		return refusal
	}
	if refusal := q.readTime(date, []string{basicFormat}); refusal != nil {
		return refusal
	}
	if values := query[tokenParameter]; len(values) > 1 {
		return refuse(IncompleteSignature, "The query has '%s' twice.", tokenParameter)
	}
	q.token = query.Get(tokenParameter)
	return q.readExpires(query[expiresParameter])
}

// readExpires reads how long the signature is good from its date on; without the
// parameter it is as one in the header is.
func (q *request) readExpires(values []string) *Error {
	if len(values) == 0 {
		return nil
	}
	seconds, err := strconv.ParseUint(values[0], 10, 32)
	if len(values) > 1 || err != nil || seconds < 1 || seconds > maxExpires {
		return refuse(IncompleteSignature, "%s must be 1 to %d seconds.", expiresParameter, maxExpires)
	}
	q.life = min(time.Duration(seconds)*time.Second, maxPresigned)
	return nil
}
