// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
)

// A request over TLS has tlsDetails in its record, another none.
func TestEventTLSDetails(t *testing.T) {
	s := newService(t)
	handler, err := kmsserver.New(kmsserver.Config{KMS: s.kms})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(handler)
	defer server.Close()
	over := func(url string, client *http.Client) *kms.Event {
		c := awskms.New(awskms.Options{
			Region: region, BaseEndpoint: &url, HTTPClient: client, Credentials: credentials.NewStaticCredentialsProvider(s.admin.AccessKeyID, s.admin.SecretAccessKey, ""),
		})
		if _, err := c.CreateKey(t.Context(), &awskms.CreateKeyInput{}); err != nil {
			t.Fatal(err)
		}
		return s.typedEvent("CreateKey")
	}
	e := over(server.URL, server.Client())
	want := kms.TLSDetails{TLSVersion: "TLSv1.3", CipherSuite: "TLS_AES_128_GCM_SHA256", ClientProvidedHostHeader: server.Listener.Addr().String()}
	if e.TLSDetails == nil || *e.TLSDetails != want {
		t.Errorf("%+v, want %+v", e.TLSDetails, want)
	}
	if e := over(s.url, http.DefaultClient); e.TLSDetails != nil {
		t.Errorf("without TLS: %+v", e.TLSDetails)
	}
}

// The record of a request across accounts has a sharedEventID, another none.
func TestEventOfTwoAccounts(t *testing.T) {
	s := newService(t)
	ctx := context.Background()
	foreigner, err := s.kms.AddPrincipal(ctx, kms.Principal{Type: kms.User, Name: "guest", Account: foreign, Policies: []string{kms.AdminPolicy}})
	if err != nil {
		t.Fatal(err)
	}
	key := s.key(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"kms:DescribeKey","Resource":"*"}]}`)
	for name, client := range map[string]*awskms.Client{"own": s.adminClient(), "other": s.client(foreigner, region)} {
		if _, err := client.DescribeKey(ctx, &awskms.DescribeKeyInput{KeyId: aws.String(key)}); err != nil {
			t.Fatal(err)
		}
		e := s.typedEvent("DescribeKey")
		if (e.SharedEventID != "") != (name == "other") || e.SharedEventID == e.EventID || e.RecipientAccountID != e.UserIdentity.AccountID {
			t.Errorf("%s: %q %+v", name, e.SharedEventID, e.UserIdentity)
		}
	}
}
