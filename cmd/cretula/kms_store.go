// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/adminsock"
	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/datadir"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/keystore"
	"github.com/cretula/cretula/reason"
)

// parts says where the parts of the service are.
func (w where) parts(env *cli.Env) (datadir.Config, error) {
	c, err := w.load(env)
	if err != nil {
		return datadir.Config{}, err
	}
	parts := c.Parts(nil)
	// As it was given: what is printed of it is to be recognised.
	parts.Dir, err = w.folder(env)
	return parts, err
}

// openParts opens the parts, where no service runs on them.
func openParts(ctx context.Context, env *cli.Env, w where) (*datadir.Dir, error) {
	parts, err := w.parts(env)
	if err != nil {
		return nil, err
	}
	files, err := parts.Open(ctx)
	switch {
	case errors.Is(err, datadir.ErrNone) && w.config != "":
		return nil, cli.WithHint(err, "'cretula kms init --config %s' makes one", w.config)
	case errors.Is(err, datadir.ErrNone):
		return nil, cli.WithHint(err, "'cretula up --data-dir %s' makes one", parts.Dir)
	case errors.Is(err, keystore.ErrInUse):
		return nil, cli.WithHint(err, "a key service runs on %s without its admin socket; stop it first", parts.Dir)
	}
	return files, err
}

// A storeAdmin reads the store as a whole: a running service, or the files.
type storeAdmin interface {
	Backup(context.Context, io.Writer) (uint64, error)
	CheckStore(context.Context) (*kms.StoreReport, error)
}

// withStore runs fn with the service that runs, or else with the files.
func withStore(ctx context.Context, env *cli.Env, w where, fn func(storeAdmin) error) error {
	parts, err := w.parts(env)
	if err != nil {
		return err
	}
	client, err := adminsock.Dial(ctx, parts.Dir)
	if err == nil {
		return fn(client)
	}
	if !errors.Is(err, adminsock.ErrNoServer) {
		return err
	}
	files, err := openParts(ctx, env, w)
	if err != nil {
		return err
	}
	server, err := files.Server(nil, false)
	if err == nil {
		err = fn(server)
		server.Close()
	}
	return errors.Join(err, files.Close())
}

// working shows on a terminal that something takes longer than two seconds, and
// how much of it is done, until stop is called.
func working(env *cli.Env, what string, done *atomic.Int64) (stop func()) {
	if !cli.IsTerminal(env.Stderr) {
		return func() {}
	}
	ended := make(chan struct{})
	cleared := make(chan struct{})
	go func() {
		defer close(cleared)
		ticker := time.NewTicker(2 * time.Second)
		defer ticker.Stop()
		shown := false
		for {
			select {
			case <-ended:
				if shown {
					fmt.Fprint(env.Stderr, "\r\x1b[K")
				}
				return
			case <-ticker.C:
				shown = true
				if n := done.Load(); n > 0 {
					fmt.Fprintf(env.Stderr, "\r\x1b[K%s, %.1f MiB", what, float64(n)/(1<<20))
				} else {
					fmt.Fprintf(env.Stderr, "\r\x1b[K%s", what)
				}
			}
		}
	}()
	return func() {
		close(ended)
		<-cleared
	}
}

// counted counts what passes through.
type counted struct {
	io.Writer
	n *atomic.Int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n.Add(int64(n))
	return n, err
}

type countedFile struct {
	*os.File
	n *atomic.Int64
}

func (c *countedFile) Read(b []byte) (int, error) {
	n, err := c.File.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func newKMSBackup(env *cli.Env) *cobra.Command {
	var w where
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Back up the store to a new file, also while the service runs",
		Long: `Writes all rows of the store, as they are at one moment, to a new file (0600).

The file is encrypted under a key that is derived from the root key, and has not
the root key in it: keep a copy of that, or of what holds it, somewhere else.
Every row is verified first; of a store that was tampered with there is no backup.
It is not written over: FILE must not exist.`,
		Example: `  $ cretula kms backup /backup/kms-2026-11-21 --config /etc/cretula/kms.toml
  $ cretula kms backup before-the-change --data-dir run --json`,
		Args: exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd.Context(), env, w, func(admin storeAdmin) error {
				return runBackup(cmd.Context(), env, admin, args[0], asJSON)
			})
		},
	}
	whereFlags(cmd, &w)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func runBackup(ctx context.Context, env *cli.Env, admin storeAdmin, name string, asJSON bool) error {
	if _, err := os.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = cli.WithHint(fmt.Errorf("%s is there already", name), "name a new file")
		}
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var size atomic.Int64
	stop := working(env, "backing up", &size)
	buffered := bufio.NewWriterSize(&counted{f, &size}, 1<<18)
	rows, err := admin.Backup(ctx, buffered)
	if err == nil {
		err = errors.Join(buffered.Flush(), f.Sync(), f.Close())
	}
	stop()
	if err != nil {
		return err
	}
	if err := durable.Publish(f.Name(), name); err != nil {
		return err
	}
	if asJSON {
		return env.PrintJSON(struct {
			Schema string `json:"schema"`
			File   string `json:"file"`
			Rows   uint64 `json:"rows"`
			Bytes  int64  `json:"bytes"`
		}{"cretula.kms.backup-result.v1", name, rows, size.Load()})
	}
	fmt.Fprintf(env.Stderr, "backed up %d rows to %s, %d bytes\n", rows, cli.Printable(name), size.Load())
	return nil
}

