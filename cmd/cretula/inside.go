// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/enclave"
	"github.com/cretula/cretula/launch"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/pcr"
)

// release is the part of the demo's application that the demo changes by one
// byte to get another release. It is a variable so that its bytes are in the
// executable once, at a place that nothing else depends on.
var release = []byte("\x00cretula demo application, release A\x00")

// The connections that the demo's parent offers to its enclave.
const (
	parentService = "parent"
	kmsService    = "kms"
)

// A demoJob is what the parent gives to the enclave. Nothing in it is worth
// protecting from the parent: the credentials are those of the parent's own
// role, and the ciphertext is sealed.
type demoJob struct {
	Region            string            `json:"region"`
	Endpoint          string            `json:"endpoint"`
	AccessKeyID       string            `json:"access_key_id"`
	SecretAccessKey   string            `json:"secret_access_key"`
	KeyID             string            `json:"key_id"`
	Ciphertext        []byte            `json:"ciphertext"`
	EncryptionContext map[string]string `json:"encryption_context"`
	Challenge         []byte            `json:"challenge"`
}

// A demoReport is what the enclave answers. Proof is HMAC-SHA256 of the challenge
// under the secret: whoever knows the secret can check that the enclave has it.
// Document and Envelope went over the network anyway.
type demoReport struct {
	Release      string `json:"release"`
	Proof        []byte `json:"proof,omitempty"`
	SecretSHA256 string `json:"secret_sha256,omitempty"`
	Document     []byte `json:"document,omitempty"`
	Envelope     []byte `json:"envelope,omitempty"`
	CallMicros   int64  `json:"call_micros"`
	Around       around `json:"around"`

	ErrorCode    string `json:"error_code,omitempty"`
	ErrorMessage string `json:"error_message,omitempty"`
	Decision     string `json:"decision,omitempty"`
}

// newInsideCommand is the application of the demo's image. It runs in the
// enclave only, with the descriptors that the launcher hands down.
func newInsideCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "demo-application",
		Short:  "The application inside the demo's enclave",
		Hidden: true,
		Args:   noArguments,
		RunE:   func(cmd *cobra.Command, _ []string) error { return runInside(cmd.Context()) },
	}
}

func runInside(ctx context.Context) error {
	inside, err := launch.Inherited()
	if err != nil {
		return err
	}
	parent, err := inside.DialContext(ctx, parentService)
	if err != nil {
		return err
	}
	defer parent.Close()
	var job demoJob
	if err := json.NewDecoder(io.LimitReader(parent, 1<<20)).Decode(&job); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	attestor, err := enclave.New(enclave.Options{Device: inside.NSM})
	if err != nil {
		return err
	}
	report := decryptInside(ctx, job, attestor, inside.DialContext)
	if report.Around, err = lookAround(ctx, nsm.Client{Device: inside.NSM}); err != nil {
		return err
	}
	if err := json.NewEncoder(parent).Encode(report); err != nil {
		return err
	}
	// Connections end with the enclave, whatever is still on its way in them:
	// the parent closes this one when it has the report.
	_, _ = io.Copy(io.Discard, parent)
	return nil
}

// An around is what the application finds around itself.
type around struct {
	Locked      int      `json:"locked"`      // registers, from PCR0 on without a gap
	Environment []string `json:"environment"` // names of variables that are not the image's
	Network     []string `json:"network"`     // interfaces that are up
}

func lookAround(ctx context.Context, module nsm.Client) (around, error) {
	a := around{}
	for _, v := range os.Environ() {
		if v != "PATH="+eifbuild.DefaultPath && v != "HOME=/" {
			name, _, _ := strings.Cut(v, "=")
			a.Environment = append(a.Environment, name)
		}
	}
	for a.Locked < pcr.Count {
		register, err := module.DescribePCR(ctx, pcr.Index(a.Locked))
		if err != nil {
			return around{}, err
		}
		if !register.Locked {
			break
		}
		a.Locked++
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return around{}, err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp != 0 {
			a.Network = append(a.Network, i.Name)
		}
	}
	return a, nil
}

