// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/attestation/reference"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
)

func TestExplainReleases(t *testing.T) {
	value := func(c string) string { return strings.Repeat(c, 48) }
	set, err := reference.Parse([]byte(`{"schema":"cretula.reference.v1","releases":[
 {"name":"ended","not_after":"2026-01-01T00:00:00Z","pcrs":{"PCR0":"` + value("a0") + `","PCR8":"` + value("d0") + `"}},
 {"name":"old","pcrs":{"PCR0":"` + value("a1") + `","PCR8":"` + value("d0") + `"}},
 {"name":"new","pcrs":{"PCR0":"` + value("a2") + `","PCR8":"` + value("d0") + `"}},
 {"name":"boot","kind":"nitrotpm","pcrs":{"PCR4":"` + value("a0") + `"}}]}`))
	must(t, err)
	allow := func(key string, values ...string) string {
		for i, v := range values {
			values[i] = `"` + value(v) + `"`
		}
		return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"*",
 "Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:` + key + `":[` + strings.Join(values, ",") + `]}}}}`
	}
	for _, c := range []struct {
		about, kind      string
		pcr0, pcr4, pcr8 string
		policy           string
		want             string
		release          string
		wanted           []string
	}{
		{about: "another release", kind: "enclave", pcr0: "a2", pcr8: "d0", policy: allow("ImageSha384", "a1"),
			want: `the document is of "new"; the policy wants "old".`, release: "new", wanted: []string{"old"}},
		{about: "releases and an image that is none", kind: "enclave", pcr0: "a2", pcr8: "d0", policy: allow("PCR0", "a1", "a0"),
			want: `the document is of "new"; the policy wants "ended" or "old".`, release: "new", wanted: []string{"ended", "old"}},
		{about: "an image of no release is wanted", kind: "enclave", pcr0: "a2", pcr8: "d0", policy: allow("PCR0", "ff"),
			want: `the document is of "new"; the policy wants an image that is of none in r.json.`, release: "new"},
		{about: "a release that has ended", kind: "enclave", pcr0: "a0", pcr8: "d0", policy: allow("PCR0", "a2"),
			want: `the document is of "ended", which ended at 2026-01-01T00:00:00Z; the policy wants "new".`, wanted: []string{"new"}},
		{about: "another signer", kind: "enclave", pcr0: "a2", pcr8: "ff", policy: allow("PCR8", "d0"),
			want: `the document is of none in r.json; closest is "new", but for PCR8.`},
		{about: "another image", kind: "enclave", pcr0: "ff", pcr8: "d0", policy: allow("PCR0", "a2"),
			want: `the document is of none in r.json; closest is "old", but for PCR0; the policy wants "new".`, wanted: []string{"new"}},
		{about: "the right one, otherwise denied", kind: "enclave", pcr0: "a2", pcr8: "d0",
			policy: strings.Replace(allow("PCR0", "a2"), `"Condition":{`, `"Condition":{"Bool":{"aws:SecureTransport":"true"},`, 1),
			want:   `the document is of "new", and the policy wants that one.`, release: "new", wanted: []string{"new"}},
		{about: "no document", policy: allow("PCR0", "a1"), want: `the policy wants "old".`, wanted: []string{"old"}},
		{about: "a NitroTPM's", kind: "nitrotpm", pcr4: "ff", policy: allow("NitroTPMPCR4", "a0"),
			want: `the document is of none in r.json; closest is "boot", but for PCR4; the policy wants "boot".`, wanted: []string{"boot"}},
		{about: "allowed", kind: "enclave", pcr0: "a2", pcr8: "d0", policy: allow("PCR0", "a2"), want: `the document is of "new".`, release: "new"},
		{about: "nothing to say", policy: strings.Replace(allow("PCR0", "a2"), "RecipientAttestation:PCR0", "EncryptionContext:a", 1)},
	} {
		event := &kms.Event{EventTime: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)}
		in := policy.Input{Request: policy.Request{
			Principal: policy.Principal{Type: policy.CallerUser, ARN: "arn:aws:iam::000000000000:user/a", AccountID: "000000000000"},
			Action:    "kms:Decrypt", Resource: "arn:aws:kms:us-east-1:000000000000:key/1", ResourceAccount: "000000000000",
			Context: policy.Context{}, TakesRecipient: true, Document: "none",
		}}
		in.KeyPolicy, err = policy.Parse([]byte(c.policy), policy.KindKey)
		must(t, err)
		if c.kind != "" {
			in.Request.Document = c.kind
			event.Additional = &kms.AdditionalData{Recipient: kms.EventRecipient{Kind: c.kind}}
			for i, v := range map[pcr.Index]string{0: c.pcr0, 4: c.pcr4, 8: c.pcr8} {
				if v == "" {
					continue
				}
				d, err := pcr.ParseDigest(value(v))
				must(t, err)
				event.Additional.Recipient.Registers.Put(i, d)
				key := "kms:RecipientAttestation:" + map[string]string{"nitrotpm": "NitroTPM"}[c.kind] + i.String()
				in.Request.Context.Add(key, value(v))
				if key == "kms:RecipientAttestation:PCR0" {
					in.Request.Context.Add("kms:RecipientAttestation:ImageSha384", value(v))
				}
			}
		}
		decision := policy.Evaluate(in)
		event.Decision = &decision
		names, err := nameReleases(set, event)
		must(t, err)
		want := ""
		if c.want != "" {
			want = "\nrelease: " + c.want + "\n"
		}
		if got := names.text("r.json"); got != want {
			t.Errorf("%s: %q, want %q", c.about, got, want)
		}
		if !slices.Equal(names.Wanted, c.wanted) || (names.Release == nil) != (c.release == "") || names.Release != nil && *names.Release != c.release {
			t.Errorf("%s: %+v", c.about, names)
		}
		text, err := json.Marshal(names)
		must(t, err)
		if strings.Contains(string(text), "null") != (c.release == "") {
			t.Errorf("%s: %s", c.about, text)
		}
	}
}
