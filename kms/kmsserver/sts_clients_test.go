// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	awssts "github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/cretula/cretula/internal/need"
	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsserver"
)

// A URL that somebody else can open says who signed it, which is how Kubernetes
// learns who a client is.
func TestPresignedGetCallerIdentity(t *testing.T) {
	s, alice := assumable(t)
	session := s.mustAssume(provider(alice, ""))
	get := func(url string) (int, string) {
		r, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		wantNil(t, err)
		return r.StatusCode, string(body)
	}
	for who, p := range map[string]aws.CredentialsProvider{
		alicesARN: provider(alice, ""), "arn:aws:sts::000000000000:assumed-role/worker/job-1": session,
	} {
		signed, err := awssts.NewPresignClient(s.sts(p)).PresignGetCallerIdentity(t.Context(), &awssts.GetCallerIdentityInput{})
		wantNil(t, err)
		if status, body := get(signed.URL); status != 200 || !strings.Contains(body, "<Arn>"+who+"</Arn>") {
			t.Errorf("%s: %d %s", who, status, body)
		}
		if status, body := get(signed.URL + "&More=1"); status != 403 || !strings.Contains(body, "<Code>SignatureDoesNotMatch</Code>") {
			t.Errorf("%s, changed: %d %s", who, status, body)
		}
		if status, body := get(strings.Replace(signed.URL, "X-Amz-Signature=", "X-Amz-Signed=", 1)); status != 400 || !strings.Contains(body, "<Code>IncompleteSignature</Code>") {
			t.Errorf("%s, without signature: %d %s", who, status, body)
		}
		yes, no := true, false
		_, err = s.kms.ChangePrincipal(t.Context(), "alice", "", kms.PrincipalChange{Disabled: &yes})
		wantNil(t, err)
		if status, body := get(signed.URL); status != 403 || !strings.Contains(body, "<Code>InvalidClientTokenId</Code>") {
			t.Errorf("%s, disabled: %d %s", who, status, body)
		}
		_, err = s.kms.ChangePrincipal(t.Context(), "alice", "", kms.PrincipalChange{Disabled: &no})
		wantNil(t, err)
	}
}

// A server whose clock is ten minutes off refuses requests, whatever they are
// signed with; it says so as AWS does.
func TestClockOff(t *testing.T) {
	for name, off := range map[string]time.Duration{"fast": 10 * time.Minute, "slow": -10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			var c clock
			s, alice := assumable(t, func(config *kms.Config) { config.Now = c.now })
			wantText := "Signature expired: "
			if off < 0 {
				wantText = "Signature not yet current: "
			}
			handler, err := kmsserver.New(kmsserver.Config{KMS: s.kms, Now: c.now})
			wantNil(t, err)
			server := httptest.NewServer(handler)
			t.Cleanup(server.Close)
			s.url = server.URL
			session := s.mustAssume(provider(alice, ""))
			wantNil(t, describe(s, session, s.key("")))
			c.move(off)
			for _, p := range []aws.CredentialsProvider{provider(alice, ""), session} {
				_, err = s.kmsOf(p).ListKeys(t.Context(), &awskms.ListKeysInput{})
				if code, message, status, _ := refused(t, err); code != "InvalidSignatureException" || status != 400 || !strings.HasPrefix(message, wantText) {
					t.Errorf("%d %s %s", status, code, message)
				}
				_, err = s.sts(p).GetCallerIdentity(t.Context(), &awssts.GetCallerIdentityInput{})
				if code, message, status, _ := refused(t, err); code != "SignatureDoesNotMatch" || status != 403 || !strings.HasPrefix(message, wantText) {
					t.Errorf("%d %s %s", status, code, message)
				}
			}
		})
	}
}

