// SPDX-License-Identifier: Apache-2.0

package enclave

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"github.com/cretula/cretula/nsm"
)

func TestFiveOperations(t *testing.T) {
	fake := newFakeKMS(t)
	device := &fakeDevice{}
	client := fake.client(newAttestor(t, Options{Device: device}))
	for i, op := range operations {
		result, sealed, err := op.call(context.Background(), client, keyARN)
		if err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
		if !bytes.Equal(result, secretOf(op.name)) {
			t.Errorf("%s: result %q", op.name, result)
		}
		if sealed != nil {
			t.Errorf("%s: CiphertextForRecipient is left in the output", op.name)
		}
		if got := device.count(); got != i+1 {
			t.Errorf("%s: %d documents after %d calls", op.name, got, i+1)
		}
	}
	documents := map[string]bool{}
	for _, r := range fake.seen() {
		documents[string(r.document)] = true
	}
	if len(documents) != len(operations) {
		t.Errorf("%d different documents for %d calls", len(documents), len(operations))
	}
	for _, r := range device.calls {
		if r.UserData != nil || r.Nonce != nil {
			t.Error("a document with user data or nonce")
		}
	}
}

// TestOtherMembers: what stands beside the result comes through.
func TestOtherMembers(t *testing.T) {
	fake := newFakeKMS(t)
	client := fake.client(newAttestor(t, Options{Device: &fakeDevice{}}))
	key, err := client.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: aws.String("alias/x"), KeySpec: types.DataKeySpecAes256, EncryptionContext: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if string(key.CiphertextBlob) != "ciphertext" || aws.ToString(key.KeyId) != keyARN {
		t.Errorf("output %q %q", key.CiphertextBlob, aws.ToString(key.KeyId))
	}
	sent := fake.seen()[0].body
	if sent["KeySpec"] != "AES_256" || sent["KeyId"] != "alias/x" || fmt.Sprint(sent["EncryptionContext"]) != "map[a:b]" {
		t.Errorf("sent %v", sent)
	}
	pair, err := client.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: aws.String(keyID), KeyPairSpec: types.DataKeyPairSpecRsa2048})
	if err != nil {
		t.Fatal(err)
	}
	if string(pair.PublicKey) != "public key" || string(pair.PrivateKeyCiphertextBlob) != "ciphertext" {
		t.Errorf("output %q %q", pair.PublicKey, pair.PrivateKeyCiphertextBlob)
	}
}

func TestInputIsNotChanged(t *testing.T) {
	fake := newFakeKMS(t)
	client := fake.client(newAttestor(t, Options{Device: &fakeDevice{}}))
	in := &kms.DecryptInput{CiphertextBlob: []byte("ciphertext")}
	for range 2 {
		if _, err := client.Decrypt(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	if in.Recipient != nil {
		t.Error("the caller's input has a Recipient")
	}
	if a, b := fake.seen()[0].document, fake.seen()[1].document; a == nil || bytes.Equal(a, b) {
		t.Error("the second call has no document of its own")
	}
}

// TestOwnRecipient: a caller who brings a Recipient gets the answer as it came.
func TestOwnRecipient(t *testing.T) {
	fake := newFakeKMS(t)
	device := &fakeDevice{}
	client := fake.client(newAttestor(t, Options{Device: device}))
	own, err := generateKey()
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.Decrypt(t.Context(), &kms.DecryptInput{
		CiphertextBlob: []byte("ciphertext"),
		Recipient: &types.RecipientInfo{
			AttestationDocument:    append([]byte(mark+"00000000"), own.spki...),
			KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if out.Plaintext != nil || out.CiphertextForRecipient == nil || device.count() != 0 {
		t.Errorf("plaintext %q, %d bytes sealed, %d documents", out.Plaintext, len(out.CiphertextForRecipient), device.count())
	}
}

func TestPassThrough(t *testing.T) {
	fake := newFakeKMS(t)
	device := &fakeDevice{send: func(context.Context) ([]byte, error) { return nil, errors.New("asked") }}
	attestor := newAttestor(t, Options{Device: device})
	client := fake.client(attestor)
	encrypted, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(keyID), Plaintext: []byte("x")})
	if err != nil || string(encrypted.CiphertextBlob) != "ciphertext" {
		t.Errorf("Encrypt: %v", err)
	}
	if _, err := client.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: aws.String(keyID)}); err != nil {
		t.Errorf("GenerateDataKeyWithoutPlaintext: %v", err)
	}
	for _, r := range fake.seen() {
		if _, there := r.body["Recipient"]; there {
			t.Errorf("%s was sent with a Recipient", r.operation)
		}
	}
	// Another service: other input types.
	type otherInput struct{ Name string }
	in := &otherInput{Name: "x"}
	result := new(int)
	next := middleware.InitializeHandlerFunc(func(_ context.Context, got middleware.InitializeInput) (middleware.InitializeOutput, middleware.Metadata, error) {
		if got.Parameters != any(in) {
			t.Error("the input was exchanged")
		}
		return middleware.InitializeOutput{Result: result}, middleware.Metadata{}, nil
	})
	out, _, err := attestor.handle(t.Context(), middleware.InitializeInput{Parameters: in}, next)
	if err != nil || out.Result != any(result) {
		t.Errorf("another service: %v, %v", out.Result, err)
	}
	if device.count() != 0 {
		t.Error("the device was asked")
	}
}

// wantStep checks the step, and that the causes contain text.
func wantStep(t *testing.T, err error, operation string, step Step, text string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%s: error %v, want one of step %v", operation, err, step)
	}
	if e.Step != step || e.Operation != operation || !strings.Contains(err.Error(), text) {
		t.Errorf("%v: step %v of %s, want %v of %s with %q", err, e.Step, e.Operation, step, operation, text)
	}
}

