// SPDX-License-Identifier: Apache-2.0

package kmsapi

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTable(t *testing.T) {
	names := []string{}
	for _, op := range Operations() {
		names = append(names, op.Name)
		if Lookup(op.Name) != op || LookupInput(op.Input) != op || LookupInput(reflect.PointerTo(op.Input)) != op {
			t.Errorf("%s: not found, or twice in the table", op.Name)
		}
		if op.Summary == "" || op.Input.Name() != op.Name+"Input" || op.Output.Name() != op.Name+"Output" {
			t.Errorf("%s: summary %q, shapes %v and %v", op.Name, op.Summary, op.Input, op.Output)
		}
		if _, has := op.Input.FieldByName("Recipient"); op.Extension && !has {
			t.Errorf("%s: an extension without a Recipient", op.Name)
		}
		if op.Usage != "" && op.Refuses != refuseUse {
			t.Errorf("%s: uses the key, but refuses only %v", op.Name, op.Refuses)
		}
		_, key := op.Input.FieldByName("KeyId")
		if (op.Resource == ResourceKey || op.Resource == ResourceGrant) && !key {
			t.Errorf("%s: no KeyId", op.Name)
		}
		_ = Validate(reflect.New(op.Input).Interface()) // a bad tag panics
	}
	if !slices.IsSorted(names) {
		t.Error("the table is not in order")
	}
	if Lookup("decrypt") != nil || Lookup("") != nil || LookupInput(reflect.TypeFor[Tag]()) != nil {
		t.Error("names or types are not matched exactly")
	}
}

func TestTakesRecipient(t *testing.T) {
	var takes, extensions []string
	for _, op := range Operations() {
		if op.TakesRecipient() {
			takes = append(takes, op.Name)
		}
		if op.Extension {
			extensions = append(extensions, op.Name)
		}
	}
	if want := []string{"Decrypt", "DeriveSharedSecret", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom"}; !slices.Equal(takes, want) {
		t.Errorf("%v take a Recipient, at AWS %v", takes, want)
	}
	if want := []string{"GenerateMac", "PutKeyPolicy", "Sign"}; !slices.Equal(extensions, want) {
		t.Errorf("extensions %v, want %v", extensions, want)
	}
}

// TestNoOutput: these are the operations without output in AWS's model.
func TestNoOutput(t *testing.T) {
	var got []string
	for _, op := range Operations() {
		if op.NoOutput() && !strings.HasSuffix(op.Name, "CustomKeyStore") {
			got = append(got, op.Name)
		}
	}
	want := []string{"CreateAlias", "DeleteAlias", "DisableKey", "DisableKeyRotation", "EnableKey", "EnableKeyRotation", "PutKeyPolicy",
		"RetireGrant", "RevokeGrant", "TagResource", "UntagResource", "UpdateAlias", "UpdateKeyDescription", "UpdatePrimaryRegion"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestStates(t *testing.T) {
	for name, refused := range map[string]string{
		"Decrypt": "Disabled, PendingDeletion, PendingImport, Unavailable", "GetPublicKey": "Disabled, PendingDeletion, PendingImport, Unavailable",
		"CreateGrant": "Disabled, PendingDeletion, PendingImport", "EnableKey": "PendingDeletion, PendingImport",
		"TagResource": "PendingDeletion", "ScheduleKeyDeletion": "PendingDeletion", "PutKeyPolicy": "", "CancelKeyDeletion": "", "DeleteAlias": "",
	} {
		if got := Lookup(name).Refuses.String(); got != refused {
			t.Errorf("%s refuses %q, want %q", name, got, refused)
		}
	}
	for _, op := range Operations() {
		if op.Refuses.Has(StateEnabled) || op.Refuses.Has("") || op.Refuses.Has("disabled") {
			t.Errorf("%s refuses what is no state", op.Name)
		}
	}
	if !RefusePendingDeletion.Has(StatePendingReplicaDeletion) || RefuseDisabled.Has(StatePendingDeletion) {
		t.Error("states are mixed up")
	}
}

// TestValues: every constant is a value of an enumeration of the model.
func TestValues(t *testing.T) {
	known := map[string]bool{DefaultPolicy: true}
	for _, values := range enums {
		for _, v := range values {
			known[v] = true
		}
	}
	file, err := parser.ParseFile(token.NewFileSet(), "values.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok {
			v, err := strconv.Unquote(lit.Value)
			if err != nil || !known[v] || seen[v] {
				t.Errorf("%s: no value of the model, or twice", lit.Value)
			}
			seen[v] = true
		}
		return true
	})
	for _, name := range []string{"KeySpec", "KeyUsageType", "KeyState", "SigningAlgorithmSpec", "MacAlgorithmSpec", "AlgorithmSpec"} {
		for _, v := range enums[name] {
			if !seen[v] {
				t.Errorf("%s of %s has no constant", v, name)
			}
		}
	}
}

