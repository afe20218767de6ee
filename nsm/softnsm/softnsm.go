// SPDX-License-Identifier: Apache-2.0

// Package softnsm is a Nitro Security Module in software: an [nsm.Device] with
// the registers, lock rules and error codes of the hardware's, and attestation
// documents of the same shape under a root of one's own.
//
// It is an emulation. What it attests is what it was configured with, and whoever
// can read its memory has its keys. Its documents verify only where the
// authority's root is given by hand, and package attestation then calls them
// emulated.
package softnsm

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/nsm"
	"github.com/cretula/cretula/pcr"
)

// BootPCRs is the number of registers that are locked when an enclave starts.
const BootPCRs = 16

// Config is what a module is made of. Only Authority is required.
type Config struct {
	// Authority issues the documents.
	Authority *issuer.Authority
	// ModuleID is the module's name, as of [issuer.NewModuleID]. Empty: one of
	// an instance id made up.
	ModuleID string
	// PCRs are the values at boot of registers 0 to 15; those absent are zero.
	// Registers above may not be given: they start as zero.
	PCRs pcr.Set
	// Debug makes the module that of an enclave in debug mode: registers 0, 1,
	// 2 and 8 are zero whatever PCRs says, the others are not. Genuine documents
	// of debug enclaves carry the parent's registers 3 and 4.
	Debug bool
	// IndefiniteMap writes the payload of documents as a map of indefinite
	// length, the form of genuine documents since 2025-06, else of definite
	// length, as before.
	IndefiniteMap bool
	// Now is the clock of documents. Nil: time.Now.
	Now func() time.Time
	// Rand is the source of GetRandom and of a made-up ModuleID. Nil:
	// crypto/rand. Only one goroutine reads it at a time.
	Rand io.Reader
}

// A Module is a running module. It is safe for concurrent use.
type Module struct {
	authority  *issuer.Authority
	id         string
	indefinite bool
	now        func() time.Time

	randMu sync.Mutex
	rand   io.Reader

	mu     sync.Mutex
	values [pcr.Count]pcr.Digest
	locked [pcr.Count]bool
	closed bool
}

// New starts a module: registers 0 to 15 hold their boot values and are locked.
func New(config Config) (*Module, error) {
	if config.Authority == nil {
		return nil, errors.New("softnsm: no authority to issue documents")
	}
	m := &Module{
		authority:  config.Authority,
		id:         config.ModuleID,
		indefinite: config.IndefiniteMap,
		now:        config.Now,
		rand:       config.Rand,
	}
	if m.now == nil {
		m.now = time.Now
	}
	if m.rand == nil {
		m.rand = rand.Reader
	}
	for i, d := range config.PCRs.All() {
		if i >= BootPCRs {
			return nil, fmt.Errorf("softnsm: %v has no value at boot: it is not one of PCR0 to PCR%d", i, BootPCRs-1)
		}
		m.values[i] = d
	}
	if config.Debug {
		for _, i := range []pcr.Index{0, 1, 2, 8} {
			m.values[i] = pcr.Digest{}
		}
	}
	for i := range BootPCRs {
		m.locked[i] = true
	}
	if m.id == "" {
		id, err := m.makeID()
		if err != nil {
			return nil, err
		}
		m.id = id
	}
	// What the authority would refuse later it shall refuse now.
	if _, err := m.attest(nsm.AttestationRequest{}); err != nil {
		return nil, fmt.Errorf("softnsm: %w", err)
	}
	return m, nil
}

// makeID names the module after an instance that does not exist.
func (m *Module) makeID() (string, error) {
	var b [11]byte
	if _, err := io.ReadFull(m.rand, b[:]); err != nil {
		return "", fmt.Errorf("softnsm: randomness: %w", err)
	}
	return issuer.NewModuleID("i-"+hex.EncodeToString(b[:9])[:17], m.now(), bytes.NewReader(b[9:])), nil
}

// ModuleID returns the module's name.
func (m *Module) ModuleID() string { return m.id }

// PCRs returns the registers that a document would carry now: the locked ones.
func (m *Module) PCRs() pcr.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	var set pcr.Set
	for i := range pcr.Index(pcr.Count) {
		if m.locked[i] {
			set.Put(i, m.values[i])
		}
	}
	return set
}

