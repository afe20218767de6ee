// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/eif"
	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/enclave"
	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/internal/stack"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/launch"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// insideVariable tells the test binary that it is the program of an image.
const insideVariable = "CRETULA_TEST_INSIDE"

// A job is what the parent instance gives the program.
type job struct {
	Endpoint, KeyARN string
	Credentials      kms.Credentials
	Sealed           []byte
}

// A result is what the program answers: plaintexts, or the code of the refusal.
type result struct{ Decrypt, GenerateDataKey, Opened, GenerateRandom, Unattested string }

// TestInsideEnclave is the program of the image: an unmodified client of AWS's SDK
// that attests.
func TestInsideEnclave(t *testing.T) {
	if os.Getenv(insideVariable) == "" {
		t.Skip("this is the program of TestStartedImage")
	}
	inside, err := launch.Inherited()
	if err != nil {
		t.Fatal(err)
	}
	parent, err := inside.DialContext(t.Context(), "parent")
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	var j job
	if err := json.NewDecoder(parent).Decode(&j); err != nil {
		t.Fatal(err)
	}
	attestor, err := enclave.New(enclave.Options{Device: inside.NSM})
	if err != nil {
		t.Fatal(err)
	}
	options := awskms.Options{
		Region: region, BaseEndpoint: &j.Endpoint, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(j.Credentials.AccessKeyID, j.Credentials.SecretAccessKey, ""),
		HTTPClient: awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
			tr.Proxy = nil
			tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return inside.DialContext(ctx, "kms") }
		}),
	}
	plain := awskms.New(options)
	attested := awskms.New(options, func(o *awskms.Options) { o.APIOptions = append(o.APIOptions, attestor.APIOption()) })
	if err := json.NewEncoder(parent).Encode(work(t, j, attested, plain)); err != nil {
		t.Fatal(err)
	}
	// The connection ends when the parent has read it all.
	_, _ = parent.Read(make([]byte, 1))
}

func work(t *testing.T, j job, attested, plain *awskms.Client) (r result) {
	say := func(value []byte, err error) string {
		if err != nil {
			code, _, _, _ := refused(t, err)
			return code
		}
		return base64Of(value)
	}
	ctx := t.Context()
	opened, err := attested.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: j.Sealed, KeyId: &j.KeyARN})
	if err != nil {
		opened = &awskms.DecryptOutput{}
	}
	r.Decrypt = say(opened.Plaintext, err)
	made, err := attested.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &j.KeyARN, KeySpec: types.DataKeySpecAes256})
	if err != nil {
		made = &awskms.GenerateDataKeyOutput{}
	}
	if r.GenerateDataKey = say(made.Plaintext, err); err == nil {
		again, err := attested.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: made.CiphertextBlob, KeyId: &j.KeyARN})
		if err != nil {
			again = &awskms.DecryptOutput{}
		}
		r.Opened = say(again.Plaintext, err)
	}
	random, err := attested.GenerateRandom(ctx, &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(24)})
	if err != nil {
		random = &awskms.GenerateRandomOutput{}
	}
	r.GenerateRandom = say(random.Plaintext, err)
	_, err = plain.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: j.Sealed, KeyId: &j.KeyARN})
	r.Unattested = say(nil, err)
	return r
}

// programImage is an image around this test binary, without cgo so that it needs
// no loader.
func programImage(t *testing.T, signer *imageSigner) []byte {
	t.Helper()
	name := filepath.Join(t.TempDir(), "app")
	cmd := exec.Command(need.Program(t, "go"), "test", "-c", "-ldflags=-s -w", "-o", name, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := eifbuild.FileContent(name)
	if err != nil {
		t.Fatal(err)
	}
	return buildImage(t, recipe{signer: signer}, eifbuild.Entry{Name: "app", Type: eifbuild.File, Mode: 0o755, Content: program},
		[]string{"/app", "-test.run=^TestInsideEnclave$"}, []string{insideVariable + "=1"})
}

// start starts an image and returns what its program answers.
func (s *service) start(t *testing.T, image []byte, at place, j job) result {
	t.Helper()
	j.Endpoint = s.url
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dial := func(address string) launch.Dialer {
		return func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", address) }
	}
	var output bytes.Buffer
	e, err := launch.Start(t.Context(), launch.Config{
		Image: imageFile(t, image), Authority: authority(), RoleARN: at.role, InstanceID: at.instance, Debug: at.debug, Stdout: &output, Stderr: &output,
		Egress: map[string]launch.Dialer{"parent": dial(listener.Addr().String()), "kms": dial(strings.TrimPrefix(s.url, "http://"))},
	})
	if err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { e.Kill(); listener.Close() })
	defer timer.Stop()
	ended := make(chan error, 1)
	go func() {
		ended <- e.Wait()
		listener.Close()
	}()
	var r result
	conn, err := listener.Accept()
	if err == nil {
		if err = json.NewEncoder(conn).Encode(j); err == nil {
			err = json.NewDecoder(conn).Decode(&r)
		}
		conn.Close()
	}
	if endErr := <-ended; err != nil || endErr != nil {
		t.Fatalf("%v, the program: %v\n%s", err, endErr, &output)
	}
	return r
}

