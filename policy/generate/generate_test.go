// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
)

const (
	account = "000000000000"
	admin   = "arn:aws:iam::000000000000:user/admin"
	role    = "arn:aws:iam::000000000000:role/data-processing"
	keyARN  = "arn:aws:kms:us-east-1:000000000000:key/4c0e0000-0000-0000-0000-000000000000"
)

func image(seed string) pcr.Set {
	var s pcr.Set
	for i := range pcr.Index(3) {
		s.Put(i, pcr.Sum([]byte(seed+i.String())))
	}
	return s
}

func config(images ...pcr.Set) Config {
	c := Config{Account: account, Administrators: []string{admin}, EnclaveRoles: []string{role}}
	for _, set := range images {
		c.Images = append(c.Images, Exactly(set))
	}
	return c
}

var (
	adminCaller = policy.Principal{Type: policy.CallerUser, ARN: admin, AccountID: account}
	roleCaller  = policy.Principal{
		Type: policy.CallerRoleSession, ARN: "arn:aws:sts::000000000000:assumed-role/data-processing/cretula",
		AccountID: account, RoleARN: role,
	}
	rootCaller = policy.Principal{Type: policy.CallerRoot, ARN: "arn:aws:iam::000000000000:root", AccountID: account}
)

func contextOf(s *pcr.Set) policy.Context {
	c := policy.Context{}
	if s == nil {
		return c
	}
	for i, d := range s.All() {
		c.Add("kms:RecipientAttestation:"+i.String(), d.String())
		if i == 0 {
			c.Add("kms:RecipientAttestation:ImageSha384", d.String())
		}
	}
	return c
}

