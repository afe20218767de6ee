// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/reason"
)

func newKMSAudit(env *cli.Env) *cobra.Command {
	return newNounCommand("audit", "Read, verify and export the audit log of the key service",
		newAuditTail(env), newAuditQuery(env), newAuditVerify(env), newAuditExport(env), newAuditHead(env), newAuditKey(env))
}

// An auditPlace says which audit log a command is about. It may be in use.
type auditPlace struct {
	where
	folder string
}

func auditFlags(cmd *cobra.Command, p *auditPlace) {
	whereFlags(cmd, &p.where)
	cmd.Flags().StringVar(&p.folder, "audit-dir", "", "`DIR` of the audit log itself, such as an exported one")
}

// dir returns the folder of the log.
func (p *auditPlace) dir(env *cli.Env) (string, error) {
	if p.folder != "" {
		return p.folder, nil
	}
	c, err := p.load(env)
	if err != nil {
		return "", err
	}
	return string(c.Audit.Dir), nil
}

// open returns the folder of a log that is there.
func (p *auditPlace) open(env *cli.Env) (string, error) {
	dir, err := p.dir(env)
	if err != nil {
		return "", err
	}
	if _, err := audit.ReadChain(dir); err != nil {
		return "", explainAudit(err)
	}
	return dir, nil
}

// explainAudit gives a refusal its reason and says what to do.
func explainAudit(err error) error {
	switch {
	case errors.Is(err, audit.ErrNone):
		return cli.WithHint(err, "name the service with --data-dir or --config, or the folder of the log with --audit-dir")
	case errors.Is(err, audit.ErrOtherKey):
		return cli.WithHint(reason.New(reason.Mismatch, "audit.other", "%w", err), "'cretula kms audit key' prints the public key of the log's store")
	}
	return err
}

// An auditFilter chooses records.
type auditFilter struct {
	since, until                         string
	operations, principals, keys, errors []string
	outcomes                             []string
	from, to                             time.Time
}

func (f *auditFilter) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.since, "since", "", "not before `TIME`: RFC 3339, or so long ago, as in 90m")
	flags.StringVar(&f.until, "until", "", "before `TIME`")
	flags.StringArrayVar(&f.operations, "operation", nil, "`NAME` of the operation, as in Decrypt; repeatable")
	flags.StringArrayVar(&f.principals, "principal", nil, "`ARN`, name, unique id or access key id of the caller; repeatable")
	flags.StringArrayVar(&f.keys, "key", nil, "`ARN` or id of a key that it is about; repeatable")
	flags.StringArrayVar(&f.outcomes, "outcome", nil, "`OUTCOME`: allowed, denied, rejected or failed; repeatable")
	flags.StringArrayVar(&f.errors, "error", nil, "`CODE` of the exception; repeatable")
}

// parse reads the times.
func (f *auditFilter) parse(now time.Time) (err error) {
	if f.from, err = parseWhen("--since", f.since, now); err != nil {
		return err
	}
	if f.to, err = parseWhen("--until", f.until, now); err != nil {
		return err
	}
	for _, outcome := range f.outcomes {
		if !slices.Contains([]string{kms.Allowed, kms.Denied, kms.Rejected, kms.Failed}, outcome) {
			return cli.WithHint(cli.Usagef("--outcome %q is none", outcome), "outcomes are allowed, denied, rejected and failed")
		}
	}
	return nil
}

func parseWhen(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, cli.WithHint(cli.Usagef("%s %q is no time", flag, s), "write 2026-01-31T12:00:00Z, or 90m for ninety minutes ago")
	}
	return t, nil
}

// matches tells whether an event is one of those that are wanted.
func (f *auditFilter) matches(e *kms.Event) bool {
	among := func(wanted []string, got ...string) bool {
		return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return w != "" && slices.Contains(got, w) })
	}
	u := &e.UserIdentity
	callers := []string{u.ARN, u.PrincipalID, u.UserName, u.AccessKeyID}
	if s := u.SessionContext; s != nil && s.SessionIssuer != nil {
		callers = append(callers, s.SessionIssuer.ARN, s.SessionIssuer.PrincipalID, s.SessionIssuer.UserName)
	}
	var keys []string
	for _, r := range e.Resources {
		_, id, _ := strings.Cut(r.ARN, ":key/")
		keys = append(keys, r.ARN, id)
	}
	return (f.from.IsZero() || !e.EventTime.Before(f.from)) && (f.to.IsZero() || e.EventTime.Before(f.to)) &&
		among(f.operations, e.EventName) && among(f.principals, callers...) && among(f.keys, keys...) &&
		among(f.outcomes, e.Outcome) && among(f.errors, e.ErrorCode)
}

