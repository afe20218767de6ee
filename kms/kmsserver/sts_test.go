// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/cretula/cretula/kms"
)

func provider(c kms.Credentials, token string) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, token)
}

func (s *service) sts(p aws.CredentialsProvider) *awssts.Client {
	return awssts.New(awssts.Options{Region: region, BaseEndpoint: aws.String(s.url), Retryer: aws.NopRetryer{}, Credentials: p})
}

func (s *service) kmsOf(p aws.CredentialsProvider) *awskms.Client {
	return awskms.New(awskms.Options{Region: region, BaseEndpoint: aws.String(s.url), Retryer: aws.NopRetryer{}, Credentials: p})
}

// ofSession are the credentials of an answer.
func ofSession(c *types.Credentials) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
}

// trusting is a trust policy for whom it names.
func trusting(principals ...string) string {
	quoted := make([]string, len(principals))
	for i, p := range principals {
		quoted[i] = quoteJSON(p)
	}
	return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":[` + strings.Join(quoted, ",") +
		`]},"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]}}`
}

const (
	alicesARN = "arn:aws:iam::000000000000:user/alice"
	workerARN = "arn:aws:iam::000000000000:role/batch/worker"
	mayUse    = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["kms:DescribeKey","kms:Encrypt","kms:CreateKey","kms:PutKeyPolicy"],"Resource":"*"}}`
)

// assumable is a service with a user and a role that she can assume.
func assumable(t *testing.T, change ...func(*kms.Config)) (s *service, alice kms.Credentials) {
	s = newService(t, change...)
	alice = s.principal(kms.User, "alice")
	s.role("batch/worker", trusting(alicesARN), mayUse)
	return s, alice
}

func (s *service) role(name, trust string, policies ...string) {
	s.t.Helper()
	c, err := s.kms.AddPrincipal(s.t.Context(), kms.Principal{Type: kms.Role, Name: name, Policies: policies, TrustPolicy: trust})
	if err != nil {
		s.t.Fatal(err)
	}
	if c != (kms.Credentials{}) {
		s.t.Error("a role that is assumed got an access key")
	}
}

func (s *service) assume(p aws.CredentialsProvider, change ...func(*awssts.AssumeRoleInput)) (*awssts.AssumeRoleOutput, error) {
	in := &awssts.AssumeRoleInput{RoleArn: aws.String(workerARN), RoleSessionName: aws.String("job-1")}
	for _, c := range change {
		c(in)
	}
	return s.sts(p).AssumeRole(s.t.Context(), in)
}

func (s *service) mustAssume(p aws.CredentialsProvider, change ...func(*awssts.AssumeRoleInput)) aws.CredentialsProvider {
	s.t.Helper()
	out, err := s.assume(p, change...)
	if err != nil {
		s.t.Fatal(err)
	}
	return ofSession(out.Credentials)
}

func describe(s *service, p aws.CredentialsProvider, key string) error {
	_, err := s.kmsOf(p).DescribeKey(s.t.Context(), &awskms.DescribeKeyInput{KeyId: &key})
	return err
}

func TestAssumeRole(t *testing.T) {
	s, alice := assumable(t)
	key := s.key("")
	out, err := s.assume(provider(alice, ""))
	if err != nil {
		t.Fatal(err)
	}
	worker, err := s.kms.FindPrincipal(t.Context(), "worker", "")
	wantNil(t, err)
	const session = "arn:aws:sts::000000000000:assumed-role/worker/job-1"
	if *out.AssumedRoleUser.Arn != session || *out.AssumedRoleUser.AssumedRoleId != worker.ID+":job-1" || *out.SessionTokenSize != int32(len(*out.Credentials.SessionToken)) || *out.SessionTokenUtilization < 1 || *out.SessionTokenUtilization > 10 || out.SourceIdentity != nil {
		t.Errorf("%+v", out)
	}
	c := out.Credentials
	if !strings.HasPrefix(*c.AccessKeyId, "ASIA") || len(*c.AccessKeyId) != 20 || len(*c.SecretAccessKey) != 40 || time.Until(*c.Expiration).Round(time.Minute) != time.Hour {
		t.Errorf("credentials %s, expire %v", *c.AccessKeyId, c.Expiration)
	}
	if err := describe(s, ofSession(c), key); err != nil {
		t.Errorf("the session: %v", err)
	}
	who, err := s.sts(ofSession(c)).GetCallerIdentity(t.Context(), &awssts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != session || *who.UserId != worker.ID+":job-1" || *who.Account != account {
		t.Errorf("%+v, %v", who, err)
	}
	who, err = s.sts(provider(alice, "")).GetCallerIdentity(t.Context(), &awssts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != alicesARN || !strings.HasPrefix(*who.UserId, "AIDA") {
		t.Errorf("%+v, %v", who, err)
	}
	wantCode(t, describe(s, provider(alice, ""), key), "AccessDeniedException")

	event := s.lastEvent(t, "AssumeRole")
	if text := fmt.Sprint(event); strings.Contains(text, *c.SecretAccessKey) || strings.Contains(text, *c.SessionToken) {
		t.Error("a secret is on record")
	}
	if event["eventSource"] != "sts.amazonaws.com" || event["outcome"] != "allowed" || event["readOnly"] != true ||
		!strings.Contains(fmt.Sprint(event["requestParameters"]), "roleArn:"+workerARN) || !strings.Contains(fmt.Sprint(event["resources"]), workerARN) ||
		!strings.Contains(fmt.Sprint(event["responseElements"]), *c.AccessKeyId) || !strings.Contains(fmt.Sprint(event["policyDecision"]), "trust") {
		t.Errorf("event %v", event)
	}

	used, err := s.kmsOf(ofSession(c)).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
	if err != nil || used == nil {
		t.Fatal(err)
	}
	identity := s.lastEvent(t, "Encrypt")["userIdentity"].(map[string]any)
	context := identity["sessionContext"].(map[string]any)
	if identity["type"] != "AssumedRole" || identity["arn"] != session || identity["principalId"] != worker.ID+":job-1" || identity["accessKeyId"] != *c.AccessKeyId ||
		context["sessionIssuer"].(map[string]any)["arn"] != workerARN || context["attributes"].(map[string]any)["creationDate"] == nil {
		t.Errorf("identity %v", identity)
	}
}

// The SDK's own provider of credentials, and one that chains.
func TestAssumeRoleProvider(t *testing.T) {
	s, alice := assumable(t)
	s.role("second", trusting(workerARN), mayUse)
	_, err := s.kms.ChangePrincipal(t.Context(), "worker", "", kms.PrincipalChange{Policies: &[]string{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:*","Resource":"*"}}`}})
	wantNil(t, err)
	first := stscreds.NewAssumeRoleProvider(s.sts(provider(alice, "")), workerARN)
	second := stscreds.NewAssumeRoleProvider(s.sts(aws.NewCredentialsCache(first)), "arn:aws:iam::000000000000:role/second")
	if err := describe(s, aws.NewCredentialsCache(second), s.key("")); err != nil {
		t.Error(err)
	}
	_, err = stscreds.NewAssumeRoleProvider(s.sts(first), "arn:aws:iam::000000000000:role/second", func(o *stscreds.AssumeRoleOptions) { o.Duration = 2 * time.Hour }).Retrieve(t.Context())
	code, message, status, _ := refused(t, err)
	if code != "ValidationError" || status != 400 || !strings.Contains(message, "1 hour session limit for roles assumed by role chaining") {
		t.Errorf("%d %s %s", status, code, message)
	}
	// Who is at the beginning of the chain can end it.
	chained, err := second.Retrieve(t.Context())
	wantNil(t, err)
	no := true
	_, err = s.kms.ChangePrincipal(t.Context(), "alice", "", kms.PrincipalChange{Disabled: &no})
	wantNil(t, err)
	wantCode(t, describe(s, credentials.StaticCredentialsProvider{Value: chained}, s.key("")), "UnrecognizedClientException")
}