// transferred is what restore and migrate print.
type transferred struct {
	Schema  string `json:"schema"`
	StoreID string `json:"store_id"`
	Store   string `json:"store"`
	Rows    uint64 `json:"rows"`
	Epoch   uint64 `json:"epoch"`
}

func printTransferred(env *cli.Env, schema, verb string, done datadir.Transferred, asJSON bool) error {
	if asJSON {
		return env.PrintJSON(transferred{schema, done.StoreID, done.Store, done.Rows, done.Epoch})
	}
	fmt.Fprintf(env.Stderr, "%s %d rows of store %s to %s, epoch %d\n", verb, done.Rows, done.StoreID, cli.Printable(done.Store), done.Epoch)
	return nil
}

func newKMSRestore(env *cli.Env) *cobra.Command {
	var w where
	var replace, verifyOnly, asJSON bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup into an empty store, or in place of what there is",
		Long: `Puts the rows of a backup into the store, while no service runs on it.

The root key that the store had must be there; the backup does not contain it. All
of the backup is verified before the store changes, and what was there stays as it
is until the last moment. The restore is on record in the audit log, and it raises
the epoch of the store: every older copy of it is refused from then on.

Without --replace the store must be empty or missing. With --verify-only nothing is
written: it says whether the backup is whole and of this root key.`,
		Example: `  $ cretula kms restore /backup/kms-2026-11-21 --config /etc/cretula/kms.toml
  $ cretula kms restore before-the-change --replace --data-dir run
  $ cretula kms restore /backup/kms-2026-11-21 --verify-only --json --data-dir run`,
		Args: exactArguments("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			parts, err := w.parts(env)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			var size atomic.Int64
			file := &countedFile{f, &size}
			if verifyOnly {
				return runVerifyBackup(cmd.Context(), env, parts, file, asJSON)
			}
			if err := refuseRunning(cmd.Context(), parts); err != nil {
				return err
			}
			stop := working(env, "restoring", &size)
			done, err := parts.Restore(cmd.Context(), file, replace)
			stop()
			if err != nil {
				return err
			}
			return printTransferred(env, "cretula.kms.restore-result.v1", "restored", done, asJSON)
		},
	}
	whereFlags(cmd, &w)
	cmd.Flags().BoolVar(&replace, "replace", false, "put it in place of the rows that are there")
	cmd.Flags().BoolVar(&verifyOnly, "verify-only", false, "only verify the backup")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	cmd.MarkFlagsMutuallyExclusive("replace", "verify-only")
	return cmd
}

func runVerifyBackup(ctx context.Context, env *cli.Env, parts datadir.Config, file *countedFile, asJSON bool) error {
	stop := working(env, "verifying", file.n)
	header, rows, err := parts.VerifyBackup(ctx, file)
	stop()
	if err != nil {
		return err
	}
	if asJSON {
		return env.PrintJSON(struct {
			Schema  string    `json:"schema"`
			ID      string    `json:"id"`
			StoreID string    `json:"store_id"`
			Account string    `json:"account"`
			Created time.Time `json:"created"`
			Rows    uint64    `json:"rows"`
		}{"cretula.kms.backup-verification.v1", header.ID, header.StoreID, header.Account, header.Created, rows})
	}
	fmt.Fprintf(env.Stdout, "backup of store %s, made %s: %d rows, whole\n", header.StoreID, header.Created.UTC().Format(time.RFC3339), rows)
	return nil
}

// refuseRunning refuses where a service runs on the folder.
func refuseRunning(ctx context.Context, parts datadir.Config) error {
	_, err := adminsock.Dial(ctx, parts.Dir)
	if err == nil {
		return cli.WithHint(fmt.Errorf("a key service is running on %s", parts.Dir), "stop it first")
	}
	if !errors.Is(err, adminsock.ErrNoServer) {
		return err
	}
	return nil
}

