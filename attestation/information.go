// SPDX-License-Identifier: Apache-2.0

package attestation

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Level is how strictly the form of a document is judged. Everything that bears
// on security is the same at all levels.
type Level uint8

const (
	// LevelStrict wants the encoding that AWS documents and writes: RFC 8949
	// §4.1 with either form of the payload map.
	LevelStrict Level = iota
	// LevelLenient takes any valid encoding (RFC 8949 §5.3.1) and reports what
	// is not the preferred one as [Information].
	LevelLenient
)

// String returns "strict" or "lenient".
func (l Level) String() string {
	switch l {
	case LevelStrict:
		return "strict"
	case LevelLenient:
		return "lenient"
	}
	return fmt.Sprintf("level(%d)", uint8(l))
}

// An Information is something about a document that is allowed, was not used, and
// decides nothing.
type Information struct {
	// Rule is an id of [Informative], or that of a rule that the level does
	// not enforce.
	Rule string `json:"rule"`
	// Message says in plain words what was found.
	Message string `json:"message"`
	// Offset is its place in the document, nil if there is no one place.
	Offset *int64 `json:"offset,omitempty"`
}

// An InformativeRule is one thing that is looked at and only reported.
type InformativeRule struct {
	// ID is the name of the rule in verdicts and docs/rules.md.
	ID string
	// Sentence says what genuine documents have.
	Sentence string
}

// Informative returns the rules that are only reported.
func Informative() []InformativeRule { return slices.Clone(informative[:]) }

type infoID uint8

const (
	infoTag infoID = iota
	infoAbsent
	infoUnknownKey
	infoEKU
	infoExtension
	infoSubject
	infoSerial
)

var informative = [...]InformativeRule{
	infoTag:        {"info.tag", "The COSE array is untagged; tag 18 is allowed."},
	infoAbsent:     {"info.absent", "public_key, user_data and nonce are null where they are not given; absence is allowed."},
	infoUnknownKey: {"info.unknown-key", "The payload has nine known keys; others are never used."},
	infoEKU:        {"info.eku", "No certificate has extended key usages; they are never used."},
	infoExtension:  {"info.extension", "Certificates have no extensions but basic constraints, key usage, key identifiers and CRL distribution points; others are never used."},
	infoSubject:    {"info.subject", "Below the root, subjects follow the scheme of their position, and those of instance and leaf name this module."},
	infoSerial:     {"info.serial", "The leaf's serial is the enclave's id (zero for a NitroTPM) followed by the seconds since 1970 of its issue, at most 3 s after its notBefore."},
}

// knownExtensions are those of genuine certificates, below 2.5.29 (RFC 5280
// §4.2.1).
var knownExtensions = []int{14, 15, 19, 31, 35}

const extendedKeyUsage = 37

// noteChain looks at what in the certificates decides nothing.
func (c *check) noteChain() {
	for i, cert := range c.chain {
		if cert == nil {
			continue
		}
		who, at := position(i, len(c.chain)), c.u.certificateAt(i, len(c.chain))
		for _, ext := range cert.Extensions {
			standard := len(ext.Id) == 4 && ext.Id[:3].Equal(asn1.ObjectIdentifier{2, 5, 29})
			switch {
			case standard && slices.Contains(knownExtensions, ext.Id[3]):
			case standard && ext.Id[3] == extendedKeyUsage:
				c.f.note(infoEKU, at, "%s has extended key usages", who)
			case !ext.Critical:
				c.f.note(infoExtension, at, "%s has the extension %v, which is not critical", who, ext.Id)
			}
		}
	}
	if len(c.chain) == chainLength && !slices.Contains(c.chain, nil) {
		c.noteSubjects()
		c.noteSerial()
	}
}

// subjectOrders are the types of the components of subjects in the order of DER,
// below 2.5.4 (X.520): 3 CN, 6 C, 7 L, 8 ST, 10 O, 11 OU.
var subjectOrders = [chainLength][]int{
	1: {6, 10, 11, 3},
	2: {3, 11, 10, 6, 8, 7},
	3: {6, 8, 7, 10, 11, 3},
	4: {6, 8, 7, 10, 11, 3},
}

