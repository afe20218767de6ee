// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// registry is a repository of images.
type registry struct {
	ctx    context.Context
	repo   name.Repository
	puller *remote.Puller
}

func (p *opening) openRegistry(rest string) (*Root, error) {
	var options []name.Option
	if p.o.PlainHTTP {
		options = append(options, name.Insecure) // TLS is tried first
	}
	ref, err := name.ParseReference(strings.TrimPrefix(rest, "//"), options...)
	if err != nil {
		return nil, malformed("reference", "%.200q is no name of an image: %w", rest, err)
	}
	keychain, next := p.o.Keychain, p.o.Transport
	if keychain == nil {
		keychain = authn.DefaultKeychain
	}
	if next == nil {
		next = remote.DefaultTransport
	}
	puller, err := remote.NewPuller(remote.WithAuthFromKeychain(keychain),
		remote.WithTransport(guard{next, p.o.PlainHTTP}), remote.WithUserAgent("cretula"))
	if err != nil {
		return nil, err
	}
	r := registry{p.ctx, ref.Context(), puller}
	found, err := puller.Get(p.ctx, ref)
	if err != nil {
		return nil, r.explain(err)
	}
	from := origin{digests: []string{familiar(ref.Context().Name()) + "@" + found.Digest.String()}}
	if tag, ok := ref.(name.Tag); ok {
		from.tags = []string{familiar(tag.Name())}
	}
	return p.openImage(startingWith{r, found.Digest, found.Manifest}, found.Descriptor, from)
}

// startingWith has the first manifest, which is read to learn what it is.
type startingWith struct {
	registry
	digest v1.Hash
	raw    []byte
}

func (s startingWith) manifest(d v1.Descriptor) ([]byte, error) {
	if d.Digest == s.digest {
		return s.raw, nil
	}
	return s.registry.manifest(d)
}

func (r registry) manifest(d v1.Descriptor) ([]byte, error) {
	if err := sha256Only(d.Digest); err != nil {
		return nil, err
	}
	found, err := r.puller.Get(r.ctx, r.repo.Digest(d.Digest.String()))
	if err != nil {
		return nil, r.explain(err)
	}
	return found.Manifest, nil
}

func (r registry) blob(d v1.Descriptor) (layer, error) {
	if err := sha256Only(d.Digest); err != nil {
		return layer{}, err
	}
	if d.Size < 0 {
		return layer{}, malformed("layer.size", "%v has a size below 0", d.Digest)
	}
	return layer{size: d.Size, digest: d.Digest.Hex, open: func(ctx context.Context) (io.ReadCloser, error) {
		l, err := r.puller.Layer(ctx, r.repo.Digest(d.Digest.String()))
		if err != nil {
			return nil, r.explain(err)
		}
		body, err := l.Compressed()
		if err != nil {
			return nil, r.explain(err)
		}
		return blobBody{body, r}, nil
	}}, nil
}

// blobBody says what the errors of a download are.
type blobBody struct {
	io.ReadCloser
	from registry
}

func (b blobBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	// The type of this error is internal to go-containerregistry.
	if strings.Contains(err.Error(), "error verifying") {
		return n, mismatch("layer.digest", "%s sent other bytes than it promised: %w", b.from.repo.RegistryStr(), err)
	}
	return n, fmt.Errorf("the download from %s broke off: %w", b.from.repo.RegistryStr(), err)
}

// explain says what to do about an error of a registry.
func (r registry) explain(err error) error {
	host := r.repo.RegistryStr()
	var refused *transport.Error
	var plain *plainHTTPError
	var unknown x509.UnknownAuthorityError
	var wrong *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unknown), errors.As(err, &wrong):
		return unsupported("registry.tls", "the certificate of %s is not trusted: %.300s; add its authority to the system's", host, err)
	case errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch):
		return unsupported("registry.plain-http", "%s does not answer over TLS, and is not asked without unless it is told to be insecure: %.300s", host, err)
	case errors.As(err, &refused):
		switch refused.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return unsupported("registry.credentials", "%s does not give %s to us (%d); there may be no such image, or it takes "+
				"credentials: log in with \"docker login %s\" or \"podman login %s\"; those of docker's config.json, its credential "+
				"helpers and podman's auth.json are taken", host, r.repo.RepositoryStr(), refused.StatusCode, host, host)
		case http.StatusNotFound:
			return unsupported("registry.not-found", "%s has no such image (404): look at name and tag of %s", host, r.repo.RepositoryStr())
		case http.StatusTooManyRequests:
			return unsupported("registry.limit", "%s gives no more images to us at this time (429): log in, or try again later", host)
		}
		return unsupported("registry.answer", "%s: %.300s", host, err)
	// An error without a type, of go-containerregistry.
	case strings.Contains(err.Error(), "does not match requested digest"):
		return mismatch("manifest.digest", "%s sent another manifest than was asked for by its digest: %.300s", host, err)
	}
	return fmt.Errorf("%s: %w", host, err)
}

// guard refuses unencrypted connections to other machines, which the client of
// the registry protocol would open for private addresses and names, and bounds
// answers that are read into memory.
type guard struct {
	next      http.RoundTripper
	plainHTTP bool
}

type plainHTTPError struct{ host string }

func (e *plainHTTPError) Error() string {
	return e.host + " is not asked over an unencrypted connection"
}

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.plainHTTP && !loopback(req.URL.Hostname()) {
		return nil, &plainHTTPError{req.URL.Host}
	}
	resp, err := g.next.RoundTrip(req)
	if err == nil && !isBlob(req) {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxManifest), resp.Body}
	}
	return resp, err
}

// isBlob says whether a request is for a blob, or for where one is: those are read
// as streams. A request for a token, whose address the registry chooses, has a
// query.
func isBlob(req *http.Request) bool {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return strings.Contains(req.URL.Path, "/blobs/sha256:") && req.URL.RawQuery == ""
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
