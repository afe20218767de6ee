// SPDX-License-Identifier: Apache-2.0

package kmsserver_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cretula/cretula/kms"
	"github.com/cretula/cretula/kms/kmsapi"
)

// However a request is damaged, it is the client's fault: no internal error, no
// panic.
func TestMutatedRequests(t *testing.T) {
	s, role, keyARN, sealed := attestedService(t)
	owner, _, err := s.kms.AccessKey(t.Context(), role.AccessKeyID)
	if err != nil {
		t.Fatal(err)
	}
	admin, _, err := s.kms.AccessKey(t.Context(), s.admin.AccessKeyID)
	if err != nil {
		t.Fatal(err)
	}
	recipient := `"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"` + base64Of(document(t)) + `"}`
	bodies := map[string]string{
		"CreateKey":       `{"Description":"x","KeyUsage":"ENCRYPT_DECRYPT","KeySpec":"SYMMETRIC_DEFAULT","Tags":[{"TagKey":"a","TagValue":"b"}],"MultiRegion":false,"Policy":` + quoteJSON(adminPolicy) + `}`,
		"Decrypt":         `{"KeyId":"` + keyARN + `","CiphertextBlob":"` + base64Of(sealed) + `","EncryptionContext":{"a":"b"},` + recipient + `}`,
		"DescribeKey":     `{"KeyId":"` + keyARN + `","GrantTokens":["a"]}`,
		"Encrypt":         `{"KeyId":"` + keyARN + `","Plaintext":"AAAA","EncryptionContext":{"a":"b","c":"d"},"EncryptionAlgorithm":"SYMMETRIC_DEFAULT","DryRun":false}`,
		"GenerateDataKey": `{"KeyId":"` + keyARN + `","NumberOfBytes":32,` + recipient + `}`,
		"GenerateRandom":  `{"NumberOfBytes":32,` + recipient + `}`,
		"GetKeyPolicy":    `{"KeyId":"` + keyARN + `","PolicyName":"default"}`,
		"ListKeys":        `{"Limit":10,"Marker":"MTIzNGFiY2QtMTJhYi0zNGNkLTU2ZWYtMTIzNDU2Nzg5MGFi"}`,
		"PutKeyPolicy":    `{"KeyId":"` + keyARN + `","Policy":` + quoteJSON(attested("*", registers(1))) + `,"BypassPolicyLockoutSafetyCheck":true}`,
	}
	random := rand.New(rand.NewPCG(1, 2))
	const rounds = 120
	for name, body := range bodies {
		if op := kmsapi.Lookup(name); op == nil {
			t.Fatalf("%s is not built", name)
		}
		for range rounds {
			damaged := mutate(random, []byte(body))
			for _, p := range []kms.Principal{owner, admin} {
				_, err := s.kms.Call(t.Context(), &kms.Caller{Principal: p, Region: region}, name, damaged)
				if e, ok := errors.AsType[*kmsapi.Error](err); err != nil && (!ok || e.HTTPStatus() != 400) {
					t.Errorf("%s: %v for %q", name, err, damaged)
				}
			}
		}
	}
}

// mutate changes, removes, doubles or exchanges some bytes.
func mutate(random *rand.Rand, body []byte) []byte {
	out := bytes.Clone(body)
	for range 1 + random.IntN(3) {
		if len(out) < 2 {
			break
		}
		i := random.IntN(len(out))
		j := i + random.IntN(min(len(out)-i, 16))
		switch random.IntN(5) {
		case 0:
			out[i] ^= 1 << random.IntN(8)
		case 1:
			out = append(out[:i:i], out[j:]...)
		case 2:
			out = append(out[:j:j], out[i:]...)
		case 3:
			out[i], out[j] = out[j], out[i]
		case 4:
			out[i] = `{}[]",:0-\`[random.IntN(10)]
		}
	}
	return out
}
