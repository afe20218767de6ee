// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"
)

// RootCommonName is the common name of every root of this package.
const RootCommonName = "cretula-emulator.nitro-enclaves"

// Lifetimes of genuine certificates, and by how much their begin is earlier than
// their making.
const (
	rootLife     = 30 * 365 * 24 * time.Hour
	regionLife   = 20 * 24 * time.Hour
	zoneLife     = 139 * time.Hour
	instanceLife = 24 * time.Hour
	leafLife     = 3 * time.Hour
	// leafUse is how long a leaf is used for new documents.
	leafUse = 2 * time.Hour

	caBackdate   = time.Hour
	leafBackdate = 3 * time.Second
)

// maxCached bounds the instances and the modules whose certificates are kept.
const maxCached = 1024

var regionName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// An issued certificate, its key and what issued it.
type issued struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	parent *issued
	// made is the time of making, in whole seconds.
	made time.Time
}

// covers tells whether i is valid during all of [from, until].
func (i *issued) covers(from, until time.Time) bool {
	return i != nil && !from.Before(i.cert.NotBefore) && !until.After(i.cert.NotAfter)
}

// An Authority is a private PKI in the shape of AWS's. It may be used by many
// goroutines at once.
type Authority struct {
	root   *issued
	region string
	now    func() time.Time

	mu             sync.Mutex
	regional, zone *issued
	instances      map[string]*issued
	leaves         map[string]*issued
}

// New makes an Authority with a new root, valid for 30 years from an hour ago.
func New(o Options) (*Authority, error) {
	a, err := newAuthority(o)
	if err != nil {
		return nil, err
	}
	made := a.now().Truncate(time.Second)
	a.root, err = makeCertificate(nil, template{
		serial:    randomSerial(16),
		subject:   rootSubject(),
		notBefore: made.Add(-caBackdate),
		notAfter:  made.Add(rootLife),
		ca:        true, pathLen: -1,
		usage:     usageCA,
		subjectID: true,
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

func newAuthority(o Options) (*Authority, error) {
	a := &Authority{
		region:    o.Region,
		now:       o.Now,
		instances: map[string]*issued{},
		leaves:    map[string]*issued{},
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.region == "" {
		a.region = DefaultRegion
	}
	if !regionName.MatchString(a.region) {
		return nil, fmt.Errorf("issuer: %q is no name of a region", a.region)
	}
	return a, nil
}

// Load makes an Authority from the root that [Authority.MarshalPEM] wrote. It
// refuses a certificate whose subject is not an emulator's, and a key that is
// not the certificate's.
func Load(pemBytes []byte, o Options) (*Authority, error) {
	a, err := newAuthority(o)
	if err != nil {
		return nil, err
	}
	var root issued
	for block, rest := pem.Decode(pemBytes); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE" && root.cert == nil:
			root.cert, err = x509.ParseCertificate(block.Bytes)
		case block.Type == "PRIVATE KEY" && root.key == nil:
			root.key, err = parseKey(block.Bytes)
		default:
			err = fmt.Errorf("an unexpected PEM block %q", block.Type)
		}
		if err != nil {
			return nil, fmt.Errorf("issuer: root: %w", err)
		}
	}
	switch {
	case root.cert == nil || root.key == nil:
		return nil, errors.New("issuer: root: certificate or key is missing")
	case !root.key.PublicKey.Equal(root.cert.PublicKey):
		return nil, errors.New("issuer: root: the key is not the certificate's")
	case !bytes.Equal(root.cert.RawSubject, rootSubject()) || !bytes.Equal(root.cert.RawIssuer, rootSubject()):
		return nil, errors.New("issuer: root: the subject does not say that it is an emulator's")
	}
	a.root = &root
	return a, nil
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || private.Curve != elliptic.P384() {
		return nil, errors.New("the key is not on P-384")
	}
	return private, nil
}

// MarshalPEM returns the root's certificate and its private key (PKCS #8), for
// [Load]. The result is secret: store it with mode 0600.
func (a *Authority) MarshalPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.root.key)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	out := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.cert.Raw})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...), nil
}

// Root returns the root's certificate, which verifiers of the documents must be
// given.
func (a *Authority) Root() *x509.Certificate { return a.root.cert }

