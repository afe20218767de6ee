// SPDX-License-Identifier: Apache-2.0

package nsmtest_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/nsmtest"
	"github.com/cretula/cretula/nsm/softnsm"
)

// faultVariable names the fault of the module that the suite shall find.
const faultVariable = "NSMTEST_FAULT"

// A fault changes a good module's answer to a request that it can decode.
type fault struct {
	// part is one that must fail.
	part   string
	change func(request nsm.Request, response *nsm.Response)
	// undecodable, if not nil, answers all other requests.
	undecodable []byte
}

// faults are mostly those of modules that exist.
var faults = map[string]fault{
	"nothing locked": {part: "Boot", change: func(_ nsm.Request, r *nsm.Response) { r.PCR.Locked = false }},
	"lock without effect": {part: "Lock", change: func(q nsm.Request, r *nsm.Response) {
		if q.Command == nsm.DescribePCR && q.Index >= 16 {
			r.PCR.Locked = false
		}
	}},
	"lock twice": {part: "Lock", change: func(q nsm.Request, r *nsm.Response) {
		if q.Command == nsm.LockPCR && r.Error == nsm.ReadOnlyIndex {
			*r = nsm.Response{Command: nsm.LockPCR}
		}
	}},
	"range refused": {part: "LockBelow", change: func(q nsm.Request, r *nsm.Response) {
		if q.Command == nsm.LockPCRs && q.Range == 16 {
			*r = nsm.Response{Error: nsm.ReadOnlyIndex}
		}
	}},
	"constant random": {part: "Random", change: func(_ nsm.Request, r *nsm.Response) {
		for i := range r.Random {
			r.Random[i] = 0x42
		}
	}},
	"short data only": {part: "Extend", change: func(q nsm.Request, r *nsm.Response) {
		if q.Command == nsm.ExtendPCR && len(q.Data) > 1024 {
			*r = nsm.Response{Error: nsm.InvalidArgument}
		}
	}},
	"wrong code": {part: "Boot", change: func(_ nsm.Request, r *nsm.Response) {
		if r.Error == nsm.InvalidIndex {
			r.Error = nsm.InvalidArgument
		}
	}},
	"version": {part: "DescribeNSM", change: func(_ nsm.Request, r *nsm.Response) { r.Description.VersionMinor = 1 }},
	"altered document": {part: "AttestationRegisters", change: func(_ nsm.Request, r *nsm.Response) {
		if len(r.Document) > 0 {
			r.Document[len(r.Document)-1] ^= 1
		}
	}},
	"long requests refused": {part: "Attestation", change: func(q nsm.Request, r *nsm.Response) {
		if len(q.Nonce) > 1024 {
			*r = nsm.Response{Error: nsm.InvalidArgument}
		}
	}},
	"lax decoder":    {part: "Hostile", undecodable: nsm.Response{Command: nsm.LockPCR}.Encode()},
	"another answer": {part: "Hostile", undecodable: nsm.Response{Error: nsm.InternalError}.Encode()},
}

type faulty struct {
	*softnsm.Module
	fault
}

func (f faulty) Send(ctx context.Context, data []byte) ([]byte, error) {
	raw, err := f.Module.Send(ctx, data)
	if err != nil {
		return nil, err
	}
	request, err := nsm.ParseRequest(data)
	if err != nil {
		if f.undecodable != nil {
			return f.undecodable, nil
		}
		return raw, nil
	}
	if f.change == nil {
		return raw, nil
	}
	response, err := nsm.ParseResponse(raw)
	if err != nil {
		return nil, err
	}
	f.change(request, &response)
	return response.Encode(), nil
}

// TestSuiteFindsFaults runs itself once for every fault: the part concerned must
// fail. Without a fault the suite passes.
func TestSuiteFindsFaults(t *testing.T) {
	if name, ok := os.LookupEnv(faultVariable); ok {
		runWithFault(t, faults[name])
		return
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string) (string, error) {
		cmd := exec.Command(program, "-test.run=^TestSuiteFindsFaults$", "-test.v")
		cmd.Env = append(os.Environ(), faultVariable+"="+name)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("none"); err != nil {
		t.Fatalf("a good module fails: %v\n%s", err, out)
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			out, err := run(name)
			if err == nil || !strings.Contains(out, "--- FAIL: TestSuiteFindsFaults/"+fault.part+" ") {
				t.Errorf("part %s does not fail: %v\n%s", fault.part, err, out)
			}
			if strings.Contains(out, "panic:") {
				t.Errorf("the suite panics:\n%s", out)
			}
		})
	}
}

func runWithFault(t *testing.T, f fault) {
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{authority.Root()}})
	if err != nil {
		t.Fatal(err)
	}
	nsmtest.TestDevice(t, func(t *testing.T) nsm.Device {
		module, err := softnsm.New(softnsm.Config{Authority: authority})
		if err != nil {
			t.Fatal(err)
		}
		return faulty{module, f}
	}, nsmtest.Options{Verifier: verifier})
}

// TestNoFaultNoChange checks that the wrapper without a fault changes no byte.
func TestNoFaultNoChange(t *testing.T) {
	authority, err := issuer.New(issuer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	module, err := softnsm.New(softnsm.Config{Authority: authority})
	if err != nil {
		t.Fatal(err)
	}
	request := nsm.Request{Command: nsm.DescribeNSM}.Encode()
	a, errA := module.Send(t.Context(), request)
	b, errB := faulty{module, fault{change: func(nsm.Request, *nsm.Response) {}}}.Send(t.Context(), request)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("%x, %x, %v, %v", a, b, errA, errB)
	}
}
