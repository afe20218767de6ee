// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"hash/crc32"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/nsm/softnsm"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy/explain"
)

// The account and the role of the sample in AWS's Nitro Enclaves User Guide, and
// an instance in AWS's form.
const (
	sampleAccount  = "123456789012"
	sampleRole     = "arn:aws:iam::" + sampleAccount + ":role/data-processing"
	sampleInstance = "i-1234567890abcdef0"
)

// A recipe says what an image is made of; equal recipes give equal images.
type recipe struct {
	application, kernel string
	signer              *imageSigner // nil: unsigned
}

// build makes an image of the recipe.
func (r recipe) build(t testing.TB) []byte {
	t.Helper()
	return buildImage(t, r, eifbuild.Entry{Name: "app", Type: eifbuild.File, Mode: 0o755, Content: eifbuild.Bytes([]byte(r.application))}, []string{"/app"}, nil)
}

func buildImage(t testing.TB, r recipe, program eifbuild.Entry, cmd, env []string) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image.eif"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = eifbuild.Build(t.Context(), f, eifbuild.Config{
		Mode:   eifbuild.NitroCLI,
		Kernel: eifbuild.StandIn("kernel" + r.kernel), Init: eifbuild.StandIn("init"), NSMKo: eifbuild.StandIn("nsm.ko"),
		Entries: []eifbuild.Entry{program}, Cmd: cmd, Env: env,
		Metadata: eif.Metadata{ImageName: "test", ImageVersion: "1", BuildMetadata: eif.BuildMetadata{KernelVersion: "stand-in"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if r.signer != nil {
		image = r.signer.sign(t, image)
	}
	return image
}

// measured reads an image as `cretula eif` does: structure, checksum,
// measurements, and the signature at the present time.
func measured(t testing.TB, image []byte) pcr.Set {
	t.Helper()
	im, err := eif.Parse(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := im.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s := im.Signature(); s != nil {
		pcr0, _ := m.Get(0)
		if err := s.Verify(pcr0, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	return m.Set
}

// An imageSigner has an image signing certificate and its key.
type imageSigner struct {
	certificate []byte // PEM
	key         *ecdsa.PrivateKey
}

// goSigner makes the certificate with Go; the key is made too if it is nil.
func goSigner(t testing.TB, name string, key *ecdsa.PrivateKey) *imageSigner {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &imageSigner{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key}
}

// opensslSigner makes key, request and certificate with the three commands of the
// Nitro Enclaves User Guide, "Where to get an enclave's measurements", PCR8.
func opensslSigner(t testing.TB) *imageSigner {
	t.Helper()
	openssl := need.Program(t, "openssl")
	dir := t.TempDir()
	for _, command := range [][]string{
		{"ecparam", "-name", "secp384r1", "-genkey", "-out", "key.pem"},
		{"req", "-new", "-key", "key.pem", "-sha384", "-nodes", "-subj", "/CN=AWS/C=US/ST=WA/L=Seattle/O=Amazon/OU=AWS", "-out", "csr.pem"},
		{"x509", "-req", "-days", "20", "-in", "csr.pem", "-out", "certificate.pem", "-sha384", "-signkey", "key.pem"},
	} {
		cmd := exec.Command(openssl, command...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", command, err, out)
		}
	}
	signer := &imageSigner{certificate: []byte(readFile(t, filepath.Join(dir, "certificate.pem")))}
	// The file has a block EC PARAMETERS before the key.
	for rest := []byte(readFile(t, filepath.Join(dir, "key.pem"))); signer.key == nil; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			t.Fatal("openssl wrote no EC PRIVATE KEY")
		}
		if block.Type != "EC PRIVATE KEY" {
			continue
		}
		var err error
		if signer.key, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	return signer
}

// octets are bytes as an array of integers, the form that the signature section
// of an image has them in.
func octets(data []byte) []int {
	out := make([]int, len(data))
	for i, b := range data {
		out[i] = int(b)
	}
	return out
}

func encodeCBOR(t testing.TB, value any) []byte {
	t.Helper()
	data, err := cbor.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// sign appends a signature section as nitro-cli's sign-eif does. COSE and CBOR are
// other people's, so that the image is not signed by what reads it.
func (s *imageSigner) sign(t testing.TB, image []byte) []byte {
	t.Helper()
	set := measured(t, image)
	pcr0, _ := set.Get(0)
	signer, err := cose.NewSigner(cose.AlgorithmES384, s.key)
	if err != nil {
		t.Fatal(err)
	}
	message := cose.UntaggedSign1Message(*cose.NewSign1Message())
	message.Headers.Protected.SetAlgorithm(cose.AlgorithmES384)
	message.Payload = encodeCBOR(t, struct {
		Index int   `cbor:"register_index"`
		Value []int `cbor:"register_value"`
	}{0, octets(pcr0[:])})
	if err := message.Sign(rand.Reader, nil, signer); err != nil {
		t.Fatal(err)
	}
	envelope, err := message.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	type signature struct {
		Certificate []int `cbor:"signing_certificate"`
		Signature   []int `cbor:"signature"`
	}
	return appendSection(image, eif.SignatureSection, encodeCBOR(t, []signature{{octets(s.certificate), octets(envelope)}}))
}

// appendSection adds a section at the end of an image, to the table in its header
// and to its checksum.
func appendSection(image []byte, kind eif.SectionType, data []byte) []byte {
	const count, offsets, sizes, checksum = 26, 28, 284, 544
	out := bytes.Clone(image)
	n := binary.BigEndian.Uint16(out[count:])
	binary.BigEndian.PutUint16(out[count:], n+1)
	binary.BigEndian.PutUint64(out[offsets+8*n:], uint64(len(image)))
	binary.BigEndian.PutUint64(out[sizes+8*n:], uint64(len(data)))
	out = binary.BigEndian.AppendUint16(out, uint16(kind))
	out = binary.BigEndian.AppendUint16(out, 0)
	out = append(binary.BigEndian.AppendUint64(out, uint64(len(data))), data...)
	sum := crc32.Update(crc32.ChecksumIEEE(out[:checksum]), crc32.IEEETable, out[checksum+4:])
	binary.BigEndian.PutUint32(out[checksum:], sum)
	return out
}

// A place is where an enclave runs.
type place struct {
	role, instance string
	debug          bool
}

var samplePlace = place{role: sampleRole, instance: sampleInstance}

// A runningEnclave is the security module of a started image.
type runningEnclave struct {
	t      testing.TB
	module *softnsm.Module
	nsm    nsm.Client
}

// boot starts the module of an image: its measurements in PCR0, PCR1, PCR2 and
// PCR8, the role in PCR3 and the instance in PCR4.
func boot(t testing.TB, image []byte, at place) *runningEnclave {
	t.Helper()
	return bootRegisters(t, placed(t, measured(t, image), at), at)
}

func placed(t testing.TB, set pcr.Set, at place) pcr.Set {
	t.Helper()
	role, err := pcr.Role(at.role)
	if err != nil {
		t.Fatal(err)
	}
	instance, err := pcr.Instance(at.instance)
	if err != nil {
		t.Fatal(err)
	}
	set.Put(3, role)
	set.Put(4, instance)
	return set
}

func bootRegisters(t testing.TB, set pcr.Set, at place) *runningEnclave {
	t.Helper()
	module, err := softnsm.New(softnsm.Config{
		Authority: authority(), ModuleID: issuer.NewModuleID(at.instance, time.Now(), nil), PCRs: set, Debug: at.debug, IndefiniteMap: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { module.Close() })
	return &runningEnclave{t, module, nsm.Client{Device: module}}
}

// document asks the module for one with the tests' recipient key.
func (e *runningEnclave) document() []byte {
	e.t.Helper()
	doc, err := e.nsm.Attest(e.t.Context(), nsm.AttestationRequest{PublicKey: spki(e.t, recipientKey().Public())})
	if err != nil {
		e.t.Fatal(err)
	}
	return doc
}

// newAccountService is a service whose store is of the given account.
func newAccountService(t testing.TB, account string, change ...func(*kms.Config)) *service {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	files, err := datadir.Create(t.Context(), dir, ledger.Meta{Emulated: true, Account: account})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	return serve(t, dir, files, change...)
}

// guardedKey makes a key in the order of AWS's guide: a secret is sealed under it
// first, then it gets the policy, which may shut its administrator out.
func (s *service) guardedKey(policy string) (keyARN string, sealed []byte) {
	s.t.Helper()
	keyARN = s.key("")
	sealed = s.sealSecret(keyARN)
	s.putPolicy(keyARN, policy)
	return keyARN, sealed
}

// sealSecret encrypts the tests' secret under a key that the administrator may
// use.
func (s *service) sealSecret(keyARN string) []byte {
	s.t.Helper()
	out, err := s.adminClient().Encrypt(s.t.Context(), &awskms.EncryptInput{KeyId: &keyARN, Plaintext: []byte("the secret")})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.CiphertextBlob
}

func (s *service) putPolicy(keyARN, policy string) {
	s.t.Helper()
	if _, err := s.adminClient().PutKeyPolicy(s.t.Context(), &awskms.PutKeyPolicyInput{
		KeyId: &keyARN, Policy: aws.String(policy), BypassPolicyLockoutSafetyCheck: true,
	}); err != nil {
		s.t.Fatal(err)
	}
}

// wantDenied fails unless policies denied a request and its explanation, as the
// operator reads it, begins with the finding of that id.
func (s *service) wantDenied(t testing.TB, err error, finding string) {
	t.Helper()
	if err == nil {
		t.Error("allowed")
		return
	}
	code, message, status, decision := refused(t, err)
	if code != "AccessDeniedException" || status != 400 {
		t.Errorf("got %d %s: %s", status, code, message)
		return
	}
	event, err := s.kms.Explain(t.Context(), decision)
	if err != nil {
		t.Errorf("explain %q: %v", decision, err)
		return
	}
	if event.Outcome != kms.Denied || event.Decision == nil || event.Decision.Allowed {
		t.Errorf("event of a denial: %s, %+v", event.Outcome, event.Decision)
		return
	}
	var ids []string
	for _, f := range explain.Of(event.Decision).Findings {
		ids = append(ids, f.ID)
		if !strings.Contains(event.Text(), f.Likely) || !strings.Contains(event.Text(), f.ToDo) {
			t.Errorf("%s is not in the text:\n%s", f.ID, event.Text())
		}
	}
	if len(ids) == 0 || ids[0] != finding {
		t.Errorf("findings %v, want %s first\n%s", ids, finding, event.Text())
	}
}
