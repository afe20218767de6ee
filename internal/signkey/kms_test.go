// SPDX-License-Identifier: Apache-2.0

package signkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
	"github.com/cretula/cretula/reason"
)

// startKMS starts a key service, with which the environment of AWS's tools is set
// up. It returns its URL.
func startKMS(t *testing.T) (*rootkeytest.KMS, string) {
	t.Helper()
	k := rootkeytest.StartKMS(t)
	credentials, err := k.Config.Credentials.Retrieve(t.Context())
	must(t, err)
	t.Setenv("AWS_ACCESS_KEY_ID", credentials.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", credentials.SecretAccessKey)
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_CONFIG_FILE", "none")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
	t.Setenv("AWS_REGION", "eu-north-1") // the ARN's counts
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"} {
		t.Setenv(name, "")
	}
	server := httptest.NewTLSServer(k.Handler())
	t.Cleanup(server.Close)
	t.Setenv("AWS_CA_BUNDLE", file(t, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	return k, server.URL
}

func createKey(t *testing.T, k *rootkeytest.KMS, spec types.KeySpec, usage types.KeyUsageType) string {
	t.Helper()
	out, err := kms.NewFromConfig(k.Config).CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
	must(t, err)
	return *out.KeyMetadata.Arn
}

func TestKMS(t *testing.T) {
	k, url := startKMS(t)
	for spec, curve := range map[types.KeySpec]elliptic.Curve{
		types.KeySpecEccNistP256: elliptic.P256(), types.KeySpecEccNistP384: elliptic.P384(), types.KeySpecEccNistP521: elliptic.P521(),
	} {
		arn := createKey(t, k, spec, types.KeyUsageTypeSignVerify)
		signer, closer, err := Open(t.Context(), Spec{Key: arn, Endpoint: url})
		must(t, err)
		public := signer.Public().(*ecdsa.PublicKey)
		if public.Curve != curve {
			t.Errorf("%s: a key on %s", spec, public.Curve.Params().Name)
		}
		checkSigner(t, signer, nil)
		must(t, closer.Close())

		alias := "alias/" + strings.ToLower(string(spec))
		_, err = kms.NewFromConfig(k.Config).CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &arn})
		must(t, err)
		byAlias, _, err := Open(t.Context(), Spec{Key: arn[:strings.Index(arn, "key/")] + alias, Endpoint: url})
		must(t, err)
		checkSigner(t, byAlias, public)

		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			if _, err := signer.Sign(nil, make([]byte, h.Size()), h); (err == nil) != (h == curves[curve]) {
				t.Errorf("%s with %v: %v", spec, h, err)
			}
		}
		if _, err := signer.Sign(nil, make([]byte, 5), curves[curve]); err == nil {
			t.Errorf("%s signs a digest of 5 bytes", spec)
		}
	}
}

// TestKMSMovedAlias: an alias that is pointed to another key in between.
func TestKMSMovedAlias(t *testing.T) {
	k, url := startKMS(t)
	client := kms.NewFromConfig(k.Config)
	one := createKey(t, k, types.KeySpecEccNistP384, types.KeyUsageTypeSignVerify)
	two := createKey(t, k, types.KeySpecEccNistP384, types.KeyUsageTypeSignVerify)
	alias := "alias/release"
	_, err := client.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &one})
	must(t, err)
	signer, _, err := Open(t.Context(), Spec{Key: one[:strings.Index(one, "key/")] + alias, Endpoint: url})
	must(t, err)
	_, err = client.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: &alias, TargetKeyId: &two})
	must(t, err)
	_, err = signer.Sign(nil, make([]byte, 48), crypto.SHA384)
	wantRefusal(t, "moved alias", err, reason.Mismatch, "eif.key.kms")
}

