// SPDX-License-Identifier: Apache-2.0

//go:build pkcs11 && cgo

package signkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/cretula/cretula/reason"
)

const built = true

// A tokenSigner is a login into a token. A call into the library of a token cannot
// be interrupted.
type tokenSigner struct {
	key    *tokenKey
	module *pkcs11.Ctx
	public *ecdsa.PublicKey
	always bool // the PIN is wanted for each signature (CKA_ALWAYS_AUTHENTICATE)

	mu      sync.Mutex
	session pkcs11.SessionHandle
	private pkcs11.ObjectHandle
	pin     []byte // nil when closed
}

func (k *tokenKey) refuse(hint, format string, args ...any) error {
	return refuse(reason.Unsupported, "eif.key.pkcs11", hint, "%s: %w", k, fmt.Errorf(format, args...))
}

// open logs in and finds the key. The PIN becomes the signer's.
func (k *tokenKey) open(pin []byte) (crypto.Signer, io.Closer, error) {
	s := &tokenSigner{key: k, pin: pin}
	if err := s.login(); err != nil {
		clear(pin)
		return nil, nil, err
	}
	if err := s.findKey(); err != nil {
		s.Close()
		return nil, nil, err
	}
	return s, s, nil
}

// login starts the library, which stays loaded, as some do not survive being
// unloaded, and logs in.
func (s *tokenSigner) login() error {
	m := pkcs11.New(s.key.module)
	if m == nil {
		return s.key.refuse("install the library of the token there; it must be of this machine's architecture", "the library %s cannot be loaded", s.key.module)
	}
	if err := m.Initialize(); err != nil {
		return s.key.refuse("", "starting the library: %w", err)
	}
	done := false
	defer func() {
		if !done {
			m.Finalize()
		}
	}()
	slot, err := s.findToken(m)
	if err != nil {
		return err
	}
	session, err := m.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return s.key.refuse("", "opening a session: %w", err)
	}
	if err := m.Login(session, pkcs11.CKU_USER, string(s.pin)); err != nil {
		info, _ := m.GetTokenInfo(slot)
		m.CloseSession(session)
		return s.loginError(err, info.Flags)
	}
	s.module, s.session, done = m, session, true
	return nil
}

func (s *tokenSigner) findToken(m *pkcs11.Ctx) (uint, error) {
	slots, err := m.GetSlotList(true)
	if err != nil {
		return 0, s.key.refuse("", "listing slots: %w", err)
	}
	var found []uint
	for _, slot := range slots {
		info, err := m.GetTokenInfo(slot)
		if err != nil {
			continue // that of another token
		}
		fits := true
		for _, c := range []struct{ want, got string }{
			{s.key.token, info.Label}, {s.key.serial, info.SerialNumber},
			{s.key.manufacturer, info.ManufacturerID}, {s.key.model, info.Model},
		} {
			fits = fits && (c.want == "" || c.want == c.got)
		}
		if fits {
			found = append(found, slot)
		}
	}
	if len(found) != 1 {
		return 0, s.key.refuse("'pkcs11-tool --list-token-slots' or the maker's program shows the tokens", "%d of %d tokens fit; it must be one", len(found), len(slots))
	}
	return found[0], nil
}

// loginError says what a login failed of, and what the token says about tries.
func (s *tokenSigner) loginError(err error, flags uint) error {
	hint := "a few wrong PINs lock the token"
	switch {
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LOCKED)) || flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		hint = "the PIN is locked: have the security officer of the token set a new one"
	case flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		hint = "the next wrong PIN locks the token"
	}
	return s.key.refuse(hint, "logging in: %w", err)
}

// find returns the objects of a class that have these attributes, at most two.
func (s *tokenSigner) find(class uint, attributes ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	template := append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}, attributes...)
	if err := s.module.FindObjectsInit(s.session, template); err != nil {
		return nil, s.key.refuse("", "looking for objects: %w", err)
	}
	found, _, err := s.module.FindObjects(s.session, 2)
	if err := errors.Join(err, s.module.FindObjectsFinal(s.session)); err != nil {
		return nil, s.key.refuse("", "looking for objects: %w", err)
	}
	return found, nil
}

// attribute returns the value of an attribute; nil if the object has none.
func (s *tokenSigner) attribute(object pkcs11.ObjectHandle, t uint) []byte {
	got, err := s.module.GetAttributeValue(s.session, object, []*pkcs11.Attribute{{Type: t}})
	if err != nil || len(got) != 1 {
		return nil
	}
	return got[0].Value
}

