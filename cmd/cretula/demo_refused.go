// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/internal/stack"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
	"github.com/cretula/cretula/policy/explain"
)

const imageKey = "kms:RecipientAttestation:ImageSha384"

// storyWidth is where an explanation is broken into lines.
const storyWidth = 88

func (d *demo) changeApplication(ctx context.Context, s *demoStep) error {
	program, err := changedProgram()
	if err != nil {
		return err
	}
	path := filepath.Join(d.dir, "changed.eif")
	changed, err := stack.BuildImage(ctx, path, program, demoArguments...)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	if s.Differs, s.Same = compareImages(&d.measurements.Set, &changed.Set); !slices.Equal(s.Differs, []string{"PCR0", "PCR2"}) {
		return fmt.Errorf("one byte of the application changed %v", s.Differs)
	}
	_, report, err := d.launch(ctx, path, d.stack.Authority, false)
	if err != nil {
		return err
	}
	if report.Release == d.report.Release {
		return errors.New("the changed image runs the unchanged application")
	}
	if err := d.denied(ctx, s, report); err != nil {
		return err
	}
	got, _ := changed.Get(0)
	if err := s.wants(imageKey, got.String()); err != nil {
		return err
	}
	d.refused("one byte of the application changed", s)
	return nil
}

// compareImages sorts PCR0, PCR1 and PCR2 into those that differ and the others.
func compareImages(a, b *pcr.Set) (differs, same []string) {
	for i := range pcr.Index(3) {
		x, _ := a.Get(i)
		y, _ := b.Get(i)
		if x == y {
			same = append(same, i.String())
		} else {
			differs = append(differs, i.String())
		}
	}
	return differs, same
}

func (d *demo) debugMode(ctx context.Context, s *demoStep) error {
	_, report, err := d.launch(ctx, d.imagePath, d.stack.Authority, true)
	if err != nil {
		return err
	}
	if err := d.denied(ctx, s, report); err != nil {
		return err
	}
	if err := s.wants(imageKey, pcr.Digest{}.String()); err != nil {
		return err
	}
	d.refused("debug mode", s)
	return nil
}

// noRecipient calls as the parent instance can: it has the same credentials, but
// no enclave.
func (d *demo) noRecipient(ctx context.Context, s *demoStep) error {
	_, err := d.client(d.role).Decrypt(ctx, &awskms.DecryptInput{
		KeyId:             aws.String(d.job.KeyID),
		CiphertextBlob:    d.job.Ciphertext,
		EncryptionContext: d.job.EncryptionContext,
	})
	if err == nil {
		return errors.New("the key service answered without a document")
	}
	var report demoReport
	report.ErrorCode, report.ErrorMessage, report.Decision = describeAWSError(err)
	if err := d.denied(ctx, s, report); err != nil {
		return err
	}
	if err := s.wants(imageKey); err != nil {
		return err
	}
	d.refused("no Recipient in the request: the parent instance calls with the same credentials", s)
	return nil
}

// foreignRoot runs the right image under a module that somebody else made.
func (d *demo) foreignRoot(ctx context.Context, s *demoStep) error {
	foreign, err := issuer.New(issuer.Options{Now: d.env.Now})
	if err != nil {
		return err
	}
	_, report, err := d.launch(ctx, d.imagePath, foreign, false)
	if err != nil {
		return err
	}
	event, err := d.event(ctx, s, report, "ValidationException", kms.Rejected)
	if err != nil {
		return err
	}
	const rule = "chain.root"
	for _, p := range event.Problems {
		if p.Rule == rule {
			s.Rule = rule
			s.Explanation = "REJECTED before any policy (" + rule + "): " + p.Message + ". The answer is ValidationException, as that of AWS KMS by all that is known."
		}
	}
	wanted, got := fingerprint(d.stack.Authority), fingerprint(foreign)
	if !strings.Contains(s.Explanation, wanted[:8]) || !strings.Contains(s.Explanation, got[:8]) {
		return fmt.Errorf("the rejection does not name the fingerprints %s and %s: %v", wanted, got, event.Problems)
	}
	s.Outcome, s.WantedRoot, s.GotRoot = outcomeDenied, wanted, got
	d.refused("a document under a foreign root", s)
	return nil
}

func fingerprint(a *issuer.Authority) string { return fmt.Sprintf("%x", sha256.Sum256(a.Root().Raw)) }

// event fetches the audit event of a refusal, which must have the given error
// code and outcome.
func (d *demo) event(ctx context.Context, s *demoStep, report demoReport, code, outcome string) (*kms.Event, error) {
	if report.ErrorCode != code {
		return nil, fmt.Errorf("answered with %q, want %s: %s", report.ErrorCode, code, report.ErrorMessage)
	}
	s.Error, s.Decision = report.ErrorCode, report.Decision
	event, err := d.stack.KMS.Explain(ctx, report.Decision)
	if err != nil {
		return nil, fmt.Errorf("decision %q: %w", report.Decision, err)
	}
	if event.Outcome != outcome {
		return nil, fmt.Errorf("the audit log says %q of decision %s, not %q", event.Outcome, report.Decision, outcome)
	}
	return event, nil
}

// denied checks that a policy denied the call, and notes by which statements and
// conditions.
func (d *demo) denied(ctx context.Context, s *demoStep, report demoReport) error {
	event, err := d.event(ctx, s, report, "AccessDeniedException", kms.Denied)
	if err != nil {
		return err
	}
	decision := event.Decision
	if decision == nil || decision.Allowed || decision.Cause != policy.CauseKeyDeny {
		return fmt.Errorf("decision %s was not made by a Deny of the key policy", report.Decision)
	}
	for _, p := range decision.Trace.Policies {
		for _, statement := range p.Statements {
			if statement.Applied && statement.Effect == policy.Deny {
				s.Statements = append(s.Statements, statement.Sid)
			}
			for _, c := range statement.Conditions {
				s.Conditions = append(s.Conditions, demoCondition{statement.Sid, c.Operator, c.Key, c.Wanted, c.Got})
			}
		}
	}
	s.Outcome = outcomeDenied
	s.Explanation = explain.Of(decision).Paragraph()
	return nil
}

// wants checks that an applied statement looked at the condition key and found
// just these values; none means that the key was absent.
func (s *demoStep) wants(key string, got ...string) error {
	for _, c := range s.Conditions {
		if c.Key == key && slices.Contains(s.Statements, c.Statement) && slices.Equal(c.Got, got) {
			return nil
		}
	}
	return fmt.Errorf("no statement that denied found %v in %s: %+v", got, key, s.Conditions)
}

// refused tells a refusal.
func (d *demo) refused(what string, s *demoStep) {
	d.tell("refused", append([]string{what}, wrap(s.Explanation, storyWidth)...)...)
}

// wrap breaks a text at spaces into lines of at most width bytes, where it can.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
