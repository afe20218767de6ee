// SPDX-License-Identifier: Apache-2.0

package attesthttp_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/attesthttp"
	"github.com/cretula/cretula/attestation/challenge"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/attestation/reference"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
)

// A service that answers only release 1.4.2 of an application, and that release
// as its client, over TLS. The security module is an emulator's; a real service
// leaves Roots out, and a real enclave opens its module by nsm.Open.
func Example() {
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		log.Fatal(err)
	}
	image := pcr.Sum([]byte("orders 1.4.2"))

	// The service.
	releases, err := reference.Parse([]byte(`{"schema": "cretula.reference.v1", "releases": [
		{"name": "orders 1.4.2", "pcrs": {"PCR0": "` + image.String() + `"}}]}`))
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{authority.Root()}})
	if err != nil {
		log.Fatal(err)
	}
	key := make([]byte, challenge.KeySize)
	rand.Read(key)
	challenges, err := challenge.New(challenge.Options{Key: key})
	if err != nil {
		log.Fatal(err)
	}
	guard, err := attesthttp.New(attesthttp.Options{
		Verifier: verifier, Releases: releases, Challenges: challenges, Binding: attesthttp.BindTLS,
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/attestation/challenge", guard.ServeChallenge)
	mux.HandleFunc("/attestation/document", guard.ServeDocument)
	mux.Handle("/", guard.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		attested, _ := attesthttp.FromContext(r.Context())
		fmt.Fprintf(w, "hello, %s", attested.Release)
	})))
	server := httptest.NewUnstartedServer(mux)
	server.Config.ConnState = guard.ConnState
	server.StartTLS()
	defer server.Close()

	// The enclave.
	var registers pcr.Set
	registers.Put(0, image)
	registers.Put(1, pcr.Sum([]byte("kernel")))
	registers.Put(2, pcr.Sum([]byte("application")))
	device, err := softnsm.New(softnsm.Config{Authority: authority, PCRs: registers})
	if err != nil {
		log.Fatal(err)
	}
	module := nsm.Client{Device: device}
	transport, err := attesthttp.NewTransport(attesthttp.TransportOptions{
		Server: server.URL,
		TLS:    server.Client().Transport.(*http.Transport).TLSClientConfig,
		Attest: func(ctx context.Context, r attesthttp.Request) ([]byte, error) {
			return module.Attest(ctx, nsm.AttestationRequest(r))
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get(server.URL + "/orders")
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.StatusCode, string(body))
	// Output: 200 hello, orders 1.4.2
}
