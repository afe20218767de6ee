// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A mutator damages requests. What it does follows from its random numbers alone.
type mutator struct {
	*rand.Rand
	corpus *corpus
	done   []string // what was done, for people
}

// A corpus is what mutations draw from besides chance.
type corpus struct {
	requests []recordedRequest
	byName   map[string][]int // indexes into requests
	names    []string
	strings  []string // ids, ARNs, aliases, tokens, markers
	blobs    [][]byte // ciphertexts, documents, tokens, keys
}

func (m *mutator) note(format string, args ...any) {
	m.done = append(m.done, fmt.Sprintf(format, args...))
}

func pick[T any](m *mutator, all ...T) T { return all[m.IntN(len(all))] }

// often is one of few sizes, now and then a large one, of which too many would only
// make the test slow.
func (m *mutator) often(large int, small ...int) int {
	if m.IntN(12) == 0 {
		return large
	}
	return pick(m, small...)
}

// body damages the body of a request to an operation.
func (m *mutator) body(body []byte) []byte {
	tree, ok := parseTree(body)
	switch n := m.IntN(100); {
	case n < 15 || !ok:
		return m.bytes(body)
	case n < 22:
		return m.whole(body)
	case n < 50:
		for range 1 + m.IntN(2) {
			tree = m.structure(tree, body)
		}
	default:
		for range 1 + m.IntN(2) {
			m.value(tree)
		}
	}
	return appendTree(nil, tree)
}

