// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
)

func lenient(e *attestation.Expectation) { e.AllowLenient = true }

// rulesOf returns the rules of a list of findings, each once.
func rulesOf(list []attestation.Information) (ids []string) {
	for _, i := range list {
		if !slices.Contains(ids, i.Rule) {
			ids = append(ids, i.Rule)
		}
	}
	return ids
}

// TestLenientEncodings: other encodings of the same document, and what is said of
// them.
func TestLenientEncodings(t *testing.T) {
	chunked := func(b []byte) []byte {
		out := []byte{0x5f}
		for len(b) > 0 {
			n := min(len(b), 200)
			out = append(append(out, 0x58, byte(n)), b[:n]...)
			b = b[n:]
		}
		return append(out, 0x40, 0xff)
	}
	wide := func(b []byte) []byte { return append(bigEndian(0x5a, uint64(len(b)), 4), b...) }
	var payload []byte
	keep := func(p []byte) []byte { payload = p; return p }
	for name, f := range map[string]forge{
		"outer array indefinite": {document: func(d []byte) []byte { return append(append([]byte{0x9f}, d[1:]...), 0xff) }},
		"outer array wide":       {document: func(d []byte) []byte { return append([]byte{0x98, 4}, d[1:]...) }},
		"protected chunked":      part(0, []byte{0x5f, 0x41, 0xa1, 0x40, 0x43, 0x01, 0x38, 0x22, 0xff}),
		"protected wide inside":  {protected: []byte{0xb8, 0x01, 0x18, 0x01, 0x39, 0x00, 0x22}},
		"protected indefinite":   {protected: []byte{0xbf, 0x01, 0x38, 0x22, 0xff}},
		"unprotected indefinite": part(1, []byte{0xbf, 0xff}),
		"payload chunked":        {payload: keep, parts: func(p *[4][]byte) { p[2] = chunked(payload) }},
		"payload wide":           {payload: keep, parts: func(p *[4][]byte) { p[2] = wide(payload) }},
		"chunked nonce":          {fields: set("nonce", []byte{0x5f, 0x42, 'n', 'o', 0x43, 'n', 'c', 'e', 0xff})},
		"wide index":             {fields: set("pcrs", append(imageRegisters(0xbf, 0x18, 0x00), 0xff))},
		"indefinite cabundle": {fields: func(l []field) []field {
			b := fieldOf(l, "cabundle")
			return set("cabundle", append(append([]byte{0x9f}, b[1:]...), 0xff))(l)
		}},
		"chunked key": {payload: func(p []byte) []byte {
			return bytes.Replace(p, encode("nonce"), []byte{0x7f, 0x62, 'n', 'o', 0x63, 'n', 'c', 'e', 0xff}, 1)
		}},
	} {
		document, root := f.make(t)
		v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
		e := forgeExpectation()
		if _, err := v.Verify(document, e); err == nil {
			t.Errorf("%s: strict accepts", name)
		}
		lenient(&e)
		e.Nonce = []byte("nonce")
		d, err := v.Verify(document, e)
		if err != nil {
			t.Errorf("%s: lenient refuses: %v", name, err)
			continue
		}
		ids := rulesOf(d.Information)
		if d.Level != attestation.LevelLenient || !slices.Contains(ids, "doc.cbor.minimal") && !slices.Contains(ids, "doc.cbor.indefinite") {
			t.Errorf("%s: level %v, information %v", name, d.Level, ids)
		}
		if _, err := attestation.ParseLenient(document); err != nil {
			t.Errorf("%s: ParseLenient: %v", name, err)
		}
	}
}

// TestLenientKeepsSecurity: what strict refuses for another reason than the
// encoding, lenient refuses for the same.
func TestLenientKeepsSecurity(t *testing.T) {
	for _, c := range slices.Concat(cborCases, coseCases, payloadCases, chainCases, expectCases) {
		document, root := c.f.make(t)
		v, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
		if err != nil {
			continue
		}
		e := forgeExpectation()
		if c.e != nil {
			c.e(&e)
		}
		lenient(&e)
		if e.MaxField == 0 {
			e.MaxField = attestation.MaxFieldSize
		}
		var wanted []string
		for _, rule := range strings.Fields(c.rules) {
			if rule != "doc.cbor.minimal" && rule != "doc.cbor.indefinite" {
				wanted = append(wanted, rule)
			}
		}
		_, err = v.Verify(document, e)
		wantRules(t, c.name+", lenient", err, wanted...)
	}
}

