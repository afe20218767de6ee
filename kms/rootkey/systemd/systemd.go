// SPDX-License-Identifier: Apache-2.0

// Package systemd reads the passphrase of a root key from a systemd credential
// (systemd.exec(5), LoadCredentialEncrypted=).
//
// The credential is the passphrase of package passphrase, as it is or with one
// line end; best 32 random bytes in hexadecimal. The file that it opens is like
// any other sealed with a passphrase: it can also be opened by hand by who knows
// it. systemd decrypts the credential with the TPM or a key of the machine when
// it starts the service, and shows it to the user of the service only. So the
// disk alone does not give the root key away; root on the machine gets it.
package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/passphrase"
)

// ErrOpenToOthers: another user than root and that of this process can read the
// credential, or change what is in its folder.
var ErrOpenToOthers = errors.New("systemd: credential is open to others")

// maxName is the limit of systemd for the name of a credential.
const maxName = 255

// Credential returns the holder whose passphrase is the credential name in the
// folder dir, an absolute path: what systemd has put into the variable
// CREDENTIALS_DIRECTORY. The error matches [ErrOpenToOthers],
// [rootkey.ErrUnavailable] where there is no such credential, or
// [passphrase.ErrSize].
func Credential(dir, name string) (*passphrase.Holder, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("%w: the folder of credentials must be an absolute path, not %q", rootkey.ErrUnavailable, dir)
	}
	if name == "" || len(name) > maxName || name == "." || name == ".." || strings.ContainsAny(name, "/\\:\x00") {
		return nil, fmt.Errorf("systemd: %q cannot be the name of a credential", name)
	}
	if err := checkFolder(dir); err != nil {
		return nil, unavailable(err)
	}
	f, err := openFile(filepath.Join(dir, name))
	if err != nil {
		return nil, unavailable(err)
	}
	defer f.Close()
	text, err := passphrase.Read(f)
	if err != nil {
		return nil, fmt.Errorf("systemd: credential %s: %w", name, err)
	}
	h, err := passphrase.New(text)
	if err != nil {
		return nil, fmt.Errorf("systemd: credential %s: %w", name, err)
	}
	return h, nil
}

// unavailable marks what is missing or cannot be read.
func unavailable(err error) error {
	if errors.Is(err, ErrOpenToOthers) {
		return err
	}
	return fmt.Errorf("%w: %w", rootkey.ErrUnavailable, err)
}

func checkFolder(dir string) error {
	// Not Lstat: /run may be a link. What it leads to is checked.
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: %w", dir, fs.ErrInvalid)
	}
	return checkAccess(f, info)
}
