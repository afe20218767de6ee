// SPDX-License-Identifier: Apache-2.0

package httpsig

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// A target is what the derived components of a request are taken from (RFC 9421
// §2.2).
type target struct {
	method, scheme, authority string
	url                       *url.URL
}

// received is the target of a request that a server read: the one that was sent,
// RequestURI, and not URL, of which handlers such as [http.StripPrefix] take away
// what the sender signed. Its scheme is https, whether TLS ends here or at a proxy
// before: only the sender's word for that is in the request.
func received(r *http.Request) (*target, error) {
	u, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		return nil, refuse("component", "the request has no target that could be read")
	}
	// Two targets that are read alike are not the same one: /a^b is no /a%5Eb.
	if u.Path != "" && !strings.HasSuffix(r.RequestURI, u.RequestURI()) {
		return nil, refuse("component", "the request's target is not in the form that is signed")
	}
	return newTarget(r.Method, "https", r.Host, u)
}

// outgoing is the target of a request that a client is to send.
func outgoing(r *http.Request) (*target, error) {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	return newTarget(r.Method, strings.ToLower(r.URL.Scheme), host, r.URL)
}

func newTarget(method, scheme, host string, u *url.URL) (*target, error) {
	// Such a target has no path that @path would be: mailto:x would pass for /.
	if u.Opaque != "" || u.User != nil {
		return nil, refuse("component", "the request's target has no authority and path, or has a user")
	}
	port := ":80"
	if scheme == "https" {
		port = ":443"
	}
	// In lower case and without the scheme's own port (RFC 9421 §2.2.3).
	return &target{method, scheme, strings.TrimSuffix(strings.ToLower(host), port), u}, nil
}

// path is @path: that of a URL without one is / (RFC 9421 §2.2.6).
func (t *target) path() string {
	if p := t.url.EscapedPath(); p != "" {
		return p
	}
	return "/"
}

// base returns the signature base of a request (RFC 9421 §2.5). params is the
// value of @signature-params.
func (t *target) base(r *http.Request, components []string, params string) ([]byte, error) {
	var b bytes.Buffer
	for _, name := range components {
		value, err := t.component(r, name)
		if err != nil {
			return nil, err
		}
		b.WriteString(`"` + name + `": ` + value + "\n")
	}
	b.WriteString(`"@signature-params": ` + params)
	return b.Bytes(), nil
}

// component returns the value of a component (RFC 9421 §2.1, §2.2) of a request.
func (t *target) component(r *http.Request, name string) (string, error) {
	switch name {
	case "@method":
		return t.method, nil
	case "@scheme":
		return t.scheme, nil
	case "@authority":
		return t.authority, nil
	case "@path":
		return t.path(), nil
	case "@query":
		return "?" + t.url.RawQuery, nil
	case "@target-uri":
		uri := t.scheme + "://" + t.authority + t.path()
		if t.url.RawQuery != "" || t.url.ForceQuery {
			uri += "?" + t.url.RawQuery
		}
		return uri, nil
	case "host":
		return "", refuse("component", "the host is covered as @authority")
	}
	values := r.Header.Values(name)
	if name == "content-length" && len(values) == 0 && r.ContentLength >= 0 {
		return "", refuse("component", "content-length is not covered here")
	}
	if len(values) == 0 {
		return "", refuse("component", "%q is covered and not there", name)
	}
	trimmed := make([]string, len(values))
	for i, v := range values {
		if trimmed[i] = strings.Trim(v, " \t"); strings.ContainsAny(v, "\r\n") {
			return "", refuse("component", "%q has a line break", name)
		}
	}
	return strings.Join(trimmed, ", "), nil
}

// ContentDigest returns the value of Content-Digest for a body, SHA-256 (RFC
// 9530 §2).
func ContentDigest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// CheckContentDigest compares a body with Content-Digest, which must be there
// once and have one member, of sha-256 or sha-512.
func CheckContentDigest(header http.Header, body []byte) error {
	value, err := single(header, "Content-Digest", 256)
	if err != nil {
		return err
	}
	name, encoded, _ := strings.Cut(value, "=:")
	encoded, found := strings.CutSuffix(encoded, ":")
	digest, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if !found || err != nil || strings.ContainsAny(encoded, "\r\n") {
		return refuse("digest", "Content-Digest: want algorithm=:base64:")
	}
	var want []byte
	switch name {
	case "sha-256":
		sum := sha256.Sum256(body)
		want = sum[:]
	case "sha-512":
		sum := sha512.Sum512(body)
		want = sum[:]
	default:
		return refuse("digest", "Content-Digest: want sha-256 or sha-512")
	}
	if subtle.ConstantTimeCompare(digest, want) != 1 {
		return refuse("digest", "Content-Digest is not that of the body")
	}
	return nil
}
