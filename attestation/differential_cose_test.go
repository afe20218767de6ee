// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/veraison/go-cose"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/attestationtest"
	"github.com/cretula/cretula/reason"
)

// stricterThanGoCose are the rules by which we refuse messages that go-cose
// accepts, and why it does.
var stricterThanGoCose = map[string]string{
	"cose.crit":           "it takes critical headers that it knows",
	"cose.protected":      "other headers are the application's to judge",
	"cose.unprotected":    "other headers are the application's to judge",
	"doc.cbor.minimal":    "it takes longer forms of numbers",
	"doc.cbor.indefinite": "it takes strings and maps of indefinite length",
}

// coseChange makes one change of a message at random. Half of them are made
// before the signature, so that it is good.
func coseChange(r *rand.Rand, f *attestationtest.Forgery) {
	part := func(i int, edit func([]byte) []byte) {
		earlier := f.EditParts
		f.EditParts = func(p *[4][]byte) {
			if earlier != nil {
				earlier(p)
			}
			p[i] = edit(p[i])
		}
	}
	whole := func(edit func([]byte) []byte) {
		earlier := f.EditDocument
		f.EditDocument = func(d []byte) []byte {
			if earlier != nil {
				d = earlier(d)
			}
			return edit(d)
		}
	}
	prefix := func(p ...byte) { whole(func(d []byte) []byte { return append(slices.Clone(p), d...) }) }
	pick := func(choices ...[]byte) []byte { return slices.Clone(choices[r.IntN(len(choices))]) }
	switch r.IntN(14) {
	case 0, 1:
		f.Protected = pick([]byte{0xa1, 0x01, 0x26}, []byte{0xa1, 0x01, 0x38, 0x23}, []byte{0xa1, 0x01, 0x27}, []byte{0xa0}, []byte{},
			[]byte{0xa2, 0x01, 0x38, 0x22, 0x04, 0x41, 'k'}, []byte{0xa2, 0x01, 0x38, 0x22, 0x01, 0x38, 0x22},
			[]byte{0xa2, 0x01, 0x38, 0x22, 0x02, 0x81, 0x01}, []byte{0xa2, 0x01, 0x38, 0x22, 0x02, 0x81, 0x18, 0x63},
			[]byte{0xa1, 0x01, 0x39, 0x00, 0x22}, []byte{0xbf, 0x01, 0x38, 0x22, 0xff}, []byte{0xa1, 0x01, 0x38, 0x22, 0x00},
			[]byte{0xa1, 0x01, 0x65, 'E', 'S', '3', '8', '4'}, []byte{0xa2, 0x01, 0x38, 0x22, 0x18, 0x63, 0xf6})
	case 2, 3:
		with := pick([]byte{0xa1, 0x04, 0x41, 'k'}, []byte{0xa1, 0x01, 0x26}, []byte{0xf6}, []byte{0xbf, 0xff}, []byte{0x80}, []byte{0xa1, 0x18, 0x63, 0x00},
			[]byte{0xa1, 0x02, 0x81, 0x01}, []byte{0xa2, 0x04, 0x41, 'k', 0x04, 0x41, 'l'}, []byte{0xb8, 0x00})
		part(1, func([]byte) []byte { return with })
	case 4:
		prefix(pick([]byte{0xd2}, []byte{0xd1}, []byte{0xd8, 0x12}, []byte{0xd2, 0xd2}, []byte{0xd9, 0xd9, 0xf7}, []byte{0xd8, 0x62})...)
	case 5:
		whole(func(d []byte) []byte { return append(d, byte(r.IntN(256))) })
	case 6:
		at, bit := r.Uint32(), byte(1)<<r.IntN(8)
		part(3, func(p []byte) []byte { p[int(at)%len(p)] ^= bit; return p })
	case 7:
		at, bit := r.Uint32(), byte(1)<<r.IntN(8)
		part(2, func(p []byte) []byte { p[int(at)%len(p)] ^= bit; return p })
	case 8:
		part(3, func(p []byte) []byte {
			if len(p) != 98 {
				return p
			}
			s := new(big.Int).SetBytes(p[50:])
			if s.Sub(elliptic.P384().Params().N, s).Sign() > 0 {
				s.FillBytes(p[50:])
			}
			return p
		})
	case 9:
		n := r.IntN(130)
		part(3, func([]byte) []byte { return encode(make([]byte, n)) })
	case 10:
		part(2, func(p []byte) []byte {
			if p[0] != 0x59 {
				return p
			}
			return append(binary.BigEndian.AppendUint32([]byte{0x5a}, uint32(len(p)-3)), p[3:]...)
		})
	case 11:
		if r.IntN(2) == 0 {
			whole(func(d []byte) []byte { return append([]byte{0x98, 0x04}, bytes.TrimPrefix(d, []byte{0x84})...) })
		} else {
			whole(func(d []byte) []byte { return append(append([]byte{0x9f}, bytes.TrimPrefix(d, []byte{0x84})...), 0xff) })
		}
	case 12:
		i := r.IntN(4)
		part(i, func(p []byte) []byte { return []byte{0xf6} })
	case 13:
		structure := encode([]any{"Signature1", f.Protected, []byte{}, []byte("another payload")})
		f.EditSigned = func([]byte) []byte { return structure }
	}
}

