// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/internal/nitrocli"
)

// TestNitroSignWithKMS signs with a key in a key service, found as AWS's tools find
// it: by the environment.
func TestNitroSignWithKMS(t *testing.T) {
	dir, _ := sharedImages(t)
	up := startUp(t, newDataDir(t))
	for name, value := range up.env {
		t.Setenv(name, value)
	}
	client := up.client()
	key, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP384, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	public, err := client.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: key.KeyMetadata.KeyId})
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	image, certificate := filepath.Join(work, "a.eif"), filepath.Join(work, "certificate.pem")
	putFile(t, filepath.Join(dir, "valid", "v3-p256-three.eif"), image)
	if err := os.WriteFile(certificate, certify(t, public.PublicKey), 0o600); err != nil {
		t.Fatal(err)
	}
	sign := []string{"sign-eif", "--eif-path", image, "--signing-certificate", certificate, "--private-key", *key.KeyMetadata.Arn}
	if code, stdout, stderr := nitro(time.Now, "", sign...); code != 0 || stderr != "Enclave Image successfully signed.\n" || !strings.Contains(stdout, `"PCR8": "`) {
		t.Fatalf("%d %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := nitro(time.Now, "", "describe-eif", "--eif-path", image); code != 0 || !strings.Contains(stdout, `"SignatureCheck": true`) {
		t.Errorf("described: %d %s%s", code, stdout, stderr)
	}
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := nitro(time.Now, "", sign...); code != 60 || stdout != "" || !strings.HasPrefix(stderr, "[ E60 ] EIF signing error. ") {
		t.Errorf("disabled: %d %s%s", code, stdout, stderr)
	}
	output := filepath.Join(work, "b.eif")
	code, stdout, stderr := nitro(time.Now, sharedBlobs(t, dir), "build-enclave", "--docker-uri", work, "--output-file", output,
		"--signing-certificate", certificate, "--private-key", *key.KeyMetadata.Arn)
	if _, err := os.Stat(output); code != 60 || stdout != "" || err == nil {
		t.Errorf("built with a disabled key: %d %s%s", code, stdout, stderr)
	}
	if after, err := os.ReadFile(image); err != nil || string(after) != string(before) {
		t.Errorf("the image is another one, %v", err)
	}
}

// certify makes a certificate, PEM, for a public key, by an authority of its own.
func certify(t *testing.T, public []byte) []byte {
	t.Helper()
	subject, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "release"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, subject, authority)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestNitroPCRInterrupted: a pipe that nobody writes to does not keep the command.
func TestNitroPCRInterrupted(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := measureFile(ctx, pipe); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

type brokenSigner struct{ crypto.Signer }

func (brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token was pulled out")
}

// TestNitroSigningFails: E60 also where the key fails in the middle of a build.
func TestNitroSigningFails(t *testing.T) {
	signer := &nitroSigner{Signer: brokenSigner{}}
	if code := nitroBuildCode(signer, errors.New("x")); code != nitrocli.ImageBuilding {
		t.Errorf("before: %v", code)
	}
	_, err := signer.Sign(nil, nil, crypto.SHA384)
	if code := nitroBuildCode(signer, err); code != nitrocli.ImageSigning {
		t.Errorf("after: %v", code)
	}
}

// TestNitroByLink: a link with the name is enough.
func TestNitroByLink(t *testing.T) {
	program, err := exec.LookPath("cretula")
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), nitrocli.Name)
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(link, "--version").CombinedOutput()
	if err != nil || string(out) != "Nitro CLI 1.5.0 (cretula)\n" {
		t.Errorf("%v, %s", err, out)
	}
}
