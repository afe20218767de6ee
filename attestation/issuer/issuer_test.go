// SPDX-License-Identifier: Apache-2.0

package issuer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/pcr"
)

const module = "i-0123456789abcdef0-enc0199aabbccddeeff"

var start = time.Date(2026, 11, 20, 14, 0, 7, 123e6, time.UTC)

// A clock that a test moves.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newAuthority(t testing.TB, now func() time.Time) *issuer.Authority {
	t.Helper()
	a, err := issuer.New(issuer.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func registers(n int) (set pcr.Set) {
	for i := range n {
		set.Put(pcr.Index(i), pcr.Sum([]byte{byte(i)}))
	}
	return set
}

func issue(t testing.TB, a *issuer.Authority, c issuer.Content) []byte {
	t.Helper()
	if c.ModuleID == "" {
		c.ModuleID = module
	}
	if c.PCRs.Len() == 0 {
		c.PCRs = registers(16)
	}
	document, err := a.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func verify(t testing.TB, a *issuer.Authority, document []byte, at time.Time) *attestation.Document {
	t.Helper()
	v, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{a.Root()}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := v.Verify(document, attestation.Expectation{AllowAnyImage: true, AllowAnyKind: true, AllowDebug: true, Time: at})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRoundTrip(t *testing.T) {
	a := newAuthority(t, (&clock{start}).Now)
	long := bytes.Repeat([]byte{0xa5}, 1024)
	for _, c := range []issuer.Content{
		{},
		{IndefiniteMap: true},
		{PublicKey: []byte{}, UserData: []byte{}, Nonce: []byte{}},
		{PublicKey: long, UserData: long, Nonce: long, PCRs: registers(32)},
		{PublicKey: []byte{1}, Nonce: long[:23], UserData: long[:24], PCRs: registers(17), IndefiniteMap: true},
		{UserData: long[:255], Nonce: long[:256], PCRs: registers(3)},
		{Kind: attestation.KindNitroTPM, ModuleID: "i-0123456789abcdef0-tpm0000000000000000", PCRs: registers(24), IndefiniteMap: true},
	} {
		d := verify(t, a, issue(t, a, c), start)
		if c.Kind == 0 {
			c.Kind = attestation.KindEnclave
		}
		if c.PCRs.Len() == 0 {
			c.PCRs = registers(16)
		}
		if d.Kind != c.Kind || d.PCRs != c.PCRs || d.Trust != attestation.TrustCustom || !d.Emulated {
			t.Errorf("kind %v, %d registers, trust %v, emulated %v", d.Kind, d.PCRs.Len(), d.Trust, d.Emulated)
		}
		for name, pair := range map[string][2][]byte{"public key": {d.PublicKey, c.PublicKey}, "user data": {d.UserData, c.UserData}, "nonce": {d.Nonce, c.Nonce}} {
			if (pair[0] == nil) != (pair[1] == nil) || !bytes.Equal(pair[0], pair[1]) {
				t.Errorf("%s: got %x, issued %x", name, pair[0], pair[1])
			}
		}
		if !d.Timestamp.Equal(start) {
			t.Errorf("timestamp %v, want %v", d.Timestamp, start)
		}
	}
}

// TestBytes holds a document against the bytes of genuine ones.
func TestBytes(t *testing.T) {
	a := newAuthority(t, (&clock{start}).Now)
	for _, indefinite := range []bool{false, true} {
		document := issue(t, a, issuer.Content{IndefiniteMap: indefinite, Nonce: []byte{}})
		payloadLength := int(binary.BigEndian.Uint16(document[8:]))
		if got := hex.EncodeToString(document[:8]); got != "8444a1013822a059" {
			t.Errorf("the document begins %s", got)
		}
		if len(document) != 10+payloadLength+98 || hex.EncodeToString(document[10+payloadLength:][:2]) != "5860" {
			t.Errorf("no signature of 96 bytes ends the document")
		}
		payload := document[10 : 10+payloadLength]
		first, last := "a9", "f6"
		if indefinite {
			first, last = "bf", "ff"
		}
		want := first + "696d6f64756c655f6964" + "7827" + hex.EncodeToString([]byte(module)) +
			"66646967657374" + "66534841333834" + "6974696d657374616d70" + "1b" + fmt.Sprintf("%016x", start.UnixMilli()) +
			"6470637273" + "b0" + "005830"
		if got := hex.EncodeToString(payload); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "656e6f6e636540"+strings.TrimPrefix(last, "f6")) {
			t.Errorf("payload %s…%s", got[:len(want)], got[len(got)-20:])
		}
		if !bytes.Contains(payload, []byte("\x68cabundle\x84\x59")) || !bytes.Contains(payload, []byte("\x6apublic_key\xf6\x69user_data\xf6")) {
			t.Error("cabundle is not an array of four, or absent fields are not null")
		}
	}
}

// TestKeyOrder decodes with another decoder and compares the order of the keys.
func TestKeyOrder(t *testing.T) {
	a := newAuthority(t, nil)
	for kind, id := range map[attestation.Kind]string{attestation.KindEnclave: module, attestation.KindNitroTPM: "i-0123456789abcdef0-tpm0000000000000000"} {
		document := issue(t, a, issuer.Content{Kind: kind, ModuleID: id})
		name := map[attestation.Kind]string{attestation.KindEnclave: "pcrs", attestation.KindNitroTPM: "nitrotpm_pcrs"}[kind]
		at := 0
		for _, key := range []string{"module_id", "digest", "timestamp", name, "certificate", "cabundle", "public_key", "user_data", "nonce"} {
			encoded := append([]byte{0x60 | byte(len(key))}, key...)
			i := bytes.Index(document[at:], encoded)
			if i < 0 {
				t.Fatalf("%v: %s is not where it belongs", kind, key)
			}
			at += i
		}
		var parts []any
		if err := cbor.Unmarshal(document, &parts); err != nil {
			t.Fatal(err)
		}
		var payload map[string]any
		if err := cbor.Unmarshal(parts[2].([]byte), &payload); err != nil || len(payload) != 9 {
			t.Errorf("%v: %d keys, %v", kind, len(payload), err)
		}
	}
}

func TestGoCoseVerifies(t *testing.T) {
	a := newAuthority(t, (&clock{start}).Now)
	document := issue(t, a, issuer.Content{Nonce: []byte("nonce")})
	d := verify(t, a, document, start)
	var message cose.UntaggedSign1Message
	if err := message.UnmarshalCBOR(document); err != nil {
		t.Fatal(err)
	}
	verifier, err := cose.NewVerifier(cose.AlgorithmES384, d.Chain[4].PublicKey.(*ecdsa.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := message.Verify(nil, verifier); err != nil {
		t.Error(err)
	}
}

func TestOpenSSLVerifies(t *testing.T) {
	openssl := need.Program(t, "openssl")
	a := newAuthority(t, (&clock{start}).Now)
	d := verify(t, a, issue(t, a, issuer.Content{}), start)
	dir := t.TempDir()
	write := func(name string, certs ...*x509.Certificate) string {
		var out []byte
		for _, c := range certs {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, out, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	out, err := exec.Command(openssl, "verify", "-attime", fmt.Sprint(start.Unix()), "-CAfile", write("root", d.Chain[0]),
		"-untrusted", write("between", d.Chain[1:4]...), write("leaf", d.Chain[4])).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestChainShape compares every position with the table of genuine chains.
func TestChainShape(t *testing.T) {
	a := newAuthority(t, (&clock{start}).Now)
	chain := verify(t, a, issue(t, a, issuer.Content{}), start).Chain
	const (
		bc, aki, ski, ku, crl = "2.5.29.19!", "2.5.29.35", "2.5.29.14", "2.5.29.15!", "2.5.29.31"
	)
	for i, want := range []struct {
		subject, extensions string
		life                time.Duration
		serial              int
		pathLen             int
		usage               x509.KeyUsage
	}{
		{"O OU CN=cretula-emulator.nitro-enclaves", bc + " " + ski + " " + ku, 30*365*24*time.Hour + time.Hour, 16, -1, 0x61},
		{"C O OU CN=*.us-east-1.aws.nitro-enclaves", strings.Join([]string{bc, aki, ski, ku, crl}, " "), 481 * time.Hour, 16, 2, 0x61},
		{"CN=*.zonal.us-east-1.aws.nitro-enclaves OU O C ST L", strings.Join([]string{bc, aki, ski, ku, crl}, " "), 140*time.Hour - 3*time.Second, 16, 1, 0x61},
		{"C ST L O OU CN=i-0123456789abcdef0.us-east-1.aws.nitro-enclaves", strings.Join([]string{bc, ku, ski, aki}, " "), 24 * time.Hour, 20, 0, 0x20},
		{"C ST L O OU CN=" + module + ".us-east-1.aws", bc + " 2.5.29.15", 10803 * time.Second, 16, -1, 0x03},
	} {
		cert := chain[i]
		if got := describeName(t, cert.RawSubject); got != want.subject {
			t.Errorf("%d: subject %q, want %q", i, got, want.subject)
		}
		var extensions []string
		for _, e := range cert.Extensions {
			s := e.Id.String()
			if e.Critical {
				s += "!"
			}
			extensions = append(extensions, s)
		}
		if got := strings.Join(extensions, " "); got != want.extensions {
			t.Errorf("%d: extensions %s, want %s", i, got, want.extensions)
		}
		if life := cert.NotAfter.Sub(cert.NotBefore); life != want.life {
			t.Errorf("%d: life %v, want %v", i, life, want.life)
		}
		if got := (cert.SerialNumber.BitLen() + 7) / 8; got != want.serial {
			t.Errorf("%d: serial of %d bytes, want %d", i, got, want.serial)
		}
		if cert.MaxPathLen != want.pathLen || cert.IsCA != (i < 4) || cert.KeyUsage != want.usage {
			t.Errorf("%d: path length %d, CA %v, usage %x", i, cert.MaxPathLen, cert.IsCA, cert.KeyUsage)
		}
		if cert.SignatureAlgorithm != x509.ECDSAWithSHA384 || cert.Version != 3 || len(cert.Raw) > 1024 {
			t.Errorf("%d: %v, version %d, %d bytes", i, cert.SignatureAlgorithm, cert.Version, len(cert.Raw))
		}
		if i > 0 && cert.NotAfter.After(chain[i-1].NotAfter) {
			t.Errorf("%d outlives its parent", i)
		}
	}
	leaf := chain[4]
	if want := fmt.Sprintf("199aabbccddeeff%016x", start.Unix()); leaf.SerialNumber.Text(16) != want {
		t.Errorf("leaf serial %x, want %s", leaf.SerialNumber, want)
	}
	if !leaf.NotBefore.Equal(start.Truncate(time.Second).Add(-3 * time.Second)) {
		t.Errorf("leaf begins %v", leaf.NotBefore)
	}
	if strings.Contains(chain[0].Subject.String(), "Amazon") || strings.Contains(chain[0].Subject.String(), "AWS") {
		t.Errorf("the root is called %v", chain[0].Subject)
	}
}

// describeName prints the attributes of a name in order, with the value of the
// common name, and checks the types of the strings.
func describeName(t *testing.T, raw []byte) string {
	t.Helper()
	var sequence []asn1.RawValue
	if _, err := asn1.Unmarshal(raw, &sequence); err != nil {
		t.Fatal(err)
	}
	short := map[string]string{"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU"}
	var parts []string
	for _, set := range sequence {
		var a struct {
			ID    asn1.ObjectIdentifier
			Value asn1.RawValue
		}
		if _, err := asn1.Unmarshal(set.Bytes, &a); err != nil {
			t.Fatal(err)
		}
		part := short[a.ID.String()]
		if want := map[bool]int{true: asn1.TagPrintableString, false: asn1.TagUTF8String}[part == "C"]; a.Value.Tag != want {
			t.Errorf("%s has string type %d, want %d", part, a.Value.Tag, want)
		}
		if part == "CN" {
			value := string(a.Value.Bytes)
			if i := strings.IndexByte(value, '.'); i == 16 && value != issuer.RootCommonName {
				value = "*" + value[i:]
			}
			part += "=" + value
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, " ")
}

func parseChain(t *testing.T, document []byte) (chain []*x509.Certificate) {
	t.Helper()
	u, err := attestation.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range u.UnverifiedCertificates() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	return chain
}

// TestRenewal issues documents over a month and looks at what is reused.
func TestRenewal(t *testing.T) {
	c := &clock{start}
	a := newAuthority(t, c.Now)
	seen := [5]map[string]bool{}
	for i := range seen {
		seen[i] = map[string]bool{}
	}
	leafMade := time.Time{}
	for c.now.Before(start.Add(31 * 24 * time.Hour)) {
		document := issue(t, a, issuer.Content{})
		chain := parseChain(t, document)
		if !seen[3][string(chain[3].Raw)] {
			verify(t, a, document, c.now)
		}
		for i, cert := range chain {
			seen[i][string(cert.Raw)] = true
			if i > 0 && (cert.NotAfter.After(chain[i-1].NotAfter) || cert.NotBefore.Before(chain[i-1].NotBefore)) {
				t.Fatalf("%v: certificate %d is not within its parent's life", c.now, i)
			}
		}
		made := chain[4].NotBefore.Add(3 * time.Second)
		if age := c.now.Sub(made); age < 0 || age >= 2*time.Hour+time.Second {
			t.Fatalf("a leaf was used %v after it was made", age)
		}
		if made != leafMade && !leafMade.IsZero() && made.Sub(leafMade) < 2*time.Hour {
			t.Fatalf("a leaf was replaced after %v", made.Sub(leafMade))
		}
		leafMade = made
		c.now = c.now.Add(43 * time.Minute)
	}
	for i, atMost := range []int{1, 3, 8, 40, 31*24/2 + 1} {
		if n := len(seen[i]); n > atMost || i > 0 && n < 2 {
			t.Errorf("position %d: %d certificates in a month, want 2 to %d", i, n, atMost)
		}
	}
}

func TestTimesOfContent(t *testing.T) {
	a := newAuthority(t, (&clock{start}).Now)
	for _, offset := range []time.Duration{0, -10 * time.Minute, -50 * time.Minute, 5 * time.Minute, 48 * time.Hour, 0, 1900 * 24 * time.Hour} {
		at := start.Add(offset)
		d := verify(t, a, issue(t, a, issuer.Content{Time: at}), at)
		if !d.Timestamp.Equal(at) {
			t.Errorf("%v: timestamp %v", offset, d.Timestamp)
		}
	}
	for _, offset := range []time.Duration{-2 * time.Hour, 31 * 365 * 24 * time.Hour} {
		if _, err := a.Issue(issuer.Content{ModuleID: module, PCRs: registers(16), Time: start.Add(offset)}); err == nil {
			t.Errorf("%v: issued outside the root's life", offset)
		}
	}
}

func TestLoad(t *testing.T) {
	a := newAuthority(t, (&clock{start}).Now)
	stored, err := a.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	b, err := issuer.Load(stored, issuer.Options{Now: (&clock{start}).Now, Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Root().Raw, b.Root().Raw) {
		t.Error("another root came back")
	}
	d := verify(t, a, issue(t, b, issuer.Content{}), start)
	if got := d.Chain[4].Subject.CommonName; got != module+".eu-central-1.aws" {
		t.Errorf("leaf %s", got)
	}
	again, err := b.MarshalPEM()
	if err != nil || !bytes.Equal(again, stored) {
		t.Errorf("written again it differs: %v", err)
	}
	other, _ := newAuthority(t, (&clock{start}).Now).MarshalPEM()
	certificate, key, _ := bytes.Cut(stored, []byte("-----BEGIN PRIVATE"))
	_, otherKey, _ := bytes.Cut(other, []byte("-----BEGIN PRIVATE"))
	for name, bad := range map[string][]byte{
		"nothing":      nil,
		"no key":       certificate,
		"no cert":      append([]byte("-----BEGIN PRIVATE"), key...),
		"other key":    append(append(bytes.Clone(certificate), "-----BEGIN PRIVATE"...), otherKey...),
		"twice":        append(bytes.Clone(stored), stored...),
		"broken cert":  bytes.Replace(stored, []byte("MII"), []byte("MIA"), 1),
		"other blocks": append(bytes.Clone(stored), "-----BEGIN X-----\n-----END X-----\n"...),
	} {
		if _, err := issuer.Load(bad, issuer.Options{}); err == nil {
			t.Errorf("%s: loaded", name)
		} else if strings.Contains(err.Error(), string(key[40:60])) {
			t.Errorf("%s: the error holds the key", name)
		}
	}
	if _, err := issuer.Load(stored, issuer.Options{Region: "Mars 1"}); err == nil {
		t.Error("an impossible region was taken")
	}
}

func TestRefusedContent(t *testing.T) {
	a := newAuthority(t, nil)
	for name, c := range map[string]issuer.Content{
		"no module":        {PCRs: registers(3)},
		"short module":     {ModuleID: "i-123-enc0", PCRs: registers(3)},
		"upper case":       {ModuleID: strings.ToUpper(module), PCRs: registers(3)},
		"TPM's module":     {ModuleID: "i-0123456789abcdef0-tpm0000000000000000", PCRs: registers(3)},
		"enclave's module": {Kind: attestation.KindNitroTPM, ModuleID: module, PCRs: registers(3)},
		"unknown kind":     {Kind: 9, ModuleID: module, PCRs: registers(3)},
		"no registers":     {ModuleID: module},
		"32 TPM registers": {Kind: attestation.KindNitroTPM, ModuleID: "i-0123456789abcdef0-tpm0000000000000000", PCRs: registers(25)},
		"long field":       {ModuleID: module, PCRs: registers(1), Nonce: make([]byte, 4097)},
		"before 1970":      {ModuleID: module, PCRs: registers(1), Time: time.Unix(-1, 0)},
	} {
		if document, err := a.Issue(c); err == nil || document != nil {
			t.Errorf("%s: issued", name)
		}
	}
	document := issue(t, a, issuer.Content{PublicKey: make([]byte, 4096), UserData: make([]byte, 4096), Nonce: make([]byte, 1100), PCRs: registers(32)})
	if len(document) < 9000 {
		t.Errorf("the largest document has %d bytes", len(document))
	}
}

func TestNewModuleID(t *testing.T) {
	got := issuer.NewModuleID("i-0123456789abcdef0", time.UnixMilli(0x019fc8255f07), bytes.NewReader([]byte{0xa1, 0x85}))
	if want := "i-0123456789abcdef0-enc019fc8255f07a185"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if a, b := issuer.NewModuleID("i-0123456789abcdef0", start, nil), issuer.NewModuleID("i-0123456789abcdef0", start, nil); len(a) != len(got) || len(b) != len(got) {
		t.Errorf("%s, %s", a, b)
	}
}

func TestManyModulesAndGoroutines(t *testing.T) {
	a := newAuthority(t, (&clock{start}).Now)
	v, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{a.Root()}})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 6 {
				c := issuer.Content{ModuleID: fmt.Sprintf("i-0123456789abcde%02x-enc%016x", g%3, i%2), PCRs: registers(16)}
				document, err := a.Issue(c)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := v.Verify(document, attestation.Expectation{PCRs: c.PCRs, Time: start}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// TestRealShape compares the sizes of our certificates with those of genuine
// documents.
func TestRealShape(t *testing.T) {
	const dir = "../../../shared/testdata/attestation"
	data, err := os.ReadFile(dir + "/index.json")
	if err != nil {
		t.Skip("shared test data not present")
	}
	var index struct {
		Items []struct {
			File  string
			Sizes []int `json:"cert_sizes"`
			Debug bool
		}
	}
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	last := index.Items[len(index.Items)-7] // the bad ones come last
	a := newAuthority(t, (&clock{start}).Now)
	chain := verify(t, a, issue(t, a, issuer.Content{}), start).Chain
	for i, cert := range chain[1:] {
		if d := len(cert.Raw) - last.Sizes[i+1]; d < -40 || d > 40 {
			t.Errorf("position %d: %d bytes, in %s %d", i+1, len(cert.Raw), last.File, last.Sizes[i+1])
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	a := newAuthority(b, nil)
	c := issuer.Content{ModuleID: module, PCRs: registers(16), Nonce: make([]byte, 32)}
	if _, err := a.Issue(c); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Issue(c); err != nil {
			b.Fatal(err)
		}
	}
}
