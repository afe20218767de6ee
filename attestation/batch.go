// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A Result is what became of one document of a batch. Exactly one of its members
// is nil.
type Result struct {
	Document *Document
	// Err is a [*reason.Error].
	Err error
}

// VerifyBatch verifies many documents under one expectation, on all processors
// that Go may use. The i-th result is that of documents[i], the same that
// [Verifier.Verify] gives.
func (v *Verifier) VerifyBatch(documents [][]byte, e Expectation) []Result {
	results := make([]Result, len(documents))
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(documents)) {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(documents)); i = next.Add(1) - 1 {
				results[i].Document, results[i].Err = v.Verify(documents[i], e)
			}
		})
	}
	group.Wait()
	return results
}
