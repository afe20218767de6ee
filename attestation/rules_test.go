// SPDX-License-Identifier: Apache-2.0

package attestation_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// A ruleCase is a document that is good but for one thing, and the rules that
// must refuse it.
type ruleCase struct {
	name  string
	f     forge
	e     func(*attestation.Expectation)
	rules string
	// lists gives revocation lists for the document.
	lists func(t testing.TB, document []byte) []*x509.RevocationList
}

func replaceDocument(with []byte) forge { return forge{document: func([]byte) []byte { return with }} }

func part(i int, with []byte) forge {
	return forge{parts: func(p *[4][]byte) { p[i] = with }}
}

func certificateCase(name string, at int, edit func(*x509.Certificate), rules string) ruleCase {
	return ruleCase{name: name, f: forge{certificate: editCertificate(at, edit)}, rules: rules}
}

func fieldCase(name string, change func([]field) []field, rules string) ruleCase {
	return ruleCase{name: name, f: forge{fields: change}, rules: rules}
}

func expectCase(name string, e func(*attestation.Expectation), rules string) ruleCase {
	return ruleCase{name: name, e: e, rules: rules}
}

var cborCases = []ruleCase{
	{name: "empty", f: replaceDocument(nil), rules: "doc.size"},
	{name: "too long", f: replaceDocument(make([]byte, attestation.MaxDocumentSize+1)), rules: "doc.size"},
	{name: "one byte short", f: forge{document: func(d []byte) []byte { return d[:len(d)-1] }}, rules: "doc.cbor"},
	{name: "head cut", f: replaceDocument([]byte{0xd8}), rules: "doc.cbor"},
	{name: "tag alone", f: replaceDocument([]byte{0xd2}), rules: "doc.cbor"},
	{name: "reserved info", f: unknown(0x1c), rules: "doc.cbor"},
	{name: "indefinite integer", f: unknown(0x1f), rules: "doc.cbor"},
	{name: "break as a value", f: unknown(0xff), rules: "doc.cbor"},
	{name: "simple below 32", f: unknown(0xf8, 0x10), rules: "doc.cbor"},
	{name: "array longer than all", f: unknown(0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), rules: "doc.cbor"},
	{name: "map longer than all", f: unknown(0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), rules: "doc.cbor"},
	{name: "string longer than all", f: unknown(0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), rules: "doc.cbor"},
	{name: "text among byte chunks", f: unknown(0x5f, 0x61, 'a', 0xff), rules: "doc.cbor doc.cbor.indefinite"},
	{name: "chunks never end", f: unknown(0x5f, 0x41, 'a'), rules: "doc.cbor doc.cbor.indefinite"},
	{name: "17 deep", f: unknown(append(bytes.Repeat([]byte{0x81}, 17), 0)...), rules: "doc.cbor.depth"},
	{name: "tags 17 deep", f: unknown(append(bytes.Repeat([]byte{0xc1}, 17), 0)...), rules: "doc.cbor.depth"},
	{name: "maps 17 deep", f: unknown(append(bytes.Repeat([]byte{0xa1, 0x00}, 17), 0)...), rules: "doc.cbor.depth"},
	{name: "thousands deep in a key", f: unknown(append([]byte{0xa1}, bytes.Repeat([]byte{0x81}, 5000)...)...), rules: "doc.cbor.depth"},
	{name: "65 entries", f: unknown(manyEntries(65)...), rules: "doc.cbor.entries"},
	{name: "23 in two bytes", f: unknown(0x18, 23), rules: "doc.cbor.minimal"},
	{name: "255 in three bytes", f: unknown(0x19, 0, 255), rules: "doc.cbor.minimal"},
	{name: "65535 in five bytes", f: unknown(bigEndian(0x1a, 65535, 4)...), rules: "doc.cbor.minimal"},
	{name: "2^32-1 in nine bytes", f: unknown(bigEndian(0x1b, 1<<32-1, 8)...), rules: "doc.cbor.minimal"},
	{name: "half as single", f: unknown(0xfa, 0x3f, 0x80, 0, 0), rules: "doc.cbor.minimal"},
	{name: "NaN as single", f: unknown(0xfa, 0x7f, 0xc0, 0, 0), rules: "doc.cbor.minimal"},
	{name: "half as double", f: unknown(0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0), rules: "doc.cbor.minimal"},
	{name: "index in two bytes", f: forge{fields: set("pcrs", imageRegisters(0xa3, 0x18, 0x00))}, rules: "doc.cbor.minimal"},
	{name: "indefinite array", f: unknown(0x9f, 0xff), rules: "doc.cbor.indefinite"},
	{name: "indefinite map", f: unknown(0xbf, 0xff), rules: "doc.cbor.indefinite"},
	{name: "chunked text", f: unknown(0x7f, 0x61, 'a', 0xff), rules: "doc.cbor.indefinite"},
	{name: "indefinite pcrs", f: forge{fields: func(l []field) []field { return set("pcrs", indefinite(fieldOf(l, "pcrs")))(l) }}, rules: "doc.cbor.indefinite"},
	{name: "indefinite protected map", f: forge{protected: []byte{0xbf, 0x01, 0x38, 0x22, 0xff}}, rules: "doc.cbor.indefinite"},
	{name: "same key twice", f: forge{fields: and("nonce", encode(nil))}, rules: "doc.cbor.duplicate"},
	{name: "same key deep down", f: unknown(0x81, 0xa2, 0x81, 0x00, 0x00, 0x81, 0x00, 0x00), rules: "doc.cbor.duplicate"},
	{name: "not UTF-8", f: unknown(0x62, 0xc3, 0x28), rules: "doc.cbor.utf8"},
	{name: "byte after the array", f: forge{document: func(d []byte) []byte { return append(d, 0) }}, rules: "doc.trailing"},
	{name: "byte after the map", f: forge{payload: func(p []byte) []byte { return append(p, 0xf6) }}, rules: "doc.trailing"},
}

