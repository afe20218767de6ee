// SPDX-License-Identifier: Apache-2.0

//go:build pkcs11 && cgo

package pkcs11

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
	"github.com/miekg/pkcs11"
)

const pin = "123456"

func holder(t testing.TB, hsm *rootkeytest.HSM, token, key string) *Holder {
	t.Helper()
	h, err := New(Config{Module: hsm.Module, TokenLabel: token, KeyLabel: key, PIN: []byte(pin)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// start makes an HSM with a token "one" that has a key "root".
func start(t testing.TB) (*rootkeytest.HSM, *Holder) {
	t.Helper()
	hsm := rootkeytest.StartHSM(t)
	hsm.CreateToken(t, "one", pin)
	h := holder(t, hsm, "one", "root")
	if err := h.CreateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	return hsm, h
}

func TestHolder(t *testing.T) {
	rootkeytest.Run(t, rootkeytest.Case{Kind: "pkcs11", New: func(t testing.TB) (rootkey.Holder, rootkey.Holder) {
		hsm, h := start(t)
		hsm.CreateToken(t, "two", pin)
		other := holder(t, hsm, "two", "root")
		if err := other.CreateKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		return h, other
	}})
}

var secret = []byte("0123456789abcdefghijklmnopqrstuv")

// refuses wants the error of both Seal and Open.
func refuses(t testing.TB, h *Holder, sealed []byte, want ...error) {
	t.Helper()
	got, err := h.Open(t.Context(), sealed)
	again, err2 := h.Seal(t.Context(), secret)
	for _, w := range want {
		if !errors.Is(err, w) || !errors.Is(err2, w) || got != nil || again != nil {
			t.Errorf("Open: %v, Seal: %v, want %v", err, err2, w)
		}
	}
	if errors.Is(err, rootkey.ErrNotOpened) {
		t.Errorf("%v: says that it is about what was sealed", err)
	}
}

// TestMissing takes away one thing after the other.
func TestMissing(t *testing.T) {
	hsm, h := start(t)
	sealed, err := h.Seal(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	opens := func(h *Holder) {
		t.Helper()
		if got, err := h.Open(t.Context(), sealed); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%v", err)
		}
	}
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{text, text + ".none", "/dev/null", filepath.Dir(text)} {
		refuses(t, holder(t, &rootkeytest.HSM{Module: module}, "one", "root"), sealed, ErrModule, rootkey.ErrUnavailable)
	}
	for _, token := range []string{"none", "One", "on", "one "} {
		refuses(t, holder(t, hsm, token, "root"), sealed, ErrNoToken, rootkey.ErrUnavailable)
	}
	for _, key := range []string{"none", "Root", "roo"} {
		refuses(t, holder(t, hsm, "one", key), sealed, ErrNoKey, rootkey.ErrUnavailable)
	}
	for _, wrong := range []string{"654321", "1", "12345", "1234567", "officer", strings.Repeat("1", 255), "123456\x00"} {
		bad := holder(t, hsm, "one", "root")
		bad.config.PIN = []byte(wrong)
		refuses(t, bad, sealed, ErrPIN, rootkey.ErrUnavailable)
		if _, err := bad.Open(t.Context(), sealed); len(wrong) > 1 && strings.Contains(err.Error(), wrong) {
			t.Errorf("the error has the PIN: %v", err)
		}
	}
	opens(h)
	// The token by its serial number, and by both.
	bySerial := holder(t, hsm, "one", "root")
	inSession(t, h, func(s session) error {
		info, err := s.module.GetTokenInfo(s.slot)
		bySerial.config.TokenSerial = info.SerialNumber
		return err
	})
	opens(bySerial)
	bySerial.config.TokenLabel = ""
	opens(bySerial)
	bySerial.config.TokenSerial += "0"
	refuses(t, bySerial, sealed, ErrNoToken)
	// Two tokens of one label.
	hsm.CreateToken(t, "one", pin)
	refuses(t, h, sealed, ErrNoToken)
	bySerial.config.TokenSerial = strings.TrimSuffix(bySerial.config.TokenSerial, "0")
	opens(bySerial)
	// The key is gone, another of its label comes, the token is gone.
	inSession(t, bySerial, func(s session) error {
		found, err := s.find("root")
		if err != nil || len(found) != 1 {
			t.Fatalf("%v, %v", found, err)
		}
		return s.module.DestroyObject(s.handle, found[0])
	})
	refuses(t, bySerial, sealed, ErrNoKey)
	if err := bySerial.CreateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := bySerial.Open(t.Context(), sealed); !errors.Is(err, rootkey.ErrNotOpened) || got != nil {
		t.Errorf("another key of the label: %v, want ErrNotOpened", err)
	}
	run := holder(t, hsm, "gone", "root")
	hsm.CreateToken(t, "gone", pin)
	if err := run.CreateKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	hsm.DeleteToken(t, "gone")
	refuses(t, run, sealed, ErrNoToken)
}

// inSession runs commands of a test in the token.
func inSession(t testing.TB, h *Holder, use func(session) error) {
	t.Helper()
	end, err := h.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	if err := h.withSession(pkcs11.CKF_RW_SESSION, use); err != nil {
		t.Fatal(err)
	}
}

// set returns the template of CreateKey with other values.
func set(label string, changes ...*pkcs11.Attribute) []*pkcs11.Attribute {
	template := keyTemplate(label, []byte("id"))
	for _, c := range changes {
		i := slices.IndexFunc(template, func(a *pkcs11.Attribute) bool { return a.Type == c.Type })
		template[i] = c
	}
	return template
}

func TestWeakKeys(t *testing.T) {
	hsm, h := start(t)
	sealed, err := h.Seal(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.CreateKey(t.Context()); !errors.Is(err, ErrKeyExists) {
		t.Errorf("a second key of the label: %v, want ErrKeyExists", err)
	}
	generate := func(s session, label string, changes ...*pkcs11.Attribute) {
		t.Helper()
		m := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}
		if _, err := s.module.GenerateKey(s.handle, m, set(label, changes...)); err != nil {
			t.Fatalf("%s: %v", label, err)
		}
	}
	inSession(t, h, func(s session) error {
		found, err := s.find("root")
		if err != nil || len(found) != 1 {
			t.Fatalf("%v, %v", found, err)
		}
		value, err := s.module.GetAttributeValue(s.handle, found[0], []*pkcs11.Attribute{{Type: pkcs11.CKA_VALUE}})
		if !errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE)) {
			t.Errorf("the token gives its key away: %v, %v", value, err)
		}
		generate(s, "extractable", pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true))
		generate(s, "not sensitive", pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false))
		generate(s, "short", pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 16))
		generate(s, "twice")
		generate(s, "twice")
		imported := slices.DeleteFunc(set("imported"), func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_VALUE_LEN })
		_, err = s.module.CreateObject(s.handle, append(imported, pkcs11.NewAttribute(pkcs11.CKA_VALUE, make([]byte, 32))))
		return err
	})
	for _, label := range []string{"extractable", "not sensitive", "short", "imported"} {
		refuses(t, holder(t, hsm, "one", label), sealed, ErrWeakKey, rootkey.ErrUnavailable)
	}
	refuses(t, holder(t, hsm, "one", "twice"), sealed, ErrNoKey)
	if got, err := h.Open(t.Context(), sealed); err != nil || !bytes.Equal(got, secret) {
		t.Error(err)
	}
}

