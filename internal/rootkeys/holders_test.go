// SPDX-License-Identifier: Apache-2.0

//go:build linux

package rootkeys_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
	"github.com/cretula/cretula/reason"
)

// passphraseSpec is a root key that a passphrase opens, which is not made yet.
func passphraseSpec(t *testing.T) rootkeys.Spec {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	return rootkeys.Spec{
		Kind: rootkeys.KindPassphrase, File: filepath.Join(dir, "root.key"),
		PassphraseFile: write(t, filepath.Join(dir, "passphrase"), phrase, 0o600),
	}
}

// unchanged runs fn, after which the root key file must be what it was.
func unchanged(t *testing.T, path string, fn func()) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fn()
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%s was changed (%v)", path, err)
	}
}

func TestTPM(t *testing.T) {
	ctx := t.Context()
	device := rootkeytest.StartTPM(t)
	from := passphraseSpec(t)
	made, err := rootkeys.Create(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	to := rootkeys.Spec{Kind: rootkeys.KindTPM, Device: device.Socket, PCRs: []int{7}}
	if err := rootkeys.Rewrap(ctx, from, to); err != nil {
		t.Fatal(err)
	}
	to.File = from.File
	mustBe(t, to, made)
	if info, err := rootkeys.Info(to); err != nil || info.ID != made.ID() || info.Kind != "tpm2" {
		t.Errorf("info %+v, %v", info, err)
	}
	unchanged(t, to.File, func() {
		other := to
		other.Device = rootkeytest.StartTPM(t).Socket
		_, err := rootkeys.Open(ctx, other)
		refused(t, "another TPM", err, reason.Mismatch, "not by the storage root key of this TPM")
		device.Stop()
		_, err = rootkeys.Open(ctx, to)
		shown := refused(t, "no TPM", err, reason.Unsupported, "not available")
		if !bytes.Contains([]byte(shown), []byte(device.Socket)) {
			t.Errorf("the hint does not name the device:\n%s", shown)
		}
		refused(t, "rewrap without the TPM", rootkeys.Rewrap(ctx, to, from), reason.Unsupported, "not available")
	})
	device.Start(t)
	mustBe(t, to, made)
	if err := rootkeys.Rewrap(ctx, to, from); err != nil {
		t.Fatal(err)
	}
	mustBe(t, from, made)
}

// TestNewFileInTPM makes a root key that only the TPM opens.
func TestNewFileInTPM(t *testing.T) {
	device := rootkeytest.StartTPM(t)
	s := rootkeys.Spec{Kind: rootkeys.KindTPM, Device: device.Socket, File: filepath.Join(t.TempDir(), "root", "root.key")}
	made, err := rootkeys.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, s, made)
	wrong := s
	wrong.PCRs = []int{24}
	_, err = rootkeys.Open(t.Context(), wrong)
	if r, ok := reason.Of(err); !ok || r != reason.Malformed {
		t.Errorf("register 24: %v", err)
	}
}

func TestAWSKMS(t *testing.T) {
	ctx := t.Context()
	service := rootkeytest.StartKMS(t)
	credentials, err := service.Config.Credentials.Retrieve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", "/nowhere/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
	t.Setenv("AWS_REGION", "eu-north-1") // that of the ARN counts
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_ACCESS_KEY_ID", credentials.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", credentials.SecretAccessKey)
	from := passphraseSpec(t)
	made, err := rootkeys.Create(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := aws.ToString(service.Config.BaseEndpoint)
	t.Setenv("AWS_ENDPOINT_URL_KMS", "https://127.0.0.1:1") // what clients of this key service have
	t.Setenv("AWS_ENDPOINT_URL", "https://127.0.0.1:1")
	to := rootkeys.Spec{
		Kind: rootkeys.KindAWSKMS, KeyARN: service.CreateKey(t, ""), Endpoint: endpoint,
		CAFile: certificateOf(t, endpoint),
	}
	if err := rootkeys.Rewrap(ctx, from, to); err != nil {
		t.Fatal(err)
	}
	to.File = from.File
	mustBe(t, to, made)
	unchanged(t, to.File, func() {
		other := to
		other.KeyARN = service.CreateKey(t, "")
		_, err := rootkeys.Open(ctx, other)
		refused(t, "another key", err, reason.Mismatch, "sealed for another holder")
		alias := to
		alias.KeyARN = "alias/root"
		_, err = rootkeys.Open(ctx, alias)
		if r, ok := reason.Of(err); !ok || r != reason.Malformed {
			t.Errorf("an alias: %v", err)
		}
		t.Setenv("AWS_SECRET_ACCESS_KEY", "another")
		_, err = rootkeys.Open(ctx, to)
		refused(t, "wrong credentials", err, reason.Unsupported, "awskms")
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		_, err = rootkeys.Open(ctx, to)
		refused(t, "no credentials", err, reason.Unsupported, "holder not available")
	})
}

// certificateOf writes the certificate that a server shows.
func certificateOf(t *testing.T, endpoint string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(endpoint, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	block := pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw}
	return write(t, filepath.Join(t.TempDir(), "ca", "ca.pem"), string(pem.EncodeToMemory(&block)), 0o644)
}