func TestHostileAnswers(t *testing.T) {
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(f *fakeKMS, r kmsRequest, body map[string]any)
		step   Step
		text   string
	}{
		"in clear": {func(_ *fakeKMS, r kmsRequest, body map[string]any) {
			delete(body, "CiphertextForRecipient")
			body[clearMember[r.operation]] = []byte("do not print me")
		}, StepAnswer, "clear text"},
		"both": {func(_ *fakeKMS, r kmsRequest, body map[string]any) {
			body[clearMember[r.operation]] = []byte("do not print me")
		}, StepAnswer, "clear text"},
		"neither": {func(_ *fakeKMS, _ kmsRequest, body map[string]any) {
			delete(body, "CiphertextForRecipient")
		}, StepAnswer, "without CiphertextForRecipient"},
		"both empty": {func(_ *fakeKMS, r kmsRequest, body map[string]any) {
			body["CiphertextForRecipient"], body[clearMember[r.operation]] = []byte{}, []byte{}
		}, StepAnswer, "without CiphertextForRecipient"},
		"null": {func(_ *fakeKMS, _ kmsRequest, body map[string]any) {
			body["CiphertextForRecipient"] = nil
		}, StepAnswer, "without CiphertextForRecipient"},
		"garbage": {func(_ *fakeKMS, _ kmsRequest, body map[string]any) {
			body["CiphertextForRecipient"] = []byte("garbage")
		}, StepEnvelope, "cms.ber.tag"},
		"another key's": {func(f *fakeKMS, _ kmsRequest, body map[string]any) {
			body["CiphertextForRecipient"] = f.seal(&foreign.PublicKey, []byte("do not print me"))
		}, StepEnvelope, "cms.recipient"},
		"cut": {func(_ *fakeKMS, _ kmsRequest, body map[string]any) {
			whole := body["CiphertextForRecipient"].([]byte)
			body["CiphertextForRecipient"] = whole[:len(whole)-1]
		}, StepEnvelope, "cms.ber.cut"},
		"changed key": {func(_ *fakeKMS, _ kmsRequest, body map[string]any) {
			body["CiphertextForRecipient"].([]byte)[200] ^= 1
		}, StepEnvelope, "cms.open"},
		"too long": {func(_ *fakeKMS, _ kmsRequest, body map[string]any) {
			body["CiphertextForRecipient"] = make([]byte, 1<<17)
		}, StepEnvelope, "cms.size"},
	} {
		t.Run(name, func(t *testing.T) {
			fake := newFakeKMS(t)
			fake.answer = func(r kmsRequest) (int, map[string]any) {
				status, body := fake.honest(r)
				tt.change(fake, r, body)
				return status, body
			}
			client := fake.client(newAttestor(t, Options{Device: &fakeDevice{}}))
			for _, op := range operations {
				result, sealed, err := op.call(t.Context(), client, keyARN)
				if result != nil || sealed != nil {
					t.Errorf("%s: an output in spite of the error", op.name)
				}
				wantStep(t, err, op.name, tt.step, tt.text)
				if strings.Contains(err.Error(), "do not print me") {
					t.Errorf("%s: the error holds the answer: %v", op.name, err)
				}
			}
		})
	}
}

