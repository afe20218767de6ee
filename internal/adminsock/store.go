// SPDX-License-Identifier: Apache-2.0

package adminsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/cretula/cretula/kms"
)

// The store as a whole:
//
//	POST /backup  → the file of package backup; the trailers have the number of its
//	              rows or, if it is not whole, why
//	POST /check   → the kms.StoreReport
const (
	trailerRows  = "Cretula-Rows"
	trailerError = "Cretula-Error"
)

// workTime bounds the work before an answer begins, and the sending of each part
// of it, where all of the store is read.
const workTime = 10 * time.Minute

func addStoreRoutes(mux *http.ServeMux, server *kms.Server) {
	mux.HandleFunc("POST /backup", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", trailerRows+", "+trailerError)
		w.Header().Set("Content-Type", "application/octet-stream")
		rows, err := server.Backup(r.Context(), &patientWriter{w, http.NewResponseController(w)})
		if err != nil {
			w.Header().Set(trailerError, strconv.Quote(err.Error()))
			return
		}
		w.Header().Set(trailerRows, strconv.FormatUint(rows, 10))
	})
	mux.HandleFunc("POST /check", func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(workTime)); err != nil {
			answer(w, nil, err)
			return
		}
		report, err := server.CheckStore(r.Context())
		answer(w, report, err)
	})
}

// A patientWriter gives each part of an answer its own time.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w *patientWriter) Write(b []byte) (int, error) {
	if err := w.control.SetWriteDeadline(time.Now().Add(workTime)); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(b)
}

// post is do for what takes long; the answer is the caller's to close.
func (c *Client) post(ctx context.Context, target string) (*http.Response, error) {
	patient := &http.Client{Transport: c.http.Transport}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin"+target, nil)
	if err != nil {
		return nil, err
	}
	return patient.Do(r)
}

// Backup is [kms.Server.Backup]. After an error what was written to out is no
// backup.
func (c *Client) Backup(ctx context.Context, out io.Writer) (rows uint64, err error) {
	r, err := c.post(ctx, "/backup")
	if err != nil {
		return 0, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("adminsock: the key service answered %s", r.Status)
	}
	if _, err := io.Copy(out, r.Body); err != nil {
		return 0, err
	}
	if text := r.Trailer.Get(trailerError); text != "" {
		message, err := strconv.Unquote(text)
		if err != nil {
			message = text
		}
		return 0, errors.New(message)
	}
	rows, err = strconv.ParseUint(r.Trailer.Get(trailerRows), 10, 64)
	if err != nil {
		return 0, errors.New("adminsock: the key service ended before the backup did")
	}
	return rows, nil
}

// CheckStore is [kms.Server.CheckStore].
func (c *Client) CheckStore(ctx context.Context) (*kms.StoreReport, error) {
	r, err := c.post(ctx, "/check")
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	out := new(kms.StoreReport)
	return out, decode(r, out)
}
