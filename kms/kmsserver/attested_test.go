// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/attestation"
	"github.com/cretula/cretula/attestation/issuer"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/pcr"
)

// imageOne is a condition on the image that registers(1) measures.
var imageOne = `"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"` + fill(1).String() + `"}`

// attestedKey makes a key whose tag asks for attested operations. Alice may use
// it from image one.
func attestedKey(t *testing.T, s *service, spec types.KeySpec, usage types.KeyUsageType) string {
	t.Helper()
	policy := `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"NotAction":["kms:Sign","kms:GenerateMac"],"Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/alice"},"Action":["kms:Sign","kms:GenerateMac","kms:PutKeyPolicy"],"Resource":"*","Condition":{` + imageOne + `}}]}`
	out, err := s.adminClient().CreateKey(t.Context(), &awskms.CreateKeyInput{
		KeySpec: spec, KeyUsage: usage, Policy: &policy,
		Tags: []types.Tag{{TagKey: aws.String(kms.AttestedTag), TagValue: aws.String(kms.AttestedValue)}},
	})
	wantNil(t, err)
	return *out.KeyMetadata.Arn
}

// attestedBody puts a Recipient into a body whose document is made for it, unless
// changed.
func attestedBody(t *testing.T, operation, arn, body string, change ...func(*issuer.Content)) string {
	t.Helper()
	// Written out here, as the documentation has it.
	sum := sha256.Sum256([]byte(body))
	digest := sha512.Sum384([]byte(operation + arn + string(sum[:])))
	doc := document(t, append([]func(*issuer.Content){func(c *issuer.Content) { c.UserData, c.PublicKey = digest[:], nil }}, change...)...)
	return `{"Recipient":{"AttestationDocument":"` + base64Of(doc) + `"},` + strings.TrimPrefix(body, "{")
}

