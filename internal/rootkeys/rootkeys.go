// SPDX-License-Identifier: Apache-2.0

// Package rootkeys opens the root key that a configuration names: which file,
// and who holds what opens it. A [Spec] is one section of the configuration.
//
// Whatever stops a root key from being opened is an error that says what is
// missing and, as the hint of package cli, what to do about it. Nothing is
// written where something is refused.
package rootkeys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/reason"
)

// Kinds of a [Spec].
const (
	KindFile       = "file"       // the key is in the file as it is
	KindPassphrase = "passphrase" // a passphrase in a file opens it
	KindSystemd    = "systemd"    // a passphrase that is a systemd credential
	KindTPM        = "tpm"        // the TPM 2.0 of the machine
	KindPKCS11     = "pkcs11"     // a key in an HSM
	KindAWSKMS     = "awskms"     // a key in AWS KMS, or in another service like it
)

// Kinds returns every kind.
func Kinds() []string {
	return []string{KindFile, KindPassphrase, KindSystemd, KindTPM, KindPKCS11, KindAWSKMS}
}

// A Spec says which root key, and who holds it. Which members there must be and
// may be depends on Kind; all others must be empty. Paths are absolute.
type Spec struct {
	// Kind is one of [Kinds].
	Kind string `toml:"kind" json:"kind"`
	// File is the root key file, which [Create] makes: with the key in it, or
	// what the holder has made of it. It is 0600 in a folder 0700.
	File string `toml:"file" json:"file,omitempty"`
	// EpochFile notes how far the store has come, so that one that was rolled back is
	// noticed. It must be writable and must not lie with the store. Empty: beside
	// File, with ".epoch" behind its name.
	EpochFile string `toml:"epoch_file" json:"epoch_file,omitempty"`

	// PassphraseFile has the passphrase of kind passphrase, perhaps with one line
	// end. It is 0600.
	PassphraseFile string `toml:"passphrase_file" json:"passphrase_file,omitempty"`
	// Credential is the name of the systemd credential of kind systemd, in the
	// folder that CREDENTIALS_DIRECTORY names.
	Credential string `toml:"credential" json:"credential,omitempty"`

	// Device is the TPM of kind tpm. Empty: /dev/tpmrm0.
	Device string `toml:"device" json:"device,omitempty"`
	// PCRs are the registers that a newly sealed file is bound to.
	PCRs []int `toml:"pcrs" json:"pcrs,omitempty"`

	// Module is the library of the HSM of kind pkcs11.
	Module string `toml:"module" json:"module,omitempty"`
	// Token is the label of the token, or TokenSerial finds it; one is enough.
	Token string `toml:"token" json:"token,omitempty"`
	// TokenSerial is the serial number of the token.
	TokenSerial string `toml:"token_serial" json:"token_serial,omitempty"`
	// Label is that of the key in the token.
	Label string `toml:"label" json:"label,omitempty"`
	// PINFile has the user's PIN, perhaps with one line end. It is 0600.
	PINFile string `toml:"pin_file" json:"pin_file,omitempty"`

	// KeyARN is the ARN of the key of kind awskms.
	KeyARN string `toml:"key_arn" json:"key_arn,omitempty"`
	// Region is that of the key. Empty: that of the ARN.
	Region string `toml:"region" json:"region,omitempty"`
	// Endpoint is the URL of the service. Empty: that of AWS in the region.
	Endpoint string `toml:"endpoint" json:"endpoint,omitempty"`
	// CAFile has the certificates, PEM, that the service's must chain to. Empty: those
	// of the system.
	CAFile string `toml:"ca_file" json:"ca_file,omitempty"`
	// Attested has the service answer to an attestation document of the Nitro
	// Security Module, so that only this enclave image opens the file.
	Attested bool `toml:"attested" json:"attested,omitempty"`
	// NSMSocket is the socket of an emulated module, with Attested. Empty: the
	// device /dev/nsm.
	NSMSocket string `toml:"nsm_socket" json:"nsm_socket,omitempty"`
}

// DefaultDevice is the TPM behind the resource manager of the kernel.
const DefaultDevice = "/dev/tpmrm0"

// member is one member of a Spec that only some kinds have.
type member struct {
	name     string
	given    bool
	kinds    string // that have it
	required bool   // where a kind has it
}

