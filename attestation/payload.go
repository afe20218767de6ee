// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"fmt"
	"time"

	"github.com/cretula/cretula/pcr"
)

const (
	maxBundle = 16
	// maxTimestamp is the last millisecond of the year 9999.
	maxTimestamp = 253402300799999
)

// describeLength names an item with the number of its members.
func describeLength(h head) string {
	switch {
	case h.major == majorArray && !h.indefinite():
		return fmt.Sprintf("an array of %d", h.arg)
	case h.major == majorMap && !h.indefinite():
		return fmt.Sprintf("a map of %d", h.arg)
	}
	return h.String()
}

// seen are the keys that were found in a payload.
type seen struct {
	moduleID, digest, timestamp, pcrs, nitroTPM, certificate, cabundle bool
	publicKey, userData, nonce                                         bool
}

// readPayload reads the signed map. Unknown keys are skipped, whatever their
// spelling resembles.
func (u *Unverified) readPayload(w *walker) error {
	h, err := w.next()
	if err != nil {
		return err
	}
	if h.major != majorMap {
		return w.stop(ruleMap, h.at, "the payload holds %v, not a map", h)
	}
	u.payloadIndefinite = h.indefinite()
	var found seen
	err = w.entries(h, 0, func(key []byte, at int) error {
		if key[0]>>5 != majorText {
			w.flag(ruleMap, at, "a key of the payload is not a text string")
			return w.skip(1)
		}
		inner := &walker{data: key}
		name, err := inner.text()
		if err != nil {
			return err
		}
		return u.readField(w, name, at, &found)
	})
	if err != nil {
		return err
	}
	if w.off < len(w.data) {
		w.flag(ruleTrailing, w.off, "%d bytes follow the map in the payload", len(w.data)-w.off)
	}
	u.reportMissing(w.f, found)
	u.complete = true
	return nil
}

func (u *Unverified) readField(w *walker, key []byte, keyAt int, found *seen) (err error) {
	at := w.where(w.off)
	switch string(key) {
	case "module_id":
		found.moduleID = true
		u.moduleID, err = w.textField(ruleModuleID, "module_id", func(s string) bool { return s != "" })
	case "digest":
		found.digest = true
		u.digest, err = w.textField(ruleDigest, "digest", func(s string) bool { return s == "SHA384" })
	case "timestamp":
		found.timestamp, u.at.timestamp = true, at
		err = u.readTimestamp(w)
	case "pcrs":
		found.pcrs, u.at.registers = true, at
		err = u.readRegisters(w, "pcrs", KindEnclave)
	case "nitrotpm_pcrs":
		found.nitroTPM, u.at.registers = true, at
		err = u.readRegisters(w, "nitrotpm_pcrs", KindNitroTPM)
	case "certificate":
		found.certificate, u.at.leaf = true, at
		u.leaf, err = w.bytesField(ruleCertificate, "certificate", certificateField)
	case "cabundle":
		found.cabundle = true
		err = u.readBundle(w)
	case "public_key":
		found.publicKey, u.at.publicKey = true, at
		u.publicKey, err = w.bytesField(rulePublicKey, "public_key", limits{most: u.maxField, nullable: true})
	case "user_data":
		found.userData, u.at.userData = true, at
		u.userData, err = w.bytesField(ruleUserData, "user_data", limits{most: u.maxField, nullable: true})
	case "nonce":
		found.nonce, u.at.nonce = true, at
		u.nonce, err = w.bytesField(ruleNonce, "nonce", limits{most: u.maxField, nullable: true})
	default:
		w.f.note(infoUnknownKey, w.where(keyAt), "the payload has the unknown key %.64q", key)
		err = w.skip(1)
	}
	return err
}

func (u *Unverified) reportMissing(f *findings, found seen) {
	for _, m := range []struct {
		found bool
		rule  ruleID
		name  string
	}{
		{found.moduleID, ruleModuleID, "module_id"},
		{found.digest, ruleDigest, "digest"},
		{found.timestamp, ruleTimestamp, "timestamp"},
		{found.pcrs || found.nitroTPM, ruleRegisters, "pcrs"},
		{found.certificate, ruleCertificate, "certificate"},
		{found.cabundle, ruleBundle, "cabundle"},
	} {
		if !m.found {
			f.add(m.rule, "%s is absent", m.name)
		}
	}
	for _, optional := range []struct {
		found bool
		name  string
	}{{found.publicKey, "public_key"}, {found.userData, "user_data"}, {found.nonce, "nonce"}} {
		if !optional.found {
			f.note(infoAbsent, nowhere, "%s is absent, not null", optional.name)
		}
	}
	if found.pcrs && found.nitroTPM {
		f.add(ruleKind, "the document has pcrs and nitrotpm_pcrs")
	}
}

// text reads a text string.
func (w *walker) text() ([]byte, error) {
	h, err := w.next()
	if err != nil {
		return nil, err
	}
	return w.content(h)
}

// textField reads a mandatory text that is good; another one is reported, and so
// is another type, which is skipped.
func (w *walker) textField(rule ruleID, name string, good func(string) bool) (string, error) {
	h, err := w.next()
	if err != nil {
		return "", err
	}
	if h.major != majorText {
		w.flag(rule, h.at, "%s is %v, not a text string", name, h)
		return "", w.rest(h, 1)
	}
	content, err := w.content(h)
	text := string(content)
	if err == nil && !good(text) {
		w.flag(rule, h.at, "%s is %.64q", name, content)
	}
	return text, err
}

