// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/adminsock"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/reason"
)

// maxPolicyFile is twice the longest policy that IAM takes.
const maxPolicyFile = 64 << 10

func newKMSCommand(env *cli.Env) *cobra.Command {
	return newNounCommand("kms", "Run and administer the key service, and ask why it said no",
		newKMSInit(env), newKMSServe(env),
		newNounCommand("principal", "Administer the users and roles of the key service",
			newPrincipalAdd(env), newPrincipalList(env), newPrincipalShow(env), newPrincipalRemove(env),
			newPrincipalDisable(env, true), newPrincipalDisable(env, false), newPrincipalRevoke(env),
			newPrincipalSetPolicy(env), newPrincipalTrust(env), newAccessKeyCommand(env)),
		newTokenKeyCommand(env),
		newKMSBackup(env), newKMSRestore(env), newKMSMigrate(env), newKMSVerifyStore(env), newRootKeyCommand(env),
		newKMSExplain(env), newKMSAudit(env))
}

// A kmsAdmin does what only the owner of the data folder may: over the admin
// socket of a running service, else on the files.
type kmsAdmin interface {
	AddPrincipal(context.Context, kms.Principal) (kms.Credentials, error)
	ListPrincipals(context.Context) ([]kms.PrincipalInfo, error)
	FindPrincipal(ctx context.Context, name, account string) (kms.PrincipalInfo, error)
	RemovePrincipal(ctx context.Context, name, account string) (kms.PrincipalInfo, error)
	ChangePrincipal(ctx context.Context, name, account string, change kms.PrincipalChange) (kms.PrincipalInfo, error)
	CreateAccessKey(ctx context.Context, name, account string) (kms.Credentials, error)
	SetAccessKeyActive(ctx context.Context, id string, active bool) (kms.PrincipalInfo, error)
	DeleteAccessKey(ctx context.Context, id string) (kms.PrincipalInfo, error)
	ListTokenKeys(context.Context) ([]kms.TokenKeyInfo, error)
	RotateTokenKey(ctx context.Context, retire bool) error
}

// openAdmin connects to the service of the folder or opens the folder itself.
func openAdmin(ctx context.Context, env *cli.Env, w where) (admin kmsAdmin, closeAdmin func() error, err error) {
	dir, err := w.folder(env)
	if err != nil {
		return nil, nil, err
	}
	client, err := adminsock.Dial(ctx, dir)
	if err == nil {
		return client, func() error { return nil }, nil
	}
	if !errors.Is(err, adminsock.ErrNoServer) {
		return nil, nil, err
	}
	files, err := openParts(ctx, env, w)
	if err != nil {
		return nil, nil, err
	}
	server, err := files.Server(nil, false)
	if err != nil {
		return nil, nil, errors.Join(err, files.Close())
	}
	return server, files.Close, nil
}

// withAdmin runs fn and closes what was opened.
func withAdmin(ctx context.Context, env *cli.Env, w where, fn func(kmsAdmin) error) error {
	admin, closeAdmin, err := openAdmin(ctx, env, w)
	if err != nil {
		return err
	}
	err = fn(admin)
	if closeErr := closeAdmin(); err == nil {
		err = closeErr
	}
	return err
}

type principalFlags struct {
	where                     where
	account, output, boundary string
	policies, tags            []string
	role, json                bool
	trust                     string
	longest                   time.Duration
}

func newPrincipalAdd(env *cli.Env) *cobra.Command {
	var f principalFlags
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user or role with one access key",
		Long: `Adds a user, or with --role a role, to the key service and prints its access key,
fit for the dot command of a shell. The secret is shown this once.

A role's key acts as the session "cretula" of the role. A role with --trust is there to
be assumed and gets no access key; 'cretula kms principal key create' makes one. Without --policy a
principal has no identity policies: it may do what key policies allow it by name.
A name may have a path before it, as in batch/worker.

With --boundary it may do no more than that policy allows, whatever others do.
Policies see tags as aws:PrincipalTag/KEY.`,
		Example: `  $ cretula kms principal add data-processing --role --output role.env
  $ cretula kms principal add nightly --role --trust trust.json --policy nightly.json
  $ cretula kms principal add batch/worker --role --tag team=red --boundary limit.json
  $ cretula kms principal add alice --policy alice.json --json`,
		Args: exactArguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return runPrincipalAdd(cmd.Context(), env, &f, args[0]) },
	}
	flags := cmd.Flags()
	whereFlags(cmd, &f.where)
	flags.BoolVar(&f.role, "role", false, "add a role rather than a user")
	flags.StringArrayVar(&f.policies, "policy", nil, "identity policy, a JSON `FILE`; repeatable")
	flags.StringVar(&f.boundary, "boundary", "", "permissions boundary, a JSON `FILE`")
	flags.StringVar(&f.trust, "trust", "", "trust policy of a role, a JSON `FILE`: who may assume it")
	flags.DurationVar(&f.longest, "max-session", 0, "longest `DURATION` of a role's session, 1h to 12h (default 1h)")
	flags.StringArrayVar(&f.tags, "tag", nil, "tag of the principal, `KEY=VALUE`; repeatable")
	flags.StringVar(&f.account, "account", "", "`ACCOUNT` of twelve digits (default that of the service)")
	flags.StringVar(&f.output, "output", "", "write the access key to a new `FILE` (0600) instead of stdout")
	flags.BoolVar(&f.json, "json", false, "write a JSON object")
	return cmd
}