// boto3, unmodified: its STS and KMS clients, and the errors that they make.
func TestBoto3STS(t *testing.T) {
	python := need.Program(t, "python3")
	if err := exec.Command(python, "-c", "import boto3").Run(); err != nil {
		t.Skip("python3 has no boto3")
	}
	s, alice := assumable(t)
	const script = `
import boto3, json, os
from botocore.exceptions import ClientError
url = os.environ["URL"]
def client(name, **c): return boto3.client(name, endpoint_url=url, region_name="us-east-1", **c)
out = {}
sts = client("sts")
out["user"] = sts.get_caller_identity()["Arn"]
r = sts.assume_role(RoleArn=os.environ["ROLE"], RoleSessionName="boto", Tags=[{"Key": "team", "Value": "red"}], TransitiveTagKeys=["team"], SourceIdentity="alice",
    Policy=json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kms:DescribeKey", "Resource": "*"}}))
out["role"], out["packed"], out["source"] = r["AssumedRoleUser"]["Arn"], r["PackedPolicySize"], r["SourceIdentity"]
c = r["Credentials"]
out["expires"] = str(c["Expiration"].tzinfo)
session = dict(aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"], aws_session_token=c["SessionToken"])
out["session"] = client("sts", **session).get_caller_identity()["Arn"]
out["key"] = client("kms", **session).describe_key(KeyId=os.environ["KEY"])["KeyMetadata"]["Arn"]
out["url"] = client("sts", **session).generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
t = sts.get_session_token(DurationSeconds=900)["Credentials"]
out["token"] = t["AccessKeyId"][:4]
def refused(f):
    try: f()
    except ClientError as e: return [e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"]]
session["aws_session_token"] = session["aws_session_token"][:-8] + "AAAAAAA="
out["tampered"] = refused(lambda: client("sts", **session).get_caller_identity())
out["denied"] = refused(lambda: sts.assume_role(RoleArn=os.environ["ROLE"] + "x", RoleSessionName="boto"))
out["policy"] = refused(lambda: sts.assume_role(RoleArn=os.environ["ROLE"], RoleSessionName="boto", Policy="{}"))
print(json.dumps(out))`
	key := s.key("")
	command := exec.Command(python, "-c", script)
	command.Env = append(os.Environ(), "URL="+s.url, "ROLE="+workerARN, "KEY="+key, "AWS_ACCESS_KEY_ID="+alice.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+alice.SecretAccessKey,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	text, err := command.Output()
	if err != nil {
		if e, ok := err.(*exec.ExitError); ok {
			t.Fatalf("%v: %s", err, e.Stderr)
		}
		t.Fatal(err)
	}
	var out map[string]any
	wantNil(t, json.Unmarshal(text, &out))
	const session = "arn:aws:sts::000000000000:assumed-role/worker/boto"
	if out["user"] != alicesARN || out["role"] != session || out["session"] != session || out["key"] != key || out["source"] != "alice" || out["token"] != "ASIA" || out["packed"].(float64) < 1 {
		t.Errorf("%s", text)
	}
	for name, want := range map[string][]any{"tampered": {"InvalidClientTokenId", 403.0}, "denied": {"AccessDenied", 403.0}, "policy": {"MalformedPolicyDocument", 400.0}} {
		if got, _ := out[name].([]any); len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Errorf("%s: %v", name, out[name])
		}
	}
	r, err := http.Get(out["url"].(string))
	wantNil(t, err)
	defer r.Body.Close()
	if body, _ := io.ReadAll(r.Body); r.StatusCode != 200 || !strings.Contains(string(body), session) {
		t.Errorf("presigned by boto3: %d %s", r.StatusCode, body)
	}
}

// The command line of AWS.
func TestAWSCommandSTS(t *testing.T) {
	program := need.Program(t, "aws")
	s, alice := assumable(t)
	run := func(env []string, args ...string) (string, error) {
		command := exec.Command(program, append(args, "--endpoint-url", s.url, "--region", "us-east-1", "--output", "json")...)
		command.Env = append(append(os.Environ(), "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_PAGER="), env...)
		text, err := command.CombinedOutput()
		return string(text), err
	}
	key := []string{"AWS_ACCESS_KEY_ID=" + alice.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + alice.SecretAccessKey}
	if text, err := run(key, "sts", "get-caller-identity"); err != nil || !strings.Contains(text, alicesARN) {
		t.Fatalf("%v: %s", err, text)
	}
	text, err := run(key, "sts", "assume-role", "--role-arn", workerARN, "--role-session-name", "cli")
	var out struct {
		Credentials struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	}
	if err != nil || json.Unmarshal([]byte(text), &out) != nil {
		t.Fatalf("%v: %s", err, text)
	}
	session := []string{"AWS_ACCESS_KEY_ID=" + out.Credentials.AccessKeyId, "AWS_SECRET_ACCESS_KEY=" + out.Credentials.SecretAccessKey, "AWS_SESSION_TOKEN=" + out.Credentials.SessionToken}
	if text, err := run(session, "sts", "get-caller-identity"); err != nil || !strings.Contains(text, "assumed-role/worker/cli") {
		t.Errorf("%v: %s", err, text)
	}
	s.remove("worker")
	if text, err := run(session, "sts", "get-caller-identity"); err == nil || !strings.Contains(text, "(InvalidClientTokenId) when calling the GetCallerIdentity operation: The security token included in the request is invalid.") {
		t.Errorf("%v: %s", err, text)
	}
}
