// SPDX-License-Identifier: Apache-2.0

package httpsig

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/cretula/cretula/reason"
)

// The request of RFC 9421 appendix B.2, as it arrives over TLS.
const testRequest = "POST /foo?param=Value&Pet=dog HTTP/1.1\r\nHost: example.com\r\nDate: Tue, 20 Apr 2021 02:07:55 GMT\r\n" +
	"Content-Type: application/json\r\n" +
	"Content-Digest: sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:\r\n" +
	"Content-Length: 18\r\n\r\n" + testBody

const testBody = `{"hello": "world"}`

// Public keys of appendix B.1.
const (
	keyRSAPSS = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr4tmm3r20Wd/PbqvP1s2" +
		"+QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct+Lh1GH45x28Rw3Ry53mm+" +
		"oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHq" +
		"gDsznjPFmTOtCEcN2Z1FpWgchwuYLPL+Wokqltd11nqqzi+bJ9cvSKADYdUAAN5W" +
		"Utzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4" +
		"aOT9v6d+nb4bnNkQVklLQ3fVAvJm+xdDOp9LCNCN48V2pnDOkFV6+U9nV5oyc6XI2wIDAQAB"
	keyP256    = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqIVYZVLCrPZHGHjP17CTW0/+D9Lfw0EkjqF7xB4FivAxzic30tMM4GF+hR6Dxh71Z50VGGdldkkDXZCnTNnoXQ=="
	keyEd25519 = "MCowBQYDK2VwAyEAJrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
)

func publicKey(t testing.TB, text string) crypto.PublicKey {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func request(t testing.TB) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(testRequest)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// vectors are the examples of RFC 9421 whose components and algorithms are
// supported: B.2.1, B.2.3, B.2.6, §3.2 and, in §4.3, a client's.
var vectors = []struct {
	name, key, input, signature string
	covers                      []string
}{
	{
		"B.2.1", keyRSAPSS,
		`sig-b21=();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd"`,
		"sig-b21=:d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==:",
		nil,
	},
	{
		"B.2.3", keyRSAPSS,
		`sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss"`,
		"sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==:",
		[]string{"date", "@method", "@path", "@query", "@authority", "content-type", "content-digest", "content-length"},
	},
	{
		"B.2.6", keyEd25519,
		`sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`,
		"sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
		[]string{"date", "@method", "@path", "@authority", "content-type", "content-length"},
	},
	{
		"3.2", keyRSAPSS,
		`sig1=("@method" "@authority" "@path" "content-digest" "content-length" "content-type");created=1618884473;keyid="test-key-rsa-pss"`,
		"sig1=:HIbjHC5rS0BYaa9v4QfD4193TORw7u9edguPh0AW3dMq9WImrlFrCGUDih47vAxi4L2YRZ3XMJc1uOKk/J0ZmZ+wcta4nKIgBkKq0rM9hs3CQyxXGxHLMCy8uqK488o+9jrptQ+xFPHK7a9sRL1IXNaagCNN3ZxJsYapFj+JXbmaI5rtAdSfSvzPuBCh+ARHBmWuNo1UzVVdHXrl8ePL4cccqlazIJdC4QEjrF+Sn4IxBQzTZsL9y9TP5FsZYzHvDqbInkTNigBcE9cKOYNFCn4D/WM7F6TNuZO9EgtzepLWcjTymlHzK7aXq6Am6sfOrpIC49yXjj3ae6HRalVc/g==:",
		[]string{"@method", "@authority", "@path", "content-digest", "content-length", "content-type"},
	},
	{
		"4.3", keyP256,
		`sig1=("@method" "@authority" "@path" "content-digest" "content-type" "content-length");created=1618884475;keyid="test-key-ecc-p256"`,
		"sig1=:X5spyd6CFnAG5QnDyHfqoSNICd+BUP4LYMz2Q0JXlb//4Ijpzp+kve2w4NIyqeAuM7jTDX+sNalzA8ESSaHD3A==:",
		[]string{"@method", "@authority", "@path", "content-digest", "content-type", "content-length"},
	},
}

func TestVectorsOfTheRFC(t *testing.T) {
	for _, v := range vectors {
		r := request(t)
		r.Header.Set("Signature-Input", v.input)
		r.Header.Set("Signature", v.signature)
		s, err := Parse(r.Header)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if !reflect.DeepEqual(s.Components, v.covers) {
			t.Errorf("%s covers %v", v.name, s.Components)
		}
		key := publicKey(t, v.key)
		if err := s.Verify(r, key); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
		for i := range s.Value {
			s.Value[i] ^= 1
			if s.Verify(r, key) == nil {
				t.Errorf("%s: verified with byte %d of the signature changed", v.name, i)
			}
			s.Value[i] ^= 1
		}
		for _, other := range []string{keyRSAPSS, keyP256, keyEd25519} {
			if other != v.key && s.Verify(r, publicKey(t, other)) == nil {
				t.Errorf("%s: verified with another key", v.name)
			}
		}
	}
	r := request(t)
	if err := CheckContentDigest(r.Header, []byte(testBody)); err != nil {
		t.Error(err)
	}
	if err := CheckContentDigest(r.Header, []byte(testBody+" ")); err == nil {
		t.Error("another body has the digest")
	}
}

// signers is one key of each algorithm.
func signers(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, err3 := ed25519.GenerateKey(rand.Reader)
	rsaKey, err4 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"ecdsa-p256-sha256": p256, "ecdsa-p384-sha384": p384, "ed25519": ed, "rsa-pss-sha512": rsaKey}
}