var coseCases = []ruleCase{
	{name: "tag 17", f: forge{document: func(d []byte) []byte { return append([]byte{0xd1}, d...) }}, rules: "cose.tag"},
	{name: "tag 18 twice", f: forge{document: func(d []byte) []byte { return append([]byte{0xd2, 0xd2}, d...) }}, rules: "cose.tag"},
	{name: "tag 18 in two bytes", f: forge{document: func(d []byte) []byte { return append([]byte{0xd8, 18}, d...) }}, rules: "doc.cbor.minimal"},
	{name: "a map", f: replaceDocument([]byte{0xa0}), rules: "cose.array"},
	{name: "array of three", f: replaceDocument([]byte{0x83, 0x40, 0xa0, 0x40}), rules: "cose.array"},
	{name: "indefinite array of three", f: replaceDocument([]byte{0x9f, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0xf6, 0xff}), rules: "cose.array cose.payload doc.cbor.indefinite"},
	{name: "indefinite array of five", f: forge{document: func(d []byte) []byte { return append(append([]byte{0x9f}, d[1:]...), 0xf6, 0xff) }}, rules: "cose.array doc.cbor.indefinite"},
	{name: "protected is a map", f: part(0, []byte{0xa1, 0x01, 0x38, 0x22}), rules: "cose.protected"},
	{name: "protected holds an array", f: forge{protected: []byte{0x80}}, rules: "cose.protected"},
	{name: "another header", f: forge{protected: []byte{0xa2, 0x01, 0x38, 0x22, 0x04, 0x41, 'k'}}, rules: "cose.protected"},
	{name: "bytes after the header", f: forge{protected: []byte{0xa1, 0x01, 0x38, 0x22, 0x00}}, rules: "cose.protected"},
	{name: "crit", f: forge{protected: []byte{0xa2, 0x01, 0x38, 0x22, 0x02, 0x81, 0x01}}, rules: "cose.crit"},
	{name: "ES256", f: forge{protected: []byte{0xa1, 0x01, 0x26}}, rules: "cose.alg"},
	{name: "no algorithm", f: forge{protected: []byte{0xa0}}, rules: "cose.alg"},
	{name: "empty header", f: forge{protected: []byte{}}, rules: "cose.alg"},
	{name: "algorithm in words", f: forge{protected: encode(map[int]string{1: "ES384"})}, rules: "cose.alg"},
	{name: "kid unprotected", f: part(1, []byte{0xa1, 0x04, 0x41, 'k'}), rules: "cose.unprotected"},
	{name: "unprotected is null", f: part(1, []byte{0xf6}), rules: "cose.unprotected"},
	{name: "indefinite unprotected with an entry", f: part(1, []byte{0xbf, 0x04, 0x00, 0xff}), rules: "cose.unprotected doc.cbor.indefinite"},
	{name: "payload is null", f: part(2, []byte{0xf6}), rules: "cose.payload"},
	{name: "payload is empty", f: part(2, []byte{0x40}), rules: "cose.payload"},
	{name: "payload of 16385 bytes", f: part(2, encode(make([]byte, 16385))), rules: "cose.payload"},
	{name: "signature is text", f: part(3, encode("r and s")), rules: "cose.signature.length"},
	{name: "signature of 98 bytes", f: part(3, encode(make([]byte, 98))), rules: "cose.signature.length"},
	{name: "r and s are zero", f: part(3, encode(make([]byte, 96))), rules: "cose.signature.range"},
	{name: "s is n", f: forge{parts: func(p *[4][]byte) { copy(p[3][2+48:], elliptic.P384().Params().N.Bytes()) }}, rules: "cose.signature.range"},
	{name: "r is n", f: forge{parts: func(p *[4][]byte) { copy(p[3][2:], elliptic.P384().Params().N.Bytes()) }}, rules: "cose.signature.range"},
	{name: "s is zero", f: forge{parts: func(p *[4][]byte) { copy(p[3][2+48:], make([]byte, 48)) }}, rules: "cose.signature.range"},
	{name: "signature changed", f: forge{parts: func(p *[4][]byte) { p[3][20] ^= 1 }}, rules: "cose.signature"},
	{name: "payload changed", f: forge{parts: func(p *[4][]byte) { p[2][len(p[2])-1] ^= 1 }}, rules: "cose.signature"},
}