func TestKMSRefuses(t *testing.T) {
	k, url := startKMS(t)
	arn := createKey(t, k, types.KeySpecEccNistP384, types.KeyUsageTypeSignVerify)
	open := func(key, endpoint string) error {
		signer, closer, err := Open(t.Context(), Spec{Key: key, Endpoint: endpoint})
		if signer != nil || closer != nil {
			t.Errorf("%s: opened", key)
		}
		return err
	}
	for _, bad := range []string{
		"arn:", "arn:aws:kms", "arn:aws:kms:us-east-1:000000000000:key/", "arn:aws:s3:us-east-1:000000000000:key/x", "arn:aws:kms::000000000000:key/x",
		"arn:aws:kms:us-east-1:00000000000:key/x", "arn:aws:kms:us-east-1:000000000000:key/a b", "arn:aws:kms:us-east-1:000000000000:alias/", arn + "\n",
		"arn:azure:kms:us-east-1:000000000000:key/x", "arn:aws:kms:us-east-1:000000000000:key/x/y",
	} {
		wantRefusal(t, bad, open(bad, url), reason.Malformed, "eif.key.kms")
	}
	for _, bad := range []string{"http://example.com", "http://localhost:1", "ftp://127.0.0.1", "x", "https://", ":"} {
		wantUsage(t, bad, open(arn, bad))
	}
	wantRefusal(t, "no such key", open(strings.Replace(arn, "key/", "key/00000000", 1)[:len(arn)], url), reason.Unsupported, "eif.key.kms")
	for name, key := range map[string]string{
		"for encryption": createKey(t, k, types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt),
		"RSA":            createKey(t, k, types.KeySpecRsa2048, types.KeyUsageTypeSignVerify),
		"secp256k1":      createKey(t, k, types.KeySpecEccSecgP256k1, types.KeyUsageTypeSignVerify),
		"key agreement":  createKey(t, k, types.KeySpecEccNistP384, types.KeyUsageTypeKeyAgreement),
	} {
		wantRefusal(t, name, open(key, url), reason.Unsupported, "eif.key.curve")
	}
	wantRefusal(t, "symmetric", open(k.CreateKey(t, ""), url), reason.Unsupported, "eif.key.kms")

	signer, _, err := Open(t.Context(), Spec{Key: arn, Endpoint: url})
	must(t, err)
	_, err = kms.NewFromConfig(k.Config).DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: aws.String(arn)})
	must(t, err)
	_, err = signer.Sign(nil, make([]byte, 48), crypto.SHA384)
	wantRefusal(t, "disabled", err, reason.Unsupported, "eif.key.kms")

	t.Setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
	wantRefusal(t, "wrong credentials", open(arn, url), reason.Unsupported, "eif.key.kms", "SECRET")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Open(ctx, Spec{Key: arn, Endpoint: url}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	garbage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Write([]byte(`{"KeyId":"x","KeySpec":"ECC_NIST_P384","KeyUsage":"SIGN_VERIFY","PublicKey":"AAAA"}`))
	}))
	defer garbage.Close()
	wantRefusal(t, "no public key", open(arn, garbage.URL), reason.Malformed, "eif.key.kms")
}

// TestKMSLies: a service that says one thing and does another, or nothing.
func TestKMSLies(t *testing.T) {
	_, _ = startKMS(t) // its credentials
	const arn = "arn:aws:kms:us-east-1:000000000000:key/x"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	served := map[string]any{"KeyId": arn, "KeySpec": "ECC_NIST_P384", "KeyUsage": "SIGN_VERIFY", "PublicKey": public}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Sign") {
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"__type":"ThrottlingException\u001b[2J","message":"slow \u009b down"}`))
			return
		}
		must(t, json.NewEncoder(w).Encode(served))
	}))
	defer server.Close()
	_, _, err = Open(t.Context(), Spec{Key: arn, Endpoint: server.URL})
	wantRefusal(t, "a key of another curve", err, reason.Malformed, "eif.key.kms")
	served["KeySpec"] = "ECC_NIST_P256"
	signer, _, err := Open(t.Context(), Spec{Key: arn, Endpoint: server.URL})
	must(t, err)
	_, err = signer.Sign(nil, make([]byte, 32), crypto.SHA256)
	wantRefusal(t, "throttled", err, reason.Unsupported, "eif.key.kms", "\x1b", "\u009b")

	asked, release := make(chan bool, 9), make(chan bool)
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- true; <-release }))
	defer silent.Close()
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, _, err := Open(ctx, Spec{Key: arn, Endpoint: silent.URL}); !errors.Is(err, context.Canceled) {
		t.Errorf("no answer: %v", err)
	}
}
