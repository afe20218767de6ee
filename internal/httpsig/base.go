// SPDX-License-Identifier: Apache-2.0

package httpsig

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
)

// base returns the signature base of a request (RFC 9421 §2.5). params is the
// value of @signature-params.
func base(r *http.Request, components []string, params string) ([]byte, error) {
	// Such a target has no path that @path would be: mailto:x would pass for /.
	if r.URL.Opaque != "" || r.URL.User != nil {
		return nil, refuse("component", "the request's target has no authority and path, or has a user")
	}
	var b bytes.Buffer
	for _, name := range components {
		value, err := component(r, name)
		if err != nil {
			return nil, err
		}
		b.WriteString(`"` + name + `": ` + value + "\n")
	}
	b.WriteString(`"@signature-params": ` + params)
	return b.Bytes(), nil
}

// component returns the value of a component (RFC 9421 §2.1, §2.2) of a request,
// one that is received or one that is to be sent.
func component(r *http.Request, name string) (string, error) {
	switch name {
	case "@method":
		return r.Method, nil
	case "@scheme":
		return scheme(r), nil
	case "@authority":
		return authority(r), nil
	case "@path":
		return path(r), nil
	case "@query":
		return "?" + r.URL.RawQuery, nil
	case "@target-uri":
		uri := scheme(r) + "://" + authority(r) + path(r)
		if r.URL.RawQuery != "" || r.URL.ForceQuery {
			uri += "?" + r.URL.RawQuery
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

func scheme(r *http.Request) string {
	switch {
	case r.TLS != nil: // whatever a client wrote into the request line
		return "https"
	case r.URL.Scheme != "":
		return strings.ToLower(r.URL.Scheme)
	}
	return "http"
}

// authority is the host in lower case without the scheme's own port.
func authority(r *http.Request) string {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	host = strings.ToLower(host)
	port := ":80"
	if scheme(r) == "https" {
		port = ":443"
	}
	return strings.TrimSuffix(host, port)
}

func path(r *http.Request) string {
	if p := r.URL.EscapedPath(); p != "" {
		return p
	}
	return "/"
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
