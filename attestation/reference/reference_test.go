// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

const (
	roleARN    = "arn:aws:iam::123456789012:role/Webserver"
	instanceID = "i-1234567890abcdef0"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func hexOf(s string) string { return pcr.Sum([]byte(s)).String() }

// file is a file with releases of these members.
func file(releases ...string) []byte {
	return []byte(`{"schema": "cretula.reference.v1", "releases": [{` + strings.Join(releases, "}, {") + `}]}`)
}

// full has every member.
func full(t testing.TB) []byte {
	certPEM, _ := selfSigned(t)
	quoted, err := json.Marshal(string(certPEM))
	if err != nil {
		t.Fatal(err)
	}
	return file(
		fmt.Sprintf(`"name": "orders 1.4.1", "kind": "enclave", "not_before": "2026-11-01T00:00:00Z", "not_after": "2026-12-01T00:00:00+01:00",
			"pcrs": {"PCR0": ["%s", "%s"], "PCR1": "%s"}, "required": ["PCR16"], "role_arns": ["%s"], "instance_ids": ["%s"], "certificates": [%s]`,
			hexOf("0a"), hexOf("0b"), hexOf("1"), roleARN, instanceID, quoted),
		fmt.Sprintf(`"name": "orders 1.4.2", "sets": [{"PCR0": "%s", "PCR2": "%s"}, {"PCR0": "%s", "PCR2": "%s"}]`,
			hexOf("s0"), hexOf("s2"), hexOf("t0"), hexOf("t2")),
		fmt.Sprintf(`"name": "builder", "kind": "nitrotpm", "pcrs": {"PCR4": "%s"}`, hexOf("4")),
	)
}

// selfSigned is the certificate of a signer, always the same one: the seeds of a
// fuzz target must be the same in each of its processes.
func selfSigned(t testing.TB) (pemBytes, der []byte) {
	t.Helper()
	block, _ := pem.Decode([]byte(signer))
	if block == nil {
		t.Fatal("no certificate")
	}
	return []byte(signer), block.Bytes
}

const signer = `-----BEGIN CERTIFICATE-----
MIIBtzCCATygAwIBAgIURpWm09K6TQsjKhM/kijtrDKDHw0wCgYIKoZIzj0EAwMw
ETEPMA0GA1UEAwwGc2lnbmVyMCAXDTI2MTEyMTE0MTMwNloYDzIxMjYxMDI4MTQx
MzA2WjARMQ8wDQYDVQQDDAZzaWduZXIwdjAQBgcqhkjOPQIBBgUrgQQAIgNiAAT5
ozXXzUfMbiQm180RWZFBrDLur48m8AIMQ02BLGCBmk7OxnY6VJSbEC8jLypMeA1Y
MfLDR+iecePNfSvqEg24s9lH0rigrngMSLy/fIylSoaKCcgPgQT3gIVDf+4RDcyj
UzBRMB0GA1UdDgQWBBRM3+HgwhZByCa3oHbwK2Odgu9l6DAfBgNVHSMEGDAWgBRM
3+HgwhZByCa3oHbwK2Odgu9l6DAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMD
A2kAMGYCMQD+nh932fqIZPIetHFntdAbvYk9f76y28W67l8ecM27Qw7lYAAefy4W
CH+4zuWmy78CMQCAevD0T86p2EkwkISJa3LODnAJieZv/jmIXfDhoWv8c4fNkoGY
qZ5BwUNcf6YVStA=
-----END CERTIFICATE-----
`

func registers(values map[pcr.Index]string) pcr.Set {
	var set pcr.Set
	for i, v := range values {
		set.Put(i, pcr.Sum([]byte(v)))
	}
	return set
}

func mustParse(t testing.TB, data []byte) *Set {
	t.Helper()
	s, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRefusedFiles(t *testing.T) {
	d, zero := hexOf("x"), strings.Repeat("0", 96)
	pin := `"name": "r", "pcrs": {"PCR0": "` + d + `"}`
	many := strings.Repeat(`"`+d+`",`, maxValues) + `"` + d + `"`
	for _, c := range []struct{ name, rule, place, file string }{
		{"nothing", "json", "line 1", ``},
		{"syntax", "json", "line 2, column 6", "{\n \"a\" 1}"},
		{"trailing", "json", "line 1", string(file(pin)) + "{}"},
		{"utf-8", "json", "the file", "{\"\xff\": 1}"},
		{"depth", "json", "releases", `{"releases": [[[[[[[[[[]]]]]]]]]]}`},
		{"no object", "type", "the file", `[]`},
		{"null", "type", "the file", `null`},
		{"no schema", "schema", "schema", `{"releases": []}`},
		{"other schema", "schema", "schema", `{"schema": "cretula.reference.v2", "releases": []}`},
		{"schema in other case", "member", "the file", `{"Schema": "cretula.reference.v1", "releases": []}`},
		{"no releases", "type", "releases", `{"schema": "cretula.reference.v1"}`},
		{"empty releases", "empty", "releases", `{"schema": "cretula.reference.v1", "releases": []}`},
		{"releases no array", "type", "releases", `{"schema": "cretula.reference.v1", "releases": {}}`},
		{"release no object", "type", "releases[0]", `{"schema": "cretula.reference.v1", "releases": [1]}`},
		{"unknown member", "member", "releases[0]", string(file(pin + `, "pcr": {}`))},
		{"member in other case", "member", "releases[0]", string(file(pin + `, "PCRS": {}`))},
		{"member twice", "duplicate", "releases[0].name", string(file(pin + `, "name": "r"`))},
		{"register twice", "duplicate", "releases[0].pcrs.PCR0", string(file(`"name": "r", "pcrs": {"PCR0": "` + d + `", "PCR0": "` + d + `"}`))},
		{"name twice", "duplicate", "releases[1].name", string(file(pin, pin))},
		{"no name", "type", "releases[0].name", string(file(`"pcrs": {"PCR0": "` + d + `"}`))},
		{"empty name", "value", "releases[0].name", string(file(`"name": ""`))},
		{"long name", "value", "releases[0].name", string(file(`"name": "` + strings.Repeat("n", 129) + `"`))},
		{"name with a control character", "value", "releases[0].name", string(file(`"name": "a\u001bb"`))},
		{"name with space around", "value", "releases[0].name", string(file(`"name": " a"`))},
		{"kind", "value", "releases[0].kind", string(file(pin + `, "kind": "vm"`))},
		{"kind null", "value", "releases[0].kind", string(file(pin + `, "kind": null`))},
		{"date", "value", "releases[0].not_before", string(file(pin + `, "not_before": "2026-11-20"`))},
		{"date no string", "type", "releases[0].not_after", string(file(pin + `, "not_after": 1`))},
		{"zero date", "value", "releases[0].not_after", string(file(pin + `, "not_after": "0001-01-01T00:00:00Z"`))},
		{"dates reversed", "validity", "releases[0]", string(file(pin + `, "not_before": "2026-11-21T00:00:00Z", "not_after": "2026-11-20T00:00:00Z"`))},
		{"nothing pinned", "empty", "releases[0]", string(file(`"name": "r"`))},
		{"only required", "empty", "releases[0]", string(file(`"name": "r", "required": ["PCR0", "PCR1", "PCR2"]`))},
		{"only PCR1", "empty", "releases[0]", string(file(`"name": "r", "pcrs": {"PCR1": "` + d + `"}`))},
		{"only PCR2", "empty", "releases[0]", string(file(`"name": "r", "pcrs": {"PCR2": "` + d + `"}`))},
		{"only PCR8", "empty", "releases[0]", string(file(`"name": "r", "pcrs": {"PCR8": "` + d + `"}`))},
		{"only PCR3 and PCR4", "empty", "releases[0]", string(file(`"name": "r", "role_arns": ["` + roleARN + `"], "instance_ids": ["` + instanceID + `"]`))},
		{"PCR8 zero", "empty", "releases[0]", string(file(`"name": "r", "role_arns": ["` + roleARN + `"], "pcrs": {"PCR8": ["` + d + `", "` + zero + `"]}`))},
		{"one set pins nothing", "empty", "releases[0].sets[1]", string(file(`"name": "r", "sets": [{"PCR0": "` + d + `"}, {"PCR1": "` + d + `"}]`))},
		{"nitrotpm without PCR4", "empty", "releases[0]", string(file(pin + `, "kind": "nitrotpm"`))},
		{"register with a control character", "value", `releases[0].pcrs."\x1b[2J"`, string(file(`"name": "r", "pcrs": {"\u001b[2J": "` + d + `"}`))},
		{"pcrs empty", "empty", "releases[0].pcrs", string(file(`"name": "r", "pcrs": {}`))},
		{"pcrs no object", "type", "releases[0].pcrs", string(file(`"name": "r", "pcrs": []`))},
		{"no values", "empty", "releases[0].pcrs.PCR0", string(file(`"name": "r", "pcrs": {"PCR0": []}`))},
		{"too many values", "size", "releases[0].pcrs.PCR0", string(file(`"name": "r", "pcrs": {"PCR0": [` + many + `]}`))},
		{"value twice", "duplicate", "releases[0].pcrs.PCR0", string(file(`"name": "r", "pcrs": {"PCR0": ["` + d + `", "` + strings.ToUpper(d) + `"]}`))},
		{"zero PCR0", "zero", "releases[0].pcrs.PCR0", string(file(`"name": "r", "pcrs": {"PCR0": "` + zero + `"}`))},
		{"zero PCR1", "zero", "releases[0].pcrs.PCR1", string(file(`"name": "r", "pcrs": {"PCR1": ["` + zero + `"]}`))},
		{"zero PCR2 in a set", "zero", "releases[0].sets[0].PCR2", string(file(`"name": "r", "sets": [{"PCR2": "` + zero + `"}]`))},
		{"short value", "value", "releases[0].pcrs.PCR0", string(file(`"name": "r", "pcrs": {"PCR0": "00"}`))},
		{"value no string", "type", "releases[0].pcrs.PCR0", string(file(`"name": "r", "pcrs": {"PCR0": 1}`))},
		{"register 32", "value", "releases[0].pcrs.PCR32", string(file(`"name": "r", "pcrs": {"PCR32": "` + d + `"}`))},
		{"register in lower case", "value", "releases[0].pcrs.pcr0", string(file(`"name": "r", "pcrs": {"pcr0": "` + d + `"}`))},
		{"register without PCR", "value", "releases[0].pcrs.0", string(file(`"name": "r", "pcrs": {"0": "` + d + `"}`))},
		{"register 24 of a TPM", "value", "releases[0].pcrs.PCR24", string(file(`"name": "r", "kind": "nitrotpm", "pcrs": {"PCR24": "` + d + `"}`))},
		{"role", "value", "releases[0].role_arns[0]", string(file(pin + `, "role_arns": ["Webserver"]`))},
		{"role twice", "duplicate", "releases[0].role_arns[1]", string(file(pin + `, "role_arns": ["` + roleARN + `", "` + roleARN + `"]`))},
		{"role and PCR3", "duplicate", "releases[0].role_arns", string(file(`"name": "r", "pcrs": {"PCR0": "` + d + `", "PCR3": "` + d + `"}, "role_arns": ["` + roleARN + `"]`))},
		{"role of a TPM", "member", "releases[0].role_arns", string(file(`"name": "r", "kind": "nitrotpm", "pcrs": {"PCR4": "` + d + `"}, "role_arns": ["` + roleARN + `"]`))},
		{"instance", "value", "releases[0].instance_ids[0]", string(file(pin + `, "instance_ids": ["i-1"]`))},
		{"certificate", "value", "releases[0].certificates[0]", string(file(pin + `, "certificates": ["signer"]`))},
		{"zero certificate", "value", "releases[0].certificates[0]", string(file(pin + `, "certificates": ["` + zero + `"]`))},
		{"certificates no array", "type", "releases[0].certificates", string(file(pin + `, "certificates": "` + d + `"`))},
		{"sets empty", "empty", "releases[0].sets", string(file(pin + `, "sets": []`))},
		{"set empty", "empty", "releases[0].sets[0]", string(file(pin + `, "sets": [{}]`))},
		{"set no object", "type", "releases[0].sets[0]", string(file(pin + `, "sets": [1]`))},
		{"set twice", "duplicate", "releases[0].sets[1]", string(file(`"name": "r", "sets": [{"PCR0": "` + d + `"}, {"PCR0": "` + d + `"}]`))},
		{"register in set and pcrs", "duplicate", "releases[0].sets[0].PCR0", string(file(pin + `, "sets": [{"PCR0": "` + d + `"}]`))},
		{"list in a set", "type", "releases[0].sets[0].PCR0", string(file(`"name": "r", "sets": [{"PCR0": ["` + d + `"]}]`))},
		{"required twice", "duplicate", "releases[0].required[1]", string(file(pin + `, "required": ["PCR5", "PCR5"]`))},
		{"required no register", "value", "releases[0].required[0]", string(file(pin + `, "required": ["5"]`))},
		{"required no string", "type", "releases[0].required[0]", string(file(pin + `, "required": [5]`))},
		{"required empty", "empty", "releases[0].required", string(file(pin + `, "required": []`))},
	} {
		s, err := Parse([]byte(c.file))
		if s != nil {
			t.Errorf("%s: read", c.name)
		}
		e, ok := errors.AsType[*reason.Error](err)
		if !ok || e.Rule() != "reference."+c.rule || e.Reason() != reason.Malformed || !strings.HasPrefix(e.Problems[0].Message, c.place) {
			t.Errorf("%s: %v, want reference.%s at %s", c.name, err, c.rule, c.place)
		}
	}
	if _, err := Parse(make([]byte, MaxSize+1)); err == nil || !strings.Contains(err.Error(), "reference.size") {
		t.Errorf("large: %v", err)
	}
	var releases []string
	for i := range MaxReleases + 1 {
		releases = append(releases, fmt.Sprintf(`"name": "%d"`, i))
	}
	if _, err := Parse(file(releases...)); err == nil || !strings.Contains(err.Error(), "reference.size") {
		t.Errorf("many: %v", err)
	}
}

func TestPinned(t *testing.T) {
	d := hexOf("x")
	for _, release := range []string{
		`"pcrs": {"PCR0": "` + d + `"}`,
		`"pcrs": {"PCR1": "` + d + `", "PCR2": "` + d + `"}`,
		`"pcrs": {"PCR1": "` + d + `"}, "sets": [{"PCR2": "` + d + `"}]`,
		`"pcrs": {"PCR3": "` + d + `", "PCR8": "` + d + `"}`,
		`"role_arns": ["` + roleARN + `"], "certificates": ["` + d + `"]`,
		`"role_arns": ["` + roleARN + `"], "sets": [{"PCR8": "` + d + `"}]`,
		`"kind": "nitrotpm", "pcrs": {"PCR4": "` + d + `"}`,
	} {
		if _, err := Parse(file(`"name": "r", ` + release)); err != nil {
			t.Errorf("%s: %v", release, err)
		}
	}
}

func TestMatch(t *testing.T) {
	data := full(t)
	s := mustParse(t, data)
	role, _ := pcr.Role(roleARN)
	instance, _ := pcr.Instance(instanceID)
	good := registers(map[pcr.Index]string{0: "0b", 1: "1", 2: "any", 16: "any"})
	good.Put(3, role)
	good.Put(4, instance)
	good.Put(8, s.releases[0].allowed[8][0])
	m, err := s.Match(&attestation.Document{Kind: attestation.KindEnclave, PCRs: good}, noon)
	if err != nil || m.Release != "orders 1.4.1" || m.Releases != nil {
		t.Fatalf("%+v, %v", m, err)
	}
	if m.Pinned.Len() != 5 || !m.NotAfter.Equal(time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)) {
		t.Errorf("pinned %d registers until %v", m.Pinned.Len(), m.NotAfter)
	}
	for name, change := range map[string]func(*attestation.Document, *time.Time){
		"PCR0":       func(d *attestation.Document, _ *time.Time) { d.PCRs.Put(0, pcr.Sum(nil)) },
		"PCR3":       func(d *attestation.Document, _ *time.Time) { d.PCRs.Put(3, pcr.Digest{}) },
		"PCR4":       func(d *attestation.Document, _ *time.Time) { d.PCRs.Remove(4) },
		"PCR8":       func(d *attestation.Document, _ *time.Time) { d.PCRs.Put(8, pcr.Digest{}) },
		"PCR16":      func(d *attestation.Document, _ *time.Time) { d.PCRs.Remove(16) },
		"kind":       func(d *attestation.Document, _ *time.Time) { d.Kind = attestation.KindNitroTPM },
		"not_before": func(_ *attestation.Document, at *time.Time) { *at = at.AddDate(0, -1, 0) },
		"not_after":  func(_ *attestation.Document, at *time.Time) { *at = at.AddDate(0, 1, 0) },
	} {
		d, at := &attestation.Document{Kind: attestation.KindEnclave, PCRs: good}, noon
		change(d, &at)
		m, err := s.Match(d, at)
		e, ok := errors.AsType[*reason.Error](err)
		if !ok || e.Rule() != RuleRelease || e.Reason() != reason.Mismatch || m.Release != "" {
			t.Fatalf("%s: %+v, %v", name, m, err)
		}
		i := slices.IndexFunc(m.Releases, func(c Comparison) bool { return c.Name == "orders 1.4.1" })
		if differs := m.Releases[i].Differs; len(differs) != 1 || differs[0].What != name {
			t.Errorf("%s: %v", name, differs)
		}
	}
	if _, err := s.Match(nil, noon); err == nil {
		t.Error("no document matches")
	}
}

func TestSetsMatchAsAWhole(t *testing.T) {
	s := mustParse(t, full(t))
	for _, c := range []struct{ zero, two, differs string }{
		{"s0", "s2", ""}, {"t0", "t2", ""}, {"s0", "t2", "PCR2"}, {"t0", "s2", "PCR0"}, {"x", "s2", "PCR0"},
	} {
		pcrs := registers(map[pcr.Index]string{0: c.zero, 2: c.two})
		m, err := s.Compare(attestation.KindEnclave, &pcrs, noon)
		if c.differs == "" {
			if err != nil || m.Release != "orders 1.4.2" || m.Pinned != pcrs {
				t.Errorf("%v: %+v, %v", c, m, err)
			}
			continue
		}
		if err == nil || m.Releases[0].Name != "orders 1.4.2" || m.Releases[0].Differs[0].What != c.differs {
			t.Errorf("%v: %+v, %v", c, m, err)
		}
	}
}

func TestClosestFirst(t *testing.T) {
	s := mustParse(t, file(
		`"name": "far", "pcrs": {"PCR0": "`+hexOf("a")+`", "PCR1": "`+hexOf("b")+`", "PCR2": "`+hexOf("c")+`"}`,
		`"name": "near", "not_after": "2026-11-01T00:00:00Z", "pcrs": {"PCR0": "`+hexOf("0")+`", "PCR2": ["`+hexOf("c")+`", "`+hexOf("d")+`"]}`,
		`"name": "other", "pcrs": {"PCR0": "`+hexOf("a")+`", "PCR1": "`+hexOf("b")+`", "PCR5": "`+hexOf("c")+`"}`))
	pcrs := registers(map[pcr.Index]string{0: "0", 1: "1", 2: "2"})
	m, err := s.Compare(attestation.KindEnclave, &pcrs, noon)
	var names []string
	for _, c := range m.Releases {
		names = append(names, c.Name)
	}
	if !slices.Equal(names, []string{"near", "far", "other"}) {
		t.Errorf("order %v", names)
	}
	const want = `matches none of 3 releases; closest is "near": PCR2 differs, not valid after 2026-11-01T00:00:00Z (expect.release)`
	if err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if got := m.Releases[1].summary(); got != "PCR0, PCR1 and PCR2 differ" {
		t.Errorf("summary %q", got)
	}
	if got, want := m.Releases[0].Differs[1].String(), "PCR2 wanted "+pcr.Sum([]byte("c")).Short()+" or one of 1 more, got "+pcr.Sum([]byte("2")).Short(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := m.Releases[2].Differs[2].String(), "PCR5 wanted "+pcr.Sum([]byte("c")).Short()+", absent"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestArchivedDocument: at the document's own time a release counts that has ended
// since, and none that began since.
func TestArchivedDocument(t *testing.T) {
	d := &attestation.Document{Kind: attestation.KindEnclave, PCRs: registers(map[pcr.Index]string{0: "0"}), Timestamp: noon}
	pin := `"pcrs": {"PCR0": "` + hexOf("0") + `"}, `
	ended := file(`"name": "ended", ` + pin + `"not_after": "2026-11-20T12:00:00Z"`)
	begun := file(`"name": "begun", ` + pin + `"not_before": "2026-11-20T12:00:01Z"`)
	later := noon.AddDate(5, 0, 0)
	for _, c := range []struct {
		file []byte
		at   time.Time
		good bool
	}{{ended, d.Timestamp, true}, {ended, later, false}, {begun, d.Timestamp, false}, {begun, later, true}} {
		if m, err := mustParse(t, c.file).Match(d, c.at); (err == nil) != c.good {
			t.Errorf("%s at %v: %q, %v", c.file, c.at, m.Release, err)
		}
	}
}

// A document in debug mode matches no release: zero is refused as a value.
func TestDebugMatchesNothing(t *testing.T) {
	s := mustParse(t, full(t))
	var debug pcr.Set
	for i := range pcr.Index(16) {
		debug.Put(i, pcr.Digest{})
	}
	if m, err := s.Compare(attestation.KindEnclave, &debug, noon); err == nil {
		t.Errorf("matches %q", m.Release)
	}
}

func TestCertificateOfSigner(t *testing.T) {
	pemBytes, der := selfSigned(t)
	want, err := pcr.Certificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(pemBytes), want.String()} {
		quoted, _ := json.Marshal(text)
		s := mustParse(t, file(`"name": "r", "role_arns": ["`+roleARN+`"], "certificates": [`+string(quoted)+`]`))
		if got := s.releases[0].allowed[8]; len(got) != 1 || got[0] != want {
			t.Errorf("PCR8 = %v, want %v", got, want)
		}
	}
}

// TestDocumentation: the page has the schema and every rule that is documented is
// one that refuses something.
func TestDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference-values.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, JSONSchema()) {
		t.Error("docs/reference-values.md has not the schema that is embedded")
	}
	if !bytes.Contains(page, []byte("with `--at-document-time` the document's\nown")) {
		t.Error("docs/reference-values.md does not say at what time the releases of an archived document are judged")
	}
	rules, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{"size", "json", "schema", "member", "duplicate", "type", "value", "validity", "empty", "zero"} {
		if !bytes.Contains(rules, []byte("| `reference."+rule+"` | malformed |")) {
			t.Errorf("docs/rules.md lacks reference.%s", rule)
		}
	}
}

