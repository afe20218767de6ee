// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/need"
)

// A simulator is a process of the simulator, which answers line by line.
type simulator struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func startSimulator(t *testing.T) *simulator {
	t.Helper()
	node := need.Program(t, "node")
	cmd := exec.Command(node, filepath.Join(simulatorModules(t), "simulate.mjs"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("simulator: %v\n%s", err, &stderr)
		}
	})
	return &simulator{in, bufio.NewReader(out)}
}

// simulatorModules returns a folder with the packages of testdata/simulate
// installed. It is kept between runs, in the user's cache.
func simulatorModules(t *testing.T) string {
	t.Helper()
	npm := need.Program(t, "npm")
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = t.TempDir()
	}
	dir := filepath.Join(cache, "cretula-test", "iam-simulate-0.1.173")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package.json", "package-lock.json", "simulate.mjs"} {
		data, err := os.ReadFile(filepath.Join("testdata", "simulate", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "@cloud-copilot", "iam-simulate")); err == nil {
		return dir
	}
	install := exec.Command(npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
		t.Skipf("SKIPPED, npm ci failed: %v\n%s", err, out)
	}
	return dir
}

// ask returns the simulator's word on a pair: allowed or not, or an error that
// says what it found wrong with the question.
func (s *simulator) ask(t *testing.T, p *simPair) (allowed bool, complaint error) {
	t.Helper()
	account := own
	if p.NoKey {
		account = p.Caller.AccountID
	}
	line, err := json.Marshal(map[string]any{
		"principal": p.Caller.ARN, "action": p.Action, "resource": p.Resource, "account": account, "context": p.Context,
		"key": p.Key, "identity": p.Identity, "boundary": p.Boundary, "session": p.Session,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	reply, err := s.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("simulator: %v", err)
	}
	var answer struct {
		Result, Error string
		Invalid       []string
	}
	if err := json.Unmarshal(reply, &answer); err != nil {
		t.Fatalf("simulator: %v: %s", err, reply)
	}
	if answer.Error != "" || len(answer.Invalid) > 0 {
		return false, errors.New(string(reply))
	}
	return answer.Result == "Allowed", nil
}

// decide is our own decision, or that of the other way that the pair asks for.
func (p *simPair) decide(t *testing.T) Decision {
	t.Helper()
	in, err := p.input()
	if err != nil {
		t.Fatal(err)
	}
	if p.everyActionCrosses {
		defer delete(crossAccount, "kms:putkeypolicy")
		defer delete(crossAccount, "kms:enablekeyrotation")
		defer delete(crossAccount, "kms:schedulekeydeletion")
		crossAccount["kms:putkeypolicy"], crossAccount["kms:enablekeyrotation"], crossAccount["kms:schedulekeydeletion"] = true, true, true
	}
	d := Evaluate(in)
	if p.sessionCutsAll && len(p.Session) > 0 {
		allows := false
		for _, trace := range d.Trace.Policies {
			for _, s := range trace.Statements {
				allows = allows || trace.Kind == kindSession && s.Applied && s.Effect == Allow
			}
		}
		d.Allowed = d.Allowed && allows
	}
	return d
}

// Decisions are those of @cloud-copilot/iam-simulate, which shares no code with
// ours, but for the differences that simDifferences names. It is licensed under the
// AGPL: npm installs it for this test, and no part of it is in this module. The short test takes
// the same pairs each time, the long one others; CRETULA_SEED repeats a run.
func TestSimulator(t *testing.T) {
	pairs, seed := 1000, uint64(1)
	if os.Getenv("CRETULA_LONG") == "1" {
		pairs, seed = 20000, uint64(time.Now().UnixNano())
	}
	if s := os.Getenv("CRETULA_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed: CRETULA_SEED=%d", seed)
	sim := startSimulator(t)
	m := &simMaker{Rand: rand.New(rand.NewPCG(seed, 0))}
	c := newSimCounts()
	failed := 0
	for range pairs {
		p := m.pair()
		ours := p.decide(t)
		theirs, err := sim.ask(t, p)
		if err != nil {
			t.Fatalf("the simulator does not take the pair: %v\n%s", err, p.json(t))
		}
		c.add(p, &ours, theirs)
		if ours.Allowed == theirs || c.explain(t, p, theirs) {
			continue
		}
		failed++
		small := sim.minimize(t, p)
		d := small.decide(t)
		t.Errorf("seed %d: ours %s, allowed %v; the simulator %v:\n%s", seed, d.Cause, d.Allowed, !d.Allowed, small.json(t))
		if failed == 3 {
			t.FailNow()
		}
	}
	c.check(t, pairs)
}

func (p *simPair) json(t *testing.T) []byte {
	data, err := json.MarshalIndent(p, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// disagree tells whether the two still decide differently, for no known reason.
func (s *simulator) disagree(t *testing.T, p *simPair) bool {
	theirs, err := s.ask(t, p)
	return err == nil && p.decide(t).Allowed != theirs && knownDifference(t, p, theirs) == nil
}

// minimize takes away what can be taken away without the two agreeing.
func (s *simulator) minimize(t *testing.T, p *simPair) *simPair {
	for again := true; again; {
		again = false
		for _, smaller := range p.smaller() {
			if s.disagree(t, smaller) {
				p, again = smaller, true
				break
			}
		}
	}
	return p
}

// smaller returns the pair without one policy, statement, condition or key each.
func (p *simPair) smaller() []*simPair {
	var all []*simPair
	try := func(change func(c *simPair)) {
		c := p.clone()
		change(c)
		all = append(all, c)
	}
	for i := range p.Identity {
		try(func(c *simPair) { c.Identity = append(c.Identity[:i:i], c.Identity[i+1:]...) })
	}
	if len(p.Boundary) > 0 {
		try(func(c *simPair) { c.Boundary = []simPolicy{} })
	}
	if len(p.Session) > 0 {
		try(func(c *simPair) { c.Session = []simPolicy{} })
	}
	for i, doc := range p.policies() {
		for j, st := range doc.Statement {
			if len(doc.Statement) > 1 {
				try(func(c *simPair) {
					s := &c.policies()[i].Statement
					*s = append((*s)[:j:j], (*s)[j+1:]...)
				})
			}
			for op, keys := range st.Condition {
				for key, values := range keys {
					try(func(c *simPair) { c.policies()[i].Statement[j].drop(op, key) })
					for v := range values {
						if len(values) > 1 {
							try(func(c *simPair) {
								c.policies()[i].Statement[j].Condition[op][key] = append(values[:v:v], values[v+1:]...)
							})
						}
					}
				}
			}
		}
	}
	for key := range p.Context {
		try(func(c *simPair) { delete(c.Context, key) })
	}
	return all
}

func (s *simStatement) drop(op, key string) {
	if delete(s.Condition[op], key); len(s.Condition[op]) == 0 {
		delete(s.Condition, op)
	}
}
