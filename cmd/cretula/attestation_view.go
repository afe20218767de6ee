// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/pcr"
)

// outputWidth is the number of columns to print in, 80 to 200: what COLUMNS says,
// else the terminal's, else 80.
func outputWidth(env *cli.Env) int {
	const least, most = 80, 200
	width := least
	if f, ok := env.Stdout.(*os.File); ok && cli.IsTerminal(f) {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			width = w
		}
	}
	if env.Getenv != nil {
		if w, err := strconv.Atoi(env.Getenv("COLUMNS")); err == nil {
			width = w
		}
	}
	return min(max(width, least), most)
}

// A view prints an unverified document for a person.
type view struct {
	bytes.Buffer
	width int
	u     *attestation.Unverified
	in    *inspection
	// certs are the certificates, nil for one that does not parse.
	certs []*x509.Certificate
}

func printInspection(env *cli.Env, u *attestation.Unverified, in *inspection) error {
	v := &view{width: outputWidth(env), u: u, in: in}
	for _, der := range u.UnverifiedCertificates() {
		cert, _ := x509.ParseCertificate(der)
		v.certs = append(v.certs, cert)
	}
	v.line("NOT VERIFIED  what follows is what the document says of itself\n")
	v.identity()
	v.line("\nbound to")
	v.binding("nonce", u.UnverifiedNonce())
	v.binding("user data", u.UnverifiedUserData())
	v.binding("public key", u.UnverifiedPublicKey())
	v.registers()
	v.chain()
	v.form()
	v.line("\nnothing was verified; 'cretula attestation verify' does that")
	_, err := env.Stdout.Write(v.Bytes())
	return err
}

func (v *view) line(format string, args ...any) { fmt.Fprintf(v, format+"\n", args...) }

// identity says what the document is of, whose it is and when it was made.
func (v *view) identity() {
	id := v.u.UnverifiedModuleID()
	v.line("%-10s%s", v.u.UnverifiedKind(), clip(printable(id), v.width-10))
	if instance, region := v.origin(); instance != "" {
		v.line("parent    %s", clip("instance "+printable(instance)+region, v.width-10))
	}
	made := v.in.Timestamp
	if created, ok := creationTime(id); ok {
		v.line("created   %s, %s before the document", created.Format(millis), lifetime(made.Sub(created)))
	}
	v.line("made      %s", made.Format(millis))
	if len(v.in.Chain) > 0 {
		v.line("root      %s", describeRoot(v.in.Chain[0].Fingerprint))
	}
	if v.in.Debug {
		v.line("DEBUG     PCR0, PCR1 or PCR2 is zero: the enclave runs in debug mode")
	}
}

// origin returns the instance's id out of the module's, and the region as the
// leaf certificate has it.
func (v *view) origin() (instance, region string) {
	id := v.u.UnverifiedModuleID()
	for _, mark := range []string{"-enc", "-tpm"} {
		if before, _, found := strings.Cut(id, mark); found {
			instance = before
		}
	}
	if n := len(v.certs); n > 0 && v.certs[n-1] != nil {
		rest, found := strings.CutPrefix(v.certs[n-1].Subject.CommonName, id+".")
		name, _, _ := strings.Cut(rest, ".")
		if found && name != "" {
			region = " in " + printable(name)
		}
	}
	return instance, region
}

// describeRoot says whose a root is: its name can be anyone's invention.
func describeRoot(fingerprint string) string {
	switch fingerprint {
	case attestation.FingerprintOf(attestation.RootG1().Raw).String():
		return "this is the AWS Nitro Enclaves Root G1"
	case attestation.FingerprintOf(attestation.RootGovCloud().Raw).String():
		return "this is AWS's root for aws-us-gov"
	}
	return "EMULATED: this is no root of AWS's, whatever its name says"
}

