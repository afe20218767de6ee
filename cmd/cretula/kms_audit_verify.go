// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/adminsock"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/kms/rootkey"
	"github.com/cretula/cretula/reason"
)

// maxHeadsFile bounds a file of --head.
const maxHeadsFile = 4 << 20

type auditVerify struct {
	env                 *cli.Env
	place               auditPlace
	publicKey, headFile string
	withoutStore, json  bool
	dir                 string
	options             audit.VerifyOptions
	notCompared         string // why not with the store
	started, shown      time.Time
}

func newAuditVerify(env *cli.Env) *cobra.Command {
	v := &auditVerify{env: env}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Find out whether the audit log is what the service wrote",
		Long: `Reads the whole audit log and compares it with its chain of MACs, with the signed
heads in its folder, with the newest head that the store has, and with those of
--head. Every record that was edited, taken out, put in, moved or cut off is named by
its number. It works while the service runs, too.

The MACs need the root key. With --public-key FILE, which 'cretula kms audit key'
prints, only the heads are verified, and that the records they name are there: that
shows what is missing, not what was edited.

The exit status is 3 where lines cannot be read, 5 where records or heads do not fit
their MAC or signature, 7 where records are missing, moved or other ones; the first
that applies.`,
		Example: `  $ cretula kms audit verify --data-dir run
  $ cretula kms audit verify --audit-dir exported --public-key audit.pem --head head.json`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return v.run(cmd.Context()) },
	}
	auditFlags(cmd, &v.place)
	flags := cmd.Flags()
	flags.StringVar(&v.publicKey, "public-key", "", "`FILE` with the public key of the heads, PEM, in place of the root key")
	flags.StringVar(&v.headFile, "head", "", "`FILE` with heads that were kept, a line each")
	flags.BoolVar(&v.withoutStore, "without-store", false, "do not ask the store for the newest head")
	flags.BoolVar(&v.json, "json", false, "print a JSON object")
	return cmd
}

func (v *auditVerify) run(ctx context.Context) (err error) {
	if v.dir, err = v.place.open(v.env); err != nil {
		return err
	}
	if v.place.folder == "" {
		c, err := v.place.load(v.env)
		if err != nil {
			return err
		}
		v.options.Server = c.Audit.Server
	}
	if v.headFile != "" {
		if err := v.readHeads(); err != nil {
			return err
		}
	}
	given := v.options.Known
	if v.publicKey != "" {
		v.options.Public, err = readAuditKey(v.env, v.publicKey)
	} else {
		err = v.openKeys(ctx)
	}
	if err != nil {
		return err
	}
	v.options.Progress = v.progress
	v.started = v.env.Now()
	report, err := audit.Verify(ctx, v.dir, v.options)
	if !v.shown.IsZero() {
		fmt.Fprint(v.env.Stderr, "\r\x1b[K")
	}
	if err != nil {
		return explainAudit(err)
	}
	wantGiven(report, given)
	return v.print(report)
}

// wantGiven notes if heads were given and none is of the log: it says then that it is
// another server's, or one that was begun anew.
func wantGiven(r *audit.Report, given []audit.Head) {
	if len(given) == 0 || slices.ContainsFunc(given, func(h audit.Head) bool { return h.Chain == r.Chain.Chain }) ||
		slices.ContainsFunc(r.Findings, func(f audit.Finding) bool { return f.Problem == audit.Replaced }) {
		return
	}
	r.Findings = append(r.Findings, audit.Finding{Problem: audit.Replaced,
		Detail: fmt.Sprintf("none of the heads that were given is of chain %s, which is there", r.Chain.Chain)})
}

// readHeads reads the heads of --head.
func (v *auditVerify) readHeads() error {
	text, err := v.env.ReadInput(v.headFile, maxHeadsFile)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(text) {
		head, err := audit.ParseHead(line)
		if err != nil {
			return reason.New(reason.Malformed, "audit.head", "%s: %w", v.headFile, err)
		}
		v.options.Known = append(v.options.Known, head)
	}
	if len(v.options.Known) == 0 {
		return reason.New(reason.Malformed, "audit.head", "%s: there is no head in it", v.headFile)
	}
	return nil
}