func TestAttestedOperations(t *testing.T) {
	s := newService(t)
	alice := s.principal(kms.User, "alice")
	signing := attestedKey(t, s, types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
	macs := attestedKey(t, s, types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
	for operation, c := range map[string]struct{ key, body, member string }{
		"Sign":         {signing, `{"KeyId":"` + signing + `","Message":"AQID","SigningAlgorithm":"ECDSA_SHA_256"}`, `"Signature":"`},
		"GenerateMac":  {macs, `{"KeyId":"` + macs + `","Message":"AQID","MacAlgorithm":"HMAC_SHA_256"}`, `"Mac":"`},
		"PutKeyPolicy": {signing, `{"KeyId":"` + signing + `","Policy":` + quoteJSON(policyOf(t, s, signing)) + `}`, ""},
	} {
		t.Run(operation, func(t *testing.T) {
			send := func(body string) (int, string) {
				status, text, _ := s.send(raw{target: "TrentService." + operation, body: body, credentials: alice})
				return status, text
			}
			good := attestedBody(t, operation, c.key, c.body)
			other := attestedBody(t, operation, c.key, c.body, func(c *issuer.Content) { c.PCRs = registers(2) })
			for name, body := range map[string]string{
				"no Recipient":    c.body,
				"empty Recipient": `{"Recipient":{},` + c.body[1:],
				"other image":     other,
				"other body":      strings.Replace(good, `"KeyId"`, `"GrantTokens":[],"KeyId"`, 1),
				"other operation": attestedBody(t, "Decrypt", c.key, c.body),
				"other key":       attestedBody(t, operation, macs+"0", c.body),
				"no user data":    attestedBody(t, operation, c.key, c.body, func(c *issuer.Content) { c.UserData = nil }),
				"only the hash":   attestedBody(t, operation, c.key, c.body, func(content *issuer.Content) { sum := sha256.Sum256([]byte(c.body)); content.UserData = sum[:] }),
				"debug": attestedBody(t, operation, c.key, c.body, func(c *issuer.Content) {
					for i := range 3 {
						c.PCRs.Put(pcr.Index(i), fill(0))
					}
				}),
			} {
				if status, text := send(body); status != 400 || !strings.Contains(text, "AccessDeniedException") {
					t.Errorf("%s: %d %s", name, status, text)
				}
			}
			forged := document(t)
			forged[len(forged)-1] ^= 1
			if status, text := send(`{"Recipient":{"AttestationDocument":"` + base64Of(forged) + `"},` + c.body[1:]); status != 400 || !strings.Contains(text, "ValidationException") {
				t.Errorf("forged: %d %s", status, text)
			}

			// Good once, also in another form, and then never again.
			spaced := strings.ReplaceAll(good, `,"`, " ,\n\t\"")
			if status, text := send(spaced); status != 200 || !strings.Contains(text, c.member) {
				t.Fatalf("%d %s", status, text)
			}
			if used, err := s.adminClient().GetKeyLastUsage(t.Context(), &awskms.GetKeyLastUsageInput{KeyId: &c.key}); operation != "PutKeyPolicy" &&
				(err != nil || string(used.KeyLastUsage.Operation) != operation) {
				t.Errorf("last usage: %+v, %v", used, err)
			}
			if status, text := send(good); status != 400 || !strings.Contains(text, "the document was used before") {
				t.Errorf("used twice: %d %s", status, text)
			}

			// Of many at once one gets through.
			var passed atomic.Int32
			var wg sync.WaitGroup
			again := attestedBody(t, operation, c.key, c.body)
			for range 16 {
				wg.Go(func() {
					if status, _ := send(again); status == 200 {
						passed.Add(1)
					}
				})
			}
			wg.Wait()
			if passed.Load() != 1 {
				t.Errorf("one document was good for %d requests", passed.Load())
			}
		})
	}
}

func policyOf(t *testing.T, s *service, key string) string {
	t.Helper()
	out, err := s.adminClient().GetKeyPolicy(t.Context(), &awskms.GetKeyPolicyInput{KeyId: &key})
	wantNil(t, err)
	return *out.Policy
}

// A document that was captured from another call, or made for one, is no good here.
func TestCapturedDocument(t *testing.T) {
	s := newService(t)
	alice := s.principal(kms.User, "alice")
	key := attestedKey(t, s, types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
	body := `{"KeyId":"` + key + `","Message":"AQID","SigningAlgorithm":"ECDSA_SHA_256"}`
	for name, recipient := range map[string][]byte{
		"of a Decrypt":       document(t),
		"with other data":    document(t, func(c *issuer.Content) { c.UserData = bytes.Repeat([]byte{1}, 48) }),
		"of another message": nil,
	} {
		sent := `{"Recipient":{"AttestationDocument":"` + base64Of(recipient) + `"},` + body[1:]
		if recipient == nil {
			sent = strings.Replace(attestedBody(t, "Sign", key, body), "AQID", "AQIE", 1)
		}
		status, text, header := s.send(raw{target: "TrentService.Sign", body: sent, credentials: alice})
		if status != 400 || !strings.Contains(text, "AccessDeniedException") || !strings.Contains(text, "not made for this request") {
			t.Errorf("%s: %d %s", name, status, text)
		}
		event, err := s.kms.Explain(t.Context(), header.Get("x-cretula-decision"))
		if err != nil || event.Outcome != kms.Denied || len(event.Problems) != 1 || event.Problems[0].Rule != "kms.recipient.user-data" ||
			event.Additional == nil || event.Additional.Recipient.Kind != attestation.KindEnclave.String() {
			t.Errorf("%s: %+v, %v", name, event, err)
		}
		if !strings.Contains(event.Text(), "was not made for this request") {
			t.Errorf("%s: %s", name, event.Text())
		}
	}
}

// Taking the tag off denies what was attested before; it never allows more.
func TestAttestedTagIsForGood(t *testing.T) {
	s := newService(t)
	ctx, client := t.Context(), s.adminClient()
	plain, err := client.CreateKey(ctx, &awskms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	wantNil(t, err)
	key := *plain.KeyMetadata.Arn
	sign := func() error {
		_, err := client.Sign(ctx, &awskms.SignInput{KeyId: &key, Message: []byte("x"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		return err
	}
	tag := func(value string) error {
		_, err := client.TagResource(ctx, &awskms.TagResourceInput{KeyId: &key, Tags: []types.Tag{{TagKey: aws.String(kms.AttestedTag), TagValue: &value}}})
		return err
	}
	wantNil(t, sign()) // off by default; a Recipient means nothing
	body := fmt.Sprintf(`{"KeyId":%q,"Message":"AQID","SigningAlgorithm":"ECDSA_SHA_256","Recipient":{"AttestationDocument":"AAAA"}}`, key)
	if status, text, _ := s.send(raw{target: "TrentService.Sign", body: body}); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	wantCode(t, tag("Required"), "TagException")
	wantNil(t, tag(kms.AttestedValue))
	wantCode(t, sign(), "AccessDeniedException")
	sent := fmt.Sprintf(`{"KeyId":%q,"Message":"AQID","SigningAlgorithm":"ECDSA_SHA_256"}`, key)
	if status, text, _ := s.send(raw{target: "TrentService.Sign", body: attestedBody(t, "Sign", key, sent)}); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	_, err = client.UntagResource(ctx, &awskms.UntagResourceInput{KeyId: &key, TagKeys: []string{kms.AttestedTag}})
	wantNil(t, err)
	wantCode(t, sign(), "AccessDeniedException")
	if status, text, _ := s.send(raw{target: "TrentService.Sign", body: attestedBody(t, "Sign", key, sent)}); status != 400 {
		t.Errorf("%d %s", status, text)
	}
	_, err = client.PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String(adminPolicy)})
	wantCode(t, err, "AccessDeniedException")
	wantNil(t, tag(kms.AttestedValue))
	if status, text, _ := s.send(raw{target: "TrentService.Sign", body: attestedBody(t, "Sign", key, sent)}); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	// The other operations never asked for a document.
	_, err = client.GetPublicKey(ctx, &awskms.GetPublicKeyInput{KeyId: &key})
	wantNil(t, err)
}

// Documents that are too old to be accepted are forgotten, an hour later, and only
// these.
func TestUsedDocumentsAreForgotten(t *testing.T) {
	var c clock
	s := newService(t, c.into)
	alice := s.principal(kms.User, "alice")
	key := attestedKey(t, s, types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
	body := `{"KeyId":"` + key + `","Message":"AQID","MacAlgorithm":"HMAC_SHA_256"}`
	send := func(sent string) string {
		_, text, _ := s.send(raw{target: "TrentService.GenerateMac", body: sent, credentials: alice})
		return text
	}
	sent := attestedBody(t, "GenerateMac", key, body)
	if text := send(sent); !strings.Contains(text, `"Mac"`) {
		t.Fatal(text)
	}
	for _, step := range []struct {
		ahead time.Duration
		want  string
		left  int
	}{{4 * time.Minute, "used before", 1}, {70 * time.Second, "(stale", 1}, {50 * time.Minute, "(stale", 1}, {15 * time.Minute, "(stale", 0}} {
		c.move(step.ahead)
		wantNil(t, s.kms.DoDue(t.Context()))
		if text := send(sent); !strings.Contains(strings.ReplaceAll(text, ": stale", "(stale"), step.want) {
			t.Errorf("%v: %s", step.ahead, text)
		}
		if rows := slices.Collect(s.rows("document-used")); len(rows) != step.left {
			t.Errorf("%v: %d rows are left, want %d", step.ahead, len(rows), step.left)
		}
	}
}

// A server whose clock is ahead clears nothing away that others still need.
func TestUsedDocumentsAndOtherClocks(t *testing.T) {
	s := newService(t)
	alice := s.principal(kms.User, "alice")
	key := attestedKey(t, s, types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
	sent := attestedBody(t, "GenerateMac", key, `{"KeyId":"`+key+`","Message":"AQID","MacAlgorithm":"HMAC_SHA_256"}`)
	for _, want := range []string{`"Mac"`, "used before", "used before"} {
		if _, text, _ := s.send(raw{target: "TrentService.GenerateMac", body: sent, credentials: alice}); !strings.Contains(text, want) {
			t.Errorf("got %s, want %s", text, want)
		}
		config := s.files.Config()
		config.Roots, config.Now = []*x509.Certificate{authority().Root()}, func() time.Time { return time.Now().Add(10 * time.Minute) }
		ahead, err := kms.New(config)
		wantNil(t, err)
		wantNil(t, ahead.DoDue(t.Context()))
		ahead.Close()
	}
}