func TestKeyID(t *testing.T) {
	const otherARN = "arn:aws:kms:us-east-1:111122223333:key/00000000-12ab-34cd-56ef-1234567890ab"
	const mrk = "mrk-1234abcd12ab34cd56ef1234567890ab"
	for _, tt := range []struct {
		asked, answered string
		ok              bool
	}{
		{keyARN, keyARN, true},
		{keyID, keyARN, true},
		{mrk, "arn:aws:kms:eu-west-1:111122223333:key/" + mrk, true},
		{"", otherARN, true},
		{"", "", true},
		{"alias/app", otherARN, true},
		{"arn:aws:kms:us-east-1:111122223333:alias/app", otherARN, true},
		{keyARN, otherARN, false},
		{keyID, otherARN, false},
		{keyARN, "", false},
		{keyID, "", false},
		{keyARN, strings.Replace(keyARN, "us-east-1", "eu-west-1", 1), false},
		{keyARN, strings.Replace(keyARN, "111122223333", "444455556666", 1), false},
		{keyARN, keyID, false},
		{keyID, keyARN + "0", false},
		{keyID[:35], keyARN, false},
		{keyID, "arn:aws:kms:us-east-1:111122223333:key/x:key/" + keyID, false},
		{strings.ToUpper(keyID), keyARN, false},
	} {
		if err := checkKeyID(tt.asked, tt.answered); (err == nil) != tt.ok {
			t.Errorf("asked %q, answered %q: %v", tt.asked, tt.answered, err)
		}
	}

	fake := newFakeKMS(t)
	fake.answer = func(r kmsRequest) (int, map[string]any) {
		status, body := fake.honest(r)
		body["KeyId"] = otherARN
		return status, body
	}
	client := fake.client(newAttestor(t, Options{Device: &fakeDevice{}}))
	for _, op := range operations {
		for _, asked := range []string{keyARN, keyID} {
			result, _, err := op.call(t.Context(), client, asked)
			if op.name == "GenerateRandom" { // names no key
				if err != nil {
					t.Errorf("%s: %v", op.name, err)
				}
				continue
			}
			if result != nil {
				t.Errorf("%s: an output in spite of the error", op.name)
			}
			wantStep(t, err, op.name, StepKeyID, otherARN)
		}
		if _, _, err := op.call(t.Context(), client, "alias/app"); err != nil {
			t.Errorf("%s by alias: %v", op.name, err)
		}
	}
}

// TestForeignOutputs: whatever a middleware of somebody else hands back, the
// result is opened or refused.
func TestForeignOutputs(t *testing.T) {
	attestor := newAttestor(t, Options{Device: &fakeDevice{}})
	for _, result := range []any{nil, 1, &kms.EncryptOutput{}, kms.DecryptOutput{Plaintext: []byte("x")},
		(*kms.DecryptOutput)(nil), (*kms.GenerateDataKeyOutput)(nil), (*kms.GenerateDataKeyPairOutput)(nil),
		(*kms.GenerateRandomOutput)(nil), (*kms.DeriveSharedSecretOutput)(nil)} {
		next := middleware.InitializeHandlerFunc(func(context.Context, middleware.InitializeInput) (middleware.InitializeOutput, middleware.Metadata, error) {
			return middleware.InitializeOutput{Result: result}, middleware.Metadata{}, nil
		})
		out, _, err := attestor.handle(t.Context(), middleware.InitializeInput{Parameters: &kms.DecryptInput{}}, next)
		if out.Result != nil {
			t.Errorf("%T: an output in spite of the error", result)
		}
		wantStep(t, err, "Decrypt", StepAnswer, "the output is a")
	}
}