// openKeys opens the root key, and asks the store for the heads that it has.
func (v *auditVerify) openKeys(ctx context.Context) error {
	c, err := v.place.load(v.env)
	if err != nil {
		return err
	}
	parts := c.Parts(nil)
	root, err := parts.OpenRootKey(ctx)
	if err != nil {
		return err
	}
	v.options.Key = root
	if v.withoutStore {
		v.notCompared = "--without-store"
		return nil
	}
	var texts [][]byte
	client, err := adminsock.Dial(ctx, string(c.DataDir))
	switch {
	case err == nil:
		texts, err = client.AuditHeads(ctx)
	case errors.Is(err, adminsock.ErrNoServer):
		texts, err = parts.AuditHeads(ctx, root)
	}
	if errors.Is(err, keystore.ErrInUse) {
		v.notCompared = "the store is in use"
		return nil
	}
	if err != nil {
		return cli.WithHint(err, "with --without-store the newest head that the store has is not looked at")
	}
	for _, text := range texts {
		head, err := audit.ParseHead(text)
		if err != nil {
			return reason.New(reason.Malformed, "audit.head", "the store: %w", err)
		}
		v.options.Known = append(v.options.Known, head)
	}
	return nil
}

// readAuditKey reads what "audit key" prints.
func readAuditKey(env *cli.Env, name string) (ed25519.PublicKey, error) {
	text, err := env.ReadInput(name, maxHeadsFile)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, reason.New(reason.Malformed, "audit.key", "%s is not one public key in PEM", name)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, reason.New(reason.Malformed, "audit.key", "%s is no public key of Ed25519", name)
	}
	return key, nil
}

// progress shows on a terminal how far it is, once that takes more than two seconds.
func (v *auditVerify) progress(read, total int64) {
	now := v.env.Now()
	if total == 0 || now.Sub(v.started) < 2*time.Second || now.Sub(v.shown) < 200*time.Millisecond || !cli.IsTerminal(v.env.Stderr) {
		return
	}
	v.shown = now
	fmt.Fprintf(v.env.Stderr, "\r\x1b[Kverified %d %% of %d MB", read*100/total, total>>20)
}

func (v *auditVerify) print(r *audit.Report) error {
	code := 0
	if refusal, ok := errors.AsType[*reason.Error](r.Err()); ok {
		code = refusal.Reason().ExitCode()
	}
	var err error
	if v.json {
		err = v.printJSON(r, code == 0)
	} else {
		_, err = fmt.Fprint(v.env.Stdout, v.text(r))
	}
	if err == nil && code != 0 {
		err = &cli.ExitError{Code: code}
	}
	return err
}

func (v *auditVerify) text(r *audit.Report) string {
	var b strings.Builder
	fact := "verified"
	if len(r.Findings) > 0 {
		fact = "tampered"
	}
	emulated := ""
	if r.Chain.Emulated {
		emulated = "   EMULATED"
	}
	fmt.Fprintf(&b, "%s   %d records, %d to %d%s\n", fact, r.Records, r.First, r.Last, emulated)
	fmt.Fprintf(&b, "chain      %s of store %s", r.Chain.Chain, r.Chain.Store)
	if r.Chain.Server != "" {
		fmt.Fprintf(&b, ", server %s", r.Chain.Server)
	}
	fmt.Fprintf(&b, "\nhead       %d records at %s, the newest of %d\n", r.Newest.Count, r.Newest.Time.Format(time.RFC3339), r.Heads)
	if r.Removed.Count > 0 {
		fmt.Fprintf(&b, "removed    records 1 to %d by retention, the last time at %s\n", r.Removed.Count, r.Removed.Time.Format(time.RFC3339))
	}
	if r.Torn > 0 {
		fmt.Fprintf(&b, "torn       %d bytes at the end, of records that nobody was answered on\n", r.Torn)
	}
	if !r.MACs {
		b.WriteString("not checked: MACs, which need the root key\n")
	} else if v.notCompared != "" {
		fmt.Fprintf(&b, "not compared with the newest head that the store has: %s\n", v.notCompared)
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "  %s\n", cli.Printable(f.String()))
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "  and %d more\n", r.More)
	}
	return b.String()
}

