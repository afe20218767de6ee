// SPDX-License-Identifier: Apache-2.0

package rootkeys

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/awskms"
	"github.com/cretula/cretula/kms/rootkey/passphrase"
	"github.com/cretula/cretula/kms/rootkey/pkcs11"
	"github.com/cretula/cretula/kms/rootkey/systemd"
	"github.com/cretula/cretula/kms/rootkey/tpm"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/reason"
)

// errSecretFile: the file of a passphrase or PIN cannot be used.
var errSecretFile = errors.New("the file with the secret that opens the root key cannot be read")

// holder returns the holder of a Spec that was checked, of another kind than
// file.
func (s *Spec) holder(ctx context.Context) (rootkey.Holder, error) {
	switch s.Kind {
	case KindPassphrase:
		text, err := readSecret(s.PassphraseFile, passphrase.Read)
		if err != nil {
			return nil, err
		}
		h, err := passphrase.New(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errSecretFile, s.PassphraseFile, err)
		}
		return h, nil
	case KindSystemd:
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fmt.Errorf("%w: CREDENTIALS_DIRECTORY is not set", errCredential)
		}
		h, err := systemd.Credential(dir, s.Credential)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errCredential, err)
		}
		return h, nil
	case KindTPM:
		h, err := tpm.New(tpm.Config{Device: s.device(), PCRs: s.PCRs})
		if err != nil {
			return nil, reason.New(reason.Malformed, "rootkey.spec", "%w", err)
		}
		return h, nil
	case KindPKCS11:
		pin, err := readSecret(s.PINFile, readPIN)
		if err != nil {
			return nil, err
		}
		h, err := pkcs11.New(pkcs11.Config{
			Module: s.Module, TokenLabel: s.Token, TokenSerial: s.TokenSerial, KeyLabel: s.Label, PIN: pin,
		})
		if err != nil {
			return nil, err
		}
		return h, nil
	}
	return s.awsHolder(ctx)
}

// awsHolder returns the holder in AWS KMS. Credentials are those that AWS's tools
// would use: of the environment, the shared files or the instance.
func (s *Spec) awsHolder(ctx context.Context) (rootkey.Holder, error) {
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(s.Region))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", rootkey.ErrUnavailable, err)
	}
	// Not the environment's: what the Spec says, or the ARN, and no proxy. Who has
	// AWS_ENDPOINT_URL_KMS point to this key service means its clients.
	found.Region, found.BaseEndpoint = s.Region, nil
	if s.Endpoint != "" {
		found.BaseEndpoint = &s.Endpoint
	}
	if found.HTTPClient, err = s.awsClient(); err != nil {
		return nil, err
	}
	if !s.Attested {
		h, err := awskms.New(found, s.KeyARN)
		if err != nil {
			return nil, reason.New(reason.Malformed, "rootkey.spec", "%w", err)
		}
		return h, nil
	}
	device, err := s.openNSM()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", rootkey.ErrUnavailable, err)
	}
	h, err := awskms.NewAttested(found, s.KeyARN, device)
	if err != nil {
		device.Close()
		return nil, reason.New(reason.Malformed, "rootkey.spec", "%w", err)
	}
	return &attestedHolder{h, device}, nil
}

// awsClient returns the HTTP client that trusts CAFile, nil for the holder's own.
func (s *Spec) awsClient() (aws.HTTPClient, error) {
	if s.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: ca_file: %w", rootkey.ErrUnavailable, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, reason.New(reason.Malformed, "rootkey.spec", "ca_file %s has no certificate in PEM", s.CAFile)
	}
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.Proxy = nil
		t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}), nil
}

// attestedHolder closes the device, which its holder does not.
type attestedHolder struct {
	*awskms.Holder
	device nsm.Device
}

// Close implements [io.Closer].
func (h *attestedHolder) Close() error { return h.device.Close() }

func (s *Spec) openNSM() (nsm.Device, error) {
	if s.NSMSocket != "" {
		return nsm.Dial(s.NSMSocket)
	}
	return nsm.Open()
}

// errCredential: systemd has not given the service what the Spec names.
var errCredential = errors.New("the systemd credential of the root key is not there")

// readSecret reads a private file.
func readSecret(path string, read func(io.Reader) ([]byte, error)) ([]byte, error) {
	f, err := durable.OpenPrivate(path, os.O_RDONLY)
	if err != nil {
		// Its kind is not passed on: a secret that is missing is not the root
		// key that is missing.
		return nil, fmt.Errorf("%w: %v", errSecretFile, err)
	}
	defer f.Close()
	secret, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errSecretFile, path, err)
	}
	return secret, nil
}

const maxPIN = 255

// readPIN reads a PIN, without one line end behind it.
func readPIN(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxPIN+3))
	if err != nil {
		return nil, err
	}
	pin := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(pin) == 0 || len(pin) > maxPIN {
		clear(text)
		return nil, fmt.Errorf("a PIN has 1 to %d bytes", maxPIN)
	}
	return pin, nil
}

