// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cretula/cretula/kms"
)

// Default rates of a principal, requests per second, by operation. They are AWS's
// quotas of an account and region, where it has one of the operation itself; those
// that it has by kind of key are taken at their middle. Source: AWS KMS Developer
// Guide, "Request quotas".
const (
	rateSymmetric  = 10000
	rateAsymmetric = 500
	ratePair       = 25
	rateRead       = 2000
	rateList       = 500
	rateListGrants = 100
	rateGrant      = 50
	rateTag        = 10
	rateChange     = 5
	rateOften      = 15
	rateParameters = 0.25
	// rateOther is for operations that are not in the table.
	rateOther = 500
)

var defaultRates = map[string]float64{
	"Encrypt": rateSymmetric, "Decrypt": rateSymmetric, "ReEncrypt": rateSymmetric, "GenerateDataKey": rateSymmetric,
	"GenerateDataKeyWithoutPlaintext": rateSymmetric, "GenerateMac": rateSymmetric, "VerifyMac": rateSymmetric, "GenerateRandom": rateSymmetric,
	"Sign": rateAsymmetric, "Verify": rateAsymmetric, "DeriveSharedSecret": rateAsymmetric,
	"GenerateDataKeyPair": ratePair, "GenerateDataKeyPairWithoutPlaintext": ratePair,
	"DescribeKey": rateRead, "GetPublicKey": rateRead, "ListResourceTags": rateRead,
	"GetKeyPolicy": rateRead / 2, "GetKeyRotationStatus": rateRead / 2, "GetKeyLastUsage": rateRead / 2,
	"ListKeys": rateList, "ListAliases": rateList,
	"ListGrants": rateListGrants, "ListRetirableGrants": rateListGrants, "ListKeyPolicies": rateListGrants, "ListKeyRotations": rateListGrants,
	"CreateGrant": rateGrant, "RetireGrant": rateGrant, "RevokeGrant": rateGrant,
	"TagResource": rateTag, "UntagResource": rateTag,
	"CreateKey": rateChange, "CreateAlias": rateChange, "UpdateAlias": rateChange, "CancelKeyDeletion": rateChange,
	"EnableKey": rateChange, "DisableKey": rateChange, "DisableKeyRotation": rateChange, "ReplicateKey": rateChange,
	"UpdatePrimaryRegion": rateChange, "UpdateKeyDescription": rateChange, "RotateKeyOnDemand": rateChange,
	"DeleteAlias": rateOften, "ScheduleKeyDeletion": rateOften, "PutKeyPolicy": rateOften, "EnableKeyRotation": rateOften,
	"ImportKeyMaterial": rateOften, "DeleteImportedKeyMaterial": rateOften,
	"GetParametersForImport": rateParameters,
}

// DefaultRates returns the requests per second of a principal by operation.
func DefaultRates() map[string]float64 { return maps.Clone(defaultRates) }

// minBurst is how many requests pass at once however low the rate is: a program
// that starts makes a few calls.
const minBurst = 5