// bootLocked is how many registers are locked when an enclave starts.
const bootLocked = 16

// check compares with what the demo tells about the enclave.
func (a *around) check(isolated bool) error {
	switch {
	case a.Locked != bootLocked:
		return fmt.Errorf("the first %d registers are locked in the enclave, not %d", a.Locked, bootLocked)
	case len(a.Environment) > 0:
		return fmt.Errorf("the enclave has variables that are not the image's: %q", a.Environment)
	case isolated && len(a.Network) > 0:
		return fmt.Errorf("the enclave has a network: %v", a.Network)
	}
	return nil
}

// decryptInside makes the one attested call, with an ordinary KMS client.
func decryptInside(ctx context.Context, job demoJob, attestor *enclave.Attestor, dial func(context.Context, string) (net.Conn, error)) demoReport {
	wire := &recorder{next: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, kmsService) },
	}}
	client := kms.New(kms.Options{
		Region:       job.Region,
		BaseEndpoint: aws.String(job.Endpoint),
		Credentials:  credentials.NewStaticCredentialsProvider(job.AccessKeyID, job.SecretAccessKey, ""),
		HTTPClient:   &http.Client{Transport: wire},
		Retryer:      aws.NopRetryer{},
	}, func(o *kms.Options) { o.APIOptions = append(o.APIOptions, attestor.APIOption()) })

	report := demoReport{Release: string(release[len(release)-2])}
	start := time.Now()
	out, err := client.Decrypt(ctx, &kms.DecryptInput{
		KeyId:             aws.String(job.KeyID),
		CiphertextBlob:    job.Ciphertext,
		EncryptionContext: job.EncryptionContext,
	})
	report.CallMicros = time.Since(start).Microseconds()
	report.Document, report.Envelope = wire.document, wire.envelope
	if err != nil {
		report.ErrorCode, report.ErrorMessage, report.Decision = describeAWSError(err)
		return report
	}
	mac := hmac.New(sha256.New, out.Plaintext)
	mac.Write(job.Challenge)
	report.Proof = mac.Sum(nil)
	report.SecretSHA256 = fmt.Sprintf("%x", sha256.Sum256(out.Plaintext))
	return report
}

// describeAWSError returns the code, the message and the decision id of an error
// that an AWS SDK client returned.
func describeAWSError(err error) (code, message, decision string) {
	code, message = "", err.Error()
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code, message = api.ErrorCode(), api.ErrorMessage()
	}
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok && response.HTTPResponse() != nil {
		decision = response.HTTPResponse().Header.Get("x-cretula-decision")
	}
	return code, message, decision
}

// A recorder keeps what the demo shows of its one call: the document that went
// out and the envelope that came back.
type recorder struct {
	next     http.RoundTripper
	document []byte
	envelope []byte
}

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		request.Body.Close()
		if err != nil {
			return nil, err
		}
		var sent struct {
			Recipient struct{ AttestationDocument []byte }
		}
		if json.Unmarshal(body, &sent) == nil {
			r.document = sent.Recipient.AttestationDocument
		}
		request = request.Clone(request.Context())
		request.Body = io.NopCloser(bytes.NewReader(body))
	}
	response, err := r.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	response.Body = &recordedBody{ReadCloser: response.Body, owner: r}
	return response, nil
}

type recordedBody struct {
	io.ReadCloser
	owner *recorder
	data  []byte
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.data = append(b.data, p[:n]...)
	return n, err
}

func (b *recordedBody) Close() error {
	var got struct{ CiphertextForRecipient []byte }
	if json.Unmarshal(b.data, &got) == nil {
		b.owner.envelope = got.CiphertextForRecipient
	}
	return b.ReadCloser.Close()
}
