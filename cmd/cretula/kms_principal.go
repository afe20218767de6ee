// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cretula/cretula/internal/cli"
	"github.com/cretula/cretula/kms"
)

// A verb is a command about one principal.
type verb struct {
	env     *cli.Env
	at      where
	account string
	json    bool
}

// command makes the command. Its first argument names the principal.
func (v *verb) command(use, short, long, example string, run func(ctx context.Context, admin kmsAdmin, args []string) error) *cobra.Command {
	names := strings.Fields(use)[1:]
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example, Args: exactArguments(names...),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd.Context(), v.env, v.at, func(admin kmsAdmin) error { return principalError(run(cmd.Context(), admin, args)) })
		},
	}
	whereFlags(cmd, &v.at)
	cmd.Flags().StringVar(&v.account, "account", "", "`ACCOUNT` of the principal (default that of the service)")
	cmd.Flags().BoolVar(&v.json, "json", false, "print a JSON object")
	return cmd
}

const whoIsNamed = `NAME is the name of a user or role, its unique id, or the id of one of its access keys.`

// changing makes a command that changes a principal.
func (v *verb) changing(use, short, long, example string, change func() (kms.PrincipalChange, error), done string) *cobra.Command {
	return v.command(use, short, long+"\n\n"+whoIsNamed, example, func(ctx context.Context, admin kmsAdmin, args []string) error {
		c, err := change()
		if err != nil {
			return err
		}
		info, err := admin.ChangePrincipal(ctx, args[0], v.account, c)
		if err != nil {
			return err
		}
		return v.said(&info, done)
	})
}

// said tells what was done to a principal: to a person, or as JSON.
func (v *verb) said(info *kms.PrincipalInfo, done string) error {
	if v.json {
		return v.show(info)
	}
	fmt.Fprintf(v.env.Stderr, "%s %s\n", done, cli.Printable(info.IdentityARN()))
	return nil
}

func (v *verb) show(info *kms.PrincipalInfo) error {
	return v.env.PrintJSON(struct {
		Schema string `json:"schema"`
		*kms.PrincipalInfo
	}{"cretula.kms.principal-info.v1", info})
}

func newPrincipalShow(env *cli.Env) *cobra.Command {
	v := &verb{env: env}
	return v.command("show NAME", "Show a user or role with its policies and access keys", "Shows all of a principal but its secrets.\n\n"+whoIsNamed,
		"  $ cretula kms principal show data-processing --json", func(ctx context.Context, admin kmsAdmin, args []string) error {
			info, err := admin.FindPrincipal(ctx, args[0], v.account)
			if err != nil {
				return err
			}
			if v.json {
				return v.show(&info)
			}
			return v.print(&info)
		})
}

// print shows a principal to a person.
func (v *verb) print(p *kms.PrincipalInfo) error {
	if p.Tampered != "" {
		return fmt.Errorf("REFUSED: %s", p.Tampered)
	}
	w := tabwriter.NewWriter(v.env.Stdout, 0, 0, 3, ' ', 0)
	line := func(name string, value any) { fmt.Fprintf(w, "%s\t%s\n", name, cli.Printable(fmt.Sprint(value))) }
	line("principal", p.IdentityARN())
	line("id", p.ID)
	line("created", p.Created.UTC().Format(time.RFC3339))
	if p.Disabled {
		line("disabled", "nothing is accepted of it")
	}
	if !p.RevokedBefore.IsZero() {
		line("sessions", "revoked if issued before "+p.RevokedBefore.UTC().Format(time.RFC3339))
	}
	if p.MaxSession != 0 {
		line("longest session", time.Duration(p.MaxSession)*time.Second)
	}
	for _, key := range slices.Sorted(mapKeys(p.Tags)) {
		line("tag "+key, p.Tags[key])
	}
	for _, k := range p.AccessKeys {
		state := "active"
		if !k.Active {
			state = "inactive"
		}
		line("access key "+k.ID, cmp.Or(k.Tampered, state+", made "+k.Created.UTC().Format(time.DateOnly)+", used "+cmp.Or(k.LastUsed, "never")))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	texts := map[string]string{"trust policy": p.TrustPolicy, "permissions boundary": p.Boundary}
	for i, text := range p.Policies {
		texts[fmt.Sprintf("policy %d", i+1)] = text
	}
	for _, name := range slices.Sorted(mapKeys(texts)) {
		if texts[name] != "" {
			fmt.Fprintf(v.env.Stdout, "\n%s:\n%s\n", name, cli.Printable(texts[name]))
		}
	}
	return nil
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range m {
			if !yield(key) {
				return
			}
		}
	}
}

