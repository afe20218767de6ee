// SPDX-License-Identifier: Apache-2.0

// Package tpm seals a root key with the TPM 2.0 of the machine.
//
// The secret becomes a sealed data object below the storage root key: the
// primary key that the TPM makes from the seed of its owner hierarchy and the
// ECC P-256 template of the TCG. The seed never leaves the TPM, so the file
// opens on this machine only, and no more once the TPM has been cleared. The
// object can be bound to platform configuration registers (PCRs): then it opens
// only while they have the values they had when it was sealed. Before a change
// of firmware or kernel that changes them the key must be sealed otherwise
// ([rootkey.Rewrap]), with a passphrase for instance.
//
// It protects the file, its backups, and a disk that is taken out; with
// registers also from another system started on the same machine. It does not
// protect from who may send commands to this TPM while the registers match: no
// password is asked, so that a service starts alone. The secret crosses the bus
// encrypted, under a session key that only the storage root key of this TPM can
// know, so that who listens on the bus learns nothing; who sits on the bus and
// sends commands himself can have the object opened.
//
// Dictionary attack protection does not count for the object (noDA): there is
// no password to try, and the wrong tries of others must not stop the service.
//
// What is sealed has these bytes:
//
//	length  meaning
//	1       version, 1
//	32      SHA-256 name of the storage root key, without the algorithm
//	32      unique field of the sealed object's public area
//	1       number n of registers, 0 to 24
//	33·n    for each, ascending: index, value in the SHA-256 bank
//	1…512   private area of the object, encrypted by the TPM
//
// The rest of the object's public area follows from these. The references are to
// the TPM 2.0 Library specification, revision 1.59.
package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

var (
	// ErrOtherTPM: sealed by another TPM, or by this one before it was cleared.
	ErrOtherTPM = fmt.Errorf("%w: tpm: not by the storage root key of this TPM", rootkey.ErrNotOpened)
	// ErrPCR: registers have other values than when it was sealed.
	ErrPCR = fmt.Errorf("%w: tpm: the registers have changed", rootkey.ErrNotOpened)
	// ErrOwnerAuth: the owner hierarchy has a password, which is not supported.
	ErrOwnerAuth = fmt.Errorf("%w: tpm: the owner hierarchy has a password", rootkey.ErrUnavailable)
	// ErrLockout: the TPM lets nobody in because of others' wrong passwords.
	ErrLockout = fmt.Errorf("%w: tpm: locked out after wrong passwords", rootkey.ErrUnavailable)
	// ErrNotAuthentic: an answer was changed on its way from the TPM.
	ErrNotAuthentic = fmt.Errorf("%w: tpm: an answer is not the TPM's", rootkey.ErrUnavailable)
)

// Registers is the number of platform configuration registers, whose indexes
// begin with 0 (PC Client Platform TPM Profile §4.6).
const Registers = 24

// A Config says which TPM, and what to bind to.
type Config struct {
	// Device is the absolute path of the TPM's device, /dev/tpmrm0 (that of
	// the kernel's resource manager), or of the Unix socket of an emulator, or
	// that emulator's TCP address on the loopback interface.
	Device string
	// PCRs are the registers of the SHA-256 bank whose values Seal binds to.
	// Open goes by what was sealed. Any program can reset 16 and 23, so they
	// add nothing (PC Client Platform TPM Profile §4.6).
	PCRs []int
}

// A Holder seals with one TPM. It implements [rootkey.Holder]. In one process
// one operation runs at a time, and the device is open only during it.
type Holder struct {
	device string
	pcrs   []int
}

var _ rootkey.Holder = (*Holder)(nil)

// patience is how long one operation may take: the slowest TPMs need seconds.
const patience = time.Minute

// turn holds a token while the TPM is used: an emulator serves one connection.
var turn = make(chan struct{}, 1)

// New returns a holder. The TPM is asked for nothing yet.
func New(c Config) (*Holder, error) {
	pcrs := slices.Clone(c.PCRs)
	slices.Sort(pcrs)
	for i, index := range pcrs {
		if index < 0 || index >= Registers || i > 0 && index == pcrs[i-1] {
			return nil, fmt.Errorf("tpm: registers %v: must be different ones from 0 to %d", c.PCRs, Registers-1)
		}
	}
	if err := checkAddress(c.Device); err != nil {
		return nil, err
	}
	return &Holder{device: c.Device, pcrs: pcrs}, nil
}