// An auditPrinter writes records, and says on stderr which lines are none.
type auditPrinter struct {
	env     *cli.Env
	json    bool
	damaged int
}

// print writes one record.
func (p *auditPrinter) print(entry audit.Entry, e *kms.Event) error {
	if p.json {
		return p.line(entry)
	}
	text := fmt.Sprintf("%s  %-8s  %s", e.EventTime.UTC().Format(time.RFC3339), e.Outcome, e.EventName)
	if e.UserIdentity.ARN != "" {
		text += "  " + e.UserIdentity.ARN
	}
	for _, r := range e.Resources {
		text += "  " + r.ARN
	}
	if e.ErrorCode != "" {
		text += "  " + e.ErrorCode
	}
	if n, ok := e.RequestParameters["count"]; ok && e.EventName == "UnauthenticatedRequests" {
		text += fmt.Sprintf("  %v from %v", n, e.RequestParameters["source"])
	}
	if e.Emulated {
		text += "  EMULATED"
	}
	_, err := fmt.Fprintln(p.env.Stdout, cli.Printable(text+"  "+e.DecisionID))
	return err
}

// line writes a record as one line of JSON.
func (p *auditPrinter) line(entry audit.Entry) error {
	_, err := fmt.Fprintf(p.env.Stdout, "{\"seq\":%d,\"event\":%s}\n", entry.Seq, entry.Event)
	return err
}

// read parses a record; ok says whether it is one. An error of the log's content is
// told of, any other is returned.
func (p *auditPrinter) read(entry audit.Entry, err error) (e *kms.Event, ok bool, _ error) {
	if err == nil {
		e, err = kms.ParseEvent(entry)
		if err == nil {
			return e, true, nil
		}
	} else if _, damaged := errors.AsType[*audit.DamagedError](err); !damaged {
		return nil, false, err
	}
	p.damaged++
	fmt.Fprintf(p.env.Stderr, "cretula: %s\n", cli.Printable(err.Error()))
	return nil, false, nil
}

// end returns the error that damage has been.
func (p *auditPrinter) end() error {
	if p.damaged == 0 {
		return nil
	}
	return cli.WithHint(reason.New(reason.Malformed, "audit.unreadable", "%d lines of the audit log are no records", p.damaged),
		"'cretula kms audit verify' says what was done to it")
}

func newAuditQuery(env *cli.Env) *cobra.Command {
	var place auditPlace
	var filter auditFilter
	var decision string
	var limit int
	var oldest bool
	p := &auditPrinter{env: env}
	cmd := &cobra.Command{
		Use:   "query",
		Short: "Print the records that fit",
		Long: `Prints the records of the audit log that fit all that is asked for, newest first, a
line each; 'cretula kms explain' shows one in full. It reads the folder of the log,
also while the service runs, and needs no root key: only 'cretula kms audit verify'
says whether the records are what the service wrote.`,
		Example: `  $ cretula kms audit query --data-dir run --outcome denied --since 24h
  $ cretula kms audit query --config kms.toml --operation Decrypt --principal data-processing --json`,
		Args: exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := filter.parse(env.Now()); err != nil {
				return err
			}
			if limit < 0 {
				return cli.Usagef("--limit %d is negative", limit)
			}
			dir, err := place.open(env)
			if err != nil {
				return err
			}
			if decision != "" {
				return p.one(cmd.Context(), dir, decision, &filter)
			}
			if err := p.query(cmd.Context(), dir, &filter, limit, oldest); err != nil {
				return err
			}
			return p.end()
		},
	}
	auditFlags(cmd, &place)
	filter.flags(cmd)
	cmd.Flags().StringVar(&decision, "decision", "", "the record of the decision with this `ID`")
	cmd.Flags().IntVar(&limit, "limit", 0, "at most `N` records; 0: all")
	cmd.Flags().BoolVar(&oldest, "oldest-first", false, "print the oldest first")
	cmd.Flags().BoolVar(&p.json, "json", false, "print a JSON object for each record")
	return cmd
}

// one prints the record of a decision.
func (p *auditPrinter) one(ctx context.Context, dir, decision string, filter *auditFilter) error {
	entry, err := audit.Find(ctx, dir, decision)
	if errors.Is(err, audit.ErrNotFound) {
		return nil
	}
	e, ok, err := p.read(entry, err)
	if err != nil || ok && !filter.matches(e) {
		return err
	}
	if ok {
		return p.print(entry, e)
	}
	return p.end()
}

