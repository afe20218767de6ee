// SPDX-License-Identifier: Apache-2.0

package rootkey

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/cretula/cretula/internal/durable"
)

// ErrFile: the file is not a root key file of a version that is known.
var ErrFile = errors.New("rootkey: not a root key file")

// A root key file is three lines, each ended by a line feed: this one, "id: "
// with the fingerprint, "key: " with the 32 bytes in standard base64.
const fileHeader = "cretula root key 1"

// maxFile is more than a root key file can have.
const maxFile = 256

// CreateFile makes a new random root key and keeps it in the file at path,
// mode 0600. The folder is made, mode 0700, if it is missing. The error
// matches [io/fs.ErrExist] if the file is there; it is never replaced. When
// CreateFile returns nil the file is durable.
func CreateFile(path string) (Key, error) {
	if err := durable.MkdirAll(filepath.Dir(path)); err != nil {
		return nil, err
	}
	secret := make([]byte, keySize)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	k, err := newSoftware(secret)
	if err != nil {
		return nil, err
	}
	if err := durable.CreateFile(path, encodeFile(k)); err != nil {
		return nil, err
	}
	return k, nil
}

// OpenFile reads the root key from the file at path. The error matches
// [durable.ErrNotPrivate] where file or folder are open to others, belong to
// another user, or the file is a symbolic link; [ErrFile] where its content is
// not what [CreateFile] wrote; [io/fs.ErrNotExist] where it is missing.
func OpenFile(path string) (Key, error) {
	text, err := readFile(path, maxFile)
	if err != nil {
		return nil, err
	}
	k, err := decodeFile(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

func encodeFile(k *software) []byte {
	return fmt.Appendf(nil, "%s\nid: %s\nkey: %s\n",
		fileHeader, k.ID(), base64.StdEncoding.EncodeToString(k.secret[:]))
}

// decodeFile accepts exactly what encodeFile writes. Its errors do not repeat
// what they found: it may be the secret.
func decodeFile(text []byte) (*software, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrFile, maxFile)
	}
	lines := strings.Split(string(text), "\n")
	if lines[0] != fileHeader {
		return nil, fmt.Errorf("%w: the first line is not %q", ErrFile, fileHeader)
	}
	if len(lines) != 4 || !strings.HasPrefix(lines[2], "key: ") {
		return nil, fmt.Errorf("%w: want three lines, the last with the key", ErrFile)
	}
	secret, err := base64.StdEncoding.Strict().DecodeString(strings.TrimPrefix(lines[2], "key: "))
	if err != nil || len(secret) != keySize {
		return nil, fmt.Errorf("%w: the key is not %d bytes in base64", ErrFile, keySize)
	}
	k, err := newSoftware(secret)
	if err != nil {
		return nil, err
	}
	if string(encodeFile(k)) != string(text) {
		return nil, fmt.Errorf("%w: key and id do not belong together", ErrFile)
	}
	return k, nil
}
