// SPDX-License-Identifier: Apache-2.0

// Package attesthttp lets an HTTP service accept requests only from enclaves of
// its choice.
//
// A client first gets a challenge (POST to [Guard.ServeChallenge]), has its
// security module make a document with the challenge as nonce, and presents it
// (POST to [Guard.ServeDocument], the bare document as body). If it is fresh, of
// an accepted release and bound as [Binding] says, a session begins, and
// [Guard.Middleware] lets the requests of that session through until it ends.
//
// The binding is what makes a document useless to whoever only relays it:
//
//   - [BindTLS]: the session is the TLS connection. user_data of the document is
//     [ChannelBinding] of the challenge and of the connection's exporter value
//     (RFC 9266), which is another one on each side of whoever stands between.
//     TLS 1.3 only, and it must end in this process.
//   - [BindKey]: the session is the key in public_key of the document, which
//     signs every request by HTTP Message Signatures (RFC 9421), under the keyid of
//     the session, which the answer to the document names. It works behind
//     proxies that end TLS, which can read everything and change the answers: only
//     requests are signed. What an enclave signed for another service is of no use
//     here: [Options].Authorities says what this one is called. The target is taken
//     as it was sent, before any handler of this process rewrote it, with the scheme
//     https and, where it is :443, without the port: so it is signed at the other
//     end of the proxy, which must leave Host and target as they are.
//
// What this proves is what the accepted images make of it. An accepted image must
// not let others choose what its documents carry: with [BindTLS] user_data, with
// [BindKey] public_key. Whoever can have it make a document with the channel
// binding of a connection of his own, or with a key of his own, is taken for it
// from then on; so an image that makes documents for others on request, be it of
// their data or of a hash of their choice, is not one to accept. Nor may an image
// sign with that key, or send over that connection, what others give it.
//
// Only who is accepted takes up room, and no remote host more than its share: of
// sessions [Options].HostSessions, of nonces HostNonces. With [BindTLS] a session
// ends with its connection if [Guard.ConnState] is told of it:
//
//	server := &http.Server{Handler: mux, ConnState: guard.ConnState}
//
// Refusals are problem details (RFC 9457) with the members rule and reason, and
// status 401, 413 or 503.
package attesthttp

import (
	"cmp"
	"context"
	"crypto/sha512"
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/challenge"
	"github.com/cretula/cretula/attestation/reference"
)

// A Binding is what a document is bound to.
type Binding uint8

// The bindings.
const (
	BindTLS Binding = iota + 1
	BindKey
)

// Defaults and limits.
const (
	// DefaultSessionAge is how long a session lasts.
	DefaultSessionAge = 15 * time.Minute
	// DefaultSessions is the greatest number of sessions at a time.
	DefaultSessions = 10000
	// DefaultHostNonces is the greatest number of nonces that are remembered of
	// one remote host.
	DefaultHostNonces = 16384
	// DefaultBody is the greatest size of a signed body.
	DefaultBody = 1 << 20
	// SignatureWindow is how far from the clock the time of a signature may be.
	SignatureWindow = 60 * time.Second

	// maxDocument is the greatest size of a document.
	maxDocument = 20480
	// minNonce and maxNonce are the lengths of the nonce of a signature.
	minNonce, maxNonce = 16, 128
)

