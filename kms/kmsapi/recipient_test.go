// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
	"reflect"
	"testing"
)

var withoutRecipient = map[string]string{
	`{}`: `{}`,
	` { "KeyId" : "a b" , "Recipient" : { } } `:                     `{"KeyId":"a b"}`,
	`{"Recipient":{"AttestationDocument":"AA=="},"KeyId":"x"}`:      `{"KeyId":"x"}`,
	`{"a":1,"Recipient":null,"b":[{"Recipient":2},"}",",\"]"]}`:     `{"a":1,"b":[{"Recipient":2},"}",",\"]"]}`,
	`{"\u0052ecipient":1,"recipient":2,"Recipients":"Recipient"}`:   `{"recipient":2,"Recipients":"Recipient"}`,
	`{"KeyId":"\/é\u00e9\\","Message":"QQ=="}`:                      `{"KeyId":"\/é\u00e9\\","Message":"QQ=="}`,
	"{\n\t\"Recipient\":[[],{}],\r\n \"x\":-1.5e3,\"Recipient\":1}": `{"x":-1.5e3}`,
}

func TestWithoutRecipient(t *testing.T) {
	for in, want := range withoutRecipient {
		got, err := WithoutRecipient([]byte(in))
		if err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "{", "[]", `"x"`, "1", "null", `{"a":1}x`, `{"a"}`, "{\"a\":1,}", "\xff"} {
		if got, err := WithoutRecipient([]byte(in)); err == nil || got != nil {
			t.Errorf("%q: got %s", in, got)
		}
	}
}

func FuzzWithoutRecipient(f *testing.F) {
	if len(withoutRecipient) < 5 {
		f.Fatal("no seeds")
	}
	for in := range withoutRecipient {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := WithoutRecipient(in)
		if err != nil {
			if got != nil {
				t.Error("a result with an error")
			}
			return
		}
		var before, after map[string]any
		if json.Unmarshal(in, &before) != nil {
			t.Skip() // a repeated or odd member that a map cannot hold
		}
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		delete(before, "Recipient")
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%q became %q", in, got)
		}
		again, err := WithoutRecipient(got)
		if err != nil || string(again) != string(got) {
			t.Errorf("%q, then %q, %v", got, again, err)
		}
	})
}
