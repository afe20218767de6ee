// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veraison/go-cose"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// issued is a document of package issuer with its verifier.
func issued(t testing.TB) (document []byte, v *attestation.Verifier) {
	t.Helper()
	a, err := issuer.New(issuer.Options{Now: func() time.Time { return forgeTime }})
	if err != nil {
		t.Fatal(err)
	}
	var set pcr.Set
	for i := range pcr.Index(16) {
		set.Put(i, pcr.Sum([]byte{byte(i)}))
	}
	document, err = a.Issue(issuer.Content{
		ModuleID: "i-0123456789abcdef0-enc0199aabbccddeeff", PCRs: set,
		PublicKey: []byte("key"), UserData: []byte{}, Nonce: []byte("nonce"), IndefiniteMap: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return document, newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{a.Root()}, Now: func() time.Time { return forgeTime }})
}

// TestEveryBitCounts flips bits of one document, and of a genuine one where there
// is one, at both levels: every bit of the first and last bytes, and of the others
// a sample that takes turns with the bits of a byte.
func TestEveryBitCounts(t *testing.T) {
	document, v := issued(t)
	t.Run("issued", func(t *testing.T) { flipBits(t, v, document, forgeExpectation(), 11) })
	t.Run("genuine", func(t *testing.T) {
		genuine := readShared(t, "turnkey-sample-2.cbor")
		flipBits(t, newVerifier(t, attestation.VerifierOptions{}), genuine, archive, 41)
	})
}

// TestEveryBit flips every single bit.
func TestEveryBit(t *testing.T) {
	need.Long(t)
	genuine := readShared(t, "turnkey-sample-2.cbor")
	flipBits(t, newVerifier(t, attestation.VerifierOptions{}), genuine, archive, 1)
}

// flipBits flips every step-th bit, and every one of the first and last bytes.
func flipBits(t *testing.T, v *attestation.Verifier, document []byte, e attestation.Expectation, step int) {
	if _, err := v.Verify(document, e); err != nil {
		t.Fatal(err)
	}
	lenient := e
	lenient.AllowLenient = true
	const envelope = 16
	var bits []int
	for bit := range len(document) * 8 {
		if at := bit / 8; bit%step == 0 || at < envelope || at >= len(document)-envelope {
			bits = append(bits, bit)
		}
	}
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for worker := range workers {
		group.Go(func() {
			flipped := bytes.Clone(document)
			for i := worker; i < len(bits); i += workers {
				at, mask := bits[i]/8, byte(1)<<(bits[i]%8)
				flipped[at] ^= mask
				for _, e := range []attestation.Expectation{e, lenient} {
					d, err := v.Verify(flipped, e)
					if d != nil || err == nil {
						t.Errorf("bit %d of byte %d flipped: accepted, lenient %v", bits[i]%8, at, e.AllowLenient)
					}
					if _, ok := errors.AsType[*reason.Error](err); !ok {
						t.Errorf("bit %d of byte %d flipped: %v", bits[i]%8, at, err)
					}
				}
				flipped[at] ^= mask
			}
		})
	}
	group.Wait()
}

func TestEveryTruncation(t *testing.T) {
	document, v := issued(t)
	lenient := forgeExpectation()
	lenient.AllowLenient = true
	for n := range document {
		for _, e := range []attestation.Expectation{forgeExpectation(), lenient} {
			if _, err := v.Verify(document[:n], e); err == nil {
				t.Errorf("the first %d bytes are accepted", n)
			} else if r, _ := reason.Of(err); r != reason.Malformed {
				t.Errorf("the first %d bytes: %v", n, err)
			}
		}
		if u, err := attestation.Parse(document[:n]); u != nil || err == nil {
			t.Errorf("the first %d bytes are parsed", n)
		}
		if u, err := attestation.ParseLenient(document[:n]); u != nil || err == nil {
			t.Errorf("the first %d bytes are parsed leniently", n)
		}
	}
}

// TestSignatureTwin: (r, n-s) verifies, so that only the payload is an identity.
func TestSignatureTwin(t *testing.T) {
	document, v := issued(t)
	first, err := v.Verify(document, forgeExpectation())
	if err != nil {
		t.Fatal(err)
	}
	twin := bytes.Clone(document)
	s := new(big.Int).SetBytes(twin[len(twin)-48:])
	s.Sub(elliptic.P384().Params().N, s).FillBytes(twin[len(twin)-48:])
	second, err := v.Verify(twin, forgeExpectation())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(document, twin) || first.PayloadHash != second.PayloadHash {
		t.Error("the twins have different payload hashes")
	}
}

