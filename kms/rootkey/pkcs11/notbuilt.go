// SPDX-License-Identifier: Apache-2.0

//go:build !pkcs11 || !cgo

package pkcs11

const built = false

func (h *Holder) createKey() error { return ErrNotBuilt }

func (h *Holder) seal([]byte) ([]byte, error) { return nil, ErrNotBuilt }

func (h *Holder) open(_, _ []byte) ([]byte, error) { return nil, ErrNotBuilt }
