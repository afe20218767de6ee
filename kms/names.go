// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/hex"
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
		isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// randomHex returns so many random bytes in hex, behind a prefix.
func randomHex(random io.Reader, prefix string, size int) (string, error) {
	memory := make([]byte, size+len(prefix)+2*size)
	b, text := memory[:size], memory[size:]
	if _, err := io.ReadFull(random, b); err != nil {
		return "", err
	}
	hex.Encode(text[copy(text, prefix):], b)
	return string(text), nil
}

func keyARN(region, account, id string) string {
	return "arn:aws:kms:" + region + ":" + account + ":key/" + id
}

// isMultiRegionID tells whether a key id is that of a multi-region key.
func isMultiRegionID(id string) bool { return strings.HasPrefix(id, "mrk-") }

// A keyName is a KeyId as a request gives it, taken apart. alias, "alias/…", is
// set if it names an alias; id is empty then until the alias is followed.
type keyName struct{ account, region, id, alias string }

func (n keyName) aliasARN() string {
	return "arn:aws:kms:" + n.region + ":" + n.account + ":" + n.alias
}

// parseKeyName reads a KeyId: a key id or alias of the caller's account and
// region, or the ARN of a key or alias of that region. Names of another form are
// answered as AWS does, with NotFoundException.
func parseKeyName(c *Caller, s string) (keyName, *kmsapi.Error) {
	rest, isARN := strings.CutPrefix(s, "arn:")
	if !isARN {
		return parseResource(s, keyName{account: c.Principal.Account, region: c.Region}, s)
	}
	part := strings.SplitN(rest, ":", 5)
	if len(part) != 5 || part[0] != "aws" || part[1] != "kms" || !isAccount(part[3]) {
		return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Invalid arn %s", s)
	}
	if part[2] != c.Region {
		return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Invalid arn %s", part[2])
	}
	resource, isKey := strings.CutPrefix(part[4], "key/")
	if !isKey && !strings.HasPrefix(part[4], aliasPrefix) {
		return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Invalid keyId '%s'", s)
	}
	return parseResource(resource, keyName{account: part[3], region: c.Region}, s)
}

// aliasPrefix begins the name of each alias.
const aliasPrefix = "alias/"

// parseResource puts the last part of a KeyId, a key id or the name of an alias,
// into a name.
func parseResource(s string, name keyName, whole string) (keyName, *kmsapi.Error) {
	switch {
	case strings.HasPrefix(s, aliasPrefix):
		name.alias = s
		if !isAliasName(s) {
			return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Alias %s is not found.", name.aliasARN())
		}
	case isKeyID(s):
		name.id = s
	default:
		return keyName{}, kmsapi.Errorf(kmsapi.NotFound, "Invalid keyId '%s'", whole)
	}
	return name, nil
}

// isAliasName follows the model's AliasNameType: "alias/" and 1 to 250 characters
// of A-Z, a-z, 0-9 and :/_-.
func isAliasName(s string) bool {
	rest, ok := strings.CutPrefix(s, aliasPrefix)
	if !ok || rest == "" || len(s) > 256 {
		return false
	}
	for _, c := range rest {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune(":/_-", c) {
			return false
		}
	}
	return true
}