// subjectValues are the values that are the same everywhere but for the state,
// which the zone's certificate abbreviates.
var subjectValues = [...]string{6: "US", 10: "Amazon", 11: "AWS", 7: "Seattle"}

func (c *check) noteSubjects() {
	partition := strings.TrimSuffix(c.chain[0].Subject.CommonName, ".nitro-enclaves")
	region := ""
	instance, _, _ := strings.Cut(c.u.moduleID, moduleMark(c.u.kind))
	for i, cert := range c.chain[1:] {
		i++
		ok := subjectHasOrder(cert, i)
		name, named := cutPartition(cert.Subject.CommonName, partition, i < chainLength-1)
		owner, place, _ := strings.Cut(name, ".")
		switch i {
		case 1:
			ok = ok && isHex(owner)
			region = place
		case 2:
			ok = ok && isHex(owner) && place == "zonal."+region
		case 3:
			ok = ok && owner == instance && place == region
		case 4:
			ok = ok && owner == c.u.moduleID && place == region
		}
		if !ok || strings.HasSuffix(place, ".nitro-enclaves") || !named {
			c.f.note(infoSubject, c.u.certificateAt(i, len(c.chain)), "%s has the subject %.200q, which is not the scheme of its position",
				position(i, len(c.chain)), cert.Subject.String())
		}
	}
}

// cutPartition cuts off what names of a partition end with, those of CAs and of
// leaves, and tells whether it was there. A foreign root stands above names of AWS's
// scheme, too.
func cutPartition(name, partition string, ca bool) (rest string, found bool) {
	rest = name
	if ca {
		if rest, found = strings.CutSuffix(name, ".nitro-enclaves"); !found {
			return name, false
		}
	}
	for _, last := range [...]string{"aws", partition} {
		if before, ok := strings.CutSuffix(rest, last); ok && strings.HasSuffix(before, ".") {
			return strings.TrimSuffix(before, "."), true
		}
	}
	return name, false
}

// moduleMark is what stands between the instance's id and the number of the
// enclave.
func moduleMark(kind Kind) string {
	if kind == KindNitroTPM {
		return "-tpm"
	}
	return "-enc"
}

// isHex tells whether s is a number of 8 bytes, which AWS writes without leading
// zeros.
func isHex(s string) bool {
	return len(s) >= 1 && len(s) <= 16 && strings.Trim(s, "0123456789abcdef") == ""
}

func subjectHasOrder(cert *x509.Certificate, position int) bool {
	order := subjectOrders[position]
	if len(cert.Subject.Names) != len(order) {
		return false
	}
	for i, part := range cert.Subject.Names {
		if len(part.Type) != 4 || part.Type[3] != order[i] {
			return false
		}
		value, _ := part.Value.(string)
		want := subjectValues[order[i]]
		if order[i] == 8 {
			want = "Washington"
			if position == 2 {
				want = "WA"
			}
		}
		if want != "" && value != want {
			return false
		}
	}
	return true
}

// noteSerial compares the leaf's serial with the enclave's id and the time of
// issue, which is notBefore until 2021 and 3 s later since.
func (c *check) noteSerial() {
	leaf := c.chain[len(c.chain)-1]
	var serial [16]byte
	good := leaf.SerialNumber.Sign() > 0 && leaf.SerialNumber.BitLen() <= 128
	if good {
		leaf.SerialNumber.FillBytes(serial[:])
		var id [8]byte
		if _, text, found := strings.Cut(c.u.moduleID, "-enc"); found && len(text) == 16 {
			hex.Decode(id[:], []byte(text)) // what is not hex will not be equal
		}
		issued := time.Unix(int64(binary.BigEndian.Uint64(serial[8:])), 0)
		after := issued.Sub(leaf.NotBefore)
		good = id == [8]byte(serial[:8]) && after >= 0 && after <= 3*time.Second
	}
	if !good {
		c.f.note(infoSerial, c.u.certificateAt(chainLength-1, chainLength), "the leaf's serial %x is not the enclave's id and the time of issue", serial)
	}
}
