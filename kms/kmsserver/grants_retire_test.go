// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/cretula/cretula/kms"
)

// Who may retire a grant: whom it names for it, the grantee if the operation is
// among its own, and whom an identity policy of an account that has a say allows
// it. Nobody else, and nobody whom a policy denies it.
func TestWhoMayRetire(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	may := allowAll(`"kms:RetireGrant"`)
	denied := `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"kms:RetireGrant","Resource":"*"}}`
	grantee := s.principal(kms.User, "grantee")
	holder := s.principal(kms.User, "holder", may)
	retiring := func(arn string) func(*awskms.CreateGrantInput) {
		return func(in *awskms.CreateGrantInput) { in.RetiringPrincipal = &arn }
	}
	none := func(*awskms.CreateGrantInput) {}
	named := func(in *awskms.CreateGrantInput) { in.Operations = append(in.Operations, "RetireGrant") }
	keys := map[string]string{
		"admin":  s.key(adminPolicy),
		"direct": s.key(statements(`{"Effect":"Allow","Principal":{"AWS":"` + userARN("holder") + `"},"Action":"kms:RetireGrant","Resource":"*"}`)),
		"all":    s.key(statements(`{"Effect":"Allow","Principal":{"AWS":"` + userARN("grantee") + `"},"Action":"kms:*","Resource":"*"}`)),
		"deny":   s.key(statements(`{"Effect":"Deny","Principal":{"AWS":"` + userARN("grantee") + `"},"Action":"kms:RetireGrant","Resource":"*"}`)),
	}
	for name, c := range map[string]struct {
		key    string
		change func(*awskms.CreateGrantInput)
		who    kms.Credentials
		ok     bool
	}{
		"retiring user":                        {"admin", retiring(userARN("u1")), s.principal(kms.User, "u1"), true},
		"retiring role":                        {"admin", retiring("arn:aws:iam::" + account + ":role/r1"), s.principal(kms.Role, "r1"), true},
		"retiring session":                     {"admin", retiring("arn:aws:sts::" + account + ":assumed-role/r2/cretula"), s.principal(kms.Role, "r2"), true},
		"retiring user, denied":                {"admin", retiring(userARN("u2")), s.principal(kms.User, "u2", denied), false},
		"retiring stranger":                    {"admin", retiring("arn:aws:iam::" + foreign + ":user/s1"), s.stranger("s1"), true},
		"retiring account, not delegated":      {"admin", retiring(root(foreign)), s.stranger("s2"), false},
		"retiring account, delegated":          {"admin", retiring(root(foreign)), s.stranger("s3", may), true},
		"another account":                      {"admin", none, s.stranger("s4", may), false},
		"grantee, retire among the operations": {"admin", named, grantee, true},
		"grantee, denied by the key":           {"deny", named, grantee, false},
		"grantee":                              {"admin", none, grantee, false},
		"grantee whom the key allows all":      {"all", none, grantee, false},
		"account of key and maker":             {"admin", none, holder, true},
		"without a policy":                     {"admin", none, s.principal(kms.User, "u3"), false},
		"allowed by both":                      {"direct", none, holder, true},
		"maker":                                {"admin", none, s.admin, true},
	} {
		keyARN := keys[c.key]
		for _, byToken := range []bool{false, true} {
			in := decrypting(keyARN, userARN("grantee"))
			c.change(in)
			g := s.grant(in)
			retire := &awskms.RetireGrantInput{KeyId: &keyARN, GrantId: g.GrantId}
			if byToken {
				retire = &awskms.RetireGrantInput{GrantToken: g.GrantToken}
			}
			_, err := s.client(c.who, region).RetireGrant(ctx, retire)
			if c.ok && err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			list, listErr := s.adminClient().ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN, GrantId: g.GrantId})
			if listErr != nil || (len(list.Grants) == 0) != c.ok {
				t.Errorf("%s: %d grants are left, %v", name, len(list.Grants), listErr)
			}
			if c.ok {
				continue
			}
			code, message, _, _ := refused(t, err)
			if code != "AccessDeniedException" || !strings.Contains(message, "kms:RetireGrant on resource: "+keyARN) {
				t.Errorf("%s: %s %s", name, code, message)
			}
			s.revoke(keyARN, g.GrantId)
		}
	}
}

