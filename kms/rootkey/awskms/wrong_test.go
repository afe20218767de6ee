// SPDX-License-Identifier: Apache-2.0

package awskms

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go/logging"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
)

// A liar stands between a client and a key service and may answer otherwise.
type liar struct {
	*httptest.Server
	mu  sync.Mutex
	lie func(w http.ResponseWriter, r *http.Request, truth map[string]any) // nil: the truth
}

func (l *liar) set(lie func(http.ResponseWriter, *http.Request, map[string]any)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lie = lie
}

func startLiar(t testing.TB, k *rootkeytest.KMS) *liar {
	t.Helper()
	l := &liar{}
	l.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		lie := l.lie
		l.mu.Unlock()
		if lie == nil {
			k.Handler().ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := httptest.NewRecorder()
		k.Handler().ServeHTTP(answer, r)
		r.Body = io.NopCloser(bytes.NewReader(body))
		var truth map[string]any
		if err := json.Unmarshal(answer.Body.Bytes(), &truth); err != nil || answer.Code != 200 {
			t.Errorf("the service itself: %d %s", answer.Code, answer.Body)
		}
		lie(w, r, truth)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *liar) config(c aws.Config) aws.Config {
	c = c.Copy()
	c.BaseEndpoint, c.HTTPClient = &l.URL, l.Client()
	// As the SDK's own, without the waits.
	c.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
	}
	return c
}

// member answers the truth with other members; nil takes one away.
func members(other map[string]any) func(http.ResponseWriter, *http.Request, map[string]any) {
	return func(w http.ResponseWriter, _ *http.Request, truth map[string]any) {
		maps.Copy(truth, other)
		maps.DeleteFunc(truth, func(_ string, v any) bool { return v == nil })
		text, err := json.Marshal(truth)
		if err != nil {
			panic(err)
		}
		w.Write(text)
	}
}

// text answers something of its own.
func text(status int, body string) func(http.ResponseWriter, *http.Request, map[string]any) {
	return func(w http.ResponseWriter, _ *http.Request, _ map[string]any) {
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

var dataKey = bytes.Repeat([]byte("K"), keySize)

// wrongAnswers are not those of KMS, for attested holders or for others.
func wrongAnswers(t testing.TB, attested bool, keyARN string) map[string]func(http.ResponseWriter, *http.Request, map[string]any) {
	inClear := base64.StdEncoding.EncodeToString(dataKey)
	all := map[string]func(http.ResponseWriter, *http.Request, map[string]any){
		"another key":   members(map[string]any{"KeyId": keyARN[:len(keyARN)-1] + "x"}),
		"bare id":       members(map[string]any{"KeyId": keyARN[strings.LastIndex(keyARN, "/")+1:]}),
		"no key":        members(map[string]any{"KeyId": nil}),
		"not base64":    members(map[string]any{"Plaintext": "!" + inClear}),
		"numbers":       members(map[string]any{"Plaintext": 1, "KeyId": 1}),
		"empty":         text(200, ""),
		"not JSON":      text(200, inClear+string(dataKey)),
		"half":          text(200, `{"Plaintext":"`+inClear),
		"empty object":  text(200, "{}"),
		"array":         text(200, "["+strings.Repeat("[", 1000)),
		"HTML":          text(200, "<html>"+inClear),
		"much":          text(200, `{"KeyId":"`+strings.Repeat("x", 1<<20)+`"}`),
		"much, spaces":  text(200, strings.Repeat(" ", 1<<20)+"{}"),
		"16 bytes":      members(map[string]any{"Plaintext": inClear[:24]}),
		"33 bytes":      members(map[string]any{"Plaintext": base64.StdEncoding.EncodeToString(append(dataKey, 1))}),
		"nothing":       members(map[string]any{"Plaintext": nil, "CiphertextForRecipient": nil}),
		"both":          members(map[string]any{"Plaintext": inClear, "CiphertextForRecipient": inClear}),
		"sealed, bytes": members(map[string]any{"Plaintext": nil, "CiphertextForRecipient": inClear}),
	}
	if attested {
		all["in clear"] = members(map[string]any{"Plaintext": inClear, "CiphertextForRecipient": nil})
		all["sealed, empty"] = members(map[string]any{"CiphertextForRecipient": ""})
		all["sealed, 16 bytes"] = func(w http.ResponseWriter, r *http.Request, truth map[string]any) {
			members(map[string]any{"CiphertextForRecipient": sealTo(t, r, dataKey[:16])})(w, r, truth)
		}
	}
	return all
}

// sealTo seals to the recipient of a request, as anybody can who sees its document.
func sealTo(t testing.TB, r *http.Request, content []byte) []byte {
	var in kmsapi.DecryptInput
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Recipient == nil {
		t.Errorf("no recipient in the request: %v", err)
		return nil
	}
	document, err := attestation.Parse(in.Recipient.AttestationDocument)
	if err != nil {
		t.Error(err)
		return nil
	}
	key, err := x509.ParsePKIXPublicKey(document.UnverifiedPublicKey())
	if err != nil {
		t.Error(err)
		return nil
	}
	sealed, err := cms.Seal(key.(*rsa.PublicKey), content)
	if err != nil {
		t.Error(err)
	}
	return sealed
}

func TestWrongAnswers(t *testing.T) {
	k := startEnclaveKMS(t)
	l := startLiar(t, k.KMS)
	attestedKey, plainKey := k.key(1, ""), k.CreateKey(t, "")
	attested, err := NewAttested(l.config(k.role), attestedKey, k.module(1))
	if err != nil {
		t.Fatal(err)
	}
	plain := newHolderT(t, l.config(k.Config), plainKey)
	for _, c := range []struct {
		name string
		h    *Holder
	}{{"attested", attested}, {"plain", plain}} {
		sealed := mustSeal(t, c.h)
		for name, lie := range wrongAnswers(t, c.h == attested, c.h.keyARN) {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				l.set(lie)
				defer l.set(nil)
				wantErrors(t, c.h, sealed, ErrAnswer, rootkey.ErrUnavailable)
				_, err := c.h.Open(t.Context(), sealed)
				quiet(t, err)
			})
		}
		mustOpen(t, c.h, sealed)
	}
}

