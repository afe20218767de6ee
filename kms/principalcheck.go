// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cretula/cretula/policy"
)

// Limits of a principal: IAM's for names, paths and tags, and as many policies as
// a principal can have there (IAM User Guide, "IAM and AWS STS quotas").
const (
	maxPrincipalName  = 64
	maxPrincipalPath  = 512
	maxPrincipalTags  = 50
	maxTagKey         = 128
	maxTagValue       = 256
	maxIdentityPolicy = 10
	// maxIdentityPolicyB bounds one policy in bytes, maxIdentityPoliciesB all of a
	// principal with its boundary: they must fit into one event, however they are
	// escaped there.
	maxIdentityPolicyB   = 32 << 10
	maxIdentityPoliciesB = 128 << 10
	// The bounds of a role's longest session, in seconds (IAM API Reference,
	// CreateRole, MaxSessionDuration).
	minMaxSession = 3600
	maxMaxSession = 43200
)

// checkPrincipal holds a principal to IAM's rules for names, paths and tags and to
// the policy language.
func checkPrincipal(p *Principal) error {
	switch {
	case p.Type != User && p.Type != Role:
		return fmt.Errorf("%w: type %q is neither user nor role", ErrPrincipal, p.Type)
	case !isAccount(p.Account):
		return fmt.Errorf("%w: account %q is not twelve digits", ErrPrincipal, p.Account)
	case !isPrincipalName(p.baseName()):
		return fmt.Errorf("%w: name %q is not 1 to %d characters of A-Z, a-z, 0-9 and +=,.@_-", ErrPrincipal, p.baseName(), maxPrincipalName)
	case !isPrincipalPath(p.path()):
		return fmt.Errorf("%w: path %q is not names with a slash behind each, of at most %d characters", ErrPrincipal, p.path(), maxPrincipalPath)
	case len(p.Policies) > maxIdentityPolicy:
		return fmt.Errorf("%w: %d policies, more than %d", ErrPrincipal, len(p.Policies), maxIdentityPolicy)
	}
	if err := checkPrincipalTags(p.Tags); err != nil {
		return err
	}
	total := len(p.Boundary)
	for i, text := range p.Policies {
		if err := checkIdentityPolicy(fmt.Sprintf("policy %d", i+1), text); err != nil {
			return err
		}
		total += len(text)
	}
	if total > maxIdentityPoliciesB {
		return fmt.Errorf("%w: policies and permissions boundary together are longer than %d bytes", ErrPrincipal, maxIdentityPoliciesB)
	}
	if p.Boundary != "" {
		if err := checkIdentityPolicy("permissions boundary", p.Boundary); err != nil {
			return err
		}
	}
	return checkRole(p)
}

// checkRole checks what only roles have.
func checkRole(p *Principal) error {
	switch {
	case p.Type == User && (p.TrustPolicy != "" || p.MaxSession != 0):
		return fmt.Errorf("%w: a user cannot be assumed: only roles have a trust policy and a longest session", ErrPrincipal)
	case p.MaxSession != 0 && (p.MaxSession < minMaxSession || p.MaxSession > maxMaxSession):
		return fmt.Errorf("%w: a longest session of %d seconds is not %d to %d", ErrPrincipal, p.MaxSession, minMaxSession, maxMaxSession)
	case p.TrustPolicy == "":
		return nil
	}
	if _, err := policy.Parse([]byte(p.TrustPolicy), policy.KindTrust); err != nil {
		return fmt.Errorf("%w: trust policy: %w", ErrPrincipal, err)
	}
	return nil
}

func checkIdentityPolicy(what, text string) error {
	if len(text) > maxIdentityPolicyB {
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrPrincipal, what, maxIdentityPolicyB)
	}
	if _, err := policy.Parse([]byte(text), policy.KindIdentity); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPrincipal, what, err)
	}
	return nil
}

// path is the name's path with its last slash, "" if there is none. At IAM it
// begins with a slash too.
func (p *Principal) path() string { return p.Name[:len(p.Name)-len(p.baseName())] }

// isPrincipalPath takes the paths of which each part is of a name's characters. IAM
// takes any of U+0021 to U+007F; such ARNs no policy could name.
func isPrincipalPath(path string) bool {
	if len(path)+1 > maxPrincipalPath {
		return false
	}
	for path != "" {
		part, rest, _ := strings.Cut(path, "/")
		if part == "" || !hasNameCharacters(part) {
			return false
		}
		path = rest
	}
	return true
}

// isPrincipalName follows the IAM API Reference, CreateUser and CreateRole.
func isPrincipalName(name string) bool {
	return name != "" && len(name) <= maxPrincipalName && hasNameCharacters(name)
}

func hasNameCharacters(s string) bool {
	for _, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("+=,.@_-", c) {
			return false
		}
	}
	return true
}

// checkPrincipalTags follows the IAM User Guide, "Tags for IAM resources", under
// rules for tagging: keys that differ in case only are one.
func checkPrincipalTags(tags map[string]string) error {
	if len(tags) > maxPrincipalTags {
		return fmt.Errorf("%w: %d tags, more than %d", ErrPrincipal, len(tags), maxPrincipalTags)
	}
	seen := map[string]bool{}
	for key, value := range tags {
		folded := strings.ToLower(key)
		switch {
		case key == "" || !isTagText(key, maxTagKey):
			return fmt.Errorf("%w: tag %q is not 1 to %d letters, digits, spaces and _.:/=+-@", ErrPrincipal, key, maxTagKey)
		case !isTagText(value, maxTagValue):
			return fmt.Errorf("%w: the value of tag %q is not 0 to %d letters, digits, spaces and _.:/=+-@", ErrPrincipal, key, maxTagValue)
		case strings.HasPrefix(folded, "aws:"):
			return fmt.Errorf("%w: tag %q begins with aws:, which is reserved", ErrPrincipal, key)
		case seen[folded]:
			return fmt.Errorf("%w: tag %q is there twice, for case does not count", ErrPrincipal, key)
		}
		seen[folded] = true
	}
	return nil
}

// isTagText is the pattern of IAM's Tag: [\p{L}\p{Z}\p{N}_.:/=+\-@]*.
func isTagText(s string, limit int) bool {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > limit {
		return false
	}
	for _, c := range s {
		if !unicode.In(c, unicode.L, unicode.Z, unicode.N) && !strings.ContainsRune("_.:/=+-@", c) {
			return false
		}
	}
	return true
}
