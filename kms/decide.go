// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/policy"
	"github.com/cretula/cretula/reason"
)

// ruleDebug names the rule by which debug documents are refused after policies
// have allowed them. It is the one of package attestation.
const ruleDebug = "expect.debug"

// decide asks the policies whether the caller may do the operation: on the key,
// or on no key if k is nil. The decision with its trace goes into the event.
func (c *call) decide(k *key) error {
	in, err := c.request(k)
	if err != nil {
		return err
	}
	return c.judge(in)
}

// judge makes a decision. One that allowed before goes to the others of the event.
func (c *call) judge(in policy.Input) error {
	if c.event.Decision != nil {
		c.event.OtherDecisions = append(c.event.OtherDecisions, *c.event.Decision)
	}
	decision := policy.Evaluate(in)
	c.event.Decision = &decision
	if !decision.Allowed {
		c.event.Outcome = Denied
		return kmsapi.Errorf(kmsapi.AccessDenied, "%s", decision.Message())
	}
	return c.refuseDebug(in.Request)
}

// refuseDebug denies what policies allow if the document is of an enclave in
// debug mode: its operator can read its memory, and its registers are zero for
// every image.
func (c *call) refuseDebug(r policy.Request) error {
	if c.recipient == nil || !c.recipient.document.Debug || c.server.allowDebug {
		return nil
	}
	c.event.Outcome = Denied
	c.event.Problems = []reason.Problem{{Rule: ruleDebug, Reason: reason.Mismatch, Message: "policies allow the request, " +
		"but the document is of an enclave in debug mode, which this server refuses: PCR0, PCR1 and PCR2 are zero there, whatever the image"}}
	return kmsapi.Errorf(kmsapi.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s because the attestation document is of an enclave in debug mode",
		c.caller.Principal.ARN(), r.Action, r.Resource)
}

// request puts together what the policies decide by: for the operation of the
// call on the key, or on no key if k is nil.
func (c *call) request(k *key) (policy.Input, error) {
	p := &c.caller.Principal
	in := policy.Input{Request: policy.Request{
		Principal: policyPrincipal(p), Action: c.op.Action(), Resource: "*", ResourceAccount: p.Account,
		Context: c.conditions(k), EncryptionContext: c.common.EncryptionContext, TakesRecipient: c.op.TakesRecipient() || c.extended(k),
		Document: c.documentKind(),
	}}
	if err := c.identityPolicies(&in); err != nil {
		return policy.Input{}, err
	}
	if k == nil {
		in.NoKey = true
		return in, nil
	}
	if err := c.usageCondition(in.Request.Context, k); err != nil {
		return policy.Input{}, err
	}
	parsed, err := c.server.policies.parse(k.policy, policy.KindKey)
	if err != nil {
		return policy.Input{}, fmt.Errorf("kms: policy of key %s: %w", k.ARN(), err)
	}
	in.UniqueIDs = k.principals
	in.KeyPolicy, in.Request.Resource, in.Request.ResourceAccount, in.Grants = parsed, k.ARN(), k.Account, c.heldGrants(k)
	return in, nil
}

// identityPolicies adds the policies of the caller.
func (c *call) identityPolicies(in *policy.Input) error {
	p := &c.caller.Principal
	named := func(name, text string) (policy.Named, error) {
		parsed, err := c.server.policies.parse(text, policy.KindIdentity)
		if err != nil {
			return policy.Named{}, fmt.Errorf("kms: %s of %s: %w", name, p.IdentityARN(), err)
		}
		return policy.Named{Name: name, Policy: parsed}, nil
	}
	for i, text := range p.Policies {
		n, err := named("identity-policy-"+strconv.Itoa(i+1), text)
		if err != nil {
			return err
		}
		in.Identity = append(in.Identity, n)
	}
	if p.Boundary != "" {
		n, err := named("permissions-boundary", p.Boundary)
		if err != nil {
			return err
		}
		in.Boundary = &n
	}
	return nil
}

// documentKind says which document the request carries, as [policy.Request] has it.
func (c *call) documentKind() string {
	switch {
	case c.recipient == nil:
		return "none"
	case c.recipient.document.Kind == attestation.KindNitroTPM:
		return "nitrotpm"
	case c.recipient.document.Debug:
		return "enclave-debug"
	}
	return "enclave"
}

func policyPrincipal(p *Principal) policy.Principal {
	out := policy.Principal{Type: policy.CallerUser, ARN: p.ARN(), AccountID: p.Account, UniqueID: p.ID}
	if p.Type == Role {
		out.Type, out.RoleARN = policy.CallerRoleSession, p.IdentityARN()
	}
	return out
}

// conditions returns the condition keys of the request, in lower case, with the
// values that the Service Authorization Reference gives them.
func (c *call) conditions(k *key) policy.Context {
	m := make(policy.Context, 64)
	c.globalConditions(m)
	if c.op.Resource != kmsapi.ResourceNone || strings.Contains(c.op.Name, "CustomKeyStore") || c.op.Name == "CreateKey" {
		m["kms:calleraccount"] = policy.Values{c.caller.Principal.Account}
	}
	if k != nil {
		resourceConditions(m, &k.keyRecord)
	}
	createConditions(m, c.in)
	c.op.EachCondition(c.in, func(key string, values ...string) { m[key] = values })
	tagConditions(m, c.in)
	grantConditions(m, c.in)
	if c.alias != "" {
		m["kms:requestalias"] = policy.Values{c.alias}
	}
	contextConditions(m, c.common.EncryptionContext)
	if c.recipient != nil {
		attestationConditions(m, c.recipient.document)
	}
	return m
}