func TestResultDoesNotReferToTheInput(t *testing.T) {
	document, v := issued(t)
	d, err := v.Verify(document, forgeExpectation())
	if err != nil {
		t.Fatal(err)
	}
	u, err := attestation.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	clear(document)
	if string(d.PublicKey) != "key" || string(d.Nonce) != "nonce" || d.UserData == nil || len(d.UserData) != 0 {
		t.Errorf("public key %q, nonce %q, user data %q", d.PublicKey, d.Nonce, d.UserData)
	}
	if string(u.UnverifiedNonce()) != "nonce" || u.UnverifiedPayloadHash() != d.PayloadHash || u.UnverifiedKind() != d.Kind {
		t.Error("the unverified document changed")
	}
	_ = append(d.PublicKey, "overwritten"...)
	if string(d.Nonce) != "nonce" {
		t.Error("appending to one field changes another")
	}
}

func TestParse(t *testing.T) {
	document, v := issued(t)
	for _, tagged := range []bool{false, true} {
		if tagged {
			document = append([]byte{0xd2}, document...)
		}
		u, err := attestation.Parse(document)
		if err != nil {
			t.Fatal(err)
		}
		if u.Tagged() != tagged || !u.IndefiniteMap() || u.UnverifiedDigest() != "SHA384" || len(u.UnverifiedCertificates()) != 5 {
			t.Errorf("tagged %v, indefinite %v, digest %s, %d certificates", u.Tagged(), u.IndefiniteMap(), u.UnverifiedDigest(), len(u.UnverifiedCertificates()))
		}
		if set := u.UnverifiedPCRs(); set.Len() != 16 || !u.UnverifiedTimestamp().Equal(forgeTime) || u.UnverifiedModuleID() == "" {
			t.Errorf("%d registers, %v", set.Len(), u.UnverifiedTimestamp())
		}
		if string(u.UnverifiedPublicKey()) != "key" || u.UnverifiedUserData() == nil || len(u.UnverifiedUserData()) != 0 {
			t.Errorf("public key %q, user data %q", u.UnverifiedPublicKey(), u.UnverifiedUserData())
		}
		if _, err := v.Verify(document, forgeExpectation()); err != nil {
			t.Error(err)
		}
	}
}

