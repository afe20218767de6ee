// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"testing"
	"testing/iotest"

	"github.com/cretula/cretula/kms/kmsapi"
)

// TestLargeBodies: of large bodies there is a number at most, and small ones do not
// wait for them.
func TestLargeBodies(t *testing.T) {
	h := &handler{large: make(chan struct{}, 2)}
	read := func(n int, chunked bool) (requestBody, error) {
		want := bytes.Repeat([]byte{'x'}, n)
		r := httptest.NewRequest("POST", "/", bytes.NewReader(want))
		if chunked {
			r.ContentLength = -1
		}
		body, err := h.readBody(r)
		if err == nil && !bytes.Equal(body.bytes, want) {
			t.Errorf("%d bytes were read as %d", n, len(body.bytes))
		}
		return body, err
	}
	code := func(err error) kmsapi.Code {
		e, _ := errors.AsType[*kmsapi.Error](err)
		if e == nil {
			return ""
		}
		return e.Code
	}
	one, err1 := read(promisedAtOnce+1, false)
	two, err2 := read(maxBody, true)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for _, chunked := range []bool{false, true} {
		if _, err := read(promisedAtOnce+1, chunked); code(err) != kmsapi.Throttled().Code {
			t.Errorf("chunked %v, a third large one: %v", chunked, err)
		}
	}
	for _, n := range []int{0, 1, promisedAtOnce} {
		body, err := read(n, false)
		if err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		body.release()
	}
	one.release()
	if _, err := read(maxBody+1, true); code(err) != kmsapi.RequestEntityTooLarge {
		t.Errorf("one byte too many: %v", err)
	}
	r := httptest.NewRequest("POST", "/", io.MultiReader(bytes.NewReader(make([]byte, promisedAtOnce+5)), iotest.ErrReader(io.ErrUnexpectedEOF)))
	r.ContentLength = promisedAtOnce + 10
	if _, err := h.readBody(r); code(err) != kmsapi.Serialization {
		t.Errorf("one that ends early: %v", err)
	}
	two.release()
	if len(h.large) != 0 {
		t.Errorf("%d places were not given back", len(h.large))
	}
	if memory := bodies.Get().(*[promisedAtOnce]byte); *memory != [promisedAtOnce]byte{} {
		t.Error("what was sent is in the memory of the next one")
	}
}
