// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A simPair is one request with all that decides it, made at random.
type simPair struct {
	Caller   Principal            `json:"caller"`
	Action   string               `json:"action"`
	Resource string               `json:"resource"`
	NoKey    bool                 `json:"no_key,omitempty"`
	Trust    bool                 `json:"trust,omitempty"` // Key is the trust policy of a role
	Context  map[string]simValues `json:"context"`
	Key      *simPolicy           `json:"key,omitempty"`
	Identity []simPolicy          `json:"identity"`
	Boundary []simPolicy          `json:"boundary"`
	Session  []simPolicy          `json:"session"`

	// The two ways in which the simulator decides differently; see simDifferences.
	sessionCutsAll, everyActionCrosses bool
}

// A simValues is a list that JSON has as a scalar where the key has one value.
type simValues struct {
	multi  bool
	values []string
}

func (v simValues) MarshalJSON() ([]byte, error) {
	if !v.multi {
		return json.Marshal(v.values[0])
	}
	return json.Marshal(v.values)
}

type simPolicy struct {
	Version   string `json:",omitempty"`
	Statement []simStatement
}

type simStatement struct {
	Effect                  string
	Principal, NotPrincipal simPrincipals                 `json:",omitempty"`
	Action, NotAction       simList                       `json:",omitempty"`
	Resource, NotResource   simList                       `json:",omitempty"`
	Condition               map[string]map[string]simList `json:",omitempty"`
}

// A simList is written as a scalar if it has one item.
type simList []string

func (l simList) MarshalJSON() ([]byte, error) {
	if len(l) == 1 {
		return json.Marshal(l[0])
	}
	return json.Marshal([]string(l))
}

// simPrincipals are the values of AWS, services and OIDC providers.
type simPrincipals []string

func (l simPrincipals) MarshalJSON() ([]byte, error) {
	m := map[string]simList{}
	for _, p := range l {
		kind := "AWS"
		if strings.HasSuffix(p, ".amazonaws.com") {
			kind = "Service"
		}
		if strings.Contains(p, providerPrefix) {
			kind = "Federated"
		}
		m[kind] = append(m[kind], p)
	}
	if len(l) == 1 && l[0] == "*" {
		return []byte(`"*"`), nil
	}
	return json.Marshal(m)
}

// clone copies what simDifferences and the minimiser change.
func (p *simPair) clone() *simPair {
	c := *p
	c.Context = make(map[string]simValues, len(p.Context))
	for k, v := range p.Context {
		c.Context[k] = simValues{v.multi, slices.Clone(v.values)}
	}
	if p.Key != nil {
		key := p.Key.clone()
		c.Key = &key
	}
	for _, list := range []*[]simPolicy{&c.Identity, &c.Boundary, &c.Session} {
		*list = slices.Clone(*list)
		for i := range *list {
			(*list)[i] = (*list)[i].clone()
		}
	}
	return &c
}

func (p simPolicy) clone() simPolicy {
	p.Statement = slices.Clone(p.Statement)
	for i := range p.Statement {
		s := &p.Statement[i]
		conditions := s.Condition
		s.Condition = nil
		for op, keys := range conditions {
			for key, values := range keys {
				s.want(op, key, slices.Clone(values)...)
			}
		}
	}
	return p
}

func (s *simStatement) want(op, key string, values ...string) {
	if s.Condition == nil {
		s.Condition = map[string]map[string]simList{}
	}
	if s.Condition[op] == nil {
		s.Condition[op] = map[string]simList{}
	}
	s.Condition[op][key] = values
}

// policies returns every policy with its kind of attachment.
func (p *simPair) policies() []*simPolicy {
	var all []*simPolicy
	if p.Key != nil {
		all = append(all, p.Key)
	}
	for _, list := range []*[]simPolicy{&p.Identity, &p.Boundary, &p.Session} {
		for i := range *list {
			all = append(all, &(*list)[i])
		}
	}
	return all
}

// input is the pair as Evaluate takes it.
func (p *simPair) input() (Input, error) {
	in := Input{NoKey: p.NoKey, Request: Request{
		Principal: p.Caller, Action: p.Action, Resource: p.Resource, ResourceAccount: own, Context: Context{},
	}}
	if p.NoKey {
		in.Request.ResourceAccount = p.Caller.AccountID
	}
	for key, v := range p.Context {
		in.Request.Context.Add(key, v.values...)
	}
	load := func(s *simPolicy, kind Kind) (*Policy, error) {
		doc, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		parsed, err := Parse(doc, kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doc, err)
		}
		return parsed, nil
	}
	var err error
	if p.Key != nil {
		kind, to := KindKey, &in.KeyPolicy
		if p.Trust {
			kind, to = KindTrust, &in.TrustPolicy
		}
		if *to, err = load(p.Key, kind); err != nil {
			return in, err
		}
	}
	var limits [3][]Named
	for i, list := range [][]simPolicy{p.Identity, p.Boundary, p.Session} {
		for j := range list {
			parsed, err := load(&list[j], KindIdentity)
			if err != nil {
				return in, err
			}
			limits[i] = append(limits[i], Named{fmt.Sprint(j), parsed})
		}
	}
	in.Identity, in.Session = limits[0], limits[2]
	if len(limits[1]) > 0 {
		in.Boundary = &limits[1][0]
	}
	return in, nil
}