func TestEachCondition(t *testing.T) {
	at := Timestamp(time.UnixMilli(1762790400500))
	for name, c := range map[string]struct {
		in   any
		want map[string][]string
	}{
		"default": {&SignInput{}, map[string][]string{"kms:messagetype": {"RAW"}}},
		"given": {&SignInput{MessageType: new(MessageDigest), SigningAlgorithm: new(ECDSASHA256)},
			map[string][]string{"kms:messagetype": {"DIGEST"}, "kms:signingalgorithm": {"ECDSA_SHA_256"}}},
		"empty is given":  {&SignInput{MessageType: new("")}, map[string][]string{"kms:messagetype": {""}}},
		"constant":        {&GenerateDataKeyInput{}, map[string][]string{"kms:encryptionalgorithm": {"SYMMETRIC_DEFAULT"}}},
		"number":          {&EnableKeyRotationInput{RotationPeriodInDays: new(int32(90))}, map[string][]string{"kms:rotationperiodindays": {"90"}}},
		"number, default": {&EnableKeyRotationInput{}, map[string][]string{"kms:rotationperiodindays": {"365"}}},
		"days":            {&ScheduleKeyDeletionInput{}, map[string][]string{"kms:schedulekeydeletionpendingwindowindays": {"30"}}},
		"boolean":         {&PutKeyPolicyInput{BypassPolicyLockoutSafetyCheck: new(true)}, map[string][]string{"kms:bypasspolicylockoutsafetycheck": {"true"}}},
		"time": {&ImportKeyMaterialInput{ValidTo: &at},
			map[string][]string{"kms:expirationmodel": {"KEY_MATERIAL_EXPIRES"}, "kms:validto": {"2025-11-10T16:00:00.5Z"}}},
		"list": {&CreateGrantInput{GranteePrincipal: new("arn:x"), Operations: []string{"Decrypt", "Encrypt"}},
			map[string][]string{"kms:granteeprincipal": {"arn:x"}, "kms:grantoperations": {"Decrypt", "Encrypt"}}},
		"empty list": {&CreateGrantInput{Operations: []string{}}, map[string][]string{}},
		"new key": {&CreateKeyInput{}, map[string][]string{"kms:keyspec": {"SYMMETRIC_DEFAULT"}, "kms:keyusage": {"ENCRYPT_DECRYPT"},
			"kms:keyorigin": {"AWS_KMS"}, "kms:multiregion": {"false"}, "kms:bypasspolicylockoutsafetycheck": {"false"}}},
		"old name of the spec": {&CreateKeyInput{CustomerMasterKeySpec: new(SpecRSA2048), KeyUsage: new(SignVerify), MultiRegion: new(true), Origin: new(OriginExternal)},
			map[string][]string{"kms:keyspec": {"RSA_2048"}, "kms:keyusage": {"SIGN_VERIFY"},
				"kms:keyorigin": {"EXTERNAL"}, "kms:multiregion": {"true"}, "kms:bypasspolicylockoutsafetycheck": {"false"}}},
		"none": {&DescribeKeyInput{KeyId: new("x")}, map[string][]string{}},
	} {
		got := map[string][]string{}
		LookupInput(reflect.TypeOf(c.in)).EachCondition(c.in, func(key string, values ...string) { got[key] = values })
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// TestConditionsOfAMember: no condition key is twice in a row, and an input that
// has all members gives every key.
func TestConditionsOfAMember(t *testing.T) {
	for _, op := range Operations() {
		in := reflect.New(op.Input)
		fill(in.Elem())
		seen := map[string]int{}
		op.EachCondition(in.Interface(), func(key string, values ...string) { seen[key] += len(values) })
		for _, c := range op.Conditions {
			if !strings.HasPrefix(c.Key, "kms:") || seen[strings.ToLower(c.Key)] == 0 {
				t.Errorf("%s: %s has no value", op.Name, c.Key)
			}
			delete(seen, strings.ToLower(c.Key))
		}
		if len(seen) != 0 {
			t.Errorf("%s: %v", op.Name, seen)
		}
	}
}

func TestCommonOf(t *testing.T) {
	full := &DecryptInput{KeyId: new("k"), EncryptionContext: map[string]string{"a": "b"}, GrantTokens: []string{"t"}, DryRun: new(true), Recipient: &RecipientInfo{}}
	want := Common{KeyId: full.KeyId, EncryptionContext: full.EncryptionContext, HasEncryptionContext: true,
		GrantTokens: full.GrantTokens, DryRun: full.DryRun, Recipient: full.Recipient}
	if got := CommonOf(full); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := CommonOf(&DecryptInput{}); !reflect.DeepEqual(got, Common{HasEncryptionContext: true}) {
		t.Errorf("got %+v", got)
	}
	list := &ListKeysInput{Limit: new(int32(3)), Marker: new("m")}
	if got := CommonOf(list); !reflect.DeepEqual(got, Common{Limit: list.Limit, Marker: list.Marker}) {
		t.Errorf("got %+v", got)
	}
	for _, op := range Operations() {
		in := reflect.New(op.Input)
		fill(in.Elem())
		c := reflect.ValueOf(CommonOf(in.Interface()))
		for i := range c.NumField() {
			name := c.Type().Field(i).Name
			_, has := op.Input.FieldByName(strings.TrimPrefix(name, "Has"))
			if has == c.Field(i).IsZero() {
				t.Errorf("%s: %s is %v", op.Name, name, c.Field(i))
			}
		}
	}
}

func TestParameters(t *testing.T) {
	at := Timestamp(time.UnixMilli(1762790400000))
	for name, c := range map[string]struct {
		in   any
		want string
	}{
		"nothing": {&DecryptInput{}, `null`},
		"no blobs, tokens or documents": {&DecryptInput{KeyId: new("k"), CiphertextBlob: []byte("secret"), GrantTokens: []string{"secret"}, DryRun: new(false),
			EncryptionContext: map[string]string{"a": "b"}, Recipient: &RecipientInfo{KeyEncryptionAlgorithm: new("x")}, DryRunModifiers: []string{"m"}},
			`{"dryRun":false,"dryRunModifiers":["m"],"encryptionContext":{"a":"b"},"keyId":"k"}`},
		"import": {&ImportKeyMaterialInput{KeyId: new("k"), ImportToken: []byte("secret"), EncryptedKeyMaterial: []byte("secret"), ValidTo: &at},
			`{"keyId":"k","validTo":"2025-11-10T16:00:00Z"}`},
		"no grant token": {&RetireGrantInput{GrantToken: new("secret"), GrantId: new("g")}, `{"grantId":"g"}`},
		"grant": {&CreateGrantInput{Operations: []string{"Decrypt"}, Constraints: &GrantConstraints{EncryptionContextEquals: map[string]string{"a": "b"}}},
			`{"constraints":{"encryptionContextEquals":{"a":"b"}},"operations":["Decrypt"]}`},
		"tags": {&TagResourceInput{Tags: []Tag{{TagKey: new("a"), TagValue: new("b")}, {}}}, `{"tags":[{"tagKey":"a","tagValue":"b"},{}]}`},
		"key store": {&CreateCustomKeyStoreInput{CustomKeyStoreName: new("s"), KeyStorePassword: new("secret"),
			XksProxyAuthenticationCredential: &XksProxyAuthenticationCredential{AccessKeyId: new("secret"), RawSecretAccessKey: new("secret")}},
			`{"customKeyStoreName":"s","xksProxyAuthenticationCredential":{}}`},
		"policy and number": {&ListKeysInput{Limit: new(int32(5))}, `{"limit":5}`},
		"cut":               {&PutKeyPolicyInput{Policy: new(strings.Repeat("a", 1023) + "é")}, `{"policy":"` + strings.Repeat("a", 1023) + `…"}`},
		"not cut":           {&PutKeyPolicyInput{Policy: new(strings.Repeat("a", 1022) + "é")}, `{"policy":"` + strings.Repeat("a", 1022) + `é"}`},
		"cut in maps":       {&EncryptInput{EncryptionContext: map[string]string{"a": strings.Repeat("b", 2000)}}, `{"encryptionContext":{"a":"` + strings.Repeat("b", 1024) + `…"}}`},
	} {
		got, err := json.Marshal(Parameters(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, c.want)
		}
	}
}

// TestParametersHideSecrets fills every input: what is kept secret is found nowhere.
func TestParametersHideSecrets(t *testing.T) {
	for _, op := range Operations() {
		in := reflect.New(op.Input)
		fill(in.Elem())
		written, err := json.Marshal(Parameters(in.Interface()))
		if err != nil {
			t.Fatalf("%s: %v", op.Name, err)
		}
		for _, name := range []string{"recipient", "grantTokens", "grantToken", "importToken", "plaintext", "message", "mac", "signature",
			"publicKey", "encryptedKeyMaterial", "ciphertextBlob", "sharedSecretCiphertextBlob", "keyStorePassword", "accessKeyId", "rawSecretAccessKey"} {
			if strings.Contains(string(written), `"`+name+`"`) {
				t.Errorf("%s: %s is recorded", op.Name, name)
			}
		}
	}
}

func TestCut(t *testing.T) {
	for _, s := range []string{"", strings.Repeat("é", 512), strings.Repeat("é", 513), "a" + strings.Repeat("é", 512), strings.Repeat("😀", 300)} {
		got := cut(s)
		if !utf8.ValidString(got) || len(got) > maxParameter+len("…") || !strings.HasPrefix(s, strings.TrimSuffix(got, "…")) {
			t.Errorf("%d bytes became %d", len(s), len(got))
		}
		if len(s) <= maxParameter && got != s || len(s) > maxParameter && !strings.HasSuffix(got, "…") {
			t.Errorf("%d bytes: cut wrongly", len(s))
		}
	}
}

// TestListsAreNeverNull: AWS's SDKs tell null from an empty list.
func TestListsAreNeverNull(t *testing.T) {
	at := Timestamp(sampleTime)
	for _, c := range []struct {
		out  any
		list string
	}{
		{ListKeysOutput{}, "Keys"}, {ListAliasesOutput{}, "Aliases"}, {ListGrantsOutput{}, "Grants"}, {ListRetirableGrantsOutput{}, "Grants"},
		{ListResourceTagsOutput{}, "Tags"}, {ListKeyPoliciesOutput{}, "PolicyNames"}, {ListKeyRotationsOutput{}, "Rotations"},
		{DescribeCustomKeyStoresOutput{}, "CustomKeyStores"}, {ReplicateKeyOutput{ReplicaKeyMetadata: KeyMetadata{CreationDate: at}}, "ReplicaTags"}, {GrantListEntry{CreationDate: at}, "Operations"},
		{MultiRegionConfiguration{}, "ReplicaKeys"},
	} {
		written, err := json.Marshal(c.out)
		if err != nil || !strings.Contains(string(written), `"`+c.list+`":[]`) {
			t.Errorf("%T: %s, %v", c.out, written, err)
		}
	}
	if written, err := json.Marshal(ListKeysOutput{Keys: []KeyListEntry{{KeyId: "x"}}}); err != nil || !strings.Contains(string(written), `"Keys":[{`) {
		t.Errorf("%s, %v", written, err)
	}
}

func BenchmarkEachCondition(b *testing.B) {
	in := &SignInput{KeyId: new("x"), SigningAlgorithm: new(ECDSASHA256)}
	op := Lookup("Sign")
	b.ReportAllocs()
	for b.Loop() {
		op.EachCondition(in, func(string, ...string) {})
	}
}
