// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cretula/cretula/internal/sigv4"
	"github.com/cretula/cretula/internal/uuid"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// DecisionHeader is the answer's header with the id that ExplainDecision and
// `cretula kms explain` take. It is set on every error after a good signature, but
// for a panic.
const DecisionHeader = "x-cretula-decision"

// ExplainTarget is the X-Amz-Target of the one operation that is not of AWS's
// service: {"DecisionId": "d-…"} is answered with the [kms.Event].
const ExplainTarget = "CretulaService.ExplainDecision"

type handler struct {
	Config
	verifier, stsVerifier *sigv4.Verifier[*kms.Caller]
	// large has an entry for each large body that is read or used.
	large chan struct{}
}

// An exchange is one request on its way; the log record is made of it.
type exchange struct {
	id        string
	operation string
	caller    *kms.Caller
	err       error
	status    int
	// sts says that it is one with STS, whose answers are XML.
	sts bool
	// headers has the values of those that are of this answer.
	headers [2]string
	// deadline is that of the operation.
	deadline deadline
}

// Headers of every answer, which nobody changes.
var (
	contentTypeHeader  = []string{kmsapi.ContentType}
	cacheControlHeader = []string{"no-store"}
)

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.Now()
	x := &exchange{id: newRequestID()}
	h.Metrics.begin()
	body := h.guard(r.Context(), x, func() ([]byte, error) { return h.answer(r, x) })
	x.status = http.StatusOK
	if x.err != nil {
		body = h.refusal(w, x)
	}
	header := w.Header()
	x.headers = [2]string{x.id, strconv.Itoa(len(body))}
	header["X-Amzn-Requestid"] = x.headers[:1:1]
	header["Content-Type"] = contentTypeHeader
	if x.sts {
		header["Content-Type"] = xmlHeader
	}
	header["Content-Length"] = x.headers[1:]
	header["Cache-Control"] = cacheControlHeader
	w.WriteHeader(x.status)
	_, writeErr := w.Write(body)
	took := h.Now().Sub(start)
	h.Metrics.end(x, took)
	h.log(r.Context(), x, took, writeErr)
}

// guard runs fn and turns a panic into an internal error; the stack goes to the
// log only.
func (h *handler) guard(ctx context.Context, x *exchange, fn func() ([]byte, error)) (body []byte) {
	defer func() {
		if p := recover(); p != nil {
			// The value is not logged: it may quote what the request held.
			h.Logger.ErrorContext(ctx, "panic", "request", x.id, "operation", x.operation,
				"type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			body, x.err = nil, kmsapi.Internal(nil)
		}
	}()
	body, x.err = fn()
	return body
}

// refusal sets status and headers for x.err and returns the body.
func (h *handler) refusal(w http.ResponseWriter, x *exchange) []byte {
	e := asError(x.err)
	x.status = e.HTTPStatus()
	if e.Code == kmsapi.RequestEntityTooLarge {
		w.Header().Set("Connection", "close")
	}
	if e.DecisionID != "" {
		w.Header().Set(DecisionHeader, e.DecisionID)
	}
	if x.sts {
		var body []byte
		x.status, body = stsRefusal(e, x.id)
		return body
	}
	return e.Body()
}

// asError makes the client's error of any error.
func asError(err error) *kmsapi.Error {
	if e, ok := errors.AsType[*kmsapi.Error](err); ok {
		return e
	}
	return kmsapi.Internal(err)
}

func (h *handler) log(ctx context.Context, x *exchange, took time.Duration, writeErr error) {
	level := slog.LevelInfo
	if x.err == nil && writeErr == nil {
		level = slog.LevelDebug // the audit log has it
		if !h.Logger.Enabled(ctx, level) {
			return
		}
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.String("request", x.id), slog.String("operation", x.operation),
		slog.Int("status", x.status), slog.Duration("took", took))
	if x.caller != nil && x.caller.Principal.ID != "" {
		attrs = append(attrs, slog.String("caller", x.caller.Principal.ARN()), slog.String("region", x.caller.Region))
	}
	if e, ok := errors.AsType[*kmsapi.Error](x.err); ok {
		attrs = append(attrs, slog.String("code", string(e.Code)), slog.String("decision", e.DecisionID))
		if x.status >= http.StatusInternalServerError {
			if ctx.Err() == nil { // else the client has gone, which is no fault here
				level = slog.LevelError
			}
			if e.Err != nil {
				attrs = append(attrs, slog.String("cause", e.Err.Error()))
			}
		}
	} else if x.err != nil {
		level, attrs = slog.LevelError, append(attrs, slog.String("cause", x.err.Error()))
	}
	if writeErr != nil {
		attrs = append(attrs, slog.String("write", "the client was gone"))
	}
	if !h.Logger.Enabled(ctx, level) {
		return
	}
	// Not by the Logger, which would look for the place in the source, always this.
	record := slog.NewRecord(time.Now(), level, "kms", 0)
	record.AddAttrs(attrs...)
	h.Logger.Handler().Handle(ctx, record)
}

// answer is the way of a request: route, authenticate, call.
func (h *handler) answer(r *http.Request, x *exchange) ([]byte, error) {
	if isSTS(r) {
		return h.answerSTS(r, x)
	}
	target, err := route(r)
	if err != nil {
		return nil, err
	}
	x.operation = target
	read, err := h.readBody(r)
	if err != nil {
		return nil, err
	}
	defer read.release()
	body := read.bytes
	// The operation ends by itself within milliseconds: a client that closes its
	// side once it has asked is answered all the same.
	ctx := &x.deadline
	ctx.set(r.Context(), time.Now().Add(operationTimeout))
	defer ctx.end()
	if x.caller, err = h.admit(ctx, x, r, body, target); err != nil {
		return nil, err
	}
	x.caller.RequestID = x.id
	x.caller.SourceIP = sourceIP(r)
	x.caller.UserAgent = userAgent(r)
	x.caller.SecureTransport, x.caller.TLS = r.TLS != nil, tlsDetails(r)
	if target == ExplainTarget {
		return h.KMS.CallExplain(ctx, x.caller, body)
	}
	return h.KMS.Call(ctx, x.caller, target, body)
}

// route returns the operation of a request, or [ExplainTarget]. AWS answers a
// request whose protocol or operation it does not know before it looks at the
// signature, and so does this.
func route(r *http.Request) (string, error) {
	target := r.Header.Values("X-Amz-Target")
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/":
		return "", kmsapi.Errorf(kmsapi.UnknownOperation, "The key service answers POST / only.")
	case !isContentType(r.Header.Get("Content-Type")):
		return "", kmsapi.Errorf(kmsapi.UnknownOperation, "The content type must be %s.", kmsapi.ContentType)
	case len(target) != 1:
		return "", &kmsapi.Error{Code: kmsapi.UnknownOperation}
	case target[0] == ExplainTarget:
		return ExplainTarget, nil
	}
	name, ok := strings.CutPrefix(target[0], kmsapi.TargetPrefix)
	if !ok || kmsapi.Lookup(name) == nil {
		return "", &kmsapi.Error{Code: kmsapi.UnknownOperation}
	}
	return name, nil
}

