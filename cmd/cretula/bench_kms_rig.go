// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
)

// A benchRig is what is measured: two stores, equal but for the number of their
// keys, with a server for each, so that the same request is good for both.
type benchRig struct {
	bench     kmsBench
	env       *cli.Env
	dir       string
	authority *issuer.Authority
	service   benchService
	enclave   *rsa.PrivateKey
	registers pcr.Set
	secret    []byte // what is decrypted
	shape     string // of the answers without a document
	small     *benchChild
	large     *benchChild
}

// Folders of the rig, for the store with two keys and for that with many.
const (
	smallStore = "small"
	largeStore = "large"
)

// benchService is what the coordinator knows of the service it has set up.
type benchService struct {
	reader, attested kms.Credentials
	// plainBlob is of a key with the default policy, sealedBlob of one that only
	// the enclave may use.
	plainBlob, sealedBlob []byte
	keyARN, policy        string
	answerBytes           int // of the answer to a Decrypt without a document
}

func newBenchRig(ctx context.Context, env *cli.Env, b kmsBench) (_ *benchRig, err error) {
	r := &benchRig{bench: b, env: env, secret: make([]byte, 32)}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	rand.Read(r.secret)
	for i := range pcr.Index(16) {
		r.registers.Put(i, pcr.Sum([]byte{byte(i)}))
	}
	if r.enclave, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	if r.authority, err = issuer.New(issuer.Options{}); err != nil {
		return nil, err
	}
	if r.dir, err = os.MkdirTemp("", "cretula-bench-"); err != nil {
		return nil, err
	}
	small, large := filepath.Join(r.dir, smallStore), filepath.Join(r.dir, largeStore)
	if err := r.setUp(ctx, small); err != nil {
		return nil, err
	}
	r.progress("filling the store with %d keys", b.keys)
	if err := copyStore(large, small); err != nil {
		return nil, err
	}
	if err := fillStore(ctx, large, r.service.keyARN, b.keys); err != nil {
		return nil, err
	}
	return r, nil
}

// restart starts the servers, those that run anew, and has them warm up.
func (r *benchRig) restart(ctx context.Context) (err error) {
	r.stop()
	if r.small, err = r.startChild(ctx, filepath.Join(r.dir, smallStore)); err != nil {
		return err
	}
	if r.large, err = r.startChild(ctx, filepath.Join(r.dir, largeStore)); err != nil {
		return err
	}
	return r.round(ctx, 0, kmsSamples{}, kmsSamples{})
}

func (r *benchRig) stop() {
	for _, c := range []**benchChild{&r.small, &r.large} {
		if *c != nil {
			(*c).close()
			*c = nil
		}
	}
}

func (r *benchRig) close() {
	r.stop()
	if r.dir != "" {
		os.RemoveAll(r.dir)
	}
	r.progress("")
}

// progress shows on a terminal what is being done.
func (r *benchRig) progress(format string, args ...any) {
	if cli.IsTerminal(r.env.Stderr) {
		fmt.Fprintf(r.env.Stderr, "\r\x1b[K"+format, args...)
	}
}

// copyStore copies the files of a service that is not running.
func copyStore(to, from string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, name := range []string{datadir.StoreFile, datadir.RootKeyFile} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			return err
		}
	}
	return copyFolder(filepath.Join(to, datadir.AuditDir), filepath.Join(from, datadir.AuditDir))
}

// documents makes so many documents of the enclave, of one leaf.
func (r *benchRig) documents(n int) ([][]byte, error) {
	key, err := x509.MarshalPKIXPublicKey(&r.enclave.PublicKey)
	if err != nil {
		return nil, err
	}
	id := issuer.NewModuleID("i-0123456789abcdef0", r.authority.Root().NotBefore, nil)
	out := make([][]byte, n)
	for i := range out {
		out[i], err = r.authority.Issue(issuer.Content{ModuleID: id, PCRs: r.registers, PublicKey: key, IndefiniteMap: true})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// round measures everything over each store. A sample is the mean of the round's turns.
func (r *benchRig) round(ctx context.Context, round int, small, large kmsSamples) error {
	documents, err := r.documents(r.bench.attested)
	if err != nil {
		return err
	}
	plain, err := r.service.sign(ctx, r.bench.plain, nil)
	if err != nil {
		return err
	}
	attested, err := r.service.sign(ctx, r.bench.attested, documents)
	if err != nil {
		return err
	}
	requests := map[string][][]byte{benchSignature: plain, benchDecrypt: plain, benchAttested: attested}
	turns := []struct {
		child   *benchChild
		samples kmsSamples
		sums    map[string]int64
	}{{r.small, small, map[string]int64{}}, {r.large, large, map[string]int64{}}}
	times := map[string]int64{}
	for _, kind := range benchTurns {
		times[kind]++
		for i := range turns {
			t := turns[(i+round)%len(turns)]
			cpu, err := r.turn(t.child, kind, requests[kind])
			if err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			t.sums[kind] += cpu
		}
	}
	for _, t := range turns {
		for kind, sum := range t.sums {
			t.samples[kind] = append(t.samples[kind], sum/times[kind])
		}
	}
	return nil
}

// turn measures one thing in one server: the processor time of a request, or of a call
// in its process.
func (r *benchRig) turn(c *benchChild, kind string, requests [][]byte) (int64, error) {
	switch kind {
	case benchCryptography:
		return c.ask(kind, r.bench.loop)
	case benchSigV4, benchDecision:
		return c.ask(kind, r.bench.short)
	}
	sender := c.service
	if kind == benchSignature {
		sender = c.signature
	}
	before, err := c.ask(benchCPU, 0)
	if err != nil {
		return 0, err
	}
	answer, err := sender.send(requests)
	if err != nil {
		return 0, err
	}
	after, err := c.ask(benchCPU, 0)
	if err != nil {
		return 0, err
	}
	return (after - before) / int64(len(requests)), r.checkAnswer(kind, answer)
}

// shape is what answers that are compared have in common: the names of their headers and
// the lengths of all values, and how long the body is.
func (a benchAnswer) shape() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		fmt.Fprintf(&b, "%s: %d, ", name, len(strings.Join(a.header[name], ", ")))
	}
	fmt.Fprintf(&b, "body: %d", len(a.body))
	return b.String()
}

