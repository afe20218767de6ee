// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"math/big"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/p384"
	"github.com/cretula/cretula/pcr"
)

// benchRounds is how often each thing is measured, in turn with the others.
const benchRounds = 500

func newBenchCommand(env *cli.Env) *cobra.Command {
	return newNounCommand("bench", "Measure on this machine",
		newBenchVerify(env), newBenchKMS(env), newBenchServerCommand(env), newBenchEIF(env), newBenchEIFProcess(env))
}

func newBenchVerify(env *cli.Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Measure what the verification of a document costs, in signature checks",
		Long: `Measures, on one processor, the median times of 500 runs of each: one bare check of
a P-384 signature, by the chosen implementation and by Go's own, and the whole
verification of a document by a verifier that knows the certificates (warm), knows
all but the leaf (new leaf), or knows none (cold). The bare check is that of the
document's own signature, its hash excluded; making a verifier is not counted. The runs take turns, so that
another load on the machine burdens all of them alike; the ratios are what counts.`,
		Example: "  $ cretula bench verify",
		Args:    exactArguments(),
		RunE: func(*cobra.Command, []string) error {
			result, err := benchVerify(benchRounds)
			if err != nil {
				return err
			}
			if asJSON {
				return env.PrintJSON(result)
			}
			return printBench(env, result)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// A benchResult is what "bench verify --json" prints.
type benchResult struct {
	Schema string `json:"schema"`
	// Implementation is that of the signature checks: "circl" or "std".
	Implementation string `json:"implementation"`
	Go             string `json:"go"`
	Platform       string `json:"platform"`
	DocumentBytes  int    `json:"document_bytes"`
	Rounds         int    `json:"rounds"`
	// Medians are in nanoseconds, by name.
	Medians map[string]int64 `json:"medians_ns"`
	// Allocations are those of one run.
	Allocations map[string]benchAllocations `json:"allocations"`
	Targets     []benchTarget               `json:"targets"`
}

type benchAllocations struct {
	Objects uint64 `json:"objects"`
	Bytes   uint64 `json:"bytes"`
}

// A benchTarget is a figure with the limit it is to keep.
type benchTarget struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	// Limit is the least value if AtLeast, else the greatest.
	Limit   float64 `json:"limit"`
	AtLeast bool    `json:"at_least"`
	Met     bool    `json:"met"`
}

// missed is the exit status 1 if a target is; nil if all are met.
func missed(targets []benchTarget) error {
	if slices.ContainsFunc(targets, func(t benchTarget) bool { return !t.Met }) {
		return &cli.ExitError{Code: 1}
	}
	return nil
}

// A benchCase is one thing that is measured. prepare runs before the clock
// starts.
type benchCase struct {
	name    string
	prepare func() error
	run     func() error
}

func benchVerify(rounds int) (*benchResult, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cases, size, err := benchCases()
	if err != nil {
		return nil, err
	}
	times := make([][]int64, len(cases))
	for round := range rounds {
		for i := range cases {
			i := (i + round) % len(cases)
			if err := cases[i].prepare(); err != nil {
				return nil, err
			}
			start := time.Now()
			if err := cases[i].run(); err != nil {
				return nil, fmt.Errorf("%s: %w", cases[i].name, err)
			}
			times[i] = append(times[i], time.Since(start).Nanoseconds())
		}
	}
	result := &benchResult{
		Schema: "cretula.bench.verify.v1", Implementation: p384.Fastest.String(), Go: runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, DocumentBytes: size, Rounds: rounds,
		Medians: map[string]int64{}, Allocations: map[string]benchAllocations{},
	}
	for i, c := range cases {
		slices.Sort(times[i])
		result.Medians[c.name] = times[i][len(times[i])/2]
		if result.Allocations[c.name], err = measureAllocations(c); err != nil {
			return nil, err
		}
	}
	result.judge()
	return result, nil
}

// measureAllocations returns what one run allocates: the least of several, since
// everything else in the process is counted too.
func measureAllocations(c benchCase) (benchAllocations, error) {
	const runs = 20
	least := benchAllocations{math.MaxUint64, math.MaxUint64}
	for range runs {
		var before, after runtime.MemStats
		if err := c.prepare(); err != nil {
			return least, err
		}
		runtime.ReadMemStats(&before)
		err := c.run()
		runtime.ReadMemStats(&after)
		if err != nil {
			return least, err
		}
		least.Objects = min(least.Objects, after.Mallocs-before.Mallocs)
		least.Bytes = min(least.Bytes, after.TotalAlloc-before.TotalAlloc)
	}
	return least, nil
}

func (r *benchResult) judge() {
	ratio := func(a, b string) float64 { return float64(r.Medians[a]) / float64(r.Medians[b]) }
	add := func(name string, value, limit float64, atLeast bool) {
		met := value <= limit
		if atLeast {
			met = value >= limit
		}
		r.Targets = append(r.Targets, benchTarget{name, value, limit, atLeast, met})
	}
	add("warm / one signature check", ratio("warm", "raw"), 1.25, false)
	add("cold / one signature check", ratio("cold", "raw"), 5.5, false)
	if r.Implementation != p384.Std.String() {
		add("cold by std / cold", ratio("cold_std", "cold"), 1.7, true)
	}
	warm, raw := r.Allocations["warm"], r.Allocations["raw"]
	add("objects allocated warm beyond the check", float64(warm.Objects)-float64(raw.Objects), 100, false)
	add("bytes allocated warm beyond the check", float64(warm.Bytes)-float64(raw.Bytes), 12<<10, false)
}

func printBench(env *cli.Env, r *benchResult) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, %s, P-384 by %s; a document of %d bytes, medians of %d\n\n", r.Go, r.Platform, r.Implementation, r.DocumentBytes, r.Rounds)
	for _, row := range []struct{ name, text string }{
		{"raw", "one signature check"}, {"raw_std", "one signature check by std"}, {"warm", "warm"},
		{"new_leaf", "warm, the leaf is new"}, {"cold", "cold"}, {"cold_std", "cold by std"},
	} {
		a := r.Allocations[row.name]
		fmt.Fprintf(&b, "  %-28s%8.3f ms  %6.2f x  %4d objects  %6d bytes\n", row.text, float64(r.Medians[row.name])/1e6,
			float64(r.Medians[row.name])/float64(r.Medians["raw"]), a.Objects, a.Bytes)
	}
	fmt.Fprintln(&b)
	for _, t := range r.Targets {
		bound, verdict := "at most", "met"
		if t.AtLeast {
			bound = "at least"
		}
		if !t.Met {
			verdict = "MISSED"
		}
		fmt.Fprintf(&b, "  %-42s%9.2f  %s %g: %s\n", t.Name, t.Value, bound, t.Limit, verdict)
	}
	_, err := env.Stdout.Write(b.Bytes())
	return err
}

