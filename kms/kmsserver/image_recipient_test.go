// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/cms"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/nsm"
)

// attest asks the module for a document with any public key.
func (e *runningEnclave) attest(publicKey []byte) []byte {
	e.t.Helper()
	doc, err := e.nsm.Attest(e.t.Context(), nsm.AttestationRequest{PublicKey: publicKey})
	if err != nil {
		e.t.Fatal(err)
	}
	return doc
}

// bodies are requests of the three operations, without Recipient and the brace at
// the end.
func (s *sample) bodies() map[string]string {
	return map[string]string{
		"Decrypt":         `{"CiphertextBlob":"` + base64Of(s.sealed) + `"`,
		"GenerateDataKey": `{"KeyId":"` + s.keyARN + `","KeySpec":"AES_256"`,
		"GenerateRandom":  `{"NumberOfBytes":32`,
	}
}

func recipientJSON(doc []byte) string {
	return `{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"` + base64Of(doc) + `"}`
}

// opensslOpen opens an envelope with OpenSSL's CMS.
func opensslOpen(t testing.TB, key *rsa.PrivateKey, envelope []byte) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(need.Program(t, "openssl"), "cms", "-decrypt", "-binary", "-inform", "DER", "-inkey", name)
	cmd.Stdin = bytes.NewReader(envelope)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl cms: %v\n%s", err, &stderr)
	}
	return out
}

// The answer to a Recipient on the wire: exactly the members that AWS's API
// reference leaves, and an envelope that others open too, for each size of key.
func TestRecipientOnTheWire(t *testing.T) {
	s := newSample(t, randomPolicy)
	enclave := boot(t, s.image, samplePlace)
	members := map[string][]string{
		"Decrypt":         {"CiphertextForRecipient", "EncryptionAlgorithm", "KeyId"},
		"GenerateDataKey": {"CiphertextBlob", "CiphertextForRecipient", "KeyId"},
		"GenerateRandom":  {"CiphertextForRecipient"},
	}
	for _, bits := range []int{2048, 3072, 4096} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		for operation, body := range s.bodies() {
			t.Run(fmt.Sprint(operation, bits), func(t *testing.T) {
				doc := enclave.attest(spki(t, key.Public()))
				status, answer, _ := s.send(raw{credentials: s.role, target: "TrentService." + operation, body: body + `,"Recipient":` + recipientJSON(doc) + `}`})
				var got map[string]any
				if err := json.Unmarshal([]byte(answer), &got); status != 200 || err != nil {
					t.Fatalf("%d %s", status, answer)
				}
				if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, members[operation]) {
					t.Errorf("members %v, want %v", names, members[operation])
				}
				if id, ok := got["KeyId"]; ok && id != s.keyARN {
					t.Errorf("KeyId %v", id)
				}
				envelope, err := base64.StdEncoding.DecodeString(got["CiphertextForRecipient"].(string))
				if err != nil {
					t.Fatal(err)
				}
				content, err := cms.Open(key, envelope)
				if err != nil || len(content) != map[string]int{"Decrypt": 10, "GenerateDataKey": 32, "GenerateRandom": 32}[operation] {
					t.Errorf("%d bytes in the envelope, %v", len(content), err)
				}
				if operation == "Decrypt" && string(content) != "the secret" {
					t.Errorf("got %q", content)
				}
				// Another key does not open it.
				if _, err := cms.Open(recipientKey(), envelope); err == nil {
					t.Error("another key opens the envelope")
				}
				if out := opensslOpen(t, key, envelope); !bytes.Equal(out, content) {
					t.Errorf("openssl reads %d bytes, not ours", len(out))
				}
			})
		}
	}
}

// otherKeys are public keys that no envelope can be sealed to.
func otherKeys(t testing.TB) map[string][]byte {
	t.Helper()
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	montgomery, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := recipientKey().PublicKey
	der := spki(t, &public)
	// RSASSA-PSS keys (RFC 4055, §1.2) sign and do not encrypt.
	pss, err := asn1.Marshal(struct {
		Algorithm struct{ ID asn1.ObjectIdentifier }
		Key       asn1.BitString
	}{struct{ ID asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}},
		asn1.BitString{Bytes: x509.MarshalPKCS1PublicKey(&public), BitLength: 8 * len(x509.MarshalPKCS1PublicKey(&public))}})
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"none": nil, "empty": {}, "Ed25519": spki(t, edwards), "X25519": spki(t, montgomery.Public()), "P-256": spki(t, p256.Public()),
		"RSASSA-PSS": pss, "PKCS #1": x509.MarshalPKCS1PublicKey(&public),
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "base64": []byte(base64Of(der)),
	}
}

