// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cretula/cretula/internal/need"
)

// python returns a Python that has boto3: the first in the path may be one
// without, beside the system's own.
func python(t *testing.T) string {
	t.Helper()
	for _, path := range []string{need.Program(t, "python3"), "/usr/bin/python3"} {
		if exec.Command(path, "-c", "import boto3").Run() == nil {
			return path
		}
	}
	// No program has this name: it is how need learns what is missing.
	return need.Program(t, "python3 with boto3")
}

// boto3Script does with boto3 what a user's script does, and prints what came of
// it. boto3 and botocore find endpoint, region and access key by themselves, but
// for the endpoint: versions before 1.28 do not read AWS_ENDPOINT_URL_KMS.
const boto3Script = `
import base64, json, os, boto3, botocore.exceptions
kms = boto3.client('kms', endpoint_url=os.environ['AWS_ENDPOINT_URL_KMS'], region_name=os.environ['AWS_REGION'])
out = {}

def refused(name, operation, **parameters):
    try:
        operation(**parameters)
        out[name] = {'code': 'none'}
    except botocore.exceptions.ClientError as e:
        r = e.response
        out[name] = {'code': r['Error']['Code'], 'message': r['Error']['Message'], 'type': type(e).__name__,
                     'status': r['ResponseMetadata']['HTTPStatusCode'], 'request_id': r['ResponseMetadata'].get('RequestId', '')}

created = kms.create_key(Description='from Python', Tags=[{'TagKey': 'team', 'TagValue': 'orders'}])['KeyMetadata']
other = kms.create_key()['KeyMetadata']['Arn']
arn, context = created['Arn'], {'table': 'orders', 'name': 'Zoë'}
out['arn'], out['created_year'] = arn, created['CreationDate'].year
out['tags'] = kms.list_resource_tags(KeyId=arn)['Tags']
described = kms.describe_key(KeyId=created['KeyId'])['KeyMetadata']
out['described'] = [described['Arn'], described['Description'], described['KeyState'], described['KeySpec']]
out['same_date'] = described['CreationDate'] == created['CreationDate']

secret = bytes(range(256))
sealed = kms.encrypt(KeyId=arn, Plaintext=secret, EncryptionContext=context)['CiphertextBlob']
opened = kms.decrypt(CiphertextBlob=sealed, EncryptionContext=context)
out['opened'] = opened['Plaintext'] == secret and opened['KeyId'] == arn
data_key = kms.generate_data_key(KeyId=arn, KeySpec='AES_256')
out['data_key'] = len(data_key['Plaintext']) == 32 and kms.decrypt(CiphertextBlob=data_key['CiphertextBlob'])['Plaintext'] == data_key['Plaintext']
pages = [[k['KeyArn'] for k in page['Keys']] for page in kms.get_paginator('list_keys').paginate(PaginationConfig={'PageSize': 1})]
out['pages'] = sorted(map(len, pages))
out['listed'] = sorted(sum(pages, [])) == sorted([arn, other])

refused('other_context', kms.decrypt, CiphertextBlob=sealed, EncryptionContext={'table': 'customers'})
refused('other_key', kms.decrypt, CiphertextBlob=sealed, EncryptionContext=context, KeyId=other)
refused('altered', kms.decrypt, CiphertextBlob=sealed[:-1] + bytes([sealed[-1] ^ 1]), EncryptionContext=context)
refused('absent', kms.describe_key, KeyId='00000000-0000-4000-8000-000000000000')
refused('page_size', kms.list_keys, Limit=1001)
refused('reserved_alias', kms.create_alias, AliasName='alias/aws/orders', TargetKeyId=arn)
kms.create_alias(AliasName='alias/orders', TargetKeyId=arn)
refused('alias_taken', kms.create_alias, AliasName='alias/orders', TargetKeyId=other)
kms.disable_key(KeyId=arn)
refused('disabled', kms.encrypt, KeyId='alias/orders', Plaintext=b'x')
nobody = boto3.client('kms', endpoint_url=os.environ['AWS_ENDPOINT_URL_KMS'], region_name=os.environ['AWS_REGION'],
                      aws_access_key_id=os.environ['NOBODY_ID'], aws_secret_access_key=os.environ['NOBODY_SECRET'])
refused('denied', nobody.describe_key, KeyId=arn)
print(json.dumps(out))
`

// boto3Error is what boto3 makes of an error answer.
type boto3Error struct {
	Code, Message, Type string
	Status              int
	RequestID           string `json:"request_id"`
}

func TestBoto3(t *testing.T) {
	program := python(t)
	s := start(t)
	s.exportEnv(t, s.admin())
	nobody := s.addUser(t, "nobody", "")
	cmd := exec.Command(program, "-c", boto3Script)
	cmd.Env = append(os.Environ(), "NOBODY_ID="+nobody.id, "NOBODY_SECRET="+nobody.secret)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	printed, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(printed, &out); err != nil {
		t.Fatal(err)
	}
	var arn string
	if err := json.Unmarshal(out["arn"], &arn); err != nil || !strings.HasPrefix(arn, "arn:aws:kms:us-east-1:000000000000:key/") {
		t.Fatalf("ARN %s", out["arn"])
	}
	for name, want := range map[string]string{
		"tags":      `[{"TagKey": "team", "TagValue": "orders"}]`,
		"described": `["` + arn + `", "from Python", "Enabled", "SYMMETRIC_DEFAULT"]`,
		"same_date": "true", "opened": "true", "data_key": "true", "pages": "[1, 1]", "listed": "true",
	} {
		if got := string(out[name]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]struct{ code, kind, text string }{
		// botocore shows an answer without a message as an empty one.
		"other_context":  {"InvalidCiphertextException", "InvalidCiphertextException", ""},
		"other_key":      {"IncorrectKeyException", "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."},
		"altered":        {"InvalidCiphertextException", "InvalidCiphertextException", ""},
		"absent":         {"NotFoundException", "NotFoundException", "Key 'arn:aws:kms:us-east-1:000000000000:key/" + absentKey + "' does not exist"},
		"page_size":      {"ValidationException", "ClientError", "1 validation error detected: Value '1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000"},
		"reserved_alias": {"InvalidAliasNameException", "InvalidAliasNameException", ""},
		"alias_taken":    {"AlreadyExistsException", "AlreadyExistsException", "An alias with the name arn:aws:kms:us-east-1:000000000000:alias/orders already exists"},
		"disabled":       {"DisabledException", "DisabledException", arn + " is disabled."},
		"denied":         {"AccessDeniedException", "ClientError", "User: arn:aws:iam::000000000000:user/nobody is not authorized to perform: kms:DescribeKey on resource: " + arn},
	} {
		var got boto3Error
		if err := json.Unmarshal(out[name], &got); err != nil {
			t.Errorf("%s: %s", name, out[name])
			continue
		}
		if got.Code != want.code || got.Type != want.kind || got.Status != 400 || !strings.HasPrefix(got.Message, want.text) || len(got.RequestID) != 36 {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}