func TestDeviceFails(t *testing.T) {
	down := errors.New("the device is down")
	for name, tt := range map[string]struct {
		send func(context.Context) ([]byte, error)
		is   error
		text string
	}{
		"no answer": {func(context.Context) ([]byte, error) { return nil, down }, down, "the device is down"},
		"refusal": {func(context.Context) ([]byte, error) {
			return nsm.Response{Error: nsm.InternalError}.Encode(), nil
		}, nsm.InternalError, "InternalError"},
		"garbage":      {func(context.Context) ([]byte, error) { return []byte{0xff}, nil }, nil, "nsm"},
		"nothing":      {func(context.Context) ([]byte, error) { return nil, nil }, nil, "nsm"},
		"wrong answer": {func(context.Context) ([]byte, error) { return nsm.Response{Command: nsm.LockPCR}.Encode(), nil }, nil, "nsm"},
	} {
		fake := newFakeKMS(t)
		client := fake.client(newAttestor(t, Options{Device: &fakeDevice{send: tt.send}}))
		for _, op := range operations {
			_, _, err := op.call(t.Context(), client, keyARN)
			wantStep(t, err, op.name, StepDocument, tt.text)
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%s: the cause of %v is lost", name, err)
			}
		}
		if n := len(fake.seen()); n != 0 {
			t.Errorf("%s: %d requests went to KMS", name, n)
		}
	}
}

// TestKMSRefuses: an error of KMS comes back as the SDK's own.
func TestKMSRefuses(t *testing.T) {
	fake := newFakeKMS(t)
	fake.answer = func(kmsRequest) (int, map[string]any) {
		return 400, map[string]any{"__type": "AccessDeniedException", "Message": "not authorized"}
	}
	client := fake.client(newAttestor(t, Options{Device: &fakeDevice{}}))
	for _, op := range operations {
		_, _, err := op.call(t.Context(), client, keyARN)
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "AccessDeniedException" {
			t.Errorf("%s: %v", op.name, err)
		}
		if _, ok := errors.AsType[*Error](err); ok {
			t.Errorf("%s: %v is taken for ours", op.name, err)
		}
	}
}

func TestRetries(t *testing.T) {
	for _, op := range operations {
		fake := newFakeKMS(t)
		device := &fakeDevice{}
		n := 0
		fake.answer = func(r kmsRequest) (int, map[string]any) {
			if n++; n < 3 {
				return 500, map[string]any{"__type": "KMSInternalException", "message": "again"}
			}
			return fake.honest(r)
		}
		result, _, err := op.call(t.Context(), fake.client(newAttestor(t, Options{Device: device})), keyARN)
		if err != nil || !bytes.Equal(result, secretOf(op.name)) {
			t.Errorf("%s: %q, %v", op.name, result, err)
		}
		if n != 3 || device.count() != 1 {
			t.Errorf("%s: %d attempts with %d documents, want 3 with 1", op.name, n, device.count())
		}
	}
}

func TestPerCallOption(t *testing.T) {
	fake := newFakeKMS(t)
	attestor := newAttestor(t, Options{Device: &fakeDevice{}})
	device := &fakeDevice{}
	first := newAttestor(t, Options{Device: device})
	for i, op := range operations {
		if result, _, err := op.call(t.Context(), fake.client(), keyARN, withOption(attestor)); err != nil || !bytes.Equal(result, secretOf(op.name)) {
			t.Errorf("%s: %q, %v", op.name, result, err)
		}
		// With two, the first does the work, and the result is opened once.
		if result, _, err := op.call(t.Context(), fake.client(first), keyARN, withOption(attestor)); err != nil || !bytes.Equal(result, secretOf(op.name)) {
			t.Errorf("%s, two attestors: %q, %v", op.name, result, err)
		}
		if device.count() != i+1 {
			t.Errorf("%s: the first attestor made %d documents, want %d", op.name, device.count(), i+1)
		}
	}
}

