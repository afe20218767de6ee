// SPDX-License-Identifier: Apache-2.0

//go:build pkcs11 && cgo

package pkcs11

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/miekg/pkcs11"
)

const built = true

// modules are the libraries that were loaded. They stay: some do not survive
// being unloaded. The holder of the turn has the map.
var modules = make(map[string]*pkcs11.Ctx)

// A session is one login into a token.
type session struct {
	module *pkcs11.Ctx
	slot   uint
	handle pkcs11.SessionHandle
}

// withSession starts the library, logs in, runs use and ends all of that, so
// that an HSM that was away is looked for anew each time.
func (h *Holder) withSession(flags uint, use func(session) error) (err error) {
	m := modules[h.config.Module]
	if m == nil {
		if m = pkcs11.New(h.config.Module); m == nil {
			return fmt.Errorf("%w: %s cannot be loaded", ErrModule, h.config.Module)
		}
		modules[h.config.Module] = m
	}
	if err := m.Initialize(); err != nil {
		return fmt.Errorf("%w: %w", ErrModule, err)
	}
	defer m.Finalize()
	slot, err := h.findToken(m)
	if err != nil {
		return err
	}
	handle, err := m.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|flags)
	if err != nil {
		return unavailable("opening a session", err)
	}
	defer m.CloseSession(handle)
	if err := m.Login(handle, pkcs11.CKU_USER, string(h.config.PIN)); err != nil {
		info, _ := m.GetTokenInfo(slot)
		return loginError(err, info.Flags)
	}
	defer m.Logout(handle)
	return use(session{m, slot, handle})
}

func (h *Holder) findToken(m *pkcs11.Ctx) (uint, error) {
	slots, err := m.GetSlotList(true)
	if err != nil {
		return 0, unavailable("listing slots", err)
	}
	var found []uint
	for _, slot := range slots {
		info, err := m.GetTokenInfo(slot)
		if err != nil {
			continue // that of another token
		}
		if (h.config.TokenLabel == "" || info.Label == h.config.TokenLabel) &&
			(h.config.TokenSerial == "" || info.SerialNumber == h.config.TokenSerial) {
			found = append(found, slot)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%w: %d of %d tokens have label %q and serial number %q",
			ErrNoToken, len(found), len(slots), h.config.TokenLabel, h.config.TokenSerial)
	}
	return found[0], nil
}

// loginError says what a login failed of, and what the token says about tries.
func loginError(err error, flags uint) error {
	switch {
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LOCKED)):
		return ErrPINLocked
	case !errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) && !errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INVALID)) &&
		!errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_LEN_RANGE)):
		return unavailable("logging in", err)
	case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return fmt.Errorf("%w: %w", ErrPINLocked, ErrPIN)
	case flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return fmt.Errorf("%w; the next wrong one locks it", ErrPIN)
	case flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0:
		return fmt.Errorf("%w; not many tries are left", ErrPIN)
	}
	return ErrPIN
}

// find returns the AES keys of the label, at most two.
func (s session) find(label string) ([]pkcs11.ObjectHandle, error) {
	err := s.module.FindObjectsInit(s.handle, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	})
	if err != nil {
		return nil, unavailable("looking for the key", err)
	}
	found, _, err := s.module.FindObjects(s.handle, 2)
	if err := errors.Join(err, s.module.FindObjectsFinal(s.handle)); err != nil {
		return nil, unavailable("looking for the key", err)
	}
	return found, nil
}

// key returns the key of the label if it is as it must be.
func (s session) key(label string) (pkcs11.ObjectHandle, error) {
	if err := s.checkMechanism(); err != nil {
		return 0, err
	}
	found, err := s.find(label)
	if err != nil {
		return 0, err
	}
	if len(found) == 0 {
		return 0, fmt.Errorf("%w: label %q", ErrNoKey, label)
	}
	if len(found) > 1 {
		return 0, fmt.Errorf("%w: more than one has label %q", ErrNoKey, label)
	}
	want := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_NEVER_EXTRACTABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
	}
	names := []string{"sensitive", "always sensitive", "extractable", "never extractable", "length"}
	for i, w := range want {
		got, err := s.module.GetAttributeValue(s.handle, found[0], []*pkcs11.Attribute{{Type: w.Type}})
		if err != nil {
			return 0, unavailable("reading the key's attributes", err)
		}
		if len(got) != 1 || !bytes.Equal(got[0].Value, w.Value) {
			return 0, fmt.Errorf("%w, or is not AES-256: attribute %q of %q", ErrWeakKey, names[i], label)
		}
	}
	return found[0], nil
}

