// SPDX-License-Identifier: Apache-2.0

package vectors_test

import (
	"fmt"

	"github.com/cretula/cretula/vectors"
)

func ExampleAll() {
	right := 0
	for _, v := range vectors.All() {
		document, err := v.ReadDocument()
		if err != nil {
			panic(err)
		}
		// A verifier that accepts everything but the empty document.
		accepted := len(document) > 0
		if accepted == (v.Want(false) == vectors.Verified) {
			right++
		}
	}
	fmt.Println(right < len(vectors.All()))
	// Output: true
}
