// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/internal/durable"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
)

// Forms of an export.
const (
	exportFolder     = "folder"
	exportLines      = "lines"
	exportCloudTrail = "cloudtrail"
)

func newAuditExport(env *cli.Env) *cobra.Command {
	var place auditPlace
	var filter auditFilter
	form := exportFolder
	cmd := &cobra.Command{
		Use:   "export OUT",
		Short: "Copy the audit log to somewhere else",
		Long: `Copies the audit log, also while the service runs. OUT is a new folder that has all
records and the signed heads, and that 'cretula kms audit verify --audit-dir' takes.

With --form lines it is a new file with the records that are asked for, a JSON object
on each line, with --form cloudtrail one object {"Records": […]} as CloudTrail's
files are; - is standard output. These two prove nothing by themselves.`,
		Example: `  $ cretula kms audit export --data-dir run copy
  $ cretula kms audit export --data-dir run --form cloudtrail --since 24h - | jq .`,
		Args: exactArguments("OUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := filter.parse(env.Now()); err != nil {
				return err
			}
			dir, err := place.open(env)
			if err != nil {
				return err
			}
			switch form {
			case exportFolder:
				if !filter.empty() {
					return cli.WithHint(cli.Usagef("a folder has all records"), "leave the filter out, or choose --form lines or cloudtrail")
				}
				return explainAudit(audit.Export(cmd.Context(), args[0], dir))
			case exportLines, exportCloudTrail:
				return exportFile(cmd.Context(), env, args[0], dir, &filter, form)
			}
			return cli.WithHint(cli.Usagef("--form %q is none", form), "forms are folder, lines and cloudtrail")
		},
	}
	auditFlags(cmd, &place)
	filter.flags(cmd)
	cmd.Flags().StringVar(&form, "form", form, "`FORM` of it: folder, lines or cloudtrail")
	return cmd
}

// empty tells whether every record fits.
func (f *auditFilter) empty() bool {
	return f.since == "" && f.until == "" && len(f.operations)+len(f.principals)+len(f.keys)+len(f.errors)+len(f.outcomes) == 0
}

// exportFile writes records to a new file. One that was not finished is removed.
func exportFile(ctx context.Context, env *cli.Env, name, dir string, filter *auditFilter, form string) (err error) {
	out := env.Stdout
	if name != "-" {
		f, openErr := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, durable.FileMode)
		if openErr != nil {
			return openErr
		}
		defer func() {
			if err == nil {
				err = f.Sync()
			}
			if err = errors.Join(err, f.Close()); err == nil {
				err = durable.SyncDir(filepath.Dir(name))
			} else {
				os.Remove(name)
			}
		}()
		out = f
	}
	buffered := bufio.NewWriter(out)
	p := &auditPrinter{env: env}
	write := writeLine
	if form == exportCloudTrail {
		write = writeCloudTrail
		fmt.Fprint(buffered, `{"Records":[`)
	}
	n := 0
	err = forward(ctx, audit.NewReader(dir), func(entry audit.Entry, err error) (bool, error) {
		e, ok, err := p.read(entry, err)
		if err != nil || !ok || !filter.matches(e) {
			return err == nil, err
		}
		n++
		return true, write(buffered, entry, e, n)
	})
	if err != nil {
		return err
	}
	if form == exportCloudTrail {
		fmt.Fprint(buffered, "]}\n")
	}
	return errors.Join(buffered.Flush(), p.end())
}

func writeLine(w io.Writer, entry audit.Entry, _ *kms.Event, _ int) error {
	_, err := fmt.Fprintf(w, "{\"seq\":%d,\"event\":%s}\n", entry.Seq, entry.Event)
	return err
}

func writeCloudTrail(w io.Writer, entry audit.Entry, _ *kms.Event, n int) error {
	record, err := cloudTrailRecord(entry.Event)
	if err != nil {
		return err
	}
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if n > 1 {
		fmt.Fprint(w, ",")
	}
	_, err = fmt.Fprintf(w, "\n%s", text)
	return err
}