// The account that made a grant on another's key may retire it, and its principals
// use it.
func TestGrantByAnotherAccount(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	keyARN := s.key(statements(`{"Effect":"Allow","Principal":{"AWS":"` + foreign + `"},"Action":["kms:CreateGrant","kms:ListGrants","kms:RevokeGrant"],"Resource":"*"}`))
	poor := s.client(s.stranger("poor"), region)
	rich := s.client(s.stranger("rich", allowAll(`"kms:*"`)), region)
	in := decrypting(keyARN, "arn:aws:iam::"+foreign+":user/poor")
	_, err := poor.CreateGrant(ctx, in)
	wantCode(t, err, "AccessDeniedException")
	var ids []*string
	for range 2 {
		out, err := rich.CreateGrant(ctx, in)
		wantNil(t, err)
		ids = append(ids, out.GrantId)
	}
	list, err := rich.ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN})
	wantNil(t, err)
	if len(list.Grants) != 2 || *list.Grants[0].IssuingAccount != root(foreign) || *list.Grants[0].KeyId != keyARN {
		t.Errorf("listed %+v", list.Grants)
	}
	_, err = poor.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: s.sealed(keyARN, nil)})
	wantNil(t, err)
	_, err = poor.ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN})
	wantCode(t, err, "AccessDeniedException")
	_, err = poor.RetireGrant(ctx, &awskms.RetireGrantInput{KeyId: &keyARN, GrantId: ids[0]})
	wantCode(t, err, "AccessDeniedException")
	_, err = rich.RetireGrant(ctx, &awskms.RetireGrantInput{KeyId: &keyARN, GrantId: ids[0]})
	wantNil(t, err)
	_, err = rich.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: &keyARN, GrantId: ids[1]})
	wantNil(t, err)
	_, err = poor.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: s.sealed(keyARN, nil)})
	wantCode(t, err, "AccessDeniedException")
}

