// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
	"github.com/cretula/cretula/kms/rootkey"
)

// A grant token is the name of a grant's row, encrypted and bound to this purpose
// by the root key, in base64. Nobody can make one or learn anything of one, each is
// unique, and none is kept anywhere: it is worth something as long as its grant is
// there.

var grantTokenBinding = []byte("cretula.kms.grant-token")

func (s *Server) newGrantToken(keyRow, id string) (string, error) {
	wrapped, err := s.rootKey.Wrap([]byte(grantRowID(keyRow, id)), grantTokenBinding)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(wrapped), nil
}

func errGrantToken() *kmsapi.Error {
	return kmsapi.Errorf(kmsapi.InvalidGrantToken, "Invalid grant token.")
}

// openGrantToken returns the key and the id of the grant that a token is of, which
// need not be there any more.
func (s *Server) openGrantToken(token string) (name keyName, id string, err error) {
	wrapped, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || strings.ContainsAny(token, "\r\n") { // which the decoder passes over
		return name, "", errGrantToken()
	}
	row, err := s.rootKey.Unwrap(wrapped, grantTokenBinding)
	if errors.Is(err, rootkey.ErrUnwrap) || errors.Is(err, rootkey.ErrOtherKey) {
		return name, "", errGrantToken()
	}
	if err != nil {
		return name, "", err
	}
	part := strings.Split(string(row), "/")
	if len(part) != 4 {
		return name, "", errGrantToken()
	}
	return keyName{account: part[0], region: part[1], id: part[2]}, part[3], nil
}

// checkGrantTokens refuses tokens of no grant of the request's region. A token of
// a grant changes nothing: grants count from the moment of their making, for
// whoever they name, and one to somebody else or on another key is nothing to the
// decision.
func (c *call) checkGrantTokens() error {
	for _, token := range c.common.GrantTokens {
		name, id, err := c.server.openGrantToken(token)
		if err != nil {
			return err
		}
		if name.region != c.caller.Region {
			return errGrantToken()
		}
		err = c.server.ledger.ViewRecent(c.ctx, func(tx *ledger.Tx) error {
			_, _, err := tx.Get(tableGrant, grantRowID(keyRowID(name), id))
			return err
		})
		if errors.Is(err, keystore.ErrNotFound) {
			return errGrantToken()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