// Options are what [New] makes a Guard of. Verifier, Releases, Challenges and
// Binding are required.
type Options struct {
	Verifier *attestation.Verifier
	// Releases are the accepted ones.
	Releases   *reference.Set
	Challenges challenge.Nonces
	Binding    Binding
	// Authorities are the names of this service in the https URLs that clients
	// use, such as "orders.example.com" or "orders.example.com:8443", required
	// for [BindKey]. A signed request to another host is refused: it would be
	// one to another service, which passes it on together with the document.
	Authorities []string
	// SignatureNonces remembers the nonces of signed requests, for [BindKey].
	// Nil: a [challenge.Memory] of the default capacity. That is right also for
	// replicas, if their Challenges share what was used: a signature is one for
	// the session of a single challenge, and so for one process. Where a document
	// can be presented to each replica, so can a signed request.
	SignatureNonces challenge.UsedSet
	// SessionAge is how long a session lasts at most. It ends with the validity
	// of its release or of its leaf certificate if that is earlier. Zero:
	// [DefaultSessionAge].
	SessionAge time.Duration
	// Sessions is the greatest number of sessions at a time; when it is reached,
	// documents are refused with status 503. Zero: [DefaultSessions].
	Sessions int
	// HostSessions is the greatest number of sessions that began from one remote
	// host and last; further documents from there are refused with status 503.
	// Zero: a tenth of Sessions, at least one.
	HostSessions int
	// HostNonces is the greatest number of nonces that are remembered for
	// requests from one remote host: those of signatures, for two minutes, and
	// apart from them the challenges of its documents, for an hour. Further
	// requests or documents from there are refused with status 503. Zero:
	// [DefaultHostNonces].
	HostNonces int
	// RemoteHost names the remote host of a request. Nil: the address in
	// RemoteAddr, of IPv6 its network of 64 bits. Behind a proxy that is the
	// proxy's for all: take there what the proxy says of the address, and only if
	// clients cannot say it, or all that come through it share one host's part.
	RemoteHost func(*http.Request) string
	// Body is the greatest size of a signed request's body, which is read into
	// memory. Zero: [DefaultBody].
	Body int64
	// Explain adds all problems of a document to the refusal, with the accepted
	// releases' values. Anyone may ask, so leave it off where those are secret.
	Explain bool
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// A Guard is the server's side. It is safe for concurrent use.
type Guard struct {
	o           Options
	sessions    *sessions
	authorities map[string]bool
	// signatures and documents count the nonces of hosts.
	signatures, documents *tally
}

// New makes a Guard.
func New(o Options) (*Guard, error) {
	if o.Verifier == nil || o.Releases == nil || o.Challenges == nil {
		return nil, errors.New("attesthttp: Verifier, Releases and Challenges are required")
	}
	if o.Binding != BindTLS && o.Binding != BindKey {
		return nil, errors.New("attesthttp: Binding must be BindTLS or BindKey")
	}
	authorities := map[string]bool{}
	for _, name := range o.Authorities {
		if name == "" || strings.ContainsAny(name, "/@ ") {
			return nil, errors.New("attesthttp: Authorities must be hosts, with or without port")
		}
		authorities[authority(name)] = true
	}
	if o.Binding == BindKey && len(authorities) == 0 {
		return nil, errors.New("attesthttp: Authorities are required with BindKey")
	}
	if o.SessionAge < 0 || o.Sessions < 0 || o.HostSessions < 0 || o.HostNonces < 0 || o.Body < 0 {
		return nil, errors.New("attesthttp: SessionAge, Sessions, HostSessions, HostNonces and Body must not be negative")
	}
	o.setDefaults()
	if o.SignatureNonces == nil {
		memory, err := challenge.NewMemory(challenge.MemoryOptions{Now: o.Now})
		if err != nil {
			return nil, err
		}
		o.SignatureNonces = memory
	}
	return &Guard{
		o: o, sessions: newSessions(o.Sessions, o.HostSessions), authorities: authorities,
		signatures: newTally(o.HostNonces), documents: newTally(o.HostNonces),
	}, nil
}

// setDefaults fills in what New does not have to make.
func (o *Options) setDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.RemoteHost == nil {
		o.RemoteHost = remoteHost
	}
	o.SessionAge = cmp.Or(o.SessionAge, DefaultSessionAge)
	o.Sessions = cmp.Or(o.Sessions, DefaultSessions)
	o.HostSessions = cmp.Or(o.HostSessions, max(o.Sessions/10, 1))
	o.HostNonces = cmp.Or(o.HostNonces, DefaultHostNonces)
	o.Body = cmp.Or(o.Body, DefaultBody)
}

// authority is a host as it is compared: in lower case, without the port of https.
func authority(host string) string { return strings.TrimSuffix(strings.ToLower(host), ":443") }

// Attested is what is known of the sender of a request.
type Attested struct {
	// Document is the verified document. It is shared by all requests of a
	// session and must not be changed.
	Document *attestation.Document
	// Release is the name of the release it belongs to.
	Release string
	Binding Binding
	// Until is when the session ends.
	Until time.Time
}

type contextKey struct{}

// FromContext returns what [Guard.Middleware] knows of the sender of a request
// with that context. It is false for a request that did not pass it.
func FromContext(ctx context.Context) (Attested, bool) {
	a, ok := ctx.Value(contextKey{}).(Attested)
	return a, ok
}

// exporterLabel is that of tls-exporter (RFC 9266 §2).
const exporterLabel = "EXPORTER-Channel-Binding"

// bindingLabel begins what [ChannelBinding] hashes.
const bindingLabel = "cretula attesthttp channel binding v1\x00"

// ChannelBinding returns the user_data of a document that is bound to a TLS
// connection: SHA-384 over the label "cretula attesthttp channel binding v1", a
// zero byte, the 32 bytes of the tls-exporter value (RFC 9266) and the
// challenge. Connections below TLS 1.3 are refused: there, the exporter is bound
// to the whole handshake only with extensions that a peer may leave out.
func ChannelBinding(state *tls.ConnectionState, challenge []byte) ([]byte, error) {
	exported, err := exporter(state)
	if err != nil {
		return nil, err
	}
	h := sha512.New384()
	h.Write([]byte(bindingLabel))
	h.Write(exported)
	h.Write(challenge)
	return h.Sum(nil), nil
}

func exporter(state *tls.ConnectionState) ([]byte, error) {
	if state == nil || !state.HandshakeComplete || state.Version < tls.VersionTLS13 {
		return nil, refuse(RuleTLS, "the connection is not TLS 1.3")
	}
	exported, err := state.ExportKeyingMaterial(exporterLabel, nil, 32)
	if err != nil {
		return nil, refuse(RuleTLS, "the connection has no exporter: %w", err)
	}
	return exported, nil
}