// resourceConditions adds the keys that describe a key.
func resourceConditions(m policy.Context, k *keyRecord) {
	m["aws:resourceaccount"] = policy.Values{k.Account}
	m["kms:keyspec"] = policy.Values{k.Spec}
	m["kms:keyusage"] = policy.Values{k.Usage}
	m["kms:keyorigin"] = policy.Values{k.Origin}
	m["kms:multiregion"] = policy.Values{strconv.FormatBool(k.multiRegion())}
	if t := k.regionType(); t != "" {
		m["kms:multiregionkeytype"] = policy.Values{t}
	}
	if len(k.Aliases) > 0 {
		m["kms:resourcealiases"] = k.Aliases
	}
	for _, tag := range k.Tags {
		m.Add("aws:resourcetag/"+tag.Key, tag.Value)
	}
}

// tagConditions adds the keys that describe the tags of a request.
func tagConditions(m policy.Context, in any) {
	var tags []kmsapi.Tag
	switch in := in.(type) {
	case *kmsapi.CreateKeyInput:
		tags = in.Tags
	case *kmsapi.TagResourceInput:
		tags = in.Tags
	case *kmsapi.ReplicateKeyInput:
		tags = in.Tags
	case *kmsapi.UntagResourceInput:
		if len(in.TagKeys) > 0 {
			m["aws:tagkeys"] = in.TagKeys
		}
	}
	for _, tag := range tags {
		m.Add("aws:requesttag/"+*tag.TagKey, *tag.TagValue)
		m.Add("aws:tagkeys", *tag.TagKey)
	}
}

func (c *call) globalConditions(m policy.Context) {
	p := &c.caller.Principal
	m["aws:principalarn"] = policy.Values{p.IdentityARN()}
	m["aws:principalaccount"] = policy.Values{p.Account}
	m["aws:principaltype"] = policy.Values{identityTypes[p.Type]}
	m["aws:userid"] = policy.Values{p.UserID()}
	if p.Type == User {
		m["aws:username"] = policy.Values{p.baseName()}
	}
	for key, value := range p.Tags {
		m.Add("aws:principaltag/"+key, value)
	}
	// No service of AWS calls here, neither for itself nor for others.
	m["aws:principalisawsservice"] = policy.Values{"false"}
	m["aws:viaawsservice"] = policy.Values{"false"}
	m["aws:securetransport"] = policy.Values{strconv.FormatBool(c.caller.SecureTransport)}
	m["aws:currenttime"] = policy.Values{c.now.UTC().Format(time.RFC3339)}
	m["aws:epochtime"] = policy.Values{strconv.FormatInt(c.now.Unix(), 10)}
	m["aws:requestedregion"] = policy.Values{c.caller.Region}
	if c.caller.SourceIP != "" {
		m["aws:sourceip"] = policy.Values{c.caller.SourceIP}
	}
	if c.caller.UserAgent != "" {
		m["aws:useragent"] = policy.Values{c.caller.UserAgent}
	}
}

// contextConditions adds the keys of the encryption context. Two names that
// differ in case only are one condition key with two values.
func contextConditions(m policy.Context, context map[string]string) {
	if len(context) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(context))
	for _, name := range names {
		key := "kms:encryptioncontext:" + strings.ToLower(name)
		m[key] = append(m[key], context[name])
	}
	m["kms:encryptioncontextkeys"] = names
}

// Condition keys of registers, made once: there are 56 of them.
var enclaveKeys, tpmKeys = func() (enclave, tpm [32]string) {
	for i := range enclave {
		enclave[i] = "kms:recipientattestation:pcr" + strconv.Itoa(i)
		tpm[i] = "kms:recipientattestation:nitrotpmpcr" + strconv.Itoa(i)
	}
	return enclave, tpm
}()

// attestationConditions adds the registers of a document. One that the document
// has not is absent. ImageSha384 is PCR0, of an enclave only.
func attestationConditions(m policy.Context, d *attestation.Document) {
	keys := &enclaveKeys
	if d.Kind == attestation.KindNitroTPM {
		keys = &tpmKeys
	}
	for i, digest := range d.PCRs.All() {
		value := policy.Values{digest.String()}
		m[keys[i]] = value
		if i == 0 && d.Kind == attestation.KindEnclave {
			m["kms:recipientattestation:imagesha384"] = value
		}
	}
}

// A policyCache keeps parsed policies by their text.
type policyCache struct {
	mu     sync.Mutex
	parsed map[string]*policy.Policy
	bytes  int
}

// maxCachedPolicies bounds the texts in a cache. It is emptied when it is full:
// parsing again is cheap.
const maxCachedPolicies = 8 << 20

func (p *policyCache) parse(text string, kind policy.Kind) (*policy.Policy, error) {
	id := kind.String() + text
	p.mu.Lock()
	known := p.parsed[id]
	p.mu.Unlock()
	if known != nil {
		return known, nil
	}
	parsed, err := policy.Parse([]byte(text), kind)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes+len(id) > maxCachedPolicies || p.parsed == nil {
		p.parsed, p.bytes = make(map[string]*policy.Policy), 0
	}
	if p.parsed[id] == nil {
		p.parsed[id] = parsed
		p.bytes += len(id)
	}
	return parsed, nil
}
