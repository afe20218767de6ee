// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/kmsconfig"
	"github.com/cretula/cretula/internal/kmsserve"
	"github.com/cretula/cretula/internal/sigv4"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/kmsserver"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/pcr"
)

// benchServerCommand is the hidden command of the process that is measured.
const benchServerCommand = "kms-server"

// A benchJob is what the process is told first.
type benchJob struct {
	Dir string `json:"dir"`
	// Root is the emulator's root, DER.
	Root []byte `json:"root"`
	// Now is when Requests and Documents were made; Account is whose all is.
	Now     time.Time `json:"now"`
	Account string    `json:"account"`
	// Secrets are those of the access keys, for the server that verifies
	// signatures only.
	Secrets map[string]string `json:"secrets"`
	// AnswerBytes is how much the service answers to a Decrypt without a document.
	AnswerBytes int `json:"answer_bytes"`
	// Requests are attested Decrypts as they are sent, Documents those in them: a
	// processor that saw the same one again and again would know its way.
	Requests  [][]byte `json:"requests"`
	Documents [][]byte `json:"documents"`
	// Secret is the plaintext.
	Secret []byte `json:"secret"`
	// Policy is that of the key KeyARN; Registers are those of the document.
	Policy    string  `json:"policy"`
	KeyARN    string  `json:"key_arn"`
	Registers pcr.Set `json:"registers"`
}

// A benchReady answers the job with the addresses of the servers.
type benchReady struct {
	Service   string `json:"service"`
	Signature string `json:"signature"`
}

// benchCPU asks for the processor time of the process so far.
const benchCPU = "cpu"

// A benchOrder asks for the processor time of What, done N times; the answer is
// nanoseconds for one.
type benchOrder struct {
	What string `json:"what"`
	N    int    `json:"n"`
}

func newBenchServerCommand(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:    benchServerCommand,
		Short:  "The server that 'bench kms' measures",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			relaxCollector() // as 'cretula kms serve' does
			orders := json.NewDecoder(env.Stdin)
			var job benchJob
			if err := orders.Decode(&job); err != nil {
				return err
			}
			return job.serve(cmd.Context(), orders, json.NewEncoder(env.Stdout))
		},
	}
}

// serve runs the servers and obeys until the orders end.
func (j *benchJob) serve(ctx context.Context, orders *json.Decoder, answers *json.Encoder) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()
	root, err := rootkey.OpenFile(filepath.Join(j.Dir, datadir.RootKeyFile))
	if err != nil {
		return err
	}
	signature, err := j.signatureOnly()
	if err != nil {
		return err
	}
	listener, err := kmsserver.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	ready := benchReady{Signature: listener.Addr().String()}
	serving.Go(func() { kmsserver.Serve(ctx, listener, signature, nil) })
	address, failed, err := j.service(ctx, &serving)
	if err != nil {
		return err
	}
	select {
	case ready.Service = <-address:
	case err := <-failed:
		return err
	}
	loops, err := j.loops(root)
	if err != nil {
		return err
	}
	if err := answers.Encode(ready); err != nil {
		return err
	}
	return obey(loops, orders, answers)
}

// service runs the key service as 'cretula kms serve' does of a file that says no more
// than it must: with limits and figures. Its log goes nowhere, but is written. There
// comes either its address or an error.
func (j *benchJob) service(ctx context.Context, serving *sync.WaitGroup) (address chan string, failed chan error, err error) {
	config, err := kmsconfig.Folder(j.Dir)
	if err != nil {
		return nil, nil, err
	}
	roots := filepath.Join(j.Dir, "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: j.Root}), 0o600); err != nil {
		return nil, nil, err
	}
	config.Listen, config.Attestation.Roots = "127.0.0.1:0", []kmsconfig.Path{kmsconfig.Path(roots)}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, nil, err
	}
	address, failed = make(chan string, 1), make(chan error, 1)
	serving.Go(func() {
		defer null.Close()
		failed <- kmsserve.Run(ctx, config, kmsserve.Options{
			Log: null, Getenv: func(string) string { return "" },
			Ready: func(a kmsserve.Addresses) { address <- a.KMS.String() },
		})
	})
	return address, failed, nil
}

// benchRequestID stands for the id of a request.
const benchRequestID = "00000000-0000-4000-8000-000000000000"