// isContentType takes parameters behind the content type, as AWS does.
func isContentType(s string) bool {
	if s == kmsapi.ContentType {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(s)
	return err == nil && mediaType == kmsapi.ContentType
}

// A requestBody is what a request has sent, until release.
type requestBody struct {
	bytes []byte
	// memory is where bytes are, if it is used again.
	memory *[promisedAtOnce]byte
	// large is the channel that has an entry for the body, if it is a large one.
	large chan struct{}
}

// bodies has memory for bodies. It is zero.
var bodies = sync.Pool{New: func() any { return new([promisedAtOnce]byte) }}

// release gives the memory back. What was sent may be a secret.
func (b requestBody) release() {
	if b.memory != nil {
		clear(b.memory[:min(len(b.bytes), promisedAtOnce)])
		bodies.Put(b.memory)
	}
	if b.large != nil {
		<-b.large
	}
}

// maxLarge is how many bodies of more than promisedAtOnce there can be: anybody can send
// them, and no request that clients usually make is one.
const maxLarge = 256

func (h *handler) readBody(r *http.Request) (body requestBody, err error) {
	if r.ContentLength > maxBody {
		return requestBody{}, errTooLarge
	}
	if r.ContentLength < 0 || r.ContentLength > promisedAtOnce {
		select {
		case h.large <- struct{}{}:
			body.large = h.large
		default:
			return requestBody{}, h.throttle(limitUnauthenticated)
		}
	}
	if r.ContentLength >= 0 {
		err = body.readPromised(r.Body, int(r.ContentLength))
	} else {
		body.bytes, err = io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	}
	switch {
	case err != nil:
		err = kmsapi.Errorf(kmsapi.Serialization, "the request ended early")
	case len(body.bytes) > maxBody:
		err = errTooLarge
	default:
		return body, nil
	}
	body.release()
	return requestBody{}, err
}

var errTooLarge = kmsapi.Errorf(kmsapi.RequestEntityTooLarge, "The request is larger than %d bytes.", maxBody)

// promisedAtOnce is how much memory a Content-Length gets before any of the body
// has come: more than a request with a document has.
const promisedAtOnce = 32 << 10

// readPromised reads a body of n bytes. What is promised is not believed beyond a part
// of it that is there.
func (b *requestBody) readPromised(r io.Reader, n int) error {
	b.memory = bodies.Get().(*[promisedAtOnce]byte)
	b.bytes = b.memory[:min(n, promisedAtOnce)]
	if _, err := io.ReadFull(r, b.bytes); err != nil || len(b.bytes) == n {
		return err
	}
	all := make([]byte, n)
	read := copy(all, b.bytes)
	b.bytes = all
	_, err := io.ReadFull(r, all[read:])
	return err
}

// sourceIP is the address of the peer; proxies' headers prove nothing.
func sourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// maxHost bounds the name that a client gives this server in the audit log.
const maxHost = 255

// tlsDetails says of a TLS connection what CloudTrail does; nil if it is none.
func tlsDetails(r *http.Request) *kms.TLSDetails {
	if r.TLS == nil {
		return nil
	}
	version := strings.Replace(tls.VersionName(r.TLS.Version), "TLS 1.", "TLSv1.", 1)
	return &kms.TLSDetails{
		TLSVersion: version, CipherSuite: tls.CipherSuiteName(r.TLS.CipherSuite), ClientProvidedHostHeader: r.Host[:min(len(r.Host), maxHost)],
	}
}

// maxUserAgent bounds the one condition key whose value a client chooses without
// a limit of the service model: policies may match patterns against it.
const maxUserAgent = 1 << 10

// userAgent is the beginning of what the client calls itself.
func userAgent(r *http.Request) string {
	s := r.UserAgent()
	return s[:min(len(s), maxUserAgent)]
}

func newRequestID() string {
	var b [uuid.Size]byte
	rand.Read(b[:])
	return uuid.Of(b)
}
