// SPDX-License-Identifier: Apache-2.0

//go:build pkcs11 && cgo

package signkey

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"net/url"
	"os/exec"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
	"github.com/cretula/cretula/reason"
)

const pin = "123456"

// importKey puts a key into a token, with its public half beside it.
func importKey(t testing.TB, token, label, id string, key any) {
	t.Helper()
	out, err := exec.Command("softhsm2-util", "--import", file(t, pkcs8(t, key)), "--token", token, "--label", label, "--id", id, "--pin", pin).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func uri(hsm *rootkeytest.HSM, path string) string {
	return "pkcs11:" + path + "?module-path=" + url.QueryEscape(hsm.Module)
}

func TestToken(t *testing.T) {
	hsm := rootkeytest.StartHSM(t)
	hsm.CreateToken(t, "release token", pin)
	pinFile := file(t, []byte(pin+"\n"))
	n := 0
	for curve := range curves {
		n++
		key := newKey(t, curve)
		importKey(t, "release token", "image", fmt.Sprintf("%02x", n), key)
		for name, s := range map[string]Spec{
			"by id":    {Key: uri(hsm, fmt.Sprintf("token=release%%20token;id=%%%02x", n)), PINFile: pinFile},
			"by both":  {Key: uri(hsm, fmt.Sprintf("token=release%%20token;object=image;id=%%%02x;type=private", n)) + "&pin-source=file:" + pinFile},
			"--module": {Key: fmt.Sprintf("pkcs11:token=release%%20token;id=%%%02x", n), Module: hsm.Module, PINFile: pinFile},
		} {
			signer, closer, err := Open(t.Context(), s)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			checkSigner(t, signer, &key.PublicKey)
			checkSigner(t, signer, &key.PublicKey)
			if _, err := signer.Sign(nil, make([]byte, 20), crypto.SHA1); err == nil {
				t.Errorf("%s: signed a SHA-1", name)
			}
			must(t, closer.Close())
			must(t, closer.Close())
			if _, err := signer.Sign(nil, make([]byte, curves[curve].Size()), curves[curve]); err == nil {
				t.Errorf("%s: signed when closed", name)
			}
		}
	}
}

func TestTokenRefuses(t *testing.T) {
	hsm := rootkeytest.StartHSM(t)
	for _, token := range []string{"one", "twice", "twice"} {
		hsm.CreateToken(t, token, pin)
	}
	importKey(t, "one", "image", "01", newKey(t, elliptic.P384()))
	importKey(t, "one", "same", "02", newKey(t, elliptic.P384()))
	importKey(t, "one", "same", "03", newKey(t, elliptic.P384()))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	importKey(t, "one", "rsa", "04", rsaKey)
	pinFile := file(t, []byte(pin))
	for name, s := range map[string]Spec{
		"no such token":       {Key: uri(hsm, "token=none;object=image"), PINFile: pinFile},
		"two tokens":          {Key: uri(hsm, "token=twice;object=image"), PINFile: pinFile},
		"another serial":      {Key: uri(hsm, "token=one;serial=0;object=image"), PINFile: pinFile},
		"another maker":       {Key: uri(hsm, "token=one;manufacturer=x;object=image"), PINFile: pinFile},
		"another model":       {Key: uri(hsm, "token=one;model=x;object=image"), PINFile: pinFile},
		"no such key":         {Key: uri(hsm, "token=one;object=none"), PINFile: pinFile},
		"no such id":          {Key: uri(hsm, "token=one;object=image;id=%09"), PINFile: pinFile},
		"two keys":            {Key: uri(hsm, "token=one;object=same"), PINFile: pinFile},
		"RSA":                 {Key: uri(hsm, "token=one;object=rsa"), PINFile: pinFile},
		"wrong PIN":           {Key: uri(hsm, "token=one;object=image"), PINFile: file(t, []byte("654321"))},
		"no library":          {Key: "pkcs11:token=one;object=image", Module: "/none.so", PINFile: pinFile},
		"no library at all":   {Key: "pkcs11:token=one;object=image", Module: pinFile, PINFile: pinFile},
		"a library of no HSM": {Key: "pkcs11:token=one;object=image", Module: "/dev/null", PINFile: pinFile},
	} {
		signer, closer, err := Open(t.Context(), s)
		if signer != nil || closer != nil {
			t.Errorf("%s: opened", name)
		}
		wantRefusal(t, name, err, reason.Unsupported, "eif.key.pkcs11", "654321", pin)
	}
	_, _, err = Open(t.Context(), Spec{Key: uri(hsm, "token=one;object=image"), Module: hsm.Module, PINFile: pinFile})
	wantUsage(t, "library named twice", err)
	_, _, err = Open(t.Context(), Spec{Key: "pkcs11:token=one;object=image", PINFile: pinFile})
	wantUsage(t, "no library named", err)
	// After all of that it still works.
	signer, closer, err := Open(t.Context(), Spec{Key: uri(hsm, "token=one;object=image"), PINFile: pinFile})
	must(t, err)
	checkSigner(t, signer, nil)
	must(t, closer.Close())
}

// TestTokenObjects makes keys in the token: one that wants the PIN for each
// signature, one on a curve that images are not signed with, and one whose public
// half is nowhere.
func TestTokenObjects(t *testing.T) {
	hsm := rootkeytest.StartHSM(t)
	hsm.CreateToken(t, "one", pin)
	p384, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 34})
	must(t, err)
	secp256k1, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 10})
	must(t, err)
	generate(t, hsm, "always", p384, true, false)
	generate(t, hsm, "koblitz", secp256k1, false, false)
	generate(t, hsm, "alone", p384, false, true)
	open := func(label string) (crypto.Signer, error) {
		signer, closer, err := Open(t.Context(), Spec{Key: uri(hsm, "token=one;object="+label), PINFile: file(t, []byte(pin))})
		if err == nil {
			t.Cleanup(func() { must(t, closer.Close()) })
		}
		return signer, err
	}
	_, err = open("koblitz")
	wantRefusal(t, "secp256k1", err, reason.Unsupported, "eif.key.curve")
	_, err = open("alone")
	wantRefusal(t, "no public half", err, reason.Unsupported, "eif.key.pkcs11")
	signer, err := open("always")
	must(t, err)
	checkSigner(t, signer, nil)
	checkSigner(t, signer, nil)
	if !signer.(*tokenSigner).always {
		t.Error("the token did not keep CKA_ALWAYS_AUTHENTICATE")
	}
}