func imageFile(t *testing.T, image []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image.eif")
	if err := os.WriteFile(name, image, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// AWS's sample policy decides about a program that was really started out of its
// signed image: it gets its secret, and nothing outside of it does.
func TestStartedImage(t *testing.T) {
	signer := goSigner(t, "signer", nil)
	image := programImage(t, signer)
	s := newAccountService(t, sampleAccount)
	role := s.principal(kms.Role, "data-processing", randomPolicy)
	keyARN, sealed := s.guardedKey(withValues(t, placed(t, measured(t, image), samplePlace), ""))
	j := job{KeyARN: keyARN, Credentials: role, Sealed: sealed}
	const denied = "AccessDeniedException"

	r := s.start(t, image, samplePlace, j)
	if r.Decrypt != base64Of([]byte("the secret")) || len(r.GenerateDataKey) != 44 || r.Opened != r.GenerateDataKey || len(r.GenerateRandom) != 32 {
		t.Errorf("started as the policy wants it: %+v", r)
	}
	if r.Unattested != denied {
		t.Errorf("without a document out of the enclave: %s", r.Unattested)
	}
	for name, at := range map[string]place{
		"another role":     {role: sampleRole + "-2", instance: sampleInstance},
		"another instance": {role: sampleRole, instance: "i-0fedcba9876543210"},
		"debug mode":       {role: sampleRole, instance: sampleInstance, debug: true},
	} {
		r := s.start(t, image, at, j)
		if r.Decrypt != denied || r.GenerateDataKey != denied || r.Unattested != denied {
			t.Errorf("%s: %+v", name, r)
		}
		// The key policy has no say about random numbers; this server's own rule
		// about debug mode has.
		if wantRandom := !at.debug; wantRandom != (r.GenerateRandom != denied) {
			t.Errorf("%s: GenerateRandom %s", name, r.GenerateRandom)
		}
	}
}

// A certificate alone makes no PCR8: an image with the signature of another one is
// not started, as on the platform.
func TestStartedImageSignature(t *testing.T) {
	signer := goSigner(t, "signer", nil)
	signed, malicious := recipe{application: "release 1", signer: signer}.build(t), recipe{application: "malicious"}.build(t)
	im, err := eif.Parse(bytes.NewReader(signed), int64(len(signed)))
	if err != nil {
		t.Fatal(err)
	}
	last := im.Sections[len(im.Sections)-1]
	stolen := appendSection(malicious, eif.SignatureSection, signed[last.DataOffset():])
	// Its PCR8 is that of the certificate all the same.
	if im, err = eif.Parse(bytes.NewReader(stolen), int64(len(stolen))); err != nil {
		t.Fatal(err)
	}
	m, err := im.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want, err := pcr.CertificatePEM(signer.certificate)
	if got, ok := m.Get(8); err != nil || !ok || got != want {
		t.Fatalf("PCR8 %v, %v", got, err)
	}
	_, err = stack.MeasureImage(t.Context(), imageFile(t, stolen).Name(), time.Now())
	if refusal, ok := err.(*reason.Error); !ok || refusal.Rule() != "eif.signature.register" {
		t.Errorf("measured: %v", err)
	}
	_, err = launch.Start(t.Context(), launch.Config{Image: imageFile(t, stolen), Authority: authority(), RoleARN: sampleRole, InstanceID: sampleInstance})
	if refusal, ok := err.(*reason.Error); !ok || refusal.Reason() != reason.Mismatch || refusal.Rule() != "eif.signature.register" {
		t.Errorf("got %v", err)
	}
}