func (s *Spec) members() []member {
	return []member{
		{"passphrase_file", s.PassphraseFile != "", KindPassphrase, true},
		{"credential", s.Credential != "", KindSystemd, true},
		{"device", s.Device != "", KindTPM, false},
		{"pcrs", len(s.PCRs) > 0, KindTPM, false},
		{"module", s.Module != "", KindPKCS11, true},
		{"token", s.Token != "", KindPKCS11, s.TokenSerial == ""},
		{"token_serial", s.TokenSerial != "", KindPKCS11, false},
		{"label", s.Label != "", KindPKCS11, true},
		{"pin_file", s.PINFile != "", KindPKCS11, true},
		{"key_arn", s.KeyARN != "", KindAWSKMS, true},
		{"region", s.Region != "", KindAWSKMS, false},
		{"endpoint", s.Endpoint != "", KindAWSKMS, false},
		{"ca_file", s.CAFile != "", KindAWSKMS, false},
		{"attested", s.Attested, KindAWSKMS, false},
		{"nsm_socket", s.NSMSocket != "", KindAWSKMS, false},
	}
}

// Check reports what is wrong with the members. It looks at no file. The error
// has reason malformed and a hint.
func (s *Spec) Check() error {
	if err := s.checkMembers(); err != nil {
		return err
	}
	for _, p := range []struct{ name, path string }{
		{"file", s.File}, {"epoch_file", s.EpochFile}, {"passphrase_file", s.PassphraseFile},
		{"module", s.Module}, {"pin_file", s.PINFile}, {"nsm_socket", s.NSMSocket}, {"ca_file", s.CAFile},
	} {
		if p.path != "" && !filepath.IsAbs(p.path) {
			return wrong("name it by its full path", "%s %q is not an absolute path", p.name, p.path)
		}
	}
	if s.EpochFile == s.File {
		return wrong("give epoch_file a name of its own", "epoch_file and file are the same")
	}
	if s.NSMSocket != "" && !s.Attested {
		return wrong("add attested = true, or take nsm_socket out", "nsm_socket is there without attested")
	}
	return nil
}

func (s *Spec) checkMembers() error {
	known := "kind is one of " + strings.Join(Kinds(), ", ")
	switch {
	case s.Kind == "":
		return wrong(known, "the root key has no kind")
	case !slices.Contains(Kinds(), s.Kind):
		return wrong(known, "there is no root key of kind %q", s.Kind)
	case s.File == "":
		return wrong("file = \"/etc/cretula/root/root.key\", for instance, outside of the data folder", "the root key has no file")
	}
	for _, m := range s.members() {
		switch {
		case m.given && m.kinds != s.Kind:
			return wrong(fmt.Sprintf("take it out, or set kind = %q", m.kinds), "a root key of kind %s has no %s", s.Kind, m.name)
		case !m.given && m.required && m.kinds == s.Kind:
			return wrong("add "+m.name, "a root key of kind %s needs %s", s.Kind, m.name)
		}
	}
	return nil
}

func wrong(hint, format string, args ...any) error {
	return cli.WithHint(reason.New(reason.Malformed, "rootkey.spec", format, args...), "%s", hint)
}

// EpochPath returns the path of the epoch file.
func (s *Spec) EpochPath() string {
	if s.EpochFile != "" {
		return s.EpochFile
	}
	return s.File + ".epoch"
}

// ErrNoFile: there is no root key file. What its holder lacks is never this.
var ErrNoFile = errors.New("there is no root key file")

// Open opens the root key. The error matches [ErrNoFile], or one of those of
// [rootkey.OpenFile] and [rootkey.OpenHeld].
func Open(ctx context.Context, s Spec) (rootkey.Key, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if err := s.checkKind(); err != nil {
		return nil, s.explain(err)
	}
	if s.Kind == KindFile {
		k, err := rootkey.OpenFile(s.File)
		return k, s.explain(err)
	}
	h, err := s.holder(ctx)
	if err != nil {
		return nil, s.explain(err)
	}
	defer closeHolder(h)
	k, err := rootkey.OpenHeld(ctx, s.File, h)
	return k, s.explain(err)
}

