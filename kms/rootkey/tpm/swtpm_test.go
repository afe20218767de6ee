// SPDX-License-Identifier: Apache-2.0

//go:build unix

package tpm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/kms/rootkey/rootkeytest"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

func holder(t testing.TB, device string, pcrs ...int) *Holder {
	t.Helper()
	h, err := New(Config{Device: device, PCRs: pcrs})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// using runs commands of a test on the TPM.
func using(t testing.TB, device string, use func(transport.TPM) error) {
	t.Helper()
	c, err := connect(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := use(c); err != nil {
		t.Fatal(err)
	}
}

func extend(t testing.TB, device string, index int) {
	t.Helper()
	using(t, device, func(tpm transport.TPM) error {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(index), Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
				{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, sha256.Size)},
			}},
		}.Execute(tpm)
		return err
	})
}

var secret = []byte("0123456789abcdefghijklmnopqrstuv")

func seal(t testing.TB, h *Holder) []byte {
	t.Helper()
	sealed, err := h.Seal(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func opens(t testing.TB, h *Holder, sealed []byte) {
	t.Helper()
	if got, err := h.Open(t.Context(), sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("Open: %d bytes, %v", len(got), err)
	}
}

func refuses(t testing.TB, h *Holder, sealed []byte, want ...error) {
	t.Helper()
	got, err := h.Open(t.Context(), sealed)
	for _, w := range want {
		if !errors.Is(err, w) || got != nil {
			t.Errorf("Open: %d bytes, %v, want %v", len(got), err, w)
		}
	}
}

func TestHolder(t *testing.T) {
	one, two := rootkeytest.StartTPM(t), rootkeytest.StartTPM(t)
	for _, pcrs := range [][]int{nil, {7}, {0, 1, 2, 3, 4, 5, 7, 11, 14, 23}} {
		t.Run(fmt.Sprint(pcrs), func(t *testing.T) {
			rootkeytest.Run(t, rootkeytest.Case{Kind: "tpm2", New: func(t testing.TB) (h, other rootkey.Holder) {
				return holder(t, one.Socket, pcrs...), holder(t, two.Socket, pcrs...)
			}})
		})
	}
}

// TestMachine is what happens to a machine: it starts again, its registers
// change, its TPM is exchanged, is cleared, is gone.
func TestMachine(t *testing.T) {
	device, other := rootkeytest.StartTPM(t), rootkeytest.StartTPM(t)
	bound, free := holder(t, device.Socket, 7, 11), holder(t, device.Socket)
	withRegisters, without := seal(t, bound), seal(t, free)

	extend(t, device.Socket, 8)
	opens(t, bound, withRegisters)
	extend(t, device.Socket, 11)
	refuses(t, bound, withRegisters, ErrPCR, rootkey.ErrNotOpened)
	refuses(t, free, withRegisters, ErrPCR) // what was sealed counts
	if _, err := bound.Open(t.Context(), withRegisters); err == nil || !strings.HasSuffix(err.Error(), "changed: [11]") {
		t.Errorf("the error does not name register 11: %v", err)
	}
	opens(t, free, without)
	opens(t, bound, without)
	again := seal(t, bound)
	opens(t, bound, again)

	device.Stop()
	refuses(t, free, without, rootkey.ErrUnavailable)
	device.Start(t)
	opens(t, bound, withRegisters)
	opens(t, free, without)
	refuses(t, bound, again, ErrPCR)

	refuses(t, holder(t, other.Socket), without, ErrOtherTPM, rootkey.ErrNotOpened)
	refuses(t, holder(t, other.Socket), withRegisters, ErrOtherTPM)

	using(t, device.Socket, func(tpm transport.TPM) error {
		_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(tpm)
		return err
	})
	refuses(t, free, without, ErrOtherTPM)
	refuses(t, bound, withRegisters, ErrOtherTPM)
	opens(t, free, seal(t, free))
}

// TestPolicy has the TPM itself refuse, without the comparison before it, and
// compute the policy.
func TestPolicy(t *testing.T) {
	device := rootkeytest.StartTPM(t)
	extend(t, device.Socket, 7)
	sealed := seal(t, holder(t, device.Socket, 7, 11))
	o, err := decode(sealed)
	if err != nil {
		t.Fatal(err)
	}
	want, err := policyOf(o.registers)
	if err != nil {
		t.Fatal(err)
	}
	using(t, device.Socket, func(tpm transport.TPM) error {
		s, end, err := tpm2.PolicySession(tpm, tpm2.TPMAlgSHA256, 16, tpm2.Trial())
		if err != nil {
			return err
		}
		defer end()
		if _, err := (tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: selection([]int{7, 11})}).Execute(tpm); err != nil {
			return err
		}
		got, err := tpm2.PolicyGetDigest{PolicySession: s.Handle()}.Execute(tpm)
		if err == nil && !bytes.Equal(got.PolicyDigest.Buffer, want) {
			t.Errorf("policy %x, the TPM has %x", want, got.PolicyDigest.Buffer)
		}
		return err
	})
	open := func() (got []byte, err error) {
		using(t, device.Socket, func(tpm transport.TPM) error {
			err = withRoot(tpm, func(r *root) error {
				got, err = r.open(o)
				return err
			})
			return nil
		})
		return got, err
	}
	if got, err := open(); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("before: %v", err)
	}
	extend(t, device.Socket, 11)
	if got, err := open(); !errors.Is(err, ErrPCR) || got != nil {
		t.Errorf("with another register 11: %v, want ErrPCR", err)
	}
	// The object without the policy that it was made with.
	o.registers = nil
	if got, err := open(); !errors.Is(err, rootkey.ErrNotOpened) || got != nil {
		t.Errorf("without its policy: %v, want ErrNotOpened", err)
	}
}

