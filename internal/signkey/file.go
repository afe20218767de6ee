// SPDX-License-Identifier: Apache-2.0

package signkey

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/reason"
)

// maxKeyFile is more than any EC key in PEM needs.
const maxKeyFile = 64 << 10

// newKeyHint is the first of AWS's documented commands.
const newKeyHint = "make one with: openssl ecparam -name secp384r1 -genkey -out key.pem"

// openFile reads the key under ctx: a named pipe can wait for ever.
func openFile(ctx context.Context, s *Spec) (crypto.Signer, io.Closer, error) {
	type opened struct {
		key *ecdsa.PrivateKey
		err error
	}
	done := make(chan opened, 1)
	go func() {
		key, err := readKey(s)
		done <- opened{key, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, nil, o.err
		}
		return o.key, nothingToClose{}, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

func readKey(s *Spec) (*ecdsa.PrivateKey, error) {
	f, err := os.Open(s.Key)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	defer clear(data)
	name := cli.Printable(s.Key)
	if len(data) > maxKeyFile {
		return nil, refuse(reason.Malformed, "eif.key.form", "", "%s is larger than %d bytes, which no key file is", name, maxKeyFile)
	}
	key, err := parseKey(name, data)
	if err != nil {
		return nil, err
	}
	// AWS's commands leave such files, so this is no refusal.
	if perm := info.Mode().Perm(); runtime.GOOS != "windows" && info.Mode().IsRegular() && perm&0o077 != 0 {
		s.warn("others can read the private key: %s has mode %04o; chmod 0600 it", name, perm)
	}
	return key, nil
}

// parseKey reads a PEM file with one private key, SEC1 (RFC 5915) or PKCS #8
// (RFC 5958). Other blocks may stand before and after it; openssl ecparam writes
// EC PARAMETERS there.
func parseKey(name string, data []byte) (*ecdsa.PrivateKey, error) {
	var found *pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if found != nil {
			return nil, refuse(reason.Malformed, "eif.key.form", "leave the one that is to sign", "%s has more than one private key", name)
		}
		found = block
	}
	if found == nil {
		if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
			return nil, refuse(reason.Malformed, "eif.key.form", "", "%s: the private key's PEM block is damaged", name)
		}
		return nil, refuse(reason.Malformed, "eif.key.form", newKeyHint, "%s has no private key in PEM", name)
	}
	defer clear(found.Bytes)
	if found.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(found.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, refuse(reason.Unsupported, "eif.key.encrypted",
			"decrypt it for the time of the signing: openssl pkey -in "+name+" -out plain.pem; or keep the key in a PKCS#11 token or in KMS",
			"%s: the private key is encrypted", name)
	}
	key, err := parseBlock(found)
	if err != nil {
		return nil, explainKey(name, err)
	}
	return checkKey(name, key)
}

func parseBlock(block *pem.Block) (any, error) {
	switch block.Type {
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("PEM block of type %s", cli.Printable(block.Type))
}

// explainKey says what the key is that could not be parsed. Curves that x509 does
// not know, and those written out as explicit parameters (RFC 5480 §2.1.1 forbids
// that), are the same error there.
func explainKey(name string, err error) error {
	if strings.Contains(err.Error(), "elliptic curve") {
		return refuse(reason.Unsupported, "eif.key.curve",
			"images are signed with P-256, P-384 or P-521, named and not written out; if it is one of them: openssl ec -in "+name+" -param_enc named_curve -out named.pem",
			"%s: the key's curve is none of P-256, P-384 and P-521, or its parameters are written out", name)
	}
	return refuse(reason.Malformed, "eif.key.form", newKeyHint, "%s: %w", name, err)
}

func checkKey(name string, key any) (*ecdsa.PrivateKey, error) {
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, refuse(reason.Unsupported, "eif.key.curve", newKeyHint,
			"%s: a %s; images are signed with EC keys on P-256, P-384 or P-521", name, strings.TrimPrefix(fmt.Sprintf("%T", key), "*"))
	}
	if !signs(ec.Curve) {
		return nil, refuse(reason.Unsupported, "eif.key.curve", newKeyHint,
			"%s: a key on %s; images are signed with P-256, P-384 or P-521", name, ec.Curve.Params().Name)
	}
	return ec, nil
}

func signs(c elliptic.Curve) bool {
	return c == elliptic.P256() || c == elliptic.P384() || c == elliptic.P521()
}