// closeHolder has the holder forget its secret, if it has one.
func closeHolder(h rootkey.Holder) {
	if c, ok := h.(io.Closer); ok {
		c.Close()
	}
}

// createHeldKey makes the key that the holder seals with, where that is the
// holder's to make.
func createHeldKey(ctx context.Context, h rootkey.Holder) error {
	hsm, ok := h.(*pkcs11.Holder)
	if !ok {
		return nil
	}
	if err := hsm.CreateKey(ctx); err != nil && !errors.Is(err, pkcs11.ErrKeyExists) {
		return err
	}
	return nil
}

// A remedy is what to do about an error. The first that matches counts.
type remedy struct {
	kind   string // empty: any
	err    error
	reason reason.Reason // 0: none
	rule   string
	hint   string
}

var remedies = []remedy{
	{"", errCredential, reason.Unsupported, "rootkey.credential",
		"start it by systemd with LoadCredentialEncrypted=CREDENTIAL:..., as user of the service; by hand, use kind passphrase with the same passphrase"},
	{"", errSecretFile, reason.Unsupported, "rootkey.secret", "it must be a regular file of this user, mode 0600, with the secret in one line"},
	{"", fs.ErrExist, 0, "", "a root key is never replaced; 'cretula kms root-key info' says which one it is"},
	{"", durable.ErrNotPrivate, 0, "", "chmod 0600 FILE, and chmod 0700 its folder; both must belong to the user of the service"},
	{"", ErrNoFile, reason.Unsupported, "rootkey.missing", "name the file of the root key that the store was made with; for a new store 'cretula kms root-key create' makes one"},
	{"", rootkey.ErrKind, reason.Mismatch, "rootkey.kind", "set kind to what 'cretula kms root-key info' says"},
	{"", rootkey.ErrFile, reason.Malformed, "rootkey.file", "put back a copy of FILE"},
	{"", rootkey.ErrCheck, reason.Malformed, "rootkey.check", "put back a copy of FILE"},
	{"", pkcs11.ErrNotBuilt, reason.Unsupported, "rootkey.pkcs11", "build the program with cgo and -tags pkcs11"},
	{"", pkcs11.ErrModule, reason.Unsupported, "rootkey.pkcs11", "install the library of the HSM at MODULE; its own configuration must be readable for this user"},
	{"", pkcs11.ErrNoToken, reason.Unsupported, "rootkey.pkcs11", "connect the HSM; 'pkcs11-tool --list-slots' or the maker's program shows its tokens; wanted is TOKEN"},
	{"", pkcs11.ErrPINLocked, reason.Unsupported, "rootkey.pkcs11", "have the security officer of the token set a new PIN"},
	{"", pkcs11.ErrPIN, reason.Unsupported, "rootkey.pkcs11", "put the PIN of the token's normal user into PINFILE; a few wrong ones lock it"},
	{"", pkcs11.ErrNoKey, reason.Unsupported, "rootkey.pkcs11", "the key LABEL that the file is sealed with must be in the token; without it the root key is lost"},
	{"", pkcs11.ErrWeakKey, reason.Unsupported, "rootkey.pkcs11", "use another label; 'cretula kms root-key create' makes a key that never leaves the token"},
	{"", pkcs11.ErrNoGCM, reason.Unsupported, "rootkey.pkcs11", "use an HSM with CKM_AES_GCM"},
	{"", tpm.ErrOtherTPM, reason.Mismatch, "rootkey.tpm", "start on the machine that sealed it, or rewrap a copy that a passphrase seals"},
	{"", tpm.ErrPCR, reason.Mismatch, "rootkey.tpm", "start the firmware and system that it was sealed under, or rewrap a copy that a passphrase seals"},
	{"", tpm.ErrOwnerAuth, reason.Unsupported, "rootkey.tpm", "take the password off the owner hierarchy of the TPM"},
	{"", tpm.ErrLockout, reason.Unsupported, "rootkey.tpm", "wait, or reset the lockout with tpm2_dictionarylockout"},
	{"", awskms.ErrDenied, reason.Unsupported, "rootkey.awskms", "allow kms:GenerateDataKey and kms:Decrypt with KEYARN for these credentials, or this enclave's measurements"},
	{KindAWSKMS, rootkey.ErrUnavailable, reason.Unsupported, "rootkey.awskms", "KEYARN must be there and enabled, its service reachable, and credentials in the environment, a shared file or the instance"},
	{"", rootkey.ErrNotOpened, reason.Mismatch, "rootkey.holder", "use the passphrase, TPM or HSM key that the file was sealed with"},
	{KindTPM, rootkey.ErrUnavailable, reason.Unsupported, "rootkey.tpm", "the TPM must be at DEVICE and this user must have access to it, best by its group"},
	{"", rootkey.ErrUnavailable, reason.Unsupported, "rootkey.unavailable", "the holder of the root key must be there and answer; nothing was changed"},
}