// TestDuplicatesInAnyOrder: a key that is there twice is found wherever it stands
// among others, and only then.
func TestDuplicatesInAnyOrder(t *testing.T) {
	const n = 3 // of four keys, in all sequences
	for i := range 1 << (2 * n) {
		item, times := []byte{0xa0 | n}, map[byte]int{}
		for j := range n {
			key := byte(i >> (2 * j) & 3)
			item = append(item, []byte{0x00, 0x17, 0x20, 0x60}[key], 0xf6)
			times[key]++
		}
		document, _ := unknown(item...).make(t)
		_, err := attestation.Parse(document)
		if len(times) == n {
			wantRules(t, fmt.Sprintf("%x", item), err)
		} else {
			wantRules(t, fmt.Sprintf("%x", item), err, "doc.cbor.duplicate")
		}
	}
}

// TestDuplicatesInOtherEncodings: one key in two encodings is one key.
func TestDuplicatesInOtherEncodings(t *testing.T) {
	nan := []byte{0xf9, 0x7e, 0x00}
	for name, pair := range map[string][2][]byte{
		"wide integer":      {{0x01}, {0x18, 0x01}},
		"wider integer":     {{0x18, 0x64}, {0x1b, 0, 0, 0, 0, 0, 0, 0, 0x64}},
		"negative":          {{0x20}, {0x38, 0x00}},
		"chunked text":      {{0x62, 'a', 'b'}, {0x7f, 0x61, 'a', 0x61, 'b', 0xff}},
		"other chunks":      {{0x7f, 0x60, 0x62, 'a', 'b', 0xff}, {0x7f, 0x61, 'a', 0x61, 'b', 0xff}},
		"wide length":       {{0x41, 'a'}, {0x58, 0x01, 'a'}},
		"indefinite array":  {{0x81, 0x00}, {0x9f, 0x00, 0xff}},
		"order of a map":    {{0xa2, 0x01, 0x02, 0x03, 0x04}, {0xa2, 0x03, 0x04, 0x01, 0x02}},
		"indefinite map":    {{0xa1, 0x01, 0x02}, {0xbf, 0x01, 0x02, 0xff}},
		"half and single":   {{0xf9, 0x3c, 0x00}, {0xfa, 0x3f, 0x80, 0, 0}},
		"single and double": {{0xfa, 0x3f, 0x80, 0, 0}, {0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0}},
		"NaNs":              {nan, {0xfa, 0x7f, 0xc0, 0, 0}},
		"infinities":        {{0xf9, 0xfc, 0x00}, {0xfa, 0xff, 0x80, 0, 0}},
		"tagged":            {{0xc1, 0x01}, {0xc1, 0x18, 0x01}},
		"wide tag":          {{0xc1, 0x01}, {0xd8, 0x01, 0x01}},
	} {
		for _, reversed := range []bool{false, true} {
			if reversed {
				pair[0], pair[1] = pair[1], pair[0]
			}
			value := append([]byte{0xa2}, slices.Concat(pair[0], []byte{0}, pair[1], []byte{0})...)
			document, root := unknown(value...).make(t)
			v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
			e := forgeExpectation()
			lenient(&e)
			_, err := v.Verify(document, e)
			wantRules(t, name, err, "doc.cbor.duplicate")
		}
	}
	for name, pair := range map[string][2][]byte{
		"text and bytes":   {{0x41, 'a'}, {0x61, 'a'}},
		"integer, float":   {{0x01}, {0xfa, 0x3f, 0x80, 0, 0}},
		"zeros":            {{0xf9, 0x00, 0x00}, {0xfa, 0x80, 0, 0, 0}},
		"array and chunks": {{0x9f, 0x41, 'a', 0xff}, {0x5f, 0x41, 'a', 0xff}},
		"lengths":          {{0x9f, 0x00, 0x00, 0xff}, {0x81, 0x00}},
		"false and 20":     {{0xf4}, {0x18, 0x14}},
	} {
		value := append([]byte{0xa2}, slices.Concat(pair[0], []byte{0}, pair[1], []byte{0})...)
		document, root := unknown(value...).make(t)
		v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
		e := forgeExpectation()
		lenient(&e)
		if _, err := v.Verify(document, e); err != nil {
			t.Errorf("%s are different keys: %v", name, err)
		}
	}
	// A field of the payload, and a register, given twice in two encodings.
	for name, f := range map[string]forge{
		"nonce": {payload: func(p []byte) []byte {
			p[0]++
			return append(p, 0x7f, 0x65, 'n', 'o', 'n', 'c', 'e', 0xff, 0xf6)
		}},
		"PCR0": {fields: set("pcrs", slices.Concat(imageRegisters(0xa4, 0x00), []byte{0x18, 0x00}, encode(bytes.Repeat([]byte{2}, 48))))},
		"alg":  {protected: []byte{0xa2, 0x01, 0x38, 0x22, 0x18, 0x01, 0x38, 0x22}},
	} {
		document, root := f.make(t)
		v := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}})
		e := forgeExpectation()
		lenient(&e)
		_, err := v.Verify(document, e)
		wantRules(t, name, err, "doc.cbor.duplicate")
	}
	// A critical header does not hide in another encoding.
	document, root := forge{protected: []byte{0xa2, 0x01, 0x38, 0x22, 0x18, 0x02, 0x81, 0x01}}.make(t)
	e := forgeExpectation()
	lenient(&e)
	_, err := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}}).Verify(document, e)
	wantRules(t, "crit", err, "cose.crit")
}