// quiet wants a line without the data key.
func quiet(t testing.TB, err error) {
	t.Helper()
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		text := fmt.Sprintf(verb, err)
		if strings.Contains(text, "KKKK") || strings.Contains(text, "S0tL") || len(text) > 1000 || strings.ContainsAny(text, "\n\x1b") {
			t.Errorf("the error says: %s", text)
		}
	}
}

// An answer with another data key is no wrong answer to look at, but opens nothing.
func TestOtherDataKey(t *testing.T) {
	k := rootkeytest.StartKMS(t)
	l := startLiar(t, k)
	h := newHolderT(t, l.config(k.Config), k.CreateKey(t, ""))
	sealed := mustSeal(t, h)
	l.set(members(map[string]any{"Plaintext": dataKey}))
	if got, err := h.Open(t.Context(), sealed); !errors.Is(err, rootkey.ErrNotOpened) || got != nil {
		t.Errorf("%v", err)
	}
	// A file is not written that would not open.
	l.set(func(w http.ResponseWriter, r *http.Request, truth map[string]any) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "GenerateDataKey") {
			truth["Plaintext"] = dataKey
		}
		members(nil)(w, r, truth)
	})
	path := t.TempDir() + "/keys/root.key"
	if key, err := rootkey.CreateHeld(t.Context(), path, h); !errors.Is(err, rootkey.ErrNotOpened) || key != nil {
		t.Errorf("%v", err)
	}
	if _, err := rootkey.ReadInfo(path); err == nil {
		t.Error("a file was written")
	}
}

