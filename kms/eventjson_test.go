// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cretula/cretula/kms/audit"
	"github.com/cretula/cretula/pcr"
	"github.com/cretula/cretula/policy"
	"github.com/cretula/cretula/reason"
)

// eventTexts are strings that JSON writes as they are, escaped or not at all.
var eventTexts = []string{"", "a", "arn:aws:kms:us-east-1:000000000000:key/x", "<b>&\"\\/'", "é…\u2028\u2029", "\x00\x1f\x7f\n\t", "\xff\xfe", "日本"}

// fill puts something into a value and all in it. depth bounds how much.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch v.Interface().(type) {
	case time.Time:
		zone := time.FixedZone("", 60*(r.IntN(2000)-1000))
		v.Set(reflect.ValueOf(time.Unix(r.Int64N(1<<33), r.Int64N(2)*r.Int64N(1e9)).In(zone)))
		return
	case reason.Reason:
		v.Set(reflect.ValueOf(reason.Mismatch))
		return
	case pcr.Set:
		var s pcr.Set
		for i := range pcr.Index(pcr.Count) {
			if r.IntN(3) == 0 {
				s.Put(i, pcr.Sum([]byte{byte(r.Int())}))
			}
		}
		v.Set(reflect.ValueOf(s))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(eventTexts[r.IntN(len(eventTexts))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(r.Int64N(5) - 1)
	case reflect.Uint8:
		v.SetUint(r.Uint64N(256))
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), depth)
		}
	case reflect.Pointer:
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth)
		}
	case reflect.Slice:
		if n := r.IntN(4) - 1; n >= 0 && depth > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(r, v.Index(i), depth-1)
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(4) {
			name, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(r, name, 0)
			fill(r, value, depth-1)
			v.SetMapIndex(name, value)
		}
	case reflect.Interface:
		if depth <= 0 {
			return
		}
		kinds := []any{"", true, int32(0), []string{}, map[string]string{}, []map[string]any{}, time.Time{}}
		if i := r.IntN(len(kinds) + 1); i < len(kinds) {
			value := reflect.New(reflect.TypeOf(kinds[i])).Elem()
			fill(r, value, depth-1)
			v.Set(value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i), depth)
		}
	default:
		panic(v.Kind())
	}
}

// traces are those of all decisions of an event.
func traces(e *Event) (all []*policy.Trace) {
	if e.Decision != nil {
		all = append(all, &e.Decision.Trace)
	}
	for i := range e.OtherDecisions {
		all = append(all, &e.OtherDecisions[i].Trace)
	}
	return all
}

// An event reads the same whoever writes it: a member that AppendJSON does not know
// shows here. The traces say nothing that the event says.
func TestEventAppendJSON(t *testing.T) {
	seen := 0
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var e Event
		if seed > 0 {
			fill(r, reflect.ValueOf(&e).Elem(), 6)
		}
		for _, trace := range traces(&e) {
			trace.Principal.ARN += "other"
			trace.Action += ":other"
			trace.Resource += "other"
		}
		want, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := e.AppendJSON([]byte("x"))
		if err != nil || string(got) != "x"+string(want) {
			t.Fatalf("seed %d: %v\n%s\nwant\n%s", seed, err, got[1:], want)
		}
		if e.Decision != nil && len(e.Decision.Trace.Policies) > 0 && e.Additional != nil {
			seen++
		}
	}
	if seen < 100 {
		t.Errorf("only %d events have a decision and a recipient", seen)
	}
}

// What a trace repeats is left out of the audit log, all else is not, and it is there
// again when the event is read.
func TestEventRestore(t *testing.T) {
	left := map[string]int{}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 2))
		var e Event
		fill(r, reflect.ValueOf(&e).Elem(), 6)
		e.UserIdentity.Type = []string{identityUser, identityRole, "WebIdentityUser"}[r.IntN(3)]
		e.EventSource = []string{sourceKMS, sourceSTS, sourceOwn}[r.IntN(3)]
		for _, trace := range traces(&e) {
			trace.Principal.ARN, trace.Action, trace.Resource = "arn", "kms:Other", "*"
			if own := e.principal(); r.IntN(2) == 0 && own != (policy.Principal{}) {
				trace.Principal = own
			}
			if r.IntN(2) == 0 && e.EventName != "" {
				trace.Action = e.service() + ":" + e.EventName
			}
			if r.IntN(2) == 0 && e.resource() != "" {
				trace.Resource = e.resource()
			}
		}
		text, err := e.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		event, err := ParseEvent(audit.Entry{Event: text})
		if err != nil {
			t.Fatal(err)
		}
		// Through JSON, as what is empty may be nil.
		got, want := marshaled(t, event), marshaled(t, parsed(t, marshaled(t, &e)))
		if got != want {
			t.Fatalf("seed %d:\n%s\nwant\n%s", seed, got, want)
		}
		lean := parsed(t, string(text))
		for i, trace := range traces(lean) {
			full := traces(&e)[i]
			for name, c := range map[string]struct{ repeats, out bool }{
				"principal": {full.Principal == e.principal(), trace.Principal == (policy.Principal{})},
				"action":    {full.Action == e.service()+":"+e.EventName, trace.Action == ""},
				"resource":  {full.Resource == e.resource(), trace.Resource == ""},
			} {
				if c.repeats != c.out {
					t.Fatalf("seed %d: %s of trace %d: left out %v, want %v\n%s", seed, name, i, c.out, c.repeats, text)
				}
				if c.out {
					left[name]++
				}
			}
		}
	}
	for _, name := range []string{"principal", "action", "resource"} {
		if left[name] < 100 {
			t.Errorf("%s was left out %d times only", name, left[name])
		}
	}
}

