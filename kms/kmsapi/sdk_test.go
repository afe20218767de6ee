// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
)

// sdkOperations has the methods of AWS's client that are operations: those that
// take a context, an input and options.
func sdkOperations() map[string]reflect.Method {
	found := make(map[string]reflect.Method)
	client := reflect.TypeFor[*awskms.Client]()
	for i := range client.NumMethod() {
		m := client.Method(i)
		if m.Type.NumIn() == 4 && m.Type.In(2).Kind() == reflect.Pointer && m.Type.In(2).Elem().Name() == m.Name+"Input" {
			found[m.Name] = m
		}
	}
	return found
}

func TestOperationsAreThoseOfTheSDK(t *testing.T) {
	sdk := sdkOperations()
	for _, op := range Operations() {
		if _, ok := sdk[op.Name]; !ok {
			t.Errorf("%s: the SDK has no such operation", op.Name)
		}
		delete(sdk, op.Name)
	}
	for name := range sdk {
		t.Errorf("%s is missing", name)
	}
}

// TestShapesAreThoseOfTheSDK compares names and kinds of all members, nested ones
// too, and the values of all enumerations.
func TestShapesAreThoseOfTheSDK(t *testing.T) {
	c := comparison{t: t, enums: make(map[string]bool), done: make(map[reflect.Type]bool)}
	sdk := sdkOperations()
	for _, op := range Operations() {
		m := sdk[op.Name]
		c.structs(op.Name+".Input", op.Input, m.Type.In(2).Elem(), op.Extension)
		c.structs(op.Name+".Output", op.Output, m.Type.Out(0).Elem(), false)
	}
	for name := range enums {
		if !c.enums[name] {
			t.Errorf("enumeration %s: the SDK has none", name)
		}
	}
}

type comparison struct {
	t     *testing.T
	enums map[string]bool
	done  map[reflect.Type]bool
}

func (c *comparison) structs(path string, ours, theirs reflect.Type, extension bool) {
	if c.done[ours] {
		return
	}
	c.done[ours] = true
	names := memberNames(ours)
	if extension {
		names = slices.DeleteFunc(names, func(name string) bool { return name == "Recipient" })
	}
	if want := memberNames(theirs); !slices.Equal(names, want) {
		c.t.Errorf("%s: members %v, the SDK has %v", path, names, want)
		return
	}
	for _, name := range names {
		a, _ := ours.FieldByName(name)
		b, _ := theirs.FieldByName(name)
		c.members(path+"."+name, a, b)
	}
}

