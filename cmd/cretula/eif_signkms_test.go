// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
)

// TestEIFSignKMS signs with keys in a key service.
func TestEIFSignKMS(t *testing.T) {
	service := rootkeytest.StartKMS(t)
	credentials, err := service.Config.Credentials.Retrieve(t.Context())
	mustDo(t, err)
	server := httptest.NewServer(service.Handler())
	defer server.Close()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": credentials.AccessKeyID, "AWS_SECRET_ACCESS_KEY": credentials.SecretAccessKey, "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none", "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
	s := newSignable(t, eif.Bytes([]byte("kernel")))
	client := kms.NewFromConfig(service.Config)
	arns := map[types.KeySpec]string{}
	for spec, algorithm := range map[types.KeySpec]string{
		types.KeySpecEccNistP256: "ES256", types.KeySpecEccNistP384: "ES384", types.KeySpecEccNistP521: "ES512",
	} {
		key, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeSignVerify})
		mustDo(t, err)
		arn := *key.KeyMetadata.Arn
		arns[spec] = arn
		certificate := certificateOfKMS(t, client, arn)
		code, stdout, stderr := cretula(nil, "eif", "sign", s.image, "--key", arn, "--certificate", certificate, "--endpoint", server.URL)
		if code != 0 || stderr != "" || !strings.Contains(stdout, algorithm) {
			t.Fatalf("%s: %d %s %s", spec, code, stdout, stderr)
		}
		if code, stdout, _ := cretula(nil, "eif", "verify", s.image, "--certificate", certificate); code != 0 || !strings.Contains(stdout, algorithm) {
			t.Errorf("%s: %d %s", spec, code, stdout)
		}
	}
	signed, err := os.ReadFile(s.image)
	mustDo(t, err)
	code, _, stderr := cretula(nil, s.signArgs("--key", arns[types.KeySpecEccNistP384], "--endpoint", server.URL)...)
	if code != 7 || !strings.Contains(stderr, "eif.sign.key") {
		t.Errorf("with the certificate of another key: %d %s", code, stderr)
	}
	wantOnly(t, s.dir, s.image, signed)
}

// certificateOfKMS makes a certificate for a key whose private half nobody has.
func certificateOfKMS(t *testing.T, client *kms.Client, arn string) string {
	t.Helper()
	out, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &arn})
	mustDo(t, err)
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	mustDo(t, err)
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	mustDo(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, issuer)
	mustDo(t, err)
	path := filepath.Join(t.TempDir(), "cert.pem")
	mustDo(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return path
}
