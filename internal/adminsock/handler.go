// SPDX-License-Identifier: Apache-2.0

package adminsock

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/reason"
)

const (
	maxBody     = 1 << 20
	readTimeout = 30 * time.Second
	// writeTimeout bounds an answer, with the work for it. It is that of Client.
	writeTimeout = time.Minute
	idleTimeout  = 30 * time.Second
	maxHeader    = 16 << 10
	// graceTime is how long Serve waits for answers under way.
	graceTime = 5 * time.Second
)

// Serve answers on the listener until ctx ends; then it closes the listener and
// returns nil. The logger gets what the server complains of, a panic of a handler
// above all; nil: nobody does.
func Serve(ctx context.Context, listener net.Listener, server *kms.Server, logger *slog.Logger) error {
	s := newServer(server, logger)
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), graceTime)
	defer cancel()
	if err := s.Shutdown(grace); err != nil {
		s.Close()
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func newServer(server *kms.Server, logger *slog.Logger) *http.Server {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &http.Server{
		Handler:        Handler(server),
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(logger.Handler(), slog.LevelError),
	}
}

// Handler returns the protocol of the socket. Whoever reaches it may do all.
func Handler(server *kms.Server) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /principals", func(w http.ResponseWriter, r *http.Request) {
		var p kms.Principal
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			err = json.Unmarshal(body, &p)
		}
		if err != nil {
			answer(w, nil, &protocolError{Code: codeInvalid, Message: "the request is not JSON of a principal"})
			return
		}
		credentials, err := server.AddPrincipal(r.Context(), p)
		answer(w, credentials, err)
	})
	mux.HandleFunc("GET /principals", func(w http.ResponseWriter, r *http.Request) {
		list, err := server.ListPrincipals(r.Context())
		answer(w, principalList{list}, err)
	})
	mux.HandleFunc("DELETE /principals", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		removed, err := server.RemovePrincipal(r.Context(), query.Get("name"), query.Get("account"))
		answer(w, removed, err)
	})
	handleIdentities(mux, server)
	mux.HandleFunc("GET /decisions", func(w http.ResponseWriter, r *http.Request) {
		event, err := server.Explain(r.Context(), r.URL.Query().Get("id"))
		answer(w, event, err)
	})
	addStoreRoutes(mux, server)
	mux.HandleFunc("GET /audit-heads", func(w http.ResponseWriter, r *http.Request) {
		heads, err := server.AuditHeads(r.Context())
		answer(w, heads, err)
	})
	return mux
}

// handleIdentities adds what changes principals, access keys and token keys.
func handleIdentities(mux *http.ServeMux, server *kms.Server) {
	mux.HandleFunc("GET /principal", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		found, err := server.FindPrincipal(r.Context(), query.Get("name"), query.Get("account"))
		answer(w, found, err)
	})
	mux.HandleFunc("PATCH /principal", func(w http.ResponseWriter, r *http.Request) {
		var change kms.PrincipalChange
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&change); err != nil {
			answer(w, nil, &protocolError{Code: codeInvalid, Message: "the request is not JSON of a change of a principal"})
			return
		}
		query := r.URL.Query()
		changed, err := server.ChangePrincipal(r.Context(), query.Get("name"), query.Get("account"), change)
		answer(w, changed, err)
	})
	mux.HandleFunc("POST /access-keys", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		credentials, err := server.CreateAccessKey(r.Context(), query.Get("name"), query.Get("account"))
		answer(w, credentials, err)
	})
	mux.HandleFunc("PATCH /access-keys", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		active, err := strconv.ParseBool(query.Get("active"))
		if err != nil {
			answer(w, nil, &protocolError{Code: codeInvalid, Message: "active is neither true nor false"})
			return
		}
		changed, err := server.SetAccessKeyActive(r.Context(), query.Get("id"), active)
		answer(w, changed, err)
	})
	mux.HandleFunc("DELETE /access-keys", func(w http.ResponseWriter, r *http.Request) {
		changed, err := server.DeleteAccessKey(r.Context(), r.URL.Query().Get("id"))
		answer(w, changed, err)
	})
	mux.HandleFunc("GET /token-keys", func(w http.ResponseWriter, r *http.Request) {
		keys, err := server.ListTokenKeys(r.Context())
		answer(w, keys, err)
	})
	mux.HandleFunc("POST /token-keys", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, server.RotateTokenKey(r.Context(), r.URL.Query().Get("retire") == "true"))
	})
}

type principalList struct {
	Principals []kms.PrincipalInfo `json:"principals"`
}

// Codes of errors on the socket.
const (
	codeInvalid    = "invalid"
	codeExists     = "exists"
	codeNoSuch     = "no-such-principal"
	codeNoKey      = "no-such-access-key"
	codeNoDecision = "no-such-decision"
	codeFailed     = "failed"
)

// codes are the errors of package kms that a client can tell apart.
var codes = map[string]error{
	codeInvalid:    kms.ErrPrincipal,
	codeExists:     kms.ErrPrincipalExists,
	codeNoSuch:     kms.ErrNoPrincipal,
	codeNoKey:      kms.ErrAccessKey,
	codeNoDecision: kms.ErrNoDecision,
}

// A protocolError is an error as it is on the socket.
type protocolError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Problems are those of the [reason.Error] in the error, if there is one.
	Problems []reason.Problem `json:"problems,omitempty"`
}

func (e *protocolError) Error() string { return e.Message }

// Unwrap returns the error of package kms that the code stands for, and the
// refusal with its reason.
func (e *protocolError) Unwrap() []error {
	var errs []error
	if known, ok := codes[e.Code]; ok {
		errs = append(errs, known)
	}
	if len(e.Problems) > 0 {
		errs = append(errs, &reason.Error{Problems: e.Problems})
	}
	return errs
}

func answer(w http.ResponseWriter, out any, err error) {
	status := http.StatusOK
	if err != nil {
		status = http.StatusBadRequest
		e, ok := errors.AsType[*protocolError](err)
		if !ok {
			e = &protocolError{Code: codeFailed, Message: err.Error()}
			if refused, ok := errors.AsType[*reason.Error](err); ok {
				e.Problems = refused.Problems
			}
			for code, known := range codes {
				if errors.Is(err, known) {
					e.Code = code
				}
			}
		}
		out = e
	}
	body, err := json.Marshal(out)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"code":"failed","message":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(body)
}