// checkKind compares the kind with the file's before the holder is asked, so that
// who took the wrong one is told so rather than what the holder lacks.
func (s *Spec) checkKind() error {
	info, err := s.readInfo()
	if err != nil {
		return err
	}
	if want := s.heldKind(); info.Kind != want {
		return fmt.Errorf("%s: %w: %q, not %q", s.File, rootkey.ErrKind, info.Kind, want)
	}
	return nil
}

// heldKind is the kind that the file has.
func (s *Spec) heldKind() string {
	switch s.Kind {
	case KindFile:
		return rootkey.KindPlain
	case KindSystemd:
		return KindPassphrase
	case KindTPM:
		return "tpm2"
	}
	return s.Kind
}

// Create makes a new root key in a new file. In an HSM it makes the key too that
// the file is sealed with, unless the token has it. The error matches
// [io/fs.ErrExist] if the file is there; it is never replaced.
func Create(ctx context.Context, s Spec) (rootkey.Key, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if s.Kind == KindFile {
		k, err := rootkey.CreateFile(s.File)
		return k, s.explain(err)
	}
	h, err := s.holder(ctx)
	if err != nil {
		return nil, s.explain(err)
	}
	defer closeHolder(h)
	if err := createHeldKey(ctx, h); err != nil {
		return nil, s.explain(err)
	}
	k, err := rootkey.CreateHeld(ctx, s.File, h)
	return k, s.explain(err)
}

// Rewrap seals the root key of from anew, for to, in the same file; to may leave
// File and EpochFile empty. The key itself stays, so that a service which has it
// open goes on. There is no way back to kind file: the secret would be on the
// disk.
func Rewrap(ctx context.Context, from, to Spec) error {
	if to.File == "" {
		to.File = from.File
	}
	if to.EpochFile == "" {
		to.EpochFile = from.EpochFile
	}
	if err := from.Check(); err != nil {
		return err
	}
	if err := to.Check(); err != nil {
		return err
	}
	switch {
	case to.Kind == KindFile:
		return wrong("name a holder: "+strings.Join(Kinds()[1:], ", "), "a root key that is held does not become a plain file again")
	case to.File != from.File || to.EpochPath() != from.EpochPath():
		return wrong("leave file and epoch_file out", "the root key stays in its file %s", from.File)
	}
	if err := from.checkKind(); err != nil {
		return from.explain(err)
	}
	next, err := to.holder(ctx)
	if err != nil {
		return to.explain(err)
	}
	defer closeHolder(next)
	if from.Kind == KindFile {
		if err := createHeldKey(ctx, next); err != nil {
			return to.explain(err)
		}
		return to.explain(rootkey.Hold(ctx, from.File, next))
	}
	old, err := from.holder(ctx)
	if err != nil {
		return from.explain(err)
	}
	defer closeHolder(old)
	// Before anything is made for the new holder, the old one must open it.
	if _, err := rootkey.OpenHeld(ctx, from.File, old); err != nil {
		return from.explain(err)
	}
	if err := createHeldKey(ctx, next); err != nil {
		return to.explain(err)
	}
	return to.explain(rootkey.Rewrap(ctx, from.File, old, next))
}

// Info reads what the file says about itself, without opening it.
func Info(s Spec) (rootkey.Info, error) {
	info, err := s.readInfo()
	return info, s.explain(err)
}

func (s *Spec) readInfo() (rootkey.Info, error) {
	info, err := rootkey.ReadInfo(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %s", ErrNoFile, s.File)
	}
	return info, err
}

// explain adds the reason and what to do.
func (s *Spec) explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := reason.Of(err); ok {
		return err
	}
	for _, r := range remedies {
		if errors.Is(err, r.err) && (r.kind == "" || r.kind == s.Kind) {
			if r.reason != 0 {
				err = reason.New(r.reason, r.rule, "%w", err)
			}
			return cli.WithHint(err, "%s", strings.NewReplacer("FILE", s.File, "DEVICE", s.device(), "CREDENTIAL", s.Credential,
				"TOKEN", s.Token+s.TokenSerial, "LABEL", s.Label, "MODULE", s.Module, "PINFILE", s.PINFile, "KEYARN", s.KeyARN).Replace(r.hint))
		}
	}
	return err
}

func (s *Spec) device() string {
	if s.Device != "" {
		return s.Device
	}
	return DefaultDevice
}
