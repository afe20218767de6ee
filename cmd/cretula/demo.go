// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/pcr"
)

// demoArguments start the application in the demo's image.
var demoArguments = []string{"demo-application"}

// Outcomes of a step of the demo.
const (
	outcomeOK     = "ok"
	outcomeDenied = "denied"
)

// A demoStep is one step as it is printed with --json. What does not apply to a
// step is absent.
type demoStep struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"`

	ImageBytes int64    `json:"image_bytes,omitempty"`
	StandIns   []string `json:"stand_ins,omitempty"`
	PCRs       *pcr.Set `json:"pcrs,omitempty"`

	KeyID  string          `json:"key_id,omitempty"`
	Role   string          `json:"role,omitempty"`
	Policy json.RawMessage `json:"policy,omitempty"`

	ModuleID       string   `json:"module_id,omitempty"`
	Isolated       *bool    `json:"isolated,omitempty"`
	IsolationLacks []string `json:"isolation_lacks,omitempty"`
	DocumentBytes  int      `json:"document_bytes,omitempty"`
	EnvelopeBytes  int      `json:"envelope_bytes,omitempty"`
	CallMillis     float64  `json:"call_millis,omitempty"`
	SecretSHA256   string   `json:"secret_sha256,omitempty"`

	Decision    string          `json:"decision,omitempty"`
	Error       string          `json:"error,omitempty"`
	Statements  []string        `json:"statements,omitempty"`
	Conditions  []demoCondition `json:"conditions,omitempty"`
	Rule        string          `json:"rule,omitempty"`
	WantedRoot  string          `json:"wanted_root,omitempty"` // SHA-256 of a certificate
	GotRoot     string          `json:"got_root,omitempty"`
	Differs     []string        `json:"differs,omitempty"`
	Same        []string        `json:"same,omitempty"`
	Explanation string          `json:"explanation,omitempty"`
}

// A demoCondition is a condition key that a denial depended on. Got is absent
// where the request had no such key.
type demoCondition struct {
	Statement string   `json:"statement"`
	Operator  string   `json:"operator"`
	Key       string   `json:"key"`
	Wanted    []string `json:"wanted"`
	Got       []string `json:"got,omitempty"`
}

func newDemoCommand(env *cli.Env) *cobra.Command {
	var asJSON bool
	var keep string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "From an image to an attested key, and four ways to be refused",
		Long: `Build an enclave image, make a key that only this image gets, start the image and
let it decrypt a secret; then be refused in four ways, each explained.

Everything is real but the hardware: documents, certificates, signatures, policies
and envelopes are those of the other commands. It is EMULATED all the same: the
root of trust is made on this machine, for this run.

Exit status 0 only if every step, the denials included, came out as it must.`,
		Example: `  $ cretula demo
  $ cretula demo --keep kept
  $ cretula attestation verify kept/document.cbor --root kept/root.crt \
      --measurements kept/measurements.json --at-document-time
  $ openssl cms -cmsout -print -inform DER -in kept/envelope.ber`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDemo(cmd.Context(), env, keep, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object instead of the story")
	cmd.Flags().StringVar(&keep, "keep", "", "leave image, measurements, policy, document, envelope and audit log in `DIR`, new or empty")
	return cmd
}

// runDemo plays the demo in a folder of its own, which goes afterwards.
func runDemo(ctx context.Context, env *cli.Env, keep string, asJSON bool) (err error) {
	if keep != "" {
		if err := emptyFolder(keep); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(temporaryFolder(), "cretula-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{env: env, dir: dir, story: env.Stdout, start: time.Now()}
	if asJSON {
		d.story = io.Discard
	}
	playErr := d.play(ctx)
	if d.stack != nil {
		if err := d.stack.Close(); playErr == nil {
			playErr = err
		}
	}
	if keep != "" && playErr == nil {
		playErr = d.keep(keep)
	}
	if asJSON && len(d.steps) > 0 {
		err := env.PrintJSON(struct {
			Schema   string     `json:"schema"`
			Emulated bool       `json:"emulated"`
			Steps    []demoStep `json:"steps"`
		}{"cretula.demo.v1", true, d.steps})
		if err != nil {
			return err
		}
	}
	return playErr
}

// temporaryFolder is the system's unless its name is too long for the sockets
// that go into it: Unix has 107 bytes for a path.
func temporaryFolder() string {
	if dir := os.TempDir(); len(dir) <= 60 {
		return dir
	}
	return "/tmp"
}

// emptyFolder makes the folder for what is kept. Files that are there already
// are nobody's to replace.
func emptyFolder(path string) error {
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return durable.MkdirAll(path)
	case err != nil:
		return err
	case len(entries) > 0:
		return cli.WithHint(cli.Usagef("--keep: %s is not empty", path), "name a new folder")
	}
	return nil
}

// keep copies what is worth looking at.
func (d *demo) keep(dir string) error {
	for _, file := range []struct{ name, from string }{
		{"app.eif", d.imagePath},
	} {
		if err := copyFile(filepath.Join(dir, file.name), file.from); err != nil {
			return err
		}
	}
	if err := copyFolder(filepath.Join(dir, datadir.AuditDir), filepath.Join(d.stackDir(), datadir.AuditDir)); err != nil {
		return err
	}
	measurements, err := json.MarshalIndent(struct{ Measurements pcr.Measurements }{d.measurements}, "", "  ")
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"measurements.json": append(measurements, '\n'),
		"key-policy.json":   d.policy,
		"document.cbor":     d.report.Document,
		"envelope.ber":      d.report.Envelope,
		"root.crt":          d.rootPEM,
	} {
		if err := durable.WriteFile(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	fmt.Fprintf(d.story, "kept in %s: app.eif, measurements.json, key-policy.json, document.cbor, envelope.ber, root.crt, audit\n", dir)
	return nil
}

// copyFolder copies the files of a folder to a new one.
func copyFolder(to, from string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(to); err != nil {
		return err
	}
	for _, entry := range entries {
		if err := copyFile(filepath.Join(to, entry.Name()), filepath.Join(from, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}
