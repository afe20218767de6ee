// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A matcher compares an answer with a recorded one that may hold placeholders.
type matcher struct {
	player *player
	expect *recordedExpectation
}

func (m *matcher) match(path string, want, got any) error {
	switch want := want.(type) {
	case string:
		if number, ok := m.player.vars[strings.TrimSuffix(strings.TrimPrefix(want, "${"), "}")].(float64); ok {
			return m.match(path, number, got)
		}
		return m.text(path, m.player.substitute(want).(string), got)
	case map[string]any:
		if embedded, ok := want["$json"]; ok && len(want) == 1 {
			return m.embedded(path, embedded, got)
		}
		return m.object(path, want, got)
	case []any:
		return m.list(path, want, got)
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Errorf("%s: got %v, want %v", path, got, want)
	}
	return nil
}

func (m *matcher) object(path string, want map[string]any, got any) error {
	object, ok := got.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: got %v, want an object", path, got)
	}
	for name, value := range want {
		actual, ok := object[name]
		if !ok {
			return fmt.Errorf("%s: no member %s in %v", path, name, got)
		}
		if err := m.match(path+"."+name, value, actual); err != nil {
			return err
		}
	}
	for name := range object {
		if _, ok := want[name]; !ok && m.expect.Mode != "partial" && !slices.Contains(m.expect.Allow, strings.TrimPrefix(path+"."+name, ".")) {
			return fmt.Errorf("%s: unexpected member %s", path, name)
		}
	}
	return nil
}

func (m *matcher) list(path string, want []any, got any) error {
	list, ok := got.([]any)
	if !ok || len(list) != len(want) {
		return fmt.Errorf("%s: got %v, want %v", path, got, want)
	}
	if !slices.Contains(m.expect.Unordered, strings.TrimPrefix(path, ".")) {
		for i := range want {
			if err := m.match(fmt.Sprintf("%s[%d]", path, i), want[i], list[i]); err != nil {
				return err
			}
		}
		return nil
	}
	left := slices.Clone(list)
	for _, w := range want {
		i := slices.IndexFunc(left, func(g any) bool { return m.match(path, w, g) == nil })
		if i < 0 {
			return fmt.Errorf("%s: %v is not in %v", path, w, got)
		}
		left = slices.Delete(left, i, i+1)
	}
	return nil
}

func (m *matcher) embedded(path string, want, got any) error {
	var value any
	if text, ok := got.(string); !ok || json.Unmarshal([]byte(text), &value) != nil {
		return fmt.Errorf("%s: %v is no JSON text", path, got)
	}
	return m.match(path, want, value)
}

var placeholders = map[string]*regexp.Regexp{
	"<uuid>":        regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`),
	"<mrk-id>":      regexp.MustCompile(`^mrk-[0-9a-f]{32}$`),
	"<material-id>": regexp.MustCompile(`^[0-9a-f]{64}$`),
}

func (m *matcher) text(path, want string, got any) error {
	wrong := fmt.Errorf("%s: got %v, want %s", path, got, want)
	check := func(ok bool) error {
		if ok {
			return nil
		}
		return wrong
	}
	text, isText := got.(string)
	argument := func(prefix string) (string, bool) {
		rest, ok := strings.CutPrefix(want, prefix)
		return strings.TrimSuffix(rest, ">"), ok && strings.HasSuffix(want, ">")
	}
	switch want {
	case "<any>":
		return nil
	case "<bool>":
		_, ok := got.(bool)
		return check(ok)
	case "<date>":
		n, ok := got.(float64)
		return check(ok && n > 0)
	case "<blob>":
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		return check(isText && err == nil && len(b) > 0)
	}
	if re := placeholders[want]; re != nil {
		return check(isText && re.MatchString(text))
	}
	if size, ok := argument("<blob:"); ok {
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		return check(isText && err == nil && strconv.Itoa(len(b)) == size)
	}
	if other, ok := argument("<not:"); ok {
		return check(isText && text != "" && text != other)
	}
	if expression, ok := argument("<re:"); ok {
		re, err := regexp.Compile(`^(?:` + expression + `)$`)
		return check(err == nil && isText && re.MatchString(text))
	}
	if strings.Contains(want, "<material-id>") {
		parts := strings.Split(want, "<material-id>")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		return check(isText && regexp.MustCompile("^"+strings.Join(parts, "[0-9a-f]{64}")+"$").MatchString(text))
	}
	return check(isText && text == want)
}
