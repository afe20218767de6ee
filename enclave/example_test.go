// SPDX-License-Identifier: Apache-2.0

package enclave_test

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"

	"github.com/cretula/cretula/enclave"
	"github.com/cretula/cretula/nsm"
)

// A program in an enclave decrypts what only this enclave image may read. Apart
// from the attestor it uses the SDK as any other program does.
func Example() {
	device, err := nsm.Open()
	if err != nil {
		log.Fatal(err)
	}
	attestor, err := enclave.New(enclave.Options{Device: device})
	if err != nil {
		log.Fatal(err)
	}
	client := kms.New(kms.Options{
		Region:      "eu-central-1",
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN")),
		APIOptions:  []func(*middleware.Stack) error{attestor.APIOption()},
	})
	ciphertext, err := os.ReadFile("/secret.bin")
	if err != nil {
		log.Fatal(err)
	}
	out, err := client.Decrypt(context.Background(), &kms.DecryptInput{
		CiphertextBlob:    ciphertext,
		KeyId:             aws.String("arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
		EncryptionContext: map[string]string{"file": "secret.bin"},
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("the secret has %d bytes", len(out.Plaintext))
}