func TestMaxField(t *testing.T) {
	for _, name := range []string{"public_key", "user_data", "nonce"} {
		rule := "doc." + strings.ReplaceAll(name, "_", "-")
		for _, c := range []struct {
			size, maxField int
			lenient, ok    bool
		}{
			{1024, 0, false, true}, {1025, 0, false, false}, {1025, 0, true, true}, {4096, 0, true, true}, {4097, 0, true, false},
			{4096, 4096, false, true}, {2001, 2000, false, false}, {2000, 2000, false, true}, {2001, 2000, true, false},
			{17, 16, false, false}, {16, 16, true, true}, {4097, 4096, false, false},
		} {
			document, root := forge{fields: set(name, encode(make([]byte, c.size)))}.make(t)
			e := forgeExpectation()
			e.AllowLenient, e.MaxField = c.lenient, c.maxField
			// The other fields are short.
			_, err := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}}).Verify(document, e)
			if c.ok && err != nil {
				t.Errorf("%s %+v: %v", name, c, err)
			} else if !c.ok {
				wantRules(t, name, err, rule)
			}
		}
	}
}

// TestLenientVectors: lenient accepts of the reject-strict vectors those that
// docs/rules.md lists, and s33 and s34 are decided by level and greatest field.
func TestLenientVectors(t *testing.T) {
	var index struct {
		Mutation  int64  `json:"mutation_clock_unix"`
		Synthetic int64  `json:"synthetic_clock_unix"`
		Root      string `json:"synthetic_root"`
		Items     []struct{ File, Kind, Expected, Why string }
	}
	if err := json.Unmarshal(readShared(t, "vectors/index.json"), &index); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := regexp.MustCompile("(?m)^\\| `([ms][0-9]+_[a-z0-9_]+)` \\| (accepts|refuses)").FindAllStringSubmatch(string(page), -1)
	wanted := map[string]bool{}
	for _, row := range listed {
		wanted[row[1]] = row[2] == "accepts"
	}
	roots, err := attestation.ParseRoots(readShared(t, "vectors/"+index.Root))
	if err != nil {
		t.Fatal(err)
	}
	aws, synthetic := newVerifier(t, attestation.VerifierOptions{}), newVerifier(t, attestation.VerifierOptions{Roots: roots})
	strictOnly := 0
	for _, item := range index.Items {
		v, at := aws, index.Mutation
		if item.Kind != "mutation" {
			v, at = synthetic, index.Synthetic
		}
		document := readShared(t, "vectors/"+item.File)
		e := attestation.Expectation{AllowAnyImage: true, Time: time.Unix(at, 0), AllowLenient: true}
		_, err := v.Verify(document, e)
		want := strings.HasPrefix(item.Expected, "accept") || item.Expected == "policy"
		if item.Expected == "reject-strict" {
			strictOnly++
			decided, there := wanted[strings.TrimSuffix(item.File, ".bin")]
			if !there {
				t.Errorf("docs/rules.md does not say what lenient makes of %s", item.File)
			}
			want = decided
		}
		if (err == nil) != want {
			t.Errorf("%s (%s), lenient: accepted %v, want %v: %v", item.File, item.Expected, err == nil, want, err)
		}
		if item.Expected != "policy" {
			continue
		}
		for _, c := range []struct {
			lenient  bool
			maxField int
			ok       bool
		}{{false, 0, false}, {false, 4096, true}, {true, 1024, false}, {true, 4096, true}} {
			e.AllowLenient, e.MaxField = c.lenient, c.maxField
			if _, err := v.Verify(document, e); (err == nil) != c.ok {
				t.Errorf("%s %+v: %v", item.File, c, err)
			}
		}
	}
	if strictOnly != len(wanted) {
		t.Errorf("docs/rules.md lists %d vectors, there are %d", len(wanted), strictOnly)
	}
}