// addedPrincipal is what "principal add" prints.
type addedPrincipal struct {
	Schema          string            `json:"schema"`
	Type            kms.PrincipalType `json:"type"`
	Name            string            `json:"name"`
	Account         string            `json:"account"`
	ARN             string            `json:"arn"`
	ID              string            `json:"id"`
	AccessKeyID     string            `json:"access_key_id"`
	SecretAccessKey string            `json:"secret_access_key"`
}

// principal makes the principal that the flags describe.
func (f *principalFlags) principal(env *cli.Env, name string) (*kms.Principal, error) {
	p := &kms.Principal{Type: kms.User, Name: name, Account: f.account, Policies: []string{}, Tags: map[string]string{}}
	if f.role {
		p.Type = kms.Role
	}
	for _, file := range f.policies {
		text, err := env.ReadInput(file, maxPolicyFile)
		if err != nil {
			return nil, err
		}
		p.Policies = append(p.Policies, string(text))
	}
	var err error
	if f.boundary != "" {
		if p.Boundary, err = readPolicy(env, f.boundary); err != nil {
			return nil, err
		}
	}
	if f.trust != "" {
		if p.TrustPolicy, err = readPolicy(env, f.trust); err != nil {
			return nil, err
		}
		if f.output != "" {
			return nil, cli.Usagef("--output: a role with --trust gets no access key")
		}
	}
	p.MaxSession = int(f.longest / time.Second)
	for _, tag := range f.tags {
		key, value, ok := strings.Cut(tag, "=")
		if !ok {
			return nil, cli.Usagef("--tag %q is not KEY=VALUE", tag)
		}
		if _, twice := p.Tags[key]; twice {
			return nil, cli.Usagef("--tag %q is there twice", key)
		}
		p.Tags[key] = value
	}
	return p, nil
}

func runPrincipalAdd(ctx context.Context, env *cli.Env, f *principalFlags, name string) error {
	p, err := f.principal(env, name)
	if err != nil {
		return err
	}
	var file *os.File
	if f.output != "" {
		// Before there is a key that nobody would get to see.
		file, err = durable.OpenPrivate(f.output, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s is there already", f.output)
		}
		if err != nil {
			return err
		}
		defer file.Close()
	}
	created := false
	err = withAdmin(ctx, env, f.where, func(admin kmsAdmin) error {
		credentials, err := admin.AddPrincipal(ctx, *p)
		if err != nil {
			return principalError(err)
		}
		created = true
		if credentials == (kms.Credentials{}) {
			return showAssumable(ctx, env, f, admin, p)
		}
		return showAdded(ctx, env, f, file, admin, p, credentials)
	})
	if file != nil && !created {
		os.Remove(f.output)
	}
	return err
}

// showAdded prints the access key of a new principal, which nobody gets to see
// again: before anything else is asked of the service, but for the ARN that a JSON
// object has, which is left out if it cannot be had.
func showAdded(ctx context.Context, env *cli.Env, f *principalFlags, file *os.File, admin kmsAdmin, p *kms.Principal, c kms.Credentials) error {
	added := addedPrincipal{
		Schema: "cretula.kms.principal.v1", Type: p.Type, Name: p.Name, Account: p.Account,
		AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey,
	}
	var writeErr error
	if !f.json {
		writeErr = writeAdded(env, f, file, &added)
	}
	all, listErr := admin.ListPrincipals(ctx)
	for _, info := range all {
		if len(info.AccessKeys) == 1 && info.AccessKeys[0].ID == added.AccessKeyID {
			added.Type, added.Name, added.Account, added.ARN, added.ID = info.Type, info.Name, info.Account, info.Principal.ARN(), info.ID
		}
	}
	if f.json {
		writeErr = writeAdded(env, f, file, &added)
	}
	switch {
	case writeErr != nil:
		return cli.WithHint(fmt.Errorf("the principal was added, and its access key could not be written: %w", writeErr),
			"'cretula kms principal remove %s' removes it", added.AccessKeyID)
	case listErr != nil:
		return fmt.Errorf("the principal was added, its access key was written, and its ARN is not known: %w", listErr)
	}
	fmt.Fprintf(env.Stderr, "added %s; its secret is not shown again\n", cli.Printable(cmp.Or(added.ARN, added.Name)))
	return nil
}