func TestRetireAndRevokeRefusals(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	keyARN, other := s.key(adminPolicy), s.key(adminPolicy)
	s.principal(kms.User, "alice")
	g := s.grant(decrypting(keyARN, userARN("alice")))
	gone := s.grant(decrypting(keyARN, userARN("alice")))
	s.revoke(keyARN, gone.GrantId)
	absent := strings.Replace(keyARN, keyARN[len(keyARN)-4:], "0000", 1)
	for name, c := range map[string]struct {
		in   awskms.RetireGrantInput
		code string
	}{
		"nothing":                {awskms.RetireGrantInput{}, "ValidationException"},
		"key alone":              {awskms.RetireGrantInput{KeyId: &keyARN}, "ValidationException"},
		"grant alone":            {awskms.RetireGrantInput{GrantId: g.GrantId}, "ValidationException"},
		"both":                   {awskms.RetireGrantInput{KeyId: &keyARN, GrantId: g.GrantId, GrantToken: g.GrantToken}, "ValidationException"},
		"token and key":          {awskms.RetireGrantInput{KeyId: &keyARN, GrantToken: g.GrantToken}, "ValidationException"},
		"no token":               {awskms.RetireGrantInput{GrantToken: aws.String("x")}, "InvalidGrantTokenException"},
		"token of a revoked one": {awskms.RetireGrantInput{GrantToken: gone.GrantToken}, "InvalidGrantTokenException"},
		"id for a token":         {awskms.RetireGrantInput{GrantToken: g.GrantId}, "InvalidGrantTokenException"},
		"no grant id":            {awskms.RetireGrantInput{KeyId: &keyARN, GrantId: aws.String("x")}, "InvalidGrantIdException"},
		"id in capitals":         {awskms.RetireGrantInput{KeyId: &keyARN, GrantId: aws.String(strings.Repeat("A", 64))}, "InvalidGrantIdException"},
		"unknown id":             {awskms.RetireGrantInput{KeyId: &keyARN, GrantId: aws.String(strings.Repeat("a", 64))}, "NotFoundException"},
		"revoked":                {awskms.RetireGrantInput{KeyId: &keyARN, GrantId: gone.GrantId}, "NotFoundException"},
		"grant of another key":   {awskms.RetireGrantInput{KeyId: &other, GrantId: g.GrantId}, "NotFoundException"},
		"no key":                 {awskms.RetireGrantInput{KeyId: &absent, GrantId: g.GrantId}, "NotFoundException"},
		"alias":                  {awskms.RetireGrantInput{KeyId: aws.String("alias/x"), GrantId: g.GrantId}, "NotFoundException"},
		"dry run":                {awskms.RetireGrantInput{KeyId: &keyARN, GrantId: g.GrantId, DryRun: aws.Bool(true)}, "DryRunOperationException"},
		"dry run, token":         {awskms.RetireGrantInput{GrantToken: g.GrantToken, DryRun: aws.Bool(true)}, "DryRunOperationException"},
	} {
		_, err := admin.RetireGrant(ctx, &c.in)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		if code, message, status, _ := refused(t, err); code != c.code || status != 400 {
			t.Errorf("retire, %s: %d %s %s, want %s", name, status, code, message, c.code)
		}
		if c.in.GrantToken != nil || c.in.KeyId == nil || c.in.GrantId == nil {
			continue
		}
		_, err = admin.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: c.in.KeyId, GrantId: c.in.GrantId, DryRun: c.in.DryRun})
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		if code, message, status, _ := refused(t, err); code != c.code || status != 400 {
			t.Errorf("revoke, %s: %d %s %s, want %s", name, status, code, message, c.code)
		}
	}
	// A token is of one region.
	_, err := s.client(s.admin, "eu-west-1").RetireGrant(ctx, &awskms.RetireGrantInput{GrantToken: g.GrantToken})
	wantCode(t, err, "InvalidGrantTokenException")
	nobody := s.client(s.principal(kms.User, "nobody", allowAll(`"kms:*"`)), region)
	_, err = nobody.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: &keyARN, GrantId: g.GrantId})
	wantCode(t, err, "AccessDeniedException")
	list, err := admin.ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN})
	if err != nil || len(list.Grants) != 1 {
		t.Errorf("%d grants, %v", len(list.Grants), err)
	}
}

// Grants end in whatever state a key is, and begin only while it can be used.
func TestGrantsAndStates(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	s.principal(kms.User, "alice")
	for state, into := range map[string]func(keyARN string) error{
		"DisabledException": func(keyARN string) error {
			_, err := admin.DisableKey(ctx, &awskms.DisableKeyInput{KeyId: &keyARN})
			return err
		},
		"KMSInvalidStateException": func(keyARN string) error {
			_, err := admin.ScheduleKeyDeletion(ctx, &awskms.ScheduleKeyDeletionInput{KeyId: &keyARN})
			return err
		},
	} {
		keyARN := s.key("")
		in := decrypting(keyARN, userARN("alice"))
		a, b := s.grant(in), s.grant(in)
		wantNil(t, into(keyARN))
		_, err := admin.CreateGrant(ctx, in)
		wantCode(t, err, state)
		_, err = admin.ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN})
		wantNil(t, err)
		_, err = admin.RetireGrant(ctx, &awskms.RetireGrantInput{GrantToken: a.GrantToken})
		wantNil(t, err)
		_, err = admin.RevokeGrant(ctx, &awskms.RevokeGrantInput{KeyId: &keyARN, GrantId: b.GrantId})
		wantNil(t, err)
	}
}