func newKMSMigrate(env *cli.Env) *cobra.Command {
	var w where
	var from, to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "migrate --to STORE",
		Short: "Move the store to another file or database",
		Long: `Moves all rows to another store, from a file to a PostgreSQL database or back: a
STORE is an absolute path or postgres://USER@HOST/DATABASE?sslmode=verify-full,
without a password. --from is that of the configuration unless it is given.

Nothing else can write to the old store meanwhile. Every row is verified on both
sides. Then the old store is marked as moved: no service can use it any more, also
none that has it open. If it is interrupted, the old store is as it was; the same
command goes on. Afterwards name the new store in the configuration.`,
		Example: `  $ cretula kms migrate --to 'postgres://cretula@db.internal/kms?sslmode=verify-full' --config /etc/cretula/kms.toml
  $ cretula kms migrate --from 'postgres://cretula@db.internal/kms?sslmode=verify-full' --to /var/lib/cretula/kms.db --config /etc/cretula/kms.toml`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return cli.WithHint(cli.Usagef("--to is missing"), "see '%s --help'", cmd.CommandPath())
			}
			source, err := w.parts(env)
			if err != nil {
				return err
			}
			if from != "" {
				source.Store = from
			}
			target := source
			target.Store = to
			if err := refuseRunning(cmd.Context(), source); err != nil {
				return err
			}
			stop := working(env, "moving the store", new(atomic.Int64))
			done, err := source.Migrate(cmd.Context(), target)
			stop()
			if err != nil {
				return err
			}
			return printTransferred(env, "cretula.kms.migrate-result.v1", "moved", done, asJSON)
		},
	}
	whereFlags(cmd, &w)
	cmd.Flags().StringVar(&from, "from", "", "the `STORE` that is moved (default that of the configuration)")
	cmd.Flags().StringVar(&to, "to", "", "the `STORE` that it is moved to, which must not exist or be empty")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func newKMSVerifyStore(env *cli.Env) *cobra.Command {
	var w where
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify-store",
		Short: "Check every row of the store, also while the service runs",
		Long: `Reads the whole store: that every row is what the service wrote (its HMAC, and the
roster that lists all rows), that the root key opens every version of key material
and every secret access key, that every policy can be parsed, and that no row leads
to one that is not there. Then the audit log of this server: that no record of it
was changed, taken out or cut off.

Each finding is a line on stdout. The exit status is 0 if there is none, 5 if there
is one.`,
		Example: `  $ cretula kms verify-store --config /etc/cretula/kms.toml
  $ cretula kms verify-store --data-dir run --json`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runVerifyStore(cmd.Context(), env, w, asJSON) },
	}
	whereFlags(cmd, &w)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

func runVerifyStore(ctx context.Context, env *cli.Env, w where, asJSON bool) error {
	parts, err := w.parts(env)
	if err != nil {
		return err
	}
	stop := working(env, "reading the store", new(atomic.Int64))
	defer func() { stop() }()
	var report *kms.StoreReport
	err = withStore(ctx, env, w, func(admin storeAdmin) error {
		report, err = admin.CheckStore(ctx)
		return err
	})
	if err != nil {
		return err
	}
	log, err := parts.VerifyAudit(ctx, report.StoreID, report.AuditHeads)
	if err != nil {
		return fmt.Errorf("the store was read, with %d findings; its audit log was not: %w", len(report.Findings), err)
	}
	stop()
	stop = func() {}
	for _, f := range log.Findings {
		report.Findings = append(report.Findings, kms.StoreFinding{Table: "audit", ID: "log", Message: f.String()})
	}
	return printStoreReport(env, report, log.Records, asJSON)
}

func printStoreReport(env *cli.Env, report *kms.StoreReport, records uint64, asJSON bool) error {
	if asJSON {
		err := env.PrintJSON(struct {
			Schema string `json:"schema"`
			*kms.StoreReport
			AuditRecords uint64 `json:"audit_records"`
		}{"cretula.kms.store-report.v1", report, records})
		if err != nil {
			return err
		}
	} else {
		for _, f := range report.Findings {
			fmt.Fprintf(env.Stdout, "%s %s: %s\n", cli.Printable(f.Table), cli.Printable(f.ID), cli.Printable(f.Message))
		}
		fmt.Fprintf(env.Stderr, "store %s, generation %d: %d rows, %d keys, %d secrets opened, %d policies parsed; %d audit records; %d findings\n",
			report.StoreID, report.Generation, report.Rows, report.Keys, report.Unwrapped, report.Policies, records, len(report.Findings))
	}
	if len(report.Findings) > 0 {
		return &cli.ExitError{Code: reason.BadSignature.ExitCode()}
	}
	return nil
}