// TestFormat compares with AES-256-GCM of Go under a key that is known.
func TestFormat(t *testing.T) {
	_, h := start(t)
	key := bytes.Repeat([]byte{7}, 32)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	inSession(t, h, func(s session) error {
		template := slices.DeleteFunc(set("known"), func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_VALUE_LEN })
		known, err := s.module.CreateObject(s.handle, append(template, pkcs11.NewAttribute(pkcs11.CKA_VALUE, key)))
		if err != nil {
			return err
		}
		iv, ciphertext, err := s.encrypt(known, secret)
		if err != nil {
			return err
		}
		got, err := gcm.Open(nil, iv, ciphertext, []byte("cretula/rootkey/1/pkcs11"))
		if err != nil || !bytes.Equal(got, secret) || bytes.Equal(iv, make([]byte, 12)) {
			t.Errorf("by Go: %q, %v, vector %x", got, err, iv)
		}
		got, err = s.decrypt(known, iv, gcm.Seal(nil, iv, secret, []byte("cretula/rootkey/1/pkcs11")))
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("by the token: %q, %v", got, err)
		}
		got, err = s.decrypt(known, iv, gcm.Seal(nil, iv, secret, nil))
		if !errors.Is(err, rootkey.ErrNotOpened) || got != nil {
			t.Errorf("other additional data: %q, %v", got, err)
		}
		return nil
	})
}

func TestLoginError(t *testing.T) {
	code := func(c uint) error { return pkcs11.Error(c) }
	for _, c := range []struct {
		err   error
		flags uint
		want  error
		text  string
	}{
		{code(pkcs11.CKR_PIN_INCORRECT), 0, ErrPIN, ""},
		{code(pkcs11.CKR_PIN_INVALID), 0, ErrPIN, ""},
		{code(pkcs11.CKR_PIN_LEN_RANGE), 0, ErrPIN, ""},
		{code(pkcs11.CKR_PIN_INCORRECT), pkcs11.CKF_USER_PIN_COUNT_LOW, ErrPIN, "not many"},
		{code(pkcs11.CKR_PIN_INCORRECT), pkcs11.CKF_USER_PIN_COUNT_LOW | pkcs11.CKF_USER_PIN_FINAL_TRY, ErrPIN, "next wrong one"},
		{code(pkcs11.CKR_PIN_INCORRECT), pkcs11.CKF_USER_PIN_LOCKED, ErrPINLocked, ""},
		{code(pkcs11.CKR_PIN_LOCKED), 0, ErrPINLocked, ""},
		{code(pkcs11.CKR_DEVICE_REMOVED), 0, rootkey.ErrUnavailable, "CKR_DEVICE_REMOVED"},
		{code(pkcs11.CKR_USER_PIN_NOT_INITIALIZED), 0, rootkey.ErrUnavailable, "logging in"},
	} {
		err := loginError(c.err, c.flags)
		if !errors.Is(err, c.want) || !errors.Is(err, rootkey.ErrUnavailable) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v, flags %#x: %v, want %v", c.err, c.flags, err, c.want)
		}
	}
}
