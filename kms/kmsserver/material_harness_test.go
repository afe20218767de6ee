// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/internal/need"
)

func init() {
	localOperations["Local.WrapKeyMaterial"] = func(in map[string]any) (map[string]any, error) {
		dir, err := os.MkdirTemp("", "wrap")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		public, err := base64.StdEncoding.DecodeString(fmt.Sprint(in["PublicKey"]))
		if err != nil {
			return nil, err
		}
		material, err := base64.StdEncoding.DecodeString(fmt.Sprint(in["KeyMaterial"]))
		if err != nil {
			return nil, err
		}
		wrapped, err := wrapWithOpenSSL(dir, fmt.Sprint(in["WrappingAlgorithm"]), public, material)
		return map[string]any{"EncryptedKeyMaterial": base64Of(wrapped)}, err
	}
}

// wrapWithOpenSSL wraps key material as the developer guide tells users to.
func wrapWithOpenSSL(dir, algorithm string, public, material []byte) ([]byte, error) {
	hash := "sha256"
	if strings.HasSuffix(algorithm, "SHA_1") {
		hash = "sha1"
	}
	oaep := func(data []byte) ([]byte, error) {
		key := filepath.Join(dir, "public.der")
		if err := os.WriteFile(key, public, 0o600); err != nil {
			return nil, err
		}
		return opensslIn(dir, data, "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", key, "-pkeyopt", "rsa_padding_mode:oaep",
			"-pkeyopt", "rsa_oaep_md:"+hash, "-pkeyopt", "rsa_mgf1_md:"+hash)
	}
	if strings.HasPrefix(algorithm, "RSAES_OAEP") {
		return oaep(material)
	}
	aes, err := opensslIn(dir, nil, "rand", "32")
	if err != nil {
		return nil, err
	}
	first, err := oaep(aes)
	if err != nil {
		return nil, err
	}
	// RFC 5649 with its own initial value.
	second, err := opensslIn(dir, material, "enc", "-id-aes256-wrap-pad", "-iv", "A65959A6", "-K", hex.EncodeToString(aes))
	return slices.Concat(first, second), err
}

// opensslIn runs OpenSSL on a file with some data and returns what it writes.
func opensslIn(dir string, data []byte, arguments ...string) ([]byte, error) {
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	if err := os.WriteFile(in, data, 0o600); err != nil {
		return nil, err
	}
	files := []string{"-in", in, "-out", out}
	if arguments[0] == "rand" {
		files = []string{"-out", out}
	}
	arguments = slices.Concat(arguments[:1], files, arguments[1:])
	if text, err := exec.Command("openssl", arguments...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("openssl %s: %w: %s", arguments[0], err, text)
	}
	return os.ReadFile(out)
}

const day = 24 * time.Hour

// externalKey makes a key that waits for its material.
func (s *service) externalKey(spec types.KeySpec, usage types.KeyUsageType) string {
	s.t.Helper()
	out, err := s.adminClient().CreateKey(s.t.Context(), &awskms.CreateKeyInput{Origin: types.OriginTypeExternal, KeySpec: spec, KeyUsage: usage})
	if err != nil {
		s.t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// An incoming is a prepared import.
type incoming struct {
	service *service
	params  *awskms.GetParametersForImportOutput
	spec    types.WrappingKeySpec
	with    types.AlgorithmSpec
}

// prepare gets parameters for an import.
func (s *service) prepare(key string, with types.AlgorithmSpec, spec types.WrappingKeySpec) incoming {
	s.t.Helper()
	need.Program(s.t, "openssl")
	out, err := s.adminClient().GetParametersForImport(s.t.Context(), &awskms.GetParametersForImportInput{
		KeyId: &key, WrappingAlgorithm: with, WrappingKeySpec: spec})
	if err != nil {
		s.t.Fatal(err)
	}
	return incoming{s, out, spec, with}
}

// input is the request that imports material for good.
func (i incoming) input(material []byte) *awskms.ImportKeyMaterialInput {
	i.service.t.Helper()
	wrapped, err := wrapWithOpenSSL(i.service.t.TempDir(), string(i.with), i.params.PublicKey, material)
	if err != nil {
		i.service.t.Fatal(err)
	}
	return &awskms.ImportKeyMaterialInput{KeyId: i.params.KeyId, ImportToken: i.params.ImportToken, EncryptedKeyMaterial: wrapped,
		ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire}
}

// importInto imports material, by default for good, and returns its id.
func (s *service) importInto(key string, material []byte, change ...func(*awskms.ImportKeyMaterialInput)) (string, error) {
	s.t.Helper()
	in := s.prepare(key, types.AlgorithmSpecRsaesOaepSha256, types.WrappingKeySpecRsa2048).input(material)
	for _, c := range change {
		c(in)
	}
	out, err := s.adminClient().ImportKeyMaterial(s.t.Context(), in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.KeyMaterialId), nil
}

func (s *service) mustImport(key string, material []byte, change ...func(*awskms.ImportKeyMaterialInput)) string {
	s.t.Helper()
	id, err := s.importInto(key, material, change...)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// until has imported material expire.
func until(at time.Time) func(*awskms.ImportKeyMaterialInput) {
	return func(in *awskms.ImportKeyMaterialInput) {
		in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, &at
	}
}

// asNew imports material to which the key is to be rotated.
func asNew(in *awskms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }

// shown is the key of an ARN as DescribeKey shows it.
func (s *service) shown(key string) *types.KeyMetadata {
	s.t.Helper()
	return s.describe(region, key)
}

func (s *service) wantState(key string, want types.KeyState) {
	s.t.Helper()
	if m := s.shown(key); m.KeyState != want || m.Enabled != (want == types.KeyStateEnabled) {
		s.t.Errorf("the key is %s, enabled: %v; want %s", m.KeyState, m.Enabled, want)
	}
}

func (s *service) seal(key, text string) []byte {
	s.t.Helper()
	out, err := s.adminClient().Encrypt(s.t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte(text)})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.CiphertextBlob
}

// wantOpen decrypts and returns the id of the material that did it.
func (s *service) wantOpen(sealed []byte, text string) string {
	s.t.Helper()
	out, err := s.adminClient().Decrypt(s.t.Context(), &awskms.DecryptInput{CiphertextBlob: sealed})
	if err != nil {
		s.t.Fatal(err)
	}
	if string(out.Plaintext) != text {
		s.t.Errorf("decrypted %q, want %q", out.Plaintext, text)
	}
	return *out.KeyMaterialId
}

// due does what is due.
func (s *service) due() {
	s.t.Helper()
	if err := s.kms.DoDue(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// rotations lists the material of a key.
func (s *service) rotations(key string, include types.IncludeKeyMaterial) []types.RotationsListEntry {
	s.t.Helper()
	out, err := s.adminClient().ListKeyRotations(s.t.Context(), &awskms.ListKeyRotationsInput{KeyId: &key, IncludeKeyMaterial: include})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.Rotations
}