// A token of a grant that is there is good for nothing and no harm; all else is
// refused.
func TestGrantTokens(t *testing.T) {
	s := newService(t)
	ctx := t.Context()
	keyARN, other := s.key(adminPolicy), s.key(adminPolicy)
	alice := s.client(s.principal(kms.User, "alice"), region)
	bob := s.client(s.principal(kms.User, "bob"), region)
	g := s.grant(decrypting(keyARN, userARN("alice")))
	elsewhere := s.grant(decrypting(other, userARN("alice")))
	gone := s.grant(decrypting(keyARN, userARN("alice")))
	s.revoke(keyARN, gone.GrantId)
	far := s.client(s.admin, "eu-west-1")
	farKey, err := far.CreateKey(ctx, &awskms.CreateKeyInput{})
	wantNil(t, err)
	farGrant, err := far.CreateGrant(ctx, decrypting(*farKey.KeyMetadata.Arn, userARN("alice")))
	wantNil(t, err)
	raw, err := base64.StdEncoding.DecodeString(*g.GrantToken)
	wantNil(t, err)
	if bytes.Contains(raw, []byte(*g.GrantId)) || bytes.Contains(raw, []byte(account)) {
		t.Error("the token tells what it is of")
	}
	blob := s.sealed(keyARN, nil)
	use := func(c *awskms.Client, tokens ...string) error {
		_, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob, KeyId: &keyARN, GrantTokens: tokens})
		return err
	}
	wantNil(t, use(alice, *g.GrantToken))
	wantNil(t, use(alice, *g.GrantToken, *elsewhere.GrantToken, *g.GrantToken))
	wantNil(t, use(alice, *elsewhere.GrantToken))
	wantCode(t, use(bob, *g.GrantToken), "AccessDeniedException")
	last := raw[len(raw)-1]
	raw[len(raw)-1] ^= 1
	changed := base64.StdEncoding.EncodeToString(raw)
	raw[len(raw)-1] = last
	for name, token := range map[string]string{
		"changed": changed, "cut": base64.StdEncoding.EncodeToString(raw[:len(raw)-1]), "short": "AAAA", "no base64": "a token", "hexadecimal": *g.GrantId,
		"revoked": *gone.GrantToken, "of another region": *farGrant.GrantToken, "unpadded": strings.TrimRight(*g.GrantToken, "=") + "A",
		"long": strings.Repeat("A", 8192), "line end": *g.GrantToken + "\n", "wrapped for something else": s.sealedToken(keyARN),
	} {
		for _, tokens := range [][]string{{token}, {*g.GrantToken, token}} {
			err := use(alice, tokens...)
			if err == nil {
				t.Errorf("%s: accepted", name)
				continue
			}
			if code, message, _, _ := refused(t, err); code != "InvalidGrantTokenException" {
				t.Errorf("%s: %s %s", name, code, message)
			}
		}
	}
	tokens := make([]string, 11)
	for i := range tokens {
		tokens[i] = *g.GrantToken
	}
	wantCode(t, use(alice, tokens...), "ValidationException")
	// Every operation that has the member looks at it.
	for operation, body := range map[string]string{
		"DescribeKey": `"KeyId":"` + keyARN + `"`, "Encrypt": `"KeyId":"` + keyARN + `","Plaintext":"AA=="`,
		"GenerateDataKey": `"KeyId":"` + keyARN + `","NumberOfBytes":8`,
		"CreateGrant":     `"KeyId":"` + keyARN + `","GranteePrincipal":"` + userARN("bob") + `","Operations":["Decrypt"]`,
	} {
		for token, want := range map[string]int{*g.GrantToken: 200, *gone.GrantToken: 400} {
			status, answer, _ := s.send(rawRequest(operation, `{`+body+`,"GrantTokens":["`+token+`"]}`))
			if status != want || want == 400 && !strings.Contains(answer, "InvalidGrantTokenException") {
				t.Errorf("%s: %d %s", operation, status, answer)
			}
		}
	}
}

