// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDecode(t *testing.T) {
	in, err := decodeNew[DecryptInput]([]byte(` { "KeyId" : "a\/bé😀" , "CiphertextBlob":"AQID",
		"EncryptionContext":{"a":"1","":""}, "GrantTokens":["x","y"], "DryRun":true, "Unknown":{"a":[1,-2.5e3,null,{"b":false}]},
		"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"\/\/8="},"EncryptionAlgorithm":null}
		`))
	if err != nil {
		t.Fatal(err)
	}
	want := &DecryptInput{
		KeyId:             new("a/bé😀"),
		CiphertextBlob:    []byte{1, 2, 3},
		EncryptionContext: map[string]string{"a": "1", "": ""},
		GrantTokens:       []string{"x", "y"},
		DryRun:            new(true),
		Recipient:         &RecipientInfo{KeyEncryptionAlgorithm: new(RSAESOAEPSHA256), AttestationDocument: []byte{0xff, 0xff}},
	}
	if !reflect.DeepEqual(in, want) {
		t.Errorf("got %+v, want %+v", in, want)
	}
}

// A reader that folds case would see a Recipient where AWS sees none, or the
// other way round.
func TestDecodeMatchesNamesExactly(t *testing.T) {
	in, err := decodeNew[DecryptInput]([]byte(`{"recipient":{},"keyid":"x","KEYID":"y","KeyID":"z","CiphertextBLOB":"!"}`))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, &DecryptInput{}) {
		t.Errorf("got %+v, want nothing", in)
	}
}

