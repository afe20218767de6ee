// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"errors"

	"github.com/cretula/cretula/internal/rootkeys"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/rootkey"
)

// OpenRootKey opens the root key alone, also while the service runs.
func (c Config) OpenRootKey(ctx context.Context) (rootkey.Key, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	root, err := rootkeys.Open(ctx, c.RootKey)
	return root, explain(err, &c)
}

// AuditHeads reads from the store the newest heads of all audit logs about it. A store
// in a file must not be in use: the error matches [keystore.ErrInUse] then.
func (c Config) AuditHeads(ctx context.Context, root rootkey.Key) (heads [][]byte, err error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	store, err := c.openStore(ctx, false)
	if err != nil {
		return nil, explain(err, &c)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	l, err := c.openLedger(ctx, store, root, nil)
	if err != nil {
		return nil, explain(err, &c)
	}
	return kms.AuditHeads(l).Heads(ctx)
}