var payloadCases = []ruleCase{
	{name: "payload is an array", f: forge{payload: func([]byte) []byte { return []byte{0x80} }}, rules: "doc.payload"},
	{name: "payload key is a number", f: forge{payload: func(p []byte) []byte { p[0]++; return append(p, 0x00, 0x00) }}, rules: "doc.payload"},
	fieldCase("module_id absent", without("module_id"), "doc.module-id"),
	fieldCase("module_id empty", set("module_id", encode("")), "doc.module-id"),
	fieldCase("module_id bytes", set("module_id", encode([]byte("i"))), "doc.module-id"),
	fieldCase("digest absent", without("digest"), "doc.digest"),
	fieldCase("digest SHA512", set("digest", encode("SHA512")), "doc.digest"),
	fieldCase("digest sha384", set("digest", encode("sha384")), "doc.digest"),
	fieldCase("digest null", set("digest", encode(nil)), "doc.digest"),
	fieldCase("timestamp absent", without("timestamp"), "doc.timestamp"),
	fieldCase("timestamp zero", set("timestamp", encode(0)), "doc.timestamp"),
	fieldCase("timestamp negative", set("timestamp", encode(-1)), "doc.timestamp"),
	fieldCase("timestamp huge", set("timestamp", encode(uint64(1)<<63)), "doc.timestamp"),
	fieldCase("timestamp text", set("timestamp", encode("now")), "doc.timestamp"),
	fieldCase("pcrs absent", without("pcrs"), "doc.pcrs"),
	fieldCase("pcrs empty", set("pcrs", []byte{0xa0}), "doc.pcrs"),
	fieldCase("pcrs null", set("pcrs", encode(nil)), "doc.pcrs"),
	fieldCase("both kinds", and("nitrotpm_pcrs", encode(forgeRegisters())), "doc.kind expect.kind"),
	fieldCase("index 32", set("pcrs", encode(map[int][]byte{0: {47: 1}, 32: {47: 1}})), "doc.pcr.index"),
	fieldCase("index -1", set("pcrs", encode(map[int][]byte{0: {47: 1}, -1: {47: 1}})), "doc.pcr.index"),
	fieldCase("index text", set("pcrs", encode(map[string][]byte{"0": {47: 1}})), "doc.pcr.index"),
	{name: "NitroTPM index 24", f: forge{fields: func(l []field) []field {
		return append(without("pcrs")(l), field{"nitrotpm_pcrs", encode(map[int][]byte{24: {47: 1}})})
	}}, e: func(e *attestation.Expectation) { e.AllowAnyKind = true }, rules: "doc.pcr.index"},
	fieldCase("register of 47 bytes", set("pcrs", encode(map[int][]byte{0: {46: 1}})), "doc.pcr.length"),
	fieldCase("register of 32 bytes", set("pcrs", encode(map[int][]byte{0: {31: 1}})), "doc.pcr.length"),
	fieldCase("register is null", set("pcrs", []byte{0xa1, 0x00, 0xf6}), "doc.pcr.length"),
	fieldCase("PCR0 absent", set("pcrs", encode(map[int][]byte{1: {47: 1}, 2: {47: 1}, 3: {47: 1}})), "doc.pcr.absent"),
	fieldCase("PCR1 absent", set("pcrs", encode(map[int][]byte{0: {47: 1}, 2: {47: 1}})), "doc.pcr.absent"),
	fieldCase("only PCR16", set("pcrs", encode(map[int][]byte{16: {47: 1}})), "doc.pcr.absent"),
	fieldCase("certificate absent", without("certificate"), "doc.certificate"),
	fieldCase("certificate null", set("certificate", encode(nil)), "doc.certificate"),
	fieldCase("certificate of 1025 bytes", set("certificate", encode(make([]byte, 1025))), "doc.certificate"),
	fieldCase("certificate empty", set("certificate", encode([]byte{})), "doc.certificate"),
	fieldCase("cabundle absent", without("cabundle"), "doc.cabundle"),
	fieldCase("cabundle empty", set("cabundle", []byte{0x80}), "doc.cabundle"),
	fieldCase("cabundle is bytes", set("cabundle", encode([]byte{1})), "doc.cabundle"),
	fieldCase("cabundle of texts", set("cabundle", encode([]string{"a"})), "doc.cabundle"),
	fieldCase("cabundle of 17", set("cabundle", encode(make([][]byte, 17))), "doc.cabundle"),
	fieldCase("public_key of 1025 bytes", set("public_key", encode(make([]byte, 1025))), "doc.public-key"),
	fieldCase("public_key text", set("public_key", encode("key")), "doc.public-key"),
	fieldCase("public_key undefined", set("public_key", []byte{0xf7}), "doc.public-key"),
	fieldCase("user_data of 1025 bytes", set("user_data", encode(make([]byte, 1025))), "doc.user-data"),
	fieldCase("user_data map", set("user_data", []byte{0xa0}), "doc.user-data"),
	fieldCase("nonce of 1025 bytes", set("nonce", encode(make([]byte, 1025))), "doc.nonce"),
	fieldCase("nonce number", set("nonce", encode(7)), "doc.nonce"),
}

