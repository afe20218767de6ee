// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

func rs256(kid string) fields { return fields{"alg": "RS256", "kid": kid, "typ": "JWT"} }

func TestVerify(t *testing.T) {
	idp := startIDP(t, public("one", rsaKey()))
	v, _ := newVerifier(t, idp.issuer())
	claims := taken(t, v, "usual", sign(rs256("one"), idp.usual(fields{
		"aud": []string{"cretula", "other"}, "azp": "other", "amr": []string{"pwd", "mfa"}, "Repository": "a/b", "run": 7, "ok": true, "8080/y:sub": "of another", "nested": fields{"a": 1}, "mixed": []any{1},
		"https://aws.amazon.com/tags":            fields{"principal_tags": fields{"team": []string{"red"}}, "transitive_tag_keys": []string{"team"}},
		"https://aws.amazon.com/source_identity": "anna",
	}), "RS256", rsaKey()))
	name := strings.TrimPrefix(idp.URL, "https://") + "/realm"
	if claims.Issuer != "https://"+name || claims.Provider != name || claims.Subject != "build" || !slices.Equal(claims.Audience, []string{"cretula", "other"}) ||
		!claims.Expires.Equal(start.Add(10*time.Minute)) || !claims.IssuedAt.Equal(start.Add(-10*time.Second)) {
		t.Errorf("%+v", claims)
	}
	if claims.Tags["team"] != "red" || len(claims.Tags) != 1 || !slices.Equal(claims.TransitiveTagKeys, []string{"team"}) || claims.SourceIdentity != "anna" {
		t.Errorf("session: %+v", claims)
	}
	want := map[string][]string{
		"iss": {claims.Issuer}, "sub": {"build"}, "aud": {"other"}, "azp": {"other"}, "oaud": {"cretula", "other"}, "amr": {"pwd", "mfa"}, "repository": {"a/b"}, "run": {"7"}, "ok": {"true"},
		"iat": {fmt.Sprint(start.Unix() - 10)}, "nbf": {fmt.Sprint(start.Unix() - 10)}, "exp": {fmt.Sprint(start.Unix() + 600)},
	}
	if !reflect.DeepEqual(claims.Values, want) {
		t.Errorf("values %v\nwant %v", claims.Values, want)
	}
	if n := idp.count(keySet); n != 1 {
		t.Errorf("%d requests for keys", n)
	}
}