// Kind implements [rootkey.Holder]: "tpm2".
func (h *Holder) Kind() string { return "tpm2" }

// Seal implements [rootkey.Holder].
func (h *Holder) Seal(ctx context.Context, secret []byte) (sealed []byte, err error) {
	if len(secret) != rootkey.SecretSize {
		return nil, fmt.Errorf("tpm: secret of %d bytes, want %d", len(secret), rootkey.SecretSize)
	}
	err = h.withRoot(ctx, func(r *root) error {
		o := object{root: [32]byte(r.digest())}
		if o.registers, err = r.readRegisters(h.pcrs); err != nil {
			return err
		}
		if err := r.create(&o, secret); err != nil {
			return err
		}
		sealed = o.encode()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sealed, nil
}

// Open implements [rootkey.Holder]. The error can also match [ErrOtherTPM],
// [ErrPCR], [ErrOwnerAuth], [ErrLockout] or [ErrNotAuthentic].
func (h *Holder) Open(ctx context.Context, sealed []byte) (secret []byte, err error) {
	o, err := decode(sealed)
	if err != nil {
		return nil, err
	}
	err = h.withRoot(ctx, func(r *root) error {
		if !bytes.Equal(o.root[:], r.digest()) {
			return ErrOtherTPM
		}
		if err := r.checkRegisters(o.registers); err != nil {
			return err
		}
		secret, err = r.open(o)
		return err
	})
	if err != nil {
		clear(secret)
		return nil, err
	}
	return secret, nil
}

// A root is the storage root key, loaded while one operation runs.
type root struct {
	tpm    transport.TPM
	handle tpm2.TPMHandle
	public tpm2.TPMTPublic
	name   tpm2.TPM2BName
}

// withRoot connects, has the TPM make its storage root key, and runs use.
func (h *Holder) withRoot(ctx context.Context, use func(*root) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c, err := connect(ctx, h.device)
	if err != nil {
		return unavailable(ctx, err)
	}
	defer c.Close()
	return unavailable(ctx, withRoot(c, use))
}

func withRoot(tpm transport.TPM, use func(*root) error) (err error) {
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		InSensitive:   tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{}},
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(tpm)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return ErrOwnerAuth
	}
	if err != nil {
		return fmt.Errorf("making the storage root key: %w", err)
	}
	defer flush(tpm, made.ObjectHandle, &err)
	public, err := made.OutPublic.Contents()
	if err != nil {
		return err
	}
	// The name that the TPM gives is not asked: this is what it must be of.
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return err
	}
	if len(name.Buffer) != nameSize {
		return fmt.Errorf("tpm: name of %d bytes", len(name.Buffer))
	}
	return use(&root{tpm: tpm, handle: made.ObjectHandle, public: *public, name: *name})
}

// nameSize is the length of a name: the algorithm and a SHA-256 digest.
const nameSize = 2 + sha256.Size

func (r *root) digest() []byte { return r.name.Buffer[2:] }

// flush unloads an object or session; without a resource manager it would stay.
func flush(tpm transport.TPM, handle tpm2.TPMHandle, err *error) {
	if _, flushErr := (tpm2.FlushContext{FlushHandle: handle}).Execute(tpm); *err == nil && flushErr != nil {
		*err = fmt.Errorf("unloading: %w", flushErr)
	}
}

// session runs use with a session whose key only this storage root key can
// know (Part 1 §19.6.13, salted), so that its answers are authentic.
func (r *root) session(use func(tpm2.Session) error, options ...tpm2.AuthOption) (err error) {
	options = append(options, tpm2.Salted(r.handle, r.public))
	s, _, err := tpm2.HMACSession(r.tpm, tpm2.TPMAlgSHA256, nonceSize, options...)
	if err != nil {
		return fmt.Errorf("beginning a session: %w", err)
	}
	defer flush(r.tpm, s.Handle(), &err)
	return use(s)
}

// Sizes of sessions. AES-128 is what every TPM has (PC Client profile §4.5).
const (
	nonceSize = 32
	aesBits   = 128
)