var chainCases = []ruleCase{
	{name: "leaf is no certificate", f: forge{chain: func(d [][]byte) [][]byte { d[4] = []byte("leaf"); return d }}, rules: "chain.certificate"},
	{name: "byte after the leaf", f: forge{chain: func(d [][]byte) [][]byte { d[4] = append(slices.Clip(d[4]), 0); return d }}, rules: "chain.certificate"},
	{name: "extra certificate", f: forge{chain: func(d [][]byte) [][]byte { return slices.Insert(d, 4, d[3]) }}, rules: "chain.length chain.ca.path-length chain.name chain.key-id"},
	{name: "twice the root", f: forge{chain: func(d [][]byte) [][]byte { return slices.Insert(d, 1, d[0]) }}, rules: "chain.length"},
	{name: "instance missing", f: forge{chain: func(d [][]byte) [][]byte { return slices.Delete(d, 3, 4) }}, rules: "chain.length chain.name chain.key-id"},
	{name: "leaf alone under the root", f: forge{chain: func(d [][]byte) [][]byte { return [][]byte{d[0], d[4]} }}, rules: "chain.length chain.name chain.key-id"},
	{name: "another issuer's name", f: forge{parent: func(i int, c *x509.Certificate) {
		if i == 2 {
			c.Subject.CommonName = "other"
		}
	}}, rules: "chain.name"},
	{name: "same name in another order", f: forge{parent: func(i int, c *x509.Certificate) {
		if i == 2 {
			c.RawSubject = nil
			c.Subject.ExtraNames = nil
			c.Subject.Organization = []string{"cretula tests"}
		}
	}}, rules: "chain.name"},
	{name: "another issuer's key id", f: forge{parent: func(i int, c *x509.Certificate) {
		if i == 3 {
			c.SubjectKeyId = []byte("other")
		}
	}}, rules: "chain.key-id"},
	{name: "signed by a stranger", f: forge{signer: func(i int) crypto.Signer {
		if i == 2 {
			return strayKey()
		}
		return nil
	}}, rules: "chain.signature"},
	{name: "leaf signed by the zone", f: forge{signer: func(i int) crypto.Signer {
		if i == 4 {
			return forgeKeys()[2]
		}
		return nil
	}}, rules: "chain.signature"},
	{name: "nothing signed as it should be", f: forge{
		signer: func(i int) crypto.Signer {
			if i > 0 {
				return strayKey()
			}
			return nil
		},
		parts: func(p *[4][]byte) { p[3][20] ^= 1 },
	}, rules: "chain.signature"},
	{name: "leaf key on P-256", f: forge{key: otherKey(4, p256())}, rules: "chain.key"},
	{name: "leaf key RSA", f: forge{key: otherKey(4, rsaKey())}, rules: "chain.key"},
	{name: "signed with SHA-256", f: forge{certificate: editCertificate(3, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA256 })}, rules: "chain.algorithm"},
	certificateCase("zone expired", 2, func(c *x509.Certificate) { c.NotAfter = forgeTime.Add(-time.Second) }, "chain.validity"),
	certificateCase("region not yet valid", 1, func(c *x509.Certificate) { c.NotBefore = forgeTime.Add(time.Second) }, "chain.validity"),
	certificateCase("root expired", 0, func(c *x509.Certificate) { c.NotAfter = forgeTime.Add(-time.Second) }, "chain.validity"),
	certificateCase("leaf unknown critical", 4, extension(true, []byte{5, 0}, 1, 2, 3, 4), "chain.critical"),
	certificateCase("region critical name constraints", 1, func(c *x509.Certificate) {
		c.PermittedDNSDomains, c.PermittedDNSDomainsCritical = []string{"example.com"}, true
	}, "chain.critical"),
	certificateCase("region name constraints", 1, func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} }, "chain.critical"),
	certificateCase("leaf critical EKU", 4, extension(true, []byte{0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 3}, 2, 5, 29, 37), "chain.critical"),
	certificateCase("zone no CA", 2, func(c *x509.Certificate) {
		c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, -1, false
		c.ExtraExtensions = nil
	}, "chain.ca.constraints"),
	certificateCase("zone constraints not critical", 2, extension(false, []byte{0x30, 6, 1, 1, 0xff, 2, 1, 1}, 2, 5, 29, 19), "chain.ca.constraints"),
	certificateCase("zone without constraints", 2, func(c *x509.Certificate) {
		c.BasicConstraintsValid, c.IsCA, c.MaxPathLen, c.MaxPathLenZero = false, false, 0, false
	}, "chain.ca.constraints"),
	certificateCase("region path length 1", 1, func(c *x509.Certificate) { c.MaxPathLen = 1 }, "chain.ca.path-length"),
	certificateCase("root path length 0", 0, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }, "chain.ca.path-length"),
	certificateCase("zone may not sign", 2, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, "chain.ca.key-usage"),
	certificateCase("instance without key usage", 3, func(c *x509.Certificate) { c.KeyUsage = 0 }, "chain.ca.key-usage"),
	certificateCase("leaf is a CA", 4, func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = true, -1 }, "chain.leaf.constraints"),
	certificateCase("leaf without constraints", 4, func(c *x509.Certificate) { c.BasicConstraintsValid = false }, "chain.leaf.constraints"),
	certificateCase("leaf without key usage", 4, func(c *x509.Certificate) { c.KeyUsage = 0 }, "chain.leaf.key-usage"),
	certificateCase("leaf for key agreement", 4, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, "chain.leaf.key-usage"),
	certificateCase("leaf may sign certificates", 4, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "chain.leaf.key-usage"),
	{name: "made before the leaf", f: forge{certificate: editCertificate(4, func(c *x509.Certificate) { c.NotBefore = forgeTime.Add(time.Second) })},
		e: func(e *attestation.Expectation) { e.Time = forgeTime.Add(2 * time.Second) }, rules: "chain.leaf.timestamp"},
}

