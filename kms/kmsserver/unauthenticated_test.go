// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// unauthenticatedEvents returns the events about requests without authentication.
func (s *service) unauthenticatedEvents() (all []kms.Event) {
	s.t.Helper()
	for _, line := range s.events("UnauthenticatedRequests") {
		var record struct{ Event kms.Event }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, record.Event)
	}
	return all
}

// The first request of a kind is an event, without what was to authenticate it; those
// behind it are counted, and told of by the next.
func TestUnauthenticatedRequests(t *testing.T) {
	var clock atomic.Int64
	start := time.Now()
	s := newService(t, func(c *kms.Config) {
		c.Now = func() time.Time { return start.Add(time.Duration(clock.Load())) }
	})
	wrong := kms.Credentials{AccessKeyID: s.admin.AccessKeyID, SecretAccessKey: strings.Repeat("w", 40)}
	unknown := kms.Credentials{AccessKeyID: "AKIA0000000000000000", SecretAccessKey: strings.Repeat("u", 40)}
	for range 20 {
		for _, credentials := range []kms.Credentials{wrong, unknown} {
			if status, answer, _ := s.send(raw{target: "TrentService.ListKeys", body: `{}`, credentials: credentials}); status != 400 {
				t.Fatal(status, answer)
			}
		}
	}
	events := s.unauthenticatedEvents()
	if len(events) != 2 {
		t.Fatalf("%d events, want one of each kind", len(events))
	}
	codes := map[string]kms.Event{}
	for _, e := range events {
		codes[e.ErrorCode] = e
	}
	for _, code := range []kmsapi.Code{kmsapi.InvalidSignature, kmsapi.UnrecognizedClient} {
		e, ok := codes[string(code)]
		if !ok || e.Outcome != kms.Failed || e.SourceIP != "127.0.0.1" || e.UserIdentity != (kms.UserIdentity{Type: "Unknown"}) || e.RequestID == "" ||
			fmt.Sprint(e.RequestParameters) != "map[count:1 operation:ListKeys source:loopback]" {
			t.Errorf("%s: %+v", code, e)
		}
	}
	clock.Store(int64(61 * time.Second))
	s.send(raw{target: "TrentService.ListKeys", body: `{}`, credentials: wrong})
	events = s.unauthenticatedEvents()
	if len(events) != 3 || fmt.Sprint(events[2].RequestParameters["count"]) != "20" {
		t.Errorf("%d events: %+v", len(events), events[len(events)-1])
	}
	// What is left is told of when the service ends.
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.kms.Run(ended, func(err error) { t.Error(err) })
	events = s.unauthenticatedEvents()
	if len(events) != 4 || events[3].ErrorCode != string(kmsapi.UnrecognizedClient) || fmt.Sprint(events[3].RequestParameters["count"]) != "19" {
		t.Errorf("%d events: %+v", len(events), events[len(events)-1])
	}
	text := auditText(t, s.dir)
	for name, secret := range map[string]string{"the secret": wrong.SecretAccessKey, "an access key": unknown.AccessKeyID, "a signature": "Signature="} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in the audit log", name)
		}
	}
}

// However many networks ask, there is an event each for so many only, and one for the
// rest.
func TestUnauthenticatedIsBounded(t *testing.T) {
	s := newService(t)
	total := 0
	for i := range 2000 {
		s.kms.NoteUnauthenticated(t.Context(), kms.Unauthenticated{Code: kmsapi.InvalidSignature, SourceIP: fmt.Sprintf("10.%d.%d.1", i/200, i%200)})
	}
	events := s.unauthenticatedEvents()
	if len(events) != 257 {
		t.Errorf("%d events, want 257", len(events))
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.kms.Run(ended, func(err error) { t.Error(err) })
	rest := false
	for _, e := range s.unauthenticatedEvents() {
		total += int(e.RequestParameters["count"].(float64))
		rest = rest || e.RequestParameters["source"] == "other"
	}
	if total != 2000 || !rest {
		t.Errorf("%d are on record, want 2000", total)
	}
}

func TestSourceClass(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1": "loopback", "::1": "loopback", "192.0.2.77": "192.0.2.0/24", "2001:db8:1:2::5": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48",
		"::ffff:192.0.2.1": "192.0.2.0/24", "": "other", "host": "other", "1.2.3": "other",
	} {
		if got := kms.SourceClass(address); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// What could not be recorded is counted by the event after it.
func TestUnauthenticatedAuditFails(t *testing.T) {
	var clock atomic.Int64
	start := time.Now()
	s := newService(t, func(c *kms.Config) {
		c.Now = func() time.Time { return start.Add(time.Duration(clock.Load())) }
	})
	wrong := kms.Credentials{AccessKeyID: s.admin.AccessKeyID, SecretAccessKey: strings.Repeat("w", 40)}
	s.audit.set(errors.New("no disk"))
	for range 3 {
		if status, answer, _ := s.send(raw{target: "TrentService.ListKeys", body: `{}`, credentials: wrong}); status != 400 || !strings.Contains(answer, "InvalidSignature") {
			t.Error(status, answer)
		}
	}
	s.audit.set(nil)
	clock.Store(int64(2 * time.Minute))
	s.send(raw{target: "TrentService.ListKeys", body: `{}`, credentials: wrong})
	if events := s.unauthenticatedEvents(); len(events) != 1 || fmt.Sprint(events[0].RequestParameters["count"]) != "4" {
		t.Errorf("%+v", events)
	}
}
