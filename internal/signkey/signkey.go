// SPDX-License-Identifier: Apache-2.0

// Package signkey opens the key that signs an enclave image: in a file, in a
// PKCS#11 token, or in AWS KMS or a service like it.
//
// A refusal is a [reason.Error] with, where something can be done about it, the
// hint of package cli. Errors never have key material or a PIN.
package signkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"
	"io"
	"strings"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
)

// A Spec names a key.
type Spec struct {
	// Key is the path of a PEM file, the ARN of a KMS key or of an alias of one
	// ("arn:aws:kms:..."), or a PKCS#11 URI (RFC 7512, "pkcs11:...").
	Key string

	// Module is the library of the PKCS#11 token, where the URI has no
	// module-path.
	Module string
	// PINFile has the PIN of the token's user, perhaps with one line end, where the
	// URI has no pin-source.
	PINFile string

	// Endpoint is the URL of the key service. Empty: what the environment says,
	// else that of AWS in the region of the ARN.
	Endpoint string

	// Warn is told what is dangerous and not refused. It may be nil.
	Warn func(message string)
}

func (s *Spec) warn(format string, args ...any) {
	if s.Warn != nil {
		s.Warn(fmt.Sprintf(format, args...))
	}
}

// Open opens the key and reads its public half: the signer's Public is an
// *ecdsa.PublicKey on P-256, P-384 or P-521. Sign takes a digest of the length that
// belongs to the curve and returns ASN.1 DER; of keys in files it is deterministic
// (RFC 6979) where its random source is nil. Tokens and services are used under
// ctx, which must live as long as the signer. The closer is never nil without an
// error.
func Open(ctx context.Context, s Spec) (crypto.Signer, io.Closer, error) {
	switch {
	case s.Key == "":
		return nil, nil, cli.Usagef("no key is named")
	case strings.HasPrefix(s.Key, "pkcs11:"):
		return openToken(ctx, &s)
	case strings.HasPrefix(s.Key, "arn:"):
		return openKMS(ctx, &s)
	}
	return openFile(ctx, &s)
}

type nothingToClose struct{}

func (nothingToClose) Close() error { return nil }

func refuse(r reason.Reason, rule, hint, format string, args ...any) error {
	err := error(reason.New(r, rule, format, args...))
	if hint != "" {
		err = cli.WithHint(err, "%s", hint)
	}
	return err
}

// checkDigest wants a digest of the hash that belongs to the key's curve
// (RFC 9053 §2.1).
func checkDigest(public *ecdsa.PublicKey, digest []byte, opts crypto.SignerOpts) error {
	want := map[elliptic.Curve]crypto.Hash{
		elliptic.P256(): crypto.SHA256, elliptic.P384(): crypto.SHA384, elliptic.P521(): crypto.SHA512,
	}[public.Curve]
	if opts == nil || opts.HashFunc() != want || len(digest) != want.Size() {
		return fmt.Errorf("signkey: a key on %s signs digests of %v", public.Curve.Params().Name, want)
	}
	return nil
}