func TestRefusedTokens(t *testing.T) {
	idp := startIDP(t, public("one", rsaKey()), public("ec", p256Key()))
	v, _ := newVerifier(t, idp.issuer())
	at := func(d time.Duration) int64 { return start.Add(d).Unix() }
	many := fields{}
	for i := range maxClaims {
		many[fmt.Sprint("c", i)] = i
	}
	for _, test := range []struct {
		name   string
		claims fields
		code   string // "": taken
	}{
		{"nothing changed", nil, ""},
		{"other issuer", fields{"iss": "https://eve.example"}, InvalidIdentityToken},
		{"issuer with a slash more", fields{"iss": idp.URL + "/realm/"}, InvalidIdentityToken},
		{"issuer in other case", fields{"iss": strings.ToUpper(idp.URL) + "/realm"}, InvalidIdentityToken},
		{"issuer without scheme", fields{"iss": strings.TrimPrefix(idp.URL, "https://") + "/realm"}, InvalidIdentityToken},
		{"no issuer", fields{"iss": nil}, InvalidIdentityToken},
		{"issuer a list", fields{"iss": []string{idp.URL + "/realm"}}, InvalidIdentityToken},
		{"no subject", fields{"sub": nil}, InvalidIdentityToken},
		{"empty subject", fields{"sub": ""}, InvalidIdentityToken},
		{"subject a number", fields{"sub": 7}, InvalidIdentityToken},
		{"subject with a line break", fields{"sub": "a\nb"}, InvalidIdentityToken},
		{"long subject", fields{"sub": strings.Repeat("a", maxText+1)}, InvalidIdentityToken},

		{"other audience of ours", fields{"aud": "other"}, ""},
		{"audience in a list", fields{"aud": []string{"cretula"}}, ""},
		{"two audiences", fields{"aud": []string{"other", "cretula"}}, ""},
		{"no audience", fields{"aud": nil}, InvalidIdentityToken},
		{"empty audience", fields{"aud": ""}, InvalidIdentityToken},
		{"empty list", fields{"aud": []string{}}, InvalidIdentityToken},
		{"another's audience", fields{"aud": "eve"}, InvalidIdentityToken},
		{"audience in other case", fields{"aud": "Cretula"}, InvalidIdentityToken},
		{"another's audience too", fields{"aud": []string{"cretula", "eve"}}, InvalidIdentityToken},
		{"list of numbers", fields{"aud": []int{1}}, InvalidIdentityToken},
		{"audience a number", fields{"aud": 1}, InvalidIdentityToken},
		{"audience an object", fields{"aud": fields{"cretula": true}}, InvalidIdentityToken},
		{"authorized party", fields{"azp": "cretula"}, ""},
		{"another authorized party", fields{"azp": "eve"}, InvalidIdentityToken},
		{"authorized party a list", fields{"azp": []string{"cretula"}}, InvalidIdentityToken},

		{"no expiry", fields{"exp": nil}, InvalidIdentityToken},
		{"expiry a string", fields{"exp": fmt.Sprint(at(time.Hour))}, InvalidIdentityToken},
		{"expiry negative", fields{"exp": -1}, InvalidIdentityToken},
		{"expiry beyond all time", fields{"exp": 1e300}, InvalidIdentityToken},
		{"expired within leeway", fields{"exp": at(-leeway + time.Second), "iat": at(-time.Hour)}, ""},
		{"expired", fields{"exp": at(-leeway), "iat": at(-time.Hour)}, ExpiredToken},
		{"expired long ago", fields{"exp": 0, "iat": 0}, ExpiredToken},
		{"fractions of a second", fields{"exp": float64(at(0)) + 600.5}, ""},
		{"no time of issue", fields{"iat": nil}, InvalidIdentityToken},
		{"issued within leeway", fields{"iat": at(leeway)}, ""},
		{"issued in the future", fields{"iat": at(leeway + time.Second)}, InvalidIdentityToken},
		{"expires before it is issued", fields{"iat": at(50 * time.Second), "exp": at(40 * time.Second)}, InvalidIdentityToken},
		{"no nbf", fields{"nbf": nil}, ""},
		{"not yet", fields{"nbf": at(leeway + time.Second)}, InvalidIdentityToken},
		{"nbf a boolean", fields{"nbf": true}, InvalidIdentityToken},

		{"claims that differ in case", fields{"Sub": "admin"}, InvalidIdentityToken},
		{"claim called as ours", fields{"OAud": "x"}, InvalidIdentityToken},
		{"too many claims", many, InvalidIdentityToken},
		{"tags of two values", fields{"https://aws.amazon.com/tags": fields{"principal_tags": fields{"a": []string{"1", "2"}}}}, InvalidIdentityToken},
		{"tags a list", fields{"https://aws.amazon.com/tags": []int{1}}, InvalidIdentityToken},
		{"source identity a number", fields{"https://aws.amazon.com/source_identity": 1}, InvalidIdentityToken},
	} {
		token := sign(rs256("one"), idp.usual(test.claims), "RS256", rsaKey())
		if test.code == "" {
			taken(t, v, test.name, token)
		} else {
			refused(t, v, test.name, token, test.code)
		}
	}

	header := func(name string, changes fields) {
		refused(t, v, name, sign(change(rs256("one"), changes), idp.usual(nil), "RS256", rsaKey()), InvalidIdentityToken)
	}
	header("no alg", fields{"alg": nil})
	header("alg a list", fields{"alg": []string{"RS256"}})
	header("alg in other case", fields{"alg": "rs256"})
	header("alg of another hash", fields{"alg": "RS384"})
	header("alg of another kind", fields{"alg": "ES256"})
	header("PS512, which is not taken", fields{"alg": "PS512"})
	header("kid of another kind of key", fields{"kid": "ec"})
	header("empty kid", fields{"kid": ""})
	header("kid a number", fields{"kid": 1})
	header("critical header", fields{"crit": []string{"exp"}, "exp": 1})
	header("payload that is not encoded", fields{"b64": false})
	header("compressed", fields{"zip": "DEF"})
	header("key in the header", fields{"jwk": public("one", rsaKey())})
	header("certificate in the header", fields{"x5c": []string{"AA=="}})
	header("logout token", fields{"typ": "logout+jwt"})
	header("access token", fields{"typ": "at+JWT"})
	for name, changes := range map[string]fields{"no typ": {"typ": nil}, "full typ": {"typ": "application/jwt"}, "address of keys": {"jku": "https://eve.example/keys", "x5u": "https://eve.example/c"}} {
		taken(t, v, name, sign(change(rs256("one"), changes), idp.usual(nil), "RS256", rsaKey()))
	}
	refused(t, v, "signed by another", sign(rs256("one"), idp.usual(nil), "RS256", otherRSA()), InvalidIdentityToken)
	if n := idp.count(keySet); n > 2 {
		t.Errorf("%d requests for keys", n)
	}
}

