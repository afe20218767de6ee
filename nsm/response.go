// SPDX-License-Identifier: Apache-2.0

package nsm

import (
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/reason"
)

// maxModuleID is the room that nsm-lib has for a module id and its final zero.
const maxModuleID = 99

// digestName is the only digest that modules have.
const digestName = "SHA384"

// A Description is a module's answer to DescribeNSM.
type Description struct {
	// VersionMajor, VersionMinor and VersionPatch are the module's version.
	VersionMajor, VersionMinor, VersionPatch uint16
	// ModuleID is the module's name, on Nitro "i-<17 hex>-enc<16 hex>".
	ModuleID string
	// MaxPCRs is the number of registers, at most [pcr.Count].
	MaxPCRs uint16
	// LockedPCRs are the registers that are read-only, ascending.
	LockedPCRs []pcr.Index
	// Digest is the algorithm of the registers: "SHA384".
	Digest string
}

// A PCRState is a module's answer to DescribePCR.
type PCRState struct {
	// Locked tells that the register is read-only for the module's life.
	Locked bool
	Value  pcr.Digest
}

// A Response is one response of a module.
type Response struct {
	// Error is not [Success] in a refusal, which has no other field.
	Error ErrorCode
	// Command is the command that succeeded; 0 in a refusal.
	Command Command
	// PCR is the answer to DescribePCR; for ExtendPCR its Value is the
	// register's new value.
	PCR PCRState
	// Description is the answer to DescribeNSM.
	Description Description
	// Document is the answer to Attestation.
	Document []byte
	// Random is the answer to GetRandom.
	Random []byte
}

// Encode returns the response in CBOR, byte for byte as nsm-api writes it.
func (r Response) Encode() []byte {
	if r.Error != Success {
		return appendText(appendText(appendHead(nil, majorMap, 1), "Error"), r.Error.Error())
	}
	name := r.Command.String()
	switch r.Command {
	case DescribePCR:
		b := appendBool(appendText(appendVariant(nil, name, 2), "lock"), r.PCR.Locked)
		return appendBytes(appendText(b, "data"), r.PCR.Value[:])
	case ExtendPCR:
		return appendBytes(appendText(appendVariant(nil, name, 1), "data"), r.PCR.Value[:])
	case DescribeNSM:
		return r.Description.append(appendVariant(nil, name, 7))
	case Attestation:
		b := make([]byte, 0, len(r.Document)+32)
		return appendBytes(appendText(appendVariant(b, name, 1), "document"), r.Document)
	case GetRandom:
		return appendBytes(appendText(appendVariant(nil, name, 1), "random"), r.Random)
	default:
		return appendText(nil, name)
	}
}

func (n *Description) append(b []byte) []byte {
	b = appendUint(appendText(b, "version_major"), n.VersionMajor)
	b = appendUint(appendText(b, "version_minor"), n.VersionMinor)
	b = appendUint(appendText(b, "version_patch"), n.VersionPatch)
	b = appendText(appendText(b, "module_id"), n.ModuleID)
	b = appendUint(appendText(b, "max_pcrs"), n.MaxPCRs)
	b = appendHead(appendText(b, "locked_pcrs"), majorArray, uint64(len(n.LockedPCRs)))
	for _, i := range n.LockedPCRs {
		b = appendUint(b, uint16(i))
	}
	return appendText(appendText(b, "digest"), n.Digest)
}

// ParseResponse reads a response as strictly as it can be read: all fields that
// the command's answer has and no others, in any order, definite lengths,
// shortest numbers, nothing after the value. A register has 48 bytes, GetRandom
// 256, a document at least one; locked registers ascend.
//
// The error is a [*reason.Error] of class malformed. A refusal by the module is
// no error here: look at [Response.Error].
func ParseResponse(data []byte) (Response, error) {
	if len(data) > MaxResponse {
		return Response{}, reason.New(reason.Malformed, "nsm.response.size",
			"NSM response: %d bytes, of at most %d", len(data), MaxResponse)
	}
	d := decoder{data: data, side: "response", strict: true}
	var r Response
	err := d.variant(func(name string, bare bool) error {
		if name == "Error" && !bare {
			return r.parseError(&d)
		}
		command, known := parseCommand(name)
		if unit := command == LockPCR || command == LockPCRs; !known || unit != bare {
			return d.fail("command", "no such answer: %.40q", name)
		}
		r.Command = command
		if bare {
			return nil
		}
		return r.parseFields(&d)
	})
	if err != nil {
		return Response{}, err
	}
	return r, nil
}

