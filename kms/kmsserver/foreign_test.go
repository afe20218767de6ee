// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bufio"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/kms"
)

// Nobody learns from an answer what another account has: neither that a key is
// there, nor which key is behind an alias.
func TestForeignKeysAreHidden(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	key := s.key("")
	_, err := s.adminClient().CreateAlias(ctx, &awskms.CreateAliasInput{AliasName: aws.String("alias/there"), TargetKeyId: &key})
	wantNil(t, err)
	credentials, err := s.kms.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: "stranger", Account: "111111111111", Policies: []string{kms.AdminPolicy}})
	wantNil(t, err)
	stranger := s.client(credentials, region)
	prefix := key[:strings.LastIndexByte(key, ':')+1]
	const absent = "key/00000000-0000-4000-8000-000000000000"
	forged := document(t)
	forged[len(forged)-1] ^= 1
	for name, call := range map[string]func(arn string) error{
		"Encrypt": func(arn string) error {
			_, err := stranger.Encrypt(ctx, &awskms.EncryptInput{KeyId: &arn, Plaintext: []byte("x")})
			return err
		},
		"DescribeKey": func(arn string) error {
			_, err := stranger.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &arn})
			return err
		},
		"GenerateDataKey": func(arn string) error {
			_, err := stranger.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", Recipient: recipient(document(t))})
			return err
		},
	} {
		var codes, texts []string
		for _, resource := range []string{key[len(prefix):], absent, "alias/there", "alias/none"} {
			arn := prefix + resource
			err := call(arn)
			if err == nil {
				t.Fatalf("%s %s: no error", name, resource)
			}
			code, text, _, _ := refused(t, err)
			codes = append(codes, code)
			texts = append(texts, strings.ReplaceAll(text, arn, "ARN"))
			if code != "AccessDeniedException" || text != "User: arn:aws:iam::111111111111:user/stranger is not authorized to perform: kms:"+name+" on resource: "+arn+
				" because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access" {
				t.Errorf("%s %s: %s %s", name, resource, code, text)
			}
		}
		for i := range codes {
			if codes[i] != codes[0] || texts[i] != texts[0] {
				t.Errorf("%s: %s %q and %s %q differ", name, codes[0], texts[0], codes[i], texts[i])
			}
		}
	}
	// A bad document is told alike.
	for _, arn := range []string{key, prefix + absent} {
		_, err := stranger.GenerateDataKey(ctx, &awskms.GenerateDataKeyInput{KeyId: &arn, KeySpec: "AES_256", Recipient: recipient(forged)})
		wantCode(t, err, "ValidationException")
	}
	for _, arn := range []string{key, prefix + absent} {
		_, err := stranger.ListAliases(ctx, &awskms.ListAliasesInput{KeyId: &arn})
		wantCode(t, err, "NotFoundException")
	}
	// The record says what it was.
	_, err = stranger.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: &key})
	_, _, _, decision := refused(t, err)
	event, err := s.kms.Explain(ctx, decision)
	if err != nil || event.Decision == nil || !strings.Contains(event.Cause, "AccessDeniedException") {
		t.Errorf("%+v, %v", event, err)
	}

	// Whom a policy of the other account allows is told what is so.
	_, err = s.adminClient().PutKeyPolicy(ctx, &awskms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String(strings.Replace(adminPolicy,
		`"arn:aws:iam::000000000000:user/admin"`, `["arn:aws:iam::000000000000:user/admin","111111111111"]`, 1))})
	wantNil(t, err)
	_, err = s.adminClient().DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &key})
	wantNil(t, err)
	_, err = stranger.Encrypt(ctx, &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
	wantCode(t, err, "DisabledException")
}

// A client may close its side of the connection once it has asked.
func TestHalfClosedClientIsAnswered(t *testing.T) {
	s := newService(t)
	for range 50 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		wantNil(t, err)
		var request *http.Request
		s.send(raw{target: "TrentService.GenerateRandom", body: `{"NumberOfBytes":16}`, after: func(r *http.Request) {
			request = r.Clone(t.Context())
			request.Body, err = r.GetBody()
			wantNil(t, err)
		}})
		wantNil(t, request.Write(conn))
		wantNil(t, conn.(*net.TCPConn).CloseWrite())
		answer, err := http.ReadResponse(bufio.NewReader(conn), request)
		wantNil(t, err)
		if answer.StatusCode != http.StatusOK {
			t.Errorf("answered %d", answer.StatusCode)
		}
		answer.Body.Close()
		conn.Close()
	}
}