// bytes changes, removes, doubles or exchanges some bytes.
func (m *mutator) bytes(text []byte) []byte {
	m.note("bytes")
	out := bytes.Clone(text)
	for range 1 + m.IntN(3) {
		if len(out) < 2 {
			break
		}
		i := m.IntN(len(out))
		j := i + m.IntN(min(len(out)-i, 16))
		switch m.IntN(5) {
		case 0:
			out[i] ^= 1 << m.IntN(8)
		case 1:
			out = append(out[:i:i], out[j:]...)
		case 2:
			out = append(out[:j:j], out[i:]...)
		case 3:
			out[i], out[j] = out[j], out[i]
		case 4:
			out[i] = `{}[]",:0-\`[m.IntN(10)]
		}
	}
	return out
}

// whole replaces or frames the text as a whole.
func (m *mutator) whole(text []byte) []byte {
	form := pick(m, "empty", "cut", "twice", "bom", "tail", "space", "array", "string", "null", "number", "utf-16", "other", "nul", "deep", "comment", "large")
	m.note("body: %s", form)
	other := m.corpus.requests[m.IntN(len(m.corpus.requests))].body
	switch form {
	case "empty":
		return nil
	case "cut":
		return text[:m.IntN(len(text)+1)]
	case "twice":
		return slices.Concat(text, pick(m, nil, []byte(","), []byte("\n")), text)
	case "bom":
		return append([]byte("\xef\xbb\xbf"), text...)
	case "tail":
		return append(bytes.Clone(text), pick(m, "}", ",", "\x00", "//", "]", "null", " \n\t")...)
	case "space":
		return slices.Concat(bytes.Repeat([]byte(" \n"), 1+m.IntN(500)), text)
	case "array":
		return slices.Concat([]byte("["), text, []byte("]"))
	case "string":
		return []byte(quoteJSON(string(text)))
	case "null":
		return []byte(pick(m, "null", "true", "nul", "NaN", "undefined", "{}", "[]", `""`))
	case "number":
		return []byte(pick(m, oddNumbers...))
	case "utf-16":
		var out []byte
		for _, b := range text {
			out = append(out, b, 0)
		}
		return out
	case "nul":
		return append(bytes.Clone(text), make([]byte, m.IntN(100))...)
	case "deep":
		return bytes.Repeat([]byte(pick(m, `{"A":`, "[", `{"KeyId":{"KeyId":`, `{"Tags":[`)), 1+m.IntN(m.often(3000, 40)))
	case "comment":
		return bytes.Replace(text, []byte(","), []byte(pick(m, "/**/,", ",,", ";", ",\x0b", ",\u00a0")), 1+m.IntN(3))
	case "large":
		if m.IntN(8) > 0 {
			return append(bytes.Clone(text), bytes.Repeat([]byte(" "), 3000)...)
		}
		return slices.Concat([]byte(`{"X":"`), bytes.Repeat([]byte("x"), 1<<20-200+m.IntN(400)), []byte(`"}`))
	}
	return other
}

var oddNumbers = []string{"-1", "0", "1", "1.5", "1e3", "1E+2", "1e400", "-0", "2147483647", "2147483648", "-2147483649", "9223372036854775808",
	"0.1e-400", "00", "1.", ".5", "+1", "0x10", "1_000", "253402300800", "1e10", "NaN", "Infinity", "123456789012345678901234567890.5", "--1", "1e", "4096", "1024", "1025", "7", "31"}

// oddTexts are JSON texts of strings, not all of them right.
var oddTexts = []string{`""`, `" "`, `"\u0000"`, "\"\xff\xfe\"", `"\ud800"`, `"\udc00\ud800"`, `"\uD83D\uDE00"`, `"\u12"`, `"\x41"`, "\"\x01\"", "\"\n\"", "\"a\x00b\"",
	"\"\xc0\xaf\"", "\"\xed\xa0\x80\"", `"\\"`, `"\/"`, `"*"`, `"AAA"`, `"AA==="`, `"A-_="`, `"AA=="`, `"AA==\n"`, `"AB=="`, `"null"`, `"..\/..\/x"`, `"%00"`, `"\u202e"`, `'x'`,
	`"default"`, `"{}"`, `"true"`, `"ﬁ"`, `"ALIAS/x"`}

// structure damages what a tree is made of.
func (m *mutator) structure(tree any, body []byte) any {
	all := slots(tree)
	if len(all) == 0 {
		return verbatim(m.bytes(body))
	}
	s := m.slot(all)
	form := pick(m, "remove", "double", "rename", "null", "type", "type", "number", "deep", "huge", "odd", "odd", "many", "many", "exchange", "wrap", "other", "unknown")
	m.note("structure: %s at %q", form, s.name())
	place := s.place()
	switch form {
	case "remove", "double", "rename", "unknown":
		m.members(s, form)
	case "null":
		*place = nil
	case "type":
		*place = pick[any](m, true, false, json.Number("1"), "x", &object{}, &array{}, &array{items: []any{nil}}, &object{members: []member{{"", nil}}},
			&array{items: []any{&array{}}}, verbatim("tru"), verbatim(""))
	case "number":
		*place = verbatim(pick(m, oddNumbers...))
	case "deep":
		open, end := "[", "]"
		if m.IntN(2) == 0 {
			open, end = `{"a":`, "}"
		}
		n := m.often(5000, 31, 32, 33, 100)
		*place = verbatim(strings.Repeat(open, n) + "1" + strings.Repeat(end, n))
	case "huge":
		*place = strings.Repeat(pick(m, "A", "a/", "ä", "\x01", "*", "?*"), m.often(40000, 65, 129, 257, 2049, 8193))
	case "odd":
		*place = verbatim(pick(m, oddTexts...))
	case "many":
		*place = m.many(*place)
	case "exchange":
		other := all[m.IntN(len(all))].place()
		if !contains(*place, *other) && !contains(*other, *place) {
			*place, *other = *other, *place
		}
	case "wrap":
		*place = pick[any](m, &array{items: []any{*place}}, &object{members: []member{{"Value", *place}}}, string(appendTree(nil, *place)))
	case "other":
		from, ok := parseTree(m.corpus.requests[m.IntN(len(m.corpus.requests))].body)
		if theirs := slots(from); ok && len(theirs) > 0 {
			*place = *theirs[m.IntN(len(theirs))].place()
		}
	}
	return tree
}

// slot picks one. That of a KeyId, which most requests have and some have nothing
// else, is picked less often: without its key a request does not get far.
func (m *mutator) slot(all []slot) slot {
	s := all[m.IntN(len(all))]
	if strings.HasSuffix(s.name(), "KeyId") && m.IntN(4) > 0 {
		s = all[m.IntN(len(all))]
	}
	return s
}

// contains tells whether b is a or below a.
func contains(a, b any) bool {
	if a == b {
		return true
	}
	for _, s := range slots(a) {
		if *s.place() == b {
			return true
		}
	}
	return false
}

// members changes the members of the object, or the items of the array, of a slot.
func (m *mutator) members(s slot, form string) {
	if a := s.array; a != nil {
		switch form {
		case "remove":
			a.items = slices.Delete(a.items, s.index, s.index+1)
		default:
			a.items = append(a.items, a.items[s.index])
		}
		return
	}
	o := s.object
	switch own := o.members[s.index]; form {
	case "remove":
		o.members = slices.Delete(o.members, s.index, s.index+1)
	case "double":
		twin := own
		if m.IntN(2) == 0 {
			twin.value = pick[any](m, nil, "x", json.Number("1"))
		}
		o.members = append(o.members, twin)
	case "rename":
		o.members[s.index].name = pick(m, strings.ToLower(own.name), strings.ToUpper(own.name), own.name+" ", own.name+"\x00", "", "__type", "K\u0065yId",
			"\u212aeyId", "Key\u0131d", own.name+own.name, "KeyId", "Recipient", "DryRun", "GrantTokens", "Policy")
	case "unknown":
		o.members = append(o.members, member{pick(m, "X", "recipient", "keyId", "Recipient", "DryRun", "Limit", "Marker", "GrantTokens", "PolicyName"),
			pick[any](m, nil, true, "x", json.Number("2"), &object{}, &array{items: []any{"x"}})})
	}
}

// many makes thousands of entries.
func (m *mutator) many(v any) any {
	n := min(m.often(10000, 11, 11, 51, 51, 1001), 1+100000/(1+len(appendTree(nil, v))))
	switch v := v.(type) {
	case *array:
		var items []any
		for i := range n {
			if len(v.items) > 0 && m.IntN(2) == 0 {
				items = append(items, v.items[i%len(v.items)])
			} else {
				items = append(items, fmt.Sprint("entry", i))
			}
		}
		return &array{items: items}
	case *object:
		members := slices.Clone(v.members)
		for i := range n {
			members = append(members, member{fmt.Sprint("name", i), "value"})
		}
		return &object{members: members}
	}
	items := make([]any, n)
	for i := range items {
		items[i] = v
	}
	return &array{items: items}
}

// value puts another value of the same type somewhere: one that means something.
func (m *mutator) value(tree any) {
	all := slots(tree)
	if len(all) == 0 {
		return
	}
	s := m.slot(all)
	place := s.place()
	switch v := (*place).(type) {
	case string:
		*place = m.text(s.name(), v)
	case json.Number:
		*place = verbatim(pick(m, oddNumbers...))
	case bool:
		*place = !v
	case *object:
		v.members = append(v.members, member{pick(m, "aws:x", "a", "", strings.Repeat("n", 9000), "tenant"), pick[any](m, "", "a", strings.Repeat("v", 9000), nil)})
	case *array:
		m.Shuffle(len(v.items), func(i, j int) { v.items[i], v.items[j] = v.items[j], v.items[i] })
		v.items = append(v.items, pick(m, m.corpus.strings...))
	}
	m.note("value of %q", s.name())
}

// text returns another text in place of the value of a member.
func (m *mutator) text(name, v string) any {
	if name == "Policy" && m.IntN(4) > 0 {
		return m.policy(v)
	}
	if blob, err := base64.StdEncoding.DecodeString(v); err == nil && len(blob) >= 16 && m.IntN(10) > 0 {
		return base64Of(m.blob(blob))
	}
	switch m.IntN(8) {
	case 0:
		return verbatim(pick(m, oddTexts...))
	case 1:
		return string(bytes.ToValidUTF8(m.bytes([]byte(v)), nil))
	case 2:
		return v + pick(m, " ", "/", "x", ":", "*", "\u00e9", "\U0001f600", "\t")
	case 3:
		return pick(m, "SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_256", "ECDSA_SHA_256", "ECDSA_SHA_384", "ECC_NIST_P384", "HMAC_512", "HMAC_SHA_512", "SIGN_VERIFY", "DIGEST", "EXTERNAL_MU",
			"EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE", "AES_128", "SM2", "ML_DSA_44", "ECC_SECG_P256K1", "KEY_MATERIAL_DOES_NOT_EXPIRE", "EXISTING_KEY_MATERIAL", "RSA_AES_KEY_WRAP_SHA_1",
			"RotateKey", "ReEncryptFrom", "us-east-1", "eu-central-1", "mars-north-1")
	case 4:
		return strings.Replace(v, account, foreignAccount, 1)
	case 5:
		return strings.Replace(v, region, pick(m, secondRegion, "", "us-east-1/..", "*", strings.Repeat("r", 40)), 1)
	}
	return pick(m, m.corpus.strings...)
}

// blob returns other bytes in place of a ciphertext, token, document or key.
func (m *mutator) blob(blob []byte) []byte {
	out := bytes.Clone(blob)
	switch m.IntN(8) {
	case 0:
		return out[:m.IntN(len(out))]
	case 1:
		return append(out, make([]byte, m.often(262145, 1, 1, 100, 6145))...)
	case 2, 3:
		out[m.IntN(len(out))] ^= 1 << m.IntN(8)
		return out
	case 4:
		i := m.IntN(len(out))
		return slices.Concat(out[i:], out[:i])
	case 5:
		return m.bytes(out)
	case 6:
		out[m.IntN(min(len(out), 8))] = byte(m.IntN(256))
		return out
	}
	return pick(m, m.corpus.blobs...)
}

// policy damages the JSON of a policy, which is a text in the JSON of the request.
func (m *mutator) policy(text string) any {
	tree, ok := parseTree([]byte(text))
	if !ok || m.IntN(5) == 0 {
		return string(bytes.ToValidUTF8(m.bytes([]byte(text)), nil))
	}
	for range 1 + m.IntN(2) {
		if m.IntN(2) == 0 {
			m.policyValue(tree)
		} else {
			tree = m.structure(tree, []byte(text))
		}
	}
	return string(bytes.ToValidUTF8(appendTree(nil, tree), []byte("?")))
}

// policyValue puts odd things where policies have their names, patterns and
// conditions. None of them lets everybody in.
func (m *mutator) policyValue(tree any) {
	all := slots(tree)
	if len(all) == 0 {
		return
	}
	s := all[m.IntN(len(all))]
	switch s.name() {
	case "Effect":
		*s.place() = pick(m, "allow", "Deny", "ALLOW", "")
	case "Action":
		*s.place() = pick[any](m, "kms:", "*", "kms:?*", "s3:GetObject", strings.Repeat("*?", 500), &array{}, "kms:Decrypt\x00")
	case "Resource":
		*s.place() = pick[any](m, "", "arn:aws:kms:*:*:key/*", "${aws:username}", "arn:*", &array{items: []any{"*", "*"}})
	case "Version":
		*s.place() = pick(m, "2008-10-17", "2012-10-18", "")
	case "Principal":
		*s.place() = pick[any](m, "x", &object{}, &object{members: []member{{"AWS", foreignAccount}}}, &object{members: []member{{"Federated", "x"}}},
			&object{members: []member{{"AWS", "AIDAIOSFODNN7EXAMPLE"}}}, &object{members: []member{{"AWS", &array{}}}})
	case "Condition":
		operator := pick(m, "StringEquals", "ForAllValues:StringLike", "ForAnyValue:ArnLike", "NumericLessThan", "DateGreaterThan", "Bool", "IpAddress", "Null", "BinaryEquals",
			"StringEqualsIfExists", "NullIfExists", "Nope", "")
		key := pick(m, "kms:RecipientAttestation:PCR0", "kms:RecipientAttestation:PCR99", "kms:EncryptionContext:tenant", "aws:SourceIp", "aws:UserAgent", "kms:GrantOperations", "", "x")
		*s.place() = &object{members: []member{{operator, &object{members: []member{{key, pick[any](m, "", "x", "10.0.0.0/33", "999999999999999999999", "true", nil, &array{},
			strings.Repeat("*a", 300), "${aws:username}", "${", json.Number("1e999"))}}}}}}
	default:
		*s.place() = pick[any](m, "", "x", nil, true, json.Number("1e999"), strings.Repeat("x", m.often(33000, 10, 100)))
	}
}
