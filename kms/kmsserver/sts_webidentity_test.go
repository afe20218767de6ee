// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/cretula/cretula/internal/oidc"
	"github.com/cretula/cretula/kms"
)

const (
	idpURL      = "https://idp.example/tenant"
	providerARN = "arn:aws:iam::000000000000:oidc-provider/idp.example/tenant"
)

// trustingProvider is a trust policy for the tokens of one subject.
const trustingProvider = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":"` + providerARN + `"},
	"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession","sts:SetSourceIdentity"],
	"Condition":{"StringEquals":{"idp.example/tenant:sub":"build:main","idp.example/tenant:aud":"cretula"}}}}`

// webService is a service that takes tokens which are signed by the key.
func webService(t *testing.T, change ...func(*kms.Config)) (*service, func(map[string]any) string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	wantNil(t, err)
	b64 := base64.RawURLEncoding.EncodeToString
	jwks := filepath.Join(t.TempDir(), "jwks.json")
	set := fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k1","use":"sig","alg":"RS256","n":%q,"e":%q}]}`, b64(key.N.Bytes()), b64(big.NewInt(int64(key.E)).Bytes()))
	wantNil(t, os.WriteFile(jwks, []byte(set), 0o600))
	verifier, err := oidc.New([]oidc.Issuer{{URL: idpURL, Audiences: []string{"cretula"}, JWKSFile: jwks}}, time.Now)
	wantNil(t, err)
	s := newService(t, append(change, func(c *kms.Config) { c.WebIdentity = verifier })...)
	s.role("batch/worker", trustingProvider, mayUse)
	return s, func(changes map[string]any) string {
		now := time.Now().Unix()
		claims := map[string]any{"iss": idpURL, "aud": "cretula", "sub": "build:main", "iat": now, "exp": now + 300}
		maps.Copy(claims, changes)
		payload, err := json.Marshal(claims)
		wantNil(t, err)
		input := b64([]byte(`{"alg":"RS256","kid":"k1","typ":"JWT"}`)) + "." + b64(payload)
		sum := sha256.Sum256([]byte(input))
		signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		wantNil(t, err)
		return input + "." + b64(signature)
	}
}

type tokenText string

