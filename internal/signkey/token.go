// SPDX-License-Identifier: Apache-2.0

package signkey

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/reason"
)

// A tokenKey says which key of which token, after RFC 7512.
type tokenKey struct {
	module                             string // absolute path of the library
	token, serial, manufacturer, model string
	object                             string // CKA_LABEL
	id                                 []byte // CKA_ID
	pinFile                            string
}

// String names the key for messages.
func (k *tokenKey) String() string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"token", k.token}, {"serial", k.serial}, {"object", k.object}, {"id", hex.EncodeToString(k.id)},
	} {
		if p.value != "" {
			parts = append(parts, p.name+" "+cli.Printable(p.value))
		}
	}
	return strings.Join(parts, ", ")
}

const uriHint = "as in 'pkcs11:token=release;object=image?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/run/pin' (RFC 7512)"

func wrongURI(format string, args ...any) error {
	return cli.WithHint(cli.Usagef("--key pkcs11: "+format, args...), "%s", uriHint)
}

// parseURI reads a PKCS#11 URI. An attribute that is not used here is refused:
// RFC 7512 §2.3 has every attribute narrow down what is meant.
func parseURI(uri string) (*tokenKey, error) {
	k := &tokenKey{}
	var kind, id, pinValue string
	known := map[string]*string{
		"token": &k.token, "serial": &k.serial, "manufacturer": &k.manufacturer, "model": &k.model,
		"object": &k.object, "id": &id, "type": &kind,
	}
	knownQuery := map[string]*string{"module-path": &k.module, "pin-source": &k.pinFile, "pin-value": &pinValue}
	path, query, _ := strings.Cut(strings.TrimPrefix(uri, "pkcs11:"), "?")
	if err := readAttributes(path, ";", known); err != nil {
		return nil, err
	}
	if err := readAttributes(query, "&", knownQuery); err != nil {
		return nil, err
	}
	k.id = []byte(id)
	switch {
	case pinValue != "":
		return nil, cli.WithHint(cli.Usagef("--key pkcs11: a PIN in pin-value can be seen by everybody on this machine"),
			"write it to a file of mode 0600 and name that: pin-source, or --pin-file; and change this PIN")
	case kind != "" && kind != "private":
		return nil, wrongURI("type is %q; a private key signs", kind)
	case k.token == "" && k.serial == "":
		return nil, wrongURI("token or serial is missing")
	case k.object == "" && id == "":
		return nil, wrongURI("object or id is missing")
	}
	return k, nil
}

// readAttributes reads a list of name=value. Messages do not have the values: one
// may be a PIN.
func readAttributes(list, separator string, known map[string]*string) error {
	if list == "" {
		return nil
	}
	for attribute := range strings.SplitSeq(list, separator) {
		name, value, ok := strings.Cut(attribute, "=")
		to := known[name]
		switch {
		case !ok:
			return wrongURI("an attribute has no value")
		case to == nil:
			return wrongURI("attribute %q is not used here", name)
		case *to != "":
			return wrongURI("%s is there twice", name)
		}
		decoded, err := url.PathUnescape(value)
		if err != nil || decoded == "" {
			return wrongURI("the value of %s is empty or not percent-encoded", name)
		}
		*to = decoded
	}
	return nil
}

// openToken opens a key in a PKCS#11 token.
func openToken(ctx context.Context, s *Spec) (crypto.Signer, io.Closer, error) {
	k, err := parseURI(s.Key)
	if err != nil {
		return nil, nil, err
	}
	if s.Module != "" {
		if k.module != "" {
			return nil, nil, cli.Usagef("the library is named twice, by module-path and by --module")
		}
		k.module = s.Module
	}
	if !built {
		return nil, nil, refuse(reason.Unsupported, "eif.key.pkcs11", "build it with cgo and -tags pkcs11; or sign in three steps with 'cretula eif signing-payload'",
			"this program was built without PKCS#11")
	}
	if k.module == "" {
		return nil, nil, cli.WithHint(cli.Usagef("the PKCS#11 library of the token is not named"), "add --module, or module-path to the URI")
	}
	if k.module, err = filepath.Abs(k.module); err != nil {
		return nil, nil, err
	}
	pin, err := k.readPIN(s.PINFile)
	if err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	return k.open(pin)
}

const maxPIN = 255

// readPIN reads the PIN, without one line end behind it, for the caller to
// overwrite.
func (k *tokenKey) readPIN(given string) ([]byte, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(k.pinFile, "file://"), "file:")
	switch {
	case given != "" && path != "":
		return nil, cli.Usagef("the PIN's file is named twice, by pin-source and by --pin-file")
	case given != "":
		path = given
	case path == "":
		return nil, cli.WithHint(cli.Usagef("the file with the token's PIN is not named"), "add --pin-file, or pin-source to the URI")
	case strings.HasPrefix(path, "|"):
		return nil, wrongURI("pin-source is a program, which is not started")
	}
	text, err := readPrivate(path)
	if err != nil {
		return nil, refuse(reason.Unsupported, "eif.key.pin", "it must be a file of this user, mode 0600, with the PIN in one line", "the PIN: %w", err)
	}
	pin := bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(pin) == 0 || len(pin) > maxPIN {
		clear(text)
		return nil, refuse(reason.Malformed, "eif.key.pin", "", "%s: a PIN has 1 to %d bytes", cli.Printable(path), maxPIN)
	}
	return pin, nil
}

func readPrivate(path string) ([]byte, error) {
	f, err := durable.OpenPrivate(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text := make([]byte, maxPIN+3)
	n, err := io.ReadFull(f, text)
	if err != io.ErrUnexpectedEOF && err != io.EOF && err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text[:n], nil
}