func (v *view) binding(name string, value []byte) {
	prefix := fmt.Sprintf("  %-12s", name)
	switch {
	case value == nil:
		v.line("%sabsent", prefix)
		return
	case len(value) == 0:
		v.line("%spresent and empty", prefix)
		return
	}
	prefix += fmt.Sprintf("%d bytes, ", len(value))
	if name == "public key" {
		prefix += describeKey(value)
	}
	text := hex.EncodeToString(value)
	room := v.width - len(prefix)
	if quoted := fmt.Sprintf(" %q", value); isText(value) && len(text)+len(quoted) <= room {
		text += quoted
	}
	switch indent := 14; {
	case len(text) <= room:
		v.line("%s%s", prefix, text)
	case indent+len(text) <= v.width:
		v.line("%s\n%*s%s", strings.TrimRight(prefix, ":, "), indent, "", text)
	default:
		v.line("%s%s…", prefix, text[:(room-1)&^1])
	}
}

func isText(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c < 0x20 || c > 0x7e })
}

// describeKey names the type of a SubjectPublicKeyInfo, nothing of other bytes.
func describeKey(der []byte) string {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return ""
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d: ", key.N.BitLen())
	case *ecdsa.PublicKey:
		return key.Curve.Params().Name + ": "
	}
	return ""
}

// registerMeanings says what is in the registers of an enclave: AWS Nitro
// Enclaves User Guide, "Where to get an enclave's measurements".
var registerMeanings = map[pcr.Index]string{
	0: "the image: kernel, boot ramdisk and application",
	1: "kernel and boot ramdisk",
	2: "application",
	3: "IAM role of the parent instance",
	4: "id of the parent instance",
	8: "certificate that signed the image",
}

func registerMeaning(kind attestation.Kind, i pcr.Index) string {
	if kind != attestation.KindEnclave {
		return ""
	}
	if i >= 16 {
		return "extended and locked by the application"
	}
	return registerMeanings[i]
}

// zeroMeanings says what it means that a register was not extended.
var zeroMeanings = map[pcr.Index]string{
	0: "the image was not measured: debug mode",
	1: "kernel and boot ramdisk were not measured: debug mode",
	2: "the application was not measured: debug mode",
	3: "the parent instance has no IAM role",
	8: "the image is not signed",
}

func (v *view) registers() {
	set := v.u.UnverifiedPCRs()
	v.line("\nregisters (%d locked, %s)", set.Len(), v.u.UnverifiedDigest())
	enclave := v.u.UnverifiedKind() == attestation.KindEnclave
	var zero []pcr.Index
	for i, value := range set.All() {
		why := zeroMeanings[i]
		switch {
		case !value.IsZero():
			v.register(i, value.String(), v.meaning(i, value))
		case enclave && why != "":
			v.line("  %-6s zero: %s", i, why)
		default:
			zero = append(zero, i)
		}
	}
	if len(zero) > 0 {
		v.line("  zero   %s", ranges(zero))
	}
}

// meaning is that of a register, and for PCR4 whether it is of the instance that
// the module's id names.
func (v *view) meaning(i pcr.Index, value pcr.Digest) string {
	meaning := registerMeaning(v.u.UnverifiedKind(), i)
	if i != 4 || meaning == "" {
		return meaning
	}
	instance, _ := v.origin()
	if predicted, err := pcr.Instance(instance); err != nil || predicted != value {
		return meaning + ", but not of the one named above"
	}
	return meaning + ", as named above"
}

// register prints a value beside its meaning, below it, or below it in two halves:
// what fits.
func (v *view) register(i pcr.Index, value, meaning string) {
	const indent = 9
	half := len(value) / 2
	switch {
	case indent+len(value)+2+len(meaning) <= v.width:
		v.line("%s", strings.TrimRight(fmt.Sprintf("  %-6s %s  %s", i, value, meaning), " "))
	case meaning == "":
		v.line("  %-6s %s\n%*s%s", i, value[:half], indent, "", value[half:])
	case indent+len(value) <= v.width:
		v.line("  %-6s %s\n%*s%s", i, meaning, indent, "", value)
	default:
		v.line("  %-6s %s\n%*s%s\n%*s%s", i, meaning, indent, "", value[:half], indent, "", value[half:])
	}
}

