// SPDX-License-Identifier: Apache-2.0

package httpsig

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"

	"github.com/cretula/cretula/reason"
)

// Algorithm returns the name of the one algorithm that a key is used with (RFC
// 9421 §3.3). RSA keys have 2048 to 4096 bits.
func Algorithm(key crypto.PublicKey) (string, error) {
	switch key := key.(type) {
	case ed25519.PublicKey:
		if len(key) == ed25519.PublicKeySize {
			return "ed25519", nil
		}
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return "ecdsa-p256-sha256", nil
		case elliptic.P384():
			return "ecdsa-p384-sha384", nil
		}
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= 2048 && bits <= 4096 {
			return "rsa-pss-sha512", nil
		}
	}
	return "", reason.New(reason.Unsupported, "httpsig.key", "the key is none of P-256, P-384, Ed25519 and RSA of 2048 to 4096 bits")
}

// Verify checks the signature of a request that a server received: of its target
// as it was sent, RequestURI, without which it is refused, with the scheme https.
// What the signature must cover, and its times and nonce, are the caller's to
// check.
func (s *Signature) Verify(r *http.Request, key crypto.PublicKey) error {
	algorithm, err := Algorithm(key)
	if err != nil {
		return err
	}
	if s.Alg != "" && s.Alg != algorithm {
		return reason.New(reason.BadSignature, "httpsig.algorithm", "the signature says algorithm %q, the key's is %s", s.Alg, algorithm)
	}
	t, err := received(r)
	if err != nil {
		return err
	}
	message, err := t.base(r, s.Components, s.params)
	if err != nil {
		return err
	}
	if !verify(key, message, s.Value) {
		return reason.New(reason.BadSignature, "httpsig.signature", "the signature is not the key's over this request")
	}
	return nil
}

func verify(key crypto.PublicKey, message, signature []byte) bool {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, signature)
	case *rsa.PublicKey:
		sum := sha512.Sum512(message)
		return rsa.VerifyPSS(key, crypto.SHA512, sum[:], signature, &rsa.PSSOptions{SaltLength: 64}) == nil
	case *ecdsa.PublicKey:
		// r and s, each as long as the curve's order.
		size := (key.Curve.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		return ecdsa.Verify(key, hash(key, message), new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	}
	return false
}

func hash(key *ecdsa.PublicKey, message []byte) []byte {
	if key.Curve == elliptic.P384() {
		sum := sha512.Sum384(message)
		return sum[:]
	}
	sum := sha256.Sum256(message)
	return sum[:]
}

// Sign adds Signature-Input and Signature to a request that is to be sent, under
// the label sig1.
func Sign(r *http.Request, in Input, key crypto.Signer) error {
	if _, err := Algorithm(key.Public()); err != nil {
		return err
	}
	params, err := in.serialize()
	if err != nil {
		return err
	}
	t, err := outgoing(r)
	if err != nil {
		return err
	}
	message, err := t.base(r, in.Components, params)
	if err != nil {
		return err
	}
	signature, err := sign(key, message)
	if err != nil {
		return err
	}
	r.Header.Set("Signature-Input", "sig1="+params)
	r.Header.Set("Signature", "sig1=:"+base64.StdEncoding.EncodeToString(signature)+":")
	return nil
}

func sign(key crypto.Signer, message []byte) ([]byte, error) {
	switch public := key.Public().(type) {
	case ed25519.PublicKey:
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	case *rsa.PublicKey:
		sum := sha512.Sum512(message)
		return key.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: 64, Hash: crypto.SHA512})
	case *ecdsa.PublicKey:
		function := crypto.SHA256
		if public.Curve == elliptic.P384() {
			function = crypto.SHA384
		}
		der, err := key.Sign(rand.Reader, hash(public, message), function)
		if err != nil {
			return nil, err
		}
		var rs struct{ R, S *big.Int }
		if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) > 0 {
			return nil, errors.New("httpsig: the key does not sign in ASN.1")
		}
		size := (public.Curve.Params().BitSize + 7) / 8
		out := make([]byte, 2*size)
		rs.R.FillBytes(out[:size])
		rs.S.FillBytes(out[size:])
		return out, nil
	}
	return nil, errors.New("httpsig: no such key")
}