func rawRequest(operation, body string) raw {
	return raw{target: "TrentService." + operation, body: body}
}

// sealedToken is something that the root key has wrapped, but not as a token.
func (s *service) sealedToken(keyARN string) string {
	s.t.Helper()
	wrapped, err := s.files.RootKey.Wrap([]byte(strings.Join([]string{account, region, keyARN[strings.LastIndexByte(keyARN, '/')+1:], strings.Repeat("a", 64)}, "/")), []byte("other"))
	if err != nil {
		s.t.Fatal(err)
	}
	return base64Of(wrapped)
}

func TestCreateGrantRefusals(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	s.principal(kms.User, "alice")
	keys := map[string]string{"": s.key(adminPolicy)}
	for name, in := range map[string]awskms.CreateKeyInput{
		"mac":   {KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac},
		"sign":  {KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify},
		"agree": {KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeKeyAgreement},
	} {
		out, err := admin.CreateKey(ctx, &in)
		wantNil(t, err)
		keys[name] = *out.KeyMetadata.Arn
	}
	pairs := func(n int, value string) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[string(rune('a'+i))] = value
		}
		return m
	}
	equals := func(m map[string]string) func(*awskms.CreateGrantInput) {
		return func(in *awskms.CreateGrantInput) {
			in.Constraints = &types.GrantConstraints{EncryptionContextEquals: m}
		}
	}
	grantee := func(arn string) func(*awskms.CreateGrantInput) {
		return func(in *awskms.CreateGrantInput) { in.GranteePrincipal = &arn }
	}
	operations := func(all ...types.GrantOperation) func(*awskms.CreateGrantInput) {
		return func(in *awskms.CreateGrantInput) { in.Operations = all }
	}
	source := &types.GrantConstraints{SourceArn: aws.String("arn:aws:s3:us-east-1:000000000000:bucket")}
	service := aws.String("s3.amazonaws.com")
	const validation, arn = "ValidationException", "InvalidArnException"
	for name, c := range map[string]struct {
		key    string
		change func(*awskms.CreateGrantInput)
		code   string
	}{
		"fits":            {"", operations("Encrypt", "Decrypt", "GenerateDataKeyPair", "ReEncryptTo", "DescribeKey", "RetireGrant", "CreateGrant"), ""},
		"fits, MAC":       {"mac", operations("GenerateMac", "VerifyMac", "DescribeKey"), ""},
		"fits, signing":   {"sign", operations("Sign", "Verify", "GetPublicKey"), ""},
		"fits, agreement": {"agree", operations("DeriveSharedSecret", "GetPublicKey"), ""},
		"twice":           {"", operations("Decrypt", "Decrypt"), ""},
		"eight pairs":     {"", equals(pairs(8, strings.Repeat("é", 384))), ""},
		"root":            {"", grantee(root(account)), ""},
		"unknown account": {"", grantee("arn:aws:iam::222222222222:role/anything"), ""},
		"dry run":         {"", func(in *awskms.CreateGrantInput) { in.DryRun = aws.Bool(true) }, "DryRunOperationException"},
		"nobody":          {"", func(in *awskms.CreateGrantInput) { in.GranteePrincipal = nil }, validation},
		"two grantees":    {"", func(in *awskms.CreateGrantInput) { in.GranteeServicePrincipal, in.Constraints = service, source }, validation},
		"two to retire": {"", func(in *awskms.CreateGrantInput) {
			in.RetiringPrincipal, in.RetiringServicePrincipal = in.GranteePrincipal, service
		}, validation},
		"service, no source": {"", func(in *awskms.CreateGrantInput) {
			in.GranteePrincipal, in.GranteeServicePrincipal, in.RetiringServicePrincipal = nil, service, service
		}, validation},
		"service, none retires": {"", func(in *awskms.CreateGrantInput) {
			in.GranteePrincipal, in.GranteeServicePrincipal, in.Constraints = nil, service, source
		}, validation},
		"no operations":       {"", operations([]types.GrantOperation{}...), validation},
		"unknown operation":   {"", operations("ScheduleKeyDeletion"), validation},
		"CreateGrant alone":   {"", operations("CreateGrant"), validation},
		"signing":             {"", operations("Decrypt", "Sign"), validation},
		"public key":          {"", operations("GetPublicKey"), validation},
		"MAC, data key":       {"mac", operations("GenerateDataKey"), validation},
		"signing, decryption": {"sign", operations("Decrypt"), validation},
		"agreement, signing":  {"agree", operations("Sign"), validation},
		"MAC, constraint":     {"mac", func(in *awskms.CreateGrantInput) { operations("GenerateMac")(in); equals(pairs(1, "x"))(in) }, validation},
		"nine pairs":          {"", equals(pairs(9, "x")), validation},
		"long value":          {"", equals(pairs(1, strings.Repeat("x", 385))), validation},
		"long context":        {"", equals(map[string]string{strings.Repeat("x", 8193): ""}), validation},
		"both constraints": {"", func(in *awskms.CreateGrantInput) {
			in.Constraints = &types.GrantConstraints{EncryptionContextEquals: pairs(1, "x"), EncryptionContextSubset: pairs(1, "x")}
		}, validation},
		"source is no ARN": {"", func(in *awskms.CreateGrantInput) {
			in.Constraints = &types.GrantConstraints{SourceArn: aws.String(strings.Repeat("x", 30))}
		}, validation},
		"name":                   {"", func(in *awskms.CreateGrantInput) { in.Name = aws.String("a b") }, validation},
		"everyone":               {"", grantee("*"), validation},
		"bare account":           {"", grantee(account), arn},
		"no such user":           {"", grantee(userARN("bob")), arn},
		"no such role":           {"", grantee("arn:aws:iam::" + account + ":role/alice"), arn},
		"session of no role":     {"", grantee("arn:aws:sts::" + account + ":assumed-role/alice/x"), arn},
		"service":                {"", grantee("s3.amazonaws.com"), arn},
		"group":                  {"", grantee("arn:aws:iam::" + account + ":group/all"), arn},
		"other partition":        {"", grantee("arn:aws-cn:iam::222222222222:role/r"), arn},
		"no principal":           {"", grantee("alice"), arn},
		"no such retiring user":  {"", func(in *awskms.CreateGrantInput) { in.RetiringPrincipal = aws.String(userARN("bob")) }, arn},
		"token":                  {"", func(in *awskms.CreateGrantInput) { in.GrantTokens = []string{"x"} }, "InvalidGrantTokenException"},
		"no key":                 {"", func(in *awskms.CreateGrantInput) { in.KeyId = aws.String("1234abcd-12ab-34cd-56ef-1234567890ab") }, "NotFoundException"},
		"alias":                  {"", func(in *awskms.CreateGrantInput) { in.KeyId = aws.String("alias/a") }, "NotFoundException"},
		"dry run that must fail": {"", func(in *awskms.CreateGrantInput) { in.DryRun = aws.Bool(true); grantee("alice")(in) }, arn},
	} {
		in := decrypting(keys[c.key], userARN("alice"))
		c.change(in)
		out, err := admin.CreateGrant(ctx, in)
		if c.code == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if len(*out.GrantId) != 64 {
				t.Errorf("%s: id %s", name, *out.GrantId)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if code, message, status, _ := refused(t, err); code != c.code || status != 400 || message == "" {
			t.Errorf("%s: %d %s %s, want %s", name, status, code, message, c.code)
		}
	}
	in := decrypting(keys[""], userARN("bob"))
	_, err := admin.CreateGrant(ctx, in)
	if _, message, _, _ := refused(t, err); message != "ARN does not refer to a valid principal: "+userARN("bob") {
		t.Error(message)
	}
	in = decrypting(keys[""], userARN("alice"))
	in.Operations = []types.GrantOperation{"CreateGrant", "CreateGrant"}
	_, err = admin.CreateGrant(ctx, in)
	if _, message, _, _ := refused(t, err); message != "Grants must not contain only the CreateGrant operation." {
		t.Error(message)
	}
	nobody := s.client(s.principal(kms.User, "nobody", allowAll(`"kms:*"`)), region)
	_, err = nobody.CreateGrant(ctx, decrypting(keys[""], userARN("alice")))
	wantCode(t, err, "AccessDeniedException")
}