var expectCases = []ruleCase{
	expectCase("six minutes old", func(e *attestation.Expectation) { e.Time = forgeTime.Add(6 * time.Minute) }, "doc.age"),
	expectCase("older than asked", func(e *attestation.Expectation) { e.Time, e.MaxAge = forgeTime.Add(2*time.Second), time.Second }, "doc.age"),
	expectCase("made in two minutes", func(e *attestation.Expectation) { e.Time = forgeTime.Add(-2 * time.Minute) }, "doc.future chain.validity"),
	expectCase("ahead of the skew", func(e *attestation.Expectation) {
		e.Time, e.FutureSkew = forgeTime.Add(-2*time.Second), time.Second
	}, "doc.future"),
	{name: "made in seven thousand years", f: forge{
		certificate: func(_ int, c *x509.Certificate) { c.NotAfter = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) },
		fields:      set("timestamp", encode(uint64(time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()))),
	}, rules: "doc.future"},
	expectCase("another nonce", func(e *attestation.Expectation) { e.Nonce = []byte("Nonce") }, "expect.nonce"),
	expectCase("longer nonce", func(e *attestation.Expectation) { e.Nonce = []byte("nonce\x00") }, "expect.nonce"),
	expectCase("an empty nonce", func(e *attestation.Expectation) { e.Nonce = []byte{} }, "expect.nonce"),
	{name: "no nonce", f: forge{fields: without("nonce")}, e: func(e *attestation.Expectation) { e.Nonce = []byte{} }, rules: "expect.nonce"},
	expectCase("nothing expected", func(e *attestation.Expectation) { e.AllowAnyImage = false }, "expect.empty"),
	expectCase("two clocks", func(e *attestation.Expectation) { e.AllowDocumentTime = true }, "expect.clock"),
	expectCase("fields of 4097 bytes", func(e *attestation.Expectation) { e.MaxField = 4097 }, "expect.max-field"),
	expectCase("fields of -1 bytes", func(e *attestation.Expectation) { e.MaxField = -1 }, "expect.max-field"),
	expectCase("a TPM wanted", func(e *attestation.Expectation) { e.Kind = attestation.KindNitroTPM }, "expect.kind"),
	expectCase("no known kind wanted", func(e *attestation.Expectation) { e.Kind = 77 }, "expect.kind"),
	fieldCase("a TPM's", func(l []field) []field {
		return append(without("pcrs")(l), field{"nitrotpm_pcrs", encode(forgeRegisters())})
	}, "expect.kind"),
	fieldCase("debug", set("pcrs", encode(map[int][]byte{0: make([]byte, 48), 1: make([]byte, 48), 2: make([]byte, 48), 4: {47: 1}})), "expect.debug"),
	fieldCase("PCR2 zero", set("pcrs", encode(map[int][]byte{0: {47: 1}, 1: {47: 1}, 2: make([]byte, 48)})), "expect.debug"),
	expectCase("another PCR3", func(e *attestation.Expectation) { e.PCRs.Put(3, pcr.Sum(nil)) }, "expect.pcr"),
	expectCase("absent PCR16, zero wanted", func(e *attestation.Expectation) { e.PCRs.Put(16, pcr.Digest{}) }, "expect.pcr"),
	expectCase("another user data", func(e *attestation.Expectation) { e.UserData = []byte("other") }, "expect.user-data"),
}