// checkAnswer looks whether the server did what is being measured.
func (r *benchRig) checkAnswer(kind string, answer benchAnswer) error {
	if kind != benchAttested {
		if shape := answer.shape(); r.shape == "" {
			r.shape = shape
		} else if r.shape != shape {
			return fmt.Errorf("answers with %s are compared with others of %s", shape, r.shape)
		}
	}
	var out struct{ Plaintext, CiphertextForRecipient []byte }
	if kind == benchSignature {
		return nil
	}
	if err := json.Unmarshal(answer.body, &out); err != nil {
		return err
	}
	if kind == benchAttested {
		opened, err := cms.Open(r.enclave, out.CiphertextForRecipient)
		if err != nil {
			return err
		}
		out.Plaintext = opened
	}
	if !bytes.Equal(out.Plaintext, r.secret) {
		return errors.New("the answer is not what was encrypted")
	}
	return nil
}

// recordsPerSync counts in the small store's audit log how many records were
// made durable together: they have the same member "synced".
func (r *benchRig) recordsPerSync() (float64, error) {
	segments, err := filepath.Glob(filepath.Join(r.dir, smallStore, datadir.AuditDir, "0*.jsonl"))
	if err != nil {
		return 0, err
	}
	records, syncs, last := 0, 0, int64(-1)
	for _, name := range segments {
		text, err := os.ReadFile(name)
		if err != nil {
			return 0, err
		}
		for line := range bytes.Lines(text) {
			var seq, synced int64
			if _, err := fmt.Sscanf(string(line[:min(len(line), 64)]), `{"seq":%d,"synced":%d,`, &seq, &synced); err != nil {
				return 0, err
			}
			records++
			if synced != last {
				syncs, last = syncs+1, synced
			}
		}
	}
	return float64(records) / float64(syncs), nil
}

// A benchChild is a server in a process of its own.
type benchChild struct {
	process   *exec.Cmd
	input     io.WriteCloser
	orders    *json.Encoder
	answers   *json.Decoder
	service   *benchSender
	signature *benchSender
}

// startChild runs a server over the store in dir.
func (r *benchRig) startChild(ctx context.Context, dir string) (_ *benchChild, err error) {
	documents, err := r.documents(benchConnections)
	if err != nil {
		return nil, err
	}
	requests, err := r.service.sign(ctx, benchConnections, documents)
	if err != nil {
		return nil, err
	}
	program := r.bench.program
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	c := &benchChild{process: exec.CommandContext(ctx, program, "bench", benchServerCommand)}
	c.process.Stderr = r.env.Stderr
	if c.input, err = c.process.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := c.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.orders, c.answers = json.NewEncoder(c.input), json.NewDecoder(output)
	if err := c.process.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	job := benchJob{
		Dir: dir, Root: r.authority.Root().Raw, Now: time.Now(), Account: benchAccount,
		Secrets: map[string]string{
			r.service.reader.AccessKeyID:   r.service.reader.SecretAccessKey,
			r.service.attested.AccessKeyID: r.service.attested.SecretAccessKey,
		},
		AnswerBytes: r.service.answerBytes, Requests: requests, Documents: documents, Secret: r.secret,
		Policy: r.service.policy, KeyARN: r.service.keyARN, Registers: r.registers,
	}
	if err := c.orders.Encode(job); err != nil {
		return nil, err
	}
	var ready benchReady
	if err := c.answers.Decode(&ready); err != nil {
		return nil, fmt.Errorf("the server did not start: %w", err)
	}
	if c.service, err = dialBench(ctx, ready.Service); err != nil {
		return nil, err
	}
	c.signature, err = dialBench(ctx, ready.Signature)
	return c, err
}

// ask has the process do something n times and returns the nanoseconds that it
// answers.
func (c *benchChild) ask(what string, n int) (int64, error) {
	if err := c.orders.Encode(benchOrder{what, n}); err != nil {
		return 0, err
	}
	var ns int64
	err := c.answers.Decode(&ns)
	return ns, err
}

func (c *benchChild) close() {
	for _, s := range []*benchSender{c.service, c.signature} {
		if s != nil {
			s.close()
		}
	}
	c.input.Close() // which ends it
	c.process.Wait()
}