// The ways to make a verifier take what nobody signed.
func TestForgedTokens(t *testing.T) {
	idp := startIDP(t, public("one", rsaKey()))
	v, _ := newVerifier(t, idp.issuer())
	good := sign(rs256("one"), idp.usual(nil), "RS256", rsaKey())
	taken(t, v, "good", good)
	parts := strings.Split(good, ".")
	bad := func(name, token string) { refused(t, v, name, token, InvalidIdentityToken) }

	for _, none := range []string{"none", "None", "NONE", "nOnE", ""} {
		input := segment(fields{"alg": none}) + "." + parts[1]
		bad("alg "+none, input+".")
		bad("alg "+none+" with a signature", input+"."+parts[2])
	}
	der := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	for _, secret := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey), rsaKey().N.Bytes(), nil} {
		input := segment(fields{"alg": "HS256", "kid": "one"}) + "." + parts[1]
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		bad("public key as a secret", input+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
	}
	bad("no signature", parts[0]+"."+parts[1]+".")
	bad("no last part", parts[0]+"."+parts[1])
	bad("four parts", good+".")
	bad("five parts, as encrypted tokens have", good+".a.a")
	bad("JSON serialization", fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, parts[0], parts[1], parts[2]))
	bad("other claims", parts[0]+"."+segment(idp.usual(fields{"sub": "admin"}))+"."+parts[2])
	bad("padding", good+"==")
	bad("line break", good[:20]+"\n"+good[20:])
	bad("space", " "+good)
	bad("standard alphabet", parts[0]+"."+parts[1]+"."+strings.NewReplacer("-", "+", "_", "/").Replace(parts[2])+"+/")
	bad("bits behind the last byte", good[:len(good)-1]+nextLetter(good[len(good)-1]))
	bad("empty", "")
	bad("dots", "..")
	bad("huge", good+strings.Repeat("A", maxToken))
	bad("huge claims", sign(rs256("one"), idp.usual(fields{"x": strings.Repeat("a", maxToken)}), "RS256", rsaKey()))
	for name, claims := range map[string]string{
		"subject twice":          fmt.Sprintf(`{"sub":"admin","iss":"%s/realm","sub":"build","aud":"cretula","iat":%d,"exp":%d}`, idp.URL, start.Unix(), start.Unix()+60),
		"subject twice, escaped": fmt.Sprintf(`{"sub":"admin","iss":"%s/realm","s\u0075b":"build","aud":"cretula","iat":%d,"exp":%d}`, idp.URL, start.Unix(), start.Unix()+60),
		"something behind":       string(must(base64.RawURLEncoding.DecodeString(parts[1]))) + "{}",
		"a list":                 "[]", "null": "null", "text": `"x"`, "no JSON": "{", "bad UTF-8": "{\"sub\":\"\xff\"}", "deep": strings.Repeat("[", 9000),
	} {
		bad(name, sign(rs256("one"), claims, "RS256", rsaKey()))
	}
	bad("alg twice", sign(`{"alg":"RS256","kid":"one","alg":"RS256"}`, idp.usual(nil), "RS256", rsaKey()))
	for i := range parts[2] {
		if i%16 == 0 {
			changed := parts[2][:i] + nextLetter(parts[2][i]) + parts[2][i+1:]
			bad("changed signature", parts[0]+"."+parts[1]+"."+changed)
		}
	}
}