// rejected fails unless an answer is a ValidationException with nothing else.
func (s *sample) rejected(t *testing.T, what string, r raw) {
	t.Helper()
	status, answer, _ := s.send(r)
	var got map[string]string
	if err := json.Unmarshal([]byte(answer), &got); err != nil || status != 400 || got["__type"] != "ValidationException" ||
		len(got) != 2 || got["message"] == "" {
		t.Errorf("%s: %d %s", what, status, answer)
	}
}

// A key that cannot be answered to is a ValidationException, also for who needs no
// document: never plaintext.
func TestRecipientKeyKinds(t *testing.T) {
	s := newSample(t, randomPolicy)
	s.keyARN = s.key("")
	s.sealed = s.sealSecret(s.keyARN)
	enclave := boot(t, s.image, samplePlace)
	for name, key := range otherKeys(t) {
		doc := enclave.attest(key)
		for operation, body := range s.bodies() {
			for _, who := range []kms.Credentials{s.role, s.admin} {
				s.rejected(t, operation+", "+name, raw{credentials: who, target: "TrentService." + operation, body: body + `,"Recipient":` + recipientJSON(doc) + `}`})
			}
		}
	}
}

// The names of members have one spelling (Smithy AWS JSON 1.1): another one is
// an unknown member, which is ignored. A Recipient that lacks a member so is
// refused; what is no Recipient at all is none.
func TestRecipientMemberNames(t *testing.T) {
	s := newSample(t, randomPolicy)
	doc := boot(t, s.image, samplePlace).document()
	good := recipientJSON(doc)
	open := s.sealSecret(s.key(""))
	misspelt := map[string]string{}
	for _, member := range []string{"KeyEncryptionAlgorithm", "AttestationDocument"} {
		for _, spelling := range []string{strings.ToLower(member), strings.ToUpper(member), strings.ToLower(member[:1]) + member[1:], member + " ", member + "\\u0000"} {
			misspelt[spelling] = strings.Replace(good, member, spelling, 1)
		}
	}
	// Case folding is not for ASCII alone: U+212A is a capital K, U+017F a small s.
	misspelt["Kelvin sign"] = strings.Replace(good, "KeyEncryption", "\u212aeyEncryption", 1)
	misspelt["long s"] = strings.Replace(good, "AttestationD", "Atte\u017ftationD", 1)
	for name, body := range s.bodies() {
		if status, answer, _ := s.send(raw{credentials: s.role, target: "TrentService." + name, body: body + `,"Recipient":` + good + `}`}); status != 200 {
			t.Fatalf("%s: %d %s", name, status, answer)
		}
		for spelling, r := range misspelt {
			s.rejected(t, name+", "+spelling, raw{credentials: s.role, target: "TrentService." + name, body: body + `,"Recipient":` + r + `}`})
		}
	}
	// The same where no policy stands in the way of plaintext.
	for spelling, r := range misspelt {
		s.rejected(t, "administrator, "+spelling, raw{target: "TrentService.Decrypt", body: `{"CiphertextBlob":"` + base64Of(open) + `","Recipient":` + r + `}`})
	}
	for _, spelling := range []string{"recipient", "RECIPIENT", "Recipient ", "Re\u0107ipient"} {
		status, answer, header := s.send(raw{credentials: s.role, target: "TrentService.Decrypt", body: s.bodies()["Decrypt"] + `,"` + spelling + `":` + good + `}`})
		if status != 400 || !strings.Contains(answer, `"__type":"AccessDeniedException"`) {
			t.Errorf("%s: %d %s", spelling, status, answer)
			continue
		}
		event, err := s.kms.Explain(t.Context(), header.Get("x-cretula-decision"))
		if err != nil || event.Additional != nil || !strings.Contains(event.Text(), "The request carried no attestation document.") {
			t.Errorf("%s: %v\n%s", spelling, err, event.Text())
		}
	}
	// A member twice is no JSON that two readers read alike.
	status, answer, _ := s.send(raw{credentials: s.role, target: "TrentService.Decrypt", body: s.bodies()["Decrypt"] + `,"Recipient":` + good + `,"Recipient":null}`})
	if status != 400 || !strings.Contains(answer, `"__type":"SerializationException"`) {
		t.Errorf("twice: %d %s", status, answer)
	}
}