// TestAllowed: what a strict reader must not refuse.
func TestAllowed(t *testing.T) {
	for name, f := range map[string]forge{
		"optional fields absent": {fields: func(l []field) []field { return without("nonce")(without("user_data")(without("public_key")(l))) }},
		"empty fields":           {fields: func(l []field) []field { return set("nonce", []byte{0x40})(set("public_key", []byte{0x40})(l)) }},
		"fields of 1024 bytes":   {fields: set("user_data", encode(make([]byte, 1024)))},
		"another spelling":       {fields: and("PCRs", encode(7))},
		"unknown floats":         unknown(0x83, 0xf9, 0x3c, 0x00, 0xfa, 0x7f, 0x7f, 0xff, 0xff, 0xf7),
		"unknown tag":            unknown(0xc1, 0x00),
		"unknown nesting":        unknown(0xa1, 0x81, 0xa0, 0x82, 0x60, 0xf6),
		"32 registers":           {fields: set("pcrs", encode(manyRegisters(32)))},
		"indefinite map":         {payload: func(p []byte) []byte { return append(append([]byte{0xbf}, p[1:]...), 0xff) }},
		"leaf with EKU":          {certificate: editCertificate(4, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })},
		"policy":                 {certificate: editCertificate(1, extension(false, []byte{5, 0}, 1, 2, 3, 4, 5))},
		"longer path length":     {certificate: editCertificate(2, func(c *x509.Certificate) { c.MaxPathLen = 9 })},
		"no path length":         {certificate: editCertificate(1, func(c *x509.Certificate) { c.MaxPathLen = -1 })},
	} {
		document, root := f.make(t)
		v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
		if _, err := v.Verify(document, forgeExpectation()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func manyRegisters(n int) map[int][]byte {
	m := map[int][]byte{}
	for i := range n {
		m[i] = append(make([]byte, 47), 1)
	}
	return m
}

func TestExpectationsThatAreMet(t *testing.T) {
	document, v := issued(t)
	var some pcr.Set
	some.Put(0, pcr.Sum([]byte{0}))
	some.Put(8, pcr.Sum([]byte{8}))
	for name, e := range map[string]attestation.Expectation{
		"registers":       {PCRs: some},
		"nonce":           {PCRs: some, Nonce: []byte("nonce"), UserData: []byte{}},
		"clock":           {AllowAnyImage: true},
		"5 minutes":       {AllowAnyImage: true, Time: forgeTime.Add(5 * time.Minute)},
		"1 minute ahead":  {AllowAnyImage: true, Time: forgeTime.Add(-3 * time.Second)},
		"any age":         {AllowAnyImage: true, Time: forgeTime.Add(179 * time.Minute), AllowAnyAge: true},
		"an hour":         {AllowAnyImage: true, Time: forgeTime.Add(time.Hour), MaxAge: time.Hour},
		"document's time": {AllowAnyImage: true, AllowDocumentTime: true},
		"enclave":         {AllowAnyImage: true, Kind: attestation.KindEnclave},
	} {
		if _, err := v.Verify(document, e); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := v.Verify(document, attestation.Expectation{})
	wantRules(t, "zero expectation", err, "expect.empty")
}

// TestAllProblems: everything that is wrong is said, gravest first.
func TestAllProblems(t *testing.T) {
	f := forge{
		certificate: func(i int, c *x509.Certificate) {
			switch i {
			case 2:
				c.NotAfter = forgeTime.Add(-time.Second)
			case 4:
				c.KeyUsage = 0
			}
		},
		parts: func(p *[4][]byte) { p[3][30] ^= 1 },
	}
	document, root := f.make(t)
	v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
	e := attestation.Expectation{Time: forgeTime.Add(10 * time.Minute), Nonce: []byte("x"), UserData: []byte("x"), Kind: attestation.KindNitroTPM}
	e.PCRs.Put(1, pcr.Digest{})
	_, err := v.Verify(document, e)
	wantRules(t, "all at once", err, "chain.validity", "chain.leaf.key-usage", "cose.signature", "doc.age", "expect.nonce", "expect.user-data", "expect.kind", "expect.pcr")
	checkOrder(t, "all at once", err)
	// With a fault of form the cheap checks are still made.
	_, err = v.Verify(append(document, 0), e)
	wantRules(t, "and a byte too many", err, "doc.trailing", "chain.validity", "chain.leaf.key-usage", "doc.age", "expect.nonce", "expect.user-data", "expect.kind", "expect.pcr")
}

func TestVerdictJSON(t *testing.T) {
	document, v := issued(t)
	data, err := json.Marshal(v.Report(document, forgeExpectation()))
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"schema": `"cretula.attestation.verdict.v1"`, "verdict": `"verified"`, "reason": "null", "problems": "[]",
		"kind": `"enclave"`, "trust": `"custom"`, "emulated": "true", "debug": "false",
		"module_id": `"i-0123456789abcdef0-enc0199aabbccddeeff"`, "timestamp": `"2026-11-20T14:00:07Z"`,
		"pcrs": "", "public_key": `"6b6579"`, "user_data": `""`, "nonce": `"6e6f6e6365"`, "chain": "",
		"revocation_checked": "0", "level": `"strict"`, "information": "[]",
		"checked_at": stampJSON(forgeExpectation().Time), "clock": `"given"`,
	} {
		got, there := members[name]
		if !there || want != "" && string(got) != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
		delete(members, name)
	}
	if len(members) > 0 {
		t.Errorf("further members: %v", members)
	}
	for _, bad := range [][]byte{nil, []byte("text"), document[:2000]} {
		var rejected map[string]any
		data, _ := json.Marshal(v.Report(bad, forgeExpectation()))
		if err := json.Unmarshal(data, &rejected); err != nil || len(rejected) != 20 {
			t.Errorf("%d members for a rejection, want 20: %v", len(rejected), err)
		}
		if rejected["trust"] != nil || rejected["verdict"] != "rejected" || rejected["reason"] != "malformed" || rejected["emulated"] != true {
			t.Errorf("rejection: %s", data)
		}
	}
	// A document that is only stale is still of somebody.
	e := forgeExpectation()
	e.Time = forgeTime.Add(time.Hour)
	if stale := v.Report(document, e); stale.Trust == nil || *stale.Trust != "custom" || stale.Reason == nil || *stale.Reason != reason.Stale {
		t.Errorf("stale: %+v", stale)
	}
}

func stampJSON(at time.Time) string { return strconv.Quote(at.UTC().Format(time.RFC3339Nano)) }

// A verdict says at what time it holds, and where that time came from.
func TestVerdictSaysWhen(t *testing.T) {
	document, v := issued(t)
	for _, test := range []struct {
		change func(*attestation.Expectation)
		clock  string
		at     time.Time
	}{
		{func(*attestation.Expectation) {}, "given", forgeExpectation().Time},
		{func(e *attestation.Expectation) { e.Time, e.AllowDocumentTime = time.Time{}, true }, "document", forgeTime},
	} {
		e := forgeExpectation()
		test.change(&e)
		got := v.Report(document, e)
		if !got.Verified() || got.Clock != test.clock || got.CheckedAt == nil || !got.CheckedAt.Equal(test.at) {
			t.Errorf("%s: %s at %v, want %v (%v)", test.clock, got.Clock, got.CheckedAt, test.at, got.Problems)
		}
	}
	e := forgeExpectation()
	e.Time, e.AllowDocumentTime = time.Time{}, true
	if got := v.Report(document[:100], e); got.CheckedAt != nil || got.Clock != "document" {
		t.Errorf("a document that cannot be read: %s at %v", got.Clock, got.CheckedAt)
	}
	e.AllowDocumentTime = false
	if got := v.Report(document, e); got.Clock != "now" || got.CheckedAt == nil || !got.CheckedAt.Equal(forgeTime) {
		t.Errorf("now: %s at %v", got.Clock, got.CheckedAt)
	}
}

// TestGoCoseAgrees verifies the COSE signature of each genuine document with
// another implementation.
func TestGoCoseAgrees(t *testing.T) {
	genuine, _ := readIndex(t)
	v := newVerifier(t, attestation.VerifierOptions{})
	for _, item := range genuine {
		document := readShared(t, item.File)
		d, err := v.Verify(document, archive)
		if err != nil {
			t.Errorf("%s: %v", item.File, err)
			continue
		}
		var message cose.UntaggedSign1Message
		if err := message.UnmarshalCBOR(document); err != nil {
			t.Errorf("%s: go-cose: %v", item.File, err)
			continue
		}
		verifier, err := cose.NewVerifier(cose.AlgorithmES384, d.Chain[4].PublicKey.(*ecdsa.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		if err := message.Verify(nil, verifier); err != nil {
			t.Errorf("%s: go-cose: %v", item.File, err)
		}
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	document, v := issued(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 5 {
				if _, err := v.Verify(document, forgeExpectation()); err != nil {
					t.Error(err)
				}
				v.Report(document[:100], forgeExpectation())
			}
		})
	}
	group.Wait()
}

// TestBoundedAllocation: what is claimed costs nothing, and what is there little.
func TestBoundedAllocation(t *testing.T) {
	_, v := issued(t)
	for name, document := range map[string][]byte{
		"huge array":     {0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"huge payload":   {0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"nested arrays":  bytes.Repeat([]byte{0x81}, attestation.MaxDocumentSize),
		"nested tags":    bytes.Repeat([]byte{0xc1}, attestation.MaxDocumentSize),
		"many maps":      append([]byte{0x84, 0x40, 0x99, 0x40, 0x00}, bytes.Repeat([]byte{0xa0}, 0x4000)...),
		"empty chunks":   append([]byte{0x84, 0x5f}, bytes.Repeat([]byte{0x40}, 0x4000)...),
		"beyond measure": make([]byte, 1<<20),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := v.Verify(document, forgeExpectation()); err == nil {
			t.Errorf("%s: accepted", name)
		}
		runtime.ReadMemStats(&after)
		if used, limit := after.TotalAlloc-before.TotalAlloc, uint64(64<<10+10*len(document)); used > limit {
			t.Errorf("%s: %d bytes allocated for %d, limit %d", name, used, len(document), limit)
		}
	}
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		attestation.KindEnclave.String(): "enclave", attestation.KindNitroTPM.String(): "nitrotpm", attestation.Kind(9).String(): "kind(9)",
		attestation.TrustAWS.String(): "aws", attestation.TrustAWSGovCloud.String(): "aws-us-gov", attestation.TrustCustom.String(): "custom",
		attestation.Trust(0).String(): "trust(0)",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestNoSecretsInMessages(t *testing.T) {
	document, v := issued(t)
	e := forgeExpectation()
	e.Nonce, e.UserData = []byte("expected-nonce"), []byte("expected-data")
	_, err := v.Verify(document, e)
	for _, secret := range []string{"expected-nonce", "expected-data", fmt.Sprintf("%x", e.Nonce), fmt.Sprintf("%x", e.UserData)} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q is in %v", secret, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range fuzzSeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var u, loose *attestation.Unverified
		var err, looseErr error
		attestation.BoundedAllocation(t, len(data), func() { u, err = attestation.Parse(data) })
		attestation.BoundedAllocation(t, len(data), func() { loose, looseErr = attestation.ParseLenient(data) })
		if (u == nil) == (err == nil) || (loose == nil) == (looseErr == nil) {
			t.Fatalf("result %v with error %v, lenient %v with %v", u, err, loose, looseErr)
		}
		if u != nil && (loose == nil || loose.UnverifiedPayloadHash() != u.UnverifiedPayloadHash()) {
			t.Fatalf("lenient does not read what strict reads: %v", looseErr)
		}
		if err != nil {
			if r, ok := reason.Of(err); !ok || r != reason.Malformed && r != reason.BadSignature {
				t.Fatalf("reason %v: %v", r, err)
			}
			return
		}
		// Whatever is read is in the input, and within the limits.
		for _, part := range append(u.UnverifiedCertificates(), u.UnverifiedNonce(), u.UnverifiedUserData(), u.UnverifiedPublicKey(), []byte(u.UnverifiedModuleID())) {
			if len(part) > attestation.MaxFieldSize && string(part) != u.UnverifiedModuleID() || !bytes.Contains(data, part) {
				t.Fatalf("%x is not in the input", part)
			}
		}
		if set := u.UnverifiedPCRs(); set.Len() == 0 || u.UnverifiedKind() == 0 || u.UnverifiedTimestamp().IsZero() {
			t.Fatal("a document without registers, kind or time was parsed")
		}
		var message cose.UntaggedSign1Message
		if err := message.UnmarshalCBOR(bytes.TrimPrefix(data, []byte{0xd2})); err != nil {
			t.Fatalf("go-cose refuses what was parsed: %v", err)
		}
	})
}

// FuzzVerify: no one but the authority makes documents that verify.
func FuzzVerify(f *testing.F) {
	document, v := issued(f)
	known, err := v.Verify(document, forgeExpectation())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(document)
	for _, seed := range fuzzSeeds(f) {
		f.Add(seed)
	}
	e, loose := archive, archive
	loose.AllowLenient = true
	f.Fuzz(func(t *testing.T, data []byte) {
		var d *attestation.Document
		var err error
		attestation.BoundedAllocation(t, len(data), func() { d, err = v.Verify(data, e) })
		if strict := d != nil; strict {
			if _, err := v.Verify(data, loose); err != nil {
				t.Fatalf("lenient refuses what strict accepts: %v", err)
			}
		}
		if l, _ := v.Verify(data, loose); l != nil && l.PayloadHash != known.PayloadHash {
			t.Fatal("a forged document verifies leniently")
		}
		if (d == nil) == (err == nil) {
			t.Fatalf("result %v with error %v", d, err)
		}
		if d != nil && d.PayloadHash != known.PayloadHash {
			t.Fatal("a forged document verifies")
		}
		if verdict := v.Report(data, e); verdict.Verified() != (d != nil) {
			t.Fatal("the verdict differs from the result")
		}
	})
}

// FuzzCertificateRoles puts any certificate at any place of a good chain.
func FuzzCertificateRoles(f *testing.F) {
	document, _ := issued(f)
	u, err := attestation.Parse(document)
	if err != nil {
		f.Fatal(err)
	}
	good := u.UnverifiedCertificates()
	if broken, _ := attestation.CheckRoles(good); len(good) != 5 || len(broken) > 0 {
		f.Fatalf("%d certificates, %v", len(good), broken)
	}
	for i, der := range good {
		f.Add(der, uint8(i))
		f.Add(der, uint8(i+1))
	}
	for _, c := range chainCases {
		forged, _ := c.f.make(f)
		if u, err := attestation.Parse(forged); err == nil {
			for i, der := range u.UnverifiedCertificates() {
				f.Add(der, uint8(i))
			}
		}
	}
	f.Fuzz(func(t *testing.T, der []byte, at uint8) {
		if len(der) > attestation.MaxFieldSize {
			return
		}
		ders := slices.Clone(good)
		i := int(at) % len(ders)
		ders[i] = der
		var broken []string
		var chain []*x509.Certificate
		size := 0
		for _, d := range ders {
			size += len(d)
		}
		attestation.BoundedAllocation(t, size, func() { broken, chain = attestation.CheckRoles(ders) })
		if len(broken) > 0 {
			return
		}
		c := chain[i]
		key, _ := c.PublicKey.(*ecdsa.PublicKey)
		leaf := i == len(ders)-1
		switch {
		case key == nil || key.Curve != elliptic.P384() || c.SignatureAlgorithm != x509.ECDSAWithSHA384 || len(c.UnhandledCriticalExtensions) > 0:
			t.Fatal("key, algorithm or a critical extension passes")
		case leaf && (c.IsCA || !c.BasicConstraintsValid || c.KeyUsage&x509.KeyUsageDigitalSignature == 0 || c.KeyUsage&x509.KeyUsageCertSign != 0):
			t.Fatal("a CA passes for a leaf")
		case !leaf && (!c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 || c.MaxPathLen == 0 && c.MaxPathLenZero && i < 3 || c.MaxPathLen > 0 && c.MaxPathLen < 3-i):
			t.Fatal("no CA passes for one")
		case i > 0 && !bytes.Equal(c.RawIssuer, chain[i-1].RawSubject):
			t.Fatal("another issuer passes")
		}
	})
}

// fuzzSeeds are own documents of both map forms and, where they are at hand,
// genuine ones.
func fuzzSeeds(f *testing.F) (seeds [][]byte) {
	f.Helper()
	for _, c := range []forge{{}, {fields: without("nonce")}, unknown(0xa1, 0x00, 0x80), {payload: func(p []byte) []byte { return append(append([]byte{0xbf}, p[1:]...), 0xff) }}} {
		document, _ := c.make(f)
		seeds = append(seeds, document)
	}
	entries, _ := os.ReadDir(sharedDir)
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".cbor") {
			seeds = append(seeds, readShared(f, entry.Name()))
		}
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	return seeds
}

// BenchmarkVerifyCold makes a Verifier for each document.
func BenchmarkVerifyCold(b *testing.B) {
	a, document := benchmarkDocument(b)
	b.ReportAllocs()
	for b.Loop() {
		v := newVerifier(b, attestation.VerifierOptions{Roots: []*x509.Certificate{a.Root()}})
		if _, err := v.Verify(document, forgeExpectation()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyWarm uses one Verifier for all documents.
func BenchmarkVerifyWarm(b *testing.B) {
	a, document := benchmarkDocument(b)
	v := newVerifier(b, attestation.VerifierOptions{Roots: []*x509.Certificate{a.Root()}})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(document, forgeExpectation()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkParse reads a document and verifies nothing.
func BenchmarkParse(b *testing.B) {
	_, document := benchmarkDocument(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := attestation.Parse(document); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkDocument(b *testing.B) (*issuer.Authority, []byte) {
	b.Helper()
	a, err := issuer.New(issuer.Options{Now: func() time.Time { return forgeTime }})
	if err != nil {
		b.Fatal(err)
	}
	var set pcr.Set
	for i := range pcr.Index(16) {
		set.Put(i, pcr.Sum([]byte{byte(i)}))
	}
	document, err := a.Issue(issuer.Content{ModuleID: "i-0123456789abcdef0-enc0199aabbccddeeff", PCRs: set})
	if err != nil {
		b.Fatal(err)
	}
	return a, document
}