func (s session) checkMechanism() error {
	info, err := s.module.GetMechanismInfo(s.slot, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, nil)})
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_MECHANISM_INVALID)) {
		return ErrNoGCM
	}
	if err != nil {
		return unavailable("asking for AES-GCM", err)
	}
	if both := uint(pkcs11.CKF_ENCRYPT | pkcs11.CKF_DECRYPT); info.Flags&both != both {
		return ErrNoGCM
	}
	return nil
}

func (h *Holder) createKey() error {
	return h.withSession(pkcs11.CKF_RW_SESSION, func(s session) error {
		if err := s.checkMechanism(); err != nil {
			return err
		}
		found, err := s.find(h.config.KeyLabel)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fmt.Errorf("%w: %q", ErrKeyExists, h.config.KeyLabel)
		}
		id := make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		_, err = s.module.GenerateKey(s.handle,
			[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, keyTemplate(h.config.KeyLabel, id))
		if err != nil {
			return unavailable("making the key", err)
		}
		_, err = s.key(h.config.KeyLabel)
		return err
	})
}

func keyTemplate(label string, id []byte) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),
	}
}

func (h *Holder) seal(secret []byte) (sealed []byte, err error) {
	err = h.withSession(0, func(s session) error {
		key, err := s.key(h.config.KeyLabel)
		if err != nil {
			return err
		}
		iv, ciphertext, err := s.encrypt(key, secret)
		if err != nil {
			return err
		}
		sealed, err = encode(iv, ciphertext)
		return err
	})
	return sealed, err
}

func (h *Holder) open(iv, ciphertext []byte) (secret []byte, err error) {
	err = h.withSession(0, func(s session) error {
		key, err := s.key(h.config.KeyLabel)
		if err != nil {
			return err
		}
		secret, err = s.decrypt(key, iv, ciphertext)
		return err
	})
	return secret, err
}

// additional is the additional data of AES-GCM.
const additional = "cretula/rootkey/1/pkcs11"

// encrypt returns the vector that was used: some tokens make it themselves
// whatever they are given.
func (s session) encrypt(key pkcs11.ObjectHandle, secret []byte) (iv, ciphertext []byte, err error) {
	iv = make([]byte, ivSize)
	if _, err := rand.Read(iv); err != nil {
		return nil, nil, err
	}
	params := pkcs11.NewGCMParams(iv, []byte(additional), 8*tagSize)
	defer params.Free()
	err = s.module.EncryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, key)
	if err == nil {
		ciphertext, err = s.module.Encrypt(s.handle, secret)
	}
	if err != nil {
		return nil, nil, unavailable("sealing", err)
	}
	return params.IV(), ciphertext, nil
}

func (s session) decrypt(key pkcs11.ObjectHandle, iv, ciphertext []byte) ([]byte, error) {
	params := pkcs11.NewGCMParams(iv, []byte(additional), 8*tagSize)
	defer params.Free()
	err := s.module.DecryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, key)
	if err != nil {
		return nil, unavailable("opening", err)
	}
	secret, err := s.module.Decrypt(s.handle, ciphertext)
	if err == nil {
		return secret, nil
	}
	for _, code := range wrongTag {
		if errors.Is(err, pkcs11.Error(code)) {
			return nil, fmt.Errorf("%w: not this key: %w", rootkey.ErrNotOpened, err)
		}
	}
	return nil, unavailable("opening", err)
}

// wrongTag are the answers of C_Decrypt to a tag that is wrong. The standard
// has the first (§2.12.3); 3.0 adds the second; SoftHSM and others say no more
// than the last two.
var wrongTag = []uint{
	pkcs11.CKR_ENCRYPTED_DATA_INVALID, 0x42 /* CKR_AEAD_DECRYPT_FAILED */, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED,
}

func unavailable(doing string, err error) error {
	return fmt.Errorf("%w: pkcs11: %s: %w", rootkey.ErrUnavailable, doing, err)
}