// ranges folds ascending indexes: "PCR5 to PCR7, PCR9".
func ranges(list []pcr.Index) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		switch j - i {
		case 0:
			parts = append(parts, list[i].String())
		case 1:
			parts = append(parts, list[i].String(), list[j].String())
		default:
			parts = append(parts, fmt.Sprintf("%v to %v", list[i], list[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ", ")
}

// chainNames are the certificates of a chain of the usual length.
var chainNames = []string{"root", "region", "zone", "instance", "leaf"}

// chain prints the certificates as a tree. Where there is room, serial numbers and
// fingerprints are printed too.
func (v *view) chain() {
	v.line("\ncertificates, root first; no signature was checked")
	const day = "2006-01-02T15:04:05Z"
	wide := v.width >= 140
	for i, c := range v.in.Chain {
		branch := "  "
		depth := min(i, len(chainNames)) // further ones stand below each other
		if i > 0 {
			branch = "  " + strings.Repeat("   ", depth-1) + "└─ "
		}
		below := strings.Repeat(" ", 2+3*depth)
		role := "certificate"
		if len(v.in.Chain) == len(chainNames) {
			role = chainNames[i]
		}
		if v.certs[i] == nil {
			v.line("%s%s: does not parse", branch, role)
			continue
		}
		name := c.Subject
		if cn := v.certs[i].Subject.CommonName; cn != "" && !wide {
			name = cn
		}
		room := v.width - len(below) - len(role) - 2
		v.line("%s%s: %s", branch, role, clip(printable(name), room))
		v.line("%s%s to %s, %s%s", below, c.NotBefore.Format(day), c.NotAfter.Format(day), lifetime(c.NotAfter.Sub(c.NotBefore)), v.place(v.certs[i]))
		switch {
		case wide:
			v.line("%sserial %s, SHA-256 %s", below, c.Serial, c.Fingerprint)
		case i == 0:
			v.line("%sSHA-256 %s", below, c.Fingerprint)
		}
	}
}

// place says where in a certificate's life the document was made, if outside.
func (v *view) place(c *x509.Certificate) string {
	switch made := v.in.Timestamp; {
	case made.Before(c.NotBefore):
		return ", not yet"
	case made.After(c.NotAfter):
		return ", expired"
	}
	return ""
}

// clip shortens a text to so many columns.
func clip(text string, columns int) string {
	if runes := []rune(text); len(runes) > columns {
		return string(runes[:columns-1]) + "…"
	}
	return text
}

func (v *view) form() {
	form := "definite"
	if v.in.IndefiniteMap {
		form = "indefinite"
	}
	v.line("\nform      %d bytes, tag 18: %s", v.in.Size, map[bool]string{true: "yes", false: "no"}[v.in.Tagged])
	v.line("payload   a map of %s length, SHA-256", form)
	v.line("          %s", v.in.PayloadSHA256)
	for _, i := range v.in.Information {
		v.wrapped("note", fmt.Sprintf("%s%s (%s)", printable(i.Message), place(i.Offset), i.Rule))
	}
}

// wrapped prints a text after a label, broken between words where it is too long.
func (v *view) wrapped(label, text string) {
	const indent = 10
	line := fmt.Sprintf("%-*s", indent-1, label)
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > v.width && len(line) >= indent {
			v.line("%s", line)
			line = strings.Repeat(" ", indent-1)
		}
		line += " " + word
	}
	v.line("%s", line)
}

// creationTime reads the time at which an enclave was made out of its id.
func creationTime(moduleID string) (time.Time, bool) {
	_, id, found := strings.Cut(moduleID, "-enc")
	if !found || len(id) != 16 {
		return time.Time{}, false
	}
	ms, err := strconv.ParseUint(id[:12], 16, 48)
	return time.UnixMilli(int64(ms)).UTC(), err == nil
}

// lifetime prints a duration as days, hours, minutes and seconds.
func lifetime(d time.Duration) string {
	d = d.Round(time.Second)
	days := int64(d / (24 * time.Hour))
	rest := (d % (24 * time.Hour)).String()
	switch {
	case days == 0:
		return rest
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d d", days)
	}
	return fmt.Sprintf("%d d %s", days, rest)
}
