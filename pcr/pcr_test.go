// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
)

// The two values that the AWS Nitro Enclaves User Guide publishes.
const (
	publishedPCR3 = "78fce75db17cd4e0a3fb8dad3ad128ca5e77edbb2b2c7f75329dccd99aa5f6ef4fc1f1a452e315b9e98f9e312e6921e6"
	publishedPCR4 = "08f996b5"
)

func TestPublishedExamples(t *testing.T) {
	role, err := Role("arn:aws:iam::123456789012:role/Webserver")
	if err != nil {
		t.Fatal(err)
	}
	if role.String() != publishedPCR3 {
		t.Errorf("PCR3 = %v, want %s", role, publishedPCR3)
	}
	instance, err := Instance("i-1234567890abcdef0")
	if err != nil {
		t.Fatal(err)
	}
	if s := instance.String(); !strings.HasPrefix(s, publishedPCR4) || !strings.HasSuffix(s, "e79ce0") {
		t.Errorf("PCR4 = %s, want %s…e79ce0", s, publishedPCR4)
	}
}

// The value of PCR2 of an image with one ramdisk: nothing was hashed into it.
func TestMeasuredNothing(t *testing.T) {
	const want = "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a"
	if got := Measured(Sum(nil)).String(); got != want {
		t.Errorf("Measured(nothing) = %s, want %s", got, want)
	}
}

func TestRefusedNames(t *testing.T) {
	for _, arn := range []string{
		"", "Webserver", "arn:aws:iam::123456789012:user/Webserver", "arn:aws:iam::12345678901:role/x",
		"arn:aws:iam::123456789012:role/", "arn:aws:iam::123456789012:role/a b", " arn:aws:iam::123456789012:role/x",
		"arn:aws:iam::123456789012:role/x\n", "arn:aws:sts::123456789012:assumed-role/x/y",
	} {
		if d, err := Role(arn); err == nil || !d.IsZero() {
			t.Errorf("Role(%q) = %v, %v; want an error and nothing else", arn, d, err)
		}
	}
	for _, arn := range []string{"arn:aws-us-gov:iam::123456789012:role/x", "arn:aws-cn:iam::123456789012:role/path/to/x"} {
		if _, err := Role(arn); err != nil {
			t.Errorf("Role(%q): %v", arn, err)
		}
	}
	for _, id := range []string{"", "i-", "i-123", "i-1234567890abcdefg", "I-1234567890abcdef0", "i-1234567890ABCDEF0", "i-1234567890abcdef0 "} {
		if d, err := Instance(id); err == nil || !d.IsZero() {
			t.Errorf("Instance(%q) = %v, %v; want an error and nothing else", id, d, err)
		}
	}
}

func TestDigestText(t *testing.T) {
	d := Sum([]byte("x"))
	upper, err := ParseDigest(strings.ToUpper(d.String()))
	if err != nil || upper != d {
		t.Errorf("upper case: %v, %v", upper, err)
	}
	for _, s := range []string{"", d.String()[1:], d.String() + "0", "0x" + d.String()[2:], strings.Repeat("g", 96)} {
		if got, err := ParseDigest(s); err == nil || !got.IsZero() {
			t.Errorf("ParseDigest(%q) = %v, %v", s, got, err)
		}
	}
	if got, want := d.Short(), d.String()[:8]+"…"+d.String()[94:]; got != want {
		t.Errorf("Short = %q, want %q", got, want)
	}
}