// A simKey is a condition key of a type, with values of requests.
type simKey struct {
	name, family string
	multi        bool
	values       []string
}

var (
	simDigests = []string{strings.Repeat("6be47f83", 12), strings.Repeat("0343b056", 12)}
	simKeys    = []simKey{
		{"kms:EncryptionContext:tenant", "string", false, []string{"red", "Red", "blue", "a*b", "a*b"}},
		{"kms:EncryptionContext:App Name", "string", false, []string{"shop", "web"}},
		{image, "string", false, simDigests},
		{"kms:RecipientAttestation:PCR1", "string", false, simDigests},
		{"kms:RecipientAttestation:PCR8", "string", false, simDigests},
		{"kms:RecipientAttestation:PCR31", "string", false, simDigests},
		{"kms:RecipientAttestation:NitroTPMPCR4", "string", false, simDigests},
		{"kms:RequestAlias", "string", false, []string{"alias/red", "alias/blue"}},
		{"kms:ViaService", "string", false, []string{"s3.us-east-1.amazonaws.com", "ebs.us-east-1.amazonaws.com"}},
		{"aws:PrincipalTag/team", "string", false, []string{"red", "blue"}},
		{"aws:username", "string", false, []string{"anna", "red"}},
		{"kms:EncryptionContextKeys", "string", true, []string{"tenant", "App Name", "x"}},
		{"kms:GrantOperations", "string", true, []string{"Decrypt", "Encrypt", "Sign"}},
		{"aws:TagKeys", "string", true, []string{"tenant", "team"}},
		{"kms:RotationPeriodInDays", "numeric", false, []string{"90", "365", "180.5"}},
		{"kms:ScheduleKeyDeletionPendingWindowInDays", "numeric", false, []string{"7", "30", "007"}},
		{"aws:CurrentTime", "date", false, []string{"2026-11-20T18:00:00Z", "2026-11-21T00:00:00Z"}},
		{"aws:TokenIssueTime", "date", false, []string{"2026-11-20T18:00:00Z", "2026-11-20T17:59:59Z"}},
		{"aws:EpochTime", "date", false, []string{"1795197600", "1795197601"}},
		{"kms:ValidTo", "date", false, []string{"2026-11-20T18:00:00Z", "2027-01-01"}},
		{"aws:SecureTransport", "bool", false, []string{"true", "false"}},
		{"aws:MultiFactorAuthPresent", "bool", false, []string{"true", "False"}},
		{"kms:MultiRegion", "bool", false, []string{"true", "false"}},
		{"aws:PrincipalTag/blob", "binary", false, []string{"AAE=", "AAI="}},
		{"aws:SourceIp", "ip", false, []string{"10.1.2.3", "192.0.2.7", "2001:db8::1"}},
		{"aws:VpcSourceIp", "ip", false, []string{"10.1.2.3", "10.9.9.9"}},
		{"aws:PrincipalArn", "arn", false, []string{userARN, roleARN, "arn:aws:iam::999999999999:role/w"}},
		{"aws:SourceArn", "arn", false, []string{"arn:aws:s3:::b/c:d", "arn:aws:ec2:us-east-1:111122223333:volume/v"}},
		{"kms:GranteePrincipal", "arn", false, []string{userARN, roleARN}},
	}
	// simWanted are values of policies beside those of requests.
	simWanted = map[string][]string{
		"string":  {"*", "re?", "r*", "*l*", "${aws:username}", "${aws:PrincipalTag/team}", "${aws:PrincipalTag/none, 'red'}", "a${*}b", "${aws:TagKeys}", "${kms:EncryptionContext:tenant}"},
		"numeric": {"8", "90.0", "364.99", "1000", "-1"},
		"date":    {"2026-11-20T18:00:00Z", "2026-11-20T19:00:00+01:00", "2026-11-20", "1795197600", "2025-01-01T00:00:00Z"},
		"bool":    {"true", "false", "TRUE"},
		"binary":  {"AAM="},
		"ip":      {"10.0.0.0/8", "192.0.2.7/32", "10.1.2.3", "2001:db8::/32", "0.0.0.0/0", "2001:db8::1"},
		"arn":     {"arn:aws:iam::*:user/*", "arn:aws:iam::111122223333:*", "arn:aws:s3:::b/*", "arn:*:*:*:*:*/?", "arn:aws:iam::111122223333:user/${aws:username}", "arn:aws:iam::111122223333:role/*/worker"},
	}
	simFamilies = []struct{ prefix, family string }{
		{"String", "string"}, {"Numeric", "numeric"}, {"Date", "date"}, {"Bool", "bool"}, {"Binary", "binary"},
		{"Ip", "ip"}, {"NotIp", "ip"}, {"Arn", "arn"}, {"Null", ""},
	}
	simOperators = func() []string {
		var all []string
		for name := range operators {
			all = append(all, name)
		}
		slices.Sort(all)
		return all
	}()
	simActions = []string{
		"kms:Decrypt", "kms:Decrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:Encrypt", "kms:Sign", "kms:DescribeKey", "kms:CreateGrant",
		"kms:PutKeyPolicy", "kms:EnableKeyRotation", "kms:ScheduleKeyDeletion", "kms:GenerateRandom", "kms:CreateKey", "kms:ListKeys", "kms:CreateAlias",
	}
	simCallers = []Principal{user, user, user, session, session, session, session, session, federated, federated, root, service, otherUser, otherUser, otherRole, otherRole, otherRoot}
	aliasARN   = "arn:aws:kms:us-east-1:111122223333:alias/red"
)

