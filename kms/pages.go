// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/kms/ledger"
)

// A marker is the name of the last entry of a page in base64.
func writeMarker(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

// marker returns the entry after which the page of the request begins.
func (c *call) marker() (string, error) {
	if c.common.Marker == nil {
		return "", nil
	}
	last, err := base64.RawURLEncoding.Strict().DecodeString(*c.common.Marker)
	if err != nil || len(last) == 0 || len(last) > keystore.MaxID {
		return "", kmsapi.Errorf(kmsapi.InvalidMarker, "Invalid marker.")
	}
	return string(last), nil
}

// limit returns how many entries a page has.
func (c *call) limit(otherwise int) int { return int(valueOr(c.common.Limit, int32(otherwise))) }

// limitTo bounds the limit of the request where the API reference has a smaller one
// than the model, which takes 1000. A page may always have less than was asked for.
func (c *call) limitTo(most int32) {
	if c.common.Limit != nil && *c.common.Limit > most {
		c.common.Limit = &most
	}
}

// scan lists the rows of a table whose ids begin with prefix, as the page that the
// request asks for. add gets the id without the prefix and the content and tells
// whether the row is an entry of the list. next is the marker of the next page,
// empty if there is none. A row that was tampered with is left out and named in
// the event: it is refused wherever it is used.
func (c *call) scan(table, prefix string, limit int, add func(id string, content []byte) (bool, error)) (next string, err error) {
	after, err := c.marker()
	if err != nil {
		return "", err
	}
	limit = c.limit(limit)
	var rowErr error
	count, last := 0, ""
	err = c.server.ledger.View(c.ctx, func(tx *ledger.Tx) error {
		return tx.Scan(table, prefix, func(row ledger.Row) bool {
			id := strings.TrimPrefix(row.ID, prefix)
			switch {
			case id <= after:
				return true
			case IsTampered(row.Err):
				c.event.Cause = clip(row.Err.Error())
				return true
			case row.Err != nil:
				rowErr = row.Err
				return false
			}
			if count == limit {
				next = writeMarker(last)
				return false
			}
			var added bool
			if added, rowErr = add(id, row.Content); added {
				count, last = count+1, id
			}
			return rowErr == nil
		})
	})
	return next, errors.Join(rowErr, err)
}

// page cuts a page out of names in ascending order: those of the request's marker
// and limit. next is the marker of the next page, empty if there is none.
func (c *call) page(names []string, limit int) (page []string, next string, err error) {
	after, err := c.marker()
	if err != nil {
		return nil, "", err
	}
	for len(names) > 0 && names[0] <= after {
		names = names[1:]
	}
	if limit = c.limit(limit); len(names) > limit {
		return names[:limit], writeMarker(names[limit-1]), nil
	}
	return names, "", nil
}
