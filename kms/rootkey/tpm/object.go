// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/cretula/cretula/kms/rootkey"
	"github.com/google/go-tpm/tpm2"
)

const (
	version    = 1
	maxPrivate = 512 // bytes of the private area; TPMs make some 160
)

// An object is the sealed secret as it is kept.
type object struct {
	root      [sha256.Size]byte
	unique    [sha256.Size]byte
	registers []register
	private   []byte
}

// A register is one of the SHA-256 bank with its value.
type register struct {
	index int
	value [sha256.Size]byte
}

func (o object) encode() []byte {
	b := append([]byte{version}, o.root[:]...)
	b = append(b, o.unique[:]...)
	b = append(b, byte(len(o.registers)))
	for _, r := range o.registers {
		b = append(append(b, byte(r.index)), r.value[:]...)
	}
	return append(b, o.private...)
}

// decode accepts exactly what encode writes.
func decode(b []byte) (object, error) {
	const head, each = 1 + 2*sha256.Size + 1, 1 + sha256.Size
	bad := fmt.Errorf("%w: not sealed by a TPM in version %d", rootkey.ErrNotOpened, version)
	if len(b) < head || b[0] != version {
		return object{}, bad
	}
	n := int(b[head-1])
	o := object{root: [32]byte(b[1:]), unique: [32]byte(b[1+sha256.Size:])}
	rest := b[head:]
	if n > Registers || len(rest) <= n*each || len(rest) > n*each+maxPrivate {
		return object{}, bad
	}
	for i := range n {
		r := register{index: int(rest[0]), value: [32]byte(rest[1:])}
		if r.index >= Registers || i > 0 && r.index <= o.registers[i-1].index {
			return object{}, bad
		}
		o.registers, rest = append(o.registers, r), rest[each:]
	}
	o.private = bytes.Clone(rest)
	return o, nil
}

// public returns the public area of the object (Part 2 §12.2). The TPM has
// bound the private area to it, by its name.
func (o object) public() (tpm2.TPMTPublic, error) {
	bound := len(o.registers) > 0
	public := tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgKeyedHash,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, NoDA: true,
			// Without registers the empty password opens; with them only the policy.
			UserWithAuth: !bound, AdminWithPolicy: bound,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: o.unique[:]}),
	}
	if bound {
		policy, err := policyOf(o.registers)
		if err != nil {
			return tpm2.TPMTPublic{}, err
		}
		public.AuthPolicy = tpm2.TPM2BDigest{Buffer: policy}
	}
	return public, nil
}

// policyOf returns the policy digest that TPM2_PolicyPCR makes while the
// registers have these values (Part 3 §23.7).
func policyOf(registers []register) ([]byte, error) {
	values := sha256.New()
	for _, r := range registers {
		values.Write(r.value[:])
	}
	policy, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	err = tpm2.PolicyPCR{
		Pcrs: selection(indexes(registers)), PcrDigest: tpm2.TPM2BDigest{Buffer: values.Sum(nil)},
	}.Update(policy)
	return policy.Hash().Digest, err
}

func indexes(registers []register) []int {
	var all []int
	for _, r := range registers {
		all = append(all, r.index)
	}
	return all
}

func selection(indexes []int) tpm2.TPMLPCRSelection {
	mask := make([]byte, Registers/8)
	for _, i := range indexes {
		mask[i/8] |= 1 << (i % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: mask}}}
}

// readRegisters returns the values of registers, in a session that makes them
// authentic.
func (r *root) readRegisters(indexes []int) (all []register, err error) {
	const atOnce = 8 // digests in an answer (TPML_DIGEST, Part 2 §10.9.5)
	for len(indexes) > 0 {
		n := min(atOnce, len(indexes))
		err := r.session(func(s tpm2.Session) error {
			asked := selection(indexes[:n])
			read, err := tpm2.PCRRead{PCRSelectionIn: asked}.Execute(r.tpm, s)
			if err != nil {
				return fmt.Errorf("reading registers: %w", err)
			}
			if !bytes.Equal(tpm2.Marshal(read.PCRSelectionOut), tpm2.Marshal(asked)) || len(read.PCRValues.Digests) != n {
				return fmt.Errorf("registers %v: the TPM does not have them in the SHA-256 bank", indexes[:n])
			}
			for i, d := range read.PCRValues.Digests {
				if len(d.Buffer) != sha256.Size {
					return fmt.Errorf("register %d has %d bytes", indexes[i], len(d.Buffer))
				}
				all = append(all, register{indexes[i], [32]byte(d.Buffer)})
			}
			return nil
		}, tpm2.Audit())
		if err != nil {
			return nil, err
		}
		indexes = indexes[n:]
	}
	return all, nil
}

// checkRegisters names the registers that differ. That they must not is not
// decided here but by the TPM.
func (r *root) checkRegisters(want []register) error {
	got, err := r.readRegisters(indexes(want))
	if err != nil {
		return err
	}
	var differ []int
	for i := range want {
		if got[i] != want[i] {
			differ = append(differ, want[i].index)
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("%w: %v", ErrPCR, differ)
	}
	return nil
}