func TestCancelled(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	fake := newFakeKMS(t)
	_, _, err := operations[0].call(cancelled, fake.client(newAttestor(t, Options{Device: &fakeDevice{}})), keyARN)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("before the call: %v", err)
	}

	device := &fakeDevice{send: func(ctx context.Context) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	short, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, _, err = operations[0].call(short, fake.client(newAttestor(t, Options{Device: device})), keyARN)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("in the device: %v", err)
	}

	release := make(chan struct{})
	fake.answer = func(r kmsRequest) (int, map[string]any) {
		<-release
		return fake.honest(r)
	}
	defer close(release)
	short, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	result, _, err := operations[0].call(short, fake.client(newAttestor(t, Options{Device: &fakeDevice{}})), keyARN)
	if !errors.Is(err, context.DeadlineExceeded) || result != nil {
		t.Errorf("in KMS: %v", err)
	}
}

// TestConcurrent: many calls while keys are exchanged again and again.
func TestConcurrent(t *testing.T) {
	fake := newFakeKMS(t)
	device := &fakeDevice{}
	client := fake.client(newAttestor(t, Options{Device: device, MaxUses: 10}))
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			op := operations[i%len(operations)]
			result, _, err := op.call(t.Context(), client, keyID)
			if err != nil || !bytes.Equal(result, secretOf(op.name)) {
				t.Errorf("%s: %q, %v", op.name, result, err)
			}
		})
	}
	wg.Wait()
	uses := map[string]int{}
	for _, r := range device.calls {
		uses[string(r.PublicKey)]++
	}
	for _, n := range uses {
		if n > 10 {
			t.Errorf("a key was used %d times, more than 10", n)
		}
	}
	if len(uses) < 5 || device.count() != 50 {
		t.Errorf("%d keys, %d documents for 50 calls", len(uses), device.count())
	}
}

// TestInFlight: a call that waits for KMS while the key is exchanged ends with
// the key it began with.
func TestInFlight(t *testing.T) {
	fake := newFakeKMS(t)
	first := make(chan struct{})
	arrived := make(chan struct{})
	n := 0
	var mu sync.Mutex
	fake.answer = func(r kmsRequest) (int, map[string]any) {
		mu.Lock()
		n++
		isFirst := n == 1
		mu.Unlock()
		if isFirst {
			close(arrived)
			<-first
		}
		return fake.honest(r)
	}
	client := fake.client(newAttestor(t, Options{Device: &fakeDevice{}, MaxUses: 1}))
	done := make(chan error)
	go func() {
		_, _, err := operations[0].call(t.Context(), client, keyARN)
		done <- err
	}()
	<-arrived
	for range 2 {
		if _, _, err := operations[1].call(t.Context(), client, keyARN); err != nil {
			t.Fatal(err)
		}
	}
	close(first)
	if err := <-done; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	seen := fake.seen()
	if seen[0].recipient.Equal(seen[1].recipient) || seen[1].recipient.Equal(seen[2].recipient) {
		t.Error("the key was not exchanged")
	}
}

// TestLogsHoldNoResult: with the SDK's loudest log, the result is not in it.
func TestLogsHoldNoResult(t *testing.T) {
	fake := newFakeKMS(t)
	var log bytes.Buffer
	client := fake.client(newAttestor(t, Options{Device: &fakeDevice{}}))
	loud := func(o *kms.Options) {
		o.Logger = logging.LoggerFunc(func(_ logging.Classification, format string, v ...any) {
			fmt.Fprintf(&log, format, v...)
		})
		o.ClientLogMode = aws.LogSigning | aws.LogRetries | aws.LogRequestWithBody | aws.LogResponseWithBody
	}
	for _, op := range operations {
		if _, _, err := op.call(t.Context(), client, keyARN, loud); err != nil {
			t.Fatal(err)
		}
		if log.Len() == 0 {
			t.Fatal("nothing was logged")
		}
		encoded := encodeBase64(secretOf(op.name))
		if bytes.Contains(log.Bytes(), secretOf(op.name)) || bytes.Contains(log.Bytes(), encoded) {
			t.Errorf("%s: the log holds the result", op.name)
		}
	}
}
