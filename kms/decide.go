// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/kms/kmsapi"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
	"github.com/cretula/cretula/reason"
)

// ruleDebug names the rule by which debug documents are refused after policies
// have allowed them. It is the one of package attestation.
const ruleDebug = "expect.debug"

// decide asks the policies whether the caller may do the operation: on the key,
// or on no key if k is nil. The decision with its trace goes into the event.
func (c *call) decide(k *key) error {
	in, err := c.asked(k)
	if err == nil && in.Conditional() {
		err = c.addConditions(&in, k, &in)
		defer recycle(in.Request.Context) // the decision has its values, not the map
	}
	if err != nil {
		return err
	}
	return c.judge(in)
}

// judge makes a decision. One that allowed before goes to the others of the event.
func (c *call) judge(in policy.Input) error {
	var decision *policy.Decision
	if before := c.event.Decision; before == nil {
		decision = c.memory.evaluator.Evaluate(&in)
	} else { // whose memory is taken
		c.event.OtherDecisions = append(c.event.OtherDecisions, *before)
		other := policy.Evaluate(in)
		decision = &other
	}
	c.event.Decision = decision
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
	in, err := c.asked(k)
	if err == nil {
		err = c.addConditions(&in, k, nil)
	}
	return in, err
}

// addConditions adds the condition keys that the decision on an input regards, all of them
// if that is nil.
func (c *call) addConditions(in *policy.Input, k *key, regarding *policy.Input) error {
	in.Request.Context, in.Request.Folded = c.conditions(k, regarding), true
	if k == nil {
		return nil
	}
	return c.usageCondition(in.Request.Context, k)
}

// asked is request without the condition keys, which many decisions do not regard.
func (c *call) asked(k *key) (policy.Input, error) {
	p := &c.caller.Principal
	in := policy.Input{Request: policy.Request{
		Principal: c.policyPrincipal(), Action: c.op.Action(), Resource: "*", ResourceAccount: p.Account,
		EncryptionContext: c.common.EncryptionContext, TakesRecipient: c.op.TakesRecipient() || c.extended(k),
		Document: c.documentKind(),
	}}
	if err := c.identityPolicies(&in); err != nil {
		return policy.Input{}, err
	}
	if k == nil {
		in.NoKey = true
		return in, nil
	}
	parsed, err := c.server.policies.parseKept(k.policy, k.kept, policy.KindKey)
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
	named := func(name, text string, kept *keptPolicy) (policy.Named, error) {
		parsed, err := c.server.policies.parseKept(text, kept, policy.KindIdentity)
		if err != nil {
			return policy.Named{}, fmt.Errorf("kms: %s of %s: %w", name, p.IdentityARN(), err)
		}
		return policy.Named{Name: name, Policy: parsed}, nil
	}
	switch len(p.Policies) {
	case 0:
	case 1:
		in.Identity = c.memory.identity[:]
	default:
		in.Identity = make([]policy.Named, len(p.Policies))
	}
	for i, text := range p.Policies {
		n, err := named(identityPolicyName(i), text, p.kept(i))
		if err != nil {
			return err
		}
		in.Identity[i] = n
	}
	if p.Boundary != "" {
		n, err := named("permissions-boundary", p.Boundary, nil)
		if err != nil {
			return err
		}
		in.Boundary = &n
	}
	if c.caller.Session == nil {
		return nil
	}
	for _, text := range c.caller.Session.Policies {
		n, err := named("session-policy", text, nil)
		if err != nil {
			return err
		}
		in.Session = append(in.Session, n)
	}
	return nil
}