// showAssumable tells of a new role without an access key.
func showAssumable(ctx context.Context, env *cli.Env, f *principalFlags, admin kmsAdmin, p *kms.Principal) error {
	info, err := admin.FindPrincipal(ctx, p.Name, p.Account)
	if err != nil {
		return fmt.Errorf("the role was added, and cannot be shown: %w", err)
	}
	return (&verb{env: env, json: f.json}).said(&info, "added")
}

// writeAdded writes the access key to the file or, if that is nil, to stdout.
func writeAdded(env *cli.Env, f *principalFlags, file *os.File, added *addedPrincipal) error {
	out := *env
	if file != nil {
		out.Stdout = file
	}
	var err error
	if f.json {
		err = out.PrintJSON(added)
	} else {
		_, err = fmt.Fprintf(out.Stdout, "export AWS_ACCESS_KEY_ID='%s'\nexport AWS_SECRET_ACCESS_KEY='%s'\n", added.AccessKeyID, added.SecretAccessKey)
	}
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	return err
}

// principalError says of a wrong description that it is the caller's.
func principalError(err error) error {
	if errors.Is(err, kms.ErrPrincipal) {
		if _, ok := reason.Of(err); !ok {
			return cli.Usagef("%v", err)
		}
	}
	return err
}

func newPrincipalList(env *cli.Env) *cobra.Command {
	var at where
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List users and roles with their access key ids",
		Example: "  $ cretula kms principal list --data-dir run",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdmin(cmd.Context(), env, at, func(admin kmsAdmin) error {
				all, err := admin.ListPrincipals(cmd.Context())
				if err != nil {
					return err
				}
				return printPrincipals(env, all, asJSON)
			})
		},
	}
	whereFlags(cmd, &at)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func printPrincipals(env *cli.Env, all []kms.PrincipalInfo, asJSON bool) error {
	if asJSON {
		return env.PrintJSON(struct {
			Schema     string              `json:"schema"`
			Principals []kms.PrincipalInfo `json:"principals"`
		}{"cretula.kms.principals.v1", all})
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "PRINCIPAL\tID\tPOLICIES\tBOUNDARY\tTAGS\tCREATED\tACCESS KEYS")
	for _, p := range all {
		keys := make([]string, len(p.AccessKeys))
		for i, k := range p.AccessKeys {
			keys[i] = cli.Printable(k.ID)
			if k.Tampered != "" && p.ID != "" {
				fmt.Fprintf(w, "%s\tREFUSED: %s\n", keys[i], cli.Printable(k.Tampered))
			} else if !k.Active && k.Tampered == "" {
				keys[i] += " (inactive)"
			}
		}
		if p.Tampered != "" {
			fmt.Fprintf(w, "%s\tREFUSED: %s\n", cmp.Or(cli.Printable(p.ID), strings.Join(keys, ", ")), cli.Printable(p.Tampered))
			continue
		}
		boundary := "-"
		if p.Boundary != "" {
			boundary = fmt.Sprintf("%d bytes", len(p.Boundary))
		}
		if p.Disabled {
			keys = append(keys, "(disabled)")
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%s\t%s\n", cli.Printable(p.IdentityARN()), p.ID,
			len(p.Policies), boundary, len(p.Tags), p.Created.UTC().Format(time.RFC3339), strings.Join(keys, ", "))
	}
	return w.Flush()
}

func newPrincipalRemove(env *cli.Env) *cobra.Command {
	var at where
	var account string
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a user or role; its access key is refused at once",
		Long: `Removes a user or role. NAME is its name, or its access key id where a user and a
role have the same name or where the stored row was tampered with.`,
		Example: "  $ cretula kms principal remove data-processing",
		Args:    exactArguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd.Context(), env, at, func(admin kmsAdmin) error {
				removed, err := admin.RemovePrincipal(cmd.Context(), args[0], account)
				if err != nil {
					return principalError(err)
				}
				fmt.Fprintf(env.Stderr, "removed %s\n", cli.Printable(cmp.Or(removed.ARN, args[0])))
				return nil
			})
		},
	}
	whereFlags(cmd, &at)
	cmd.Flags().StringVar(&account, "account", "", "`ACCOUNT` of the principal (default that of the service)")
	return cmd
}