// findKey finds the one private key and its public half.
func (s *tokenSigner) findKey() error {
	wanted := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC)}
	if s.key.object != "" {
		wanted = append(wanted, pkcs11.NewAttribute(pkcs11.CKA_LABEL, s.key.object))
	}
	if len(s.key.id) > 0 {
		wanted = append(wanted, pkcs11.NewAttribute(pkcs11.CKA_ID, s.key.id))
	}
	found, err := s.find(pkcs11.CKO_PRIVATE_KEY, wanted...)
	if err != nil {
		return err
	}
	if len(found) != 1 {
		what := "no EC private key fits"
		if len(found) > 1 {
			what = "more than one EC private key fits"
		}
		return s.key.refuse("'pkcs11-tool --login --list-objects' shows labels and ids", "%s", what)
	}
	s.private = found[0]
	s.always = bytes.Equal(s.attribute(s.private, pkcs11.CKA_ALWAYS_AUTHENTICATE), []byte{1})
	return s.findPublic()
}

// findPublic reads the public key from the public key object that belongs to the
// private one, from the private one itself, or from a certificate.
func (s *tokenSigner) findPublic() error {
	same := pkcs11.NewAttribute(pkcs11.CKA_ID, s.attribute(s.private, pkcs11.CKA_ID))
	if len(same.Value) == 0 {
		same = pkcs11.NewAttribute(pkcs11.CKA_LABEL, s.attribute(s.private, pkcs11.CKA_LABEL))
	}
	objects, err := s.find(pkcs11.CKO_PUBLIC_KEY, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC), same)
	if err != nil {
		return err
	}
	for _, o := range append(objects, s.private) {
		if point := s.attribute(o, pkcs11.CKA_EC_POINT); len(point) > 0 {
			s.public, err = publicKey(s.attribute(o, pkcs11.CKA_EC_PARAMS), point)
			if err != nil {
				return refuse(reason.Unsupported, "eif.key.curve", newKeyHint, "%s: %w", s.key, err)
			}
			return nil
		}
	}
	certificates, err := s.find(pkcs11.CKO_CERTIFICATE, same)
	if err != nil {
		return err
	}
	for _, o := range certificates {
		cert, err := x509.ParseCertificate(s.attribute(o, pkcs11.CKA_VALUE))
		if err != nil {
			continue
		}
		if key, ok := cert.PublicKey.(*ecdsa.PublicKey); ok && signs(key.Curve) {
			s.public = key
			return nil
		}
	}
	return s.key.refuse("import the public key or a certificate with the same id", "the token does not tell the key's public half")
}

// publicKey decodes CKA_EC_PARAMS, which must name a curve, and CKA_EC_POINT: a
// DER OCTET STRING (PKCS#11 v2.40 §2.3.3), which some tokens leave out.
func publicKey(params, point []byte) (*ecdsa.PublicKey, error) {
	var name asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &name); err != nil || len(rest) > 0 {
		return nil, errors.New("the key's curve is not named")
	}
	curve := map[string]elliptic.Curve{
		"1.2.840.10045.3.1.7": elliptic.P256(), "1.3.132.0.34": elliptic.P384(), "1.3.132.0.35": elliptic.P521(),
	}[name.String()]
	if curve == nil {
		return nil, fmt.Errorf("the key's curve is %s; images are signed with P-256, P-384 or P-521", name)
	}
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

// Public implements [crypto.Signer].
func (s *tokenSigner) Public() crypto.PublicKey { return s.public }

// Sign implements [crypto.Signer] by CKM_ECDSA, which takes a digest and gives R‖S.
func (s *tokenSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := checkDigest(s.public, digest, opts); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pin == nil {
		return nil, errors.New("signkey: the token is closed")
	}
	if err := s.module.SignInit(s.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)}, s.private); err != nil {
		return nil, s.key.refuse("the key must be allowed to sign, and the token to do CKM_ECDSA", "signing: %w", err)
	}
	if s.always {
		if err := s.module.Login(s.session, pkcs11.CKU_CONTEXT_SPECIFIC, string(s.pin)); err != nil {
			return nil, s.loginError(err, 0)
		}
	}
	raw, err := s.module.Sign(s.session, digest)
	if err != nil {
		return nil, s.key.refuse("", "signing: %w", err)
	}
	half := len(raw) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
}

// Close logs out and forgets the PIN.
func (s *tokenSigner) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pin == nil {
		return nil
	}
	clear(s.pin)
	s.pin = nil
	return errors.Join(s.module.Logout(s.session), s.module.CloseSession(s.session), s.module.Finalize())
}