// nextLetter is another letter of the alphabet of base64.
func nextLetter(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func TestAlgorithms(t *testing.T) {
	signers := map[string]crypto.Signer{"RS256": rsaKey(), "RS384": rsaKey(), "RS512": rsaKey(), "PS256": rsaKey(), "ES256": p256Key(), "ES384": p384Key(), "EdDSA": eddsaKey()}
	idp := startIDP(t, public("RS", rsaKey()), public("ES256", p256Key()), public("ES384", p384Key()), public("EdDSA", eddsaKey()))
	all, _ := newVerifier(t, idp.issuer())
	issuer := idp.issuer()
	issuer.Algorithms = nil
	usual, _ := newVerifier(t, issuer)
	for alg, key := range signers {
		token := sign(fields{"alg": alg}, idp.usual(nil), alg, key)
		if taken(t, all, alg, token); alg == "RS256" {
			taken(t, usual, alg, token)
		} else {
			refused(t, usual, alg, token, InvalidIdentityToken)
		}
		for other, key := range signers {
			if reflect.TypeOf(key) != reflect.TypeOf(signers[alg]) {
				refused(t, all, alg+" by a key for "+other, sign(fields{"alg": alg}, idp.usual(nil), other, key), InvalidIdentityToken)
			}
		}
	}
	refused(t, all, "ES256 on P-384", sign(fields{"alg": "ES256"}, idp.usual(nil), "ES256", p384Key()), InvalidIdentityToken)
	if _, err := New([]Issuer{{URL: "https://x.example", Audiences: []string{"a"}, Algorithms: []string{"HS256"}}}, time.Now); err == nil {
		t.Error("HS256 was taken as an algorithm")
	}
}

func TestKeySets(t *testing.T) {
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	weak := public("one", rsaKey())
	weak.Key = &rsa.PublicKey{N: rsaKey().N, E: 1}
	one := func(change func(k *jose.JSONWebKey)) []any {
		k := public("one", rsaKey())
		change(&k)
		return []any{k}
	}
	raw := must(public("one", rsaKey()).MarshalJSON())
	with := func(members string) []any {
		return []any{jsonText(strings.TrimSuffix(string(raw), "}") + "," + members + "}")}
	}
	for _, test := range []struct {
		name string
		keys []any
		kid  string
		code string
	}{
		{"key", one(func(*jose.JSONWebKey) {}), "one", ""},
		{"no kid in the token", one(func(*jose.JSONWebKey) {}), "", ""},
		{"no kid anywhere", one(func(k *jose.JSONWebKey) { k.KeyID = "" }), "", ""},
		{"no kid in the set", one(func(k *jose.JSONWebKey) { k.KeyID = "" }), "one", InvalidIdentityToken},
		{"no use", one(func(k *jose.JSONWebKey) { k.Use = "" }), "one", ""},
		{"for encryption", one(func(k *jose.JSONWebKey) { k.Use = "enc" }), "one", IDPCommunication},
		{"of the algorithm", one(func(k *jose.JSONWebKey) { k.Algorithm = "RS256" }), "one", ""},
		{"of another algorithm", one(func(k *jose.JSONWebKey) { k.Algorithm = "RS512" }), "one", InvalidIdentityToken},
		{"to verify", with(`"key_ops":["verify"]`), "one", ""},
		{"to encrypt", with(`"key_ops":["encrypt"]`), "one", IDPCommunication},
		{"for nothing", with(`"key_ops":[]`), "one", IDPCommunication},
		{"1024 bits", []any{public("one", small)}, "one", IDPCommunication},
		{"exponent 1", []any{weak}, "one", IDPCommunication},
		{"private", one(func(k *jose.JSONWebKey) { k.Key = rsaKey() }), "one", IDPCommunication},
		{"secret beside it", append(with(`"x":"y"`), fields{"kty": "oct", "k": "AAAA", "kid": "x"}), "one", IDPCommunication},
		{"two of one kid", []any{public("one", otherRSA()), public("one", rsaKey())}, "one", ""},
		{"two and no kid", []any{public("one", rsaKey()), public("two", otherRSA())}, "", InvalidIdentityToken},
		{"two kinds and no kid", []any{public("one", rsaKey()), public("two", p256Key())}, "", ""},
		{"unknown kinds beside it", []any{fields{"kty": "new", "kid": "one"}, fields{}, "x", nil, fields{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, public("one", rsaKey())}, "one", ""},
		{"none", []any{}, "one", IDPCommunication},
		{"null", nil, "one", IDPCommunication},
		{"too many", slices.Repeat([]any{public("one", rsaKey())}, maxKeys+1), "one", IDPCommunication},
	} {
		idp := startIDP(t, test.keys...)
		v, _ := newVerifier(t, idp.issuer())
		header := rs256(test.kid)
		if test.kid == "" {
			delete(header, "kid")
		}
		token := sign(header, idp.usual(nil), "RS256", rsaKey())
		if test.code == "" {
			taken(t, v, test.name, token)
		} else {
			refused(t, v, test.name, token, test.code)
		}
	}
}

type jsonText string

func (j jsonText) MarshalJSON() ([]byte, error) { return []byte(j), nil }

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := Issuer{URL: "https://x.example/realm", Audiences: []string{"a"}}
	for name, change := range map[string]func(*Issuer){
		"http":                    func(i *Issuer) { i.URL = "http://x.example" },
		"http, insecure":          func(i *Issuer) { i.URL, i.InsecureLoopbackHTTP = "http://x.example", true },
		"http to another network": func(i *Issuer) { i.URL, i.InsecureLoopbackHTTP = "http://10.0.0.1", true },
		"loopback without leave":  func(i *Issuer) { i.URL = "http://127.0.0.1:1" },
		"keys by http":            func(i *Issuer) { i.JWKSURL = "http://x.example/keys" },
		"file":                    func(i *Issuer) { i.URL = "file:///etc/passwd" },
		"no host":                 func(i *Issuer) { i.URL = "https:///x" },
		"host without a dot":      func(i *Issuer) { i.URL = "https://metadata" },
		"host in capitals":        func(i *Issuer) { i.URL = "https://X.example" },
		"scheme in capitals":      func(i *Issuer) { i.URL = "HTTPS://x.example" },
		"user":                    func(i *Issuer) { i.URL = "https://a:b@x.example" },
		"query":                   func(i *Issuer) { i.URL = "https://x.example/?a" },
		"fragment":                func(i *Issuer) { i.URL = "https://x.example/#a" },
		"empty port":              func(i *Issuer) { i.URL = "https://x.example:/" },
		"space":                   func(i *Issuer) { i.URL = "https://x.example/a b" },
		"too long":                func(i *Issuer) { i.URL = "https://x.example/" + strings.Repeat("a", maxURL) },
		"empty":                   func(i *Issuer) { i.URL = "" },
		"no audience":             func(i *Issuer) { i.Audiences = nil },
		"empty audience":          func(i *Issuer) { i.Audiences = []string{""} },
		"none":                    func(i *Issuer) { i.Algorithms = []string{"none"} },
		"unknown algorithm":       func(i *Issuer) { i.Algorithms = []string{"RS256", "ES512"} },
		"no file of roots":        func(i *Issuer) { i.CAFile = filepath.Join(dir, "none") },
		"roots without any":       func(i *Issuer) { i.CAFile = file("empty.pem", "x") },
		"no file of keys":         func(i *Issuer) { i.JWKSFile = filepath.Join(dir, "none") },
		"file of no keys":         func(i *Issuer) { i.JWKSFile = file("keys", `{"keys":[]}`) },
		"file too large":          func(i *Issuer) { i.JWKSFile = file("huge", strings.Repeat(" ", maxKeySet+1)) },
		"file and address":        func(i *Issuer) { i.JWKSFile, i.JWKSURL = file("k", ""), "https://x.example/k" },
	} {
		i := good
		if change(&i); name == "" {
			continue
		}
		if _, err := New([]Issuer{i}, time.Now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	other := good
	other.URL = "https://x.example/Realm"
	if _, err := New([]Issuer{good, other}, time.Now); err == nil {
		t.Error("two issuers that differ in case were taken")
	}
	if _, err := New([]Issuer{good, {URL: "https://y.example:8443/a/b", Audiences: []string{"a"}}}, time.Now); err != nil {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	idp := startIDP(f, public("one", rsaKey()))
	v, _ := newVerifier(f, idp.issuer())
	good := sign(rs256("one"), idp.usual(nil), "RS256", rsaKey())
	seeds := []string{
		good, sign(fields{"alg": "none"}, idp.usual(nil), "RS256", rsaKey()), good[:len(good)/2],
		segment(rs256("one")) + "." + segment(`{"iss":"x","sub":"y","aud":["a",1],"exp":1,"iat":1e3,"https://aws.amazon.com/tags":{"principal_tags":{"a":["b"]}}}`) + ".AA",
	}
	for _, s := range seeds {
		f.Add(s)
	}
	if _, err := v.Verify(f.Context(), good); err != nil {
		f.Fatalf("a seed is not what it should be: %v", err)
	}
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := v.Verify(t.Context(), token)
		if (err == nil) != (token == good) {
			t.Fatalf("%q: %+v, %v", token, claims, err)
		}
		if e, ok := err.(*Error); err != nil && (!ok || e.Code == "" || len(e.Message) > 500) {
			t.Fatalf("%v", err)
		}
	})
}

// Whatever is in a set of keys, what is left of it can verify.
func FuzzKeySet(f *testing.F) {
	var seeds []string
	for _, k := range []jose.JSONWebKey{public("a", rsaKey()), public("b", p256Key()), public("c", p384Key()), public("d", eddsaKey())} {
		seeds = append(seeds, `{"keys":[`+string(must(k.MarshalJSON()))+`]}`)
	}
	for _, s := range seeds {
		f.Add([]byte(s))
		if keys, err := parseKeys([]byte(s)); err != nil || len(keys) != 1 {
			f.Fatalf("seed %s: %v", s, err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxKeys {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for i := range keys {
			if !slices.ContainsFunc(known, func(alg string) bool { return keys[i].alg != "" || keys[i].serves(alg) }) {
				t.Fatalf("a key for nothing: %+v", keys[i])
			}
		}
	})
}