func TestDecodePresence(t *testing.T) {
	for body, want := range map[string]*DecryptInput{
		`{}`:                       {},
		`{"Recipient":null}`:       {},
		`{"Recipient":{}}`:         {Recipient: &RecipientInfo{}},
		`{"CiphertextBlob":""}`:    {CiphertextBlob: []byte{}},
		`{"KeyId":""}`:             {KeyId: new("")},
		`{"GrantTokens":[]}`:       {GrantTokens: []string{}},
		`{"EncryptionContext":{}}`: {EncryptionContext: map[string]string{}},
		`{"DryRun":false}`:         {DryRun: new(false)},
	} {
		in, err := decodeNew[DecryptInput]([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if !reflect.DeepEqual(in, want) {
			t.Errorf("%s: got %+v, want %+v", body, in, want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"nothing":               ``,
		"white space":           `  `,
		"an array":              `[]`,
		"a string":              `"x"`,
		"null":                  `null`,
		"cut":                   `{"KeyId":"x"`,
		"cut in a name":         `{"Key`,
		"cut after a name":      `{"KeyId"`,
		"cut after a colon":     `{"KeyId":`,
		"cut in an escape":      `{"KeyId":"\`,
		"cut in a unicode":      `{"KeyId":"\u12"}`,
		"trailing comma":        `{"KeyId":"x",}`,
		"trailing bytes":        `{} {}`,
		"trailing NUL":          "{}\x00",
		"a comment":             `{/**/}`,
		"single quotes":         `{'KeyId':'x'}`,
		"no quotes":             `{KeyId:"x"}`,
		"repeated":              `{"KeyId":"x","KeyId":"y"}`,
		"repeated by escape":    `{"KeyId":"x","KeyI\u0064":"y"}`,
		"repeated unknown":      `{"A":1,"A":1}`,
		"repeated in context":   `{"EncryptionContext":{"a":"1","a":"2"}}`,
		"number for string":     `{"KeyId":1}`,
		"bool for string":       `{"KeyId":true}`,
		"list for string":       `{"KeyId":["x"]}`,
		"object for string":     `{"KeyId":{}}`,
		"string for bool":       `{"DryRun":"true"}`,
		"number for bool":       `{"DryRun":1}`,
		"string for list":       `{"GrantTokens":"x"}`,
		"null in list":          `{"GrantTokens":[null]}`,
		"list for map":          `{"EncryptionContext":[]}`,
		"number in map":         `{"EncryptionContext":{"a":1}}`,
		"null in map":           `{"EncryptionContext":{"a":null}}`,
		"string for structure":  `{"Recipient":"x"}`,
		"list for structure":    `{"Recipient":[]}`,
		"number for blob":       `{"CiphertextBlob":1}`,
		"bad base64":            `{"CiphertextBlob":"A*=="}`,
		"base64 unpadded":       `{"CiphertextBlob":"AQ"}`,
		"base64 url":            `{"CiphertextBlob":"__8="}`,
		"base64 loose bits":     `{"CiphertextBlob":"AR=="}`,
		"base64 line break":     `{"CiphertextBlob":"AQ\nID"}`,
		"base64 with escape":    `{"CiphertextBlob":"A\q=="}`,
		"control character":     "{\"KeyId\":\"a\nb\"}",
		"not UTF-8":             "{\"KeyId\":\"\xff\"}",
		"not UTF-8 unknown":     "{\"A\":\"\xff\"}",
		"lone high surrogate":   `{"KeyId":"\ud800"}`,
		"lone low surrogate":    `{"KeyId":"\udc00"}`,
		"two high surrogates":   `{"KeyId":"\ud800\ud800"}`,
		"high then letter":      `{"KeyId":"\ud800x"}`,
		"leading zero":          `{"A":01}`,
		"hex number":            `{"A":0x1}`,
		"NaN":                   `{"A":NaN}`,
		"plus":                  `{"A":+1}`,
		"bare word":             `{"A":nul}`,
		"long word":             `{"A":nullx}`,
		"deep arrays":           `{"A":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`,
		"deep objects":          strings.Repeat(`{"A":`, 1000) + `1` + strings.Repeat("}", 1000),
		"very deep, cut":        strings.Repeat(`[`, 1<<19),
		"very deep objects cut": strings.Repeat(`{"A":`, 1<<17),
		"byte order mark":       "\ufeff{}",
	} {
		in, err := decodeNew[DecryptInput]([]byte(body))
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != Serialization {
			t.Errorf("%s: got %v, want a SerializationException", name, err)
		}
		if in != nil {
			t.Errorf("%s: a result beside an error", name)
		}
	}
}

func TestMistypedTexts(t *testing.T) {
	for body, want := range map[string]string{
		`{"KeyId":null,"GrantTokens":[null]}`: "NULL_VALUE cannot be converted to String",
		`{"KeyId":-1}`:                        "NUMBER_VALUE cannot be converted to String",
		`{"KeyId":true}`:                      "TRUE_VALUE cannot be converted to String",
		`{"KeyId":{}}`:                        "START_OBJECT cannot be converted to String",
		`{"KeyId":`:                           "unexpected end at byte 9",
		`{"KeyId":x}`:                         "no value at byte 9",
		`{"KeyId":}`:                          "no value at byte 9",
		"{\"KeyId\":\x00}":                    "no value at byte 9",
		`[]`:                                  "START_ARRAY cannot be converted to structure",
		``:                                    "unexpected end at byte 0",
	} {
		_, err := decodeNew[DescribeKeyInput]([]byte(body))
		if e, ok := err.(*Error); !ok || e.Message != want {
			t.Errorf("%s: got %v, want %s", body, err, want)
		}
	}
}

func TestDecodeIntegers(t *testing.T) {
	for number, ok := range map[string]bool{
		"1": true, "-1": true, "2147483647": true, "-2147483648": true, "0": true,
		"2147483648": false, "1.5": false, "1e2": false, "1.0": false, `"1"`: false, "-": false, "true": false,
		"99999999999999999999999999": false,
	} {
		in, err := decodeNew[GenerateRandomInput]([]byte(`{"NumberOfBytes":` + number + `}`))
		if (err == nil) != ok {
			t.Errorf("%s: got %v", number, err)
		}
		if ok && in.NumberOfBytes == nil {
			t.Errorf("%s: absent", number)
		}
	}
}

func TestDecodeTimes(t *testing.T) {
	for number, want := range map[string]int64{
		"0": 0, "1762790400": 1762790400000, "1762790400.007": 1762790400007, "1.7627904e9": 1762790400000, "1762790400.0004": 1762790400000,
		"253402300799": 253402300799000,
	} {
		in, err := decodeNew[ImportKeyMaterialInput]([]byte(`{"ValidTo":` + number + `}`))
		if err != nil || time.Time(*in.ValidTo).UnixMilli() != want {
			t.Errorf("%s: got %v, %v", number, in, err)
		}
	}
	for _, bad := range []string{
		"-1", "-0", "1e13", "253402300800", "1e999", `"2025-11-10T16:00:00Z"`, `"1762790400"`, "true", "[]", "{}", "01", "1.", "NaN", "Infinity", "0x1", "1_0",
		strings.Repeat("1", 1000), "1." + strings.Repeat("0", 1000), "",
	} {
		if in, err := decodeNew[ImportKeyMaterialInput]([]byte(`{"ValidTo":` + bad + `}`)); err == nil {
			t.Errorf("%.40s: got %v", bad, in.ValidTo)
		}
	}
	in, err := decodeNew[ImportKeyMaterialInput]([]byte(`{"ValidTo":null}`))
	if err != nil || in.ValidTo != nil {
		t.Errorf("null: got %v, %v", in, err)
	}
}

func TestDecodeNested(t *testing.T) {
	in, err := decodeNew[CreateGrantInput]([]byte(`{"KeyId":"k","Operations":["Decrypt"],"Constraints":{"EncryptionContextSubset":{"a":"b"},"Unknown":[{}]}}`))
	want := &CreateGrantInput{KeyId: new("k"), Operations: []string{"Decrypt"}, Constraints: &GrantConstraints{EncryptionContextSubset: map[string]string{"a": "b"}}}
	if err != nil || !reflect.DeepEqual(in, want) {
		t.Errorf("got %+v, %v", in, err)
	}
	tags, err := decodeNew[TagResourceInput]([]byte(`{"Tags":[{"TagKey":"a","TagValue":""},{"TagKey":null}]}`))
	if err != nil || !reflect.DeepEqual(tags.Tags, []Tag{{TagKey: new("a"), TagValue: new("")}, {}}) {
		t.Errorf("got %+v, %v", tags, err)
	}
	for _, bad := range []string{
		`{"Constraints":[]}`, `{"Constraints":{"EncryptionContextEquals":[]}}`, `{"Constraints":{"EncryptionContextEquals":{"a":{}}}}`,
		`{"Constraints":{"SourceArn":1}}`, `{"Operations":{"Decrypt":true}}`, `{"Operations":[["Decrypt"]]}`, `{"Constraints":{"SourceArn":"a","SourceArn":"b"}}`,
	} {
		if _, err := decodeNew[CreateGrantInput]([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	for _, bad := range []string{`{"Tags":[null]}`, `{"Tags":["a"]}`, `{"Tags":{"a":"b"}}`, `{"Tags":[{"TagKey":"a","TagKey":"b"}]}`} {
		if _, err := decodeNew[TagResourceInput]([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

func TestDepthLimit(t *testing.T) {
	nest := func(n int) []byte {
		return []byte(`{"A":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`)
	}
	if _, err := decodeNew[ListKeysInput](nest(maxDepth)); err != nil {
		t.Errorf("%d levels: %v", maxDepth, err)
	}
	if _, err := decodeNew[ListKeysInput](nest(maxDepth + 1)); err == nil {
		t.Errorf("%d levels: no error", maxDepth+1)
	}
}

// Decoding must not cost more memory than a small multiple of the body, of which
// the race detector needs the most.
func TestDecodeAllocation(t *testing.T) {
	body := []byte(`{"A":[` + strings.Repeat("1,", 1<<18) + `1]}`)
	result := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodeNew[ListKeysInput](body); err != nil {
				b.Fatal(err)
			}
		}
	})
	if got, limit := result.AllocedBytesPerOp(), int64(16*len(body)); got > limit {
		t.Errorf("%d bytes allocated, limit %d", got, limit)
	}
}

// decodeInput decodes the input of an operation; nil beside an error.
func decodeInput(op *Operation, body []byte) (any, error) {
	in := reflect.New(op.Input)
	if err := decode(body, in.Elem()); err != nil {
		return nil, err
	}
	return in.Interface(), nil
}

// FuzzDecode: no panic, no result beside an error, everything that is accepted
// is JSON, and what was read is written and read again as the same.
// A name is found repeated wherever among however many it stands.
func TestRepeatedNames(t *testing.T) {
	for count := 1; count < 40; count++ {
		object := func(names []int) string {
			var b strings.Builder
			for i, n := range names {
				fmt.Fprintf(&b, `%c"N%d":1`, "{,"[min(i, 1)], n)
			}
			return b.String() + "}"
		}
		names := make([]int, count)
		for i := range names {
			names[i] = i
		}
		if _, err := decodeNew[ListKeysInput]([]byte(object(names))); err != nil {
			t.Fatalf("%d names: %v", count, err)
		}
		for i := range count {
			text := object(append(names, i))
			if _, err := decodeNew[ListKeysInput]([]byte(text)); err == nil || !strings.Contains(err.Error(), "repeated") {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	seeds := []string{
		`{}`, `{"KeyId":"x","Plaintext":"AQID","EncryptionContext":{"a":"b"}}`, `{"NumberOfBytes":12}`,
		`{"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"AQID"},"NumberOfBytes":-1}`,
		`{"Tags":[{"TagKey":"a","TagValue":"b"},{}],"Policy":"{}","MultiRegion":false}`, `{"Limit":1000,"Marker":"\u0041\ud83d\ude00"}`,
		`{"A":[1,2.5,-3e+4,true,false,null,"x",{"B":[]}],"A ":{}}`, `{"GrantTokens":["a"],"DryRun":true,"DryRunModifiers":["IGNORE_CIPHERTEXT"]}`,
		`{"ValidTo":1762790400.007,"ExpirationModel":"KEY_MATERIAL_EXPIRES","ImportToken":"AQID"}`, `{"ValidTo":1.7e9}`, `{"ValidTo":-0}`,
		`{"Operations":["Decrypt"],"Constraints":{"EncryptionContextEquals":{"a":"b"},"EncryptionContextSubset":{},"SourceArn":"x"}}`,
		`{"XksProxyAuthenticationCredential":{"AccessKeyId":"A","RawSecretAccessKey":"B"},"KeyStorePassword":"C"}`,
		`{"SourceEncryptionContext":{"a":"b"},"DestinationKeyId":"k","TagKeys":["a","b"],"PendingWindowInDays":7}`,
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, op := range Operations() {
			name := op.Name
			in, err := decodeInput(op, body)
			if err != nil {
				continue
			}
			if !json.Valid(body) {
				t.Fatalf("%s: accepted what is no JSON", name)
			}
			_ = Validate(in)
			_ = CommonOf(in)
			checkRecordable(t, name, Parameters(in))
			op.EachCondition(in, func(key string, values ...string) {
				if key != strings.ToLower(key) || len(values) == 0 {
					t.Fatalf("%s: condition %s with %d values", name, key, len(values))
				}
			})
			written, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			again, err := decodeInput(op, written)
			if err != nil {
				t.Fatalf("%s: own output refused: %v", name, err)
			}
			rewritten, err := json.Marshal(again)
			if err != nil {
				t.Fatal(err)
			}
			if string(rewritten) != string(written) {
				t.Fatalf("%s: %s became %s", name, written, rewritten)
			}
		}
	})
}

// checkRecordable: what goes to the audit log is text of bounded strings.
func checkRecordable(t *testing.T, name string, parameters map[string]any) {
	t.Helper()
	written, err := json.Marshal(parameters)
	if err != nil || !json.Valid(written) {
		t.Fatalf("%s: %v", name, err)
	}
	for parameter, value := range parameters {
		if s, ok := value.(string); ok && (len(s) > maxParameter+len("…") || !utf8.ValidString(s)) {
			t.Fatalf("%s: %s has %d bytes", name, parameter, len(s))
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"CiphertextBlob":"` + strings.Repeat("AQID", 64) + `","EncryptionContext":{"a":"1","b":"2"},"KeyId":"arn:aws:kms:us-east-1:000000000000:key/x"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeNew[DecryptInput](body); err != nil {
			b.Fatal(err)
		}
	}
}

// decodeNew decodes a body into a new shape, nil beside an error.
func decodeNew[I any](body []byte) (*I, error) {
	in := new(I)
	if err := Decode(body, in); err != nil {
		return nil, err
	}
	return in, nil
}