// imageRegisters is a map with that head of a register with that index, of PCR1
// and of PCR2.
func imageRegisters(head byte, index ...byte) []byte {
	value := encode(bytes.Repeat([]byte{1}, 48))
	return slices.Concat([]byte{head}, index, value, []byte{1}, value, []byte{2}, value)
}

func manyEntries(n int) []byte {
	b := []byte{0xb8, byte(n)}
	for i := range n {
		b = append(append(b, encode(i)...), 0)
	}
	return b
}

func fieldOf(list []field, name string) []byte {
	for _, pair := range list {
		if pair.name == name {
			return pair.value
		}
	}
	return nil
}

// indefinite rewrites a map of fewer than 24 entries with indefinite length.
func indefinite(m []byte) []byte {
	return append(append([]byte{0xbf}, m[1:]...), 0xff)
}

func otherKey(at int, key crypto.Signer) func(int) crypto.Signer {
	return func(i int) crypto.Signer {
		if i == at {
			return key
		}
		return nil
	}
}

func p256() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func rsaKey() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// TestRules makes for every rule a document that it refuses, and fails for a
// rule that no document has reached.
func TestRules(t *testing.T) {
	document, root := forge{}.make(t)
	if _, err := newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{root}}).Verify(document, forgeExpectation()); err != nil {
		t.Fatalf("the unchanged document is refused: %v", err)
	}
	alone := map[string]bool{}
	// Reached by roots of others and by lists that do not parse, in other tests.
	for _, id := range []string{"chain.root", "chain.crl.form"} {
		alone[id] = true
	}
	for _, c := range slices.Concat(cborCases, coseCases, payloadCases, chainCases, revocationCases, expectCases) {
		document, root := c.f.make(t)
		e := forgeExpectation()
		if c.e != nil {
			c.e(&e)
		}
		o := attestation.VerifierOptions{Roots: []*x509.Certificate{root}}
		if c.lists != nil {
			o.Revocation = c.lists(t, document)
		}
		v, err := attestation.NewVerifier(o)
		if err != nil {
			// The root itself is what is wrong.
			wantRules(t, c.name, err, strings.Fields(c.rules)...)
			continue
		}
		d, err := v.Verify(document, e)
		if d != nil {
			t.Errorf("%s: accepted", c.name)
		}
		wantRules(t, c.name, err, strings.Fields(c.rules)...)
		if !strings.Contains(c.rules, " ") {
			alone[c.rules] = true
		}
		checkOrder(t, c.name, err)
		if verdict := v.Report(document, e); verdict.Verdict != "rejected" || verdict.Verified() || len(verdict.Problems) == 0 {
			t.Errorf("%s: the verdict is %q", c.name, verdict.Verdict)
		}
	}
	for _, rule := range attestation.Rules() {
		// A document of both kinds is of the other one too.
		if companions := []string{"doc.kind"}; !alone[rule.ID] && !slices.Contains(companions, rule.ID) {
			t.Errorf("no document was refused by %s alone", rule.ID)
		}
	}
}

