// SPDX-License-Identifier: Apache-2.0

package eif

import (
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// signatureClock is within the validity of [newSigner]'s certificates.
var signatureClock = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

func usualPCR0(t testing.TB) pcr.Digest {
	t.Helper()
	set := naive(assemble(4, 0, usual(t)...))
	d, _ := set.Get(0)
	return d
}

// signed returns the usual image with this signature section.
func signed(t testing.TB, data []byte) []byte {
	return assemble(4, 0, append(usual(t), rawSection{4, 0, data})...)
}

func protectedFor(curve elliptic.Curve) []byte {
	for _, a := range algorithms {
		if a.curve == curve {
			return []byte(a.protected)
		}
	}
	return nil
}

func signedFile(t testing.TB, s signer) []byte {
	return signed(t, section(s.pem, s.envelope(t, protectedFor(s.key.Curve), payloadFor(0, usualPCR0(t)))))
}

func TestSignatures(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		s := newSigner(t, curve)
		file := signedFile(t, s)
		im, m, err := judge(file, signatureClock)
		if err != nil {
			t.Fatalf("%v: %v", curve.Params().Name, err)
		}
		want, err := pcr.CertificatePEM(s.pem)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := m.Get(8); !ok || got != want {
			t.Errorf("PCR8 %v, want %v", got, want)
		}
		d := im.Describe(m)
		if !d.IsSigned || !*d.SignatureCheck || d.SigningCertificate.Algorithm != map[string]string{
			"P-256": "ecdsa-with-SHA256", "P-384": "ecdsa-with-SHA384", "P-521": "ecdsa-with-SHA512"}[curve.Params().Name] {
			t.Errorf("%+v", d)
		}
		if d.SigningCertificate.NotBefore != "Jan  2 03:04:05 2026 GMT" || d.SigningCertificate.IssuerName["countryName"] != "CH" {
			t.Errorf("%+v", d.SigningCertificate)
		}
		tagged := append([]byte{0xd2}, s.envelope(t, protectedFor(curve), payloadFor(0, usualPCR0(t)))...)
		if _, _, err := judge(signed(t, section(append([]byte("# my certificate\n"), s.pem...), tagged)), signatureClock); err != nil {
			t.Errorf("tagged, with text before the certificate: %v", err)
		}
	}
}

// TestSignatureFindings has signatures that are well-formed and no good.
func TestSignatureFindings(t *testing.T) {
	s, other := newSigner(t, elliptic.P384()), newSigner(t, elliptic.P384())
	small := newSigner(t, elliptic.P256())
	pcr0 := usualPCR0(t)
	foreign := pcr0
	foreign[0] ^= 1
	protected := protectedFor(elliptic.P384())
	good := s.envelope(t, protected, payloadFor(0, pcr0))
	flipped := slices.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		name   string
		data   []byte
		at     time.Time
		reason reason.Reason
		rules  []string
	}{
		{"other key", section(s.pem, other.envelope(t, protected, payloadFor(0, pcr0))), signatureClock, reason.BadSignature, []string{"eif.signature.value"}},
		{"flipped bit", section(s.pem, flipped), signatureClock, reason.BadSignature, []string{"eif.signature.value"}},
		{"other PCR0", section(s.pem, s.envelope(t, protected, payloadFor(0, foreign))), signatureClock, reason.Mismatch, []string{"eif.signature.register"}},
		{"register 1", section(s.pem, s.envelope(t, protected, payloadFor(1, pcr0))), signatureClock, reason.Mismatch, []string{"eif.signature.register"}},
		{"expired", section(s.pem, good), signatureClock.AddDate(10, 0, 0), reason.Untrusted, []string{"eif.signature.validity"}},
		{"not yet valid", section(s.pem, good), signatureClock.AddDate(-10, 0, 0), reason.Untrusted, []string{"eif.signature.validity"}},
		{"everything at once", section(s.pem, other.envelope(t, protected, payloadFor(0, foreign))), signatureClock.AddDate(10, 0, 0), reason.Untrusted,
			[]string{"eif.signature.validity", "eif.signature.value", "eif.signature.register"}},
		{"algorithm of another curve", section(s.pem, s.envelope(t, protectedFor(elliptic.P256()), payloadFor(0, pcr0))), signatureClock, reason.BadSignature, []string{"eif.signature.algorithm"}},
		{"unknown algorithm", section(s.pem, s.envelope(t, []byte{0xa1, 1, 0x27}, payloadFor(0, pcr0))), signatureClock, reason.BadSignature, []string{"eif.signature.algorithm"}},
		{"no algorithm", section(s.pem, s.envelope(t, nil, payloadFor(0, pcr0))), signatureClock, reason.BadSignature, []string{"eif.signature.algorithm"}},
		{"length of another curve", section(s.pem, small.envelope(t, protected, payloadFor(0, pcr0))), signatureClock, reason.BadSignature, []string{"eif.signature.value"}},
		{"Ed25519 certificate", section(edCertificate(t), good), signatureClock, reason.Unsupported, []string{"eif.signature.key"}},
		{"Ed25519 certificate and other PCR0", section(edCertificate(t), s.envelope(t, protected, payloadFor(0, foreign))), signatureClock, reason.Mismatch,
			[]string{"eif.signature.register", "eif.signature.key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			im, m, err := judge(signed(t, c.data), c.at)
			refusal, ok := errors.AsType[*reason.Error](err)
			if !ok || refusal.Reason() != c.reason {
				t.Fatalf("got %v, want %v", err, c.reason)
			}
			var rules []string
			for _, p := range refusal.Problems {
				rules = append(rules, p.Rule)
			}
			if !slices.Equal(rules, c.rules) {
				t.Errorf("rules %q, want %q", rules, c.rules)
			}
			if !slices.IsSortedFunc(refusal.Problems, func(a, b reason.Problem) int { return int(a.Reason) - int(b.Reason) }) {
				t.Error("problems are not ordered")
			}
			// The image itself is sound: its measurements can be shown.
			if _, ok := m.Get(8); !ok {
				t.Error("no measurements")
			}
			onlyDate := len(rules) == 1 && rules[0] == "eif.signature.validity"
			if d := im.Describe(m); *d.SignatureCheck != onlyDate {
				t.Errorf("SignatureCheck %v", *d.SignatureCheck)
			}
		})
	}
}

