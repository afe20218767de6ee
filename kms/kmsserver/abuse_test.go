// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/audit"
)

// ownKey is a key of which c alone may do everything.
func ownKey(t *testing.T, s *service, c kms.Credentials, user, more string) string {
	t.Helper()
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + userARN(user) + `"},"Action":"kms:*","Resource":"*"}` + more + `]}`
	out, err := s.client(c, region).CreateKey(t.Context(), &awskms.CreateKeyInput{Policy: &policy})
	wantNil(t, err)
	return *out.KeyMetadata.Arn
}

// last returns the newest event of an operation and how long its line is.
func (s *service) last(name string) (event kms.Event, size int) {
	s.t.Helper()
	lines := s.events(name)
	if len(lines) == 0 {
		s.t.Fatalf("no event of %s", name)
	}
	line := lines[len(lines)-1]
	var entry struct{ Event kms.Event }
	if err := json.Unmarshal([]byte(line), &entry); err != nil {
		s.t.Fatal(err)
	}
	return entry.Event, len(line)
}

// What a request costs is of the order of its size: also for whoever may do nothing.
func TestLargeListsCostLittle(t *testing.T) {
	s := newService(t)
	nobody := s.principal(kms.User, "nobody")
	for name, c := range map[string]struct{ operation, body string }{
		"tags":       {"CreateKey", `{"Tags":[` + strings.Repeat("{},", 340000) + `{}]}`},
		"operations": {"CreateGrant", `{"KeyId":"x","Operations":["Decrypt"` + strings.Repeat(`,"Decrypt"`, 100000) + `]}`},
		"tag keys":   {"UntagResource", `{"KeyId":"x","TagKeys":["x"` + strings.Repeat(`,"<"`, 250000) + `]}`},
		"context":    {"Encrypt", `{"KeyId":"x","Plaintext":"AAAA","EncryptionContext":{"x":"` + strings.Repeat("<", 1000000) + `"}}`},
		"modifiers":  {"Decrypt", `{"DryRun":true,"DryRunModifiers":["IGNORE_CIPHERTEXT"` + strings.Repeat(`,"IGNORE_CIPHERTEXT"`, 50000) + `]}`},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		status, answer, _ := s.send(raw{target: "TrentService." + c.operation, body: c.body, credentials: nobody})
		runtime.ReadMemStats(&after)
		if status != 400 || !strings.Contains(answer, "ValidationException") || len(answer) > 4*len(c.body) {
			t.Errorf("%s: %d, %d bytes: %.200s", name, status, len(answer), answer)
		}
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 200<<20 {
			t.Errorf("%s: %d bytes of memory", name, spent)
		}
		if _, size := s.last(c.operation); size > 200<<10 {
			t.Errorf("%s: an event of %d bytes", name, size)
		}
	}
}

// Nothing in a request that is allowed keeps from the log what it asked for.
func TestParametersCannotBeHidden(t *testing.T) {
	s := newService(t)
	owner := s.principal(kms.User, "owner", allowAll(`"kms:*"`))
	s.principal(kms.User, "grantee")
	key := ownKey(t, s, owner, "owner", "")
	grant := func(operations string) int {
		status, _, _ := s.send(raw{target: "TrentService.CreateGrant", credentials: owner,
			body: `{"KeyId":"` + key + `","GranteePrincipal":"` + userARN("grantee") + `","Operations":["Decrypt"` + operations + `]}`})
		return status
	}
	untag := func(keys string) int {
		status, _, _ := s.send(raw{target: "TrentService.UntagResource", body: `{"KeyId":"` + key + `","TagKeys":["team"` + keys + `]}`, credentials: owner})
		return status
	}
	for name, c := range map[string]struct {
		operation, member string
		send              func(string) int
		many              string
	}{
		"a grant": {"CreateGrant", "granteePrincipal", grant, strings.Repeat(`,"Decrypt"`, 104000)},
		"tags":    {"UntagResource", "tagKeys", untag, strings.Repeat(`,"`+strings.Repeat("<", 120)+`"`, 8000)},
	} {
		if status := c.send(c.many); status != 400 {
			t.Errorf("%s: %d", name, status)
		}
		if status := c.send(""); status != 200 {
			t.Errorf("%s: %d", name, status)
		}
		if event, _ := s.last(c.operation); event.Outcome != kms.Allowed || event.RequestParameters[c.member] == nil {
			t.Errorf("%s: %+v", name, event)
		}
	}
}

// A smallLog takes events of 8 KiB at most.
type smallLog struct{ kms.AuditLog }

func (l smallLog) Append(ctx context.Context, event any) error {
	if encoded, err := json.Marshal(event); err != nil || len(encoded) > 8<<10 {
		return fmt.Errorf("%w: too large", audit.ErrEvent)
	}
	return l.AuditLog.Append(ctx, event)
}

// An event that is too large loses its trace first: what was asked for stays, if
// that alone is not too large.
func TestLargeTraceLeavesParameters(t *testing.T) {
	s := newService(t, func(c *kms.Config) { c.Audit = smallLog{c.Audit} })
	owner := s.principal(kms.User, "owner", allowAll(`"kms:*"`))
	key := ownKey(t, s, owner, "owner", strings.Repeat(`,{"Sid":"`+strings.Repeat("<", 900)+`","Effect":"Deny","Principal":"*","Action":"a:b","Resource":"*"}`, 30))
	if event, _ := s.last("CreateKey"); event.RequestParameters != nil || event.Outcome != kms.Allowed {
		t.Errorf("%+v", event) // its policy is too large
	}
	_, err := s.client(owner, region).TagResource(t.Context(), &awskms.TagResourceInput{KeyId: &key, Tags: []types.Tag{{TagKey: new("team"), TagValue: new("a")}}})
	wantNil(t, err)
	event, _ := s.last("TagResource")
	if event.RequestParameters["keyId"] != key || event.RequestParameters["tags"] == nil || event.Decision != nil || event.Outcome != kms.Allowed {
		t.Errorf("%+v", event)
	}
}

// A large encryption context is refused before policies match patterns against it,
// which costs the product of both.
func TestLargeContextBeforePolicies(t *testing.T) {
	s := newService(t)
	owner := s.principal(kms.User, "owner", allowAll(`"kms:*"`))
	key := ownKey(t, s, owner, "owner", `,{"Effect":"Deny","Principal":"*","Action":"a:b","Resource":"*","Condition":{"StringLike":{"kms:EncryptionContext:x":"*`+strings.Repeat("a", 30000)+`b"}}}`)
	large := `{"x":"` + strings.Repeat("a", 1000000) + `"}`
	for operation, body := range map[string]string{
		"CreateGrant": `"Operations":["Decrypt"],"GranteePrincipal":"` + userARN("owner") + `","Constraints":{"EncryptionContextSubset":` + large + `}`,
		"Encrypt":     `"Plaintext":"AAAA","EncryptionContext":` + large,
		"ReEncrypt":   `"CiphertextBlob":"AAAA","DestinationKeyId":"` + key + `","DestinationEncryptionContext":` + large,
	} {
		status, answer, header := s.send(raw{target: "TrentService." + operation, body: `{"KeyId":"` + key + `",` + body + `}`, credentials: owner})
		if status != 400 || !strings.Contains(answer, "larger than 8192 bytes") {
			t.Errorf("%s: %d %.200s", operation, status, answer)
		}
		event, err := s.kms.Explain(t.Context(), header.Get("x-cretula-decision"))
		if err != nil || event.Decision != nil {
			t.Errorf("%s: decided before: %+v, %v", operation, event, err)
		}
	}
}