func marshaled(t *testing.T, e *Event) string {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parsed(t *testing.T, text string) *Event {
	t.Helper()
	e := new(Event)
	if err := json.Unmarshal([]byte(text), e); err != nil {
		t.Fatal(err)
	}
	return e
}

// copies is copyPlain, which must copy whatever it says.
func copies(t *testing.T, s string) bool {
	dst := []byte(strings.Repeat("#", len(s)+1))
	ok := copyPlain(dst[:len(s)], s)
	if string(dst) != s+"#" {
		t.Fatalf("%q for %q", dst, s)
	}
	return ok
}

// Each pair of bytes, wherever it stands in a text of whatever length, is plain if
// encoding/json writes it as it is.
func TestCopyPlain(t *testing.T) {
	var marshaled [256]bool // whether a text of this byte alone is plain
	for c := range marshaled {
		b, err := json.Marshal(string([]byte{byte(c)}))
		if err != nil {
			t.Fatal(err)
		}
		marshaled[c] = string(b) == "\""+string([]byte{byte(c)})+"\""
	}
	for length := range 18 {
		for c := range 256 {
			text := bytes.Repeat([]byte("~"), length)
			for at := range length {
				text[at] = byte(c)
				if got := copies(t, string(text)); got != marshaled[c] {
					t.Errorf("byte %#x at %d of %d: %v", c, at, length, got)
				}
				if at+1 < length { // what one byte marks must not hide the next
					text[at+1] = byte(255 - c)
					if got := copies(t, string(text)); got != (marshaled[c] && marshaled[255-c]) {
						t.Errorf("bytes %#x and %#x at %d of %d: %v", c, 255-c, at, length, got)
					}
					text[at+1] = '~'
				}
				text[at] = '~'
			}
		}
	}
}

func TestEventAppendJSONFails(t *testing.T) {
	for name, e := range map[string]*Event{
		"a value that is none in JSON": {RequestParameters: map[string]any{"x": func() {}}},
		"a time of no year":            {EventTime: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if b, err := e.AppendJSON(nil); err == nil {
			t.Errorf("%s: %s", name, b)
		}
	}
}

// BenchmarkEventAppendJSON is the event of a Decrypt that is allowed.
func BenchmarkEventAppendJSON(b *testing.B) {
	e := Event{
		Schema: EventSchema, EventVersion: eventVersion, EventID: "ad5201da-e363-4d73-b98f-b339d83446ee", EventType: typeCall,
		EventTime: time.Unix(1800000000, 123456789).UTC(), EventName: "Decrypt", EventSource: sourceKMS, Region: "us-east-1",
		SourceIP: "127.0.0.1", UserAgent: "aws-sdk-go-v2/1.47.6 ua/2.1 os/linux lang/go#1.26.8 md/GOOS#linux md/GOARCH#amd64 api/kms#1.62.3 m/e",
		UserIdentity: UserIdentity{
			Type: "AssumedRole", PrincipalID: "AROAOUPYSXGLT3S2TZX32:cretula", ARN: "arn:aws:sts::000000000000:assumed-role/reader/cretula",
			AccountID: "000000000000", AccessKeyID: "AKIAAC3FULSG4MUFVQOV",
			SessionContext: &SessionContext{
				Attributes: SessionAttributes{MFAAuthenticated: "false"},
				SessionIssuer: &SessionIssuer{Type: "Role", PrincipalID: "AROAOUPYSXGLT3S2TZX32", ARN: "arn:aws:iam::000000000000:role/reader",
					AccountID: "000000000000", UserName: "reader"},
			},
		},
		RequestID: "1e15df29-8e65-4373-9150-d568245b0996", DecisionID: "d-7782661fbbd50468cb60ac9504ebecb5", Emulated: true, Outcome: Allowed,
		ReadOnly:  true,
		Resources: []EventResource{{AccountID: "000000000000", Type: "AWS::KMS::Key", ARN: "arn:aws:kms:us-east-1:000000000000:key/e1dc5a51-c469-408e-9ef0-1a47f31d577e"}},
		Decision: &policy.Decision{
			Allowed: true, Cause: policy.CauseDelegated,
			By: []policy.StatementRef{{Kind: "key", Sid: "Enable IAM User Permissions"}, {Kind: "identity", Policy: "identity-policy-1"}},
			Trace: policy.Trace{
				Principal: policy.Principal{
					Type: policy.CallerRoleSession, ARN: "arn:aws:sts::000000000000:assumed-role/reader/cretula", AccountID: "000000000000",
					RoleARN: "arn:aws:iam::000000000000:role/reader", UniqueID: "AROAOUPYSXGLT3S2TZX32",
				},
				Action: "kms:Decrypt", Resource: "arn:aws:kms:us-east-1:000000000000:key/e1dc5a51-c469-408e-9ef0-1a47f31d577e",
				TakesRecipient: true, Document: "none",
				Policies: []policy.PolicyTrace{
					{Kind: "key", Statements: []policy.StatementTrace{{Sid: "Enable IAM User Permissions", Effect: "Allow", Applied: true, Delegates: true}}},
					{Kind: "identity", Name: "identity-policy-1", Statements: []policy.StatementTrace{{Effect: "Allow", Applied: true}}},
				},
			},
		},
		ManagementEvent: true, EventCategory: "Management", RecipientAccountID: "000000000000",
	}
	var text []byte
	for b.Loop() {
		var err error
		if text, err = e.AppendJSON(text[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(text)))
}