func edCertificate(t testing.TB) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ed"},
		NotBefore: signatureClock.AddDate(-1, 0, 0), NotAfter: signatureClock.AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestMalformedSignatures has sections that are no signature at all.
func TestMalformedSignatures(t *testing.T) {
	s := newSigner(t, elliptic.P256())
	protected := protectedFor(elliptic.P256())
	payload := payloadFor(0, usualPCR0(t))
	envelope := s.envelope(t, protected, payload)
	good := section(s.pem, envelope)
	cat := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	key, certificate := cborText("signing_certificate"), cborOctets(s.pem)
	value := cat(cborText("signature"), cborOctets(envelope))
	cose := func(e []byte) []byte { return section(s.pem, e) }
	text := cborText
	for name, data := range map[string][]byte{
		"no list":                  {0xa2},
		"empty list":               {0x80},
		"two signatures":           cat([]byte{0x82}, good[1:], good[1:]),
		"indefinite list":          cat([]byte{0x9f}, good[1:], []byte{0xff}),
		"list with a long head":    cat([]byte{0x98, 1}, good[1:]),
		"map of one":               cat([]byte{0x81, 0xa1}, key, certificate),
		"map of three":             cat([]byte{0x81, 0xa3}, key, certificate, value, text("x"), []byte{0}),
		"other order":              cat([]byte{0x81, 0xa2}, value, key, certificate),
		"other key":                cat([]byte{0x81, 0xa2}, text("signing-certificate"), certificate, value),
		"same key twice":           cat([]byte{0x81, 0xa2}, key, certificate, key, certificate),
		"certificate as bytes":     cat([]byte{0x81, 0xa2}, key, appendBytes(nil, s.pem), value),
		"signature as bytes":       cat([]byte{0x81, 0xa2}, key, certificate, text("signature"), appendBytes(nil, envelope)),
		"256 as an octet":          cat([]byte{0x81, 0xa2}, key, []byte{0x81, 0x19, 1, 0}, value),
		"negative octet":           cat([]byte{0x81, 0xa2}, key, []byte{0x81, 0x20}, value),
		"octet not shortest":       cat([]byte{0x81, 0xa2}, key, []byte{0x81, 0x18, 0x17}, value),
		"2^64-1 octets":            cat([]byte{0x81, 0xa2}, key, []byte{0x9b, 255, 255, 255, 255, 255, 255, 255, 255}),
		"key of 2^63 bytes":        {0x81, 0xa2, 0x7b, 0x80, 0, 0, 0, 0, 0, 0, 0},
		"something behind":         append(slices.Clone(good), 0),
		"reserved head":            {0x9c},
		"COSE: empty":              cose(nil),
		"COSE: array of three":     cose(cat([]byte{0x83}, envelope[1:])),
		"COSE: tag 17":             cose(cat([]byte{0xd1}, envelope)),
		"COSE: something behind":   cose(cat(envelope, []byte{0})),
		"COSE: unprotected header": cose(cat(appendBytes([]byte{0x84}, protected), []byte{0xa1, 1, 1}, appendBytes(nil, payload), []byte{0x40})),
		"COSE: payload null":       cose(cat(appendBytes([]byte{0x84}, protected), []byte{0xa0, 0xf6, 0x40})),
		"payload: index only":      cose(s.envelope(t, protected, cat([]byte{0xa1}, text("register_index"), []byte{0}))),
		"payload: short value":     cose(s.envelope(t, protected, cat([]byte{0xa2}, text("register_index"), []byte{0}, text("register_value"), cborOctets(make([]byte, 47))))),
		"payload: long value":      cose(s.envelope(t, protected, cat([]byte{0xa2}, text("register_index"), []byte{0}, text("register_value"), cborOctets(make([]byte, 49))))),
		"payload: other order":     cose(s.envelope(t, protected, cat([]byte{0xa2}, text("register_value"), cborOctets(make([]byte, 48)), text("register_index"), []byte{0}))),
		"payload: something after": cose(s.envelope(t, protected, append(slices.Clone(payload), 0))),
	} {
		t.Run(name, func(t *testing.T) {
			checkRefusal(t, signed(t, data), reason.Malformed, "eif.signature.cbor", "offset ")
		})
	}
	for name, file := range map[string]string{
		"no certificate":  "hello",
		"empty":           "",
		"only a key":      string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1}})),
		"garbage":         string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("garbage")})),
		"garbage at head": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: nil})) + string(s.pem),
	} {
		t.Run("certificate: "+name, func(t *testing.T) {
			checkRefusal(t, signed(t, section([]byte(file), envelope)), reason.Malformed, "eif.signature.certificate", "offset ")
		})
	}
	// Every cut of a good section is refused.
	for n := range len(good) {
		if _, err := parseSignature(good[:n], 0); err == nil {
			t.Fatalf("cut to %d bytes: accepted", n)
		}
	}
}