// The blob is bounded before it goes into a file.
func TestBlobSizes(t *testing.T) {
	k := rootkeytest.StartKMS(t)
	l := startLiar(t, k)
	h := newHolderT(t, l.config(k.Config), k.CreateKey(t, ""))
	for _, n := range []int{0, maxBlobSize + 1, 6144} {
		l.set(members(map[string]any{"CiphertextBlob": make([]byte, n)}))
		if got, err := h.Seal(t.Context(), secret); !errors.Is(err, ErrAnswer) || got != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	l.set(members(map[string]any{"CiphertextBlob": make([]byte, maxBlobSize)}))
	if got, err := h.Seal(t.Context(), secret); err != nil || len(got) != rootkey.MaxSealed {
		t.Errorf("the longest: %d bytes, %v", len(got), err)
	}
}

// What KMS refuses with is told, in its words but on one line.
func TestRefusals(t *testing.T) {
	k := rootkeytest.StartKMS(t)
	l := startLiar(t, k)
	h := newHolderT(t, l.config(k.Config), k.CreateKey(t, ""))
	sealed := mustSeal(t, h)
	for code, want := range map[string]error{
		"AccessDeniedException": ErrDenied, "NotFoundException": rootkey.ErrUnavailable, "DisabledException": rootkey.ErrUnavailable,
		"KMSInvalidStateException": rootkey.ErrUnavailable, "ExpiredTokenException": rootkey.ErrUnavailable,
		"UnrecognizedClientException": rootkey.ErrUnavailable, "x\ny\x1b": rootkey.ErrUnavailable, "": rootkey.ErrUnavailable,
	} {
		answer, err := json.Marshal(map[string]string{"__type": code, "message": "because\n\x1b[31mred" + strings.Repeat("long", 2000)})
		if err != nil {
			t.Fatal(err)
		}
		l.set(text(400, string(answer)))
		got, err := h.Open(t.Context(), sealed)
		if !errors.Is(err, want) || errors.Is(err, rootkey.ErrNotOpened) || got != nil || !strings.Contains(err.Error(), "because") {
			t.Errorf("%q: %v", code, err)
		}
		quiet(t, err)
	}
	for _, code := range []string{"InvalidCiphertextException", "IncorrectKeyException"} {
		l.set(text(400, fmt.Sprintf(`{"__type":%q}`, code)))
		if got, err := h.Open(t.Context(), sealed); !errors.Is(err, rootkey.ErrNotOpened) || errors.Is(err, rootkey.ErrUnavailable) || got != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
	l.Close()
	wantErrors(t, h, sealed, rootkey.ErrUnavailable)
}

// Throttling, faults and silence are tried again.
func TestTriedAgain(t *testing.T) {
	k := rootkeytest.StartKMS(t)
	l := startLiar(t, k)
	h := newHolderT(t, l.config(k.Config), k.CreateKey(t, ""))
	sealed := mustSeal(t, h)
	transportOf(t, h).attempt = 500 * time.Millisecond
	var asked atomic.Int32
	for name, lie := range map[string]func(http.ResponseWriter, *http.Request, map[string]any){
		"throttling": text(400, `{"__type":"ThrottlingException"}`),
		"fault":      text(500, `{"__type":"KMSInternalException"}`),
		"timeout":    text(503, `{"__type":"DependencyTimeoutException"}`),
		"silence": func(_ http.ResponseWriter, r *http.Request, _ map[string]any) {
			<-r.Context().Done()
			// Returning would send an empty answer, which the client may still read
			// while it closes the connection.
			panic(http.ErrAbortHandler)
		},
		"half": func(http.ResponseWriter, *http.Request, map[string]any) { panic(http.ErrAbortHandler) },
		"trickle": func(w http.ResponseWriter, r *http.Request, _ map[string]any) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("{"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	} {
		asked.Store(0)
		l.set(func(w http.ResponseWriter, r *http.Request, truth map[string]any) {
			if asked.Add(1) < 3 {
				lie(w, r, truth)
				return
			}
			members(nil)(w, r, truth)
		})
		if got, err := h.Open(t.Context(), sealed); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s, then fine: %v", name, err)
		}
		l.set(func(w http.ResponseWriter, r *http.Request, truth map[string]any) {
			asked.Add(1)
			lie(w, r, truth)
		})
		asked.Store(0)
		if got, err := h.Open(t.Context(), sealed); !errors.Is(err, rootkey.ErrUnavailable) || errors.Is(err, rootkey.ErrNotOpened) || got != nil || asked.Load() != 3 {
			t.Errorf("%s, always: %v after %d requests", name, err, asked.Load())
		}
	}
}

func transportOf(t testing.TB, h *Holder) *transport {
	t.Helper()
	tr, ok := h.client.Options().HTTPClient.(*transport)
	if !ok {
		t.Fatalf("the HTTP client is a %T", h.client.Options().HTTPClient)
	}
	return tr
}

// Nothing is said to a server without TLS, but for the loopback interface where
// no enclave is.
func TestInsecure(t *testing.T) {
	k := startEnclaveKMS(t)
	asked := atomic.Int32{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		k.Handler().ServeHTTP(w, r)
	}))
	defer server.Close()
	plain := func(c aws.Config) aws.Config {
		c = c.Copy()
		c.BaseEndpoint, c.HTTPClient = &server.URL, server.Client()
		return c
	}
	h, err := NewAttested(plain(k.role), k.key(1, ""), k.module(1))
	if err != nil {
		t.Fatal(err)
	}
	sealed := mustSeal(t, k.holder(h.keyARN, 1))
	wantErrors(t, h, sealed, ErrInsecure, rootkey.ErrUnavailable)
	config := plain(k.Config)
	config.BaseEndpoint = aws.String(strings.Replace(server.URL, "127.0.0.1", "localhost.example", 1))
	wantErrors(t, newHolderT(t, config, h.keyARN), sealed, ErrInsecure)
	if asked.Load() != 0 {
		t.Errorf("%d requests", asked.Load())
	}
	ours := newHolderT(t, plain(k.Config), k.CreateKey(t, ""))
	mustOpen(t, ours, mustSeal(t, ours))
	// Without the service's certificate TLS is not with the service.
	strange := k.Config.Copy()
	strange.HTTPClient = nil
	strange.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	wantErrors(t, newHolderT(t, strange, ours.keyARN), sealed, rootkey.ErrUnavailable)
}

// Whatever a caller has logged of his own calls, data keys are not.
func TestNotLogged(t *testing.T) {
	k := rootkeytest.StartKMS(t)
	var log strings.Builder
	config := k.Config.Copy()
	config.Logger = logging.NewStandardLogger(&log)
	config.ClientLogMode = aws.LogRequestWithBody | aws.LogResponseWithBody | aws.LogSigning | aws.LogRetries
	h := newHolderT(t, config, k.CreateKey(t, ""))
	mustOpen(t, h, mustSeal(t, h))
	if log.Len() != 0 {
		t.Errorf("logged: %s", log.String())
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, h); text != "KMS key "+h.keyARN {
			t.Errorf("printed: %s", text)
		}
	}
}
