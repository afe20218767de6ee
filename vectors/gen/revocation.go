// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"time"

	at "github.com/cretula/cretula/attestation/attestationtest"
)

// A listed is one revocation list: of the issuer at a position, with the
// certificates at other positions.
type listed struct {
	issuer  int
	revoked []int
	// edit changes the list and the certificate that signs it.
	edit func(list *x509.RevocationList, issuer *certificate)
}

func crls(lists ...listed) func(*forgery) [][]byte {
	return func(f *forgery) (ders [][]byte) {
		for _, l := range lists {
			issuer := f.Certificates[l.issuer]
			list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: made.Add(-time.Hour), NextUpdate: made.Add(24 * time.Hour)}
			for _, i := range l.revoked {
				list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
					SerialNumber: f.Certificates[i].Serial, RevocationTime: made.Add(-30 * time.Minute),
				})
			}
			if l.edit != nil {
				l.edit(list, &issuer)
			}
			der, err := issuer.MakeCRL(list)
			if err != nil {
				panic(err)
			}
			ders = append(ders, der)
		}
		return ders
	}
}

func byStranger(_ *x509.RevocationList, issuer *certificate) { issuer.Key = at.Key("stranger") }

func expired(list *x509.RevocationList, _ *certificate) { list.NextUpdate = made.Add(-time.Second) }

func criticalExtension(list *x509.RevocationList, _ *certificate) {
	list.ExtraExtensions = append(list.ExtraExtensions, pkix.Extension{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
}

// revocation are good documents with revocation lists, RFC 5280 §5.
func revocation() []vector {
	return []vector{
		{name: "nothing revoked", sentence: "The lists of root, region and zone are empty.", crls: crls(listed{issuer: at.Root}, listed{issuer: at.Region}, listed{issuer: at.Zone})},
		{name: "one issuer's list", sentence: "Only the zone's list is given, and is empty.", crls: crls(listed{issuer: at.Zone})},
		{name: "list at its end", sentence: "The clock is at the zone's list's nextUpdate.", crls: crls(listed{issuer: at.Zone, edit: func(l *x509.RevocationList, _ *certificate) { l.NextUpdate = made }})},
		{name: "serial in another issuer's list", sentence: "The region's list has the serial of the instance, which the zone issued.", crls: crls(listed{issuer: at.Region, revoked: []int{at.Instance}})},

		{name: "region revoked", sentence: "The root's list has the region.", expect: untrusted, rules: "chain.revoked", crls: crls(listed{issuer: at.Root, revoked: []int{at.Region}})},
		{name: "zone revoked", sentence: "The region's list has the zone.", expect: untrusted, rules: "chain.revoked", crls: crls(listed{issuer: at.Region, revoked: []int{at.Zone}})},
		{name: "instance revoked", sentence: "The zone's list has the instance.", expect: untrusted, rules: "chain.revoked", crls: crls(listed{issuer: at.Zone, revoked: []int{at.Instance}})},
		{name: "instance among others", sentence: "The zone's list has the instance and others.", expect: untrusted, rules: "chain.revoked", crls: crls(listed{issuer: at.Zone, revoked: []int{at.Leaf, at.Instance, at.Root}})},
		{name: "revoked in an expired list", sentence: "The zone's list has the instance, and expired: what is revoked stays so.", expect: untrusted, rules: "chain.revoked",
			crls: crls(listed{issuer: at.Zone, revoked: []int{at.Instance}, edit: expired})},
		{name: "revoked in one of two lists", sentence: "The zone has two lists, of which one has the instance.", expect: untrusted, rules: "chain.revoked",
			crls: crls(listed{issuer: at.Zone}, listed{issuer: at.Zone, revoked: []int{at.Instance}})},
		{name: "list expired", sentence: "The zone's list, which does not have the instance, expired a second ago.", expect: untrusted, rules: "chain.crl", crls: crls(listed{issuer: at.Zone, edit: expired})},
		{name: "list of tomorrow", sentence: "The zone's list begins a second after the clock.", expect: untrusted, rules: "chain.crl",
			crls: crls(listed{issuer: at.Zone, edit: func(l *x509.RevocationList, _ *certificate) { l.ThisUpdate = made.Add(time.Second) }})},
		{name: "list by a stranger", sentence: "A stranger signed the empty list that names the zone.", expect: untrusted, rules: "chain.crl", crls: crls(listed{issuer: at.Zone, edit: byStranger})},
		{name: "list by a stranger that revokes", sentence: "A stranger signed the list that names the zone and has the instance.", expect: untrusted, rules: "chain.crl", crls: crls(listed{issuer: at.Zone, revoked: []int{at.Instance}, edit: byStranger})},
		{name: "list with a critical extension", sentence: "The zone's list has a critical extension that nobody knows.", expect: untrusted, rules: "chain.crl", crls: crls(listed{issuer: at.Zone, edit: criticalExtension})},
		{name: "list by the instance", sentence: "The instance, which may not sign lists, has one.", expect: untrusted, rules: "chain.crl", crls: crls(listed{issuer: at.Instance})},
		{name: "no list", sentence: "The file of the lists is no list.", expect: malformed, rules: "chain.crl.form", crls: func(*forgery) [][]byte { return [][]byte{[]byte("list")} }},
	}
}