var all = []string{"@method", "@target-uri", "@authority", "@scheme", "@path", "@query", "content-digest", "x-list"}

func signed(t testing.TB, key crypto.Signer, in Input) *http.Request {
	t.Helper()
	r, err := http.NewRequest("PUT", "https://Example.com:443/a%2Fb?q=1", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Digest", ContentDigest([]byte("body")))
	r.Header.Add("X-List", " a ")
	r.Header.Add("X-List", "b")
	if err := Sign(r, in, key); err != nil {
		t.Fatal(err)
	}
	return arrived(t, r)
}

// arrived is a request as a server reads it after a proxy that ends TLS.
func arrived(t testing.TB, r *http.Request) *http.Request {
	t.Helper()
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestBehindProxy: what was signed for https verifies where TLS was ended before,
// with the port of https or without; what was signed for http does not.
func TestBehindProxy(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	for url, good := range map[string]bool{
		"https://example.com:443/": true, "https://example.com/?": true, "https://EXAMPLE.com": true, "https://example.com:8443/": true,
		"http://example.com/": false, "http://example.com:80/": false,
	} {
		r, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := Sign(r, Input{Components: []string{"@method", "@target-uri", "@scheme", "@authority"}}, key); err != nil {
			t.Fatal(err)
		}
		got := arrived(t, r)
		s, err := Parse(got.Header)
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{got.Host, strings.TrimSuffix(got.Host, ":443")} {
			got.Host = host
			if err := s.Verify(got, key.Public()); (err == nil) != good {
				t.Errorf("%s to %s: %v", url, host, err)
			}
		}
	}
}

// TestTargetAsSent: a target that a handler rewrote counts as it was sent.
func TestTargetAsSent(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	r := signed(t, key, Input{Components: []string{"@method", "@authority", "@path", "@query"}})
	s, err := Parse(r.Header)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Path, r.URL.RawPath = "/stripped", ""
	if err := s.Verify(r, key.Public()); err != nil {
		t.Errorf("as sent: %v", err)
	}
	r.URL.Path, r.URL.RawPath, r.RequestURI = "/a/b", "/a%2Fb", "/prefix/a%2Fb?q=1"
	if s.Verify(r, key.Public()) == nil {
		t.Error("verified for a longer path than was signed")
	}
}

func TestEveryComponentCounts(t *testing.T) {
	for algorithm, key := range signers(t) {
		in := Input{Components: all, Created: 1, Expires: 2, KeyID: "k", Nonce: "n", Alg: algorithm, Tag: "t"}
		r := signed(t, key, in)
		s, err := Parse(r.Header)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(r, key.Public()); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		for name, change := range map[string]func(*http.Request){
			"method":    func(r *http.Request) { r.Method = "POST" },
			"host":      func(r *http.Request) { r.Host = "example.org" },
			"port":      func(r *http.Request) { r.Host = "example.com:444" },
			"path":      func(r *http.Request) { r.RequestURI = "/a/b?q=1" },
			"query":     func(r *http.Request) { r.RequestURI = "/a%2Fb?q=2" },
			"no query":  func(r *http.Request) { r.RequestURI = "/a%2Fb" },
			"no target": func(r *http.Request) { r.RequestURI = "" },
			"field":     func(r *http.Request) { r.Header.Add("X-List", "c") },
			"no field":  func(r *http.Request) { r.Header.Del("X-List") },
			"digest":    func(r *http.Request) { r.Header.Set("Content-Digest", ContentDigest(nil)) },
			"new lines": func(r *http.Request) { r.Header["X-List"] = []string{"a\n\"x\": y"} },
		} {
			changed := r.Clone(t.Context())
			change(changed)
			if s.Verify(changed, key.Public()) == nil {
				t.Errorf("%s: verified with another %s", algorithm, name)
			}
		}
		s.Alg = "hmac-sha256"
		if e, ok := errors.AsType[*reason.Error](s.Verify(r, key.Public())); !ok || e.Rule() != "httpsig.algorithm" {
			t.Errorf("%s: another algorithm: %v", algorithm, e)
		}
	}
}

func TestRefusedFields(t *testing.T) {
	const input, signature = `sig1=("@method");created=1;keyid="k"`, "sig1=:AAAA:"
	good := http.Header{"Signature-Input": {input}, "Signature": {signature}}
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{
		"", "sig1", "=()", "sig1=", "sig1=(", `sig1=("@method"`, `sig1=("@method" )`, `sig1=( "@method")`, `sig1=("@method"  "@path")`,
		`sig1=("@method""@path")`, `sig1=("@method" "@method")`, `sig1=(@method)`, `sig1=("@Method")`, `sig1=("@status")`, `sig1=("@query-param";name="x")`,
		`sig1=("@method";req)`, `sig1=("Date")`, `sig1=("")`, `sig1=("a b")`, `sig1=("signature")`, `sig1=("signature-input")`,
		`sig1=("@method") ;created=1`, `sig1=("@method"); created=1`, `sig1=("@method");created`, `sig1=("@method");created="1"`, `sig1=("@method");created=01`,
		`sig1=("@method");created=0`, `sig1=("@method");created=-1`, `sig1=("@method");created=1.0`, `sig1=("@method");created=1234567890123456`,
		`sig1=("@method");created=1;created=1`, `sig1=("@method");keyid=k`, `sig1=("@method");keyid="k`, `sig1=("@method");keyid="\""`, `sig1=("@method");keyid=""`,
		"sig1=(\"@method\");keyid=\"\x7f\"", `sig1=("@method");unknown=1`, `sig1=("@method"), sig2=()`, `Sig1=("@method")`, `sig2=("@method")`, ` sig1=("@method")`,
		`sig1=("@method") `, "sig1=(" + strings.Repeat(`"a" `, 300) + ")",
		`sig1=("a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q")`,
	} {
		h := good.Clone()
		h.Set("Signature-Input", in)
		if s, err := Parse(h); err == nil || s != nil {
			t.Errorf("Signature-Input %s: read", in)
		}
	}
	for _, sig := range []string{"", "sig1", "sig1=AAAA", "sig1=:AAAA", "sig1=::", "sig1=:AAA:", "sig1=:AA_A:", "sig1=:AAAA:;x", "sig1=:AAAA:, sig2=:AAAA:",
		"sig2=:AAAA:", "sig1=:AAAA\n:", "sig1=:AAB=:", "sig1=:" + strings.Repeat("A", 1024) + ":"} {
		h := good.Clone()
		h.Set("Signature", sig)
		if s, err := Parse(h); err == nil || s != nil {
			t.Errorf("Signature %s: read", sig)
		}
	}
	for _, name := range []string{"Signature", "Signature-Input"} {
		h := good.Clone()
		h.Add(name, h.Get(name))
		if _, err := Parse(h); err == nil {
			t.Errorf("%s twice: read", name)
		}
		h.Del(name)
		if _, err := Parse(h); err == nil {
			t.Errorf("no %s: read", name)
		}
	}
}

func TestRefusedDigests(t *testing.T) {
	body := []byte("body")
	good := ContentDigest(body)
	for _, value := range []string{"", "sha-256", good + ", " + good, strings.TrimSuffix(good, ":"), strings.Replace(good, "sha-256", "md5", 1), ContentDigest(nil),
		strings.Replace(good, "sha-256", "sha-512", 1), "sha-256=:" + "\n" + strings.TrimPrefix(good, "sha-256=:")} {
		if err := CheckContentDigest(http.Header{"Content-Digest": {value}}, body); err == nil {
			t.Errorf("%s: taken", value)
		}
	}
	if err := CheckContentDigest(http.Header{"Content-Digest": {good, good}}, body); err == nil {
		t.Error("twice: taken")
	}
	if err := CheckContentDigest(http.Header{}, body); err == nil {
		t.Error("absent: taken")
	}
}

func TestRefusedKeys(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil {
		if _, err := Algorithm(small.Public()); err == nil {
			t.Error("RSA of 1024 bits is taken")
		}
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.PublicKey{nil, p521.Public(), ed25519.PublicKey{1}, []byte("secret")} {
		if name, err := Algorithm(key); err == nil || name != "" {
			t.Errorf("%T is used with %s", key, name)
		}
	}
	r, _ := http.NewRequest("GET", "https://example.com", nil)
	if err := Sign(r, Input{Components: all[:1]}, p521); err == nil {
		t.Error("P-521 signs")
	}
	if err := Sign(r, Input{Components: []string{"@method"}, KeyID: `a"b`}, signers(t)["ed25519"]); err == nil {
		t.Error("a quote in keyid is signed")
	}
	if len(r.Header) != 0 {
		t.Errorf("header %v after errors", r.Header)
	}
}

func FuzzSignatureInput(f *testing.F) {
	if len(vectors) == 0 {
		f.Fatal("no seeds")
	}
	for _, v := range vectors {
		f.Add(v.input, v.signature)
	}
	f.Fuzz(func(t *testing.T, input, signature string) {
		s, err := Parse(http.Header{"Signature-Input": {input}, "Signature": {signature}})
		if err != nil {
			if _, ok := errors.AsType[*reason.Error](err); !ok || s != nil {
				t.Fatalf("%v beside %v", s, err)
			}
			return
		}
		if s.Label+"="+s.params != input {
			t.Fatalf("%q was read of %q", s.params, input)
		}
		if want := s.Label + "=:" + base64.StdEncoding.EncodeToString(s.Value) + ":"; want != signature {
			t.Fatalf("%q was read of %q", s.Value, signature)
		}
		// Serializing gives the same values again.
		text, err := s.serialize()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseInput(text)
		if err != nil {
			t.Fatal(err)
		}
		again.params = s.params
		if !reflect.DeepEqual(again, s.Input) {
			t.Fatalf("%+v, then %+v", s.Input, again)
		}
		target, err := received(request(t))
		if err != nil {
			t.Fatal(err)
		}
		if message, err := target.base(request(t), s.Components, s.params); err == nil && !bytes.HasSuffix(message, []byte(s.params)) {
			t.Fatalf("base %q", message)
		}
	})
}

// TestTargetsWithoutPath: a request for / does not pass as one whose target has
// the same components and more.
func TestTargetsWithoutPath(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	read := func(target string) *http.Request {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: example.com\r\n\r\n")))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r, err := http.NewRequest("GET", "https://example.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Sign(r, Input{Components: []string{"@method", "@authority", "@path", "@query"}, Created: 1}, key); err != nil {
		t.Fatal(err)
	}
	signature, err := Parse(r.Header)
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]string{
		"/": "", "http://example.com/": "", "mailto:x": "httpsig.component", "http:x": "httpsig.component",
		"http://root@example.com/": "httpsig.component", "/#x": "httpsig.component", "/^": "httpsig.component", "http://example.com/^": "httpsig.component",
		"//": "httpsig.signature", "/x": "httpsig.signature", "*": "httpsig.signature",
	} {
		err := signature.Verify(read(target), key.Public())
		got := ""
		if refusal, ok := errors.AsType[*reason.Error](err); ok {
			got = refusal.Rule()
		}
		if got != want {
			t.Errorf("%s: %v, want %q", target, err, want)
		}
	}
}
