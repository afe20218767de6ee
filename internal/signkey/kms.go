// SPDX-License-Identifier: Apache-2.0

package signkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/url"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
)

// arnForm is that of the ARN of a key or an alias; the region is its group.
var arnForm = regexp.MustCompile(`^arn:aws(?:-[a-z]+)*:kms:([a-z0-9-]{1,32}):[0-9]{12}:(?:key/[A-Za-z0-9-]{1,64}|alias/[A-Za-z0-9/_-]{1,250})$`)

// patience is how long one call may take, with the SDK's retries.
const patience = time.Minute

// A kmsKey signs by kms:Sign.
type kmsKey struct {
	ctx       context.Context
	client    *kms.Client
	arn       string // as it was given
	id        string // what the service calls the key
	public    *ecdsa.PublicKey
	algorithm types.SigningAlgorithmSpec
}

// openKMS asks for the public key. Credentials, proxy and roots of TLS are those
// that AWS's tools would use. What the service answers is trusted in nothing: a
// signature is checked under the certificate before it is used.
func openKMS(ctx context.Context, s *Spec) (crypto.Signer, io.Closer, error) {
	arn := arnForm.FindStringSubmatch(s.Key)
	if arn == nil {
		return nil, nil, refuse(reason.Malformed, "eif.key.kms", "arn:aws:kms:REGION:ACCOUNT:key/ID, or …:alias/NAME",
			"%s is not the ARN of a KMS key or alias", cli.Printable(s.Key))
	}
	if err := checkEndpoint(s.Endpoint); err != nil {
		return nil, nil, err
	}
	found, err := config.LoadDefaultConfig(ctx, config.WithRegion(arn[1]))
	if err != nil {
		return nil, nil, refuse(reason.Unsupported, "eif.key.kms", "", "%w", err)
	}
	client := kms.NewFromConfig(found, func(o *kms.Options) {
		if s.Endpoint != "" {
			o.BaseEndpoint = &s.Endpoint
		}
	})
	k := &kmsKey{ctx: ctx, client: client, arn: s.Key}
	if err := k.fetch(); err != nil {
		return nil, nil, err
	}
	return k, nothingToClose{}, nil
}

// checkEndpoint takes plain HTTP to the loopback interface only.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return cli.Usagef("the endpoint %q is no URL", endpoint)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && ip != nil && ip.IsLoopback() {
		return nil
	}
	return cli.WithHint(cli.Usagef("the endpoint must be https, or http to a loopback address"), "http://127.0.0.1:PORT is one")
}

var specOf = map[elliptic.Curve]types.KeySpec{
	elliptic.P256(): types.KeySpecEccNistP256, elliptic.P384(): types.KeySpecEccNistP384, elliptic.P521(): types.KeySpecEccNistP521,
}

// specs are the kinds of keys that images are signed with (AWS KMS Developer
// Guide, "Key spec reference").
var specs = map[types.KeySpec]types.SigningAlgorithmSpec{
	types.KeySpecEccNistP256: types.SigningAlgorithmSpecEcdsaSha256,
	types.KeySpecEccNistP384: types.SigningAlgorithmSpecEcdsaSha384,
	types.KeySpecEccNistP521: types.SigningAlgorithmSpecEcdsaSha512,
}

func (k *kmsKey) fetch() error {
	ctx, cancel := context.WithTimeout(k.ctx, patience)
	defer cancel()
	out, err := k.client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &k.arn})
	if err != nil {
		return k.explain(ctx, "GetPublicKey", err)
	}
	alg, ok := specs[out.KeySpec]
	if !ok || out.KeyUsage != types.KeyUsageTypeSignVerify {
		return refuse(reason.Unsupported, "eif.key.curve", "create one with key usage SIGN_VERIFY and key spec ECC_NIST_P256, ECC_NIST_P384 or ECC_NIST_P521",
			"%s is a key of spec %s for %s, with which images are not signed", k.arn, cli.Printable(string(out.KeySpec)), cli.Printable(string(out.KeyUsage)))
	}
	public, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		return refuse(reason.Malformed, "eif.key.kms", "", "GetPublicKey: %w", err)
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || specOf[key.Curve] != out.KeySpec {
		return refuse(reason.Malformed, "eif.key.kms", "", "GetPublicKey: the answer's key is not of the spec %s that it names", out.KeySpec)
	}
	k.public, k.id, k.algorithm = key, aws.ToString(out.KeyId), alg
	return nil
}

// Public implements [crypto.Signer].
func (k *kmsKey) Public() crypto.PublicKey { return k.public }

// Sign implements [crypto.Signer]. The service has its own random source.
func (k *kmsKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := checkDigest(k.public, digest, opts); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(k.ctx, patience)
	defer cancel()
	out, err := k.client.Sign(ctx, &kms.SignInput{
		KeyId: &k.arn, Message: digest, MessageType: types.MessageTypeDigest, SigningAlgorithm: k.algorithm,
	})
	if err != nil {
		return nil, k.explain(ctx, "Sign", err)
	}
	// An alias can be pointed to another key between the two calls.
	if id := aws.ToString(out.KeyId); id != k.id {
		return nil, refuse(reason.Mismatch, "eif.key.kms", "", "Sign: the answer is of key %s, not %s", cli.Printable(id), cli.Printable(k.id))
	}
	return out.Signature, nil
}

// explain gives an error of a call its class and says what to do.
func (k *kmsKey) explain(ctx context.Context, operation string, err error) error {
	if ctxErr := k.ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return refuse(reason.Unsupported, "eif.key.kms", "", "%s of %s: no answer within %v: %w", operation, k.arn, patience, ctxErr)
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return refuse(reason.Unsupported, "eif.key.kms",
			"credentials must be in the environment, a shared file or the instance; the key service is named with --endpoint or AWS_ENDPOINT_URL_KMS",
			"%s of %s: %s", operation, k.arn, cli.Printable(err.Error()))
	}
	hint := "the key must be there and enabled"
	if api.ErrorCode() == "AccessDeniedException" {
		hint = "allow kms:GetPublicKey and kms:Sign with the key for these credentials"
	}
	return refuse(reason.Unsupported, "eif.key.kms", hint, "%s of %s: %s: %s",
		operation, k.arn, cli.Printable(api.ErrorCode()), cli.Printable(api.ErrorMessage()))
}
