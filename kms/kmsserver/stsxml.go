// SPDX-License-Identifier: Apache-2.0

package kmsserver

import (
	"encoding/xml"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

type stsErrorXML struct {
	Type, Code, Message string
}

type credentialsXML struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

type assumedRoleUserXML struct {
	AssumedRoleID string `xml:"AssumedRoleId"`
	Arn           string
}

type tokenSizeXML struct {
	SessionTokenSize, SessionTokenUtilization int
}

func tokenSizeOf(c *kms.TemporaryCredentials) tokenSizeXML {
	return tokenSizeXML{len(c.SessionToken), kms.TokenUtilization(c.SessionToken)}
}

func credentialsOf(c *kms.TemporaryCredentials) credentialsXML {
	return credentialsXML{c.AccessKeyID, c.SecretAccessKey, c.SessionToken, c.Expiration.UTC().Format(time.RFC3339)}
}

func callerIdentityResult(out *kms.CallerIdentity) any {
	return struct {
		Arn     string
		UserID  string `xml:"UserId"`
		Account string
	}{out.Arn, out.UserID, out.Account}
}

func sessionTokenResult(out *kms.TemporaryCredentials) any {
	return struct {
		Credentials credentialsXML
		tokenSizeXML
	}{credentialsOf(out), tokenSizeOf(out)}
}

func assumeRoleResult(out *kms.AssumedRole) any {
	return struct {
		AssumedRoleUser  assumedRoleUserXML
		Credentials      credentialsXML
		PackedPolicySize *int   `xml:",omitempty"`
		SourceIdentity   string `xml:",omitempty"`
		tokenSizeXML
	}{assumedRoleUserXML{out.AssumedRoleID, out.Arn}, credentialsOf(&out.Credentials), out.PackedPolicySize, out.SourceIdentity, tokenSizeOf(&out.Credentials)}
}

func webIdentityResult(out *kms.AssumedRole) any {
	return struct {
		SubjectFromWebIdentityToken, Audience, Provider string
		AssumedRoleUser                                 assumedRoleUserXML
		Credentials                                     credentialsXML
		PackedPolicySize                                *int   `xml:",omitempty"`
		SourceIdentity                                  string `xml:",omitempty"`
		tokenSizeXML
	}{out.Subject, out.Audience, out.Provider, assumedRoleUserXML{out.AssumedRoleID, out.Arn}, credentialsOf(&out.Credentials), out.PackedPolicySize, out.SourceIdentity, tokenSizeOf(&out.Credentials)}
}

// stsAnswer is the XML of a successful answer.
func stsAnswer(operation string, result any, requestID string) ([]byte, error) {
	type metadata struct {
		RequestID string `xml:"RequestId"`
	}
	// The name of the element of the result has that of the operation in it.
	answer := reflect.New(reflect.StructOf([]reflect.StructField{
		{Name: "Result", Type: reflect.TypeOf(result), Tag: reflect.StructTag(`xml:"` + operation + `Result"`)},
		{Name: "ResponseMetadata", Type: reflect.TypeFor[metadata]()},
	})).Elem()
	answer.Field(0).Set(reflect.ValueOf(result))
	answer.Field(1).Set(reflect.ValueOf(metadata{requestID}))
	body, err := marshalXML(operation+"Response", answer.Interface())
	if err != nil {
		return nil, kmsapi.Internal(err)
	}
	return body, nil
}

func marshalXML(name string, value any) ([]byte, error) {
	var b strings.Builder
	e := xml.NewEncoder(&b)
	e.Indent("", "  ")
	start := xml.StartElement{Name: xml.Name{Local: name}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: stsNamespace}}}
	if err := e.EncodeElement(value, start); err != nil {
		return nil, err
	}
	return []byte(b.String() + "\n"), nil
}

// decodeForm reads the parameters of an operation: Name, for a list Name.member.1
// and on, and for its members Name.member.1.Key. Source: AWS query protocol. One
// that the operation does not have is refused.
func decodeForm(form url.Values, in any) error {
	v := reflect.ValueOf(in).Elem()
	used := 0
	for i := range v.NumField() {
		n, err := decodeMember(form, v.Type().Field(i).Name, v.Field(i))
		if err != nil {
			return err
		}
		used += n
	}
	if used == len(form) {
		return nil
	}
	return kmsapi.Errorf(kms.STSValidation, "The request has parameters that the operation does not have, or a list whose members are not numbered from 1.")
}

// decodeMember returns how many parameters it has read.
func decodeMember(form url.Values, name string, field reflect.Value) (used int, err error) {
	switch field.Interface().(type) {
	case *string:
		if form.Has(name) {
			text := form.Get(name)
			field.Set(reflect.ValueOf(&text))
			used++
		}
	case *int32:
		if form.Has(name) {
			n, err := strconv.ParseInt(form.Get(name), 10, 32)
			if err != nil {
				return 0, kmsapi.Errorf("MalformedInput", "%s is not an integer.", name)
			}
			value := int32(n)
			field.Set(reflect.ValueOf(&value))
			used++
		}
	default:
		return decodeList(form, name, field)
	}
	return used, nil
}

func decodeList(form url.Values, name string, list reflect.Value) (used int, err error) {
	if form.Has(name) && form.Get(name) == "" { // an empty list
		list.Set(reflect.MakeSlice(list.Type(), 0, 0))
		return 1, nil
	}
	for i := 1; i <= kmsapi.MaxEntries; i++ {
		item, prefix := reflect.New(list.Type().Elem()).Elem(), name+".member."+strconv.Itoa(i)
		n := 0
		if item.Kind() == reflect.String {
			if form.Has(prefix) {
				item.SetString(form.Get(prefix))
				n = 1
			}
		} else {
			for j := range item.NumField() {
				name := item.Type().Field(j).Name
				if name == "Arn" { // the one member that the model writes small
					name = "arn"
				}
				k, err := decodeMember(form, prefix+"."+name, item.Field(j))
				if err != nil {
					return 0, err
				}
				n += k
			}
		}
		if n == 0 {
			break
		}
		used += n
		list.Set(reflect.Append(list, item))
	}
	return used, nil
}