// LimitOptions are the rates of [NewLimits], per second.
type LimitOptions struct {
	// Operations are rates of a principal by operation that replace the defaults;
	// NoOperations takes all of them away.
	Operations   map[string]float64
	NoOperations bool
	// UnknownCertificates is how many signatures of certificates are checked for a
	// principal, and for a source address.
	UnknownCertificates float64
	// Unauthenticated is how many requests of a source address may fail to
	// authenticate, or come without a signature.
	Unauthenticated float64
	// Metrics count what AllowCertificates refuses; nil: nobody does.
	Metrics *Metrics
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Limits are the rate limits of a server. They are kept in memory, of bounded size,
// and each server counts for itself. nil has no limits.
type Limits struct {
	operations *buckets[operationKey] // nil: no limit
	chains     *buckets[string]       // by principal, and by source address
	sources    *buckets[string]
	proven     recentKeys
	metrics    *Metrics
}

type operationKey struct{ principal, operation string }

// NewLimits makes limits.
func NewLimits(o LimitOptions) *Limits {
	if o.Now == nil {
		o.Now = time.Now
	}
	rates := DefaultRates()
	maps.Copy(rates, o.Operations)
	l := &Limits{
		metrics: o.Metrics,
		chains:  newBuckets(o.Now, func(string) float64 { return o.UnknownCertificates }, func(string) string { return "" }),
		sources: newBuckets(o.Now, func(string) float64 { return o.Unauthenticated }, func(string) string { return "" }),
	}
	if !o.NoOperations {
		l.operations = newBuckets(o.Now, func(k operationKey) float64 {
			if r, known := rates[k.operation]; known {
				return r
			}
			return rateOther
		}, func(k operationKey) operationKey { return operationKey{operation: k.operation} })
	}
	return l
}

// AllowCertificates spends n of what the principal and the source address of a
// caller may have checked of certificates. It is for [kms.Config].
func (l *Limits) AllowCertificates(caller *kms.Caller, n int) bool {
	if l == nil {
		return true
	}
	bySource := l.chains.allow("a "+sourceNet(caller.SourceIP), n)
	if l.chains.allow("p "+caller.Principal.ID, n) && bySource {
		return true
	}
	l.metrics.throttle(limitCertificates)
	return false
}

// allowOperation spends one request of a principal.
func (l *Limits) allowOperation(caller *kms.Caller, operation string) bool {
	return l == nil || l.operations == nil || l.operations.allow(operationKey{caller.Principal.ID, operation}, 1)
}

// allowUnproven decides about a request before its signature is looked at. One
// without a signature is spent from what its source address has. So is a signed one
// if it turns out wrong, see refused; until then it must only not be empty, and not
// even that where the access key has signed a good request lately: many clients may
// have one address, and one of them must not lock out the others.
//
// noted says that [Limits.authentic] need not be told if the request is.
func (l *Limits) allowUnproven(r *http.Request) (allowed, noted bool) {
	if l == nil {
		return true, true
	}
	id := claimedKey(r)
	if id == "" {
		return l.sources.allow(sourceNet(sourceIP(r)), 1), false
	}
	if known, young := l.proven.has(id); known {
		return true, young
	}
	return l.sources.left(sourceNet(sourceIP(r))), false
}

// allowUnsigned decides about a request that needs no signature, whatever key it
// names: it is spent from what its source address has.
func (l *Limits) allowUnsigned(r *http.Request) bool {
	return l == nil || l.sources.allow(sourceNet(sourceIP(r)), 1)
}

// refused notes that a signed request was not authentic. It reports whether its
// client may be told more than that there were too many.
func (l *Limits) refused(r *http.Request) bool {
	return l == nil || claimedKey(r) == "" || l.sources.allow(sourceNet(sourceIP(r)), 1)
}

// authentic notes that a request was authentic.
func (l *Limits) authentic(caller *kms.Caller) {
	if l != nil {
		l.proven.put(caller.AccessKeyID)
	}
}

// maxKeyID is longer than any access key id.
const maxKeyID = 128

// claimedKey is the access key id that a request names, "" if none.
func claimedKey(r *http.Request) string {
	_, credential, found := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	if !found {
		if !strings.Contains(r.URL.RawQuery, "X-Amz-Credential") {
			return ""
		}
		credential = r.URL.Query().Get("X-Amz-Credential")
	}
	id, _, _ := strings.Cut(credential, "/")
	if len(id) > maxKeyID {
		return "?"
	}
	return id
}

// sourceNet is what stands for a source address: an IPv4 address, or the /64 of an
// IPv6 address, which one client may have all of.
func sourceNet(source string) string {
	ip, err := netip.ParseAddr(source)
	if err != nil {
		return source
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, _ := ip.Prefix(64) // a length that every IPv6 address has
	return prefix.String()
}

// maxBuckets bounds how many buckets there are of a kind.
const maxBuckets = 1 << 16

// buckets are token buckets by key. Where there are maxBuckets that are all in use,
// those who come next share one.
type buckets[K comparable] struct {
	now    func() time.Time
	rate   func(K) float64
	shared func(K) K

	mu    sync.Mutex
	of    map[K]*rate.Limiter
	swept time.Time
}

func newBuckets[K comparable](now func() time.Time, rateOf func(K) float64, shared func(K) K) *buckets[K] {
	return &buckets[K]{now: now, rate: rateOf, shared: shared, of: map[K]*rate.Limiter{}}
}

// allow spends n tokens, if there are as many. More than a bucket holds are spent
// from a full one.
func (b *buckets[K]) allow(key K, n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, now := b.bucket(key), b.now()
	return l.AllowN(now, min(n, l.Burst()))
}

// left tells whether there is a token.
func (b *buckets[K]) left(key K) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bucket(key).TokensAt(b.now()) >= 1
}

// bucket returns the bucket of a key, a full one if it is new. The lock is held.
func (b *buckets[K]) bucket(key K) *rate.Limiter {
	if l := b.of[key]; l != nil {
		return l
	}
	if len(b.of) >= maxBuckets && !b.sweep() {
		key = b.shared(key)
		if l := b.of[key]; l != nil {
			return l
		}
	}
	perSecond := b.rate(key)
	l := rate.NewLimiter(rate.Limit(perSecond), max(minBurst, int(perSecond)))
	b.of[key] = l
	return l
}

// sweep takes out the buckets that are full, which are as good as new ones, at most
// once a second. It reports whether there is room.
func (b *buckets[K]) sweep() bool {
	now := b.now()
	if now.Sub(b.swept) < time.Second {
		return false
	}
	b.swept = now
	for key, l := range b.of {
		if l.TokensAt(now) >= float64(l.Burst()) {
			delete(b.of, key)
		}
	}
	return len(b.of) < maxBuckets
}

// recentKeys remembers access keys that have signed good requests: two generations,
// of which the old one is forgotten when the young one is full.
type recentKeys struct {
	mu         sync.Mutex
	young, old map[string]struct{}
}

const maxRecentKeys = 4096

// has tells whether an access key is one of those, and whether put would change nothing.
func (k *recentKeys) has(id string) (known, young bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, young := k.young[id]; young {
		return true, true
	}
	_, old := k.old[id]
	return old, false
}

func (k *recentKeys) put(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, known := k.young[id]; known {
		return
	}
	if k.young == nil || len(k.young) >= maxRecentKeys {
		k.old, k.young = k.young, map[string]struct{}{}
	}
	k.young[id] = struct{}{}
}