// A simMaker makes pairs from one source of chance.
type simMaker struct {
	*rand.Rand
	operator int // the next one, so that all have their turn
}

func simPick[T any](m *simMaker, list []T) T { return list[m.IntN(len(list))] }

func (m *simMaker) chance(percent int) bool { return m.IntN(100) < percent }

func (m *simMaker) pair() *simPair {
	p := &simPair{
		Caller: simPick(m, simCallers), Action: simPick(m, simActions), Resource: keyARN, Context: map[string]simValues{},
		Identity: []simPolicy{}, Boundary: []simPolicy{}, Session: []simPolicy{},
	}
	switch p.Action {
	case "kms:GenerateRandom", "kms:CreateKey", "kms:ListKeys":
		p.NoKey, p.Resource = true, "*"
	case "kms:CreateAlias":
		p.NoKey, p.Resource = true, aliasARN
	}
	if p.NoKey && p.Caller.Type == CallerService {
		p.Caller = user
	}
	for _, k := range simKeys {
		if m.chance(60) {
			v := simValues{k.multi, []string{simPick(m, k.values)}}
			if k.multi {
				v.values = slices.Clone(k.values)[m.IntN(len(k.values)):]
			}
			p.Context[k.name] = v
		}
	}
	if !p.NoKey {
		key := m.policy(p, true, 1+m.IntN(4), 72)
		p.Key = &key
	}
	if p.Caller.Type == CallerService || p.Caller.Type == CallerRoot {
		return p
	}
	for range m.IntN(3) {
		p.Identity = append(p.Identity, m.policy(p, false, 1+m.IntN(3), 85))
	}
	if m.chance(30) {
		p.Boundary = append(p.Boundary, m.policy(p, false, 1+m.IntN(3), 85))
	}
	if p.Caller.Type != CallerUser && m.chance(35) {
		p.Session = append(p.Session, m.policy(p, false, 1+m.IntN(3), 85))
	}
	return p
}

// policy makes statements of which an Allow applies with the given chance.
func (m *simMaker) policy(p *simPair, key bool, statements, applies int) simPolicy {
	doc := simPolicy{Version: Version2012}
	if m.chance(12) {
		doc.Version = simPick(m, []string{"", Version2008})
	}
	for range statements {
		effect, want := "Allow", m.chance(applies)
		if m.chance(22) {
			effect, want = "Deny", m.chance(10)
		}
		var s simStatement
		for range 12 {
			if s = m.statement(p, key, effect); m.applies(p, doc.Version, s, key) == want {
				break
			}
		}
		doc.Statement = append(doc.Statement, s)
	}
	return doc
}

// applies asks the code under test, to steer chance and for nothing else.
func (m *simMaker) applies(p *simPair, version string, s simStatement, key bool) bool {
	probe := simPair{Caller: p.Caller, Action: p.Action, Resource: p.Resource, Context: p.Context}
	doc := simPolicy{version, []simStatement{s}}
	if probe.NoKey = !key; key {
		probe.Key = &doc
	} else {
		probe.Identity = []simPolicy{doc}
	}
	in, err := probe.input()
	if err != nil {
		panic(err)
	}
	return Evaluate(in).Trace.Policies[0].Statements[0].Applied
}