func TestMetadata(t *testing.T) {
	const good = `{"ImageName":"a","ImageVersion":"b","BuildMetadata":{"BuildTime":"c","BuildTool":"d","BuildToolVersion":"e",` +
		`"OperatingSystem":"f","KernelVersion":"g"},"DockerInfo":null,"CustomMetadata":{"x":1}}`
	m, err := ParseMetadata([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.Encode(); err != nil || string(again) != good {
		t.Errorf("encoded again: %s, %v", again, err)
	}
	for _, c := range []struct{ name, data, rule string }{
		{"empty", ``, "eif.metadata.json"},
		{"null", `null`, "eif.metadata.json"},
		{"array", `[]`, "eif.metadata.json"},
		{"cut", good[:len(good)-1], "eif.metadata.json"},
		{"more", good + `{}`, "eif.metadata.json"},
		{"garbage behind", good + `x`, "eif.metadata.json"},
		{"not UTF-8", `{"ImageName":"` + "\xff" + good[14:], "eif.metadata.json"},
		{"empty object", `{}`, "eif.metadata.key"},
		{"key in lower case", `{"imagename"` + good[12:], "eif.metadata.key"},
		{"number for a string", `{"ImageName":7` + good[16:], "eif.metadata.key"},
		{"null for a string", `{"ImageName":null` + good[16:], "eif.metadata.key"},
		{"key twice", `{"ImageName":"forged",` + good[1:], "eif.metadata.duplicate"},
		{"escaped key twice", `{"\u0049mageName":"forged",` + good[1:], "eif.metadata.duplicate"},
		{"custom key twice", good[:len(good)-1-len(`{"x":1}`)] + `{"x":1,"x":2}}`, "eif.metadata.duplicate"},
		{"no custom metadata", `{"ImageName":"a","ImageVersion":"b","BuildMetadata":{"BuildTime":"c","BuildTool":"d","BuildToolVersion":"e","OperatingSystem":"f","KernelVersion":"g"},"DockerInfo":null}`, "eif.metadata.key"},
		{"build metadata is null", `{"ImageName":"a","ImageVersion":"b","BuildMetadata":null,"DockerInfo":null,"CustomMetadata":null}`, "eif.metadata.json"},
		{"build metadata is empty", `{"ImageName":"a","ImageVersion":"b","BuildMetadata":{},"DockerInfo":null,"CustomMetadata":null}`, "eif.metadata.key"},
	} {
		m, err := ParseMetadata([]byte(c.data))
		refusal, ok := errors.AsType[*reason.Error](err)
		if m != nil || !ok || refusal.Rule() != c.rule || refusal.Reason() != reason.Malformed {
			t.Errorf("%s: got %v, want %s", c.name, err, c.rule)
		}
	}
	if _, err := (&Metadata{DockerInfo: json.RawMessage("{")}).Encode(); err == nil {
		t.Error("broken JSON was encoded")
	}
}

// TestDescribeMetadata: keys of custom metadata never hide or double others.
func TestDescribeMetadata(t *testing.T) {
	const standard = `"BuildTime":"t","BuildTool":"","BuildToolVersion":"","OperatingSystem":"","KernelVersion":""`
	for custom, want := range map[string]string{
		``:                             `{` + standard + `,"DockerInfo":null}`,
		`{}`:                           `{` + standard + `,"DockerInfo":null}`,
		`{"BuildTime":"forged","z":1}`: `{` + standard + `,"DockerInfo":null,"z":1}`,
		`{"b":1.50,"DockerInfo":2,"a":"\u00e9<"}`: `{` + standard + `,"DockerInfo":null,"a":"é<","b":1.50}`,
		`["a"]`:  `{` + standard + `,"DockerInfo":null,"CustomMetadata":["a"]}`,
		`"text"`: `{` + standard + `,"DockerInfo":null,"CustomMetadata":"text"}`,
	} {
		m := Metadata{BuildMetadata: BuildMetadata{BuildTime: "t"}, CustomMetadata: json.RawMessage(custom)}
		got, err := MetadataDescription{&m}.MarshalJSON()
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", custom, got, err, want)
		}
	}
}
