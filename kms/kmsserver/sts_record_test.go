// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
)

// wantParameter wants a member of the request parameters of the last event.
func (s *service) wantParameter(t *testing.T, operation, name, want string) {
	t.Helper()
	event := s.lastEvent(t, operation)
	if got := fmt.Sprint(event["requestParameters"].(map[string]any)[name]); got != want {
		t.Errorf("%s of %s on record: %.200s, want %.200s", name, operation, got, want)
	}
}

// A request that cannot be read is on record, as any other that was signed.
func TestUnreadableSTSIsOnRecord(t *testing.T) {
	s := newService(t)
	for body, code := range map[string]string{
		"Action=AssumeRole&Version=2011-06-15&Nothing=1":                                 "ValidationError",
		"Action=AssumeRole&Version=2011-06-15&DurationSeconds=soon&RoleArn=" + workerARN: "MalformedInput",
	} {
		before := len(s.events("AssumeRole"))
		status, answer, header := s.sendSTS(t, body, s.admin)
		if status != 400 || !strings.Contains(answer, "<Code>"+code+"</Code>") || header.Get(kmsserver.DecisionHeader) == "" {
			t.Errorf("%d %s", status, answer)
		}
		if got := len(s.events("AssumeRole")); got != before+1 || s.lastEvent(t, "AssumeRole")["errorCode"] != code {
			t.Errorf("%d events more", got-before)
		}
	}
	// From nobody it is counted.
	if status, answer, _ := s.sendSTS(t, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&Nothing=1", kms.Credentials{}); status != 400 {
		t.Errorf("%d %s", status, answer)
	}
	if len(s.events("AssumeRoleWithWebIdentity")) != 0 || len(s.unauthenticatedEvents()) != 1 {
		t.Error("a request of nobody is an event of its own, or not counted")
	}
}

// sendSTS sends a form, signed where there are credentials.
func (s *service) sendSTS(t *testing.T, form string, c kms.Credentials) (int, string, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url, strings.NewReader(form))
	wantNil(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.AccessKeyID != "" {
		hash := sha256.Sum256([]byte(form))
		credentials := aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}
		wantNil(t, v4.NewSigner().SignHTTP(t.Context(), credentials, r, hex.EncodeToString(hash[:]), "sts", region, time.Now()))
	}
	answer, err := http.DefaultClient.Do(r)
	wantNil(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	wantNil(t, err)
	return answer.StatusCode, string(body), answer.Header
}