func TestKeyPolicyDecides(t *testing.T) {
	good, second, other := image("a"), image("b"), image("c")
	changed := image("a")
	changed.Put(0, pcr.Sum([]byte("x")))
	changed.Put(2, pcr.Sum([]byte("y")))
	mixed := image("a")
	mixed.Put(1, pcr.Sum([]byte("bPCR1")))
	var debug pcr.Set
	for i := range pcr.Index(3) {
		debug.Put(i, pcr.Digest{})
	}
	doc, err := KeyPolicy(config(good, second))
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(doc, policy.KindKey)
	if err != nil {
		t.Fatal(err)
	}
	all, err := policy.Parse([]byte(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`), policy.KindIdentity)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		caller  policy.Principal
		action  string
		image   *pcr.Set
		allowed bool
		sid     string
	}{
		{"the image", roleCaller, "Decrypt", &good, true, SidEnclave},
		{"the image, data key", roleCaller, "GenerateDataKey", &good, true, SidEnclave},
		{"the second image", roleCaller, "Decrypt", &second, true, SidEnclave + "2"},
		{"another image", roleCaller, "Decrypt", &other, false, SidOtherImage},
		{"the application changed", roleCaller, "Decrypt", &changed, false, SidOtherImage},
		{"registers of two images", roleCaller, "Decrypt", &mixed, false, ""},
		{"debug", roleCaller, "Decrypt", &debug, false, SidOtherImage},
		{"no document", roleCaller, "Decrypt", nil, false, SidOtherImage},
		{"no document, data key", roleCaller, "GenerateDataKey", nil, false, SidOtherImage},
		{"a grant out of the enclave", roleCaller, "CreateGrant", nil, false, SidOtherImage},
		{"a key pair", roleCaller, "GenerateDataKeyPair", &good, false, ""},
		{"the role encrypts", roleCaller, "Encrypt", nil, false, ""},
		{"admin encrypts", adminCaller, "Encrypt", nil, true, SidAdministrator},
		{"admin's policy", adminCaller, "PutKeyPolicy", nil, true, SidAdministrator},
		{"admin decrypts", adminCaller, "Decrypt", nil, false, SidOtherImage},
		{"admin decrypts out of the image", adminCaller, "Decrypt", &good, false, ""},
		{"admin re-encrypts", adminCaller, "ReEncryptFrom", nil, false, SidOtherImage},
		{"admin re-encrypts to it", adminCaller, "ReEncryptTo", nil, false, ""},
		{"admin grants", adminCaller, "CreateGrant", nil, false, SidOtherImage},
		{"admin makes data keys", adminCaller, "GenerateDataKeyWithoutPlaintext", nil, false, ""},
		{"root", rootCaller, "DescribeKey", nil, false, ""},
		{"root decrypts", rootCaller, "Decrypt", &good, false, ""},
	} {
		d := policy.Evaluate(policy.Input{
			Request: policy.Request{
				Principal: test.caller, Action: "kms:" + test.action, Resource: keyARN, ResourceAccount: account,
				Context: contextOf(test.image),
			},
			KeyPolicy: p, Identity: []policy.Named{{Name: "all", Policy: all}},
		})
		sid := ""
		if len(d.By) > 0 {
			sid = d.By[0].Sid
		}
		without := test.image == nil && sid == SidOtherImage
		if without != (len(d.By) == 2 && d.By[1].Sid == SidNoAttestation) {
			t.Errorf("%s: by %v", test.name, d.By)
		}
		if d.Allowed != test.allowed || sid != test.sid {
			t.Errorf("%s: allowed %v by %q, want %v by %q", test.name, d.Allowed, sid, test.allowed, test.sid)
		}
	}
}

func TestKeyPolicyIsStable(t *testing.T) {
	first, err := KeyPolicy(config(image("a")))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if again, _ := KeyPolicy(config(image("a"))); !bytes.Equal(first, again) {
			t.Fatal("two outputs for one input")
		}
	}
	if !bytes.Contains(first, []byte("\n  \"Statement\": [\n")) || bytes.Contains(first, []byte(":root")) {
		t.Errorf("the policy looks like this:\n%s", first)
	}
}

func TestKeyPolicyRefuses(t *testing.T) {
	var without, debug pcr.Set
	without.Put(3, pcr.Sum(nil))
	debug = image("a")
	debug.Put(1, pcr.Digest{})
	for name, edit := range map[string]func(*Config){
		"no administrator":            func(c *Config) { c.Administrators = nil },
		"the account's root":          func(c *Config) { c.Administrators = []string{"arn:aws:iam::000000000000:root"} },
		"the account":                 func(c *Config) { c.Administrators = []string{account} },
		"everyone":                    func(c *Config) { c.Administrators = []string{"*"} },
		"a wildcard":                  func(c *Config) { c.Administrators = []string{admin + "*"} },
		"another account":             func(c *Config) { c.Account = "111111111111" },
		"no account":                  func(c *Config) { c.Account = "" },
		"a user where a role must be": func(c *Config) { c.EnclaveRoles = []string{admin} },
		"no role":                     func(c *Config) { c.EnclaveRoles = nil },
		"no image":                    func(c *Config) { c.Images = nil },
		"an empty image":              func(c *Config) { c.Images = []Image{{}} },
		"no PCR0":                     func(c *Config) { c.Images = []Image{Exactly(without)} },
		"only required PCR0":          func(c *Config) { c.Images = []Image{{Required: []pcr.Index{0}}} },
		"debug":                       func(c *Config) { c.Images = append(c.Images, Exactly(debug)) },
		"zero among others":           func(c *Config) { c.Images[0].Registers[0] = append(c.Images[0].Registers[0], pcr.Digest{}) },
		"no signer":                   func(c *Config) { c.Images[0].Registers[8] = []pcr.Digest{{}} },
		"too large":                   func(c *Config) { c.Images = slices.Repeat(c.Images, 100) },
		"one role of two":             func(c *Config) { c.EnclaveRoles = append(c.EnclaveRoles, admin) },
		"a role with a wildcard":      func(c *Config) { c.EnclaveRoles[0] += "*" },
		"a role that administrates":   func(c *Config) { c.Administrators = append(c.Administrators, role) },
		"Encrypt":                     func(c *Config) { c.Actions = []string{"Encrypt"} },
		"every action":                func(c *Config) { c.Actions = []string{"*"} },
		"an action twice":             func(c *Config) { c.Actions = []string{"Decrypt", "Decrypt"} },
		"an action with its service":  func(c *Config) { c.Actions = []string{"kms:Decrypt"} },
	} {
		c := config(image("a"))
		edit(&c)
		if doc, err := KeyPolicy(c); err == nil || doc != nil || !strings.HasPrefix(err.Error(), "generate: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeyPolicyOfReleases: lists of values, registers that must be there, dates,
// several roles, and other actions.
func TestKeyPolicyOfReleases(t *testing.T) {
	one, two := image("a"), image("b")
	both := Exactly(one)
	for i := range pcr.Index(3) {
		d, _ := two.Get(i)
		both.Registers[i] = append(both.Registers[i], d)
	}
	both.Required = []pcr.Index{16}
	both.NotBefore, both.NotAfter = at("2026-01-01T00:00:00Z"), at("2026-12-31T23:59:59Z")
	c := config()
	c.Images, c.Actions = []Image{both}, []string{"DeriveSharedSecret"}
	c.EnclaveRoles = append(c.EnclaveRoles, role+"-2")
	doc, err := KeyPolicy(c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(doc, policy.KindKey)
	if err != nil {
		t.Fatal(err)
	}
	locked := func(s pcr.Set) pcr.Set {
		s.Put(16, pcr.Sum(nil))
		return s
	}
	mixed := locked(one)
	d, _ := two.Get(1)
	mixed.Put(1, d)
	second := roleCaller
	second.RoleARN = role + "-2"
	stranger := roleCaller
	stranger.RoleARN = role + "-3"
	for _, test := range []struct {
		name    string
		caller  policy.Principal
		action  string
		image   pcr.Set
		at      string
		allowed bool
	}{
		{"the one", roleCaller, "DeriveSharedSecret", locked(one), "2026-06-01T00:00:00Z", true},
		{"the other", second, "DeriveSharedSecret", locked(two), "2026-06-01T00:00:00Z", true},
		{"first second", roleCaller, "DeriveSharedSecret", locked(one), "2026-01-01T00:00:00Z", true},
		{"last second", roleCaller, "DeriveSharedSecret", locked(one), "2026-12-31T23:59:59Z", true},
		{"a mixture of lists, which lists allow", roleCaller, "DeriveSharedSecret", mixed, "2026-06-01T00:00:00Z", true},
		{"too early", roleCaller, "DeriveSharedSecret", locked(one), "2025-12-31T23:59:59Z", false},
		{"too late", roleCaller, "DeriveSharedSecret", locked(one), "2027-01-01T00:00:00Z", false},
		{"not locked", roleCaller, "DeriveSharedSecret", one, "2026-06-01T00:00:00Z", false},
		{"another action", roleCaller, "Decrypt", locked(one), "2026-06-01T00:00:00Z", false},
		{"another role", stranger, "DeriveSharedSecret", locked(one), "2026-06-01T00:00:00Z", false},
		{"another image", roleCaller, "DeriveSharedSecret", locked(image("c")), "2026-06-01T00:00:00Z", false},
	} {
		context := contextOf(&test.image)
		context.Add("aws:CurrentTime", test.at)
		d := policy.Evaluate(policy.Input{KeyPolicy: p, Request: policy.Request{
			Principal: test.caller, Action: "kms:" + test.action, Resource: keyARN, ResourceAccount: account, Context: context,
		}})
		if d.Allowed != test.allowed {
			t.Errorf("%s: allowed %v, by %v", test.name, d.Allowed, d.By)
		}
	}
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}