// goCose asks go-cose whether key signed the message.
func goCose(document []byte, key *ecdsa.PublicKey) error {
	verifier, err := cose.NewVerifier(cose.AlgorithmES384, key)
	if err != nil {
		return err
	}
	if bytes.HasPrefix(document, []byte{0xd2}) {
		var message cose.Sign1Message
		if err := message.UnmarshalCBOR(document); err != nil {
			return err
		}
		return message.Verify(nil, verifier)
	}
	var message cose.UntaggedSign1Message
	if err := message.UnmarshalCBOR(document); err != nil {
		return err
	}
	return message.Verify(nil, verifier)
}

// TestNeverMorePermissiveThanGoCose: what we accept, go-cose accepts; what we
// alone refuse, we refuse by a rule of which we know why it does not have it.
func TestNeverMorePermissiveThanGoCose(t *testing.T) {
	n := 3 * chainCount() / 4
	r := rand.New(rand.NewPCG(3, 4))
	key := attestationtest.New(forgeTime).Certificates[attestationtest.Leaf].Key.Public().(*ecdsa.PublicKey)
	_, root, err := attestationtest.New(forgeTime).Build()
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	accepted, refusedByBoth, stricter := 0, 0, 0
	why := map[string]int{}
	for i := range n {
		f := attestationtest.New(forgeTime)
		f.IndefiniteMap = r.IntN(2) == 0
		for range r.IntN(3) {
			coseChange(r, f)
		}
		document, _, err := f.Build()
		if err != nil {
			t.Fatal(err)
		}
		_, ours := v.Verify(document, forgeExpectation())
		theirs := goCose(document, key)
		switch {
		case ours == nil && theirs != nil:
			t.Errorf("message %d: accepted, go-cose says %v: %.40x", i, theirs, document)
		case ours == nil:
			accepted++
		case theirs != nil:
			refusedByBoth++
		default:
			stricter++
			attribute(t, fmt.Sprintf("message %d", i), ours, stricterThanGoCose, why)
		}
		lenient := forgeExpectation()
		lenient.AllowLenient = true
		if _, err := v.Verify(document, lenient); err == nil && theirs != nil {
			onlyEncoding(t, i, ours)
		}
	}
	t.Logf("of %d messages %d accepted, %d refused by both, %d by us alone: %v", n, accepted, refusedByBoth, stricter, why)
	if accepted == 0 || refusedByBoth == 0 || len(why) < 4 {
		t.Error("the messages are all of one sort")
	}
}

// onlyEncoding checks that the strict verdict on a message that the lenient level
// takes and go-cose does not is one about its encoding alone.
func onlyEncoding(t *testing.T, i int, strict error) {
	t.Helper()
	refusal, ok := errors.AsType[*reason.Error](strict)
	if !ok {
		t.Errorf("message %d: refused by go-cose and accepted at the strict level: %v", i, strict)
		return
	}
	for _, p := range refusal.Problems {
		if p.Rule != "doc.cbor.minimal" && p.Rule != "doc.cbor.indefinite" {
			t.Errorf("message %d: accepted leniently against %s", i, p.Rule)
		}
	}
}