// identityPolicyName is the name of a caller's policy in a trace.
func identityPolicyName(i int) string {
	if i == 0 {
		return "identity-policy-1"
	}
	return "identity-policy-" + strconv.Itoa(i+1)
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

// identityARN is the user or role of the caller itself, as the event has it.
func (c *call) identityARN() string {
	if session := c.event.UserIdentity.SessionContext; session != nil && session.SessionIssuer != nil {
		return session.SessionIssuer.ARN
	}
	return c.event.UserIdentity.ARN
}

func (c *call) policyPrincipal() policy.Principal {
	p := &c.caller.Principal
	out := policy.Principal{Type: policy.CallerUser, ARN: c.event.UserIdentity.ARN, AccountID: p.Account, UniqueID: p.ID}
	if p.Type == Role {
		out.Type, out.RoleARN = policy.CallerRoleSession, c.identityARN()
	}
	return out
}

// decisionMemory is what the decisions of one call are made in. The event has what is in
// it until the call is answered.
type decisionMemory struct {
	// values are those of the condition keys, one behind the other; wanted are the keys
	// that a decision regards.
	values, wanted []string
	evaluator      policy.Evaluator
	// identity is the policy of the caller, where there is one.
	identity [1]policy.Named
}

const (
	maxValues = 128 // of the memory that is used again
	maxWanted = 32  // keys that are looked for one by one
	room      = 16  // for the values that most requests need
)

// reset forgets all decisions.
func (m *decisionMemory) reset() {
	clear(m.values)
	if m.values = m.values[:0]; cap(m.values) > maxValues {
		m.values = nil
	}
	clear(m.wanted)
	if m.wanted = m.wanted[:0]; cap(m.wanted) > maxValues {
		m.wanted = nil
	}
	m.evaluator.Reset()
	m.identity = [1]policy.Named{}
}

// contexts has maps of decisions that were made.
var contexts = sync.Pool{New: func() any { return make(policy.Context, 8) }}

// maxRecycled is the number of condition keys up to which a map is used again.
const maxRecycled = 128

// recycle takes back a map that nobody uses any more.
func recycle(m policy.Context) {
	if len(m) <= maxRecycled {
		clear(m)
		contexts.Put(m)
	}
}

// conditionKeys are the condition keys of one request as they are put together.
type conditionKeys struct {
	policy.Context
	// values has the values one behind the other.
	values *[]string
	// wanted are the keys that will be regarded, and perhaps others; all says that it may
	// be any.
	wanted []string
	all    bool
}

// wants tells whether a key will be regarded.
func (m *conditionKeys) wants(key string) bool { return m.all || slices.Contains(m.wanted, key) }

// wantsSome tells whether a key that begins so will be regarded.
func (m *conditionKeys) wantsSome(prefix string) bool {
	return m.all || slices.ContainsFunc(m.wanted, func(key string) bool { return strings.HasPrefix(key, prefix) })
}

// set gives a key its one value, if it will be regarded.
func (m *conditionKeys) set(key, value string) {
	if !m.wants(key) {
		return
	}
	values := append(*m.values, value)
	*m.values = values
	m.Context[key] = values[len(values)-1 : len(values) : len(values)]
}

// conditions returns the condition keys of the request, in lower case, with the
// values that the Service Authorization Reference gives them: those that the decision on
// an input regards, and perhaps others, or all if the input is nil.
func (c *call) conditions(k *key, regarding *policy.Input) policy.Context {
	if c.memory.values == nil {
		c.memory.values = make([]string, 0, room)
	}
	m := &conditionKeys{Context: contexts.Get().(policy.Context), values: &c.memory.values, all: regarding == nil}
	if regarding != nil {
		c.memory.wanted = regarding.ConditionKeys(c.memory.wanted[:0])
		m.wanted, m.all = c.memory.wanted, len(c.memory.wanted) > maxWanted
	}
	c.globalConditions(m)
	if c.op.Resource != kmsapi.ResourceNone || strings.Contains(c.op.Name, "CustomKeyStore") || c.op.Name == "CreateKey" {
		m.set("kms:calleraccount", c.caller.Principal.Account)
	}
	if k != nil {
		m.resource(&k.keyRecord)
	}
	createConditions(m.Context, c.in)
	if m.all || slices.ContainsFunc(m.wanted, c.op.HasCondition) {
		c.op.EachCondition(c.in, func(key string, values ...string) { m.Context[key] = values })
	}
	tagConditions(m.Context, c.in)
	grantConditions(m.Context, c.in)
	if c.alias != "" {
		m.set("kms:requestalias", c.alias)
	}
	if m.wantsSome("kms:encryptioncontext") {
		contextConditions(m.Context, c.common.EncryptionContext)
	}
	if c.recipient != nil && m.wantsSome(attestationPrefix) {
		m.attestation(c.recipient)
	}
	return m.Context
}

// resourceConditions adds the keys that describe a key.
func resourceConditions(context policy.Context, k *keyRecord) {
	m := conditionKeys{Context: context, values: new([]string), all: true}
	m.resource(k)
}

func (m *conditionKeys) resource(k *keyRecord) {
	m.set("aws:resourceaccount", k.Account)
	m.set("kms:keyspec", k.Spec)
	m.set("kms:keyusage", k.Usage)
	m.set("kms:keyorigin", k.Origin)
	m.set("kms:multiregion", strconv.FormatBool(k.multiRegion()))
	if t := k.regionType(); t != "" {
		m.set("kms:multiregionkeytype", t)
	}
	if len(k.Aliases) > 0 {
		m.Context["kms:resourcealiases"] = k.Aliases
	}
	if len(k.Tags) == 0 || !m.wantsSome("aws:resourcetag/") {
		return
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

func (c *call) globalConditions(m *conditionKeys) {
	p := &c.caller.Principal
	m.set("aws:principalarn", c.identityARN())
	m.set("aws:principalaccount", p.Account)
	m.set("aws:principaltype", identityTypes[p.Type])
	m.set("aws:userid", c.event.UserIdentity.PrincipalID)
	if p.Type == User {
		m.set("aws:username", p.baseName())
	}
	if m.wantsSome("aws:principaltag/") {
		for key, value := range p.Tags {
			m.Add("aws:principaltag/"+key, value)
		}
	}
	if c.caller.Session != nil {
		m.session(c.caller.Session)
	}
	c.requestConditions(m)
}

// requestConditions adds the keys that are there whoever calls.
func (c *call) requestConditions(m *conditionKeys) {
	// No service of AWS calls here, neither for itself nor for others.
	m.set("aws:principalisawsservice", "false")
	m.set("aws:viaawsservice", "false")
	m.set("aws:securetransport", strconv.FormatBool(c.caller.SecureTransport))
	if m.wants("aws:currenttime") {
		m.set("aws:currenttime", c.now.UTC().Format(time.RFC3339))
	}
	if m.wants("aws:epochtime") {
		m.set("aws:epochtime", strconv.FormatInt(c.now.Unix(), 10))
	}
	m.set("aws:requestedregion", c.caller.Region)
	if c.caller.SourceIP != "" {
		m.set("aws:sourceip", c.caller.SourceIP)
	}
	if c.caller.UserAgent != "" {
		m.set("aws:useragent", c.caller.UserAgent)
	}
}

// session adds the keys of temporary credentials. Tags of the session replace those
// of its role (IAM User Guide, "Pass session tags in AWS STS").
func (m *conditionKeys) session(s *Session) {
	if m.wantsSome("aws:principaltag/") {
		for key, value := range s.Tags {
			m.set("aws:principaltag/"+strings.ToLower(key), value)
		}
	}
	if m.wants("aws:tokenissuetime") {
		m.set("aws:tokenissuetime", s.Issued.UTC().Format(time.RFC3339))
	}
	m.set("aws:multifactorauthpresent", "false")
	if s.SourceIdentity != "" {
		m.set("aws:sourceidentity", s.SourceIdentity)
	}
	if s.FederatedProvider != "" {
		m.set("aws:federatedprovider", s.FederatedProvider)
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

const (
	attestationPrefix = "kms:recipientattestation:"
	imageKey          = attestationPrefix + "imagesha384"
)

// Condition keys of registers, made once: there are 56 of them.
var enclaveKeys, tpmKeys = func() (enclave, tpm [32]string) {
	for i := range enclave {
		enclave[i] = attestationPrefix + "pcr" + strconv.Itoa(i)
		tpm[i] = attestationPrefix + "nitrotpmpcr" + strconv.Itoa(i)
	}
	return enclave, tpm
}()

// zeroDigest is the value of a register that nothing was extended into.
const zeroDigest = "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"

// attestation adds the registers of a document. One that the document has not is
// absent. ImageSha384 is PCR0, of an enclave only.
func (m *conditionKeys) attestation(r *recipient) {
	d, keys := &r.document, &enclaveKeys
	if d.Kind == attestation.KindNitroTPM {
		keys = &tpmKeys
	}
	isImage := func(i pcr.Index) bool { return i == 0 && d.Kind == attestation.KindEnclave }
	var digits [pcr.Count * len(zeroDigest)]byte
	all := digits[:0] // one text for all values but zero, which most registers have
	var wanted [pcr.Count]bool
	for i, digest := range d.PCRs.All() {
		wanted[i] = m.wants(keys[i]) || isImage(i) && m.wants(imageKey)
		if wanted[i] && !digest.IsZero() {
			all = hex.AppendEncode(all, digest[:])
		}
	}
	rest := string(all)
	for i, digest := range d.PCRs.All() {
		if !wanted[i] {
			continue
		}
		value := zeroDigest
		if !digest.IsZero() {
			value, rest = rest[:len(zeroDigest)], rest[len(zeroDigest):]
		}
		m.set(keys[i], value)
		if isImage(i) {
			m.set(imageKey, value)
		}
	}
}

// A policyCache keeps parsed policies by their text.
type policyCache struct {
	mu     sync.Mutex
	parsed map[policyText]*policy.Policy
	bytes  int // see weight

	hits, misses atomic.Uint64
}

type policyText struct {
	kind policy.Kind
	text string
}

// maxCachedPolicies bounds what the policies in a cache weigh. It is emptied when it
// is full: parsing again is cheap.
const maxCachedPolicies = 32 << 20

// weight is about how many bytes a cached policy takes: a value of a condition that
// is two in the text is a hundred when it is parsed.
func weight(text string, p *policy.Policy) int {
	sum := 2 * len(text)
	for i := range p.Statements {
		s := &p.Statements[i]
		sum += 512 + 64*(len(s.Principal)+len(s.NotPrincipal)+len(s.Action)+len(s.NotAction)) + 384*(len(s.Resource)+len(s.NotResource))
		for j := range s.Condition {
			sum += 256 + 192*len(s.Condition[j].Values)
		}
	}
	return sum
}

// A keptPolicy is a policy in a row that is kept, with what it was parsed to for as long as
// the cache has that: it is the cache that has a bound.
type keptPolicy struct {
	text   string
	parsed atomic.Pointer[weak.Pointer[policy.Policy]]
}

// parseKept is parse, without a look through the text if it is that of kept.
func (p *policyCache) parseKept(text string, kept *keptPolicy, kind policy.Kind) (*policy.Policy, error) {
	if kept == nil || kept.text != text {
		return p.parse(text, kind)
	}
	if before := kept.parsed.Load(); before != nil {
		if parsed := before.Value(); parsed != nil && parsed.Kind == kind {
			p.hits.Add(1)
			return parsed, nil
		}
	}
	parsed, err := p.parse(text, kind)
	if err == nil {
		kept.parsed.Store(new(weak.Make(parsed)))
	}
	return parsed, err
}

func (p *policyCache) parse(text string, kind policy.Kind) (*policy.Policy, error) {
	id := policyText{kind, text}
	p.mu.Lock()
	known := p.parsed[id]
	p.mu.Unlock()
	if known != nil {
		p.hits.Add(1)
		return known, nil
	}
	p.misses.Add(1)
	parsed, err := policy.Parse([]byte(text), kind)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	size := weight(text, parsed)
	if p.bytes+size > maxCachedPolicies || p.parsed == nil {
		p.parsed, p.bytes = make(map[policyText]*policy.Policy), 0
	}
	if p.parsed[id] == nil {
		p.parsed[id] = parsed
		p.bytes += size
	}
	return parsed, nil
}