func (t tokenText) GetIdentityToken() ([]byte, error) { return []byte(t), nil }

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	s, token := webService(t)
	key := s.key("")
	provider := stscreds.NewWebIdentityRoleProvider(s.sts(aws.AnonymousCredentials{}), workerARN, tokenText(token(nil)),
		func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = "build-1" })
	session := aws.NewCredentialsCache(provider)
	if err := describe(s, session, key); err != nil {
		t.Fatal(err)
	}
	event := s.lastEvent(t, "AssumeRoleWithWebIdentity")
	identity := event["userIdentity"].(map[string]any)
	if identity["type"] != "WebIdentityUser" || identity["userName"] != "build:main" || identity["identityProvider"] != providerARN || event["outcome"] != "allowed" {
		t.Errorf("event %v", event)
	}
	if _, err := s.kmsOf(session).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	context := s.lastEvent(t, "Encrypt")["userIdentity"].(map[string]any)["sessionContext"].(map[string]any)
	if context["webIdFederationData"].(map[string]any)["federatedProvider"] != providerARN {
		t.Errorf("context %v", context)
	}
	text := token(map[string]any{"https://aws.amazon.com/source_identity": "someone",
		"https://aws.amazon.com/tags": map[string]any{"principal_tags": map[string]any{"team": []string{"red"}}, "transitive_tag_keys": []string{"team"}}})
	out, err := s.sts(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(t.Context(), &awssts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(workerARN), RoleSessionName: aws.String("build-2"), WebIdentityToken: &text, DurationSeconds: aws.Int32(900),
	})
	if err != nil {
		t.Fatal(err)
	}
	if *out.SubjectFromWebIdentityToken != "build:main" || *out.Provider != providerARN || *out.Audience != "cretula" || *out.SourceIdentity != "someone" ||
		*out.AssumedRoleUser.Arn != "arn:aws:sts::000000000000:assumed-role/worker/build-2" || *out.SessionTokenSize != int32(len(*out.Credentials.SessionToken)) {
		t.Errorf("%+v", out)
	}
	tagged := s.key(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"` + workerARN + `"},"Action":"kms:DescribeKey","Resource":"*",
		"Condition":{"StringEquals":{"aws:PrincipalTag/team":"red","aws:FederatedProvider":"` + providerARN + `","aws:SourceIdentity":"someone"}}}]}`)
	if err := describe(s, ofSession(out.Credentials), tagged); err != nil {
		t.Error(err)
	}
	wantCode(t, describe(s, session, tagged), "AccessDeniedException")
	s.remove("worker")
	wantCode(t, describe(s, session, key), "UnrecognizedClientException")
}

func TestWebIdentityRefusals(t *testing.T) {
	s, token := webService(t)
	s.role("other", trusting("arn:aws:iam::000000000000:user/admin"))
	good := token(nil)
	for name, c := range map[string]struct {
		token, role, code string
		status            int
	}{
		"another subject":  {token(map[string]any{"sub": "build:evil"}), workerARN, "AccessDenied", 403},
		"another audience": {token(map[string]any{"aud": "other"}), workerARN, "InvalidIdentityToken", 400},
		"another issuer":   {token(map[string]any{"iss": "https://idp.example/other"}), workerARN, "InvalidIdentityToken", 400},
		"expired":          {token(map[string]any{"iat": time.Now().Unix() - 7200, "exp": time.Now().Unix() - 3600}), workerARN, "ExpiredTokenException", 400},
		"tampered":         {good[:len(good)-8] + "AAAAAAAA", workerARN, "InvalidIdentityToken", 400},
		"no token":         {"abcd", workerARN, "InvalidIdentityToken", 400},
		"too long":         {strings.Repeat("a", 20001), workerARN, "ValidationError", 400},
		"bad tags":         {token(map[string]any{"https://aws.amazon.com/tags": map[string]any{"principal_tags": map[string]any{"aws:x": []string{"y"}}}}), workerARN, "InvalidIdentityToken", 400},
		"no such role":     {good, "arn:aws:iam::000000000000:role/none", "AccessDenied", 403},
		"another role":     {good, "arn:aws:iam::000000000000:role/other", "AccessDenied", 403},
		"other account":    {good, "arn:aws:iam::111111111111:role/worker", "AccessDenied", 403},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.events("AssumeRoleWithWebIdentity"))
			_, err := s.sts(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(t.Context(), &awssts.AssumeRoleWithWebIdentityInput{
				RoleArn: &c.role, RoleSessionName: aws.String("build-1"), WebIdentityToken: &c.token,
			})
			if err == nil {
				t.Fatal("assumed")
			}
			code, message, status, _ := refused(t, err)
			if code != c.code || status != c.status || c.code == "AccessDenied" && message != "Not authorized to perform sts:AssumeRoleWithWebIdentity" && !strings.HasPrefix(message, "Not authorized to perform: sts:") {
				t.Errorf("%d %s %s", status, code, message)
			}
			// Nobody is known who sent what is no good token: that is counted only.
			recorded := s.events("AssumeRoleWithWebIdentity")
			if known := c.code == "AccessDenied" || name == "bad tags"; len(recorded)-before != map[bool]int{true: 1}[known] {
				t.Errorf("%d events", len(recorded)-before)
			}
			if text := fmt.Sprint(recorded, s.events("UnauthenticatedRequests")); strings.Contains(text, c.token) {
				t.Error("the token is on record")
			}
		})
	}
	if noted := s.events("UnauthenticatedRequests"); len(noted) != 3 { // one of each code
		t.Errorf("%d events of requests without authentication", len(noted))
	}
	// A role that is disabled tells whom it trusts no more than any other.
	yes := true
	_, err := s.kms.ChangePrincipal(t.Context(), "worker", "", kms.PrincipalChange{Disabled: &yes})
	wantNil(t, err)
	_, err = s.sts(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(t.Context(), &awssts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(workerARN), RoleSessionName: aws.String("build-1"), WebIdentityToken: &good,
	})
	if code, message, status, _ := refused(t, err); code != "AccessDenied" || status != 403 || message != "Not authorized to perform sts:AssumeRoleWithWebIdentity" {
		t.Errorf("%d %s %s", status, code, message)
	}
	// Without a provider no token is one.
	plain := newService(t)
	_, err = plain.sts(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(t.Context(), &awssts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(workerARN), RoleSessionName: aws.String("build-1"), WebIdentityToken: &good,
	})
	wantCode(t, err, "InvalidIdentityToken")
}

// Everybody can have good tokens of a public provider. They cannot fill the audit log
// with them, and those who are trusted are on record all the same.
func TestStrangersAreCounted(t *testing.T) {
	var later atomic.Int64
	now := time.Now()
	s, token := webService(t, func(c *kms.Config) { c.Now = func() time.Time { return now.Add(time.Duration(later.Load())) } })
	stranger, known := token(map[string]any{"sub": "build:evil"}), token(nil)
	ask := func(token, code string) {
		t.Helper()
		_, err := s.sts(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(t.Context(), &awssts.AssumeRoleWithWebIdentityInput{
			RoleArn: aws.String(workerARN), RoleSessionName: aws.String("build-1"), WebIdentityToken: &token,
		})
		if code == "" {
			wantNil(t, err)
		} else {
			wantCode(t, err, code)
		}
	}
	count := func(want int) {
		t.Helper()
		if got := len(s.events("AssumeRoleWithWebIdentity")); got != want {
			t.Errorf("%d events, want %d", got, want)
		}
	}
	for range 70 {
		ask(stranger, "AccessDenied")
	}
	count(60)
	if all := s.unauthenticatedEvents(); len(all) != 1 || all[0].ErrorCode != "AccessDenied" {
		t.Errorf("%+v", all)
	}
	ask(known, "")
	count(61)
	later.Store(int64(time.Minute))
	ask(stranger, "AccessDenied")
	count(62)
}