func (p *auditPrinter) query(ctx context.Context, dir string, filter *auditFilter, limit int, oldest bool) error {
	printed := 0
	each := func(entry audit.Entry, err error) (more bool, _ error) {
		e, ok, err := p.read(entry, err)
		if err != nil || !ok || !filter.matches(e) {
			return err == nil, err
		}
		printed++
		return printed != limit, p.print(entry, e)
	}
	if oldest {
		return forward(ctx, audit.NewReader(dir), each)
	}
	var failed error
	err := audit.Backward(ctx, dir, func(entry audit.Entry, err error) (more bool) {
		more, failed = each(entry, err)
		return more && failed == nil
	})
	return errors.Join(err, failed)
}

// forward calls fn with all that a reader has, until it returns false.
func forward(ctx context.Context, r *audit.Reader, fn func(audit.Entry, error) (bool, error)) error {
	defer r.Close()
	for ctx.Err() == nil {
		entry, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if more, err := fn(entry, err); err != nil || !more {
			return err
		}
	}
	return ctx.Err()
}

// followInterval is how often "tail -f" looks for more.
const followInterval = 200 * time.Millisecond

func newAuditTail(env *cli.Env) *cobra.Command {
	var place auditPlace
	var lines int
	var follow bool
	p := &auditPrinter{env: env}
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the last records, and those that come",
		Long: `Prints the last records of the audit log, the newest at the end, and with -f those
that are written from now on, until it is interrupted.`,
		Example: "  $ cretula kms audit tail -f --data-dir run",
		Args:    exactArguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lines < 0 {
				return cli.Usagef("--lines %d is negative", lines)
			}
			dir, err := place.open(env)
			if err != nil {
				return err
			}
			return p.tail(cmd.Context(), dir, lines, follow)
		},
	}
	auditFlags(cmd, &place)
	cmd.Flags().IntVarP(&lines, "lines", "n", 10, "the last `N` records")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "print records as they come")
	cmd.Flags().BoolVar(&p.json, "json", false, "print a JSON object for each record")
	return cmd
}

func (p *auditPrinter) tail(ctx context.Context, dir string, lines int, follow bool) error {
	from, n := uint64(1), 0
	err := audit.Backward(ctx, dir, func(entry audit.Entry, err error) bool {
		if err == nil && from == 1 {
			from = entry.Seq + 1 // nothing of what there is
		}
		if n++; n > lines {
			return false
		}
		if err == nil {
			from = entry.Seq
		}
		return true
	})
	if err != nil {
		return err
	}
	r := audit.NewReaderFrom(dir, from)
	defer r.Close()
	for {
		entry, err := r.Next()
		if err == io.EOF {
			if !follow {
				return p.end()
			}
			select {
			case <-ctx.Done():
				return nil
			case <-p.env.Interrupted:
				return nil
			case <-time.After(followInterval):
			}
			continue
		}
		e, ok, err := p.read(entry, err)
		if err == nil && ok {
			err = p.print(entry, e)
		}
		if err != nil {
			return err
		}
	}
}

// cloudTrailRecord makes a CloudTrail record of an event: what CloudTrail has no
// member for is left out or, of what says how it came out, put into
// additionalEventData. Source: AWS CloudTrail User Guide, "CloudTrail record contents".
func cloudTrailRecord(event json.RawMessage) (map[string]any, error) {
	var record map[string]any
	if err := json.Unmarshal(event, &record); err != nil {
		return nil, err
	}
	for _, own := range []string{"schema", "policyDecision", "otherPolicyDecisions", "problems", "cause"} {
		delete(record, own)
	}
	more, ok := record["additionalEventData"].(map[string]any)
	if !ok {
		more = map[string]any{}
	}
	for _, moved := range []string{"decision", "outcome", "emulated"} {
		more[moved] = record[moved]
		delete(record, moved)
	}
	record["additionalEventData"] = more
	if text, ok := record["eventTime"].(string); ok {
		if t, err := time.Parse(time.RFC3339, text); err == nil {
			record["eventTime"] = t.UTC().Format("2006-01-02T15:04:05Z")
		}
	}
	for _, member := range []string{"requestParameters", "responseElements"} {
		if _, ok := record[member]; !ok {
			record[member] = nil // as CloudTrail has them
		}
	}
	return record, nil
}