// An auditHead is a head in JSON output.
type auditHead struct {
	Count uint64    `json:"count"`
	MAC   string    `json:"mac"`
	Time  time.Time `json:"time"`
}

func (v *auditVerify) printJSON(r *audit.Report, verified bool) error {
	head := func(h audit.Head) *auditHead { return &auditHead{h.Count, hex.EncodeToString(h.MAC[:]), h.Time} }
	out := struct {
		Schema   string          `json:"schema"`
		Verified bool            `json:"verified"`
		Emulated bool            `json:"emulated"`
		Store    string          `json:"store"`
		Chain    string          `json:"chain"`
		Server   string          `json:"server,omitempty"`
		Records  uint64          `json:"records"`
		First    uint64          `json:"first"`
		Last     uint64          `json:"last"`
		MACs     bool            `json:"macs_checked"`
		Compared bool            `json:"store_compared"`
		Torn     int64           `json:"torn_bytes"`
		Head     *auditHead      `json:"newest_head"`
		Removed  *auditHead      `json:"removed,omitempty"`
		Findings []audit.Finding `json:"findings"`
		More     int             `json:"more_findings,omitempty"`
	}{
		"cretula.kms.audit-verify.v1", verified, r.Chain.Emulated, r.Chain.Store, r.Chain.Chain, r.Chain.Server, r.Records, r.First, r.Last,
		r.MACs, r.MACs && v.notCompared == "", r.Torn, head(r.Newest), nil, append([]audit.Finding{}, r.Findings...), r.More,
	}
	if r.Removed.Count > 0 {
		out.Removed = head(r.Removed)
	}
	return v.env.PrintJSON(out)
}

func newAuditHead(env *cli.Env) *cobra.Command {
	var place auditPlace
	cmd := &cobra.Command{
		Use:   "head",
		Short: "Print the newest signed head of the audit log",
		Long: `Prints the newest head: how many records there are and what the MAC of the last one
is, signed. Kept where the service cannot write, it shows with 'cretula kms audit
verify --head' if records that it counts are cut off or changed later.`,
		Example: "  $ cretula kms audit head --data-dir run >> /mnt/elsewhere/heads",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := place.dir(env)
			if err != nil {
				return err
			}
			head, err := audit.NewestHead(dir)
			if err != nil {
				return explainAudit(err)
			}
			_, err = fmt.Fprintf(env.Stdout, "%s\n", head.Text())
			return err
		},
	}
	auditFlags(cmd, &place)
	return cmd
}

func newAuditKey(env *cli.Env) *cobra.Command {
	var place auditPlace
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Print the public key of the heads",
		Long: `Prints the public key that the heads of the store's audit logs are signed with
(Ed25519, PEM). It is derived from the root key and the same for all servers of a
store.`,
		Example: "  $ cretula kms audit key --data-dir run > audit.pem",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := place.dir(env)
			if err != nil {
				return err
			}
			c, err := place.load(env)
			if err != nil {
				return err
			}
			root, err := c.Parts(nil).OpenRootKey(cmd.Context())
			if err != nil {
				return err
			}
			return printAuditKey(env, dir, root)
		},
	}
	auditFlags(cmd, &place)
	return cmd
}

func printAuditKey(env *cli.Env, dir string, root rootkey.Key) error {
	chain, err := audit.ReadChain(dir)
	if err != nil {
		return explainAudit(err)
	}
	key, err := audit.PublicKey(root, chain.Store)
	if err != nil {
		return err
	}
	if !chain.Verify(key) {
		return explainAudit(audit.ErrOtherKey)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	return pem.Encode(env.Stdout, &pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