// A grant is to a principal and not to its name: who is made later under the name of
// one that was removed gets nothing of it.
func TestGrantsOfRemovedPrincipals(t *testing.T) {
	s := newService(t)
	ctx, admin := t.Context(), s.adminClient()
	keyARN := s.key(adminPolicy)
	blob := s.sealed(keyARN, nil)
	in := decrypting(keyARN, userARN("alice"))
	in.Name, in.RetiringPrincipal = aws.String("n"), aws.String(userARN("alice"))
	in.Operations = append(in.Operations, "RetireGrant")
	decrypt := func(c *awskms.Client) error {
		_, err := c.Decrypt(ctx, &awskms.DecryptInput{CiphertextBlob: blob})
		return err
	}
	retirable := &awskms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(userARN("alice"))}
	alice := s.client(s.principal(kms.User, "alice"), region)
	old := s.grant(in)
	wantNil(t, decrypt(alice))
	_, err := s.kms.RemovePrincipal(ctx, "alice", "")
	wantNil(t, err)
	_, err = admin.CreateGrant(ctx, in)
	wantCode(t, err, "InvalidArnException")
	alice = s.client(s.principal(kms.User, "alice"), region)
	wantCode(t, decrypt(alice), "AccessDeniedException")
	for _, retire := range []*awskms.RetireGrantInput{{KeyId: &keyARN, GrantId: old.GrantId}, {GrantToken: old.GrantToken}} {
		_, err = alice.RetireGrant(ctx, retire)
		wantCode(t, err, "AccessDeniedException")
	}
	retired, err := admin.ListRetirableGrants(ctx, retirable)
	if err != nil || len(retired.Grants) != 0 {
		t.Errorf("to retire: %+v, %v", retired, err)
	}
	list, err := admin.ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN})
	wantNil(t, err)
	shown := *list.Grants[0].GranteePrincipal
	if !strings.HasPrefix(shown, "AIDA") || *list.Grants[0].RetiringPrincipal != shown {
		t.Errorf("shown as %s", shown)
	}
	for filter, want := range map[string]int{shown: 1, userARN("alice"): 0, "AIDA" + strings.Repeat("A", 17): 0} {
		list, err := admin.ListGrants(ctx, &awskms.ListGrantsInput{KeyId: &keyARN, GranteePrincipal: &filter})
		if err != nil || len(list.Grants) != want {
			t.Errorf("%d grants to %s, %v", len(list.Grants), filter, err)
		}
	}
	// The same request is one for somebody else now.
	again := s.grant(in)
	if *again.GrantId == *old.GrantId {
		t.Error("the old grant again")
	}
	wantNil(t, decrypt(alice))
	retired, err = admin.ListRetirableGrants(ctx, retirable)
	if err != nil || len(retired.Grants) != 1 || *retired.Grants[0].GrantId != *again.GrantId {
		t.Errorf("to retire: %+v, %v", retired, err)
	}
	s.revoke(keyARN, old.GrantId)
	_, err = alice.RetireGrant(ctx, &awskms.RetireGrantInput{GrantToken: again.GrantToken})
	wantNil(t, err)
}
