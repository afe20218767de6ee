// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/cretula/cretula/kms/kmsapi"
)

// An Unauthenticated is a request whose sender is not known. It has nothing of what
// was to prove who that is.
type Unauthenticated struct {
	// Code is the exception that it was answered with.
	Code kmsapi.Code
	// SourceIP is the address of the peer.
	SourceIP string
	// Operation is what was asked for, RequestID the id of the request.
	Operation, RequestID string
	UserAgent            string
	// Cause is what is not told the client, such as why the keys of an identity provider
	// could not be had; mostly empty.
	Cause string
}

// Bounds of what is counted of requests without authentication, and how often it is
// recorded.
const (
	maxUnauthenticated = 256 // kinds that are counted by themselves
	sampleInterval     = time.Minute
)

// An unauthenticatedKind is what such requests are counted by: the exception and the
// class of the source address, the network that it is of.
type unauthenticatedKind struct {
	code   kmsapi.Code
	source string
}

// otherSources is the class of those that are not counted by themselves.
const otherSources = "other"

// An unauthenticatedCount is how many there were of a kind.
type unauthenticatedCount struct {
	total    uint64
	recorded uint64    // of them, those that events have counted
	sampled  time.Time // when the last event was
	last     Unauthenticated
}

// unauthenticated counts requests that fail authentication. Whoever sends them must
// not be able to fill the disk, nor to have it busy: the first of each kind
// in a minute is an event, which says how many there were since the last one.
type unauthenticated struct {
	mu     sync.Mutex
	counts map[unauthenticatedKind]*unauthenticatedCount
}

// SourceClass returns the network that an address is counted under: loopback, the /24
// of an IPv4 address, the /48 of an IPv6 one, or "other" if it is no address.
func SourceClass(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return otherSources
	}
	ip = ip.Unmap().WithZone("")
	if ip.IsLoopback() {
		return "loopback"
	}
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return otherSources
	}
	return prefix.String()
}

// count counts a request and tells whether it is to be recorded, with how many there
// were since the last that was.
func (u *unauthenticated) count(now time.Time, r *Unauthenticated) (since uint64, source string, record bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	kind := unauthenticatedKind{r.Code, SourceClass(r.SourceIP)}
	c := u.counts[kind]
	if c == nil && len(u.counts) >= maxUnauthenticated && !u.forget(now) {
		kind.source = otherSources
		c = u.counts[kind]
	}
	if c == nil {
		if u.counts == nil {
			u.counts = map[unauthenticatedKind]*unauthenticatedCount{}
		}
		c = &unauthenticatedCount{}
		u.counts[kind] = c
	}
	c.total++
	c.last = *r
	if !c.sampled.IsZero() && now.Sub(c.sampled) < sampleInterval && !now.Before(c.sampled) {
		return 0, "", false
	}
	since, c.recorded, c.sampled = c.total-c.recorded, c.total, now
	return since, kind.source, true
}

// forget makes room: it forgets the kind that was recorded longest ago, if all of it
// is on record and that is more than a minute ago.
func (u *unauthenticated) forget(now time.Time) bool {
	var oldest unauthenticatedKind
	found := false
	for kind, c := range u.counts {
		if kind.source == otherSources || c.recorded != c.total || now.Sub(c.sampled) < sampleInterval {
			continue
		}
		if !found || c.sampled.Before(u.counts[oldest].sampled) {
			oldest, found = kind, true
		}
	}
	if found {
		delete(u.counts, oldest)
	}
	return found
}

// takeBack says that so many are not on record.
func (u *unauthenticated) takeBack(kind unauthenticatedKind, n uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c := u.counts[kind]; c != nil {
		c.recorded -= min(n, c.recorded)
	}
}

// due returns the kinds of which more came since their last event, a minute ago or
// longer; all of them if it is the end. They count as recorded.
func (u *unauthenticated) due(now time.Time, end bool) (kinds []unauthenticatedKind, counts []unauthenticatedCount) {
	u.mu.Lock()
	defer u.mu.Unlock()
	byName := func(a, b unauthenticatedKind) int {
		return cmp.Or(cmp.Compare(a.code, b.code), cmp.Compare(a.source, b.source))
	}
	for _, kind := range slices.SortedFunc(maps.Keys(u.counts), byName) {
		c := u.counts[kind]
		if c.recorded == c.total || !end && now.Sub(c.sampled) < sampleInterval {
			continue
		}
		kinds, counts = append(kinds, kind), append(counts, *c)
		c.recorded, c.sampled = c.total, now
	}
	return kinds, counts
}

// NoteUnauthenticated counts a request that failed authentication, and records an
// event of the first of its kind in a minute, for which it waits. [Server.Run] records
// what came behind the first one. Such a request gets no more than it is refused all
// the same: where the event cannot be recorded it is counted for the next one.
func (s *Server) NoteUnauthenticated(ctx context.Context, r Unauthenticated) {
	now := s.now()
	since, source, record := s.unauthenticated.count(now, &r)
	if record && s.recordUnauthenticated(ctx, now, &r, source, since) != nil {
		s.unauthenticated.takeBack(unauthenticatedKind{r.Code, source}, since)
	}
}

// writeUnauthenticated records what was counted since the last events.
func (s *Server) writeUnauthenticated(ctx context.Context, end bool) (err error) {
	now := s.now()
	kinds, counts := s.unauthenticated.due(now, end)
	for i, kind := range kinds {
		since := counts[i].total - counts[i].recorded
		if recordErr := s.recordUnauthenticated(ctx, now, &counts[i].last, kind.source, since); recordErr != nil {
			s.unauthenticated.takeBack(kind, since)
			err = recordErr
		}
	}
	return err
}

func (s *Server) recordUnauthenticated(ctx context.Context, now time.Time, r *Unauthenticated, source string, since uint64) error {
	id, err := s.newDecisionID()
	if err != nil {
		return err
	}
	e := s.newEvent("UnauthenticatedRequests", sourceOwn, typeOwn, now, id)
	e.UserIdentity = UserIdentity{Type: "Unknown"}
	e.SourceIP, e.UserAgent, e.RequestID, e.RecipientAccountID = r.SourceIP, clip(r.UserAgent), r.RequestID, s.account
	e.Outcome, e.ErrorCode, e.Cause, e.ReadOnly = Failed, string(r.Code), clip(r.Cause), true
	e.RequestParameters = map[string]any{"count": since, "operation": clip(r.Operation), "source": source}
	return s.record(ctx, e)
}