// leaf returns the leaf of a module for a document of time at: the one in use
// if it was made in the two hours before, else a new one.
func (a *Authority) leaf(moduleID string, at time.Time) (*issued, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.leaves[moduleID]; l != nil && !at.Before(l.made) && at.Sub(l.made) < leafUse {
		return l, nil
	}
	made := at.Truncate(time.Second)
	parent, err := a.instance(moduleID[:instanceLength], made)
	if err != nil {
		return nil, err
	}
	l, err := makeCertificate(parent, template{
		serial:    leafSerial(moduleID, made),
		subject:   hostSubject(moduleID + "." + a.region + ".aws"),
		notBefore: made.Add(-leafBackdate),
		notAfter:  made.Add(leafLife),
		usage:     usageLeaf,
	})
	if err != nil {
		return nil, err
	}
	l.made = made
	keep(a.leaves, moduleID, l)
	return l, nil
}

// The three below return a certificate that outlives what is to be issued under
// it at that time, the one in use if possible. The caller holds a.mu.

func (a *Authority) instance(id string, at time.Time) (*issued, error) {
	if i := a.instances[id]; i.covers(at.Add(-leafBackdate), at.Add(leafLife)) {
		return i, nil
	}
	// The instance begins with its first leaf.
	notBefore := at.Add(-leafBackdate)
	parent, err := a.zonal(notBefore, notBefore.Add(instanceLife))
	if err != nil {
		return nil, err
	}
	i, err := makeCertificate(parent, template{
		serial:    randomSerial(20),
		subject:   hostSubject(id + "." + a.region + ".aws.nitro-enclaves"),
		notBefore: notBefore,
		notAfter:  notBefore.Add(instanceLife),
		ca:        true, pathLen: 0,
		usage:     usageInstance,
		subjectID: true,
	})
	if err != nil {
		return nil, err
	}
	keep(a.instances, id, i)
	return i, nil
}

func (a *Authority) zonal(from, until time.Time) (*issued, error) {
	if a.zone.covers(from, until) {
		return a.zone, nil
	}
	notBefore := a.backdated(from)
	parent, err := a.regionCA(notBefore, from.Add(zoneLife))
	if err != nil {
		return nil, err
	}
	z, err := makeCertificate(parent, template{
		serial:    randomSerial(16),
		subject:   zoneSubject(randomName() + ".zonal." + a.region + ".aws.nitro-enclaves"),
		notBefore: notBefore,
		notAfter:  from.Add(zoneLife),
		ca:        true, pathLen: 1,
		usage:     usageCA,
		subjectID: true,
		crl:       true,
	})
	if err != nil {
		return nil, err
	}
	a.zone = z
	return z, nil
}

func (a *Authority) regionCA(from, until time.Time) (*issued, error) {
	if a.regional.covers(from, until) {
		return a.regional, nil
	}
	notAfter := from.Add(caBackdate + regionLife)
	if !a.root.covers(from, notAfter) {
		return nil, fmt.Errorf("issuer: the root is valid from %s to %s, which is not enough for a chain from %s on",
			a.root.cert.NotBefore.Format(time.RFC3339), a.root.cert.NotAfter.Format(time.RFC3339), from.Format(time.RFC3339))
	}
	r, err := makeCertificate(a.root, template{
		serial:    randomSerial(16),
		subject:   amazonSubject(randomName() + "." + a.region + ".aws.nitro-enclaves"),
		notBefore: from,
		notAfter:  notAfter,
		ca:        true, pathLen: 2,
		usage:     usageCA,
		subjectID: true,
		crl:       true,
	})
	if err != nil {
		return nil, err
	}
	a.regional = r
	return r, nil
}

// backdated returns when a CA that is made at that time begins: an hour earlier,
// but not before the root, unless the time itself is.
func (a *Authority) backdated(at time.Time) time.Time {
	begin := at.Add(-caBackdate)
	if root := a.root.cert.NotBefore; begin.Before(root) && !at.Before(root) {
		return root
	}
	return begin
}

// keep puts a certificate into a cache, first making room for it by removing
// one that is no longer valid when the new one is, or else any.
func keep(cache map[string]*issued, name string, i *issued) {
	if _, there := cache[name]; !there && len(cache) >= maxCached {
		victim := ""
		for other, o := range cache {
			victim = other
			if o.cert.NotAfter.Before(i.cert.NotBefore) {
				break
			}
		}
		delete(cache, victim)
	}
	cache[name] = i
}

func randomName() string { return hex.EncodeToString(randomBytes(8)) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// randomSerial returns a positive serial number of n bytes.
func randomSerial(n int) []byte {
	b := randomBytes(n)
	b[0] |= 0x40
	return b
}