// checkOrder checks that the gravest problem comes first.
func checkOrder(t *testing.T, name string, err error) {
	t.Helper()
	e, ok := err.(*reason.Error)
	if !ok {
		t.Errorf("%s: the error is a %T", name, err)
		return
	}
	if !slices.IsSortedFunc(e.Problems, func(a, b reason.Problem) int { return int(a.Reason) - int(b.Reason) }) {
		t.Errorf("%s: not gravest first: %v", name, err)
	}
}

func TestForeignRoot(t *testing.T) {
	document, root := forge{}.make(t)
	_, err := newVerifier(t, attestation.VerifierOptions{}).Verify(document, forgeExpectation())
	wantRules(t, "foreign root", err, "chain.root")
	got := attestation.FingerprintOf(root.Raw).String()
	for _, fingerprint := range []string{got, fingerprintG1, fingerprintGovCloud} {
		if !strings.Contains(err.Error(), fingerprint) {
			t.Errorf("%s is not named in %v", fingerprint, err)
		}
	}
	// The same key and name in another certificate is another root.
	_, again := forge{certificate: editCertificate(0, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(5) })}.make(t)
	_, err = newVerifier(t, attestation.VerifierOptions{Roots: []*x509.Certificate{again}}).Verify(document, forgeExpectation())
	wantRules(t, "reissued root", err, "chain.root")
}