func TestParseIndex(t *testing.T) {
	for s, want := range map[string]Index{"0": 0, "PCR0": 0, "31": 31, "PCR16": 16} {
		if got, err := ParseIndex(s); err != nil || got != want {
			t.Errorf("ParseIndex(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "PCR", "32", "256", "-1", "+1", "01", "PCR01", "pcr1", "1 ", "0x1", "ImageSha384"} {
		if got, err := ParseIndex(s); err == nil {
			t.Errorf("ParseIndex(%q) = %v", s, got)
		}
	}
}

func TestSet(t *testing.T) {
	var s Set
	one := Sum([]byte("1"))
	s.Put(4, one)
	s.Put(0, Digest{})
	s.Put(31, one)
	if s.Len() != 3 {
		t.Errorf("Len = %d", s.Len())
	}
	if d, ok := s.Get(0); !ok || !d.IsZero() {
		t.Error("a zero register counts as absent")
	}
	if _, ok := s.Get(1); ok {
		t.Error("a register nobody put")
	}
	if _, ok := s.Get(200); ok {
		t.Error("a register beyond the last")
	}
	var order []Index
	for i := range s.All() {
		order = append(order, i)
	}
	if want := []Index{0, 4, 31}; !reflect.DeepEqual(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	copied := s
	copied.Remove(4)
	if _, ok := s.Get(4); !ok || copied.Len() != 2 {
		t.Error("a copy is not its own set")
	}
	copied.Put(4, one)
	if copied != s {
		t.Error("sets with the same registers are not equal")
	}
	for range s.All() {
		break // must not go on after the loop ended
	}
}

func TestDebug(t *testing.T) {
	one := Sum([]byte("1"))
	var s Set
	if s.Debug() {
		t.Error("an empty set is debug")
	}
	for i := range Index(5) {
		s.Put(i, one)
	}
	s.Put(3, Digest{}) // no role is attached
	if s.Debug() {
		t.Error("a set without a role is debug")
	}
	for i := range Index(3) {
		debug := s
		debug.Put(i, Digest{})
		if !debug.Debug() {
			t.Errorf("zero %v is not debug", i)
		}
	}
}

func TestCompare(t *testing.T) {
	one, two := Sum([]byte("1")), Sum([]byte("2"))
	var want, got Set
	want.Put(0, one)
	want.Put(1, one)
	want.Put(8, one)
	want.Put(3, Digest{})
	got.Put(0, one)
	got.Put(1, two)
	got.Put(5, two)
	diffs := Compare(&want, &got)
	wanted := []Difference{
		{Index: 1, Want: one, Got: two},
		{Index: 3, Missing: true},
		{Index: 8, Want: one, Missing: true},
	}
	if !reflect.DeepEqual(diffs, wanted) {
		t.Errorf("Compare = %v, want %v", diffs, wanted)
	}
	if got, want := diffs[0].String(), "PCR1 wanted "+one.Short()+", got "+two.Short(); got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
	if got, want := diffs[2].String(), "PCR8 wanted "+one.Short()+", absent"; got != want {
		t.Errorf("String = %q, want %q", got, want)
	}
	if diffs := Compare(&got, &got); diffs != nil {
		t.Errorf("a set differs from itself: %v", diffs)
	}
}

func TestMeasurementsJSON(t *testing.T) {
	var m Measurements
	m.Put(0, Sum([]byte("0")))
	m.Put(8, Sum([]byte("8")))
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"HashAlgorithm":"Sha384 { ... }","PCR0":"` + Sum([]byte("0")).String() + `","PCR8":"` + Sum([]byte("8")).String() + `"}`
	if string(data) != want {
		t.Errorf("JSON %s, want %s", data, want)
	}
	for _, file := range []string{string(data), `{"EifVersion":4,"Measurements":` + string(data) + `,"IsSigned":false}`} {
		back, err := ParseMeasurements([]byte(file))
		if err != nil || back != m {
			t.Errorf("%s: %v, %v", file, back, err)
		}
	}
}

func TestRefusedMeasurements(t *testing.T) {
	digest := Sum(nil).String()
	for _, file := range []string{
		``, `[]`, `null`, `{}`, `{"HashAlgorithm":"Sha384"}`, `{"Measurements":{}}`, `{"Measurements":[]}`,
		`{"PCR0":"00"}`, `{"PCR0":1}`, `{"PCR0":null}`, `{"PCR32":"` + digest + `"}`, `{"0":"` + digest + `"}`,
		`{"PCR0":"` + digest + `","PCR0":"` + digest + `"}`, `{"PCR0":"` + digest + `"`,
		`{"PCR0":"` + digest + `","pcr1":"` + digest + `"}`, `{"PCR0":"` + digest + `","PCR01":"` + digest + `"}`,
		`{"PCR0":"` + digest + `","PCR32":"` + digest + `"}`, `{"PCR0":"` + digest + `","PCR_1":"` + digest + `"}`,
	} {
		if m, err := ParseMeasurements([]byte(file)); err == nil || m.Len() != 0 {
			t.Errorf("%s was read: %v", file, m)
		}
	}
}

// Every enclave document has PCR4 of the instance that its module id names.
func TestInstanceOfGenuineDocuments(t *testing.T) {
	data, err := os.ReadFile("../../shared/testdata/attestation/index.json")
	if err != nil {
		t.Skip("shared test data not present")
	}
	var index struct {
		Items []struct {
			File     string
			ModuleID string `json:"module_id"`
			Evidence string
			KnownBad any `json:"known_bad"`
			PCRs     map[string]string
		}
	}
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, item := range index.Items {
		if item.Evidence != "enclave" || item.KnownBad != nil || item.PCRs["4"] == "" {
			continue
		}
		id, _, _ := strings.Cut(item.ModuleID, "-enc")
		if want, err := Instance(id); err != nil || want.String() != item.PCRs["4"] {
			t.Errorf("%s: PCR4 of %q is %s, want %v (%v)", item.File, id, item.PCRs["4"], want, err)
		}
		checked++
	}
	if checked < 40 {
		t.Errorf("only %d documents checked", checked)
	}
}

func FuzzParseMeasurements(f *testing.F) {
	f.Add([]byte(`{"PCR0":"` + publishedPCR3 + `"}`))
	f.Add([]byte(`{"Measurements":{"HashAlgorithm":"Sha384 { ... }","PCR31":"` + publishedPCR3 + `"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMeasurements(data)
		if err != nil {
			if m != (Measurements{}) {
				t.Fatal("a value beside an error")
			}
			return
		}
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseMeasurements(out); err != nil || back != m {
			t.Fatalf("read back %v, %v", back, err)
		}
	})
}