func newPrincipalDisable(env *cli.Env, disabled bool) *cobra.Command {
	v := &verb{env: env}
	change := func() (kms.PrincipalChange, error) { return kms.PrincipalChange{Disabled: &disabled}, nil }
	if !disabled {
		return v.changing("enable NAME", "Enable a user or role again", "Enables a principal that was disabled. Its access keys and unexpired sessions work again.",
			"  $ cretula kms principal enable alice", change, "enabled")
	}
	return v.changing("disable NAME", "Disable a user or role: its access keys and sessions are refused at once",
		"Disables a principal. Its access keys are refused, and so are its sessions and those\nthat it assumed, until it is enabled again.",
		"  $ cretula kms principal disable alice", change, "disabled")
}

func newPrincipalRevoke(env *cli.Env) *cobra.Command {
	v := &verb{env: env}
	var before string
	cmd := v.changing("revoke-sessions NAME", "Revoke the sessions of a user or role that were issued until now",
		"Ends the sessions of a principal, and those that were assumed with them, if they were\nissued before a time; as clocks differ, also those of the two minutes after it. Access\nkeys go on: deactivate or delete those that are known to others.",
		"  $ cretula kms principal revoke-sessions data-processing\n  $ cretula kms principal revoke-sessions alice --before 2026-11-21T08:00:00Z", func() (kms.PrincipalChange, error) {
			at := env.Now()
			if before != "" {
				var err error
				if at, err = time.Parse(time.RFC3339, before); err != nil {
					return kms.PrincipalChange{}, cli.Usagef("--before %q is not a time as 2026-11-21T08:00:00Z", before)
				}
			}
			return kms.PrincipalChange{RevokedBefore: &at}, nil
		}, "revoked the sessions of")
	cmd.Flags().StringVar(&before, "before", "", "`TIME` in RFC 3339 (default now)")
	return cmd
}

func newPrincipalSetPolicy(env *cli.Env) *cobra.Command {
	v := &verb{env: env}
	var policies []string
	var boundary string
	var none, noBoundary bool
	cmd := v.changing("set-policy NAME", "Replace the identity policies or the permissions boundary of a user or role",
		"Replaces all identity policies by those given, and the permissions boundary if one is\ngiven. Every request after it is decided by them, those of sessions too.",
		"  $ cretula kms principal set-policy alice --policy read.json --policy write.json\n  $ cretula kms principal set-policy alice --no-policies --boundary limit.json",
		func() (c kms.PrincipalChange, err error) {
			switch {
			case none && len(policies) > 0, noBoundary && boundary != "":
				return c, cli.Usagef("policies are given, and none shall be")
			case !none && !noBoundary && len(policies) == 0 && boundary == "":
				return c, cli.Usagef("give --policy, --no-policies, --boundary or --no-boundary")
			}
			if none || len(policies) > 0 {
				texts := []string{}
				for _, file := range policies {
					text, err := readPolicy(env, file)
					if err != nil {
						return c, err
					}
					texts = append(texts, text)
				}
				c.Policies = &texts
			}
			if noBoundary || boundary != "" {
				text := ""
				if boundary != "" {
					if text, err = readPolicy(env, boundary); err != nil {
						return c, err
					}
				}
				c.Boundary = &text
			}
			return c, nil
		}, "changed the policies of")
	flags := cmd.Flags()
	flags.StringArrayVar(&policies, "policy", nil, "identity policy, a JSON `FILE`; repeatable")
	flags.BoolVar(&none, "no-policies", false, "take all identity policies away")
	flags.StringVar(&boundary, "boundary", "", "permissions boundary, a JSON `FILE`")
	flags.BoolVar(&noBoundary, "no-boundary", false, "take the permissions boundary away")
	return cmd
}

// readPolicy reads a policy that is there.
func readPolicy(env *cli.Env, file string) (string, error) {
	text, err := env.ReadInput(file, maxPolicyFile)
	if err == nil && len(text) == 0 {
		err = cli.Usagef("%s is empty", file)
	}
	return string(text), err
}

func newPrincipalTrust(env *cli.Env) *cobra.Command {
	v := &verb{env: env}
	var longest time.Duration
	cmd := v.command("trust ROLE FILE", "Say who may assume a role",
		"Replaces the trust policy of a role by that of a JSON file. Sessions that there are go\non: revoke them if those whom the role trusted are not to be trusted any more.\n\nROLE is the name of the role, its unique id, or the id of one of its access keys.",
		"  $ cretula kms principal trust data-processing trust.json --max-session 8h", func(ctx context.Context, admin kmsAdmin, args []string) error {
			text, err := readPolicy(env, args[1])
			if err != nil {
				return err
			}
			change := kms.PrincipalChange{TrustPolicy: &text}
			if longest != 0 {
				seconds := int(longest / time.Second)
				change.MaxSession = &seconds
			}
			info, err := admin.ChangePrincipal(ctx, args[0], v.account, change)
			if err != nil {
				return err
			}
			return v.said(&info, "changed whom is trusted by")
		})
	cmd.Flags().DurationVar(&longest, "max-session", 0, "longest `DURATION` of a session, 1h to 12h (default as it is; of a new role 1h)")
	return cmd
}