// TestJSONSchema: the schema names the members that the parser knows.
func TestJSONSchema(t *testing.T) {
	var schema struct {
		Defs struct {
			Release struct {
				Properties map[string]any
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(JSONSchema(), &schema); err != nil {
		t.Fatal(err)
	}
	_, err := Parse(file(`"name": "r", "x": 1`))
	for name := range schema.Defs.Release.Properties {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the parser does not know %s", name)
		}
	}
	if len(schema.Defs.Release.Properties) != 10 {
		t.Errorf("%d members in the schema", len(schema.Defs.Release.Properties))
	}
}

func FuzzReference(f *testing.F) {
	seeds := [][]byte{full(f), file(`"name": "r", "pcrs": {"PCR0": "` + hexOf("0") + `"}`), []byte(`{"schema":`), []byte(`[[[[[[[[[`)}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			if _, ok := errors.AsType[*reason.Error](err); !ok || s != nil {
				t.Fatalf("%v beside %v", s, err)
			}
			return
		}
		// Whatever was read, what has no register and what is in debug mode
		// matches no release of an enclave, and encoding/json reads it too.
		var none, debug pcr.Set
		debug.Put(0, pcr.Digest{})
		debug.Put(1, pcr.Digest{})
		debug.Put(2, pcr.Digest{})
		debug.Put(8, pcr.Digest{})
		for _, set := range []*pcr.Set{&none, &debug} {
			if m, err := s.Compare(attestation.KindEnclave, set, noon); err == nil {
				t.Fatalf("matches %q", m.Release)
			}
		}
		if !json.Valid(bytes.Clone(data)) {
			t.Fatal("no JSON")
		}
	})
}
