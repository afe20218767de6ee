// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/cretula/cretula/kms/kmsapi"
)

// isAccount tells whether s is an account id: twelve digits.
func isAccount(s string) bool {
	return len(s) == accountSize && strings.Trim(s, "0123456789") == ""
}

// isKeyID tells whether s has the form of a key id: a UUID in lower case, or
// "mrk-" and 32 hexadecimal digits.
func isKeyID(s string) bool {
	if rest, ok := strings.CutPrefix(s, "mrk-"); ok {
		return len(rest) == 32 && isHex(rest)
	}
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		isHex(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

// newUUID makes a random UUID (RFC 9562 §5.4).
func newUUID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", err
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

func randomHex(random io.Reader, size int) (string, error) {
	b := make([]byte, size)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

func keyARN(region, account, id string) string {
	return "arn:aws:kms:" + region + ":" + account + ":key/" + id
}

// A keyName is a KeyId as a request gives it, taken apart.
type keyName struct{ account, region, id string }

// parseKeyName reads a KeyId: a key id of the caller's account and region, or a
// key ARN of that region. Names of another form, aliases among them, are answered
// as AWS does, with NotFoundException.
func parseKeyName(c *Caller, s string) (keyName, *kmsapi.Error) {
	rest, isARN := strings.CutPrefix(s, "arn:")
	if !isARN {
		switch {
		case strings.HasPrefix(s, "alias/"):
			return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Alias arn:aws:kms:%s:%s:%s is not found.", c.Region, c.Principal.Account, s)
		case !isKeyID(s):
			return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Invalid keyId '%s'", s)
		}
		return keyName{c.Principal.Account, c.Region, s}, nil
	}
	part := strings.SplitN(rest, ":", 5)
	if len(part) != 5 || part[0] != "aws" || part[1] != "kms" || !isAccount(part[3]) {
		return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Invalid arn %s", s)
	}
	if part[2] != c.Region {
		return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Invalid arn %s", part[2])
	}
	id, isKey := strings.CutPrefix(part[4], "key/")
	switch {
	case strings.HasPrefix(part[4], "alias/"):
		return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Alias %s is not found.", s)
	case !isKey || !isKeyID(id):
		return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Invalid keyId '%s'", s)
	}
	return keyName{part[3], c.Region, id}, nil
}