func (m *simMaker) statement(p *simPair, key bool, effect string) simStatement {
	s := simStatement{Effect: effect}
	if key {
		s.Principal = m.principals(p)
		if effect == "Deny" && m.chance(30) {
			s.Principal, s.NotPrincipal = nil, append(m.principals(p), m.principals(p)...)
		}
	}
	actions := simList{p.Action}
	if m.chance(60) {
		actions = simList{simPick(m, []string{"kms:*", "*", "kms:De*", "kms:?ecrypt", "kms:*Key*", strings.ToLower(p.Action), "s3:*", "kms:Verify", "kms:Create*", "KMS:decrypt"})}
	}
	if m.chance(30) {
		actions = append(actions, simPick(m, simActions))
	}
	if s.Action = actions; m.chance(12) {
		s.Action, s.NotAction = nil, simList{simPick(m, []string{"kms:Verify", "s3:*", "kms:De*", p.Action})}
	}
	resources := simList{"*"}
	if m.chance(50) {
		resources = simList{simPick(m, []string{p.Resource, keyARN, aliasARN, "arn:aws:kms:*:*:key/*", "arn:aws:kms:us-*-1:111122223333:key/1234*", "arn:aws:kms:us-east-?:*:key/????abcd-*",
			"arn:aws:kms:*:*:alias/*", "arn:aws:kms:*:*:*", "arn:aws:kms:us-west-2:*:key/*", "arn:aws:kms:*:*:alias/${aws:PrincipalTag/team}", "arn:aws:kms:*:*:key/${aws:PrincipalTag/team, '1234*'}*"})}
	}
	switch {
	case m.chance(12):
		s.NotResource = simList{simPick(m, []string{"arn:aws:kms:*:*:alias/*", "arn:aws:kms:us-west-2:*:key/*", keyARN, "*", "arn:aws:kms:*:*:key/${aws:PrincipalTag/team}"})}
	case key && m.chance(3):
	default:
		s.Resource = resources
	}
	for range max(0, m.IntN(5)-1) {
		m.condition(p, &s, key)
	}
	return s
}

// principals lists mostly what the caller is.
func (m *simMaker) principals(p *simPair) simPrincipals {
	mine := []string{p.Caller.ARN, "*"}
	if p.Caller.AccountID != "" {
		mine = append(mine, p.Caller.AccountID, "arn:aws:iam::"+p.Caller.AccountID+":root")
	}
	for _, arn := range []string{p.Caller.RoleARN, p.Caller.UserARN} {
		if arn != "" {
			mine = append(mine, arn, arn)
		}
	}
	others := []string{userARN, roleARN, sessARN, fedARN, rootARN, foreign, otherUser.ARN, otherRole.RoleARN, "ec2.amazonaws.com", "s3.amazonaws.com", userARN + "2"}
	var list simPrincipals
	for range 1 + m.IntN(3) {
		from := mine
		if m.chance(25) {
			from = others
		}
		if name := simPick(m, from); !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	if slices.Contains(list, "*") {
		return simPrincipals{"*"}
	}
	return list
}

func (m *simMaker) condition(p *simPair, s *simStatement, key bool) {
	name := simOperators[m.operator%len(simOperators)]
	m.operator++
	var family string
	for _, f := range simFamilies {
		if strings.HasPrefix(name, f.prefix) {
			family = f.family
		}
	}
	var keys []simKey
	for _, k := range simKeys {
		if k.family == family || family == "" {
			keys = append(keys, k)
		}
	}
	k := simPick(m, keys)
	op := name
	if family == "" {
		s.want(op, k.name, simPick(m, []string{"true", "false", "True"}))
		return
	}
	if m.chance(25) {
		op += "IfExists"
	}
	if k.multi && m.chance(70) || m.chance(15) {
		op = simPick(m, []string{"ForAnyValue:", "ForAllValues:"}) + op
	}
	if key && strings.HasPrefix(op, "ForAllValues:") && strings.HasPrefix(strings.ToLower(k.name), contextPrefix) {
		return // no key policy may say so
	}
	values := simList{}
	for range 1 + m.IntN(3) {
		v := simPick(m, k.values)
		if got, ok := p.Context[k.name]; ok && m.chance(40) {
			v = simPick(m, got.values)
		}
		if m.chance(45) {
			v = simPick(m, simWanted[family])
		}
		if v == "a*b" && m.chance(70) {
			v = "a${*}b"
		}
		if !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	keyName := k.name
	if m.chance(15) {
		keyName = strings.ToUpper(keyName[:4]) + strings.ToLower(keyName[4:])
	}
	for _, other := range s.Condition {
		for name := range other {
			if strings.EqualFold(name, keyName) {
				return
			}
		}
	}
	s.want(op, keyName, values...)
}
