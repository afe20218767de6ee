// SPDX-License-Identifier: Apache-2.0

package policy

// verdicts are what the policies of each kind, and the grants, come to.
type verdicts struct {
	key, identity, boundary, session tally
	grants                           grantTally
}

// empty forgets the verdicts, and keeps their memory.
func (v *verdicts) empty() {
	for _, t := range [...]*tally{&v.key, &v.identity, &v.boundary, &v.session} {
		t.denies, t.direct, t.limited, t.delegates = t.denies[:0], t.direct[:0], t.limited[:0], t.delegates[:0]
	}
	v.grants = grantTally{}
}

func (d *Decision) allow(cause Cause, by ...[]StatementRef) {
	d.Allowed, d.Cause = true, cause
	for _, refs := range by {
		d.By = append(d.By, refs...)
	}
}

// decide adds up. The order of what is missing, where something is, is that in
// which AWS names it: the key's side first, then the caller's.
func (d *Decision) decide(in *Input, v *verdicts) {
	for _, deny := range []struct {
		cause Cause
		tally *tally
	}{
		{CauseKeyDeny, &v.key}, {CauseIdentityDeny, &v.identity},
		{CauseBoundaryDeny, &v.boundary}, {CauseSessionDeny, &v.session},
	} {
		if len(deny.tally.denies) > 0 {
			d.Cause, d.By = deny.cause, append(d.By, deny.tally.denies...)
			return
		}
	}
	if in.TrustPolicy != nil && in.Request.Principal.Type == CallerRoot {
		d.Cause = CauseNoKeyAllow
		return
	}
	// The account's root user has no identity policies and needs none.
	identity := v.identity.allows() || in.Request.Principal.Type == CallerRoot
	limit := in.limit(v)
	switch {
	case in.KeyPolicy == nil && in.TrustPolicy == nil && in.NoKey:
		d.onNoKey(v, identity, limit)
	case in.own() || in.Request.Principal.Type == CallerService || in.Request.Principal.Type == CallerWebIdentity:
		d.onOwnKey(v, identity, limit)
	default:
		d.onForeignKey(v, identity, limit, in.TrustPolicy != nil || CrossAccount(in.Request.Action))
	}
	if !d.Allowed {
		d.byGrant(v, identity, limit)
	}
}

func (in *Input) own() bool {
	p := &in.Request.Principal
	return p.AccountID != "" && p.AccountID == in.Request.ResourceAccount
}

// limit says which of boundary and session policies does not allow, if any.
func (in *Input) limit(v *verdicts) Cause {
	needsSession := len(in.Session) > 0 || in.Request.Principal.Type == CallerFederated
	switch {
	case in.Boundary != nil && !v.boundary.allows():
		return CauseNoBoundaryAllow
	case needsSession && !v.session.allows():
		return CauseNoSessionAllow
	}
	return ""
}

func (d *Decision) onNoKey(v *verdicts, identity bool, limit Cause) {
	switch {
	case !identity:
		d.Cause = CauseNoIdentityAllow
	case limit != "":
		d.Cause = limit
	default:
		d.allow(CauseIdentity, v.identity.direct)
	}
}

func (d *Decision) onOwnKey(v *verdicts, identity bool, limit Cause) {
	switch {
	case len(v.key.direct) > 0:
		d.allow(CauseKeyPolicy, v.key.direct)
	case len(v.key.limited) > 0 && limit == "":
		d.allow(CauseKeyPolicy, v.key.limited)
	case len(v.key.delegates) > 0 && identity && limit == "":
		d.allow(CauseDelegated, v.key.delegates, v.identity.direct)
	case !v.key.allows():
		d.Cause = CauseNoKeyAllow
	case len(v.key.limited) == 0 && !identity:
		d.Cause = CauseNoIdentityAllow
	default:
		d.Cause = limit
	}
}

func (d *Decision) onForeignKey(v *verdicts, identity bool, limit Cause, possible bool) {
	switch {
	case !v.key.allows():
		d.Cause = CauseNoKeyAllow
	case !possible:
		d.Cause = CauseCrossAccount
	case !identity:
		d.Cause = CauseNoIdentityAllow
	case limit != "":
		d.Cause = limit
	default:
		d.allow(CauseBoth, v.key.direct, v.key.limited, v.key.delegates, v.identity.direct)
	}
}

// byGrant allows what policies do not, or says what keeps a grant that matched
// from allowing.
func (d *Decision) byGrant(v *verdicts, identity bool, limit Cause) {
	id, missing := v.grants.direct, Cause("")
	if id == "" {
		id, missing = v.grants.limited, limit
	}
	if id == "" {
		id = v.grants.delegates
		if missing = limit; !identity {
			missing = CauseNoIdentityAllow
		}
	}
	switch {
	case id == "":
	case missing == "":
		d.allow(CauseGrant)
		d.Grant = id
	case d.Cause == CauseNoKeyAllow:
		d.Cause = missing
	}
}