// limits are those of a byte string.
type limits struct {
	least, most int
	nullable    bool
}

var certificateField = limits{least: 1, most: MaxFieldSize}

// bytesField reads a byte string within its limits, or null if that is allowed.
// Anything else is reported and skipped.
func (w *walker) bytesField(rule ruleID, name string, l limits) ([]byte, error) {
	h, err := w.next()
	if err != nil {
		return nil, err
	}
	if h.isNull() && l.nullable {
		return nil, nil
	}
	if h.major != majorBytes {
		w.flag(rule, h.at, "%s is %v, not a byte string", name, h)
		return nil, w.rest(h, 1)
	}
	content, err := w.content(h)
	if err != nil {
		return nil, err
	}
	if len(content) < l.least || len(content) > l.most {
		w.flag(rule, h.at, "%s has %d bytes, not %d to %d", name, len(content), l.least, l.most)
		return nil, nil
	}
	return content, nil
}

func (u *Unverified) readTimestamp(w *walker) error {
	h, err := w.next()
	if err != nil {
		return err
	}
	switch {
	case h.major != majorUint:
		w.flag(ruleTimestamp, h.at, "timestamp is %v, not an unsigned integer", h)
		return w.rest(h, 1)
	case h.arg == 0 || h.arg > maxTimestamp:
		w.flag(ruleTimestamp, h.at, "timestamp is %d, not 1 to %d", h.arg, uint64(maxTimestamp))
	default:
		u.timestamp = time.UnixMilli(int64(h.arg)).UTC()
	}
	return nil
}

// readRegisters reads the map of register values that makes the document one of
// that kind.
func (u *Unverified) readRegisters(w *walker, name string, kind Kind) error {
	u.kind = kind
	h, err := w.next()
	if err != nil {
		return err
	}
	if h.major != majorMap {
		w.flag(ruleRegisters, h.at, "%s is %v, not a map", name, h)
		return w.rest(h, 1)
	}
	if h.indefinite() {
		w.flag(ruleIndefinite, h.at, "%s has indefinite length", name)
	}
	count := 0
	err = w.entries(h, 1, func(key []byte, at int) error {
		count++
		return u.readRegister(w, kind, key, at)
	})
	if err == nil && (count == 0 || uint64(count) > kind.registers()) {
		w.flag(ruleRegisters, h.at, "%s has %d registers, not 1 to %d", name, count, kind.registers())
	}
	if err == nil && kind == KindEnclave {
		u.checkImage(w, h.at)
	}
	return err
}

// checkImage reports registers of the image that are absent, unless something is
// wrong with those that are there. Without it a document of no image at all would
// pass where any image is allowed.
func (u *Unverified) checkImage(w *walker, at int) {
	if w.f == nil || w.f.counts[ruleRegisters]+w.f.counts[ruleRegisterIndex]+w.f.counts[ruleRegisterLength] > 0 {
		return
	}
	for i := range pcr.Index(3) {
		if _, there := u.pcrs.Get(i); !there {
			w.flag(ruleRegisterAbsent, at, "pcrs has no %v", i)
		}
	}
}

func (u *Unverified) readRegister(w *walker, kind Kind, key []byte, at int) error {
	index, err := (&walker{data: key}).next()
	if err != nil {
		return err
	}
	known := index.major == majorUint && index.arg < kind.registers()
	if !known {
		w.flag(ruleRegisterIndex, at, "a register's index is not a number of 0 to %d", kind.registers()-1)
	}
	h, err := w.next()
	if err != nil {
		return err
	}
	if h.major != majorBytes {
		w.flag(ruleRegisterLength, h.at, "a register's value is %v, not a byte string", h)
		return w.rest(h, 2)
	}
	value, err := w.content(h)
	switch {
	case err != nil:
		return err
	case len(value) != pcr.Size:
		w.flag(ruleRegisterLength, h.at, "a register's value has %d bytes, not %d", len(value), pcr.Size)
	case known:
		u.pcrs.Put(pcr.Index(index.arg), pcr.Digest(value))
		u.at.register[index.arg] = w.where(h.at)
	}
	return nil
}

var bundleNames = func() (names [maxBundle]string) {
	for i := range names {
		names[i] = fmt.Sprintf("cabundle[%d]", i)
	}
	return names
}()

func (u *Unverified) readBundle(w *walker) error {
	h, err := w.next()
	if err != nil {
		return err
	}
	if h.major != majorArray {
		w.flag(ruleBundle, h.at, "cabundle is %v, not an array", h)
		return w.rest(h, 1)
	}
	count := 0
	err = w.elements(h, func(i int) error {
		if count++; i >= maxBundle {
			return w.skip(2)
		}
		u.at.bundle[i] = w.where(w.off)
		der, err := w.bytesField(ruleBundle, bundleNames[i], certificateField)
		if err == nil && der != nil {
			u.bundle = append(u.bundle, der)
		}
		return err
	})
	if err == nil && (count == 0 || count > maxBundle) {
		w.flag(ruleBundle, h.at, "cabundle has %d certificates, not 1 to %d", count, maxBundle)
	}
	if len(u.bundle) != count {
		u.bundle = nil // what is left of it would be no chain
	}
	return err
}
