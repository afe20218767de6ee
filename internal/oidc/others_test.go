// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/internal/need"
)

// The tokens of RFC 7515, appendices A.2 and A.3, and RFC 8037, appendix A.4, with
// their keys.
func TestRFCVectors(t *testing.T) {
	const (
		joe      = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
		rsaKey   = `{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}`
		rsaSig   = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
		ecKey    = `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
		ecSig    = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
		eddsaKey = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
		eddsaTok = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
	)
	for _, test := range []struct{ alg, key, token string }{
		{"RS256", rsaKey, "eyJhbGciOiJSUzI1NiJ9." + joe + "." + rsaSig},
		{"ES256", ecKey, "eyJhbGciOiJFUzI1NiJ9." + joe + "." + ecSig},
		{"EdDSA", eddsaKey, eddsaTok},
	} {
		keys, err := parseKeys([]byte(`{"keys":[` + test.key + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		payload := string(must(base64.RawURLEncoding.DecodeString(strings.Split(test.token, ".")[1])))
		if !signedBy(test.token, test.alg, payload, match(keys, header{alg: test.alg})) {
			t.Errorf("%s: does not verify", test.alg)
		}
		changed := strings.Replace(test.token, ".", ".A", 1)
		if signedBy(changed, test.alg, payload, match(keys, header{alg: test.alg})) {
			t.Errorf("%s: verifies when it is changed", test.alg)
		}
		for _, alg := range known {
			if alg != test.alg && len(match(keys, header{alg: alg})) > 0 && test.alg != "RS256" {
				t.Errorf("a key for %s counts for %s", test.alg, alg)
			}
		}
	}
	// RFC 7519, section 6.1, and RFC 7515, appendix A.1: none, and a shared secret.
	for _, token := range []string{"eyJhbGciOiJub25lIn0." + joe + ".", "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + joe + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"} {
		keys, err := parseKeys([]byte(`{"keys":[` + rsaKey + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		payload := string(must(base64.RawURLEncoding.DecodeString(joe)))
		for _, alg := range []string{"none", "HS256", "RS256"} {
			if signedBy(token, alg, payload, match(keys, header{alg: alg})) {
				t.Errorf("%s verifies as %s", token, alg)
			}
		}
	}
}

// pyjwt makes a key for each algorithm, a token with it, and the set of their public
// halves as PyJWT writes them.
const pyjwt = `
import json, sys, jwt
from jwt.algorithms import RSAAlgorithm, ECAlgorithm, OKPAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa, ec, ed25519
claims = json.load(sys.stdin)
made = {"RSA": rsa.generate_private_key(65537, 2048), "ES256": ec.generate_private_key(ec.SECP256R1()),
        "ES384": ec.generate_private_key(ec.SECP384R1()), "EdDSA": ed25519.Ed25519PrivateKey.generate()}
keys, tokens = [], {}
for alg in ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]:
    key = made.get(alg, made["RSA"])
    name = {"E": OKPAlgorithm if alg == "EdDSA" else ECAlgorithm}.get(alg[0], RSAAlgorithm)
    jwk = json.loads(name.to_jwk(key.public_key()))
    jwk["kid"] = alg
    keys.append(jwk)
    tokens[alg] = jwt.encode(claims, key, algorithm=alg, headers={"kid": alg})
tokens["HS256"] = jwt.encode(claims, "secret", algorithm="HS256")
tokens["none"] = jwt.encode(claims, None, algorithm="none")
json.dump({"keys": {"keys": keys}, "tokens": tokens}, sys.stdout)
`

func TestPyJWT(t *testing.T) {
	python := need.Program(t, "python3")
	for _, other := range []string{"/usr/bin/python3"} {
		if exec.Command(python, "-c", "import jwt, cryptography").Run() != nil {
			python = other
		}
	}
	cmd := exec.Command(python, "-c", pyjwt)
	cmd.Stdin = bytes.NewReader(must(json.Marshal(fields{
		"iss": "https://issuer.example", "sub": "build", "aud": "a", "iat": start.Unix(), "exp": start.Add(time.Hour).Unix(),
	})))
	out, err := cmd.Output()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("python3 without PyJWT: %v", err)
		}
		t.Skip("SKIPPED, missing component: PyJWT")
	}
	var made struct {
		Keys   json.RawMessage
		Tokens map[string]string
	}
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, made.Keys, 0o600); err != nil {
		t.Fatal(err)
	}
	v, _ := newVerifier(t, Issuer{URL: "https://issuer.example", Audiences: []string{"a"}, Algorithms: allOfThem, JWKSFile: file})
	for _, alg := range allOfThem {
		taken(t, v, alg, made.Tokens[alg])
		for _, other := range allOfThem {
			if other != alg && alg[1:] != other[1:] { // the signature of another token
				token := made.Tokens[alg][:strings.LastIndexByte(made.Tokens[alg], '.')] + made.Tokens[other][strings.LastIndexByte(made.Tokens[other], '.'):]
				refused(t, v, alg+" with the signature of "+other, token, InvalidIdentityToken)
			}
		}
	}
	refused(t, v, "HS256", made.Tokens["HS256"], InvalidIdentityToken)
	refused(t, v, "none", made.Tokens["none"], InvalidIdentityToken)
}

func TestOpenSSL(t *testing.T) {
	openssl := need.Program(t, "openssl")
	idp := startIDP(t, public("one", rsaKey()))
	v, _ := newVerifier(t, idp.issuer())
	key := filepath.Join(t.TempDir(), "key.pem")
	der := must(x509.MarshalPKCS8PrivateKey(rsaKey()))
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		alg     string
		options []string
		code    string
	}{
		{"RS256", []string{"-sha256"}, ""},
		{"RS384", []string{"-sha384"}, ""},
		{"RS512", []string{"-sha512"}, ""},
		{"PS256", []string{"-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"}, ""},
		{"RS256", []string{"-sha512"}, InvalidIdentityToken},
		{"RS256", []string{"-sha1"}, InvalidIdentityToken},
		{"RS256", []string{"-sha256", "-sigopt", "rsa_padding_mode:pss"}, InvalidIdentityToken},
	} {
		input := segment(fields{"alg": test.alg, "kid": "one"}) + "." + segment(idp.usual(nil))
		cmd := exec.Command(openssl, append([]string{"dgst", "-sign", key}, test.options...)...)
		cmd.Stdin = strings.NewReader(input)
		signature, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v", test, err)
		}
		name, token := fmt.Sprint(test.alg, test.options), input+"."+base64.RawURLEncoding.EncodeToString(signature)
		if test.code == "" {
			taken(t, v, name, token)
		} else {
			refused(t, v, name, token, test.code)
		}
	}
}