// TestOffsets: problems say where in the document they are.
func TestOffsets(t *testing.T) {
	for name, c := range map[string]struct {
		f  forge
		at func(document []byte) int
	}{
		"module_id":      {forge{fields: set("module_id", encode(""))}, func(d []byte) int { return bytes.Index(d, encode("module_id")) + 10 }},
		"nonce":          {forge{fields: set("nonce", encode(7))}, func(d []byte) int { return bytes.Index(d, encode("nonce")) + 6 }},
		"byte after":     {forge{document: func(d []byte) []byte { return append(d, 0) }}, func(d []byte) int { return len(d) - 1 }},
		"wide unknown":   {unknown(0x81, 0x18, 0x03), func(d []byte) int { return bytes.Index(d, encode("future")) + 8 }},
		"tag":            {forge{document: func(d []byte) []byte { return append([]byte{0xd1}, d...) }}, func([]byte) int { return 0 }},
		"protected":      {forge{protected: []byte{0xa1, 0x01, 0x26}}, func([]byte) int { return 4 }},
		"signature":      {forge{parts: func(p *[4][]byte) { p[3][40] ^= 1 }}, func(d []byte) int { return len(d) - 98 }},
		"leaf":           {forge{certificate: editCertificate(4, func(c *x509.Certificate) { c.KeyUsage = 0 })}, func(d []byte) int { return bytes.Index(d, encode("certificate")) + 12 }},
		"root":           {forge{certificate: editCertificate(2, func(c *x509.Certificate) { c.NotAfter = forgeTime.Add(-1) })}, nil},
		"end of the map": {forge{payload: func(p []byte) []byte { return append(p, 0xf6) }}, func(d []byte) int { return len(d) - 99 }},
	} {
		document, root := c.f.make(t)
		verdict := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}}).Report(document, forgeExpectation())
		switch {
		case len(verdict.Problems) != 1 || verdict.Problems[0].Offset == nil:
			t.Errorf("%s: %v", name, verdict.Problems)
		case c.at != nil && *verdict.Problems[0].Offset != int64(c.at(document)):
			t.Errorf("%s: %v, want byte %d", name, verdict.Problems, c.at(document))
		case document[*verdict.Problems[0].Offset]>>5 != 2 && c.at == nil:
			t.Errorf("%s: no certificate begins at byte %d", name, *verdict.Problems[0].Offset)
		}
	}
	// In a payload of chunks a place is that of the byte in its chunk.
	var payload []byte
	f := unknown(0x62, 0xc3, 0x28)
	f.payload = func(p []byte) []byte { payload = p; return p }
	f.parts = func(p *[4][]byte) {
		chunks := []byte{0x5f}
		for _, b := range payload {
			chunks = append(chunks, 0x41, b, 0x40)
		}
		p[2] = append(chunks, 0xff)
	}
	document, root := f.make(t)
	e := forgeExpectation()
	lenient(&e)
	verdict := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}}).Report(document, e)
	want := int64(1+5+1+1) + int64(3*(len(payload)-3)) + 1
	if len(verdict.Problems) != 1 || *verdict.Problems[0].Offset != want || document[want] != 0x62 {
		t.Errorf("in chunks: %v, want byte %d", verdict.Problems, want)
	}
}