// TestLockout locks the TPM with wrong passwords of somebody else's object.
func TestLockout(t *testing.T) {
	device := rootkeytest.StartTPM(t)
	h := holder(t, device.Socket)
	sealed := seal(t, h)
	using(t, device.Socket, func(tpm transport.TPM) error {
		// TPM2_DictionaryAttackParameters with the empty password of the lockout
		// hierarchy: one try, 1000 s of recovery (Part 3 §25.3).
		set, err := tpm.Send([]byte("\x80\x02\x00\x00\x00\x27\x00\x00\x01\x3a\x40\x00\x00\x0a" +
			"\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00" +
			"\x00\x00\x00\x01\x00\x00\x03\xe8\x00\x00\x03\xe8"))
		if err != nil || !bytes.Equal(set[6:10], make([]byte, 4)) {
			return fmt.Errorf("%x, %w", set, err)
		}
		made, err := tpm2.CreatePrimary{
			PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				UserAuth: tpm2.TPM2BAuth{Buffer: []byte("right")},
				Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: []byte("x")}),
			}},
			InPublic: tpm2.New2B(tpm2.TPMTPublic{
				Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
				ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: true},
			}),
		}.Execute(tpm)
		if err != nil {
			return err
		}
		for range 3 {
			_, err = tpm2.Unseal{ItemHandle: tpm2.AuthHandle{
				Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth([]byte("wrong")),
			}}.Execute(tpm)
		}
		if !errors.Is(err, tpm2.TPMRCLockout) || !errors.Is(unavailable(t.Context(), err), ErrLockout) {
			t.Errorf("the TPM is not locked: %v", err)
		}
		_, err = tpm2.FlushContext{FlushHandle: made.ObjectHandle}.Execute(tpm)
		return err
	})
	opens(t, h, sealed)
	opens(t, h, seal(t, h))
}

func TestOwnerAuth(t *testing.T) {
	device := rootkeytest.StartTPM(t)
	h := holder(t, device.Socket)
	sealed := seal(t, h)
	using(t, device.Socket, func(tpm transport.TPM) error {
		_, err := tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NewAuth:    tpm2.TPM2BAuth{Buffer: []byte("owner")},
		}.Execute(tpm)
		return err
	})
	refuses(t, h, sealed, ErrOwnerAuth, rootkey.ErrUnavailable)
	if got, err := h.Seal(t.Context(), secret); !errors.Is(err, ErrOwnerAuth) || got != nil {
		t.Errorf("Seal: %v", err)
	}
}