// create seals secret below r and completes o.
func (r *root) create(o *object, secret []byte) error {
	template, err := o.public()
	if err != nil {
		return err
	}
	return r.session(func(s tpm2.Session) error {
		made, err := tpm2.Create{
			ParentHandle: tpm2.AuthHandle{Handle: r.handle, Name: r.name, Auth: s},
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
			}},
			InPublic: tpm2.New2B(template),
		}.Execute(r.tpm)
		if err != nil {
			return fmt.Errorf("sealing: %w", err)
		}
		public, err := made.OutPublic.Contents()
		if err != nil {
			return err
		}
		unique, err := public.Unique.KeyedHash()
		if err != nil || len(unique.Buffer) != len(o.unique) || len(made.OutPrivate.Buffer) > maxPrivate {
			return fmt.Errorf("tpm: the sealed object has another form (%w)", err)
		}
		o.unique, o.private = [32]byte(unique.Buffer), made.OutPrivate.Buffer
		if template, err = o.public(); err != nil {
			return err
		}
		if !bytes.Equal(tpm2.Marshal(template), tpm2.Marshal(public)) {
			return fmt.Errorf("tpm: the TPM sealed with another public area than it was given")
		}
		return nil
	}, tpm2.AESEncryption(aesBits, tpm2.EncryptIn))
}

// open loads the object and has the TPM open it.
func (r *root) open(o object) (secret []byte, err error) {
	public, err := o.public()
	if err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(&public)
	if err != nil {
		return nil, err
	}
	var handle tpm2.TPMHandle
	err = r.session(func(s tpm2.Session) error {
		loaded, err := tpm2.Load{
			ParentHandle: tpm2.AuthHandle{Handle: r.handle, Name: r.name, Auth: s},
			InPrivate:    tpm2.TPM2BPrivate{Buffer: o.private},
			InPublic:     tpm2.New2B(public),
		}.Execute(r.tpm)
		if err == nil {
			handle = loaded.ObjectHandle
		}
		return err
	})
	// A parameter that it does not take: the object is not one it made.
	var code tpm2.TPMFmt1Error
	if errors.As(err, &code) {
		if about, _ := code.Parameter(); about {
			return nil, fmt.Errorf("%w: tpm: %v", rootkey.ErrNotOpened, code)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("loading: %w", err)
	}
	defer flush(r.tpm, handle, &err)
	return r.unseal(handle, *name, o.registers)
}

// unseal has the TPM open a loaded object, encrypted for the way.
func (r *root) unseal(handle tpm2.TPMHandle, name tpm2.TPM2BName, registers []register) (secret []byte, err error) {
	run := func(s tpm2.Session) error {
		item := tpm2.AuthHandle{Handle: handle, Name: name, Auth: s}
		opened, err := tpm2.Unseal{ItemHandle: item}.Execute(r.tpm)
		if err == nil {
			secret = opened.OutData.Buffer
		}
		return err
	}
	encrypt := tpm2.AESEncryption(aesBits, tpm2.EncryptOut)
	if len(registers) == 0 {
		err = r.session(run, encrypt)
	} else {
		err = r.policySession(registers, run, encrypt)
	}
	if errors.Is(err, tpm2.TPMRCPolicyFail) || errors.Is(err, tpm2.TPMRCPCRChanged) {
		return nil, ErrPCR
	}
	if err != nil {
		return nil, fmt.Errorf("opening: %w", err)
	}
	return secret, nil
}

// policySession is session for an object that is bound to registers.
func (r *root) policySession(registers []register, use func(tpm2.Session) error, options ...tpm2.AuthOption) (err error) {
	options = append(options, tpm2.Salted(r.handle, r.public))
	s, _, err := tpm2.PolicySession(r.tpm, tpm2.TPMAlgSHA256, nonceSize, options...)
	if err != nil {
		return fmt.Errorf("beginning a session: %w", err)
	}
	defer flush(r.tpm, s.Handle(), &err)
	_, err = tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: selection(indexes(registers))}.Execute(r.tpm)
	if err != nil {
		return fmt.Errorf("binding to registers: %w", err)
	}
	return use(s)
}

// unavailable gives errors that are not about what was sealed their class.
func unavailable(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, rootkey.ErrNotOpened) || errors.Is(err, rootkey.ErrUnavailable) {
		return err
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return fmt.Errorf("%w: tpm: %w", rootkey.ErrUnavailable, ctxErr)
	}
	switch {
	case errors.Is(err, tpm2.TPMRCLockout):
		return ErrLockout
	case strings.Contains(err.Error(), "authorization HMAC"):
		return ErrNotAuthentic
	}
	return fmt.Errorf("%w: tpm: %w", rootkey.ErrUnavailable, err)
}