// benchCases makes two documents of one enclave with different leaves, and what
// is to be measured of them.
func benchCases() (cases []benchCase, size int, err error) {
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		return nil, 0, err
	}
	document, err := benchDocument(authority)
	if err != nil {
		return nil, 0, err
	}
	newVerifier := func(p attestation.P384) (*attestation.Verifier, error) {
		return attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{authority.Root()}, P384: p})
	}
	e := attestation.Expectation{AllowAnyImage: true, AllowDocumentTime: true}
	warm, err := newVerifier(attestation.P384Fastest)
	if err != nil {
		return nil, 0, err
	}
	if _, err := warm.Verify(document, e); err != nil {
		return nil, 0, err
	}
	var fresh *attestation.Verifier
	var other []byte
	verify := func(v **attestation.Verifier, document *[]byte) func() error {
		return func() error {
			_, err := (*v).Verify(*document, e)
			return err
		}
	}
	freshVerifier := func(p attestation.P384) func() (err error) {
		return func() (err error) {
			fresh, err = newVerifier(p)
			return err
		}
	}
	raw, err := rawChecks(document)
	if err != nil {
		return nil, 0, err
	}
	return append(raw,
		benchCase{"warm", func() error { return nil }, verify(&warm, &document)},
		benchCase{"new_leaf", func() (err error) { other, err = benchDocument(authority); return err }, verify(&warm, &other)},
		benchCase{"cold", freshVerifier(attestation.P384Fastest), verify(&fresh, &document)},
		benchCase{"cold_std", freshVerifier(attestation.P384Std), verify(&fresh, &document)},
	), len(document), nil
}

func benchDocument(authority *issuer.Authority) ([]byte, error) {
	var set pcr.Set
	for i := range pcr.Index(16) {
		set.Put(i, pcr.Sum([]byte{byte(i)}))
	}
	id := issuer.NewModuleID("i-0123456789abcdef0", time.Now(), rand.Reader)
	key, err := x509.MarshalPKIXPublicKey(benchRSA())
	if err != nil {
		return nil, err
	}
	return authority.Issue(issuer.Content{ModuleID: id, PCRs: set, PublicKey: key, UserData: make([]byte, 32), Nonce: make([]byte, 32), IndefiniteMap: true})
}

// benchRSA is a public key of the usual size; nobody knows a private one.
func benchRSA() *rsa.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	return &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 65537}
}

// A documentSignature is what a document's own signature is checked with.
type documentSignature struct {
	key    *ecdsa.PublicKey
	signed []byte // the Sig_structure of RFC 9052 §4.4
	r, s   *big.Int
}

// readSignature takes apart a document of the issuer.
func readSignature(document []byte) (*documentSignature, error) {
	u, err := attestation.Parse(document)
	if err != nil {
		return nil, err
	}
	ders := u.UnverifiedCertificates()
	leaf, err := x509.ParseCertificate(ders[len(ders)-1])
	if err != nil {
		return nil, err
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the leaf has another key")
	}
	// An array of four: 44 a1013822, a0, the payload, 5860 and r and s.
	end := len(document) - 98
	return &documentSignature{
		key:    key,
		signed: slices.Concat([]byte("\x84\x6aSignature1"), document[1:6], []byte{0x40}, document[7:end]),
		r:      new(big.Int).SetBytes(document[end+2 : end+50]), s: new(big.Int).SetBytes(document[end+50:]),
	}, nil
}

// rawChecks are bare checks of the document's own signature, since what a check
// costs depends on the signature a little. The digest is included in neither.
func rawChecks(document []byte) ([]benchCase, error) {
	signature, err := readSignature(document)
	if err != nil {
		return nil, err
	}
	digest := sha512.Sum384(signature.signed)
	check := func(i p384.Implementation) func() error {
		return func() error {
			if !i.Verify(signature.key, digest[:], signature.r, signature.s) {
				return errors.New("a good signature is refused")
			}
			return nil
		}
	}
	nothing := func() error { return nil }
	return []benchCase{{"raw", nothing, check(p384.Fastest)}, {"raw_std", nothing, check(p384.Std)}}, nil
}
