// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/eif/eifbuild"
	"github.com/cretula/cretula/enclave"
	"github.com/cretula/cretula/nsm"
)

// A signer dates signatures.
type signer struct{ now time.Time }

func (s signer) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, hash, service, region string, _ time.Time, fns ...func(*v4.SignerOptions)) error {
	return v4.NewSigner().SignHTTP(ctx, c, r, hash, service, region, s.now, fns...)
}

// All parts go by the one clock that they are given: the module dates documents
// by it, the key service judges them and signatures by it.
func TestOneClock(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the emulated stack needs Linux")
	}
	dir, err := os.MkdirTemp("", "a") // short: names of sockets are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	now := time.Now().Add(-40 * 24 * time.Hour)
	s, err := Start(t.Context(), Config{
		Dir: filepath.Join(dir, "run"), Listen: "127.0.0.1:0", Program: eifbuild.Bytes([]byte("a program")),
		Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	device, err := nsm.Dial(filepath.Join(dir, "run", NSMSocket))
	if err != nil {
		t.Fatal(err)
	}
	attestor, err := enclave.New(enclave.Options{Device: device})
	if err != nil {
		t.Fatal(err)
	}
	client := awskms.New(awskms.Options{
		Region: Region, BaseEndpoint: aws.String(s.Endpoint), Retryer: aws.NopRetryer{}, HTTPSignerV4: signer{now},
		Credentials: credentials.NewStaticCredentialsProvider(s.Admin.AccessKeyID, s.Admin.SecretAccessKey, ""),
	}, func(o *awskms.Options) { o.APIOptions = append(o.APIOptions, attestor.APIOption()) })
	random, err := client.GenerateRandom(t.Context(), &awskms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
	if err != nil || len(random.Plaintext) != 8 {
		t.Errorf("%+v, %v", random, err)
	}
	principals, err := s.KMS.ListPrincipals(t.Context())
	if err != nil || len(principals) != 1 || !principals[0].Created.Equal(now.UTC()) {
		t.Errorf("%+v, %v", principals, err)
	}
}