// Send implements [nsm.Device].
func (m *Module) Send(ctx context.Context, request []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	closed := m.closed
	m.mu.Unlock()
	if closed {
		return nil, os.ErrClosed
	}
	response, err := m.handle(request)
	if err != nil {
		code, ok := errors.AsType[nsm.ErrorCode](err)
		if !ok {
			code = nsm.InternalError
		}
		return nsm.Response{Error: code}.Encode(), nil
	}
	return response.Encode(), nil
}

// Close implements [nsm.Device]. The authority stays as it is.
func (m *Module) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return os.ErrClosed
	}
	m.closed = true
	return nil
}

func (m *Module) handle(data []byte) (nsm.Response, error) {
	r, err := nsm.ParseRequest(data)
	if err != nil {
		return nsm.Response{}, err
	}
	switch r.Command {
	case nsm.Attestation:
		return m.attest(r.AttestationRequest)
	case nsm.GetRandom:
		return m.random()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	response := nsm.Response{Command: r.Command}
	switch r.Command {
	case nsm.DescribePCR:
		response.PCR, err = m.describe(r.Index)
	case nsm.ExtendPCR:
		response.PCR, err = m.extend(r.Index, r.Data)
	case nsm.LockPCR:
		err = m.lock(r.Index)
	case nsm.LockPCRs:
		err = m.lockBelow(r.Range)
	case nsm.DescribeNSM:
		response.Description = m.description()
	default:
		err = nsm.InvalidOperation
	}
	return response, err
}

func (m *Module) describe(index uint16) (nsm.PCRState, error) {
	if index >= pcr.Count {
		return nsm.PCRState{}, nsm.InvalidIndex
	}
	return nsm.PCRState{Locked: m.locked[index], Value: m.values[index]}, nil
}

func (m *Module) extend(index uint16, data []byte) (nsm.PCRState, error) {
	if err := m.lockable(index); err != nil {
		return nsm.PCRState{}, err
	}
	m.values[index] = m.values[index].Extend(data)
	return nsm.PCRState{Value: m.values[index]}, nil
}

func (m *Module) lock(index uint16) error {
	if err := m.lockable(index); err != nil {
		return err
	}
	m.locked[index] = true
	return nil
}

// lockable refuses registers that do not exist or are locked.
func (m *Module) lockable(index uint16) error {
	if index >= pcr.Count {
		return nsm.InvalidIndex
	}
	if m.locked[index] {
		return nsm.ReadOnlyIndex
	}
	return nil
}

// lockBelow does not mind registers that are locked already.
func (m *Module) lockBelow(n uint16) error {
	if n > pcr.Count {
		return nsm.InvalidIndex
	}
	for i := range n {
		m.locked[i] = true
	}
	return nil
}

func (m *Module) description() nsm.Description {
	d := nsm.Description{VersionMajor: 1, ModuleID: m.id, MaxPCRs: pcr.Count, Digest: "SHA384"}
	for i := range pcr.Index(pcr.Count) {
		if m.locked[i] {
			d.LockedPCRs = append(d.LockedPCRs, i)
		}
	}
	return d
}

func (m *Module) random() (nsm.Response, error) {
	r := nsm.Response{Command: nsm.GetRandom, Random: make([]byte, nsm.RandomSize)}
	m.randMu.Lock()
	defer m.randMu.Unlock()
	if _, err := io.ReadFull(m.rand, r.Random); err != nil {
		return nsm.Response{}, err
	}
	return r, nil
}

// attest holds no lock while the document is signed.
func (m *Module) attest(r nsm.AttestationRequest) (nsm.Response, error) {
	document, err := m.authority.Issue(issuer.Content{
		Kind:          attestation.KindEnclave,
		ModuleID:      m.id,
		PCRs:          m.PCRs(),
		PublicKey:     r.PublicKey,
		UserData:      r.UserData,
		Nonce:         r.Nonce,
		Time:          m.now(),
		IndefiniteMap: m.indefinite,
	})
	if err != nil {
		return nsm.Response{}, err
	}
	return nsm.Response{Command: nsm.Attestation, Document: document}, nil
}