func memberNames(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() && f.Name != "ResultMetadata" {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (c *comparison) members(path string, ours, theirs reflect.StructField) {
	a, b := wireKind(ours.Type), wireKind(theirs.Type)
	if a != b {
		c.t.Errorf("%s: %s, the SDK has %s", path, a, b)
		return
	}
	x, y := inner(ours.Type), inner(theirs.Type)
	if strings.HasSuffix(a, "structure") {
		c.structs(path, x, y, false)
		return
	}
	values := y.MethodByName
	if _, ok := values("Values"); !ok {
		return
	}
	want := enumValues(y)
	c.enums[y.Name()] = true
	if !slices.Equal(enums[y.Name()], want) {
		c.t.Errorf("enumeration %s: %v, the SDK has %v", y.Name(), enums[y.Name()], want)
	}
	if x.Kind() == reflect.String && (ours.Type.Kind() == reflect.Pointer || ours.Tag.Get("kms") != "") {
		m := parseMember(ours)
		if !slices.Equal(append(m.enum, m.values...), want) {
			c.t.Errorf("%s: is not checked against %s", path, y.Name())
		}
	}
}

func enumValues(t reflect.Type) (values []string) {
	all := reflect.Zero(t).MethodByName("Values").Call(nil)[0]
	for i := range all.Len() {
		values = append(values, all.Index(i).String())
	}
	return values
}

// inner strips pointers and lists, but leaves blobs.
func inner(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t
}

// wireKind names what a type is in JSON.
func wireKind(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return wireKind(t.Elem())
	case t == timestampType || t == reflect.TypeFor[time.Time]():
		return "time"
	case t == reflect.TypeFor[[]byte]():
		return "blob"
	case t.Kind() == reflect.Slice:
		return "list of " + wireKind(t.Elem())
	case t.Kind() == reflect.Struct:
		return "structure"
	}
	return t.Kind().String()
}

// errSent ends a call when its request is known.
var errSent = errors.New("sent")

// capture keeps the body of a request and sends nothing.
type capture struct{ body []byte }

func (c *capture) Do(r *http.Request) (*http.Response, error) {
	var err error
	if c.body, err = io.ReadAll(r.Body); err != nil {
		return nil, err
	}
	return nil, errSent
}

// call calls an operation of the SDK and returns the body that it would send.
func call(m reflect.Method, in reflect.Value) ([]byte, error) {
	var sent capture
	client := awskms.New(awskms.Options{
		Region: "us-east-1", HTTPClient: &sent, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIAEXAMPLE", "secret", ""),
	})
	out := m.Func.Call([]reflect.Value{reflect.ValueOf(client), reflect.ValueOf(context.Background()), in})
	err, _ := out[1].Interface().(error)
	if sent.body != nil && errors.Is(err, errSent) {
		err = nil
	}
	return sent.body, err
}

// TestRequiredMembers: what the SDK refuses to leave out is what Validate misses.
func TestRequiredMembers(t *testing.T) {
	total := 0
	for name, m := range sdkOperations() {
		_, err := call(m, reflect.New(m.Type.In(2).Elem()))
		var want []string
		if invalid, ok := errors.AsType[smithy.InvalidParamsError](err); ok {
			for _, e := range invalid.Errs() {
				field := e.(smithy.InvalidParamError).Field()
				want = append(want, field[strings.LastIndexByte(field, '.')+1:])
			}
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for i, member := range shapeOf(Lookup(name).Input).members {
			if member.required {
				got = append(got, Lookup(name).Input.Field(i).Name)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: requires %v, the SDK %v", name, got, want)
		}
		total += len(got)
	}
	if total < 50 {
		t.Errorf("only %d required members were seen", total)
	}
}

// TestDecodeWhatTheSDKSends fills every member of every input and reads what the
// SDK makes of it.
func TestDecodeWhatTheSDKSends(t *testing.T) {
	for name, m := range sdkOperations() {
		sent := reflect.New(m.Type.In(2).Elem())
		fill(sent.Elem())
		body, err := call(m, sent)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		in, err := decodeInput(Lookup(name), body)
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, body)
			continue
		}
		got := reflect.ValueOf(in).Elem()
		for i := range got.NumField() {
			field := got.Type().Field(i).Name
			theirs := sent.Elem().FieldByName(field)
			if !theirs.IsValid() { // an extension
				continue
			}
			if got.Field(i).IsNil() {
				t.Errorf("%s.%s was lost: %s", name, field, body)
				continue
			}
			if a, b := plain(got.Field(i)), plain(theirs); !reflect.DeepEqual(a, b) {
				t.Errorf("%s.%s: got %v, sent %v", name, field, a, b)
			}
		}
	}
}

var sampleTime = time.UnixMilli(1762790400007).UTC()

// fill gives every member a value.
func fill(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(sampleTime))
		return
	case !v.CanSet():
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"a": "1", "é\"": "</>"}))
	case reflect.String:
		v.SetString("é/\"😀")
	case reflect.Int32:
		v.SetInt(-7)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(200)
	}
}

// plain makes of a member, ours or the SDK's, what both agree on.
func plain(v reflect.Value) any {
	switch {
	case v.Kind() == reflect.Pointer:
		return plain(v.Elem())
	case v.Type() == timestampType:
		return time.Time(v.Interface().(Timestamp)).UTC()
	case v.Type() == reflect.TypeFor[time.Time]() || v.Type() == reflect.TypeFor[[]byte]() || v.Kind() == reflect.Map:
		return v.Interface()
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Slice:
		var list []any
		for i := range v.Len() {
			list = append(list, plain(v.Index(i)))
		}
		return list
	case reflect.Struct:
		members := make(map[string]any)
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				members[f.Name] = plain(v.Field(i))
			}
		}
		return members
	}
	return v.Interface()
}

var _ aws.HTTPClient = (*capture)(nil)