func TestRefusedRoots(t *testing.T) {
	_, good := forge{}.make(t)
	for _, c := range []struct {
		name  string
		f     forge
		rules string
	}{
		{"no CA", forge{certificate: editCertificate(0, func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, -1 })}, "chain.ca.constraints"},
		{"may not sign", forge{certificate: editCertificate(0, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })}, "chain.ca.key-usage"},
		{"path length 2", forge{certificate: editCertificate(0, func(c *x509.Certificate) { c.MaxPathLen = 2 })}, "chain.ca.path-length"},
		{"issued by another", forge{parent: func(i int, c *x509.Certificate) {
			if i == 0 {
				c.Subject.CommonName = "other"
			}
		}}, "chain.name"},
		{"signed by another", forge{signer: otherKey(0, strayKey())}, "chain.signature"},
	} {
		_, root := c.f.make(t)
		v, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: []*x509.Certificate{good, root}})
		if v != nil {
			t.Errorf("%s: taken", c.name)
		}
		wantRules(t, c.name, err, c.rules)
	}
	for name, roots := range map[string][]*x509.Certificate{"none": {}, "nil": {nil}, "not parsed": {{}}} {
		if v, err := attestation.NewVerifier(attestation.VerifierOptions{Roots: roots}); err == nil || v != nil {
			t.Errorf("%s: taken", name)
		}
	}
	for name, file := range map[string]string{"no PEM": "root", "key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "broken": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		roots, err := attestation.ParseRoots([]byte(file))
		if roots != nil {
			t.Errorf("%s: read", name)
		}
		wantRules(t, name, err, "chain.certificate")
	}
}

// TestRulesDocument compares docs/rules.md with the table in the code.
func TestRulesDocument(t *testing.T) {
	page, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, rule := range attestation.Rules() {
		if ids[rule.ID] {
			t.Errorf("rule %s is there twice", rule.ID)
		}
		ids[rule.ID] = true
		if rule.Sentence == "" || rule.Remedy == "" || rule.Reason.ExitCode() == 1 {
			t.Errorf("rule %s is incomplete", rule.ID)
		}
		if row := fmt.Sprintf("| `%s` | %v | %s | %s |\n", rule.ID, rule.Reason, rule.Sentence, rule.Remedy); !bytes.Contains(page, []byte(row)) {
			t.Errorf("docs/rules.md lacks the row\n%s", row)
		}
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		for _, prefix := range []string{"| `doc.", "| `cose.", "| `chain.", "| `expect."} {
			if strings.HasPrefix(line, prefix) {
				rows++
			}
		}
	}
	if rows != len(ids) {
		t.Errorf("docs/rules.md has %d rules of documents, want %d", rows, len(ids))
	}
}
