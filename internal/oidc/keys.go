// SPDX-License-Identifier: Apache-2.0

package oidc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"slices"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxKeys    = 64
	minRSABits = 2048
	maxRSABits = 8192 // verifying costs time by the square of it
)

// A signingKey is a public key of an issuer.
type signingKey struct {
	kid, alg string
	public   any // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// parseKeys reads a JWK set (RFC 7517, section 5). Keys that are not for verifying
// signatures, or that this package has no algorithm for, are left out. A set with a
// private or secret key is refused: whoever read it can sign.
func parseKeys(data []byte) ([]signingKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || set.Keys == nil {
		return nil, errors.New("no JWK set")
	}
	if len(set.Keys) > maxKeys {
		return nil, errors.New("a JWK set of too many keys")
	}
	var keys []signingKey
	for _, raw := range set.Keys {
		var about struct {
			KeyOps []string        `json:"key_ops"`
			D      json.RawMessage `json:"d"`
			K      json.RawMessage `json:"k"`
		}
		if json.Unmarshal(raw, &about) != nil {
			continue
		}
		if about.D != nil || about.K != nil {
			return nil, errors.New("a JWK set with a private or secret key")
		}
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || k.Use != "" && k.Use != "sig" || about.KeyOps != nil && !slices.Contains(about.KeyOps, "verify") {
			continue
		}
		if usable(k.Key) && len(k.KeyID) <= maxText {
			keys = append(keys, signingKey{k.KeyID, k.Algorithm, k.Key})
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("a JWK set without a key to verify signatures with")
	}
	return keys, nil
}

func usable(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits && k.E >= 3 && k.E%2 == 1
	case *ecdsa.PublicKey:
		return k.Params().BitSize == 256 || k.Params().BitSize == 384
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize
	}
	return false
}

// serves tells whether the key is of the algorithm's type, and the key's own
// algorithm, if it has one, is this one.
func (k *signingKey) serves(alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch key := k.public.(type) {
	case *rsa.PublicKey:
		return slices.Contains([]string{"RS256", "RS384", "RS512", "PS256"}, alg)
	case *ecdsa.PublicKey:
		return alg == "ES256" && key.Params().BitSize == 256 || alg == "ES384" && key.Params().BitSize == 384
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}

// match returns the public keys that a token with the header can be signed by. One
// that names no key must leave no choice. Source: OpenID Connect Core 1.0, section 10.1.
func match(keys []signingKey, h header) []any {
	var found []any
	for i := range keys {
		if k := &keys[i]; k.serves(h.alg) && (h.kid == "" || h.kid == k.kid) {
			found = append(found, k.public)
		}
	}
	if h.kid == "" && len(found) > 1 {
		return nil
	}
	return found
}