// verifier knows the access keys by heart.
func (j *benchJob) verifier(now func() time.Time) (*sigv4.Verifier[struct{}], error) {
	return sigv4.New(sigv4.Options[struct{}]{
		Service: "kms", Now: now,
		Lookup: func(_ context.Context, id, _ string) (sigv4.Secret, struct{}, error) {
			secret, ok := j.Secrets[id]
			if !ok {
				return sigv4.Secret{}, struct{}{}, sigv4.ErrUnknown
			}
			return sigv4.Secret{Version: 1, Read: func() ([]byte, error) { return []byte(secret), nil }}, struct{}{}, nil
		},
	})
}

// signatureOnly is the server that others are compared with. It answers with as many
// bytes, those of the head included: the rest of HTTP is not what is compared.
func (j *benchJob) signatureOnly() (http.Handler, error) {
	verifier, err := j.verifier(nil)
	if err != nil {
		return nil, err
	}
	answer := bytes.Repeat([]byte{' '}, j.AnswerBytes)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, max(0, min(r.ContentLength, 1<<20)))
		_, err := io.ReadFull(r.Body, body)
		if err == nil {
			_, err = verifier.Verify(r.Context(), r, body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("X-Amzn-Requestid", benchRequestID)
		w.Header().Set("Content-Type", kmsapi.ContentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		w.Header().Set("Cache-Control", "no-store")
		w.Write(answer)
	}), nil
}

// loops are the calls that are measured by themselves: they are given the number
// of the call.
func (j *benchJob) loops(root rootkey.Key) (map[string]func(int) error, error) {
	verify, err := j.signatureChecks()
	if err != nil {
		return nil, err
	}
	documents, key, err := j.documentChecks()
	if err != nil {
		return nil, err
	}
	crypt, err := j.cryptography(root, key)
	if err != nil {
		return nil, err
	}
	decide, err := j.decision()
	if err != nil {
		return nil, err
	}
	return map[string]func(int) error{
		benchSigV4:    func(i int) error { return verify[i%len(verify)]() },
		benchDecision: func(int) error { return decide() },
		benchCryptography: func(i int) error {
			for _, f := range []func() error{verify[i%len(verify)], documents[i%len(documents)], crypt} {
				if err := f(); err != nil {
					return err
				}
			}
			return nil
		},
	}, nil
}

// signatureChecks returns the verifications of the requests' signatures.
func (j *benchJob) signatureChecks() (checks []func() error, err error) {
	verifier, err := j.verifier(func() time.Time { return j.Now })
	if err != nil {
		return nil, err
	}
	for _, raw := range j.Requests {
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		checks = append(checks, func() error {
			_, err := verifier.Verify(request.Context(), request, body)
			return err
		})
	}
	return checks, nil
}

// documentChecks returns the verifications of the documents' signatures, and the
// key that is in all of them.
func (j *benchJob) documentChecks() (checks []func() error, key *rsa.PublicKey, err error) {
	for _, document := range j.Documents {
		check, err := coseCheck(document)
		if err != nil {
			return nil, nil, err
		}
		checks = append(checks, check)
	}
	document, err := attestation.Parse(j.Documents[0])
	if err != nil {
		return nil, nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(document.UnverifiedPublicKey())
	if err != nil {
		return nil, nil, err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, nil, fmt.Errorf("the document's key is a %T", parsed)
	}
	return checks, key, nil
}

// obey does what it is told until the orders end. A loop runs on all processors at
// once, because so do requests: two threads of one core are slower than one.
func obey(loops map[string]func(int) error, orders *json.Decoder, answers *json.Encoder) error {
	for {
		var order benchOrder
		if err := orders.Decode(&order); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		before, err := processCPU()
		if err != nil {
			return err
		}
		if order.What == benchCPU {
			if err := answers.Encode(before); err != nil {
				return err
			}
			continue
		}
		workers := runtime.GOMAXPROCS(0)
		if err := repeat(loops[order.What], workers, order.N); err != nil {
			return fmt.Errorf("%s: %w", order.What, err)
		}
		after, err := processCPU()
		if err != nil {
			return err
		}
		if err := answers.Encode((after - before) / int64(workers*order.N)); err != nil {
			return err
		}
	}
}

// repeat has each worker do it n times.
func repeat(f func(int) error, workers, n int) error {
	var wg sync.WaitGroup
	failures := make(chan error, workers)
	for range workers {
		wg.Go(func() {
			for i := range n {
				if err := f(i); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failures:
		return err
	default:
		return nil
	}
}