func (r *Response) parseError(d *decoder) error {
	name, err := d.text()
	if err != nil {
		return err
	}
	code, known := parseErrorCode(name)
	if !known {
		return d.fail("error", "no such error code: %.40q", name)
	}
	r.Error = code
	return nil
}

func (r *Response) parseFields(d *decoder) error {
	switch r.Command {
	case DescribePCR:
		return d.fields([]string{"lock", "data"}, 2, func(name string) (err error) {
			if name == "lock" {
				r.PCR.Locked, err = d.bool()
				return err
			}
			return r.parseDigest(d)
		})
	case ExtendPCR:
		return d.fields([]string{"data"}, 1, func(string) error { return r.parseDigest(d) })
	case DescribeNSM:
		return r.Description.parse(d)
	case Attestation:
		return d.fields([]string{"document"}, 1, func(string) (err error) {
			r.Document, err = d.bytes(false)
			if err == nil && len(r.Document) == 0 {
				err = d.fail("length", "the document is empty")
			}
			return err
		})
	}
	return d.fields([]string{"random"}, 1, func(string) (err error) {
		r.Random, err = d.bytes(false)
		if err == nil && len(r.Random) != RandomSize {
			err = d.fail("length", "%d random bytes, not %d", len(r.Random), RandomSize)
		}
		return err
	})
}

func (r *Response) parseDigest(d *decoder) error {
	value, err := d.bytes(false)
	if err != nil {
		return err
	}
	if len(value) != pcr.Size {
		return d.fail("length", "a register of %d bytes, not %d", len(value), pcr.Size)
	}
	r.PCR.Value = pcr.Digest(value)
	return nil
}

func (n *Description) parse(d *decoder) error {
	names := []string{"version_major", "version_minor", "version_patch", "module_id", "max_pcrs", "locked_pcrs", "digest"}
	err := d.fields(names, len(names), func(name string) (err error) {
		switch name {
		case "version_major":
			n.VersionMajor, err = d.uint16()
		case "version_minor":
			n.VersionMinor, err = d.uint16()
		case "version_patch":
			n.VersionPatch, err = d.uint16()
		case "module_id":
			n.ModuleID, err = d.text()
		case "max_pcrs":
			n.MaxPCRs, err = d.uint16()
		case "locked_pcrs":
			err = n.parseLocked(d)
		case "digest":
			n.Digest, err = d.text()
		}
		return err
	})
	if err != nil {
		return err
	}
	return n.check(d)
}

func (n *Description) parseLocked(d *decoder) error {
	major, count, err := d.head()
	if err != nil {
		return err
	}
	if major != majorArray || count > pcr.Count {
		return d.fail("field", "locked_pcrs is no array of at most %d", pcr.Count)
	}
	n.LockedPCRs = make([]pcr.Index, 0, count)
	for range count {
		i, err := d.uint16()
		if err != nil {
			return err
		}
		if i >= pcr.Count || len(n.LockedPCRs) > 0 && pcr.Index(i) <= n.LockedPCRs[len(n.LockedPCRs)-1] {
			return d.fail("value", "locked_pcrs are not ascending numbers of registers")
		}
		n.LockedPCRs = append(n.LockedPCRs, pcr.Index(i))
	}
	return nil
}

func (n *Description) check(d *decoder) error {
	switch last := len(n.LockedPCRs) - 1; {
	case n.ModuleID == "" || len(n.ModuleID) > maxModuleID:
		return d.fail("length", "a module_id of %d bytes, of 1 to %d", len(n.ModuleID), maxModuleID)
	case n.MaxPCRs == 0 || n.MaxPCRs > pcr.Count:
		return d.fail("value", "max_pcrs is %d, of 1 to %d", n.MaxPCRs, pcr.Count)
	case last >= 0 && uint16(n.LockedPCRs[last]) >= n.MaxPCRs:
		return d.fail("value", "a locked register above max_pcrs")
	case n.Digest != digestName:
		return d.fail("value", "the digest is %.20q, not %s", n.Digest, digestName)
	}
	return nil
}