// TestNothingLeft makes sure that the TPM has room for the next one: it keeps
// three objects and three sessions.
func TestNothingLeft(t *testing.T) {
	device := rootkeytest.StartTPM(t)
	h := holder(t, device.Socket, 7)
	sealed := seal(t, h)
	bad := bytes.Clone(sealed)
	bad[len(bad)-1] ^= 1
	for range 4 {
		opens(t, h, sealed)
		refuses(t, h, bad, rootkey.ErrNotOpened)
	}
	extend(t, device.Socket, 7)
	for range 4 {
		refuses(t, h, sealed, ErrPCR)
	}
	using(t, device.Socket, func(tpm transport.TPM) error {
		for _, first := range []uint32{uint32(tpm2.TPMHTTransient) << 24, uint32(tpm2.TPMHTLoadedSession) << 24} {
			got, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 10}.Execute(tpm)
			if err != nil {
				return err
			}
			handles, err := got.CapabilityData.Data.Handles()
			if err != nil || len(handles.Handle) > 0 {
				t.Errorf("left in the TPM: %v, %v", handles, err)
			}
		}
		return nil
	})
}

// A bus stands between the holder and the TPM, hears everything and can change
// answers.
type bus struct {
	path string

	mu     sync.Mutex
	heard  bytes.Buffer
	change func(command, response []byte)
}

func newBus(t testing.TB, device string) *bus {
	t.Helper()
	b := &bus{path: filepath.Join(filepath.Dir(device), "bus"+filepath.Base(t.Name()))}
	l, err := net.Listen("unix", b.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.serve(t, c, device)
		}
	}()
	return b
}

func (b *bus) serve(t testing.TB, client net.Conn, device string) {
	defer client.Close()
	tpm, err := connect(t.Context(), device)
	if err != nil {
		t.Error(err)
		return
	}
	defer tpm.Close()
	buf := make([]byte, maxResponse)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		command := bytes.Clone(buf[:n])
		response, err := tpm.exchange(command)
		if err != nil {
			t.Error(err)
			return
		}
		b.mu.Lock()
		b.heard.Write(command)
		b.heard.Write(response)
		if b.change != nil {
			b.change(command, response)
		}
		b.mu.Unlock()
		client.Write(response)
	}
}

func (b *bus) setChange(change func(command, response []byte)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.change = change
}

// TestBus listens: the secret must not be there, neither on its way in nor out.
func TestBus(t *testing.T) {
	for _, pcrs := range [][]int{nil, {7}} {
		// A new one each time: what was loaded by an answer that was changed stays.
		b := newBus(t, rootkeytest.StartTPM(t).Socket)
		h := holder(t, b.path, pcrs...)
		sealed := seal(t, h)
		opens(t, h, sealed)
		o, err := decode(sealed)
		if err != nil {
			t.Fatal(err)
		}
		b.mu.Lock()
		if !bytes.Contains(b.heard.Bytes(), o.private) || !bytes.Contains(b.heard.Bytes(), o.unique[:]) {
			t.Error("the bus does not hear")
		}
		for i := 0; i+8 <= len(secret); i++ {
			if bytes.Contains(b.heard.Bytes(), secret[i:i+8]) {
				t.Error("the secret is on the bus")
			}
		}
		b.mu.Unlock()
		// A bit of the answer to a command that is authenticated.
		for _, command := range []tpm2.TPMCC{tpm2.TPMCCUnseal, tpm2.TPMCCLoad} {
			b.setChange(func(sent, response []byte) {
				if bytes.Equal(sent[6:10], []byte{0, 0, byte(command >> 8), byte(command)}) {
					response[len(response)-40] ^= 1
				}
			})
			refuses(t, h, sealed, rootkey.ErrUnavailable, ErrNotAuthentic)
		}
		b.setChange(func(sent, response []byte) {
			if bytes.Equal(sent[6:10], []byte{0, 0, byte(tpm2.TPMCCPCRRead >> 8), byte(tpm2.TPMCCPCRRead & 0xff)}) {
				response[len(response)-80] ^= 1
			}
		})
		if len(pcrs) > 0 {
			refuses(t, h, sealed, rootkey.ErrUnavailable, ErrNotAuthentic)
		}
		b.setChange(nil)
		opens(t, h, sealed)
	}
}