// TestInformation: what is allowed and not used is said, and decides nothing.
func TestInformation(t *testing.T) {
	document, v := issued(t)
	d, err := v.Verify(document, forgeExpectation())
	if err != nil || len(d.Information) > 0 {
		t.Errorf("a document like AWS's: %v, %v", d.Information, err)
	}
	// Forged certificates have neither AWS's names nor its serials.
	scheme := []string{"info.subject", "info.serial"}
	reached := slices.Clone(scheme)
	for name, c := range map[string]struct {
		f  forge
		id string
	}{
		"plain":   {forge{}, ""},
		"tag":     {forge{document: func(d []byte) []byte { return append([]byte{0xd2}, d...) }}, "info.tag"},
		"absent":  {forge{fields: without("nonce")}, "info.absent"},
		"unknown": {unknown(0x00), "info.unknown-key"},
		"eku":     {forge{certificate: editCertificate(4, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} })}, "info.eku"},
		"policy":  {forge{certificate: editCertificate(1, extension(false, []byte{5, 0}, 1, 2, 3, 4, 5))}, "info.extension"},
	} {
		document, root := c.f.make(t)
		verdict := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}}).Report(document, forgeExpectation())
		if !verdict.Verified() {
			t.Errorf("%s: %v", name, verdict.Problems)
		}
		want := slices.Clone(scheme)
		if c.id != "" {
			want = append(want, c.id)
			reached = append(reached, c.id)
		}
		got := rulesOf(verdict.Information)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	page, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range attestation.Informative() {
		if !slices.Contains(reached, rule.ID) {
			t.Errorf("nothing was said by rule %s", rule.ID)
		}
		if row := "| `" + rule.ID + "` | " + rule.Sentence + " |\n"; !bytes.Contains(page, []byte(row)) {
			t.Errorf("docs/rules.md lacks the row\n%s", row)
		}
	}
}

// TestGenuineInformation: the scheme of names and serials is that of every
// genuine document.
func TestGenuineInformation(t *testing.T) {
	genuine, _ := readIndex(t)
	v := newVerifier(t, attestation.VerifierOptions{})
	for _, item := range genuine {
		d, err := v.Verify(readShared(t, item.File), archive)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range d.Information {
			t.Errorf("%s: %s: %s", item.File, i.Rule, i.Message)
		}
	}
}

// TestLevels prints the names.
func TestLevels(t *testing.T) {
	for got, want := range map[string]string{
		attestation.LevelStrict.String(): "strict", attestation.LevelLenient.String(): "lenient", attestation.Level(7).String(): "level(7)",
		attestation.RevocationUnchecked.String(): "unchecked", attestation.RevocationGood.String(): "good",
		attestation.RevocationRevoked.String(): "revoked", attestation.Revocation(9).String(): "revocation(9)",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestLenientAllocation: what can be encoded in many ways costs no more.
func TestLenientAllocation(t *testing.T) {
	_, v := issued(t)
	e := archive
	lenient(&e)
	head := func(rest ...byte) []byte { return append([]byte{0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0}, rest...) }
	repeat := func(n int, b ...byte) []byte { return bytes.Repeat(b, n) }
	oddKeys := []byte{0xbf}
	for i := range 60 {
		oddKeys = append(oddKeys, 0x19, 0, byte(i), 0xbf, 0x18, byte(i), 0x9f, 0xff, 0xff)
	}
	for name, inner := range map[string][]byte{
		"chunked text":   append([]byte{0xbf, 0x7f}, repeat(8000, 0x61, 'a')...),
		"odd keys":       oddKeys,
		"maps as keys":   append([]byte{0xbf}, repeat(15, slices.Concat([]byte{0xbf}, repeat(60, 0x18, 0, 0), []byte{0xff, 0x00})...)...),
		"arrays as keys": append([]byte{0xbf, 0x9f}, repeat(8000, 0x18, 0)...),
	} {
		chunks := []byte{0x5f}
		for _, b := range inner {
			chunks = append(chunks, 0x41, b)
		}
		for form, document := range map[string][]byte{
			"whole":  head(encode(inner)...),
			"chunks": head(chunks[:min(len(chunks), 20000)]...),
			"ended":  append(append(head(chunks[:min(len(chunks), 19000)]...), 0xff), encode(make([]byte, 96))...),
		} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := v.Verify(document, e); err == nil {
				t.Errorf("%s: accepted", name)
			}
			runtime.ReadMemStats(&after)
			if used, limit := after.TotalAlloc-before.TotalAlloc, uint64(64<<10+10*len(document)); used > limit {
				t.Errorf("%s, %s: %d bytes allocated for %d, limit %d", name, form, used, len(document), limit)
			}
		}
	}
}

// TestBigSerial keeps the note on serials from assuming their length.
func TestBigSerial(t *testing.T) {
	document, root := forge{certificate: editCertificate(4, func(c *x509.Certificate) {
		c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 150)
	})}.make(t)
	d, err := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}}).Verify(document, forgeExpectation())
	if err != nil || !slices.Contains(rulesOf(d.Information), "info.serial") {
		t.Errorf("%v", err)
	}
}
