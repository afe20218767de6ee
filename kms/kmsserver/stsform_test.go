// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"encoding/xml"
	"io"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

func TestDecodeForm(t *testing.T) {
	form := url.Values{
		"RoleArn": {"arn"}, "DurationSeconds": {"900"}, "Tags.member.1.Key": {"a"}, "Tags.member.1.Value": {""}, "Tags.member.2.Key": {"b"},
		"Tags.member.2.Value": {"2"}, "TransitiveTagKeys.member.1": {"a"}, "PolicyArns.member.1.arn": {"p"}, "ProvidedContexts": {""},
	}
	var in kms.AssumeRoleInput
	if err := decodeForm(form, &in); err != nil {
		t.Fatal(err)
	}
	if *in.RoleArn != "arn" || *in.DurationSeconds != 900 || len(in.Tags) != 2 || *in.Tags[0].Value != "" || *in.Tags[1].Key != "b" ||
		!reflect.DeepEqual(in.TransitiveTagKeys, []string{"a"}) || *in.PolicyArns[0].Arn != "p" || in.ProvidedContexts == nil || in.Policy != nil {
		t.Errorf("%+v", in)
	}
	for name, form := range map[string]url.Values{
		"unknown":          {"Unknown": {"x"}},
		"another's":        {"WebIdentityToken": {"x"}},
		"from 0":           {"Tags.member.0.Key": {"x"}},
		"from 2":           {"Tags.member.2.Key": {"x"}},
		"a gap":            {"TransitiveTagKeys.member.1": {"x"}, "TransitiveTagKeys.member.3": {"x"}},
		"leading zero":     {"TransitiveTagKeys.member.01": {"x"}},
		"member of member": {"Tags.member.1.Key.More": {"x"}},
		"no member":        {"Tags.1.Key": {"x"}},
		"list and text":    {"Tags": {"x"}},
		"number":           {"DurationSeconds": {"1e3"}},
		"large number":     {"DurationSeconds": {"4294967296"}},
		"other case":       {"rolearn": {"x"}},
	} {
		if err := decodeForm(form, new(kms.AssumeRoleInput)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestReadForm(t *testing.T) {
	for name, c := range map[string]struct {
		method, query, body string
		ok                  bool
	}{
		"body":                 {"POST", "", "Action=x", true},
		"query":                {"GET", "Action=x&X-Amz-Signature=y", "", true},
		"signature in a query": {"POST", "X-Amz-Signature=y&x-amz-date=z", "Action=x", true},
		"both":                 {"POST", "RoleArn=y", "Action=x", false},
		"query with a body":    {"GET", "Action=x", "Action=x", false},
		"twice":                {"POST", "", "Action=x&Action=y", false},
		"unreadable":           {"POST", "", "Action=%zz", false},
		"semicolon":            {"POST", "", "Action=x;y", false},
		"too many":             {"POST", "", "Action=x" + strings.Repeat("&a", 600), false},
		"too long":             {"POST", "", "Action=x&y=" + strings.Repeat("a", 70<<10), false},
	} {
		r := httptest.NewRequest(c.method, "/?"+c.query, nil)
		form, err := readForm(r, []byte(c.body))
		if (err == nil) != c.ok || c.ok && (form.Get("Action") != "x" || len(form) != 1) {
			t.Errorf("%s: %v, %v", name, form, err)
		}
	}
}

// Whatever a client sends, the answer is XML that can be read.
func FuzzSTSForm(f *testing.F) {
	seeds := []string{
		"Action=AssumeRole&Version=2011-06-15&RoleArn=arn&RoleSessionName=a&Tags.member.1.Key=k&Tags.member.1.Value=v&DurationSeconds=900",
		"Action=%3C%00%26&Version=2011-06-15", "Tags.member.1.Key=a&Tags.member.2.Key=b", "",
	}
	if len(seeds[0]) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		form, err := readForm(httptest.NewRequest("POST", "/", nil), []byte(body))
		var in kms.AssumeRoleInput
		if err == nil {
			message := shortened(form.Get("Action"))
			form.Del("Action")
			form.Del("Version")
			if err = decodeForm(form, &in); err == nil {
				err = kmsapi.Errorf("InvalidAction", "Could not find operation %s", message)
				if len(in.Tags) > kmsapi.MaxEntries {
					t.Fatalf("%d tags", len(in.Tags))
				}
			}
		}
		refused, ok := err.(*kmsapi.Error)
		if !ok {
			t.Fatalf("%v", err)
		}
		_, answer := stsRefusal(refused, "id")
		d := xml.NewDecoder(strings.NewReader(string(answer)))
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v: %s", err, answer)
			}
		}
	})
}