func generate(t *testing.T, hsm *rootkeytest.HSM, label string, params []byte, always, alone bool) {
	t.Helper()
	m := pkcs11.New(hsm.Module)
	must(t, m.Initialize())
	defer m.Finalize()
	slots, err := m.GetSlotList(true)
	must(t, err)
	session, err := m.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	must(t, err)
	must(t, m.Login(session, pkcs11.CKU_USER, pin))
	public, _, err := m.GenerateKeyPair(session,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
		},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_AUTHENTICATE, always),
		})
	must(t, err)
	if alone {
		must(t, m.DestroyObject(session, public))
	}
}

func TestPublicKey(t *testing.T) {
	key := newKey(t, elliptic.P256())
	point, err := key.PublicKey.Bytes()
	must(t, err)
	wrapped, err := asn1.Marshal(point)
	must(t, err)
	params, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	must(t, err)
	for _, p := range [][]byte{point, wrapped} {
		if got, err := publicKey(params, p); err != nil || !got.Equal(&key.PublicKey) {
			t.Errorf("%v", err)
		}
	}
	off := append([]byte(nil), point...)
	off[40] ^= 1
	for name, c := range map[string][2][]byte{
		"no curve":              {nil, point},
		"explicit parameters":   {{0x30, 0}, point},
		"something behind":      {append(append([]byte(nil), params...), 0), point},
		"no point":              {params, nil},
		"compressed":            {params, append([]byte{2}, point[1:33]...)},
		"not on the curve":      {params, off},
		"the point at infinity": {params, {0}},
	} {
		if got, err := publicKey(c[0], c[1]); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}