func TestAssumeRoleRefusals(t *testing.T) {
	s, alice := assumable(t)
	s.principal(kms.User, "mallory", kms.AdminPolicy)
	s.principal(kms.Role, "untrusting")
	for _, c := range []struct {
		name    string
		change  func(*awssts.AssumeRoleInput)
		code    string
		message string
	}{
		{"another role", func(in *awssts.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::000000000000:role/none") }, "AccessDenied",
			"User: " + alicesARN + " is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::000000000000:role/none because no role trust policy allows the sts:AssumeRole action"},
		{"without its path", func(in *awssts.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::000000000000:role/worker") }, "AccessDenied", "because no role trust policy allows"},
		{"a user", func(in *awssts.AssumeRoleInput) { in.RoleArn = aws.String(alicesARN) }, "ValidationError", " is invalid"},
		{"no ARN", func(in *awssts.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::00:role/worker") }, "ValidationError", " is invalid"},
		{"short ARN", func(in *awssts.AssumeRoleInput) { in.RoleArn = aws.String("worker") }, "ValidationError",
			"1 validation error detected: Value 'worker' at 'roleArn' failed to satisfy constraint: Member must have length greater than or equal to 20"},
		{"session name", func(in *awssts.AssumeRoleInput) { in.RoleSessionName = aws.String("a b") }, "ValidationError",
			`Value 'a b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*`},
		{"short session name", func(in *awssts.AssumeRoleInput) { in.RoleSessionName = aws.String("a") }, "ValidationError", "greater than or equal to 2"},
		{"too short", func(in *awssts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(899) }, "ValidationError", "greater than or equal to 900"},
		{"too long", func(in *awssts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(43201) }, "ValidationError", "less than or equal to 43200"},
		{"longer than the role's", func(in *awssts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(3601) }, "ValidationError",
			"The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{"managed policies", func(in *awssts.AssumeRoleInput) {
			in.PolicyArns = []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/ReadOnlyAccess")}}
		}, "UnsupportedOperation", "PolicyArns"},
		{"MFA", func(in *awssts.AssumeRoleInput) {
			in.SerialNumber, in.TokenCode = aws.String("arn:aws:iam::000000000000:mfa/x"), aws.String("123456")
		}, "AccessDenied", "MultiFactorAuthentication failed"},
		{"policy", func(in *awssts.AssumeRoleInput) { in.Policy = aws.String(`{"Statement":1}`) }, "MalformedPolicyDocument", ""},
		{"long policy", func(in *awssts.AssumeRoleInput) { in.Policy = aws.String(strings.Repeat(" ", 2049)) }, "ValidationError", "less than or equal to 2048"},
		{"tag twice", func(in *awssts.AssumeRoleInput) { in.Tags = tags("team", "a", "Team", "b") }, "InvalidParameterValue", "Duplicate tag keys"},
		{"tag twice as it is folded", func(in *awssts.AssumeRoleInput) { in.Tags = tags("unit", "a", "un\u0130t", "b") }, "InvalidParameterValue", "Duplicate tag keys"},
		{"reserved tag", func(in *awssts.AssumeRoleInput) { in.Tags = tags("aws:x", "a") }, "InvalidParameterValue", "reserved"},
		{"transitive", func(in *awssts.AssumeRoleInput) { in.TransitiveTagKeys = []string{"team"} }, "InvalidParameterValue", "must be included in the requested tags"},
		{"tag key", func(in *awssts.AssumeRoleInput) { in.Tags = tags("a*", "a") }, "ValidationError", "tags.1.member.key"},
		{"packed", func(in *awssts.AssumeRoleInput) { in.Tags = manyTags(20) }, "PackedPolicyTooLarge", "Packed size of session tags and policies consumes"},
		{"too many tags", func(in *awssts.AssumeRoleInput) { in.Tags = manyTags(51) }, "ValidationError", "less than or equal to 50"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.assume(provider(alice, ""), c.change)
			if err == nil {
				t.Fatal("assumed")
			}
			code, message, status, decision := refused(t, err)
			wantStatus := 400
			if c.code == "AccessDenied" {
				wantStatus = 403
			}
			if code != c.code || !strings.Contains(message, c.message) || status != wantStatus || decision == "" {
				t.Errorf("%d %s: %s", status, code, message)
			}
			if event := s.lastEvent(t, "AssumeRole"); event["errorCode"] != c.code && event["errorCode"] != "ValidationError" {
				t.Errorf("on record: %v", event["errorCode"])
			}
		})
	}
	_, err := s.assume(provider(s.principal(kms.User, "eve", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`), ""))
	wantCode(t, err, "AccessDenied")
	_, err = s.assume(provider(alice, ""), func(in *awssts.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::000000000000:role/untrusting") })
	if _, message, _, _ := refused(t, err); !strings.Contains(message, "because no role trust policy allows") {
		t.Error(message)
	}
}

func tags(pairs ...string) (list []types.Tag) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return list
}

func manyTags(n int) (list []types.Tag) {
	for i := range n {
		list = append(list, tags(fmt.Sprint("key", i), strings.Repeat("v", 256))...)
	}
	return list
}

// What the trust policy asks of a request.
func TestTrustConditions(t *testing.T) {
	s := newService(t)
	alice := s.principal(kms.User, "alice")
	condition := func(c string) string {
		return strings.Replace(trusting(alicesARN), `"Action"`, `"Condition":`+c+`,"Action"`, 1)
	}
	for name, c := range map[string]struct {
		condition string
		good      func(*awssts.AssumeRoleInput)
		bad       func(*awssts.AssumeRoleInput)
	}{
		"external id": {`{"StringEquals":{"sts:ExternalId":"e-1"}}`,
			func(in *awssts.AssumeRoleInput) { in.ExternalId = aws.String("e-1") }, func(in *awssts.AssumeRoleInput) { in.ExternalId = aws.String("e-2") }},
		"no external id": {`{"StringEquals":{"sts:ExternalId":"e-1"}}`,
			func(in *awssts.AssumeRoleInput) { in.ExternalId = aws.String("e-1") }, func(in *awssts.AssumeRoleInput) {}},
		"session name": {`{"StringLike":{"sts:RoleSessionName":"job-*"}}`,
			func(in *awssts.AssumeRoleInput) {}, func(in *awssts.AssumeRoleInput) { in.RoleSessionName = aws.String("other") }},
		"tags": {`{"StringEquals":{"aws:RequestTag/team":"red"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]}}`,
			func(in *awssts.AssumeRoleInput) { in.Tags = tags("team", "red") }, func(in *awssts.AssumeRoleInput) { in.Tags = tags("team", "red", "more", "x") }},
		"source identity": {`{"StringEquals":{"sts:SourceIdentity":"alice"}}`,
			func(in *awssts.AssumeRoleInput) { in.SourceIdentity = aws.String("alice") }, func(in *awssts.AssumeRoleInput) { in.SourceIdentity = aws.String("bob") }},
		"duration": {`{"NumericLessThanEquals":{"sts:DurationSeconds":"900"}}`,
			func(in *awssts.AssumeRoleInput) { in.DurationSeconds = aws.Int32(900) }, func(in *awssts.AssumeRoleInput) {}},
	} {
		t.Run(name, func(t *testing.T) {
			s.role("batch/worker", condition(c.condition))
			defer s.remove("worker")
			if _, err := s.assume(provider(alice, ""), c.good); err != nil {
				t.Error(err)
			}
			_, err := s.assume(provider(alice, ""), c.bad)
			wantCode(t, err, "AccessDenied")
		})
	}
	// Tags and source identities need rights of their own.
	s.role("batch/worker", strings.Replace(trusting(alicesARN), `,"sts:TagSession","sts:SetSourceIdentity"`, "", 1))
	for what, change := range map[string]func(*awssts.AssumeRoleInput){
		"sts:TagSession":        func(in *awssts.AssumeRoleInput) { in.Tags = tags("team", "red") },
		"sts:SetSourceIdentity": func(in *awssts.AssumeRoleInput) { in.SourceIdentity = aws.String("alice") },
	} {
		_, err := s.assume(provider(alice, ""), change)
		if code, message, _, _ := refused(t, err); code != "AccessDenied" || !strings.Contains(message, "perform: "+what) {
			t.Errorf("%s: %s %s", what, code, message)
		}
	}
}

// A role made anew under the name of one that a trust policy names is another one.
func TestTrustOfRemoved(t *testing.T) {
	s, _ := assumable(t)
	s.remove("alice")
	_, err := s.assume(provider(s.principal(kms.User, "alice"), ""))
	wantCode(t, err, "AccessDenied")
	_, err = s.kms.AddPrincipal(t.Context(), kms.Principal{Type: kms.Role, Name: "x", TrustPolicy: trusting("arn:aws:iam::000000000000:user/none")})
	if !errors.Is(err, kms.ErrPrincipal) {
		t.Errorf("trust in nobody: %v", err)
	}
}

// A session policy takes away and gives nothing.
func TestSessionPolicy(t *testing.T) {
	s, alice := assumable(t)
	key := s.key("")
	narrow := s.mustAssume(provider(alice, ""), func(in *awssts.AssumeRoleInput) {
		in.Policy = aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["kms:DescribeKey","kms:ListKeys"],"Resource":"*"}}`)
	})
	if err := describe(s, narrow, key); err != nil {
		t.Error(err)
	}
	_, err := s.kmsOf(narrow).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
	if _, message, _, _ := refused(t, err); !strings.HasSuffix(message, "because no session policy allows the kms:Encrypt action") {
		t.Error(message)
	}
	_, err = s.kmsOf(narrow).ListKeys(t.Context(), &awskms.ListKeysInput{})
	wantCode(t, err, "AccessDeniedException")
	long := strings.Repeat(" ", 1500) + `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`
	s.mustAssume(provider(alice, ""), func(in *awssts.AssumeRoleInput) { in.Policy = &long })
	s.wantParameter(t, "AssumeRole", "policy", long) // what the session may do is on record
}

// Tags, the source identity and the rest of a session are condition keys.
func TestSessionConditions(t *testing.T) {
	s, alice := assumable(t)
	s.role("second", trusting(workerARN), mayUse)
	one := func(in *awssts.AssumeRoleInput) {
		in.Tags, in.TransitiveTagKeys = tags("team", "red", "own", "1", "unit", "a"), []string{"team", "unit"}
		in.SourceIdentity = aws.String("alice@example")
	}
	first := s.mustAssume(provider(alice, ""), one)
	s.wantParameter(t, "AssumeRole", "tags", "[map[key:team value:red] map[key:own value:1] map[key:unit value:a]]")
	s.wantParameter(t, "AssumeRole", "transitiveTagKeys", "[team unit]")
	second := s.mustAssume(first, func(in *awssts.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::000000000000:role/second") })
	s.wantParameter(t, "AssumeRole", "incomingTransitiveTags", "map[team:red unit:a]")
	must := func(p aws.CredentialsProvider, role, condition string, ok bool) {
		t.Helper()
		key := s.key(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/admin"},"Action":"kms:*","Resource":"*"},` +
			`{"Effect":"Allow","Principal":{"AWS":"` + role + `"},"Action":"kms:DescribeKey","Resource":"*","Condition":` + condition + `}]}`)
		if err := describe(s, p, key); (err == nil) != ok {
			t.Errorf("%s: %v", condition, err)
		}
	}
	const secondARN = "arn:aws:iam::000000000000:role/second"
	must(first, workerARN, `{"StringEquals":{"aws:PrincipalTag/Team":"red","aws:PrincipalTag/own":"1"}}`, true)
	must(second, secondARN, `{"StringEquals":{"aws:PrincipalTag/team":"red"},"Null":{"aws:PrincipalTag/own":"true"}}`, true)
	must(second, secondARN, `{"StringEquals":{"aws:SourceIdentity":"alice@example"},"Bool":{"aws:MultiFactorAuthPresent":"false"}}`, true)
	must(second, secondARN, `{"DateGreaterThan":{"aws:TokenIssueTime":"2020-01-01T00:00:00Z"}}`, true)
	must(second, secondARN, `{"StringLike":{"aws:userid":"*:job-1"}}`, true)
	must(second, secondARN, `{"StringEquals":{"aws:PrincipalTag/team":"blue"}}`, false)
	must(second, secondARN, `{"DateLessThan":{"aws:TokenIssueTime":"2020-01-01T00:00:00Z"}}`, false)
	// What is passed on cannot be changed.
	for _, change := range []func(*awssts.AssumeRoleInput){
		func(in *awssts.AssumeRoleInput) { in.Tags = tags("TEAM", "blue") },
		func(in *awssts.AssumeRoleInput) { in.Tags = tags("un\u0130t", "b") }, // as condition keys are folded
		func(in *awssts.AssumeRoleInput) { in.SourceIdentity = aws.String("bob") },
	} {
		_, err := s.assume(first, func(in *awssts.AssumeRoleInput) { in.RoleArn = aws.String(secondARN); change(in) })
		if code, message, _, _ := refused(t, err); code != "InvalidParameterValue" && code != "AccessDenied" {
			t.Errorf("%s %s", code, message)
		}
	}
}

func TestGetSessionToken(t *testing.T) {
	s := newService(t)
	key := s.key("")
	alice := s.principal(kms.User, "alice", kms.AdminPolicy)
	out, err := s.sts(provider(alice, "")).GetSessionToken(t.Context(), &awssts.GetSessionTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(*out.Credentials.Expiration).Round(time.Minute); left != 12*time.Hour {
		t.Errorf("expires in %v", left)
	}
	if *out.SessionTokenSize != int32(len(*out.Credentials.SessionToken)) || *out.SessionTokenUtilization < 1 {
		t.Errorf("%d bytes, %d percent", *out.SessionTokenSize, *out.SessionTokenUtilization)
	}
	session := ofSession(out.Credentials)
	if err := describe(s, session, key); err != nil {
		t.Error(err)
	}
	who, err := s.sts(session).GetCallerIdentity(t.Context(), &awssts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != alicesARN {
		t.Errorf("%+v, %v", who, err)
	}
	if _, err := s.kmsOf(session).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &key, Plaintext: []byte("x")}); err != nil {
		t.Error(err)
	}
	identity := s.lastEvent(t, "Encrypt")["userIdentity"].(map[string]any)
	if identity["type"] != "IAMUser" || identity["userName"] != "alice" || identity["sessionContext"].(map[string]any)["sessionIssuer"] != nil {
		t.Errorf("identity %v", identity)
	}
	_, err = s.sts(session).GetSessionToken(t.Context(), &awssts.GetSessionTokenInput{})
	if code, message, status, _ := refused(t, err); code != "AccessDenied" || status != 403 || message != "Cannot call GetSessionToken with session credentials" {
		t.Errorf("%d %s %s", status, code, message)
	}
	for _, seconds := range []int32{899, 129601} {
		_, err = s.sts(provider(alice, "")).GetSessionToken(t.Context(), &awssts.GetSessionTokenInput{DurationSeconds: &seconds})
		wantCode(t, err, "ValidationError")
	}
	_, err = s.sts(provider(s.principal(kms.Role, "r"), "")).GetSessionToken(t.Context(), &awssts.GetSessionTokenInput{})
	wantCode(t, err, "AccessDenied")
}

// The protocol, by hand.
func TestSTSWire(t *testing.T) {
	s := newService(t)
	post := func(form url.Values) (int, string, http.Header) {
		answer, err := http.PostForm(s.url, form)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		wantNil(t, err)
		return answer.StatusCode, string(body), answer.Header
	}
	base := url.Values{"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}}
	with := func(pairs ...string) url.Values {
		form := maps.Clone(base)
		for i := 0; i < len(pairs); i += 2 {
			form[pairs[i]] = append(slices.Clone(form[pairs[i]]), pairs[i+1])
		}
		return form
	}
	status, body, header := post(base)
	want := "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    <Code>MissingAuthenticationToken</Code>\n" +
		"    <Message>Request is missing Authentication Token</Message>\n  </Error>\n  <RequestId>" + header.Get("x-amzn-RequestId") + "</RequestId>\n</ErrorResponse>\n"
	if status != 403 || body != want || header.Get("Content-Type") != "text/xml" {
		t.Errorf("%d %s\nwant %s", status, body, want)
	}
	for _, c := range []struct {
		form   url.Values
		status int
		code   string
	}{
		{url.Values{"Action": {"GetFederationToken"}, "Version": {"2011-06-15"}}, 400, "InvalidAction"},
		{url.Values{"Action": {"GetCallerIdentity"}, "Version": {"2010-01-01"}}, 400, "InvalidAction"},
		{url.Values{}, 400, "InvalidAction"},
		{with("Action", "AssumeRole"), 400, "MalformedInput"},
		{url.Values{"Action": {strings.Repeat("<", 1<<10)}}, 400, "InvalidAction"},
	} {
		status, body, _ := post(c.form)
		if status != c.status || !strings.Contains(body, "<Code>"+c.code+"</Code>") || len(body) > 2048 {
			t.Errorf("%v: %d %s", c.form, status, body)
		}
	}
}
